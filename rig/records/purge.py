"""Old evidence made to go: what was kept of a unit is replaced by tombstones, which name it and prove nothing else.

Journals and reports stay: who made what, with which outcome and numbers, is never purged. A board's backup goes only
when that is asked for: nothing else brings its factory firmware, its keys and its radio calibration back.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from rig.errors import UsageProblem
from rig.files import fsync_dir
from rig.records.events import ArtifactKept, BackupKept, Event, WriteBegun, WriteEnded
from rig.records.journal import is_live, read_journal
from rig.records.run import RunFolder, list_runs
from rig.records.store import FOLDER, PURGED, ArtifactStore, Tombstone, bury, sha256_of

_BY_HAND = "flash-writes.jsonl"  # of rig.line.writes


@dataclass
class Doomed:
    """What a purge would take: files with what their records say they are, and files on no record."""

    runs: list[str] = field(default_factory=list)
    artifacts: list[tuple[Path, str]] = field(default_factory=list)  # path, sha256
    others: list[Path] = field(default_factory=list)  # samples, what a unit's process printed: on no record
    backups: list[tuple[Path, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes; a file that is in the store too counts once."""
        seen: dict[tuple[int, int], int] = {}
        for path in [*(each for each, _ in self.artifacts), *self.others, *(each for each, _ in self.backups)]:
            with contextlib.suppress(OSError):
                told = path.stat()
                seen[told.st_dev, told.st_ino] = told.st_size
        return sum(seen.values())


def moment(text: str) -> datetime:
    """`--older`: a number of days before now, or a date (UTC). Raises UsageProblem."""
    with contextlib.suppress(ValueError, OverflowError):
        days = float(text)
        if days >= 0:
            return datetime.now(UTC) - timedelta(days=days)
    with contextlib.suppress(ValueError):
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    raise UsageProblem(f"--older {text}: a number of days, or a date like 2026-05-31")


def find(runs: Path, before: datetime, *, backups: bool = False) -> Doomed:
    """What runs whose last event is older than `before` have kept, and no younger run refers to.

    A run that goes on is never touched, and nothing is where a journal cannot be read. The backup of a board that was
    left half written stays, whatever its age, as does that of one that `rig flash` wrote to since.
    """
    doomed = Doomed()
    by_hand = _written_by_hand(runs, before) if backups else set()
    needed: set[str] = set()  # sha256 of what younger runs refer to
    old: list[tuple[RunFolder, list[ArtifactKept | BackupKept]]] = []
    for run in list_runs(runs):
        try:
            events, _ = read_journal(run.journal)
        except UsageProblem as problem:
            raise UsageProblem(f"Nothing was purged, as it cannot be told what is still needed: {problem}") from None
        kept = [event for event in events if isinstance(event, ArtifactKept | BackupKept)]
        if is_live(run.journal) or not events or events[-1].utc >= before:
            needed |= {event.sha256 for event in kept}
        else:
            old.append((run, kept))
            half = {event.unit for event in kept} & _half_written(events)
            for event in kept:
                if isinstance(event, BackupKept) and (event.unit in half or event.identity in by_hand):
                    needed.add(event.sha256)
                    if backups:
                        why = "was left half written" if event.unit in half else "was written to by hand since"
                        doomed.remarks.append(
                            f"the backup of unit {event.unit} of run {run.id} stays: its board {why}"
                        )
    store = ArtifactStore(runs / FOLDER)
    for run, kept in old:
        doomed.runs.append(run.id)
        _of_run(doomed, run, kept, store, needed, backups)
    doomed.artifacts = list(dict(doomed.artifacts).items())
    doomed.backups = list(dict(doomed.backups).items())
    return doomed


def purge(doomed: Doomed, why: str) -> None:
    """Do it. Interrupted, it can be done again. Raises OSError."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for path, sha256 in [*doomed.artifacts, *doomed.backups]:
        if path.exists():
            bury(path, Tombstone(sha256, path.stat().st_size, now, why))
    for path, sha256 in doomed.backups:
        mark = path.parent / "first"  # a board that comes again gets a new first backup, not an error
        with contextlib.suppress(FileNotFoundError):
            if sha256 in mark.read_text():
                mark.unlink()
                fsync_dir(mark.parent)
    for path in doomed.others:
        path.unlink(missing_ok=True)


def _half_written(events: Sequence[Event]) -> set[str]:
    """Units whose last write has no end in this run."""
    found: set[str] = set()
    for event in events:
        if isinstance(event, WriteBegun):
            found.add(event.unit)
        elif isinstance(event, WriteEnded):
            found.discard(event.unit)
    return found


def _written_by_hand(runs: Path, since: datetime) -> set[str]:
    """Boards, by identity, that `rig flash` wrote to since then; a line that a crash tore is passed over."""
    found: set[str] = set()
    try:
        lines = (runs / _BY_HAND).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            told = json.loads(line)
            if datetime.fromisoformat(told["utc"]) >= since:
                found |= {told["identity"], told.get("also", told["identity"])}
    return found


def _of_run(
    doomed: Doomed,
    run: RunFolder,
    kept: Sequence[ArtifactKept | BackupKept],
    store: ArtifactStore,
    needed: set[str],
    backups: bool,
) -> None:
    on_record: set[Path] = set()
    for event in kept:
        path = (run.path / event.path).resolve()
        if isinstance(event, BackupKept):
            on_record.add(path)
            kept_backup = path.is_relative_to((store.folder.parent / "backups").resolve()) and path.exists()
            if backups and kept_backup and event.sha256 not in needed:
                doomed.backups.append((path, event.sha256))
            continue
        on_record.add(path)
        for each in (path, store.path(event.sha256)):
            inside = each.is_relative_to(run.units.resolve()) or each.parent.parent == store.folder
            if not inside or not each.exists() or (each != path and event.sha256 in needed):
                continue
            if sha256_of(each) != event.sha256:
                doomed.remarks.append(f"{each} is not what was kept there and stays; see `rig records verify`")
            else:
                doomed.artifacts.append((each, event.sha256))
    doomed.others += [
        path
        for path in sorted(run.units.resolve().rglob("*"))
        if path.is_file() and path not in on_record and not path.name.endswith(PURGED)
    ]
    pages = run.report / "unit-pages"  # boot logs are in them; the report itself holds none and stays
    if not (run.report.is_symlink() or pages.is_symlink()):
        doomed.others += sorted(path for path in pages.glob("*.html") if path.is_file())
