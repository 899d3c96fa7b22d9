"""Limits tried on recorded values: hand-counted batches, a batch whose truth is known, and what may be asked."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.load import load
from reports.metrics import Rate
from reports.numbers import MemoryNumbers
from reports.replay import Replayed, WhatIf, parse_what_if, replay
from reports.tables import Name, Records, records_of
from rig.errors import UsageProblem
from rig.records.events import Measured, Outcome, PhaseEnded, PhaseStarted, UnitEnded
from tests.synthetic_journals import SyntheticRun

fixed = settings(derandomize=True, deadline=None, max_examples=8)
IDLE = Name("boot", "boot", "steady_current", "A")
RAIL = Name("power-on", "power-on", "rail_volts", "V")


def batch(*attempts: tuple[int, str, float], **more: Any) -> Records:
    """Attempts (board, outcome, steady current), each a trial of its own; more than 0.1 A was too much."""
    boards, outcomes, amps = (list(each) for each in zip(*attempts, strict=True))
    values = np.array(amps)
    judged = np.where(np.isnan(values) | (values > 0.1), "fail", "pass")
    numbers = MemoryNumbers.of_names({
        IDLE: {"order": np.arange(len(boards)), "value": values, "maximum": 0.1, "outcome": judged}
    })  # fmt: skip
    return records_of({"board": boards, "outcome": outcomes} | more, numbers=numbers, phases=more.pop("phases", None))


def orders(found: Replayed) -> tuple[list[int], list[int], list[int]]:
    return found.fails.tolist(), found.blocked.tolist(), found.unknown.tolist()


# -- hand-counted ----------------------------------------------------------------------------------------------


def test_a_tighter_limit_fails_good_units_and_leaves_failed_ones_failed() -> None:
    """Four units of ten are above 95 mA; one of these failed already, elsewhere, and one is not counted for it."""
    records = batch(
        (0, "pass", 0.07), (1, "pass", 0.096), (2, "marginal", 0.099), (3, "fail", 0.097), (4, "pass", 0.08),
        (5, "fail", 0.08), (6, "pass", 0.095), (7, "pass", 0.07), (8, "pass", 0.07), (9, "fail", 0.12),
    )  # fmt: skip
    found = replay(records, IDLE, maximum=0.095)
    assert found.first_pass == found.final == Rate(7, 10)
    assert found.first_pass_after.low == found.first_pass_after.high == Rate(5, 10)
    assert found.final_after.known
    assert orders(found) == ([1, 2], [], [])
    assert str(found) == (
        "With steady_current (boot) at most 0.095 A: first-pass yield 70.0 % → 50.0 %, final yield 70.0 % → 50.0 % "
        "(of 10 units). 2 attempts would fail that did not."
    )


def test_what_a_looser_limit_lets_through_is_bounded_and_said_to_be_unknown() -> None:
    records = batch(
        (0, "pass", 0.07), (1, "fail", 0.105), (2, "fail", 0.2), (3, "fail", np.nan), (4, "pass", 0.08),
    )  # fmt: skip
    found = replay(records, IDLE, maximum=0.11)
    assert orders(found) == ([], [], [1])
    assert (found.final_after.low, found.final_after.high) == (Rate(2, 5), Rate(3, 5))
    assert str(found.final_after) == "40.0 % to 60.0 %"
    assert "it never ran, so the lower bound counts them as failed and the upper as good" in str(found)


def test_one_that_failed_another_step_or_another_number_too_stays_failed() -> None:
    numbers = MemoryNumbers.of_names({
        IDLE: {"order": [0, 1, 2], "value": [0.105] * 3, "maximum": 0.1, "outcome": "fail"},
        Name("boot", "boot", "boot_time", "s"): {
            "order": [0, 1, 2], "value": [9.0, 40.0, 9.0], "maximum": 30.0, "outcome": ["pass", "fail", "pass"]},
    })  # fmt: skip
    phases = {"order": [0, 1, 2, 2], "step": ["boot", "boot", "boot", "suite"], "phase": "x",
              "outcome": ["fail", "fail", "fail", "fail"], "position": [1, 1, 1, 2]}  # fmt: skip
    records = records_of({"board": [0, 1, 2], "outcome": "fail"}, numbers=numbers, phases=phases)
    assert orders(replay(records, IDLE, maximum=0.11)) == ([], [], [0])


def test_retests_stay_as_they_were_made() -> None:
    """Board 0 failed for its current and passed on retest; board 1 passed, board 2 did so twice."""
    records = batch((0, "fail", 0.105), (1, "pass", 0.097), (0, "pass", 0.09), (2, "pass", 0.097), (2, "pass", 0.09))
    loose = replay(records, IDLE, maximum=0.106)
    assert (loose.first_pass, loose.final) == (Rate(2, 3), Rate(3, 3))
    assert (loose.first_pass_after.low, loose.first_pass_after.high) == (Rate(2, 3), Rate(3, 3))
    assert loose.final_after.low == loose.final_after.high == Rate(3, 3), "the retest passed anyway"
    tight = replay(records, IDLE, maximum=0.095)
    assert tight.first_pass_after.low == tight.first_pass_after.high == Rate(0, 3)
    assert tight.final_after.low == tight.final_after.high == Rate(2, 3), "board 2 passes its second trial still"


def test_a_number_that_blames_the_bench_blocks_and_is_not_counted() -> None:
    """Rail volts below 3.25 V: a weak supply and no bad board. A board that failed later is blocked no more than it
    is counted; one that was blocked for it may be good."""
    numbers = MemoryNumbers.of_names({
        RAIL: {"order": np.arange(4), "value": [3.3, 3.22, 3.1, 3.4], "minimum": 3.2, "maximum": 3.6,
               "outcome": ["pass", "pass", "fail", "pass"]},
    })  # fmt: skip
    records = records_of({"board": [0, 1, 2, 3], "outcome": ["pass", "pass", "blocked", "pass"]}, numbers=numbers)
    tight = replay(records, RAIL, minimum=3.25)
    assert orders(tight) == ([], [1], [])
    assert tight.final_after.low == tight.final_after.high == Rate(2, 2)
    assert "1 attempt would be blocked, and not counted: this limit blames the bench." in str(tight)
    loose = replay(records, RAIL, minimum=3.0)
    assert orders(loose) == ([], [], [2])
    assert (loose.final_after.low, loose.final_after.high) == (Rate(3, 4), Rate(4, 4))


def test_an_aborted_attempt_would_have_failed_before_and_a_running_or_studied_one_is_left_alone() -> None:
    records = batch((0, "aborted", 0.097), (1, "running", 0.097), (2, "pass", 0.097), study=[False, False, True])
    found = replay(records, IDLE, maximum=0.095)
    assert orders(found) == ([0], [], [])
    assert found.final_after.low == Rate(0, 1)


def test_a_stage_that_never_began_is_part_of_the_unknown() -> None:
    """Recovered, then converted: the first stage ended at the limit, so the second never began."""
    numbers = MemoryNumbers.of_names({
        Name("recover boot", "boot", "steady_current", "A"):
            {"order": [0], "value": [0.105], "maximum": 0.1, "outcome": "fail"},
    })  # fmt: skip
    records = records_of(
        {"board": [0, 1, 1], "trial": [0, 1, 1], "stages": 2, "outcome": ["fail", "pass", "pass"]}, numbers=numbers
    )
    found = replay(records, numbers.names()[0], maximum=0.11)
    assert found.final == Rate(1, 2)
    assert (found.final_after.low, found.final_after.high) == (Rate(1, 2), Rate(2, 2))


def test_the_same_limit_changes_nothing() -> None:
    records = batch((0, "pass", 0.07), (1, "fail", 0.105), (2, "pass", 0.1))
    found = replay(records, IDLE, maximum=0.1)
    assert orders(found) == ([], [], [])
    assert found.final_after.low == found.final
    assert str(found).endswith("No attempt would end otherwise.")


def test_from_a_journal(tmp_path: Any) -> None:
    """As the rig writes it: the step that measured fails, and the one after it is skipped."""
    with SyntheticRun(tmp_path / "run-1") as run:
        for unit, current in (("SN1", 0.07), ("SN2", 0.24), ("SN3", 0.26)):
            who, outcome = run.begin(unit), "fail" if current > 0.25 else "pass"
            run.write(PhaseStarted, **who, phase="boot")
            run.write(Measured, **who, phase="boot", name="boot_current", value=current, unit_of="A", maximum=0.25,
                      outcome=Outcome(outcome))  # fmt: skip
            run.write(PhaseEnded, **who, phase="boot", outcome=Outcome(outcome), duration_s=1.0)
            run.write(UnitEnded, **who, outcome=Outcome(outcome), duration_s=1.0)
        run.end()
    records = load([tmp_path / "run-1"])
    what = parse_what_if("boot_current.max=230mA", records)
    found = replay(records, what.name, maximum=what.maximum)
    assert (found.final, found.final_after.low) == (Rate(2, 3), Rate(1, 3))
    what = parse_what_if("boot_current.max=none", records)
    found = replay(records, what.name, maximum=what.maximum)
    assert (found.final_after.low, found.final_after.high) == (Rate(2, 3), Rate(3, 3))
    assert str(found).startswith(
        "With boot_current (boot) not limited above: first-pass yield 66.7 % → 66.7 % to 100 %"
    )


# -- a batch whose truth is known ------------------------------------------------------------------------------


def line(values: np.ndarray, limit: float) -> tuple[np.ndarray, Records]:
    """Boards that go through three measurements, in order, until one is above its limit (the second's: `limit`).
    Returns which are good, and what is on record."""
    limits = [1.5, limit, 1.5]
    bad = values > np.array(limits)
    came = np.cumsum(bad, axis=1) - bad == 0  # nothing was bad before
    told = {}
    for at, name in enumerate(("a", "b", "c")):
        rows = np.flatnonzero(came[:, at])
        told[Name(name, name, name)] = {
            "order": rows, "value": values[rows, at], "maximum": limits[at],
            "outcome": np.where(bad[rows, at], "fail", "pass"),
        }  # fmt: skip
    good = ~bad.any(axis=1)
    steps = [(row, "abc"[at], bad[row, at]) for row in range(len(values)) for at in range(3) if came[row, at]]
    phases = {"order": [row for row, _, _ in steps], "step": [step for _, step, _ in steps], "phase": "x",
              "outcome": ["fail" if worse else "pass" for _, _, worse in steps]}  # fmt: skip
    outcome = np.where(good, "pass", "fail")
    return good, records_of({"outcome": outcome}, numbers=MemoryNumbers.of_names(told), phases=phases)


@fixed
@given(st.integers(0, 10_000), st.floats(0, 2.5), st.floats(0, 2.5))
def test_the_bounds_hold_the_truth_and_are_exact_for_a_tighter_limit(seed: int, was: float, tried: float) -> None:
    values = np.random.default_rng(seed).normal(size=(60, 3))
    before, records = line(values, was)
    truth, _ = line(values, tried)
    found = replay(records, Name("b", "b", "b"), maximum=tried)
    assert found.final == Rate(int(before.sum()), 60)
    assert found.final_after.low.good <= truth.sum() <= found.final_after.high.good
    if tried <= was:
        assert found.final_after.low == found.final_after.high == Rate(int(truth.sum()), 60)
    assert len(found.unknown) == found.final_after.high.good - found.final_after.low.good


def test_a_million_attempts_in_a_few_seconds() -> None:
    """At a fifth of it, on CPU time: neighbours on the machine do not count."""
    n = 200_000
    amps = np.random.default_rng(1).normal(0.08, 0.01, n)
    judged = np.where(amps > 0.1, "fail", "pass")
    numbers = MemoryNumbers.of_names(
        {IDLE: {"order": np.arange(n), "value": amps, "maximum": 0.1, "outcome": judged}}
    )
    phases = {"order": np.arange(n), "step": "boot", "phase": "boot", "outcome": judged}
    records = records_of({"outcome": judged}, numbers=numbers, phases=phases)
    began = time.process_time()
    found = replay(records, IDLE, maximum=0.102)
    assert time.process_time() - began < 1.5
    assert len(found.unknown) == int(((amps > 0.1) & (amps <= 0.102)).sum())


# -- what is asked ---------------------------------------------------------------------------------------------


BOOTS = [Name(step, "boot", "boot_time", "s") for step in ("boot", "verify boot")]
RESETS = Name("boot", "boot", "resets")
SEVERAL = records_of(
    {"outcome": ["pass"]},
    numbers=MemoryNumbers.of_names({name: {"order": [0], "value": [1.0]} for name in (IDLE, RAIL, *BOOTS, RESETS)}),
)


@pytest.mark.parametrize(
    ("text", "minimum", "maximum", "name"),
    [
        ("steady_current.max=0.095", None, 0.095, IDLE),
        ("steady_current.max=95mA", None, 0.095, IDLE),
        (" steady_current.max = 95 mA ", None, 0.095, IDLE),
        ("steady_current.min=20mA,max=9.5e-2", 0.02, 0.095, IDLE),
        ("steady_current.min=.02,steady_current.max=95000uA", 0.02, 0.095, IDLE),
        ("steady_current.max=none", None, float("inf"), IDLE),
        ("rail_volts.min=none", float("-inf"), None, RAIL),
        ("verify boot/boot_time.max=12", None, 12.0, BOOTS[1]),
        ("boot/resets.max=0", None, 0.0, RESETS),
    ],
)
def test_what_may_be_asked(text: str, minimum: float | None, maximum: float | None, name: Name) -> None:
    found = parse_what_if(text, SEVERAL)
    assert found.name == name
    assert found == WhatIf(name, minimum, pytest.approx(maximum) if maximum is not None else None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is no limit to try: write it as"),
        ("steady_current", "is no limit to try"),
        ("steady_current=0.095", "is no limit to try"),
        ("steady_current.max", "has no value for 'max'"),
        ("steady_current.max=", "has no value for 'max'"),
        ("steady_current.top=1", "has 'top' where there is only min and max"),
        ("steady_current.max=1,max=2", "has two values for 'max'"),
        ("steady_current.min=2,max=1", "the least value 2 is not below the greatest, 1"),
        ("steady_curent.max=1", "nothing measured 'steady_curent'; did you mean 'steady_current'?"),
        ("bot/boot_time.max=1", "nothing measured 'bot/boot_time'; did you mean 'boot/boot_time'?"),
        ("boot_time.max=1", "measured in more than one step: say boot/boot_time or verify boot/boot_time"),
        ("steady_current.max=95mV", "'95mV' is not a number in A"),
        ("steady_current.max=ninety", "'ninety' is not a number in A"),
        ("boot/resets.max=1x", "'1x' is not a number, nor 'none'"),
    ],
)
def test_a_mistake_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(UsageProblem) as problem:
        parse_what_if(text, SEVERAL)
    assert says in str(problem.value)
    assert "\n" not in str(problem.value)


@settings(fixed, max_examples=150)
@given(st.text(alphabet="abcmaxin./,=0123456789 -+eA_", max_size=40))
def test_no_text_ends_in_a_traceback(text: str) -> None:
    with contextlib.suppress(UsageProblem):
        parse_what_if(text, SEVERAL)


def test_a_measurement_in_two_units_is_told_apart_by_the_unit_that_is_given() -> None:
    old = Name("boot", "boot", "steady_current", "mA")
    told = {name: {"order": [0], "value": [1.0]} for name in (IDLE, old)}
    records = records_of({"outcome": ["pass"]}, numbers=MemoryNumbers.of_names(told))
    with pytest.raises(UsageProblem, match="in different units"):
        parse_what_if("steady_current.max=95", records)
    assert parse_what_if("steady_current.max=95 kA", records).name == IDLE
