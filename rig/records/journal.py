"""The journal of a run: an append-only file of events, one JSON object a line, with exactly one writer. Each line
carries its link of the chain (`rig.records.chain`).

An event is announced by being in here: `append` returns once the line is on disk, so whatever leans on the
event (writing a board after `backup-kept`) may go ahead. A crash can tear the last line only; the reader drops
such a line and names it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from rig.errors import Exit, RigError, UsageProblem
from rig.files import fsync_dir
from rig.records.chain import forged, last_link, split
from rig.records.events import SCHEMA, Event, parser

_LOCK_PATIENCE_S = 0.5  # `is_live` holds the lock for a moment; a second writer holds it for good


class JournalLost(RigError):
    """The journal can no longer be written (disk full, disk gone). The run must stop: nothing is on record."""

    exit_code = Exit.BLOCKED


class Journal:
    """The single writer of a run's journal.jsonl.

    Opening creates the file (0600) or goes on with an existing one; a torn last line of a crashed writer is cut
    off first and told in `dropped`. `head` is the chain's last link, 64 zeros before the first. Raises UsageProblem
    when another process is writing the same journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dropped: str | None = None
        self.head = ""
        self._lock = threading.Lock()
        self._lost: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise UsageProblem(f"The journal {path} cannot be opened: {error.strerror}.") from error
        try:
            _lock_for_writing(self._fd, path)
            self._mend()
            fsync_dir(path.parent)
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, event: Event) -> None:
        """Write one event; on disk (fsync) before this returns. Thread-safe.

        Raises JournalLost when the disk refuses; then the file holds what it held before, and later calls raise
        as well. Raises ValueError for an event that could not be read back (a bug in whoever made it).
        """
        body = line_of(event).rstrip(b"\n")
        with self._lock:
            if self._lost is not None:
                raise JournalLost(self._lost)
            line, head = forged(self.head, body)
            start = os.fstat(self._fd).st_size
            try:
                _write_all(self._fd, line)
                os.fsync(self._fd)
            except OSError as error:
                self._lost = f"The journal {self.path} can no longer be written: {error.strerror}."
                with contextlib.suppress(OSError):  # a tail left behind is dropped by the reader anyway
                    os.ftruncate(self._fd, start)
                raise JournalLost(self._lost) from error
            self.head = head

    def close(self) -> None:
        """Give up the journal; another writer may open it. Closing twice is fine."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
                self._lost = self._lost or f"The journal {self.path} is closed."

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mend(self) -> None:
        """Cut a torn last line off, or the next event would be glued to it and both lost; find the chain's end."""
        raw = self.path.read_bytes()
        _, torn, keep = _parse(self.path, raw)
        self.head = last_link(raw[:keep].split(b"\n")[:-1])
        if torn is not None:
            os.ftruncate(self._fd, keep)
            os.fsync(self._fd)
            self.dropped = torn


def line_of(event: Event) -> bytes:
    """An event as its journal line, newline included, without its link of the chain.

    Raises ValueError if the line would not read back.

    NaN and infinity become null, which only fields that allow None survive.
    """
    try:
        line = event.model_dump_json(fallback=str).encode()
        parser.validate_json(line)
    except (ValueError, UnicodeError) as error:
        raise ValueError(f"A {event.kind} event cannot be written down: {error}") from error
    return line + b"\n"


def read_journal(path: Path) -> tuple[list[Event], str | None]:
    """All events of a journal, and a sentence naming the torn last line that was dropped (None if whole).

    A journal that is still being written may be read. Raises UsageProblem for a missing file and for a broken
    line anywhere but at the end, naming file and line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageProblem(f"The journal {path} cannot be read: {error.strerror}.") from error
    events, torn, _ = _parse(path, raw)
    return events, torn


def is_live(path: Path) -> bool:
    """Whether a process has this journal open for writing just now (its run goes on)."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _parse(path: Path, raw: bytes) -> tuple[list[Event], str | None, int]:
    """Events, the sentence on a torn last line, and how many bytes are whole."""
    lines = raw.split(b"\n")
    tail = lines.pop()  # what follows the last newline: nothing, in a whole file
    events: list[Event] = []
    torn: str | None = None
    keep = 0
    for number, line in enumerate(lines, start=1):
        try:
            events.append(parser.validate_json(split(line)[0]))
        except ValidationError as error:
            if number == len(lines) and not tail and not _is_json(line):
                torn = _torn(path, number, line)
                break
            raise UsageProblem(_broken(path, number, line, error)) from error
        keep += len(line) + 1
    if tail:
        torn = _torn(path, len(lines) + 1, tail)
    return events, torn, keep


def _torn(path: Path, number: int, line: bytes) -> str:
    return f"{path}: line {number} was torn by a crash ({len(line)} bytes, never acknowledged) and is left out."


def _broken(path: Path, number: int, line: bytes, error: ValidationError) -> str:
    if not _is_json(line):
        return f"{path}, line {number} is not JSON: the journal was damaged or edited."
    version = json.loads(line).get("schema_version") if line.lstrip().startswith(b"{") else None
    if isinstance(version, int) and version > SCHEMA:
        return (
            f"{path}, line {number} was written by a newer rig (journal schema {version}, this one reads {SCHEMA})."
        )
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the line"
    return f"{path}, line {number} is not an event of the rig: {where}: {first['msg']}."


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _lock_for_writing(fd: int, path: Path) -> None:
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise UsageProblem(
                    f"The journal {path} is being written by another rig; one run, one writer."
                ) from None
            time.sleep(0.02)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
