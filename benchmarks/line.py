"""What a production line of simulated boards costs and yields: `rig convert` of batches over 1, 8 and 16 slots at
real time and 921,600 baud.

    python -m benchmarks.line OpenBK7231N_QIO_1.18.300.bin [--slots 1 --slots 8 --slots 16] [--rounds 3]

Each slot works on as many units, one after the other (`--rounds`), so that every batch has its first round, whose
backups read a whole board, and its later ones, which read what the first did not hold too. Throughput is units over
the time from the first `unit-started` to the last `unit-ended`. A turn is from one `unit-started` to the next in the
same slot, the change of the board and the start of the next unit's process in it.

Overhead is what is left of a turn when the board's own time is taken off: bytes on the wire and the chip's work
(from the unit's wire.jsonl), the boot step, and the seconds a current is averaged over. CPU time is that of every
process of bench and line, by what the process is. Run with nothing else on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.sim_cost import ROOT, bench
from rig.records.events import Event, PhaseEnded, UnitEnded, UnitStarted
from rig.records.journal import read_journal
from rig.records.run import latest
from rig.uart.accounting import account
from rig.uart.trace import Command

AVERAGED_S = 0.4 + 1.0  # of current in the ROM and in operation: the steps `identify` and `steady`
_TOKEN = "RIG_BENCHMARK"  # in the environment of every process that counts
_SAMPLE_S = 0.5
_KINDS = {
    "rig.sim.boardloop": "simulated boards",
    "rig.sim.hands": "change of board",
    "rig.sim.supplyloop": "simulated supplies",
    "rig.sim": "simulated bench",
    "rig.supply.service": "supply services",
    "rig.supply.guardian": "guardians",
    "tests_hil": "units' processes",
    "rig.line.prefork": "units' processes",
    "rig.cli": "station",
}


@dataclass(frozen=True)
class Unit:
    """One unit's seconds: `turn` until the next one began in its slot (None: it was the last there); the others are
    what is the board's of that."""

    turn: float | None
    wire: float
    chip: float
    lost: float  # link checks that nobody answered: the board was coming up
    boot: float

    @property
    def board(self) -> float:
        return self.wire + self.chip + self.lost + self.boot + AVERAGED_S


@dataclass(frozen=True)
class Batch:
    """One batch: `seconds` from the first unit's start to the last one's end, `command` all of `rig convert`."""

    slots: int
    rounds: int
    seconds: float
    command: float
    units: Sequence[Unit]
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def hourly(self) -> float:
        return len(self.units) / self.seconds * 3600

    @property
    def turns(self) -> list[tuple[float, float]]:
        """(seconds of a turn, the board's own of that)."""
        return [(unit.turn, unit.board) for unit in self.units if unit.turn is not None]

    @property
    def overhead(self) -> float:
        """Of a turn, what is not the board's, in the mean."""
        return statistics.fmean(turn - board for turn, board in self.turns)


def run_batch(image: Path, slots: int, rounds: int, baud: int, *, speed: float = 1.0) -> Batch:
    """`rig convert` of `slots` times `rounds` units. Raises SystemExit with what it printed if one is not good."""
    token = f"{os.getpid()}-{slots}-{time.monotonic_ns()}"
    os.environ[_TOKEN] = token
    with (
        bench("--boards", str(slots), "--speed", f"{speed:g}") as (_, bench_file),
        tempfile.TemporaryDirectory(prefix="rig-runs-") as folder,
    ):
        text = bench_file.read_text()
        bench_file.write_text(re.sub(r"(?m)^baud = \d+", f"baud = {baud}", text))
        command = [sys.executable, "-m", "rig.cli", "convert", "--bench", str(bench_file), "--image", str(image)]
        with cpu_times(token) as cpu:
            before = dict(cpu)
            began = time.monotonic()
            done = subprocess.run(
                [*command, "--units", str(slots * rounds), "--no-report"],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
            )
            took = time.monotonic() - began
        if done.returncode:
            raise SystemExit(f"the batch of {slots} ended with exit {done.returncode}:\n{done.stdout}{done.stderr}")
        run = latest(Path(folder) / "runs")
        happened, _ = read_journal(run.journal)
        units = [_unit(happened, event, run.path) for event in happened if isinstance(event, UnitStarted)]
        starts = [event.mono_ns for event in happened if isinstance(event, UnitStarted)]
        ends = [event.mono_ns for event in happened if isinstance(event, UnitEnded)]
        used = {kind: seconds - before.get(kind, 0.0) for kind, seconds in cpu.items()}
        return Batch(slots, rounds, (max(ends) - min(starts)) / 1e9, took, units, used)


def _unit(happened: Sequence[Event], started: UnitStarted, run: Path) -> Unit:
    mine = [event for event in happened if getattr(event, "unit", None) == started.unit]
    in_slot = [event for event in happened if isinstance(event, UnitStarted) and event.slot == started.slot]
    later = [event.mono_ns for event in in_slot if event.mono_ns > started.mono_ns]
    (boot,) = [event.duration_s for event in mine if isinstance(event, PhaseEnded) and event.phase == "boot"]
    folder = run / "units" / started.unit / str(started.attempt)
    lines = (folder / "wire.jsonl").read_text().splitlines()
    sums = account([Command(**({"address": None} | json.loads(line))) for line in lines]).total
    turn = (min(later) - started.mono_ns) / 1e9 if later else None
    return Unit(turn, sums.wire_s, sums.chip_s, sums.lost_s, boot)


@contextlib.contextmanager
def cpu_times(token: str) -> Iterator[dict[str, float]]:
    """CPU seconds by kind of process, of all that carry `token` in their environment; complete after the block."""
    seen: dict[int, tuple[str, float]] = {}
    total: dict[str, float] = {}
    stop = threading.Event()

    def look() -> None:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError, IndexError):
                    if int(entry.name) not in seen and f"{_TOKEN}={token}".encode() not in (
                        entry / "environ"
                    ).read_bytes().split(b"\0"):
                        continue
                    words = (entry / "cmdline").read_text()
                    kind = next((said for word, said in _KINDS.items() if word in words), "others")
                    if kind == "others" and int(entry.name) in seen:  # over, and not yet waited for: it has no words
                        kind = seen[int(entry.name)][0]
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                    seen[int(entry.name)] = (kind, seconds)
        sums: dict[str, float] = {}
        for kind, seconds in seen.values():
            sums[kind] = sums.get(kind, 0.0) + seconds
        total.update(sums)

    def watch() -> None:
        while not stop.wait(_SAMPLE_S):
            look()

    look()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield total
    finally:
        stop.set()
        watcher.join()
        look()


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput and overhead of the line.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--slots", type=int, action="append", help="default: 1, 8 and 16")
    parser.add_argument("--rounds", type=int, default=3, help="units one after the other in each slot, at least 2")
    parser.add_argument("--baud", type=int, default=921600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rig-bytecode-") as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder  # as an installation has it: nothing is compiled twice
        run_batch(options.image.resolve(), 1, 1, options.baud, speed=20)
        batches = [
            run_batch(options.image.resolve(), slots, options.rounds, options.baud)
            for slots in options.slots or [1, 8, 16]
        ]
    sys.stdout.write("\n".join([*throughput(batches), "", *costs(batches)]) + "\n")


def throughput(batches: Sequence[Batch]) -> list[str]:
    lines = [
        "| slots | units | wall s | units an hour | times the first | turn s | board's own s | overhead s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for batch in batches:
        turn, own = (statistics.fmean(column) for column in zip(*batch.turns, strict=True))
        lines.append(
            f"| {batch.slots} | {len(batch.units)} | {batch.seconds:.1f} | {batch.hourly:.0f} "
            f"| {batch.hourly / batches[0].hourly:.2f} | {turn:.1f} | {own:.1f} | {batch.overhead:.2f} |"
        )
    return lines


def costs(batches: Sequence[Batch]) -> list[str]:
    """CPU seconds a unit, by kind of process."""
    kinds = sorted({kind for batch in batches for kind in batch.cpu})
    lines = [
        "| CPU s a unit | " + " | ".join(f"{batch.slots} slots" for batch in batches) + " |",
        "|---" * (len(batches) + 1) + "|",
    ]
    for kind in kinds:
        cells = [f"{batch.cpu.get(kind, 0.0) / len(batch.units):.2f}" for batch in batches]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    totals = [f"{sum(batch.cpu.values()) / len(batch.units):.2f}" for batch in batches]
    return [*lines, "| all | " + " | ".join(totals) + " |"]


if __name__ == "__main__":
    main()
