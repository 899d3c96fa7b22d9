"""How long a whole conversion takes at real time: `rig convert` of batches of two simulated boards in one slot.

The second unit is what a batch costs: its backup needs to read only what the first did not hold too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sim_cost import ROOT, bench
from rig.records.events import Event, Measured, PhaseEnded, PhaseStarted
from rig.records.journal import read_journal
from rig.records.run import latest

TIME_2 = "Info:MAIN:Time 2,"  # OpenBeken's second second
_STAMP = re.compile(r"\[ *(\d+\.\d+)\]")
UNITS = 2


@dataclass(frozen=True)
class Conversion:
    """One unit, in seconds. `firmware`: from the first power-on to the firmware's `Time 2`, backup included, without
    `settled`, the re-read after a power-cycle; `held`: what the boot step waits on, to boot complete; `whole`: from
    the first power-on to the end of the last step."""

    firmware: float
    settled: float
    held: float
    whole: float


def convert_batch(image: Path, baud: int) -> list[Conversion]:
    """One batch of two, at real time."""
    with bench("--boards", "1") as (_, bench_file), tempfile.TemporaryDirectory(prefix="rig-runs-") as folder:
        text = bench_file.read_text()
        bench_file.write_text(re.sub(r"(?m)^baud = \d+", f"baud = {baud}", text))
        assert f"baud = {baud}" in bench_file.read_text(), text
        command = [sys.executable, "-m", "rig.cli", "convert", "--bench", str(bench_file), "--image", str(image)]
        done = subprocess.run(
            [*command, "--units", str(UNITS), "--no-report"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"the batch ended with exit {done.returncode}:\n{done.stdout}{done.stderr}")
        run = latest(Path(folder) / "runs")
        happened, _ = read_journal(run.journal)
        return [_times(happened, str(unit), run.path) for unit in range(1, UNITS + 1)]


def _times(happened: Sequence[Event], unit: str, run: Path) -> Conversion:
    mine = [event for event in happened if getattr(event, "unit", None) == unit]
    began = {event.phase: event.mono_ns / 1e9 for event in mine if isinstance(event, PhaseStarted)}
    ended = {event.phase: event.mono_ns / 1e9 for event in mine if isinstance(event, PhaseEnded)}
    (boot_time,) = [event.value for event in mine if isinstance(event, Measured) and event.name == "boot_time"]
    assert isinstance(boot_time, float)
    time_2 = ended["boot"] - boot_time + _logged(run / "units" / unit / "1" / "boot.log", TIME_2)
    return Conversion(
        firmware=ended["flash"] - began["identify"] + time_2 - began["boot"],
        settled=ended["settled"] - began["settled"],
        held=ended["boot"] - time_2,
        whole=ended["steady"] - began["identify"],
    )


def _logged(log: Path, marker: str) -> float:
    """Seconds after the power-on of the boot step that `marker` came."""
    since_power_on = log.read_text().rpartition("power-on")[2]
    line = next(line for line in since_power_on.splitlines() if marker in line)
    found = _STAMP.match(line)
    assert found, line
    return float(found[1])
