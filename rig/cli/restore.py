"""`rig restore`: a board's own backup back onto it, whole."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rig.bench.bench import open_bench
from rig.cli import batch
from rig.errors import UsageProblem
from rig.line.job import Job, Stage
from rig.line.target import Order
from rig.records.kept import KeptBackup, find_kept

HELP = (
    "Put boards back: each board's own first backup onto it, from a run it was in; refused for any other board. "
    "Example: rig restore --bench bench.toml --from runs/20261122-171500-ab12/SN001"
)


def restore(
    source: Annotated[
        list[str], typer.Option("--from", metavar="RUN/UNIT", help="Which unit of which run; repeat for more boards.")
    ],
    bench: batch.BenchOption = "bench.toml",
    slot: batch.SlotOption = None,
    out_dir: batch.OutOption = Path("runs"),
    flasher: batch.FlasherOption = "native",
    override: batch.OverrideOption = None,
    current_limit: batch.CurrentOption = None,
    backup: batch.BackupOption = "fast",
    accept_no_backup: batch.NoBackupOption = None,
    waive_calibration: batch.CalibrationOption = None,
    no_boot_proof: batch.NoProofOption = False,
    report: batch.ReportOption = True,
    as_json: batch.JsonOption = False,
) -> None:
    kept = [find_kept(spec, out_dir) for spec in source]
    names = _names(kept)
    with open_bench(bench) as opened:
        chosen = batch.chosen_slots(opened, slot)
        overrides = tuple(override or ())
        for own in kept:
            batch.targets(chosen, Order("restore", own=own, overrides=overrides))
        job = Job(
            units=names,
            stages=(Stage("restore"),),
            backups={name: f"{own.run.path.resolve()}/{own.unit}" for name, own in zip(names, kept, strict=True)},
            flasher=flasher,
            overrides=overrides,
            backup=backup,
            accept_no_backup=accept_no_backup,
            no_boot_proof=no_boot_proof,
            waive_calibration=waive_calibration,
            current_limit=current_limit,
            command="rig " + " ".join(sys.argv[1:]),
        )
        batch.run_batch(opened, chosen, job, batch.Asked(out_dir, report, as_json))


def _names(kept: list[KeptBackup]) -> tuple[str, ...]:
    """Each unit by the name it had; by its run's too where two had the same. UsageProblem for one given twice."""
    for own in kept:
        if [other.identity for other in kept].count(own.identity) > 1:
            raise UsageProblem(f"--from names the board {own.identity} twice")
    units = [own.unit for own in kept]
    return tuple(own.unit if units.count(own.unit) == 1 else f"{own.run.id}-{own.unit}" for own in kept)
