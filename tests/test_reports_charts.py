"""Control charts and the Western Electric rules, against published examples, plain loops and simulation."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.charts import D4, RULES, Hit, chance, individuals, proportions, western_electric

fixed = settings(derandomize=True, deadline=None, max_examples=100)


def by_the_book(z: list[float]) -> list[Hit]:
    """The rules as one reads them, point by point."""
    hits = []
    for at, point in enumerate(z):
        side = math.copysign(1, point)
        mine = [each * side for each in z[: at + 1]]
        if abs(point) > 3:
            hits.append(Hit(1, at))
        if mine[-1] > 2 and sum(each > 2 for each in mine[-3:]) >= 2:
            hits.append(Hit(2, at))
        if mine[-1] > 1 and sum(each > 1 for each in mine[-5:]) >= 4:
            hits.append(Hit(3, at))
        if len(mine) >= 8 and all(each > 0 for each in mine[-8:]):
            hits.append(Hit(4, at))
    return hits


def mean_hits(z: np.ndarray) -> dict[int, float]:
    """Mean raw hits by rule of the series that are the rows of `z`; points on the centre line keep them apart."""
    apart = np.pad(z, ((0, 0), (0, 4)))
    return {rule: count / len(z) for rule, count in western_electric(apart.ravel()).counts().items()}


def in_control(n: int, series: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(series, n))


def by_own_limits(rows: np.ndarray, baseline: int) -> np.ndarray:
    """Each row in sigmas from the centre that its first values give."""
    first = rows[:, :baseline]
    sigma = np.abs(np.diff(first)).mean(axis=1, keepdims=True) / 1.128
    return (rows - first.mean(axis=1, keepdims=True)) / sigma


# -- published -----------------------------------------------------------------------------------------------


def test_nist_individuals_of_flowrate() -> None:
    """NIST/SEMATECH e-Handbook 6.3.2.2 (itl.nist.gov/div898/handbook/pmc/section3/pmc322.htm): ten flowrates, centre
    50.81, limits 55.8041 and 45.8159, in control. Upper limit of the ranges: 3.267 times their mean, 1.8778."""
    chart, ranges = individuals(np.array([49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1]))
    assert (chart.centre, chart.lower, chart.upper) == pytest.approx((50.81, 45.8159, 55.8041), abs=5e-5)
    assert len(chart.hits) == 0
    assert (ranges.centre, ranges.lower, ranges.upper) == pytest.approx((1.8778, 0, 6.1347), abs=5e-5)
    assert ranges.points[1:] == pytest.approx([2.0, 2.3, 1.4, 3.5, 3.4, 1.4, 0.2, 1.2, 1.5])
    assert np.isnan(ranges.points[0])


ORANGE_JUICE = [12, 15, 8, 10, 4, 7, 16, 9, 14, 10, 5, 6, 17, 12, 22, 8, 10, 5, 13, 11, 20, 18, 24, 15, 9, 12, 7, 13,
                9, 6]  # fmt: skip


def test_montgomerys_cans_of_orange_juice() -> None:
    """Montgomery, Introduction to Statistical Quality Control (2nd ed., pp. 152-155), 30 samples of 50 cans, as the R
    package qcc has them (`orangejuice`): centre 0.2313333, limits 0.05242755 and 0.4102391; samples 15 and 23 are
    out. NIST/SEMATECH 6.3.3.2 (pmc332.htm) has the same centre, 0.2313 of 30 times 50, for chips on wafers."""
    chart = proportions(np.array(ORANGE_JUICE), np.full(30, 50))
    assert chart.centre == pytest.approx(0.2313333, abs=5e-8)
    assert chart.lower == pytest.approx(np.full(30, 0.05242755), abs=5e-9)
    assert chart.upper == pytest.approx(np.full(30, 0.4102391), abs=5e-8)
    assert (chart.hits.of(1) + 1).tolist() == [15, 23]


def test_pyzdeks_peaches_in_crates_of_differing_number() -> None:
    """Pyzdek and Keller, The Handbook for Quality Management (2013), table 9.6: shipments of one or two crates of 250
    peaches, 1544 of 8000 bruised: p 0.193, and limits for each n by the textbook's formula; all are in control."""
    bruised = [47, 42, 55, 51, 46, 61, 39, 44, 41, 51, 88, 101, 101, 40, 48, 47, 50, 48, 57, 45, 43, 105, 98, 100, 96]
    n = np.full(25, 250)
    n[[10, 11, 12, 21, 22, 23, 24]] = 500
    chart = proportions(np.array(bruised), n)
    assert chart.centre == pytest.approx(0.193)
    assert isinstance(chart.upper, np.ndarray)
    assert isinstance(chart.lower, np.ndarray)
    for at, size in ((0, 250), (10, 500)):
        reach = 3 * math.sqrt(0.193 * 0.807 / size)
        assert (chart.lower[at], chart.upper[at]) == pytest.approx((0.193 - reach, 0.193 + reach))
    assert len(chart.hits.of(1)) == 0


def test_constants_are_those_of_two_normal_values() -> None:
    """d2 and d3 of two: mean and deviation of |x - y|. D4 is 1 + 3 d3/d2."""
    half = stats.halfnorm(scale=math.sqrt(2))
    assert half.mean() == pytest.approx(1.128, abs=5e-4)
    assert 1 + 3 * half.std() / half.mean() == pytest.approx(D4, abs=1e-3)


def test_run_length_of_champ_and_woodall() -> None:
    """Champ and Woodall, Technometrics 29 (1987): with all four rules an in-control chart signals first after 91.75
    points on average. 8,000 series, so within 3 of it."""
    rng, lengths = np.random.default_rng(1987), []
    for row in rng.normal(size=(8_000, 700)):
        hits = western_electric(row)
        lengths.append(hits[0].index + 1 if len(hits) else 700 + 92)
    assert np.mean(lengths) == pytest.approx(91.75, abs=3)


# -- rules -----------------------------------------------------------------------------------------------------


@fixed
@given(st.lists(st.sampled_from([-3.5, -3, -2.5, -1.5, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.5]), max_size=40))
def test_the_rules_agree_with_a_plain_loop(z: list[float]) -> None:
    assert western_electric(np.array(z)) == by_the_book(z)


@fixed
@given(st.integers(0, 10_000), st.floats(0, 1.5))
def test_the_rules_agree_with_a_plain_loop_on_a_drifting_process(seed: int, shift: float) -> None:
    z = np.random.default_rng(seed).normal(shift, 1, 80)
    assert western_electric(z) == by_the_book(z.tolist())


@pytest.mark.parametrize(
    ("z", "hits"),
    [
        ([0, 3.1], [Hit(1, 1)]),
        ([0, 3.0], []),
        ([2.5, 0, 2.5], [Hit(2, 2)]),
        ([2.5, 2.5, 0], [Hit(2, 1)]),
        ([2.5, 0, 0, 2.5], []),
        ([2.5, -2.5, 0], []),
        ([1.5, 1.5, 0, 1.5, 1.5], [Hit(3, 4)]),
        ([1.5, 1.5, 1.5, 0, 0.5], []),
        ([0.5] * 7 + [-0.5], []),
        ([0.5] * 9, [Hit(4, 7), Hit(4, 8)]),
        ([0.5] * 4 + [0.0] + [0.5] * 4, []),
        ([], []),
    ],
)
def test_a_hit_is_the_point_that_completes_its_pattern(z: list[float], hits: list[Hit]) -> None:
    assert western_electric(np.array(z)) == hits
    assert western_electric(-np.array(z)) == hits


def test_missing_points_are_passed_over_and_the_rest_keep_their_places() -> None:
    z = np.array([0.5, np.nan, 0.5, 0.5, 0.5, np.nan, 0.5, 0.5, 0.5, 0.5, 3.5])
    assert western_electric(z) == [Hit(4, 9), Hit(1, 10), Hit(4, 10)]


# -- chance ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 5, 9, 60])
def test_chance_with_known_limits_is_what_simulation_shows(n: int) -> None:
    exact, seen = chance(n), mean_hits(in_control(n, 1_000_000 // n, seed=n))
    for rule in RULES:
        margin = 6 * math.sqrt(max(exact[rule], 1e-5) * n / 1_000_000)  # hits come in clumps of up to a few
        assert seen[rule] == pytest.approx(exact[rule], abs=margin), rule


@pytest.mark.parametrize("n", [16, 30, 120])
def test_chance_with_limits_from_the_points_themselves_is_what_simulation_shows(n: int) -> None:
    seen = mean_hits(by_own_limits(in_control(n, 1_500_000 // n, seed=n), n))
    expected = individuals(in_control(n, 1, seed=0)[0])[0].expected
    for rule in RULES:
        assert seen[rule] == pytest.approx(expected[rule], rel=0.12), rule


def test_chance_after_a_short_baseline_is_what_simulation_shows_and_far_more() -> None:
    seen = mean_hits(by_own_limits(in_control(125, 20_000, seed=2), 25))
    expected = individuals(in_control(125, 1, seed=0)[0], baseline=slice(0, 25))[0].expected
    for rule in RULES:
        assert seen[rule] == pytest.approx(expected[rule], rel=0.15), rule
    assert expected[1] > 3 * chance(125)[1]


def test_chance_of_ranges_is_what_simulation_shows() -> None:
    chart, ranges = individuals(np.random.default_rng(3).normal(size=500_000))
    assert ranges.hits.counts()[1] == pytest.approx(ranges.expected_by_chance, rel=0.05)
    assert len(chart.hits) == pytest.approx(chart.expected_by_chance, rel=0.05)


@pytest.mark.parametrize("p", [0.5, 0.9, 0.985])
def test_chance_of_proportions_is_what_simulation_shows(p: float) -> None:
    """Subgroups of differing n; near 100 % the binomial is lopsided, and the normal's numbers would be wrong."""
    n = np.tile([20, 64, 64, 37, 8], 24)
    good = np.random.default_rng(4).binomial(n, p, size=(20_000, len(n)))
    own = good.sum(axis=1, keepdims=True) / n.sum()
    seen = mean_hits((good / n - own) / np.sqrt(own * (1 - own) / n))
    charts = [proportions(row, n) for row in good[:150]]  # what is expected follows each chart's own share
    for rule in RULES:
        expected = float(np.mean([chart.expected[rule] for chart in charts]))
        assert seen[rule] == pytest.approx(expected, rel=0.15), rule
    if p > 0.9:
        assert seen[1] > 2 * chance(len(n))[1]


def test_a_shift_gives_more_hits_than_chance() -> None:
    values = np.random.default_rng(5).normal(size=400)
    values[200:] += 1.5
    chart, _ = individuals(values, baseline=slice(0, 200))
    assert len(chart.hits) > 5 * chart.expected_by_chance
    assert chart.hits[0].index >= 0
    assert min(chart.hits.of(4)) >= 0


# -- charts ----------------------------------------------------------------------------------------------------


def test_limits_come_from_the_baseline_alone() -> None:
    rng = np.random.default_rng(6)
    values = np.concatenate([rng.normal(size=25), rng.normal(8, 1, size=25)])
    chart, ranges = individuals(values, baseline=slice(0, 25))
    alone, alone_ranges = individuals(values[:25])
    assert (chart.centre, chart.lower, chart.upper) == (alone.centre, alone.lower, alone.upper)
    assert ranges.upper == alone_ranges.upper
    assert set(range(25, 50)) <= set(chart.hits.of(1).tolist())
    assert "short a baseline" in chart.method


def test_missing_values_have_no_point_and_no_range() -> None:
    chart, ranges = individuals(np.array([1.0, np.nan, 3.0, 2.0, np.inf]))
    assert chart.n == 3
    assert np.isnan(chart.points).tolist() == [False, True, False, False, True]
    assert ranges.points[[2, 3]].tolist() == [2.0, 1.0]
    assert chart.centre == 2.0


@pytest.mark.parametrize(
    ("values", "note"),
    [([], "Limits need two values or more."), ([1.0], "Limits need two values or more."),
     ([0.1] * 9, "The values that the limits come from are all 0.1: without a spread there are no limits.")],
)  # fmt: skip
def test_no_limits_without_a_spread(values: list[float], note: str) -> None:
    for chart in individuals(np.array(values)):
        assert chart.note == note
        assert len(chart.hits) == 0
        assert chart.expected_by_chance == 0


def test_proportions_with_empty_subgroups_and_without_a_spread() -> None:
    chart = proportions(np.array([9, 0, 10]), np.array([10, 0, 10]))
    assert chart.n == 2
    assert np.isnan(chart.points[1])
    assert chart.centre == 0.95
    all_good = proportions(np.array([5, 6]), np.array([5, 6]))
    assert all_good.note == "All 11 are good: without a spread there are no limits."
    assert len(all_good.hits) == 0
    none = proportions(np.array([0, 0]), np.array([0, 0]))
    assert none.note == "There is no subgroup with a unit in it."
    assert none.n == 0


def test_limits_of_proportions_stay_within_0_and_1() -> None:
    chart = proportions(np.array([4, 5, 5, 200]), np.array([5, 5, 5, 210]))
    assert isinstance(chart.upper, np.ndarray)
    assert isinstance(chart.lower, np.ndarray)
    assert chart.upper.max() <= 1
    assert chart.lower.min() >= 0
    assert chart.upper[3] < chart.upper[0] == 1


def test_a_million_points_in_well_under_a_third_of_a_second() -> None:
    values = np.random.default_rng(7).normal(size=1_000_000)
    drifted = values + np.linspace(0, 30, 1_000_000)
    best = {"rules": 9.0, "drift": 9.0, "chart": 9.0}
    for _ in range(3):
        for name, run in (("rules", lambda: western_electric(values)), ("drift", lambda: western_electric(drifted)),
                          ("chart", lambda: individuals(values))):  # fmt: skip
            began = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - began)
    assert best["rules"] < 0.3
    assert best["drift"] < 0.6
    assert best["chart"] < 0.6
