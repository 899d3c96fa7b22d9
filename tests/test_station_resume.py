"""A station that is killed, and the run that goes on: nothing lost, no number twice, half-written boards first."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rig.bench.bench import read_bench
from rig.bench.slot import slot_lock
from rig.errors import Exit, UsageProblem
from rig.line.books import Books
from rig.line.control import station_folder
from rig.line.identity import another_board
from rig.line.job import Job, Stage
from rig.line.resume import close_past, order_of, read_past
from rig.line.rules import Rules, Sampling
from rig.records import events
from rig.supply import runtime
from tests.station_bench import StationBench, fake_units
from tests.test_station import balanced
from tests.waiting import until, wait_until


@pytest.fixture(autouse=True)
def _fake_units(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_units(monkeypatch)


def kill(bench: StationBench, job: object, **wait_for: object) -> None:
    """A station in a process of its own, killed once units have begun as told."""
    process = bench.spawn(job)  # type: ignore[arg-type]
    try:
        for unit, kind in wait_for.items():
            bench.wait(kind, unit=unit, seconds=60)  # type: ignore[arg-type]
        wait_until(lambda: bench.live.get("control"), 60, "live.json")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)


def test_a_board_that_a_dead_stations_command_still_moves_is_waited_for(tmp_path: Path) -> None:
    """Nothing is switched on, and no second feeder started, under the hands of the first one."""
    moves, stays = tmp_path / "moves", tmp_path / "stays"

    def feeder(command: str) -> None:
        words = json.dumps(["/bin/sh", "-c", f"echo begins >> {moves}; {command}; echo over >> {moves}"])
        bench.path.write_text(re.sub("^change = .*", f"change = {words}", bench.path.read_text(), flags=re.MULTILINE))
        bench.bench = read_bench(bench.path)

    bench = StationBench(tmp_path)
    feeder(f"until [ -e {tmp_path}/go ]; do sleep 0.05; done")
    process = bench.spawn(bench.job("1", "2"))
    try:
        wait_until(moves.exists, 60, "the feeder moving")
    finally:
        process.kill()
        process.wait(60)
    feeder(f"sleep 600 > /dev/null 2>&1 & echo $! > {stays}")
    with bench.start(bench.job("1", "2"), resume=True) as run:
        assert not until(lambda: len(moves.read_text().split()) > 1, 1.0)
        (tmp_path / "go").touch()
        assert run.end() is Exit.GOOD
    assert moves.read_text().split() == ["begins", "over"] * 2
    with slot_lock(bench.bench.slot("A")):  # although what the second one has left running inherited it
        os.kill(int(stays.read_text()), signal.SIGTERM)


def test_what_was_left_half_written_comes_first_and_numbers_go_on(tmp_path: Path) -> None:
    """Unit 1 is over, 2 is at work, 3 is being written, 4 and 5 were never begun."""
    bench = StationBench(tmp_path, 2)
    bench.behave(**{"1": ["fail short"], "2": ["held"], "3": ["writing"]})
    job = bench.job("1", "2", "3", "4", "5")
    kill(bench, job, **{"1": events.UnitEnded, "2": events.PhaseStarted, "3": events.WriteBegun})
    left = len(bench.found)
    (bench.run.units / "5" / "1").mkdir(parents=True)  # an attempt whose process never wrote a word
    bench.behave()
    assert bench.start(job, resume=True).end() is Exit.FAILED
    kinds = [event.kind for event in bench.found[left:]]
    assert kinds.index("run-resumed") == 2  # after the two ends
    assert bench.outcomes()[1:3] in (
        [("2", 1, "blocked", "crashed"), ("3", 1, "unverified", "half-written")],
        [("3", 1, "unverified", "half-written"), ("2", 1, "blocked", "crashed")],
    )
    begun = [(one.unit, one.attempt) for one in bench.of(events.UnitStarted)][3:]
    assert set(begun[:2]) == {("3", 2), ("2", 2)}  # their boards are in the slots
    assert set(begun[2:]) == {("4", 1), ("5", 2)}
    assert "3" not in [line.split()[1] for line in bench.changes.read_text().splitlines()][1:]
    assert balanced(bench, 5) == {"fail": 1, "pass": 4}


def test_people_are_asked_for_every_board_the_half_written_one_first(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, by_hand=True)
    bench.behave(**{"2": ["writing"]})
    job = bench.job("1", "2", "3")
    process = bench.spawn(job)
    bench.tell_when_there(answer="done")
    bench.wait(events.WriteBegun, unit="2", seconds=60)
    process.kill()
    process.wait(60)
    bench.behave()
    asked: list[str] = []

    def ask(text: str, over: object) -> str:
        asked.append(text)
        return ""

    assert bench.start(job, resume=True, ask=ask).end() is Exit.GOOD
    assert ["unit 2" in asked[0], "unit 3" in asked[1]] == [True, True]
    assert balanced(bench, 3) == {"pass": 3}


def test_a_prompt_a_stopped_line_and_slots_that_are_out_are_closed(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["fail short"]})
    job = bench.job("1", "2", rules={"streak": {"failures_in_a_row": 1}, "label": {}})
    with bench.start(job) as run:
        bench.wait(events.Prompted, what="continue")
        run.station.stop()
        assert run.end() is Exit.ABORTED
    assert bench.of(events.Answered)[-1].by == "stopped"
    assert bench.start(job, resume=True).end() is Exit.FAILED
    assert len(bench.of(events.LineReleased)) == 1
    assert len({event.prompt for event in bench.of(events.Prompted)}) == len(bench.of(events.Prompted))
    assert balanced(bench, 2) == {"fail": 1, "pass": 1}


def test_blocked_and_aborted_units_are_tried_again_and_the_good_stay_good(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    template = tmp_path / "l.txt"
    template.write_text("{unit}")
    bench.behave(**{"2": ["blocked no-current"]})
    job = bench.job("1", "2", "3")
    assert bench.start(job, attended=False).end() is Exit.BLOCKED
    labelled = bench.job("1", "2", "3", rules={"label": {"template": str(template)}})
    assert bench.start(labelled, resume=True).end() is Exit.GOOD
    begun = [(one.unit, one.attempt) for one in bench.of(events.UnitStarted)]
    assert begun == [("1", 1), ("2", 1), ("2", 2), ("3", 1)]
    assert bench.of(events.SlotBack)[0].slot == "A"
    assert [one.unit for one in bench.of(events.Labelled)] == ["1", "2", "3"]  # 1: owed by the run before
    assert [event.kind for event in bench.found].count("run-ended") == 2
    assert balanced(bench, 3) == {"pass": 3}


def test_a_stopped_batch_does_not_read_as_a_good_one(tmp_path: Path) -> None:
    """Units that were asked for and never begun are in its verdict, until it is taken up."""
    pytest.importorskip("pandas", reason="reports need the extra 'report'")
    from reports import read, summary_lines
    from reports.page.whole import Pages
    from reports.summary import summary

    bench = StationBench(tmp_path)
    bench.behave(**{"2": ["held"]})
    job = bench.job("1", "2", "3", "4")
    with bench.start(job) as run:
        wait_until(lambda: len(bench.of(events.PhaseStarted)) == 2, 60, "unit 2 at work")
        run.station.stop()
        assert run.end() is Exit.ABORTED
    records = read([bench.run.path])
    said = "1 board is good. 1 more was not judged (blocked or aborted). 2 more were never begun."
    assert summary_lines(records)[0].endswith(said)
    assert any(f"ended before 2 units began: --resume {bench.run.id}" in line for line in summary_lines(records))
    assert summary(records)["counts"]["not_begun"] == 2
    page = Pages(records, tmp_path / "page").data()
    assert (page["verdict"], page["tone"]) == (said, "idle")
    assert _begun_not(records, tmp_path / "index") == [2]

    bench.behave(**{"2": ["pass"]})
    assert bench.start(job, resume=True).end() is Exit.GOOD
    records = read([bench.run.path])
    assert "All 4 boards are good." in summary_lines(records)[0]
    assert summary(records)["counts"]["not_begun"] == 0
    assert _begun_not(records, tmp_path / "index") == [0]


def _begun_not(records: Any, folder: Path) -> list[int]:
    """By the page over batches, a batch each."""
    from reports import write_index

    told = json.loads((write_index(records, folder).parent / "index.json").read_text())
    cells = re.findall(r'<td class="n">(\d+)</td><td>', (folder / "index.html").read_text())
    assert [int(cell) for cell in cells] == [each["not_begun"] for each in told]
    return [each["not_begun"] for each in told]


def test_which_unit_comes_first() -> None:
    """By hand: no board is in its slot by itself, so the order is the rule's."""
    job = Job(
        ("good", "failed", "blocked", "aborted", "new", "half", "between"), (Stage("recover"), Stage("convert"))
    )
    slot: Any = SimpleNamespace(name="A", table=SimpleNamespace(change=None))
    found: list[Any] = []

    def attempt(unit: str, number: int, task: events.Task, outcome: str) -> None:
        who: dict[str, Any] = {"unit": unit, "slot": "A", "attempt": number}
        found.append(events.UnitStarted(**who, task=task))
        if outcome == "half":
            found.append(events.WriteBegun(**who, image_sha256="0" * 64, ranges=[(0, 1)]))
        else:
            found.append(events.UnitEnded(**who, outcome=events.Outcome(outcome), duration_s=1.0))

    for unit, outcome in (("half", "half"), ("blocked", "blocked"), ("aborted", "aborted"), ("failed", "fail")):
        attempt(unit, 1, "recover", outcome)
    attempt("between", 1, "recover", "pass")
    attempt("good", 1, "recover", "pass")
    attempt("good", 2, "convert", "marginal")
    past = read_past(found, job, [slot])
    close_past(past, [slot], past.books.take, lambda slot: True)
    order = order_of(past, job, [slot])
    assert [*order.loaded.values(), *order.first, *order.rest] == ["half", "between", "new", "blocked", "aborted"]


def test_a_bad_board_is_not_asked_for_again_and_a_sample_is_owed_its_burn_in() -> None:
    job = Job(("bad", "sample", "good"), (Stage("convert"),), rules=Rules(sampling=Sampling(every=2)))
    slot: Any = SimpleNamespace(name="A", table=SimpleNamespace(change=["./feeder"]))
    found: list[Any] = []
    for unit, outcome in (("bad", "fail"), ("sample", "pass"), ("good", "pass")):
        who: dict[str, Any] = {"unit": unit, "slot": "A", "attempt": 1}
        found += [events.UnitStarted(**who), events.WriteBegun(**who, image_sha256="0" * 64, ranges=[(0, 1)])]
        found += [events.WriteEnded(**who, verified=True)] if outcome == "pass" else []
        found.append(events.UnitEnded(**who, outcome=events.Outcome(outcome), duration_s=1.0))
    order = order_of(read_past(found, job, [slot]), job, [slot])
    assert [*order.loaded.values(), *order.first, *order.rest] == ["sample"]


def test_which_board_is_in_a_slot() -> None:
    """The one that was last put in; none is in two, and nobody knows while a command changes it."""
    job = Job(("1", "2", "3"), (Stage("convert"),))
    slots: Any = [SimpleNamespace(name=name) for name in "AB"]
    found: list[Any] = []
    assert read_past(found, job, slots).boards == {"A": "1", "B": "2"}
    found.append(events.UnitStarted(unit="1", slot="B", attempt=1))
    assert read_past(found, job, slots).boards == {"B": "1"}
    found.append(events.Noted(unit="3", slot="B", text="its change command is to put 3 in", details={"load": "3"}))
    assert read_past(found, job, slots).boards == {}


def test_another_board_is_known_by_its_uid() -> None:
    assert "uid-a" in (another_board(["mac-1", "uid-a"], "uid-b") or "")
    for known, found in (([], "uid-b"), (["uid-a"], "uid-a"), (["mac-1"], "mac-2"), (["uid-a"], None)):
        assert another_board(known, found) is None
    books = Books(["1"], "convert")
    who: dict[str, Any] = {"unit": "1", "slot": "A", "attempt": 1}
    books.take(events.UnitStarted(**who))
    books.take(events.UnitEnded(**who, outcome=events.Outcome.FAIL, duration_s=1.0, identity="uid-a"))
    assert books.known_as("1") == ["uid-a"]
    books.take(events.Reworked(unit="1", what="another module", who="Ann"))
    assert books.known_as("1") == []


def test_a_torn_line_is_dropped_and_named(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    job = bench.job("1", "2")
    bench.behave(**{"1": ["blocked no-current"]})
    assert bench.start(job, attended=False).end() is Exit.BLOCKED
    with bench.run.journal.open("ab") as file:
        file.write(b'{"kind":"unit-star')
    assert bench.start(job, resume=True).end() is Exit.GOOD
    assert any("torn by a crash" in note.text for note in bench.of(events.Noted))
    assert balanced(bench, 2) == {"pass": 2}


def test_another_board_under_the_same_number_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["blocked no-current"]})
    job = bench.job("1")
    assert bench.start(job).end() is Exit.BLOCKED
    monkeypatch.setenv("RIG_FAKE_IDENTITY", "uid-other")
    assert bench.start(job, resume=True).end() is Exit.GOOD
    assert any("uid-1, then uid-other" in note.text for note in bench.of(events.Noted))


def test_one_board_under_two_numbers_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = StationBench(tmp_path)
    monkeypatch.setenv("RIG_FAKE_IDENTITY", "uid-same")
    assert bench.start(bench.job("1", "2")).end() is Exit.GOOD
    told = [note for note in bench.of(events.Noted) if note.level == "warning"]
    assert [note.unit for note in told] == ["2"]
    assert "unit 2 calls itself uid-same, as that of unit 1 did" in told[0].text


def test_sockets_of_a_killed_station_go_when_the_next_one_starts(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["held"]})
    job = bench.job("1")
    kill(bench, job, **{"1": events.PhaseStarted})
    left = Path(bench.live["control"]).parent
    assert left.exists()
    with station_folder() as folder:
        assert not left.exists()
        with station_folder() as other:
            assert folder.exists()  # at work: nobody else's to remove
            assert other != folder
    assert not folder.exists()
    assert not list(runtime.folder().glob("station-*"))


def test_a_run_that_is_at_work_is_not_resumed(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["held"]})
    job = bench.job("1")
    with bench.start(job) as run:
        bench.wait(events.PhaseStarted)
        with pytest.raises(UsageProblem, match="in use"):
            bench.start(job).end()
        with pytest.raises(UsageProblem, match=rf"{bench.run.id} is still at work \(process \d+\)"):
            bench.start(job, resume=True).end(20)  # at once: the patience is for units of a dead station
        bench.go("1")
        assert run.end() is Exit.GOOD
    wait_until(lambda: bench.live["state"] == "ended", 60, "the end")
