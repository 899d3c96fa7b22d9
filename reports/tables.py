"""Records as tables: what every report, statistic and export of this project is computed from.

`load.load` makes a `Records` from journals, from the database or from a folder of Parquet; all three are equal for
the same runs. Text of few values is `category`, absent text is NaN; nothing here is modified after it was made.

- `runs`: one row a run, columns RUN_COLUMNS, plain objects (absent: None).
- `attempts`: one row an attempt of a unit, columns ATTEMPT_COLUMNS; its row number is `order`: time runs downwards.
  Golden units are in `golden` and nowhere else: they tell of the bench. `study` attempts (a gage study) are there,
  not `counted`, and are in no yield; their numbers are in `numbers`.
- `phases`: one row a step that ended (skipped ones too, their outcome NaN), sorted by `order`.
- `numbers`: the measurements, one name at a time, read when they are asked for.
- `details`: what is long and rarely needed, for a few attempts.

Durations (seconds) that a clock made negative, or that span two boots of the station, are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Orders = Sequence[int] | NDArray[Any]  # attempts, by `order`
RUNNING = "running"  # an attempt of a run that still goes on: no outcome yet
OUTCOMES = ("pass", "marginal", "fail", "unverified", "blocked", "aborted", RUNNING)
OUTCOME = pd.CategoricalDtype(list(OUTCOMES))
UNKNOWN_NS = -1

RUN_COLUMNS = [
    "run", "folder", "started", "ended", "exit_code", "duration_s", "live", "command", "station", "bench",
    "simulated", "speed", "product", "batch", "operator", "image", "image_sha256", "limits_version", "tasks", "tools",
    "instruments", "resumed", "head", "study",
]  # fmt: skip

_CATEGORY, _OUTCOME, _TEXT, _TIME, _FLAG = "category", "outcome", "str", "time", "flag"
ATTEMPTS: dict[str, str] = {
    "run": _CATEGORY, "board": "int32", "unit": _TEXT, "slot": _CATEGORY, "attempt": "int32", "order": "int32",
    "trial": "int32", "stages": "int16", "task": _CATEGORY, "role": _CATEGORY, "operator": _CATEGORY,
    "flasher": _CATEGORY, "outcome": _OUTCOME, "counted": "bool", "good": "bool", "code": _CATEGORY,
    "image": _CATEGORY, "image_sha256": _CATEGORY, "overrides": _CATEGORY, "started": _TIME, "ended": _TIME,
    "boot_id": _CATEGORY, "start_ns": "int64", "end_ns": "int64", "cycle_s": "float64", "duration_s": "float64",
    "firmware": _CATEGORY, "backup_verified_by": _CATEGORY, "write_verified": _FLAG, "supply_off_confirmed": _FLAG,
    "reworked": "bool", "study": "bool", "station": _CATEGORY, "batch": _CATEGORY, "product": _CATEGORY,
    "limits_version": _CATEGORY, "simulated": "bool", "speed": "float64", "hour": _TIME, "baud": "int32",
}  # fmt: skip
ATTEMPT_COLUMNS = list(ATTEMPTS)
DETAIL_TEXTS = ["board_name", "sentence", "mac", "identity", "backup_sha256", "folder"]
DETAILS: dict[str, str] = {"order": "int32", **dict.fromkeys(DETAIL_TEXTS, _TEXT), "backup_bytes": "float64"}
"""What `Records.details` has beside the columns of `attempts`."""
_FROM_ATTEMPTS = ["unit", "backup_verified_by", "write_verified", "supply_off_confirmed", "overrides"]
DETAIL_COLUMNS = [*DETAILS, *_FROM_ATTEMPTS]
PHASES: dict[str, str] = {
    "order": "int32", "step": _CATEGORY, "phase": _CATEGORY, "position": "int16", "outcome": _OUTCOME,
    "duration_s": "float64", "code": _CATEGORY, "start_ns": "int64", "end_ns": "int64",
}  # fmt: skip
PHASE_COLUMNS = list(PHASES)
MOMENTS = ("start_ns", "end_ns")  # of a phase; half of what all phases take, for what few of them are asked
LIMITS = ["minimum", "maximum", "marginal_minimum", "marginal_maximum"]
MEASUREMENT_COLUMNS = ["order", "step", "phase", "name", "value", "unit_of", *LIMITS, "outcome"]
"""Of `Numbers.all_of`; `value` is a float, a text, a bool, or None: could not be measured."""
TEXT_COLUMNS = ["order", "step", "phase", "name", "value", "outcome"]
ARTIFACT_COLUMNS = ["run", "unit", "slot", "attempt", "name", "path", "sha256"]
NOTE_COLUMNS = ["run", "utc", "unit", "slot", "level", "text", "details"]


@dataclass(frozen=True, order=True)
class Name:
    """A measurement: which step and phase of the plan takes it, what it is called, its SI symbol."""

    step: str
    phase: str
    name: str
    unit_of: str = ""


class Numbers(Protocol):
    """Measurements of all attempts but golden ones'. Never modify a frame that comes from here: it may be shared."""

    def names(self) -> list[Name]:
        """The numeric ones, in the plan's order: with a number in them, or missing wherever they were taken."""

    def of(self, name: Name) -> pd.DataFrame:
        """One measurement: order (int32, ascending), value (float64, NaN: could not be measured), limits (int16, a
        row of `limits()`), outcome (category OUTCOME). Empty for a name that is not there."""

    def all_names(self) -> list[Name]:
        """Those of `names` and those that are texts, in the plan's order."""

    def rows_of(self, name: Name) -> pd.DataFrame:
        """As `of`, with what is no number too: order, number, text (str, NaN: none), limits, outcome. For exports."""

    def limits(self) -> pd.DataFrame:
        """The sets of limits that occur: LIMITS, float64, NaN: none."""

    def texts(self, orders: Orders) -> pd.DataFrame:
        """TEXT_COLUMNS: what these attempts measured that is no number; yes/no is "true", "false"."""

    def all_of(self, orders: Orders) -> pd.DataFrame:
        """MEASUREMENT_COLUMNS: every measurement of these attempts, by order, then in the plan's order."""


Details = Callable[[Orders], pd.DataFrame]


@dataclass(frozen=True)
class Records:
    """What some runs wrote down. `remarks`: sentences on what could not be read, for the reader to see."""

    runs: pd.DataFrame
    attempts: pd.DataFrame
    steps: pd.DataFrame  # `phases`; without MOMENTS where `read_moments` has them
    numbers: Numbers
    golden: pd.DataFrame  # attempts at golden units: columns of `attempts` and of DETAILS; `order` -1
    notes: pd.DataFrame
    remarks: list[str] = field(default_factory=list)
    look_up: Details | None = None  # orders -> DETAILS, see `details`
    read_artifacts: Callable[[Collection[str] | None], pd.DataFrame] | None = None  # of some units; None: all
    read_moments: Callable[[], pd.DataFrame] | None = None  # MOMENTS of each of `steps`

    @property
    def phases(self) -> pd.DataFrame:
        """PHASES: a row for each step of an attempt, by `order`. Read anew each time where there is a `read_moments`;
        `steps` is at hand."""
        if self.read_moments is None:
            return self.steps
        moments = self.read_moments()
        return self.steps.assign(**{name: moments[name].array for name in MOMENTS})[PHASE_COLUMNS]

    @property
    def artifacts(self) -> pd.DataFrame:
        """ARTIFACT_COLUMNS: every kept file, golden units' too. Read anew each time; there may be millions."""
        return self.artifacts_of(None)

    def artifacts_of(self, units: Collection[str] | None) -> pd.DataFrame:
        """As `artifacts`, those of some units alone (None: all)."""
        if self.read_artifacts is None:
            return pd.DataFrame(columns=ARTIFACT_COLUMNS)
        return self.read_artifacts(units)

    def details(self, orders: Orders) -> pd.DataFrame:
        """DETAIL_COLUMNS of a few attempts, a row for each order in the order given; absent is NaN."""
        wanted = np.asarray(orders, dtype=np.int64)
        if self.look_up is None:
            found = typed({"order": wanted}, DETAILS, len(wanted))
        else:
            found = self.look_up(wanted).reset_index(drop=True)
        mine = self.attempts.iloc[wanted][_FROM_ATTEMPTS].reset_index(drop=True)
        return pd.concat([found, mine], axis=1)[DETAIL_COLUMNS]

    def part(self, which: NDArray[np.bool_] | pd.Series[bool]) -> Records:
        """The records of some attempts alone (True where one stays), as if there were no others; `order` counts
        anew, boards keep their codes, runs without an attempt go. For a figure by run, slot and so on use
        the metrics' `by`: this copies."""
        kept = np.flatnonzero(np.asarray(which, dtype=bool))
        attempts = self.attempts.iloc[kept].reset_index(drop=True)
        attempts["order"] = np.arange(len(kept), dtype=np.int32)
        rows, order = rows_among(self.steps["order"].to_numpy(), kept)
        steps = self.steps.iloc[rows].reset_index(drop=True)
        steps["order"] = order
        read_moments = self.read_moments
        runs = set(attempts["run"].unique())
        mine = {name: _of_runs(getattr(self, name), runs) for name in ("runs", "golden", "notes")}

        def look_up(orders: Orders) -> pd.DataFrame:
            found = self.details(kept[np.asarray(orders, dtype=np.int64)])[list(DETAILS)]
            return found.assign(order=np.asarray(orders, dtype=np.int32))

        from reports.numbers import PartNumbers

        numbers = PartNumbers(self.numbers, kept)
        return Records(
            **mine, attempts=attempts, steps=steps, numbers=numbers, remarks=self.remarks, look_up=look_up,
            read_artifacts=lambda units: _of_runs(self.artifacts_of(units), runs),
            read_moments=read_moments and (lambda: read_moments().iloc[rows].reset_index(drop=True)),
        )  # fmt: skip


def rows_among(order: NDArray[Any], kept: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Rows of `order` (ascending, some several times) that are among `kept` (ascending), and at which place of it."""
    low = np.searchsorted(order, kept.astype(order.dtype))
    several = np.searchsorted(order, kept.astype(order.dtype), side="right") - low
    ends = np.cumsum(several)
    rows = np.repeat(low - ends + several, several) + np.arange(ends[-1] if len(ends) else 0)
    return rows, np.repeat(np.arange(len(kept), dtype=np.int32), several)


def _of_runs(table: pd.DataFrame, runs: set[str]) -> pd.DataFrame:
    return table[table["run"].isin(list(runs))].reset_index(drop=True)


def records_of(
    attempts: Mapping[str, Any] | pd.DataFrame,
    *,
    numbers: Numbers | None = None,
    phases: Mapping[str, Any] | pd.DataFrame | None = None,
    details: Mapping[str, Any] | pd.DataFrame | None = None,
    runs: list[dict[str, Any]] | None = None,
) -> Records:
    """Records straight from columns, for synthetic ones: what is not given is what a plain converted unit has.

    `attempts`: any of ATTEMPT_COLUMNS, arrays in order of time or one value for all; `counted` and `good` follow from
    `outcome` (and `study`), `hour` from `started`, boards from `board`, else each attempt is another board's.
    `phases` and `details`: any of their columns with `order`. `numbers`: see `numbers.MemoryNumbers`.
    """
    told = dict(attempts)
    n = max((len(value) for value in told.values() if not _is_scalar(value)), default=0)
    outcome = told.setdefault("outcome", "pass")
    judged = pd.Series(outcome if not _is_scalar(outcome) else [outcome] * n, dtype=OUTCOME)
    study = np.broadcast_to(np.asarray(told.get("study", False), dtype=bool), n)
    count = np.arange(n, dtype=np.int32)
    plain: dict[str, Any] = {
        "run": "run", "board": count, "unit": [f"U{each}" for each in range(n)], "slot": "A", "attempt": 1,
        "trial": count, "stages": 1, "task": "convert", "role": "unit", "flasher": "native",
        "counted": counted(judged) & ~study, "good": good(judged), "started": pd.Timestamp("2026-01-01", tz="UTC"),
        "station": "station-1", "product": "product", "speed": 1.0, "boot_id": "boot",
    }  # fmt: skip
    table = typed(plain | told | {"order": count}, ATTEMPTS, n)
    if "hour" not in told:
        table["hour"] = table["started"].dt.floor("h")
    from reports.numbers import MemoryNumbers

    if runs is None:
        runs = [
            {"run": run, "station": rows["station"].iloc[0], "product": rows["product"].iloc[0], "command": "",
             "bench": "bench", "started": rows["started"].iloc[0], "ended": rows["started"].iloc[-1]}
            for run, rows in table.groupby("run", sort=False)
        ]  # fmt: skip
    known = None if details is None else typed(details, DETAILS, len(dict(details)["order"])).set_index("order")
    return Records(
        runs=run_table(runs),
        attempts=table,
        steps=typed(phases or {}, PHASES, 0 if phases is None else len(dict(phases)["order"])),
        numbers=numbers if numbers is not None else MemoryNumbers.empty(),
        golden=typed({}, ATTEMPTS | DETAILS, 0),
        notes=pd.DataFrame(columns=NOTE_COLUMNS),
        look_up=None if known is None else lambda orders: known.reindex(np.asarray(orders)).reset_index(),
    )


def run_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """`runs` from a row each; what is not said of a run is None, and it is real, at speed 1, to convert."""
    plain: dict[str, Any] = {"live": False, "simulated": False, "speed": 1.0, "tools": {}, "tasks": ["convert"],
                             "resumed": 0, "instruments": []}  # fmt: skip
    full = [dict.fromkeys(RUN_COLUMNS) | plain | dict(row) for row in rows]
    kinds = {"duration_s": "float64", "speed": "float64", "live": "bool", "simulated": "bool", "resumed": "int64"}
    return pd.DataFrame(
        {name: pd.Series([row[name] for row in full], dtype=kinds.get(name, "object")) for name in RUN_COLUMNS}
    )


def counted(outcome: pd.Series[Any]) -> NDArray[np.bool_]:
    """Whether attempts with these outcomes count in a yield: blocked, aborted and running ones do not."""
    return np.asarray(outcome.isin(["pass", "marginal", "fail", "unverified"]), dtype=bool)


def good(outcome: pd.Series[Any]) -> NDArray[np.bool_]:
    return np.asarray(outcome.isin(["pass", "marginal"]), dtype=bool)


def typed(columns: Mapping[str, Any] | pd.DataFrame, kinds: Mapping[str, str], n: int) -> pd.DataFrame:
    """A table of n rows with the columns of `kinds`; one that is not given is absent everywhere."""
    found = {name: column(columns.get(name), kind, n) for name, kind in kinds.items()}
    return pd.DataFrame(found, index=pd.RangeIndex(n), copy=False)


_MOMENT = pd.DatetimeTZDtype("us", "UTC")
_ABSENT: dict[str, Any] = {"int32": 0, "int16": 0, "int64": UNKNOWN_NS, "bool": False, "float64": np.nan}


def column(values: Any, kind: str, n: int) -> pd.Series[Any]:
    """One column of a table: `values` an array or one value; None is what an absent one is."""
    if values is None:
        values = _ABSENT.get(kind)
    if _is_scalar(values):
        if kind == _CATEGORY:
            names = pd.Index([] if values is None or n == 0 else [values], dtype="str")
            return pd.Series(pd.Categorical.from_codes(np.full(n, len(names) - 1, dtype=np.int8), names))
        values = [values] * n if kind in (_OUTCOME, _TEXT, _TIME, _FLAG) else np.full(n, values)
    if kind == _CATEGORY:
        return pd.Series(category(values))
    if kind == _OUTCOME:
        return pd.Series(pd.Categorical(values, dtype=OUTCOME))
    if kind == _TIME:
        return pd.Series(moments(values))
    if kind == _FLAG:
        return pd.Series(pd.array(values, dtype="boolean"))
    if kind == _TEXT:
        return pd.Series(values if len(values) else [], dtype="str").reset_index(drop=True)
    return pd.Series(np.asarray(values).astype(kind, copy=False), copy=False)


def category(values: Any) -> pd.Categorical:
    """Text of few values; the categories are those that occur, sorted, so that equal columns are equal."""
    found = values if isinstance(values, pd.Categorical) else pd.Categorical(getattr(values, "array", values))
    seen = np.zeros(len(found.categories) + 1, dtype=bool)
    for low in range(0, len(found), 1 << 16):
        seen[found.codes[low : low + (1 << 16)]] = True  # the last place is for -1
    used = np.flatnonzero(seen[:-1])
    names = np.asarray(found.categories, dtype=object)[used]
    if len(used) == len(found.categories) and list(names) == sorted(names) and found.categories.dtype == "str":
        return found
    place = np.argsort(names.astype(str), kind="stable") if len(names) else np.empty(0, dtype=np.int64)
    fresh = np.full(len(found.categories) + 1, -1, dtype=np.int32)
    fresh[used[place]] = np.arange(len(place))
    return pd.Categorical.from_codes(fresh[found.codes], pd.Index(list(names[place]), dtype="str"))


def moments(values: Any) -> pd.DatetimeIndex:
    """Times as `datetime64[us, UTC]`."""
    if getattr(values, "dtype", None) == _MOMENT:
        return pd.DatetimeIndex(values)
    return pd.DatetimeIndex(pd.to_datetime(values, utc=True)).as_unit("us")


def each_row(table: pd.DataFrame) -> Iterable[Any]:
    """The rows of one of these tables, columns as attributes, what is absent as None. For few rows: it is slow."""
    plain: dict[Any, Any] = {
        name: values.astype(object).where(values.notna(), None) if len(values) else []
        for name, values in table.items()
    }
    return pd.DataFrame(plain, index=table.index, dtype=object).itertuples()


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str) or not hasattr(value, "__len__")


def by_order(values: ArrayLike, orders: pd.Series[int] | NDArray[Any]) -> NDArray[Any]:
    """What attempts have (a column of `attempts`), for rows that name their attempt by `order`."""
    found: NDArray[Any] = np.asarray(values)[np.asarray(orders)]
    return found
