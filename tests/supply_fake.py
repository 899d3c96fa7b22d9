"""A small scripted supply for tests of the driver: one that can misbehave, in a dialect of its own ("acme").

Not the simulated bench supplies: those are well-behaved. This one has the oddities of several makers: a channel that
is selected first, tagged and suffixed numbers, a hexadecimal status register shared by all channels.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

ACME = """
name = "acme"
title = "Acme P2"
[identity]
match = '(?P<maker>ACME),(?P<model>P2),SN(?P<serial>[^,]*)'
source = "test"
[transport]
port = 9221
timeout_s = 10
source = "test"
[timings]
set_s = 0.05
output_s = 0.05
refresh_s = 0
source = "test"
[commands]
opening = { send = "REMOTE", source = "test" }
volts = { send = ["SEL {name}", "V {value:.2f}"], source = "test" }
amps = { send = ["SEL {name}", "I {value:.3f}"], source = "test" }
output_on = { send = ["SEL {name}", "OUT 1"], source = "test" }
output_off = { send = ["SEL {name}", "OUT 0"], source = "test" }
ovp = { send = ["SEL {name}", "OVP {value:.2f}"], source = "test" }
ovp_clear = { send = ["SEL {name}", "CLEAR"], source = "test" }
ocp_on = { send = ["SEL {name}", "OCP 1"], source = "test" }
ocp_off = { send = ["SEL {name}", "OCP 0"], source = "test" }
ocp_clear = { send = ["SEL {name}", "CLEAR"], source = "test" }
[queries]
volts = { before = "SEL {name}", send = "V?", reply = { kind = "number", prefix = "V{channel} " }, source = "test" }
amps = { before = "SEL {name}", send = "I?", reply = { kind = "number", suffix = "A" }, source = "test" }
measured_volts = { before = "SEL {name}", send = "M?", reply = { kind = "number", field = 0 }, source = "test" }
measured_amps = { before = "SEL {name}", send = "M?", reply = { kind = "number", field = 1 }, source = "test" }
output = { send = "S?", reply = { kind = "bits", masks = { 1 = 0x10, 2 = 0x20 }, values = { 0 = false, 1 = true } }, source = "test" }
mode = { send = "S?", reply = { kind = "bits", masks = { 1 = 1, 2 = 2 }, values = { 0 = "cv", 1 = "cc" } }, source = "test" }
ovp = { before = "SEL {name}", send = "OVP?", reply = { kind = "number" }, source = "test" }
ovp_tripped = { before = "SEL {name}", send = "TRIP?", reply = { kind = "word", words = { OVP = true, OCP = false, NO = false } }, source = "test" }
ocp_enabled = { before = "SEL {name}", send = "OCP?", reply = { kind = "word", words = { 1 = true, 0 = false } }, source = "test" }
ocp_tripped = { before = "SEL {name}", send = "TRIP?", reply = { kind = "word", words = { OCP = true, OVP = false, NO = false } }, source = "test" }
error = { send = "E?", reply = { kind = "error", ignore = [-103] }, source = "test" }
[[model]]
name = "P2"
channel = [
  { number = 1, name = "A", volts_max = 30, amps_max = 3, ovp_max = 33, volts_step = 0.01, amps_step = 0.001, source = "test" },
  { number = 2, name = "B", volts_max = 30, amps_max = 3, ovp_max = 33, volts_step = 0.01, amps_step = 0.001, source = "test" },
]
"""  # noqa: E501


def write_acme(folder: Path, text: str = ACME) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "acme.toml").write_text(text, encoding="utf-8")
    return folder


class FakeSupply:
    """Listens on a free port. `twist` sees each line before it is carried out and may answer in its place: a text,
    None for silence, or `FakeSupply.HANG_UP`; `FakeSupply.GO_ON` lets it be carried out."""

    GO_ON = object()
    HANG_UP = object()

    def __init__(self, serial: str = "1001", idn: str | None = None) -> None:
        self.idn = idn if idn is not None else f"ACME,P2,SN{serial}"
        self.state = {n: {"V": 0.0, "I": 0.1, "OVP": 33.0, "OUT": 0.0, "OCP": 1.0} for n in "AB"}
        self.tripped = {"A": "NO", "B": "NO"}
        self.errors: list[str] = []
        self.received: list[str] = []
        self.connections = 0
        self.twist: Callable[[str], object] = lambda line: FakeSupply.GO_ON
        self._selected = "A"
        self._clients: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def resource(self) -> str:
        return f"TCPIP::127.0.0.1::{self.port}::SOCKET"

    def hang_up(self) -> None:
        """Drop every connection, go on listening."""
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def say(self, text: str) -> None:
        """Send something nobody asked for."""
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.sendall(text.encode())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(60)

    def __enter__(self) -> FakeSupply:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._clients.append(client)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            rest = b""
            while more := client.recv(4096):
                *lines, rest = (rest + more).split(b"\n")
                for line in lines:
                    answer = self._one(line.decode())
                    if answer is self.HANG_UP:
                        client.shutdown(socket.SHUT_RDWR)
                        return
                    if answer is not None:
                        client.sendall(f"{answer}\n".encode())

    def _one(self, line: str) -> object:
        self.received.append(line)
        answer = self.twist(line)
        return self._carry_out(line) if answer is self.GO_ON else answer

    def _carry_out(self, line: str) -> object:
        me, tag = self.state[self._selected], {"A": 1, "B": 2}[self._selected]
        volts = me["V"] if me["OUT"] else 0.0
        answers: dict[str, Callable[[], str]] = {
            "*IDN?": lambda: self.idn,
            "V?": lambda: f"V{tag} {me['V']:.2f}",
            "I?": lambda: f"{me['I']:.3f}A",
            "OVP?": lambda: f"{me['OVP']:.2f}",
            "OCP?": lambda: str(int(me["OCP"])),
            "M?": lambda: f"{volts:.3f},{volts / 33:.4f},W",
            "TRIP?": lambda: self.tripped[self._selected],
            "S?": lambda: hex(16 * int(self.state["A"]["OUT"]) + 32 * int(self.state["B"]["OUT"])),
            "E?": lambda: self.errors.pop(0) if self.errors else "0  No Error",
        }
        if line in answers:
            return answers[line]()
        word, _, value = line.partition(" ")
        if word == "SEL":
            self._selected = value
        elif word == "CLEAR":
            self.tripped[self._selected] = "NO"
        elif word in me:
            me[word] = float(value)
        elif word != "REMOTE":
            self.errors.append(f"-113,Undefined header,{line}")
        return None
