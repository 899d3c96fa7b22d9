"""The database: all runs' records in tables that can be asked, derived from the journals and never ahead of them.

It may be deleted at any time; `rebuild` makes it again. Nothing in a run waits for it. SQLite in `runs/rig.db` by
default, 0600; any URL of SQLAlchemy's otherwise, which several stations may share. SQLAlchemy is imported on first
use, since it takes 0.3 s.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig.errors import RigError, UsageProblem
from rig.records.claims import conflicts, settle
from rig.records.layout import DatabaseProblem, NoDatabase, alone, check_layout
from rig.records.leash import leashed
from rig.records.rows import Row, Rows
from rig.records.run import RunFolder

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

FILE = "rig.db"
BY_LINE = ("phases", "measurements", "backups", "artifacts", "entries")
TABLES = ("runs", "instruments", "attempts", *BY_LINE)
PATIENCE_S = 5.0  # how long another writer of the database is waited for
SILENCE = 5.0  # times that: a server that says nothing for so long to one statement has gone
_checked: set[str] = set()  # servers whose layout was looked at; a file may be another one the next time
AT_ONCE = 2000  # rows in one statement, so that none takes long

__all__ = ["DatabaseProblem", "bring_up", "contents", "ingest", "opened", "rebuild", "url_of"]


def default_url(runs: Path) -> str:
    """The database that belongs to a folder of runs."""
    return f"sqlite:///{runs.absolute() / FILE}"


def url_of(runs: Path, configured: str | None = None, base: Path | None = None) -> str:
    """`configured` (bench.toml's `[records] url`), else the default. A relative SQLite path starts from `base`."""
    if configured is None:
        return default_url(runs)
    prefix = "sqlite:///"
    if configured.startswith(prefix) and base is not None:
        return f"{prefix}{(base / configured.removeprefix(prefix)).absolute()}"
    return configured


def file_of(url: str) -> Path | None:
    """The file of an SQLite database; None for any other."""
    found = url.removeprefix("sqlite:///")
    return Path(found.partition("?")[0]) if found != url and found else None


@contextlib.contextmanager
def opened(
    url: str, *, write: bool = False, patience_s: float = PATIENCE_S, layout: bool = True
) -> Iterator[Connection]:
    """One transaction on the database; its tables are made if it is to be written to, and looked at unless `layout`
    is False. A server is waited for as `patience_s` says, and never for good.

    Raises DatabaseProblem: it is not there, locked, damaged, full, of another layout.
    """
    try:
        import sqlalchemy as sa

        engine = _engine(url, write, patience_s)
    except (ImportError, OSError) as problem:
        hint = " (pip install -e '.[stations]')" if isinstance(problem, ImportError) and "psycopg" in url else ""
        raise DatabaseProblem(f"The database {shown_url(url)} cannot be used: {problem}{hint}.") from problem
    except sa.exc.SQLAlchemyError as problem:
        raise UsageProblem(f"{shown_url(url)} is no database's URL: {_said(problem)}") from problem
    try:
        with leashed(engine, SILENCE * patience_s), engine.begin() as connection:
            if layout and url not in _checked:
                check_layout(connection, shown_url(url), write)
            yield connection
        if not layout:
            _checked.discard(url)  # it may be another one now
        elif file_of(url) is None:
            _checked.add(url)
    except (sa.exc.SQLAlchemyError, OSError, OverflowError) as problem:
        _checked.discard(url)
        verb = "written" if write else "read"
        raise DatabaseProblem(f"The database {shown_url(url)} cannot be {verb}: {_said(problem)}.") from problem
    finally:
        engine.dispose()


def ingest(url: str, runs: Iterable[RunFolder | Path]) -> list[str]:
    """Bring the database up to these runs' journals: what is new in each, in one transaction a run; what is in it
    already is left alone. Returns sentences on what could not be taken in.

    Raises DatabaseProblem. Interrupted at any moment, the next call goes on where this one was.
    """
    remarks: list[str] = []
    seen: dict[str, Path] = {}
    known = _known(url)
    for each in runs:
        folder = each if isinstance(each, RunFolder) else RunFolder(each)
        try:
            run, size = _first_look(folder)
        except OSError as problem:
            remarks.append(f"The journal {folder.journal} cannot be read: {problem.strerror}.")
            continue
        if run in seen:
            remarks.append(f"{folder.path} is a copy of run {run} in {seen[run]} and was left out.")
            continue
        seen[run] = folder.path
        if known.get(run) == size:
            continue
        rows, broken = read_rows(folder)
        with opened(url, write=True) as connection:
            remarks += filter(None, (broken, bring_up(connection, rows, folder)))
            remarks += [each.sentence for each in conflicts(connection, run)]
    return list(dict.fromkeys(remarks))


def read_rows(folder: RunFolder, upto: int | None = None) -> tuple[Rows, str | None]:
    """A run's journal (its first `upto` lines) as rows; a sentence where a broken line ends it early."""
    from rig.records.chain import whole_lines

    rows = Rows.of(folder.id)
    try:
        rows.feed(whole_lines(folder.journal)[:upto], folder.journal)
    except UsageProblem as problem:
        return rows, str(problem)
    return rows, None


def bring_up(connection: Connection, rows: Rows, folder: RunFolder, *, anew: bool = False) -> str | None:
    """Write what the database lacks of one run.

    Where it has what the journal does not say (any more) a sentence tells so, and the run's rows are left as they
    are: they may be the only sign of it. `anew`: they are made anew.
    """
    import sqlalchemy as sa

    runs = _table("runs")
    run = rows.run["run"]
    alone(connection, f"run {run}")
    known = connection.execute(sa.select(runs.c.lines, runs.c.bytes, runs.c.head).where(runs.c.run == run)).first()
    since, remark = 0, None
    if known is not None:
        if known.lines > rows.lines and folder.journal.stat().st_size >= known.bytes:
            return None  # somebody else read on meanwhile
        if known.lines <= rows.lines and rows.digests[known.lines] == known.head:
            since = int(known.lines)
        elif anew:
            remark = f"The database had other lines of run {run} than its journal; its rows were made anew."
        else:
            return (
                f"The database has other lines of run {run} than its journal: `rig records verify` names them, "
                "`rig records rebuild` makes it anew."
            )
    _remove(connection, rows, since)
    _insert(connection, rows, since)
    settle(connection, rows, since)
    return remark


def rebuild(url: str, runs: Sequence[RunFolder]) -> list[str]:
    """Make the database anew from journals. An SQLite file is replaced as a whole, once the new one is complete; in
    any other database the rows of these runs are replaced and those of other runs (of other stations) stay.

    Raises DatabaseProblem; the old one is then still there.
    """
    file = file_of(url)
    if file is None:
        with opened(url, write=True) as connection:
            for each in runs:
                _remove(connection, read_rows(each)[0], 0)
        return ingest(url, runs)
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with opened(f"sqlite:///{fresh}", write=True):
            pass  # it has its tables, even without a run
        remarks = ingest(f"sqlite:///{fresh}", runs)
        with contextlib.ExitStack() as held:
            if file.exists():
                with contextlib.suppress(RigError):  # a damaged one cannot be locked, and need not be
                    held.enter_context(opened(url, write=True))
            for left in ("-journal", "-wal", "-shm"):  # of a killed writer: it would be applied to the new file
                file.with_name(file.name + left).unlink(missing_ok=True)
            os.replace(fresh, file)
    except OSError as problem:
        raise DatabaseProblem(f"The database {file} cannot be written: {problem.strerror}.") from problem
    finally:
        for left in ("", "-journal"):
            fresh.with_name(fresh.name + left).unlink(missing_ok=True)
    return remarks


def contents(connection: Connection, run: str | None = None) -> dict[str, list[Row]]:
    """All rows by table (of one run), in the order of their keys."""
    import sqlalchemy as sa

    found: dict[str, list[Row]] = {}
    for name in TABLES:
        table = _table(name)
        query = sa.select(table).order_by(*table.primary_key.columns)
        if run is not None:
            query = query.where(table.c.run == run)
        found[name] = [dict(row) for row in connection.execute(query).mappings()]
    return found


def rows_by_table(rows: Rows) -> dict[str, list[Row]]:
    """What the database should hold of a run, as `contents` gives it."""
    expected: dict[str, list[Row]] = {
        "runs": [rows.run_row()] if rows.lines else [],
        "instruments": rows.instruments,
        "attempts": sorted(rows.attempts.values(), key=lambda row: (row["unit"], row["attempt"])),
    }
    return expected | {name: rows.by_line[name] for name in BY_LINE}


# -- inside --------------------------------------------------------------------------------------------


def _table(name: str) -> Table:
    from rig.records.models import Base

    return Base.metadata.tables[name]


def _engine(url: str, write: bool, patience_s: float) -> Any:
    import sqlalchemy as sa

    file = file_of(url)
    if file is None:
        return sa.create_engine(url, poolclass=sa.NullPool, connect_args=_network(url, patience_s))
    if write:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    elif not file.exists():
        raise NoDatabase(f"There is no database {file}; `rig records rebuild` makes it.")
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"timeout": patience_s})

    @sa.event.listens_for(engine, "connect")
    def plain(connection: Any, record: object) -> None:
        connection.isolation_level = None  # sqlite3 begins transactions too late by itself: two may read, then write

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _network(url: str, patience_s: float) -> dict[str, Any]:
    """What keeps a database that is away, or one that others have locked, from being waited for by the minute, and
    one whose client went away from keeping its locks. For PostgreSQL (libpq's words); others have their own in the
    URL."""
    if not url.startswith("postgresql"):
        return {}
    milliseconds = int(patience_s * 1000)
    server = {
        "lock_timeout": milliseconds, "idle_in_transaction_session_timeout": int(SILENCE * milliseconds),
        "tcp_keepalives_idle": 5, "tcp_keepalives_interval": 2, "tcp_keepalives_count": 3,
    }  # fmt: skip
    return {
        "connect_timeout": max(2, round(patience_s)),
        "tcp_user_timeout": milliseconds,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "application_name": "rig",
        "options": " ".join(f"-c {name}={value}" for name, value in server.items()),
    }


def _known(url: str) -> dict[str, int]:
    """How many bytes of which run's journal the database has."""
    import sqlalchemy as sa

    runs = _table("runs")
    with opened(url, write=True) as connection:
        return {row.run: row.bytes for row in connection.execute(sa.select(runs.c.run, runs.c.bytes))}


def _first_look(folder: RunFolder) -> tuple[str, int]:
    """A run's id by its first line (else its folder's name), and its journal's size in bytes."""
    with folder.journal.open("rb") as file:
        first = file.readline()
        size = os.fstat(file.fileno()).st_size
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(first)["run"]), size
    return folder.id, size


def _remove(connection: Connection, rows: Rows, since: int) -> None:
    """Take out what is written anew: all of the run, or what changed since a line."""
    import sqlalchemy as sa

    run = rows.run["run"]
    for name in TABLES if not since else ("runs", "instruments"):
        table = _table(name)
        connection.execute(table.delete().where(table.c.run == run))
    changed = [key for key, line in rows.touched.items() if line > since]
    if since and changed:
        table = _table("attempts")
        gone = table.delete().where(
            table.c.run == run, table.c.unit == sa.bindparam("u"), table.c.attempt == sa.bindparam("a")
        )
        connection.execute(gone, [{"u": unit, "a": attempt} for unit, attempt in changed])


def _insert(connection: Connection, rows: Rows, since: int) -> None:
    changed = [rows.attempts[key] for key, line in rows.touched.items() if line > since]
    told: dict[str, list[Row]] = {
        "runs": [rows.run_row()] if rows.lines else [],
        "instruments": rows.instruments,
        "attempts": changed,
    }
    for name in BY_LINE:
        by_line = rows.by_line[name]
        told[name] = by_line[bisect_right(by_line, since, key=lambda row: int(row["line"])) :]
    for name, new in told.items():
        for start in range(0, len(new), AT_ONCE):
            connection.execute(_table(name).insert(), new[start : start + AT_ONCE])


def shown_url(url: str) -> str:
    """A URL without its password."""
    file = file_of(url)
    if file is not None:
        return str(file)
    before, at, rest = url.partition("?")[0].rpartition("@")  # behind the ? a password may stand too
    scheme = before.partition("://")[0]
    return f"{scheme}://***@{rest}" if at else rest


def _said(problem: Exception) -> str:
    """The database's own words, without the statement and SQLAlchemy's advice."""
    return str(getattr(problem, "orig", None) or problem).strip().splitlines()[0].rstrip(".")
