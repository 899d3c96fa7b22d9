"""One UART line of a simulated board: a pseudo-terminal paced as a wire at its baud.

A pseudo-terminal has no speed of its own, so both directions are timed here: bytes from the host arrive 10 bit
times apart, bytes to the host leave likewise. When the host's baud and the chip's differ, the other side reads
noise. The slave end stays open, else the master reads EIO whenever the host closes it.

Times are wall seconds (time.monotonic); `speed` divides the time a byte takes.
"""

from __future__ import annotations

import fcntl
import os
import random
import struct
import termios
import tty
from collections import deque

_TCGETS2 = 0x802C542A
_TERMIOS2 = struct.Struct("4IB19s2I")
_CHUNK = 0x100  # bytes delivered at once: a flash page, so that a page is programmed when it has arrived
_CHUNK_S = 0.02  # and at a slow speed what fits in this: far less than the ROM waits for the rest of a frame
_SLOWEST = 50  # baud; a terminal set to 0 is hung up, and a chip told 0 is past help
_TOLERANCE = 0.04  # difference of bauds a UART still reads through: half a bit in ten, less the edges


class Wire:
    """The host's end is the device `path`; the chip's end are `arrived` and `send`."""

    def __init__(self, *, speed: float = 1.0, seed: int = 0) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        attributes = termios.tcgetattr(self._slave)
        attributes[4] = attributes[5] = termios.B115200  # else the first bytes of a host come with a change of speed
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self._slave)
        self.speed = speed
        self._random = random.Random(seed)
        self._incoming: deque[tuple[float, bytes, int]] = deque()  # (arrival of the last byte, bytes, baud)
        self._incoming_free = 0.0
        self._outgoing: deque[tuple[float, bytes, int]] = deque()  # (start, bytes, baud)
        self._outgoing_free = 0.0
        self._host_baud = self._read_baud()
        self.lost = 0  # bytes nobody read

    def close(self) -> None:
        os.close(self.master)
        os.close(self._slave)

    def _read_baud(self) -> int:
        raw = fcntl.ioctl(self.master, _TCGETS2, bytes(_TERMIOS2.size))
        return max(_SLOWEST, int(_TERMIOS2.unpack(raw)[-1]))

    def byte_time(self, baud: int) -> float:
        return 10 / (max(baud, _SLOWEST) * self.speed)

    def fits(self, baud: int, other: int) -> bool:
        return abs(baud - other) <= _TOLERANCE * other

    # -- host to chip ----------------------------------------------------------------------------------

    def pull(self, now: float) -> None:
        """Take what the host wrote and put it on the wire.

        Bytes found together with a change of speed were written before it: every host waits for the chip's
        answer at the new speed before it sends anything.
        """
        try:
            data = os.read(self.master, 0x4000)
        except (BlockingIOError, OSError):
            data = b""
        if data:
            baud = self._host_baud
            byte = self.byte_time(baud)
            size = max(1, min(_CHUNK, int(_CHUNK_S / byte)))
            start = max(now, self._incoming_free)
            for at in range(0, len(data), size):
                piece = data[at : at + size]
                start += len(piece) * byte
                self._incoming.append((start, piece, baud))
            self._incoming_free = start
        self._host_baud = self._read_baud()

    def arrived(self, now: float, chip_baud: int) -> list[tuple[float, bytes]]:
        """Pieces whose last byte has arrived, as a chip listening at `chip_baud` reads them."""
        pieces = []
        while self._incoming and self._incoming[0][0] <= now:
            at, data, baud = self._incoming.popleft()
            pieces.append((at, data if self.fits(baud, chip_baud) else self._noise(data, baud, chip_baud)))
        return pieces

    def _noise(self, data: bytes, baud: int, other: int) -> bytes:
        return self._random.randbytes(max(1, round(len(data) * other / max(baud, _SLOWEST))))

    # -- chip to host ----------------------------------------------------------------------------------

    def send(self, at: float, data: bytes, chip_baud: int) -> None:
        """Bytes the chip begins to send at `at` (not before its earlier ones are out)."""
        start = max(at, self._outgoing_free)
        self._outgoing.append((start, data, chip_baud))
        self._outgoing_free = start + len(data) * self.byte_time(chip_baud)

    def flush(self, now: float) -> None:
        """Hand the host every byte whose stop bit is over."""
        while self._outgoing:
            start, data, baud = self._outgoing[0]
            due = min(len(data), int((now - start) / self.byte_time(baud) + 1e-6))
            if due <= 0:
                return
            self._write(data[:due], baud)
            if due < len(data):
                self._outgoing[0] = (start + due * self.byte_time(baud), data[due:], baud)
                return
            self._outgoing.popleft()

    def deliver(self, data: bytes, chip_baud: int) -> None:
        """Bytes that are already paced (by the firmware that sent them): straight to the host."""
        self._write(data, chip_baud)

    def _write(self, data: bytes, baud: int) -> None:
        host = self._read_baud()
        if not self.fits(baud, host):
            data = self._noise(data, baud, host)
        try:
            done = os.write(self.master, data)
        except (BlockingIOError, OSError):
            done = 0
        self.lost += len(data) - done

    def silence(self) -> None:
        """The chip lost power or was reset: nothing under way arrives, nothing more leaves."""
        self._incoming.clear()
        self._outgoing.clear()
        self._incoming_free = self._outgoing_free = 0.0

    def next_event(self) -> float:
        """When the next piece arrives or should leave (inf: nothing under way)."""
        soonest = float("inf")
        if self._incoming:
            soonest = self._incoming[0][0]
        if self._outgoing:
            start, data, baud = self._outgoing[0]
            byte = self.byte_time(baud)
            # in steps of a millisecond or 128 bytes: a real adaptor's packets are no finer
            soonest = min(soonest, start + min(len(data), max(128, int(0.001 / byte))) * byte)
        return soonest
