"""What a copy of the records holds: every file with its size, its rights and its sha256. So a copy can be checked
years later, without what it was copied from.

    manifest.jsonl      first line: the copy; then one line a file, by path
    runs/...            the files
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rig.errors import RigError, UsageProblem
from rig.files import write_durably

NAME = "manifest.jsonl"
TREE = "runs"
FORMAT = 1  # of the manifest; another one is refused
CHUNK = 1 << 20  # bytes
MOST_NAMED = 20  # of files that are not as they were copied; the rest is counted
Digests = dict[tuple[int, int], str]
"""sha256 by device and inode: a file with two names is read once."""


class CopyProblem(RigError):
    """A copy could not be made, read or put back. What was there before is as it was."""


@dataclass(frozen=True)
class Entry:
    """A file of a copy. `mtime_ns`: of the source when it was copied; None where it may have been changing."""

    path: str  # below `runs`, with slashes
    size: int  # bytes
    mode: int  # permission bits
    mtime_ns: int | None
    sha256: str


@dataclass
class Manifest:
    """All of one copy. `source`, `host`: where it was taken from; `rig`: by which version."""

    utc: str
    source: str
    host: str
    rig: str
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files; one with two names counts twice."""
        return sum(entry.size for entry in self.entries.values())

    def write(self, copy: Path) -> None:
        """Durably, into the copy's folder. Raises OSError."""
        head = {"format": FORMAT, "utc": self.utc, "source": self.source, "host": self.host, "rig": self.rig}
        told = [head | {"files": len(self.entries)}]
        told += [asdict(self.entries[path]) for path in sorted(self.entries)]
        text = "".join(json.dumps(each, ensure_ascii=True) + "\n" for each in told)
        write_durably(copy / NAME, text, private=True)


def read_manifest(copy: Path) -> Manifest:
    """Raises UsageProblem where there is none, CopyProblem where it is damaged."""
    path = copy / NAME
    try:
        first, *rest = path.read_text(encoding="ascii").splitlines()
        head = json.loads(first)
        if head["format"] != FORMAT:
            raise UsageProblem(f"{copy} is a copy of format {head['format']}; this rig reads format {FORMAT}")
        found = Manifest(head["utc"], head["source"], head["host"], head["rig"])
        for line in rest:
            entry = Entry(**json.loads(line))
            _plain(entry.path)
            found.entries[entry.path] = entry
        if len(rest) != head["files"]:
            raise ValueError(f"it names {len(rest)} files of {head['files']}")
    except FileNotFoundError:
        raise UsageProblem(f"{copy} is no copy of records: it has no {NAME}") from None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise CopyProblem(f"{path}, which says what the copy holds, is damaged or was edited: {problem}.") from None
    return found


def sum_of(copy: Path) -> str:
    """The sha256 of the manifest: who has it on paper can tell whether anything of a copy was changed since."""
    try:
        return hashlib.sha256((copy / NAME).read_bytes()).hexdigest()
    except OSError as problem:
        raise UsageProblem(f"{copy} is no copy of records: {problem.strerror}") from None


def check(copy: Path, *, wanted: str | None = None) -> list[str]:
    """Every file read back from the disk and compared; sentences on what is not as it was copied.

    `wanted`: the manifest's sum as it was noted. Raises UsageProblem, CopyProblem where there is nothing to compare.
    """
    if wanted is not None and (own := sum_of(copy)) != wanted.strip().lower():
        return [f"the sum of {copy / NAME} is {own}, not the one that was given: it was edited, or is another copy's"]
    return differences(copy / TREE, read_manifest(copy).entries)


def differences(tree: Path, entries: Mapping[str, Entry], read: Digests | None = None) -> list[str]:
    """Every file of a tree read back from the disk, but those whose inode was `read` already; sentences on what is
    missing, another, or too much. At most MOST_NAMED, the rest is counted."""
    seen, problems = dict(read or {}), []
    for entry in entries.values():
        if (why := _not_as_copied(tree / entry.path, entry, seen)) is not None:
            problems.append(f"{tree / entry.path} {why}")
    there = set(files(tree))
    problems += [f"{tree / path} was put in: the manifest has no such" for path in sorted(there - entries.keys())]
    if len(problems) > MOST_NAMED:
        problems[MOST_NAMED:] = [f"{len(problems) - MOST_NAMED} more files are not as they were copied"]
    return problems


def files(tree: Path) -> Iterator[str]:
    """All files below a folder, by path with slashes, links not followed."""
    for folder, _, names in os.walk(tree):
        below = Path(folder).relative_to(tree)
        yield from ((below / name).as_posix() for name in names)


def digest_from_disk(path: Path) -> str:
    """The sha256 of what the disk holds, as far as that can be asked: what is in memory of it is dropped first."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _not_as_copied(path: Path, entry: Entry, seen: Digests) -> str | None:
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            return "is no file any more"
        key = (found.st_dev, found.st_ino)
        if key not in seen:
            seen[key] = digest_from_disk(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as problem:
        return f"cannot be read: {problem.strerror}"
    if seen[key] != entry.sha256:
        return "was edited or damaged: its content has another sha256"
    return None


def _plain(path: str) -> None:
    """A path that stays below its folder. ValueError."""
    if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"{path!r} is no path of a file in it")
