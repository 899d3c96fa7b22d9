"""What a network costs a slot's log and its supply: how late lines are stamped, how long a setting takes.

A pseudo-terminal is fed as a UART at 115200 baud feeds one, a byte at a time; the rig's own boot log reads it
directly, and through ser2net as `socket://` and `rfc2217://`, as labgrid starts it, on loopback; then with a relay in
between that holds every byte back. A simulated supply is asked the same way. Run by hand:
python -m benchmarks.remote_ports
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

from rig.bench.bench import open_bench
from rig.supply import client
from rig.supply.channel import Setting
from rig.uart.bootlog import BAUD, BITS_PER_BYTE, BootLog

LINES = 300
LENGTH = 48  # bytes of a line, as OpenBeken's are
GAP_S = 0.01  # between lines
SETTINGS = 100
DELAYS_S = (0.0, 0.001, 0.005, 0.02)  # each way


def feeder(fd: int) -> None:
    """In a process of its own: lines, each with when its first byte went out."""
    byte_ns = BITS_PER_BYTE * 1e9 / BAUD
    for number in range(LINES):
        began = time.monotonic_ns()
        line = f"{number} {began} ".encode().ljust(LENGTH - 1, b".") + b"\n"
        for at, byte in enumerate(line):
            while time.monotonic_ns() < began + at * byte_ns:
                pass
            os.write(fd, bytes([byte]))
        time.sleep(GAP_S)


def lateness(url: str, master: int) -> list[float]:
    """Milliseconds from a line's first byte to its stamp."""
    with BootLog.open(url) as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.remote_ports", "feed", str(master)], pass_fds=[master]
        )
        process.wait()
        log.wait_for(f"^{LINES - 1} ", 5)
        lines = [line for line in log.lines if line.text.endswith(".") and line.text.count(" ") == 2]
    assert len(lines) == LINES, f"{url}: {len(lines)} lines of {LINES}"
    return [(line.mono_ns - int(line.text.split()[1])) / 1e6 for line in lines]


@contextlib.contextmanager
def ser2net(device: str, accepter: str) -> Iterator[int]:
    """ser2net in front of a device, with labgrid's options; its port."""
    port = free_port()
    program = shutil.which("ser2net", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "apt install ser2net"
    words = [
        *("-Y", f"connection: &con01#  accepter: {accepter},{port}"),
        *("-Y", f"  connector: serialdev(nouucplock=true),{device},{BAUD}n81,local"),
        *("-Y", "  options:", "-Y", "    max-connections: 10"),
    ]
    process = subprocess.Popen([program, "-d", "-n", *words], stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens at {port}")


@contextlib.contextmanager
def relay(host: str, port: int, delay_s: float) -> Iterator[int]:
    """A port that leads to `port`, and holds what passes back for `delay_s`, each way. One connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    ends: list[socket.socket] = [listener]

    def read(source: socket.socket, held: queue.Queue[tuple[float, bytes]]) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                held.put((time.monotonic() + delay_s, chunk))
        held.put((0.0, b""))

    def write(target: socket.socket, held: queue.Queue[tuple[float, bytes]]) -> None:
        with contextlib.suppress(OSError):
            while (item := held.get())[1]:
                time.sleep(max(0.0, item[0] - time.monotonic()))
                target.sendall(item[1])
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            near, _ = listener.accept()
            far = socket.create_connection((host, port))
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ends.extend((near, far))
            for source, target in ((near, far), (far, near)):
                held: queue.Queue[tuple[float, bytes]] = queue.Queue()
                threading.Thread(target=read, args=(source, held), daemon=True).start()
                threading.Thread(target=write, args=(target, held), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        for end in ends:
            end.close()


def setting(resource: str, dialect: str | None) -> list[float]:
    """Milliseconds that it takes to set the volts of an output that is off and read them back."""
    with client.lease(resource, 1, max_volts=3.6, dialect=dialect, holder="remote_ports") as channel:
        channel.configure(Setting(volts=3.3, amps=0.5, ovp=3.6), max_volts=3.6)
        took = []
        for _ in range(SETTINGS):
            began = time.monotonic()
            channel.set_volts(3.3)
            took.append((time.monotonic() - began) * 1e3)
    return took


def row(what: str, values: list[float]) -> None:
    values = sorted(values)
    p95 = values[int(len(values) * 0.95)]
    print(f"| {what} | {statistics.median(values):.2f} | {p95:.2f} | {values[-1]:.2f} |")  # noqa: T201


def logs() -> None:
    print("| log port | p50 ms | p95 ms | worst ms |\n|---|---|---|---|")  # noqa: T201
    master, slave = os.openpty()
    tty.setraw(slave)
    device = os.ttyname(slave)
    row("device", lateness(device, master))
    with ser2net(device, "tcp") as port:
        row("ser2net, socket://", lateness(f"socket://127.0.0.1:{port}", master))
    for delay in DELAYS_S:
        with ser2net(device, "telnet(rfc2217,mode=server),tcp") as port:
            if not delay:
                row("ser2net, rfc2217://", lateness(f"rfc2217://127.0.0.1:{port}?ign_set_control", master))
                continue
            with relay("127.0.0.1", port, delay) as far:
                what = f"ser2net, rfc2217://, {delay * 1e3:g} ms each way"
                row(what, lateness(f"rfc2217://127.0.0.1:{far}?ign_set_control", master))


def supplies() -> None:
    print("\n| supply: volts set and read back | p50 ms | p95 ms | worst ms |\n|---|---|---|---|")  # noqa: T201
    for delay in DELAYS_S:
        with open_bench("sim@1") as bench:  # a new one: its service has the instrument by one way only
            table = next(iter(bench.slots.values())).supply
            _, host, port, _ = table.resource.split("::")
            if not delay:
                row("TCP, loopback", setting(table.resource, table.dialect))
                continue
            with relay(host, int(port), delay) as far:
                row(f"TCP, {delay * 1e3:g} ms each way", setting(f"TCPIP::{host}::{far}::SOCKET", table.dialect))


if __name__ == "__main__":
    if sys.argv[1:2] == ["feed"]:
        feeder(int(sys.argv[2]))
    else:
        print(f"{Path(__file__).name}, load {os.getloadavg()[0]:.1f}\n")  # noqa: T201
        logs()
        supplies()
