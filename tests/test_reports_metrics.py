"""Every metric against figures worked out by hand, over made-up journals."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import pytest
from synthetic_journals import START, SyntheticRun

from reports import metrics
from reports.load import load
from reports.metrics import Rate, percent
from reports.words import warnings
from rig.errors import UsageProblem
from rig.records.events import Outcome, Reworked, UnitEnded, WriteBegun


def mixed(path: Path) -> None:
    """Seven boards are counted; what each came to is in the comments."""
    with SyntheticRun(path) as run:
        run.attempt("SN1", "pass", seconds=30)  # first time
        run.attempt("SN2", "fail", seconds=10, code="no-link", stop_at="identify")
        run.attempt("SN2", "pass", seconds=30)  # on a retest, nothing was done to it
        run.attempt("SN3", "blocked", seconds=5, code="no-current", stop_at="power-on")
        run.attempt("SN3", "pass", seconds=30)  # first counted attempt
        run.attempt("SN4", "fail", seconds=20, code="verify-failed", stop_at="write")
        run.write(Reworked, unit="SN4", what="P24 resoldered", who="Kim")
        run.attempt("SN4", "pass", seconds=40)  # on a retest after rework
        run.attempt("SN5", "aborted", seconds=5, stop_at="backup")  # never counted
        run.attempt("SN6", "unverified", seconds=15, code="half-written", stop_at="write")
        run.attempt("SN7", "marginal", seconds=30)  # first time, in the warning band
        run.attempt("SN8", "fail", seconds=10, code="no-link", stop_at="identify")
        run.attempt("SN8", "fail", seconds=35, code="log-silent", stop_at="boot")
        run.attempt("SN9", "blocked", seconds=5, code="no-current", stop_at="power-on")  # never counted
        run.attempt("SN9", "blocked", seconds=5, code="port-lost", stop_at="identify")
        run.end(1)


@pytest.fixture
def records(tmp_path: Path):
    mixed(tmp_path / "run-1")
    return load([tmp_path / "run-1"])


def test_yields(records) -> None:
    found = metrics.yields(records)
    assert (found.first_pass.good, found.first_pass.n) == (3, 7)  # SN1 SN3 SN7
    assert (found.final.good, found.final.n) == (5, 7)  # and SN2 SN4
    assert (found.retested.good, found.retested.n) == (3, 7)  # SN2 SN4 SN8
    assert (found.no_fault_found.good, found.no_fault_found.n) == (1, 7)  # SN2
    assert (found.boards, found.passed_first, found.passed_retest) == (9, 3, 2)
    assert (found.failed, found.unverified, found.not_counted, found.running) == (1, 1, 2, 0)
    assert (found.marginal, found.blocked_attempts, found.aborted_attempts) == (1, 3, 1)


def test_recovered_and_then_converted_is_one_trial(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run", tasks=["recover", "convert"]) as run:
        run.attempt("both", "pass", seconds=30, task="recover")
        run.attempt("both", "marginal", seconds=20)
        run.attempt("second", "pass", seconds=30, task="recover")
        run.attempt("second", "fail", seconds=10, code="boot-loop", stop_at="boot")
        run.attempt("first", "fail", seconds=12, code="log-silent", stop_at="boot", task="recover")
        run.attempt("bench", "pass", seconds=30, task="recover")
        run.attempt("bench", "blocked", seconds=5, code="no-current", stop_at="identify")
        run.attempt("cut", "pass", seconds=30, task="recover")  # its conversion was never begun
        run.end(1)
    with SyntheticRun(tmp_path / "again") as run:
        run.attempt("both", "pass")  # another run of an unknown board: another board
        run.end()
    records = load([tmp_path / "run"])
    found = metrics.yields(records)
    assert (found.first_pass.good, found.first_pass.n, found.final.good) == (1, 3, 1)
    assert (found.passed_first, found.failed, found.not_counted, found.retested.good) == (1, 2, 2, 0)
    assert found.marginal == 1
    cycle = metrics.cycle_times(records)
    assert (cycle["n"], cycle["fastest"], cycle["slowest"]) == (3, 12.0, 50.0)
    steps = metrics.step_yields(records)
    assert (steps["recover boot"], steps["boot"]) == (Rate(2, 3), Rate(1, 2))
    assert next(iter(steps)) == "recover power-on"
    told = warnings(load([tmp_path / "run", tmp_path / "again"]))
    assert any("different things" in text for text in told)
    assert not any("different things" in text for text in warnings(records))


def test_a_board_that_fails_after_it_passed_is_not_good_in_the_end(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        run.attempt("1", "pass")
        run.attempt("1", "fail", code="boot-loop", stop_at="boot")
    found = metrics.yields(load([tmp_path / "run"]))
    assert (found.first_pass.good, found.final.good, found.failed, found.passed_first) == (1, 0, 1, 0)


def test_pareto_has_the_first_failure_of_each_board(records) -> None:
    table = metrics.pareto(records)
    assert list(table["code"]) == ["no-link", "half-written", "verify-failed"]
    assert list(table["count"]) == [2, 1, 1]
    assert list(table["share"]) == [0.5, 0.25, 0.25]
    assert list(table["cumulative"]) == [0.5, 0.75, 1.0]


def test_blocked_attempts_stand_apart(records) -> None:
    table = metrics.blocks(records)
    assert list(zip(table["code"], table["count"], strict=True)) == [("no-current", 2), ("port-lost", 1)]


def test_cycle_times_are_of_counted_attempts(records) -> None:
    # 30 10 30 30 20 40 15 30 10 35, sorted: 10 10 15 20 30 30 30 30 35 40
    found = metrics.cycle_times(records)
    assert found["n"] == 10
    assert found["fastest"] == 10
    assert found["p50"] == 30
    assert found["p95"] == pytest.approx(35 + 0.55 * 5)  # at 0.95 * 9 = 8.55
    assert found["slowest"] == 40


def test_units_per_hour(records) -> None:
    assert metrics.units_per_hour(records) == pytest.approx(5 * 3600 / 270)  # all attempts one after another


def test_step_times_are_of_steps_that_went_well(records) -> None:
    table = metrics.step_times(records).set_index("phase")
    assert list(table.index) == ["power-on", "identify", "backup", "write", "boot"]
    # boot takes a fifth: SN1 SN2 SN3 SN7 6 s, SN4 8 s; SN8's boot failed
    assert table.loc["boot", "n"] == 5
    assert table.loc["boot", "p50"] == pytest.approx(6)
    assert table.loc["boot", "p95"] == pytest.approx(6 + 0.8 * 2)  # at 0.95 * 4 = 3.8
    assert table.loc["boot", "slowest"] == pytest.approx(8)


def test_rolled_yield_is_the_product_of_the_steps(records) -> None:
    # first counted attempts: power-on 7/7, identify 5/7, backup 5/5, write 3/5, boot 3/3
    rates = {phase: (rate.good, rate.n) for phase, rate in metrics.step_yields(records).items()}
    assert rates == {"power-on": (7, 7), "identify": (5, 7), "backup": (5, 5), "write": (3, 5), "boot": (3, 3)}
    assert metrics.rolled_yield(records) == pytest.approx(5 / 7 * 3 / 5)


def test_measurements_against_limits(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        for unit, amps in (("1", 0.07), ("2", 0.09), ("3", 0.22), ("4", 0.30), ("5", None)):
            run.attempt(unit, "fail" if amps == 0.30 else "pass", current=amps, code="current-high")
        run.attempt("6", "blocked", current=0.9)
        who = run.begin("7")
        run.write(UnitEnded, **who, outcome=Outcome.PASS, duration_s=1.0)
    row = metrics.measured(load([tmp_path])).iloc[0]
    assert (row["name"], row["unit_of"], row["n"]) == ("boot_current", "A", 4)
    assert (row["lowest"], row["median"], row["highest"]) == (0.07, pytest.approx(0.155), 0.30)
    assert (row["minimum"], row["maximum"], row["marginal"], row["outside"]) == (0.02, 0.25, 1, 1)


def test_a_missing_measurement_is_counted_as_missing(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        run.attempt("1", "pass", current=float("nan"))  # written as null: could not be measured
        run.attempt("2", "pass", current=0.1)
    row = metrics.measured(load([tmp_path])).iloc[0]
    assert (row["n"], row["missing"], row["median"]) == (1, 1, 0.1)


def test_wilson_by_its_formula() -> None:
    k, n, z = 3, 7, 1.959963984540054
    middle = (k / n + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))
    assert Rate(k, n).interval == pytest.approx((middle - half, middle + half))


def test_wilson_ends_where_the_rate_does() -> None:
    for n in range(1, 200):
        assert Rate(0, n).interval[0] == 0.0  # type: ignore[index]
        assert Rate(n, n).interval[1] == 1.0  # type: ignore[index]


def test_claims_by_the_exact_bound() -> None:
    assert Rate(0, 10).at_most == pytest.approx(1 - 0.05 ** (1 / 10))
    assert Rate(10, 10).at_least == pytest.approx(0.05 ** (1 / 10))
    assert Rate(0, 10).at_least == 0
    assert Rate(10, 10).at_most == 1
    low = Rate(3, 7).at_least  # P(3 or more of 7) is 5 % at the bound
    assert low is not None
    assert sum(math.comb(7, k) * low**k * (1 - low) ** (7 - k) for k in range(3, 8)) == pytest.approx(0.05)


def test_a_share_is_never_rounded_into_certainty() -> None:
    assert percent(1.0) == "100 %"
    assert percent(0.0) == "0 %"
    assert percent(9999 / 10000) == "> 99.9 %"
    assert percent(1 / 10000) == "< 0.1 %"
    assert percent(None) == "–"
    assert str(Rate(3, 7)) == "42.9 % (3 of 7, 95 % interval 15.8 % to 75.0 %)"


@pytest.mark.parametrize("case", ["nothing", "blocked only", "not even a beginning"])
def test_no_counted_units_is_said_not_divided_by(tmp_path: Path, case: str) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        if case == "blocked only":
            run.attempt("1", "blocked", code="no-current", stop_at="power-on", current=None)
    if case == "not even a beginning":
        (tmp_path / "run" / "journal.jsonl").write_bytes(b"")
    records = load([tmp_path / "run"])
    found = metrics.yields(records)
    assert str(found.first_pass) == str(found.final) == "no counted units"
    assert found.first_pass.interval is None
    assert found.first_pass.at_least is None
    assert metrics.rolled_yield(records) is None
    assert metrics.cycle_times(records)["n"] == 0
    assert metrics.pareto(records).empty
    assert metrics.step_times(records).empty
    assert metrics.measured(records).empty
    assert (metrics.units_per_hour(records) or 0) == 0
    assert found.not_counted == (1 if case == "blocked only" else 0)


def test_durations_never_span_two_boots_of_the_station(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        run.attempt("1", "pass", seconds=20)
        who = run.begin("2")
        run.boot_id = "boot-2"  # the station was restarted: its clock begins anew
        run.now = 3.0
        run.write(UnitEnded, **who, outcome=Outcome.PASS, duration_s=9.0)
        run.attempt("3", "pass", seconds=40)
    records = load([tmp_path / "run"])
    found = metrics.cycle_times(records)
    assert (found["n"], found["fastest"], found["slowest"]) == (2, 20, 40)
    assert metrics.units_per_hour(records) == pytest.approx(3 * 3600 / 60)


def test_an_attempt_without_its_end(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        run.begin("1")  # the rig died before anything was written
        who = run.begin("2")
        run.write(WriteBegun, **who, image_sha256="aa", ranges=[(0, 4096)])  # ... and while it was
        during = load([tmp_path / "run"])
    live = dict(zip(during.attempts["unit"], during.attempts["outcome"], strict=True))
    assert live == {"1": "running", "2": "running"}
    assert metrics.yields(during).running == 2
    assert metrics.yields(during).final.n == 0
    after = load([tmp_path / "run"]).attempts.set_index("unit")
    assert (after.loc["1", "outcome"], after.loc["1", "code"]) == ("blocked", "crashed")
    assert (after.loc["2", "outcome"], after.loc["2", "code"]) == ("unverified", "half-written")
    assert metrics.yields(load([tmp_path / "run"])).unverified == 1


def test_a_board_brought_back_in_another_run_is_a_retest(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run-1") as run:
        run.attempt("1", "fail", identity="C8478C000001", code="log-silent", stop_at="boot")
        run.attempt("2", "pass", identity="C8478C000002")
    with SyntheticRun(tmp_path / "run-2", start=START + timedelta(days=1), boot_id="boot-2") as run:
        run.attempt("1", "pass", identity="C8478C000001")
        run.attempt("2", "pass", identity="C8478C000003")
    found = metrics.yields(load([tmp_path]))
    assert (found.first_pass.good, found.first_pass.n) == (2, 3)
    assert (found.final.good, found.retested.good) == (3, 1)
    # the order in which folders are given is not the order of time
    assert metrics.yields(load([tmp_path / "run-2", tmp_path / "run-1"])) == found


@pytest.mark.parametrize("identity", ["000000000000", "ff:ff:ff:ff:ff:ff", "same"])
def test_an_identity_that_names_nobody_merges_nobody(tmp_path: Path, identity: str) -> None:
    for number in (1, 2):
        with SyntheticRun(tmp_path / f"run-{number}") as run:
            run.attempt("1", "pass", identity=identity)
            if identity == "same":
                run.attempt("2", "pass", identity=identity)
    assert metrics.yields(load([tmp_path])).final.n == (4 if identity == "same" else 2)


def test_simulated_boards_are_new_in_every_run(tmp_path: Path) -> None:
    for number in (1, 2):
        with SyntheticRun(tmp_path / f"run-{number}", simulated=True, speed=50) as run:
            run.attempt("1", "pass", identity="C8478C000001")
    assert metrics.yields(load([tmp_path])).final.n == 2


def test_a_run_counts_once_however_often_it_is_named(tmp_path: Path) -> None:
    mixed(tmp_path / "runs" / "run-1")
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "journal.jsonl").write_bytes((tmp_path / "runs" / "run-1" / "journal.jsonl").read_bytes())
    once = load([tmp_path / "runs" / "run-1"])
    twice = load([tmp_path / "runs", tmp_path / "runs" / "run-1", copy])
    assert metrics.yields(once) == metrics.yields(twice)
    assert len(twice.remarks) == 1
    assert "copy of run run-1" in twice.remarks[0]


def test_a_torn_end_is_told_and_the_rest_read(tmp_path: Path) -> None:
    mixed(tmp_path / "run-1")
    journal = tmp_path / "run-1" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"kind": "noted", "te')
    records = load([tmp_path / "run-1"])
    assert "torn" in records.remarks[0]
    assert metrics.yields(records).final.n == 7


def test_no_run_is_one_sentence(tmp_path: Path) -> None:
    for paths in ([], [tmp_path], [tmp_path / "none"]):
        with pytest.raises(UsageProblem):
            load(paths)
