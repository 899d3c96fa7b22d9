"""RTS and DTR of a tool on a pseudo-terminal: who hears them, and what makes a reset of them.

A pseudo-terminal carries bytes and a speed, no modem lines. A tool started with `environment()` tells them to a
socket instead (see `rig/uart/modem_lines/sitecustomize.py`), and waits for the answer.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

VARIABLE = "RIG_MODEM_LINES"
FOLDER = Path(__file__).resolve().parent / "modem_lines"  # what a tool's Python loads first
_MESSAGE = re.compile(rb"rts=([01]) dtr=([01])\n")
_PEER = struct.Struct("3i")  # pid, uid, gid. Source: unix(7), SO_PEERCRED
_PATIENCE_S = 1.0
_JOIN_S = 5.0


def environment(address: str) -> dict[str, str]:
    """Variables that make a Python tool tell its lines to `address`."""
    return {VARIABLE: address, "PYTHONPATH": str(FOLDER)}


class LineWatch:
    """Listens on `address` for one user's tools; `on_pulse` is called when their lines were on and both are off.

    A reset by wire is such a pulse. Source: bk7231tools 1.4.0 to 2.1.2 (RTS and DTR on, DTR off, RTS off); tools
    that pull RTS alone end in the same. That an open port holds its lines on (pyserial) is no reset yet. The tool
    waits while `on_pulse` runs, in a thread of the watch. Use as a context manager.
    """

    def __init__(self, on_pulse: Callable[[], object]) -> None:
        self.address = f"@rig-lines-{os.getpid()}-{secrets.token_hex(8)}"
        self._on_pulse = on_pulse
        self._on = False
        self._listener = socket.socket(socket.AF_UNIX)  # abstract: nothing of it stays on disk
        self._listener.bind("\0" + self.address[1:])
        self._listener.listen()
        self._wake_r, self._wake_w = os.pipe()
        self._thread = threading.Thread(target=self._run, name="modem-lines", daemon=True)

    def __enter__(self) -> LineWatch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """No pulse is heard any more; one that is being carried out is waited for, for a while. Twice is no harm."""
        if self._listener.fileno() < 0:
            return
        os.write(self._wake_w, b"x")
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            return  # its descriptors must not become another file's under it
        self._listener.close()
        os.close(self._wake_r)
        os.close(self._wake_w)

    def _run(self) -> None:
        watched = [self._listener.fileno(), self._wake_r]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if self._wake_r in ready:
                return
            with contextlib.suppress(OSError), self._listener.accept()[0] as connection:
                connection.settimeout(_PATIENCE_S)
                self._hear(connection)

    def _hear(self, connection: socket.socket) -> None:
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        message = _MESSAGE.fullmatch(connection.recv(64))
        if message is None or _PEER.unpack(peer)[1] != os.getuid():
            return
        before, self._on = self._on, b"1" in message.groups()
        if before and not self._on:
            self._on_pulse()
        connection.sendall(b".")
