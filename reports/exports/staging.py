"""A folder of files that appears whole: written beside its place, fsynced, then moved into it."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rig.errors import UsageProblem
from rig.files import fsync_dir, why_unreadable


@contextmanager
def staged(target: Path, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """An empty folder that becomes `target` when the block ends well; else nothing stays of it.

    A `target` that is there already is replaced, if it holds nothing but files that `is_ours` (told their path in it)
    knows: such an export's. Raises UsageProblem where it holds others, and for every OSError, the block's too.
    """
    target = target.resolve()
    stage = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    try:
        _refuse_strangers(target, is_ours)
        target.parent.mkdir(parents=True, exist_ok=True)
        stage.mkdir()
        try:
            yield stage
            _settle(stage)
            _take_place(stage, target)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        fsync_dir(target.parent)
    except OSError as problem:
        why = os.strerror(problem.errno).lower() if problem.errno else why_unreadable(problem)  # Arrow's say more
        raise UsageProblem(f"The export cannot be written to {target}: {why}.") from problem


def files(folder: Path) -> list[Path]:
    """All files in it, sorted."""
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _refuse_strangers(target: Path, is_ours: Callable[[Path], bool]) -> None:
    for place in (target, *target.parents):
        if place.exists() and not place.is_dir():
            raise UsageProblem(f"The export cannot be written to {target}: {place} is a file.")
    if not target.is_dir():
        return
    strange = next((path for path in files(target) if not is_ours(path.relative_to(target))), None)
    if strange is not None:
        raise UsageProblem(
            f"The export would replace {target}, and {strange.relative_to(target)} in it is not from an export: "
            "move that file, or choose another folder."
        )


def _settle(folder: Path) -> None:
    """On disk, not only on its way. All is written by now, so most of these have nothing left to do."""
    folders = {folder}
    for path in files(folder):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        folders.add(path.parent)
    for each in folders:
        fsync_dir(each)


def _take_place(stage: Path, target: Path) -> None:
    if not target.exists():
        stage.rename(target)
        return
    old = target.parent / f"{stage.name}.old"
    target.rename(old)
    try:
        stage.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
