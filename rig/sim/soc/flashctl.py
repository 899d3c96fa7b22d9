"""Flash controller at 0x00803000: what firmware uses to read and write flash as data.

Source: Beken SDK driver/flash/flash.h and flash.c. Addresses are flash bytes: no CRC removal, no decryption.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable

from rig.sim.flash import SECTOR, SIZE, NorFlash
from rig.sim.flashtimes import (
    FIRMWARE_ERASE_S,
    FIRMWARE_PROGRAM_S,
    FIRMWARE_READ_S,
    FIRMWARE_STATUS_WRITE_S,
)
from rig.sim.soc.clock import NEVER, SECOND, Clock
from rig.sim.soc.load import Load
from rig.sim.soc.registers import Registers

BASE = 0x00803000

_OPERATE = 0x00
_TO_FLASH = 0x04
_FROM_FLASH = 0x08
_ID = 0x10
_STATUS = 0x14
_CONFIG = 0x1C

_START, _BUSY = 1 << 29, 1 << 31
_CRC_ERRORS_SHIFT = 8

_CHUNK = 32  # bytes a READ or PP moves
READ_STATUS, WRITE_STATUS, READ, READ_STATUS_2, WRITE_STATUS_2, PROGRAM = 3, 4, 5, 6, 7, 12
READ_ID = 20
_ERASES = {13: SECTOR, 14: 0x8000, 15: 0x10000, 16: SIZE}
_ERASE_NS = {size: round(seconds * SECOND) for size, seconds in FIRMWARE_ERASE_S.items()}
_PROGRAM_NS = round(FIRMWARE_PROGRAM_S * SECOND)
_READ_NS = round(FIRMWARE_READ_S * SECOND)
_STATUS_WRITE_NS = round(FIRMWARE_STATUS_WRITE_S * SECOND)


class FlashController(Registers):
    """Operations are done at once; the time they take is a stall of the CPU, which waits for them anyway."""

    def __init__(self, clock: Clock, flash: NorFlash, busy: Callable[[Load], None]) -> None:
        super().__init__(0x80)
        self._clock = clock
        self._flash = flash
        self._busy = busy
        self._outbound: list[int] = []
        self._inbound: tuple[int, ...] = ()
        self._taken = 0
        self._works: deque[tuple[int, Load]] = deque()  # operations that wait for the die: when each begins
        self.crc_errors = 0

    def works(self, now: int) -> int:
        """Report what the die does at `now`; when it begins with the next operation, `NEVER` if there is none."""
        while self._works and self._works[0][0] <= now:
            self._busy(self._works.popleft()[1])
        return self._works[0][0] if self._works else NEVER

    def read(self, offset: int) -> int:
        if offset == _FROM_FLASH:
            word = self._inbound[self._taken] if self._taken < len(self._inbound) else 0
            self._taken += 1
            return word
        if offset == _STATUS:
            return self.words[offset >> 2] | (self.crc_errors & 0xFF) << _CRC_ERRORS_SHIFT
        return self.words[offset >> 2]

    def write(self, offset: int, value: int) -> None:
        if offset == _OPERATE:
            self.words[0] = value & ~(_START | _BUSY)
            if value & _START:
                self._operate(value >> 24 & 0x1F, value & 0xFFFFFF)
        elif offset == _TO_FLASH:
            self._outbound = [*self._outbound[-7:], value]
        else:
            self.words[offset >> 2] = value

    def reset(self) -> None:
        super().reset()
        self._outbound = []
        self._inbound = ()
        self._taken = 0
        self._works.clear()
        self.crc_errors = 0

    def _operate(self, opcode: int, addr: int) -> None:
        flash = self._flash
        if opcode == READ:
            self._inbound = struct.unpack("<8I", flash.read(addr & -_CHUNK, _CHUNK))
            self._taken = 0
            self._clock.skip_to(self._clock.now + _READ_NS)
        elif opcode == PROGRAM:
            data = struct.pack(f"<{len(self._outbound)}I", *self._outbound)
            self._outbound = []
            if flash.program(addr & -_CHUNK, data):
                self._wait(Load.PROGRAM, _PROGRAM_NS)
        elif opcode in _ERASES:
            size = _ERASES[opcode]
            if flash.erase(addr, size):
                self._wait(Load.ERASE, _ERASE_NS[size])
        elif opcode == READ_ID:
            self.words[_ID >> 2] = int.from_bytes(flash.jedec_id, "big")
        elif opcode in (READ_STATUS, READ_STATUS_2):
            byte = flash.sr & 0xFF if opcode == READ_STATUS else flash.sr >> 8
            self.words[_STATUS >> 2] = self.words[_STATUS >> 2] & ~0xFFFF | byte
        elif opcode in (WRITE_STATUS, WRITE_STATUS_2):
            value = self.words[_CONFIG >> 2] >> 10 & 0xFFFF
            flash.write_status(flash.sr & 0xFF00 | value & 0xFF if opcode == WRITE_STATUS else value)
            self._wait(Load.PROGRAM, _STATUS_WRITE_NS)

    def _wait(self, load: Load, ns: int) -> None:
        """The die is busy for `ns`. Firmware that asks for more in the same slice of execution waits its turn."""
        self._works.append((max(self._clock.now, self._clock.stalled_until), load))
        self._clock.stall(ns)
        self.works(self._clock.now)
