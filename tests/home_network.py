"""A station's home network for tests: a real broker on loopback, and stand-in switches that come to it."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from rig.home.config import Home, HomeBroker
from rig.image.contents.secret import Secret
from rig.sim.switch import Switch
from tests.waiting import wait_until

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
PASSWD = shutil.which("mosquitto_passwd")
needs_broker = pytest.mark.skipif(
    MOSQUITTO is None or PASSWD is None, reason="no mosquitto (Debian: apt install mosquitto)"
)
USER, PASSWORD = "station", "br0ker-Passw0rd"
PACE = 40.0  # how many times faster than real the stand-ins are
_ADDRESSES = itertools.count(2)  # 127.0.0.2 and on: each switch has an address, as in a network


_PROBES: list[socket.socket] = []


def free_port(host: str = "127.0.0.1") -> int:
    """A port that stays ours to listen at: nobody is given it while this probe, which never listens, has it too."""
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind((host, 0))
    _PROBES.append(probe)
    port: int = probe.getsockname()[1]
    return port


class BrokerProcess:
    """A mosquitto that lets nobody in without the password."""

    def __init__(self, folder: Path) -> None:
        assert MOSQUITTO is not None
        assert PASSWD is not None
        self.port = free_port()
        self._folder = folder
        self._users = folder / "users"
        command = [PASSWD, "-b", "-c", str(self._users), USER, PASSWORD]
        subprocess.run(command, check=True, capture_output=True)
        self._users.chmod(0o644)  # mosquitto that was started as root gives that up before it reads it
        self.secret = folder / "broker.secret"
        self.secret.write_text(PASSWORD + "\n")
        self.secret.chmod(0o600)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        config = self._folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\npassword_file {self._users}\nallow_anonymous false\n"
            f"persistence false\nuser {_user()}\n"
        )
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([str(MOSQUITTO), "-c", str(config)], stdout=log, stderr=log)
        wait_until(self._answers, 60, "the broker")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "mosquitto.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def home(self, switch: Switch | None = None, **more: object) -> Home:
        """The [home] of this network."""
        table = HomeBroker(host="127.0.0.1", port=self.port, user=USER, password=Secret(file=str(self.secret)))
        fields: dict[str, object] = {"broker": table, "join": 20.0, "answer": 10.0, "own_ap": "127.0.0.1"}
        if switch is not None:
            fields["http_port"] = switch.web[1]
        return Home.model_validate(fields | more)

    def switch(self, mac: str = "c8:47:8c:01:59:f7", *, fault: str | None = None, **more: object) -> Switch:
        """A stand-in that is off."""
        host = f"127.0.0.{next(_ADDRESSES)}"
        web = (host, free_port(host))
        values: dict[str, object] = {"pace": PACE, "user": USER, "password": PASSWORD, "fault": fault}
        return Switch(("127.0.0.1", self.port), mac, web, **(values | more))  # type: ignore[arg-type]


def _user() -> str:
    return "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")
