"""The station's control socket: a JSON line in, a JSON line out.

    {"do": "scan", "slot": "A", "text": "SN1", "who": null}     ->  {"ok": true, "slot": "A", "unit": "SN1"}
    {"do": "scan", "slot": "A", "text": "SN1", "who": null}     ->  {"error": "slot A is at work on SN1: ..."}

Its path stands in live.json. It lies in a private folder of the station, with the socket that units hand their
events to; the folder of a station that was killed goes when the next one starts.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from rig.errors import RigError, UsageProblem
from rig.supply import runtime

log = logging.getLogger(__name__)

_LONGEST = 64 * 1024  # bytes of a command
_CLIENTS = 32  # at a time
_RETRY_S = 0.5
_PATIENCE_S = 60.0  # a client that says nothing for so long is let go
_LOCK = "stations.lock"


@contextlib.contextmanager
def station_folder() -> Iterator[Path]:
    """A private folder for a station's sockets, as long as the context lasts. What killed stations left behind goes.

    Raises UsageProblem as `rig.supply.runtime.folder`.
    """
    base = runtime.folder()
    with _alone(base):
        _prune(base)
        folder = Path(tempfile.mkdtemp(prefix="station-", dir=base))
        mine = runtime.Lock(folder / "lock")
        mine.try_hold()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        mine.close()


@contextlib.contextmanager
def _alone(base: Path) -> Iterator[None]:
    """One at a time makes or removes such folders."""
    lock = runtime.Lock(base / _LOCK)
    waiting = threading.Event()
    try:
        while not lock.try_hold():
            waiting.wait(0.02)
        yield
    finally:
        lock.close()


def _prune(base: Path) -> None:
    for left in base.glob("station-*"):
        with contextlib.suppress(OSError):
            lock = runtime.Lock(left / "lock")
            try:
                if lock.try_hold():
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                lock.close()


class ControlServer:
    """Takes commands at `address` until closed; `do` is called with each, in its client's thread.

    A RigError of it is the client's answer; anything else is logged, and the client told so.
    """

    def __init__(self, folder: Path, do: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._do = do
        self.address = folder / "control"
        self._clients: dict[socket.socket, threading.Thread] = {}
        self._guard = threading.Lock()
        self._closing = False
        self._over = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(str(self.address))
            self._listener.listen(_CLIENTS)
        except OSError as problem:
            self._listener.close()
            raise UsageProblem(f"The control socket {self.address} cannot be made: {problem.strerror}.") from problem
        self._thread = threading.Thread(target=self._accept, name="control: accept", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._guard:
            if self._closing:
                return
            self._closing = True
            self._over.set()
            clients = dict(self._clients)
        for connection in (self._listener, *clients):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for thread in clients.values():
            thread.join(1)
        self._listener.close()

    def __enter__(self) -> ControlServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if self._closing:
                    return
                self._over.wait(
                    _RETRY_S
                )  # no descriptor left: the clients that hold them go, and the next one comes in
                continue
            with self._guard:
                if self._closing or len(self._clients) >= _CLIENTS:
                    connection.close()
                    continue
                thread = threading.Thread(target=self._serve, args=(connection,), name="control", daemon=True)
                self._clients[connection] = thread
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE_S)
        try:
            with connection, connection.makefile("rb") as lines:
                while line := lines.readline(_LONGEST + 1):
                    whole = line.endswith(b"\n")
                    answer = self._answer(line) if whole else {"error": "a command is one line of at most 64 KiB"}
                    connection.sendall(json.dumps(answer).encode() + b"\n")
                    if not whole:
                        return
        except OSError:
            pass  # it went away, or we are closing
        finally:
            with self._guard:
                self._clients.pop(connection, None)

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            command = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "a command is a JSON object on one line"}
        if not isinstance(command, dict):
            return {"error": "a command is a JSON object on one line"}
        try:
            return {"ok": True, **self._do(command)}
        except RigError as problem:
            return {"error": str(problem)}
        except Exception as problem:
            log.exception("the command %r", command.get("do"))
            return {"error": f"the station failed at it: {type(problem).__name__}"}


def tell_station(address: Path, command: dict[str, Any], timeout_s: float = 10.0) -> dict[str, Any]:
    """From another process: one command, its answer. Raises UsageProblem where no station listens, and with the
    station's own sentence where it refuses."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(address))
            connection.sendall(json.dumps(command).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        answer: dict[str, Any] = json.loads(line)
    except (OSError, ValueError) as problem:
        raise UsageProblem(f"no station answers at {address} ({problem}): has its run ended?") from None
    if "error" in answer:
        raise UsageProblem(str(answer["error"]))
    return answer
