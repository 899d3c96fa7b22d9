"""The asking end of a socket between two processes of a simulated bench: JSON lines, one request at a time."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any


class Link:
    """Takes `sock` over. `who` is at the other end; its death is a RuntimeError for whoever asks."""

    def __init__(self, sock: socket.socket, who: str) -> None:
        self._socket = sock
        self._reader = sock.makefile("rb")
        self._who = who
        self._lock = threading.Lock()

    def tell(self, **message: Any) -> None:
        """What is not answered."""
        with self._lock:
            self._send(message)

    def ask(self, **message: Any) -> dict[str, Any]:
        with self._lock:
            self._send(message)
            return self._receive()

    def answer(self) -> dict[str, Any]:
        """To what was told before, where it is answered after all."""
        with self._lock:
            return self._receive()

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except ConnectionError:
            raise self._died() from None

    def _receive(self) -> dict[str, Any]:
        line = self._reader.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self) -> RuntimeError:
        return RuntimeError(f"{self._who} died; its message is above")


class RailLink:
    """A board's rail as the supply's output sees it (`rig.sim.psu.Rail`), in whichever process the board is."""

    def __init__(self, link: Link) -> None:
        self.link = link

    def apply(self, on: bool, volts: float, amps: float) -> None:
        ns = time.monotonic_ns()  # when the supply did it, however late the board hears of it
        self.link.tell(op="supply", on=on, volts=volts, amps=amps, ns=ns)

    def plan(self, points: Sequence[tuple[float, bool, float, float]]) -> None:
        """What the supply plays, told ahead: the board follows it on its own clock, however busy the machine is."""
        self.link.tell(op="supply-plan", points=[list(point) for point in points])

    def sense(self) -> tuple[float, float, str]:
        answer = self.link.ask(op="sense")
        return answer["volts"], answer["amps"], answer["mode"]
