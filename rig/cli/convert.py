"""`rig convert`: a batch of boards from factory firmware to an image, with proof, record and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rig.cli.batch import work
from rig.cli.options import UnitOptions, takes
from rig.cli.ordered import Wanted

HELP = (
    "Convert boards: back up, flash, reboot, prove that they boot, record, report. "
    "Example: rig convert --bench sim:2 --units 4, or "
    "rig convert --bench bench.toml --image OpenBK7231N_QIO_1.18.300.bin --serial SN001 --serial SN002, or "
    "rig convert --batch 2026-w48.toml --operator Ada"
)


@takes(UnitOptions)
def convert(
    options: UnitOptions,
    image: Annotated[
        Path | None, typer.Option(help="Image to write; default: the batch's, else the bench's.")
    ] = None,
) -> None:
    work(options, Wanted("convert", image=image))
