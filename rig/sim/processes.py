"""The bench's ends of its processes: a board each, a supply each."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rig.errors import UsageProblem
from rig.sim.link import Link
from rig.sim.spec import BoardSpec

_STOP_S = 5.0


def _start(module: str, *sockets: socket.socket) -> subprocess.Popen[bytes]:
    numbers = [each.fileno() for each in sockets]
    command = [sys.executable, "-m", module, *map(str, numbers)]
    # a Ctrl-C in the terminal is the bench's: it ends them by going away
    return subprocess.Popen(command, pass_fds=numbers, stdin=subprocess.DEVNULL, start_new_session=True)


def _stop(process: subprocess.Popen[bytes], link: Link) -> None:
    link.close()  # its loop ends when its bench goes away
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class BoardProcess:
    """One board: the operator's hands on it. `rail` is for the supply that feeds it, and closed once that has it."""

    def __init__(self, spec: BoardSpec, flash: Path, efuse: bytes, links: dict[str, str]) -> None:
        self.slot = spec.slot
        ours, theirs = socket.socketpair()
        self.rail, fed = socket.socketpair()
        with theirs, fed:
            self.process = _start("rig.sim.boardloop", theirs, fed)
        self.link = Link(ours, f"the simulated board in slot {spec.slot}")
        self.link.tell(spec=asdict(spec), flash=str(flash), efuse=efuse.hex(), links=links)

    def wait(self) -> None:
        """Until the board is up, its ports behind their names."""
        self.link.answer()

    def ask(self, **message: Any) -> dict[str, Any]:
        return self.link.ask(**message)

    def trace(self, begin: float, end: float, points: int) -> list[float | None]:
        """The rail's volts at `points` moments from `begin` to `end` (time.monotonic); None outside what is kept."""
        samples: list[float | None] = self.ask(op="trace", begin=begin, end=end, points=points)["volts"]
        return samples

    def stop(self) -> None:
        self.rail.close()
        _stop(self.process, self.link)


class SupplyProcess:
    """One supply, its outputs 1, 2 and so on feeding `boards`. What it plays, and waits for, goes `speed` times as
    fast."""

    def __init__(self, personality: str, boards: Sequence[BoardProcess], *, serial: str, speed: float = 1.0) -> None:
        ours, theirs = socket.socketpair()
        rails = [board.rail for board in boards]
        numbers = [[board.slot, board.rail.fileno()] for board in boards]
        with theirs:
            self.process = _start("rig.sim.supplyloop", theirs, *rails)
        for rail in rails:
            rail.close()
        self.link = Link(ours, f"the simulated supply {serial}")
        self.link.tell(personality=personality, serial=serial, rails=numbers, speed=speed)
        self.resource = ""

    def wait(self) -> None:
        """Until it listens: `resource` is its VISA resource then."""
        self.resource = self.link.answer()["resource"]

    @property
    def faults(self) -> dict[str, dict[str, Any]]:
        """The faults that are on, with all their options."""
        active: dict[str, dict[str, Any]] = self._ask(op="status")["faults"]
        return active

    @property
    def on(self) -> bool:
        """Whether any output is."""
        return bool(self._ask(op="status")["on"])

    def fault(self, name: str, options: Mapping[str, Any]) -> None:
        """One of `rig.sim.psu.faults.FAULTS` begins. Raises UsageProblem."""
        self._ask(op="fault", name=name, options=dict(options))

    def clear_faults(self, *names: str) -> None:
        """These end, or all. Raises UsageProblem for an unknown name."""
        self._ask(op="heal", names=names)

    def stop(self) -> None:
        """The outputs stay as they are: a cable pulled."""
        _stop(self.process, self.link)

    def _ask(self, **message: Any) -> dict[str, Any]:
        answer = self.link.ask(**message)
        if "error" in answer:
            raise UsageProblem(answer["error"])
        return answer
