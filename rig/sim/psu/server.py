"""The supply on the network: a raw SCPI socket, one thread for the clients and one for the supply's own clock.

Like the real ones: an output survives its client, lines end with LF or CRLF, a line is carried out when its LF has
come, however it was cut into segments, and one line at a time whoever sent it. What can go wrong with it, and the
quirks of its line, are switched on while it runs: :meth:`PsuServer.fault`.
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
from typing import Any, Literal, Self

from rig.errors import UsageProblem
from rig.sim.psu.bk_9130b import Bk9130B
from rig.sim.psu.connection import Connection
from rig.sim.psu.faults import Faults
from rig.sim.psu.instrument import WATCH_S, Instrument
from rig.sim.psu.keysight_e3631a import KeysightE3631A
from rig.sim.psu.keysight_e36312a import KeysightE36312A
from rig.sim.psu.keysight_n6705c import KeysightN6705C
from rig.sim.psu.output import Output, Rail
from rig.sim.psu.rigol_dp832 import RigolDP832
from rig.sim.psu.rs_hmp4040 import RsHmp4040
from rig.sim.psu.siglent_spd1305x import SiglentSPD1305X
from rig.sim.psu.siglent_spd3303x import SiglentSPD3303X
from rig.sim.psu.tti_pl303p import TTiPL303P

log = logging.getLogger(__name__)

# The one place where a personality is registered: `rig sim --supply`, the simulated bench, the rig's dialect for it
# (its class names it) and the contract suite all start from here.
PERSONALITIES: Mapping[str, type[Instrument]] = {
    "keysight-e36312a": KeysightE36312A,
    "keysight-e3631a": KeysightE3631A,
    "rs-hmp4040": RsHmp4040,
    "bk-9130b": Bk9130B,
    "keysight-n6705c": KeysightN6705C,
    "rigol-dp832": RigolDP832,
    "siglent-spd1305x": SiglentSPD1305X,
    "siglent-spd3303x": SiglentSPD3303X,
    "tti-pl303p": TTiPL303P,
}


class PsuServer:
    """A simulated bench supply on `host`:`port` (0 = any free port, known after :meth:`start`).

    `personality`: a key of `PERSONALITIES`. `rails`: what hangs on output 1, 2 and so on; missing ones are open.
    `latency`: seconds the supply thinks about each command, or "typical" for the model's own, with its time
    from OUTP ON to live terminals. `slow_meter`: readings are refreshed only as often as the model's meter does
    (DP832: every 0.4 s). `max_clients`: further connections are closed at once; None: as many as the model takes.
    `time_scale` multiplies the supply's own times (latency, meter, OCP delay, dwell of lists): 0.1 is ten times
    faster. Raises UsageProblem for an unknown personality or too many rails.
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
        if latency == "typical":
            for output in self.instrument.outputs:
                output.switch_on_s = model.typical_switch_on_s * time_scale
        self._max_clients = self.instrument.most_clients if max_clients is None else max_clients
        self._log: deque[tuple[int, str]] = deque(maxlen=10_000)
        self._stopping = threading.Event()
        self._look = threading.Event()  # the clock has something to do
        self._threads: list[threading.Thread] = []
        self._faults = Faults()
        self._clients: dict[socket.socket, Connection] = {}
        self._gate = threading.Lock()  # around changes of `_clients`
        self._waker: socket.socket | None = None
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
        """Connections open now, those that died without a word included."""
        return len(self._clients)

    # What goes wrong

    @property
    def faults(self) -> dict[str, dict[str, Any]]:
        """The faults that are on, with all their options."""
        return self._faults.active

    def fault(self, name: str, **options: Any) -> None:
        """Switch on one of `rig.sim.psu.faults.FAULTS`, where the options are explained; seconds are real ones.

        From any thread, before or after :meth:`start`. Raises UsageProblem for an unknown name, option or value.
        """
        whole = self._faults.set(name, options)
        if name == "half-open":
            with self._gate:
                for connection in self._clients.values():
                    connection.ghost = True
        elif name == "error-queue-full":
            self.instrument.fill_errors(whole["code"])
        elif name == "slow-meter":
            self.instrument.slow_meter(whole["seconds"])
        self._wake()

    def clear_faults(self, *names: str) -> None:
        """Switch these off, or all; connections that died are let go. Raises UsageProblem for an unknown name."""
        slow = "slow-meter" in self._faults.active
        self._faults.clear(*names)
        if slow and "slow-meter" not in self._faults.active:
            self.instrument.usual_meter()
        self._wake()

    def _wake(self) -> None:
        self._look.set()
        if self._waker is not None:
            with contextlib.suppress(OSError):  # its thread has ended already
                self._waker.send(b"!")

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
        self._wake()
        for thread in self._threads:
            thread.join()
        self._threads = []
        if self._waker is not None:
            self._waker.close()
            self._waker = None

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
        failing = False
        while not self._stopping.is_set():
            self._look.wait(None if due is None else max(0.0, due - monotonic()))
            self._look.clear()
            try:
                due, failing = self.instrument.tick(monotonic()), False
            except Exception:  # the protections, sequences and meter after it must still have their turn
                if not failing:
                    log.exception("the simulated supply's clock failed, and goes on")
                due, failing = monotonic() + WATCH_S, True

    # The clients' thread

    def _serve(self, listener: socket.socket, woken: socket.socket) -> None:
        with listener, woken, selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            while not self._stopping.is_set():
                self._lay_ghosts()
                self._listen_to(selector, listener, woken)
                ready = {key.fileobj for key, _ in selector.select(self._patience())}
                if woken in ready:
                    woken.recv(4096)
                # Clients first: one that has left makes room for the one that is coming.
                for client in list(self._clients):
                    if not self._served(self._clients[client], client in ready):
                        self._drop(client)
                if listener in ready and not self._lets_wait():
                    self._accept(listener)
            for client in list(self._clients):
                self._drop(client)

    def _listen_to(self, selector: selectors.BaseSelector, listener: socket.socket, woken: socket.socket) -> None:
        """Register whoever may be heard now, and nobody else."""
        wanted: set[object] = {woken}
        if not self._keeps():
            wanted |= {client for client, connection in self._clients.items() if not connection.ghost}
        if not self._lets_wait():
            wanted.add(listener)
        known = {key.fileobj for key in selector.get_map().values()}
        for gone in known - wanted:
            selector.unregister(gone)
        for new in wanted - known:
            selector.register(new, selectors.EVENT_READ)  # type: ignore[arg-type]  # they are all sockets

    def _patience(self) -> float | None:
        """Seconds until something is to be done that no client asks for."""
        dues = [connection.due for connection in self._clients.values()]
        dues += [self._faults.until("hung"), self._faults.until("half-open")]
        times = [due for due in dues if due is not None and due != float("inf")]
        return max(0.0, min(times) - monotonic()) if times else None

    def _hung(self) -> Mapping[str, Any] | None:
        until = self._faults.until("hung")
        if until is not None and monotonic() >= until:
            self._faults.clear("hung")
        return self._faults.get("hung")

    def _keeps(self) -> bool:
        """It hangs, and what comes now is for when it wakes."""
        hung = self._hung()
        return hung is not None and bool(hung["keeps"])

    def _lay_ghosts(self) -> None:
        """Let go of dead connections when their time is over."""
        until = self._faults.until("half-open")
        if until is not None and monotonic() < until:
            return
        self._faults.clear("half-open")
        for client in [client for client, connection in self._clients.items() if connection.ghost]:
            self._drop(client)

    def _full(self) -> bool:
        one = self._faults.get("one-client")
        limits = [self._max_clients, one["clients"] if one else None]
        return any(limit is not None and len(self._clients) >= limit for limit in limits)

    def _lets_wait(self) -> bool:
        """It is full, and whoever comes now gets neither an answer nor a refusal."""
        one = self._faults.get("one-client")
        return one is not None and bool(one["silent"]) and self._full()

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, address = listener.accept()
        except OSError:  # it left before it was let in
            return
        if self._full():
            log.debug("refused %s: %d clients are connected", address, len(self._clients))
            client.close()
            return
        with self._gate:
            self._clients[client] = Connection(client)

    def _drop(self, client: socket.socket) -> None:
        with self._gate:
            connection = self._clients.pop(client)
        connection.close()

    def _served(self, connection: Connection, ready: bool) -> bool:
        """Send what is due, take what has come and carry out its lines; False when the connection is gone."""
        if connection.ghost:
            return True
        try:
            connection.flush(monotonic())
            coalesced = None
            if ready and not self._keeps():
                lines = connection.lines()
                if lines is None:
                    return False
                coalesced = self._faults.get("coalesced") if len(lines) > 1 else None
                connection.waiting.extend(lines[:1] if coalesced else lines)
            while connection.waiting and not self._keeps():
                if not self._carry_out(connection, connection.waiting.popleft()) or self._stopping.is_set():
                    return False
            return not (coalesced and coalesced["close"])
        except OSError:
            return False
        except RuntimeError as problem:  # the board on its rail: nobody would know why the line went
            log.error("a client is hung up on: %s", problem)
            return False

    def _carry_out(self, connection: Connection, line: bytes | None) -> bool:
        """Do what a line says and answer it; False: hang up. Raises OSError."""
        if line is None:
            self.instrument.error(-363)
            return True
        message = line.decode("latin-1").rstrip("\r")
        self._log.append((monotonic_ns(), message))
        hurried = self._faults.get("hurried")
        too_soon = hurried is not None and monotonic() - connection.last_line_at < hurried["seconds"]
        if too_soon or self._hung() is not None:
            return True
        drop = self._faults.take("drop")
        if drop and not drop["carried_out"]:
            return False
        answer = self.instrument.execute(message, self._pause)
        connection.last_line_at = monotonic()
        full = self._faults.get("error-queue-full")
        if full and full["stuck"]:
            self.instrument.fill_errors(full["code"])
        if answer is not None and not drop:
            self._answer(connection, answer)
        return not drop

    def _answer(self, connection: Connection, answer: str) -> None:
        comma = "," if self._faults.get("trailing-comma") is not None else ""
        nul = "\0" if self._faults.get("trailing-nul") is not None else ""
        data = f"{answer}{comma}{nul}{self.instrument.line_end}".encode("ascii")
        late, split = self._faults.take("late"), self._faults.take("split")
        delay = float(late["seconds"]) if late else 0.0
        if not split:
            connection.send(data, delay_s=delay)
            return
        cut = min(len(data) // 2 if split["at"] is None else split["at"], len(data) - 1)
        connection.send(data[:cut], delay_s=delay)
        connection.send(data[cut:], delay_s=delay + split["gap"])

    def _pause(self) -> None:
        if self._pause_s > 0:
            self._stopping.wait(self._pause_s)
