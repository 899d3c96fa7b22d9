"""Kept files and backups once more, in a folder that stations share (`[records] artifacts`).

    <share>/artifacts/<2 hex>/<sha256>             as in runs/artifacts, see `store`
    <share>/backups/<identity>/<sha256>.bin.zst    as in runs/backups, see `backups`
    <share>/backups/<identity>/first               the first backup that any station made of that board

Each file is named by its content, so that two stations never write different things under one name; it is written
beside its place, read back, and moved there whole. A network's folder can hang for good, so a process of its own
copies (`python -m rig.records.share RUNS SHARE`), after the units, and the line never waits for it.
`<run>/share.json` says how many lines of a journal have their files there; what was missed is caught up by the next
run or `rig records catch-up`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rig.files import write_durably
from rig.records.chain import whole_lines
from rig.records.run import RunFolder, list_runs, safe_name
from rig.records.store import FOLDER, PURGED, sha256_of

MARK = "share.json"
PATIENCE_S = 10.0  # for what is left when a run ends
_LOOK_S = 2.0
_RETRY_S = 10.0  # while the folder is away
_KINDS = (b'"artifact-kept"', b'"backup-kept"')


def catch_up(runs: Path, share: Path, *, only: RunFolder | None = None) -> tuple[int, list[str]]:
    """Copy what the folder lacks of all runs in `runs`, or of one: how many files, and sentences on those that could
    not be, each of which is tried again the next time. Raises OSError where the folder cannot be written."""
    if not share.is_dir():
        raise FileNotFoundError(2, "it is not there (not mounted?)", str(share))
    copied, problems = 0, list[str]()
    for run in [only] if only is not None else list_runs(runs):
        lines = whole_lines(run.journal)
        done = _done(run)
        if done >= len(lines):
            continue
        missed = False
        for event in _kept(lines[done:]):
            try:
                copied += _copy(event, run, share)
            except _Wrong as problem:
                missed = True
                problems.append(str(problem))
        if not missed:
            write_durably(run.path / MARK, json.dumps({"lines": len(lines)}) + "\n")
    return copied, problems


class Share:
    """The process that copies, while a run lasts. `warn` is told once what is wrong, again after it was right."""

    def __init__(self, runs: Path, share: Path, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._share = share
        words = [sys.executable, "-m", "rig.records.share", str(runs.absolute()), str(share.absolute())]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment
        )
        self._thread = threading.Thread(target=self._listen, name="share", daemon=True)
        self._thread.start()

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """What is left is copied, for so long; a folder that hangs is left to hang."""
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        if self._process.poll() is None:
            self._process.kill()  # one that hangs in the folder dies when that comes back
            self._warn(
                f"The shared folder {self._share} did not take all in {patience_s:g} s: it is caught up later."
            )
            return
        self._thread.join(1)

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._warn(line.strip())


# -- the process ---------------------------------------------------------------------------------------


def main(runs: Path, share: Path) -> None:
    """Until stdin ends, then once more."""
    over = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    problem: str | None = None
    while True:
        last = over.is_set()
        try:
            _, problems = catch_up(runs, share)
            said = problems[0] if problems else None
        except OSError as wrong:
            said = f"Files cannot be kept in the shared folder {share}: {wrong.strerror or wrong}"
        if said is not None and said != problem:
            print(f"{said.rstrip('.')}. The run goes on, and it is caught up later.", flush=True)  # noqa: T201
        problem = said
        if last:
            return
        over.wait(_LOOK_S if problem is None else _RETRY_S)


# -- inside --------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """One file that is not what its name says, or is not there."""


def _done(run: RunFolder) -> int:
    try:
        return int(json.loads((run.path / MARK).read_text())["lines"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _kept(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if any(kind in line for kind in _KINDS):
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event.get("kind") in ("artifact-kept", "backup-kept"):
                    yield event


def _copy(event: dict[str, Any], run: RunFolder, share: Path) -> bool:
    """Whether anything had to be copied."""
    sha256 = str(event["sha256"])
    if event["kind"] == "artifact-kept":
        source, wanted = run.path / event["path"], share / FOLDER / sha256[:2] / sha256
        own = run.path.parent / FOLDER / sha256[:2] / sha256
        if wanted.is_file():
            return False
        if not source.is_file() or sha256_of(source) != sha256:
            source = own  # an earlier file of that name was replaced since
        if not source.is_file():
            if any(path.with_name(path.name + PURGED).exists() for path in (own, run.path / event["path"])):
                return False
            raise _Wrong(f"{run.path / event['path']} is gone before it came to the shared folder")
        _place(source, wanted, lambda path: sha256_of(path) == sha256)
        return True
    source = (run.path / event["path"]).resolve()
    folder = share / "backups" / safe_name(str(event["identity"]))
    wanted = folder / f"{sha256}.bin.zst"
    new = not wanted.is_file()
    if new:
        if not source.is_file():
            if source.with_name(source.name + PURGED).exists():
                return False
            raise _Wrong(f"the backup {source} is gone before it came to the shared folder")
        _place(source, wanted, lambda path: _unpacked(path, int(event["size"])) == sha256)
    _mark_first(folder, source.with_name("first"))
    return new


def _place(source: Path, wanted: Path, good: Callable[[Path], bool]) -> None:
    """A copy that was read back and found good, moved to its place whole. Raises OSError, and _Wrong for a source
    that is damaged."""
    wanted.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = wanted.with_name(f".{wanted.name}.{secrets.token_hex(4)}")
    try:
        shutil.copyfile(source, temporary)
        temporary.chmod(0o600)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if not good(temporary):
            raise _Wrong(f"{source} is not what it was when it was kept: it was not copied to the shared folder")
        os.replace(temporary, wanted)
    finally:
        temporary.unlink(missing_ok=True)


def _unpacked(path: Path, size: int) -> str:
    """The sha256 of what is packed in a backup."""
    import zstandard

    try:
        data = zstandard.ZstdDecompressor().decompress(path.read_bytes(), max_output_size=size)
    except zstandard.ZstdError:
        return ""
    return hashlib.sha256(data).hexdigest()


def _mark_first(folder: Path, own: Path) -> None:
    """The first station's mark stays: a link is made, or it is there."""
    if (folder / "first").exists() or not own.is_file():
        return
    temporary = folder / f".first.{secrets.token_hex(4)}"
    try:
        shutil.copyfile(own, temporary)
        temporary.chmod(0o600)
        with contextlib.suppress(FileExistsError):
            try:
                os.link(temporary, folder / "first")
            except OSError as problem:
                if isinstance(problem, FileExistsError):
                    raise
                os.rename(temporary, folder / "first")  # a folder without links
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
