"""The process of one simulated board: its event loop, between its two ports and the bench's requests.

Run as `python -m rig.sim.boardloop FD RAIL`, FD an inherited socket to the bench process, which speaks JSON lines:
first what the board is, then the requests of rig.sim.requests, at last `quit`, or it goes away. RAIL is one to the
supply, which asks in the same way; where that goes away, its output stays as it is.
"""

from __future__ import annotations

import json
import math
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any

from rig.sim.board import Board
from rig.sim.requests import Requests
from rig.sim.spec import BoardSpec


class Asker:
    """One end that asks; `gone` once it hung up."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.gone = False
        self._pending = b""

    def messages(self) -> list[dict[str, Any]]:
        """What has come whole."""
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            data = b""
        self.gone = not data
        *lines, self._pending = (self._pending + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def answer(self, answer: dict[str, Any]) -> None:
        try:
            self.sock.sendall(json.dumps(answer).encode() + b"\n")
        except ConnectionError:
            self.gone = True


def serve(board: Board, control: socket.socket, rail: socket.socket) -> None:
    """The event loop: until the bench says `quit` or goes away."""
    requests = Requests(board)
    bench, supply = Asker(control), Asker(rail)
    looked = False  # the last request only looked: the board is as it was left
    while not bench.gone:
        for asker in _wait(board, [each for each in (supply, bench) if not each.gone], lived=looked):
            for message in asker.messages():
                board.step(max(board.now, _moment(message)))
                looked = message.get("op") == "sense"
                if message.get("op") == "quit":
                    return
                answer = requests.handle(message)
                if answer is not None:
                    asker.answer(answer)


def _moment(message: dict[str, Any]) -> float:
    """When it holds: a set-point from when its supply gave it, however late this process came to its turn. Two that
    lie in wait together are as far apart as they were given."""
    if message.get("op") == "supply" and "ns" in message:
        return min(float(message["ns"]) / 1e9, time.monotonic())
    return time.monotonic()


def _wait(board: Board, askers: list[Asker], *, lived: bool) -> list[Asker]:
    """Let the board live until one of them says something. `lived`: it is up to date. What waits already is heard
    before it lives on: it may be of a moment that is past."""
    ports = [wire.master for wire in (board.uart1, board.uart2) if wire.plugged]
    wait = 0.0
    while True:
        watched: list[socket.socket | int] = [*(asker.sock for asker in askers), *ports]
        # select, not poll: at a high speed factor events are microseconds apart, poll's clock is milliseconds
        ready, _, _ = select.select(watched, [], [], None if wait == math.inf else max(0.0, wait))
        heard = [asker for asker in askers if asker.sock in ready]
        if heard:
            return heard
        now = time.monotonic()
        if not lived:
            board.step(now)
        lived = False
        wait = board.next_event(now) - time.monotonic()
        ports = [wire.master for wire in (board.uart1, board.uart2) if wire.plugged]


def main() -> None:
    control, rail = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    reader = control.makefile("rb")
    hello = json.loads(reader.readline())
    board = Board(BoardSpec(**hello["spec"]), Path(hello["flash"]).read_bytes(), bytes.fromhex(hello["efuse"]))
    for wire, name in ((board.uart1, "uart1"), (board.uart2, "uart2")):
        wire.link = Path(hello["links"][name])
        wire.link.symlink_to(wire.path)
    control.sendall(json.dumps({"uart1": board.uart1.path, "uart2": board.uart2.path}).encode() + b"\n")
    serve(board, control, rail)


if __name__ == "__main__":
    main()
