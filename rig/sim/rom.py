"""The BK7231N's mask ROM: its UART download protocol, driven by byte arrivals.

Written from what the ROM answers on the wire, apart from the rig's own client, so that the two can be wrong
independently; ltchiptool and bk7231tools judge both. The ROM listens for a short window after reset; a link
check makes it stay until the next reset.

Times are wall seconds (`ChipTimes.scaled` divides what chip and flash take by the simulator's speed); bytes
arrive already paced.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable

from rig.chip.ids import SCTRL_CHIP_ID, SCTRL_EFUSE_CTRL, SCTRL_EFUSE_OPTR
from rig.sim.die import Die, DieSupply
from rig.sim.flash import NorFlash
from rig.sim.flashtimes import ChipTimes

CHIP_ID_N = 0x0007231C
LINK_BAUD = 115200
_MASK = 0xFFFFFFFF
_PARTIAL_FRAME_S = 0.1  # guess: the ROM has such a time-out, its length is not known
_GARBLED = 0x5A  # what a misread byte, or a CRC of some, differs by: that it differs is what counts
_MISREAD = bytes(byte ^ _GARBLED for byte in range(256))
_EFUSE_WRITE = 0x2  # SCTRL_EFUSE_CTRL bit 1: direction


_SHORT_LINK, _SHORT_WRITE_REG, _SHORT_READ_REG = 0x00, 0x01, 0x03
_SHORT_REBOOT, _SHORT_BAUD, _SHORT_CRC, _SHORT_RESET, _SHORT_STAY = 0x0E, 0x0F, 0x10, 0x70, 0xAA


class Rom:
    """One chip's download mode.

    `send(at, data, baud)` puts reply bytes on the wire from time `at`; `on_reset()` asks the board for a
    reset (reboot commands); `on_load(name, until)` says what draws current ("erase", "program") and how long.
    """

    def __init__(
        self,
        flash: NorFlash,
        efuse: bytearray,
        *,
        send: Callable[[float, bytes, int], None],
        on_reset: Callable[[float], None],
        on_load: Callable[[str, float], None] = lambda name, until: None,
        times: ChipTimes | None = None,
        die_supply: DieSupply | None = None,
    ) -> None:
        self.flash = flash
        self.efuse = efuse
        self.times = times or ChipTimes()
        self.linked = False
        self.baud = LINK_BAUD
        self.busy_until = 0.0
        self._send = send
        self._on_reset = on_reset
        self._on_load = on_load
        self._die = Die(die_supply)
        self._crc_asked: tuple[float, float, int, int] | None = None  # (begun, done, start, length)
        self._registers: dict[int, int] = {}
        self._buffer = bytearray()
        self._last_byte = 0.0
        self._programmed = 0  # payload bytes of the current write-4k already programmed
        self.baud_change: tuple[int, int] | None = None  # (baud, ms): the board calls finish_baud_change

    def reset(self) -> None:
        """Power-on, CEN or a reboot command: everything but flash and efuse is forgotten."""
        self.linked = False
        self.baud = LINK_BAUD
        self.busy_until = 0.0
        self._registers.clear()
        self._buffer.clear()
        self._programmed = 0
        self._crc_asked = None
        self._die.complete()
        self.baud_change = None

    def power_lost(self, now: float) -> None:
        """Power went away: an erase or program under way stays where it is."""
        self._die.power_lost(now)
        self.reset()

    @property
    def due(self) -> float:
        """When tick() is needed next (inf: not)."""
        return min(self.speaks_at, self._die.next_end)

    @property
    def speaks_at(self) -> float:
        """When tick() has something to tell the host: a CRC is done, a frame is given up (inf: never). The rest that
        is due, the ends of erasing and programming, nobody hears of."""
        crc = self._crc_asked[1] if self._crc_asked else math.inf
        return min(self.gives_up_at + 0.001, crc)

    # -- receiving -------------------------------------------------------------------------------------

    def receive(self, data: bytes, at: float) -> None:
        """Bytes whose last one arrived at time `at`. Those that come while a command runs are lost: the
        ROM clears its receive buffer when it finishes."""
        if at < self.busy_until:
            return
        self.tick(at)
        self._last_byte = at
        self._buffer += data
        while self._buffer and self._frame(at):
            pass

    @property
    def in_frame(self) -> bool:
        """A frame has begun and its rest is awaited."""
        return self._buffer.startswith(b"\x01\xe0\xfc")

    @property
    def gives_up_at(self) -> float:
        """When a frame whose rest does not come is over (inf: none has begun)."""
        return self._last_byte + _PARTIAL_FRAME_S if self._buffer else math.inf

    def tick(self, now: float) -> None:
        """End what takes time and is over; give up on a frame whose rest did not come."""
        self._die.settle(now)
        if self._crc_asked and now >= self._crc_asked[1]:
            self._crc_done(*self._crc_asked)
        if now > self.gives_up_at:
            held, self._buffer = bytes(self._buffer), bytearray()
            self._programmed = 0
            if len(held) > 8 and held[3] == 0xFF:
                self._reply_long(now, held[7], 5, b"")
            elif len(held) > 5:
                self._reply_short(now, held[4], b"\x05" + held[5:])

    def _frame(self, at: float) -> bool:
        """Handle one frame at the buffer's start; False when more bytes are needed."""
        buffer = self._buffer
        start = buffer.find(b"\x01")
        if start != 0:
            del buffer[: start if start > 0 else len(buffer)]
            return start > 0
        for index, wanted in enumerate(b"\x01\xe0\xfc"):
            if len(buffer) <= index:
                return False
            if buffer[index] != wanted:
                del buffer[:1]
                return True
        if len(buffer) < 5:
            return False
        if buffer[3] == 0xFF and buffer[4] == 0xF4:
            return self._long_frame(at)
        size = 4 + buffer[3]
        if buffer[3] == 0 or buffer[3] == 0xFF:
            del buffer[:1]
            return True
        if len(buffer) < size:
            return False
        code, payload = buffer[4], bytes(buffer[5:size])
        del buffer[:size]
        self._short(code, payload, at)
        return True

    def _long_frame(self, at: float) -> bool:
        buffer = self._buffer
        if len(buffer) < 8:
            return False
        length = buffer[5] | buffer[6] << 8
        size = 7 + length
        code = buffer[7]
        if code == 0x07 and length == 0x1005:
            self._program_arrived(min(len(buffer), size))
        if len(buffer) < size:
            return False
        payload = bytes(buffer[8:size])
        del buffer[:size]
        self._programmed = 0
        self._long(code, payload, at)
        return True

    def _program_arrived(self, have: int) -> None:
        """Program each page of a 4 KiB write as soon as it is complete, the rest still on the wire."""
        if have < 12:
            return
        address = int.from_bytes(self._buffer[8:12], "little")
        while have - 12 >= self._programmed + 0x100:
            at = self._programmed
            self._program(address + at, bytes(self._buffer[12 + at : 12 + at + 0x100]), self._last_byte)
            self._programmed += 0x100
            self._on_load("program", self._last_byte + self.times.page)

    def _program(self, address: int, data: bytes, at: float) -> None:
        flash = self.flash
        self._die.begin(at, at + self.times.page, lambda done: flash.program(address, data, done=done))

    # -- short commands --------------------------------------------------------------------------------

    def _short(self, code: int, payload: bytes, at: float) -> None:
        if code == _SHORT_LINK:
            self.linked = True
            self._reply_short(at, 0x01, b"\x00")
        elif code == _SHORT_STAY and payload == b"\x55":
            self.linked = True
            self._reply_short(at, code, payload)
        elif code == _SHORT_REBOOT:
            if payload == b"\xa5":
                self._on_reset(at)
            else:
                self._reply_short(at, code, payload)
        elif code == _SHORT_RESET:
            if payload == b"SEAN":
                self._on_reset(at)
            else:
                self._reply_short(at, code, payload)
        elif code == _SHORT_BAUD and len(payload) == 5:
            self.baud_change = struct.unpack("<IB", payload)
        elif code == _SHORT_READ_REG and len(payload) == 4:
            address = int.from_bytes(payload, "little")
            self._reply_short(at, code, payload + self._read_register(address).to_bytes(4, "little"))
        elif code == _SHORT_WRITE_REG and len(payload) == 8:
            self._write_register(*struct.unpack("<II", payload))
            self._reply_short(at, code, payload)
        elif code == _SHORT_CRC and len(payload) == 8:
            start, end = struct.unpack("<II", payload)
            self._crc(start, end, at)
        else:
            self._reply_short(at, code, b"\x07")

    def finish_baud_change(self, at: float) -> None:
        """The SetBaud delay is over: answer at the new speed."""
        if self.baud_change:
            baud, delay = self.baud_change
            self.baud_change = None
            self.baud = baud
            self._reply_short(at, _SHORT_BAUD, struct.pack("<IB", baud, delay))

    def _crc(self, start: int, end: int, at: float) -> None:
        length = (end - start + 1) & _MASK  # inclusive end
        if length > 4 * len(self.flash.data):
            self._reply_short(at, _SHORT_CRC, b"\x06")
            return
        self._crc_asked = at, self._busy(at, length / self.times.crc_bytes_per_s), start, length

    def _crc_done(self, begun: float, done: float, start: int, length: int) -> None:
        self._crc_asked = None
        crc = zlib.crc32(self.flash.read(start, length)) ^ _MASK  # no final XOR on the wire
        if not self._die.supply.reads_well(begun, done):
            crc ^= _GARBLED
        self._reply_short(done, _SHORT_CRC, crc.to_bytes(4, "little"))

    def _read_register(self, address: int) -> int:
        if address == SCTRL_CHIP_ID:
            return CHIP_ID_N
        return self._registers.get(address, 0)

    def _write_register(self, address: int, value: int) -> None:
        self._registers[address] = value
        if address == SCTRL_EFUSE_CTRL and value & 1:
            index = value >> 8 & 0x1F
            if value & _EFUSE_WRITE:
                self.efuse[index] |= value >> 16 & 0xFF  # one-time programmable: bits only ever set
            self._registers[SCTRL_EFUSE_OPTR] = 0x100 | self.efuse[index]
            self._registers[SCTRL_EFUSE_CTRL] = value & ~1

    # -- long commands ---------------------------------------------------------------------------------

    def _long(self, code: int, payload: bytes, at: float) -> None:
        handler = {
            0x06: self._write_256,
            0x07: self._write_4k,
            0x08: self._read,
            0x09: self._read_4k,
            0x0B: self._erase_4k,
            0x0C: self._read_sr,
            0x0D: self._write_sr,
            0x0E: self._spi,
            0x0F: self._erase,
        }.get(code)
        if code == 0x0A:
            return  # erase-all: refused without an answer
        if handler is None:
            self._reply_long(at, code, 7, b"")
        elif not handler(payload, at):
            self._reply_long(at, code, 6, payload[:5])

    def _write_256(self, payload: bytes, at: float) -> bool:
        if not 5 <= len(payload) <= 4 + 0x100:
            return False
        self._program(int.from_bytes(payload[:4], "little"), payload[4:], at)
        done = self._busy(at, self.times.page, "program")
        self._reply_long(done, 0x06, 0, payload[:4] + bytes((len(payload) - 4 & 0xFF,)))
        return True

    def _write_4k(self, payload: bytes, at: float) -> bool:
        if len(payload) != 4 + 0x1000:
            return False
        # all pages but the last were programmed while the rest was still arriving
        self._reply_long(self._busy(at, self.times.page, "program"), 0x07, 0, payload[:4])
        return True

    def _read(self, payload: bytes, at: float) -> bool:
        if len(payload) != 5:
            return False
        data = self._content(int.from_bytes(payload[:4], "little"), payload[4], at)
        self._reply_long(at, 0x08, 0, payload[:4] + data)
        return True

    def _read_4k(self, payload: bytes, at: float) -> bool:
        if len(payload) != 4:
            return False
        self._reply_long(at, 0x09, 0, payload + self._content(int.from_bytes(payload, "little"), 0x1000, at))
        return True

    def _content(self, address: int, length: int, at: float) -> bytes:
        """What a read at that moment gives."""
        data = self.flash.read(address, length)
        return data if self._die.supply.reads_well(at, at) else data.translate(_MISREAD)

    def _erase_4k(self, payload: bytes, at: float) -> bool:
        if len(payload) != 4:
            return False
        done = self._erase_block(int.from_bytes(payload, "little"), 0x1000, self.times.erase_4k, at)
        self._reply_long(done, 0x0B, 0, payload)
        return True

    def _erase(self, payload: bytes, at: float) -> bool:
        times = self.times
        sizes = {0x20: (0x1000, times.erase_4k), 0x52: (0x8000, times.erase_32k), 0xD8: (0x10000, times.erase_64k)}
        if len(payload) != 5 or payload[0] not in sizes:
            return False
        done = self._erase_block(int.from_bytes(payload[1:], "little"), *sizes[payload[0]], at)
        self._reply_long(done, 0x0F, 0, payload)
        return True

    def _erase_block(self, address: int, size: int, seconds: float, at: float) -> float:
        end = self._busy(at, seconds, "erase")
        flash = self.flash
        self._die.begin(at, end, lambda done: flash.erase(address, size, done=done))
        return end

    def _read_sr(self, payload: bytes, at: float) -> bool:
        shift = {0x05: 0, 0x35: 8, 0x15: 16}.get(payload[0]) if len(payload) == 1 else None
        if shift is None:
            return False
        self._reply_long(at, 0x0C, 0, payload + bytes((self.flash.sr >> shift & 0xFF,)))
        return True

    def _write_sr(self, payload: bytes, at: float) -> bool:
        if payload[:1] != b"\x01" or len(payload) not in (2, 3):
            return False
        keep = 0 if len(payload) == 3 else self.flash.sr & 0xFF00
        self.flash.write_status(keep | int.from_bytes(payload[1:], "little"))
        self._reply_long(self._busy(at, self.times.status_write), 0x0D, 0, payload)
        return True

    def _spi(self, payload: bytes, at: float) -> bool:
        """A raw full-duplex SPI transfer: what came in while the opcode went out, then the answer."""
        answer = b"\x00" + self.flash.jedec_id if payload[:1] == b"\x9f" else b""
        self._reply_long(at, 0x0E, 0, answer[: len(payload)].ljust(len(payload), b"\x00"))
        return True

    # -- plumbing --------------------------------------------------------------------------------------

    def _busy(self, at: float, seconds: float, load: str = "") -> float:
        self.busy_until = at + seconds
        if load:
            self._on_load(load, self.busy_until)
        return self.busy_until

    def _reply_short(self, at: float, code: int, payload: bytes) -> None:
        self._send(at, bytes((0x04, 0x0E, 4 + len(payload), 0x01, 0xE0, 0xFC, code)) + payload, self.baud)

    def _reply_long(self, at: float, code: int, status: int, payload: bytes) -> None:
        length = 2 + len(payload)
        head = bytes((0x04, 0x0E, 0xFF, 0x01, 0xE0, 0xFC, 0xF4, length & 0xFF, length >> 8, code, status))
        self._send(at, head + payload, self.baud)
