"""A unit's process whose station goes, or wants it to end: its output goes off and it ends, whatever it hangs in."""

from __future__ import annotations

import errno
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures import unit
from rig.line.record import ENDING, Overran, judged
from rig.records.events import Outcome
from tests.sim_process import ROOT
from tests.waiting import wait_until

_DEAF = """
import os, signal, sys, threading
from fixtures import unit
threading.excepthook = lambda *_: os._exit(1)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
unit.GRACE_S = 0.1
owner = unit.Owner(int(sys.argv[1]))
owner.on_lost(lambda: {}["a bug, or what a dying supply service answers"])
owner.on_lost(lambda: print("off", flush=True))
print("ready", flush=True)
threading.Event().wait()
"""


def test_a_unit_that_hangs_is_switched_off_and_ends() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [sys.executable, "-c", _DEAF, str(theirs.fileno())]
        process = subprocess.Popen(words, cwd=ROOT, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True)
        theirs.close()
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            assert process.poll() is None
            ours.shutdown(socket.SHUT_WR)
            assert process.stdout.readline() == "off\n"
            assert ours.recv(100) == ENDING.encode()
            assert process.wait(60) == -9
        finally:
            process.kill()
            process.communicate()


def test_a_unit_that_is_ended_for_its_time_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own end of the socket, before it is stopped: its record says so, and no person's abort."""
    ours, theirs = socket.socketpair()
    stops: list[int] = []
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(unit.os, "kill", lambda pid, number: stops.append(number))
    monkeypatch.setattr(unit.signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(unit, "GRACE_S", 0.0)
    config: Any = SimpleNamespace(stash=pytest.Stash(), getoption=lambda name: theirs.detach())
    with ours:
        unit.pytest_configure(config)
        stop = handlers[signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt, match=r"told to end .SIGTERM") as aborted:
            stop(signal.SIGTERM, None)
        assert judged(aborted.value)[0] is Outcome.ABORTED
        ours.sendall(b"the step boot was not over after 60 s")
        ours.shutdown(socket.SHUT_WR)
        wait_until(lambda: len(stops) == 2, 60, "its stop")
        with pytest.raises(Overran) as ended:
            stop(signal.SIGTERM, None)
    assert judged(ended.value) == (Outcome.BLOCKED, "step-timeout", "the step boot was not over after 60 s")


def test_a_full_disk_is_told_from_a_fault_of_ours() -> None:
    outcome, code, sentence = judged(OSError(errno.ENOSPC, "No space left on device", "runs/x/power.csv"))
    assert (outcome, code) == (Outcome.BLOCKED, "disk-full")
    assert sentence == "no space is left on the disk of runs/x/power.csv"
    assert judged(OSError(errno.EDQUOT, "Quota exceeded"))[2] == "no space is left on the disk of the run's folder"
    several = ExceptionGroup("tearing down", [ValueError("one"), OSError(errno.ENOSPC, "No space left on device")])
    assert judged(several)[1] == "disk-full"
    assert judged(OSError(errno.EIO, "Input/output error"))[1] == "crashed"
