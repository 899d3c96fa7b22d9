"""The supply on the network: a raw SCPI socket, one thread for the clients and one for the supply's own clock.

Like the real ones: an output survives its client, lines end with LF or CRLF, a line is carried out when its LF has
come, however it was cut into segments, and one line at a time whoever sent it.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic, monotonic_ns
from types import TracebackType
from typing import Literal, Self

from rig.errors import UsageProblem
from rig.sim.psu.instrument import Instrument
from rig.sim.psu.keysight_e36312a import KeysightE36312A
from rig.sim.psu.output import Output, Rail
from rig.sim.psu.rigol_dp832 import RigolDP832

log = logging.getLogger(__name__)

PERSONALITIES: Mapping[str, type[Instrument]] = {"keysight-e36312a": KeysightE36312A, "rigol-dp832": RigolDP832}

LONGEST_LINE = 4096  # bytes; guess
_SEND_TIMEOUT_S = 2.0  # a client that does not read its answers for so long is dropped


class PsuServer:
    """A simulated bench supply on `host`:`port` (0 = any free port, known after :meth:`start`).

    `personality`: a key of `PERSONALITIES`. `rails`: what hangs on output 1, 2 and so on; missing ones are open.
    `latency`: seconds the supply thinks about each command, or "typical" for the model's own. `slow_meter`: readings
    are refreshed only as often as the model's meter does (DP832: every 0.4 s). `max_clients`: further connections are
    closed at once. `time_scale` multiplies the supply's own times (latency, meter, OCP delay, dwell of lists): 0.1 is
    ten times faster. Raises UsageProblem for an unknown personality or too many rails.
    """

    def __init__(
        self,
        personality: str,
        rails: Sequence[Rail],
        *,
        serial: str,
        host: str = "127.0.0.1",
        port: int = 0,
        time_scale: float = 1.0,
        latency: float | Literal["typical"] = 0.0,
        slow_meter: bool = False,
        max_clients: int | None = None,
    ) -> None:
        model = PERSONALITIES.get(personality)
        if model is None:
            raise UsageProblem(f"There is no simulated supply {personality!r}; there are {', '.join(PERSONALITIES)}.")
        if len(rails) > len(model.specs):
            raise UsageProblem(f"A {personality} has {len(model.specs)} outputs, not {len(rails)}.")
        self.instrument = model(rails, serial=serial, time_scale=time_scale, slow_meter=slow_meter)
        self.host, self.port = host, port
        self._pause_s = (model.typical_latency_s if latency == "typical" else latency) * time_scale
        self._max_clients = max_clients
        self._log: deque[tuple[int, str]] = deque(maxlen=10_000)
        self._stopping = threading.Event()
        self._look = threading.Event()  # the clock has something to do
        self._threads: list[threading.Thread] = []
        self._clients: dict[socket.socket, bytearray] = {}
        self._overrun: set[socket.socket] = set()
        self.instrument.changed = self._look.set

    # What tests and the bench see

    @property
    def resource(self) -> str:
        """The VISA resource; pyvisa-py needs read_termination="\\n" with it."""
        return f"TCPIP::{self.host}::{self.port}::SOCKET"

    @property
    def outputs(self) -> list[Output]:
        """The outputs' state, to look at."""
        return self.instrument.outputs

    @property
    def received(self) -> list[tuple[int, str]]:
        """The last 10 000 lines received: (monotonic nanoseconds, line without its terminator)."""
        return list(self._log)

    @property
    def clients(self) -> int:
        """Connections open now."""
        return len(self._clients)

    # Life

    def start(self) -> None:
        """Listen and serve. Raises OSError if the port is taken."""
        if self._threads:
            return
        self._stopping.clear()
        listener = socket.create_server((self.host, self.port))
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._waker, woken = socket.socketpair()
        name = f"psu-{self.instrument.serial}"
        self._threads = [
            threading.Thread(target=self._serve, args=(listener, woken), name=name, daemon=True),
            threading.Thread(target=self._clock, name=f"{name}-clock", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close the socket and all connections, end the threads. The outputs stay as they are: a cable pulled."""
        if not self._threads:
            return
        self._stopping.set()
        self._look.set()
        self._waker.close()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    # The clock's thread

    def _clock(self) -> None:
        due: float | None = None
        while not self._stopping.is_set():
            self._look.wait(None if due is None else max(0.0, due - monotonic()))
            self._look.clear()
            due = self.instrument.tick(monotonic())

    # The clients' thread

    def _serve(self, listener: socket.socket, woken: socket.socket) -> None:
        with listener, woken, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while not self._stopping.is_set():
                ready = {key.fileobj for key, _ in selector.select()}
                # Clients first: one that has left makes room for the one that is coming.
                for client in [client for client in self._clients if client in ready]:
                    if not self._receive(client):
                        selector.unregister(client)
                        self._drop(client)
                if listener in ready:
                    self._accept(listener, selector)
            for client in list(self._clients):
                self._drop(client)

    def _accept(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        try:
            client, address = listener.accept()
        except OSError:  # it left before it was let in
            return
        if self._max_clients is not None and len(self._clients) >= self._max_clients:
            log.debug("refused %s: %d clients are connected", address, len(self._clients))
            client.close()
            return
        client.settimeout(_SEND_TIMEOUT_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients[client] = bytearray()
        selector.register(client, selectors.EVENT_READ)

    def _drop(self, client: socket.socket) -> None:
        del self._clients[client]
        self._overrun.discard(client)
        with contextlib.suppress(OSError):
            client.close()

    def _receive(self, client: socket.socket) -> bool:
        """Take what has come and carry out its complete lines; False when the connection is gone."""
        try:
            chunk = client.recv(65536)
            if not chunk:
                return False
            buffer = self._clients[client]
            buffer += chunk
            *lines, rest = buffer.split(b"\n")
            self._clients[client] = bytearray(rest)
            for line in lines:
                self._carry_out(client, bytes(line))
                if self._stopping.is_set():
                    return False
        except OSError:
            return False
        if len(rest) > LONGEST_LINE:
            self._overrun.add(client)
            self._clients[client].clear()
        return True

    def _carry_out(self, client: socket.socket, line: bytes) -> None:
        if client in self._overrun or len(line) > LONGEST_LINE:
            self._overrun.discard(client)
            self.instrument.error(-363)
            return
        message = line.decode("latin-1").rstrip("\r")
        self._log.append((monotonic_ns(), message))
        answer = self.instrument.execute(message, self._pause)
        if answer is not None:
            client.sendall(answer.encode("ascii") + b"\n")

    def _pause(self) -> None:
        if self._pause_s > 0:
            self._stopping.wait(self._pause_s)
