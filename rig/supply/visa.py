"""The line to an instrument: PyVISA with what its pure Python backend needs to be dependable.

What is worked around here, each seen with pyvisa-py 0.8.1:
- a raw socket leaves Nagle's algorithm on (two writes then take 40 ms) and its attribute for that is broken;
- opening a closed port succeeds, the first write raises a bare OSError;
- a peer that hangs up looks like a timeout;
- the answer to a question that timed out is handed to the next question, so the line is reopened after that;
- a session is not thread-safe, so one lock spans a question and its answer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rig.errors import BenchBlocked, RigError, UsageProblem

# PyVISA loads numpy for blocks of numbers, which no supply here sends: a third of what a service's start costs.
_BARE = "numpy" not in sys.modules
if _BARE:
    sys.modules["numpy"] = None  # type: ignore[assignment]  # "not installed", for as long as PyVISA loads
try:
    import pyvisa
    from pyvisa.constants import StatusCode, StopBits
    from pyvisa.errors import VisaIOError
finally:
    if _BARE:
        del sys.modules["numpy"]

if TYPE_CHECKING:
    from rig.supply.dialect import Transport

log = logging.getLogger(__name__)
OPEN_TIMEOUT_S = 3.0
# What a broken line raises, which is whatever its transport raises: with pyvisa-py 0.8.1 VisaIOError and OSError, but
# also ValueError (USBTMC), RPCError (VXI-11), RuntimeError and AttributeError (sessions that were closed under it).
# One that is not told as a lost line would leave the output on.
_BROKEN = Exception
# Added to what happened when a new connection was not answered.
_ONE_CLIENT = (
    "It takes one connection only and may still count another program's, or one whose program died: end that "
    "program, wait a minute, or switch the supply off and on at its mains switch."
)
_NOT_ANSWERING = (
    "Another program may be holding it (many supplies take one connection only), or it hangs: end that program, or "
    "switch the supply off and on at its mains switch."
)


@lru_cache(maxsize=1)
def _manager(library: str) -> Any:
    # Kept for the life of the process: a collected ResourceManager closes its sessions.
    try:
        return pyvisa.ResourceManager(library)
    except (OSError, ValueError, ImportError) as bad:
        raise UsageProblem(f"The VISA library {library!r} cannot be loaded ({bad}).") from bad


def preload() -> None:
    """Load the VISA library now, so that the first session opens at once. Raises UsageProblem."""
    _manager(_library())


def _library() -> str:
    return os.environ.get("PYVISA_LIBRARY") or "@py"


class Link:
    """One VISA session, opened on first use and again after it broke. Thread-safe.

    Every failure is BenchBlocked("supply-lost"); the session is then closed, and the next use opens a new one,
    which has to be the same instrument. `generation` counts the sessions: what was known under another one is
    no longer known. `farewells`, the lines that switch off what may be on, by channel, are sent, unanswered, before a
    session is closed whose supply answers nothing any more: one that only hung carries them out when it wakes, after
    what it had not yet done. They stay until whoever put them there takes them away. `opening` is sent first in every
    session: a serial instrument in local mode may not even answer *IDN?.
    """

    def __init__(self, resource: str, transport: Transport, opening: Sequence[str] = ()) -> None:
        self.resource = resource
        self.transport = transport
        self.lock = threading.RLock()
        self.generation = 0
        self.idn = ""
        self.farewells: dict[int, Sequence[str]] = {}
        self._identified = False  # in this session
        self._opening = tuple(opening)
        self._session: Any = None
        self._free_at = 0.0

    def open(self, patience_s: float = 0.0) -> str:
        """Open and ask *IDN?; for `patience_s` seconds a refused or hung-up connection is tried again."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return self._open_once()
            except BenchBlocked:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(0.15)

    def adopt(self, transport: Transport, opening: Sequence[str]) -> None:
        """Now that the dialect is known: its line settings, and what it wants said at the start of a session."""
        with self.lock:
            missed = () if tuple(opening) == self._opening else tuple(opening)
            self.transport, self._opening = transport, tuple(opening)
            self._free_at = time.monotonic() + transport.gap_s  # *IDN? was asked without knowing of it
            self._prepare()
            for line in missed:
                self._send(line)

    def close(self) -> None:
        with self.lock:
            session, self._session = self._session, None
            if session is not None:
                try:
                    session.close()
                except _BROKEN as bad:
                    log.debug("closing %s: %s", self.resource, bad)

    def write(self, *lines: str) -> None:
        """Send messages, one after the other."""
        with self.lock:
            self._ready()
            for line in lines:
                self._send(line)

    def query(self, line: str, before: Sequence[str] = ()) -> str:
        """Send `before`, then a question; its answer without line end."""
        with self.lock:
            self._ready()
            for first in before:
                self._send(first)
            self._send(line)
            return self._receive(line)

    def suspect(self) -> None:
        """Something that was read makes no sense: do not trust this session any more."""
        self.close()

    def hung_up(self) -> bool:
        """Whether the instrument has closed the open session, as far as that can be told without asking it."""
        with self.lock:
            sock = self._socket() if self._session is not None else None
            try:
                return sock is not None and not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True

    def _open_once(self) -> str:
        with self.lock:
            self.close()
            self._session = self._visa_open()
            self._identified = False
            self.generation += 1
            self._prepare()
            for line in self._opening:
                self._send(line)
            idn = self._identify()
            if self.idn and idn != self.idn:
                self.close()
                raise BenchBlocked(
                    "supply-lost", f"At {self.resource} there is now another instrument ({idn}); it was {self.idn}."
                )
            self.idn, self._identified = idn, True
            return idn

    def _identify(self) -> str:
        try:
            self._send("*IDN?")
            return self._receive("*IDN?").replace("\x00", "").strip()
        except BenchBlocked as lost:
            refused = isinstance(lost.__cause__, ConnectionRefusedError)  # nothing listens there at all
            if refused and not self.transport.one_client:
                raise
            hint = _ONE_CLIENT if self.transport.one_client else _NOT_ANSWERING
            raise BenchBlocked(lost.code, f"{lost} {hint}") from lost

    def _visa_open(self) -> Any:
        manager = _manager(_library())
        try:
            return manager.open_resource(self.resource, open_timeout=int(OPEN_TIMEOUT_S * 1000))
        except _BROKEN as bad:  # pyvisa-py raises bare Exception("could not connect: ...") too
            self._require_usable(bad)
            raise self._lost(f"could not be opened ({_why(bad)})") from bad

    def _require_usable(self, bad: Exception) -> None:
        """Raise UsageProblem where `bad` says that this resource cannot be opened here. Of one that was open before,
        the same says that its cable was pulled: USB ("No device found") and HiSLIP do so."""
        if self.idn:
            return
        if isinstance(bad, VisaIOError):
            if bad.error_code in (StatusCode.error_invalid_resource_name, StatusCode.error_resource_not_found):
                raise UsageProblem(f"{self.resource!r} is not a VISA resource that can be opened here.") from bad
        elif isinstance(bad, ValueError):
            raise UsageProblem(f"{self.resource!r} cannot be used: {bad}.") from bad

    def _prepare(self) -> None:
        session, how = self._session, self.transport
        try:
            session.timeout = how.timeout_s * 1000
            session.read_termination = how.read_termination
            session.write_termination = how.write_termination
            if how.baud is not None and hasattr(session, "baud_rate"):
                session.baud_rate = how.baud
            if how.stop_bits is not None and hasattr(session, "stop_bits"):
                session.stop_bits = StopBits.two if how.stop_bits == 2 else StopBits.one
        except _BROKEN as bad:
            raise self._lost(_why(bad)) from bad
        sock = self._socket()
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 3), ("TCP_KEEPCNT", 3)):
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def _backend_session(self) -> Any:
        """pyvisa-py's own session object, or None with another backend."""
        try:
            return self._session.visalib.sessions[self._session.session]
        except _BROKEN:
            return None

    def _socket(self) -> socket.socket | None:
        found = getattr(self._backend_session(), "interface", None)
        return found if isinstance(found, socket.socket) and found.type == socket.SOCK_STREAM else None

    def _ready(self) -> None:
        if self._session is None:
            self._open_once()
            return
        sock = self._socket()
        if sock is None:
            return
        pending = getattr(self._backend_session(), "_pending_buffer", None)
        try:
            while True:
                early = sock.recv(4096, socket.MSG_DONTWAIT)
                if not early:
                    raise self._lost("closed the connection")
                log.warning("%s sent %r unasked; dropped", self.resource, early)
        except BlockingIOError:
            if pending:
                pending.clear()
        except OSError as bad:
            raise self._lost(_why(bad)) from bad

    def _send(self, line: str) -> None:
        try:
            self._put(line)
        except _BROKEN as bad:
            raise self._lost(f"did not take {line!r} ({_why(bad)})") from bad

    def _put(self, line: str) -> None:
        wait = self._free_at - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._session.write(line)
        self._free_at = time.monotonic() + self.transport.gap_s

    def _receive(self, line: str) -> str:
        self._await(line)
        try:
            raw: bytes = self._session.read_raw()
        except _BROKEN as bad:
            raise self._lost(f"gave no answer to {line!r} ({_why(bad)})") from bad
        self._free_at = time.monotonic() + self.transport.gap_s
        return raw.decode("latin-1").rstrip("\r\n")

    def _await(self, line: str) -> None:
        """Wait for the answer to begin. pyvisa-py would not notice a hang-up, and spin until its timeout."""
        sock = self._socket()
        if sock is None or getattr(self._backend_session(), "_pending_buffer", None):
            return
        try:
            ready, _, _ = select.select([sock], [], [], self.transport.timeout_s)
            hung_up = bool(ready) and not sock.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError) as bad:  # ValueError: it was closed under us
            raise self._lost(f"gave no answer to {line!r} ({_why(bad)})") from bad
        if not ready:
            raise self._lost(f"gave no answer to {line!r} (timeout)")
        if hung_up:
            raise self._lost(f"closed the connection when asked {line!r}")

    def _lost(self, what: str) -> BenchBlocked:
        if self._session is not None and self._identified and self.farewells and not self._answers():
            with contextlib.suppress(_BROKEN):
                for farewell in self.farewells.values():
                    for line in farewell:
                        self._put(line)
        self.close()
        return BenchBlocked("supply-lost", f"The supply at {self.resource} {what}.")

    def _answers(self) -> bool:
        """Whether it still says who it is, on a connection beside this one. Then one answer was late or lost, and no
        other channel's board has to go off for that; the session ends all the same. (On this one, what is asked now
        would stand before the farewells, and a supply that cannot send an answer may drop what comes after it.)"""
        if self.transport.one_client or self._socket() is None:
            return False
        beside = Link(self.resource, self.transport)
        try:
            return beside.open() == self.idn
        except RigError:
            return False
        finally:
            beside.close()


def _why(bad: BaseException) -> str:
    if isinstance(bad, VisaIOError):
        return "timeout" if bad.error_code == StatusCode.error_timeout else str(bad.abbreviation)
    if isinstance(bad, OSError) and bad.strerror:
        return bad.strerror.lower()
    return str(bad) or type(bad).__name__
