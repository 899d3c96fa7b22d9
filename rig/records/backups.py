"""Backups by board identity: the first complete one of a board stays its backup.

    runs/backups/<identity>/<sha256>.bin.zst    the content, compressed, 0600
    runs/backups/<identity>/first               the sha256 of the first complete one

Later reads of the same board (a retry, a study) are kept beside it under their own hash and never replace it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import zstandard

from rig.errors import UnitFailed, UsageProblem
from rig.files import fsync_dir, write_durably
from rig.records.run import safe_name


@dataclass(frozen=True)
class Backup:
    """One stored backup. `path` is the compressed file, `sha256` and `size` are of its content."""

    identity: str
    path: Path
    sha256: str
    size: int

    def content(self) -> bytes:
        """The flash as it was. Raises UsageProblem when the file no longer holds what it should."""
        try:
            data = zstandard.ZstdDecompressor().decompress(self.path.read_bytes(), max_output_size=self.size)
        except (OSError, zstandard.ZstdError) as problem:
            raise UsageProblem(f"the backup {self.path} cannot be read: {problem}") from None
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise UsageProblem(f"the backup {self.path} is damaged: its content has another sha256")
        return data


class BackupStore:
    """All backups under one folder (0700: dumps hold Wi-Fi passwords)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def first(self, identity: str) -> Backup | None:
        """The backup of a board, None if it has none yet. UsageProblem for one that is on record and not there."""
        mark = self._board(identity) / "first"
        if not mark.exists():
            return None
        try:
            meta = json.loads(mark.read_text())
            backup = Backup(identity, self._path(identity, meta["sha256"]), meta["sha256"], meta["size"])
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise UsageProblem(f"{mark}, which names the backup of {identity}, cannot be read: {problem}") from None
        if not backup.path.exists():
            raise UsageProblem(
                f"the backup of {identity} is gone: {backup.path}; put it back, or remove {mark} to let the next "
                "read of the board become its backup"
            )
        return backup

    def keep(self, identity: str, data: bytes) -> Backup:
        """Store `data` durably and read it back; it becomes the board's backup if it is the first.

        `data` must be complete and agree with the chip's CRC: that is the caller's word. Raises UnitFailed for
        content that is no backup (all zero: a flash that cannot be read), OSError when the disk refuses.
        """
        if not any(data):
            raise UnitFailed("unreadable", "the flash reads as zeros only: that is no backup")
        digest = hashlib.sha256(data).hexdigest()
        backup = Backup(identity, self._path(identity, digest), digest, len(data))
        self._make(self.folder)
        self._make(self._board(identity))
        if not backup.path.exists():
            write_durably(backup.path, zstandard.ZstdCompressor(level=3).compress(data), private=True)
        backup.content()
        if self.first(identity) is None:
            meta = asdict(backup) | {"path": backup.path.name, "utc": datetime.now(UTC).isoformat()}
            write_durably(self._board(identity) / "first", json.dumps(meta) + "\n", private=True)
        fsync_dir(self._board(identity))  # also what an earlier try, which failed or was killed, has only renamed
        return backup

    def _make(self, folder: Path) -> None:
        """A folder that survives a power cut, as what is put in it must; also one that an earlier try made."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fsync_dir(folder.parent)

    def _board(self, identity: str) -> Path:
        return self.folder / safe_name(identity)

    def _path(self, identity: str, digest: str) -> Path:
        return self._board(identity) / f"{digest}.bin.zst"
