"""Shmoo grids: over two axes how many trials of how many were bad, and the boundary fitted column by column."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache

from reports.power.gathered import Gathered, Series
from reports.power.thresholds import bad_downwards, levels_of
from rig.power.fit import Fit, fit

_UP = ("volts", "amps", "start", "end", "seconds")  # what goes up in a picture: the first of these that is an axis


@dataclass(frozen=True)
class Square:
    """Trials at one pair of values."""

    x: float
    y: float
    n: int
    bad: int
    counts: Counter[str]


@dataclass(frozen=True)
class Shmoo:
    """`boundary`: of each column (a value of `across`) the fit along `up`; columns of too few levels have none."""

    series: Series = field(repr=False)
    across: str
    up: str
    squares: list[Square]
    boundary: dict[float, Fit]

    @property
    def xs(self) -> list[float]:
        return sorted({square.x for square in self.squares})

    @property
    def ys(self) -> list[float]:
        return sorted({square.y for square in self.squares})

    @property
    def n(self) -> int:
        return sum(square.n for square in self.squares)

    @property
    def bad(self) -> int:
        return sum(square.bad for square in self.squares)


@lru_cache(maxsize=4)
def shmoos(told: Gathered) -> list[Shmoo]:
    """Of every grid or series with two axes or more; of more, the first two that make a picture."""
    found = (shmoo(each) for each in told.by_method("grid", "series"))
    return [each for each in found if each is not None]


def shmoo(series: Series) -> Shmoo | None:
    """None where there are no two axes, or nothing was tried."""
    up = next((name for name in _UP if name in series.part.axes), None)
    across = next((name for name in series.part.axes if name != up), None)
    if up is None or across is None:
        return None
    cells: dict[tuple[float, float], list[tuple[str, bool]]] = {}
    for trial in series.trials:
        x = trial.cell.x
        if up in x and across in x:
            cells.setdefault((x[across], x[up]), []).append((str(trial.outcome), series.is_bad(trial)))
    if not cells:
        return None
    squares = [
        Square(x, y, len(each), sum(bad for _, bad in each), Counter(outcome for outcome, _ in each))
        for (x, y), each in sorted(cells.items())
    ]
    return Shmoo(series, across, up, squares, _boundary(series, across, up))


def _boundary(series: Series, across: str, up: str) -> dict[float, Fit]:
    columns: dict[float, list[tuple[float, bool]]] = {}
    for trial in series.trials:
        x = trial.cell.x
        if up in x and across in x:
            columns.setdefault(x[across], []).append((x[up], series.is_bad(trial)))
    values = {value for column in columns.values() for value, _ in column}
    if len(values) < 3:
        return {}
    levels = levels_of(up, values)
    return {
        x: fit(column, levels, bad_downwards(up), series.run.confidence)
        for x, column in sorted(columns.items())
        if len({value for value, _ in column}) >= 3
    }
