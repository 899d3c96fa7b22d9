"""A place on another machine: the same command, run there over ssh, because flashing runs where the UART is.

A network hop in the flash path looks exactly like the faults under study. The board is kept by what runs on its host:
when the connection goes, the command there is stopped, its outputs go off and the place is given back.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading

from rig.errors import BenchBlocked, UsageProblem
from rig.labgrid.spec import PREFIX, PlaceSpec

OWNED = "RIG_OWNED_BY_STDIN"  # set for the command over there: it ends with its input
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
_SSH_FAILED = 255  # its own exit code; any other is the command's. Source: ssh(1)
_WORD = "RIG_REMOTE_COMMAND"  # what starts the rig over there; "rig" without it


class Elsewhere(UsageProblem):
    """The place's ports are on `host`; the `rig` command goes there by `run_there`."""

    def __init__(self, spec: PlaceSpec, host: str) -> None:
        super().__init__(
            f"place {spec.place} is on {host}, and flashing runs on the machine that has the port: run this there"
        )
        self.spec, self.host = spec, host

    def run_there(self) -> int:
        """The command that this process was started as, over there; its exit code. Raises UsageProblem, and
        BenchBlocked where ssh fails."""
        if self.spec.loopback:
            raise UsageProblem(
                f"place {self.spec.place} is on {self.host}, from where the coordinator is not at "
                f"{self.spec.coordinator}: name it as {self.host} sees it, by LG_COORDINATOR or "
                "labgrid:PLACE@HOST:PORT"
            )
        if not _HOST.fullmatch(self.host):
            raise UsageProblem(f"place {self.spec.place} is on {self.host!r}, which is no name of a machine")
        typed = sys.stdin.isatty()
        there = [*shlex.split(os.environ.get(_WORD) or "rig"), *_with_spec(sys.argv[1:], str(self.spec))]
        if not typed:
            there = ["env", f"{OWNED}=1", *there]
        # with a terminal, its hang-up ends the command over there; without one, the end of its input does
        words = ["ssh", "-t" if typed else "-T", "-o", "ServerAliveInterval=5", "--", self.host, shlex.join(there)]
        print(f"Place {self.spec.place} is on {self.host}: running there.", file=sys.stderr)  # noqa: T201
        try:
            process = subprocess.Popen(words, stdin=None if typed else subprocess.PIPE)
        except OSError as problem:
            raise UsageProblem(f"ssh cannot be started: {problem.strerror}") from None
        try:
            code = process.wait()
        except KeyboardInterrupt:
            if process.stdin is not None:
                process.stdin.close()
            code = process.wait()
        if code == _SSH_FAILED:
            raise BenchBlocked("port-lost", f"ssh could not reach {self.host}, or lost it: what it says is above")
        return code


def _with_spec(words: list[str], spec: str) -> list[str]:
    """The command line with the place by its coordinator's address: over there `LG_COORDINATOR` may be another."""
    found = []
    for word in words:
        option, equals, value = word.partition("=")
        if word.startswith(PREFIX):
            found.append(spec)
        elif equals and option == "--bench" and value.startswith(PREFIX):
            found.append(f"--bench={spec}")
        else:
            found.append(word)
    return found


def stop_with_input(stop: threading.Event) -> None:
    """Of a process that was started over ssh without a terminal: SIGTERM for it once its input ends, until `stop`."""
    if os.environ.get(OWNED) != "1":
        return
    import select
    import signal

    def watch() -> None:
        while not stop.is_set():
            ready, _, _ = select.select([0], [], [], 0.5)
            if ready and not os.read(0, 4096):
                if not stop.is_set():
                    os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=watch, name="ssh's input", daemon=True).start()
