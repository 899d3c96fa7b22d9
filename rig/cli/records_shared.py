"""`rig records` where several stations share a database: its layout, what it missed, what went wrong between them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rig.cli.records_view import remark
from rig.cli.terminal import say, say_json
from rig.errors import Exit, UsageProblem

if TYPE_CHECKING:
    from rig.bench.config import RecordsTable

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where runs are kept.")]
Url = Annotated[str | None, typer.Option(metavar="URL", help="The database; default: rig.db among the runs.")]
Bench = Annotated[
    Path | None, typer.Option("--bench", metavar="FILE", help="The bench whose [records] url names the database.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RUNS = Path("runs")


def add_to(app: typer.Typer) -> None:
    """These commands among those of `rig records`."""
    for name, command, told in (
        ("migrate", migrate, "Bring a database to this rig's layout, or take it to another. Example: rig records "
         "migrate --bench bench.toml"),
        ("catch-up", catch_up, "Take into database and shared folder what they missed while they were away. Example: "
         "rig records catch-up --bench bench.toml"),
        ("conflicts", conflicts, "Units that two stations worked on, though one should have. Exit 1 where there are "
         "any. Example: rig records conflicts --bench bench.toml"),
        ("release", release, "Let a unit go that is at work by the records and is not (its station died). Example: "
         "rig records release SN001 --bench bench.toml"),
    ):  # fmt: skip
        app.command(name=name, help=told)(command)


def migrate(
    to: Annotated[str | None, typer.Option(metavar="LAYOUT", help="Another layout, such as 0002; down too.")] = None,
    out: Out = RUNS,
    url: Url = None,
    bench: Bench = None,
    as_json: Json = False,
) -> None:
    from rig.records import database
    from rig.records import migrate as moved

    where = _where(out, url, bench)
    if (file := database.file_of(where)) is not None and not file.exists():
        raise UsageProblem(f"There is no database {file}.")
    with database.opened(where, write=True, layout=False) as connection:
        found, now = moved.migrate(connection, to)
    if as_json:
        say_json({"database": database.shown_url(where), "from": found, "to": now})
    elif found == now:
        say(f"{database.shown_url(where)}: layout {now} already.")
    else:
        say(f"{database.shown_url(where)}: brought from layout {found or '(none)'} to {now}.")


def catch_up(out: Out = RUNS, url: Url = None, bench: Bench = None, as_json: Json = False) -> None:
    from rig.records import database, share
    from rig.records.run import list_runs

    runs = list_runs(out)
    if not runs:
        raise UsageProblem(f"There is no run in {out}.")
    remarks = database.ingest(_where(out, url, bench), runs)
    copied = None
    if bench is not None and (folder := _records(bench).artifacts) is not None:
        where = bench.absolute().parent / folder
        try:
            copied, problems = share.catch_up(out, where)
        except OSError as problem:
            why = problem.strerror or str(problem)
            raise UsageProblem(f"Files cannot be kept in the shared folder {where}: {why}.") from problem
        remarks += problems
    remark(remarks)
    if as_json:
        say_json({"runs": len(runs), "files": copied, "remarks": remarks})
    else:
        files = "" if copied is None else f", {copied} file(s) copied to the shared folder"
        say(f"{len(runs)} run(s) are in the database{files}.")
    if remarks:
        raise typer.Exit(Exit.FAILED)


def conflicts(out: Out = RUNS, url: Url = None, bench: Bench = None, as_json: Json = False) -> None:
    from rig.records import claims, database

    with database.opened(_where(out, url, bench)) as connection:
        found = claims.conflicts(connection)
    if as_json:
        say_json([asdict(each) for each in found])
    else:
        for each in found:
            say(each.sentence[:1].upper() + each.sentence[1:] + ".")
        say(f"{len(found)} conflict(s)")
    if found:
        raise typer.Exit(Exit.FAILED)


def release(
    unit: Annotated[str, typer.Argument(help="The unit's serial number.")],
    out: Out = RUNS,
    url: Url = None,
    bench: Bench = None,
    as_json: Json = False,
) -> None:
    from rig.records import claims, database
    from rig.records.lookup import plain

    with database.opened(_where(out, url, bench), write=True) as connection:
        gone = claims.release(connection, unit)
    if not gone:
        raise UsageProblem(f"Unit {unit} is at work nowhere, by the records.")
    if as_json:
        say_json([plain(row) for row in gone])
        return
    for row in gone:
        where = f"at station {row['station']}, in run {row['run']}"
        say(f"Unit {unit} was let go: it was in work {where} ({row['task']}).")


def _where(out: Path, url: str | None, bench: Path | None) -> str:
    from rig.records.database import default_url, url_of

    if bench is not None and url is not None:
        raise UsageProblem("--url and --bench both name a database: give one of the two.")
    if bench is not None and (configured := _records(bench).url) is not None:
        return url_of(out, configured, bench.absolute().parent)
    return url or default_url(out)


def _records(bench: Path) -> RecordsTable:
    from rig.bench.bench import read_bench

    return read_bench(bench).config.records
