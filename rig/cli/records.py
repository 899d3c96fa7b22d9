"""`rig records`: what runs wrote down. The database made anew, everything verified, units looked up, old evidence
purged, rework put on record."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rig.cli.records_copy import BACKUP, RESTORE, backup, restore
from rig.cli.records_shared import RUNS, Bench, Json, Out, Url, add_to
from rig.cli.records_view import attempt_line, entry_line, purged_line, remark, tell_attempt, tell_checked
from rig.cli.terminal import say, say_json
from rig.errors import Exit, UsageProblem

if TYPE_CHECKING:
    from rig.records.run import RunFolder

app = typer.Typer(
    no_args_is_help=True,
    help="The records of runs, from their journals. Example: rig records show SN001",
)
add_to(app)
app.command(help=BACKUP)(backup)
app.command(help=RESTORE)(restore)


@app.command(help="Make the database anew from the journals. Example: rig records rebuild --out runs")
def rebuild(out: Out = RUNS, url: Url = None, bench: Bench = None, as_json: Json = False) -> None:
    from rig.records import database
    from rig.records.run import list_runs

    runs, url = list_runs(out), _url(url, bench)
    if not runs:
        raise UsageProblem(f"There is no run in {out}.")
    where = url or database.default_url(out)
    remarks = database.rebuild(where, runs)
    with database.opened(where) as connection:
        found = database.contents(connection)
    counts = {name: len(rows) for name, rows in found.items()}
    remark(remarks)
    if as_json:
        say_json({"database": str(database.file_of(where) or "database"), "rows": counts, "remarks": remarks})
    else:
        say(f"{database.file_of(where) or 'The database'}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    if remarks:
        raise typer.Exit(Exit.FAILED)


@app.command(
    help="Check journals by their chain, kept files by their sha256, the database by the journals; change nothing. "
    "Exit 1 names what is not as it was recorded. Example: rig records verify runs/20261122-171500-ab12"
)
def verify(
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders of runs; default: all, and the stores.")] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="The chain's head as the batch report printed it; for one run."),
    ] = None,
    out: Out = RUNS,
    url: Url = None,
    bench: Bench = None,
    as_json: Json = False,
) -> None:
    from rig.records import database, verify
    from rig.records.run import RunFolder, list_runs

    url = _url(url, bench)
    folders = [RunFolder.named(each, out) for each in runs or []] or list_runs(out)
    if not folders:
        raise UsageProblem(f"There is no run in {out}.")
    if head is not None and len(folders) != 1:
        raise UsageProblem("--head is the head of one run's chain: name that run")
    found = []
    for folder in folders:
        where = url or database.default_url(folder.path.parent)
        file = database.file_of(where)
        there = file is None or file.exists()
        found.append(verify.verify_run(folder, url=where if there else None, head=head))
    if not runs:
        found.append(verify.verify_stores(out))
        where = url or database.default_url(out)
        if (file := database.file_of(where)) is None or file.exists():
            verify.look_for_strangers(found[-1], where, folders, ours=url is None)
    good = not any(each.problems for each in found)
    if as_json:
        say_json({"good": good, "checked": [asdict(each) for each in found]})
    else:
        for each in found:
            tell_checked(each, head)
    if not good:
        raise typer.Exit(Exit.FAILED)


@app.command(
    help="Replace the evidence of old runs (logs, traces, pages) by tombstones; journals and reports stay. Without "
    "--yes it says what would go. Example: rig records purge --older 365 --yes"
)
def purge(
    older: Annotated[str, typer.Option(metavar="DAYS|DATE", help="Runs that ended before: days ago, or a UTC date.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    backups: Annotated[
        bool,
        typer.Option("--backups", help="Backups too: nothing else brings a board's own firmware and keys back."),
    ] = False,
    out: Out = RUNS,
    as_json: Json = False,
) -> None:
    from rig.records import purge
    from rig.records.run import list_runs

    before = purge.moment(older)
    if not list_runs(out):
        raise UsageProblem(f"There is no run in {out}.")
    doomed = purge.find(out, before, backups=backups)
    size = doomed.size
    if yes:
        purge.purge(doomed, f"older than {older}")
    remark(doomed.remarks)
    if as_json:
        say_json(
            {
                "done": yes,
                "runs": doomed.runs,
                "bytes": size,
                "artifacts": [str(path) for path, _ in doomed.artifacts],
                "other_files": [str(path) for path in doomed.others],
                "backups": [str(path) for path, _ in doomed.backups],
                "remarks": doomed.remarks,
            }
        )
    else:
        say(purged_line(doomed, size, yes))


@app.command(name="list", help="Attempts on record, oldest first. Example: rig records list --outcome fail")
def list_(
    batch: Annotated[str | None, typer.Option(help="Of this batch only.")] = None,
    run: Annotated[str | None, typer.Option(help="Of this run only.")] = None,
    outcome: Annotated[str | None, typer.Option(help="pass, marginal, fail, blocked, aborted or unverified.")] = None,
    out: Out = RUNS,
    url: Url = None,
    bench: Bench = None,
    as_json: Json = False,
) -> None:
    from rig.records.events import Outcome
    from rig.records.lookup import attempts_of, plain, records
    from rig.toml import nearest

    if outcome is not None and outcome not in list(Outcome):
        raise UsageProblem(f"--outcome {outcome}: {nearest(outcome, [each.value for each in Outcome])}")
    with records(out, _url(url, bench)) as (connection, remarks):
        rows = attempts_of(connection, batch=batch, run=run, outcome=outcome)
    remark(remarks)
    if as_json:
        say_json(plain(rows))
        return
    for row in rows:
        say(attempt_line(row))
    say(f"{len(rows)} attempt(s)")


@app.command(help="All that is on record of a unit, by serial, MAC or identity. Example: rig records show SN001")
def show(
    unit: Annotated[str, typer.Argument(help="Serial number, MAC or identity.")],
    out: Out = RUNS,
    url: Url = None,
    bench: Bench = None,
    as_json: Json = False,
) -> None:
    from rig.records.lookup import plain, records, unit_record

    with records(out, _url(url, bench)) as (connection, remarks):
        found = unit_record(connection, unit)
    remark(remarks)
    if as_json:
        say_json(plain(found))
        return
    for row in found["attempts"]:
        tell_attempt(row, found)
    for entry in found["entries"]:
        if entry["kind"] in ("reworked", "unit-refused", "labelled"):
            say(entry_line(entry))


@app.command(
    help="Put rework on record before the unit is tested again: what was done to the board, and by whom. "
    'Example: rig records rework SN001 --what "P24 resoldered" --who Kim runs/20261122-171500-ab12'
)
def rework(
    unit: Annotated[str, typer.Argument(help="The unit, as it is called in that run.")],
    run: Annotated[Path, typer.Argument(help="The run it was last tested in.")],
    what: Annotated[str, typer.Option(help="What was done.")],
    who: Annotated[str, typer.Option(help="Who did it.")],
    out: Out = RUNS,
    as_json: Json = False,
) -> None:
    from rig.records.run import RunFolder

    what, who = what.strip(), who.strip()
    if not what or not who:
        raise UsageProblem("Rework needs --what and --who: it is a record.")
    folder = RunFolder.named(run, out)
    _known_unit(folder, unit)
    through = _put_down(folder, unit, what, who)
    if as_json:
        say_json({"run": folder.id, "unit": unit, "what": what, "who": who, "by": through})
    else:
        say(f"Unit {unit} of run {folder.id}: rework is on record ({what}, by {who}).")


# -- inside --------------------------------------------------------------------------------------------


def _url(url: str | None, bench: Path | None) -> str | None:
    """The database that was named, or that of a bench; None: the one among the runs. UsageProblem where both were."""
    from rig.bench.bench import read_bench
    from rig.records.database import url_of

    if bench is None:
        return url
    if url is not None:
        raise UsageProblem("--url and --bench both name a database: give one of the two.")
    configured = read_bench(bench).config.records.url
    return None if configured is None else url_of(Path(), configured, bench.parent)


def _known_unit(folder: RunFolder, unit: str) -> None:
    from rig.records.events import UnitStarted
    from rig.records.journal import read_journal
    from rig.toml import nearest

    events, _ = read_journal(folder.journal)
    units = {event.unit for event in events if isinstance(event, UnitStarted)}
    if unit not in units:
        raise UsageProblem(f"Run {folder.id} has no unit {unit!r}; {nearest(unit, units)}.")


def _put_down(folder: RunFolder, unit: str, what: str, who: str) -> str:
    """Write it into the journal, through the station while it has that. Returns "station" or "journal"."""
    import json

    from rig.line.control import tell_station
    from rig.records.events import Reworked
    from rig.records.journal import Journal, is_live

    if not is_live(folder.journal):
        with Journal(folder.journal) as journal:
            journal.append(Reworked(unit=unit, what=what, who=who))
        return "journal"
    try:
        control = Path(json.loads((folder.path / "live.json").read_text())["control"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageProblem(f"Run {folder.id} goes on and takes no commands: say it again when it is over.") from None
    tell_station(control, {"do": "rework", "unit": unit, "what": what, "who": who})
    return "station"
