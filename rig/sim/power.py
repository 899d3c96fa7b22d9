"""The 3.3 V rail of a simulated board: a source with a current limit, capacitors, a cable, and the chip as its load.

The capacitors of supply and board are one (the cable between them has microseconds, which nobody here looks at), and
all series resistance lies behind it: x are the volts at the capacitors, the supply's terminals stand at x less the
drop in the supply, the board's rail at x less all of the drop. Between two events (a new set-point, a new load, a
threshold) x follows dx/dt = a - b x in closed form. Nothing is polled: `next_event` says when the rail will cross a
reset level. Constants are in constants.toml.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rig.sim.constants import BENCH, Constants
from rig.sim.source import Drive, Feed, SetPoint
from rig.sim.trace import Segment, Trace

__all__ = ["Rail", "SetPoint"]

_NEAR = 1e-7  # volts: what a form ends at is stood on exactly
_EQUAL = 1e-9  # volts: the rail stands at what the source aims at
_FOREVER = 1e9
_MOST_STOOD = 64  # choice: a board has a dozen loads, a study some set-points


@dataclass(frozen=True)
class _Load:
    """Amps the board takes where the capacitors stand at x: `amps` + `siemens` x; its rail is scale x - drop."""

    amps: float
    siemens: float
    scale: float
    drop: float

    def at(self, x: float) -> float:
        return self.amps + self.siemens * x


class Rail:
    """Volts over time. Times are wall seconds, `speed` makes electricity that many times faster.

    `load` is set by the board: amps the chip draws while it is `alive` (out of reset). `contact` False is a board
    pulled out of its jig: its side falls, the supply sees nothing. `source` names a part of constants.toml that
    stands between the bench supply's output and the board. `volts` is the board's rail.
    """

    def __init__(self, constants: Constants, *, speed: float = 1.0, now: float = 0.0, source: str = BENCH) -> None:
        rail, part = constants.rail, constants.part(source)
        self.constants = rail
        self.speed = speed
        self.feed = Feed(rail, part)
        self.alive = False
        self._ohms = part.ohms
        self._lead_ohms = part.ohms + rail.cable_ohms
        self._contact_ohms = 0.0
        self._supply_farads = part.farads
        self._contact = True
        self._load = 0.0
        self._x = 0.0
        self._ref = 0.0  # what the source regulates to on its way to what it aims at
        self._origin = now
        self._t = 0.0  # seconds of the model since then
        self._released_at = math.inf  # when the chip starts, if the rail stays above the rising level
        self._sag_end = math.inf
        self._plan: deque[tuple[float, SetPoint]] = deque()  # what the supply plays, by the model's seconds
        self.trace = Trace(max(rail.trace_seconds, 2 * rail.meter_seconds))
        self._rest: tuple[object, ...] | None = None  # the state in which it stands still, if it does
        self._stood: dict[tuple[object, ...], Segment] = {}  # states in which it did, with the form of each

    # -- what acts on it -------------------------------------------------------------------------------

    @property
    def set_point(self) -> SetPoint:
        return self.feed.set_point

    @set_point.setter
    def set_point(self, point: SetPoint) -> None:
        self._plan.clear()
        self._set(point)

    def _set(self, point: SetPoint) -> None:
        self.feed.set_point = point
        if not point.on:
            self._ref = 0.0

    def plan(self, points: Sequence[tuple[float, SetPoint]]) -> None:
        """What the supply plays: each set-point so many wall seconds from now, at exactly that moment of the model.
        The next `set_point` takes the place of what is left of it."""
        self._plan = deque((self._t + seconds * self.speed, point) for seconds, point in points)
        self._follow_plan()

    def _follow_plan(self) -> None:
        while self._plan and self._plan[0][0] <= self._t:
            self._set(self._plan.popleft()[1])

    @property
    def _planned_at(self) -> float:
        return self._plan[0][0] if self._plan else math.inf

    @property
    def load(self) -> float:
        return self._load

    @load.setter
    def load(self, amps: float) -> None:
        self._load = amps

    @property
    def contact(self) -> bool:
        return self._contact

    @contact.setter
    def contact(self, touches: bool) -> None:
        """Put back in, the board's capacitor takes its charge out of the supply's at once."""
        drive = self.feed.drive()
        if touches and not self._contact and drive is not None:
            board = self.constants.board_farads
            self._x = (self._supply_farads * drive.volts + board * self._x) / (self._supply_farads + board)
            self._ref = drive.volts
        self._contact = touches

    @property
    def contact_ohms(self) -> float:
        """What a worn needle adds to the leads, in series, behind the supply's terminals: no meter sees its drop."""
        return self._contact_ohms

    @contact_ohms.setter
    def contact_ohms(self, ohms: float) -> None:
        self._contact_ohms = ohms

    @property
    def _path_ohms(self) -> float:
        return self._lead_ohms + self._contact_ohms

    def sag(self, volts: float, seconds: float) -> None:
        """At the board, as by a bad contact, the rail is at `volts` for `seconds` of the board's time. The supply's
        terminals do not show it, nor does its current."""
        self.feed.sag = volts
        self._sag_end = self._t + seconds

    def _end_sag(self) -> None:
        """The supply has regulated to its own volts all the while: it is its current limit that brings them back."""
        self.feed.sag, self._sag_end = None, math.inf
        drive = self.feed.drive()
        self._ref = drive.volts if drive is not None else 0.0

    def discharge(self) -> None:
        """Another board, without a charge. What pulled the last one's rail down is gone with it."""
        self._end_sag()
        self._x, self._load, self.alive = 0.0, 0.0, False
        self._released_at = math.inf
        self._contact = True

    # -- what it is ------------------------------------------------------------------------------------

    @property
    def volts(self) -> float:
        load = self._board()
        return max(0.0, load.scale * self._x - load.drop)

    @property
    def slope(self) -> float:
        """Volts of the board's rail per second of the model, now."""
        segment = self._segment()
        return segment.scale * (segment.a - segment.b * segment.x)

    @property
    def now(self) -> float:
        """How far it has been followed."""
        return self._wall(self._t)

    def _wall(self, t: float) -> float:
        return self._origin + t / self.speed

    def model(self, now: float) -> float:
        """Seconds of the model at a wall time."""
        return (now - self._origin) * self.speed

    # -- time ------------------------------------------------------------------------------------------

    def put_off(self, now: float) -> None:
        """Stand still up to wall time `now`, if behind it: what is yet to come, comes later. Past moments move along
        with it, so that it is for a rail on which nothing else is timed."""
        self._origin += max(0.0, now - self.now)

    def advance(self, now: float) -> bool:
        """Move to `now`; True as soon as the chip went into or out of reset on the way.

        Then the rail stands at that moment, and the caller sets the new load and calls again.
        """
        target = self.model(now)
        if self._rests:
            if target > self._t:
                self._stand(target)
            return False
        while True:
            span, turns = self._next()
            if self._t + span > target:
                if target > self._t:
                    self._move(target - self._t)
                    if span >= _FOREVER and self.trace.flat_at(self._x):
                        self._rest = self._state()
                        self._remember(self._rest)
                return False
            self._move(span)
            if self._t >= self._sag_end:
                self._end_sag()
            self._follow_plan()
            if turns:
                self.alive = not self.alive
                self._released_at = math.inf
                return True
            if span == 0.0 and self._t >= target:
                return False

    def next_event(self) -> float:
        """When the rail reaches the end of what one closed form says, and may cross a reset level (inf: never)."""
        if self._rests:
            return math.inf
        span, _ = self._next()
        return math.inf if span >= _FOREVER else self._wall(self._t + span)

    @property
    def _rests(self) -> bool:
        """It stands still, until something acts on it: a bench looks at its boards thousands of times a second, and
        most of the time nothing about their rails changes but the load, to and fro."""
        state = self._state()
        return state == self._rest or state in self._stood

    def _stand(self, until: float) -> None:
        state = self._state()
        if state == self._rest:
            self.trace.lengthen(until)
        else:
            self.trace.append(replace(self._stood[state], start=self._t, length=until - self._t))
            self._rest = state
        self._t = until

    def _remember(self, state: tuple[object, ...]) -> None:
        if len(self._stood) >= _MOST_STOOD:
            self._stood.clear()
        self._stood[state] = replace(self.trace.segments[-1])

    def _state(self) -> tuple[object, ...]:
        """All that acts on it, and where it stands."""
        feed = self.feed
        return (
            *(self._x, self._ref, self._load, self.alive, self._contact, self._contact_ohms),
            *(self._released_at, self._sag_end, self._planned_at),
            *(feed.set_point.on, feed.set_point.volts, feed.set_point.amps, feed.fixed, feed.sag),
        )

    def _next(self) -> tuple[float, bool]:
        """(model seconds until the form changes, whether the chip then goes into or out of reset)."""
        segment = self._segment()
        span = min(self._form_ends(segment), self._sag_end - self._t, self._planned_at - self._t, _FOREVER)
        level, rail = self.constants, segment.volts(0.0)
        if self.alive:
            falls = self._time_to(segment, level.reset_falling_volts, downwards=True)
            return (falls, True) if falls <= span else (span, False)
        if rail < level.reset_rising_volts - _EQUAL:
            self._released_at = math.inf
            return min(span, self._time_to(segment, level.reset_rising_volts, downwards=False)), False
        if self._released_at == math.inf:
            self._released_at = self._t + level.reset_release_seconds
        release = max(0.0, self._released_at - self._t)
        falls = self._time_to(segment, level.reset_rising_volts - 2 * _EQUAL, downwards=True)
        return (release, True) if release <= min(span, falls) else (min(span, falls), False)

    def _time_to(self, segment: Segment, volts: float, *, downwards: bool) -> float:
        """When the board's rail comes to `volts` in this direction, from where it stands (inf: not in this form)."""
        rail = segment.volts(0.0)
        if (rail <= volts) if downwards else (rail >= volts):
            return 0.0
        return segment.time_to((volts + segment.drop) / segment.scale)

    def _move(self, span: float) -> None:
        """Follow the present form for `span`; at its very end x stands exactly where the form ends."""
        self._rest = None
        segment = self._segment()
        if span > 0.0:
            segment.length = span
            self.trace.append(segment)
        drive = self._drive()
        x = max(0.0, segment.state(span))
        if drive is not None:
            self._ref = min(drive.volts, self._ref + drive.slew * span) if span > 0 else self._ref
            if abs(x - self._ref) < _NEAR:
                x = self._ref
        if span > 0.0:
            for level in self._bends(drive):  # beyond it, where the next form holds
                if abs(x - level) < _NEAR and (drive is None or x != self._ref):
                    x = level + math.copysign(2 * _EQUAL, segment.a - segment.b * x)
            self._x = x
            self._t += span

    def _bends(self, drive: Drive | None) -> list[float]:
        """Where the form changes with x alone: the load's knee, the limit of a source with an input."""
        path = self._path_ohms if self._contact else 0.0
        bends = [self.constants.knee_volts + path * self._load] if self.alive and self._load > 0.0 else []
        if drive is not None and drive.input_ohms:
            bends.append(drive.input_volts - drive.input_ohms * drive.amps)
        return bends

    # -- forms -----------------------------------------------------------------------------------------

    @property
    def _farads(self) -> float:
        return self.constants.board_farads + (self._supply_farads if self._contact else 0.0)

    def _drive(self) -> Drive | None:
        """What feeds the board, with the reference it regulates to brought up to date: downwards it jumps."""
        drive = self.feed.drive() if self._contact else None
        if drive is None:
            self._ref = 0.0
        elif drive.slew == math.inf:
            self._ref = drive.volts
        else:
            self._ref = min(self._ref, drive.volts)
        return drive

    def _board(self) -> _Load:
        """The load as it is where x stands: a constant current, below the knee and in reset a resistor."""
        path = self._path_ohms if self._contact else 0.0
        knee = self.constants.knee_volts
        if self.alive and self._load > 0.0 and self._x > knee + path * self._load + _EQUAL:
            return _Load(self._load, 0.0, 1.0, path * self._load)
        running = self._load / knee if knee > 0 else 0.0
        siemens = running if self.alive else 1.0 / self.constants.reset_ohms
        scale = 1.0 / (1.0 + path * siemens)
        return _Load(0.0, siemens * scale, scale, 0.0)

    def _segment(self) -> Segment:
        """The form that holds from here on."""
        load, drive, x = self._board(), self._drive(), self._x
        c = self._farads
        if drive is None or x > self._ref + _EQUAL:
            sink = drive.sink if drive is not None else 0.0
            return self._form(load, -(sink + load.amps) / c, load.siemens / c, -sink, 0.0, drive)
        slope = drive.slew if self._ref < drive.volts - _EQUAL else 0.0
        if x >= self._ref - _EQUAL and load.at(x) + c * slope <= self._most(drive, x) + _EQUAL:
            return self._form(load, slope, 0.0, load.amps + c * slope, load.siemens, drive)
        if drive.input_ohms and x >= drive.input_volts - drive.input_ohms * drive.amps:
            into, per_x = drive.input_volts / drive.input_ohms, -1.0 / drive.input_ohms
            return self._form(load, (into - load.amps) / c, (load.siemens - per_x) / c, into, per_x, drive)
        return self._form(load, (drive.amps - load.amps) / c, load.siemens / c, drive.amps, 0.0, drive, limited=True)

    def _form(
        self,
        load: _Load,
        a: float,
        b: float,
        amps: float,
        per_x: float,
        drive: Drive | None,
        *,
        limited: bool = False,
    ) -> Segment:
        metered = drive is not None and drive.metered
        point = self.set_point
        terminal = self.feed.terminal
        if terminal is None and (not self._contact or self.feed.sag is not None):
            terminal = point.volts if point.on else 0.0
        if self.feed.sag is not None and point.on:  # behind the leads: the supply feeds the board as ever
            amps, per_x, metered = load.amps, load.siemens, True
        return Segment(
            start=self._t,
            length=_FOREVER,
            x=self._x,
            a=a,
            b=b,
            scale=load.scale,
            drop=load.drop,
            amps=amps if metered else 0.0,
            amps_per_x=per_x if metered else 0.0,
            ohms=self._ohms,
            terminal=terminal,
            limited=limited and drive is not None and drive.own_limit,
        )

    @staticmethod
    def _most(drive: Drive, x: float) -> float:
        """Amps the source can give where it stands at x."""
        return min(drive.amps, (drive.input_volts - x) / drive.input_ohms) if drive.input_ohms else drive.amps

    def _form_ends(self, segment: Segment) -> float:
        """When another form takes over, model seconds from here (inf: this one stays)."""
        drive, x = self._drive(), self._x
        ends = [math.inf, *(_crossing(segment, level) for level in self._bends(drive))]
        if drive is None:
            return min(ends)
        slope = drive.slew if self._ref < drive.volts - _EQUAL else 0.0
        if slope:
            ends.append((drive.volts - self._ref) / slope)
        if abs(x - self._ref) > _EQUAL:
            ends.append(self._meets(segment, slope))
        elif segment.a == slope and not segment.b:
            ends.append(self._gives_out(drive, slope))
        else:
            ends.append(self._meets(segment, slope, leaving=True))
        return min(ends)

    def _gives_out(self, drive: Drive, slope: float) -> float:
        """Tracking its reference upwards, when the source can give no more (inf: it keeps up)."""
        if not slope:
            return math.inf
        load, need = self._board(), self._farads * slope
        levels = []
        if load.siemens:
            levels.append((drive.amps - load.amps - need) / load.siemens)
        if drive.input_ohms:
            into = drive.input_volts - drive.input_ohms * (load.amps + need)
            levels.append(into / (1.0 + drive.input_ohms * load.siemens))
        later = [(level - self._x) / slope for level in levels if level > self._x + _EQUAL]
        return min(later, default=math.inf)

    def _meets(self, segment: Segment, slope: float, *, leaving: bool = False) -> float:
        """When x meets the reference, which rises at `slope`. Their distance is convex and falling where they meet,
        so that Newton's steps from here never pass the moment. One that is left behind (`leaving`) is not met again:
        the form ends before that, when the reference arrives."""
        if leaving:
            return math.inf
        if not slope:
            return segment.time_to(self._ref)
        sign = 1.0 if self._x > self._ref else -1.0
        at = 0.0
        for _ in range(60):
            x = segment.state(at)
            apart = sign * (x - self._ref - slope * at)
            closing = -sign * (segment.a - segment.b * x - slope)
            if apart <= _EQUAL:
                return at
            if closing <= 0.0:
                return math.inf
            at += apart / closing
        return at

    # -- what a supply's meter shows -------------------------------------------------------------------

    def sense(self) -> tuple[float, float, str]:
        """(volts, amps, mode) as the supply reads them: averages over its meter's time. Call advance() first."""
        point = self.set_point
        if not point.on:
            return (self._x if self._contact and self.feed.direct else 0.0), 0.0, "off"
        if not self._contact:
            return point.volts, 0.0, "cv"
        volts, amps = self.trace.metered(self._t - self.constants.meter_seconds, self._t)
        if volts != volts:
            volts, amps = self._x, 0.0
        limited = self.trace.segments[-1].limited if self._rests else self._segment().limited
        return volts, amps, "cc" if limited else "cv"


def _crossing(segment: Segment, level: float) -> float:
    """When x comes to `level`, from either side; from just at it, not at all."""
    return math.inf if abs(segment.x - level) <= _EQUAL else segment.time_to(level)
