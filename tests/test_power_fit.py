"""rig power: the fit of a threshold, against scipy and statsmodels; what n trials without a failure say."""

from __future__ import annotations

import math
import random
import re

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from statsmodels.stats.proportion import proportion_confint

from rig.errors import UsageProblem
from rig.power.bounds import clopper_pearson, in_a_row, upper_bound, zero_failures
from rig.power.climb import Climb, Climbed, start_of
from rig.power.fit import fit
from rig.power.levels import Levels
from rig.power.posterior import LAPSE_WEIGHTS, LAPSES
from tests.power_models import Model

UNIT = Levels.linear(0, 40, 1)
Trials = list[tuple[float, bool]]


def drawn(n: int, v50: float, scale: float, seed: int) -> Trials:
    rng = np.random.default_rng(seed)
    levels = rng.integers(max(0, round(v50 - 8)), min(40, round(v50 + 8)) + 1, n)
    bad = rng.random(n) < 1 / (1 + np.exp((levels - v50) / scale))
    return [(float(level), bool(each)) for level, each in zip(levels, bad, strict=True)]


# -- against statsmodels: many trials, where the prior no longer matters ---------------------------------------------


@pytest.mark.parametrize(("v50", "scale", "seed"), [(17.3, 1.0, 1), (22.8, 1.9, 2), (11.1, 3.0, 3)])
def test_many_trials_are_fitted_as_statsmodels_does(v50: float, scale: float, seed: int) -> None:
    trials = drawn(4000, v50, scale, seed)
    level, bad = np.array(trials).T
    judge = sm.GLM(bad, sm.add_constant(level), family=sm.families.Binomial()).fit()
    intercept, slope = judge.params
    middle = -intercept / slope
    by = np.array([-1 / slope, intercept / slope**2])  # derivative of -intercept/slope
    sd = math.sqrt(by @ judge.cov_params() @ by)
    found = fit(trials, UNIT)
    assert found.v50.value == pytest.approx(middle, abs=0.35 * sd + 0.01)
    assert found.half_width == pytest.approx(1.96 * sd, rel=0.2, abs=0.02)
    assert found.scale_steps.value == pytest.approx(-1 / slope, rel=0.12)
    assert found.v_at(0.01).value == pytest.approx(middle - math.log(99) / slope, abs=0.6)
    assert found.n == 4000
    assert found.bad == int(bad.sum())
    assert found.doubt is None


# -- against scipy: few trials, integrated without a grid -----------------------------------------------------------


FEW: list[Trials] = [
    [(10.0, True), (20.0, False)],
    [(12.0, True), (13.0, True), (14.0, False), (15.0, False), (16.0, False)],  # separated
    [(12.0, True), (13.0, False), (14.0, True), (14.0, False), (15.0, False), (30.0, True)],  # and one lapse
]


@pytest.mark.parametrize("trials", FEW)
def test_few_trials_are_integrated_as_scipy_does(trials: Trials) -> None:
    """The chance that V50 lies below the ends and the middle of the interval, by scipy's quadrature of the model as
    documented."""
    found = fit(trials, UNIT)
    margin = 8.0

    def density(log_scale: float, v50: float) -> float:
        total = 0.0
        for lapse, weight in zip(LAPSES, LAPSE_WEIGHTS, strict=True):
            product = weight * math.exp(-0.5 * log_scale**2)
            for level, bad in trials:
                sound = 1 / (1 + math.exp(min(500.0, (level - v50) / math.exp(log_scale))))
                chance = lapse / 2 + (1 - lapse) * sound
                product *= chance if bad else 1 - chance
            total += product
        return total

    places = np.linspace(-margin, 40 + margin, 561)  # a fine grid of thresholds, scipy over the scale
    scales = np.linspace(math.log(0.1), math.log(10), 25)
    heights = [integrate.simpson([density(each, place) for each in scales], x=scales) for place in places]
    below = np.concatenate([[0], integrate.cumulative_trapezoid(heights, places)])
    for value, share in zip(found.v50, (0.5, 0.025, 0.975), strict=True):
        off = 0.008 + 0.03 * share * (1 - share)
        assert float(np.interp(value, places, below / below[-1])) == pytest.approx(share, abs=off)


@pytest.mark.parametrize("bad_below", [13, 14])
def test_separated_trials_have_finite_intervals(bad_below: int) -> None:
    """Where maximum likelihood has none: the slope is infinite."""
    trials = [(float(level), level < bad_below) for level in range(8, 20)]
    found = fit(trials, UNIT)
    assert bad_below - 1 <= found.v50.value <= bad_below
    assert 0.5 <= found.half_width <= 3
    assert found.scale_steps.high < 3
    assert all(math.isfinite(each) for each in (*found.v_at(0.01), *found.v_at(0.99), *found.chance(13)))
    more = fit(trials * 5, UNIT)
    assert more.half_width < 0.7 * found.half_width


@settings(derandomize=True, max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40).map(float), st.booleans()), min_size=1, max_size=60), st.booleans())
def test_any_trials_give_ordered_finite_numbers(trials: Trials, downwards: bool) -> None:
    found = fit(trials, UNIT, downwards)
    for one in (found.v50, found.v_at(0.01), found.v_at(0.99), found.scale_steps, found.chance(20.0)):
        assert one.low <= one.value <= one.high
        assert all(math.isfinite(each) for each in one)
    rare, middle, sure = (found.v_at(each).value for each in (0.01, 0.5, 0.99))
    assert (rare > middle > sure) if downwards else (rare < middle < sure)
    chances = [found.chance(level).value for level in UNIT.values]
    assert chances == sorted(chances, reverse=downwards)
    assert fit(random.Random(1).sample(trials, len(trials)), UNIT, downwards).v50 == pytest.approx(found.v50)
    told = found.as_dict()
    assert told["v50"]["value"] == found.v50.value
    assert told["n"] == len(trials)


def test_thousands_at_a_level_do_not_run_out_of_numbers() -> None:
    trials = [(20.0, False)] * 5000 + [(10.0, True)] * 5000 + [(15.0, False)] * 300 + [(15.0, True)] * 300
    found = fit(trials, UNIT)
    assert found.v50.value == pytest.approx(15, abs=0.2)
    assert found.half_width < 0.4


def test_an_interval_beyond_the_levels_is_said_to_be_extrapolated() -> None:
    found = fit([(40.0, True), (40.0, False), (39.0, True), (38.0, True)], UNIT)
    assert found.extrapolated(found.v50)
    inside = fit([(20.0, True), (21.0, False)] * 4, UNIT)
    assert not inside.extrapolated(inside.v50)
    assert inside.as_dict()["v50"]["extrapolated"] is False


# -- doubt ----------------------------------------------------------------------------------------------------------


def grid_of(answer: object, times: int = 3) -> Trials:
    return [(level, answer(level)) for level in UNIT.values[::2] for _ in range(times)]  # type: ignore[operator]


@pytest.mark.parametrize(("answer", "words"), [
    (lambda level: 9 < level < 21, "It is bad from 10 to 20 and good both below and above"),
    (lambda level: not 9 < level < 21, "It is good from 10 to 20 and bad both below and above"),
])  # fmt: skip
def test_a_window_is_no_threshold(answer: object, words: str) -> None:
    for downwards in (True, False):
        found = fit(grid_of(answer), UNIT, downwards)
        assert found.doubt is not None
        assert words in found.doubt


def test_a_board_that_fails_everywhere_now_and_then_is_doubted() -> None:
    for times in (3, 12):
        draw = random.Random(3)
        sick = [(level, bad or draw.random() < 0.3) for level, bad in grid_of(lambda level: level < 15, times)]
        found = fit(sick, UNIT)
        assert found.doubt is not None
        assert re.match(r"\d+ of \d+ trials from 1[46] to 40 were bad, whatever the level", found.doubt)
        mirrored = fit([(40 - level, bad) for level, bad in sick], UNIT, downwards=False)
        assert mirrored.doubt is not None
        assert "from 0 to 2" in mirrored.doubt
        healed = fit([(level, not bad) for level, bad in sick], UNIT, downwards=False)
        assert healed.doubt is not None
        assert "were good, whatever the level" in healed.doubt


def test_a_soft_edge_is_no_reason_for_doubt() -> None:
    assert sum(fit(drawn(60, 20, 3.0, seed), UNIT).doubt is not None for seed in range(60)) <= 2


def test_one_odd_trial_is_no_reason_for_doubt() -> None:
    trials = grid_of(lambda level: level < 15)
    assert fit([*trials, (36.0, True)], UNIT).doubt is None
    assert fit(trials, UNIT).doubt is None


# -- bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "bound"), [(59, 0.05), (299, 0.01), (2995, 0.001)])
def test_zero_failures(n: int, bound: float) -> None:
    assert zero_failures(n) <= bound < zero_failures(n - 1)
    assert in_a_row(bound) == n
    assert zero_failures(n) == pytest.approx(1 - 0.05 ** (1 / n))
    assert (1 - bound) ** n <= 0.05


def test_none_tried_says_nothing() -> None:
    assert zero_failures(0) == 1
    assert clopper_pearson(0, 0) == (0, 1)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 5000), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_clopper_pearson_is_scipys_and_statsmodels(failures: int, others: int, confidence: float) -> None:
    n = failures + others
    if not n:
        return
    judge = stats.binomtest(failures, n).proportion_ci(confidence, method="exact")
    assert clopper_pearson(failures, n, confidence) == pytest.approx((judge.low, judge.high), abs=1e-9)
    assert clopper_pearson(failures, n, confidence) == pytest.approx(
        proportion_confint(failures, n, 1 - confidence, "beta"), abs=1e-9, nan_ok=True
    )
    one_sided = stats.binomtest(failures, n, alternative="less").proportion_ci(confidence, method="exact")
    assert upper_bound(failures, n, confidence) == pytest.approx(one_sided.high, abs=1e-9)


@pytest.mark.parametrize("bad", [
    lambda: in_a_row(0), lambda: in_a_row(0.1, 1), lambda: clopper_pearson(3, 2), lambda: zero_failures(-1),
    lambda: Climb(UNIT, 3), lambda: Climb(UNIT, 3, in_a_row=2, most=0.1), lambda: Climb(UNIT, 3, in_a_row=0),
    lambda: Climb(UNIT, 3, most=1.0),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(bad: object) -> None:
    with pytest.raises(UsageProblem) as told:
        bad()  # type: ignore[operator]
    assert "\n" not in str(told.value)


# -- so many in a row -----------------------------------------------------------------------------------------------


def climbed(climb: Climb, answer: object) -> Climbed:
    while (level := climb.next()) is not None:
        climb.tell(level, answer(level))  # type: ignore[operator]
    return climb.result


def test_it_climbs_until_a_row_holds() -> None:
    climb = Climb(UNIT, 10, in_a_row=7)
    found = climbed(climb, lambda level: level < 13)
    assert found == Climbed(13, 7, pytest.approx(1 - (0.05 / 20) ** (1 / 7)), 0.95, (10, 11, 12), 10)
    assert found.as_dict()["refuted"] == [10, 11, 12]


def test_it_climbs_down_where_more_is_worse() -> None:
    assert climbed(Climb(UNIT, 10, in_a_row=3, downwards=False), lambda level: level > 8).level == 8


def test_where_nothing_holds_there_is_no_level() -> None:
    found = climbed(Climb(UNIT, 37, in_a_row=2), lambda level: True)
    assert found.level is None
    assert found.most == 1
    assert found.refuted == (37, 38, 39, 40)


def test_one_failure_after_many_successes_refutes_a_level() -> None:
    climb = Climb(UNIT, 5, in_a_row=4).replay([(5.0, False)] * 3 + [(5.0, True)])
    assert climb.next() == 6
    assert climb.result.level is None
    climb.tell(5.0, False)  # a level that is not asked for counts nowhere
    assert climb.result.trials == 4
    climb.replay([(6.0, False)] * 3)  # what held at another level does not count for this one
    assert not climb.done
    climb.tell(6.0, False)
    assert climb.result.level == 6


def test_what_a_climb_says_is_wrong_as_seldom_as_it_claims() -> None:
    """The level found is bad more often than said in 5 % of climbs at most, begun just below where it is so."""
    wrong, n = 0, 1500
    for seed in range(n):
        model = Model(UNIT, 12.0, 2.0, 0.0, seed)
        board = model.board()
        found = climbed(Climb(UNIT, 16, most=0.1), board.bad)
        assert found.level is not None
        assert found.most <= 0.1
        wrong += model.chance(found.level) > 0.1
    assert stats.binomtest(wrong, n, 0.05, alternative="greater").pvalue > 0.01
    assert wrong > 0  # the test can tell


def test_a_row_of_its_own_length_says_what_it_was_asked_for() -> None:
    climb = Climb(UNIT, 10, most=0.1)
    assert climb.wanted == 36  # 29 would do at the one level; half of the error is kept for others
    climb.tell(10, True)
    assert climb.wanted > 36


def test_a_climb_begins_where_a_row_is_about_as_likely_as_not() -> None:
    trials = [(float(level), level < 15) for level in range(5, 26)]
    found = fit(trials, UNIT)
    begin = start_of(found, 10, trials)
    assert 15 <= begin <= 20
    assert start_of(found, 1000, trials) >= begin
    assert start_of(found, 10, [*trials, (begin, True)]) > begin
    assert start_of(fit(trials, UNIT), 10, [*trials, (39.0, True)]) == begin  # a lapse far away
    upwards = [(float(level), level > 15) for level in range(5, 26)]
    assert 10 <= start_of(fit(upwards, UNIT, downwards=False), 10, upwards) <= 15
