"""RTS and DTR of a tool on a pseudo-terminal: what it sees of them, and what is heard outside."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator

import pytest

from rig.uart import lines
from rig.uart.lines import LineWatch, environment

PULL = "p.rts = True; p.dtr = True; p.dtr = False; p.rts = False"  # as bk7231tools does


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects may be held up before he says anything."""
    monkeypatch.setattr(lines, "_PATIENCE_S", 60.0)


@pytest.fixture
def port() -> Iterator[str]:
    master, slave = os.openpty()
    tty.setraw(slave)
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


def tool(port: str, script: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A tool of one line: opens the port with pyserial, its own release, and does as `script` says."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", f"import serial; p = serial.Serial({port!r}); {script}"],
        env=kept | variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_pulse_is_heard_once_and_before_the_tool_goes_on(port: str) -> None:
    pulses: list[str] = []
    with LineWatch(lambda: pulses.append("pulse")) as watch:
        done = tool(port, f"{PULL}; print(p.cts, 'went on')", environment(watch.address))
        assert done.stdout == "False went on\n", done.stderr
        assert pulses == ["pulse"]


@pytest.mark.parametrize(
    ("script", "pulses"),
    [
        ("pass", 0),  # an open port holds both on
        ("p.dtr = False; p.rts = True; p.rts = False", 1),  # as tools do that pull RTS alone
        ("p.rts = False; p.rts = True", 0),  # DTR stayed on
        (f"{PULL}; p.rts = False; p.dtr = False", 1),
        (f"{PULL}; {PULL}", 2),
        (f"{PULL}; p.close(); p.open(); {PULL}", 2),
    ],
)
def test_what_is_a_pulse(port: str, script: str, pulses: int) -> None:
    heard: list[int] = []
    with LineWatch(lambda: heard.append(1)) as watch:
        done = tool(port, script, environment(watch.address))
    assert (done.returncode, len(heard)) == (0, pulses), done.stderr


def test_a_tool_waits_for_what_its_pulse_causes(port: str) -> None:
    free = threading.Event()
    with LineWatch(lambda: free.wait(60)) as watch:
        ended = threading.Event()

        def run() -> None:
            tool(port, PULL, environment(watch.address))
            ended.set()

        thread = threading.Thread(target=run)
        thread.start()
        assert not ended.wait(0.5)
        free.set()
        assert ended.wait(60)
        thread.join()


def test_nobody_who_listens_is_no_error_but_no_variable_is_a_pseudo_terminal_as_it_is(port: str) -> None:
    with LineWatch(lambda: None) as watch:
        gone = watch.address
    assert tool(port, PULL, environment(gone)).returncode == 0
    bare = environment(gone) | {"RIG_MODEM_LINES": ""}
    assert "Inappropriate ioctl" in tool(port, PULL, bare).stderr


def test_other_refusals_stay_refusals(port: str) -> None:
    with LineWatch(lambda: None) as watch:
        script = "import fcntl, termios; fcntl.ioctl(p.fd, termios.TIOCGSERIAL, bytes(72))"
        assert "Inappropriate ioctl" in tool(port, script, environment(watch.address)).stderr


def test_what_is_no_message_changes_nothing() -> None:
    pulses: list[int] = []
    with LineWatch(lambda: pulses.append(1)) as watch:
        for text in (b"rts=1 dtr=1\n", b"nonsense\n", b"", b"rts=0 dtr=0", b"rts=0 dtr=0\n"):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(60)
                connection.connect("\0" + watch.address[1:])
                connection.sendall(text)
                connection.shutdown(socket.SHUT_WR)
                answered = connection.recv(1) == b"."
                assert answered == text.startswith(b"rts") & text.endswith(b"\n")
        assert pulses == [1]


def test_nothing_of_it_stays() -> None:
    before = threading.enumerate()
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with LineWatch(lambda: None):
            pass
    assert set(threading.enumerate()) <= set(before)  # what others left here may end meanwhile
    assert len(os.listdir("/proc/self/fd")) <= descriptors
