"""How long `rig inspect` takes as a command, from its start by a shell to its end.

python -m benchmarks.inspect_speed FILE [FILE ...]

Wall time is what a person waits, on a machine with nothing else to do; CPU time tells what it would be there.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 7


def seconds(words: list[str]) -> tuple[float, float]:
    """Wall and CPU time of one run of `rig` with these words. CalledProcessError if it fails."""
    start, used = time.monotonic(), _children()
    subprocess.run([sys.executable, "-m", "rig.cli", *words], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - start, _children() - used


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--runs", type=int, default=RUNS)
    options = parser.parse_args()
    rows = [("`rig --help`, start-up alone", ["--help"])]
    rows += [(f"`rig inspect {path.name}`", ["inspect", str(path)]) for path in options.files]
    sys.stdout.write(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.runs} runs each:\n\n")
    sys.stdout.write("| what | least s | median s | most s | CPU s, median |\n|---|---|---|---|---|\n")
    for what, words in rows:
        seconds(words)  # into the page cache
        taken = [seconds(words) for _ in range(options.runs)]
        wall = [one for one, _ in taken]
        figures = (min(wall), statistics.median(wall), max(wall), statistics.median(cpu for _, cpu in taken))
        sys.stdout.write(f"| {what} | {' | '.join(f'{value:.2f}' for value in figures)} |\n")


if __name__ == "__main__":
    main()
