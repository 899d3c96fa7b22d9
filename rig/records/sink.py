"""Where events go: straight into the journal, or over a Unix socket to the station that writes it.

A unit's process is not the writer of the run's journal. It hands each event to the station and waits until the
station has it on disk:

    unit's process                       station
    SocketSink.emit(event) -- line -->   SinkServer: journal.append (fsync)
                           <-- ack ---   then on_event(event)

Lines are JSON. The client begins with `{"unit": "SN1"}`; then come `{"n": 1, "event": {...}}`, each answered by
`{"n": 1}` or, where it could not be written, by `{"n": 1, "error": "sentence"}`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from pydantic import BaseModel

from rig.errors import Aborted, RigError, UsageProblem
from rig.records.events import Event, UnitEnded, UnitStarted
from rig.records.journal import Journal, line_of

log = logging.getLogger(__name__)

PATIENCE_S = 60.0  # a slow disk may take seconds to fsync; a station silent for longer than this is gone
_GLANCE_S = 0.2  # a signal that comes just before a wait begins is only seen when the wait ends
_LONGEST_ADDRESS = 100  # bytes; the kernel takes 107 (unix(7))


class EventSink(Protocol):
    """Anything that takes events."""

    def emit(self, event: Event) -> None:
        """Hand over one event; returns only when it is durable."""


class JournalSink:
    """For a process that holds the journal itself."""

    def __init__(self, journal: Journal, on_event: Callable[[Event], None] | None = None) -> None:
        self._journal = journal
        self._on_event = on_event

    def emit(self, event: Event) -> None:
        """Raises JournalLost when the disk refuses."""
        self._journal.append(event)
        if self._on_event is not None:
            self._on_event(event)


class _Message(BaseModel):
    """What a client sends once it has said which unit it is."""

    n: int
    event: Event


class _Parcel:
    """One event on its way to the station."""

    def __init__(self, event: bytes) -> None:
        self.event = event
        self.over = threading.Event()
        self.problem: str | None = None


class SocketSink:
    """A unit's process: events go to the station at `address`.

    A thread of its own talks to the socket, so a Ctrl-C while an event is on its way neither loses it nor cuts a
    line in half: `unit-ended` can still follow. Raises Aborted when the station is not there, goes away, cannot
    write, or is silent for `patience_s` seconds; every later call raises it at once.
    """

    def __init__(self, address: Path, unit: str, patience_s: float = PATIENCE_S) -> None:
        self._address = address
        self._lost: str | None = None
        self._guard = threading.Lock()
        self._closed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(patience_s)
        try:
            self._socket.connect(str(address))
            self._socket.sendall(json.dumps({"unit": unit}).encode() + b"\n")
        except OSError as error:
            self._socket.close()
            raise Aborted(f"The station at {address} is not there ({error}).") from error
        self._answers = self._socket.makefile("rb")
        self._queue: queue.SimpleQueue[_Parcel | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._carry, name=f"events of {unit}", daemon=True)
        self._thread.start()

    def emit(self, event: Event) -> None:
        """Returns when the station has the event on disk. Raises Aborted (see the class), ValueError for an
        event that cannot be written down."""
        parcel = _Parcel(line_of(event).rstrip(b"\n"))
        with self._guard:
            if self._closed:
                raise Aborted("This unit's record is closed: the event came after the end.")
            self._queue.put(parcel)
        while not parcel.over.wait(_GLANCE_S):
            pass
        if parcel.problem is not None:
            raise Aborted(parcel.problem)

    def close(self) -> None:
        """Hang up after what was emitted is delivered. Emitting afterwards raises Aborted."""
        with self._guard:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def __enter__(self) -> SocketSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _carry(self) -> None:
        number = 0
        with self._socket, self._answers:
            while (parcel := self._queue.get()) is not None:
                number += 1
                if self._lost is None:
                    self._lost = self._exchange(number, parcel.event)
                parcel.problem = self._lost
                parcel.over.set()

    def _exchange(self, number: int, event: bytes) -> str | None:
        """Send one event and wait for its answer; a sentence when that went wrong."""
        try:
            self._socket.sendall(b'{"n":%d,"event":%b}\n' % (number, event))
            answer = self._answers.readline()
        except OSError as error:
            return f"The station at {self._address} went away ({error}); this unit stops here."
        if not answer.endswith(b"\n"):
            return f"The station at {self._address} went away; this unit stops here."
        said = json.loads(answer)
        if said.get("n") != number:
            return f"The station at {self._address} answered out of turn; this unit stops here."
        problem = said.get("error")
        return None if problem is None else str(problem)


@dataclass
class _Client:
    """What the station knows of a unit's process."""

    unit: str | None = None
    ended: bool = False


class SinkServer:
    """The station's side: takes events of any number of units' processes into the journal.

    `on_event(event)` is called after an event is durable, one at a time and in the journal's order (a failing
    callback is logged and harms nothing). `on_lost(unit)` is called when a client went away without having sent
    `unit-ended`, after its last event. Both run in the clients' threads; both may call `emit`.
    The socket is made in `folder`, which is its owner's to remove and private, else in a temporary one of its own.
    Raises UsageProblem when it cannot be made.
    """

    def __init__(
        self,
        journal: Journal,
        on_event: Callable[[Event], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._journal = journal
        self._on_event = on_event
        self._on_lost = on_lost
        self._turn = threading.RLock()  # append and on_event in one order; re-entered by callbacks that emit
        self._guard = threading.Lock()
        self._clients: dict[socket.socket, threading.Thread] = {}
        self._closing = False
        self._made = None if folder else Path(tempfile.mkdtemp(prefix="rig-station-"))  # 0700
        self.address = (folder or self._made or Path()) / "events"  # where clients connect to
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if len(str(self.address).encode()) > _LONGEST_ADDRESS:
                raise UsageProblem(f"TMPDIR is too long a path for a Unix socket: {self.address.parent.parent}.")
            self._listener.bind(str(self.address))
            self._listener.listen(64)
        except OSError as error:
            self._clear()
            raise UsageProblem(f"The station's socket {self.address} cannot be made: {error.strerror}.") from error
        except BaseException:
            self._clear()
            raise
        self._doorman = threading.Thread(target=self._accept, name="events: accept", daemon=True)
        self._doorman.start()

    def emit(self, event: Event) -> None:
        """The station's own events go the same way as the units'. Raises JournalLost when the disk refuses."""
        with self._turn:
            self._journal.append(event)
            self._tell(event)

    def settle(self) -> None:
        """Wait until whatever was acknowledged has been told too: a unit's process may be gone before that."""
        with self._turn:
            pass

    def close(self) -> None:
        """Stop taking events; not to be called from a callback.

        Clients still connected find the station gone; `on_lost` is not called for them.
        """
        with self._guard:
            if self._closing:
                return
            self._closing = True
            clients = dict(self._clients)
        for connection in (self._listener, *clients):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._doorman.join()
        for thread in clients.values():
            thread.join()
        self._clear()

    def __enter__(self) -> SinkServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _clear(self) -> None:
        self._listener.close()
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with self._guard:
                if self._closing:
                    connection.close()
                    return
                thread = threading.Thread(target=self._serve, args=(connection,), name="events: unit", daemon=True)
                self._clients[connection] = thread
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        client = _Client()
        try:
            with connection, connection.makefile("rb") as lines:
                self._listen(client, connection, lines)
        except OSError:
            pass  # reset by the client's death, or closed by us
        except (ValueError, KeyError, TypeError):
            log.exception("a client of the station spoke something else")
        finally:
            with self._guard:
                closing = self._closing
            try:
                if client.unit is not None and not client.ended and not closing and self._on_lost is not None:
                    self._on_lost(client.unit)
            finally:  # not before: `close` waits for who is still told
                with self._guard:
                    self._clients.pop(connection, None)

    def _listen(self, client: _Client, connection: socket.socket, lines: IO[bytes]) -> None:
        for line in lines:
            if not line.endswith(b"\n"):
                return  # the client died in the middle of a line: never acknowledged
            if client.unit is None:
                client.unit = str(json.loads(line)["unit"])
                continue
            event = self._take(connection, line)
            if isinstance(event, UnitStarted | UnitEnded):
                client.ended = isinstance(event, UnitEnded)

    def _take(self, connection: socket.socket, line: bytes) -> Event | None:
        """One line of a client: into the journal, acknowledged, told. None when it could not be written."""
        message = _Message.model_validate_json(line)
        with self._turn:
            try:
                self._journal.append(message.event)
            except RigError as problem:
                _answer(connection, {"n": message.n, "error": str(problem)})
                return None
            _answer(connection, {"n": message.n})
            self._tell(message.event)
        return message.event

    def _tell(self, event: Event) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:
            log.exception("a listener failed on %s", event.kind)


def _answer(connection: socket.socket, answer: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # the client died meanwhile: its next read ends, which says so
        connection.sendall(json.dumps(answer).encode() + b"\n")
