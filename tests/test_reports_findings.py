"""What a report finds: nothing where nothing is wrong, each planted cause by its name, and each said once.

The tests behind it are held against scipy's, and against all arrangements counted out.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports import discovery, findings
from reports.evidence import evidence
from reports.finding_tests import all_tests
from reports.findings import Finding, decided, search
from reports.load import load
from tests.synthetic_batches import Batch, clean, journals, quick, records

CLEAN = 200
ALLOWED = 10  # one in twenty


def causes(batch: Batch) -> set[tuple[str, str]]:
    return {(each.what, each.who) for each in search(quick(batch)).found}


# -- nothing is wrong --------------------------------------------------------------------------------------------


def test_of_two_hundred_clean_batches_one_in_twenty_at_most_shows_anything() -> None:
    """Counted twice: as the page shows it, and by the tests alone, with nothing left out for being small. For that
    the images' numbers are put aside: that another program takes another time to boot is true of a clean batch."""
    shown, tests_alone, hochberg = 0, 0, 0
    for number in range(CLEAN):
        known = evidence(quick(clean(number)))
        tests = all_tests(known)
        shown += bool(decided(known, tests).found)
        p = np.array([
            test.p for test in tests
            if test.kind != "level" or (test.factor is not None and test.factor.name != "image")
        ])  # fmt: skip
        tests_alone += bool((discovery.benjamini_yekutieli(p) <= findings.Q).any())
        hochberg += bool((discovery.benjamini_hochberg(p) <= findings.Q).any())
    assert max(shown, tests_alone) <= ALLOWED // 2, (shown, tests_alone)
    assert 0 < hochberg <= ALLOWED, "without any of it there would be something to see"


def test_labels_dealt_anew_make_a_planted_batch_clean() -> None:
    """The tests look at the labels: the same numbers, the slots' names shuffled, tell nothing."""
    made = quick(Batch(seed=3, slow="B"))
    assert search(made).found
    draw = np.random.default_rng(9)
    slots = made.attempts["slot"].to_numpy()
    for _ in range(5):
        shuffled = replace(made, attempts=made.attempts.assign(slot=pd.Categorical(draw.permutation(slots))))
        assert search(shuffled).found == []


# -- something is wrong ------------------------------------------------------------------------------------------

WORN, SLOW, BAD = ("drift", "C"), ("slot", "B"), ("image", "new.bin")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (Batch(), set()),
        (Batch(worn="C"), {WORN}),
        (Batch(slow="B"), {SLOW}),
        (Batch(bad=True), {BAD}),
        (Batch(worn="C", slow="B", bad=True), {WORN, SLOW, BAD}),
    ],
    ids=["clean", "worn", "slow", "bad", "all"],
)
def test_each_planted_cause_is_named_and_nothing_else(
    batch: Batch, expected: set[tuple[str, str]], seed: int
) -> None:
    assert causes(replace(batch, units=128, seed=seed)) == expected


@pytest.fixture(scope="module")
def all_three() -> dict[str, Finding]:
    found = findings.findings(quick(Batch(units=128, worn="C", slow="B", bad=True, seed=1)))
    return {each.who: each for each in found}


def test_a_finding_is_a_sentence_with_its_numbers_and_what_to_do(all_three: dict[str, Finding]) -> None:
    worn, slow, bad = (all_three[who] for who in ("C", "B", "new.bin"))
    assert worn.sentence.startswith("Slot C is blocked more often than the other slots: ")
    assert "weak-supply" in worn.sentence
    assert "95 % interval" in worn.sentence
    assert "It gets worse: 0 of its first " in worn.sentence
    assert "needle" in worn.action
    assert slow.sentence.startswith("Slot B is slower than the other slots: ")
    assert all(name in slow.sentence for name in ("backup_time", "write_time", "settled_time", "unit time"))
    assert "latency timer" in slow.action
    assert bad.sentence.startswith("Image new.bin fails more boards than the other images: ")
    assert "mostly boot-loop" in bad.sentence
    assert all(each.q <= findings.Q and each.orders and each.action for each in all_three.values())


def test_the_units_behind_a_finding_are_those_it_counts() -> None:
    made = records(Batch(units=128, worn="C", bad=True, seed=1))
    found = {each.who: each for each in findings.findings(made)}
    blocked = made.attempts.iloc[found["C"].orders]
    assert set(blocked["slot"]) == {"C"}
    assert set(blocked["code"]) == {"weak-supply"}
    failed = made.attempts.iloc[found["new.bin"].orders]
    assert set(failed["image"]) == {"new.bin"}
    assert set(failed["outcome"]) == {"fail"}


def test_the_interval_holds_what_was_planted() -> None:
    """512 reads, 16 ms later each."""
    held = looked = 0
    for seed in range(10):
        (found,) = search(quick(Batch(units=128, slow="B", seed=seed))).found
        if found.measure != "backup_time":
            continue
        looked += 1
        text = found.sentence.partition("backup_time by ")[2].partition("95 % interval ")[2]
        low, high = (float(each.split()[0]) for each in text.split(")")[0].split(" to "))
        held += low <= 512 * 0.016 <= high
    assert looked >= 6
    assert held >= 0.8 * looked


def test_a_drift_of_one_slot_and_one_of_the_whole_bench() -> None:
    made = quick(Batch(units=160, seed=4))
    everything = _with_drift(made, None)
    (found,) = everything
    assert (found.what, found.who, found.measure) == ("drift", "bench", "steady_current")
    assert found.sentence.startswith("The whole bench: steady_current rises over the batch, by +")
    assert "mA" in found.effect
    (found,) = _with_drift(made, "C")
    assert (found.what, found.who, found.measure) == ("drift", "C", "steady_current")
    assert found.sentence.startswith("Slot C: steady_current rises over the batch")


def _with_drift(made: findings.Records, slot: str | None) -> list[Finding]:
    """40 mA more from the first unit to the last."""
    taken = made.numbers._values  # type: ignore[attr-defined]
    rising = np.linspace(0, 0.040, len(made.attempts))
    mine = (made.attempts["slot"] == slot).to_numpy() if slot else np.ones(len(rising), dtype=bool)
    before = taken["steady_current"].copy()
    try:
        taken["steady_current"] = np.where(before > 0, before + rising * mine, before)
        return search(replace(made)).found
    finally:
        taken["steady_current"] = before


def test_journals_say_the_same_as_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the whole way: journals written and read."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a line of a journal waits for the disk
    batch = Batch(units=80, worn="C", slow="B", bad=True, seed=2, per_board=0.5)
    loaded = search(load([journals(batch, tmp_path / "runs")]))
    assert {(each.what, each.who) for each in loaded.found} == {WORN, SLOW, BAD}
    made = search(quick(batch))
    assert (loaded.tests, loaded.survived) == (made.tests, made.survived)
    assert search(records(batch)).tests == made.tests


@pytest.mark.parametrize("units", [0, 1, 2, 5])
def test_a_few_units_are_no_finding(units: int) -> None:
    made = quick(Batch(units=16, seed=1, bad=True))
    few = replace(made, attempts=made.attempts.iloc[:0]) if not units else quick(Batch(units=units, runs=1, images=1))
    assert findings.findings(few) == []
    assert findings.tested(few) == 0


def test_a_search_is_made_once() -> None:
    made = quick(Batch(seed=1))
    assert search(made) is search(made)
    assert search(made).tests == findings.tested(made) > 50


def test_many_boards_are_thinned_and_small_differences_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 % slower is certain with so many, and nothing that anybody would go and look for."""
    from reports import evidence as rows

    monkeypatch.setattr(rows, "MOST_ROWS", 1500)
    made = quick(Batch(units=4000, slots=5, seed=1))
    taken = made.numbers._values  # type: ignore[attr-defined]
    mine = (made.attempts["slot"] == "D").to_numpy()
    taken["write_time"] = taken["write_time"] * np.where(mine, 1.04, 1.0)
    found = search(made)
    assert found.thinned == 3
    assert found.survived > 0
    assert found.found == []
    taken["write_time"] = taken["write_time"] * np.where(mine, 1.05, 1.0)
    (said,) = search(replace(made)).found
    assert (said.who, said.measure) == ("D", "write_time")


# -- the tests behind it -----------------------------------------------------------------------------------------

P_VALUES = st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=60)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(P_VALUES)
def test_q_values_agree_with_scipy(p: list[float]) -> None:
    for ours, method in ((discovery.benjamini_hochberg, "bh"), (discovery.benjamini_yekutieli, "by")):
        theirs = stats.false_discovery_control(p, method=method)
        assert ours(np.array(p)) == pytest.approx(theirs, rel=1e-9)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(15, 60), st.integers(5, 15), st.integers(5, 15), st.data())
def test_a_share_in_one_stratum_is_fishers_test(n: int, members: int, hits: int, data: st.DataObject) -> None:
    own = data.draw(st.integers(max(0, members + hits - n), min(members, hits)))
    levels = (np.arange(n) >= members).astype(int)
    hit = np.zeros(n, dtype=bool)
    hit[:own] = True
    hit[members : members + hits - own] = True
    p = discovery.share(np.zeros(n, dtype=int), levels, hit, 2)[0]
    table = [[own, members - own], [hits - own, n - members - hits + own]]
    if not math.isnan(p):
        assert p == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue, rel=1e-6)
    else:
        most = min(members, hits)
        table = [[most, members - most], [hits - most, n - members - hits + most]]
        assert stats.fisher_exact(table, alternative="greater").pvalue > discovery.HOPELESS


def test_a_share_over_strata_is_counted_out() -> None:
    strata = np.repeat([0, 1], [14, 9])
    levels = np.array([0] * 6 + [1] * 8 + [0] * 4 + [1] * 5)
    hit = np.array([1] * 5 + [0] * 8 + [1] + [1] * 3 + [0] * 6, dtype=bool)
    p = discovery.share(strata, levels, hit, 2)[0]
    first = [sum(each) for each in itertools.combinations(hit[:14].tolist(), 6)]
    second = [sum(each) for each in itertools.combinations(hit[14:].tolist(), 4)]
    as_many = sum(a + b >= 8 for a in first for b in second)
    assert p == pytest.approx(as_many / (len(first) * len(second)))


def test_a_large_share_is_near_the_exact_one() -> None:
    """Where strata are too many to convolve: against scipy's exact conditional test of many equal tables' sum."""
    draw = np.random.default_rng(1)
    strata = np.repeat(np.arange(100), 12)
    levels = np.tile(np.arange(4), 300)
    for rate in (0.03, 0.06, 0.09):
        hit = draw.random(1200) < np.where(levels == 2, rate, 0.02)
        exact = _convolved(strata, levels == 2, hit)
        assert discovery.share(strata, levels, hit, 4)[2] == pytest.approx(exact, rel=0.15)


def _convolved(strata: np.ndarray, mine: np.ndarray, hit: np.ndarray) -> float:
    masses = np.ones(1)
    for stratum in np.unique(strata):
        inside = strata == stratum
        law = stats.hypergeom(inside.sum(), (hit & inside).sum(), (mine & inside).sum())
        masses = np.convolve(masses, law.pmf(np.arange(0, (mine & inside).sum() + 1)))
    return float(masses[int((hit & mine).sum()) :].sum())


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(6, 9), st.integers(12, 30))
def test_levels_without_ties_are_mann_and_whitneys_exact_test(seed: int, members: int, others: int) -> None:
    draw = np.random.default_rng(seed)
    values = np.concatenate([draw.normal(1.2, 1, members), draw.normal(0, 1, others)])
    own = np.repeat([0, 1], [members, others])
    found = discovery.levels(np.zeros(len(values), dtype=int), own, values, 2)
    theirs = stats.mannwhitneyu(values[:members], values[members:], method="exact")
    if found.p[0] < 0.05:
        assert found.p[0] == pytest.approx(theirs.pvalue, rel=1e-6)
    assert found.above[0] == pytest.approx(theirs.statistic / (members * others))


def test_levels_with_ties_over_strata_are_counted_out() -> None:
    strata = np.repeat([0, 1], [12, 10])
    values = np.array([3, 3, 2, 3, 1, 1, 0, 1, 2, 0, 1, 1, 5, 5, 4, 4, 4, 4, 4, 5, 4, 4], dtype=float)
    own = np.array([0] * 4 + [1] * 8 + [0] * 3 + [1] * 7)
    found = discovery.levels(strata, own, values, 2)
    ranks = discovery.midranks(strata, values)
    assert ranks[:12] == pytest.approx(stats.rankdata(values[:12]))
    first = [sum(each) for each in itertools.combinations(ranks[:12].tolist(), 4)]
    second = [sum(each) for each in itertools.combinations(ranks[12:].tolist(), 3)]
    observed = ranks[own == 0].sum()
    tail = sum(a + b >= observed - 1e-9 for a in first for b in second) / (len(first) * len(second))
    assert found.p[0] == pytest.approx(2 * tail)
    assert found.way[0] == 1


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=8, max_size=60))
def test_a_trend_is_kendalls(values: list[int]) -> None:
    found = discovery.trend(np.array(values, dtype=float))
    theirs = stats.kendalltau(np.arange(len(values)), values, method="asymptotic", variant="b")
    if math.isnan(found.p):
        assert len(set(values)) == 1
        return
    z = found.s / math.sqrt(found.variance)
    assert 2 * stats.norm.sf(abs(z)) == pytest.approx(theirs.pvalue, rel=1e-6)
    assert found.p >= theirs.pvalue  # by the correction for continuity


def test_a_trends_tail_is_never_lighter_than_its_exact_law() -> None:
    """So that small samples keep their level: all orders of seven, and the p of the clearest of them."""
    for values in (range(7), (0, 0, 0, 0, 0, 1, 1), (0, 0, 0, 1, 1, 2, 2)):
        orders = np.array(list(set(itertools.permutations(values))), dtype=float)
        found = [discovery.trend(each) for each in orders]
        sums = np.array([each.s for each in found])
        for level in (0.05, 0.01, 0.001):
            hits = np.array([each.p for each in found]) <= level
            assert hits.mean() <= level * 1.05
        assert sums.mean() == pytest.approx(0)


def test_theil_and_sens_slope() -> None:
    values = np.array([1.0, 2.1, 2.9, 4.2, 5.0, 60.0])
    assert discovery.slope(values) == pytest.approx(stats.theilslopes(values).slope)


def blocks() -> Iterator[tuple[int, int]]:
    yield from ((10, 10), (64, 64), (65, 32), (1000, 62))


@pytest.mark.parametrize(("n", "blocks"), list(blocks()))
def test_a_long_series_in_blocks(n: int, blocks: int) -> None:
    values = np.arange(n, dtype=float)
    found = discovery.in_blocks(values, 64)
    assert len(found) == blocks
    assert (np.diff(found) > 0).all()
    assert found[-1] == pytest.approx(values[-(n // blocks if n > 64 else 1) :].mean(), abs=1)
