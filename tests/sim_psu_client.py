"""A raw client of the simulated supplies, and servers that are gone after a test."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from waiting import PATIENCE_S

from rig.sim.psu import PsuServer, ResistiveLoad


class Client:
    """A raw socket that can also send half a line."""

    def __init__(self, server: PsuServer) -> None:
        self.socket = socket.create_connection((server.host, server.port), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> str:
        while b"\n" not in self._rest:
            chunk = self.socket.recv(4096)
            if not chunk:
                raise EOFError
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode().rstrip("\r")

    def write(self, message: str) -> None:
        self.send(message.encode("latin-1") + b"\n")

    def ask(self, message: str) -> str:
        self.write(message)
        return self.line()

    def silent(self, seconds: float) -> bool:
        """Nothing to read for so long."""
        return not self._rest and not select.select([self.socket], [], [], seconds)[0]

    def error(self) -> int:
        return int(self.ask("SYST:ERR?").split(",")[0])

    def close(self) -> None:
        self.socket.close()


@contextmanager
def serving() -> Iterator[Any]:
    """Start servers and clients: `server, client = start(personality, *rails, **options)`, further clients by
    `server.connect()`. All are closed after the test, and no thread is left."""
    before = set(threading.enumerate())
    servers: list[PsuServer] = []
    clients: list[Client] = []

    def start(personality: str, *rails: Any, **options: Any) -> tuple[Any, Client]:
        server: Any = PsuServer(personality, rails, serial="SIM1", **options)
        servers.append(server)
        server.start()

        def connect() -> Client:
            clients.append(Client(server))
            return clients[-1]

        server.connect = connect
        return server, connect()

    yield start
    for client in clients:
        client.close()
    for server in servers:
        server.stop()
    assert set(threading.enumerate()) <= before


@contextmanager
def judged_by_pymeasure(
    personality: str, module: str, driver: str, *loads: ResistiveLoad, serial: str = "T", **options: Any
) -> Iterator[tuple[Any, Any]]:
    """(server, pymeasure's unmodified `driver` for it, over pyvisa-py); skips where one of them is not installed."""
    pytest.importorskip("pyvisa_py", reason="pyvisa-py is not installed")
    drivers = pytest.importorskip(f"pymeasure.instruments.{module}", reason="pymeasure is not installed")
    with PsuServer(personality, loads or (ResistiveLoad(10), ResistiveLoad(100)), serial=serial) as server:
        settings = {"visa_library": "@py", "timeout": PATIENCE_S * 1000, "read_termination": "\n", **options}
        supply = getattr(drivers, driver)(server.resource, **settings)
        try:
            yield server, supply
        finally:
            supply.adapter.close()
