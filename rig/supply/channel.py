"""The contract of a supply channel, and the plain values that cross it.

Everything above the supply (slots, dips, studies) knows only this file and `client.lease`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from rig.errors import UsageProblem
from rig.supply.means import Commanded, Means

Mode = Literal["cv", "cc", "off", "unregulated"]
Trip = Literal["ovp", "ocp"]


@dataclass(frozen=True)
class Setting:
    """What a channel is set to before its output may go on. Volts and amps.

    `ovp` None is for a channel that has no over-voltage protection, and only for that. `ocp_trips` False means
    that over-current protection is read back *off*: the output then limits the current instead of latching off.
    """

    volts: float
    amps: float
    ovp: float | None
    ocp_trips: bool = False


@dataclass(frozen=True)
class Reading:
    """One measurement at the supply. `mono_ns` is the monotonic clock midway between question and answer."""

    volts: float
    amps: float
    mode: Mode
    mono_ns: int


@dataclass(frozen=True)
class Instrument:
    """Who answered `*IDN?`, and the dialect it is spoken to in."""

    idn: str
    maker: str
    model: str
    serial: str
    firmware: str
    dialect: str


@dataclass(frozen=True)
class Limits:
    """What a channel can do. Volts, amps, seconds; settings are rounded to the steps, `refresh_s` is the time
    between two new readings of the meter, `capabilities` are those of `rig.supply.dialect.Capability`, `means` the
    ways in which it plays a waveform (best first), `name` is for a person."""

    volts_max: float
    amps_max: float
    volts_step: float
    amps_step: float
    refresh_s: float
    capabilities: tuple[str, ...]
    means: tuple[Means, ...] = ()
    name: str = ""


class SupplyChannel(Protocol):
    """One output of a bench supply.

    Every method raises BenchBlocked("supply-lost") when the instrument cannot be reached, and
    BenchBlocked("supply-refused") when it does not do or does not read back what it was told.
    """

    def configure(self, setting: Setting, *, max_volts: float) -> Setting:
        """Switch the output off, then set and read back OVP, OCP, the current limit and volts, in that order.

        Returns what was set, rounded to the channel's steps. A latched trip is cleared. `max_volts` can lower,
        never raise, the maximum of the lease, and binds every later call. Raises UsageProblem, before anything
        is sent, for a setting above a maximum or one that the channel cannot do.
        """

    def on(self) -> int:
        """Switch on and read it back; returns the monotonic nanoseconds midway of doing so.

        Refused unless the channel was configured since it was last *found* off (a trip, somebody at the front
        panel) and since its connection was last opened; after `off()` it may be called again. All settings are
        read back once more first.
        """

    def off(self) -> bool:
        """Switch off, reconnecting if need be; True when it was read back off. Never raises for a lost supply."""

    def measure(self) -> Reading:
        """Volts and amps at the supply's terminals, and how it regulates."""

    def tripped(self) -> Trip | None:
        """The protection that has latched, if one has."""

    def set_volts(self, volts: float, *, verify: bool = True) -> int:
        """Change the volts of a configured channel, on or off; returns the monotonic nanoseconds midway.

        `verify` False sends and does not read back, for edges in quick succession.
        """

    def set_current_limit(self, amps: float, *, verify: bool = True) -> int:
        """Change the current limit of a configured channel; as `set_volts`."""

    @property
    def means(self) -> tuple[Means, ...]:
        """The ways in which it plays a waveform, best first."""

    def arm(self, commanded: Commanded) -> None:
        """Make ready to play what `rig.supply.means.fit` said; until `fire` the output stays as it is.

        What was armed before is forgotten. Raises UsageProblem, before anything is sent, for volts above a maximum or
        at the OVP, and for amps above the current limit that is set; BenchBlocked("supply-refused") if the instrument
        does not take the steps, or plays.
        """

    def fire(self) -> int:
        """Play what is armed, on an output that is on; returns the monotonic nanoseconds midway of sending the
        trigger, or of the first write.

        Volts, limit and what is armed cannot be changed until it is over; `off` ends it.
        """

    def playing(self) -> bool:
        """Whether it still plays. When it is over, volts and limit have been read back as they were set before.

        Raises BenchBlocked("supply-refused") if they have not, if the instrument reports an error or has switched its
        output off, and if an edge was sent outside the limits that the means state.
        """

    def disarm(self) -> None:
        """Forget what is armed, or stop what plays; volts and limit read back as set before."""


def checked_maximum(max_volts: float) -> float:
    """`max_volts` if it can be a maximum. Raises UsageProblem."""
    if not (math.isfinite(max_volts) and max_volts > 0):
        raise UsageProblem(f"The maximum for a supply channel must be more than 0 V, not {max_volts}.")
    return max_volts
