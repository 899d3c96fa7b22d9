"""Taking a tree of records from one place to another: journals first, names that are one file kept so, what has
not changed since the last time linked instead of copied."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rig.errors import UsageProblem
from rig.records.chain import whole_lines
from rig.records.database import FILE
from rig.records.manifest import CHUNK, Digests, Entry, digest_from_disk
from rig.records.run import JOURNAL, list_runs
from rig.records.store import PURGED

_BY_HAND = "flash-writes.jsonl"  # of rig.line.writes; like a journal it is appended to
_BLOCKS = "blocks"
_OF_THE_MOMENT = ("live.json", "share.json")  # of a run: where it stands, how far the shared folder is
_RACY_NS = 2_000_000_000  # a file changed so short a time ago may change again within one tick of its time stamp


class Tree:
    """Takes files from `source` to `to`. `before`: the tree of the copy before, whose `known` files may be linked.
    `derived`: what can be made again is taken too.

    Raises OSError where `to` refuses. `problems` names what of the source cannot be read, and what of the copy before
    is not as it was.
    """

    def __init__(
        self,
        source: Path,
        to: Path,
        before: Path | None = None,
        known: dict[str, Entry] | None = None,
        *,
        derived: bool = False,
    ) -> None:
        self.entries: dict[str, Entry] = {}
        self.problems: list[str] = []
        self.digests: Digests = {}  # of files that were read back from the disk already
        self.runs = 0
        self.new = 0  # bytes that were written
        self._source, self._to, self._before, self._known = source, to, before, known or {}
        self._derived = derived
        self._taken: dict[tuple[int, ...], str] = {}  # of a file with several names: the first one
        self._modes: list[tuple[Path, int]] = []

    def take(self) -> None:
        """Everything. A journal comes before all that it names, so that this is in the copy if the line is."""
        top = [name for name in self._listed("") if self._derived or not _can_be_made_again(name)]
        self._folder("", self._source.stat())
        runs = {run.path.name for run in list_runs(self._source)}
        for run in [name for name in top if name in runs]:
            self.runs += 1
            self._folder(run, (self._source / run).stat())
            self._by_line(f"{run}/{JOURNAL}")
        if _BY_HAND in top:
            self._by_line(_BY_HAND)
        for name in top:
            self._any(name)
        for path, mode in reversed(self._modes):  # a folder that may not be written to is filled first
            _set_mode(path, mode)

    # -- what is there ---------------------------------------------------------------------------------

    def _any(self, name: str) -> None:
        """A file, or a folder with all in it. What is neither (a link, a socket) is left out and named."""
        path = self._source / name
        try:
            found = path.stat() if "/" not in name else path.lstat()  # `runs/backups` may be a link to another disk
        except FileNotFoundError:
            self._went(name)
            return
        if stat.S_ISDIR(found.st_mode):
            self._folder(name, found)
            for each in self._listed(name):
                self._any(f"{name}/{each}")
        elif not stat.S_ISREG(found.st_mode):
            self.problems.append(f"{path} is neither a file nor a folder and was not copied")
        elif name not in self.entries:
            self._file(name, found)

    def _listed(self, name: str) -> list[str]:
        """What is in a folder, but for files that are just being written: their names begin with a dot."""
        skipped = _OF_THE_MOMENT if name and "/" not in name and not self._derived else ()
        try:
            found = os.listdir(self._source / name)
        except OSError as problem:
            self.problems.append(f"{self._source / name} cannot be read and was not copied: {problem.strerror}")
            return []
        return sorted(each for each in found if not each.startswith(".") and each not in skipped)

    def _folder(self, name: str, found: os.stat_result) -> None:
        path = self._to / name
        if not path.is_dir():
            path.mkdir(mode=0o700)
            self._modes.append((path, stat.S_IMODE(found.st_mode)))

    def _went(self, name: str) -> None:
        """A file that went since its folder was read: it was purged and left a tombstone, or was on no record."""
        stone = f"{name}{PURGED}"
        if stone not in self.entries and (self._source / stone).is_file():
            self._file(stone, (self._source / stone).stat())

    # -- one file --------------------------------------------------------------------------------------

    def _file(self, name: str, found: os.stat_result) -> None:
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)  # an inode may be another file by now
        to, several = self._to / name, found.st_nlink > 1
        entry = Entry(name, found.st_size, stat.S_IMODE(found.st_mode), found.st_mtime_ns, "")
        first = self._taken.get(key) if several else None
        if first is not None and _linked(self._to / first, to):
            self.entries[name] = replace(self.entries[first], path=name)
            return
        old = self._known.get(name)
        if old is not None and replace(old, sha256="") == entry and self._link(old, to):
            self.entries[name] = old
        elif not self._copied(entry, to):
            return
        if several:
            self._taken[key] = name

    def _link(self, old: Entry, to: Path) -> bool:
        """The file of the copy before, once more: if it is still what it was."""
        if self._before is None:
            return False
        path = self._before / old.path
        try:
            found = path.lstat()
            key = (found.st_dev, found.st_ino)
            if stat.S_ISREG(found.st_mode) and key not in self.digests:
                self.digests[key] = digest_from_disk(path)
        except OSError:
            return False
        if self.digests.get(key) != old.sha256:
            self.problems.append(f"{path}, of the copy before, is not as it was copied; it was copied anew here")
            return False
        return _linked(path, to)

    def _copied(self, entry: Entry, to: Path) -> bool:
        """The file's content as it is now; False where the source cannot be read."""
        path, digest, size = self._source / entry.path, hashlib.sha256(), 0
        try:
            source = path.open("rb")
        except FileNotFoundError:
            self._went(entry.path)
            return False
        except OSError as problem:
            self._unread(path, problem)
            return False
        with source, _created(to) as file:
            while True:
                try:
                    chunk, after = source.read(CHUNK), os.fstat(source.fileno())
                except OSError as problem:
                    self._unread(path, problem)
                    to.unlink()
                    return False
                if not chunk:
                    break
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
        self._dress(to, entry.mode, after.st_mtime_ns, size)
        settled = (after.st_size, after.st_mtime_ns) == (size, entry.mtime_ns)
        racy = time.time_ns() - after.st_mtime_ns < _RACY_NS
        mtime_ns = entry.mtime_ns if settled and not racy else None
        self.entries[entry.path] = replace(entry, size=size, mtime_ns=mtime_ns, sha256=digest.hexdigest())
        return True

    def _by_line(self, name: str) -> None:
        """A file that is appended to, up to its last whole line; the copy before must be its beginning."""
        path, to = self._source / name, self._to / name
        try:
            lines, found = whole_lines(path), path.stat()
        except (UsageProblem, OSError) as problem:
            self.problems.append(f"{str(problem).rstrip('.')}; it was not copied")
            return
        if lines and not _is_json(lines[-1]):
            lines.pop()  # torn by a crash: whoever goes on with it cuts it off
        content = b"".join(line + b"\n" for line in lines)
        entry = Entry(name, len(content), stat.S_IMODE(found.st_mode), None, hashlib.sha256(content).hexdigest())
        old = self._known.get(name)
        if old is not None and hashlib.sha256(content[: old.size]).hexdigest() != old.sha256:
            self.problems.append(
                f"{path} does not go on from what was copied before: lines of it were changed or removed since. The "
                "earlier copy stays as it is"
            )
        self.entries[name] = entry
        if old == entry and self._link(entry, to):
            return
        with _created(to) as file:
            file.write(content)
        self._dress(to, entry.mode, found.st_mtime_ns, len(content))

    def _dress(self, to: Path, mode: int, mtime_ns: int, size: int) -> None:
        _set_mode(to, mode)
        os.utime(to, ns=(mtime_ns, mtime_ns))
        self.new += size

    def _unread(self, path: Path, problem: OSError) -> None:
        self.problems.append(f"{path} cannot be read and was not copied: {problem.strerror}")


# -- inside --------------------------------------------------------------------------------------------


def _can_be_made_again(name: str) -> bool:
    """Of what stands beside the runs: the database and its company, blocks of flash."""
    return name in (_BLOCKS, FILE) or name.startswith((f"{FILE}-", f"{FILE}."))


@contextlib.contextmanager
def _created(path: Path) -> Iterator[io.BufferedWriter]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        yield file


def _set_mode(path: Path, mode: int) -> None:
    with contextlib.suppress(PermissionError):  # a disk that keeps none, which is said of all of it
        path.chmod(mode)


def _linked(path: Path, to: Path) -> bool:
    """A second name for a file; False on a disk that has none, or where the file is not there."""
    try:
        os.link(path, to, follow_symlinks=False)
    except OSError:
        return False
    return True


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
