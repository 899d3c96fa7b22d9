"""Telling systemd how a station does: begun, alive, ending. Without systemd none of it does anything.

systemd names a socket (NOTIFY_SOCKET) and a time (WATCHDOG_USEC); a service that says nothing for that time is ended
and started again. The word "alive" is worth what it is tied to: it is said by the station's main loop after it has
asked queue, books and prompts how they stand, and kept back while a write to the journal does not come to its end.
Source of names and format: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path

from rig.records.events import Event
from rig.records.journal import Journal

_PER_TIMEOUT = 4  # choice: words of life in the watchdog's time; sd_watchdog_enabled(3) asks for two
_STATUS_S = 2.0  # choice: where no watchdog is set, how often the status line is renewed


class Watchdog:
    """The line to systemd. Thread-safe; nothing here raises or waits for systemd.

    `timeout_s`: silence after which systemd acts; None where none was asked for. `address`: the socket, None without
    systemd.
    """

    def __init__(self, address: str | None, timeout_s: float | None = None) -> None:
        self.timeout_s = timeout_s
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        self._interval_s = _STATUS_S if timeout_s is None else timeout_s / _PER_TIMEOUT
        self._next = 0.0
        self._stopping = False
        self._busy: dict[object, float] = {}
        self._guard = threading.Lock()

    @classmethod
    def of_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Watchdog:
        """As systemd asked for it. The words are taken out of `environ`: they are not meant for units' processes."""
        address = environ.pop("NOTIFY_SOCKET", None)
        told, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", None)
        ours = told.isdecimal() and int(told) > 0 and pid in (None, str(os.getpid()))
        return cls(address or None, int(told) / 1e6 if ours else None)

    def ready(self) -> None:
        """The station is up; from here on systemd watches."""
        self._tell("READY=1")

    def beat(self, status: Callable[[], str]) -> None:
        """Call in each round of what must go on. Now and then it says that all is well, with a line for people;
        `status` is asked first: where that hangs nothing is said. Silent while something is stuck."""
        if self._socket is None or time.monotonic() < self._next or self._stuck():
            return
        text = status().replace("\n", " ")
        if self._tell(f"WATCHDOG=1\nSTATUS={text}" if self.timeout_s is not None else f"STATUS={text}"):
            self._next = time.monotonic() + self._interval_s

    def stopping(self) -> None:
        """The end has begun. Safe in a signal handler; said once."""
        if not self._stopping:
            self._stopping = True
            self._tell("STOPPING=1")

    @contextlib.contextmanager
    def within(self) -> Iterator[None]:
        """Around what must come to its end: while it takes longer than half the watchdog's time nothing is said."""
        token = object()
        with self._guard:
            self._busy[token] = time.monotonic()
        try:
            yield
        finally:
            with self._guard:
                self._busy.pop(token, None)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _stuck(self) -> bool:
        if self.timeout_s is None:
            return False
        with self._guard:
            since = min(self._busy.values(), default=None)
        return since is not None and time.monotonic() - since > self.timeout_s / 2

    def _tell(self, text: str) -> bool:
        """False where it could not be said just now: systemd is gone, or busy."""
        sock, address = self._socket, self._address
        if sock is None or address is None:
            return False
        try:
            sock.sendto(text.encode(errors="replace"), socket.MSG_DONTWAIT, address)
        except OSError:
            return False
        return True


class WatchedJournal(Journal):
    """A journal of which a write that hangs (a dying disk) is a station that hangs."""

    def __init__(self, path: Path, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        super().__init__(path)

    def append(self, event: Event) -> None:
        with self._watchdog.within():
            super().append(event)
