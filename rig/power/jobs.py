"""What a part of a study asks of one board, trial by trial: search, grid, series, staircase, so many in a row.

A job is asked for the values of its axes and told what came of them. What it asks next follows from its study and
from what it was told and from nothing else, so that a study that was killed is resumed by telling all of it again.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import product

import numpy as np

from rig.power.bounds import in_a_row
from rig.power.climb import Climb, start_of
from rig.power.search import Search
from rig.power.study import GridTable, Part, SeriesTable
from rig.power.trial import Phase

Values = dict[str, float]  # of the axes, by their names

_USUAL = 25  # trials of a search; a guess at how long its bar is


class Job(ABC):
    """`part` of a study, at one phase and on one source. `key`: what its chance is drawn from."""

    def __init__(self, part: Part, phase: Phase | None, source: str | None, key: str) -> None:
        self.part, self.phase, self.source, self.key = part, phase, source, key

    @abstractmethod
    def next(self) -> Values | None:
        """The values to try now, the same until something is told. None: done."""

    @abstractmethod
    def tell(self, x: Values, bad: bool) -> None:
        """What came of a trial; not of one that the bench spoiled."""

    @property
    @abstractmethod
    def expected(self) -> int:
        """About how many trials are left: for a bar of progress."""

    @property
    @abstractmethod
    def why(self) -> str | None:
        """Why it is done, in words; None while it is not."""


class SearchJob(Job):
    """A threshold."""

    def __init__(self, part: Part, phase: Phase | None, source: str | None, key: str, confidence: float) -> None:
        super().__init__(part, phase, source, key)
        assert part.search is not None
        self.axis = part.search.axis
        self.search = Search(
            part.search.levels, downwards=part.search.downwards, seed=_seed(key),
            max_trials=part.search.max_trials, confidence=confidence,
        )  # fmt: skip

    def next(self) -> Values | None:
        level = self.search.next()
        return None if level is None else {self.axis: level}

    def tell(self, x: Values, bad: bool) -> None:
        self.search.tell(x[self.axis], bad)

    @property
    def expected(self) -> int:
        return 0 if self.search.done else max(1, min(_USUAL, self.search.max_trials) - len(self.search.trials))

    @property
    def why(self) -> str | None:
        return self.search.why


class ListJob(Job):
    """Values that stand from the beginning: of a grid, a series, a staircase."""

    def __init__(self, part: Part, phase: Phase | None, source: str | None, key: str) -> None:
        super().__init__(part, phase, source, key)
        self.length, self._values = _listed(part, key)
        self.made = 0
        self._now = next(self._values, None)

    def next(self) -> Values | None:
        return self._now

    def tell(self, x: Values, bad: bool) -> None:
        self.made += 1
        self._now = next(self._values, None)

    @property
    def expected(self) -> int:
        return self.length - self.made

    @property
    def why(self) -> str | None:
        return f"all {self.length} trials are made" if self._now is None else None


class ConfirmJob(Job):
    """From where a search makes it likely: a row of good ones that is long enough, else a step safer and again."""

    def __init__(self, part: Part, key: str, search: SearchJob, confidence: float) -> None:
        super().__init__(part, search.phase, search.source, key)
        assert part.confirm is not None
        self.after = search
        self._confidence, self._most = confidence, round(1 - part.confirm.reliability, 9)
        self._climb: Climb | None = None
        self._row = 0  # good ones since the last bad one

    @property
    def climb(self) -> Climb | None:
        """None while the search is under way."""
        if self._climb is None and self.after.search.done:
            search = self.after.search
            start = start_of(search.result, in_a_row(self._most, self._confidence), search.trials)
            self._climb = Climb(
                search.levels, start, most=self._most, downwards=search.downwards, confidence=self._confidence
            )
        return self._climb

    def next(self) -> Values | None:
        level = self.climb.next() if self.climb is not None else None
        return None if level is None else {self.after.axis: level}

    def tell(self, x: Values, bad: bool) -> None:
        assert self.climb is not None
        self.climb.tell(x[self.after.axis], bad)
        self._row = 0 if bad else self._row + 1

    @property
    def expected(self) -> int:
        if self.climb is None:
            return in_a_row(self._most, self._confidence)
        return 0 if self.climb.done else max(1, self.climb.wanted - self._row)

    @property
    def why(self) -> str | None:
        if self.climb is None or not self.climb.done:
            return None
        found = self.climb.result
        if found.level is None:
            return "no level is good often enough"
        return f"{found.in_a_row} in a row are good at {found.level:g}"


def _listed(part: Part, key: str) -> tuple[int, Iterator[Values]]:
    """(how many, the values one after the other)."""
    if part.grid is not None:
        order = grid_order(part.grid, key)
        return len(order), iter(order)
    if part.series is not None:
        series = part.series
        return series.repeats, (_drawn(series, f"{key}/{at}") for at in range(series.repeats))
    assert part.staircase is not None
    levels, repeats = staircase_levels(part.staircase.fraction), part.staircase.repeats
    return len(levels) * repeats, ({"volts": each} for _ in range(repeats) for each in levels)


def grid_order(table: GridTable, key: str = "") -> list[Values]:
    """Each repeat is a whole pass through all cells in an order of its own, so that a study that is stopped has each
    of them about equally often, and drift of the board or the room does not look like an effect of an axis."""
    values = [axis.values for axis in table.axes.values()]
    cells = [dict(zip(table.axes, pair, strict=True)) for pair in product(*values)]
    draw = np.random.default_rng(_seed(key))
    return [cells[index] for _ in range(table.repeats) for index in draw.permutation(len(cells))]


def staircase_levels(fraction: float) -> list[float]:
    """Shares of the nominal volts, from the highest below it down to none."""
    return [round(max(0.0, 1 - at * fraction), 9) for at in range(1, math.ceil(1 / fraction - 1e-9) + 1)]


def _drawn(table: SeriesTable, key: str) -> Values:
    draw = random.Random(key)
    return {name: draw.choice(axis.values) for name, axis in table.axes.items()}


def _seed(key: str) -> int:
    return random.Random(key).getrandbits(32)
