"""A flasher in a process of its own that can be killed: `Flashers` starts them at a chip that lives in the test.

Run as a program it forks a child for each order (one JSON line), so that starting one costs no imports. The child
asks for its board's power with `prepare` and goes on when it is answered.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from rig.errors import RigError
from rig.flashers.native import NativeFlasher


class Flashers:
    """In the test: starts flashers, one at a time. Use it with `with`."""

    def __enter__(self) -> Flashers:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def run(
        self,
        path: str,
        operation: str,
        pieces: list[tuple[int, bytes]],
        *,
        prepare: Callable[[], None],
        started: Callable[[int], None] = lambda pid: None,
    ) -> tuple[int, dict[str, Any] | None]:
        """(exit status, what it said) of one operation; None where it died before it could say anything."""
        coded = [(offset, base64.b64encode(data).decode()) for offset, data in pieces]
        self._send({"path": path, "operation": operation, "pieces": coded})
        said = None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, _, rest = line.strip().partition(" ")
            if what == "pid":
                started(int(rest))
            elif what == "prepare":
                prepare()
                self._send("on")
            elif what == "result":
                said = json.loads(rest)
            elif what == "ended":
                return int(rest), said
        raise AssertionError("the process that starts flashers died")

    def _send(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()


class _Link:
    """A board whose power is in the other process."""

    baud = 2_000_000
    lines = ""
    power_on_ns = 0

    def __init__(self, path: str) -> None:
        self.path = path

    def prepare(self) -> None:
        _say("prepare")
        _hear()

    def off(self) -> bool:
        return True

    def sample(self) -> None: ...

    def check(self) -> None:
        pass


def _say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def _hear() -> Any:
    """One line, byte by byte: what follows may be for another process."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(0)
        line += byte
    return json.loads(line)


def _work(order: dict[str, Any]) -> None:
    pieces = [(offset, base64.b64decode(data)) for offset, data in order["pieces"]]
    flasher = NativeFlasher()
    try:
        result = getattr(flasher, order["operation"])(_Link(order["path"]), pieces)
        said = {"ok": result.ok, "said": result.said, "retries": result.retries}
    except RigError as problem:
        said = {"ok": False, "said": str(problem), "retries": flasher.retries}
    _say(f"result {json.dumps(said)}")


def main() -> None:
    while True:
        order = _hear()
        pid = os.fork()
        if pid == 0:
            _say(f"pid {os.getpid()}")  # before it asks for anything: who wants to kill it knows whom
            _work(order)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        _say(f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
