"""General DMA at 0x00809000: six channels of 0x20. The Wi-Fi stack uses it as memcpy.

Source: the general DMA driver of Beken's SDK.
"""

from __future__ import annotations

from collections.abc import Callable

from rig.sim.soc.registers import Registers

BASE = 0x00809000

_CHANNEL = 0x20
_CHANNELS = 6
_CONFIG, _DESTINATION, _SOURCE = 0x00, 0x04, 0x08
_ENABLE = 1 << 0


class GeneralDma(Registers):
    """A channel copies at once when it is enabled, then clears its enable bit.

    `copy(source, destination, length)` does the work.
    """

    def __init__(self, copy: Callable[[int, int, int], None]) -> None:
        super().__init__(0x100)
        self._copy = copy

    def write(self, offset: int, value: int) -> None:
        self.words[offset >> 2] = value
        channel, register = divmod(offset, _CHANNEL)
        if register == _CONFIG and channel < _CHANNELS and value & _ENABLE:
            source, destination = (self.words[(offset + at) >> 2] for at in (_SOURCE, _DESTINATION))
            self._copy(source, destination, (value >> 16) + 1)
            self.words[offset >> 2] = value & ~_ENABLE
