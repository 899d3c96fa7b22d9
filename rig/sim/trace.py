"""What a rail did: segments of one closed form each, and what can be computed from them.

A segment's state x (the volts at the capacitors) obeys dx/dt = a - b x: a line, or an exponential towards a/b. The
board's rail and the supply's terminals are affine in x. Times are seconds of the model.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Segment:
    """From `start` for `length` seconds x starts at `x` and obeys dx/dt = a - b x.

    The board's rail is `scale` x - `drop`. The supply gives `amps` + `amps_per_x` x, its terminals stand
    at `terminal` volts, or (None) at x less `ohms` times that current. `limited`: by its own current limit.
    """

    start: float
    length: float
    x: float
    a: float
    b: float
    scale: float = 1.0
    drop: float = 0.0
    amps: float = 0.0
    amps_per_x: float = 0.0
    ohms: float = 0.0
    terminal: float | None = None
    limited: bool = False

    def state(self, seconds: float) -> float:
        """x so long after the start."""
        if self.b == 0.0:
            return self.x + self.a * seconds
        rest = self.a / self.b
        return rest + (self.x - rest) * math.exp(-self.b * seconds)

    def area(self, begin: float, end: float) -> float:
        """The integral of x between two moments, seconds after the start."""
        if self.b == 0.0:
            return (end - begin) * (self.x + self.a * (begin + end) / 2)
        rest = self.a / self.b
        return rest * (end - begin) + (self.state(begin) - self.state(end)) / self.b

    def time_to(self, level: float) -> float:
        """When x comes to `level`, seconds after the start; inf if it does not."""
        if level == self.x:
            return 0.0
        if self.b == 0.0:
            return (level - self.x) / self.a if self.a and (level - self.x) / self.a > 0 else math.inf
        rest = self.a / self.b
        ratio = (self.x - rest) / (level - rest) if level != rest else -1.0
        return math.log(ratio) / self.b if ratio > 1.0 else math.inf

    def continues(self, other: Segment) -> bool:
        """Whether `other` is this one's curve, further on."""
        mine, its = self._curve(), other._curve()
        return mine == its and abs(self.state(self.length) - other.x) < 1e-9

    def _curve(self) -> tuple[object, ...]:
        return (
            *(self.a, self.b, self.scale, self.drop, self.amps, self.amps_per_x),
            *(self.ohms, self.terminal, self.limited),
        )

    def volts(self, seconds: float) -> float:
        """The board's rail so long after the start."""
        return max(0.0, self.scale * self.state(seconds) - self.drop)


@dataclass
class Trace:
    """The segments of the last `seconds`, without a gap."""

    seconds: float
    segments: deque[Segment] = field(default_factory=deque)

    def append(self, segment: Segment) -> None:
        last = self.segments[-1] if self.segments else None
        if last is not None and last.continues(segment):
            last.length = segment.start + segment.length - last.start
        else:
            self.segments.append(segment)
        self._forget(segment.start + segment.length - self.seconds)

    def lengthen(self, until: float) -> None:
        """The last segment goes on to the moment `until`."""
        last = self.segments[-1]
        last.length = until - last.start
        self._forget(until - self.seconds)

    def _forget(self, horizon: float) -> None:
        while self.segments[0].start + self.segments[0].length < horizon:
            self.segments.popleft()

    def flat_at(self, x: float) -> bool:
        """Whether the last segment stands still, at `x`."""
        last = self.segments[-1] if self.segments else None
        return last is not None and last.x == x and last.a == last.b * x

    def _between(self, begin: float, end: float) -> list[tuple[Segment, float, float]]:
        """The segments from `begin` to `end`, with the part of each, seconds after its start."""
        parts = []
        for segment in reversed(self.segments):
            if segment.start + segment.length <= begin:
                break
            if segment.start < end:
                parts.append((segment, max(0.0, begin - segment.start), min(segment.length, end - segment.start)))
        parts.reverse()
        return parts

    def metered(self, begin: float, end: float) -> tuple[float, float]:
        """(volts at the supply's terminals, amps out of it), the means between two moments; (nan, nan): no trace."""
        span = charge = area = 0.0
        for segment, first, last in self._between(begin, end):
            length, x_area = last - first, segment.area(first, last)
            current = segment.amps * length + segment.amps_per_x * x_area
            span += length
            charge += current
            area += segment.terminal * length if segment.terminal is not None else x_area - segment.ohms * current
        return (area / span, charge / span) if span > 0 else (math.nan, math.nan)

    def lowest(self, begin: float, end: float) -> float:
        """The board's lowest volts between two moments (inf: no trace). A segment is monotone."""
        parts = self._between(begin, end)
        return min((segment.volts(at) for segment, *ends in parts for at in ends), default=math.inf)

    def effort(self, begin: float, end: float, inhibit: float, works: float) -> float:
        """Seconds of work a flash die did between two moments: at full rate from `works` volts up, in proportion down
        to `inhibit`, where it stops for good."""
        done = 0.0
        for segment, first, last in self._between(begin, end):
            stop = _below(segment, inhibit, first, last)
            low, high = segment.volts(first), segment.volts(stop)
            if min(low, high) >= works:
                done += stop - first
            else:
                done += _slowed(segment, first, stop, inhibit, works)
            if stop < last:
                break
        return done

    def sampled(self, times: Sequence[float]) -> list[float]:
        """The board's volts at `times` (ascending); before the trace began, and after its end, nan."""
        samples = []
        segments = iter(self.segments)
        current = next(segments, None)
        for at in times:
            while current is not None and current.start + current.length < at:
                current = next(segments, None)
            inside = current is not None and current.start <= at
            samples.append(current.volts(at - current.start) if inside and current is not None else math.nan)
        return samples


def _x_of(segment: Segment, volts: float) -> float:
    return (volts + segment.drop) / segment.scale


def _below(segment: Segment, level: float, first: float, last: float) -> float:
    """When the rail is at or below `level` for the first time between two moments of a segment; `last` if not."""
    if segment.volts(first) <= level:
        return first
    if segment.volts(last) > level:
        return last
    return min(max(segment.time_to(_x_of(segment, level)), first), last)


def _slowed(segment: Segment, first: float, last: float, inhibit: float, works: float) -> float:
    """Work done where the rail is below `works` for a part of the time, and nowhere below `inhibit`."""
    cross = min(max(segment.time_to(_x_of(segment, works)), first), last)
    rising = segment.volts(last) > segment.volts(first)
    slow = (first, cross) if rising else (cross, last)
    if max(segment.volts(first), segment.volts(last)) <= works:
        slow = (first, last)
    length = slow[1] - slow[0]
    area = segment.scale * segment.area(*slow) - segment.drop * length
    return (last - first) - length + max(0.0, (area - inhibit * length) / (works - inhibit))
