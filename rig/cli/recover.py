"""`rig recover`: a broken board gets a full image, keeps what makes it itself, boots, and may be converted then."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rig.bench.bench import open_bench
from rig.bench.config import allowed_images
from rig.cli import batch
from rig.cli.convert import convert_order, secrets_of
from rig.errors import UsageProblem
from rig.image.contents.calibration import parse_own_mac
from rig.line.job import Job
from rig.line.target import Order

HELP = (
    "Recover broken boards: back up what is there, write a full image from 0x0, prove that it boots, then convert "
    "with --then. Calibration, MAC and Tuya's keys stay the board's own. Example: "
    "rig recover --bench bench.toml --image working-board.bin --then OpenBK7231N_QIO_1.18.300.bin --serial SN001"
)


def recover(
    image: Annotated[Path, typer.Option(help="A full dump of such a board, or a QIO.")],
    then: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Convert to this image afterwards, on the same board.")
    ] = None,
    mac: Annotated[
        str | None, typer.Option(help="MAC for a board that lost its own; default: from its efuse.")
    ] = None,
    bench: batch.BenchOption = "bench.toml",
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
    if then is None and (provision is not None or no_provision):
        raise UsageProblem("--provision is for the conversion: name its image with --then FILE")
    mac = None if mac is None else parse_own_mac(mac)
    with open_bench(bench) as opened:
        chosen = batch.chosen_slots(opened, slot)
        names = batch.unit_names(units, serial, len(chosen))
        order = Order("recover", image, overrides=tuple(override or ()), allowed=allowed_images(opened.config))
        stages = [batch.stage_of(batch.targets(chosen, order)[0])]
        secrets: tuple[str, ...] = ()
        if then is not None:
            found = batch.targets(chosen, convert_order(opened, then, override))
            stages.append(batch.stage_of(found[0]))
            secrets = secrets_of(chosen, found, names, provision, no_provision)
        job = Job(
            units=names,
            stages=tuple(stages),
            flasher=flasher,
            overrides=order.overrides,
            mac=mac,
            provision=provision,
            no_provision=no_provision,
            secrets=secrets,
            backup=backup,
            accept_no_backup=accept_no_backup,
            no_boot_proof=no_boot_proof,
            waive_calibration=waive_calibration,
            current_limit=current_limit,
            command="rig " + " ".join(sys.argv[1:]),
        )
        batch.run_batch(opened, chosen, job, batch.Asked(out_dir, report, as_json))
