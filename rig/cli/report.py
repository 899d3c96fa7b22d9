"""`rig report`: yield, times and measurements of one or more runs, and what stands out in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rig.cli.terminal import say
from rig.errors import UsageProblem

HELP = (
    "Yield, measurements and what stands out, as HTML pages: of runs, a database or Parquet. "
    "Example: rig report runs/20261122-171500-ab12"
)


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Folders of runs, folders holding runs, sqlite:///runs/rig.db, a folder of Parquet; or of studies."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Where to write; default: report/ in the (last) run.")] = None,
    index: Annotated[
        bool | None,
        typer.Option("--index/--no-index", help="A page over batches, and one each; default: for several batches."),
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Write csv, parquet, junit or openhtf as well; repeatable."),
    ] = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME.max=VALUE", help="Yield with another limit (or NAME.min=); repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    from rig.cli.study_report import report_studies, studies_in

    if studies_in(runs):
        if index is not None or export or what_if:
            raise UsageProblem("--index, --export and --what-if are for runs of a line, not for studies")
        report_studies(runs, out, as_json)
        return
    import reports
    from reports.memory import keep_freed

    keep_freed()
    records = reports.read(runs)
    where = out or _beside(runs[-1])
    several = reports.batches(records) > 1 if index is None else index
    write = reports.write_index if several else reports.write_report
    page = write(records, where, what_ifs=what_if or [], exports=export or [])
    if as_json:
        told = page.parent / ("index.json" if several else "summary.json")
        typer.echo(json.dumps(json.loads(told.read_text(encoding="utf-8")), indent=2))
        return
    for line in reports.summary_lines(records):
        say(line)
    say(f"Report: {page}")


def _beside(source: str) -> Path:
    """Where a report goes that nobody gave a place: into the run or the folder of runs, beside a database or a folder
    of Parquet."""
    from rig.records.database import file_of

    if "://" in source:
        file = file_of(source)
        return (file.parent if file else Path()) / "report"
    path = Path(source)
    is_parquet = path.is_dir() and any(path.glob("*.parquet"))
    return path.with_name(f"{path.name}-report") if is_parquet else path / "report"
