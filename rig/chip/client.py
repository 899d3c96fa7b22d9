"""A careful client of the BK7231N's mask ROM: one method a command, bounded retries, every retry recorded.

It never pipelines: the ROM clears its receive buffer when it finishes a command. It never writes an efuse, and
has no method that could. Addresses are physical flash bytes, CRCs true CRC-32 (the wire's lacks the final XOR).

Frames have no checksum, so a command that is damaged on its way can be another one. The chip echoes the address of
what it erased or programmed: an echo of something that was never asked for is kept in `strays`.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import serial

from rig.chip.frames import ERASE_SIZES, SECTOR, STATUS, Long, Reply, ReplyParser, Request, Short, command_name
from rig.chip.ids import SCTRL_EFUSE_CTRL, SCTRL_EFUSE_OPTR

LINK_BAUD = 115200  # the ROM's speed after every reset
_LINK_PERIOD_S = 0.005  # rhythm of link checks; as bk7231tools
_CRC_BYTES_PER_S = 400_000  # slower than any chip seen (438.6 kB/s measured), so that time-outs are safe
_REPLY_S = 1.0  # what every tool allows for a reply
_ERASE_S = {0x1000: 2.0, 0x8000: 3.0, 0x10000: 4.0}  # several times data-sheet maxima of 16 Mbit parts
_RETRIES = 3
_REFUSALS = 2  # so often a command is refused before that is the chip's word: the frame may have been damaged
GARBLED = (4, 5)  # wrong length, payload short: the frame suffered on its way, or the host was held up within it
_ERASE_CODES = {size: code for code, size in ERASE_SIZES.items()}


class NoReply(Exception):
    """The chip did not answer in time, after all retries."""


class TooManyRetries(Exception):
    """More commands had to be repeated than one operation may cost."""


class Refused(Exception):
    """The chip answered with a status other than 0, and again when it was asked once more."""

    def __init__(self, request: Request, status: int) -> None:
        super().__init__(f"the chip refused {request.name}: {STATUS.get(status, f'status {status}')}")
        self.request = request
        self.status = status


@dataclass(frozen=True)
class Retry:
    """A command that had to be repeated: recorded, because a bench that needs retries is not healthy."""

    command: str
    address: int | None
    reason: str


@dataclass(frozen=True)
class Stray:
    """A change of the flash that the chip acknowledged and nobody asked for: `length` bytes from `start`.

    Either a command was damaged on its way and hit another place, or the reply was damaged on its way back.
    """

    command: str
    start: int
    length: int


class RomClient:
    """The ROM on an open serial port (a pyserial object with a read timeout of 5 ms, at 115200).

    All methods raise NoReply or Refused, and TooManyRetries once `retries` holds more than `most_retries`;
    serial.SerialException passes through when the port goes away. `on_silence` is called after each unanswered
    try; what it raises ends the wait for good.
    """

    def __init__(self, port: serial.Serial, on_silence: Callable[[], None] = lambda: None) -> None:
        self.port = port
        self._on_silence = on_silence
        self.retries: list[Retry] = []
        self.most_retries: int | None = None  # None: no limit but that of each command
        self.strays: list[Stray] = []
        self.uncertain = 0  # erases and programs that were not answered as they should be: where did they go?
        self._asked: set[tuple[int, int, int]] = set()  # changes asked for since `begin`: (code, start, length)
        self._crc_open = False  # a reply to a CRC may still come: it would not say of what it is
        self._last_crc: int | None = None  # what a reply that comes twice would say
        self._parser = ReplyParser()

    def begin(self) -> None:
        """A new operation: strays, uncertain commands and retries are counted anew."""
        self.retries.clear()
        self.strays.clear()
        self.uncertain = 0
        self._asked.clear()

    # -- link ------------------------------------------------------------------------------------------

    def link(self, timeout_s: float) -> None:
        """Send link checks until one is answered: be doing this before the board gets its power.

        The ROM listens for a fraction of a second after reset; once linked it stays until the next one.
        """
        self._parser.clear()
        frame = Request(Short.LINK_CHECK).encode()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.port.write(frame)
            if self._wait(_is_link, _LINK_PERIOD_S):
                self._drain()
                return
        raise NoReply(f"no answer to link checks for {timeout_s:g} s")

    def set_baud(self, baud: int, delay_ms: int = 20) -> None:
        """Both sides to `baud`; the chip answers after `delay_ms` at the new speed. No retry: speeds may differ."""
        if baud == self.port.baudrate:
            return
        payload = struct.pack("<IB", baud, delay_ms)
        self._parser.clear()
        self.port.write(Request(Short.SET_BAUD, payload).encode())
        self.port.flush()
        pause = delay_ms / 2000  # as every tool: switch half-way through the chip's own delay
        end = time.monotonic() + pause
        while (left := end - time.monotonic()) > 0:
            time.sleep(left)
        self.port.baudrate = baud
        if not self._wait(lambda r: not r.long and r.code == Short.SET_BAUD and r.payload == payload, _REPLY_S):
            # the echo may have come before we had switched: whether the chip listens at the new speed is what counts
            try:
                self.link(_REPLY_S / 2)
            except NoReply:
                raise NoReply(f"no answer at {baud} baud") from None
            self.retries.append(Retry("set-baud", None, "no echo"))

    def reboot(self) -> None:
        """Ask the ROM to reset the chip; it does not answer."""
        self.port.write(Request(Short.REBOOT, b"\xa5").encode())
        self.port.flush()

    # -- registers -------------------------------------------------------------------------------------

    def read_register(self, address: int) -> int:
        head = struct.pack("<I", address)
        reply = self._ask(Request(Short.READ_REG, head), lambda r: r.payload[:4] == head and len(r.payload) == 8)
        return int(struct.unpack_from("<I", reply.payload, 4)[0])

    def efuse(self, first: int = 0, count: int = 32) -> bytes:
        """`count` efuse bytes from `first` (of 32). Reads only: the direction bit is always clear."""
        return bytes(self._efuse_byte(index) for index in range(first, first + count))

    def _efuse_byte(self, index: int) -> int:
        control = self.read_register(SCTRL_EFUSE_CTRL) & ~0x1F02 | index << 8 | 1
        payload = struct.pack("<II", SCTRL_EFUSE_CTRL, control)
        self._ask(Request(Short.WRITE_REG, payload), lambda r: r.payload == payload)
        for _ in range(50):
            if not self.read_register(SCTRL_EFUSE_CTRL) & 1:
                break
        value = self.read_register(SCTRL_EFUSE_OPTR)
        return value & 0xFF if value & 0x100 else 0

    # -- flash -----------------------------------------------------------------------------------------

    def flash_id(self) -> bytes:
        """JEDEC id, three bytes (maker, type, log2 of the size in bytes)."""
        reply = self._ask(Request(Long.SPI_OP, b"\x9f\x00\x00\x00", True), lambda r: len(r.payload) >= 3)
        return reply.payload[-3:]

    def status_register(self, size: int) -> int:
        """The flash's status register, `size` bytes (1 or 2)."""
        value = 0
        for at, opcode in enumerate((0x05, 0x35)[:size]):
            wanted = bytes((opcode,))
            reply = self._ask(
                Request(Long.READ_SR, wanted, True),
                lambda r, wanted=wanted: r.payload[:1] == wanted and len(r.payload) == 2,  # type: ignore[misc]
            )
            value |= reply.payload[1] << 8 * at
        return value

    def write_status_register(self, value: int, size: int) -> None:
        """Only when it must change: a needless write destroyed a register on a BK7238 (bk7231tools PR 29)."""
        payload = b"\x01" + value.to_bytes(size, "little")
        self._ask(Request(Long.WRITE_SR, payload, True), lambda r: r.payload[:1] == b"\x01")

    def crc(self, start: int, length: int, expected: int | None = None) -> int:
        """CRC-32 of `length` flash bytes from `start`, computed by the chip (its end address is inclusive).

        The reply does not say of what it is. A value that is not `expected`, or none was, may belong to another CRC
        than it seems, so that the next one is asked behind a fence; one that came just before is asked for again.
        """
        value = self._crc(start, length)
        if value == self._last_crc:
            self._crc_open = True
            value = self._crc(start, length)
        self._last_crc = value
        self._crc_open = value != expected
        return value

    def _crc(self, start: int, length: int) -> int:
        payload = struct.pack("<II", start, start + length - 1)
        reply = self._ask(
            Request(Short.CHECK_CRC, payload),
            lambda r: len(r.payload) == 4,
            timeout_s=_REPLY_S + length / _CRC_BYTES_PER_S,
        )
        return int(struct.unpack("<I", reply.payload)[0]) ^ 0xFFFFFFFF

    def read_sector(self, address: int) -> bytes:
        head = struct.pack("<I", address)
        reply = self._ask(
            Request(Long.READ_4K, head, True),
            lambda r: r.payload[:4] == head and len(r.payload) == 4 + SECTOR,
            timeout_s=_REPLY_S + self._wire_s(SECTOR),
        )
        return reply.payload[4:]

    def write_sector(self, address: int, data: bytes) -> None:
        """Program one erased sector. A lost reply is not repeated blindly: programming twice is harmless for
        equal data (NOR only clears bits), so the retry sends the same bytes."""
        if len(data) != SECTOR:
            raise ValueError(f"a sector is {SECTOR} bytes, not {len(data)}")
        head = struct.pack("<I", address)
        self._ask(
            Request(Long.WRITE_4K, head + data, True),
            lambda r: r.payload[:4] == head,
            timeout_s=_REPLY_S + self._wire_s(SECTOR),
        )

    def erase(self, address: int, size: int) -> None:
        """Erase the 4 KiB, 32 KiB or 64 KiB block at `address` (aligned to it)."""
        if address % size or size not in _ERASE_CODES:
            raise ValueError(f"no erase of 0x{size:x} bytes at 0x{address:x}")
        payload = struct.pack("<BI", _ERASE_CODES[size], address)
        self._ask(
            Request(Long.ERASE, payload, True),
            lambda r: r.payload[:5] == payload,
            timeout_s=_REPLY_S + _ERASE_S[size],
        )

    # -- plumbing --------------------------------------------------------------------------------------

    def _wire_s(self, size: int) -> float:
        return size * 10 / float(self.port.baudrate)

    def _ask(self, request: Request, fits: Callable[[Reply], bool], timeout_s: float | None = None) -> Reply:
        frame = request.encode()
        timeout_s = _REPLY_S if timeout_s is None else timeout_s
        is_crc = not request.long and request.code == Short.CHECK_CRC
        self._remember(request)
        refused: Refused | None = None
        refusals = 0
        for attempt in range(1 + _RETRIES):
            if attempt:
                self._on_silence()
                self._note(request, STATUS.get(refused.status, "refused") if refused else "no reply")
                if refused is not None:
                    self._drain()
                elif not self._settle():
                    continue  # nobody hears even a link check: no use asking
            self._parser.clear()
            if is_crc and self._crc_open:
                self._fence()
            refused = None
            self.port.write(frame)
            self._crc_open |= is_crc
            reply = self._wait(
                lambda r: r.long == request.long and r.code == request.code and (bool(r.status) or fits(r)), timeout_s
            )
            if reply is None:
                continue
            if not is_crc:
                self._nothing_open()  # the chip answers in order
            if not reply.status:
                return reply
            refused = Refused(request, reply.status)
            refusals += reply.status not in GARBLED
            if refusals == _REFUSALS:
                raise refused
        if refused is not None:
            raise refused
        raise NoReply(f"no reply to {request.name} in {1 + _RETRIES} tries")

    def _settle(self) -> bool:
        """Link checks until one is answered. What the chip still had to say comes before and is dropped, and it
        listens again: while it is busy it drops what comes, and takes up a frame somewhere inside."""
        try:
            self.link(_REPLY_S)
        except NoReply:
            return False
        self._nothing_open()
        return True

    def _nothing_open(self) -> None:
        self._crc_open, self._last_crc = False, None

    def _fence(self) -> None:
        """Between two CRCs: what the chip still had to say of the first (an answer that comes twice, or late) is
        over when it answers a link check, for it answers in order, and a CRC does not say of what it is."""
        if not self._settle():
            raise NoReply("no answer to link checks")

    def _note(self, request: Request, reason: str) -> None:
        address = None
        if request.long and request.code in (Long.WRITE_4K, Long.READ_4K):
            address = int(struct.unpack_from("<I", request.payload)[0])
        elif request.long and request.code == Long.ERASE:
            address = int(struct.unpack_from("<I", request.payload, 1)[0])
        self.retries.append(Retry(request.name, address, reason))
        if _change(request.code, request.payload, request.long) is not None:
            self.uncertain += 1
        if self.most_retries is not None and len(self.retries) > self.most_retries:
            raise TooManyRetries(f"more than {self.most_retries} commands had to be repeated")

    def _remember(self, request: Request) -> None:
        change = _change(request.code, request.payload, request.long)
        if change is not None:
            self._asked.add((request.code, *change))

    def _unfit(self, reply: Reply) -> None:
        """A reply that nobody waits for: a surplus one, or of a change that nobody asked for."""
        change = None if reply.status else _change(reply.code, reply.payload, reply.long)
        if change is not None and (reply.code, *change) not in self._asked:
            self.strays.append(Stray(command_name(reply.code, True), *change))

    def _wait(self, fits: Callable[[Reply], bool], timeout_s: float) -> Reply | None:
        """The next reply that fits, None after `timeout_s`; others (surplus link replies) are dropped."""
        deadline = time.monotonic() + timeout_s
        while True:
            # never more than the reply needs, so that read() returns at once and nothing of the next is taken
            data = self.port.read(max(1, min(self._parser.missing, 4200)))
            for reply in self._parser.feed(data):
                if fits(reply):
                    return reply
                self._unfit(reply)
            if time.monotonic() >= deadline:
                return None

    def _drain(self) -> None:
        """Drop what is still coming in: surplus replies pollute the next exchange."""
        quiet = time.monotonic() + 0.002
        while time.monotonic() < quiet:
            waiting = self.port.in_waiting
            if waiting:
                for reply in self._parser.feed(self.port.read(waiting)):
                    self._unfit(reply)
                quiet = time.monotonic() + 0.002
        self._parser.clear()


def _is_link(reply: Reply) -> bool:
    return not reply.long and reply.code == 1 and reply.payload == b"\x00"


def _change(code: int, payload: bytes, long: bool) -> tuple[int, int] | None:
    """What a command changes, or a reply says was changed: (start, bytes) of the flash; None: nothing."""
    if not long or len(payload) < 4:
        return None
    if code == Long.ERASE:
        size = ERASE_SIZES.get(payload[0])
        if size is None or len(payload) < 5:
            return None
        return int(struct.unpack_from("<I", payload, 1)[0]) // size * size, size
    if code in (Long.WRITE_4K, Long.ERASE_4K):
        return int(struct.unpack_from("<I", payload)[0]), SECTOR
    if code == Long.WRITE_256:
        return int(struct.unpack_from("<I", payload)[0]), 0x100
    return None


def crc32(data: bytes) -> int:
    """The CRC-32 the chip computes, of bytes on the host."""
    return zlib.crc32(data)
