"""The terminal: how a run stands by its events, the table and the plain lines, what is typed, events for programs,
sounds. No bench: events as a station hands them on."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from rig.cli.board_table import last_reading, table
from rig.cli.board_view import BoardView
from rig.cli.json_events import JsonEvents
from rig.cli.keyboard import Keyboard, descriptor
from rig.cli.sound import Sound, command_of
from rig.cli.standing import Standing
from rig.cli.typed import command_for
from rig.errors import UsageProblem
from rig.records import events
from rig.records.events import Event, Outcome, Task
from rig.records.journal import Journal
from rig.records.run import RunFolder
from tests.waiting import wait_until

SLOTS: Any = [SimpleNamespace(name="A"), SimpleNamespace(name="B")]
PASS, FAIL, BLOCKED = Outcome.PASS, Outcome.FAIL, Outcome.BLOCKED


def began(unit: str, slot: str = "A", attempt: int = 1, **more: Any) -> Event:
    return events.UnitStarted(unit=unit, slot=slot, attempt=attempt, **more)


def ended(unit: str, outcome: Outcome, slot: str = "A", attempt: int = 1, **more: Any) -> Event:
    code = None if outcome.good else "no-link"
    said = {"code": code, "sentence": "nobody answers" if code else None, "supply_off_confirmed": True} | more
    return events.UnitEnded(unit=unit, slot=slot, attempt=attempt, outcome=outcome, duration_s=2.0, **said)


def phase(name: str, slot: str = "A", unit: str = "1") -> Event:
    return events.PhaseStarted(unit=unit, slot=slot, attempt=1, phase=name)


def phase_over(name: str, outcome: Outcome | None = PASS) -> Event:
    return events.PhaseEnded(unit="1", slot="A", attempt=1, phase=name, outcome=outcome, duration_s=1.25)


def asked(name: str = "p1", what: Any = "load", slot: str | None = "A", **more: Any) -> events.Prompted:
    return events.Prompted(prompt=name, what=what, slot=slot, **{"text": f"Put the board in {slot}", **more})


# -- how it stands ---------------------------------------------------------------------------------------------


def stood(*happened: Event, units: int = 10, last: Task = "convert") -> Standing:
    standing = Standing(["A", "B"], units, last)
    for event in happened:
        standing.take(event)
    return standing


def test_counters_add_up_to_the_batch() -> None:
    standing = stood(
        began("1"), ended("1", PASS), began("2"), ended("2", FAIL), began("3"), ended("3", BLOCKED), began("4"),
        began("5", "B"), ended("5", Outcome.MARGINAL, "B"), began("6", "B"),
    )  # fmt: skip
    found = standing.counters()
    assert (found["pass"], found["fail"], found["blocked"], found["marginal"], found["running"]) == (1, 1, 1, 1, 2)
    assert found["remaining"] == 4
    assert sum(found.values()) == 10
    assert standing.over == 4
    assert standing.first_pass() == (2, 3)  # the blocked one says nothing


def test_a_retry_does_not_count_as_a_first_pass_and_a_blocked_first_try_does_not_count() -> None:
    standing = stood(
        began("1"), ended("1", FAIL), began("1", attempt=2), ended("1", PASS, attempt=2),
        began("2"), ended("2", BLOCKED), began("2", attempt=2), ended("2", PASS, attempt=2),
    )  # fmt: skip
    assert standing.first_pass() == (1, 2)
    assert standing.counters()["pass"] == 2
    assert standing.over == 2


def test_two_stages_are_one_trial_and_golden_units_none() -> None:
    run = events.RunStarted(
        run="r", command="", station="", bench="", simulated=True, product="x", tasks=["recover", "convert"]
    )
    standing = stood(run, began("1", task="recover"), ended("1", PASS))
    assert (standing.over, standing.first_pass()) == (0, (0, 0))
    for event in (began("1", attempt=2, task="convert"), ended("1", PASS, attempt=2)):
        standing.take(event)
    assert (standing.over, standing.first_pass()) == (1, (1, 1))
    for event in (began("G", "B", role="golden", task="verify"), ended("G", FAIL, "B")):
        standing.take(event)
    assert (standing.over, standing.first_pass(), standing.counters()["fail"]) == (1, (1, 1), 0)
    assert standing.rows["B"].outcome is FAIL


def test_an_outcome_is_latched_until_the_next_unit() -> None:
    standing = stood(began("1"), phase("backup"), ended("1", FAIL))
    standing.progress("A", "read", 1, 2)  # it comes late
    row = standing.rows["A"]
    assert (row.state, row.outcome, row.code, row.what) == ("latched", FAIL, "no-link", None)
    standing.take(began("2"))
    row = standing.rows["A"]
    assert (row.state, row.unit, row.outcome, row.step) == ("running", "2", None, None)


# -- the table -------------------------------------------------------------------------------------------------


def drawn(standing: Standing, run: RunFolder | None = None, typed: str | None = None, width: int = 160) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width)
    console.print(table(standing, width, run, typed))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_where_units_come_as_they_are_scanned_what_remains_is_open() -> None:
    assert "remaining open" in drawn(Standing("A", 0))
    assert "remaining 3" in drawn(Standing("A", 3))


def test_the_table_says_what_each_slot_does(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    folder = run.unit_dir("SN[1]:", 1)
    folder.mkdir(parents=True)
    (folder / "power.csv").write_text("mono_ns,volts,amps,mode\n1,3.2999,0.0305,cv\n2,3.3,0.08")  # the last is torn
    standing = stood(
        began("SN[1]:"), phase("backup"), began("2", "B"), ended("2", FAIL, "B"),
        asked(), asked("p2", "approve", None, text="Go on?", choices=["yes", "no"]),
        events.LineStopped(rule="streak", why="3 units failed in a row"),
    )  # fmt: skip
    standing.progress("A", "read", 512 * 1024, 2048 * 1024)
    page = drawn(standing, run, "SN0")
    line = next(line for line in page.splitlines() if "SN[1]:" in line)  # neither markup nor a smiley
    assert "backup" in line
    assert "read 25 % 0 s" in line
    assert "3.30 V 30 mA" in line
    for width in (100, 80):
        lines = drawn(standing, run, "SN0", width=width).splitlines()
        assert lines[2].startswith("B"), lines
        assert "FAIL [no-" in lines[2]
        assert len(lines) == len(page.splitlines())
        assert all(len(line) <= width for line in lines)
    assert "FAIL [no-link] nobody answers" in page
    assert "pass 0, fail 1, blocked 0, running 1, remaining 8, first-pass yield 0 % (0 of 1)" in page
    assert "THE LINE STOPPED: 3 units failed in a row" in page
    assert "? Put the board in A" in page
    assert "? Go on? (yes/no)" in page
    assert "> SN0_" in page


def test_what_must_not_be_overlooked_is_words() -> None:
    standing = stood(
        began("1"), ended("1", PASS, supply_off_confirmed=None), events.SlotOut(slot="B", why="3 blocked in a row")
    )
    page = drawn(standing)
    assert "PASS OUTPUT NOT READ BACK OFF" in page
    assert "OUT OF USE: 3 blocked in a row" in page
    standing.take(events.SlotBack(slot="B"))
    assert "OUT OF USE" not in drawn(standing)


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=400))
def test_no_power_csv_is_a_problem(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "power.csv"
    path.write_bytes(data)
    found = last_reading(path)
    assert found is None or len(found) == 2


# -- plain lines -----------------------------------------------------------------------------------------------


@contextmanager
def view(live: bool = False, stdin: Any = None, **more: Any) -> Iterator[tuple[BoardView, io.StringIO]]:
    said = io.StringIO()
    size: dict[str, Any] = {"width": 160, "height": 30, "_environ": {"TERM": "xterm"}}
    console = Console(file=said, force_terminal=live, color_system=None, emoji=False, markup=False, **size)
    with BoardView(SLOTS, 2, console=console, stdin=stdin, **more) as shown:
        yield shown, said


def test_where_there_is_no_terminal_a_line_an_event_worth_telling() -> None:
    with view() as (shown, said):
        for event in (
            began("1"), phase("backup"), phase_over("backup"), phase_over("plan", None), ended("1", PASS), began("2"),
            ended("2", FAIL, supply_off_confirmed=False),
            events.Noted(text="quiet"), events.Noted(level="warning", text="look: [x]"),
            events.UnitRefused(unit="3", rule="duplicate", sentence="it was scanned already"),
            events.SlotOut(slot="B", why="bad"), events.LineStopped(rule="streak", why="two in a row"),
            asked(text="Ready?", choices=["yes"]), events.Answered(prompt="p1", answer="no", by="headless"),
            events.Noted(level="warning", text="weak", unit="1", slot="A"),
            began("1", attempt=2, task="burn-in"), ended("1", PASS, attempt=2),
            began("G", task="verify", role="golden"), ended("G", PASS),
        ):  # fmt: skip
            shown.event(event)
        shown.progress("A", "1", "read", 1, 2)
    assert said.getvalue().splitlines() == [
        "  slot A unit 1: backup pass 1.2 s",
        "1/2 unit 1 in slot A: pass in 2.0 s",
        "2/2 unit 2 in slot A: fail in 2.0 s [no-link] nobody answers",
        "  WARNING: the output of slot A could not be read back off",
        "  note: look: [x]",
        "  unit 3 refused: it was scanned already",
        "  slot B is out of use: bad",
        "THE LINE STOPPED: two in a row",
        "Ready? (yes)",
        "  Nobody is here to answer: no",
        "  slot A unit 1: note: weak",
        "2/2 unit 1 in slot A, burn-in, attempt 2: pass in 2.0 s",
        "2/2 golden unit G in slot A: pass in 2.0 s",
    ]


def test_a_live_table_is_drawn_and_results_scroll_by_above_it() -> None:
    with view(live=True) as (shown, said):
        shown.event(began("1"))
        shown.event(phase("flash"))
        wait_until(lambda: "flash" in said.getvalue(), 60, "the table drawn")
        shown.event(phase_over("flash"))
        shown.event(ended("1", PASS))
    assert "1/2 unit 1 in slot A: pass in 2.0 s" in said.getvalue()
    assert "slot A unit 1: flash" not in said.getvalue()
    (row,) = [line for line in said.getvalue().splitlines()[-5:] if line.startswith("A ")]
    assert "PASS" in row  # as it stays


def test_a_resumed_run_counts_what_it_had(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    resumed = events.RunResumed(run=run.id, command="", station="")
    with Journal(run.journal) as journal:
        for event in (began("1"), ended("1", PASS), resumed):
            journal.append(event)
    with view(run=run) as (shown, said):
        for event in (resumed, began("2"), ended("2", PASS)):
            shown.event(event)
    assert said.getvalue().startswith("2/2 unit 2")


# -- what is typed ---------------------------------------------------------------------------------------------


@contextmanager
def typing(live: bool = False) -> Iterator[tuple[BoardView, io.StringIO, Callable[[str], int]]]:
    """A view whose stdin is a terminal of its own."""
    master, slave = os.openpty()
    try:
        with os.fdopen(slave) as stdin, view(live=live, stdin=stdin) as (shown, said):
            yield shown, said, lambda text: os.write(master, text.encode())
    finally:
        os.close(master)


@pytest.mark.parametrize("live", [False, True])
def test_lines_go_to_the_station_and_what_it_refuses_is_shown(live: bool) -> None:
    got: list[dict[str, Any]] = []

    def do(command: dict[str, Any]) -> dict[str, Any]:
        got.append(command)
        if command["do"] == "abort":
            raise UsageProblem("nothing is at work")
        if command.get("text") == "SN9":
            shown.event(events.UnitRefused(unit="SN9", rule="not-in-batch", sentence="unit SN9 is in no batch"))
        said_of = {"SN9": "unit SN9 is in no batch", "SN8": "SN8 is no serial"}
        error = said_of.get(command.get("text", ""))
        return {"error": error} if error else {"ok": True}

    with typing(live) as (shown, said, type_):
        shown.listen(do)
        type_("SN1\nB SN2\n")
        wait_until(lambda: len(got) == 2, 60, "two scans")
        type_("SN9\n/abort\n")
        wait_until(lambda: "nothing is at work" in said.getvalue(), 60, "the refusal")
        assert said.getvalue().count("unit SN9 is in no batch") == 1  # the event has said it
        type_("SN8\n")
        wait_until(lambda: "SN8 is no serial" in said.getvalue(), 60, "a refusal without an event")
        type_("/what\n")
        wait_until(lambda: "/release [SLOT]" in said.getvalue(), 60, "help")
    assert got[0] == {"do": "scan", "slot": None, "text": "SN1", "who": None, "by": "terminal"}
    assert got[1] == {"do": "scan", "slot": "B", "text": "SN2", "who": None, "by": "terminal"}
    assert len(got) == 5


def test_a_question_on_record_is_answered_by_its_name() -> None:
    got: list[dict[str, Any]] = []
    over = threading.Event()

    def do(command: dict[str, Any]) -> dict[str, Any]:
        got.append(command)
        if command["do"] == "answer":
            shown.event(events.Answered(prompt="p1", answer="done", by="terminal"))
            over.set()
        return {"ok": True}

    with typing() as (shown, said, type_):
        shown.listen(do)
        shown.event(asked())
        waiting = threading.Thread(target=shown.ask, args=("Put the board in A", over))
        waiting.start()
        wait_until(lambda: shown._asked, 60, "the question")  # what is over by then would be asked once more
        type_("\nSN7\n")  # a scanner is quicker than the one who asked looks
        waiting.join(60)
        assert not waiting.is_alive()
        wait_until(lambda: len(got) == 2, 60, "the line behind the answer")
    assert got[0] == {"do": "answer", "prompt": "p1", "answer": "done", "who": None, "by": "terminal"}
    assert (got[1]["do"], got[1]["text"]) == ("scan", "SN7")
    assert said.getvalue().count("Put the board in A") == 1


def test_a_question_without_a_station_is_answered_by_its_line() -> None:
    with typing() as (shown, said, type_):
        type_("yes\n")
        assert shown.ask("Ready?", threading.Event()) == "yes"
        over = threading.Event()
        threading.Timer(0.2, over.set).start()
        assert shown.ask("Ready?", over) is None  # answered elsewhere, or the run was stopped
    assert said.getvalue().count("Ready?") == 2


def test_nobody_at_the_terminal_is_said_at_once() -> None:
    with open(os.devnull) as nothing, view(stdin=nothing) as (shown, _):
        before = time.monotonic()
        with pytest.raises(UsageProblem, match="nobody is at the terminal"):
            shown.ask("Ready?", threading.Event())
        assert time.monotonic() - before < 30


def test_a_terminal_is_left_as_it_was_and_lines_can_be_mended() -> None:
    import termios

    master, slave = os.openpty()
    got: list[str] = []
    before = termios.tcgetattr(slave)
    keyboard = Keyboard(slave, got.append, lambda: None, hidden=True)
    try:
        assert not termios.tcgetattr(slave)[3] & termios.ECHO
        assert termios.tcgetattr(slave)[3] & termios.ISIG  # Ctrl-C stays what it is
        os.write(master, "SNx\x7f1é\x1b[A\r\x15junk\x15SN2".encode())
        wait_until(lambda: keyboard.text == "SN2", 60, "what was typed")
        assert got == ["SN1é"]
    finally:
        keyboard.close()
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
    assert descriptor(None) is None


QUESTIONS = [
    asked("p1", "load", "A", unit="SN1"),
    asked("p2", "approve", None, choices=["yes", "no"]),
    asked("p3", "scan", "B"),
]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("", {"do": "answer", "prompt": "p1", "answer": "done"}),
        ("sn1", {"do": "answer", "prompt": "p1", "answer": "done"}),
        ("Y", {"do": "answer", "prompt": "p2", "answer": "yes"}),
        ("no", {"do": "answer", "prompt": "p2", "answer": "no"}),
        ("SN2", {"do": "scan", "slot": "B", "text": "SN2"}),
        ("A SN2", {"do": "scan", "slot": "A", "text": "SN2"}),
        ("A SN1", {"do": "answer", "prompt": "p1", "answer": "done"}),
        ("B", {"do": "scan", "slot": "B", "text": "B"}),
        ("/abort", {"do": "abort"}),
        ("/abort A", {"do": "abort", "slot": "A"}),
        ("/release B", {"do": "release", "slot": "B"}),
        ("/release", {"do": "release-line"}),
        ("/operator Ann Lee", {"do": "operator", "who": "Ann Lee"}),
        ("/rework SN1 new cap", {"do": "rework", "unit": "SN1", "what": "new cap"}),
        ("/retest SN1", {"do": "retest", "unit": "SN1"}),
    ],
)
def test_what_a_line_means(line: str, wanted: dict[str, Any]) -> None:
    found = command_for(line, ["A", "B"], QUESTIONS)
    assert found is not None
    assert {name: found[name] for name in wanted} == wanted
    assert found.get("who") in (None, wanted.get("who"))


def test_where_two_slots_wait_for_a_board_enter_alone_switches_neither_on() -> None:
    both = [asked("p1", "load", "A", unit="SN1"), asked("p2", "load", "B", unit="SN2")]
    with pytest.raises(UsageProblem, match="slots A, B wait"):
        command_for("", ["A", "B"], both)
    for line, prompt in (("B", "p2"), ("A done", "p1"), ("sn2", "p2")):
        found = command_for(line, ["A", "B"], both)
        assert found is not None
        assert (found["do"], found["prompt"]) == ("answer", prompt)


def test_an_enter_that_answers_nothing_does_nothing() -> None:
    assert command_for("", ["A"], QUESTIONS[1:]) is None


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=30))
def test_no_line_is_a_problem_but_an_unknown_command(line: str) -> None:
    try:
        found = command_for(line, ["A", "B"], QUESTIONS)
    except UsageProblem:
        assert line.strip().startswith("/")
    else:
        assert found is None or found["do"]


# -- for programs and for ears ---------------------------------------------------------------------------------


def test_each_event_is_a_line_of_json_and_a_reader_that_goes_away_stops_nothing() -> None:
    out = io.StringIO()
    printer = JsonEvents(out)
    event = events.Noted(text="zwei\nZeilen", details={"path": Path("x")})
    printer.event(event)
    printer.event(ended("1", PASS))
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["kind"], first["text"], first["details"]) == ("noted", "zwei\nZeilen", {"path": "x"})
    assert (second["outcome"], second["schema_version"]) == ("pass", events.SCHEMA)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        printer = JsonEvents(gone)
        printer.event(event)
        printer.event(event)


def test_sounds(tmp_path: Path) -> None:
    out = io.StringIO()
    sound = Sound(out)
    sound.event(began("1"))
    assert out.getvalue() == ""
    sound.event(ended("1", PASS))
    assert out.getvalue() == "\a"
    sound.event(ended("1", FAIL))
    wait_until(lambda: out.getvalue() == "\a\a\a", 60, "the second bell")

    heard = tmp_path / "heard"
    script = tmp_path / "say"
    script.write_text(f'#!/bin/sh\necho "$1 $2" >> {heard}\n')
    script.chmod(0o700)
    sound = Sound(out, command_of({"RIG_SOUND": f"'{script}' loud"}))
    sound.event(events.LineStopped(rule="streak", why="x"))
    wait_until(lambda: heard.exists() and heard.read_text() == "loud stopped\n", 60, "the command")
    Sound(out, ["/no/such/program"]).event(asked())
    assert out.getvalue() == "\a\a\a"
    with pytest.raises(UsageProblem, match="RIG_SOUND"):
        command_of({"RIG_SOUND": "'open"})
