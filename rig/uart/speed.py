"""The board's port at the flasher's baud: followed to the moment, and ahead of it where the chip changes alone."""

from __future__ import annotations

import contextlib
import fcntl
import select
import struct
import termios
import time

import serial

from rig.chip.client import LINK_BAUD

LOST: tuple[type[Exception], ...] = (OSError, termios.error)  # what a port that vanished raises
_TCGETS2 = 0x802C542A
_TERMIOS2 = struct.Struct("4IB19s2I")
_SLOWEST, _FASTEST = 9600, 3_250_000  # baud; what else a frame may ask for is no speed of this chip
_WATCH_S = 0.3  # how long after a SetBaud the flasher's own change of speed is looked for closely
_DRAIN_S = 2.0


class PortSpeed:
    """Keeps `port`, the board's, at the speed that the flasher set on `terminal`, its pseudo-terminal's descriptor.

    `wake` is a descriptor that becomes readable when all is to end. Methods raise what a lost port raises, and
    serial.SerialTimeoutException for an adaptor that takes no bytes.
    """

    def __init__(self, port: serial.Serial, terminal: int, wake: int) -> None:
        self._port = port
        self._terminal = terminal
        self._wake = wake
        self._set = LINK_BAUD  # by the flasher
        self._watch_until = 0.0
        self._due: tuple[float, int] | None = None  # (when, baud) the port changes on its own

    @property
    def watching(self) -> bool:
        """A change is about to come: look often."""
        return time.monotonic() < self._watch_until

    @property
    def ahead(self) -> bool:
        """The port has changed, and the flasher has not."""
        return bool(self._port.baudrate != self._set)

    def asked(self, baud: int, delay_s: float) -> None:
        """A SetBaud went by: the chip answers after `delay_s` at the new speed. Half-way through, every tool changes
        its own."""
        now = time.monotonic()
        self._watch_until = now + _WATCH_S + delay_s
        if _SLOWEST <= baud <= _FASTEST:
            self._due = (now + delay_s / 2, baud)

    def forget(self) -> None:
        """The board starts anew: what was asked counts no more, and the flasher's own speed does."""
        self._due = None
        self.as_flasher()

    def follow(self) -> None:
        """The flasher changes its own speed half-way through the chip's delay: the board's port goes with it.

        Called after what the flasher wrote was passed on: it waits for the chip's answer at the new speed before
        it sends more, so bytes found together with a change were written before it.
        """
        raw = fcntl.ioctl(self._terminal, _TCGETS2, bytes(_TERMIOS2.size))
        baud = int(_TERMIOS2.unpack(raw)[-1])
        if not baud or baud == self._set:
            return
        self._set = baud
        self._change(baud)

    def be_ahead(self) -> None:
        """Half-way through a SetBaud's delay the board's port changes, even if the flasher, on a busy machine, is
        late: the chip's answer comes at the new speed to the moment."""
        if self._due is not None and time.monotonic() >= self._due[0]:
            baud, self._due = self._due[1], None
            self._change(baud)

    def as_flasher(self) -> None:
        """Back to the flasher's own speed, where the port went ahead and it did not follow."""
        if self.ahead:
            with contextlib.suppress(ValueError, OverflowError, *LOST):
                self._port.baudrate = self._set

    def _change(self, baud: int) -> None:
        self._drain()
        # a speed the adaptor cannot do: the chip's answer will not be heard, and the flasher falls back
        with contextlib.suppress(ValueError, OverflowError):
            self._port.baudrate = baud

    def _drain(self) -> None:
        """Until the wire has what was written; flush() alone would wait for a hung adaptor for ever."""
        deadline = time.monotonic() + _DRAIN_S
        while getattr(self._port, "out_waiting", 0):
            if time.monotonic() > deadline:
                raise serial.SerialTimeoutException
            if select.select([self._wake], [], [], 0.001)[0]:
                return
        self._port.flush()
