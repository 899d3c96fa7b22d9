"""The line as a whole: a box of boards with faults planted among them, over several slots, at a high simulated speed.
Every planted fault ends in its own code, no good unit fails, no bad unit passes, the books balance.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from rig.records import events
from rig.records.events import Outcome
from rig.sim.faults import BOARD_FAULTS, SUPPLY_FAULTS
from tests.line_faults import KINDS, PASS, Kind
from tests.line_table import Line, Table, laid_table
from tests.sim_process import rig
from tests.waiting import until

pytest.importorskip("unicorn")


def converted(folder: Path, kinds: Sequence[Kind], *, units: int, slots: int, seed: int, speed: float) -> Line:
    """One batch from its start to its end."""
    with laid_table(folder, kinds, units=units, slots=slots, seed=seed, speed=speed) as table:
        process = table.begin()
        try:
            attend(process, table)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
        return table.over(process.returncode)


def attend(process: subprocess.Popen[str], table: Table) -> None:
    """Stand beside the batch until it is over: begin what is to begin as a unit reads its backup; mend a supply once
    its unit has ended, and let a slot be used again that had been found unusable with it."""
    struck: set[str] = set()
    seen = 0
    while process.poll() is None:
        until(lambda: process.poll() is not None, 0.1)
        found = table.journal()
        for event in found[seen:]:
            kind = table.box.kinds.get(getattr(event, "unit", None) or "")
            if isinstance(event, events.PhaseStarted) and event.phase == "backup" and event.unit not in struck:
                struck.add(event.unit)
                if kind is not None and kind.strikes == "backup":
                    table.box.strike(event.slot, kind)
            elif isinstance(event, events.UnitEnded) and kind is not None and kind.name.startswith("supply-"):
                table.bench.hand("supply-heal", event.slot)
            elif isinstance(event, events.SlotOut):
                table.order(do="release", slot=event.slot, who="a test")
        seen = len(found)


def check(line: Line, units: int) -> None:
    """All that has to hold, whichever board had what."""
    ended, kinds = line.ended(), line.box.kinds
    wrong = [
        f"{unit} ({kinds[unit] or 'a good board'}): {end.outcome}, {end.code}: {end.sentence}"
        for unit, end in ended.items()
        if (str(end.outcome), end.code) not in (kind.ends if (kind := kinds[unit]) else (PASS,))
    ]
    assert not wrong, "\n".join(wrong)
    notes = [event for event in line.found if isinstance(event, events.Noted)]
    for unit, end in ended.items():
        own = kinds[unit]
        if own is not None and own.noted and end.outcome.good:
            assert any(each.unit == unit and own.noted in each.text for each in notes), f"{unit}: nobody is told"
        ill = own is not None and own.name.startswith("supply-") and end.outcome is Outcome.BLOCKED
        # what does not answer, or cannot be read, cannot confirm: the record says so, and never that it is on
        assert end.supply_off_confirmed or (ill and end.supply_off_confirmed is None), unit
        assert line.holds_the_image(unit) or not end.outcome.good, f"{unit} passed without its image"
    begun = Counter(event.unit for event in line.found if isinstance(event, events.UnitStarted))
    assert len(begun) == len(ended) == units
    books = Counter(end.outcome for end in ended.values())
    assert sum(books.values()) == units
    assert books[Outcome.ABORTED] == books[Outcome.UNVERIFIED] == 0
    assert line.exit_code == 1, line.said


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All that a SQLite file holds, by table."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        return {name: sorted(database.execute(f'select * from "{name}"'), key=repr) for name in sorted(names)}


def check_rebuilt(line: Line, folder: Path) -> None:
    """The database that the station kept up to date, deleted and made again from the journals, is equal."""
    database = line.run.path.parent / "rig.db"
    before = rows(database)
    attempts = sum(isinstance(event, events.UnitStarted) for event in line.found)
    assert len(before["attempts"]) == attempts
    database.unlink()
    done = rig("records", "rebuild", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert rows(database) == before


def test_every_kind_of_fault_is_planted() -> None:
    """What is added to the faulty bench's catalogue is planted too."""
    supplies = {f"supply-{name}" for name in SUPPLY_FAULTS}
    assert {kind.name for kind in KINDS} == set(BOARD_FAULTS) | supplies


FEW = tuple(kind for kind in KINDS if kind.name in ("short", "tx2-open") or kind.options.get("pin") == "3v3")


def test_eight_units_with_faults_among_them(tmp_path: Path) -> None:
    """The short cousin."""
    line = converted(tmp_path, FEW, units=8, slots=4, seed=7, speed=15)
    check(line, 8)
    check_rebuilt(line, tmp_path)


def test_a_supply_that_is_ill_before_the_batch_is_told_by_its_slot(tmp_path: Path) -> None:
    with laid_table(tmp_path, (), units=2, slots=2, seed=7, speed=15) as table:
        table.bench.hand("supply-fault", "B", name="trailing-comma", options={})
        assert table.begin().wait(60) == 3
        said = (tmp_path / "said.txt").read_text()
        assert "Slot B of 2 cannot be used: " in said, said
        assert "Traceback" not in said, said
        assert not list(tmp_path.glob("runs/*/journal.jsonl"))


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_sixty_four_units_over_eight_slots(tmp_path: Path, seed: int) -> None:
    """Each kind of fault once among 64 boards; which board has it, and so in which slot, goes by the seed."""
    line = converted(tmp_path, KINDS, units=64, slots=8, seed=seed, speed=10)
    check(line, 64)
    check_rebuilt(line, tmp_path)
