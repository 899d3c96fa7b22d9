"""System control at 0x00800000: chip id, efuse, the retention word.

Source: Beken SDK driver/sys_ctrl/sys_ctrl.h; id values read from BK7231N boards.
"""

from __future__ import annotations

from rig.sim.soc.registers import Registers

BASE = 0x00800000

CHIP_ID = 0x0007231C
DEVICE_ID = 0x20521010  # the N of a CB3S

EFUSE_BYTES = 32

_CHIP_ID = 0x00
_DEVICE_ID = 0x04
_ANALOG_SPI = 0x40
_ANALOG_BUSY = 0x7F
_EFUSE_CONTROL = 0x74
_EFUSE_DATA = 0x78
_RETENTION = 0x150

_EFUSE_START = 1 << 0
_EFUSE_WRITE = 1 << 1
_EFUSE_VALID = 1 << 8

WATCHDOG_FLAG = 1 << 16  # in the retention word: the last reset was the watchdog's


class SystemControl(Registers):
    """Efuse reads answer at once; efuse writes are ignored (nothing on this bench burns fuses).

    `retention` outlives a reset: software keeps its reason for a reboot in the low half.
    """

    def __init__(self, efuse: bytes) -> None:
        super().__init__(0x200)
        self._efuse = bytes(efuse).ljust(EFUSE_BYTES, b"\0")[:EFUSE_BYTES]
        self.retention = 0

    def read(self, offset: int) -> int:
        if offset == _CHIP_ID:
            return CHIP_ID
        if offset == _DEVICE_ID:
            return DEVICE_ID
        if offset == _ANALOG_SPI:
            return self.words[offset >> 2] & ~_ANALOG_BUSY
        if offset == _RETENTION:
            return self.retention
        return self.words[offset >> 2]

    def write(self, offset: int, value: int) -> None:
        if offset == _RETENTION:
            self.retention = value
        elif offset == _EFUSE_CONTROL and value & _EFUSE_START:
            self.words[offset >> 2] = value & ~_EFUSE_START
            if not value & _EFUSE_WRITE:
                self.words[_EFUSE_DATA >> 2] = self._efuse[value >> 8 & 0x1F] | _EFUSE_VALID
        else:
            self.words[offset >> 2] = value
