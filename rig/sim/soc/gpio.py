"""GPIO at 0x00802800, one configuration word a pin.

Source: the GPIO driver of Beken's SDK.
"""

from __future__ import annotations

from rig.sim.soc.registers import Registers

BASE = 0x00802800

_INPUT_LEVEL = 1 << 0
_OUTPUT_LEVEL = 1 << 1
_OUTPUT_DISABLE = 1 << 3  # named output enable; the SDK's mode words show that it is active low
_PULL_UP = 1 << 4
_PULL_ENABLE = 1 << 5
_PERIPHERAL = 1 << 6


class Gpio(Registers):
    """Nothing hangs on the pins: an input reads its pull resistor, an output reads itself."""

    def __init__(self) -> None:
        super().__init__(0x100)

    def is_peripheral(self, pin: int) -> bool:
        """Whether `pin` has been handed to its second function (mode words 0x48 and 0x78)."""
        return bool(self.words[pin] & _PERIPHERAL)

    def read(self, offset: int) -> int:
        word = self.words[offset >> 2]
        if offset >= 0x80:
            return word
        if not word & _OUTPUT_DISABLE:
            level = bool(word & _OUTPUT_LEVEL)
        else:
            level = bool(word & _PULL_ENABLE and word & _PULL_UP)
        return word & ~_INPUT_LEVEL | level
