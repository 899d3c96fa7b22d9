"""A batch that is run as a gage study: every unit in every slot, so often, no board in two slots, nothing written."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.bench.bench import Slot
from rig.bench.config import SlotTable, SupplyTable
from rig.bench.product import load_product
from rig.errors import Exit, UsageProblem
from rig.line.batch import read_batch
from rig.line.job import Job, Stage, check_job, job_from_dict, job_to_dict
from rig.line.queue import Turn
from rig.line.resume import order_of, read_past, units_left
from rig.line.study import Cell, Study, StudyQueue, drawn
from rig.records import events
from rig.records.journal import read_journal
from rig.records.run import latest
from tests.sim_process import SimProcess, rig
from tests.station_bench import StationBench, fake_units

UNITS, SLOTS = ("1", "2", "3"), ("A", "B")


# -- the batch file ------------------------------------------------------------------------------------------


def slot(name: str = "A", **table: Any) -> Slot:
    made = SlotTable(supply="p", channel=1, flash_port="/dev/x", product="ds-121", **table)
    return Slot(name, made, SupplyTable(resource="x"), load_product("ds-121"))


def job_of(
    folder: Path, text: str, *, units: Sequence[str] = UNITS, task: events.Task = "verify", slots: int = 2
) -> Job:
    path = folder / "study.toml"
    path.write_text(f'[batch]\nproduct = "ds-121"\n{text}')
    base = Job(tuple(units), (Stage(task, Path("x.bin")),))
    return read_batch(path).job([slot(name) for name in "ABCD"[:slots]], base)


def test_a_study_is_in_the_job_and_comes_back_from_its_record(tmp_path: Path) -> None:
    job = job_of(tmp_path, "[study]\ntrials = 3\nseed = 5\n")
    assert job.study == Study(3, 5)
    assert job.rules.already_passed == "retest"  # a unit that a batch passed is just what a study needs
    assert job_to_dict(job)["study"] == {"trials": 3, "seed": 5}
    assert job_from_dict(job_to_dict(job)).study == Study(3, 5)
    drawn_by_us = [job_of(tmp_path, "[study]\ntrials = 2\n").study for _ in range(3)]
    assert len({each.seed for each in drawn_by_us if each is not None}) == 3


@pytest.mark.parametrize(
    ("text", "more", "says"),
    [
        ("[study]\ntrials = 1\n", {}, "study.trials"),
        ("[study]\n", {}, "study.trials"),
        ("[study]\ntrials = 3\n", {"task": "convert"}, 'only for plan = "verify"'),
        ("[study]\ntrials = 3\n", {"task": "burn-in"}, 'only for plan = "verify"'),
        ("[study]\ntrials = 3\n", {"units": ["1"]}, "at least two units and two slots, and there are 1 and 2"),
        ("[study]\ntrials = 3\n", {"slots": 1}, "and there are 3 and 1"),
        ("[serials]\nsource = 'scan'\n[study]\ntrials = 3\n", {}, "no scans"),
        ("[golden]\nserial = 'G'\n[study]\ntrials = 3\n", {}, "[golden] has no place in a gage study"),
        ("[retry]\nattempts = 2\ncodes = ['no-link']\n[study]\ntrials = 3\n", {}, "[retry] has no place"),
        ("[streak]\nfailures_in_a_row = 2\n[study]\ntrials = 3\n", {}, "[streak] has no place"),
        ("[sampling]\nevery = 2\n[study]\ntrials = 3\n", {}, "[sampling] has no place"),
        ("first_article = true\n[study]\ntrials = 3\n", {}, "'batch.first_article' has no place"),
        ("park_image = 'p.bin'\n[study]\ntrials = 3\n", {}, "'batch.park_image' has no place"),
    ],
)
def test_what_is_no_study_is_refused_in_one_sentence(
    tmp_path: Path, text: str, more: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageProblem) as caught:
        job_of(tmp_path, text, **more)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_somebody_has_to_move_the_boards() -> None:
    job = Job(("1", "2"), (Stage("verify"),), study=Study(2, 1))
    with pytest.raises(UsageProblem, match="moves each board from slot to slot"):
        check_job([slot("A"), slot("B")], job, somebody_there=False)
    check_job([slot("A", change=["x"]), slot("B", change=["x"])], job, somebody_there=False)


# -- the order -----------------------------------------------------------------------------------------------


def test_every_round_has_each_unit_in_each_slot_once_in_an_order_of_its_own() -> None:
    cells = drawn(Study(4, 9), UNITS, SLOTS)
    rounds = [cells[start : start + 6] for start in range(0, 24, 6)]
    every = {Cell(unit, slot) for unit in UNITS for slot in SLOTS}
    assert all(set(one) == every for one in rounds)
    assert len({tuple(one) for one in rounds}) == 4
    assert cells == drawn(Study(4, 9), UNITS, SLOTS)
    assert cells != drawn(Study(4, 10), UNITS, SLOTS)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    units=st.integers(2, 5),
    slots=st.integers(2, 4),
    trials=st.integers(2, 3),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_no_board_is_in_two_hands_whatever_takes_how_long(
    units: int, slots: int, trials: int, seed: int, data: st.DataObject
) -> None:
    """Slots load, work and end in any order: all is measured, and what is moved is free at both ends."""
    names, places = [str(number) for number in range(units)], "ABCD"[:slots]
    queue = StudyQueue(drawn(Study(trials, seed), names, places), places, threading.Event())
    loading: dict[str, Turn] = {}
    at_work: dict[str, Turn] = {}
    inside: dict[str, str] = {}
    done: Counter[Cell] = Counter()
    while queue.left() or at_work:
        idle = [slot for slot in places if slot not in loading and slot not in at_work]
        moves = [(slot, turn) for slot in idle if (turn := tried(queue, slot)) is not None]
        for slot, turn in moves:
            others = [each.unit for each in (*loading.values(), *at_work.values())]
            assert turn.unit not in others
            standing = next((name for name, unit in inside.items() if unit == turn.unit), None)
            assert standing in (None, slot, turn.origin)
            assert turn.origin not in (*loading, *at_work)  # nobody takes a board out of a slot that is on
            assert turn.unit not in [inside.get(name) for name in loading]  # nor one that is just taken out
            loading[slot] = turn
        assert loading or at_work, "nobody can go on"
        slot = data.draw(st.sampled_from(sorted({*loading, *at_work})))
        if slot in loading:
            turn = loading.pop(slot)
            inside = {name: unit for name, unit in inside.items() if unit != turn.unit} | {slot: turn.unit}
            at_work[slot] = turn
            queue.begun(slot)
        else:
            done[Cell(at_work.pop(slot).unit, slot)] += 1
            queue.over(slot)
    assert done == {Cell(unit, slot): trials for unit in names for slot in places}


def tried(queue: StudyQueue, slot: str) -> Turn | None:
    """What a worker would be given now, without waiting for it."""
    if not queue._may_begin(slot) or (turn := queue._take(slot, lambda: False)) is None:
        return None
    queue._work[slot] = turn
    queue._loading.add(slot)
    return turn


def test_a_slot_whose_board_is_being_taken_out_begins_nothing() -> None:
    cells = [Cell("1", "A"), Cell("1", "B"), Cell("2", "A")]
    queue = StudyQueue(cells, "AB", threading.Event())
    assert tried(queue, "A") == Turn("1")
    queue.begun("A")
    assert tried(queue, "B") is None  # it is at work in A
    queue.over("A")
    assert tried(queue, "B") == Turn("1", origin="A")
    assert tried(queue, "A") is None  # free, but a hand is in it
    queue.begun("B")
    assert tried(queue, "A") == Turn("2")
    with pytest.raises(UsageProblem, match="none comes again"):
        queue.again("1")


# -- a station at work ---------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StationBench:
    fake_units(monkeypatch)
    return StationBench(tmp_path, 2)


def study(bench: StationBench, trials: int = 2, units: Sequence[str] = UNITS) -> Job:
    return bench.job(*units, tasks=("verify",), study=Study(trials, 3))


def never_in_two_slots(found: Sequence[events.Event]) -> bool:
    there: set[str] = set()
    for event in found:
        if isinstance(event, events.UnitStarted):
            if event.unit in there:
                return False
            there.add(event.unit)
        elif isinstance(event, events.UnitEnded):
            there.discard(event.unit)
    return True


def test_each_unit_is_measured_in_each_slot_and_put_in_for_each(bench: StationBench) -> None:
    bench.behave(**{"2": ["fail current-high"]})  # a number out of its limits is a measurement like any other
    assert bench.start(study(bench), attended=False).end() is Exit.FAILED
    assert Counter(bench.order()) == {f"{slot}:{unit}": 2 for slot in SLOTS for unit in UNITS}
    assert never_in_two_slots(bench.found)
    loads = [line.split()[:2] for line in bench.changes.read_text().splitlines()]
    assert Counter(f"{slot}:{unit}" for slot, unit in loads) == Counter(bench.order())  # anew for each, the first too
    for unit in UNITS:
        assert [one.attempt for one in bench.of(events.UnitStarted, unit=unit)] == [1, 2, 3, 4]
    assert any("12 measurements" in note.text and "seed 3" in note.text for note in bench.of(events.Noted))
    assert bench.of(events.RunStarted)[0].job["study"] == {"trials": 2, "seed": 3}
    assert not units_left(bench.found, study(bench), list(bench.bench.slots.values()))


def test_a_study_that_was_cut_short_goes_on_where_it_stopped(bench: StationBench) -> None:
    bench.behave(**{"1": ["pass", "held"]})
    job = study(bench)
    with bench.start(job) as run:
        bench.wait(events.PhaseStarted, unit="1", attempt=2)
        run.station.stop()
        assert run.end() is Exit.ABORTED
    slots = list(bench.bench.slots.values())
    measured = Counter(f"{one.slot}:{one.unit}" for one in bench.of(events.UnitEnded) if one.outcome.good)
    past = read_past(bench.found, job, slots)
    left = order_of(past, job, slots).cells
    assert measured + Counter(f"{cell.slot}:{cell.unit}" for cell in left) == {
        f"{slot}:{unit}": 2 for slot in SLOTS for unit in UNITS
    }
    bench.behave()
    assert bench.start(job, resume=True).end() is Exit.GOOD
    again = Counter(f"{one.slot}:{one.unit}" for one in bench.of(events.UnitEnded) if one.outcome.good)
    assert again == {f"{slot}:{unit}": 2 for slot in SLOTS for unit in UNITS}
    numbers = [(one.unit, one.attempt) for one in bench.of(events.UnitStarted)]
    assert len(set(numbers)) == len(numbers)


def test_what_was_blocked_is_left_for_later_and_said(bench: StationBench) -> None:
    bench.behave(**{"3": ["blocked no-current"]})
    assert bench.start(study(bench), attended=False).end() is Exit.BLOCKED
    out = bench.of(events.SlotOut)[0].slot
    left = [note.text for note in bench.of(events.Noted) if "of the study were not started" in note.text]
    assert len(left) == 1
    other = "B" if out == "A" else "A"
    made = Counter(f"{one.slot}:{one.unit}" for one in bench.of(events.UnitEnded) if one.outcome.good)
    assert all(made[f"{other}:{unit}"] == 2 for unit in UNITS)  # the other slot went on to its end
    assert units_left(bench.found, study(bench), list(bench.bench.slots.values()))
    assert bench.start(study(bench), resume=True, attended=False).end() is Exit.GOOD


def test_a_person_is_told_where_the_board_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_units(monkeypatch)
    bench = StationBench(tmp_path, 2, by_hand=True)
    asked: list[str] = []

    def ask(text: str, over: object) -> str:
        asked.append(text)
        return ""

    job = study(bench, units=("1", "2"))
    assert bench.start(job, ask=ask).end() is Exit.GOOD
    assert len(asked) == 8
    assert any("which is off too" in text for text in asked)
    inside: dict[str, str] = {}
    for event in bench.found:  # what was said of where a board is was true
        if isinstance(event, events.Prompted) and event.what == "load" and "it is in slot" in event.text:
            assert inside[event.text.partition("it is in slot ")[2][0]] == event.unit
        elif isinstance(event, events.UnitStarted):
            inside = {name: unit for name, unit in inside.items() if unit != event.unit} | {event.slot: event.unit}


# -- on the simulated bench ----------------------------------------------------------------------------------

STUDY = """
[batch]
product = "ds-121"
plan = "verify"
[serials]
source = "list"
list = ["SN1", "SN2"]
[study]
trials = 2
seed = 1
"""
CHANGES = {"erase", "erase-4k", "erase-all", "write-4k", "write-256", "write-sr"}


@pytest.mark.soak
def test_a_study_of_simulated_boards_ends_in_a_gage_rr(tmp_path: Path) -> None:
    """Each board is itself wherever it is (its efuse says so), nothing is written, and the report finds it all."""
    pytest.importorskip("unicorn")
    from reports.gage import gage_of
    from reports.load import load
    from reports.tables import Name
    from reports.timing import breakdown
    from rig.sim import firmware

    content, image = bytearray(firmware.factory_dump(7)), firmware.demo_image()
    content[: len(image)] = image
    (tmp_path / "converted.bin").write_bytes(content)
    (tmp_path / "study.toml").write_text(STUDY)
    options = ["--boards", "2", "--speed", "20", "--flash", str(tmp_path / "converted.bin")]
    with SimProcess(tmp_path, *options) as bench:
        words = ["run", "--bench", str(bench.bench_file), "--batch", "study.toml", "--no-report"]
        done = rig(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = latest(tmp_path / "runs")
    found, _ = read_journal(run.journal)
    started = [event for event in found if isinstance(event, events.UnitStarted)]
    assert Counter((one.unit, one.slot) for one in started) == {(u, s): 2 for u in ("SN1", "SN2") for s in "AB"}
    assert never_in_two_slots(found)
    ended = [event for event in found if isinstance(event, events.UnitEnded)]
    boards = {(one.unit, one.identity) for one in ended}
    assert len(boards) == len({identity for _, identity in boards}) == 2
    wire = "".join(path.read_text() for path in run.path.glob("units/*/*/wire.jsonl"))
    assert not CHANGES & set(re.findall(r'"name": ?"([^"]+)"', wire))
    records = load([run.path])
    assert records.attempts["study"].all()
    assert not records.attempts["counted"].any()
    boots = gage_of(records, Name("boot", "boot", "boot_time", "s"))
    assert (boots.parts, boots.appraisers, boots.trials, boots.refused) == (2, 2, 2, None)
    times = breakdown(records, "slot")
    assert list(times["n"]) == [4, 4]
    assert (times[["link", "read", "boot", "rig"]] > 0).all(axis=None)
    assert set(records.attempts["baud"]) == {921600}
