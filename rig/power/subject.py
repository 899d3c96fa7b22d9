"""The board of a slot under study: backed up, given the study's firmware, put through trials, put right at the
end."""

from __future__ import annotations

import contextlib
import hashlib
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from rig.bench.product import Product
from rig.bench.slot import OpenSlot
from rig.bench.witness import Witness, open_witness
from rig.chip.frames import SECTOR
from rig.errors import Coded, UnitFailed, UsageProblem
from rig.files import write_durably
from rig.image import flashmap
from rig.image.contents.openbeken import default_config, write_config
from rig.image.firmware import FirmwareProfile, load_profiles
from rig.image.identify import read_image
from rig.image.planning.guard import Plan, plan_write
from rig.line.boot import Boot, watch_boot
from rig.line.target import board_of
from rig.power.aftermath import After, Aftermath, Good, Meant, kept_or_lost
from rig.power.alive import heartbeat
from rig.power.holding import Holding, left_behind
from rig.power.inject import Armed, Injection, Nothing
from rig.power.outcome import Seen, classify
from rig.power.owned import owned
from rig.power.perform import Done, Ground, fresh_content, perform
from rig.power.spare import erases_of, least_worn, spare_windows
from rig.power.trial import AFTERWARDS, LOGS, TRACES, Cell, Trial, read_trials
from rig.releases.board import Board
from rig.releases.tools import own_version
from rig.scrub import scrub
from rig.uart.bootlog import BootLog
from rig.uart.touched import touched_sectors
from rig.uart.trace import Command, save_json
from rig.uart.verdict import BootKind

CYCLES = 2  # power-cycles between the first look at flash and the last
_BOOT_S = 30.0  # where a product does not say how long a boot may take
_LEAST_BOOT_S = 15.0  # of a fast simulated bench: its boards are not always as fast as they were asked to be
_BEAT_S, _LEAST_BEAT_S = 4.0, 1.0  # how long a running firmware is listened to, of its time and of ours
_MOST_KEPT, _GOOD_KEPT = 50, 3  # logs and traces of one outcome
_MOST_WHERE = 16
_MOST_LINES = 20_000  # of a log that is kept open from trial to trial
_NAME = "rig-study"  # what the configuration of the study's firmware calls the board: its loss is seen


class Subject:
    """`begin` first, then trials, `put_right` last; as a context manager it lets go of ports at the end.

    `image`: an N's bootloader and app (QIO), the firmware under study. `speed`: of a simulated bench. `cycles`: how
    often the power is cycled before flash is looked at again. `widen`: waveforms that the supply cannot do become
    ones that it can. Raises UsageProblem for a slot without a log port and an image that does not fit; `begin` and
    `put_right` raise Coded errors. Once `broken` is true the slot has to be taken into use anew.
    """

    def __init__(
        self,
        used: OpenSlot,
        runs: Path,
        run: Path,
        product: Product,
        image: Path,
        *,
        speed: float = 1.0,
        profiles: Sequence[FirmwareProfile] | None = None,
        cycles: int = CYCLES,
        widen: bool = False,
    ) -> None:
        if used.slot.table.log_port is None:
            raise UsageProblem(
                f"slot {used.slot.name} has no log_port: a supply study sees by the boot log whether a board lives"
            )
        if cycles < 1:
            raise UsageProblem(f"a board is looked at again after 1 power-cycle or more, not {cycles}")
        self._used, self._run, self._product = used, run, product
        self._image, self._name = read_image(image), image.name
        self._speed, self._cycles, self._widen = speed, cycles, widen
        known = load_profiles() if profiles is None else profiles
        self._profiles = sorted(known, key=lambda each: each.name not in product.firmware)
        limit = product.limits.get("boot_time")
        self._timeout_s = max(_LEAST_BOOT_S, ((limit.maximum if limit else None) or _BOOT_S) / speed)
        self._board = Board(used, runs, run)
        self._stack = contextlib.ExitStack()
        self._log: BootLog | None = None
        self._witness: Witness | None = None
        self._pieces: list[tuple[int, bytes]] = []
        self._holding: Holding | None = None
        self._good: Good | None = None
        self._windows: list[int] | str = []  # spare ones, or why there are none
        self._beat: float | None = None
        self._firmware = ""
        self.worn: Counter[int] = Counter()  # erases of this board in this study, by sector address
        self._usual: dict[str, list[float]] = defaultdict(list)
        self._kept: Counter[str] = Counter()
        self.broken = False

    # -- beginning and end -----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Board off, link, log port and witness let go."""
        try:
            self._board.release()
            self._used.link.off()
        finally:
            self._stack.close()

    @property
    def identity(self) -> str:
        """Which board it is; empty before `begin`."""
        return self._board.identity

    def begin(self) -> None:
        """Identify the board, put it right if a killed study left it otherwise, back it up, give it the study's
        firmware and see that it boots.

        Raises UnitFailed for a board that is not the product's, cannot be told from others or does not boot;
        UsageProblem for an image that does not fit it; BenchBlocked.
        """
        self._stack.callback(self._close_log)
        self._fresh_log()
        self._witness = open_witness(self._used.slot)
        if self._witness is not None:
            self._stack.enter_context(self._witness)
        killed = left_behind(self._run, self._used.slot.name) is not None
        self._board.begin()
        self._recall()
        self._pieces = self._planned().contents(self._image)
        wanted = self._wanted()
        holding = self._holding = Holding(self._used, self._board)
        if killed:  # what a waveform met half-way may read right today
            holding.rewrite(wanted)
        holding.put(wanted)
        boot = self._booted()
        if boot.seconds is None or boot.verdict.kind is not BootKind.BOOTED:
            raise UnitFailed("not-complete", f"the study's firmware does not come up: {boot.verdict.sentence}")
        self._firmware = " ".join(part for part in (boot.verdict.firmware, boot.verdict.version) if part)
        self._beat = heartbeat(self.log, time.monotonic_ns(), max(_LEAST_BEAT_S, _BEAT_S / self._speed))
        self._settle(wanted)

    def _fresh_log(self) -> None:
        """A log that is not long: each look goes through all of it."""
        port = self._used.slot.table.log_port
        assert port is not None
        if self._log is None or len(self._log.lines) > _MOST_LINES:
            self._close_log()
            self._log = BootLog.open(port)

    def _close_log(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            log.close()

    def _settle(self, wanted: bytes) -> None:
        """What the board is from now on between trials. Raises UnitFailed for one that does not answer."""
        assert self._holding is not None
        flash = self._holding.look(wanted, wanted)
        if flash is None:
            raise UnitFailed("no-link", "the board does not answer any more after the study's firmware was written")
        chip = self._product.chip
        config = flashmap.OBK_CONFIG[chip]
        image = tuple((at, len(data)) for at, data in self._pieces if at != config)
        self._good = Good(flash, owned(flash, chip), image, chip)
        try:
            self._windows = spare_windows(flash, chip, image)
        except UsageProblem as problem:
            self._windows = str(problem)
        self._board.release()

    def put_right(self, *, leave_image: bool = False) -> str:
        """The board's own flash again, or with `leave_image` the study's firmware; booted once until it is up, then
        off. Returns what the last boot said.

        Raises UnitFailed or BenchBlocked for a board that could not be put right.
        """
        if not self._board.own or left_behind(self._run, self._used.slot.name) != self.identity:
            return "nothing was written"  # nothing is before its backup is on record
        self._board.open_guard()
        if leave_image and self._good is not None:
            self._board.own = self._good.flash
        if self._holding is not None:
            self._holding.put(self._board.own)
        self._board.forget()
        self._board.put_right()
        self._board.release()
        boot = self._booted()
        self._used.link.off()
        return boot.verdict.sentence

    def _recall(self) -> None:
        """What earlier trials of this board in this study came to: wear, and what is usual."""
        for trial in read_trials(self._run):
            if trial.board == self.identity:
                self._count(trial)

    def _count(self, trial: Trial) -> None:
        for sector, times in trial.erased.items():
            self.worn[int(sector, 16)] += times
        if trial.reference and trial.good and trial.seconds is not None:
            self._usual[trial.cell.activity].append(trial.seconds)
        self._kept[trial.outcome] += trial.log is not None

    def _planned(self) -> Plan:
        """The image for this board; an OpenBeken gets a configuration, so that its loss can be seen."""
        who, own = self._board.who, self._board.own
        board = board_of(self._product, efuse=who.efuse, held=own, backup=own)
        plan = plan_write(self._image, self._name, board=board)
        if plan.identity.firmware == "OpenBeken" and who.mac is not None:
            config = replace(default_config(who.mac), short_name=_NAME, changes=1)
            plan = plan_write(self._image, self._name, board=board, config=write_config(config))
        if not any(at == 0 for at, _ in plan.ranges):
            raise UsageProblem(f"{self._name}: a supply study takes bootloader and app (a QIO), to mend any damage")
        return plan

    def _wanted(self) -> bytes:
        """This board's flash with the study's firmware: its own but for the image, and with a blank download area."""
        wanted = bytearray(self._board.own)
        area = flashmap.region("ota", self._product.chip)
        wanted[area.start : area.end] = b"\xff" * area.size
        for at, data in self._pieces:
            wanted[at : at + len(data)] = data
        return bytes(wanted)

    # -- a trial ---------------------------------------------------------------------------------------

    def trial(self, cell: Cell, n: int = 0, *, reference: bool = False) -> Trial:
        """One trial, judged, and the board put right after it. What the bench spoils is a trial too: `blocked`.

        Raises UsageProblem, with nothing done, for a cell that this supply or this board cannot do.
        """
        begun, mono = datetime.now(UTC), time.monotonic_ns()
        first = len(self._used.tap.commands)
        self._used.tap.section(f"trial {n}: {cell.activity}")
        self._fresh_log()
        injection, ground = self._injection(cell), self._ground(cell, n)
        done, after, passed, ended = self._made(cell, ground, injection)
        self.broken |= bool(done.blocked)
        usual = self._usual[cell.activity]
        seen = Seen(
            done.finished, scrub(done.error), done.seconds, statistics.median(usual) if usual else None, done.resets,
            done.causes, done.answers, after.cycled, after.boots, after.content, after.elsewhere, after.later,
            after.cycles, tuple(after.where), after.calibration, after.config, after.full_image, scrub(done.blocked),
        )  # fmt: skip
        outcome, why = classify(seen)
        worn = erases_of(self._used.tap.commands[first:], self._product.flash_size)
        trial = Trial(
            n=n,
            cell=cell,
            slot=self._used.slot.name,
            board=self.identity,
            reference=reference,
            outcome=outcome,
            why=why,
            commanded=injection.commanded,
            achieved=injection.achieved,
            seconds=_rounded(done.seconds),
            usual_s=_rounded(seen.usual_s),
            resets=done.resets,
            causes=list(done.causes),
            erased={f"0x{sector:06x}": times for sector, times in sorted(worn.items())},
            cycles=after.cycles,
            where=after.where[:_MOST_WHERE],
            utc=begun.isoformat(timespec="seconds"),
            mono=mono,
            speed=self._speed,
            versions=self.versions,
        )
        trial = self._with_evidence(trial, mono, ended, passed)
        self._count(trial)
        return trial

    def _made(self, cell: Cell, ground: Ground, injection: Injection) -> tuple[Done, After, list[Command], int]:
        """What it came to, what was seen afterwards; what passed on the wire until it ended, and when (monotonic
        ns)."""
        assert self._holding is not None
        assert self._good is not None
        done, after, tap = Done(False), After(), self._used.tap
        at, ended = len(tap.commands), 0
        passed: list[Command] = []
        try:
            meant = self._prepared(cell, ground)
            at = len(tap.commands)
            done = perform(cell, ground, injection)
            passed, ended = list(tap.commands[at:]), time.monotonic_ns()
            self._holding.forget()
            if cell.waveform is not None or (cell.volts, cell.amps) != self._at_best:
                self._holding.weak |= touched_sectors(passed, self._product.flash_size)
            if not done.blocked:
                after = Aftermath(self._holding, self._good, self._boots, self._cycles).after(meant, done)
                self._board.release()
        except Coded as problem:
            done = replace(done, blocked=str(problem))
        if not ended:  # it was spoiled before it began
            passed, ended = list(tap.commands[at:]), time.monotonic_ns()
        return done, after, passed, ended

    @property
    def versions(self) -> dict[str, str]:
        """What was tried with what."""
        digest = hashlib.sha256(self._image).hexdigest()[:12]
        return {"rig": own_version(), "firmware": self._firmware, "image": f"{self._name} {digest}"}

    @property
    def log(self) -> BootLog:
        assert self._log is not None
        return self._log

    @property
    def _at_best(self) -> tuple[float, float]:
        supply = self._product.supply
        return supply.volts, supply.current_limit

    def _injection(self, cell: Cell) -> Injection:
        if cell.waveform is None:
            return Nothing()
        return Armed(
            self._used, cell, self.log, self._profiles, speed=self._speed, witness=self._witness, widen=self._widen
        )

    def _ground(self, cell: Cell, n: int) -> Ground:
        """Raises UsageProblem for a trial that would write where there is no room for it."""
        window, content = 0, b""
        if cell.activity == "flash":
            if isinstance(self._windows, str):
                raise UsageProblem(self._windows)
            window, content = least_worn(self._windows, self.worn), fresh_content(n)
        return Ground(
            self._used, self.log, self._profiles, self._speed, self._timeout_s, self._beat, window, content,
            self._pieces,
        )  # fmt: skip

    def _prepared(self, cell: Cell, ground: Ground) -> Meant:
        """The board as the activity wants to find it. What is to be written over is not blank and not the same, so
        that an erase that does not come about shows."""
        assert self._holding is not None
        assert self._good is not None
        before = bytearray(self._holding.known(self._good.flash))
        own = owned(bytes(before), self._good.chip)
        lost = [(at, SECTOR) for _, kept, at in kept_or_lost(self._good, own) if kept is False]
        for at, length in (*self._good.image, *lost):
            before[at : at + length] = self._good.flash[at : at + length]
        pieces: list[tuple[int, bytes]] = []
        if cell.activity == "flash":
            pieces = [(ground.window, ground.content)]
            if b"\xff" * SECTOR in before[ground.window : ground.window + len(ground.content)]:
                before[ground.window : ground.window + len(ground.content)] = fresh_content(-1 - ground.window)
        elif cell.activity == "convert":
            pieces = self._pieces
            for at, data in pieces:
                before[at : at + len(data)] = self._board.own[at : at + len(data)]
        self._holding.put(bytes(before), weak=cell.activity == "convert")
        self._board.release()
        wanted = bytearray(before)
        for at, data in pieces:
            wanted[at : at + len(data)] = data
        config = flashmap.OBK_CONFIG[self._product.chip]
        written = tuple((at, len(data)) for at, data in pieces if at != config)
        return Meant(cell.activity, bytes(before), bytes(wanted), written)

    # -- looking ---------------------------------------------------------------------------------------

    def _booted(self) -> Boot:
        self._board.release()
        return watch_boot(self._used.link, self.log, self._profiles, self._timeout_s, speed=self._speed)

    def _boots(self) -> bool:
        """Up at the product's supply, without a reset on the way."""
        boot = self._booted()
        return boot.seconds is not None and boot.verdict.kind is BootKind.BOOTED

    # -- evidence --------------------------------------------------------------------------------------

    def _with_evidence(self, trial: Trial, since_ns: int, ended_ns: int, passed: Sequence[Command]) -> Trial:
        """Its log and its wire, where they are worth keeping: of each outcome the first ones."""
        if self._kept[trial.outcome] >= (_GOOD_KEPT if trial.good else _MOST_KEPT):
            return trial
        lines = self.log.lines_since(since_ns) if self._log is not None else []
        rows = [(line.mono_ns, line.text) for line in lines]
        rows.insert(sum(line.mono_ns <= ended_ns for line in lines), (ended_ns, AFTERWARDS))
        text = "".join(f"[{(mono_ns - since_ns) / 1e9:10.3f}] {said}\n" for mono_ns, said in rows)
        log = f"{LOGS}/{trial.slot}-{trial.n}.txt"
        (self._run / LOGS).mkdir(exist_ok=True)
        write_durably(self._run / log, scrub(text), private=True)
        trace = None
        if passed:
            trace = f"{TRACES}/{trial.slot}-{trial.n}.jsonl"
            (self._run / TRACES).mkdir(exist_ok=True)
            save_json(self._run / trace, passed)
        return replace(trial, log=log, trace=trace)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
