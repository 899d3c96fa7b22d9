"""The made-up year of `synthetic_year` straight as the Parquet that `rig report --export parquet` writes: the same
units, times and values as in the database of so many units, without the database (and without its notes).

    python -m benchmarks.synthetic_parquet /tmp/year/parquet --units 1000000
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.synthetic_year import MEASURED, SLOTS, STEPS, Course, Run, course, identity_of, runs_of
from reports import store
from reports.tables import LIMITS, OUTCOME, Name, Numbers, Orders, Records, records_of

_NONE = float("nan")
_FLASH = [step for step, _ in STEPS].index("flash")


@dataclass
class _Made:
    """The numbers of all attempts, as arrays. `went`: the orders that came to each step."""

    went: list[NDArray[np.int32]]
    values: NDArray[np.float64]  # a row a measurement

    def names(self) -> list[Name]:
        return [Name(step, step, name, unit) for step, name, unit, *_ in MEASURED]

    all_names = names

    def limits(self) -> pd.DataFrame:
        rows = [(_number(low), _number(high), _NONE, _NONE) for *_, low, high in MEASURED]
        table = pd.DataFrame(rows, columns=LIMITS, dtype="float64").drop_duplicates()
        return table.sort_values(LIMITS, ignore_index=True)

    def rows_of(self, name: Name) -> pd.DataFrame:
        at = self.names().index(name)
        order = self.went[[step for step, _ in STEPS].index(name.step)]
        mine = tuple(_number(each) for each in MEASURED[at][5:7])
        found = self.limits()[LIMITS[:2]].apply(lambda row: np.array_equal(row, mine, equal_nan=True), axis=1)
        n = len(order)
        return pd.DataFrame({
            "order": order, "number": self.values[at][order],
            "text": pd.Series([None] * n, dtype="str"), "limits": np.full(n, int(found.argmax()), dtype=np.int16),
            "outcome": pd.Categorical.from_codes(np.zeros(n, dtype=np.int8), dtype=OUTCOME),
        })  # fmt: skip

    def of(self, name: Name) -> pd.DataFrame:
        return self.rows_of(name).drop(columns=["text"]).rename(columns={"number": "value"})

    def texts(self, orders: Orders) -> pd.DataFrame:
        raise NotImplementedError

    all_of = texts


def _number(limit: Any) -> float:
    return _NONE if limit is None else float(limit)


def made(units: int, seed: int = 7) -> Records:
    """Records of the year."""
    told = [(run, course(run, draw)) for run, draw in runs_of(units, seed)]
    sizes = np.array([len(run.unit) for run, _ in told])
    each = np.repeat(np.arange(len(told)), sizes)
    n = int(sizes.sum())
    went = np.concatenate([of.went for _, of in told])
    begun = np.concatenate([of.begun_ns for _, of in told])
    numbers: Numbers = _Made(
        [np.flatnonzero(came).astype(np.int32) for came in went.T],
        np.ascontiguousarray(np.concatenate([of.values for _, of in told]).T),
    )
    return records_of(
        _attempts(told, each, begun), numbers=numbers, phases=_phases(told, went, begun),
        details=_details(told, n), runs=[_run(run, of) for run, of in told],
    )  # fmt: skip


def _attempts(told: list[tuple[Run, Course]], each: NDArray[Any], begun: NDArray[np.int64]) -> dict[str, Any]:
    def of_runs(names: list[str]) -> pd.Categorical:
        return pd.Categorical(names).take(each)

    def start(seconds: list[NDArray[Any]]) -> pd.DatetimeIndex:
        first = np.array([int(of.started.timestamp()) for _, of in told])[each] * 1_000_000
        return pd.to_datetime(first + np.rint(np.concatenate(seconds) * 1e6).astype(np.int64), unit="us", utc=True)

    unit = [name for run, _ in told for name in run.unit]
    turn = np.concatenate([np.arange(len(run.unit)) % len(SLOTS) for run, _ in told])
    cycle = np.concatenate([of.cycle for _, of in told])
    codes = pd.Categorical([code for run, _ in told for code in run.code])
    good = np.asarray(codes.isna())
    return {
        "run": of_runs([run.run for run, _ in told]), "board": np.array([int(name[2:]) for name in unit]),
        "unit": pd.Series(unit, dtype="str"), "attempt": np.concatenate([run.attempt for run, _ in told]),
        "slot": pd.Categorical(list(SLOTS)).take(turn),
        "operator": "Kim", "code": codes, "overrides": None,
        "outcome": pd.Categorical(np.concatenate([run.outcome for run, _ in told]), dtype=OUTCOME),
        "image": of_runs([of.image for _, of in told]), "image_sha256": of_runs([_sha(of.image) for _, of in told]),
        "started": start([of.begins for _, of in told]), "ended": start([of.begins + of.cycle for _, of in told]),
        "boot_id": "boot-1", "start_ns": begun, "end_ns": begun + (cycle * 1e9).astype(np.int64), "cycle_s": cycle,
        "duration_s": cycle, "backup_verified_by": "chip-crc",
        "write_verified": good, "supply_off_confirmed": np.ones(len(unit), dtype=bool),
        "baud": np.concatenate([of.went[:, _FLASH] for _, of in told]) * 921600,
        "station": of_runs([f"station-{run.station}" for run, _ in told]),
        "batch": of_runs([of.batch for _, of in told]), "product": "ds-121", "limits_version": "ds-121/3",
    }  # fmt: skip


def _sha(image: str) -> str:
    return f"{len(image):064x}"


def _phases(told: list[tuple[Run, Course]], went: NDArray[np.bool_], begun: NDArray[np.int64]) -> dict[str, Any]:
    n, steps = went.shape
    stopped = np.concatenate([run.stopped for run, _ in told])
    last = pd.Categorical(np.concatenate([run.outcome for run, _ in told]), dtype=OUTCOME).codes
    seconds, ends = (np.concatenate([getattr(of, name) for _, of in told]) for name in ("seconds", "ends"))
    outcome = np.where(went, 0, -1).astype(np.int8)
    stop = stopped[:, None] == np.arange(steps)[None, :]
    outcome = np.where(stop, last[:, None], outcome)
    codes = pd.Categorical([code for run, _ in told for code in run.code])
    code = np.where(stop, codes.codes[:, None], -1)
    end = begun[:, None] + np.where(went, ends * 1e9, 0).astype(np.int64)
    named = pd.Categorical.from_codes(np.tile(np.arange(steps), n), [name for name, _ in STEPS])
    return {
        "order": np.repeat(np.arange(n), steps), "step": named, "phase": named,
        "position": np.tile(np.arange(steps), n), "duration_s": seconds.ravel(),
        "outcome": pd.Categorical.from_codes(outcome.ravel(), dtype=OUTCOME),
        "code": pd.Categorical.from_codes(code.ravel(), codes.categories),
        "start_ns": np.where(went, end - (seconds * 1e9).astype(np.int64), -1).ravel(), "end_ns": end.ravel(),
    }  # fmt: skip


def _details(told: list[tuple[Run, Course]], n: int) -> dict[str, Any]:
    identity = [identity_of(name) for run, _ in told for name in run.unit]
    said = [None if code is None else f"It ended at {STEPS[stop][0]}."
            for run, _ in told for code, stop in zip(run.code, run.stopped.tolist(), strict=True)]  # fmt: skip
    return {
        "order": np.arange(n), "identity": identity, "board_name": identity, "sentence": said,
        "mac": [f"c8:47:8c:{each[-6:]}" for each in identity],
        "backup_sha256": [each.rjust(64, "5") for each in identity], "backup_bytes": float(2 << 20),
    }  # fmt: skip


def _run(run: Run, of: Course) -> dict[str, Any]:
    worked = float(of.begins[-1] + 60)
    return {
        "run": run.run, "folder": "", "started": of.started, "ended": of.started + timedelta(seconds=worked),
        "exit_code": 0, "duration_s": worked, "command": "rig batch", "station": f"station-{run.station}",
        "bench": "bench", "product": "ds-121", "batch": of.batch, "operator": "Kim", "image": of.image,
        "image_sha256": _sha(of.image), "limits_version": "ds-121/3", "tools": {"rig": "0.1.0"},
        "head": f"{run.station:064x}",
    }  # fmt: skip


def write_parquet(folder: Path, units: int, seed: int = 7) -> None:
    """Make the folder. FileExistsError where there is one."""
    folder.mkdir(parents=True)
    store.write(made(units, seed), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--units", type=int, default=10_000)
    told = parser.parse_args()
    write_parquet(told.folder, told.units)


if __name__ == "__main__":
    main()
