"""The 3.3 V rail of a simulated board: a supply with a current limit, a capacitor, and the chip as its load.

Between two events (a new set-point, a new load, a threshold crossed) the rail follows a closed form: constant
current into the capacitor, or an exponential fall once the chip is in reset. Nothing is polled: `next_event`
says when the rail will cross something. Constants are in constants.toml.
"""

from __future__ import annotations

import math
import tomllib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CONSTANTS = Path(__file__).with_name("constants.toml")


def load_constants(path: Path = _CONSTANTS) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


@dataclass
class SetPoint:
    """What the supply is told: output state, volts, current limit in amps."""

    on: bool = False
    volts: float = 0.0
    amps: float = 0.0


class Rail:
    """Volts over time. Times are wall seconds, `speed` makes electricity that many times faster.

    `load` is set by the board (amps the chip draws while above the reset level); `contact` False is a board
    pulled out of its jig: the chip's side falls, the supply sees nothing.
    """

    def __init__(self, constants: dict[str, Any], *, speed: float = 1.0, now: float = 0.0) -> None:
        rail = constants["rail"]
        self._farads: float = rail["farads"]
        self._ohms: float = rail["discharge_ohms"]
        self.falling: float = rail["reset_falling_volts"]
        self.rising: float = rail["reset_rising_volts"]
        self._meter: float = rail["meter_seconds"] / speed
        self.speed = speed
        self.set_point = SetPoint()
        self.fixed_volts = 0.0  # a fixed supply behind a diode, 0 without one
        self.contact = True
        self.volts = 0.0
        self.load = 0.0
        self.alive = False  # out of power-on reset
        self._now = now
        self._charge = 0.0  # amp-seconds out of the supply since the start
        self._area = 0.0  # volt-seconds at its terminals
        self._history: deque[tuple[float, float, float]] = deque([(now, 0.0, 0.0)])

    # -- what feeds it ---------------------------------------------------------------------------------

    def _source(self) -> tuple[float, float]:
        """(volts, current limit) of what feeds the chip now; (0, 0) when nothing does."""
        point = self.set_point
        if not self.contact:
            return 0.0, 0.0
        if point.on and point.volts >= self.fixed_volts - 0.3:
            return point.volts, point.amps
        if self.fixed_volts:
            return self.fixed_volts, 10.0
        return 0.0, 0.0

    def _draw(self) -> float:
        return self.load if self.alive else 0.0

    # -- time ------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """How far it has been followed."""
        return self._now

    def advance(self, now: float) -> bool:
        """Move to `now`; True as soon as the chip went into or out of reset on the way.

        Then the rail stands at that moment, and the caller sets the new load and calls again.
        """
        while self._now < now:
            step, crossing = self._segment(now - self._now)
            self._move(step)
            if crossing:
                self.alive = not self.alive
                return True
        return False

    def next_event(self) -> float:
        """When the rail crosses a reset level if nothing else changes (inf: never)."""
        step, crossing = self._segment(1e9)
        return self._now + step if crossing else math.inf

    def _segment(self, limit: float) -> tuple[float, bool]:
        """Longest wall step (at most `limit`) over which one closed form holds, and whether a reset level ends it."""
        target, amps = self._source()
        slope = self._slope(target, amps)
        level = self.falling if self.alive else self.rising
        heading = slope < 0 if self.alive else slope > 0
        ends = [limit]
        crossing = math.inf
        if heading:
            crossing = self._time_to(level, slope) / self.speed
            reaches = target < level if self.alive else target >= level
            if not reaches and slope > 0:
                crossing = math.inf
        if (slope > 0 and self.volts < target) or (slope < 0 and self.volts > target > 0.0):
            ends.append(self._time_to(target, slope) / self.speed)
        step = min([*ends, crossing])
        return max(step, 0.0), crossing <= min(ends)

    def _slope(self, target: float, amps: float) -> float:
        """Volts per model second; 0 when held in constant voltage."""
        draw = self._draw()
        if target <= 0.0 or self.volts > target + 1e-9:
            return -self._fall(draw)
        if abs(self.volts - target) <= 1e-9 and draw <= amps:
            return 0.0
        net = amps - draw
        if net <= 0 and self.volts <= 1e-9:
            return 0.0
        return net / self._farads

    def _fall(self, draw: float) -> float:
        return (draw + self.volts / self._ohms) / self._farads

    def _time_to(self, level: float, slope: float) -> float:
        """Model seconds until `level` at this slope; exponential towards zero when nothing feeds the rail."""
        target, _ = self._source()
        if target <= 0.0 or self.volts > target + 1e-9:
            return self._discharge_time(max(level, 1e-4))
        return max(0.0, (level - self.volts) / slope)

    def _discharge_time(self, level: float) -> float:
        """RC fall with a constant current besides: V + I R decays with R C."""
        bias = self._draw() * self._ohms
        if self.volts <= level:
            return 0.0
        return self._ohms * self._farads * math.log((self.volts + bias) / (level + bias))

    def _move(self, step: float) -> None:
        target, amps = self._source()
        before = self.volts
        seconds = step * self.speed
        draw = self._draw()
        if target <= 0.0 or before > target + 1e-9:
            bias = draw * self._ohms
            self.volts = max(0.0, (before + bias) * math.exp(-seconds / (self._ohms * self._farads)) - bias)
            if target > 0.0:
                self.volts = max(self.volts, target)
            out = 0.0
        else:
            slope = self._slope(target, amps)
            self.volts = min(target, max(0.0, before + slope * seconds))
            out = draw if slope == 0.0 else amps
        point = self.set_point
        feeds = point.on and self.contact and point.volts >= self.fixed_volts - 0.3
        self._charge += (out if feeds else 0.0) * step
        terminal = (before + self.volts) / 2 if self.contact else (point.volts if point.on else 0.0)
        self._area += terminal * step
        self._now += step
        self._history.append((self._now, self._charge, self._area))
        while len(self._history) > 2 and self._history[1][0] < self._now - self._meter:
            self._history.popleft()

    # -- what a supply's meter shows -------------------------------------------------------------------

    def _window_start(self) -> tuple[float, float, float]:
        """(time, charge, area) where the meter's averaging began: inside a segment both grow in a straight line."""
        first = self._history[0]
        start = self._now - self._meter
        if start <= first[0] or len(self._history) < 2:
            return first
        second = self._history[1]
        part = (start - first[0]) / (second[0] - first[0]) if second[0] > first[0] else 1.0
        return start, first[1] + part * (second[1] - first[1]), first[2] + part * (second[2] - first[2])

    def sense(self) -> tuple[float, float, str]:
        """(volts, amps, mode) as the supply reads them: averages over its meter's time. Call advance() first."""
        start, charge, area = self._window_start()
        span = self._now - start
        point = self.set_point
        if span > 1e-9:
            amps, volts = (self._charge - charge) / span, (self._area - area) / span
        else:
            amps, volts = 0.0, self.volts
        if not point.on:
            return (self.volts if self.contact else 0.0), 0.0, "off"
        if not self.contact:
            return point.volts, 0.0, "cv"
        limited = self.volts < point.volts - 0.005 and point.volts >= self.fixed_volts - 0.3
        return volts, amps, "cc" if limited else "cv"
