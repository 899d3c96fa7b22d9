"""A unit's process whose station goes, or wants it to end: its output goes off and it ends, whatever it hangs in."""

from __future__ import annotations

import socket
import subprocess
import sys

from tests.sim_process import ROOT

_DEAF = """
import signal, sys, threading
from fixtures import unit
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
unit.GRACE_S = 0.1
owner = unit.Owner(int(sys.argv[1]))
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
            assert process.wait(60) == -9
        finally:
            process.kill()
            process.communicate()
