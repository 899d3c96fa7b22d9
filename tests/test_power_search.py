"""rig power: thresholds found in few trials, against boards whose threshold is known; told again, the same again."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rig.errors import UsageProblem
from rig.power.fit import Fit, fit
from rig.power.jobs import grid_order
from rig.power.levels import Levels
from rig.power.search import MAX_TRIALS, Search
from rig.power.study import GridTable, Range
from tests.power_models import COARSE, FINE, Model, models, searched

COUNT = 200


@pytest.fixture(scope="module")
def all_found() -> list[tuple[Model, Search, Fit]]:
    """200 boards and what a search with its defaults finds of each."""
    made = [(model, searched(model)) for model in models(COUNT, seed=9)]
    return [(model, search, search.result) for model, search in made]


def not_less_than(share: float, hits: int, n: int) -> bool:
    return float(stats.binomtest(hits, n, share, alternative="less").pvalue) > 0.01


def as_often_as(share: float, hits: int, n: int) -> bool:
    return float(stats.binomtest(hits, n, share).pvalue) > 0.01


# -- the truth is found ---------------------------------------------------------------------------------------------


def test_v50_is_found_within_two_steps_in_few_trials(all_found: list[tuple[Model, Search, Fit]]) -> None:
    near = sum(model.steps_off(result.v50.value) <= 2 for model, _, result in all_found)
    trials = [len(search.trials) for _, search, _ in all_found]
    assert near >= 0.95 * COUNT
    assert median(trials) < 30
    assert max(trials) <= MAX_TRIALS
    assert all(result.outside is None for _, _, result in all_found)


def test_intervals_cover_the_truth_as_often_as_they_claim(all_found: list[tuple[Model, Search, Fit]]) -> None:
    def covered(confidence: float) -> int:
        again = [(model, fit(search.trials, search.levels, confidence=confidence)) for model, search, _ in all_found]
        return sum(result.v50.low <= model.v50 <= result.v50.high for model, result in again)

    hits = sum(result.v50.low <= model.v50 <= result.v50.high for model, _, result in all_found)
    assert as_often_as(0.95, hits, COUNT), f"{hits} of {COUNT}"
    assert as_often_as(0.8, covered(0.8), COUNT)
    rare = sum(one.low <= model.v01 <= one.high for model, one in ((m, r.v_at(0.01)) for m, _, r in all_found))
    assert not_less_than(0.95, rare, COUNT), f"{rare} of {COUNT}"
    scales = sum(r.scale_steps.low <= model.scale <= r.scale_steps.high for model, _, r in all_found)
    assert not_less_than(0.95, scales, COUNT), f"{scales} of {COUNT}"


def test_a_search_that_is_done_is_as_narrow_as_it_says(all_found: list[tuple[Model, Search, Fit]]) -> None:
    for _, search, result in all_found:
        assert search.done
        assert result.half_width <= search.precision + 1e-9 or len(search.trials) == search.max_trials
    assert sum(len(search.trials) < search.max_trials for _, search, _ in all_found) > 0.75 * COUNT


def test_one_threshold_is_hardly_ever_doubted(all_found: list[tuple[Model, Search, Fit]]) -> None:
    assert sum(result.doubt is not None for _, _, result in all_found) <= 0.02 * COUNT


def test_a_grid_and_its_fit_agree_with_the_search(all_found: list[tuple[Model, Search, Fit]]) -> None:
    """A grid that knows nothing of the search: every other level about where it begins to fail, eight times each."""
    off, covered, apart = [], 0, []
    some = all_found[:80]
    for model, _, by_search in some:
        index = COARSE.values.index(COARSE.nearest(model.v50)) + random.Random(model.seed).randint(-3, 3)
        values = COARSE.values[max(0, index - 8) : index + 9 : 2]
        table = GridTable(axes={"volts": Range(listed=list(values))}, repeats=8)
        board = model.board()
        result = fit([(x["volts"], board.bad(x["volts"])) for x in grid_order(table, str(model.seed))], COARSE)
        off.append(model.steps_off(result.v50.value))
        covered += result.v50.low <= model.v50 <= result.v50.high
        apart.append(abs(result.v50.value - by_search.v50.value) / COARSE.step)
    assert sum(each <= 2 for each in off) >= 0.95 * len(some)
    assert sum(each <= 2 for each in apart) >= 0.95 * len(some)
    assert not_less_than(0.95, covered, len(some))


@pytest.mark.soak
@pytest.mark.parametrize("levels", [COARSE, FINE], ids=["coarse", "fine"])
def test_two_thousand_boards(levels: Levels, capsys: pytest.CaptureFixture[str]) -> None:
    """The same on more boards and a finer supply, and how it is at each softness: printed."""
    made = [(model, searched(model)) for model in models(2000, seed=10, levels=levels)]
    found = [(model, search, search.result) for model, search in made]
    assert sum(model.steps_off(result.v50.value) <= 2 for model, _, result in found) >= 0.95 * len(found)
    assert median(len(search.trials) for _, search, _ in found) < 30
    share = sum(result.v50.low <= model.v50 <= result.v50.high for model, _, result in found) / len(found)
    assert 0.935 <= share <= 0.985
    with capsys.disabled():
        for low, high in ((0.3, 0.6), (0.6, 1), (1, 1.5), (1.5, 2)):
            mine = [each for each in found if low <= each[0].scale < high]
            hits = sum(result.v50.low <= model.v50 <= result.v50.high for model, _, result in mine)
            near = sum(model.steps_off(result.v50.value) <= 2 for model, _, result in mine)
            trials = median(len(search.trials) for _, search, _ in mine)
            print(f"\nscale {low} to {high}: {len(mine)} boards, median {trials:.0f} trials, "  # noqa: T201
                  f"covered {hits / len(mine):.1%}, within 2 steps {near / len(mine):.1%}", end="")  # fmt: skip


# -- how it goes about it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flipped", [None, *range(14)])
def test_one_lapse_anywhere_does_not_ruin_it(flipped: int | None) -> None:
    search = Search(COARSE, seed=3)
    while (level := search.next()) is not None:
        search.tell(level, (level < 2.51) != (len(search.trials) == flipped))
    assert search.result.v50.value == pytest.approx(2.50, abs=1.5 * COARSE.step)
    assert len(search.trials) < 40


def test_it_bisects_first_and_then_stays_where_the_edge_is() -> None:
    search = Search(FINE, seed=1)
    asked: list[tuple[str, float]] = []
    while (level := search.next()) is not None:
        asked.append((search.phase, level))
        search.tell(level, level < 2.123)
    bisected = [level for phase, level in asked if phase == "bracket"]
    assert bisected[0] == pytest.approx(2.4, abs=0.011)
    assert bisected[1] == pytest.approx((FINE.low + 2.4) / 2, abs=0.1)  # it may lie a little below all levels
    assert len(bisected) <= math.log2(len(FINE.values)) + 1
    assert {phase for phase, _ in asked[len(bisected) :]} == {"place"}
    assert all(abs(level - 2.123) <= 0.06 for phase, level in asked if phase == "place")


@pytest.mark.parametrize(("downwards", "answer", "side"), [
    (True, False, "below"), (True, True, "above"), (False, False, "above"), (False, True, "below"),
])  # fmt: skip
def test_a_threshold_off_the_levels_is_said_to_be_off_them(downwards: bool, answer: bool, side: str) -> None:
    search = Search(COARSE, downwards=downwards)
    while (level := search.next()) is not None:
        search.tell(level, answer)
    assert search.result.outside == side
    end = COARSE.low if side == "below" else COARSE.high
    assert search.why == f"the threshold lies {side} {end:g}"
    assert len(search.trials) <= 25
    assert sum(level == end for level, _ in search.trials) >= 2  # not from afar


def test_upwards_is_downwards_in_the_mirror() -> None:
    mirrored = Levels.linear(0.0, 1.5, 0.02)
    down, up = Search(COARSE, seed=5), Search(mirrored, seed=5, downwards=False)
    draw = random.Random(1)
    for _ in range(40):
        if (level := down.next()) is None:
            break
        bad = draw.random() < 1 / (1 + math.exp((level - 2.41) / 0.03))
        down.tell(level, bad)
        up.tell(3.3 - level, bad)
    assert up.result.v50.value == pytest.approx(3.3 - down.result.v50.value, abs=1e-6)
    assert up.result.v_at(0.01).high == pytest.approx(3.3 - down.result.v_at(0.01).low, abs=1e-3)
    assert up.done == down.done


def test_durations_are_searched_by_factors() -> None:
    levels = Levels.factors(0.0001, 10, 2**0.5)
    search = Search(levels, downwards=False, seed=2)
    draw = random.Random(4)
    while (level := search.next()) is not None:
        assert level in levels.values
        search.tell(level, draw.random() < 1 / (1 + (level / 0.035) ** -4))
    assert search.result.v50.value == pytest.approx(0.035, rel=0.9)
    assert search.result.v50.low <= 0.035 <= search.result.v50.high
    assert search.result.v_at(0.01).value < search.result.v50.value < search.result.v_at(0.99).value


def test_two_thresholds_are_doubted() -> None:
    """Bad between 1.8 V and 2.4 V only, for below it is cleanly reset. A fit alone would give a number."""
    grid = [1.2 + 0.1 * n for n in range(18)] * 4
    trials = [(level, 1.79 < level < 2.41) for level in grid]
    found = fit(trials, Levels.linear(1.2, 2.9, 0.1))
    assert found.doubt is not None
    assert "not one threshold" in found.doubt
    whole = fit([(level, level < 2.41) for level in grid], Levels.linear(1.2, 2.9, 0.1))
    assert whole.doubt is None


# -- told again, the same again -------------------------------------------------------------------------------------


def test_the_level_stays_until_something_is_told() -> None:
    search = Search(COARSE, seed=4)
    for _ in range(12):
        level = search.next()
        assert level is not None
        assert [search.next() for _ in range(3)] == [level] * 3
        search.tell(level, level < 2.2)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 99), st.booleans())
def test_a_search_told_the_same_trials_stands_where_it_stood(answers: list[bool], seed: int, downwards: bool) -> None:
    """Whatever the answers, as a board may give any; a run killed anywhere goes on as if it had not been."""
    first = Search(COARSE, seed=seed, downwards=downwards)
    for answer in answers:
        if (level := first.next()) is None:
            break
        assert level in COARSE.values
        first.tell(level, answer)
    again = Search(COARSE, seed=seed, downwards=downwards).replay(first.trials)
    assert again.next() == first.next()
    assert again.why == first.why
    assert again.result == first.result
    assert again.result.as_dict() == first.result.as_dict()


@settings(derandomize=True, max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 45))
def test_it_ends_whatever_is_answered(draw: random.Random, most: int) -> None:
    search = Search(Levels.linear(0, 1, 0.05), max_trials=most)
    while (level := search.next()) is not None:
        search.tell(level, draw.random() < 0.5)
    assert len(search.trials) <= most
    assert all(math.isfinite(each) for each in (*search.result.v50, *search.result.v_at(0.001)))
    assert search.why is not None


def test_a_seed_draws_among_levels_that_tell_equally_much() -> None:
    model = Model(COARSE, 2.6, 1.0, 0.0, 7)
    asked = {tuple(level for level, _ in searched(replace(model, seed=seed)).trials[:2]) for seed in range(4)}
    assert len(asked) <= 4
    orders = set()
    for seed in range(6):
        search = Search(COARSE, seed=seed)
        while len(search.trials) < 20 and (level := search.next()) is not None:
            search.tell(level, level < 2.605)
        orders.add(tuple(level for level, _ in search.trials))
    assert len(orders) > 1


# -- levels ---------------------------------------------------------------------------------------------------------


def test_levels_are_what_a_supply_can_be_told() -> None:
    assert Levels.linear(2.6, 2.65, 0.01).values == (2.6, 2.61, 2.62, 2.63, 2.64, 2.65)
    assert Levels.linear(1, 2, 0.3).values == (1, 1.3, 1.6, 1.9)
    assert Levels.factors(0.01, 1, 10).values == (0.01, 0.1, 1)
    assert Levels.of([3, 1, 2, 1]).values == (1, 2, 3)
    assert COARSE.nearest(2.4349) == 2.44


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.floats(0.01, 5), st.floats(0.6, 8), st.floats(0.011, 0.5), st.booleans(), st.floats(-3, 40))
def test_places_and_values_are_inverse(low: float, wide: float, step: float, log: bool, place: float) -> None:
    levels = Levels.factors(low, low * (1 + wide), 1 + step) if log else Levels.linear(low, low + wide, step)
    assert levels.place(levels.value(place)) == pytest.approx(place, abs=1e-6)
    assert np.allclose([levels.place(each) for each in levels.values], range(len(levels.values)), atol=1e-6)
    assert levels.value(1) == pytest.approx(levels.values[1])


@pytest.mark.parametrize("bad", [
    lambda: Levels.linear(3, 1, 0.1), lambda: Levels.linear(1, 3, 0), lambda: Levels.linear(0, 100, 0.001),
    lambda: Levels.factors(0, 1, 2), lambda: Levels.factors(1, 10, 1), lambda: Levels.of([2]),
    lambda: Levels.of([0, 1], log=True), lambda: Levels((2.0, 1.0)), lambda: Levels.of([1, math.nan, 2]),
    lambda: Search(COARSE, max_trials=0), lambda: Search(COARSE, precision=0), lambda: Search(COARSE, confidence=1),
    lambda: Search(COARSE).result, lambda: fit([], COARSE), lambda: fit([(2, True)], COARSE).v_at(1),
    lambda: fit([(0, True)], Levels.factors(0.1, 1, 2)),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(bad: object) -> None:
    with pytest.raises(UsageProblem) as told:
        bad()  # type: ignore[operator]
    assert "\n" not in str(told.value)
