"""A server that stops in the middle of an answer is not waited for: its connection is cut from here.

Timeouts of TCP see a peer that is gone, and not one that hangs behind a connection that is whole (a stopped server, a
proxy whose other side was cut).
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

_LOOK_S = 0.5


@contextlib.contextmanager
def leashed(engine: Any, silence_s: float) -> Iterator[None]:
    """While this lasts, a connection of `engine` that is silent for `silence_s` seconds to one statement, or to a
    commit, is shut down, so that whoever waits for it gets an error. For PostgreSQL by psycopg; others pass."""
    if engine.dialect.name != "postgresql":
        yield
        return
    import sqlalchemy as sa

    leash = _Leash(silence_s)
    sa.event.listen(engine, "connect", leash.connected)
    sa.event.listen(engine, "before_cursor_execute", leash.asked)
    sa.event.listen(engine, "after_cursor_execute", leash.answered)
    sa.event.listen(engine, "commit", leash.asked)
    sa.event.listen(engine, "rollback", leash.asked)
    thread = threading.Thread(target=leash.watch, name="database: leash", daemon=True)
    thread.start()
    try:
        yield
    finally:
        leash.over.set()


class _Leash:
    def __init__(self, silence_s: float) -> None:
        self.over = threading.Event()
        self._silence_s = silence_s
        self._deadline: float | None = None
        self._connection: Any = None

    def connected(self, connection: Any, record: object) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + self._silence_s  # SQLAlchemy asks the server who it is

    def asked(self, *_: object) -> None:
        self._deadline = time.monotonic() + self._silence_s

    def answered(self, *_: object) -> None:
        self._deadline = None

    def watch(self) -> None:
        while not self.over.wait(_LOOK_S):
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                self._cut()
                return

    def _cut(self) -> None:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            fd = os.dup(
                self._connection.pgconn.socket
            )  # of our own, so that no number is shut that is another's by now
            with socket.socket(fileno=fd) as whole:
                whole.shutdown(socket.SHUT_RDWR)
