"""How long a yield page takes, by the number of units, from Parquet and from a database through its cache.

    python -m benchmarks.report [--units 10000 100000 1000000] [--repeats 1]

A made-up year (`benchmarks.synthetic_year`) is written as a database. Each row of the table is a process of its own,
timed from outside, its peak memory from the kernel: the cache being built (`cache`), then the whole command
`rig report` with the page, from the warm cache and from exported Parquet; and, for comparison, a plain pandas
script that makes the same tables (yields, Pareto, step times, measurements against limits) from the same Parquet in
the straightforward way, without a page. Its figures have to agree with the report's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.synthetic_year import write_database

TARGETS = {"database": 20.0, "parquet": 10.0}  # seconds, at a million units
MOST_BYTES = 2 << 30
_CACHE = "import sys; from reports.cache import refresh; refresh(sys.argv[1])"
_EXPORT = ("import sys; from pathlib import Path; from reports import store; from reports.load import load; "
           "to = Path(sys.argv[2]); to.mkdir(); store.write(load([sys.argv[1]]), to)")  # fmt: skip


@dataclass(frozen=True)
class Took:
    """A process: seconds from start to end, seconds of processor time, bytes at its peak."""

    seconds: float
    cpu: float
    peak: int

    def __str__(self) -> str:
        return f"{self.seconds:6.1f} s  {self.cpu:6.1f} s of processor  {self.peak / (1 << 20):6.0f} MiB"


def took(*command: str) -> Took:
    """Run `python command...` to its end, what it prints thrown away. RuntimeError if it fails."""
    begun = time.monotonic()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(sys.executable, [sys.executable, *command], os.environ, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    seconds = time.monotonic() - begun
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(command)[:200]} failed")
    return Took(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def measure(units: int, folder: Path, repeats: int) -> dict[str, Took]:
    """All figures for so many units; medians by time."""
    file, parquet = folder / "rig.db", folder / "parquet"
    url = f"sqlite:///{file}"
    begun = time.monotonic()
    write_database(file, units)
    size, seconds = file.stat().st_size / (1 << 20), time.monotonic() - begun
    print(f"{units} units: {size:.0f} MiB of database in {seconds:.0f} s", flush=True)  # noqa: T201
    found = {"cache": took("-c", _CACHE, url), "export": took("-c", _EXPORT, url, str(parquet))}
    out = folder / "out"
    told = ("-m", "rig.cli", "report", "--no-index", "--out", str(out))
    found["database"] = _median([took(*told, url) for _ in range(repeats)])
    found["parquet"] = _median([took(*told, str(parquet)) for _ in range(repeats)])
    found["plain pandas"] = _median([took("-m", "benchmarks.report_plain", str(parquet), str(folder / "plain.json"))
                                     for _ in range(repeats)])  # fmt: skip
    _compare(json.loads((out / "summary.json").read_text()), json.loads((folder / "plain.json").read_text()))
    return found


def _median(several: list[Took]) -> Took:
    middle = statistics.median_low([each.seconds for each in several])
    return next(each for each in several if each.seconds == middle)


def _compare(summary: dict[str, object], plain: dict[str, object]) -> None:
    """The two agree, or the comparison is worth nothing."""
    rates = summary["rates"]
    assert isinstance(rates, dict)
    mine = {
        "first_pass": [rates["first_pass"]["good"], rates["first_pass"]["n"]],
        "final": [rates["final"]["good"], rates["final"]["n"]],
        "pareto": {row["code"]: row["count"] for row in summary["failures"]},  # type: ignore[attr-defined]
        "medians": {row["name"]: row["median"] for row in summary["measured"]},  # type: ignore[attr-defined]
    }
    for name, value in mine.items():
        if plain[name] != value:
            raise RuntimeError(f"{name}: the report has {value}, plain pandas {plain[name]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--units", type=int, nargs="+", action="extend", help="default: 10000 100000 1000000")
    parser.add_argument("--repeats", type=int, default=1)
    told = parser.parse_args()
    missed = False
    rows: dict[int, dict[str, Took]] = {}
    for units in told.units or [10_000, 100_000, 1_000_000]:
        with tempfile.TemporaryDirectory(prefix="rig-report-") as folder:
            rows[units] = measure(units, Path(folder), told.repeats)
        for name, each in rows[units].items():
            print(f"{units:>9} {name:<13} {each}", flush=True)  # noqa: T201
    for name, most in TARGETS.items():
        for units, found in rows.items():
            late = units >= 1_000_000 and (found[name].seconds > most or found[name].peak > MOST_BYTES)
            missed |= late
            if late:
                print(f"{name} at {units} units: more than {most:g} s or 2 GiB")  # noqa: T201
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
