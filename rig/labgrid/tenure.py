"""A place of labgrid's, held for as long as a context lasts: the rig's end of `holder.py`.

One run a place and user at a time, by an OS lock. The holder has another one: a run that comes right after one that
was killed waits until that one's holder has given the place back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rig.errors import UsageProblem
from rig.flashers.environment import Environment, provide
from rig.labgrid.spec import PlaceSpec
from rig.supply import runtime

RELEASE = "26.0"  # of labgrid: the one whose client `holder.py` was written against
KEEP_TRYING_S = 60.0  # without a coordinator, before nothing more is begun
_FIRST_S = 40.0  # the holder's imports, on a busy machine, and its connection
_ACQUIRE_S = 35.0
_RELEASE_S = 25.0
_STALE_S = 30.0  # meanwhile a killed run's holder gives the place back
_LOOK_S = 0.1
_HOLDERS = 3  # started anew when one dies

Told = Callable[[str], None]


def environment(say: Told = lambda line: None) -> Environment:
    """labgrid, in an environment of its own; installed once. Raises UsageProblem where it cannot be."""
    return provide("labgrid", RELEASE, say=say)


class Tenure:
    """A place while it is held. `ended`: in words, why nothing more should be begun there; None while all is well."""

    def __init__(self, spec: PlaceSpec, folder: Path, tools: Environment, lock: runtime.Lock) -> None:
        self.spec = spec
        self.found: dict[str, Any] = {}
        self.resources: list[dict[str, Any]] = []
        self.ours = False
        self.ended: str | None = None
        self.folder = folder  # private; goes with the tenure
        self._tools, self._lock = tools, lock
        self._marker = lock.path.with_suffix(".held")
        self._listeners: list[tuple[Told, Told]] = []
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._lost_since: float | None = None
        self._pending = b""
        self._process = self._start()
        self._thread: threading.Thread | None = None

    # -- taking it -------------------------------------------------------------------------------------

    def look(self) -> list[dict[str, Any]]:
        """The resources that the place matches. Raises UsageProblem."""
        self.found = self._await("found", _FIRST_S)
        return list(self.found["resources"])

    def acquire(self) -> None:
        """Raises UsageProblem: somebody else has it, or something of it is away."""
        self._send(b"acquire\n")
        acquired = self._await("acquired", _ACQUIRE_S)
        self.resources, self.ours = acquired["resources"], acquired["ours"]
        self._thread = threading.Thread(target=self._listen, name=f"labgrid {self.spec.place}", daemon=True)
        self._thread.start()

    def listen(self, note: Told, end: Told) -> None:
        """`note` for what is worth a line of the record; `end` once nothing more may be begun. Both are called from
        another thread. Raises UsageProblem where nothing may be begun already."""
        with self._guard:
            if self.ended:
                raise UsageProblem(self.ended)
            self._listeners.append((note, end))

    # -- while it is held ------------------------------------------------------------------------------

    def _listen(self) -> None:
        holders = 1
        while not self._closing.is_set():
            message = self._next(_LOOK_S)
            if message is not None and message["event"] == "died":
                if self._closing.is_set():
                    return
                holders += 1
                if holders > _HOLDERS:
                    self._end("the process that holds the place died again and again")
                    return
                self._note("the process that holds the place died; another one takes over")
                self._restart()
            elif message is not None:
                self._hear(message)
            elif self._lost_since is not None and time.monotonic() - self._lost_since > KEEP_TRYING_S:
                self._end(f"no labgrid coordinator for {KEEP_TRYING_S:g} s")
                self._lost_since = None

    def _hear(self, message: dict[str, Any]) -> None:
        event, place = message["event"], self.spec.place
        if event == "lost":
            self._lost_since = time.monotonic()
            self._note(f"the labgrid coordinator at {self.spec.coordinator} went away; boards at work go on")
        elif event == "back":
            self._lost_since = None
            self._note(f"the labgrid coordinator is back and place {place} is held again")
        elif event == "taken":
            self._lost_since = None
            self._end(f"place {place} was acquired by {message['by']} while the coordinator was away")
        elif event == "error":
            self._end(str(message["text"]))

    def _restart(self) -> None:
        self._process.wait()
        try:
            self._process = self._start()
            self._await("found", _FIRST_S)
            self._send(b"acquire\n")
            self.ours = self._await("acquired", _ACQUIRE_S)["ours"]
        except UsageProblem as problem:
            self._end(str(problem))

    def _note(self, text: str) -> None:
        with self._guard:
            listeners = list(self._listeners)
        for note, _ in listeners:
            note(text)

    def _end(self, why: str) -> None:
        with self._guard:
            first, self.ended = self.ended is None, self.ended or why
            listeners = list(self._listeners)
        if first:
            for _, end in listeners:
                end(why)

    # -- giving it back --------------------------------------------------------------------------------

    def close(self) -> str | None:
        """The place given back; in words, what stands against its having been. Does nothing the second time."""
        if self._closing.is_set():
            return None
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        process = self._process
        with contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()
        try:
            process.wait(_RELEASE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
        if self._marker.exists():
            return (
                f"place {self.spec.place} could not be given back to labgrid: the next run here takes it over, or: "
                f"labgrid-client -p {self.spec.place} release"
            )
        return None

    # -- the holder ------------------------------------------------------------------------------------

    def _start(self) -> subprocess.Popen[bytes]:
        self._pending = b""
        words = [self._tools.executable("python"), "-I", Path(__file__).with_name("holder.py")]
        with (self.folder / "holder.log").open("ab") as log:
            process = subprocess.Popen(
                [*map(str, words), self.spec.coordinator, self.spec.place, str(self._marker)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd="/",
                start_new_session=True,  # a Ctrl-C in the terminal is the rig's
                pass_fds=[self._lock.fd],
            )  # fmt: skip
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return process

    def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except OSError:
            raise UsageProblem(f"place {self.spec.place} cannot be held: {self._last_words()}") from None

    def _await(self, event: str, patience_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            message = self._next(deadline - time.monotonic())
            if message is None or message["event"] == "lost":
                continue
            if message["event"] == "error":
                raise UsageProblem(str(message["text"]))
            if message["event"] == "died":
                raise UsageProblem(f"place {self.spec.place} cannot be held: {self._last_words()}")
            if message["event"] == event:
                return message
        raise UsageProblem(f"place {self.spec.place}: labgrid said nothing for {patience_s:g} s")

    def _next(self, patience_s: float) -> dict[str, Any] | None:
        """The holder's next word; None after `patience_s` seconds; `died` at its end."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + patience_s
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            chunk = os.read(self._process.stdout.fileno(), 65536)
            if not chunk:
                return {"event": "died"}
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _last_words(self) -> str:
        said = (self.folder / "holder.log").read_text(errors="replace").strip().splitlines()
        return said[-1] if said else "the process that holds it ended without a word"


@contextlib.contextmanager
def held(spec: PlaceSpec, say: Told) -> Iterator[Tenure]:
    """A tenure that has not acquired its place yet; given back at the end, whatever happens. Raises UsageProblem."""
    tools = environment(say)
    name = hashlib.sha256(str(spec).encode()).hexdigest()[:16]
    folder = runtime.folder() / f"labgrid-{name}"
    ours, lock = runtime.Lock(folder.with_suffix(".run.lock")), runtime.Lock(folder.with_suffix(".lock"))
    try:
        _alone(ours, lock, spec)
        shutil.rmtree(folder, ignore_errors=True)  # a killed run's
        folder.mkdir(mode=0o700)
        tenure = Tenure(spec, folder, tools, lock)
        try:
            yield tenure
        finally:
            kept = tenure.close()
            if kept is not None:
                say(kept)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.close()
        ours.close()


def _alone(ours: runtime.Lock, holders: runtime.Lock, spec: PlaceSpec) -> None:
    """UsageProblem where another run of this user is at the place. A killed run's holder is waited for."""
    deadline, waiting = time.monotonic() + _STALE_S, threading.Event()
    while ours.try_hold() and time.monotonic() < deadline:
        if holders.try_hold():
            return
        waiting.wait(_LOOK_S)
    raise UsageProblem(f"place {spec.place} is in use by another run of yours: wait for it, or stop it")
