"""The `rig` command: one module a command, exit codes as in rig.errors, a user's mistake in one sentence."""

from __future__ import annotations

import signal
import sys

import typer

from rig.cli import bench, convert, flash, log, report, sim
from rig.cli.terminal import err
from rig.errors import Exit, RigError
from rig.uart.scrub import scrub

app = typer.Typer(
    name="rig",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Hardware-in-the-loop test and production rig for BK7231N Wi-Fi modules. "
    "A DS-121 is a mains switch: work on it only unplugged from the mains.",
)
app.command("convert", help=convert.HELP)(convert.convert)
app.add_typer(flash.app, name="flash")
app.command("log", help=log.HELP)(log.log)
app.add_typer(bench.app, name="bench")
app.command("report", help=report.HELP)(report.report)
app.command(
    "sim",
    help=sim.HELP,
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(sim.sim)


def main() -> None:
    """Entry point. Maps the rig's errors to their sentence and exit code; other exceptions are bugs."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = app(standalone_mode=False)
    except typer.Exit as left:
        code = left.exit_code
    except RigError as problem:
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


def _terminated(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
