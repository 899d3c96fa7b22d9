"""The operator's hands at a simulated bench, as a command: `python -m rig.sim.hands CONTROL OP SLOT [FAULT ...]`.

The simulated bench's own bench.toml names this as the slot's `change` command, so that the rig does not know
that nobody stands at the table. Tests and studies besides ask for faults: `fault A late ms=40`, `heal A late`,
`faults A` lists what there is and what is on.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from rig.errors import UsageProblem

_SHOWN = ("faults", "status")  # operations whose answer a person wants to see
_NAMED = ("fault", "heal", "supply-fault", "supply-heal")


def hand(control: Path, slot: str, op: str, **more: Any) -> dict[str, Any]:
    """From another process: do `op` at the bench whose control socket is `control`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(control))
        connection.sendall(json.dumps({"op": op, "slot": slot, **more}).encode() + b"\n")
        line = connection.makefile("rb").readline()
    if not line:
        return {"error": "the simulated bench ended without an answer"}
    answer: dict[str, Any] = json.loads(line)
    return answer


def _asked(op: str, words: list[str]) -> dict[str, Any]:
    """What follows the slot: a fault's name and options. Raises UsageProblem."""
    from rig.sim.faults import pairs

    if not words:
        return {}
    if op not in _NAMED:
        raise UsageProblem(f"{op} takes no more than a slot, not {words[0]!r}")
    return {"name": words[0], **({"options": pairs(words[1:])} if words[1:] else {})}


def _units() -> dict[str, str]:
    """What a station tells its `change` command: whose board is wanted, where it is, and which one goes out."""
    told = {"unit": "RIG_UNIT", "origin": "RIG_FROM", "before": "RIG_UNIT_BEFORE", "run": "RIG_RUN"}
    return {name: os.environ[variable] for name, variable in told.items() if os.environ.get(variable)}


def main() -> int:
    if len(sys.argv) < 4 or (sys.argv[2] in ("fault", "supply-fault") and len(sys.argv) < 5):
        sys.stderr.write("usage: python -m rig.sim.hands CONTROL OP SLOT [FAULT [option=value ...]]\n")
        return 2
    control, op, slot = sys.argv[1:4]
    try:
        answer = hand(Path(control), slot, op, **_asked(op, sys.argv[4:]), **(_units() if op == "change" else {}))
    except UsageProblem as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    except OSError as problem:
        answer = {"error": f"the simulated bench is gone ({problem.strerror})"}
    if "error" in answer:
        sys.stderr.write(f"{answer['error']}\n")
        return 1
    if op in _SHOWN:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
