"""What a rail really did, from a witness's samples: how deep, how long, how late. Pure, knows no instrument."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

LEVELS = ("3.0", "2.7", "2.4", "2.0")  # volts, below each of which the time is counted
QUIET_V = 0.1  # a rail this little below nominal stands: leads, tolerances and eight bits come to less


@dataclass(frozen=True)
class Samples:
    """A rail's volts, `dt_s` apart, the first at `t0_ns` (time.monotonic_ns, right to within `offset_s` seconds).

    nan where the instrument sampled nothing. `step_v` is the smallest difference it tells, `instrument` its name.
    """

    t0_ns: int
    dt_s: float
    volts: Sequence[float]
    instrument: str = ""
    offset_s: float = 0.0
    step_v: float = 0.0

    def at_ns(self, index: int) -> int:
        """When a sample was taken."""
        return self.t0_ns + round(index * self.dt_s * 1e9)

    @property
    def end_ns(self) -> int:
        return self.at_ns(len(self.volts) - 1)

    def cut(self, begin_ns: int, end_ns: int) -> Samples:
        """Those between two moments, with what their clocks may be apart on either side."""
        slack = self.offset_s
        first = math.ceil(((begin_ns - self.t0_ns) / 1e9 - slack) / self.dt_s)
        last = math.floor(((end_ns - self.t0_ns) / 1e9 + slack) / self.dt_s)
        first = min(max(0, first), len(self.volts))
        volts = self.volts[first : max(first, last + 1)]
        return Samples(self.at_ns(first), self.dt_s, volts, self.instrument, self.offset_s, self.step_v)


@dataclass(frozen=True)
class Achieved:
    """What a waveform did to the rail, as `instrument` saw it every `sample_s` seconds.

    `widths`: seconds in all below each of LEVELS that a standing rail is above. `area_vs`: volt-seconds below
    nominal, of the time in which the rail was more than QUIET_V below it. `delay_s`: from the firing until it first
    was, within `offset_s` seconds; None: it never was.
    """

    v_min: float
    widths: dict[str, float]
    area_vs: float
    delay_s: float | None
    instrument: str
    sample_s: float
    offset_s: float = 0.0


def achieved(samples: Samples, nominal: float, fired_ns: int) -> Achieved:
    """Judge `samples` from the moment of firing on (`fired_ns`, monotonic; `nominal` volts as set before it).

    Between two samples the rail is taken for a straight line. ValueError when there is nothing to judge.
    """
    after = samples.cut(fired_ns, samples.end_ns)
    known = [volts for volts in after.volts if not math.isnan(volts)]
    if not known:
        raise ValueError("the witness has no sample after the firing")
    edge = nominal - QUIET_V
    levels = {level: float(level) for level in LEVELS if float(level) < edge}
    first = _first_below(after, edge)
    delay = None if first is None else max(0.0, (after.t0_ns - fired_ns) / 1e9 + first)
    return Achieved(
        v_min=min(known),
        widths={name: sum(_below(one, two, volts) for one, two in _pairs(after)) * after.dt_s
                for name, volts in levels.items()},
        area_vs=sum(_area(one, two, edge, nominal) for one, two in _pairs(after)) * after.dt_s,
        delay_s=delay,
        instrument=samples.instrument,
        sample_s=samples.dt_s,
        offset_s=samples.offset_s,
    )  # fmt: skip


def _pairs(samples: Samples) -> Iterator[tuple[float, float]]:
    """Neighbours between which the rail is known."""
    return ((one, two) for one, two in pairwise(samples.volts) if not (math.isnan(one) or math.isnan(two)))


def _below(one: float, two: float, level: float) -> float:
    """The part of a straight line from `one` to `two` that is below `level`."""
    low, high = min(one, two), max(one, two)
    if high < level:
        return 1.0
    return (level - low) / (high - low) if low < level else 0.0


def _area(one: float, two: float, edge: float, nominal: float) -> float:
    """Volts below `nominal`, times the part of the line from `one` to `two`, where that is below `edge`."""
    part = _below(one, two, edge)
    low, high = min(one, two), min(max(one, two), edge)
    return part * (nominal - (low + high) / 2)


def _first_below(samples: Samples, edge: float) -> float | None:
    """Seconds from the first sample until the rail is first below `edge`; None if it never is."""
    before = math.nan
    for index, volts in enumerate(samples.volts):
        if volts < edge:
            rest = (before - edge) / (before - volts) if before >= edge else 1.0
            return (index - 1 + rest) * samples.dt_s if index else 0.0
        before = volts
    return None
