"""Faults made to happen on a simulated bench, a batch of them at once: the right outcome, code and exit, nothing
called verified that is not, and every output off within two seconds, as the output itself says.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from rig.bench.bench import read_bench
from rig.records import events
from rig.records.events import Outcome
from rig.records.journal import read_journal
from rig.records.run import RunFolder, latest
from rig.supply.client import lease
from tests.sim_process import BACKED_UP, RIG, SimProcess, environment, start_rig
from tests.waiting import wait_until

pytest.importorskip("unicorn")
OFF_WITHIN_S = 2.0


@dataclass(frozen=True)
class Case:
    """What is asked for in a slot, and where its unit has to end. `written`: None if writing never began, else
    whether it was verified; "any" where that depends on how soon the fault is noticed."""

    faults: tuple[tuple[str, Mapping[str, Any]], ...]
    outcome: Outcome
    code: str | None = None
    written: bool | Literal["any"] | None = None
    says: str = ""
    off_within_s: float = OFF_WITHIN_S  # from what ended the unit
    or_else: tuple[Outcome, str] | None = None  # the other end that is as right


def case(name: str, outcome: Outcome, code: str | None = None, **more: Any) -> Case:
    """One fault; what is no field of a case is an option of the fault."""
    fields = {key: more.pop(key) for key in ("written", "says", "off_within_s", "or_else") if key in more}
    return Case(((name, more),), outcome, code, **fields)


RARELY = {"rate": 8e-7, "after": 10_000}
FAIL, BLOCKED, PASS = Outcome.FAIL, Outcome.BLOCKED, Outcome.PASS

BOARDS = {  # where a board does not link, the link doctor says why
    "A": case("dead", FAIL, "no-link", says="does not answer"),
    "B": case("short", FAIL, "short"),
    "C": case("open-pin", BLOCKED, "no-current", pin="3v3"),
    "D": case("open-pin", FAIL, "no-link", pin="rx1", says="its ROM heard no link check"),
    "E": case("rx1-driver", FAIL, "no-link", kind="touch", says="its ROM heard no link check"),
    "F": case("rx1-driver", FAIL, "no-link", kind="tuyamcu", wins=0.3, says="its ROM heard no link check"),
    "G": case("flip", FAIL, "no-link", rate=1, says="are no answer"),
    "H": case("open-pin", FAIL, "no-link", pin="tx1", says="the log port is silent"),
}
EXAMINED = {"A": "silent", "D": "booted", "E": "booted", "F": "booted", "G": "noise", "H": "silent"}

LINES = {
    "A": Case((("late", {"ms": 3}), ("doubled", {"of": "all"})), PASS, written=True),
    "B": case("unplug", BLOCKED, "port-lost", after=BACKED_UP + 20_000, written=False, says="flash port"),
    "C": case("late", BLOCKED, "link-lost", ms=60_000, after=100_000),  # none comes while it is asked again
    "D": case("unplug", BLOCKED, "port-lost", port="log", after=100, written=True, says="log port"),
    # by their seeds one byte of the backup is flipped, and two are lost
    "E": Case((("flip", RARELY), ("lose", RARELY)), PASS, written=True),
    # where the head of a reply is hit, the rest of it is what nobody had asked for, and the line is to blame
    "F": case("flip", FAIL, "backup-mismatch", rate=5e-5, after=10_000, or_else=(BLOCKED, "contact")),
    "G": case("tx2-open", FAIL, "log-silent", written=True),
    "H": case("open-pin", BLOCKED, "no-current", pin="gnd", after=BACKED_UP + 20_000, written=False),
}

# In place before the run in slot B, whose port comes back after the batch above; in the middle of the backup else.
QUIRKS = ("slow-meter", "split", "one-client", "error-queue-full")
HUNG_S = 4.0
SUPPLIES = {
    "B": Case(tuple((name, {}) for name in QUIRKS), PASS, written=True),
    "C": case("half-open", BLOCKED, "supply-lost", written="any"),
    "E": case("hung", BLOCKED, "supply-lost", seconds=HUNG_S, written="any", off_within_s=HUNG_S + OFF_WITHIN_S),
}


@dataclass
class Batch:
    """What a batch left behind, by slot."""

    exit_code: int
    said: str
    run: RunFolder
    found: list[events.Event]
    switched_ns: dict[str, int] = field(default_factory=dict)

    def ended(self, slot: str) -> events.UnitEnded:
        (ended,) = [event for event in self.found if isinstance(event, events.UnitEnded) and event.slot == slot]
        return ended

    def written(self, slot: str) -> bool | None:
        began = [event for event in self.found if isinstance(event, events.WriteBegun) and event.slot == slot]
        over = [event for event in self.found if isinstance(event, events.WriteEnded) and event.slot == slot]
        return any(event.verified for event in over) if began else None

    def passed(self, slot: str, phase: str) -> bool:
        over = [event for event in self.found if isinstance(event, events.PhaseEnded) and event.slot == slot]
        return any(event.phase == phase and event.outcome is Outcome.PASS for event in over)

    def last_phase(self, slot: str) -> events.PhaseEnded:
        return [
            event
            for event in self.found
            if isinstance(event, events.PhaseEnded) and event.slot == slot and event.outcome is not None
        ][-1]

    def commands(self, slot: str) -> list[tuple[str, int | None]]:
        """(command, address) as they passed the wire."""
        trace = self.run.unit_dir(self.ended(slot).unit, 1) / "wire.jsonl"
        rows = [json.loads(line) for line in trace.read_text().splitlines()]
        return [(row["name"], row.get("address")) for row in rows]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    """Two boards on each of four DP832s, the supply whose dialect knows of a slow meter. Their third outputs are
    leased all the while, so that the services need not start for every batch anew."""
    options = ("--boards", "8", "--boards-per-supply", "2", "--speed", "20", "--supply", "rigol-dp832")
    with SimProcess(tmp_path_factory.mktemp("faults"), *options) as bench, contextlib.ExitStack() as stack:
        for table in read_bench(bench.bench_file).config.supply.values():
            leased = lease(table.resource, 3, max_volts=1, dialect=table.dialect, serial=table.serial)
            stack.enter_context(leased)
        yield bench


def start(bench: SimProcess, slots: Iterable[str], folder: Path) -> subprocess.Popen[str]:
    """`rig convert`, a unit for each slot; the simulated supplies and boards come first, else they answer late."""
    chosen = [word for slot in slots for word in ("--slot", slot)]
    words = ["convert", "--no-report", "--bench", str(bench.bench_file), "--units", str(len(chosen) // 2), *chosen]
    words += ["--backup", "full"]  # all over the wire: the faults strike after so many bytes
    return subprocess.Popen(
        ["nice", *RIG, *words],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def over(process: subprocess.Popen[str], bench: SimProcess, slots: Iterable[str], folder: Path) -> Batch:
    """The batch as it stands at its end; then all is healed, and other boards are put in."""
    try:
        said, _ = process.communicate(timeout=300)
    finally:
        stop(process)
    run = latest(folder / "runs")
    found, torn = read_journal(run.journal)
    assert torn is None
    batch = Batch(process.returncode, said, run, found)
    for slot in slots:
        status = bench.status(slot)
        assert not status["on"], f"slot {slot} is on"
        batch.switched_ns[slot] = status["switched_ns"]
        bench.hand("heal", slot)
        bench.hand("supply-heal", slot)
        bench.hand("change", slot)
    return batch


def converted(bench: SimProcess, slots: Mapping[str, Case], folder: Path) -> Batch:
    """One batch, a unit a slot, with the faults of boards and lines there from its start."""
    for slot, wanted in slots.items():
        for name, options in wanted.faults:
            bench.hand("fault", slot, name=name, options=options)
    return over(start(bench, slots, folder), bench, slots, folder)


@pytest.fixture(scope="module")
def boards(bench: SimProcess, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    return converted(bench, BOARDS, tmp_path_factory.mktemp("boards"))


@pytest.fixture(scope="module")
def lines(bench: SimProcess, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    return converted(bench, LINES, tmp_path_factory.mktemp("lines"))


@pytest.fixture(scope="module")
def supplies(bench: SimProcess, lines: Batch, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """After `lines`: slot B has another board, and its port is plugged in again."""
    folder = tmp_path_factory.mktemp("supplies")
    for name, options in SUPPLIES["B"].faults:
        bench.hand("supply-fault", "B", name=name, options=options)
    waiting = {slot: wanted for slot, wanted in SUPPLIES.items() if slot != "B"}
    for slot in waiting:  # they stay in their backup, however late that is seen
        bench.hand("fault", slot, name="late", options={"ms": 100, "after": 100_000})
    process = start(bench, SUPPLIES, folder)

    def all_struck() -> bool:
        assert process.poll() is None, process.communicate()[0]
        for event in under_way(folder):
            if isinstance(event, events.PhaseStarted) and event.phase == "backup" and event.slot in waiting:
                ((name, options),) = waiting.pop(event.slot).faults
                bench.hand("supply-fault", event.slot, name=name, options=options)
                bench.hand("heal", event.slot)
        return not waiting

    try:
        wait_until(all_struck, 60, "every unit reading its backup")
    except BaseException:
        stop(process)
        raise
    return over(process, bench, SUPPLIES, folder)


def under_way(folder: Path) -> list[events.Event]:
    """What is on record of the run that has begun in `folder`, if one has."""
    journals = list(folder.glob("runs/*/journal.jsonl"))
    return read_journal(journals[0])[0] if journals else []


def stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        process.communicate(timeout=30)


def check(batch: Batch, slot: str, wanted: Case) -> None:
    ended, phase = batch.ended(slot), batch.last_phase(slot)
    assert (ended.outcome, ended.code) in ((wanted.outcome, wanted.code), wanted.or_else), ended.sentence
    written = batch.written(slot)
    assert wanted.written in (written, "any")
    assert (written is True) == batch.passed(slot, "flash")
    assert wanted.says in (ended.sentence or "")
    assert ended.supply_off_confirmed
    assert batch.switched_ns[slot] - phase.mono_ns < wanted.off_within_s * 1e9


@pytest.mark.parametrize("slot", BOARDS)
def test_a_board_that_cannot_be_linked(slot: str, boards: Batch) -> None:
    check(boards, slot, BOARDS[slot])


@pytest.mark.parametrize("slot", EXAMINED)
def test_what_the_link_doctor_measured_is_on_record(slot: str, boards: Batch) -> None:
    noted = [event for event in boards.found if isinstance(event, events.Noted) and event.slot == slot]
    (found,) = [event for event in noted if "finding" in event.details]
    assert found.details["finding"] == EXAMINED[slot], found.text
    assert found.details["measured"]["link_checks"] > 20
    sentence = boards.ended(slot).sentence or ""
    assert sentence.endswith(f"; try first: {found.details['next'][0]}")
    assert sentence.partition("; try first")[0] in found.text
    assert boards.last_phase(slot).phase == "identify"


def test_factory_firmware_does_not_run_before_its_backup_while_a_link_is_examined(boards: Batch) -> None:
    """The ROM of a board that is only not heard is held by link checks, in the examination too."""
    log = boards.run.unit_dir(boards.ended("H").unit, 1) / "boot.log"
    lines = log.read_text().splitlines()
    assert lines
    assert all(line.endswith("--- power-on ---") for line in lines), lines


@pytest.mark.parametrize("slot", LINES)
def test_a_line_that_fails_on_the_way(slot: str, lines: Batch) -> None:
    check(lines, slot, LINES[slot])


@pytest.mark.parametrize("slot", SUPPLIES)
def test_a_bad_supply(slot: str, supplies: Batch) -> None:
    """Slot B besides: the unit after the one whose port was unplugged passes."""
    check(supplies, slot, SUPPLIES[slot])


def test_a_bad_board_outweighs_a_bad_bench(boards: Batch, lines: Batch, supplies: Batch) -> None:
    assert (boards.exit_code, lines.exit_code, supplies.exit_code) == (1, 1, 3)


def test_what_was_repeated_is_on_record(lines: Batch) -> None:
    """A pass on a line that damages and loses bytes is no clean one: the trace of the wire shows what came again."""
    reads = [address for name, address in lines.commands("E") if name == "read-4k"]
    again = len(reads) - len(set(reads)) - 1  # identifying reads one sector that the backup reads too
    assert again >= 1 + 1  # a flipped byte costs a sector of the backup, and so does a lost one


@pytest.mark.soak
def test_a_supply_that_hangs_for_good_is_said_to_be_on(tmp_path: Path) -> None:
    """Nobody can switch it off: record and terminal say so, and as soon as it listens again it goes off."""
    with SimProcess(tmp_path, "--speed", "20") as bench:
        process = start_rig("convert", "--no-report", "--bench", bench.bench_file, cwd=tmp_path)
        try:
            wait_until(lambda: bench.status()["on"], 30, "power")
            bench.hand("supply-fault", name="hung")
            said, _ = process.communicate(timeout=60)
            ended = next(event for event in under_way(tmp_path) if isinstance(event, events.UnitEnded))
            assert (process.returncode, ended.outcome, ended.code) == (3, BLOCKED, "supply-lost")
            assert not ended.supply_off_confirmed
            assert "could not be read back off" in said
            assert bench.status()["on"]
            healed = time.monotonic()
            bench.hand("supply-heal")
            wait_until(lambda: not bench.status()["on"], 5.0, "the guardian switching off")
            assert time.monotonic() - healed < 5.0
        finally:
            stop(process)
