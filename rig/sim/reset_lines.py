"""A tool typed at a simulated board whose RTS and DTR are wired to CEN: `python -m rig.sim.reset_lines COMMAND...`.

A pseudo-terminal has no modem lines, so a tool that resets the board by them (bk7231tools always does) would die of
it. Here its pulse becomes the operator's hand on CEN. Which board is read off the port in the tool's command line.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rig.errors import RigError, UsageProblem
from rig.sim.hands import hand
from rig.uart.lines import LineWatch, environment


def board_of(command: Sequence[str]) -> tuple[Path, str]:
    """(control socket, slot) of the simulated board whose flash port is in `command`. Raises UsageProblem."""
    for word in command:
        control = Path(word).parent / "control"
        slot, _, port = Path(word).name.partition(".")
        if port == "uart1" and control.is_socket():
            return control, slot
    raise UsageProblem("no word of this command is the flash port of a simulated board, as `rig sim` printed it")


def run(command: Sequence[str]) -> int:
    """Run `command`; its exit code. A pulse of its reset lines resets the board. Raises UsageProblem."""
    control, slot = board_of(command)
    with LineWatch(lambda: hand(control, slot, "reset")) as watch:
        try:
            return subprocess.run(command, check=False, env=os.environ | environment(watch.address)).returncode
        except OSError as problem:
            raise UsageProblem(f"{command[0]} cannot be started: {problem.strerror}") from None


def main() -> int:
    if len(sys.argv) < 2:
        sys.stderr.write("usage: python -m rig.sim.reset_lines COMMAND...\n")
        return 2
    try:
        return run(sys.argv[1:])
    except RigError as problem:
        sys.stderr.write(f"{problem}\n")
        return int(problem.exit_code)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
