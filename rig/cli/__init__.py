"""The `rig` command: one module a command, exit codes as in rig.errors, a user's mistake in one sentence."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from rig.cli.terminal import err
from rig.errors import Exit, RigError
from rig.stops import stopped_by_signals

COMMANDS = {
    "convert": "Back up, flash, reboot, prove the boot, record, report.",
    "recover": "A broken board: a full image from 0x0, then convert.",
    "restore": "A board's own first backup back onto it.",
    "run": "Verify, burn in, or your own tests; or a batch file's plan.",
    "inspect": "What a firmware file is and where it may go.",
    "image": "Two files compared; a configuration for one unit.",
    "flash": "One flash operation on one board.",
    "log": "Power-cycle a board, show its boot log and verdict.",
    "bench": "The bench itself: check, list, init.",
    "releases": "Which flasher releases can be trusted: a study.",
    "power": "How much supply is enough: studies of supply failures.",
    "records": "The records: list, show, verify, rebuild, rework, purge.",
    "panel": "The operator's page, in a browser.",
    "report": "Yield table and HTML page of runs.",
    "sim": "A simulated bench until Ctrl-C.",
}  # by name: the module rig.cli.NAME with that function and HELP, or with an `app` of several


class _Later(TyperCommand):
    """A command whose module is imported once it is called: importing all of them takes half a second."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        return self._loaded().make_context(*args, **extra)

    def _loaded(self) -> Any:
        name = str(self.name)
        module = import_module(f"{__name__}.{name}")
        holder = typer.Typer(rich_markup_mode=None)
        if hasattr(module, "app"):
            holder.add_typer(module.app, name=name)
        else:
            holder.command(name, help=module.HELP, **getattr(module, "SETTINGS", {}))(getattr(module, name))
        return typer.main.get_group(holder).commands[name]


app = TyperGroup(
    name="rig",
    commands={name: _Later(name, help=text, rich_markup_mode=None) for name, text in COMMANDS.items()},
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Hardware-in-the-loop test and production rig for BK7231N Wi-Fi modules. "
    "A DS-121 is a mains switch: work on it only unplugged from the mains.",
)


def main() -> None:
    """Entry point. Maps the rig's errors to their sentence and exit code; other exceptions are bugs."""
    try:
        with stopped_by_signals(_stopped):
            code = app(standalone_mode=False)
    except typer.Exit as left:
        code = left.exit_code
    except RigError as problem:
        from rig.scrub import scrub

        if (there := getattr(problem, "run_there", None)) is not None:  # of a labgrid place on another machine
            sys.exit(_elsewhere(there))
        err.print(f"rig: {scrub(str(problem))}", markup=False, highlight=False, soft_wrap=True)
        code = problem.exit_code
    except OSError as problem:
        if problem.filename is None:  # of no file the user could have named: a bug
            raise
        err.print(f"rig: {problem.filename}: {problem.strerror}", soft_wrap=True)
        code = Exit.USAGE
    except (KeyboardInterrupt, typer.Abort):
        err.print("rig: stopped", markup=False)
        code = Exit.ABORTED
    except Exception as problem:
        show = getattr(problem, "show", None)  # a usage error of the command line
        if show is None:
            raise
        show()
        code = Exit.USAGE
    sys.exit(int(code or 0))


def _elsewhere(run_there: Callable[[], int]) -> int:
    """The same command on the machine that has the ports; its exit code."""
    try:
        return run_there()
    except RigError as problem:
        err.print(f"rig: {problem}", markup=False, highlight=False, soft_wrap=True)
        return problem.exit_code


def _stopped(number: int) -> None:
    if number != signal.SIGINT:  # whoever sends these sends them again; what ends in order is not to be cut short
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
