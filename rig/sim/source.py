"""What feeds a board just now: the bench supply's output, or a part behind it, as one small set of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rig.sim.constants import RailTable, SourceTable

_DIODE_VOLTS = 0.3  # guess: so much less and the other supply feeds the board
_FIXED_AMPS = 10.0  # a fixed supply has more than any board takes
_SAG_AMPS = 10.0  # what pulls the rail to a sag's level, and gives there what the board wants


@dataclass
class SetPoint:
    """What the supply is told: output state, volts, current limit in amps."""

    on: bool = False
    volts: float = 0.0
    amps: float = 0.0


@dataclass(frozen=True)
class Drive:
    """A regulated source: `volts` it aims at, `amps` it gives at most, `sink` amps it takes back at most.

    It can give no more than (`input_volts` - x) / `input_ohms` where it stands at x. `slew` volts per second upwards.
    `metered`: its current is the bench supply's too. `own_limit`: `amps` is the bench supply's current limit.
    """

    volts: float
    amps: float
    slew: float = math.inf
    sink: float = 0.0
    input_volts: float = math.inf
    input_ohms: float = 0.0
    metered: bool = True
    own_limit: bool = True


class Feed:
    """Chooses the drive: the set-point, the part in between, a fixed supply, a sag made by hand."""

    def __init__(self, rail: RailTable, part: SourceTable) -> None:
        self.set_point = SetPoint()
        self.fixed = False  # always on, whatever the bench supply does
        self.sag: float | None = None  # volts, while one lasts
        self._rail = rail
        self._part = part
        self.direct = part.volts is None  # the bench supply itself

    @property
    def terminal(self) -> float | None:
        """Volts at the supply's terminals where they are not the rail's business: it stands behind a part."""
        if self.direct:
            return None
        return self.set_point.volts if self.set_point.on else 0.0

    def drive(self) -> Drive | None:
        """What feeds the board, None when nothing does."""
        drive = self._part_drive() if not self.direct else self._bench_drive()
        if self.sag is not None and drive is not None:  # it pulls down what there is
            return Drive(self.sag, _SAG_AMPS, sink=_SAG_AMPS, metered=False, own_limit=False)
        return drive

    def _bench_drive(self) -> Drive | None:
        point, part, fixed = self.set_point, self._part, self._rail.fixed_volts
        if point.on and not (self.fixed and point.volts < fixed - _DIODE_VOLTS):
            slew = math.inf if self.fixed else part.slew  # the diode has held the rail up
            return Drive(point.volts, point.amps, slew, part.sink_amps) if point.volts > 0 else None
        return Drive(fixed, _FIXED_AMPS, metered=False, own_limit=False) if self.fixed else None

    def _part_drive(self) -> Drive | None:
        point, part = self.set_point, self._part
        if not (point.on or self.fixed) or part.volts is None:
            return None
        limit = math.inf if part.amps is None else part.amps
        supply = point.amps if point.on and not self.fixed else math.inf
        return Drive(
            part.volts,
            min(limit, supply),
            part.slew,
            part.sink_amps,
            math.inf if part.input_volts is None else part.input_volts - part.dropout_volts,
            part.input_ohms or 0.0,
            metered=not self.fixed,
            own_limit=supply < limit,
        )
