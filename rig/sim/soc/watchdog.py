"""Watchdog at 0x00802900.

Source: Beken SDK driver/wdt/wdt.c. The unit of its period (1 ms) is a guess, which the SDK's callers share.
"""

from __future__ import annotations

from rig.sim.soc.clock import MS, NEVER, Clock
from rig.sim.soc.icu import Icu
from rig.sim.soc.registers import Registers

BASE = 0x00802900

_CONTROL = 0x00
_FIRST_KEY = 0x5A
_SECOND_KEY = 0xA5


class Watchdog(Registers):
    """Armed, and fed, by writing the period under key 5A and then under key A5. Period 0 stops it."""

    def __init__(self, clock: Clock, icu: Icu) -> None:
        super().__init__(0x80)
        self._clock = clock
        self._icu = icu
        self._half = -1  # the period of a 5A write that waits for its A5
        self.due = NEVER

    def bites(self, now: int) -> bool:
        """Whether a period that has run out resets the chip. With its clock gated it does not run: look later."""
        if now < self.due:
            return False
        if not self._icu.watchdog_clocked:
            self.due = now + MS
            return False
        return True

    def write(self, offset: int, value: int) -> None:
        super().write(offset, value)
        if offset != _CONTROL:
            return
        key, period = value >> 16 & 0xFF, value & 0xFFFF
        if key == _FIRST_KEY:
            self._half = period
        elif key == _SECOND_KEY and self._half == period:
            self._half = -1
            self.due = self._clock.now + period * MS if period else NEVER

    def reset(self) -> None:
        super().reset()
        self._half = -1
        self.due = NEVER
