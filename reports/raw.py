"""Rows as the database has them (`rig.records.rows`), made into typed tables, whichever way they came: folded out of
a journal just now, or read from the database. Nothing is judged or ordered here; `assemble` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import union_categoricals

from reports.tables import LIMITS, UNKNOWN_NS, category, typed
from rig.records.events import Instrument
from rig.records.rows import Row, Rows

FIRMWARE_NAMES = ("firmware", "firmware_version")  # measurements the table of units shows
BAUD_NAME = "link_baud"

ATTEMPTS: dict[str, str] = {
    "run": "category", "unit": "str", "attempt": "int32", "line": "int32", "slot": "category", "task": "category",
    "role": "category", "operator": "category", "flasher": "category", "started": "time", "ended": "time",
    "duration_s": "float64", "outcome": "outcome", "code": "category", "identity": "str",
    "image": "category", "image_sha256": "category", "overrides": "category",
    "backup_verified_by": "category", "half_written": "bool",
    "write_verified": "flag", "supply_off_confirmed": "flag", "reworked": "bool", "boot_id": "category",
    "start_ns": "int64", "end_ns": "int64", "cycle_s": "float64", "firmware": "category", "baud": "int32",
}  # fmt: skip
LONG: dict[str, str] = {"sentence": "str", "mac": "str", "backup_sha256": "str", "backup_bytes": "float64"}
PHASES: dict[str, str] = {
    "at": "int32", "step": "category", "phase": "category", "position": "int16", "outcome": "outcome",
    "duration_s": "float64", "code": "category", "start_ns": "int64", "end_ns": "int64",
}  # fmt: skip
MEASURED: dict[str, str] = {
    "at": "int32", "step": "category", "phase": "category", "name": "category", "unit_of": "category",
    "number": "float64", "text": "str", **dict.fromkeys(LIMITS, "float64"), "outcome": "outcome",
}  # fmt: skip
ASKED_OF_ATTEMPTS = [*(name for name in ATTEMPTS if name not in ("firmware", "baud")), *LONG, "planned"]
ASKED_OF_PHASES = ["run", "unit", "attempt", "phase", "outcome", "duration_s", "code", "start_ns", "end_ns"]
ASKED_OF_MEASURED = ["run", "unit", "attempt", "phase", "name", "unit_of", "number", "text", *LIMITS, "outcome"]
ARTIFACTS = ["run", "line", "unit", "slot", "attempt", "name", "path", "sha256"]
TAKEN_UP = "The run was taken up again"
NOTE_KINDS = ("noted", "run-resumed", "reworked", "unit-refused", "slot-out", "slot-back", "line-stopped",
              "line-released", "labelled")  # fmt: skip

Columns = Mapping[str, Any]


@dataclass
class Raw:
    """Runs as rows. `attempts`: ATTEMPTS, those of a run together and in its journal's order; `at` in the other
    tables is their row. `notes`: (run, line, kind, utc, unit, slot, details) each; `artifacts` is asked for if
    needed."""

    runs: list[Row]
    attempts: pd.DataFrame  # without LONG: they are asked for
    long: Callable[[NDArray[Any]], pd.DataFrame]  # of some rows of `attempts`: LONG
    phases: pd.DataFrame
    measured: Any  # a table of MEASURED, or what `numbers` are made of otherwise
    notes: list[Row]
    artifacts: Callable[[Collection[str] | None], pd.DataFrame]  # of some units; None: all
    remarks: list[str] = field(default_factory=list)
    moments: Callable[[], pd.DataFrame] | None = None  # MOMENTS of each of `phases`, where those are without


def run_row(run: Row, instruments: Iterable[Row], folder: str, live: bool) -> Row:
    """A row of the database's `runs` as one of the report's."""
    told = {name: value for name, value in run.items() if name not in ("job", "profiles", "lines", "bytes")}
    study = (run["job"] or {}).get("study")
    kept = [Instrument(**{name: value for name, value in each.items() if name != "run"}) for each in instruments]
    return told | {
        "folder": folder, "live": live, "simulated": bool(run["simulated"]), "speed": run["speed"] or 1.0,
        "tasks": run["tasks"] or ["convert"], "duration_s": run["worked_s"], "head": run["link"],
        "instruments": kept, "study": study or None,
    }  # fmt: skip


def of_rows(folded: Rows) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Attempts, phases and measurements of one journal."""
    rows = list(folded.attempts.values())
    attempts = attempts_of(_columns(rows, ASKED_OF_ATTEMPTS))
    phases = phases_of(_columns(folded.by_line["phases"], ASKED_OF_PHASES), attempts)
    measured = measured_of(_columns(folded.by_line["measurements"], ASKED_OF_MEASURED), attempts)
    return with_measured(attempts, measured), phases, measured


def attempts_of(columns: Columns) -> pd.DataFrame:
    """ATTEMPTS and LONG; firmware and baud come with the measurements."""
    told = dict(columns)
    n = len(told["run"])
    planned = np.fromiter((bool(each) for each in told.pop("planned")), dtype=bool, count=n)
    for name in ("image", "image_sha256"):
        told[name] = pd.Series(told[name], dtype=object).where(planned, None)
    told["end_ns"] = _moments_ns(told["end_ns"])
    for name in ("write_verified", "supply_off_confirmed"):
        told[name] = [None if each is None else bool(each) for each in told[name]]
    return typed(told, ATTEMPTS | LONG, n)


def phases_of(columns: Columns, attempts: pd.DataFrame) -> pd.DataFrame:
    told = dict(columns)
    n = len(told["run"])
    at = places(told, attempts)
    told |= {name: _moments_ns(told[name]) for name in ("start_ns", "end_ns")}
    step = steps(at, told["phase"], attempts)
    run = attempts["run"].cat.codes.to_numpy()[at]
    return typed(told | {"at": at, "step": step, "position": _positions(run, step.codes)}, PHASES, n)


def measured_of(columns: Columns, attempts: pd.DataFrame) -> pd.DataFrame:
    at = places(columns, attempts)
    return typed(dict(columns) | {"at": at, "step": steps(at, columns["phase"], attempts)}, MEASURED, len(at))


def joined(
    parts: Iterable[tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]],
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Attempts, phases and measurements of several journals as one of each."""
    told = list(parts)
    sizes = np.cumsum([0, *(len(attempts) for attempts, _, _ in told)])
    moved = [
        (attempts, *(each.assign(at=(each["at"] + low).astype(np.int32)) for each in (phases, measured)))
        for low, (attempts, phases, measured) in zip(sizes, told, strict=False)
    ]
    one, two, three = zip(*moved, strict=True)
    return concat(one, ATTEMPTS | LONG), concat(two, PHASES), concat(three, MEASURED)


def concat(parts: Iterable[pd.DataFrame], kinds: Mapping[str, str]) -> pd.DataFrame:
    """Tables of the same columns below each other; categories are united."""
    told = list(parts)
    if len(told) == 1:
        return told[0].reset_index(drop=True)
    columns: dict[str, Any] = {}
    for name, kind in kinds.items():
        if kind == "category":
            columns[name] = category(union_categoricals([each[name].array for each in told]))
        else:
            columns[name] = pd.concat([each[name] for each in told], ignore_index=True).array
    return pd.DataFrame(columns, copy=False)


def with_measured(attempts: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Attempts with what their measurements say of them: the firmware's name and the baud they were flashed at."""
    rates = measured[(measured["name"] == BAUD_NAME) & measured["number"].notna()]
    baud = np.zeros(len(attempts), dtype=np.int32)
    baud[rates["at"].to_numpy()] = rates["number"].clip(0, 2**31 - 1).to_numpy().astype(np.int32)
    told = measured[measured["name"].isin(FIRMWARE_NAMES) & measured["text"].notna() & (measured["text"] != "")]
    told = told.assign(first=np.arange(len(told)))
    names = told.groupby(["at", "name"], observed=True).agg(first=("first", "min"), text=("text", "last"))
    texts = names.reset_index().sort_values("first").drop_duplicates(["at", "text"])
    firmware = np.full(len(attempts), None, dtype=object)
    single = ~texts["at"].duplicated(keep=False)
    firmware[texts["at"][single].to_numpy()] = texts["text"][single].to_numpy(dtype=object)
    several = texts[~single].groupby("at")["text"].agg(" ".join)
    firmware[several.index.to_numpy(dtype=np.int64)] = several.to_numpy(dtype=object)
    extra = typed({"firmware": firmware, "baud": baud}, {"firmware": "category", "baud": "int32"}, len(attempts))
    return attempts.assign(**extra)


def places(columns: Columns, attempts: pd.DataFrame) -> NDArray[np.int64]:
    """Of rows that name their attempt by run, unit and attempt: which row of `attempts` it is."""
    runs, units = attempts["run"].cat.categories, pd.Index(attempts["unit"].unique())
    mine = _key(attempts["run"].to_numpy(), attempts["unit"], attempts["attempt"], runs, units)
    theirs = _key(columns["run"], columns["unit"], columns["attempt"], runs, units)
    place = np.argsort(mine, kind="stable")
    found = place[np.searchsorted(mine[place], theirs).clip(max=max(len(mine) - 1, 0))] if len(theirs) else theirs
    if not np.array_equal(mine[found], theirs):
        raise ValueError("a row of an attempt that is not there")
    return found


def _key(run: Any, unit: Any, attempt: Any, runs: pd.Index, units: pd.Index) -> NDArray[np.int64]:
    which = pd.Categorical(run, categories=runs).codes.astype(np.int64)
    who = pd.Categorical(unit, categories=units).codes.astype(np.int64)
    return (which * len(units) + who) * 100_000 + np.asarray(attempt, dtype=np.int64)


def steps(at: NDArray[np.int64], phase: Any, attempts: pd.DataFrame) -> pd.Categorical:
    """A step's name in tables: the same step of two tasks is two things, and their times do not mix."""
    task, phases = attempts["task"].cat, pd.Categorical(phase)
    names = [str(each) if of == "convert" else f"{of} {each}" for of in task.categories for each in phases.categories]
    codes = task.codes.to_numpy().astype(np.int64)[at] * len(phases.categories) + phases.codes
    return pd.Categorical.from_codes(codes, pd.Index(names, dtype="str"))


def _positions(run: NDArray[Any], step: NDArray[Any]) -> NDArray[np.int16]:
    """Where in its run's plan each step is: steps by their first end."""
    pair = pd.Series(run.astype(np.int64) * 10_000 + step)
    codes, seen = pd.factorize(pair)
    rank = pd.Series(seen // 10_000).groupby(seen // 10_000).cumcount().to_numpy()
    return rank[codes].astype(np.int16) if len(codes) else np.empty(0, dtype=np.int16)


def _moments_ns(values: Any) -> NDArray[np.int64]:
    return np.fromiter((UNKNOWN_NS if each is None else each for each in values), dtype=np.int64, count=len(values))


def _columns(rows: list[Row], names: list[str]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in names}


def note(kind: str, slot: str | None, told: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]] | None:
    """Level, text and details of a note, from an entry's fields; None for one that nobody need read."""
    by = f" by {who}" if (who := told.get("who") or told.get("operator")) else ""
    match kind:
        case "noted":
            return told["level"], told["text"], told["details"] or {}
        case "run-resumed":
            return "info", f"{TAKEN_UP}{by}.", {}
        case "reworked":
            return "info", f"Reworked{by}: {told['what']}", {}
        case "unit-refused":
            return (
                "info" if told["rule"] == "elsewhere" else "warning",
                f"Refused ({told['rule']}): {told['sentence']}",
                {},
            )
        case "slot-out":
            return "warning", f"Slot {slot} is out of use: {told['why']}", {}
        case "slot-back":
            return "info", f"Slot {slot} is back in use{by}.", {}
        case "line-stopped":
            return "warning", f"The line stopped ({told['rule']}): {told['why']}", {}
        case "line-released":
            return "info", f"The line was let go on{by}.", {}
        case "labelled" if not told["printed"]:
            return "warning", f"The label was not printed: {told['said']}", {}
    return None
