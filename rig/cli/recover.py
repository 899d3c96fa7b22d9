"""`rig recover`: a broken board gets a full image, keeps what makes it itself, boots, and may be converted then."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rig.cli.batch import work
from rig.cli.options import UnitOptions, takes
from rig.cli.ordered import Wanted
from rig.image.contents.calibration import parse_own_mac

HELP = (
    "Recover broken boards: back up what is there, write a full image from 0x0, prove that it boots, then convert "
    "with --then. Calibration, MAC and Tuya's keys stay the board's own. Example: "
    "rig recover --bench bench.toml --image working-board.bin --then OpenBK7231N_QIO_1.18.300.bin --serial SN001"
)


@takes(UnitOptions)
def recover(
    options: UnitOptions,
    image: Annotated[
        Path | None, typer.Option(help="A full dump of such a board, or a QIO; needed unless the batch names it.")
    ] = None,
    then: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Convert to this image afterwards, on the same board.")
    ] = None,
    mac: Annotated[
        str | None, typer.Option(help="MAC for a board that lost its own; default: from its efuse.")
    ] = None,
) -> None:
    mac = None if mac is None else parse_own_mac(mac)
    work(options, Wanted("recover", image=image, then=then, mac=mac))
