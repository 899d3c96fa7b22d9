"""A core that executes flash at volts it is not made for: above its reset level, and yet too low to compute right.

A mishap comes at random, the likelier the lower the rail stands and the longer. It stops core and watchdog until
power goes (or CEN is bridged), or sets the program counter somewhere else: whatever stands there is executed, and the
firmware's own handlers and watchdog have the next word. Some of these first let the flash erase a sector that nobody
meant, which is when the die's volts are back. What comes while the rail falls is settled where the fall ends: in a
reset it has no consequence. The mask ROM, at the crystal's pace, is taken to work down to the reset level.

All numbers are guesses: nobody has measured it on this chip.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from rig.sim.constants import CoreTable
from rig.sim.flash import SECTOR
from rig.sim.power import Rail

_FALLING = 1.0  # volts per second: what falls more slowly stands (a choice)
_WORD = 4


@dataclass(frozen=True)
class Mishap:
    """`hangs`: nothing goes on. Else it goes on at a `place` of 0 (the begin of its memory) to 1, in RAM or in flash,
    and `stray` is the address of a sector that is erased before."""

    hangs: bool
    place: float = 0.0
    in_ram: bool = False
    stray: int | None = None


class Undervolted:
    """Watches a rail while a core executes. `reset_volts` is where it goes into reset."""

    def __init__(self, rail: Rail, table: CoreTable, reset_volts: float, seed: int) -> None:
        self._rail = rail
        self._table = table
        self._reset_volts = reset_volts
        self._random = random.Random(f"core {seed}")
        self._since: float | None = None  # seconds of the model
        self._left = 0.0  # of what it bears

    def executes(self, on: bool) -> None:
        """It begins to execute now, or no longer does."""
        if on and self._since is None:
            self._bears()
        self._since = self._rail.model(self._rail.now) if on else None

    def _bears(self) -> None:
        self._left = self._random.expovariate(1.0)

    def lived(self) -> Mishap | None:
        """What happened to it as far as the rail was followed."""
        if self._since is None:
            return None
        rail, table = self._rail, self._table
        since, now = self._since, rail.model(rail.now)
        self._since = now
        if now > since and rail.trace.lowest(since, now) < table.works_volts:
            # effort() is a part of full: what is missing of it is how deep and how long, in the same proportion
            missing = now - since - rail.trace.effort(since, now, self._reset_volts, table.works_volts)
            self._left -= table.mishaps_per_second * missing
        if self._left > 0.0 or rail.slope < -_FALLING:
            return None
        self._bears()
        return self._drawn()

    def _drawn(self) -> Mishap:
        table, draw = self._table, self._random
        if draw.random() < table.hang_share:
            return Mishap(hangs=True)
        place, in_ram = draw.random(), draw.random() < 0.5  # guess: half of what goes astray ends up in RAM
        stray = None
        if draw.random() < table.stray_share:
            stray = draw.randrange(table.stray_start, table.stray_end) // SECTOR * SECTOR
        return Mishap(hangs=False, place=place, in_ram=in_ram, stray=stray)
