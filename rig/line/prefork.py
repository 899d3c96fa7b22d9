"""Units' processes, forked from one that has imported what every unit needs.

Python, pytest and the rig take most of a second of the CPU to import, of the five that a unit costs: the station
starts this process once a run, which then forks each unit's. It holds nothing of theirs: what they are given
(descriptors of the station's) goes with them. It ends when the station does, its units are told of that as ever, by
the end of their own connection to the station. Run as `python -m rig.line.prefork FD`.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

# What pytest says of fixtures that were imported before it: they have no asserts that it should have rewritten.
QUIET = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
_MESSAGE = 1 << 18
_MOST_FDS = 8
_HIGH = 900  # descriptors of units are below it
_ANSWER_S = 60.0  # choice: it may still be importing, on a busy machine
_STATUS_S = 5.0  # from the end of a unit's process to the word of how it ended
_UNKNOWN = 255


class Process(Protocol):
    """What the station asks of a unit's process, as of a `subprocess.Popen`."""

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, number: int) -> None: ...

    def kill(self) -> None: ...


@dataclass
class Forked:
    """A unit's process, by a descriptor of it: a number that is given out again is never meant."""

    fd: int
    returncode: int | None = None
    _told: threading.Event = field(default_factory=threading.Event)
    _status: int = _UNKNOWN
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, status: int) -> None:
        """How it ended, as `subprocess` numbers it."""
        self._status = status
        self._told.set()

    def poll(self) -> int | None:
        """Its exit code once it has ended; 255 where the process that forked it died first."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a unit's process", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        with self._lock, contextlib.suppress(OSError):  # it has ended
            if self.returncode is None:
                signal.pidfd_send_signal(self.fd, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is not None:
            return self.returncode
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        if not poll.poll(None if timeout is None else timeout * 1e3):
            return None
        self._told.wait(_STATUS_S)
        with self._lock:
            if self.returncode is None:
                self.returncode = self._status
                os.close(self.fd)
        return self.returncode


class Prefork:
    """The station's end. A context manager; `start` raises OSError once the process is gone."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rig.line.prefork", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C in the terminal is the station's
                env=dict(environment) | {"OPENBLAS_NUM_THREADS": "1"},  # one thread: it is going to fork
            )
        self._asking = threading.Lock()
        self._answer: dict[str, Any] | None = None
        self._answered = threading.Event()
        self._children: dict[int, Forked] = {}
        self._ended: dict[int, int] = {}  # told before we knew of the process
        self._lock = threading.Lock()
        self._gone = False
        self._reader = threading.Thread(target=self._read, name="prefork", daemon=True)
        self._reader.start()

    def __enter__(self) -> Prefork:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # it ends; units that are at work still are not its business
        self._process.wait()
        self._reader.join()
        self._sock.close()

    def start(self, words: Sequence[str], *, name: str, output: int, fds: Sequence[int]) -> Forked:
        """A process that does `python -m pytest WORDS`, `fds` being open in it under the same numbers, standard
        output and error going to the descriptor `output`; `name` is what `ps` shows."""
        if max(fds, default=0) >= _HIGH:
            raise OSError(f"descriptor {max(fds)} is too high to be passed on")
        message = json.dumps({"words": list(words), "name": name, "fds": list(fds)}).encode()
        with self._asking:
            self._answer = None
            self._answered.clear()
            socket.send_fds(self._sock, [message], [output, *fds])
            self._answered.wait(_ANSWER_S)
            if self._answer is None:
                raise OSError("the process that forks units' processes is gone")
            pid = int(self._answer["pid"])
            with self._lock:
                return self._known(pid)

    def _known(self, pid: int) -> Forked:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended, and its end was told or is about to be
            fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        child = Forked(fd)
        if pid in self._ended:
            child.tell(self._ended.pop(pid))
        else:
            self._children[pid] = child
        return child

    def _read(self) -> None:
        while True:
            try:
                data = self._sock.recv(_MESSAGE)
            except OSError:
                data = b""
            if not data:
                break
            message = json.loads(data)
            if "status" in message:
                with self._lock:
                    child = self._children.pop(message["pid"], None)
                    if child is not None:
                        child.tell(message["status"])
                    else:
                        self._ended[message["pid"]] = message["status"]
            else:
                self._answer = message
                self._answered.set()
        self._answer = None
        self._answered.set()


# -- the process itself ------------------------------------------------------------------------------------


def preload() -> None:
    """What a unit imports: all of our plugins."""
    plugins = importlib.import_module("fixtures.plugins")  # garbage is not looked for from here on
    for name in plugins.pytest_plugins:
        importlib.import_module(name)
    gc.freeze()


def serve(control: socket.socket) -> None:
    """Fork on request and tell of ends, until the station is gone."""
    children: dict[int, int] = {}  # descriptor of a process -> its number
    while True:
        watched: list[socket.socket | int] = [control, *children]
        ready, _, _ = select.select(watched, [], [])
        for fd in (each for each in ready if each in children):
            pid = children.pop(fd)
            os.close(fd)
            _, status = os.waitpid(pid, 0)
            _tell(control, pid=pid, status=os.waitstatus_to_exitcode(status))
        if control not in ready:
            continue
        data, fds, _, _ = socket.recv_fds(control, _MESSAGE, _MOST_FDS)
        if not data:
            return
        asked = json.loads(data)
        pid = os.fork()
        if pid == 0:
            control.detach()  # its descriptor is closed with all others
            _become(asked, fds)
        for fd in fds:
            os.close(fd)
        children[os.pidfd_open(pid)] = pid
        _tell(control, pid=pid)


def _tell(control: socket.socket, **message: Any) -> None:
    with contextlib.suppress(OSError):  # the station is gone: its end is seen next
        control.send(json.dumps(message).encode())


def _become(asked: Mapping[str, Any], fds: Sequence[int]) -> None:
    """In the child: the unit's process, with what it was given and nothing else. Does not return."""
    os.setsid()
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, _HIGH) for fd in fds]
    os.closerange(3, _HIGH)
    for fd, number in zip(high[1:], asked["fds"], strict=True):
        os.dup2(fd, number, inheritable=False)
    os.dup2(high[0], 1)
    os.dup2(high[0], 2)
    for fd in high:
        os.close(fd)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="utf-8") as comm:
        comm.write(asked["name"][:15])
    sys.argv = ["pytest", *asked["words"]]
    import pytest

    raise SystemExit(pytest.console_main())


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    preload()
    serve(control)


if __name__ == "__main__":
    main()
