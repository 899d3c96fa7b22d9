"""The rules of a batch, as decisions: retry, quarantine, streak, golden unit, sampling."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.line import retry, sampling
from rig.line.golden import GoldenSchedule
from rig.line.quarantine import SlotHealth
from rig.line.rules import Golden, Quarantine, Retry, Sampling
from rig.line.rules import Streak as StreakRule
from rig.line.streak import Streak
from rig.records.events import Outcome

GOOD = [Outcome.PASS, Outcome.MARGINAL]
outcomes = st.sampled_from(list(Outcome))
fixed = settings(derandomize=True, deadline=None, max_examples=60)


# -- retry -------------------------------------------------------------------------------------------------


def test_only_a_named_code_is_tried_again_and_only_so_often() -> None:
    rule = Retry(attempts=3, codes=["link-lost", "verify-failed"])
    assert retry.again(rule, Outcome.BLOCKED, "link-lost", 1)
    assert retry.again(rule, Outcome.FAIL, "verify-failed", 2)
    assert not retry.again(rule, Outcome.FAIL, "verify-failed", 3)
    assert not retry.again(rule, Outcome.FAIL, "wrong-chip", 1)
    assert not retry.again(rule, Outcome.FAIL, None, 1)


def test_nothing_is_tried_again_unless_the_rule_says_so() -> None:
    assert not retry.again(Retry(), Outcome.BLOCKED, "link-lost", 1)
    assert not retry.again(Retry(attempts=5), Outcome.BLOCKED, "link-lost", 1)


@pytest.mark.parametrize("outcome", [*GOOD, Outcome.ABORTED, Outcome.UNVERIFIED])
def test_what_is_neither_failed_nor_blocked_is_never_tried_again(outcome: Outcome) -> None:
    assert not retry.again(Retry(attempts=9, codes=["half-written"]), outcome, "half-written", 1)


def test_a_unit_without_an_attempt_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="without an attempt"):
        retry.again(Retry(), Outcome.FAIL, "link-lost", 0)


@fixed
@given(st.integers(1, 10), outcomes)
def test_retries_end(attempts: int, outcome: Outcome) -> None:
    rule, had = Retry(attempts=attempts, codes=["x"]), 1
    while retry.again(rule, outcome, "x", had):
        had += 1
    assert had <= attempts


# -- quarantine --------------------------------------------------------------------------------------------


def test_a_slot_is_out_after_so_many_blocked_units_and_says_why() -> None:
    health = SlotHealth(Quarantine(blocked_in_a_row=3))
    assert health.ended("A", Outcome.BLOCKED, "no-current") is None
    assert health.ended("A", Outcome.BLOCKED, "port-lost") is None
    assert health.ended("B", Outcome.BLOCKED, "no-current") is None, "another slot's units are not its own"
    why = health.ended("A", Outcome.BLOCKED, "no-current")
    assert why == "slot A blocked 3 units in a row (no-current, port-lost)"
    assert health.out("A") == why
    assert health.out("B") is None
    health.back("A")
    assert health.out("A") is None
    assert health.ended("A", Outcome.BLOCKED, "no-current") is None, "released, it starts anew"


def test_one_blocked_unit_is_enough_by_default() -> None:
    assert SlotHealth(Quarantine()).ended("A", Outcome.BLOCKED, "no-current") == (
        "slot A blocked its unit (no-current)"
    )


@pytest.mark.parametrize("outcome", [*GOOD, Outcome.FAIL])
def test_a_judged_unit_proves_the_slot(outcome: Outcome) -> None:
    health = SlotHealth(Quarantine(blocked_in_a_row=2))
    health.ended("A", Outcome.BLOCKED, "no-current")
    health.ended("A", outcome, "verify-failed")
    assert health.ended("A", Outcome.BLOCKED, "no-current") is None


@pytest.mark.parametrize("outcome", [Outcome.ABORTED, Outcome.UNVERIFIED])
def test_what_says_nothing_of_the_slot_changes_nothing(outcome: Outcome) -> None:
    health = SlotHealth(Quarantine(blocked_in_a_row=2))
    health.ended("A", Outcome.BLOCKED, "no-current")
    assert health.ended("A", outcome, None) is None
    assert health.ended("A", Outcome.BLOCKED, None) == "slot A blocked 2 units in a row (no-current, no code)"


@fixed
@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from("AB"), outcomes), max_size=30))
def test_a_slot_is_out_exactly_after_its_own_blocked_units_in_a_row(
    rule: int, ends: list[tuple[str, Outcome]]
) -> None:
    health = SlotHealth(Quarantine(blocked_in_a_row=rule))
    for slot, outcome in ends:
        health.ended(slot, outcome, "code")
    for slot in "AB":
        said = [o for s, o in ends if s == slot and o not in (Outcome.ABORTED, Outcome.UNVERIFIED)]
        row, longest = 0, 0
        for outcome in said:
            row = row + 1 if outcome is Outcome.BLOCKED else 0
            longest = max(longest, row)
        assert (health.out(slot) is not None) == (longest >= rule)


# -- streak ------------------------------------------------------------------------------------------------


def test_the_line_stops_at_a_streak_and_goes_on_when_released() -> None:
    streak = Streak(StreakRule(failures_in_a_row=2))
    assert streak.ended(Outcome.FAIL) is None
    assert streak.ended(Outcome.BLOCKED) is None, "it says nothing of the boards"
    assert streak.ended(Outcome.FAIL) == "2 units failed in a row: the line stops at 2"
    assert streak.ended(Outcome.FAIL) == "3 units failed in a row: the line stops at 2", "nobody let it go on"
    streak.reset()
    assert streak.ended(Outcome.FAIL) is None
    assert streak.ended(Outcome.PASS) is None
    assert streak.ended(Outcome.FAIL) is None, "a good unit ended the streak"


@fixed
@given(st.integers(0, 4), st.lists(outcomes, max_size=30))
def test_a_streak_is_failures_with_no_good_unit_between(rule: int, ends: list[Outcome]) -> None:
    streak, row = Streak(StreakRule(failures_in_a_row=rule)), 0
    for outcome in ends:
        row = 0 if outcome.good else row + (outcome is Outcome.FAIL)
        stops = streak.ended(outcome) is not None
        assert stops == (rule > 0 and row >= rule and outcome is Outcome.FAIL)


# -- golden unit -------------------------------------------------------------------------------------------


def test_the_golden_unit_is_due_first_and_then_every_so_many_units_of_a_slot() -> None:
    golden = GoldenSchedule(Golden(serial="G1", every=2), ["A", "B"])
    assert golden.due("A")
    assert golden.due("B")
    assert golden.ended("A", "golden", Outcome.PASS) is None
    assert not golden.due("A")
    assert golden.due("B"), "what it proves is one slot"
    golden.ended("A", "unit", Outcome.PASS)
    assert not golden.due("A")
    golden.ended("A", "unit", Outcome.FAIL)
    assert golden.due("A")


def test_a_golden_unit_that_is_not_good_stops_the_line_and_names_what_is_in_doubt() -> None:
    golden = GoldenSchedule(Golden(serial="G1", every=2), ["A"])
    golden.ended("A", "golden", Outcome.PASS)
    golden.ended("A", "unit", Outcome.PASS)
    golden.ended("A", "unit", Outcome.PASS)
    assert golden.ended("A", "golden", Outcome.ABORTED) is None
    assert golden.due("A"), "an aborted check proves nothing"
    assert golden.ended("A", "golden", Outcome.BLOCKED) == (
        "the golden unit G1 ended as blocked in slot A; the 2 unit(s) since its last good check there are in doubt"
    )
    assert golden.due("A")
    assert golden.ended("A", "golden", Outcome.MARGINAL) is None
    assert not golden.due("A")


def test_a_golden_unit_that_is_no_longer_good_proves_nothing_any_more() -> None:
    golden = GoldenSchedule(Golden(serial="G1"), ["A"])
    golden.ended("A", "golden", Outcome.PASS)
    assert not golden.due("A")
    assert golden.ended("A", "golden", Outcome.FAIL) == "the golden unit G1 ended as fail in slot A"
    assert golden.due("A")


def test_without_a_golden_unit_none_is_due() -> None:
    golden = GoldenSchedule(Golden(every=1), ["A"])
    golden.ended("A", "unit", Outcome.PASS)
    assert not golden.due("A")


@fixed
@given(st.integers(0, 4), st.integers(0, 20))
def test_a_slot_never_has_more_units_between_checks_than_the_rule_allows(every: int, count: int) -> None:
    golden, since, checks = GoldenSchedule(Golden(serial="G", every=every), ["A"]), 0, 0
    for _ in range(count):
        if golden.due("A"):
            golden.ended("A", "golden", Outcome.PASS)
            since, checks = 0, checks + 1
        golden.ended("A", "unit", Outcome.PASS)
        since += 1
        assert every == 0 or since <= every
    assert checks == (0 if count == 0 else 1 if every == 0 else -(-count // every))


# -- sampling ----------------------------------------------------------------------------------------------


def test_the_first_and_every_tenth_after_it_is_a_sample() -> None:
    assert [n for n in range(1, 32) if sampling.due(Sampling(every=10), n)] == [1, 11, 21, 31]
    assert not any(sampling.due(Sampling(), n) for n in range(1, 32))
    assert all(sampling.due(Sampling(every=1), n) for n in range(1, 32))
    with pytest.raises(ValueError, match="no unit has passed"):
        sampling.due(Sampling(every=1), 0)
