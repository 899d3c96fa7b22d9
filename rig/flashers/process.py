"""One run of an outside tool: a process group of its own, its output line by line, and an end in every case."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rig.errors import UnitFailed, UsageProblem

_LOOK_S = 0.05  # how often the caller's `check` is asked while the tool prints nothing
_LINGER_S = 0.5  # how long output is awaited after the tool's end from children that hold its pipe
_LONGEST = 0x10000  # characters of a line; a longer one is cut into several
_SHOWN = 4000  # characters of a line that are kept
_KEPT = 2000  # lines kept of the output's beginning, and as many of its end
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NEWLINES = re.compile(r"\r\n|\r|\n")

# of the caller's environment: what would change which Python code the tool runs, or how much it prints
_DROPPED = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "LTCHIPTOOL_VERBOSE")


class Kept(list[str]):
    """Lines of an output of any length in bounded memory: the first `most` and at least as many of the last ones.

    `dropped` counts those between; of a very long line the beginning is kept.
    """

    def __init__(self, most: int = _KEPT) -> None:
        super().__init__()
        self._most = most
        self.dropped = 0

    def append(self, line: str) -> None:
        super().append(line if len(line) <= _SHOWN else f"{line[:_SHOWN]} ({len(line) - _SHOWN} characters more)")
        if len(self) > 3 * self._most:  # now and then, for each time moves what stands behind
            del self[self._most : 2 * self._most]
            self.dropped += self._most

    @property
    def told(self) -> list[str]:
        """For people: a sentence stands where lines are left out."""
        if not self.dropped:
            return list(self)
        return [*self[: self._most], f"({self.dropped} lines left out here)", *self[self._most :]]


@dataclass
class Run:
    """What a run left behind. Seconds from the process's start to its end; `left` is the file it wrote."""

    command: tuple[str, ...]
    lines: list[str] = field(default_factory=Kept)
    exit_code: int | None = None
    seconds: float = 0.0
    left: bytes = field(default=b"", repr=False)

    @property
    def output(self) -> str:
        """For people: says so where lines were left out of a long one."""
        return "\n".join(self.lines.told if isinstance(self.lines, Kept) else self.lines)


def run_tool(
    run: Run,
    *,
    folder: Path,
    path: Path,
    variables: Mapping[str, str] | None = None,
    silence: float,
    limit: float,
    check: Callable[[], None],
    on_line: Callable[[str], None] = lambda line: None,
    tidy: Callable[[str], str] = lambda line: line,
) -> None:
    """Run `run.command` in `folder` with the executables of `path` first and `variables` added to its environment,
    filling `run` as it goes.

    `check` is called all the while; what it raises ends the tool, as does any other exception. Raises
    UnitFailed("flasher-failed") for one that printed nothing for `silence` seconds or took longer than `limit`.
    When this returns or raises, nothing of the tool's process group is left.
    """
    started = time.monotonic()
    process = _start(run.command, folder, _environment(path) | dict(variables or {}))
    assert process.stdout is not None
    lines = _Lines(run, on_line, tidy)
    end = os.pidfd_open(process.pid)
    waiting = [end, process.stdout.fileno()]
    heard = ended = started
    try:
        while waiting:
            ready, _, _ = select.select(waiting, [], [], _LOOK_S)
            now = time.monotonic()
            if end in ready:
                waiting.remove(end)
                ended = now
            if process.stdout.fileno() in ready:
                data = os.read(process.stdout.fileno(), 0x10000)
                if not data:
                    waiting.remove(process.stdout.fileno())
                heard = now
                lines.feed(data)
            if end not in waiting and now - max(heard, ended) > _LINGER_S:
                break
            check()
            if end in waiting:
                _impatient(run, now - heard, now - started, silence, limit)
    finally:
        try:
            lines.end()
        finally:  # whoever hears of the last line may raise too
            os.close(end)
            _end(process)
            run.exit_code = process.returncode
            run.seconds = (ended if ended > started else time.monotonic()) - started


def _start(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            process_group=0,  # no session: a session's leader would take the serial port as its terminal
        )
    except OSError as problem:
        raise UsageProblem(f"{command[0]} cannot be started: {problem.strerror}") from None


def _environment(path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    return kept | {
        "PATH": f"{path}:{kept.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "120",
    }


def _impatient(run: Run, quiet: float, seconds: float, silence: float, limit: float) -> None:
    name = Path(run.command[0]).name
    if quiet > silence:
        raise UnitFailed("flasher-failed", f"{name} hung: it printed nothing for {silence:g} s and was ended")
    if seconds > limit:
        raise UnitFailed("flasher-failed", f"{name} was not done after {limit:.0f} s and was ended")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of the group stays, whatever the tool started itself. (Not reaped before: its id is still ours.)"""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


class _Lines:
    """Cuts bytes into tidy lines. A bar redrawn with carriage returns becomes lines too."""

    def __init__(self, run: Run, on_line: Callable[[str], None], tidy: Callable[[str], str]) -> None:
        self._run = run
        self._on_line = on_line
        self._tidy = tidy
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> None:
        first, *more = _NEWLINES.split(self._decoder.decode(data))
        self._rest += first
        for following in more:
            line, self._rest = self._rest, following
            self._take(line)
        if len(self._rest) > _LONGEST:  # a tool that never ends its line
            line, self._rest = self._rest, ""
            self._take(line)

    def end(self) -> None:
        line, self._rest = self._rest + self._decoder.decode(b"", True), ""
        self._take(line)

    def _take(self, line: str) -> None:
        line = self._tidy(_ESCAPES.sub("", line).rstrip())
        if line:
            self._run.lines.append(line)
            self._on_line(line)
