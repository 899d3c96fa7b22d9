"""`rig convert`: a batch of boards from factory firmware to an image, with proof, record and report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rig.bench.bench import Bench, Slot, open_bench
from rig.bench.config import allowed_images
from rig.cli import batch
from rig.errors import UsageProblem
from rig.line.job import Job
from rig.line.provisioning import check_provision, provision_of
from rig.line.target import Order, Target

HELP = (
    "Convert boards: back up, flash, reboot, prove that they boot, record, report. "
    "Example: rig convert --bench sim:2 --units 4, or "
    "rig convert --bench bench.toml --image OpenBK7231N_QIO_1.18.300.bin --serial SN001 --serial SN002"
)


def convert(
    bench: batch.BenchOption = "bench.toml",
    image: Annotated[Path | None, typer.Option(help="Image to write; default: the bench file's.")] = None,
    units: batch.UnitsOption = None,
    serial: batch.SerialOption = None,
    slot: batch.SlotOption = None,
    out_dir: batch.OutOption = Path("runs"),
    flasher: batch.FlasherOption = "native",
    provision: batch.ProvisionOption = None,
    no_provision: batch.NoProvisionOption = False,
    override: batch.OverrideOption = None,
    current_limit: batch.CurrentOption = None,
    backup: batch.BackupOption = "fast",
    accept_no_backup: batch.NoBackupOption = None,
    waive_calibration: batch.CalibrationOption = None,
    no_boot_proof: batch.NoProofOption = False,
    report: batch.ReportOption = True,
    as_json: batch.JsonOption = False,
) -> None:
    with open_bench(bench) as opened:
        chosen = batch.chosen_slots(opened, slot)
        path = image or opened.image
        if path is None:
            raise UsageProblem(
                "which image? For OpenBeken take OpenBK7231N_QIO_<version>.bin from "
                "https://github.com/openshwprojects/OpenBK7231T_App/releases, then: "
                f"rig convert --bench {opened.path.name} --image OpenBK7231N_QIO_<version>.bin"
            )
        found = batch.targets(chosen, convert_order(opened, path, override))
        names = batch.unit_names(units, serial, len(chosen))
        job = Job(
            units=names,
            stages=(batch.stage_of(found[0]),),
            flasher=flasher,
            overrides=tuple(override or ()),
            provision=provision,
            no_provision=no_provision,
            secrets=secrets_of(chosen, found, names, provision, no_provision),
            backup=backup,
            accept_no_backup=accept_no_backup,
            no_boot_proof=no_boot_proof,
            waive_calibration=waive_calibration,
            current_limit=current_limit,
            command="rig " + " ".join(sys.argv[1:]),
        )
        batch.run_batch(opened, chosen, job, batch.Asked(out_dir, report, as_json))


def convert_order(bench: Bench, image: Path, override: list[str] | None) -> Order:
    """The order for a conversion to `image` on this bench."""
    return Order("convert", image, overrides=tuple(override or ()), allowed=allowed_images(bench.config))


def secrets_of(
    slots: list[Slot], found: list[Target], units: tuple[str, ...], path: Path | None, off: bool
) -> tuple[str, ...]:
    """The secrets of the provisioning in these slots, once it is right for all units; none where there is none.
    Raises UsageProblem."""
    secrets: list[str] = []
    for slot, target in zip(slots, found, strict=True):
        provision = provision_of(slot.product, path, off=off)
        if provision is not None:
            secrets += check_provision(provision, target, units)
    return tuple(dict.fromkeys(secrets))
