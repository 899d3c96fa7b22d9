"""The process of one simulated board: its event loop, between its two ports and the bench's requests.

Run as `python -m rig.sim.boardloop FD`, FD an inherited socket to the bench process, which speaks JSON lines: first
what the board is, then the requests of rig.sim.requests, at last `quit`, or it goes away.
"""

from __future__ import annotations

import json
import math
import select
import socket
import sys
import time
from pathlib import Path

from rig.sim.board import Board
from rig.sim.requests import Requests
from rig.sim.spec import BoardSpec


def serve(board: Board, control: socket.socket) -> None:
    """The event loop: until the bench says `quit` or goes away."""
    control.setblocking(False)
    requests = Requests(board)
    pending = b""
    looked = False  # the last request only looked: the board is as it was left
    while True:
        _wait(board, control, lived=looked)
        try:
            data = control.recv(65536)
        except ConnectionError:
            return
        if not data:
            return
        pending += data
        while b"\n" in pending:
            line, pending = pending.split(b"\n", 1)
            board.step(time.monotonic())
            message = json.loads(line)
            looked = message.get("op") == "sense"
            if message.get("op") == "quit":
                return
            answer = requests.handle(message)
            if answer is None:
                continue
            try:
                control.sendall(json.dumps(answer).encode() + b"\n")
            except ConnectionError:
                return


def _wait(board: Board, control: socket.socket, *, lived: bool) -> None:
    """Let the board live until the bench says something. `lived`: it is up to date."""
    while True:
        now = time.monotonic()
        if not lived:
            board.step(now)
        lived = False
        wait = board.next_event(now) - time.monotonic()
        ports = [wire.master for wire in (board.uart1, board.uart2) if wire.plugged]
        watched: list[socket.socket | int] = [control, *ports]
        # select, not poll: at a high speed factor events are microseconds apart, poll's clock is milliseconds
        ready, _, _ = select.select(watched, [], [], None if wait == math.inf else max(0.0, wait))
        if control in ready:
            return


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    reader = control.makefile("rb")
    hello = json.loads(reader.readline())
    board = Board(BoardSpec(**hello["spec"]), Path(hello["flash"]).read_bytes(), bytes.fromhex(hello["efuse"]))
    for wire, name in ((board.uart1, "uart1"), (board.uart2, "uart2")):
        wire.link = Path(hello["links"][name])
        wire.link.symlink_to(wire.path)
    control.sendall(json.dumps({"uart1": board.uart1.path, "uart2": board.uart2.path}).encode() + b"\n")
    serve(board, control)


if __name__ == "__main__":
    main()
