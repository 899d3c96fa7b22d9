"""One output of a supply: its set-points, its switch, its protections, and the rail that hangs on it.

Volts, amps and seconds throughout. The output knows what it was told; what the terminals do is the rail's business.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Literal, Protocol, runtime_checkable

from rig.sim.psu.status import ScpiError

log = logging.getLogger(__name__)
_LONGEST_PLAN = 10_000  # steps that a rail is told ahead

Quantity = Literal["volts", "amps", "ovp", "ocp", "ocp_delay"]  # what a command may set


class Rail(Protocol):
    """What hangs on an output: a simulated board, perhaps in another process, or a test's load."""

    def apply(self, on: bool, volts: float, amps: float) -> None:
        """The output's new set-point; `amps` is the current limit."""

    def sense(self) -> tuple[float, float, str]:
        """Volts at the terminals, amps, and "cv", "cc" or "off", now."""


Point = tuple[float, bool, float, float]
"""Seconds from now, whether it is on, volts, amps."""


@runtime_checkable
class PlannedRail(Rail, Protocol):
    """One that can be told ahead what the supply plays, and follows it on a clock that no busy machine moves."""

    def plan(self, points: Sequence[Point]) -> None:
        """What :meth:`apply` would say, and when. The next `apply` takes the place of what is left of it."""


class ResistiveLoad:
    """An ideal supply into `ohms` (None = open): CV until the limit, then CC, without delay. A rail for tests."""

    def __init__(self, ohms: float | None = None) -> None:
        self.ohms = ohms
        self.applied: list[tuple[bool, float, float]] = []
        self._now = (False, 0.0, 0.0)

    def apply(self, on: bool, volts: float, amps: float) -> None:
        self._now = (on, volts, amps)
        self.applied.append(self._now)

    def sense(self) -> tuple[float, float, str]:
        on, volts, limit = self._now
        if not on:
            return 0.0, 0.0, "off"
        if self.ohms is None:
            return volts, 0.0, "cv"
        if volts > limit * self.ohms:
            return limit * self.ohms, limit, "cc"
        return volts, volts / self.ohms, "cv"


@dataclass(frozen=True)
class Span:
    """A settable quantity: its range, its value after *RST, and its grid, in volts, amps or seconds."""

    low: float
    high: float
    default: float
    step: float

    def take(self, value: float) -> float:
        """`value` on the grid. Raises -222 outside the range."""
        if not self.low <= value <= self.high:
            raise ScpiError(-222)
        return round(round(value / self.step) * self.step, 9)

    @property
    def words(self) -> dict[str, float]:
        """What MINimum, MAXimum and DEFault stand for."""
        return {"MINimum": self.low, "MAXimum": self.high, "DEFault": self.default}


@dataclass(frozen=True)
class OutputSpec:
    """What one output of a model can do. `ocp` None: over-current protection trips on CC, at the current limit."""

    rating: str  # as the instrument prints it, "30V/3A"
    volts: Span
    amps: Span
    ovp: Span | None  # None: no over-voltage protection
    ocp: Span | None
    ocp_delay: Span
    ovp_on_at_reset: bool

    def span(self, name: Quantity) -> Span:
        """The range of a quantity. Raises -221 for a protection that this output does not have."""
        spans = {"volts": self.volts, "amps": self.amps, "ovp": self.ovp, "ocp": self.ocp}
        span = spans.get(name, self.ocp_delay)
        if span is None:
            raise ScpiError(-221)
        return span


Reading = tuple[float, float, str]


class Output:
    """State of one output. Set-points, protections and the switch are read here by tests; commands go by methods."""

    def __init__(self, number: int, spec: OutputSpec, rail: Rail) -> None:
        self.number = number
        self.spec = spec
        self.rail = rail
        self._told: tuple[bool, float, float] | None = None
        self._rail_lost = False
        self.switch_on_s = 0.0  # from the command until the terminals are live
        self._live_at: float | None = None
        self._planned = False  # the rail was told ahead what is played
        self.held: Reading = (0.0, 0.0, "off")  # what a slow meter last saw
        self.seen: Reading = (0.0, 0.0, "off")  # what was found at the terminals last
        self.reset()

    def reset(self) -> None:
        """*RST: off, set-points and protections to their defaults, no trip, nothing playing."""
        spec = self.spec
        self.on = False
        self.volts, self.amps = spec.volts.default, spec.amps.default
        self.ovp, self.ovp_on = (spec.ovp.default, spec.ovp_on_at_reset) if spec.ovp else (math.inf, False)
        self.ocp, self.ocp_on = (spec.ocp.default if spec.ocp else None), False
        self.ocp_delay = spec.ocp_delay.default
        self.tripped: str | None = None  # "ovp" or "ocp"
        self.playback: Playback | None = None
        self._restore = False
        self._over_since: float | None = None
        self._live_at = None
        self._push()

    @property
    def live(self) -> tuple[float, float]:
        """Volts and amps the output regulates to now: the playing sequence's, else the set-points."""
        return self.playback.now if self.playback else (self.volts, self.amps)

    def _push(self) -> None:
        state = (self.on and self._live_at is None, *self.live)
        if state == self._told:
            return
        try:
            self.rail.apply(*state)
            self._told, self._planned = state, False
        except Exception:  # a board that is gone must not keep the others from being switched off
            log.exception("output %d: its rail did not take a set-point", self.number)

    def program(self, volts: float | None = None, amps: float | None = None) -> None:
        """New set-points. Raises -222 before anything changed. A playing sequence keeps the output until it ends."""
        new_volts = self.volts if volts is None else self.spec.volts.take(volts)
        new_amps = self.amps if amps is None else self.spec.amps.take(amps)
        self.volts, self.amps = new_volts, new_amps
        if not self.playback:
            self._push()

    def put(self, name: Quantity, value: float) -> None:
        """A new set-point (as :meth:`program`), protection level or delay; the latter two as they are."""
        if name == "volts":
            self.program(volts=value)
        elif name == "amps":
            self.program(amps=value)
        else:
            setattr(self, name, value)

    def switch(self, on: bool) -> None:
        """Output on or off. On while a protection is latched raises -221 and stays off (guess)."""
        if on and self.tripped:
            raise ScpiError(-221)
        self._restore = False
        if on != self.on:
            self.on = on
            self._over_since = None
            self._live_at = monotonic() + self.switch_on_s if on and self.switch_on_s else None
            self._push()

    def clear(self, *trips: str, restore: bool) -> None:
        """Unlatch if one of `trips` is latched; `restore`: the output returns to what it was before the trip."""
        if self.tripped in trips:
            self.tripped = None
            if restore and self._restore:
                self.switch(True)

    def play(self, playback: Playback | None) -> None:
        """Start a sequence in place of the set-points, or with None end the one that plays."""
        self.playback = playback
        if self._planned:  # and is further in it than we last said
            self._planned, self._told = False, None
        if playback is not None and isinstance(self.rail, PlannedRail) and self.on and self._live_at is None:
            self._plan(playback, self.rail)
        else:
            self._push()
        if playback is not None:
            playback.began(monotonic())  # from when the rail was told: its first step is not cut short either

    def _plan(self, playback: Playback, rail: PlannedRail) -> None:
        steps = playback.ahead(_LONGEST_PLAN)
        if steps is None:  # too much of it: as it comes
            self._push()
            return
        points, at = [], 0.0
        for volts, amps, seconds in steps:
            points.append((at, True, volts, amps))
            at += seconds
        try:
            rail.plan([*points, (at, True, self.volts, self.amps)])
        except Exception:
            log.exception("output %d: its rail did not take a plan", self.number)
            return
        self._planned, self._told = True, (True, *self.live)
        self._after = (True, self.volts, self.amps)

    def sense(self) -> Reading:
        """Volts, amps and regulation mode at the terminals now; a tripped or switched-off output is "off".

        Raises -310 when the rail cannot tell.
        """
        try:
            volts, amps, mode = self.rail.sense()
        except Exception:
            if not self._rail_lost:  # the guard asks many times a second
                log.exception("output %d: its rail cannot be read", self.number)
            self._rail_lost = True
            raise ScpiError(-310) from None
        self._rail_lost = False
        self.seen = (volts, amps, mode if self.on else "off")
        return self.seen

    @property
    def armed(self) -> bool:
        """Whether it is on and under a protection."""
        return self.on and (self.ovp_on or self.ocp_on)

    @property
    def exposed(self) -> bool:
        """Whether a protection may trip by what this output and its load do, not only by what others feed into it."""
        return self.on and (self.ocp_on or (self.ovp_on and self.live[0] > self.ovp))

    def guard(self, now: float, time_scale: float) -> None:
        """Look at the terminals and trip where a protection says so; `now` in monotonic seconds."""
        if not self.armed:
            return
        volts, amps, mode = self.sense()
        if self.ovp_on and volts > self.ovp:
            self._trip("ovp")
            return
        # A level counts as reached half a grid step below it, as far as the instrument can tell them apart.
        over = mode == "cc" if self.ocp is None else amps > self.ocp - self.spec.amps.step / 2
        if not (self.ocp_on and over):
            self._over_since = None
            return
        if self._over_since is None:
            self._over_since = now
        if now - self._over_since >= self.ocp_delay * time_scale:
            self._trip("ocp")

    def _trip(self, why: str) -> None:
        self.tripped, self.on, self._restore = why, False, True
        self._over_since = self._live_at = None
        self._push()

    def tick(self, now: float) -> float | None:
        """Do what is due; the monotonic second of what comes next, or None."""
        dues = [due for due in (self._come_up(now), self._step(now)) if due is not None]
        return min(dues, default=None)

    def _come_up(self, now: float) -> float | None:
        if self._live_at is not None and now >= self._live_at:
            self._live_at = None
            self._push()
        return self._live_at

    def _step(self, now: float) -> float | None:
        playback = self.playback
        if playback is None:
            return None
        if now >= playback.due:
            if playback.advance(playback.due if self._planned else now):
                if self._planned:
                    self._told = (True, *self.live)
                self._push()
            else:
                self.playback = None
                if self._planned:
                    self._planned, self._told = False, self._after
                playback.on_end(self)
                self._push()
                return None
        return playback.due


class Playback:
    """Steps of (volts, amps, seconds) played on an output by the instrument itself.

    No step is ever cut short to catch up: a late step moves the ones after it.
    """

    def __init__(
        self,
        steps: Sequence[tuple[float, float, float]],
        count: int | None,
        on_end: Callable[[Output], None],
        *,
        start: float,
        time_scale: float = 1.0,
    ) -> None:
        """`count` times through `steps` (None = for ever), from `start` (monotonic seconds)."""
        self._steps = list(steps)
        self._left = None if count is None else count - 1
        self._at = 0
        self._scale = time_scale
        self.on_end = on_end
        self.due = start + self._steps[0][2] * time_scale

    @property
    def now(self) -> tuple[float, float]:
        """Volts and amps of the step that plays."""
        return self._steps[self._at][:2]

    def ahead(self, most: int) -> list[tuple[float, float, float]] | None:
        """All of it, in volts, amps and real seconds; None if it is more than `most` steps."""
        if self._left is None or (self._left + 1) * len(self._steps) > most:
            return None
        return [(volts, amps, seconds * self._scale) for volts, amps, seconds in self._steps] * (self._left + 1)

    def began(self, now: float) -> None:
        """Its first step starts at `now` (monotonic seconds)."""
        self.due = now + self._steps[0][2] * self._scale

    def advance(self, now: float) -> bool:
        """Go to the next step; False at the end."""
        if self._at + 1 < len(self._steps):
            self._at += 1
        elif self._left == 0:
            return False
        else:
            self._left = None if self._left is None else self._left - 1
            self._at = 0
        self.due = now + self._steps[self._at][2] * self._scale
        return True
