"""Frames of the Beken UART download protocol, as the BK7231N's mask ROM speaks it.

A request is a Bluetooth-HCI-shaped command, `01 E0 FC LEN CMD payload`; long ones (flash operations) have
`FF F4` and a 16-bit length instead of LEN. Replies are `04 0E LEN 01 E0 FC CMD payload`, long ones
`04 0E FF 01 E0 FC F4 LL LH CMD STATUS payload`. All integers are little-endian; 8N1, no checksum.
Source: bk7231tools 2.1.2 `serial/base/packets.py`, and the wire of ltchiptool 4.15.0.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

PREFIX = b"\x01\xe0\xfc"
REPLY_PREFIX = b"\x04\x0e"
LONG = 0xFF
LONG_MARK = 0xF4
SECTOR = 0x1000
_SHORTEST_REPLY = 7  # bytes; the least that must be there to know a reply's size


class Short(IntEnum):
    """Short commands. LinkCheck is answered with code 1, all others with their own code."""

    LINK_CHECK = 0x00
    WRITE_REG = 0x01
    READ_REG = 0x03
    REBOOT = 0x0E
    SET_BAUD = 0x0F
    CHECK_CRC = 0x10
    BOOT_VERSION = 0x11
    RESET = 0x70
    STAY_ROM = 0xAA
    RESET_OLD = 0xFE


class Long(IntEnum):
    """Long commands: everything that touches the flash."""

    WRITE_256 = 0x06
    WRITE_4K = 0x07
    READ_256 = 0x08
    READ_4K = 0x09
    ERASE_ALL = 0x0A
    ERASE_4K = 0x0B
    READ_SR = 0x0C
    WRITE_SR = 0x0D
    SPI_OP = 0x0E  # a raw SPI transfer; with payload 9F 00 00 00 it reads the JEDEC id
    ERASE = 0x0F  # by size: 20 = 4 KiB, 52 = 32 KiB, D8 = 64 KiB


ERASE_SIZES = {0x20: 0x1000, 0x52: 0x8000, 0xD8: 0x10000}

STATUS = {
    0: "ok",
    1: "flash busy",
    2: "SPI timeout",
    3: "flash operation timeout",
    4: "packet length wrong",
    5: "payload short",
    6: "parameter error or address refused",
    7: "unknown command",
}


@dataclass(frozen=True)
class Request:
    """One command from the host."""

    code: int
    payload: bytes = b""
    long: bool = False

    def encode(self) -> bytes:
        size = 1 + len(self.payload)
        if self.long:
            return PREFIX + bytes((LONG, LONG_MARK)) + struct.pack("<HB", size, self.code) + self.payload
        return PREFIX + bytes((size, self.code)) + self.payload

    @property
    def name(self) -> str:
        return command_name(self.code, self.long)


@dataclass(frozen=True)
class Reply:
    """One answer of the chip; `status` is None on short replies, which carry none."""

    code: int
    payload: bytes = b""
    long: bool = False
    status: int | None = None

    def encode(self) -> bytes:
        if self.long:
            head = struct.pack("<HBB", 2 + len(self.payload), self.code, self.status or 0)
            return REPLY_PREFIX + bytes((LONG,)) + PREFIX + bytes((LONG_MARK,)) + head + self.payload
        return REPLY_PREFIX + bytes((4 + len(self.payload),)) + PREFIX + bytes((self.code,)) + self.payload


def command_name(code: int, long: bool) -> str:
    """`erase`, `write-4k`, ... or `long-1f` for one without a name."""
    kind: type[Short] | type[Long] = Long if long else Short
    try:
        return kind(code).name.lower().replace("_", "-")
    except ValueError:
        return f"{'long' if long else 'short'}-{code:02x}"


@dataclass(frozen=True)
class Header:
    """What is known of a request once its first bytes are there: enough to decide on it and stream the rest.

    `size` is the whole frame in bytes, `head` the payload's first bytes (up to 9, all of it if shorter).
    """

    code: int
    long: bool
    size: int
    head: bytes

    @property
    def name(self) -> str:
        return command_name(self.code, self.long)

    @property
    def address(self) -> int | None:
        """The flash or register address, where this command has one (flash addresses come un-wrapped)."""
        at = 1 if self.long and self.code == Long.ERASE else 0
        flash = self.long and self.code in (0x06, 0x07, 0x08, 0x09, 0x0B, 0x0F)
        other = not self.long and self.code in (Short.READ_REG, Short.WRITE_REG, Short.CHECK_CRC)
        if not (flash or other) or len(self.head) < at + 4:
            return None
        return int(struct.unpack_from("<I", self.head, at)[0])


class RequestScanner:
    """Cuts a byte stream into requests without waiting for their end.

    `feed(data)` calls `on_header(header)` as soon as a frame's first bytes tell what it is; the callback's
    answer (pass or not) rules the whole frame. It returns the bytes to pass on, and calls `on_end(header)`
    after a passed frame's last byte. Bytes outside frames are passed on: the chip skips them itself. All but
    01, with which a frame begins: were one to stand before a frame that is taken out, it and what follows that
    frame could make another.
    """

    _HEAD = 9  # payload bytes that decide: a register address and value

    def __init__(
        self, on_header: Callable[[Header], bool], on_end: Callable[[Header], None] = lambda header: None
    ) -> None:
        self._on_header = on_header
        self._on_end = on_end
        self._held = bytearray()  # start of a frame not yet decided
        self._left = 0  # bytes of the current frame still to come
        self._passing = True
        self._current: Header | None = None

    def reset(self) -> None:
        """Forget a half-seen frame (the other side restarted)."""
        self._held.clear()
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        out = bytearray()
        view = data
        while view or self._held:
            if self._left:
                taken, view = view[: self._left], view[self._left :]
                self._left -= len(taken)
                if self._passing:
                    out += taken
                if self._left:
                    break
                self._finish()
                continue
            self._held += view
            view = b""
            rest = self._decide(out)
            if rest is None:
                break
            view = rest
        return bytes(out)

    def _finish(self) -> None:
        if self._passing and self._current is not None:
            self._on_end(self._current)
        self._current = None

    def _decide(self, out: bytearray) -> bytes | None:
        """Take one decided frame's start out of the held bytes; None while more must be seen first."""
        held = self._held
        start = held.find(PREFIX[:1])
        while start >= 0 and not PREFIX.startswith(held[start : start + 3]):
            start = held.find(PREFIX[:1], start + 1)
        if start != 0:  # garbage before a frame
            cut = len(held) if start < 0 else start
            out += held[:cut].translate(None, PREFIX)  # it must not complete a frame whose start the chip missed
            del held[:cut]
            return b"" if held else None
        header = self._header()
        if header is None:
            return None
        if header.size == 0:  # a length no frame has: garbage after all
            del held[:1]
            return b"" if held else None
        self._current = header
        self._passing = self._on_header(header)
        rest = bytes(held)
        held.clear()
        self._left = header.size
        return rest

    def _header(self) -> Header | None:
        held = self._held
        if len(held) < 5:
            return None
        if held[3] != LONG:
            size = 4 + held[3]
            if held[3] == 0:
                return Header(0, False, 0, b"")
            if len(held) < min(size, 5 + self._HEAD):
                return None
            return Header(held[4], False, size, bytes(held[5 : min(size, 5 + self._HEAD)]))
        if held[4] != LONG_MARK:
            return Header(0, False, 0, b"")
        if len(held) < 8:
            return None
        length = held[5] | held[6] << 8
        if length == 0:
            return Header(0, True, 0, b"")
        size = 7 + length
        if len(held) < min(size, 8 + self._HEAD):
            return None
        return Header(held[7], True, size, bytes(held[8 : min(size, 8 + self._HEAD)]))


class ReplyParser:
    """Cuts the chip's bytes into replies, skipping anything that is not one (noise, echoes, a boot log)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.skipped = 0  # bytes that belonged to no reply

    @property
    def missing(self) -> int:
        """Bytes to read next so that no more than the current reply is taken off the wire (at least 1)."""
        size = self._size()
        return max(1, (_SHORTEST_REPLY if size is None else size) - len(self._buffer))

    def feed(self, data: bytes) -> list[Reply]:
        self._buffer += data
        replies: list[Reply] = []
        while True:
            self._align()
            size = self._size()
            if size is None or len(self._buffer) < size:
                return replies
            replies.append(self._parse(bytes(self._buffer[:size])))
            del self._buffer[:size]

    def clear(self) -> None:
        self._buffer.clear()

    def _align(self) -> None:
        buffer = self._buffer
        while buffer:
            at = buffer.find(REPLY_PREFIX[:1])
            if at < 0:
                at = len(buffer)
            if at:
                self.skipped += at
                del buffer[:at]
            if not buffer or self._plausible():
                return
            self.skipped += 1
            del buffer[:1]

    def _plausible(self) -> bool:
        buffer = self._buffer
        if not REPLY_PREFIX.startswith(buffer[:2]):
            return False
        if len(buffer) >= 7 and buffer[2] == LONG and buffer[6] != LONG_MARK:
            return False
        return len(buffer) < 4 or (buffer[2] >= 4 and PREFIX.startswith(buffer[3:6]))

    def _size(self) -> int | None:
        """Whole size of the reply at the buffer's start, None while unknown."""
        buffer = self._buffer
        if len(buffer) < _SHORTEST_REPLY:
            return None
        if buffer[2] != LONG:
            return 3 + buffer[2]
        if len(buffer) < 9:
            return 9
        length = buffer[7] | buffer[8] << 8
        # The ROM counts one byte too many for a raw SPI operation's reply in some revisions, and older tools
        # accept 5 or 6; the bytes that follow the header are what the field says in every trace seen.
        return 9 + max(length, 2)

    def _parse(self, raw: bytes) -> Reply:
        if raw[2] != LONG:
            return Reply(raw[6], raw[7:])
        return Reply(raw[9], raw[11:], True, raw[10])
