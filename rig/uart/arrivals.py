"""When the board has all of a command: the tap's list of frames that are on the wire.

Writing to a port returns long before its bytes are out: 4 KiB take 45 ms at 921600 baud, and an operating system
holds them all. A frame has arrived when the time that its bytes take at the line's baud is over, and the port says
that it has nothing left to send. What an adaptor still holds in a buffer of its own nobody can see.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import serial

from rig.chip.frames import Header

Told = Callable[[str, int | None, int], None]
_BITS = 10  # of a byte on the wire, 8N1
_DRAIN_S = 0.001  # how often a port that still sends is looked at


class Arrivals:
    """For the tap's thread alone. `pace`: how many times faster than its baud the line is, on a simulated bench."""

    def __init__(self, port: serial.Serial) -> None:
        self._port = port
        self.pace = 1.0
        self._begun_ns = 0  # of the frame under way
        self._complete: list[tuple[Header, int]] = []  # seen whole, not yet written; when each began
        self._on_wire: deque[tuple[Header, int]] = deque()  # written, and when the board has all of each
        self._free_ns = 0  # when the wire is

    def begins(self, begun_ns: int) -> None:
        """A frame's first bytes are there."""
        self._begun_ns = begun_ns

    def ends(self, header: Header) -> None:
        """It was seen whole, and will be written."""
        self._complete.append((header, self._begun_ns))

    def written(self, began_ns: int, *, held: bool) -> None:
        """What was seen whole has been written, since `began_ns`. `held`: it was kept back until then; else it went
        out in the pieces in which it came."""
        complete, self._complete = self._complete, []
        for header, begun_ns in complete:
            takes = header.size * _BITS * 1e9 / (self._port.baudrate * self.pace)
            self._free_ns = round(max(self._free_ns, began_ns if held else begun_ns) + takes)
            self._on_wire.append((header, self._free_ns))

    def forget_frames(self) -> None:
        """What was seen, and not written, never will be."""
        self._complete.clear()

    def forget(self) -> None:
        """The board is going off: nothing arrives."""
        self._on_wire.clear()
        self._free_ns = 0

    @property
    def due(self) -> float | None:
        """When to look next, time.monotonic; None: nothing is under way."""
        return self._on_wire[0][1] / 1e9 if self._on_wire else None

    def tell(self, told: Told | None) -> None:
        """`told(name, address, mono_ns)` for each command that has arrived. Raises what it raises."""
        while self._on_wire and self._on_wire[0][1] <= (now := time.monotonic_ns()):
            header, due = self._on_wire.popleft()
            if self._sending():
                self._on_wire.appendleft((header, now + round(_DRAIN_S * 1e9)))
                return
            if told is not None:
                told(header.name, header.address, due)

    def _sending(self) -> bool:
        """Whether bytes wait in the port; False where it cannot say (a network's)."""
        try:
            return bool(getattr(self._port, "out_waiting", 0))
        except OSError:
            return False
