"""`rig report`: yield, times and measurements of one or more runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rig.cli.terminal import say

HELP = "Yield table and HTML page of runs. Example: rig report runs/20261122-171500-ab12"


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or folders holding runs.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default: report/ in the (last) run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    from reports import summary_lines, write_report

    page = write_report(runs, out or runs[-1] / "report")
    if as_json:
        typer.echo(json.dumps(json.loads((page.parent / "summary.json").read_text()), indent=2))
        return
    for line in summary_lines(runs):
        say(line)
    say(f"Report: {page}")
