"""Control charts while the batch runs: whether what boards measure still varies by chance alone, slot by slot.

Individuals with the four Western Electric rules, each to one side of the centre: 1, a value beyond 3 sigma; 2, two of
three in a row beyond 2; 3, four of five beyond 1; 4, eight in a row. Centre and sigma are those of the slot's first
good values (sigma: mean moving range / 1.128), or given. The same definitions as the reports' charts have; a value on
a line is not beyond it. Source: Western Electric, Statistical Quality Control Handbook (1956).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from rig.line.rules import Spc as SpcRule

D2 = 1.128  # mean range of two normal values, in sigmas
_RUN = 8  # values in a row of rule 4, the longest that any rule looks back

MEASURED = (
    "off_volts", "rom_current", "rail_volts", "backup_time", "boot_time", "steady_current", "steady_volts",
    "boot_time_worst", "boot_time_mean", "steady_current_worst", "steady_current_mean", "link_time", "read_time",
    "erase_time", "program_time", "check_time", "boot_peak_current", "boot_mean_current",
)  # fmt: skip
"""What the rig's own plans measure as a number that varies."""


@dataclass
class _Chart:
    """One measurement in one slot. `recent`: the last values in sigmas from the centre."""

    first: list[float] = field(default_factory=list)
    centre: float = math.nan
    sigma: float = math.nan
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RUN))
    firing: frozenset[int] = frozenset()

    @property
    def ready(self) -> bool:
        return self.sigma > 0

    def learn(self, value: float, count: int) -> None:
        """A baseline whose values are all alike has no sigma: it goes on until one differs."""
        self.first.append(value)
        if len(self.first) >= count and min(self.first) < max(self.first):
            self.centre = fmean(self.first)
            self.sigma = fmean(abs(b - a) for a, b in zip(self.first, self.first[1:], strict=False)) / D2
            self.recent.extend((each - self.centre) / self.sigma for each in self.first[-_RUN:])
            self.first.clear()


class Spc:
    """Takes the values of one batch in order. Not thread-safe: for the station's own thread, or under its lock."""

    def __init__(self, rule: SpcRule) -> None:
        self._rule = rule
        self._charts: dict[tuple[str, str], _Chart] = {}

    def watched(self, name: str) -> bool:
        return name in self._rule.measurements

    def taken(self, slot: str, name: str, value: float, *, good: bool = True) -> str | None:
        """A value was measured. Returns a sentence naming the rules that fire now and did not at the value before.

        `good`: it is within its limits. One that is not does not count into a baseline; the rules see it like any
        other. What is no number, or is not watched, changes nothing."""
        if not self.watched(name) or not math.isfinite(value):
            return None
        chart = self._chart(slot, name)
        if not chart.ready:
            if good:
                chart.learn(value, self._rule.baseline)
            return None
        chart.recent.append((value - chart.centre) / chart.sigma)
        fired = frozenset(rule for rule in western_electric(chart.recent) if rule in self._rule.rules)
        new, chart.firing = fired - chart.firing, fired
        return self._sentence(chart, slot, name, value, sorted(new)) if new else None

    def firing(self, slot: str, name: str) -> frozenset[int]:
        """The rules that the slot's last value of this measurement completes a pattern of."""
        return self._chart(slot, name).firing

    def reset(self) -> None:
        """A person lets the line go on: patterns begin anew, beside the same centre."""
        for chart in self._charts.values():
            chart.recent.clear()
            chart.firing = frozenset()

    def _chart(self, slot: str, name: str) -> _Chart:
        if (slot, name) not in self._charts:
            known = self._rule.known.get(name)
            chart = _Chart() if known is None else _Chart(centre=known.centre, sigma=known.sigma)
            self._charts[slot, name] = chart
        return self._charts[slot, name]

    def _sentence(self, chart: _Chart, slot: str, name: str, value: float, new: Sequence[int]) -> str:
        side = "above" if value > chart.centre else "below"
        said = {
            1: f"it is more than 3 sigma {side} the centre",
            2: f"two of three in a row are more than 2 sigma {side} the centre",
            3: f"four of five in a row are more than 1 sigma {side} the centre",
            4: f"{_RUN} in a row are {side} the centre",
        }
        why = "; ".join(f"{said[rule]} (Western Electric rule {rule})" for rule in new)
        source = "given" if name in self._rule.known else f"of the slot's first {self._rule.baseline} good ones"
        limits = f"centre {chart.centre:.4g}, sigma {chart.sigma:.2g}"
        return f"{name} in slot {slot} is {value:.4g}: {why}; {limits}, {source}"


def western_electric(z: Sequence[float]) -> tuple[int, ...]:
    """The rules whose pattern the last of these values completes; in sigmas from the centre, in order."""
    if not z or z[-1] == 0:
        return ()
    side = math.copysign(1.0, z[-1])
    own = [side * each for each in z]
    last = own[-1]
    found = (
        (1, last > 3),
        (2, last > 2 and sum(each > 2 for each in own[-3:]) >= 2),
        (3, last > 1 and sum(each > 1 for each in own[-5:]) >= 4),
        (4, len(own) >= _RUN and all(each > 0 for each in own[-_RUN:])),
    )
    return tuple(rule for rule, fired in found if fired)
