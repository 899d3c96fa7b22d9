"""A threshold out of trials at known levels: V50, how soft it is, the level for a wanted risk, all with intervals.

Pure, and by numpy alone, which the rig needs anyway: a core install can search a threshold without scipy. What the
model and its prior are: `rig.power.posterior`. Held against scipy and statsmodels in tests/test_power_fit.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from rig.errors import UsageProblem
from rig.power.doubt import Told, doubt
from rig.power.levels import Levels
from rig.power.posterior import Posterior


class Estimate(NamedTuple):
    """The median and an interval, in the unit of the levels where nothing else is said."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Fit:
    """What n trials say of a threshold. `downwards`: bad lies below it.

    `scale_steps`: softness of the edge in steps; from 10 % to 90 % bad it is 4.4 of these. `outside`: the threshold
    lies below the lowest level or above the highest, with the wanted confidence; `v50` says no more than that then.
    `doubt`: a sentence where the trials do not look like one threshold at all, so that no number here is worth much.
    """

    levels: Levels
    downwards: bool
    confidence: float
    n: int
    bad: int
    v50: Estimate
    scale_steps: Estimate
    lapse: float
    outside: Literal["below", "above"] | None
    doubt: str | None
    posterior: Posterior = field(repr=False, compare=False)

    def v_at(self, chance: float) -> Estimate:
        """The level at which a trial is bad with `chance` (0.01: one in a hundred), lapses apart: those have no
        threshold. Beyond the levels tried it is extrapolated."""
        if not 0 < chance < 1:
            raise UsageProblem(f"a chance lies between 0 and 1, not at {chance:g}")
        return self._in_units(self.posterior.crossing(chance, self._shares))

    def chance(self, level: float) -> Estimate:
        """P(bad) at a level with its interval, lapses apart: the fitted curve."""
        return Estimate(*self.posterior.chances(self.levels.place(level), self._shares))

    def extrapolated(self, estimate: Estimate) -> bool:
        """Whether an estimate or its interval reaches out of the levels that could be tried."""
        return estimate.low < self.levels.low or estimate.high > self.levels.high

    @property
    def slope(self) -> float:
        """Change of P(bad) at V50 in a step, without sign."""
        return 1 / (4 * self.scale_steps.value)

    @property
    def half_width(self) -> float:
        """Of the interval of V50, in steps."""
        return (self.levels.place(self.v50.high) - self.levels.place(self.v50.low)) / 2

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {
            "n": self.n, "bad": self.bad, "confidence": self.confidence, "downwards": self.downwards,
            "levels": self.levels.as_dict(), "outside": self.outside, "doubt": self.doubt,
            "scale_steps": self.scale_steps._asdict(), "slope_per_step": self.slope, "lapse": self.lapse,
        }  # fmt: skip
        for name, estimate in (("v50", self.v50), ("v01", self.v_at(0.01)), ("v99", self.v_at(0.99))):
            found[name] = estimate._asdict() | {"extrapolated": self.extrapolated(estimate)}
        return found

    @property
    def _shares(self) -> tuple[float, float, float]:
        return _shares(self.confidence)

    def _in_units(self, places: Sequence[float]) -> Estimate:
        return Estimate(*(self.levels.value(place) for place in places))


def fit(trials: Sequence[Told], levels: Levels, downwards: bool = True, confidence: float = 0.95) -> Fit:
    """The threshold behind trials, in any order. Levels of trials need not be among `levels`, which say how fine
    the grid is and where a threshold is looked for. Raises UsageProblem where there is no trial."""
    posterior = Posterior(levels, downwards)
    posterior.tell_all((levels.place(level), bad) for level, bad in trials)
    return fit_of(posterior, trials, levels, downwards, confidence)


def fit_of(posterior: Posterior, trials: Sequence[Told], levels: Levels, downwards: bool, confidence: float) -> Fit:
    """The same where the posterior of these trials is there already."""
    if not trials:
        raise UsageProblem("there is no trial to fit a threshold to")
    if not 0.5 <= confidence < 1:
        raise UsageProblem(f"a confidence lies between 0.5 and 1, not at {confidence:g}")
    side, said = outside(posterior, levels, confidence), doubt(posterior, trials, downwards)
    posterior = posterior.finer([(levels.place(level), bad) for level, bad in trials])
    shares = _shares(confidence)
    middle, low, high = (levels.value(each) for each in posterior.quantiles(shares))
    return Fit(
        levels, downwards, confidence, len(trials), sum(bad for _, bad in trials), Estimate(middle, low, high),
        Estimate(*posterior.scale_quantiles(shares)), posterior.lapse(), side, said, posterior,
    )  # fmt: skip


def outside(posterior: Posterior, levels: Levels, confidence: float) -> Literal["below", "above"] | None:
    """Whether the threshold lies off one end of the levels."""
    weights = posterior.thresholds
    if float(weights[posterior.nodes < 0].sum()) >= confidence:
        return "below"
    return "above" if float(weights[posterior.nodes > levels.span].sum()) >= confidence else None


def _shares(confidence: float) -> tuple[float, float, float]:
    return 0.5, (1 - confidence) / 2, (1 + confidence) / 2
