"""One client's connection to a simulated supply: bytes to lines, and answers on their way."""

from __future__ import annotations

import contextlib
import math
import socket
from collections import deque
from time import monotonic

LONGEST_LINE = 4096  # bytes; guess
_SEND_TIMEOUT_S = 2.0  # a client that does not read its answers for so long is dropped


class Connection:
    """A client. `ghost`: it counts, but is neither read nor answered any more."""

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self.ghost = False
        self.last_line_at = -math.inf  # monotonic seconds
        self.buffer = bytearray()
        self.waiting: deque[bytes | None] = deque()  # lines that were read and are still to be carried out
        self._overrun = False
        self._outbox: deque[tuple[float, bytes]] = deque()  # when to send what, in order
        client.settimeout(_SEND_TIMEOUT_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def lines(self) -> list[bytes | None] | None:
        """The complete lines that have come, without LF, None for one that was too long; None when it hung up.

        Raises OSError when the connection broke.
        """
        chunk = self.socket.recv(65536)
        if not chunk:
            return None
        self.buffer += chunk
        *whole, rest = self.buffer.split(b"\n")
        self.buffer = bytearray(rest)
        lines = [self._checked(bytes(line)) for line in whole]
        if len(rest) > LONGEST_LINE:
            self._overrun = True
            self.buffer.clear()
        return lines

    def _checked(self, line: bytes) -> bytes | None:
        overrun, self._overrun = self._overrun, False
        return None if overrun or len(line) > LONGEST_LINE else line

    def send(self, data: bytes, *, delay_s: float = 0.0) -> None:
        """Send, `delay_s` seconds from now, after whatever is still on its way. Raises OSError."""
        if not self._outbox and delay_s <= 0:
            self.socket.sendall(data)
        else:
            self._outbox.append((monotonic() + delay_s, data))

    @property
    def due(self) -> float | None:
        """When the next delayed piece goes out, in monotonic seconds."""
        return self._outbox[0][0] if self._outbox and not self.ghost else None

    def flush(self, now: float) -> None:
        """Send what is due. Raises OSError."""
        while self._outbox and self._outbox[0][0] <= now and not self.ghost:
            self.socket.sendall(self._outbox.popleft()[1])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()
