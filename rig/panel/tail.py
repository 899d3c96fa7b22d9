"""Files that are still being written, read from their end or from where the last look stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from rig.records.events import Event, parser

_SEAM = 64  # bytes before the last look's end: other ones there now, and the file was cut and written anew


class JournalTail:
    """The events of a journal, each once: what was appended since the last look.

    `broken` is a sentence once a line in the middle makes no sense; nothing after it is read. A last line that is
    torn, or not yet whole, waits. `again` tells that the file was cut (a torn line mended, a write taken back): then
    all that was read before is void and `fresh` begins from the start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken: str | None = None
        self.again = False
        self._at = 0
        self._seam = b""

    def fresh(self) -> list[Event]:
        """Events since the last call; none where the file cannot be read."""
        self.again = False
        if self.broken is not None:
            return []
        try:
            with self.path.open("rb") as file:
                if not self._still_ours(file.fileno()):
                    self._at, self._seam, self.again = 0, b"", True
                file.seek(self._at)
                raw = file.read()
        except OSError:
            return []
        return list(self._events(raw[: raw.rfind(b"\n") + 1]))

    def _still_ours(self, fd: int) -> bool:
        start = self._at - len(self._seam)
        return os.fstat(fd).st_size >= self._at and os.pread(fd, len(self._seam), start) == self._seam

    def _events(self, raw: bytes) -> Iterator[Event]:
        lines = raw.splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                event = parser.validate_json(line)
            except ValidationError:
                if number < len(lines):
                    self.broken = f"{self.path} is damaged after byte {self._at}: what follows is not shown."
                return
            self._at += len(line)
            self._seam = (self._seam + line)[-_SEAM:]
            yield event


def last_bytes(path: Path, most: int) -> tuple[bytes, bool]:
    """The end of a file, and whether that is all of it. Empty where there is none."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(size - most, 0))
            return file.read(most), size <= most
    except OSError:
        return b"", True
