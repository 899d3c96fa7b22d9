"""How units end and where they go next: half-written boards, another slot, the first end on record, what a resumed
station still knows."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reports.load import load
from rig.errors import Exit, UsageProblem
from rig.line.attempt import Attempt
from rig.line.books import Books
from rig.line.loading import Loader
from rig.line.queue import Queue, Turn
from rig.line.resume import TurnOver, order_of, read_past, turns_of
from rig.panel.book import Book
from rig.records import events
from rig.records.events import Outcome
from rig.records.rows import Rows
from tests.station_bench import ANSWER_S, StationBench, fake_units
from tests.synthetic_journals import SyntheticRun
from tests.test_station import balanced
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def _fake_units(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_units(monkeypatch)


# -- the first end on record -------------------------------------------------------------------------------


def test_a_pass_stands_though_its_process_dies_after_it(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["pass-and-die"]})
    assert bench.start(bench.job("1")).end() is Exit.GOOD
    assert bench.outcomes() == [("1", 1, "pass", None)]
    (said,) = [note.text for note in bench.of(events.Noted, level="warning") if "SIGKILL" in note.text]
    assert said.endswith("after it said pass: that stands")
    assert balanced(bench, 1) == {"pass": 1}


def test_an_end_that_is_on_record_and_not_in_the_books_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit is told that its end is on disk, and goes, before the station's own books have it."""
    gone = threading.Event()
    take, close = Books.take, Attempt._close

    def late(self: Books, event: events.Event) -> None:
        if isinstance(event, events.UnitEnded):
            assert gone.wait(60)
        take(self, event)

    def closing(self: Attempt, seconds: float, output: Path) -> None:
        gone.set()
        close(self, seconds, output)

    monkeypatch.setattr(Books, "take", late)
    monkeypatch.setattr(Attempt, "_close", closing)
    bench = StationBench(tmp_path)
    assert bench.start(bench.job("1")).end() is Exit.GOOD
    assert bench.outcomes() == [("1", 1, "pass", None)]


def test_no_more_processes_start_at_a_time_than_there_are_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, bool]] = []
    start = Attempt._start

    def watched(self: Attempt, output: Path, owner: int) -> Any:
        before = [unit for unit, _ in begun]
        begun.append((self.unit, all(self.ground.books.course(unit, 1) is not None for unit in before)))
        return start(self, output, owner)

    monkeypatch.setattr("rig.line.attempt.os.cpu_count", lambda: 1)
    monkeypatch.setattr(Attempt, "_start", watched)
    bench = StationBench(tmp_path, slots=3)
    assert bench.start(bench.job("1", "2", "3")).end() is Exit.GOOD
    assert [alone for _, alone in begun] == [True, True, True]


def test_a_unit_that_is_ended_for_its_time_says_so_itself_once(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["hang"]})
    assert bench.start(bench.job("1")).end() is Exit.BLOCKED
    assert bench.outcomes() == [("1", 1, "blocked", "step-timeout")]


def frozen_child() -> bool:
    try:
        children = [pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]
        states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in children]
    except OSError:  # a thread or a child has ended as it was looked at
        return False
    return "T" in states


@pytest.mark.parametrize("stopped", [False, True], ids=["too long", "stopped"])
def test_a_unit_of_which_no_thread_runs_is_killed_at_once(
    stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is there who could switch its output off: its lease has to go, and its grace is no help."""
    monkeypatch.setattr("rig.line.attempt.ANSWER_S", ANSWER_S)
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["still" if stopped else "frozen"]})
    with bench.start(bench.job("1")) as run:
        step = bench.wait(events.PhaseStarted, unit="1")
        if stopped:
            wait_until(frozen_child, 60, "its freezing")
            run.station.stop()
        assert run.end() is (Exit.ABORTED if stopped else Exit.BLOCKED)
    (end,) = bench.of(events.UnitEnded)
    assert (end.outcome.value, end.code) == (("aborted", "crashed") if stopped else ("blocked", "step-timeout"))
    assert (end.mono_ns - step.mono_ns) / 1e9 < 20


def test_of_two_ends_of_one_attempt_the_first_counts_everywhere(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        who = run.attempt("SN1", "pass", seconds=10, identity="uid-a")
        run.now += 1
        run.write(events.UnitEnded, **who, outcome=Outcome.BLOCKED, duration_s=11.0, code="crashed", sentence="died")
        run.end()
    lines = (tmp_path / "run" / "journal.jsonl").read_bytes().splitlines()
    found = [events.parser.validate_json(line.partition(b',"chain"')[0] + b"}") for line in lines]
    books, rows, book = Books(["SN1"], "convert"), Rows.of("run"), Book()
    rows.feed(lines, Path("journal.jsonl"))
    for event in found:
        books.take(event)
    book.add(found)
    report = load([tmp_path / "run"]).attempts.iloc[0]
    assert books.outcomes() == {"SN1": Outcome.PASS}
    assert (rows.attempts["SN1", 1]["outcome"], rows.attempts["SN1", 1]["duration_s"]) == ("pass", 10.0)
    assert (book.attempts[0].outcome, book.attempts[0].code) == (Outcome.PASS, None)
    assert (report.outcome, report.cycle_s, report.code == "crashed") == ("pass", 10.0, False)


# -- half written ------------------------------------------------------------------------------------------


def test_a_blocked_board_that_was_left_half_written_comes_first_until_it_is_written(tmp_path: Path) -> None:
    """The bench failed while it was written; the next try fails before it writes anything."""
    bench = StationBench(tmp_path)
    bench.behave(**{"2": ["cut link-lost", "blocked contact"]})
    job = bench.job("1", "2", "3")
    assert bench.start(job, attended=False).end() is Exit.BLOCKED
    bench.behave(**{"2": ["cut link-lost", "blocked contact"]})
    assert bench.start(job, resume=True, attended=False).end() is Exit.BLOCKED
    assert bench.outcomes()[1:] == [("2", 1, "blocked", "link-lost"), ("2", 2, "blocked", "contact")]
    slots: Any = [SimpleNamespace(name="A", table=SimpleNamespace(change=None))]
    order = order_of(read_past(bench.found, job, slots), job, slots)
    assert [*order.loaded.values(), *order.first] == ["2"]
    assert order.rest == ["3"]
    assert bench.start(job, resume=True).end() is Exit.GOOD
    assert not read_past(bench.found, job, slots).books.half_written()


# -- another slot ------------------------------------------------------------------------------------------

OTHER = {"retry": {"other_slot": True}, "quarantine": {"blocked_in_a_row": 9}}


def test_a_blocked_unit_is_given_to_another_slot_with_its_board(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, 2)
    bench.behave(**{"1": ["blocked no-current"], "2": ["held"]})
    with bench.start(bench.job("1", "2", rules=OTHER)) as run:
        moved = bench.wait(events.Noted, text="unit 1 is given to another slot: slot A blocked it (no-current)")
        assert moved.details == {"moved": "no-current"}
        bench.go("2")
        assert run.end() is Exit.GOOD
    assert set(bench.order()) == {"A:1", "B:2", "B:1"}
    assert bench.changes.read_text() == "B 1 unit\n"
    assert balanced(bench, 2) == {"pass": 2}


def test_a_unit_that_every_slot_blocks_is_blocked(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, 2)
    bench.behave(**{"1": ["blocked no-current"] * 9})
    assert bench.start(bench.job("1", rules=OTHER)).end() is Exit.BLOCKED
    assert bench.order() == ["A:1", "B:1"]
    assert balanced(bench, 1) == {"blocked": 1}


def test_without_the_rule_it_stays(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, 2)
    bench.behave(**{"1": ["blocked no-current"]})
    assert bench.start(bench.job("1", "2")).end() is Exit.BLOCKED
    assert sorted(bench.order()) == ["A:1", "B:2"]


def queue_of(*slots: str, **more: Any) -> Queue:
    import threading

    return Queue(["1"], slots, threading.Event(), **more)


def test_a_unit_that_moves_is_never_in_two_slots() -> None:
    queue = queue_of("A", "B", "C", scanned=True, first=["1"])
    assert queue.next("A") == Turn("1")
    assert queue.elsewhere("A")
    queue.move("A")
    assert queue.next("B") == Turn("1", origin="A")
    assert not queue._may_begin("A")  # its board is being taken out
    with pytest.raises(UsageProblem, match="in slot B already"):
        queue.scan("C", "1")
    queue.begun("B")
    assert queue._may_begin("A")
    queue.move("B")
    queue._asking.add("A")
    assert queue.scan("A", "1") == "A"  # by a person: it waits for no other slot now
    assert queue._take("C", lambda: False) is None


def test_its_board_is_taken_from_where_it_was_last() -> None:
    queue = queue_of("A", "B", "C", "D")
    assert queue.next("A") == Turn("1")
    for before, slot in (("A", "B"), ("B", "C"), ("C", "D")):
        queue.move(before)
        assert queue.next(slot) == Turn("1", origin=before)
        queue.begun(slot)


def test_nor_is_it_forgotten_where_the_slot_it_stands_in_was_put_right() -> None:
    queue = queue_of("A", "B")
    assert queue.next("A") == Turn("1")
    queue.put_out("A", "blocked")
    queue.move("A")
    queue.back("A")
    assert queue.next("B") == Turn("1", origin="A")
    assert not queue._may_begin("A")
    queue.give_back("B")  # loading failed: it may be anywhere
    assert queue.next("B") == Turn("1")


def test_a_change_command_is_told_which_board_it_takes_out(tmp_path: Path) -> None:
    """A person carried board 1 from A to B meanwhile: it is not in A any more."""
    bench = StationBench(tmp_path, 2).bench
    loader, slot, told = Loader(bench), bench.slot("A"), tmp_path / "told"
    loader.is_in(slot, "1")
    loader.is_in(bench.slot("B"), "1")
    script = 'echo "${RIG_UNIT_BEFORE:-none}" >> ' + str(told)
    for unit in ("2", "3"):
        loader._run(slot, ["sh", "-c", script], Turn(unit))
        loader.is_in(slot, unit)
    assert told.read_text().split() == ["none", "2"]


def test_a_unit_that_no_slot_in_use_may_have_waits_for_none() -> None:
    queue = queue_of("A", "B")
    assert queue.next("A") == Turn("1")
    queue.move("A")
    queue.put_out("B", "broken")
    assert queue.left() == 0  # `next` would wait
    assert queue.next("A") is None


def test_nor_where_the_other_slot_went_out_a_moment_ago() -> None:
    """Between the question whether another slot could have it and its move."""
    queue = queue_of("A", "B")
    assert queue.next("A") == Turn("1")
    assert queue.elsewhere("A")
    queue.put_out("B", "broken")
    queue.move("A")
    assert queue.left() == 0
    assert queue.next("A") is None


# -- what a resumed station knows --------------------------------------------------------------------------


def test_streak_and_slot_health_go_on_when_a_run_is_resumed(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["fail short"], "2": ["held"], "3": ["fail short"], "4": ["blocked contact"]})
    rules = {"streak": {"failures_in_a_row": 2}, "quarantine": {"blocked_in_a_row": 2}}
    job = bench.job("1", "2", "3", "4", "5", rules=rules)
    with bench.start(job) as run:
        bench.wait(events.PhaseStarted, unit="2")
        run.station.stop()
        assert run.end() is Exit.ABORTED
    bench.behave(**{"1": ["fail short"], "2": ["held", "fail short"]})
    assert bench.start(job, resume=True, attended=False).end() is Exit.FAILED
    (stopped,) = bench.of(events.LineStopped)
    assert "2 units failed in a row" in stopped.why


def test_the_golden_unit_is_not_due_again_before_its_time(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    job = bench.job("1", "2", "3", "4", "5", rules={"golden": {"serial": "G", "every": 5}})
    bench.behave(**{"2": ["held"]})
    with bench.start(job) as run:
        bench.wait(events.PhaseStarted, unit="2")
        run.station.stop()
        assert run.end() is Exit.ABORTED
    bench.behave()
    assert bench.start(job, resume=True).end() is Exit.GOOD
    assert bench.order() == ["A:G", "A:1", "A:2", "A:2", "A:3", "A:4", "A:G", "A:5"]


def test_turns_are_told_from_attempts() -> None:
    """Retries and samples are one turn; what a resume closed is nobody's fault; a parked board had none."""
    found: list[Any] = []

    def attempt(unit: str, number: int, outcome: str, role: events.Role = "unit", sentence: str = "") -> None:
        who: dict[str, Any] = {"unit": unit, "slot": "A", "attempt": number}
        found.append(events.UnitStarted(**who, role=role))
        found.append(events.UnitEnded(**who, outcome=Outcome(outcome), duration_s=1.0, sentence=sentence))

    attempt("G", 1, "pass", "golden")
    attempt("1", 1, "blocked")
    attempt("1", 2, "fail")
    found.append(events.Prompted(prompt="p1", what="load", slot="A", unit="1", text=""))
    attempt("1", 3, "pass")  # a retest
    found.append(events.LineReleased())
    attempt("2", 1, "blocked", sentence="the rig died before this attempt had ended")
    found.append(events.RunResumed(run="r", command="", station=""))
    attempt("2", 2, "pass")
    attempt("2", 3, "pass", "golden")  # parked
    turns = [each for each in turns_of(found, "G") if isinstance(each, TurnOver)]
    assert [(each.unit, each.role, each.outcome.value, each.told) for each in turns] == [
        ("G", "golden", "pass", True), ("1", "unit", "fail", True), ("1", "unit", "pass", True),
        ("2", "unit", "blocked", False), ("2", "unit", "pass", True),
    ]  # fmt: skip
    assert [type(each).__name__ for each in turns_of(found, "G")].index("LineReleased") == 3


def test_a_turn_has_the_numbers_that_were_measured_in_it() -> None:
    """A unit that was given to another slot: each slot's chart gets what was measured there."""
    found: list[Any] = []

    def attempt(slot: str, number: int, outcome: str, *values: float, role: events.Role = "unit") -> None:
        who: dict[str, Any] = {"unit": "1", "slot": slot, "attempt": number}
        found.append(events.UnitStarted(**who, role=role))
        for value in values:
            found.append(events.Measured(**who, phase="work", name="amps", value=value, unit_of="A"))
        found.append(events.Measured(**who, phase="work", name="text", value="x", unit_of=""))
        found.append(events.UnitEnded(**who, outcome=Outcome(outcome), duration_s=1.0))

    attempt("A", 1, "blocked", 0.1, 0.2)
    attempt("B", 2, "blocked", 0.3)
    attempt("B", 3, "pass", 0.4)  # a retry
    attempt("B", 4, "pass", 0.9, role="golden")  # parked
    turns = [each for each in turns_of(found, "G") if isinstance(each, TurnOver)]
    assert [(each.slot, each.values) for each in turns] == [
        ("A", {"amps": (0.2, True)}),
        ("B", {"amps": (0.4, True)}),
    ]


# -- live.json ---------------------------------------------------------------------------------------------


def test_where_as_many_come_as_come_nothing_remains_to_be_counted(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    with bench.start(bench.job(scanned=True)) as run:
        wait_until(lambda: bench.live.get("slots", {}).get("A", {}).get("state") == "waiting-scan", 60, "the slot")
        assert json.loads((bench.run.path / "live.json").read_text())["counters"]["remaining"] is None
        bench.tell("finish")
        assert run.end() in (Exit.GOOD, Exit.BLOCKED)
    assert bench.live["counters"]["remaining"] == 0
