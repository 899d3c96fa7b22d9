"""What schema 3 changes in reports: golden units, resumed runs, rework, operators, the chain's head."""

from __future__ import annotations

import csv
import json
from datetime import date, timedelta
from pathlib import Path

from synthetic_journals import START, SyntheticRun

from reports import metrics, summary_lines, write_report
from reports.load import load
from reports.words import warnings
from rig.records.chain import head
from rig.records.events import (
    Instrument,
    LineStopped,
    Outcome,
    Reworked,
    RunEnded,
    RunResumed,
    SlotOut,
    UnitEnded,
    UnitRefused,
)
from rig.records.journal import Journal


def test_golden_units_count_in_nothing(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "with") as run:
        run.attempt("GOLD", "pass", seconds=99, role="golden", task="verify", firmware="x")
        run.attempt("SN1", "pass")
        run.attempt("SN2", "fail", code="no-link", stop_at="identify")
        golden = {"role": "golden", "task": "verify", "seconds": 99, "off": False}
        run.attempt("GOLD", "fail", code="no-link", stop_at="identify", **golden)
        run.attempt("SN3", "blocked", code="no-current", stop_at="power-on")
        run.end(1)
    records = load([tmp_path / "with"])
    found = metrics.yields(records)
    assert (found.boards, found.first_pass.good, found.first_pass.n, found.blocked_attempts) == (3, 1, 2, 1)
    assert metrics.cycle_times(records)["slowest"] == 30
    assert set(records.attempts["unit"]) == {"SN1", "SN2", "SN3"}
    assert set(records.phases["order"]) == {0, 1, 2} == {*records.numbers.all_of(range(3))["order"]} | {1, 2}
    assert list(metrics.pareto(records)["count"]) == [1]
    assert list(records.golden["outcome"]) == ["pass", "fail"]
    assert [each for each in warnings(records) if "Golden unit GOLD was fail on slot A" in each]
    assert [each for each in warnings(records) if "Unit GOLD: the supply was not confirmed off" in each]
    page = write_report([tmp_path / "with"], tmp_path / "out").read_text()
    assert "<h2>Golden unit</h2>" in page
    told = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [each["outcome"] for each in told["golden"]] == ["pass", "fail"]
    with (tmp_path / "out" / "units.csv").open() as file:
        assert [row["unit"] for row in csv.DictReader(file)] == ["SN1", "SN2", "SN3"]


def test_a_run_that_was_taken_up_again(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with SyntheticRun(path) as run:
        run.attempt("SN1", "pass", seconds=30)
        run.end(130)
        run.write(RunResumed, run="run", command="rig convert --resume", station="station-1", operator="Lee")
        run.attempt("SN2", "pass", seconds=30)
        row = load([path]).runs.iloc[0]
        assert (row["ended"], row["exit_code"], row["resumed"]) == (None, None, 1)
        run.write(RunEnded, run="run", exit_code=0, duration_s=31.0)
    row = load([path]).runs.iloc[0]
    assert (row["exit_code"], row["duration_s"], row["resumed"]) == (0, 61.0, 1)
    assert not any("no end on record" in each for each in warnings(load([path])))
    assert metrics.yields(load([path])).first_pass.n == 2


def test_units_that_a_crash_left_open_have_the_end_that_the_resumed_run_gave(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        who = run.begin("SN1")
        run.now += 5
        run.boot_id = "boot-2"
        run.write(UnitEnded, **who, outcome=Outcome.UNVERIFIED, code="half-written", duration_s=0.0)
        run.write(RunResumed, run="run", command="rig convert --resume", station="station-1")
        run.attempt("SN1", "pass")
        run.end()
    records = load([tmp_path / "run"])
    assert list(records.attempts["outcome"]) == ["unverified", "pass"]
    assert (metrics.yields(records).passed_retest, metrics.yields(records).unverified) == (1, 0)


def test_rework_on_record_after_a_run_makes_the_next_one_a_retest_of_a_reworked_board(tmp_path: Path) -> None:
    told = {"identity": "uid-77", "code": "no-link", "stop_at": "boot"}
    with SyntheticRun(tmp_path / "r1") as run:
        run.attempt("SN1", "fail", **told)
        run.attempt("SN2", "fail", **told | {"identity": "uid-78"})
        run.end(1)
    with SyntheticRun(tmp_path / "r2", start=START + timedelta(days=1)) as run:
        run.attempt("SN1", "pass", identity="uid-77")
        run.attempt("SN2", "pass", identity="uid-78")
        run.end()
    assert metrics.yields(load([tmp_path])).no_fault_found.good == 2
    with Journal(tmp_path / "r1" / "journal.jsonl") as journal:
        rework = {"what": "resoldered", "who": "Kim"}
        journal.append(Reworked(unit="SN1", utc=START + timedelta(hours=2), **rework))
        journal.append(Reworked(unit="SN2", utc=START + timedelta(days=3), **rework))  # only after it had passed
    records = load([tmp_path])
    assert list(records.attempts["reworked"]) == [False, False, True, False]
    assert metrics.yields(records).no_fault_found.good == 1


def test_the_page_names_station_operator_instruments_and_the_chains_head(tmp_path: Path) -> None:
    instrument = Instrument(name="psu1", identity="RIGOL DP832", cal_due=date(2027, 5, 1))
    with SyntheticRun(tmp_path / "run", station="station-7", operator="Kim", instruments=[instrument]) as run:
        run.attempt("SN1", "pass")
        run.write(UnitRefused, unit="SN9", rule="already-passed", sentence="SN9 passed in run r0")
        run.write(SlotOut, slot="B", why="blocked 2 times in a row")
        run.write(LineStopped, rule="streak", why="3 failures in a row")
        run.end()
    page = write_report([tmp_path / "run"], tmp_path / "out").read_text()
    found = head(tmp_path / "run" / "journal.jsonl")
    assert f"<dt>Chain head</dt><dd><code>{found}</code></dd>" in page
    for told in ("station-7", "Kim", "psu1: RIGOL DP832, calibrated until 2027-05-01", "Refused (already-passed)",
                 "Slot B is out of use: blocked 2 times in a row", "The line stopped (streak)"):  # fmt: skip
        assert told in page
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["runs"][0]["chain_head"], summary["runs"][0]["operator"]) == (found, "Kim")
    assert summary_lines([tmp_path / "run"])
