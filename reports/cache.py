"""A database's rows once more as columns, in Parquet beside it, since SQL gives a million units' measurements only
row by row. Derived and never ahead of the database; it may be deleted at any time.

`rig.db.cache/` holds parts, each the tables of some runs, and a manifest that says of which runs and how much of
them. New runs are a new part; a part one of whose runs changed is made anew. A part counts once the manifest names
it, and the manifest is replaced as a whole, so that a cache is whole or not there, whenever it was interrupted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reports import raw
from reports.assemble import assemble
from reports.number_files import FileNumbers, write_numbers
from reports.numbers import MemoryNumbers
from reports.raw import Raw
from reports.store import frame_of, of_units, some_rows, table_of, write_table
from reports.tables import MOMENTS, Records, typed
from rig.errors import UsageProblem
from rig.files import write_durably
from rig.records.database import file_of, opened
from rig.records.journal import is_live
from rig.records.run import RunFolder

if TYPE_CHECKING:
    from sqlalchemy import Connection

LAYOUT = 1  # of the cache; another one is made anew
MANIFEST = "manifest.json"
AT_ONCE = 8_000  # attempts that are read from the database at a time: bounds memory
OF_A_PART = 100_000  # attempts
PARTS = 24  # more than these, and the small ones are made one
ABANDONED_S = 3600.0  # a part that no manifest names may be another report's, still reading

_MOMENTS = {name: raw.PHASES[name] for name in MOMENTS}
_STEPS = {name: kind for name, kind in raw.PHASES.items() if name not in MOMENTS}
Told = dict[str, tuple[int, str]]  # run -> lines, head


@dataclass
class _Part:
    name: str
    runs: Told
    attempts: int


@dataclass
class _Tables:
    """What was read of some runs, not yet in a part."""

    runs: Told = field(default_factory=dict)
    tables: list[tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def attempts(self) -> int:
        return sum(len(attempts) for attempts, _, _ in self.tables)


def records_of_database(url: str) -> Records:
    """The records that a database has, read through its cache, which is brought up to it first.

    Raises DatabaseProblem where the database cannot be read, UsageProblem where there is no place for the cache.
    """
    folder = refresh(url)
    parts = _manifest(folder)
    with opened(url) as connection:
        runs = _runs(connection, file_of(url), {run for part in parts for run in part.runs})
    read = [_Read(folder / part.name) for part in parts]
    attempts = raw.concat((each.attempts() for each in read), raw.ATTEMPTS) if read else typed({}, raw.ATTEMPTS, 0)
    sizes = np.cumsum([0, *(pq.read_metadata(each.path).num_rows for each in read)])
    notes = [row for each in read for row in each.notes()]

    def numbers(_: Any, order_of: NDArray[np.int32], plan: dict[str, int]) -> FileNumbers:
        files = [(each.numbers, order_of[low:high]) for each, low, high in zip(read, sizes, sizes[1:], strict=False)]
        return FileNumbers(files, plan)

    def artifacts(units: Collection[str] | None) -> pd.DataFrame:
        return pd.concat([each.artifacts(units) for each in read] or [_no_artifacts()], ignore_index=True)

    phases = (each.phases(int(low)) for each, low in zip(read, sizes, strict=False))
    every = raw.concat(phases, _STEPS) if read else typed({}, _STEPS, 0)

    def moments() -> pd.DataFrame:
        return pd.concat([each.moments() for each in read] or [typed({}, _MOMENTS, 0)], ignore_index=True)

    long = _Long([each.path for each in read], sizes)
    return assemble(Raw(runs, attempts, long, every, None, notes, artifacts, moments=moments), numbers)


class _Long:
    """What is long, from the parts' files. `sizes`: where each part's rows begin, and where the last one's end."""

    def __init__(self, paths: Sequence[Path], sizes: NDArray[np.int64]) -> None:
        self._paths = paths
        self._sizes = sizes

    def __call__(self, at: NDArray[Any]) -> pd.DataFrame:
        part = np.searchsorted(self._sizes, at, side="right") - 1
        found = [typed({}, raw.LONG, 0)]
        rows: list[NDArray[Any]] = []
        for which in np.unique(part):
            mine = np.flatnonzero(part == which)
            found.append(some_rows(self._paths[which], at[mine] - self._sizes[which], raw.LONG))
            rows.append(mine)
        place = np.argsort(np.concatenate([np.empty(0, dtype=np.int64), *rows]))
        return pd.concat(found, ignore_index=True).iloc[place].reset_index(drop=True)


def place_of(url: str) -> Path:
    """Where a database's cache is: beside an SQLite file, else (or where that cannot be written) in the user's own
    folder for caches."""
    file = file_of(url)
    if file is not None:
        beside = file.with_name(f"{file.name}.cache")
        if os.access(beside if beside.is_dir() else file.parent, os.W_OK):
            return beside
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "rig" / hashlib.sha256(url.encode()).hexdigest()[:16]


def refresh(url: str) -> Path:
    """Bring a database's cache up to it; returns its folder. Made anew where it is damaged or of another layout."""
    with opened(url) as connection:
        folder = place_of(url)
        try:
            with _locked(folder):
                _bring_up(connection, folder)
        except OSError as problem:
            raise UsageProblem(f"The cache {folder} cannot be written: {problem.strerror}.") from problem
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _bring_up(connection: Connection, folder: Path) -> None:
    told = _told(connection)
    known = _manifest(folder)
    kept = [part for part in known if all(told.get(run) == of for run, of in part.runs.items())]
    if len(kept) > PARTS:
        kept = [part for part in kept if part.attempts > OF_A_PART // 2]
    have = {run for part in kept for run in part.runs}
    missing = {run: of for run, of in told.items() if run not in have}
    if not missing and len(kept) == len(known):
        return
    for tables in _read_parts(connection, missing):
        name = f"part-{secrets.token_hex(6)}"
        _write_part(folder / name, tables)
        kept.append(_Part(name, tables.runs, tables.attempts))
    _write_manifest(folder, kept)
    _sweep(folder, kept)


def _told(connection: Connection) -> Told:
    rows = connection.exec_driver_sql("select run, lines, head from runs order by started, run")
    return {run: (lines, head) for run, lines, head in rows}


def _manifest(folder: Path) -> list[_Part]:
    """The parts that are there; none where the manifest is missing, damaged or of another layout."""
    try:
        told = json.loads((folder / MANIFEST).read_text())
        if told["layout"] != LAYOUT:
            return []
        parts = [
            _Part(each["name"], {run: (int(lines), str(head)) for run, (lines, head) in each["runs"].items()},
                  int(each["attempts"]))
            for each in told["parts"]
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [part for part in parts if _Read(folder / part.name).is_whole()]


def _write_manifest(folder: Path, parts: list[_Part]) -> None:
    told = {"layout": LAYOUT, "parts": [vars(part) for part in parts]}
    write_durably(folder / MANIFEST, json.dumps(told))


def _sweep(folder: Path, parts: list[_Part]) -> None:
    named = {part.name for part in parts}
    for path in folder.glob("part-*"):
        with contextlib.suppress(OSError):
            if path.name not in named and time.time() - path.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)


# -- a part --------------------------------------------------------------------------------------------


def _write_part(folder: Path, told: _Tables) -> None:
    folder.mkdir(mode=0o700)
    attempts, phases, measured = raw.joined(told.tables)
    golden = (attempts["role"] == "golden").to_numpy()
    write_table(table_of(attempts), folder / "attempts.parquet")
    write_table(table_of(phases[~golden[phases["at"].to_numpy()]]), folder / "phases.parquet")
    mine = measured[~golden[measured["at"].to_numpy()]].rename(columns={"at": "order"})
    numbers = MemoryNumbers(mine.sort_values("order", kind="stable", ignore_index=True))
    rows = ((name, numbers.rows_of(name)) for name in numbers.all_names())
    write_numbers(folder / "measurements.parquet", rows, numbers.limits(), plain=False)
    kinds = {"attempt": pa.int32(), "line": pa.int32()}
    columns = list(zip(*told.artifacts, strict=True)) or [()] * len(raw.ARTIFACTS)
    kept = {name: pa.array(of, kinds.get(name, pa.string())) for name, of in zip(raw.ARTIFACTS, columns, strict=True)}
    write_table(pa.table(kept), folder / "artifacts.parquet")
    (folder / "notes.json").write_text(json.dumps(told.notes, default=str))


class _Read:
    """A part that is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "attempts.parquet"
        self.numbers = folder / "measurements.parquet"

    def is_whole(self) -> bool:
        names = ("attempts.parquet", "phases.parquet", "measurements.parquet", "artifacts.parquet", "notes.json")
        return all((self._folder / name).is_file() for name in names)

    def attempts(self) -> pd.DataFrame:
        return frame_of(self.path, raw.ATTEMPTS)

    def phases(self, low: int) -> pd.DataFrame:
        found = frame_of(self._folder / "phases.parquet", _STEPS)
        found["at"] = (found["at"] + low).astype(np.int32)
        return found

    def moments(self) -> pd.DataFrame:
        return frame_of(self._folder / "phases.parquet", _MOMENTS)

    def notes(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads((self._folder / "notes.json").read_text())
        return [row | {"utc": pd.Timestamp(row["utc"]).to_pydatetime()} for row in rows]

    def artifacts(self, units: Collection[str] | None) -> pd.DataFrame:
        found: pd.DataFrame = of_units(self._folder / "artifacts.parquet", units).to_pandas()
        return found


def _no_artifacts() -> pd.DataFrame:
    return pd.DataFrame(columns=raw.ARTIFACTS)


# -- the database --------------------------------------------------------------------------------------


def _read_parts(connection: Connection, runs: Told) -> Iterator[_Tables]:
    """The rows of these runs, a part's worth at a time, whole runs; one that goes on is a part of its own."""
    import sqlalchemy as sa

    table = _table("attempts")
    counts = connection.execute(sa.select(table.c.run, sa.func.count()).group_by(table.c.run))
    sizes = {str(run): int(count) for run, count in counts}
    runs_table = _table("runs")
    open_ = set(connection.execute(sa.select(runs_table.c.run).where(runs_table.c.ended.is_(None))).scalars())
    part = _Tables()
    for several in _shares([run for run in runs if run not in open_], sizes):
        _read_into(part, connection, {run: runs[run] for run in several})
        if part.attempts >= OF_A_PART:
            yield part
            part = _Tables()
    if part.runs:
        yield part
    for run in runs:
        if run in open_:
            part = _Tables()
            _read_into(part, connection, {run: runs[run]})
            yield part


def _shares(runs: Iterable[str], sizes: dict[str, int]) -> Iterator[list[str]]:
    share: list[str] = []
    size = 0
    for run in runs:
        share.append(run)
        size += sizes.get(run, 0)
        if size >= AT_ONCE or len(share) >= 500:
            yield share
            share, size = [], 0
    if share:
        yield share


def _read_into(part: _Tables, connection: Connection, runs: Told) -> None:
    of = list(runs)
    attempts = raw.attempts_of(_columns(connection, "attempts", raw.ASKED_OF_ATTEMPTS, of, ("run", "line")))
    phases = raw.phases_of(_columns(connection, "phases", raw.ASKED_OF_PHASES, of, ("run", "line")), attempts)
    told = _columns(connection, "measurements", raw.ASKED_OF_MEASURED, of, ("run", "line"))
    measured = raw.measured_of(told, attempts)
    part.runs |= runs
    part.tables.append((raw.with_measured(attempts, measured), phases, measured))
    part.notes += _notes(connection, of)
    kept = _columns(connection, "artifacts", raw.ARTIFACTS, of, ("run", "line"))
    part.artifacts += list(zip(*kept.values(), strict=True))


def _columns(
    connection: Connection, name: str, columns: Sequence[str], runs: list[str], order: Sequence[str]
) -> dict[str, Sequence[Any]]:
    """Columns of the rows of some runs, values as the driver gives them."""
    import sqlalchemy as sa

    table = _table(name)
    query = sa.select(*(table.c[each] for each in columns)).where(table.c.run.in_(runs))
    rows = connection.execute(query.order_by(*(table.c[each] for each in order))).cursor.fetchall()
    return dict(zip(columns, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(columns, ())


def _notes(connection: Connection, runs: list[str]) -> list[dict[str, Any]]:
    import sqlalchemy as sa

    table = _table("entries")
    names = ("run", "line", "kind", "utc", "unit", "slot", "details")
    query = sa.select(*(table.c[name] for name in names)).where(table.c.run.in_(runs))
    found = connection.execute(query.where(table.c.kind.in_(raw.NOTE_KINDS)).order_by(table.c.run, table.c.line))
    return [dict(row) for row in found.mappings()]


def _runs(connection: Connection, file: Path | None, wanted: set[str]) -> list[dict[str, Any]]:
    """The rows of runs, each with its folder where its journal is beside the database."""
    import sqlalchemy as sa

    instruments: dict[str, list[dict[str, Any]]] = {}
    for each in connection.execute(sa.select(_table("instruments"))).mappings():
        instruments.setdefault(each["run"], []).append(dict(each))
    found = []
    for each in connection.execute(sa.select(_table("runs"))).mappings():
        if each["run"] not in wanted:
            continue
        folder = RunFolder(file.parent / each["run"]) if file is not None else None
        there = folder is not None and folder.journal.is_file()
        path = str(folder.path) if folder is not None and there else ""
        live = folder is not None and there and is_live(folder.journal)
        found.append(raw.run_row(dict(each), instruments.get(each["run"], []), path, live))
    return found


def _table(name: str) -> Any:
    from rig.records.models import Base

    return Base.metadata.tables[name]
