"""`rig sim`: a simulated bench until Ctrl-C."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rig.errors import Exit, RigError, UsageProblem
from rig.sim.bench import SimBench
from rig.sim.constants import BENCH, sources
from rig.sim.faults import described, parse
from rig.sim.psu import PERSONALITIES
from rig.sim.spec import MCUS, SimOptions, check_options
from rig.stops import leave_to_parent, stopped_by_signals
from rig.target import check_file

_LINGER_S = 5.0  # after the owner went away: long enough for a supply service to switch the outputs off

app = typer.Typer(add_completion=False)


@app.command(
    help="A simulated bench until Ctrl-C: boards that execute what is in their flash, behind serial ports and a "
    "VISA supply. Example: rig sim --boards 2 --speed 20 --bench-file b.toml"
)
def sim(
    boards: Annotated[int, typer.Option(help="How many boards, a slot each.")] = 1,
    bench_file: Annotated[Path, typer.Option(help="Where to write the bench file.")] = Path("bench-sim.toml"),
    flash: Annotated[
        Path | None, typer.Option(help="Content of the boards' flash; default: our factory demo.")
    ] = None,
    speed: Annotated[float, typer.Option(help="How many times faster than real all runs.")] = 1.0,
    powered: Annotated[bool, typer.Option("--powered", help="Boards are fed as from a fixed 3.3 V supply.")] = False,
    reset_every: Annotated[
        float, typer.Option(help="Bridge CEN once nobody has been linked for so many seconds; 0: never.")
    ] = 0.0,
    supply: Annotated[str, typer.Option(help=f"Which supply: {', '.join(PERSONALITIES)}.")] = "keysight-e36312a",
    seed: Annotated[
        int | None, typer.Option(help="Seed of all that is random; default: other boards each time.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="A fault that is there from the start, SLOT:NAME[:option=value,...]; repeat for more."),
    ] = None,
    list_faults: Annotated[bool, typer.Option("--list-faults", help="Print what --fault can ask for.")] = False,
    boards_per_supply: Annotated[
        int | None, typer.Option(help="How many boards share a supply; default: as many as it has outputs.")
    ] = None,
    mcu: Annotated[str, typer.Option(help=f"What hangs on each board's UART1: {', '.join(MCUS)}.")] = "",
    constants: Annotated[
        Path | None, typer.Option(help="A TOML file of physical constants that differ, for all boards or for one.")
    ] = None,
    source: Annotated[str, typer.Option(help=f"What feeds the boards: {', '.join(sources())}.")] = BENCH,
    witness: Annotated[bool, typer.Option("--witness", help="An oscilloscope on each board's rail.")] = False,
    owned: Annotated[bool, typer.Option("--owned", hidden=True)] = False,
) -> None:
    if list_faults:
        typer.echo(described())
        return
    asked = tuple(parse(text) for text in fault or [])
    options = SimOptions(boards, flash, speed, powered, reset_every, supply, seed, asked, boards_per_supply, mcu)
    options = replace(options, constants=constants, source=source, witness=witness)
    check_options(options)
    if not owned:
        check_file(bench_file)
        _spare(bench_file)
    if owned:
        leave_to_parent()  # the outputs go off through the bench
        with SimBench(options, None) as bench:
            _tell_owner(bench)
        return
    stop_r, stop_w = os.pipe()
    with stopped_by_signals(lambda number: os.write(stop_w, b"x")), SimBench(options, bench_file) as bench:
        _tell_person(bench)
        select.select([stop_r], [], [])
        bench_file.unlink(missing_ok=True)


def _spare(bench_file: Path) -> None:
    """A real bench's file is not overwritten, and removed at the end, by a simulated one of that name."""
    if bench_file.exists() and "simulated_speed" not in bench_file.read_text(errors="replace"):
        raise UsageProblem(f"{bench_file} is there and is no simulated bench's: name another --bench-file")


def _tell_owner(bench: SimBench) -> None:
    """Started by another rig command: say where we are, and stay until its end of stdin closes."""
    typer.echo(json.dumps({"bench_file": str(bench.bench_file)}))
    sys.stdout.flush()
    select.select([0], [], [])
    deadline = time.monotonic() + _LINGER_S
    while time.monotonic() < deadline and any(supply.on for supply in bench.supplies):
        time.sleep(0.05)


def _tell_person(bench: SimBench) -> None:
    speed = bench.options.speed
    pace = "real time" if speed == 1 else f"{speed:g} times real time"
    typer.echo(f"Simulated bench, {len(bench.boards)} board(s) at {pace}: {bench.bench_file}")
    for slot, ports in bench.ports.items():
        typer.echo(f"  slot {slot}: flash port {ports['uart1']}, log port {ports['uart2']}")
    for supply in bench.supplies:
        typer.echo(f"  supply: {supply.resource}")
    for slot, scope in bench.scopes.items():
        typer.echo(f"  witness of slot {slot}: {scope.resource}")
    typer.echo("Ctrl-C ends it.")
    sys.stdout.flush()


def main() -> None:
    try:
        app(standalone_mode=True, prog_name="rig sim")
    except RigError as problem:
        typer.echo(f"rig sim: {problem}", err=True)
        raise SystemExit(int(problem.exit_code)) from None
    except OSError as problem:
        if problem.filename is None:
            raise
        typer.echo(f"rig sim: {problem.filename}: {problem.strerror}", err=True)
        raise SystemExit(int(Exit.USAGE)) from None


if __name__ == "__main__":
    main()
