"""A study's `trials.jsonl`: one trial a line, one writer, what it took is on disk."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rig.errors import BenchBlocked, UsageProblem, no_room
from rig.files import fsync_dir

TRIALS = "trials.jsonl"


class Written(Protocol):
    """A trial, as far as its file is concerned."""

    @property
    def n(self) -> int: ...

    def to_json(self) -> str: ...


T = TypeVar("T", bound=Written)


class Ledger:
    """Raises UsageProblem when another process writes it. A line that a crash tore is cut off: that trial is made
    again."""

    def __init__(self, run: Path) -> None:
        path = run / TRIALS
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise UsageProblem(f"cannot write {path}: {problem.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise UsageProblem(f"the study in {run} is under way in another process: wait for it") from None
        os.ftruncate(self._fd, path.read_bytes().rfind(b"\n") + 1)
        fsync_dir(run)

    def append(self, trial: Written) -> None:
        """On disk when this returns. Raises BenchBlocked when the disk refuses; what it took is cut off."""
        line = trial.to_json().encode() + b"\n"
        begin = os.fstat(self._fd).st_size
        try:
            if os.write(self._fd, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._fd)
        except OSError as problem:
            os.ftruncate(self._fd, begin)
            code = "disk-full" if no_room(problem) else "crashed"
            raise BenchBlocked(code, f"the trial cannot be recorded: {problem.strerror}") from None

    def close(self) -> None:
        os.close(self._fd)


def read_rows(run: Path, made: Callable[[dict[str, Any]], T]) -> list[T]:
    """All trials on record, `made` of their rows, in the order they were made; of a number that stands twice the last
    one counts.

    A torn last line is dropped: that trial is made again. Raises UsageProblem for a file that is no study's.
    """
    path = run / TRIALS
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise UsageProblem(f"cannot read {path}: {problem.strerror}") from None
    found: dict[int, T] = {}
    for number, line in enumerate(lines[:-1], 1):  # behind the last newline stands nothing, or what a crash tore
        try:
            row = json.loads(line)
        except ValueError:
            continue  # torn, and a later run began a new line behind it
        if not isinstance(row, dict):
            raise UsageProblem(f"{path}, line {number}: no trial")
        trial = made(row)
        found.pop(trial.n, None)
        found[trial.n] = trial
    return list(found.values())
