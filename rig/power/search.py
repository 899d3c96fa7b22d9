"""Where a board stops working, in few trials: bisection until the threshold is bracketed, then levels that tell most.

A search knows nothing of boards. It is asked for a level, told whether the trial there was bad, and ends once the
interval of V50 is narrow enough. What it asks next follows from its parameters and what it was told and from nothing
else: told the same trials again it stands where it stood, which is how a run is resumed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rig.errors import UsageProblem
from rig.power.doubt import Told
from rig.power.fit import Fit, fit_of, outside
from rig.power.levels import Levels
from rig.power.posterior import Posterior

PRECISION = 1.25  # steps, to each side; 1 takes a third more trials (median 34 instead of 26, measured)
MAX_TRIALS = 60

_BRACKETED = 8.0  # steps: once the threshold lies within so many, levels are placed by what they tell
_AROUND = 6.0  # steps beyond the bracket in which levels are weighed
_ALIKE = 0.97  # of the most that a level can tell: which of such levels is taken is drawn


class Search:
    """A search for one threshold over `levels`. `downwards`: bad lies below it.

    It is done once the interval of V50 (of `confidence`) reaches `precision` steps to each side at most, the
    threshold is known to lie off one end, or `max_trials` were told. `seed` decides among levels that tell equally
    much, so that approach from above and from below is mixed.
    """

    def __init__(
        self,
        levels: Levels,
        *,
        downwards: bool = True,
        seed: int = 1,
        max_trials: int = MAX_TRIALS,
        precision: float = PRECISION,
        confidence: float = 0.95,
    ) -> None:
        """Raises UsageProblem for what cannot be searched."""
        if max_trials < 1 or not precision > 0 or not 0.5 <= confidence < 1:
            raise UsageProblem("a search needs at least one trial, a precision above 0 and a confidence of 0.5 to 1")
        self.levels, self.downwards, self.seed = levels, downwards, seed
        self.max_trials, self.precision, self.confidence = max_trials, precision, confidence
        self.trials: list[Told] = []
        self._posterior = Posterior(levels, downwards)
        self._places = np.array([levels.place(each) for each in levels.values])

    def next(self) -> float | None:
        """The level to try now, the same until something is told. None: done."""
        return None if self.done else self.levels.values[self._choose()]

    def tell(self, level: float, bad: bool) -> None:
        """What came of a trial, at whatever level it was. A trial that the bench spoiled is not told."""
        self._posterior.tell(self.levels.place(level), bad)
        self.trials.append((level, bad))

    def replay(self, trials: Iterable[Told]) -> Search:
        """Told all of these, in their order. Returns itself."""
        for level, bad in trials:
            self.tell(level, bad)
        return self

    @property
    def done(self) -> bool:
        return self.why is not None

    @property
    def why(self) -> str | None:
        """Why it is done, in words; None while it is not."""
        if not self.trials:
            return None
        side = outside(self._posterior, self.levels, self.confidence)
        if side is not None:
            end = self.levels.low if side == "below" else self.levels.high
            return f"the threshold lies {side} {end:g}"
        if len({bad for _, bad in self.trials}) == 2 and self._half_width() <= self.precision:
            return f"its {self.confidence:.0%} interval is within {self.precision:g} steps to each side"
        return f"{self.max_trials} trials are made" if len(self.trials) >= self.max_trials else None

    @property
    def phase(self) -> str:
        """`bracket` while it bisects, then `place`."""
        low, high = self._posterior.quantiles((0.05, 0.95))
        return "bracket" if high - low > _BRACKETED else "place"

    @property
    def result(self) -> Fit:
        """What is known so far. Raises UsageProblem before the first trial."""
        return fit_of(self._posterior, self.trials, self.levels, self.downwards, self.confidence)

    def _half_width(self) -> float:
        low, high = self._posterior.quantiles(((1 - self.confidence) / 2, (1 + self.confidence) / 2))
        return (high - low) / 2

    def _choose(self) -> int:
        """Index of the level: the middle of where the threshold may be, which is bisection that outlives a lapse;
        then the one that tells most."""
        low, middle, high = self._posterior.quantiles((0.05, 0.5, 0.95))
        if high - low > _BRACKETED:
            return int(np.abs(self._places - middle).argmin())
        near = np.flatnonzero((self._places >= low - _AROUND) & (self._places <= high + _AROUND))
        if not len(near):
            return int(np.abs(self._places - middle).argmin())
        told = self._posterior.information(self._places[near])
        good = near[told >= _ALIKE * told.max()]
        return int(np.random.default_rng((self.seed, len(self.trials))).choice(good))
