"""`rig log`: power-cycle a board and show its boot log with a verdict."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from rig.bench.bench import open_bench
from rig.bench.power import BoardPower
from rig.bench.product import Product
from rig.bench.slot import use_slot
from rig.cli.terminal import err, say, say_json
from rig.errors import BenchBlocked, Coded, Exit, UsageProblem
from rig.flashers.fit import rom_current
from rig.image.firmware import load_profiles
from rig.line.boot import Boot, require_boot, watch_boot
from rig.scrub import scrub
from rig.target import check_file
from rig.uart.bootlog import BootLog
from rig.uart.verdict import BootKind

HELP = "Power-cycle a board and show its boot log with the verdict. Example: rig log --bench bench.toml --slot A"
_SAMPLE_S = 0.3  # how long the current of a silent board is averaged


def log(
    bench: Annotated[str, typer.Option(help="Bench file, or sim.")] = "bench.toml",
    slot: Annotated[str | None, typer.Option(help="Slot; default: the first.")] = None,
    seconds: Annotated[float, typer.Option(help="At most so long, seconds.")] = 30.0,
    current_limit: Annotated[float | None, typer.Option(help="Amps, instead of the product's.")] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the log, not scrubbed, readable by you only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdict and lines as JSON.")] = False,
) -> None:
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageProblem(f"--seconds takes more than 0, not {seconds:g}")
    if save is not None:
        check_file(save)
    with open_bench(bench) as opened:
        place = opened.slot(slot or next(iter(opened.slots)))
        if place.table.log_port is None:
            raise UsageProblem(f"slot {place.name} has no log_port in {opened.path}: wire TX2 to a port and name it")
        profiles = load_profiles(*opened.profiles("firmwares"))
        with (
            use_slot(place, current_limit=current_limit, holder="rig log") as used,
            BootLog.open(place.table.log_port, save) as boot_log,
        ):
            boot = watch_boot(used.link, boot_log, profiles, seconds, speed=opened.speed)
            fault = _fault(boot, used.power, place.product)
            shown = scrub(boot_log.text())
    verdict = boot.verdict
    if as_json:
        say_json(
            {
                "verdict": verdict.kind.value,
                "sentence": verdict.sentence,
                "firmware": verdict.firmware,
                "version": verdict.version,
                "reset_cause": verdict.reset_cause,
                "resets": verdict.resets,
                "seconds": boot.seconds,
                "code": fault.code if fault else None,
                "fault": str(fault) if fault else None,
                "lines": shown.splitlines(),
            }
        )
    else:
        say(shown.rstrip())
        say(f"Verdict: {verdict.kind.value}. {verdict.sentence}")
        if fault:
            err.print(f"[{fault.code}] {fault}", soft_wrap=True)
    raise typer.Exit(int(fault.exit_code if fault else Exit.GOOD))


def _fault(boot: Boot, power: BoardPower, product: Product) -> Coded | None:
    """What the boot says of board or bench, as `rig convert` would judge it; None for a good one."""
    try:
        if boot.verdict.kind is BootKind.SILENT:
            _, amps = power.average(_SAMPLE_S)
            if amps < rom_current(product)[0]:
                drawn = f"the slot draws {amps * 1000:.1f} mA"
                return BenchBlocked("no-current", f"{drawn}: no board in it, or no contact")
        require_boot(boot, power, None, None)
    except Coded as problem:
        return problem
    return None
