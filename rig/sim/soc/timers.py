"""Six timers at 0x00802A00: 0-2 count 26 MHz, 3-5 count 32 kHz. Timer 3 is the RTOS tick.

Source: Beken SDK driver/pwm/bk_timer.c.
"""

from __future__ import annotations

from rig.sim.soc.clock import NEVER, SECOND, Clock
from rig.sim.soc.icu import Icu, Irq
from rig.sim.soc.registers import Registers

BASE = 0x00802A00

_GROUP = 0x40  # second group of three
_CONTROL = 0x0C
_READ_REQUEST = 0x10
_READ_VALUE = 0x14

_ENABLE = 0x07
_DIVIDE_SHIFT = 3
_DIVIDE = 0x07 << _DIVIDE_SHIFT
_FLAG_SHIFT = 7
_FLAGS = 0x07 << _FLAG_SHIFT

_HZ = (26_000_000, 32_000)


class Timers(Registers):
    """Periodic. A period that ends while its flag still stands is lost, as on the chip."""

    def __init__(self, clock: Clock, icu: Icu) -> None:
        super().__init__(0x80)
        self._clock = clock
        self._icu = icu
        self._starts = [0] * 6
        self._dues = [NEVER] * 6
        self.due = NEVER

    def service(self, now: int) -> None:
        """Set the flags of the periods that have ended."""
        if now < self.due:
            return
        while self.due <= now:
            index = self._dues.index(self.due)
            period = self._period_ns(index)
            self._dues[index] = self.due + period * ((now - self.due) // period + 1)
            self._starts[index] = self._dues[index] - period
            self.words[self._control(index) >> 2] |= 1 << (_FLAG_SHIFT + index % 3)
            self.due = min(self._dues)
        self._request()

    def write(self, offset: int, value: int) -> None:
        group, register = offset & _GROUP, offset & ~_GROUP
        if register == _CONTROL:
            self._write_control(group, value)
        elif register == _READ_REQUEST:
            self.words[offset >> 2] = value & ~1
            self.words[(group + _READ_VALUE) >> 2] = self._count((value >> 2) & 3, group)
        else:
            self.words[offset >> 2] = value
            if register <= 8:
                self._restart(register // 4 + (3 if group else 0))

    def reset(self) -> None:
        super().reset()
        self._dues = [NEVER] * 6
        self.due = NEVER

    def _write_control(self, group: int, value: int) -> None:
        old = self.words[(group + _CONTROL) >> 2]
        flags = old & _FLAGS & ~value  # write one to clear
        new = value & (_ENABLE | _DIVIDE) | flags
        if new == old:  # as every tick's handler does to the group it was not called for
            return
        self.words[(group + _CONTROL) >> 2] = new
        changed = (old ^ value) & (_ENABLE | _DIVIDE)
        if changed:
            for bit in range(3):
                if changed & (1 << bit | _DIVIDE):
                    self._restart(bit + (3 if group else 0))
        self._request()

    def _restart(self, index: int) -> None:
        running = self.words[self._control(index) >> 2] & (1 << index % 3)
        period = self._period_ns(index)
        self._starts[index] = self._clock.now
        self._dues[index] = self._clock.now + period if running and period else NEVER
        self.due = min(self._dues)

    def _period_ns(self, index: int) -> int:
        group = _GROUP if index >= 3 else 0
        divide = ((self.words[(group + _CONTROL) >> 2] & _DIVIDE) >> _DIVIDE_SHIFT) + 1
        return self.words[(group >> 2) + index % 3] * divide * SECOND // _HZ[index >= 3]

    def _count(self, which: int, group: int) -> int:
        if which > 2:
            return 0
        index = which + (3 if group else 0)
        if self._dues[index] == NEVER:
            return 0
        divide = ((self.words[(group + _CONTROL) >> 2] & _DIVIDE) >> _DIVIDE_SHIFT) + 1
        return (self._clock.now - self._starts[index]) * _HZ[index >= 3] // (SECOND * divide)

    def _request(self) -> None:
        flags = (self.words[_CONTROL >> 2] | self.words[(_GROUP + _CONTROL) >> 2]) & _FLAGS
        self._icu.set_line(Irq.TIMER, bool(flags))

    @staticmethod
    def _control(index: int) -> int:
        return _CONTROL + (_GROUP if index >= 3 else 0)
