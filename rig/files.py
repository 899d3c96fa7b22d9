"""Durable files: written whole or not at all, private where they hold secrets."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def why_unreadable(problem: OSError | UnicodeError) -> str:
    """In plain words, for a sentence that has the file's name already."""
    if isinstance(problem, UnicodeError):
        return "it is not text in UTF-8"
    return (problem.strerror or str(problem)).lower()


def fsync_dir(folder: Path) -> None:
    """Make a rename or a new file in `folder` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, data: bytes | str, *, private: bool = False) -> None:
    """Write, fsync, rename: after this returns the file is on disk whole; before, the old one is.

    `private` files (backups, logs: they hold Wi-Fi passwords) are 0600, others follow the umask.
    Raises OSError; the half-written temporary never stays behind.
    """
    raw = data.encode() if isinstance(data, str) else data
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if private else 0o666)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    fsync_dir(path.parent)
