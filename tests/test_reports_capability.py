"""Cp, Cpk, Pp, Ppk against scipy, simulation and published worked examples."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.capability import D2, capability, cp_interval, cpk_interval, shape, sigma_within

fixed = settings(derandomize=True, deadline=None, max_examples=60)


def scaled(values: np.ndarray, mean: float, sigma: float) -> np.ndarray:
    """These values moved and stretched so that their mean and standard deviation are exactly that."""
    return mean + sigma * (values - values.mean()) / values.std(ddof=1)


# -- published -----------------------------------------------------------------------------------------------


def test_nist_handbook_example_of_cp_and_cpk() -> None:
    """NIST/SEMATECH e-Handbook 6.1.6 (itl.nist.gov/div898/handbook/pmc/section1/pmc16.htm): limits 8 and 20, mean 16,
    standard deviation 2 give Cp 1.0 and Cpk 0.6667. It uses the standard deviation of all values: our Pp, Ppk."""
    found = capability(scaled(np.random.default_rng(1).normal(size=100), 16, 2), 8, 20)
    assert found.pp is not None
    assert found.ppk is not None
    assert found.pp.value == pytest.approx(1.0)
    assert found.ppk.value == pytest.approx(0.6667, abs=5e-5)


@pytest.mark.parametrize(
    ("sigma", "limits", "cp", "cpk"),
    [
        (0.009785039, (73.95, 74.05), (1.703, 1.491, 1.915), (1.663, 1.448, 1.878)),
        (0.009785039, (73.99, 74.01), (0.3407, 0.2983, 0.3830), (0.3006, 0.2312, 0.3700)),
        (0.009785039, (73.99, 74.1), (1.8736, 1.6406, 2.1063), (0.3807, 0.3055, 0.4559)),
    ],
)
def test_piston_rings(
    sigma: float, limits: tuple[float, float], cp: tuple[float, ...], cpk: tuple[float, ...]
) -> None:
    """Montgomery's piston rings (25 samples of 5, centre 74.00118) as the R package qcc and its port in `mistat` work
    them out with 95 % intervals (github.com/gedeck/mistat, src/mistat/qcc/tests/test_processCapability.py)."""
    low, high = limits
    both = cp_interval((high - low) / (6 * sigma), 124)
    side = cpk_interval(min(high - 74.00118, 74.00118 - low) / (3 * sigma), 125, 124)
    assert (both.value, both.low, both.high) == pytest.approx(cp, rel=6e-4)
    assert (side.value, side.low, side.high) == pytest.approx(cpk, rel=6e-4)


def test_montgomery_example_of_an_interval_of_cp() -> None:
    """Montgomery, Introduction to Statistical Quality Control, example of a confidence interval on Cp: limits 38 and
    62, n 20, s 1.75: Cp 2.29, 1.57 to 3.01."""
    found = cp_interval((62 - 38) / (6 * 1.75), 19)
    assert (found.value, found.low, found.high) == pytest.approx((2.29, 1.57, 3.01), abs=0.006)


def test_sigma_within_of_the_nist_flowrate_example() -> None:
    """NIST/SEMATECH e-Handbook 6.3.2.2 (pmc322.htm): mean moving range 1.8778, and d2 of two is 1.128."""
    flow = np.array([49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1])
    assert pytest.approx(2 / np.sqrt(np.pi), abs=5e-4) == D2, "the mean of |x - y| for two normal values"
    assert sigma_within(flow)[0] == pytest.approx(1.8778 / 1.128, abs=5e-5)


# -- independent ---------------------------------------------------------------------------------------------


@fixed
@given(st.integers(30, 400), st.integers(0, 10_000), st.sampled_from(["normal", "gamma", "uniform"]))
def test_shape_and_its_test_agree_with_scipy(n: int, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    values = {"normal": rng.normal(size=n), "gamma": rng.gamma(2, size=n), "uniform": rng.uniform(size=n)}[kind]
    skew, kurtosis, p = shape(values)
    assert skew == pytest.approx(float(stats.skew(values)))
    assert kurtosis == pytest.approx(float(stats.kurtosis(values)))
    assert p == pytest.approx(float(stats.normaltest(values).pvalue), rel=1e-9)


def test_intervals_of_cp_agree_with_scipys_chi_square() -> None:
    found = cp_interval(1.2, 87)
    low, high = (1.2 * np.sqrt(stats.chi2.ppf(q, 87) / 87) for q in (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize(("n", "cpk"), [(30, 1.0), (50, 1.33), (200, 0.7), (1000, 1.67)])
def test_bissell_is_close_to_the_exact_interval_of_one_side(n: int, cpk: float) -> None:
    """With one limit Cpk is a noncentral t over 3 sqrt(n): its interval is exact; Bissell's is off by at most
    7 % of it."""
    from scipy.optimize import brentq

    seen, scale = 3 * np.sqrt(n) * cpk, 3 * np.sqrt(n)
    low, high = (
        brentq(lambda true, p=p: stats.nct.sf(seen, n - 1, scale * true) - p, 0.05, 4) for p in (0.025, 0.975)
    )
    found = cpk_interval(cpk, n, n - 1)
    assert abs(found.low - low) < 0.07 * (high - low)
    assert abs(found.high - high) < 0.07 * (high - low)


def test_degrees_of_freedom_of_the_mean_moving_range() -> None:
    """What 4000 simulated series show: the estimate is right on average and varies as the freedom says."""
    rng = np.random.default_rng(7)
    series = rng.normal(size=(4000, 60))
    slots = np.tile(np.arange(60) % 3, 1)
    for groups in (None, slots):
        found = [sigma_within(row, groups) for row in series]
        sigmas = np.array([sigma for sigma, _ in found])
        freedom = found[0][1]
        assert sigmas.mean() == pytest.approx(1, abs=0.01)
        assert 1 / (2 * sigmas.var() / sigmas.mean() ** 2) == pytest.approx(freedom, rel=0.06)


def test_intervals_hold_what_they_promise() -> None:
    """95 in 100 intervals have the true index in them (3000 series, so 93.5 to 96.5 of a hundred)."""
    rng = np.random.default_rng(11)
    held = {"cp": 0, "cpk": 0, "ppk": 0}
    for row in rng.normal(size=(3000, 50)):
        found = capability(row, -3, 4)
        for name, true in (("cp", 7 / 6), ("cpk", 1.0), ("ppk", 1.0)):
            index = getattr(found, name)
            held[name] += index.low <= true <= index.high
    for name, count in held.items():
        assert 0.935 < count / 3000 < 0.965, name


def test_the_share_outside_is_bounded_as_scipy_does() -> None:
    values = scaled(np.random.default_rng(3).normal(size=400), 0, 1)
    found = capability(values, -2, 2)
    assert found.tail is not None
    outside = int((np.abs(values) > 2).sum())
    assert found.tail.outside == outside > 0
    exact = stats.binomtest(outside, 400, alternative="less").proportion_ci(0.95, "exact").high
    assert found.tail.at_most == pytest.approx(exact)


# -- groups, gaps, sides -------------------------------------------------------------------------------------


def test_no_moving_range_spans_two_slots() -> None:
    """Two slots, a volt apart, taking turns: within a slot there is only the small spread."""
    rng = np.random.default_rng(5)
    slots = np.arange(200) % 2
    values = slots * 1.0 + rng.normal(scale=0.01, size=200)
    mixed, kept = capability(values, -1, 2), capability(values, -1, 2, groups=slots)
    assert mixed.sigma_within > 0.8
    by_hand = np.concatenate([np.abs(np.diff(values[slots == slot])) for slot in (0, 1)]).mean() / D2
    assert kept.sigma_within == pytest.approx(by_hand)
    assert kept.sigma_overall == pytest.approx(float(np.std(values, ddof=1)))
    assert kept.cpk is not None
    assert kept.ppk is not None
    assert kept.cpk.value > 10 * kept.ppk.value


def test_what_is_no_number_is_left_out_with_its_group() -> None:
    rng = np.random.default_rng(6)
    values, slots = rng.normal(size=60), np.array(list("ABC") * 20)
    holes = np.arange(60) % 7 == 3
    gappy = values.copy()
    gappy[holes] = np.nan
    gappy[3] = np.inf
    assert capability(gappy, -3, 3, groups=slots) == capability(values[~holes], -3, 3, groups=slots[~holes])


@pytest.mark.parametrize(("lower", "upper"), [(None, 0.3), (-0.2, None)])
def test_one_limit_gives_cpk_and_no_cp(lower: float | None, upper: float | None) -> None:
    values = scaled(np.random.default_rng(2).normal(size=50), 0.05, 0.02)
    found = capability(values, lower, upper)
    assert found.cp is None
    assert found.pp is None
    assert found.ppk is not None
    assert found.ppk.value == pytest.approx(0.25 / 0.06)


# -- refusals and warnings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "limits", "sentence"),
    [
        ([], (0, 1), "0 values: too few, an index is not stated below 30."),
        ([1.0], (0, 1), "1 value: too few, an index is not stated below 30."),
        (list(range(29)), (0, 1), "29 values: too few, an index is not stated below 30."),
        ([0.1] * 50, (0, 1), "All 50 values are 0.1: there is no spread to compare with the limits."),
        (list(range(50)), (None, None), "There is no limit to compare the values with."),
        (list(range(50)), (2, 1), "The limits 2 and 1 leave nothing between them."),
        ([float("nan")] * 50, (0, 1), "0 values: too few, an index is not stated below 30."),
    ],
)
def test_refused_in_one_sentence(
    values: list[float], limits: tuple[float | None, float | None], sentence: str
) -> None:
    found = capability(np.array(values, dtype=float), *limits)
    assert found.refused == sentence
    assert found.cp is found.cpk is found.pp is found.ppk is None


def test_thirty_values_are_enough() -> None:
    found = capability(np.random.default_rng(1).normal(size=30), -4, 4)
    assert found.refused is None
    assert found.cpk is not None
    assert found.cpk.low < found.cpk.value < found.cpk.high


def test_a_million_values_a_little_off_a_bell_are_no_warning_and_a_lopsided_hundred_are() -> None:
    rng = np.random.default_rng(8)
    many = rng.normal(size=1_000_000)
    many += 0.02 * many**2
    slight = capability(many, -6, 6)
    assert slight.normal_p == pytest.approx(0, abs=1e-12)
    assert slight.warnings == []
    few = capability(rng.gamma(1.0, size=100), None, 6)
    assert len(few.warnings) == 1
    assert few.warnings[0].startswith("The values are not normal (skewness ")
    assert " of 100 were outside the limits (at most " in few.warnings[0]


def test_normal_values_are_warned_of_about_as_seldom_as_the_test_says() -> None:
    rng = np.random.default_rng(9)
    warned = sum(bool(capability(row, -5, 5).warnings) for row in rng.normal(size=(1000, 60)))
    assert warned <= 30  # 1 % by the test, less by the effect, and K2 is a little too keen on few values


def test_quantiles_tell_the_tail_that_sigmas_do_not() -> None:
    """Exponential values: 3.7 of a million lie above 12.5, and Ppk from sigma says 3.8 where Ppk from quantiles, as
    reckoned from the true ones, is 2.0."""
    found = capability(np.random.default_rng(4).exponential(size=200_000), None, 12.5)
    assert found.tail is not None
    true = (12.5 - np.log(2)) / (-np.log(0.00135) - np.log(2))
    assert found.tail.ppk == pytest.approx(true, rel=0.03)
    assert found.ppk is not None
    assert found.ppk.value > 1.8 * true
    assert "by quantiles instead of sigmas Ppk is" in found.warnings[0]


def test_a_meters_steps_coarser_than_the_spread_are_said() -> None:
    rng = np.random.default_rng(10)
    fine, coarse = np.round(rng.normal(0, 1, 400), 1), np.round(rng.normal(0, 0.4, 400))
    assert capability(fine, -4, 4).warnings == []
    found = capability(coarse, -4, 4)
    assert found.warnings[0].startswith("Only 3 different values, 1 apart: the spread is as coarse as the meter's")


def test_a_single_jump_has_a_spread_but_hardly_one_within() -> None:
    steps = np.repeat([1.0, 2.0], 30)
    found = capability(steps, 0, 3, groups=np.repeat([0, 1], 30))
    assert found.sigma_within == 0
    assert found.cp is found.cpk is None
    assert found.ppk is not None
    assert any("no Cp and no Cpk" in warning for warning in found.warnings)


def test_a_level_that_moves_is_said_and_chance_seldom_looks_like_it() -> None:
    rng = np.random.default_rng(13)
    found = capability(np.linspace(0, 5, 200) + rng.normal(size=200), -5, 10)
    assert found.warnings[-1].startswith("The level moves: all values spread 1.")
    still = rng.normal(size=(1000, 30))
    assert sum("level moves" in said for row in still for said in capability(row, -5, 5).warnings) <= 10


def test_a_million_values_in_well_under_a_second() -> None:
    rng = np.random.default_rng(12)
    values, slots = rng.normal(size=1_000_000), rng.integers(0, 80, 1_000_000).astype(np.int16)
    best = 9.0
    for _ in range(3):
        began = time.process_time()
        capability(values, -5, 5, groups=slots)
        best = min(best, time.process_time() - began)
    assert best < 0.8
