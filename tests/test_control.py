"""The control socket: whatever comes over it, the station and the socket live on, and a mistake is one sentence."""

from __future__ import annotations

import errno
import json
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rig.errors import UsageProblem
from rig.line.control import ControlServer, tell_station
from rig.line.orders import Orders


def orders() -> Orders:
    """Of a station with a slot A that nothing is at work in."""
    ground: Any = SimpleNamespace(job=SimpleNamespace(operator=None), stopped=threading.Event())
    nothing: Any = SimpleNamespace(changed=lambda: None)
    return Orders(ground, nothing, nothing, nothing, nothing, {"A": nothing}, lambda: None, lambda unit: None)


@pytest.mark.parametrize(
    "line",
    [b"", b"null", b"[]", b"\xff\xfe", b'"' + b"x" * 5000, b"[" * 60_000, b'{"a":' * 10_000, b"9" * 20_000, b"\x00"],
)
def test_what_is_no_command_is_told_so_and_the_next_one_is_taken(line: bytes, tmp_path: Path) -> None:
    with (
        ControlServer(tmp_path, lambda command: {"was": command["do"]}) as server,
        socket.socket(socket.AF_UNIX) as client,
        client.makefile("rb") as answers,
    ):
        client.settimeout(20)
        client.connect(str(server.address))
        client.sendall(line + b"\n" + b'{"do": "state"}\n')
        assert json.loads(answers.readline()) == {"error": "a command is a JSON object on one line"}
        assert json.loads(answers.readline()) == {"ok": True, "was": "state"}


@pytest.mark.parametrize(
    "command",
    [
        {}, {"do": None}, {"do": ["abort"]}, {"do": {"a": 1}}, {"do": "abort", "slot": ["A"]},
        {"do": "abort", "slot": {"A": 1}}, {"do": "abort", "slot": "B"}, {"do": "release", "slot": 1},
        {"do": "rework", "unit": ["SN1"], "what": "x", "who": "y"}, {"do": "operator", "who": "a\nb"},
        {"do": "operator", "who": "\ud800"}, {"do": "operator", "who": "x" * 201},
    ],
)  # fmt: skip
def test_a_command_that_makes_no_sense_is_one_sentence(command: dict[str, Any], tmp_path: Path) -> None:
    with ControlServer(tmp_path, orders().do) as server, pytest.raises(UsageProblem) as said:
        tell_station(server.address, command)
    assert "failed at it" not in str(said.value)
    assert len(str(said.value)) < 300


def test_a_moment_without_descriptors_does_not_close_it_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    class Poor(socket.socket):
        def accept(self) -> Any:
            if not failed.is_set():
                failed.set()
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr("rig.line.control.socket.socket", Poor)
    with ControlServer(tmp_path, lambda command: {}) as server:
        assert failed.wait(20)
        assert tell_station(server.address, {"do": "state"}) == {"ok": True}
