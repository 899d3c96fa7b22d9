"""rig releases: how a study is laid out, what it can find, when it stops; its exact tests against scipy's."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from rig.releases.design import (
    ALPHA,
    ALPHA_TIME,
    Sequential,
    detectable,
    log_ratios,
    paired,
    pairs_needed,
    plan,
    schedule,
    stopping,
)
from rig.releases.exact import capable, clopper_pearson, crossed, holm, looked, sign_flip, spent
from rig.releases.study import Release, Study
from rig.releases.trial import Spec, Task, Trial, of

TASKS = [Task("identify"), Task("read-part", "blank"), Task("time-read", timed=True), Task("time-write", timed=True)]
RELEASES = ["old", "new", "native"]


def study(*, releases: int = 2, pairs: int = 16, sequential: bool = True) -> Study:
    named = [Release(spec=f"tool=={number}") for number in range(releases)]
    return Study(releases=named, pairs=pairs, sequential=sequential)


def trial(n: int, release: str, block: int, seconds: float, outcome: str = "correct") -> Trial:
    spec = Spec(n, release, "time-read", "normal", 921600, block, block, "A", timed=True)
    return of(spec, board="b", outcome=outcome, why="", wire_s=seconds)


def noisy(rng: np.random.Generator, pairs: int, slower: float, sd: float, outliers: float) -> list[float]:
    """Log ratios of pairs; `sd` of a pair's."""
    times = rng.normal(0, sd / math.sqrt(2), (2, pairs)) + (rng.random((2, pairs)) < outliers) * math.log(1.5)
    return [float(each) for each in times[1] - times[0] + math.log1p(slower)]


# -- order ----------------------------------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    pairs=st.integers(1, 9), repeats=st.integers(1, 5), slots=st.integers(1, 3), seed=st.integers(0, 999)
)  # fmt: skip
def test_each_block_has_every_release_once_at_one_task_on_one_board(
    pairs: int, repeats: int, slots: int, seed: int
) -> None:
    names = ["A", "B", "C"][:slots]
    specs = schedule(RELEASES, TASKS, pairs=pairs, repeats=repeats, slots=names, seed=seed)
    assert [spec.n for spec in specs] == list(range(1, len(specs) + 1))
    blocks: dict[int, list[Spec]] = {}
    for spec in specs:
        blocks.setdefault(spec.block, []).append(spec)
    assert list(blocks) == list(range(1, len(blocks) + 1))
    for block in blocks.values():
        assert sorted(spec.release for spec in block) == sorted(RELEASES)
        assert len({(spec.task, spec.slot, spec.repeat) for spec in block}) == 1
    made = Counter(block[0].task for block in blocks.values())
    assert made == {task: pairs if task.timed else repeats for task in TASKS}
    load = Counter(block[0].slot for block in blocks.values() if block[0].task.timed)
    assert max(load.values()) - min(load[name] for name in names) <= sum(task.timed for task in TASKS)


def test_order_is_drawn_by_seed_and_blocks_of_a_task_see_every_board() -> None:
    one, same, other = (
        schedule(RELEASES, TASKS, pairs=30, repeats=2, slots=["A", "B"], seed=seed) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other
    timed = [spec for spec in one if spec.operation == "time-read"]
    assert Counter(spec.slot for spec in timed) == {"A": 45, "B": 45}
    first = Counter(spec.release for spec, before in zip(timed, [None, *timed], strict=False)
                    if before is None or before.block != spec.block)  # fmt: skip
    assert set(first) == set(RELEASES)
    assert max(first.values()) < 20


# -- what it can find -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "effect", "sd"), [(2, 0.05, 0.03), (14, 0.03, 0.02)])
def test_pairs_needed_have_the_power_they_promise(count: int, effect: float, sd: float) -> None:
    """With the looks and the giving up of a study under way."""
    alpha = ALPHA_TIME / count
    pairs = pairs_needed(effect, sd, alpha=alpha)
    rule, rng, found = Sequential(pairs, alpha), np.random.default_rng(5), 0
    for _ in range(100):
        ratios = noisy(rng, pairs, effect, sd, 0)
        looks = (rule.look(ratios[:n]) for n in range(1, pairs + 1))
        n = next(n for n, look in enumerate(looks, 1) if look != "go on")
        found += crossed(ratios[:n], pairs, alpha)
    assert found >= 84  # 90 of 100 promised: fewer than 84 come in 1 of 40 runs
    assert detectable(pairs, sd, alpha=alpha) <= effect < detectable(pairs - 1, sd, alpha=alpha) * 1.05


def test_too_few_pairs_can_find_nothing_and_the_plan_says_so() -> None:
    assert detectable(4, 0.001, alpha=0.05) == math.inf
    assert sign_flip([1.0] * 4) > 0.05
    assert pairs_needed(0.5, 0.001, alpha=0.05) == 5
    assert sign_flip([1.0] * 5) <= 0.05
    said = plan(study(releases=8, pairs=6), TASKS)
    assert said.startswith("6 pairs can show no slowdown, however great, among 14 comparisons of times: 16 pairs")
    said = plan(study(releases=8, pairs=18), TASKS, sd=0.02)
    assert said.startswith("18 pairs detect a 3.0% slowdown with 90% power among 14 comparisons of times where")
    assert "; 5% would need 16." in plan(study(releases=8, pairs=14), TASKS)
    assert "judged by what they do" in plan(study(), TASKS[:2])


# -- exact tests ----------------------------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=10))
def test_signs_alone_are_mcnemars_exact_test(differences: list[float]) -> None:
    worse, better = differences.count(1.0), differences.count(-1.0)
    expected = stats.binomtest(worse, worse + better, 0.5, "greater").pvalue if worse + better else 1.0
    assert sign_flip(differences) == pytest.approx(expected)


@settings(derandomize=True, max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1).filter(lambda each: abs(each) > 1e-6), min_size=2, max_size=9))
def test_sign_flip_is_scipys_permutation_test_of_votes(differences: list[float]) -> None:
    votes = np.clip(differences, -np.median(np.abs(differences)), np.median(np.abs(differences)))
    judge = stats.permutation_test(
        (votes,), np.sum, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )  # fmt: skip
    assert sign_flip(differences) == pytest.approx(judge.pvalue)


def test_one_outlier_is_one_vote() -> None:
    plain = [0.05, 0.04, 0.06, 0.05, 0.045, 0.055, 0.05, 0.048, 0.052]
    assert sign_flip([*plain, -0.4]) < 0.02
    assert sign_flip([*plain, -0.4]) == sign_flip([*plain, -0.06])


@pytest.mark.parametrize("alpha", [0.05, 0.03, 0.01])
def test_all_looks_together_find_nothing_with_alpha_at_most_counted_over_all_signs(alpha: float) -> None:
    sizes = [0.01, 0.03, 0.02, 0.05, 0.015, 0.02, 0.04, 0.07]
    found = sum(
        crossed([size * sign for size, sign in zip(sizes, signs, strict=True)], 9, alpha)
        for signs in product((1, -1), repeat=len(sizes))
    )
    assert found / 2 ** len(sizes) <= alpha * spent(len(sizes) / 9) + 1e-12
    assert found or alpha == 0.01


def test_p_of_looks_is_a_p_and_bigger_than_of_one_look() -> None:
    sizes = [0.01, 0.03, 0.02, 0.05, 0.015, 0.02, 0.04, 0.07]
    ps = []
    for signs in product((1, -1), repeat=len(sizes)):
        differences = [size * sign for size, sign in zip(sizes, signs, strict=True)]
        ps.append(looked(differences, len(sizes)))
        if ps[-1] <= 0.05:
            assert crossed(differences, len(sizes), ps[-1])
    for alpha in (0.05, 0.03, 0.025, 0.015, 0.01):
        assert sum(p <= alpha for p in ps) / len(ps) <= alpha
    assert sum(p <= 0.05 for p in ps) >= 6


def test_of_many_pairs_drawn_signs_stand_for_all() -> None:
    ratios = noisy(np.random.default_rng(3), 30, 0.01, 0.03, 0)
    votes = np.clip(ratios, -np.median(np.abs(ratios)), np.median(np.abs(ratios)))
    normal = stats.norm.sf(votes.sum() / math.sqrt((votes**2).sum()))
    assert sign_flip(ratios) == pytest.approx(normal, abs=0.02)
    assert sign_flip([1.0] * 30) == 1 / 4096  # never 0: what was seen is one of them


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]))


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_clopper_pearson_is_scipys(hits: int, others: int) -> None:
    n = hits + others
    if not n:
        assert clopper_pearson(0, 0) == (0.0, 1.0)
        return
    judge = stats.binomtest(hits, n).proportion_ci()
    assert clopper_pearson(hits, n) == pytest.approx((judge.low, judge.high), abs=1e-9)


def test_tests_that_can_show_nothing_take_no_error_from_others() -> None:
    assert capable([0.5**2] * 200 + [0.5**10] * 9, 0.01) == [False] * 200 + [True] * 9
    assert capable([0.5**2] * 3, 0.01) == [False] * 3
    assert sum(capable([0.005, 0.004, 0.003, 0.0001], 0.01)) == 2  # 0.01 / 2, and one of the three is too great
    assert pytest.approx(0.05) == ALPHA


# -- stopping -------------------------------------------------------------------------------------------------------


def test_clear_and_futile_comparisons_end_early_and_open_ones_do_not() -> None:
    rule = Sequential(16, 0.015)
    steady = [0.001, -0.001, 0.0005, -0.002, 0.001, 0.0]
    assert rule.look(steady[:5]) == "go on"
    assert rule.look(steady) == "futile"
    assert rule.look([-0.2 + each for each in steady]) == "futile"
    assert rule.look([0.3 + each for each in steady * 2][:8]) == "enough"
    assert rule.look([0.05, -0.04, 0.06, 0.02, -0.01, 0.07]) == "go on"
    assert rule.look([0.05, -0.04] * 8) == "done"


def test_stopping_waits_for_all_comparisons_but_not_for_what_cannot_be_timed() -> None:
    task = Task("time-read", timed=True)
    enough = stopping(study(releases=3), [task])
    draw = random.Random(1)

    def block(number: int, second: float, outcome: str) -> list[Trial]:
        times = {"tool==0": 1.0, "tool==1": 1.0, "tool==2": second}
        return [
            trial(n, name, number, base * (1 + draw.uniform(-0.004, 0.004)),
                  outcome if name == "tool==2" else "correct")
            for n, (name, base) in enumerate(times.items(), number * 3)
        ]  # fmt: skip

    same = [each for number in range(1, 7) for each in block(number, 1.0, "correct")]
    assert not enough(task, same[:-3])
    assert enough(task, same)
    assert not enough(replace(task, timed=False), same)
    open_one = [each for number in range(1, 7) for each in block(number, 1.0 + number % 3 * 0.04, "correct")]
    assert not enough(task, open_one)
    broken = [each for number in range(1, 7) for each in block(number, 1.4, "wrong")]
    assert enough(task, broken)
    assert not stopping(study(releases=3, sequential=False), [task])(task, same)


def test_pairs_are_of_one_block_and_of_trials_that_count() -> None:
    task = Task("time-read", timed=True)
    trials = [
        trial(1, "new", 1, 1.1), trial(2, "old", 1, 1.0), trial(3, "old", 2, 1.0, "blocked"), trial(4, "new", 2, 1.1),
        trial(5, "old", 3, 1.0), trial(6, "other", 3, 5.0), trial(7, "new", 3, 1.2, "wrong"), trial(8, "old", 4, 1.0),
    ]  # fmt: skip
    pairs = paired(trials, task, "new", "old")
    assert [(base.n, new.n) for base, new in pairs] == [(2, 1), (5, 7)]
    assert log_ratios(pairs) == pytest.approx([math.log(1.1)])
    assert paired(trials, Task("time-write", timed=True), "new", "old") == []
