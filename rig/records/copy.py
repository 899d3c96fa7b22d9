"""Copies of the records on another disk, and their way back.

    TO/20261123-131500/        one copy, whole and by itself: `rig records verify --out TO/20261123-131500/runs`
    TO/.partial-…              one that was cut off; the next one removes it

A file that has not changed since the copy before is a hard link to that copy's, so a copy a night costs what is new.
What is derived (database, cache, blocks, live.json, share.json) is left out. Journals are copied first and all
else after them: what a journal names was on disk before it, so a copy is consistent while a batch runs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rig.errors import UsageProblem
from rig.files import fsync_dir
from rig.records.manifest import NAME, TREE, CopyProblem, Manifest, differences, read_manifest, sum_of
from rig.records.run import list_runs
from rig.records.tree import Tree

_PARTIAL, _GONE, _LOCK = ".partial-", ".gone-", ".lock"


@dataclass
class Copied:
    """A copy that was made. Sizes in bytes; `new`: what was not there before. `problems`: what could not be copied,
    what is no continuation of what was copied before, what of that was damaged; `remarks`: what else to know."""

    path: Path
    runs: int
    files: int
    size: int
    new: int
    sum: str
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # older copies that were removed


def backup(runs: Path, to: Path, *, keep: int | None = None) -> Copied:
    """Copy all records in `runs` into a new folder in `to`, and read all of it back. `keep`: so many copies stay,
    older ones are removed once this one is found whole.

    Raises UsageProblem for folders that make no sense, CopyProblem where `to` refuses (a full disk); earlier copies
    are then as they were, and of this one nothing is left.
    """
    _check_places(runs, to)
    now = datetime.now(UTC)
    try:
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(to):
            _sweep(to)
            return _backup(runs, to, now, keep)
    except OSError as problem:
        raise CopyProblem(
            f"The copy into {to} was given up: {_said(problem)}. Earlier copies are as they were; of this one "
            "nothing is left."
        ) from problem


def copies(to: Path) -> list[Path]:
    """Whole copies in a folder, oldest first."""
    if not to.is_dir():
        return []
    return sorted(path for path in to.iterdir() if not path.name.startswith(".") and (path / NAME).is_file())


def find_copy(where: Path) -> Path:
    """A copy, or the newest in a folder of copies. Raises UsageProblem."""
    if (where / NAME).is_file():
        return where
    if found := copies(where):
        return found[-1]
    raise UsageProblem(f"There is no copy of records in {where}.")


def restore(copy: Path, runs: Path) -> None:
    """Put a copy back as `runs`, which must not be there yet, or be empty: nothing is ever overwritten.

    The copy should have been checked. Raises UsageProblem, CopyProblem; `runs` is then as it was.
    """
    read_manifest(copy)
    if runs.is_symlink() or (runs.exists() and (not runs.is_dir() or any(runs.iterdir()))):
        raise UsageProblem(
            f"{runs} has something in it, and a copy never overwrites: name a folder that is not there yet with --out"
        )
    fresh = runs.with_name(f".restore-{secrets.token_hex(4)}")
    try:
        runs.parent.mkdir(parents=True, exist_ok=True)
        took = Tree(copy / TREE, fresh, derived=True)
        try:
            took.take()
            _settle(fresh)
            if damaged := differences(fresh, took.entries):
                raise OSError(errno.EIO, f"what was written does not read back: {damaged[0]}")
            if runs.exists():
                runs.rmdir()
            os.replace(fresh, runs)
            fsync_dir(runs.parent)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as problem:
        raise CopyProblem(
            f"The copy was not put back into {runs}: {_said(problem)}. Nothing is left of it."
        ) from problem
    if took.problems:
        raise CopyProblem(f"The copy was put back into {runs} but for this: {'; '.join(took.problems)}.")


# -- one copy ------------------------------------------------------------------------------------------


def _backup(runs: Path, to: Path, now: datetime, keep: int | None) -> Copied:
    earlier = copies(to)
    problems: list[str] = []
    remarks: list[str] = []
    before, known = (earlier[-1] / TREE if earlier else None), {}
    if earlier:
        try:
            known = read_manifest(earlier[-1]).entries
        except (CopyProblem, UsageProblem) as problem:
            problems.append(f"everything was copied anew: {str(problem).rstrip('.')}")
            before = None
    partial = to / f"{_PARTIAL}{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    try:
        partial.mkdir(mode=0o700)
        if stat.S_IMODE(partial.stat().st_mode) != 0o700:
            remarks.append(f"the disk of {to} keeps no permissions: whoever can read it can read passwords and keys")
        tree = Tree(runs, partial / TREE, before, known)
        tree.take()
        manifest = Manifest(
            now.isoformat(timespec="seconds"), str(runs.absolute()), platform.node(), metadata.version("rig"),
            tree.entries,
        )  # fmt: skip
        manifest.write(partial)
        _settle(partial)
        if damaged := differences(partial / TREE, tree.entries, tree.digests):
            raise OSError(errno.EIO, f"what was written does not read back: {damaged[0]}")
        place = _free_name(to, now)
        os.replace(partial, place)
        fsync_dir(to)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if to.stat().st_dev == runs.stat().st_dev:
        remarks.append(f"{to} is on the same disk as {runs}: what that disk takes with it is gone in both")
    problems += tree.problems
    made = Copied(place, tree.runs, len(tree.entries), manifest.size, tree.new, sum_of(place), problems, remarks)
    if keep is not None and not made.problems:
        for old in copies(to)[:-keep]:
            _remove(old)
            made.gone.append(old.name)
    return made


# -- inside --------------------------------------------------------------------------------------------


def _check_places(runs: Path, to: Path) -> None:
    if not list_runs(runs):
        raise UsageProblem(f"There is no run in {runs}.")
    source, target = runs.resolve(), to.resolve()
    if target == source or target.is_relative_to(source) or source.is_relative_to(target):
        raise UsageProblem(
            f"{to} and {runs} are one inside the other: a copy belongs elsewhere, best on another disk"
        )
    if to.exists() and not to.is_dir():
        raise UsageProblem(f"{to} is not a folder: copies are folders, a new one in it each time")


@contextlib.contextmanager
def _alone(to: Path) -> Iterator[None]:
    """One copy at a time."""
    fd = os.open(to / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageProblem(f"another copy into {to} is being made just now") from None
        yield
    finally:
        os.close(fd)


def _sweep(to: Path) -> None:
    """Away with what was cut off."""
    for path in to.iterdir():
        if path.name.startswith((_PARTIAL, _GONE)):
            shutil.rmtree(path, ignore_errors=True)


def _remove(copy: Path) -> None:
    """First its name, so that half of a copy never looks like one."""
    gone = copy.with_name(f"{_GONE}{copy.name}")
    os.replace(copy, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _free_name(to: Path, now: datetime) -> Path:
    place, number = to / f"{now:%Y%m%d-%H%M%S}", 1
    while place.exists():
        number += 1
        place = to / f"{now:%Y%m%d-%H%M%S}-{number}"
    return place


def _settle(folder: Path) -> None:
    """All that was written is on disk: one order for the whole file system, far quicker than one a file."""
    os.sync()
    fsync_dir(folder)


def _said(problem: OSError) -> str:
    where = f" ({problem.filename})" if problem.filename else ""
    return f"{(problem.strerror or str(problem)).lower()}{where}"
