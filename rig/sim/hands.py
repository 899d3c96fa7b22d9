"""The operator's hands at a simulated bench, as a command: `python -m rig.sim.hands CONTROL OP SLOT`.

The simulated bench's own bench.toml names this as the slot's `change` command, so that the rig does not know
that nobody stands at the table.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any


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


def main() -> int:
    if len(sys.argv) != 4:
        sys.stderr.write("usage: python -m rig.sim.hands CONTROL OP SLOT\n")
        return 2
    control, op, slot = sys.argv[1:]
    try:
        answer = hand(Path(control), slot, op)
    except OSError as problem:
        answer = {"error": f"the simulated bench is gone ({problem.strerror})"}
    if "error" in answer:
        sys.stderr.write(f"{answer['error']}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
