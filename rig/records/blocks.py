"""Blocks of flash that boards were seen to hold, so that the next board's backup need not read them again.

    runs/blocks/<offset>+<length>/<sha256>.bin.zst     one block, compressed, 0600; offset and length in hex

A store of convenience beside the backups, which are whole without it: what is lost from it is read again. Each place
keeps the blocks that were seen last. An entry is known by its content's sha256; one that no longer has it is dropped
and named, never given out. Several processes may use one store: files come and go whole, by renaming, and what one
process drops under another's hands is written again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import zstandard

from rig.files import fsync_dir, write_durably

SIZE = 0x10000  # bytes: blocks begin at multiples of it
MOST = 16  # choice: blocks that one place keeps; bounds the disk (32 MiB for a flash of 2 MiB) and memory (1 MiB)
_TRIES = 3
_LEFT_OVER_S = 3600.0  # a temporary file this old is of a process that was killed
_NAME = re.compile(r"([0-9a-f]{64})\.bin\.zst")
_WINDOW = 1 << 20  # bytes that decompressing may take, whatever an entry says of itself


class BlockStore:
    """Blocks under one folder (0700: a flash may hold passwords). `dropped`: a sentence for each entry that was
    found damaged since this object was made, and for each place that could not be looked into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dropped: list[str] = []

    def add(self, data: bytes, offset: int = 0) -> int:
        """Keep what stands in a flash from `offset` (a multiple of 64 KiB), in blocks; blank ones need no keeping.

        `data` must agree with the chip's CRC: that is the caller's word. Each block is on disk and was read back when
        this returns. Returns how many were new. Raises OSError when the disk refuses or does not give back what it
        was given; what was added until then stays.
        """
        if offset % SIZE:
            raise ValueError(f"blocks begin at multiples of 0x{SIZE:x}, not at 0x{offset:x}")
        new = 0
        for at in range(0, len(data), SIZE):
            block = data[at : at + SIZE]
            if block.count(0xFF) < len(block):
                place = self._place(offset + at, len(block))
                self._make(place)
                new += self._put(place / f"{hashlib.sha256(block).hexdigest()}.bin.zst", block)
                self._trim(place)
        return new

    def candidates(self, offset: int, length: int) -> list[bytes]:
        """The blocks seen at `offset`, at most 16, the one seen last first; none where nothing is kept.

        Never raises for the disk: what cannot be had is in `dropped`.
        """
        place = self._place(offset, length)
        try:
            paths = self._newest_first(place)[:MOST]
        except OSError as problem:
            self.dropped.append(f"the blocks in {place} cannot be looked at: {problem.strerror}")
            return []
        return [block for path in paths if (block := self._load(path, length)) is not None]

    # -- inside ----------------------------------------------------------------------------------------

    def _place(self, offset: int, length: int) -> Path:
        return self.folder / f"{offset:06x}+{length:x}"

    def _make(self, place: Path) -> None:
        for folder in (self.folder, place):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                fsync_dir(folder.parent)
            if folder.stat().st_mode & 0o077:
                folder.chmod(0o700)

    def _put(self, path: Path, block: bytes) -> bool:
        """One block, durable and read back; False: it was there."""
        new = False
        for _ in range(_TRIES):  # between writing and reading back another process may have dropped it
            if self._load(path, len(block)) is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.utime(path)
                return new
            write_durably(path, zstandard.ZstdCompressor(level=3).compress(block), private=True)
            new = True
        if self._load(path, len(block)) is None:
            raise OSError(errno.EIO, "what was written cannot be read back", str(path))
        return new

    def _load(self, path: Path, length: int) -> bytes | None:
        """An entry's content; None: it is not there, or was damaged and is not there any more."""
        wanted = _NAME.fullmatch(path.name)
        seen = None
        try:
            with path.open("rb") as file:
                seen = os.fstat(file.fileno())
                raw = file.read(length + (length >> 8) + 1024)  # what does not compress grows by less
            with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(raw) as reader:
                block = reader.read(length + 1)
        except FileNotFoundError:
            return None
        except (OSError, zstandard.ZstdError) as problem:
            self._drop(path, seen, f"cannot be read: {problem}")
            return None
        if wanted is None or len(block) != length or hashlib.sha256(block).hexdigest() != wanted[1]:
            self._drop(path, seen, "is damaged: its content is not what its name says")
            return None
        return block

    def _drop(self, path: Path, seen: os.stat_result | None, why: str) -> None:
        """Remove what was `seen`, and not what another process has put there since."""
        self.dropped.append(f"the block {path} {why}; it was dropped")
        with contextlib.suppress(OSError):
            now = path.stat()
            if seen is None or (now.st_ino, now.st_mtime_ns) == (seen.st_ino, seen.st_mtime_ns):
                path.unlink()

    def _trim(self, place: Path) -> None:
        """What was not seen for longest gives way; so does what a process that was killed left half written."""
        gone = self._newest_first(place)[MOST:]
        old = time.time() - _LEFT_OVER_S
        gone += [path for changed, path in _entries(place) if path.name.startswith(".") and changed / 1e9 < old]
        for path in gone:
            path.unlink(missing_ok=True)

    def _newest_first(self, place: Path) -> list[Path]:
        return [path for _, path in sorted(_entries(place), reverse=True) if _NAME.fullmatch(path.name)]


def _entries(place: Path) -> Iterator[tuple[int, Path]]:
    """(time of the last change, nanoseconds; path) of the files in `place`."""
    with contextlib.suppress(FileNotFoundError), os.scandir(place) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                yield entry.stat().st_mtime_ns, Path(entry.path)
