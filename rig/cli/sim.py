"""`rig sim`: hands over to the simulator's own program; nothing else in the rig imports it."""

from __future__ import annotations

import os
import sys

import typer

HELP = "A simulated bench until Ctrl-C. Example: rig sim --boards 2 --speed 20 --bench-file b.toml"
SETTINGS = {
    "add_help_option": False,
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
}  # its options are those of `python -m rig.sim`


def sim(context: typer.Context) -> None:
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "rig.sim", *context.args])
