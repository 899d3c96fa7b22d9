"""Rates: of trials without a threshold how many were bad, with their intervals; in a row at what a search suggested;
level by level of a staircase."""

from __future__ import annotations

from dataclasses import dataclass, field

from reports.power.gathered import Gathered, Series
from rig.power.bounds import clopper_pearson, zero_failures
from rig.power.climb import Climb
from rig.power.trial import Trial


@dataclass(frozen=True)
class Rate:
    """`bad` of `n`, with its interval (Clopper and Pearson); without a bad one `high` is the zero-failure bound."""

    n: int
    bad: int
    low: float
    high: float

    @classmethod
    def of(cls, bad: int, n: int, confidence: float) -> Rate:
        if not n:
            return cls(0, 0, 0.0, 1.0)
        if not bad:
            return cls(n, 0, 0.0, zero_failures(n, confidence))
        low, high = clopper_pearson(bad, n, confidence)
        return cls(n, bad, low, high)


@dataclass(frozen=True)
class Rated:
    """A series and its rate."""

    series: Series = field(repr=False)
    rate: Rate


def rates(told: Gathered) -> list[Rated]:
    """Of series without a single axis, those on weak sources among them."""
    return [
        Rated(each, Rate.of(len(each.bad), len(each.trials), each.run.confidence))
        for each in told.by_method("series")
        if len(each.part.axes) != 1
    ]


@dataclass(frozen=True)
class InARow:
    """What a `confirm` came to on one board: at `value` of `axis`, `good` in a row of the `needed`; then `bound` is
    the share that may be bad all the same; each further level that was tried makes it larger, as chance had another
    go. `refused`: values at which it was tried before and something was bad. `spoiled`: trials at `value` that the
    bench spoiled and that were made again: no part of the row."""

    series: Series = field(repr=False)
    board: str
    slot: str
    axis: str
    value: float
    good: int
    needed: int
    bound: float
    refused: list[float]
    confirmed: bool
    spoiled: int


def in_a_row(told: Gathered) -> list[InARow]:
    """Of every `confirm`, board by board."""
    found = (_in_a_row(each, board) for each in told.by_method("confirm") for board in each.boards)
    return [each for each in found if each is not None]


def _in_a_row(series: Series, board: str) -> InARow | None:
    """Told again to what placed its trials, so that the number it needed and the bound are the study's own."""
    asked = series.part.confirm
    mine = series.of_board(board).trials
    axis = next((name for trial in mine for name in trial.cell.x), None)
    after = series.run.record.study.part(asked.after).search if asked is not None else None
    if asked is None or axis is None or after is None:
        return None
    pairs = [(trial.cell.x[axis], series.is_bad(trial)) for trial in mine if axis in trial.cell.x]
    climb = Climb(
        after.levels, pairs[0][0], most=round(1 - asked.reliability, 9), downwards=after.downwards,
        confidence=series.run.confidence,
    ).replay(pairs)  # fmt: skip
    found = climb.result
    value, good = pairs[-1][0], 0
    for level, bad in reversed(pairs):
        if level != value or bad:
            break
        good += 1
    spoiled = sum(trial.board == board and trial.cell.x.get(axis) == value for trial in series.spoiled)
    return InARow(
        series, board, mine[0].slot, axis, value, good, found.in_a_row, found.most, sorted(found.refuted),
        found.level is not None, spoiled,
    )  # fmt: skip


@dataclass(frozen=True)
class Stair:
    """One level of a staircase on one board: what came of each trial at it, in order."""

    volts: float
    trials: list[Trial]


@dataclass(frozen=True)
class Staircase:
    """Levels from the highest down. `first_bad`: the highest at which something was bad."""

    series: Series = field(repr=False)
    board: str
    slot: str
    stairs: list[Stair]
    first_bad: float | None
    last_good: float | None


def staircases(told: Gathered) -> list[Staircase]:
    """Of every staircase, board by board."""
    return [_staircase(each, board) for each in told.by_method("staircase") for board in each.boards]


def _staircase(series: Series, board: str) -> Staircase:
    mine = [trial for trial in series.of_board(board).trials if "volts" in trial.cell.x]
    values = sorted({trial.cell.x["volts"] for trial in mine}, reverse=True)
    stairs = [Stair(value, [trial for trial in mine if trial.cell.x["volts"] == value]) for value in values]
    bad = [each.volts for each in stairs if any(series.is_bad(trial) for trial in each.trials)]
    first = max(bad, default=None)
    good = [each.volts for each in stairs if first is None or each.volts > first]
    return Staircase(series, board, series.of_board(board).trials[0].slot, stairs, first, min(good, default=None))
