"""The station: order, rules, prompts and orders of a batch, with units that are no boards (`tests.fake_unit`)."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from rig.bench.bench import read_bench
from rig.errors import Exit, UsageProblem
from rig.line import attempt
from rig.line.prompts import Prompts, Question
from rig.line.queue import Queue, Turn
from rig.line.resume import read_past
from rig.records import events
from rig.records.journal import JournalLost
from tests.station_bench import QuietLoader, StationBench, fake_units
from tests.waiting import until, wait_until


@pytest.fixture(autouse=True)
def _fake_units(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_units(monkeypatch)


def balanced(bench: StationBench, units: int) -> dict[str, int]:
    """The counters of the run's end, which add up to its units."""
    counters: dict[str, int] = bench.live["counters"]
    assert bench.live["state"] == "ended"
    assert sum(counters.values()) == units
    assert bench.live["units_total"] == (None if bench.of(events.RunStarted)[0].job["units"] == [] else units)
    return {name: count for name, count in counters.items() if count}


# -- units and slots -----------------------------------------------------------------------------------------


def test_first_boards_are_in_their_slots_and_later_ones_are_loaded(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, 2)
    assert bench.start(bench.job("1", "2", "3", "4")).end() is Exit.GOOD
    assert set(bench.order()[:2]) == {"A:1", "B:2"}
    loads = bench.changes.read_text().split("\n")
    assert sorted(line.split()[1] for line in loads if line) == ["3", "4"]
    begun = [event.unit for event in bench.of(events.Noted) if "load" in event.details]
    assert sorted(begun) == ["3", "4"]  # while it is changed nobody knows which board is in a slot
    for prompted in bench.of(events.Prompted):
        (answered,) = bench.of(events.Answered, prompt=prompted.prompt)
        assert (prompted.what, answered.by) == ("load", "command")
    assert balanced(bench, 4) == {"pass": 4}
    started = bench.of(events.RunStarted)[0]
    assert started.job["units"] == ["1", "2", "3", "4"]
    assert "product ds-121" in started.profiles
    assert not Path(bench.live["control"]).parent.exists()


def test_a_slot_that_blocks_is_out_and_its_unit_is_not_lost(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, 2)
    bench.behave(**{"1": ["blocked no-current"], "2": ["held"]})
    with bench.start(bench.job("1", "2", "3")) as run:
        assert bench.wait(events.SlotOut).slot == "A"
        wait_until(lambda: bench.live["slots"]["A"]["state"] == "out", 60, "the page saying so")
        bench.go("2")
        assert run.end() is Exit.BLOCKED
    assert bench.order()[-1] == "B:3"
    assert balanced(bench, 3) == {"pass": 2, "blocked": 1}


def test_a_slot_is_out_after_so_many_and_goes_on_when_released(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["blocked no-current"], "2": ["blocked no-current"]})
    with bench.start(bench.job("1", "2", "3", rules={"quarantine": {"blocked_in_a_row": 2}})) as run:
        assert "2 units in a row" in bench.wait(events.SlotOut).why
        prompt = bench.wait(events.Prompted, what="continue")
        bench.tell("release", slot="A", who="Ann")
        assert run.end() is Exit.BLOCKED
    assert bench.of(events.SlotBack)[0].who == "Ann"
    assert bench.of(events.Answered, prompt=prompt.prompt)[0].by == "command"
    assert balanced(bench, 3) == {"pass": 1, "blocked": 2}


def test_where_nobody_is_there_the_run_ends_with_what_was_never_begun(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["blocked no-current"]})
    assert bench.start(bench.job("1", "2", "3"), attended=False).end() is Exit.BLOCKED
    assert any("2 unit(s) were not started" in note.text for note in bench.of(events.Noted))
    assert bench.of(events.Answered)[-1].by == "headless"
    assert balanced(bench, 3) == {"blocked": 1, "remaining": 2}


def test_a_full_disk_stops_the_line_and_puts_no_slot_out(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, 2)
    bench.behave(**{"1": ["blocked disk-full"], "2": ["held"]})
    with bench.start(bench.job("1", "2", "3", "4")) as run:
        assert bench.wait(events.LineStopped).rule == "disk-full"
        bench.go("2")
        prompt = bench.wait(events.Prompted, what="continue")
        bench.tell("answer", prompt=prompt.prompt, answer="go on")
        assert run.end() is Exit.BLOCKED
    assert bench.of(events.SlotOut) == []
    assert {unit for unit, *_ in bench.outcomes()} == {"1", "2", "3", "4"}
    assert balanced(bench, 4) == {"blocked": 1, "pass": 3}


def test_a_unit_whose_board_cannot_be_loaded_goes_back_to_the_others(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, 2)
    bench.path.write_text(bench.path.read_text().replace("echo", "exit 3; echo", 1))  # the first slot's
    bench.bench = read_bench(bench.path)
    bench.behave(**{"2": ["held"]})
    with bench.start(bench.job("1", "2", "3")) as run:
        assert "change command" in bench.wait(events.SlotOut).why
        bench.go("2")
        assert run.end() is Exit.GOOD
    assert bench.order()[-1] == "B:3"
    assert balanced(bench, 3) == {"pass": 3}


def test_the_current_of_a_supply_is_shared(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, 2, amps=0.9)  # a board may draw 0.6 A
    bench.behave(**{"1": ["held"], "2": ["held"]})
    with bench.start(bench.job("1", "2")) as run:
        first = bench.wait(events.UnitStarted).unit
        assert len(bench.of(events.UnitStarted)) == 1
        bench.go(first)
        bench.wait(events.UnitEnded, unit=first)
        bench.go("2" if first == "1" else "1")
        assert run.end() is Exit.GOOD
    kinds = [event.kind for event in bench.found if event.kind in ("unit-started", "unit-ended")]
    assert kinds == ["unit-started", "unit-ended"] * 2


def test_golden_and_parked_boards_have_their_share_of_it_too(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, 2, amps=0.9)
    rules = {"golden": {"serial": "G"}, "park_image": str(tmp_path / "park.bin"), "sampling": {"every": 1}}
    assert bench.start(bench.job("1", "2", "3", rules=rules)).end() is Exit.GOOD
    kinds = [event.kind for event in bench.found if event.kind in ("unit-started", "unit-ended")]
    assert kinds == ["unit-started", "unit-ended"] * (len(kinds) // 2)
    assert {(one.role, one.task) for one in bench.of(events.UnitStarted)} == {
        ("golden", "verify"), ("unit", "convert"), ("unit", "burn-in"), ("golden", "convert"),
    }  # fmt: skip


def test_a_supply_that_gives_less_than_one_board_may_draw_is_refused(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, 1, amps=0.1)
    with pytest.raises(UsageProblem, match="amps"):
        bench.start(bench.job("1")).end()
    assert not bench.run.journal.exists()


# -- attempts ------------------------------------------------------------------------------------------------


def test_a_unit_is_tried_again_and_every_attempt_is_kept(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["fail verify-failed", "fail verify-failed", "pass"], "2": ["fail short"]})
    rules = {"retry": {"attempts": 3, "codes": ["verify-failed"]}}
    assert bench.start(bench.job("1", "2", rules=rules)).end() is Exit.FAILED
    assert [row[1:] for row in bench.outcomes()] == [
        (1, "fail", "verify-failed"),
        (2, "fail", "verify-failed"),
        (3, "pass", None),
        (1, "fail", "short"),
    ]
    assert all(bench.run.unit_dir("1", number).exists() for number in (1, 2, 3))
    assert balanced(bench, 2) == {"pass": 1, "fail": 1}


def test_a_step_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "GRACE_S", 0.5)
    bench = StationBench(tmp_path, 2)
    bench.behave(**{"1": ["hang"], "2": ["deaf"]})
    assert bench.start(bench.job("1", "2")).end() is Exit.BLOCKED
    for unit in ("1", "2"):
        ended = bench.of(events.UnitEnded, unit=unit)[-1]
        assert (ended.outcome, ended.code) == (events.Outcome.BLOCKED, "step-timeout")
        assert "the step work" in ended.sentence
        assert ended.supply_off_confirmed
        assert (tmp_path / f"{unit}.off").exists()  # it was told in a way that no hanging step keeps from it
    assert balanced(bench, 2) == {"blocked": 2}


def test_units_that_die_or_say_nothing_get_their_end(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["die"], "2": ["die-writing"], "3": ["silent"]})
    job = bench.job("1", "2", "3", rules={"quarantine": {"blocked_in_a_row": 5}})
    assert bench.start(job).end() is Exit.FAILED
    assert bench.outcomes() == [
        ("1", 1, "blocked", "crashed"),
        ("2", 1, "unverified", "half-written"),
        ("3", 1, "blocked", "crashed"),
    ]
    assert balanced(bench, 3) == {"blocked": 2, "unverified": 1}


def test_one_unit_is_aborted_and_the_slot_goes_on(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["held"]})
    with bench.start(bench.job("1", "2")) as run:
        bench.wait(events.PhaseStarted, unit="1")
        bench.tell("abort", slot="A")
        assert run.end() is Exit.ABORTED
    assert bench.outcomes() == [("1", 1, "aborted", None), ("2", 1, "pass", None)]


def test_the_word_of_a_person_counts_more_than_a_limit(tmp_path: Path) -> None:
    """Aborted while it is being ended because a step took too long: the slot is not to blame and stays in use."""
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["deaf"]})
    with bench.start(bench.job("1", "2")) as run:
        wait_until(lambda: (tmp_path / "1.off").exists(), 60, "the limit")
        bench.tell("abort", slot="A")
        bench.go("1")
        assert run.end() is Exit.ABORTED
    assert [row[2] for row in bench.outcomes()] == ["aborted", "pass"]
    assert not bench.of(events.SlotOut)


def test_a_stage_that_cannot_be_begun_leaves_no_unit_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = StationBench(tmp_path)
    real = attempt.Attempt._start

    def start(self: attempt.Attempt, *more: Any) -> Any:
        if self.stage.task == "convert":
            raise OSError("no more processes")
        return real(self, *more)

    monkeypatch.setattr(attempt.Attempt, "_start", start)
    assert bench.start(bench.job("1", tasks=("recover", "convert")), attended=False).end() is Exit.BLOCKED
    assert bench.outcomes()[-1][2:] == ("blocked", "crashed")
    assert "no more processes" in bench.of(events.UnitEnded)[-1].sentence
    assert balanced(bench, 1) == {"blocked": 1}


def test_a_stop_ends_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "GRACE_S", 0.5)
    bench = StationBench(tmp_path, 2)
    bench.behave(**{"1": ["held"], "2": ["deaf"]})
    with bench.start(bench.job("1", "2", "3")) as run:
        wait_until(lambda: len(bench.of(events.PhaseStarted)) == 2, 60, "both at work")
        bench.tell("abort")
        assert run.end() is Exit.ABORTED
    assert {row[2] for row in bench.outcomes()} == {"aborted"}
    assert balanced(bench, 3) == {"aborted": 2, "remaining": 1}


def test_a_recovered_unit_is_converted_in_the_next_attempt(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"2": ["fail no-link"]})
    assert bench.start(bench.job("1", "2", tasks=("recover", "convert"))).end() is Exit.FAILED
    begun = [(one.unit, one.attempt, one.task) for one in bench.of(events.UnitStarted)]
    assert begun == [("1", 1, "recover"), ("1", 2, "convert"), ("2", 1, "recover")]
    assert balanced(bench, 2) == {"pass": 1, "fail": 1}


def test_a_sample_gets_a_burn_in_and_is_what_that_says(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"3": ["pass", "fail not-complete"]})
    job = bench.job("1", "2", "3", rules={"sampling": {"every": 2, "reboots": 3}})
    assert bench.start(job).end() is Exit.FAILED
    begun = [(one.unit, one.task) for one in bench.of(events.UnitStarted)]
    assert begun == [("1", "convert"), ("1", "burn-in"), ("2", "convert"), ("3", "convert"), ("3", "burn-in")]
    assert balanced(bench, 3) == {"pass": 2, "fail": 1}


def test_what_is_asked_of_a_units_process(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from rig.bench.product import Limits
    from rig.line.attempt import Attempt
    from rig.line.job import Stage

    bench = StationBench(tmp_path)
    job = bench.job("1", suite=tmp_path / "mine", limits={"steady_current": Limits(maximum=0.1)})
    ground: Any = SimpleNamespace(
        job=job, bench=bench.bench, folder=bench.run, address=tmp_path / "e", locks={"A": 3}, operator=lambda: "Ann",
        books=SimpleNamespace(known_as=lambda unit: ["uid-1", "uid-2"]),
    )  # fmt: skip
    slot: Any = SimpleNamespace(name="A")

    def words(task: events.Task, **more: Any) -> str:
        return " ".join(Attempt(ground, slot, "1", 1, Stage(task), **more).command(4))

    assert "test_verify.py" in words("verify", role="golden")
    assert "--role golden" in words("verify", role="golden")
    assert "--operator=Ann" in words("verify")
    assert "--known-as=uid-1 --known-as=uid-2" in words("convert")
    assert "test_burn_in.py" in words("burn-in", reboots=7)
    assert "--reboots 7" in words("burn-in", reboots=7)
    assert "-p fixtures.plugins" in words("suite")
    assert f"--suite={tmp_path / 'mine'}" in words("suite")
    assert '"steady_current": {"maximum": 0.1}' in words("convert")


# -- the line ------------------------------------------------------------------------------------------------


def test_the_golden_unit_comes_first_and_again(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    job = bench.job("1", "2", "3", rules={"golden": {"serial": "G", "every": 2}})
    assert bench.start(job).end() is Exit.GOOD
    assert bench.order() == ["A:G", "A:1", "A:2", "A:G", "A:3"]
    golden = bench.of(events.UnitStarted, unit="G")
    assert [(one.attempt, one.role, one.task) for one in golden] == [(1, "golden", "verify"), (2, "golden", "verify")]
    assert "A G golden" in bench.changes.read_text()
    assert balanced(bench, 3) == {"pass": 3}


def test_a_golden_unit_that_is_not_good_stops_the_line(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, 2)
    bench.behave(G=["fail verify-failed"])
    job = bench.job("1", "2", rules={"golden": {"serial": "G"}})
    with bench.start(job) as run:
        assert bench.wait(events.LineStopped).rule == "golden"
        wait_until(lambda: bench.live["state"] == "stopped-line", 60, "the page saying so")
        with pytest.raises(UsageProblem, match="not out"):
            bench.tell("release", slot="A")
        bench.tell("release-line", who="Ann")
        assert run.end() is Exit.GOOD
    assert bench.of(events.LineReleased)[0].who == "Ann"
    assert balanced(bench, 2) == {"pass": 2}
    times = [(event.kind, event.unit) for event in bench.found if event.kind in ("unit-started", "unit-ended")]
    golden = [kind for kind, unit in times if unit == "G"]
    assert golden == ["unit-started", "unit-ended"] * 3  # one at a time


def test_a_streak_of_failures_stops_the_line(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["fail short"], "2": ["fail short"]})
    job = bench.job("1", "2", "3", "4", rules={"streak": {"failures_in_a_row": 2}})
    with bench.start(job) as run:
        assert bench.wait(events.LineStopped).rule == "streak"
        prompt = bench.wait(events.Prompted, what="continue")
        with pytest.raises(UsageProblem, match="go on, stop"):
            bench.tell("answer", prompt=prompt.prompt, answer="perhaps")
        bench.tell("answer", prompt=prompt.prompt, answer="stop", who="Ann", by="panel")
        assert run.end() is Exit.FAILED
    assert (answered := bench.of(events.Answered)[-1]).by == "panel"
    assert answered.who == "Ann"
    assert balanced(bench, 4) == {"fail": 2, "remaining": 2}


def test_a_board_that_is_put_in_while_the_line_is_stopped_waits(tmp_path: Path) -> None:
    """And where the line does not go on, nobody is asked for it any longer."""
    bench = StationBench(tmp_path, 2, by_hand=True)
    bench.behave(**{"1": ["held"], "2": ["fail short"]})
    with bench.start(bench.job("1", "2", "3", "4", rules={"streak": {"failures_in_a_row": 1}})) as run:
        bench.wait(events.LineStopped)
        bench.tell("release-line")
        bench.behave(**{"3": ["fail short"]})
        load = bench.wait(events.Prompted, what="load")
        bench.go("1")  # ends, and the other slot asks for a board too
        wait_until(lambda: len(bench.of(events.Prompted, what="load")) == 2, 60, "both slots waiting")
        bench.tell("answer", prompt=load.prompt, answer="done")
        wait_until(lambda: len(bench.of(events.LineStopped)) == 2, 60, "the line")
        other = bench.of(events.Prompted, what="load")[1]
        bench.tell("answer", prompt=other.prompt, answer="done")
        assert not until(lambda: bench.of(events.UnitStarted, unit=other.unit), 0.6)
        asked = bench.of(events.Prompted, what="continue")[-1]
        bench.tell("answer", prompt=asked.prompt, answer="stop")
        assert run.end() is Exit.FAILED
    assert not bench.of(events.UnitStarted, unit=other.unit)
    assert balanced(bench, 4) == {"pass": 1, "fail": 2, "remaining": 1}


def test_who_ends_a_batch_is_asked_for_no_further_board(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, by_hand=True)
    with bench.start(bench.job("1", "2")) as run:
        load = bench.wait(events.Prompted, what="load", unit="2")
        bench.tell("finish")
        assert run.end() is Exit.BLOCKED
    assert bench.of(events.Answered, prompt=load.prompt)[0].by == "stopped"
    assert balanced(bench, 2) == {"pass": 1, "remaining": 1}


def test_the_first_article_waits_for_approval(tmp_path: Path) -> None:
    """One unit at a time until one is good and a person says so; a failed one is no first article."""
    bench = StationBench(tmp_path, 2)
    bench.behave(**{"1": ["held"], "2": ["held"]})
    with bench.start(bench.job("1", "2", "3", rules={"first_article": True})) as run:
        first = bench.wait(events.PhaseStarted).unit
        assert not until(lambda: len(bench.of(events.UnitStarted)) > 1, 0.6)
        bench.go(first)
        prompt = bench.wait(events.Prompted, what="approve")
        assert prompt.unit == first
        assert not until(lambda: len(bench.of(events.UnitStarted)) > 1, 0.6)
        bench.tell("answer", prompt=prompt.prompt, answer="yes", who="Ann")
        for unit in ("1", "2"):
            bench.go(unit)
        assert run.end() is Exit.GOOD
    assert bench.of(events.LineStopped)[0].rule == "first-article"
    assert bench.of(events.LineReleased)[0].who == "Ann"
    assert balanced(bench, 3) == {"pass": 3}


def test_a_first_article_that_nobody_can_approve_ends_the_run(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    job = bench.job("1", "2", rules={"first_article": True})
    assert bench.start(job, attended=False).end() is Exit.BLOCKED
    assert balanced(bench, 2) == {"pass": 1, "remaining": 1}


def test_a_label_is_made_for_each_unit_that_passed(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    template = tmp_path / "label.txt"
    template.write_text("{unit} {mac} {batch}\n")
    bench.behave(**{"2": ["fail short"]})
    rules = {"label": {"template": str(template), "command": ["/bin/sh", "-c", "exit 4", "{file}"]}}
    assert bench.start(bench.job("1", "2", batch="w48", rules=rules)).end() is Exit.FAILED
    (label,) = bench.of(events.Labelled)
    assert (label.unit, label.printed) == ("1", False)
    assert "exit code 4" in label.said
    assert (bench.run.path / label.path).read_text() == "1 c8:47:8c:00:00:18 w48\n"


def test_the_park_image_goes_onto_the_board_that_is_left(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"2": ["pass", "fail verify-failed"]})
    job = bench.job("1", "2", rules={"park_image": str(tmp_path / "park.bin")})
    assert bench.start(job).end() is Exit.GOOD
    parked = bench.of(events.UnitStarted, role="golden")
    assert [(one.unit, one.attempt, one.task) for one in parked] == [("2", 2, "convert")]
    assert any("park image is not on" in note.text for note in bench.of(events.Noted))
    assert balanced(bench, 2) == {"pass": 2}


def test_a_golden_unit_that_is_left_in_its_slot_is_not_written_to(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(G=["fail verify-failed"])
    rules = {"golden": {"serial": "G"}, "park_image": str(tmp_path / "park.bin")}
    assert bench.start(bench.job("1", rules=rules), attended=False).end() is Exit.BLOCKED
    assert [(one.unit, one.task) for one in bench.of(events.UnitStarted)] == [("G", "verify")]


def test_the_board_of_an_aborted_unit_is_parked_too(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["held"]})
    with bench.start(bench.job("1", rules={"park_image": str(tmp_path / "park.bin")})) as run:
        bench.wait(events.PhaseStarted, unit="1")
        bench.tell("abort", slot="A")
        assert run.end() is Exit.ABORTED
    assert [row[1:3] for row in bench.outcomes()] == [(1, "aborted"), (2, "pass")]


# -- people --------------------------------------------------------------------------------------------------


def test_units_that_are_scanned(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, 2)
    bench.behave(SN1=["held"])
    with bench.start(bench.job("SN1", "SN2", scanned=True)) as run:
        bench.wait(events.RunStarted)
        wait_until(lambda: bench.live.get("control"), 60, "the control socket")
        with pytest.raises(UsageProblem, match="not in this batch"):
            bench.tell("scan", slot="A", text="SN9", who="Ann")
        wait_until(lambda: bench.live["slots"]["A"]["state"] == "waiting-scan", 60, "the slot waiting")
        assert bench.tell("scan", slot="A", text="SN1")["slot"] == "A"
        bench.wait(events.PhaseStarted, unit="SN1")
        with pytest.raises(UsageProblem, match="being worked on"):
            bench.tell("scan", slot="B", text="SN1")
        with pytest.raises(UsageProblem, match="at work on SN1"):
            bench.tell("scan", slot="A", text="SN2")
        assert bench.tell("scan", slot=None, text="SN2")["slot"] == "B"
        bench.wait(events.UnitEnded, unit="SN2")
        wait_until(lambda: bench.live["slots"]["B"]["state"] == "latched", 60, "the slot being free")
        with pytest.raises(UsageProblem, match="already"):
            bench.tell("scan", slot="B", text="SN2")
        with pytest.raises(UsageProblem, match="already"):
            bench.tell("scan", slot=None, text="SN2")
        assert bench.live["slots"]["B"]["outcome"] == "pass"  # latched
        bench.tell("rework", unit="SN2", what="reflowed U1", who="Ann")
        bench.tell("retest", unit="SN2")
        bench.tell("scan", slot="B", text="SN2")
        bench.go("SN1")
        assert run.end() is Exit.GOOD
    rules = [event.rule for event in bench.of(events.UnitRefused)]
    assert rules == ["not-in-batch", "in-work", "duplicate", "duplicate"]
    assert bench.of(events.UnitRefused)[0].who == "Ann"
    assert [row[:2] for row in bench.outcomes() if row[0] == "SN2"] == [("SN2", 1), ("SN2", 2)]
    assert balanced(bench, 2) == {"pass": 2}


def test_an_open_batch_takes_what_fits_until_it_is_finished(tmp_path: Path) -> None:
    from rig.bench.product import SerialRule

    bench = StationBench(tmp_path)
    job = bench.job(scanned=True, serials=SerialRule(regex="SN[0-9]+"))
    with bench.start(job) as run:
        wait_until(lambda: bench.live.get("control"), 60, "the control socket")
        with pytest.raises(UsageProblem, match="no serial number"):
            bench.tell("scan", slot="A", text="X")
        wait_until(lambda: bench.tell("state")["state"]["slots"]["A"]["state"] == "waiting-scan", 60, "waiting")
        bench.tell("scan", slot="A", text="SN7")
        bench.wait(events.UnitEnded, unit="SN7")
        bench.tell("finish")
        assert run.end() is Exit.GOOD
    assert balanced(bench, 1) == {"pass": 1}


def test_a_board_is_asked_for_and_the_scan_must_be_its(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, by_hand=True)
    with bench.start(bench.job("SN1", "SN2", "SN3")) as run:
        prompt = bench.wait(events.Prompted, what="load", unit="SN2")
        assert "Unplugged from the mains" in prompt.text
        wait_until(lambda: bench.live["prompts"], 60, "the page")
        assert bench.live["slots"]["A"]["state"] == "loading"
        with pytest.raises(UsageProblem, match="waits for unit SN2"):
            bench.tell("scan", slot=None, text="SN3")
        with pytest.raises(UsageProblem, match="waits for unit SN2"):
            bench.tell("answer", prompt=prompt.prompt, answer="SN3")
        assert not bench.of(events.UnitStarted, unit="SN2")
        bench.tell("scan", slot=None, text="SN2", by="panel")
        second = bench.wait(events.Prompted, what="load", unit="SN3")
        bench.tell("answer", prompt=second.prompt, answer="done", who="Ann", by="panel")
        assert run.end() is Exit.GOOD
    assert bench.of(events.UnitRefused)[0].rule == "mismatch"


def test_a_prompt_is_answered_at_the_terminal_too(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, by_hand=True)
    said: list[str] = []

    def ask(text: str, over: Any) -> str:
        said.append(text)
        return ""

    assert bench.start(bench.job("1", "2"), ask=ask).end() is Exit.GOOD
    assert said == ["Slot A is off. Put the board of unit 2 in, then press Enter. " + said[0].partition("Enter. ")[2]]
    assert bench.of(events.Answered)[0].by == "terminal"


def test_no_unit_begins_before_an_operator_is_known(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    rules = {"operator": "required"}
    with bench.start(bench.job("1", "2", rules=rules)) as run:
        prompt = bench.wait(events.Prompted, what="scan")
        wait_until(lambda: bench.live.get("state") == "waiting", 60, "the page")
        assert not bench.of(events.UnitStarted)
        with pytest.raises(UsageProblem, match="not empty"):
            bench.tell("operator", who=" ")
        bench.tell("operator", who="Ann", by="panel")
        assert run.end() is Exit.GOOD
    assert bench.of(events.Answered, prompt=prompt.prompt)[0].who == "Ann"
    assert {one.operator for one in bench.of(events.UnitStarted)} == {"Ann"}
    other = StationBench(tmp_path / "other") if (tmp_path / "other").mkdir() is None else bench
    with pytest.raises(UsageProblem, match="--operator"):
        other.start(other.job("1", rules=rules), attended=False).end()


def test_a_unit_that_is_over_is_tested_again_after_rework(tmp_path: Path) -> None:
    bench = StationBench(tmp_path, 2)
    bench.behave(**{"1": ["fail short", "pass"], "2": ["held"]})
    with bench.start(bench.job("1", "2")) as run:
        bench.wait(events.UnitEnded, unit="1")
        wait_until(lambda: not bench.tell("state")["state"]["counters"]["remaining"], 60, "the end of 1")
        with pytest.raises(UsageProblem, match="at work"):
            bench.tell("retest", unit="2")
        with pytest.raises(UsageProblem, match="was not worked on"):
            bench.tell("rework", unit="9", what="x", who="Ann")
        wait_until(lambda: _retested(bench), 60, "the retest being taken")
        bench.wait(events.UnitEnded, unit="1", attempt=2)
        bench.go("2")
        assert run.end() is Exit.GOOD
    kinds = [event.kind for event in bench.found if getattr(event, "unit", None) == "1"]
    assert kinds.index("unit-ended") < kinds.index("reworked") < len(kinds) - kinds[::-1].index("unit-started")
    assert balanced(bench, 2) == {"pass": 2}


def _retested(bench: StationBench) -> bool:
    try:
        bench.tell("rework", unit="1", what="reflowed", who="Ann")
        bench.tell("retest", unit="1")
    except UsageProblem:
        return False
    return True


def test_the_control_socket_tells_mistakes_in_a_sentence(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["held"]})
    with bench.start(bench.job("1")) as run:
        bench.wait(events.PhaseStarted)
        for command, says in (
            ({"do": "scann"}, "did you mean 'scan'"),
            ({"do": "abort", "slot": "Z"}, "no slot 'Z'"),
            ({"do": "answer", "prompt": "p9", "answer": "yes"}, "no open question"),
            ({"do": "scan", "slot": "A", "text": "x\n\x00y"}, "printable"),
            ({"do": "scan", "slot": "A", "text": "1"}, "list"),
            ({"do": "release-line"}, "not stopped"),
        ):
            with pytest.raises(UsageProblem, match=says):
                bench.tell(**command)  # type: ignore[arg-type]
        wait_until(lambda: bench.tell("state")["state"]["slots"]["A"]["phase"] == "work", 60, "its step")
        assert (bench.run.path / "live.json").stat().st_mode & 0o777 == 0o600
        bench.go("1")
        assert run.end() is Exit.GOOD


def test_one_number_is_in_one_slot_however_quick_two_people_are() -> None:
    queue = Queue([], "AB", threading.Event(), scanned=True, open_end=True)
    queue._asking |= {"A", "B"}
    assert queue.scan("A", "SN1") == "A"
    with pytest.raises(UsageProblem, match="SN1 is in slot A"):
        queue.scan("B", "SN1")
    with pytest.raises(UsageProblem, match="SN1 is in slot A"):
        queue.again("SN1")
    listed = Queue(["2"], "A", threading.Event())
    for _ in range(2):  # each time it is over
        listed.again("1")
        with pytest.raises(UsageProblem, match="already"):
            listed.again("1")
        assert (listed.next("A") or Turn("?")).unit == "1"
        listed.over("A")


def test_an_answer_that_cannot_be_put_on_record_leaves_nobody_waiting() -> None:
    def emit(event: events.Event) -> None:
        if isinstance(event, events.Answered):
            raise JournalLost("the disk is full")

    prompts, lost = Prompts(emit, threading.Event(), attended=True), list[BaseException]()

    def ask() -> None:
        with pytest.raises(JournalLost) as problem:
            prompts.ask(Question("load", "Put it in.", "A", "1"))
        lost.append(problem.value)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    wait_until(lambda: prompts.get("p1"), 60, "the question")
    with pytest.raises(JournalLost):
        prompts.answer("p1", "done", by="panel")
    asking.join(60)
    assert lost


def test_a_change_command_that_is_stopped_leaves_nothing_moving(tmp_path: Path) -> None:
    bench = StationBench(tmp_path)
    feeder = f"(trap '' TERM; echo $BASHPID > {tmp_path}/pid; exec sleep 600) & wait"
    bench.path.write_text(re.sub("^change = .*", f"change = {json.dumps(['/bin/bash', '-c', feeder])}",
                                 bench.path.read_text(), flags=re.MULTILINE))  # fmt: skip
    bench.bench = read_bench(bench.path)
    with bench.start(bench.job("1", "2")) as run:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), 60, "the feeder moving")
        run.station.stop()
        assert run.end() is Exit.ABORTED
    stat = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"
    wait_until(lambda: not stat.exists() or stat.read_text().split()[2] == "Z", 60, "its end")
    past = read_past(bench.found, bench.job("1", "2"), list(bench.bench.slots.values()))
    assert past.boards == {}  # the board of 1, that of 2, or none


def test_a_journal_that_is_lost_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the middle of a unit: nothing more is begun, all ends, and the sentence names the file."""
    import errno
    import os

    from rig.records import journal

    bench = StationBench(tmp_path, 2)
    bench.behave(**{"1": ["held"], "2": ["held"]})
    with bench.start(bench.job("1", "2", "3")) as run:
        wait_until(lambda: len(bench.of(events.PhaseStarted)) == 2, 60, "both at work")

        def full(fd: int, data: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(journal, "_write_all", full)
        bench.go("1")
        with pytest.raises(journal.JournalLost, match=r"journal\.jsonl can no longer be written: No space left"):
            run.end()
    assert len(bench.of(events.UnitStarted)) == 2
    monkeypatch.undo()
    fake_units(monkeypatch)
    bench.behave()
    assert bench.start(bench.job("1", "2", "3"), resume=True).end() is Exit.GOOD
    assert balanced(bench, 3) == {"pass": 3}


def test_an_output_that_is_not_off_keeps_the_board_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody changes a board under power: the slot is out, and its unit never begun."""
    monkeypatch.setattr(QuietLoader, "confirm_off", lambda self, slot: False)
    bench = StationBench(tmp_path)
    assert bench.start(bench.job("1", "2"), attended=False).end() is Exit.BLOCKED
    assert "read back off" in bench.of(events.SlotOut)[0].why
    assert not bench.changes.exists()
    assert balanced(bench, 2) == {"pass": 1, "remaining": 1}
