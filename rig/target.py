"""Where a command is to write: looked at before anything is switched on, not after minutes of reading."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rig.errors import UsageProblem


def check_file(path: Path) -> None:
    """A file can be written at `path`; nothing is made or left behind. Raises UsageProblem."""
    if path.is_dir():
        raise UsageProblem(f"{path} is a folder: name a file")
    check_folder(path.parent, path)


def check_folder(folder: Path, what: Path | None = None) -> None:
    """Files can be written in `folder`, or in the folder it would be made in. UsageProblem names `what`."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()  # tried, not asked: to root, everything looks writable
    except OSError as problem:
        reason = "it is no folder" if not there.is_dir() else problem.strerror
        raise UsageProblem(f"cannot write {what or folder}: {there}: {reason}") from None
