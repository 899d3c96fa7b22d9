"""SARADC at 0x00802C00.

Source: the SARADC driver of Beken's SDK for the BK7231N.
"""

from __future__ import annotations

from rig.sim.soc.clock import NEVER, US, Clock
from rig.sim.soc.icu import Icu, Irq
from rig.sim.soc.registers import Registers

BASE = 0x00802C00

_CONFIG = 0x00
_DATA = (0x04, 0x10)

_ENABLE = 1 << 2
_INT_CLEAR = 1 << 8
_FIFO_EMPTY = 1 << 30
_FIFO_FULL = 1 << 31

_SAMPLES = 16
_CONVERSION_NS = 100 * US  # guess: 16 samples
_CODE = 330  # the firmware scales it to 82 and takes that for ~30 degrees C; a board's real code is not known


class SarAdc(Registers):
    """Enabled, it fills its FIFO after a while and interrupts; disabled, it forgets the samples."""

    def __init__(self, clock: Clock, icu: Icu) -> None:
        super().__init__(0x80)
        self._clock = clock
        self._icu = icu
        self._left = 0
        self.due = NEVER

    def service(self, now: int) -> None:
        if now >= self.due:
            self.due = NEVER
            self._left = _SAMPLES
            self._icu.set_line(Irq.SARADC, True)

    def read(self, offset: int) -> int:
        if offset == _CONFIG:
            word = self.words[0] & ~(_INT_CLEAR | _FIFO_EMPTY | _FIFO_FULL)
            return word | (_FIFO_FULL if self._left >= _SAMPLES else 0 if self._left else _FIFO_EMPTY)
        if offset in _DATA:
            if self._left:
                self._left -= 1
                if not self._left:
                    self._icu.set_line(Irq.SARADC, False)
                    self._start()
            return _CODE
        return self.words[offset >> 2]

    def write(self, offset: int, value: int) -> None:
        self.words[offset >> 2] = value
        if offset != _CONFIG:
            return
        if value & _INT_CLEAR and not self._left:
            self._icu.set_line(Irq.SARADC, False)
        if not value & _ENABLE:
            self._flush()
        elif not self._left and self.due == NEVER:
            self._start()

    def reset(self) -> None:
        super().reset()
        self._flush()

    def _start(self) -> None:
        self.due = self._clock.now + _CONVERSION_NS

    def _flush(self) -> None:
        self._left = 0
        self.due = NEVER
        self._icu.set_line(Irq.SARADC, False)
