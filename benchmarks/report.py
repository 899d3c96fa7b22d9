"""How long a yield page takes, by the number of units, from Parquet and from a database through its cache.

    python -m benchmarks.report [--units 10000 100000 1000000] [--repeats 1] [--data FOLDER]

A made-up year (`benchmarks.synthetic_year`) is written as a database. Each row of the table is a process of its own,
timed from outside, its memory (with its children's, what they share counted once) looked at twice a second: the
cache being built (`cache`), then the whole command `rig report` with the page, from the warm cache and from exported
Parquet; and, for comparison, a plain pandas script that makes the same tables (yields, Pareto, step times,
measurements against limits) from the same Parquet in the straightforward way, without a page. Its figures have to
agree with the report's. `--data` keeps databases, caches and Parquet for the next time: what is there already is not
made, and not timed, again.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.synthetic_year import write_database
from reports.cache import place_of

TARGETS = {"database": 20.0, "parquet": 10.0}  # seconds, at a million units
MOST_BYTES = 2 << 30
PATIENCE_S = 900.0
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


class TooLong(RuntimeError):
    """A process did not end within PATIENCE_S."""


def took(*command: str) -> Took:
    """Run `python command...` to its end, what it prints thrown away. RuntimeError if it fails, TooLong."""
    begun = time.monotonic()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(sys.executable, [sys.executable, *command], os.environ, file_actions=quiet)
    most, ended = 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not ended.wait(0.5):
            most = max(most, sum(map(_resident, _family(child))))
            if time.monotonic() - begun > PATIENCE_S:
                os.kill(child, signal.SIGKILL)
                return

    watching = threading.Thread(target=look)
    watching.start()
    _, status, usage = os.wait4(child, 0)
    seconds = time.monotonic() - begun
    ended.set()
    watching.join()
    if seconds >= PATIENCE_S:
        raise TooLong(f"{' '.join(command)[:200]} took more than {PATIENCE_S:g} s")
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(command)[:200]} failed")
    return Took(seconds, usage.ru_utime + usage.ru_stime, most)


def _family(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))


def _resident(pid: int) -> int:
    """Bytes of memory; of what several processes share its part."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) * 1024
    return 0


def measure(units: int, folder: Path, repeats: int) -> dict[str, Took]:
    """All figures for so many units; medians by time."""
    file, parquet = folder / "rig.db", folder / "parquet"
    url = f"sqlite:///{file}"
    if not file.exists():
        begun = time.monotonic()
        write_database(file, units)
        size, seconds = file.stat().st_size / (1 << 20), time.monotonic() - begun
        print(f"{units} units: {size:.0f} MiB of database in {seconds:.0f} s", flush=True)  # noqa: T201
    found: dict[str, Took] = {}
    if not place_of(url).exists():
        found["cache"] = took("-c", _CACHE, url)
    if not parquet.exists():
        found["export"] = took("-c", _EXPORT, url, str(parquet))
    out = folder / "out"
    told = ("-m", "rig.cli", "report", "--no-index", "--out", str(out))
    plain = folder / "plain.json"
    found["database"] = _median([took(*told, url) for _ in range(repeats)])
    of_database = json.loads((out / "summary.json").read_text())
    found["parquet"] = _median([took(*told, str(parquet)) for _ in range(repeats)])
    of_parquet = json.loads((out / "summary.json").read_text())
    try:
        command = ("-m", "benchmarks.report_plain", str(parquet), str(plain))
        found["plain pandas"] = _median([took(*command) for _ in range(repeats)])
    except TooLong as late:
        print(late)  # noqa: T201
        return found
    for each in (of_database, of_parquet):
        same_figures(each, json.loads(plain.read_text()))
    return found


def _median(several: list[Took]) -> Took:
    middle = statistics.median_low([each.seconds for each in several])
    return next(each for each in several if each.seconds == middle)


def same_figures(summary: dict[str, object], plain: dict[str, object]) -> None:
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


def _growth(rows: dict[int, dict[str, Took]]) -> None:
    """How many times as long so many times the units take."""
    for fewer, more in itertools.pairwise(sorted(rows)):
        for name in rows[more].keys() & rows[fewer].keys():
            times = rows[more][name].seconds / rows[fewer][name].seconds
            print(f"{name}: {more / fewer:g} times the units ({fewer} to {more}), {times:.1f} times as long")  # noqa: T201


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--units", type=int, nargs="+", action="extend", help="default: 10000 100000 1000000")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--data", type=Path, help="where to keep what is made, by the number of units")
    told = parser.parse_args()
    missed = False
    rows: dict[int, dict[str, Took]] = {}
    for units in told.units or [10_000, 100_000, 1_000_000]:
        with contextlib.ExitStack() as stack:
            if told.data is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rig-report-")))
            else:
                folder = told.data / str(units)
                folder.mkdir(parents=True, exist_ok=True)
            rows[units] = measure(units, folder, told.repeats)
        for name, each in rows[units].items():
            print(f"{units:>9} {name:<13} {each}", flush=True)  # noqa: T201
    _growth(rows)
    for name, most in TARGETS.items():
        for units, found in rows.items():
            late = units >= 1_000_000 and (found[name].seconds > most or found[name].peak > MOST_BYTES)
            missed |= late
            if late:
                print(f"{name} at {units} units: more than {most:g} s or 2 GiB")  # noqa: T201
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
