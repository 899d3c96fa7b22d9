"""`rig restore`: a board's own backup back onto it, whole."""

from __future__ import annotations

from typing import Annotated

import typer

from rig.cli.batch import work
from rig.cli.options import LineOptions, takes
from rig.cli.ordered import Wanted
from rig.errors import UsageProblem
from rig.records.kept import KeptBackup, find_kept

HELP = (
    "Put boards back: each board's own first backup onto it, from a run it was in; refused for any other board. "
    "Example: rig restore --bench bench.toml --from runs/20261122-171500-ab12/SN001"
)


@takes(LineOptions)
def restore(
    options: LineOptions,
    source: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="RUN/UNIT", help="Which unit of which run; repeat for more boards."),
    ] = None,
) -> None:
    if not source and options.resume is None:
        raise UsageProblem("whose backup? Name a run and a unit in it: rig restore --from RUN/UNIT")
    kept = [find_kept(spec, options.out) for spec in source or ()]
    backups = {name: f"{own.run.path.resolve()}/{own.unit}" for name, own in zip(_names(kept), kept, strict=True)}
    work(options, Wanted("restore", backups=backups))


def _names(kept: list[KeptBackup]) -> tuple[str, ...]:
    """Each unit by the name it had; by its run's too where two had the same. UsageProblem for one given twice."""
    for own in kept:
        if [other.identity for other in kept].count(own.identity) > 1:
            raise UsageProblem(f"--from names the board {own.identity} twice")
    units = [own.unit for own in kept]
    return tuple(own.unit if units.count(own.unit) == 1 else f"{own.run.id}-{own.unit}" for own in kept)
