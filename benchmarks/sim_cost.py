"""What the simulated bench costs the machine it runs on: a boot, an idle board, and many boards side by side.

    python -m benchmarks.sim_cost OpenBK7231N_QIO_1.18.300.bin [--units 2 --units 8]

Run on a machine with nothing else to do. Boot: wall time until the firmware's own log says so, unpaced. Idle: CPU
time of the board's process at real time, once it is up. Side by side: `rig convert` of that many boards at once, a
slot each, at real time and 921,600 baud; how long one batch takes beside the smallest.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rig.image.beken import TUYA_KEY
from rig.sim.flash import NorFlash
from rig.sim.soc import Soc

ROOT = Path(__file__).resolve().parents[1]
MARKS = ("Info:MAIN:Time 2,", "configuring interface uap")  # of OpenBeken: the second second; its access point
SETTLED_S = 25.0  # past the access point's start and what it does then


def boot(image: bytes, marks: tuple[str, ...]) -> dict[str, float]:
    """Wall seconds from power-on until each of `marks` is in the log, as fast as the machine goes."""
    log = bytearray()
    soc = Soc(
        NorFlash(image),
        struct.pack("<4I", *TUYA_KEY) + bytes(16),
        on_uart=lambda port, byte, ns: log.append(byte) if port == 2 else None,
    )
    began, found = time.monotonic(), {}
    soc.power_on()
    soc.start()
    while len(found) < len(marks) and soc.now_ns < 30_000_000_000:
        soc.run(soc.now_ns + 10_000_000)
        for mark in marks:
            if mark not in found and mark.encode() in log:
                found[mark] = time.monotonic() - began
    return found


@contextlib.contextmanager
def bench(*options: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`rig sim` with these options; its process and bench file."""
    with tempfile.TemporaryDirectory(prefix="rig-bench-") as folder:
        path = Path(folder) / "bench.toml"
        command = [sys.executable, "-m", "rig.sim", "--bench-file", str(path), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "Ctrl-C" in line:
                    break
            try:
                yield process, path
            finally:
                process.send_signal(signal.SIGTERM)


def idle(image: Path, seconds: float) -> float:
    """CPU seconds a second of one booted board's process."""
    with bench("--boards", "1", "--powered", "--flash", str(image)) as (process, _):
        board = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        time.sleep(SETTLED_S)
        began, used = time.monotonic(), cpu_seconds(board)
        time.sleep(seconds)
        return (cpu_seconds(board) - used) / (time.monotonic() - began)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def side_by_side(image: Path, units: int) -> float:
    """Wall seconds of a batch of `units`, each in a slot of its own."""
    with bench("--boards", str(units)) as (_, bench_file), tempfile.TemporaryDirectory(prefix="rig-runs-") as folder:
        command = [sys.executable, "-m", "rig.cli", "convert", "--bench", str(bench_file), "--image", str(image)]
        began = time.monotonic()
        done = subprocess.run(
            [*command, "--units", str(units), "--no-report"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"the batch of {units} ended with exit {done.returncode}:\n{done.stdout}{done.stderr}")
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description="What the simulated bench costs.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--units", type=int, action="append", help="batch sizes; default 2 and 8")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds to watch an idle board; 0: not at all")
    parser.add_argument("--boots", type=int, default=5)
    options = parser.parse_args()
    image = options.image.read_bytes()
    boots = [boot(image, MARKS) for _ in range(options.boots)]
    lines = ["| what | figure |", "|---|---|"]
    for mark in MARKS:
        times = sorted(each[mark] for each in boots)
        lines.append(
            f"| boot to `{mark}`, unpaced, wall s: least, median, most of {len(times)} "
            f"| {times[0]:.2f}, {times[len(times) // 2]:.2f}, {times[-1]:.2f} |"
        )
    if options.idle:
        lines.append(f"| idle board at real time, share of a core | {idle(options.image, options.idle):.1%} |")
    batches = {units: side_by_side(options.image, units) for units in options.units or [2, 8]}
    least = min(batches)
    for units, took in sorted(batches.items()):
        ratio = "" if units == least else f", {took / batches[least]:.2f} times that of {least}"
        lines.append(f"| {units} boards converted side by side, real time, 921600 baud, wall s | {took:.1f}{ratio} |")
    sys.stdout.write(f"{options.image.name} on {os.cpu_count()} cores\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
