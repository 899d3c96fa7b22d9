"""`rig run`: a plan that writes nothing (verify, burn-in, home), a suite of one's own, or what a batch file says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rig.cli.batch import work
from rig.cli.options import UnitOptions, takes
from rig.cli.ordered import BURN_IN_REBOOTS, Wanted
from rig.errors import UsageProblem
from rig.toml import nearest

HELP = (
    "Run a plan: verify (is the image on the board, whole, and does it boot; nothing is written), burn-in (boot "
    "after boot), home (is it in the network as its user will meet it; --home FILE), or a folder or file of tests of "
    "your own. Example: "
    "rig run verify --image OpenBK7231N_QIO_1.18.300.bin --serial SN001, or "
    "rig run burn-in --reboots 50 --units 8, or rig run my-tests/, or rig run --batch w48.toml"
)

_OURS = ("verify", "burn-in", "home")
_COMMANDS = ("convert", "recover", "restore")


@takes(UnitOptions)
def run(
    options: UnitOptions,
    what: Annotated[
        str | None, typer.Argument(metavar="[verify|burn-in|home|PATH]", help="Default: the plan of the batch file.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="Image that should be on the board; default: the batch's, else the bench's.")
    ] = None,
    reboots: Annotated[
        int | None, typer.Option(min=1, help=f"Boots of a burn-in; default {BURN_IN_REBOOTS}.")
    ] = None,
) -> None:
    if what is None and options.batch is None and options.resume is None:
        raise UsageProblem("run what? verify, burn-in, home, a folder or file of tests, or --batch FILE")
    work(options, _wanted(what, image, reboots))


def _wanted(what: str | None, image: Path | None, reboots: int | None) -> Wanted:
    if what is None:
        return Wanted(None, image=image, reboots=reboots)
    if what == "verify":
        return Wanted("verify", image=image, reboots=reboots)
    if what == "burn-in":
        return Wanted("burn-in", image=image, reboots=reboots)
    if what == "home":
        return Wanted("home", image=image, reboots=reboots)
    path = Path(what)
    if path.exists():
        return Wanted("suite", image=image, reboots=reboots, suite=path.absolute())
    if what in _COMMANDS:
        raise UsageProblem(f"{what} is a command of its own: rig {what}")
    raise UsageProblem(f"{what} is neither a plan nor a folder or file of tests; {nearest(what, _OURS)}")
