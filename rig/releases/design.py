"""How a study is laid out, how much it can find, and when enough is seen.

Times of one task are compared between two releases by pairs: both in one block, on one board, one soon after the
other. A study's errors are shared out beforehand, so that a study of one release against itself raises any alarm at
all with a chance of 5 % at most: 3 % for times, 1 % for shares of successes, 1 % for differences in fact.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from statistics import NormalDist, median
from typing import Literal

from rig.releases.exact import crossed
from rig.releases.study import Study
from rig.releases.trial import Spec, Task, Trial

ALPHA_TIME, ALPHA_SUCCESS, ALPHA_FACT = 0.03, 0.01, 0.01
ALPHA = ALPHA_TIME + ALPHA_SUCCESS + ALPHA_FACT

PRACTICAL = 0.02  # a release that is less slower than this is not called slower, however sure it is
EFFECT = 0.05  # the slowdown that a study must not miss
POWER = 0.9
SD = 0.03  # of the logarithm of a pair's ratio where none is known: trials that vary by 2 % each
FEWEST = 6  # pairs before a comparison may be given up

_NORMAL = NormalDist()
# Blocks that the exact test with its looks after each needs more than a t-test at the end: found by simulation, with
# normal noise. Where 3 % of all trials take half as long again 0.9 of power becomes 0.75.
_WASTE = 1.5
_HOPELESS = 0.05  # chance of finding EFFECT below which no further block is made
_LEAST_SD = 0.002

Pair = tuple[Trial, Trial]  # the baseline's, and the release's of the same block

Look = Literal["go on", "enough", "futile", "done"]


def schedule(
    releases: Sequence[str], cells: Sequence[Task], *, pairs: int, repeats: int, slots: Sequence[str], seed: int
) -> list[Spec]:
    """All trials in their order: randomised complete blocks.

    Each block holds every release at one task once, in random order, at one slot. The orders are drawn independently
    of each other, and not balanced, for that is what makes the test of the times exact. Blocks of a task go round the
    slots; all tasks are made once before any is made again, so that what was begun and not ended has a bit of each.
    `pairs`: blocks of each timed task, `repeats` of the others.
    """
    draw = random.Random(seed)
    start = [draw.randrange(len(slots)) for _ in cells] if len(slots) > 1 else [0] * len(cells)
    for index, first in enumerate(start):  # even loads: tasks begin in turn, a seed says where
        start[index] = (index + first) % len(slots) if pairs > 1 or repeats > 1 else index % len(slots)
    found: list[Spec] = []
    block = 0
    for repeat in range(1, max(pairs, repeats) + 1):
        for index, task in enumerate(cells):
            if repeat > (pairs if task.timed else repeats):
                continue
            block += 1
            order = list(releases)
            draw.shuffle(order)
            slot = slots[(start[index] + repeat - 1) % len(slots)]
            found += [
                Spec(len(found) + place, release, task.operation, task.condition, task.baud, block, repeat, slot,
                     task.timed)
                for place, release in enumerate(order, 1)
            ]  # fmt: skip
    return found


# -- what it can find -----------------------------------------------------------------------------------------------


def pairs_needed(effect: float, sd_log_ratio: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """Pairs that find a slowdown of `effect` (0.05: 5 %) with `power`, in one comparison at `alpha`, one-sided.

    `sd_log_ratio`: standard deviation of the logarithm of a pair's ratio, about 1.4 times a trial's own. Source:
    the normal approximation with Guenther's correction for an estimated deviation (Am. Statistician 35 (1981) 243),
    and by simulation what the exact test needs on top.
    """
    size = math.log1p(effect) / max(sd_log_ratio, 1e-9)
    bound = _NORMAL.inv_cdf(1 - alpha)
    normal = ((bound + _NORMAL.inv_cdf(power)) / size) ** 2 + bound**2 / 2
    return max(math.ceil(normal * _WASTE), _least_pairs(alpha))


def detectable(pairs: int, sd: float, power: float = POWER, alpha: float = ALPHA) -> float:
    """The least slowdown that so many pairs find; infinity where they are too few for any. As `pairs_needed`."""
    if pairs < _least_pairs(alpha):
        return math.inf
    bound = _NORMAL.inv_cdf(1 - alpha)
    left = pairs / _WASTE - bound**2 / 2
    if left <= 0:
        return math.inf
    return math.expm1((bound + _NORMAL.inv_cdf(power)) * sd / math.sqrt(left))


def _least_pairs(alpha: float) -> int:
    """All of them must point one way, and chance alone may make them do so with alpha at most."""
    return max(2, math.ceil(math.log2(1.0 / alpha)))


def comparisons_timed(study: Study, tasks: Sequence[Task]) -> int:
    """How many times are compared with the baseline's in all."""
    return (len(study.releases) - 1) * sum(task.timed for task in tasks)


def plan(study: Study, tasks: Sequence[Task], sd: float = SD) -> str:
    """One sentence on what a study's times can find, to be said before it begins."""
    count = comparisons_timed(study, tasks)
    if not count:
        return "Nothing is timed against a baseline: releases are judged by what they do, not by how long it takes."
    alpha = ALPHA_TIME / count
    least = detectable(study.pairs, sd, alpha=alpha)
    needed = pairs_needed(EFFECT, sd, alpha=alpha)
    among = f"{count} comparisons of times" if count > 1 else "one comparison of times"
    if math.isinf(least):
        return (
            f"{study.pairs} pairs can show no slowdown, however great, among {among}: {needed} pairs would detect "
            f"one of {EFFECT:.0%} with {POWER:.0%} power where a pair's ratio varies by {sd:.1%}."
        )
    said = (
        f"{study.pairs} pairs detect a {max(least, PRACTICAL):.1%} slowdown with {POWER:.0%} power among {among} "
        f"where a pair's ratio varies by {sd:.1%} (standard deviation)"
    )
    return f"{said}; {EFFECT:.0%} would need {needed}." if least > EFFECT else f"{said}."


# -- pairs ----------------------------------------------------------------------------------------------------------


def transfer_s(trial: Trial) -> float:
    """What is compared of a trial: seconds from the first link reply to the last reply, by the wire. How long its
    Python takes to start and the board to be caught in its window vary much more, and are told apart."""
    return (trial.host_s + trial.wire_s + trial.chip_s + trial.lost_s) or trial.seconds


def paired(trials: Sequence[Trial], task: Task, release: str, baseline: str) -> list[Pair]:
    """(the baseline's, the release's) of each block in which both count, in the order in which blocks were whole."""
    waiting: dict[int, Trial] = {}
    found: list[Pair] = []
    for trial in trials:
        if trial.release not in (release, baseline) or not trial.counted or trial.task != task:
            continue
        other = waiting.pop(trial.block, None)
        if other is None or other.release == trial.release:
            waiting[trial.block] = trial
        else:
            found.append((trial, other) if trial.release == baseline else (other, trial))
    return found


def log_ratios(pairs: Sequence[Pair]) -> list[float]:
    """Logarithms of release's time over baseline's, of pairs where both were right. Above 0: slower."""
    return [
        math.log(transfer_s(new) / transfer_s(base))
        for base, new in pairs
        if base.good and new.good and transfer_s(new) > 0 and transfer_s(base) > 0
    ]


# -- when to stop ---------------------------------------------------------------------------------------------------


class Sequential:
    """Whether one comparison of times needs more blocks, asked after each.

    `enough`: slower, with the error that may be spent so far (Lan and DeMets's alpha spending, with the function like
    Pocock's: looks before the end can hardly find anything with that like O'Brien and Fleming's, for so few pairs
    have so few signs). `futile`: it would hardly be found slower by more than PRACTICAL any more (Lan, Simon and
    Halperin's conditional power, Sequential Analysis 1 (1982) 207), or is surely not; stopping for that costs power
    only and never raises an alarm.
    """

    def __init__(self, planned: int, alpha: float) -> None:
        self._planned, self._alpha = planned, alpha

    def look(self, ratios: Sequence[float]) -> Look:
        """At the log ratios so far, in their order."""
        n = len(ratios)
        if n >= self._planned:
            return "done"
        if n < FEWEST:
            return "go on"
        middle, worth = median(ratios), math.log1p(PRACTICAL)
        if middle > worth and crossed(ratios, self._planned, self._alpha):
            return "enough"
        spread = max(_LEAST_SD, 1.4826 * median(abs(each - middle) for each in ratios))
        surely_less = middle + 3 * spread / math.sqrt(n) < worth
        return "futile" if surely_less or self._chance(n, middle, spread) < _HOPELESS else "go on"

    def _chance(self, n: int, middle: float, spread: float) -> float:
        """Of calling it slower at the end, were it slower by EFFECT from now on."""
        left = self._planned - n
        bound = _NORMAL.inv_cdf(1 - self._alpha) * spread / math.sqrt(self._planned)
        short = self._planned * max(bound, math.log1p(PRACTICAL)) - n * middle
        return _NORMAL.cdf((left * math.log1p(EFFECT) - short) / (spread * math.sqrt(left)))


def stopping(study: Study, tasks: Sequence[Task]) -> Callable[[Task, Sequence[Trial]], bool]:
    """For the runner: whether a timed task needs no further block, for all of its comparisons are decided.

    A release that cannot be timed, for it is not installed or mostly wrong, holds up nobody.
    """
    count = comparisons_timed(study, tasks)
    if not study.sequential or not count:
        return lambda task, trials: False
    rule = Sequential(study.pairs, ALPHA_TIME / count)
    others = [title for title in study.titles if title != study.base]

    def enough(task: Task, trials: Sequence[Trial]) -> bool:
        mine = [trial for trial in trials if trial.task == task]
        blocks = len({trial.block for trial in mine})
        if not task.timed or blocks < FEWEST:
            return False
        for release in others:
            ratios = log_ratios(paired(mine, task, release, study.base))
            if len(ratios) >= blocks / 2 and rule.look(ratios) == "go on":
                return False
        return True

    return enough
