"""Things that die in the middle of a batch, at moments a seed picks, and what has to hold afterwards.

`Ordeal` runs batches on a simulated table and kills: the station, a unit's process, the panel, whoever writes the
database; or it fills the disk that the runs are on. After each crash every output has to be off within two seconds,
and boards and records have to agree; then `rig convert --resume` goes on with the same run, until all units are done.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rig.records import events
from rig.records.backups import BackupStore
from rig.records.events import Event
from rig.records.run import latest
from rig.records.verify import verify_run, verify_stores
from tests.line_table import Table
from tests.sim_process import RIG, environment
from tests.waiting import until, wait_until

VICTIMS = ("station", "unit", "panel", "database", "disk")
OFF_WITHIN_S = 2.0
_LATER_S = 0.5  # after an event at most, so that crashes fall between two of them too
_OVER_S = 240.0  # a batch that is left alone is over by then


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "192m") -> Iterator[None]:
    """A disk of its own at `folder`: one that can be filled. Needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "rig-test", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@dataclass
class Ordeal:
    """One batch on `table` that is hit again and again, each time `within` so many events on record since its
    (re)start, or the last crash that it outlived. `off_s`: seconds from each crash to the last output's going off,
    where one was on; `hits`: what was killed, how often."""

    table: Table
    seed: int
    victims: Sequence[str] = VICTIMS
    within: int = 100
    hits: Counter[str] = field(default_factory=Counter)
    off_s: list[float] = field(default_factory=list)
    resumed: int = 0
    unverified: int = 0
    _panel: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._bag: list[str] = []

    def run(self, moments: int) -> None:
        """The batch with `moments` crashes (fewer, if it is over before), to its end; then all that has to hold."""
        process = self.table.begin()
        try:
            while sum(self.hits.values()) < moments and process.poll() is None:
                victim = self._next_victim()
                self._wait_for_the_moment(process)
                if process.poll() is None and self.table.journal():
                    self._hit(victim, process)
                if process.poll() is not None:
                    process = self._go_on(process)
            while True:
                wait_until(lambda: process.poll() is not None, _OVER_S, "the end of the batch")  # noqa: B023
                if not self._left():
                    break
                process = self._go_on(process)
        finally:
            for each in filter(None, (process, self._panel)):
                if each.poll() is None:
                    each.kill()
                each.wait(60)
        self.check()

    def _next_victim(self) -> str:
        """In random order, each as often as the others."""
        if not self._bag:
            self._bag = self._random.sample(list(self.victims), len(self.victims))
        return self._bag.pop()

    def _wait_for_the_moment(self, process: subprocess.Popen[str]) -> None:
        """Counted in events, so that it falls into the work however busy the machine is."""
        wanted = len(self.table.journal()) + self._random.randint(1, self.within)
        later = self._random.uniform(0.0, _LATER_S)
        until(lambda: process.poll() is not None or len(self.table.journal()) >= wanted, _OVER_S)
        until(lambda: process.poll() is not None, later)

    # -- crashes ---------------------------------------------------------------------------------------

    def _hit(self, victim: str, process: subprocess.Popen[str]) -> None:
        """It dies now."""
        self.hits[victim] += 1
        if victim == "station":
            os.kill(process.pid, signal.SIGKILL)
            self._all_off(time.monotonic_ns(), self.table.slots)
            process.wait(10)
            wait_until(lambda: not self._units(), 30, "the orphaned units ending")
            self.agree()
        elif victim == "unit":
            self._kill_unit(process)
        elif victim == "panel":
            self._kill_panel()
        elif victim == "database":
            self._kill_the_rebuild()
        else:
            self._fill_the_disk(process)

    def _kill_unit(self, station: subprocess.Popen[str]) -> None:
        units = self._units()
        if not units:
            return
        slot = self._random.choice(sorted(units))
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.kill(units[slot], signal.SIGKILL)
            killed = time.monotonic_ns()
            was_on = self.table.bench.status(slot)["on"]

            def switched() -> bool:
                status = self.table.bench.status(slot)
                return status["switched_ns"] > killed or not status["on"]

            wait_until(switched, 20, f"slot {slot} going off")
            if was_on:  # else it had just gone off, and nothing is to be seen
                self._took((self.table.bench.status(slot)["switched_ns"] - killed) / 1e9)
        assert station.poll() is None, "a unit's death took the station with it"

    def _kill_panel(self) -> None:
        """The panel that was there dies, and another one is started."""
        if self._panel is not None:
            assert self._panel.poll() is None, "the panel had died by itself"
            self._panel.kill()
            self._panel.wait(10)
        self._panel = self._rig("panel", "--port", "0")

    def _kill_the_rebuild(self) -> None:
        """Somebody rebuilds the database while the run writes it, and dies on it."""
        rebuild = self._rig("records", "rebuild")
        until(lambda: rebuild.poll() is not None, self._random.uniform(0.5, 3.0))
        rebuild.kill()
        rebuild.wait(10)

    def _fill_the_disk(self, station: subprocess.Popen[str]) -> None:
        """Nothing more can be written: the run must end, with every output off."""
        filler = self.table.folder / "runs" / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                for size in (1 << 20, 1 << 12, 1):
                    with contextlib.suppress(OSError):
                        while file.write(bytes(size)):
                            pass
            filled = time.monotonic_ns()
            wait_until(lambda: station.poll() is not None, 60, "the run ending on a full disk")
            wait_until(lambda: not self._units(), 30, "the units ending")
            off = [self.table.bench.status(slot) for slot in self.table.slots]
            assert not any(status["on"] for status in off)
            self._took(max(0.0, *((status["switched_ns"] - filled) / 1e9 for status in off)), disk=True)
        finally:
            filler.unlink()
        self.agree()

    def _go_on(self, process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        """The same run, by its journal, if it has units left; else the process as it is."""
        process.wait(60)
        if not self._left():
            return process
        self.resumed += 1
        return self.table.convert("--resume", latest(self.table.folder / "runs").id, "--no-report")

    def _rig(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*RIG, *words], cwd=self.table.folder, env=environment(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    # -- what is seen of it ----------------------------------------------------------------------------

    def _units(self) -> dict[str, int]:
        """slot -> process of the unit at work in it."""
        found: dict[str, int] = {}
        runs = str((self.table.folder / "runs").resolve())
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ValueError):
                    name = (entry / "comm").read_text().strip()
                    if name.startswith("rig slot ") and os.readlink(entry / "fd" / "1").startswith(runs):
                        found[name.removeprefix("rig slot ")] = int(entry.name)
        return found

    def _all_off(self, since_ns: int, slots: Sequence[str]) -> None:
        """Every output goes off; how long the last one took."""
        last = 0.0
        for slot in slots:
            wait_until(lambda: not self.table.bench.status(slot)["on"], 20, f"slot {slot} going off")  # noqa: B023
            last = max(last, (self.table.bench.status(slot)["switched_ns"] - since_ns) / 1e9)
        if last > 0:
            self._took(last)

    def _took(self, seconds: float, *, disk: bool = False) -> None:
        """Of a full disk nobody hears until something is to be written: it is told apart."""
        if not disk:
            self.off_s.append(seconds)

    def _left(self) -> list[str]:
        """Units that are not done."""
        last = {event.unit: event for event in self.table.journal() if isinstance(event, events.UnitEnded)}
        return [unit for unit in self.table.box.kinds if unit not in last or not last[unit].outcome.good]

    # -- what has to hold ------------------------------------------------------------------------------

    def agree(self) -> None:
        """With nothing at work: no board was written whose record does not say so, none without its backup, and who
        is said to have passed holds the image."""
        found = self.table.journal()
        inside = {each.slot: each.unit for each in self.table.box.so_far()}
        for slot in inside:
            self.table.box.keep(slot)
        for unit in self.table.box.kinds:
            if self.table.box.flash_of(unit).exists():
                self._board_agrees(unit, [event for event in found if getattr(event, "unit", None) == unit])
        self._backups_first(found)

    def _board_agrees(self, unit: str, mine: Sequence[Event]) -> None:
        flash = self.table.box.flash_of(unit).read_bytes()
        factory = self.table.box.factory(unit)
        begun = [event for event in mine if isinstance(event, events.WriteBegun)]
        ends = [event for event in mine if isinstance(event, events.UnitEnded)]
        if not begun:
            assert flash == factory, f"{unit} was written, and its record does not say so"
        if ends and ends[-1].outcome.good:
            assert self.table.holds_the_image(unit, mine), f"{unit} passed without its image"
        allowed = [piece for event in begun for piece in event.ranges]
        outside = bytearray(flash)
        for offset, length in allowed:
            outside[offset : offset + length] = factory[offset : offset + length]
        # a firmware that has run keeps its own notes: only what comes before its storage can be compared
        if not ends or not ends[-1].outcome.good:
            assert bytes(outside[:0x1D0000]) == factory[:0x1D0000], f"{unit} was written outside of its plan"

    def _backups_first(self, found: Sequence[Event]) -> None:
        kept: dict[str, events.BackupKept] = {}
        runs = self.table.folder / "runs"
        for event in found:
            if isinstance(event, events.BackupKept):
                kept.setdefault(event.unit, event)
                first = BackupStore(runs / "backups").first(event.identity)
                assert first is not None, f"the backup of {event.unit} is gone"
                assert first.content() == self.table.box.factory(event.unit), f"{event.unit}: not what it came with"
            elif isinstance(event, events.WriteBegun):
                assert event.unit in kept, f"{event.unit} was written without a backup"

    def check(self) -> None:
        """At the end of the batch."""
        self.agree()
        runs = self.table.folder / "runs"
        found = self.table.journal()
        last = {event.unit: event for event in found if isinstance(event, events.UnitEnded)}
        assert sorted(last) == sorted(self.table.box.kinds)
        assert all(event.outcome.good for event in last.values())
        self.unverified = sum(isinstance(event, events.UnitEnded) and event.code == "half-written" for event in found)
        attempts = [(event.unit, event.attempt) for event in found if isinstance(event, events.UnitStarted)]
        assert len(attempts) == len(set(attempts)), "an attempt was written over"
        ends = [event for event in found if isinstance(event, events.UnitEnded)]
        assert set(attempts) <= {(event.unit, event.attempt) for event in ends}, "an attempt has no end"
        twice = Counter((event.unit, event.attempt) for event in ends)
        for event in ends:  # a second end only takes a pass back: the process died after it had said so
            if event.outcome.good:
                twice[event.unit, event.attempt] -= 1
        assert max(twice.values()) <= 1, "an attempt has two ends"
        for checked in (verify_run(latest(runs)), verify_stores(runs)):
            assert not checked.problems, checked.problems
