"""The artifact store: every kept file once more, under the sha256 of its content.

    runs/artifacts/<2 hex digits>/<sha256>            0600
    runs/artifacts/<2 hex digits>/<sha256>.purged     what is left of one that was purged: a tombstone, JSON

The files in a run's `units/` are for people; this is what a record names. Where the file system can, both are one
file with two names, so the store takes no room.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from rig.files import fsync_dir, write_durably

FOLDER = "artifacts"
PURGED = ".purged"


@dataclass(frozen=True)
class Tombstone:
    """What is left of a purged file: what it was, how big, and since when it is gone."""

    sha256: str
    size: int  # bytes
    utc: str
    why: str


def tombstone_of(path: Path) -> Tombstone | None:
    """The tombstone in the place of `path`; None where there is none that can be read."""
    try:
        told = json.loads(path.with_name(path.name + PURGED).read_text())
        return Tombstone(str(told["sha256"]), int(told["size"]), str(told["utc"]), str(told["why"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def bury(path: Path, stone: Tombstone) -> None:
    """Put a tombstone in a file's place; the file goes only once the stone is on disk. Raises OSError."""
    write_durably(path.with_name(path.name + PURGED), json.dumps(asdict(stone)) + "\n", private=True)
    path.unlink(missing_ok=True)
    fsync_dir(path.parent)


class ArtifactStore:
    """All artifacts under one folder (0700: logs hold Wi-Fi passwords)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Where content of this sha256 stands, if it is there."""
        return self.folder / sha256[:2] / sha256

    def put(self, path: Path) -> str:
        """Keep a file's content, durably; returns its sha256. The file is 0600 from then on, and must not be written
        to any more (replacing it is fine). Raises OSError when the disk refuses."""
        self._make(self.folder)
        temporary = self.folder / f".{secrets.token_hex(8)}"
        try:
            _link_or_copy(path, temporary)
            digest = sha256_of(temporary, sync=True)
            wanted = self.path(digest)
            self._make(wanted.parent)
            if not (wanted.is_file() and sha256_of(wanted) == digest):
                os.replace(temporary, wanted)
                fsync_dir(wanted.parent)
            return digest
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()

    def holds(self, sha256: str) -> bool | None:
        """Whether the content is there as it was put; None: nothing is there at all. Raises OSError."""
        try:
            return sha256_of(self.path(sha256)) == sha256
        except FileNotFoundError:
            return None

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fsync_dir(folder.parent)


def sha256_of(path: Path, *, sync: bool = False) -> str:
    """A file's sha256; with `sync` the file is on disk when this returns. Raises OSError."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if sync:
            os.fsync(file.fileno())
    return digest


def _link_or_copy(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError:  # another file system, or one without links
        shutil.copyfile(path, to)
    to.chmod(0o600)
