"""Whether what is on record is what was recorded: journals by their chain, kept files by their sha256, the database
by the journals it is derived from. Nothing is changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from rig.errors import UsageProblem
from rig.records import chain
from rig.records.backups import Backup
from rig.records.database import BY_LINE, DatabaseProblem, contents, file_of, opened, read_rows, rows_by_table
from rig.records.events import ArtifactKept, BackupKept, parser
from rig.records.rows import Row
from rig.records.run import RunFolder
from rig.records.store import FOLDER, PURGED, ArtifactStore, sha256_of, tombstone_of

Verdict = Literal["self-consistent", "same", "continued", "other", "damaged", "unchained"]
MOST_NAMED = 20  # of rows that differ in one table; the rest is counted
_HEAD = re.compile(r"[0-9a-f]{64}")
_KEYS = {"runs": ("run",), "instruments": ("name",), "attempts": ("unit", "attempt")} | dict.fromkeys(
    BY_LINE, ("line",)
)


@dataclass
class Checked:
    """What was found of one run (or of the stores). `problems`: each names what is not as it was recorded; `remarks`:
    what a reader should know, and no problem."""

    name: str
    lines: int = 0
    head: str = chain.START
    verdict: Verdict = "self-consistent"
    artifacts: int = 0
    backups: int = 0
    purged: int = 0
    in_database: int | None = None  # lines of the journal that the database has; None: nothing of it
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def verify_run(run: RunFolder, *, url: str | None = None, head: str | None = None) -> Checked:
    """Check one run. `head`: the chain's head as it was noted elsewhere (a printed report); without it a journal can
    be found to agree with itself, no more. `url`: the database to compare.

    Raises UsageProblem for a `head` that is none, and a journal or a database that cannot be read at all.
    """
    found = Checked(run.id)
    lines = chain.whole_lines(run.journal)
    _check_chain(found, run, lines)
    _check_files(found, run, lines)
    if url is not None:
        try:
            _check_database(found, run, url)
        except DatabaseProblem as problem:
            found.problems.append(str(problem).rstrip("."))
    if found.problems:
        found.verdict = "damaged"
    if head is not None:
        _compare_head(found, chain.check(lines), head)
    return found


def verify_stores(runs: Path) -> Checked:
    """Check every stored artifact and backup against its name, whichever run it is of, or of none."""
    found = Checked("stores")
    for path in sorted((runs / FOLDER).glob("??/*")):
        if path.name.endswith(PURGED):
            found.purged += 1
            continue
        found.artifacts += 1
        if _HEAD.fullmatch(path.name) is None:
            found.problems.append(f"{path} is no artifact: its name is no sha256")
        elif _digest(path) != path.name:
            found.problems.append(f"the stored artifact {path} was edited or damaged: its content has another sha256")
    for folder in sorted(path for path in (runs / "backups").glob("*") if path.is_dir()):
        for path in sorted(folder.glob("*.bin.zst")):
            found.backups += 1
            _check_backup(found, path, path.name.partition(".")[0])
        found.problems += _check_first(folder)
    found.verdict = "damaged" if found.problems else "self-consistent"
    return found


def look_for_strangers(found: Checked, url: str, runs: Iterable[RunFolder], *, ours: bool) -> None:
    """Runs that the database has and that are none of `runs`: their journals are gone, or, where the database is not
    `ours` alone, they are other stations'."""
    import sqlalchemy as sa

    from rig.records.models import Run

    known = {read_rows(run, 1)[0].run["run"] for run in runs}
    try:
        with opened(url) as connection:
            others = [run for run in connection.scalars(sa.select(Run.run).order_by(Run.run)) if run not in known]
    except DatabaseProblem as problem:
        found.problems.append(str(problem).rstrip("."))
        others = []
    where = file_of(url) or "the database"
    told = found.problems if ours else found.remarks
    told += [f"{where} has run {run}, of which there is no journal here" for run in others]
    found.verdict = "damaged" if found.problems else found.verdict


# -- the journal ---------------------------------------------------------------------------------------


def _check_chain(found: Checked, run: RunFolder, lines: Sequence[bytes]) -> None:
    checked = chain.check(list(lines))
    found.lines, found.head = len(lines), checked.head
    found.problems += [f"{run.journal}, {each.sentence}" for each in checked.breaks]
    if lines and checked.unchained == len(lines):
        found.verdict = "unchained"
    if checked.unchained and not checked.breaks:
        found.remarks.append(
            f"the first {checked.unchained} line(s) are of an older rig and carry no chain: an edit of them could "
            "not be seen"
        )
    if run.journal.stat().st_size > sum(len(line) + 1 for line in lines):
        found.remarks.append(f"{run.journal}: the last line was torn by a crash, or is just being written")


def _compare_head(found: Checked, checked: chain.Chain, head: str) -> None:
    wanted = head.strip().lower()
    if _HEAD.fullmatch(wanted) is None:
        raise UsageProblem(f"--head {head}: the head of a chain is 64 hexadecimal digits")
    if wanted not in checked.links:
        found.verdict = "other"
        found.problems.append(
            f"the head {wanted} is of no line of this journal: it is another run's, or the journal was written anew "
            "or cut short since"
        )
        return
    line = checked.links.index(wanted) + 1
    later = found.lines - line
    if later:
        found.remarks.append(f"the head that was given is line {line}'s; {later} line(s) came after it")
    if not found.problems:
        found.verdict = "continued" if later else "same"


# -- kept files ----------------------------------------------------------------------------------------


def _check_files(found: Checked, run: RunFolder, lines: Sequence[bytes]) -> None:
    kept: dict[str, ArtifactKept] = {}  # by path: what was kept there last is what must be there
    everything: dict[str, ArtifactKept] = {}
    backups: dict[str, BackupKept] = {}
    for number, line in enumerate(lines, start=1):
        try:
            event = parser.validate_json(chain.split(line)[0])
        except ValidationError:
            found.problems.append(f"{run.journal}, line {number} is not an event of this rig")
            continue
        if isinstance(event, ArtifactKept):
            kept[event.path] = event
            everything[event.sha256] = event
        elif isinstance(event, BackupKept):
            backups[event.path] = event
    store = ArtifactStore(run.path.parent / FOLDER)
    for kept_file in kept.values():
        _check_artifact(found, run, kept_file)
    for kept_file in everything.values():
        if kept_file.schema_version >= chain.SINCE:
            _check_stored(found, store, kept_file)
    for backup in backups.values():
        found.backups += 1
        _check_backup(found, (run.path / backup.path).resolve(), backup.sha256, backup)


def _check_artifact(found: Checked, run: RunFolder, kept: ArtifactKept) -> None:
    found.artifacts += 1
    path = run.path / kept.path
    what = f"{kept.name} of unit {kept.unit}, attempt {kept.attempt} ({path})"
    digest = _digest(path)
    if digest is None:
        stone = tombstone_of(path)
        if stone is not None and stone.sha256 == kept.sha256:
            found.purged += 1
        else:
            found.problems.append(f"{what} is missing")
    elif digest != kept.sha256:
        found.problems.append(f"{what} was edited or damaged: its content has another sha256")


def _check_stored(found: Checked, store: ArtifactStore, kept: ArtifactKept) -> None:
    path = store.path(kept.sha256)
    digest = _digest(path)
    stone = tombstone_of(path) if digest is None else None
    if digest is None and (stone is None or stone.sha256 != kept.sha256):
        whose = f"{kept.name} of unit {kept.unit}, attempt {kept.attempt}"
        found.problems.append(f"{whose} is missing in the store: {path}")
    elif digest is not None and digest != kept.sha256:
        found.problems.append(f"the stored artifact {path} was edited or damaged: its content has another sha256")


def _check_backup(found: Checked, path: Path, sha256: str, kept: BackupKept | None = None) -> None:
    whose = f"the backup of unit {kept.unit}, attempt {kept.attempt} ({path})" if kept else f"the backup {path}"
    if not path.exists():
        stone = tombstone_of(path)
        if stone is not None and stone.sha256 == sha256:
            found.purged += 1
        else:
            found.problems.append(f"{whose} is missing")
        return
    try:
        Backup("", path, sha256, kept.size if kept else 0).content()
    except UsageProblem as problem:
        found.problems.append(f"{whose} was edited or damaged: {problem}" if kept else str(problem))


def _check_first(folder: Path) -> list[str]:
    """Whether the mark that says which backup is the board's own names one that is there."""
    mark = folder / "first"
    try:
        own = folder / f"{json.loads(mark.read_text())['sha256']}.bin.zst"
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as problem:
        return [f"{mark}, which names a board's own backup, cannot be read: {problem}"]
    return [] if own.exists() else [f"{mark} names a backup that is not there: {own}"]


def _digest(path: Path) -> str | None:
    """A file's sha256; None: it is not there. One that cannot be read has none that fits."""
    try:
        return sha256_of(path)
    except FileNotFoundError:
        return None
    except OSError as problem:
        return f"unreadable: {problem.strerror}"


# -- the database --------------------------------------------------------------------------------------


def _check_database(found: Checked, run: RunFolder, url: str) -> None:
    with opened(url) as connection:
        stored = contents(connection, read_rows(run, 1)[0].run["run"])
    whole, _ = read_rows(run)  # after the database, which a run that goes on keeps behind its journal
    where = str(file_of(url) or "the database")
    if not stored["runs"]:
        if any(stored.values()):
            found.problems.append(f"{where}: the row of run {run.id} was removed")
        else:
            found.remarks.append("the database has nothing of this run yet: `rig records rebuild` takes it in")
        return
    have = found.in_database = int(stored["runs"][0]["lines"])
    if have > whole.lines:
        found.problems.append(
            f"{where} knows {have} lines of this run, its journal has {whole.lines}: lines were removed from the end "
            "of the journal, or the database was edited"
        )
        return
    expected = rows_by_table(whole if have == whole.lines else read_rows(run, have)[0])
    for table, rows in expected.items():
        differ = list(_differences(table, stored[table], rows))
        found.problems += [f"{where}: {each}" for each in differ[:MOST_NAMED]]
        if len(differ) > MOST_NAMED:
            found.problems.append(f"{where}: {len(differ) - MOST_NAMED} more rows of {table} differ from the journal")
    if have < whole.lines:
        found.remarks.append(f"the database is {whole.lines - have} line(s) behind the journal")


def _differences(table: str, stored: list[Row], expected: list[Row]) -> Iterable[str]:
    keys = _KEYS[table]
    have = {tuple(row[key] for key in keys): row for row in stored}
    want = {tuple(row[key] for key in keys): row for row in expected}
    for key, row in want.items():
        named = f"{table} row " + ", ".join(f"{name} {value}" for name, value in zip(keys, key, strict=True))
        if key not in have:
            yield f"{named} was removed"
            continue
        for column, value in row.items():
            if have[key][column] != value:
                yield f"{named}: {column} is {have[key][column]!r}, by the journal it is {value!r}"
    for key in have.keys() - want.keys():
        named = ", ".join(f"{name} {value}" for name, value in zip(keys, key, strict=True))
        yield f"{table} row {named} was put in: the journal has no such"
