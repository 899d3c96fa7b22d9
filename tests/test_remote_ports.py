"""A slot's log over the network: a real ser2net in front of a pseudo-terminal, read by pyserial's URLs."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rig.bench.bench import read_bench
from rig.bench.slot import check_ports
from rig.errors import BenchBlocked
from rig.uart.bootlog import BootLog
from rig.uart.port import open_port
from tests.labgrid_lab import SER2NET
from tests.waiting import wait_until

URLS = {
    "tcp": "socket://127.0.0.1:{port}",
    "telnet(rfc2217,mode=server),tcp": "rfc2217://127.0.0.1:{port}?ign_set_control",
}
ENOUGH_S = 30.0
pytestmark = [
    pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:serial.rfc2217"),
]


def free_port() -> int:
    """One below those that the system hands out: nobody gets it between this and ser2net's start."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def ser2net(accepter: str, device: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """ser2net in front of a device, started as labgrid 26.0 starts it: its port and its process."""
    if SER2NET is None:
        pytest.skip("ser2net is not installed (Debian: apt install ser2net)")
    port = free_port()
    lines = (
        f"connection: &con01#  accepter: {accepter},127.0.0.1,{port}",
        f"  connector: serialdev(nouucplock=true),{device},115200n81,local",
        "  options:",
        "    max-connections: 10",
    )
    process = subprocess.Popen(
        [SER2NET, "-d", "-n", *(word for line in lines for word in ("-Y", line))],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, ENOUGH_S, "ser2net")
        yield port, process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def board() -> Iterator[tuple[int, str]]:
    """The far end of a log port, and the port."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("accepter", URLS, ids=lambda name: name.split("(")[0])
def test_a_log_over_the_network(accepter: str, board: tuple[int, str], tmp_path: Path) -> None:
    master, device = board
    with ser2net(accepter, device) as (port, process):
        url = URLS[accepter].format(port=port)
        bench = tmp_path / "bench.toml"
        bench.write_text(
            '[bench]\nname = "b"\n[supply.p]\nresource = "TCPIP::192.0.2.1::5025::SOCKET"\n[slot.A]\nsupply = "p"\n'
            f'channel = 1\nflash_port = "{device}"\nlog_port = "{url}"\nproduct = "ds-121"\n'
        )
        slot = read_bench(bench).slot("A")
        check_ports(slot)
        if "rfc2217" in accepter:  # a pseudo-terminal has no modem lines
            with pytest.raises(BenchBlocked, match=r"name rfc2217://\S+\?timeout=0\.3&ign_set_control"):
                open_port(url.replace("ign_set_control", "timeout=0.3"), 115200)
        with BootLog.open(str(slot.table.log_port), tmp_path / "boot.log") as log:
            before = log.mark("power-on")
            os.write(master, b"Info:MAIN:Main_Init_Before_Delay\n\xff\x00bytes\n")
            first = log.wait_for("Main_Init", ENOUGH_S)
            assert first is not None
            assert before <= first.mono_ns <= time.monotonic_ns()
            assert log.wait_for("bytes", ENOUGH_S) is not None
            assert log.raw == b"Info:MAIN:Main_Init_Before_Delay\n\xff\x00bytes\n"  # telnet's 0xFF came through
            process.kill()
            with pytest.raises(BenchBlocked, match=r"the log port .* went away") as caught:
                log.wait_for("never", ENOUGH_S)
            assert caught.value.code == "port-lost"
        assert "Main_Init" in (tmp_path / "boot.log").read_text()
        with pytest.raises(BenchBlocked, match="cannot be opened") as caught:
            check_ports(slot)
        assert "\n" not in str(caught.value)
