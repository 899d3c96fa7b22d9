"""Questions to the records: has this unit passed before, which attempts are there, all about one unit."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig.errors import UsageProblem
from rig.records.database import BY_LINE, DatabaseProblem, default_url, file_of, ingest, opened, read_rows
from rig.records.events import Outcome
from rig.records.rows import Row
from rig.records.run import RunFolder, list_runs
from rig.toml import nearest

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PATIENCE_S = 1.0  # somebody stands there with the scanner; the journals know it too


def passed_before(
    where: str | Path, unit: str, product: str, task: str = "convert", *, runs: Path | None = None
) -> str | None:
    """A sentence naming run and date if the unit's last attempt at this task that counts was good, and the unit was
    not reworked since; else None. What a golden unit did is left out.

    `where`: a folder of runs (its own database is used), or a database's URL; `runs`: the folder of runs beside such
    a URL. The database is asked for the runs it has whole, the journals for all others; a database that fails is
    left alone. A journal that is broken says nothing; `rig records verify` names it.
    """
    folder = where if isinstance(where, Path) else runs
    url = default_url(where) if isinstance(where, Path) else where
    whole: dict[str, int] = {}
    attempts: list[Row] = []
    reworks: list[datetime] = []
    try:
        with opened(url, patience_s=_PATIENCE_S) as connection:
            whole, attempts, reworks = _from_database(connection, unit)
    except (DatabaseProblem, UsageProblem):
        if folder is None:
            raise
    for run in list_runs(folder) if folder is not None else []:
        if whole.get(run.id) != run.journal.stat().st_size:
            attempts = [row for row in attempts if row["run"] != run.id]
            _from_journal(run, unit, attempts, reworks)
    tried = [
        row
        for row in attempts
        if (row["product"], row["task"], row["role"]) == (product, task, "unit")
        and row["outcome"] is not None
        and Outcome(row["outcome"]).counted
    ]
    last = max(tried, key=lambda row: (row["started"], row["attempt"]), default=None)
    if last is None or not Outcome(last["outcome"]).good or any(when > last["started"] for when in reworks):
        return None
    where = f" at station {last['station']}" if last["station"] else ""
    return (
        f"{unit} passed in run {last['run']}{where} on {last['started']:%Y-%m-%d %H:%M} UTC "
        f"(attempt {last['attempt']}, {last['outcome']})"
    )


@contextlib.contextmanager
def records(runs: Path, url: str | None = None) -> Iterator[tuple[Connection, list[str]]]:
    """The database, brought up to the journals in `runs`, and sentences on what could not be.

    Where it cannot be written the journals are read into one that is thrown away. Raises UsageProblem where there is
    neither a run nor a database.
    """
    url = url or default_url(runs)
    found = list_runs(runs)
    file = file_of(url)
    if not found and file is not None and not file.exists():
        raise UsageProblem(f"There is no run in {runs}, and no database {file}.")
    with tempfile.TemporaryDirectory(prefix="rig-records-") as scratch:
        try:
            remarks = ingest(url, found)
        except DatabaseProblem as problem:
            if not found:
                raise
            url = default_url(Path(scratch))
            remarks = [f"{problem} What follows is from the journals.", *ingest(url, found)]
        with opened(url) as connection:
            yield connection, remarks


def attempts_of(connection: Connection, **wanted: str | None) -> list[Row]:
    """Attempts with these values (`unit`, `batch`, `run`, `outcome`, `mac`, ...), oldest first."""
    import sqlalchemy as sa

    from rig.records.models import Attempt

    table = Attempt.__table__
    query = sa.select(table).order_by(table.c.started, table.c.run, table.c.line)
    for name, value in wanted.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    return [dict(row) for row in connection.execute(query).mappings()]


def unit_record(connection: Connection, unit: str) -> dict[str, list[Row]]:
    """All that is on record of a unit, by table. `unit`: its serial, or its MAC or identity. Raises UsageProblem."""
    import sqlalchemy as sa

    from rig.records.models import Attempt, Base

    table = Attempt.__table__
    named = sa.or_(table.c.unit == unit, table.c.mac == unit, table.c.identity == unit)
    units = list(connection.execute(sa.select(table.c.run, table.c.unit).where(named).distinct()))
    if not units:
        known = set(connection.scalars(sa.select(table.c.unit).distinct()))
        hint = nearest(unit, known)
        raise UsageProblem(f"No unit {unit} is on record; {hint if len(hint) < 200 else '`rig records list`'}")
    found: dict[str, list[Row]] = {}
    for name in ("attempts", *BY_LINE):
        rows = Base.metadata.tables[name]
        query = sa.select(rows).where(sa.tuple_(rows.c.run, rows.c.unit).in_([tuple(each) for each in units]))
        found[name] = [dict(row) for row in connection.execute(query.order_by(rows.c.run, rows.c.line)).mappings()]
    found["attempts"].sort(key=lambda row: (row["started"], row["line"]))
    return found


def _from_database(connection: Connection, unit: str) -> tuple[dict[str, int], list[Row], list[datetime]]:
    """How many bytes of each run's journal are in; the unit's attempts; when it was reworked."""
    import sqlalchemy as sa

    from rig.records.models import Entry, Run

    whole = {row.run: row.bytes for row in connection.execute(sa.select(Run.run, Run.bytes))}
    reworked = sa.select(Entry.utc).where(Entry.kind == "reworked", Entry.unit == unit)
    return whole, attempts_of(connection, unit=unit), list(connection.scalars(reworked))


def _from_journal(run: RunFolder, unit: str, attempts: list[Row], reworks: list[datetime]) -> None:
    if json.dumps(unit, ensure_ascii=False).encode() not in run.journal.read_bytes():
        return
    rows, _ = read_rows(run)
    attempts += [row for (name, _), row in rows.attempts.items() if name == unit]
    reworks += [
        row["utc"].astimezone(UTC)
        for row in rows.by_line["entries"]
        if row["kind"] == "reworked" and row["unit"] == unit
    ]


def plain(value: Any) -> Any:
    """A row as JSON takes it."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
