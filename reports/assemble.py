"""Typed rows of all runs as `Records`: ordered in time, keyed by board, every attempt with its end.

Outcomes and durations are the ones written down. Only an attempt whose end is missing is given one, by the rule the
station itself has: half written is `unverified`, anything else `blocked` with the code `crashed`; while its run still
goes on it is neither and counts nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports import boards, raw
from reports.raw import Raw
from reports.tables import (
    ARTIFACT_COLUMNS,
    ATTEMPTS,
    DETAILS,
    NOTE_COLUMNS,
    OUTCOME,
    PHASE_COLUMNS,
    RUNNING,
    Numbers,
    Records,
    column,
    counted,
    good,
    run_table,
    typed,
)
from rig.records.rows import Row
from rig.records.run import safe_name

CRASHED = ("crashed", "The journal ends before this attempt did.")
HALF_WRITTEN = ("half-written", "The journal ends while this board was being written.")
_OF_RUN = ("station", "batch", "product", "limits_version", "simulated", "speed")

MakeNumbers = Callable[[Any, NDArray[np.int32], dict[str, int]], Numbers]
"""What was measured, order of each `at` (-1: golden), position of each step -> numbers."""


def assemble(told: Raw, numbers: MakeNumbers) -> Records:
    """The records of these runs."""
    runs = sorted(told.runs, key=lambda row: (_moment(row["started"]), row["run"]))
    table, origin = _in_time(told.attempts, runs)
    golden_rows = (table["role"] == "golden").to_numpy()
    order_of = np.full(len(table), -1, dtype=np.int32)
    order_of[origin[~golden_rows]] = np.arange((~golden_rows).sum(), dtype=np.int32)
    units = boards.unit_codes(table["run"], table["unit"])
    codes, names = boards.identities(
        units, table["run"].cat.codes.to_numpy().astype(np.int64), table["identity"], table["simulated"].to_numpy()
    )
    full = _judged(table, units)
    attempts = _used(full[~golden_rows].reset_index(drop=True))
    _keyed(attempts, units[~golden_rows], codes[~golden_rows], told.notes)
    phases, rows = _phases(told.phases, order_of)
    told.phases = told.phases.iloc[:0]  # a million units' are a quarter of a gigabyte
    plan = {str(step): int(at) for step, at in phases.groupby("step", observed=True)["position"].min().items()}
    moments = told.moments
    folders = {str(run["run"]): str(run["folder"]) for run in runs}
    look_up = Details(attempts, codes[~golden_rows], names, origin[~golden_rows], told, folders)
    golden = _used(full[golden_rows].reset_index(drop=True))
    more = Details(golden, codes[golden_rows], names, origin[golden_rows], told, folders)
    extra = more(np.arange(len(golden))).drop(columns=["order"])
    every = pd.concat([golden.assign(order=np.int32(-1), board=np.int32(-1))[list(ATTEMPTS)], extra], axis=1)
    return Records(
        runs=run_table(runs),
        attempts=attempts[list(ATTEMPTS)],
        steps=phases,
        numbers=numbers(told.measured, order_of, plan),
        golden=every[[*ATTEMPTS, *(name for name in DETAILS if name != "order")]],
        notes=_notes(told.notes, runs),
        remarks=told.remarks,
        look_up=look_up,
        read_artifacts=lambda units: _artifacts(told.artifacts(units), runs),
        read_moments=moments and (lambda: moments().iloc[rows].reset_index(drop=True)),
    )


def _in_time(attempts: pd.DataFrame, runs: list[Row]) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Attempts by their run's start, within a run in the journal's order and not the clock's; and which rows those
    were. Each with its run's facts."""
    place = {row["run"]: at for at, row in enumerate(runs)}
    of_run = np.array([place[run] for run in attempts["run"].cat.categories], dtype=np.int64)
    mine = of_run[attempts["run"].cat.codes.to_numpy()] if len(attempts) else np.empty(0, dtype=np.int64)
    origin = np.lexsort((attempts["line"].to_numpy(), mine))
    if np.array_equal(origin, np.arange(len(origin))):
        table = attempts.copy(deep=False)
    else:
        table = attempts.iloc[origin].reset_index(drop=True)
    mine = mine[origin]
    facts = {name: [row.get(name) for row in runs] for name in _OF_RUN}
    facts |= {"stages": [len(row["tasks"]) for row in runs], "live": [bool(row["live"]) for row in runs],
              "study": [bool(row.get("study")) for row in runs]}  # fmt: skip
    for name, values in facts.items():
        kind = ATTEMPTS.get(name, "bool")
        if kind == "category":
            table[name] = column(values, kind, len(values)).array.take(mine)
        else:
            table[name] = np.asarray(values, dtype=kind)[mine]
    return table, origin


def _judged(table: pd.DataFrame, units: boards.Codes) -> pd.DataFrame:
    """The columns of `attempts`, but for those that count boards."""
    outcome = _closed(table, units)
    judged = table.drop(columns=["outcome"]).assign(outcome=outcome)
    judged["code"] = _code(table, judged["outcome"])
    study = table["study"].to_numpy() & (table["role"] != "golden").to_numpy()
    said = {"study": study, "counted": counted(judged["outcome"]) & ~study, "good": good(judged["outcome"])}
    for name in ("cycle_s", "duration_s"):
        judged[name] = table[name].where(table[name] >= 0)
    judged = judged.assign(**said, hour=table["started"].dt.floor("h").dt.as_unit("us"), order=np.int32(0))
    return judged.assign(trial=np.int32(0), board=np.int32(0))


def _used(table: pd.DataFrame) -> pd.DataFrame:
    """Only what occurs is a category."""
    few = [name for name, kind in ATTEMPTS.items() if kind == "category"]
    return table.assign(**{name: column(table[name].array, "category", len(table)) for name in few})


def _closed(table: pd.DataFrame, units: NDArray[np.int64]) -> pd.Categorical:
    """Outcomes, and one for each attempt without (see the module)."""
    codes = table["outcome"].cat.codes.to_numpy().copy()
    open_ = codes < 0
    if open_.any():
        lasts = pd.Series(table["attempt"].to_numpy()).groupby(units).max().to_numpy()
        last = table["attempt"].to_numpy() >= lasts[units]
        name = np.where(table["half_written"], "unverified", "blocked")
        name = np.where(table["live"].to_numpy() & last, RUNNING, name)
        codes[open_] = OUTCOME.categories.get_indexer(pd.Index(name[open_])).astype(codes.dtype)
    return pd.Categorical.from_codes(codes, dtype=OUTCOME)


def _code(table: pd.DataFrame, outcome: pd.Series[Any]) -> pd.Series[Any]:
    open_ = table["outcome"].isna().to_numpy()
    if not open_.any():
        return table["code"]
    codes = table["code"].to_numpy(dtype=object, copy=True)
    crashed = open_ & (outcome == "blocked").to_numpy()
    half = open_ & (outcome == "unverified").to_numpy()
    codes[crashed], codes[half] = CRASHED[0], HALF_WRITTEN[0]
    return column(codes, "category", len(codes))


def _keyed(attempts: pd.DataFrame, units: boards.Codes, identity: boards.Codes, notes: Iterable[Row]) -> None:
    """Give each attempt its place, board and trial; rework carried over from an earlier run."""
    n = len(attempts)
    board = pd.factorize(np.where(identity >= 0, identity, identity.max(initial=0) + 1 + units))[0].astype(np.int64)
    task = attempts["task"].cat.codes.to_numpy().astype(np.int64)
    attempts["board"] = board.astype(np.int32)
    attempts["trial"] = boards.trial_numbers(units, task).astype(np.int32)
    attempts["order"] = np.arange(n, dtype=np.int32)
    later = boards.rework_carried_over(
        board, attempts["run"], attempts["unit"], attempts["started"], _pending(attempts, notes)
    )
    attempts.loc[later, "reworked"] = True


def _pending(attempts: pd.DataFrame, notes: Iterable[Row]) -> list[tuple[str, str, datetime]]:
    """Rework with no attempt of its unit after it in its run: the last such of each unit."""
    told = {(row["run"], row["unit"]): row for row in notes if row["kind"] == "reworked"}
    if not told:
        return []
    runs, units = {run for run, _ in told}, {unit for _, unit in told}
    mine = attempts[attempts["run"].isin(list(runs)) & attempts["unit"].isin(list(units))]
    last = {(run, unit): line for run, unit, line in zip(mine["run"], mine["unit"], mine["line"], strict=True)}
    return [(*key, row["utc"]) for key, row in told.items() if row["line"] > last.get(key, 1 << 60)]


def _phases(told: pd.DataFrame, order_of: NDArray[np.int32]) -> tuple[pd.DataFrame, Any]:
    """The steps of attempts that are not golden, by order, and which rows of `told` they are."""
    order = order_of[told["at"].to_numpy()]
    if (order >= 0).all() and (order[1:] >= order[:-1]).all():
        rows: Any = slice(None)
        table = told.reset_index(drop=True)
    else:
        rows = np.flatnonzero(order >= 0)
        rows = rows[np.argsort(order[rows], kind="stable")]
        order = order[rows]
        table = told.iloc[rows].reset_index(drop=True)
    table["order"] = order
    seconds = table["duration_s"].to_numpy()
    if (seconds < 0).any():
        table["duration_s"] = np.where(seconds >= 0, seconds, np.nan)
    for name in ("step", "phase", "code"):
        table[name] = column(table[name].array, "category", len(table))
    return table[[name for name in PHASE_COLUMNS if name in table]], rows


def _notes(told: list[Row], runs: list[Row]) -> pd.DataFrame:
    place = {row["run"]: at for at, row in enumerate(runs)}
    rows = []
    for each in sorted(told, key=lambda row: (place[row["run"]], row["line"])):
        said = raw.note(each["kind"], each["slot"], each["details"])
        if said is not None:
            level, text, details = said
            rows.append((each["run"], each["utc"], each["unit"], each["slot"], level, text, details))
    return pd.DataFrame(rows, columns=NOTE_COLUMNS, dtype=object)


def _artifacts(told: pd.DataFrame, runs: list[Row]) -> pd.DataFrame:
    place = {row["run"]: at for at, row in enumerate(runs)}
    mine = told["run"].astype(object).map(place).to_numpy(dtype=np.int64)
    rows = np.lexsort((told["line"].to_numpy(), mine))
    kinds = dict.fromkeys(ARTIFACT_COLUMNS, "str") | {"attempt": "int32"}
    return typed(told.iloc[rows].reset_index(drop=True), kinds, len(rows))


class Details:
    """What is long, for a few attempts. `codes`: which of `names` names their board, -1 where none does; `origin`:
    their rows in what was told."""

    def __init__(
        self, attempts: pd.DataFrame, codes: boards.Codes, names: NDArray[Any], origin: NDArray[Any], told: Raw,
        folders: dict[str, str],
    ) -> None:  # fmt: skip
        self._attempts = attempts[["run", "unit", "attempt", "outcome"]]
        self._codes = codes
        self._names = names
        self._origin = origin
        self._told = told.attempts[["identity", "outcome"]]
        self._long = told.long
        self._folders = folders

    def __call__(self, orders: Sequence[int] | NDArray[Any]) -> pd.DataFrame:
        rows = np.asarray(orders, dtype=np.int64)
        mine, at = self._attempts.iloc[rows], self._origin[rows]
        found = self._long(at)
        begun = self._told.iloc[at]
        names = [self._names[code] if code >= 0 else None for code in self._codes[rows]]
        who = list(zip(mine["run"], mine["unit"], mine["attempt"], names, strict=True))
        told: dict[str, Any] = {name: found[name].array for name in raw.LONG} | {
            "order": rows,
            "identity": begun["identity"].array,
            "sentence": _sentences(found["sentence"], begun["outcome"].isna().to_numpy(), mine["outcome"]),
            "board_name": [f"{run}/{unit}" if not isinstance(named, str) else named for run, unit, _, named in who],
            "folder": [
                str(Path(self._folders[run]) / "units" / safe_name(unit) / str(attempt))
                if self._folders[run] else None
                for run, unit, attempt, _ in who
            ],
        }  # fmt: skip
        return typed(told, DETAILS, len(rows))


def _sentences(told: pd.Series[Any], open_: NDArray[np.bool_], outcome: pd.Series[Any]) -> NDArray[Any]:
    """What was said at the end of attempts, and of those without an end what is to be said."""
    found = told.to_numpy(dtype=object, copy=True)
    found[open_ & (outcome == "blocked").to_numpy()] = CRASHED[1]
    found[open_ & (outcome == "unverified").to_numpy()] = HALF_WRITTEN[1]
    return found


def _moment(utc: datetime | None) -> float:
    return utc.timestamp() if utc is not None else 0.0
