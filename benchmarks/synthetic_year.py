"""A made-up year of a factory as a database in the real layout: N units, 20 measurements each, 7 steps, on 10
stations of 8 slots, 400 units a run. Nothing in it was measured; it is for `benchmarks.report`.

    python -m benchmarks.synthetic_year /tmp/year/rig.db --units 100000

Of the units 4 % fail, 0.8 % are blocked, most of those come again in the same run; 2 % of the runs are of a second
image, one station's idle current drifts. Rows go in by executemany, the indexes afterwards; no fsync.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.records.database import opened
from rig.records.models import Base

STATIONS, SLOTS, OF_A_RUN = 10, "ABCDEFGH", 400
START = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)
STEPS = (("power-on", 1.2), ("identify", 2.0), ("backup", 21.0), ("flash", 16.0), ("boot", 6.0), ("idle", 3.0),
         ("label", 0.5))  # fmt: skip
MEASURED = [  # step, name, unit, mean, sigma, minimum, maximum
    ("power-on", "inrush_current", "A", 0.42, 0.03, None, 0.6), ("power-on", "rail", "V", 3.3, 0.008, 3.2, 3.4),
    ("power-on", "off_current", "A", 0.0004, 0.0001, None, 0.002),
    ("identify", "link_time", "s", 0.31, 0.04, None, 2.0),
    ("identify", "attempts", "", 1.4, 0.5, None, 20), ("backup", "backup_rate", "B/s", 98000.0, 900.0, 60000, None),
    ("backup", "blank", "B", 880000.0, 9000.0, None, None), ("flash", "link_baud", "Bd", 921600.0, 0.0, None, None),
    ("flash", "write_rate", "B/s", 71000.0, 700.0, 40000, None), ("flash", "erase_time", "s", 2.9, 0.1, None, 6.0),
    ("flash", "verify_time", "s", 3.1, 0.05, None, 6.0), ("flash", "flash_current", "A", 0.081, 0.003, 0.04, 0.14),
    ("boot", "boot_time", "s", 1.82, 0.06, None, 4.0), ("boot", "boot_current", "A", 0.094, 0.004, 0.03, 0.25),
    ("boot", "rssi", "dBm", -48.0, 3.0, -75, None), ("boot", "calibration", "", 12.0, 1.5, None, None),
    ("idle", "idle_current", "A", 0.0702, 0.0022, 0.05, 0.1), ("idle", "idle_peak", "A", 0.31, 0.02, None, 0.45),
    ("idle", "ripple", "V", 0.012, 0.002, None, 0.05), ("idle", "temperature", "degC", 24.0, 1.5, 10, 45),
]  # fmt: skip
CODES = ("no-link", "verify-failed", "log-silent", "boot-loop", "current-high")


@dataclass
class Run:
    """Attempts of a run, as columns, in their order."""

    run: str
    station: int
    unit: list[str]
    attempt: NDArray[np.int64]
    slot: list[str]
    outcome: NDArray[Any]
    stopped: NDArray[np.int64]  # the step where it ended; len(STEPS) where it went through
    code: list[str | None]


def write_database(path: Path, units: int, seed: int = 7) -> None:
    """Make the database. FileExistsError where there is one."""
    if path.exists():
        raise FileExistsError(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened(f"sqlite:///{path}", write=True):
        pass  # its tables are made
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("pragma synchronous=off")
        database.execute("pragma journal_mode=off")
        indexes = "select name, sql from sqlite_master where type = 'index' and sql is not null"
        later = database.execute(indexes).fetchall()
        for name, _ in later:
            database.execute(f"drop index {name}")
        database.execute("begin")
        for run, told in runs_of(units, seed):
            _insert(database, run, told)
        for _, sql in later:
            database.execute(sql)
        database.execute("commit")


def runs_of(units: int, seed: int) -> Iterator[tuple[Run, np.random.Generator]]:
    """Runs in order of time, each with what draws the rest of it (`course`), which is to be asked before the next."""
    draw = np.random.default_rng(seed)
    for low in range(0, units, OF_A_RUN):
        nth = low // OF_A_RUN
        station, day = nth % STATIONS, nth // STATIONS
        run = f"{START + timedelta(days=day, minutes=station):%Y%m%d-%H%M%S}-{station:02d}{day % 100:02d}"
        yield _drawn(run, station, low, min(OF_A_RUN, units - low), draw), draw


def _drawn(run: str, station: int, low: int, n: int, draw: np.random.Generator) -> Run:
    fate = draw.random(n)
    outcome = np.array(["fail", "blocked", "marginal", "pass"])[np.searchsorted([0.04, 0.048, 0.06], fate, "right")]
    again = np.flatnonzero((fate < 0.048) & (draw.random(n) < 0.8))
    second = np.where(draw.random(len(again)) < 0.6, "pass", "fail")
    who = np.concatenate([np.arange(n), again])
    outcomes = np.concatenate([outcome, second])
    ended = np.isin(outcomes, ["fail", "blocked"])
    stopped = np.where(ended, draw.integers(1, len(STEPS), len(who)), len(STEPS))
    codes = draw.integers(0, len(CODES), len(who))
    return Run(
        run, station, [f"SN{low + each:07d}" for each in who],
        np.concatenate([np.ones(n, dtype=np.int64), np.full(len(again), 2)]),
        [SLOTS[each % len(SLOTS)] for each in range(len(who))], outcomes, stopped,
        [None if not bad else "no-current" if kind == "blocked" else CODES[code]
         for bad, kind, code in zip(ended, outcomes, codes, strict=True)],
    )  # fmt: skip


@dataclass(frozen=True)
class Course:
    """When the attempts of a run were where: seconds since the run's start, one row an attempt."""

    started: datetime  # of the run
    begins: NDArray[np.float64]
    went: NDArray[np.bool_]  # by step: whether it came to it
    seconds: NDArray[np.float64]  # by step
    ends: NDArray[np.float64]  # by step, since the attempt's begin
    cycle: NDArray[np.float64]
    values: NDArray[np.float64]  # by measurement
    image: str
    batch: str

    @property
    def begun_ns(self) -> NDArray[np.int64]:
        return np.asarray((5 + self.begins) * 1e9, dtype=np.int64)


def course(run: Run, draw: np.random.Generator) -> Course:
    """What the attempts of a run took and measured."""
    n = len(run.unit)
    started = datetime.strptime(run.run[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    seconds = np.array([each for _, each in STEPS]) * draw.normal(1.0, 0.03, (n, len(STEPS))).clip(0.8)
    went = np.arange(len(STEPS))[None, :] <= run.stopped[:, None]
    seconds = np.where(went, seconds, 0.0)
    ends = np.cumsum(seconds, axis=1)
    row = np.arange(n) // len(SLOTS)  # one after another in each slot, the slots side by side
    begins = row * 58.0 + draw.random(n)
    image = "OpenBK7231N_1.18.bin" if int(run.run[6:8]) % 28 else "OpenBK7231N_1.19.bin"
    batch = f"w{started.isocalendar().week:02d}"
    return Course(started, begins, went, seconds, ends, ends[:, -1] + 0.8, _values(run, draw, n), image, batch)


def identity_of(unit: str) -> str:
    return f"uid-{int(unit[2:]) * 2654435761 % (1 << 48):012x}"


def _insert(database: sqlite3.Connection, run: Run, draw: np.random.Generator) -> None:
    n, told = len(run.unit), course(run, draw)
    started, begins, cycle, image, values = told.started, told.begins, told.cycle, told.image, told.values
    ns, station = told.begun_ns, f"station-{run.station}"
    line = 1
    attempts, phases, measured = [], [], []
    for at in range(n):
        unit, attempt, slot, first = run.unit[at], int(run.attempt[at]), run.slot[at], line + 1
        begun = int(ns[at])
        identity = identity_of(unit)
        for step, (phase, _) in enumerate(STEPS):
            stop = step == run.stopped[at]
            line += 1
            if not told.went[at, step]:
                phases.append((run.run, line, unit, slot, attempt, phase, None, 0.0, None, None, None, begun))
                continue
            for which in _OF_STEP[step]:
                line += 1
                _, name, unit_of, _, _, low, high = MEASURED[which]
                measured.append((run.run, line, unit, slot, attempt, phase, name, float(values[at, which]), None,
                                 unit_of, low, high, None, None, "ds-121/3", "pass"))  # fmt: skip
            line += 1
            end = begun + int(told.ends[at, step] * 1e9)
            took = float(told.seconds[at, step])
            outcome = str(run.outcome[at]) if stop else "pass"
            code = run.code[at] if stop else None
            phases.append((run.run, line, unit, slot, attempt, phase, outcome, took, code, None,
                           end - int(took * 1e9), end))  # fmt: skip
        line += 1
        good = run.code[at] is None
        attempts.append((
            run.run, unit, attempt, first, slot, "convert", "unit", "Kim", None, "native", told.batch, "ds-121",
            station, _text(started, begins[at]), _text(started, begins[at] + cycle[at]), float(cycle[at]),
            str(run.outcome[at]), run.code[at], None if good else f"It ended at {STEPS[int(run.stopped[at])][0]}.",
            f"c8:47:8c:{identity[-6:]}", identity, image, f"{len(image):064x}", True, None, identity.rjust(64, "5"),
            2 << 20, "chip-crc", "boot-1", begun, begun + int(cycle[at] * 1e9), float(cycle[at]), False, good, True,
            False,
            "ds-121/3", "{}", "{}", "[]",
        ))  # fmt: skip
    _put(database, "attempts", attempts)
    _put(database, "phases", phases)
    _put(database, "measurements", measured)
    note = {"level": "info", "text": "The supply was warm.", "details": {}}
    database.execute(
        "insert into entries values (?, ?, 'noted', ?, null, null, null, 'The supply was warm.', ?)",
        (run.run, line + 1, _text(started, 0), json.dumps(note)),
    )  # fmt: skip
    worked, head = float(begins[-1] + 60), f"{line:064x}"
    _put(database, "runs", [(
        run.run, line + 2, 100 * line, head, head, _text(started, 0), _text(started, worked), 0, worked, worked, 0,
        "rig batch", station, "bench", False, 1.0, "ds-121",
        told.batch, "Kim", image, f"{len(image):064x}", "ds-121/3", '["convert"]', '{"rig": "0.1.0"}', "{}", "{}",
    )])  # fmt: skip


def _values(run: Run, draw: np.random.Generator, n: int) -> NDArray[np.float64]:
    means = np.array([each[3] for each in MEASURED])
    sigmas = np.array([each[4] for each in MEASURED])
    found: NDArray[np.float64] = draw.normal(means, sigmas, (n, len(MEASURED)))
    if run.station == 3:
        found[:, 16] += 0.006 * int(run.run[4:6]) / 12  # idle current, over the year
    return found


_OF_LINE = ["run", "line", "unit", "slot", "attempt"]
_OF_STEP = [[at for at, each in enumerate(MEASURED) if each[0] == phase] for phase, _ in STEPS]


def _put(database: sqlite3.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    columns = [each.name for each in Base.metadata.tables[table].columns]
    if "phase" in columns:  # rows of a line begin with what they have in common
        columns = [*_OF_LINE, *(name for name in columns if name not in _OF_LINE)]
    places = ", ".join("?" * len(columns))
    database.executemany(f"insert into {table} ({', '.join(columns)}) values ({places})", rows)


def _text(start: datetime, seconds: float) -> str:
    """A moment as SQLAlchemy writes it into SQLite."""
    return f"{start + timedelta(seconds=float(seconds)):%Y-%m-%d %H:%M:%S.%f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("path", type=Path)
    parser.add_argument("--units", type=int, default=10_000)
    told = parser.parse_args()
    write_database(told.path, told.units)


if __name__ == "__main__":
    main()
