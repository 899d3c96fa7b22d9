"""The levels that a search or a grid may set: volts, amps or seconds in steps, even or by a factor.

All arithmetic on thresholds is done in steps from the lowest level, so that one prior and one stop rule serve volts
on a 10 mV grid, amps on a 20 mA grid and seconds by a factor of two alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Any

from rig.errors import UsageProblem

MOST = 2000  # levels; more is a mistake in a study's file, and slow


@dataclass(frozen=True)
class Levels:
    """Values that may be set, rising, in the unit of the thing set. `log`: they are thought of by factors, as
    durations are. `step`: of even levels their distance (with `log` the factor), else the median one.

    Raises UsageProblem for fewer than two, more than 2000, values twice, or none above 0 where they are factors.
    """

    values: tuple[float, ...]
    log: bool = False

    def __post_init__(self) -> None:
        if not 2 <= len(self.values) <= MOST:
            raise UsageProblem(f"{len(self.values)} levels cannot be searched: between 2 and {MOST} are possible")
        if not all(math.isfinite(each) for each in self.values):
            raise UsageProblem("a level must be a finite number")
        if any(high <= low for low, high in pairwise(self.values)):
            raise UsageProblem("levels must rise, none twice")
        if self.log and self.values[0] <= 0:
            raise UsageProblem(f"levels by factors start above 0, not at {self.values[0]:g}")

    @classmethod
    def linear(cls, low: float, high: float, step: float) -> Levels:
        """low, low + step, ... up to high at most. Raises UsageProblem."""
        if not (step > 0 and math.isfinite(step) and high > low):
            raise UsageProblem(f"no levels lie from {low:g} to {high:g} in steps of {step:g}")
        return cls(tuple(_tidy(low + n * step) for n in range(_count((high - low) / step))))

    @classmethod
    def factors(cls, low: float, high: float, factor: float) -> Levels:
        """low, low * factor, ... up to high at most. Raises UsageProblem."""
        if not (factor > 1 and math.isfinite(factor) and 0 < low < high):
            raise UsageProblem(f"no levels lie from {low:g} to {high:g} by a factor of {factor:g}")
        count = _count(math.log(high / low) / math.log(factor))
        return cls(tuple(_tidy(low * factor**n) for n in range(count)), log=True)

    @classmethod
    def of(cls, values: Iterable[float], log: bool = False) -> Levels:
        """Any values, in any order, each counted once. Raises UsageProblem."""
        return cls(tuple(sorted(set(values))), log)

    @property
    def low(self) -> float:
        return self.values[0]

    @property
    def high(self) -> float:
        return self.values[-1]

    @property
    def step(self) -> float:
        return math.exp(self._unit) if self.log else self._unit

    @property
    def span(self) -> float:
        """From the lowest to the highest, in steps."""
        return self.place(self.high)

    def place(self, value: float) -> float:
        """Where a value lies, in steps from the lowest level. It need not be one of the levels."""
        if self.log and value <= 0:
            raise UsageProblem(f"{value:g} has no place among levels by factors")
        return (self._t(value) - self._t(self.low)) / self._unit

    def value(self, place: float) -> float:
        """What lies at a place, the inverse of `place`."""
        t = self._t(self.low) + place * self._unit
        return math.exp(min(t, 700.0)) if self.log else t

    def nearest(self, value: float) -> float:
        """The level nearest to a value."""
        place = self.place(value)
        return min(self.values, key=lambda each: abs(self.place(each) - place))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"low": self.low, "high": self.high, "step": self.step, "log": self.log, "count": len(self.values)}

    @cached_property
    def _unit(self) -> float:
        t = [self._t(each) for each in self.values]
        return median(b - a for a, b in pairwise(t))

    def _t(self, value: float) -> float:
        return math.log(value) if self.log else value


def _count(steps: float) -> int:
    if steps > MOST:
        raise UsageProblem(f"{steps:.0f} levels cannot be searched: between 2 and {MOST} are possible")
    return math.floor(steps + 1e-6) + 1


def _tidy(value: float) -> float:
    """2.61 and not 2.6100000000000003: what is asked of a supply is what the record says."""
    return float(f"{value:.9g}")
