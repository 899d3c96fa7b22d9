"""Interrupt control unit at 0x00802000.

Source: Beken SDK driver/icu/icu.h and driver/intc/intc_pub.h.
"""

from __future__ import annotations

from enum import IntEnum

from rig.sim.soc.registers import Registers

BASE = 0x00802000

_POWER_DOWN = 0x08
_ENABLE = 0x40
_GLOBAL = 0x44
_RAW = 0x48
_STATUS = 0x4C

_WATCHDOG_CLOCK_OFF = 1 << 8


class Irq(IntEnum):
    """Bit of each modelled source in enable, raw and status."""

    UART1 = 0
    UART2 = 1
    GPIO = 7
    TIMER = 8
    SARADC = 11


_IRQ_BITS = 0xFFFF  # 16 and up are FIQ sources, all of them in the radio, which raises none here


class Icu(Registers):
    """Sources are levels: a bit stays until its peripheral lets go; writing status does not clear it."""

    def __init__(self) -> None:
        super().__init__(0x80)
        self._lines = 0
        self.pending = False  # the core's IRQ input

    def set_line(self, irq: Irq, level: bool) -> None:
        """A peripheral raises or drops its request."""
        bit = 1 << irq
        lines = self._lines | bit if level else self._lines & ~bit
        if lines != self._lines:
            self._lines = lines
            self._update()

    @property
    def watchdog_clocked(self) -> bool:
        return not self.words[_POWER_DOWN >> 2] & _WATCHDOG_CLOCK_OFF

    def read(self, offset: int) -> int:
        if offset == _STATUS:
            return self._lines & self.words[_ENABLE >> 2]
        if offset == _RAW:
            return self._lines
        return self.words[offset >> 2]

    def write(self, offset: int, value: int) -> None:
        self.words[offset >> 2] = value
        if offset in (_ENABLE, _GLOBAL):
            self._update()

    def reset(self) -> None:
        super().reset()
        self._lines = 0
        self.pending = False

    def _update(self) -> None:
        enabled = self._lines & self.words[_ENABLE >> 2] & _IRQ_BITS
        self.pending = bool(enabled) and bool(self.words[_GLOBAL >> 2] & 1)
