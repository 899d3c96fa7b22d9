"""Journals as tables: one row a run, an attempt, a step, a number, a kept file, a note.

Nothing is judged here: outcomes and durations are the ones written down. Only an attempt whose end is missing is
given one, by the rule the station itself has: half written is `unverified`, anything else `blocked` with the
code `crashed`; while its run still goes on it is neither and counts nowhere. Golden units are in a table of their own
and in no other: they tell of the bench.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from reports.boards import carry_rework_over, name_boards, number_trials
from rig.errors import UsageProblem
from rig.records import chain
from rig.records.events import (
    ArtifactKept,
    BackupKept,
    Event,
    Labelled,
    LineReleased,
    LineStopped,
    Measured,
    Noted,
    Outcome,
    PhaseEnded,
    Planned,
    Reworked,
    RunEnded,
    RunResumed,
    RunStarted,
    SlotBack,
    SlotOut,
    UnitEnded,
    UnitRefused,
    UnitStarted,
    WriteBegun,
    WriteEnded,
)
from rig.records.journal import is_live, read_journal
from rig.records.run import JOURNAL, RunFolder, list_runs

RUNNING = "running"  # an attempt of a run that still goes on: no outcome yet
FIRMWARE_NAMES = ("firmware", "firmware_version")  # measurements the unit table shows

RUN_COLUMNS = [
    "run", "folder", "started", "ended", "exit_code", "duration_s", "live", "command", "station", "bench",
    "simulated", "speed", "product", "batch", "operator", "image", "image_sha256", "limits_version", "tasks", "tools",
    "instruments", "resumed", "head",
]  # fmt: skip
ATTEMPT_COLUMNS = [
    "run", "board", "unit", "slot", "attempt", "order", "trial", "stages", "task", "role", "operator",
    "flasher", "outcome", "counted", "good", "code", "sentence", "image", "image_sha256", "overrides", "started",
    "ended", "boot_id", "start_ns", "end_ns", "cycle_s", "duration_s", "mac", "identity",
    "firmware", "backup_sha256", "backup_bytes", "backup_verified_by", "write_verified", "supply_off_confirmed",
    "reworked", "folder",
]  # fmt: skip
PHASE_COLUMNS = [
    "run", "board", "unit", "slot", "attempt", "order", "step", "phase", "position", "outcome", "duration_s", "code",
    "sentence", "start_ns", "end_ns",
]  # fmt: skip
MEASUREMENT_COLUMNS = [
    "run", "board", "unit", "slot", "attempt", "order", "step", "phase", "name", "value", "unit_of", "minimum",
    "maximum", "marginal_minimum", "marginal_maximum", "outcome",
]  # fmt: skip
ARTIFACT_COLUMNS = ["run", "unit", "slot", "attempt", "name", "path", "sha256"]
NOTE_COLUMNS = ["run", "utc", "unit", "slot", "level", "text", "details"]


@dataclass(frozen=True)
class Records:
    """What some runs wrote down. `remarks`: sentences on what could not be read, for the reader to see."""

    runs: pd.DataFrame
    attempts: pd.DataFrame
    phases: pd.DataFrame
    measurements: pd.DataFrame
    artifacts: pd.DataFrame
    notes: pd.DataFrame
    golden: pd.DataFrame  # attempts at golden units, columns as in `attempts`
    remarks: list[str] = field(default_factory=list)


def load(paths: Iterable[Path]) -> Records:
    """Read runs. A path is a run's folder or a folder that holds runs; a run given twice is read once.

    Raises UsageProblem for a path without a journal and for a broken journal.
    """
    rows = _Rows()
    remarks: list[str] = []
    seen: dict[str, Path] = {}
    for folder in _folders(paths):
        events, torn = read_journal(folder.journal)
        live = is_live(folder.journal)
        first = next((event for event in events if isinstance(event, RunStarted)), None)
        run = first.run if first else folder.id
        if run in seen:
            if seen[run].resolve() != folder.path.resolve():
                remarks.append(f"{folder.path} is a copy of run {run} in {seen[run]} and was left out.")
            continue
        seen[run] = folder.path
        if torn is not None and not live:
            remarks.append(torn)
        if first is None:
            remarks.append(f"{folder.journal} has no beginning: what ran, and on which bench, is not known.")
        _Reader(rows, folder, run, live).read(events)
    return _tables(rows, remarks)


def _folders(paths: Iterable[Path]) -> list[RunFolder]:
    found: list[RunFolder] = []
    for path in paths:
        inside = [] if (path / JOURNAL).is_file() else list_runs(path)
        found += inside or [RunFolder.open(path)]
    if not found:
        raise UsageProblem("No run was named to report on.")
    return found


def each_row(table: pd.DataFrame) -> Iterable[Any]:
    """The rows of one of these tables, columns as attributes."""
    return table.itertuples()


@dataclass
class _Rows:
    runs: list[dict[str, Any]] = field(default_factory=list)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    phases: list[dict[str, Any]] = field(default_factory=list)
    measurements: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    reworked: list[tuple[str, str, datetime]] = field(default_factory=list)  # run, unit, when; not yet tested again


class _Reader:
    """One journal into rows."""

    def __init__(self, rows: _Rows, folder: RunFolder, run: str, live: bool) -> None:
        self._rows = rows
        self._folder = folder
        self._run: dict[str, Any] = dict.fromkeys(RUN_COLUMNS) | {
            "run": run, "folder": str(folder.path), "live": live, "simulated": False, "speed": 1.0, "tools": {},
            "tasks": ["convert"], "resumed": 0, "head": chain.head(folder.journal),
        }  # fmt: skip
        self._attempts: dict[tuple[str, int], dict[str, Any]] = {}
        self._half_written: set[tuple[str, int]] = set()
        self._reworked: dict[str, datetime] = {}
        self._positions: dict[str, int] = {}
        self._opened: dict[tuple[str, int, str], int] = {}
        self._firmware: dict[tuple[str, int], dict[str, str]] = {}

    def read(self, events: Sequence[Event]) -> None:
        takers: dict[type, Callable[[Any], None]] = {
            RunStarted: self._run_started, RunEnded: self._run_ended, UnitStarted: self._unit_started,
            UnitEnded: self._unit_ended, PhaseEnded: self._phase_ended, Measured: self._measured,
            BackupKept: self._backup_kept, Planned: self._planned, WriteBegun: self._write_begun,
            WriteEnded: self._write_ended, ArtifactKept: self._artifact_kept, Noted: self._noted,
            RunResumed: self._run_resumed, Reworked: self._rework, UnitRefused: self._told, SlotOut: self._told,
            SlotBack: self._told, LineStopped: self._told, LineReleased: self._told, Labelled: self._labelled,
        }  # fmt: skip
        for event in events:
            self._run["started"] = self._run["started"] or event.utc
            if event.kind == "phase-started":
                self._opened[event.unit, event.attempt, event.phase] = event.mono_ns
            elif (take := takers.get(type(event))) is not None:
                take(event)
        for key, row in self._attempts.items():
            self._close(key, row)
        self._rows.reworked += [(self._run["run"], unit, when) for unit, when in self._reworked.items()]
        self._rows.runs.append(self._run)
        self._rows.attempts += self._attempts.values()

    def _attempt(self, event: Any) -> dict[str, Any]:
        key = (event.unit, event.attempt)
        if key not in self._attempts:
            self._attempts[key] = dict.fromkeys(ATTEMPT_COLUMNS) | {
                "run": self._run["run"], "unit": event.unit, "slot": event.slot, "attempt": event.attempt,
                "started": event.utc, "start_ns": event.mono_ns, "boot_id": event.boot_id,
                "reworked": event.unit in self._reworked, "task": "convert", "stages": len(self._run["tasks"]),
                "role": "unit", "operator": self._run["operator"],
                "folder": str(self._folder.unit_dir(event.unit, event.attempt)),
            }  # fmt: skip
            self._reworked.pop(event.unit, None)
        return self._attempts[key]

    def _key(self, event: Any) -> dict[str, Any]:
        self._attempt(event)
        return {"run": self._run["run"], "unit": event.unit, "slot": event.slot, "attempt": event.attempt}

    def _step(self, event: Any) -> str:
        """A step's name in tables: the same step of two tasks is two things, and their times do not mix."""
        task = self._attempt(event)["task"]
        return str(event.phase) if task == "convert" else f"{task} {event.phase}"

    def _run_started(self, event: RunStarted) -> None:
        told = {name: getattr(event, name) for name in RUN_COLUMNS if name in RunStarted.model_fields}
        self._run |= told | {"started": event.utc}

    def _run_ended(self, event: RunEnded) -> None:
        worked = (self._run["duration_s"] or 0.0) + event.duration_s
        self._run |= {"ended": event.utc, "exit_code": event.exit_code, "duration_s": worked}

    def _run_resumed(self, event: RunResumed) -> None:
        self._run |= {"ended": None, "exit_code": None, "resumed": self._run["resumed"] + 1}
        by = f" by {event.operator}" if event.operator else ""
        self._note(event, "info", f"The run was taken up again{by}.")

    def _unit_started(self, event: UnitStarted) -> None:
        row = self._attempt(event)
        operator = event.operator or row["operator"]
        row.update(flasher=event.flasher, task=event.task, role=event.role, operator=operator)

    def _unit_ended(self, event: UnitEnded) -> None:
        row = self._attempt(event)
        same_clock = row["boot_id"] == event.boot_id
        row |= {
            "outcome": event.outcome, "code": event.code, "sentence": event.sentence, "ended": event.utc,
            "duration_s": event.duration_s, "mac": event.mac or row["mac"],
            "identity": event.identity or row["identity"],
            "supply_off_confirmed": event.supply_off_confirmed, "end_ns": event.mono_ns,
            "cycle_s": (event.mono_ns - row["start_ns"]) / 1e9 if same_clock else None,
        }  # fmt: skip

    def _phase_ended(self, event: PhaseEnded) -> None:
        step = self._step(event)
        position = self._positions.setdefault(step, len(self._positions))
        self._rows.phases.append(self._key(event) | {
            "step": step, "phase": event.phase, "position": position, "outcome": event.outcome,
            "duration_s": event.duration_s, "code": event.code, "sentence": event.sentence, "end_ns": event.mono_ns,
            "start_ns": self._opened.get((event.unit, event.attempt, event.phase)),
        })  # fmt: skip

    def _measured(self, event: Measured) -> None:
        told = {name: getattr(event, name) for name in MEASUREMENT_COLUMNS if name in Measured.model_fields}
        self._rows.measurements.append(self._key(event) | told | {"step": self._step(event)})
        if event.name in FIRMWARE_NAMES and event.value:
            self._firmware.setdefault((event.unit, event.attempt), {})[event.name] = str(event.value)

    def _backup_kept(self, event: BackupKept) -> None:
        self._attempt(event).update(
            backup_sha256=event.sha256, backup_bytes=event.size, backup_verified_by=event.verified_by,
            identity=event.identity,
        )  # fmt: skip

    def _planned(self, event: Planned) -> None:
        self._attempt(event).update(
            image=event.image, image_sha256=event.image_sha256, overrides=", ".join(event.overrides) or None,
            mac=event.mac,
        )  # fmt: skip

    def _write_begun(self, event: WriteBegun) -> None:
        self._attempt(event)["write_verified"] = False
        self._half_written.add((event.unit, event.attempt))

    def _write_ended(self, event: WriteEnded) -> None:
        self._attempt(event)["write_verified"] = event.verified
        self._half_written.discard((event.unit, event.attempt))

    def _artifact_kept(self, event: ArtifactKept) -> None:
        kept = {"name": event.name, "path": event.path, "sha256": event.sha256}
        self._rows.artifacts.append(self._key(event) | kept)

    def _noted(self, event: Noted) -> None:
        self._note(event, event.level, event.text, event.details)

    def _rework(self, event: Reworked) -> None:
        self._reworked[event.unit] = event.utc
        self._note(event, "info", f"Reworked by {event.who}: {event.what}")

    def _told(self, event: UnitRefused | SlotOut | SlotBack | LineStopped | LineReleased) -> None:
        who = getattr(event, "who", None)
        by = f" by {who}" if who else ""
        match event:
            case UnitRefused():
                self._note(event, "warning", f"Refused ({event.rule}): {event.sentence}")
            case SlotOut():
                self._note(event, "warning", f"Slot {event.slot} is out of use: {event.why}")
            case SlotBack():
                self._note(event, "info", f"Slot {event.slot} is back in use{by}.")
            case LineStopped():
                self._note(event, "warning", f"The line stopped ({event.rule}): {event.why}")
            case LineReleased():
                self._note(event, "info", f"The line was let go on{by}.")

    def _labelled(self, event: Labelled) -> None:
        if not event.printed:
            self._note(event, "warning", f"The label was not printed: {event.said}")

    def _note(self, event: Any, level: str, text: str, details: dict[str, Any] | None = None) -> None:
        self._rows.notes.append({
            "run": self._run["run"], "utc": event.utc, "unit": getattr(event, "unit", None),
            "slot": getattr(event, "slot", None), "level": level, "text": text, "details": details or {},
        })  # fmt: skip

    def _close(self, key: tuple[str, int], row: dict[str, Any]) -> None:
        """Give an attempt without an end its outcome (see the module)."""
        unit, attempt = key
        if row["outcome"] is None and self._run["live"] and (unit, attempt + 1) not in self._attempts:
            row["outcome"] = RUNNING
        elif row["outcome"] is None and key in self._half_written:
            row |= {"outcome": Outcome.UNVERIFIED, "code": "half-written",
                    "sentence": "The journal ends while this board was being written."}  # fmt: skip
        elif row["outcome"] is None:
            row |= {"outcome": Outcome.BLOCKED, "code": "crashed",
                    "sentence": "The journal ends before this attempt did."}  # fmt: skip
        known = row["outcome"] != RUNNING
        row["counted"] = known and Outcome(row["outcome"]).counted
        row["good"] = known and Outcome(row["outcome"]).good
        row["outcome"] = str(row["outcome"])
        row["firmware"] = " ".join(dict.fromkeys(self._firmware.get(key, {}).values())) or None


def _tables(rows: _Rows, remarks: list[str]) -> Records:
    """Rows of all runs, ordered in time and keyed by board."""
    runs = sorted(rows.runs, key=lambda row: _moment(row["started"]))
    place = {row["run"]: position for position, row in enumerate(runs)}
    rows.attempts.sort(key=lambda row: place[row["run"]])  # stable: within a run the journal's order, not the clock's
    name_boards(rows.attempts, {row["run"]: row for row in runs})
    carry_rework_over(rows.attempts, rows.reworked)
    number_trials(rows.attempts)
    index = {}
    for order, row in enumerate(rows.attempts):
        row["order"] = order
        index[row["run"], row["unit"], row["attempt"]] = row
    for row in [*rows.phases, *rows.measurements]:
        owner = index[row["run"], row["unit"], row["attempt"]]
        row |= {"board": owner["board"], "order": owner["order"], "role": owner["role"]}
    golden = [row for row in rows.attempts if row["role"] == "golden"]
    rows.attempts, rows.phases, rows.measurements = (
        [row for row in table if row["role"] != "golden"] for table in (rows.attempts, rows.phases, rows.measurements)
    )
    return Records(
        runs=_frame(runs, RUN_COLUMNS),
        attempts=_frame(rows.attempts, ATTEMPT_COLUMNS),
        phases=_frame(sorted(rows.phases, key=lambda row: row["order"]), PHASE_COLUMNS),
        measurements=_frame(sorted(rows.measurements, key=lambda row: row["order"]), MEASUREMENT_COLUMNS),
        artifacts=_frame(rows.artifacts, ARTIFACT_COLUMNS),
        notes=_frame(rows.notes, NOTE_COLUMNS),
        golden=_frame(golden, ATTEMPT_COLUMNS),
        remarks=remarks,
    )


def _moment(utc: datetime | None) -> float:
    return utc.timestamp() if utc is not None else 0.0


_FLOATS = {"duration_s", "cycle_s", "speed", "minimum", "maximum", "marginal_minimum", "marginal_maximum"}
_BOOLS = {"counted", "good", "live", "simulated", "reworked"}
_INTS = {"attempt", "order", "position", "resumed", "stages", "trial"}


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """A table with these columns and the same types whether it is full or empty; absent text is None."""
    series: dict[str, Any] = {}
    for name in columns:
        values = [row[name] for row in rows]
        kind = "float64" if name in _FLOATS else "bool" if name in _BOOLS else "int64" if name in _INTS else "object"
        series[name] = pd.Series(values, dtype=kind)
    return pd.DataFrame(series, columns=columns)
