"""Thresholds of a study, board by board: what the trials of a search or a grid along one axis say of V50.

Boards are never thrown together: each has a threshold of its own, and the worst of them counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from reports.power.gathered import Gathered, Series
from rig.power.bounds import zero_failures
from rig.power.fit import Estimate, Fit, fit
from rig.power.levels import Levels
from rig.power.trial import Trial

RARE = 0.01  # the chance whose level is told beside V50


@dataclass(frozen=True)
class Level:
    """Trials at one value of the axis."""

    value: float
    n: int
    bad: int


@dataclass(frozen=True)
class Clean:
    """From `value` on, on the good side, none of `n` trials was bad: on average there at most `bound` are."""

    value: float
    n: int
    bound: float


@dataclass(frozen=True)
class Threshold:
    """Of one board at one phase. `rare`: the level where one in a hundred is bad; `clean`: None if even the best
    level tried saw a bad one."""

    series: Series = field(repr=False)
    axis: str
    board: str
    slot: str
    levels: list[Level]
    fit: Fit
    rare: Estimate
    clean: Clean | None

    @property
    def downwards(self) -> bool:
        return self.fit.downwards

    @property
    def known(self) -> bool:
        """Whether a threshold was found: inside of what was searched."""
        return self.fit.outside is None


@lru_cache(maxsize=4)
def thresholds(told: Gathered) -> list[Threshold]:
    """Of every search, and of grids and series along one axis; in the order of the study, then by board."""
    return [each for series in told.series for each in of_series(series)]


def of_series(series: Series) -> Iterator[Threshold]:
    grid = grid_of(series)
    if grid is None:
        return
    axis, levels, downwards = grid
    for board in series.boards:
        mine = [trial for trial in series.of_board(board).trials if axis in trial.cell.x]
        if mine:
            yield _threshold(series, axis, board, mine, levels, downwards)


def grid_of(series: Series) -> tuple[str, Levels, bool] | None:
    """(axis, levels, whether it is bad downwards) of a series along one axis; None for any other."""
    search = series.part.search
    if search is not None:
        return search.axis, search.levels, search.downwards
    axes = series.part.axes
    if series.part.method not in ("grid", "series") or len(axes) != 1:
        return None
    values = {trial.cell.x[axes[0]] for trial in series.trials if axes[0] in trial.cell.x}
    if len(values) < 3:
        return None
    return axes[0], levels_of(axes[0], values), bad_downwards(axes[0])


def levels_of(axis: str, values: set[float]) -> Levels:
    """As they were tried; durations by factors, as they are meant."""
    factors = axis.endswith("_s") or axis == "seconds"
    return Levels.of(values, log=factors and min(values) > 0)


def bad_downwards(axis: str) -> bool:
    """Less is worse of volts and amps; of all that takes time, more."""
    return axis in ("volts", "amps", "start", "end")


def _threshold(
    series: Series, axis: str, board: str, mine: Sequence[Trial], levels: Levels, downwards: bool
) -> Threshold:
    pairs = [(trial.cell.x[axis], series.is_bad(trial)) for trial in mine]
    found = fit(pairs, levels, downwards, series.run.confidence)
    counted = count(pairs)
    best = clean(counted, downwards, found.confidence)
    return Threshold(series, axis, board, mine[0].slot, counted, found, found.v_at(RARE), best)


def count(pairs: Sequence[tuple[float, bool]]) -> list[Level]:
    """By level, rising."""
    n = Counter(value for value, _ in pairs)
    bad = Counter(value for value, was_bad in pairs if was_bad)
    return [Level(value, n[value], bad[value]) for value in sorted(n)]


def clean(levels: Sequence[Level], downwards: bool, confidence: float) -> Clean | None:
    """From the best level on as long as nothing was bad."""
    value, n = 0.0, 0
    for level in reversed(levels) if downwards else levels:
        if level.bad:
            break
        value, n = level.value, n + level.n
    return Clean(value, n, zero_failures(n, confidence)) if n else None
