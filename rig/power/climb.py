"""The least supply at which so many trials in a row succeed, and what may be said of it.

From a first level on, each is tried until one trial fails there, which refutes it and all weaker ones, or until it
has held so often in a row; then it is the answer. Trying several levels gives chance several goes at letting a bad
one pass, so the k-th level tried gets the share 1 / (k (k + 1)) of the error: whatever the board is like, the
statement at the end is wrong with a chance of 1 - confidence at most. Only trials of the climb itself count for it:
those of the search before it chose where it begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rig.errors import UsageProblem
from rig.power.bounds import zero_failures
from rig.power.doubt import Told
from rig.power.fit import Fit
from rig.power.levels import Levels


@dataclass(frozen=True)
class Climbed:
    """What a climb found. `level`: at which `in_a_row` trials succeeded; None where none did. `most`: the greatest
    chance of a failure there, with `confidence`. `refuted`: levels at which one failed, in the order they were tried.
    `trials`: in all."""

    level: float | None
    in_a_row: int
    most: float
    confidence: float
    refuted: tuple[float, ...]
    trials: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"refuted": list(self.refuted)}


class Climb:
    """From level `start` on towards the safe end of `levels`. `downwards`: bad lies below, so it climbs up.

    `in_a_row`: of trials, or with `most` as many as it takes to say that the chance of a failure is `most` at most
    (more at each further level, for its share of the error is less).
    """

    def __init__(
        self,
        levels: Levels,
        start: float,
        *,
        in_a_row: int | None = None,
        most: float | None = None,
        downwards: bool = True,
        confidence: float = 0.95,
    ) -> None:
        """Raises UsageProblem where not exactly one of `in_a_row` and `most` says how long a row is."""
        if (in_a_row is None) == (most is None):
            raise UsageProblem("a climb takes either a number of trials in a row or the chance they are to exclude")
        if (in_a_row is not None and in_a_row < 1) or (most is not None and not 0 < most < 1):
            raise UsageProblem("a row has at least one trial, and the chance to exclude lies between 0 and 1")
        self._asked, self._most, self._confidence = in_a_row, most, confidence
        first = levels.values.index(levels.nearest(start))
        self._ladder = levels.values[first:] if downwards else levels.values[first::-1]
        self._refuted: list[float] = []
        self._downwards = downwards
        self._held = self._told = 0

    @property
    def wanted(self) -> int:
        """How many in a row the level that is being tried takes."""
        if self._asked is not None:
            return self._asked
        assert self._most is not None
        return math.ceil(math.log(self._share()) / math.log1p(-self._most) - 1e-9)

    def next(self) -> float | None:
        """The level to try now. None: done."""
        return None if self.done else self._level()

    def tell(self, level: float, bad: bool) -> None:
        """What came of a trial at the level that was asked for; those at another level change nothing."""
        if self.done or not math.isclose(level, self._ladder[0]):
            return
        self._told += 1
        if bad:
            self._refuted.append(self._ladder[0])
            self._ladder, self._held = self._ladder[1:], 0
        else:
            self._held += 1

    def replay(self, trials: Iterable[Told]) -> Climb:
        """Told all of these, in their order. Returns itself."""
        for level, bad in trials:
            self.tell(level, bad)
        return self

    @property
    def done(self) -> bool:
        return not self._ladder or self._held >= self.wanted

    @property
    def result(self) -> Climbed:
        """What is known so far; final once it is done."""
        most = zero_failures(self._held, 1 - self._share()) if self._ladder else 1.0
        found = self._ladder[0] if self._ladder and self.done else None
        return Climbed(found, self.wanted, most, self._confidence, tuple(self._refuted), self._told)

    def _level(self) -> float:
        return self._ladder[0]

    def _share(self) -> float:
        """Of the error, for the level that is being tried."""
        k = len(self._refuted) + 1
        return (1 - self._confidence) / (k * (k + 1))


def start_of(fit: Fit, in_a_row: int, trials: Sequence[Told] = ()) -> float:
    """Where to begin a climb: the weakest level at which a whole row succeeds as likely as not, as far as the fit
    tells, and beyond every level at which one of `trials` failed, lapses left out: those that failed where the fit
    gives them less than one chance in a hundred."""
    wanted = fit.v_at(1 - 0.5 ** (1 / in_a_row)).value
    failed = [level for level, bad in trials if bad and fit.chance(level).value >= 0.01]
    values = fit.levels.values
    if fit.downwards:
        fine = [each for each in values if each >= wanted and all(each > one for one in failed)]
        return fine[0] if fine else values[-1]
    fine = [each for each in values if each <= wanted and all(each < one for one in failed)]
    return fine[-1] if fine else values[0]
