"""The process of one simulated supply: its socket on the network, its clock, and the bench's requests.

Run as `python -m rig.sim.supplyloop FD`, FD an inherited socket to the bench process, which speaks JSON lines: first
what the supply is, `rails` being inherited sockets to its boards; then `fault`, `heal`, `status`. It ends when the
bench goes away. A process of its own, since a bench's sixteen supplies are asked hundreds of times a second: in one
process they would get one process's share of a busy machine, and answer seconds late.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

from rig.errors import UsageProblem
from rig.sim.link import Link, RailLink
from rig.sim.psu import PsuServer


def handle(supply: PsuServer, message: dict[str, Any]) -> dict[str, Any]:
    """Carry out one request; {"error": ...} where something is wrong."""
    try:
        if message["op"] == "fault":
            supply.fault(message["name"], **message["options"])
        elif message["op"] == "heal":
            supply.clear_faults(*message["names"])
    except UsageProblem as problem:
        return {"error": str(problem)}
    return {"faults": supply.faults, "on": any(output.on for output in supply.outputs)}


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    with control, control.makefile("rb") as requests:
        hello = json.loads(requests.readline())
        boards = [
            Link(socket.socket(fileno=fd), f"the simulated board in slot {slot}") for slot, fd in hello["rails"]
        ]
        rails, scale = [RailLink(board) for board in boards], 1 / hello["speed"]
        with PsuServer(hello["personality"], rails, serial=hello["serial"], time_scale=scale) as supply:
            control.sendall(json.dumps({"resource": supply.resource}).encode() + b"\n")
            for line in requests:
                control.sendall(json.dumps(handle(supply, json.loads(line))).encode() + b"\n")


if __name__ == "__main__":
    main()
