"""One UART line of a simulated board: a pseudo-terminal paced as a wire at its baud.

A pseudo-terminal has no speed of its own, so both directions are timed here: bytes from the host arrive 10 bit
times apart, bytes to the host leave likewise. When the host's baud and the chip's differ, the other side reads
noise. The slave end stays open, else the master reads EIO whenever the host closes it.

`unplug` takes the port away under its user, as a USB-UART that is pulled out; `plug` makes a new one behind the
same `link`. What else can happen to bytes on their way is a :class:`Disturbance`.

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
from pathlib import Path

_TCGETS2 = 0x802C542A
_TERMIOS2 = struct.Struct("4IB19s2I")
_CHUNK = 0x100  # bytes delivered at once: a flash page, so that a page is programmed when it has arrived
_CHUNK_S = 0.02  # and at a slow speed what fits in this: far less than the ROM waits for the rest of a frame
_LINK_BAUD = 115200  # of a port nobody has set yet
_PACKET_S = 0.016  # what is under way is looked at no oftener; a USB adaptor holds bytes back for up to 16 ms as well
_SLOWEST = 50  # baud; a terminal set to 0 is hung up, and a chip told 0 is past help
_TOLERANCE = 0.04  # difference of bauds a UART still reads through: half a bit in ten, less the edges


class Disturbance:
    """What a fault does to what passes; this one lets all pass. `delay_s`: replies begin later by real seconds."""

    delay_s = 0.0

    def to_chip(self, data: bytes) -> bytes:
        """What of the host's bytes goes on to the chip."""
        return data

    def to_host(self, data: bytes) -> bytes:
        """What of the chip's bytes goes on to the host."""
        return data

    def replies(self, data: bytes) -> list[bytes]:
        """What is sent for one reply of the chip."""
        return [data]

    def speaks(self, now: float) -> list[tuple[bytes, int]]:
        """Bytes that somebody else puts on the chip's RX line now, with their baud."""
        return []

    def murmurs(self, now: float) -> bytes:
        """Bytes that reach the host now and that the chip never sent."""
        return b""

    def next_event(self) -> float:
        """When it speaks or murmurs next (inf: never)."""
        return float("inf")


class Wire:
    """The host's end is the device `path`; the chip's end are `arrived` and `send`.

    `link` is another name of the device, which goes and comes with it. `carried` counts bytes, both ways.
    """

    def __init__(self, *, speed: float = 1.0, seed: int = 0) -> None:
        self.master = self._slave = -1
        self.link: Path | None = None
        self.disturbances: list[Disturbance] = []
        self.carried = 0
        self.speed = speed
        self._random = random.Random(seed)
        self._incoming: deque[tuple[float, bytes, int]] = deque()  # (arrival of the last byte, bytes, baud)
        self._incoming_free = 0.0
        self._outgoing: deque[tuple[float, bytes, int]] = deque()  # (start, bytes, baud)
        self._outgoing_free = 0.0
        self._host_baud = _LINK_BAUD
        self.lost = 0  # bytes nobody read
        self.plug()

    def plug(self) -> None:
        """A port for the host; a new one after `unplug`."""
        if self.plugged:
            return
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        attributes = termios.tcgetattr(self._slave)
        attributes[4] = attributes[5] = termios.B115200  # else the first bytes of a host come with a change of speed
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self._slave)
        self._host_baud = _LINK_BAUD
        if self.link is not None:
            self.link.unlink(missing_ok=True)
            self.link.symlink_to(self.path)

    def unplug(self) -> None:
        """The port goes: whoever has it open reads a hang-up, what was under way in the adaptor is lost."""
        if not self.plugged:
            return
        if self.link is not None:
            self.link.unlink(missing_ok=True)
        os.close(self.master)
        os.close(self._slave)
        self.master = self._slave = -1

    @property
    def plugged(self) -> bool:
        return self.master >= 0

    def close(self) -> None:
        if self.plugged:
            os.close(self.master)
            os.close(self._slave)
            self.master = self._slave = -1

    def _read_baud(self) -> int:
        if not self.plugged:
            return self._host_baud
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
            data = os.read(self.master, 0x4000) if self.plugged else b""
        except (BlockingIOError, OSError):
            data = b""
        self.carried += len(data)
        for disturbance in self.disturbances:
            data = disturbance.to_chip(data)
            for said, baud in disturbance.speaks(now):
                self._towards_chip(now, said, baud)
            self._pass_on(disturbance.murmurs(now))
        self._towards_chip(now, data, self._host_baud)
        self._host_baud = self._read_baud()

    def _towards_chip(self, now: float, data: bytes, baud: int) -> None:
        if not data:
            return
        byte = self.byte_time(baud)
        size = max(1, min(_CHUNK, int(_CHUNK_S / byte)))
        start = max(now, self._incoming_free)
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            start += len(piece) * byte
            self._incoming.append((start, piece, baud))
        self._incoming_free = start

    @property
    def next_arrival(self) -> float:
        """When the next piece has arrived (inf: none is under way)."""
        return self._incoming[0][0] if self._incoming else float("inf")

    def arrived(self, now: float, chip_baud: int) -> list[tuple[float, bytes]]:
        """Pieces whose last byte has arrived, as a chip listening at `chip_baud` reads them."""
        pieces = []
        while self._incoming and self._incoming[0][0] <= now:
            at, data, baud = self._incoming.popleft()
            pieces.append((at, self.heard(data, baud, chip_baud)))
        return pieces

    def heard(self, data: bytes, baud: int, other: int) -> bytes:
        """What a UART at `other` reads of `data` sent at `baud`: noise, where they do not fit."""
        return data if self.fits(baud, other) else self._noise(data, baud, other)

    def _noise(self, data: bytes, baud: int, other: int) -> bytes:
        return self._random.randbytes(max(1, round(len(data) * other / max(baud, _SLOWEST))))

    # -- chip to host ----------------------------------------------------------------------------------

    def send(self, at: float, data: bytes, chip_baud: int) -> None:
        """A reply that the chip begins to send at `at` (not before its earlier ones are out)."""
        replies = [data]
        for disturbance in self.disturbances:
            at += disturbance.delay_s
            replies = [each for reply in replies for each in disturbance.replies(reply)]
        for reply in replies:
            start = max(at, self._outgoing_free)
            self._outgoing.append((start, reply, chip_baud))
            self._outgoing_free = start + len(reply) * self.byte_time(chip_baud)

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
        self.carried += len(data)
        data = self.heard(data, baud, self._read_baud())
        for disturbance in self.disturbances:
            data = disturbance.to_host(data)
        self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        """To the host's port, which keeps only so much for a host that does not read."""
        try:
            done = os.write(self.master, data) if data and self.plugged else 0
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
        packet = _PACKET_S / self.speed
        if self._incoming:
            soonest = min(self._incoming[-1][0], self._incoming[0][0] + packet)
        if self._outgoing:
            start, data, baud = self._outgoing[0]
            soonest = min(soonest, start + min(len(data) * self.byte_time(baud), packet))
        return min([soonest, *(disturbance.next_event() for disturbance in self.disturbances)])
