"""Journals as tables: one row a run, an attempt, a step, a number, a kept file, a note.

Nothing is judged here: outcomes and durations are the ones written down. Only an attempt whose end is missing is
given one, by the rule the station itself has: half written is `unverified`, anything else `blocked` with the
code `crashed`; while its run still goes on it is neither and counts nowhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from rig.errors import UsageProblem
from rig.records.events import (
    ArtifactKept,
    BackupKept,
    Event,
    Measured,
    Noted,
    Outcome,
    PhaseEnded,
    Planned,
    RunEnded,
    RunStarted,
    UnitEnded,
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
]  # fmt: skip
ATTEMPT_COLUMNS = [
    "run", "board", "unit", "slot", "attempt", "order", "trial", "stages", "task", "flasher", "outcome", "counted",
    "good", "code", "sentence", "image", "image_sha256", "overrides", "started",
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


class _Reader:
    """One journal into rows."""

    def __init__(self, rows: _Rows, folder: RunFolder, run: str, live: bool) -> None:
        self._rows = rows
        self._folder = folder
        self._run: dict[str, Any] = dict.fromkeys(RUN_COLUMNS) | {
            "run": run, "folder": str(folder.path), "live": live, "simulated": False, "speed": 1.0, "tools": {},
            "tasks": ["convert"],
        }  # fmt: skip
        self._attempts: dict[tuple[str, int], dict[str, Any]] = {}
        self._half_written: set[tuple[str, int]] = set()
        self._reworked: set[str] = set()
        self._positions: dict[str, int] = {}
        self._opened: dict[tuple[str, int, str], int] = {}
        self._firmware: dict[tuple[str, int], dict[str, str]] = {}

    def read(self, events: Sequence[Event]) -> None:
        takers: dict[type, Callable[[Any], None]] = {
            RunStarted: self._run_started, RunEnded: self._run_ended, UnitStarted: self._unit_started,
            UnitEnded: self._unit_ended, PhaseEnded: self._phase_ended, Measured: self._measured,
            BackupKept: self._backup_kept, Planned: self._planned, WriteBegun: self._write_begun,
            WriteEnded: self._write_ended, ArtifactKept: self._artifact_kept, Noted: self._noted,
        }  # fmt: skip
        for event in events:
            self._run["started"] = self._run["started"] or event.utc
            if event.kind == "phase-started":
                self._opened[event.unit, event.attempt, event.phase] = event.mono_ns
            elif (take := takers.get(type(event))) is not None:
                take(event)
        for key, row in self._attempts.items():
            self._close(key, row)
        self._rows.runs.append(self._run)
        self._rows.attempts += self._attempts.values()

    def _attempt(self, event: Any) -> dict[str, Any]:
        key = (event.unit, event.attempt)
        if key not in self._attempts:
            self._attempts[key] = dict.fromkeys(ATTEMPT_COLUMNS) | {
                "run": self._run["run"], "unit": event.unit, "slot": event.slot, "attempt": event.attempt,
                "started": event.utc, "start_ns": event.mono_ns, "boot_id": event.boot_id,
                "reworked": event.unit in self._reworked, "task": "convert", "stages": len(self._run["tasks"]),
                "folder": str(self._folder.unit_dir(event.unit, event.attempt)),
            }  # fmt: skip
            self._reworked.discard(event.unit)
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
        self._run |= {"ended": event.utc, "exit_code": event.exit_code, "duration_s": event.duration_s}

    def _unit_started(self, event: UnitStarted) -> None:
        self._attempt(event).update(flasher=event.flasher, task=event.task)

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
        if event.unit is not None and event.details.get("rework"):
            self._reworked.add(event.unit)
        self._rows.notes.append({
            "run": self._run["run"], "utc": event.utc, "unit": event.unit, "slot": event.slot,
            "level": event.level, "text": event.text, "details": event.details,
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
    _name_boards(rows.attempts, {row["run"]: row for row in runs})
    _number_trials(rows.attempts)
    index = {}
    for order, row in enumerate(rows.attempts):
        row["order"] = order
        index[row["run"], row["unit"], row["attempt"]] = row
    for row in [*rows.phases, *rows.measurements]:
        owner = index[row["run"], row["unit"], row["attempt"]]
        row |= {"board": owner["board"], "order": owner["order"]}
    return Records(
        runs=_frame(runs, RUN_COLUMNS),
        attempts=_frame(rows.attempts, ATTEMPT_COLUMNS),
        phases=_frame(sorted(rows.phases, key=lambda row: row["order"]), PHASE_COLUMNS),
        measurements=_frame(sorted(rows.measurements, key=lambda row: row["order"]), MEASUREMENT_COLUMNS),
        artifacts=_frame(rows.artifacts, ARTIFACT_COLUMNS),
        notes=_frame(rows.notes, NOTE_COLUMNS),
        remarks=remarks,
    )


def _name_boards(attempts: list[dict[str, Any]], runs: dict[str, dict[str, Any]]) -> None:
    """What counts as one board: its unit within a run, and across real benches' runs its identity.

    A failed board brought back tomorrow is a retest, not a second board. Nobody is named by an identity that is
    all zeros or ones, that two units of one run share (a maker's default), or that changed within a unit;
    simulated boards are made anew in every run.
    """
    identities: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in attempts:
        if row["identity"]:
            identities[row["run"], row["unit"]].add(row["identity"])
    shared = Counter((run, identity) for (run, _), known in identities.items() for identity in known)
    ambiguous = {identity for (_, identity), count in shared.items() if count > 1}
    for row in attempts:
        known = identities[row["run"], row["unit"]]
        identity = next(iter(known)) if len(known) == 1 else ""
        digits = set(identity.lower()) - set(":-")
        names_nobody = digits <= {"0"} or digits <= {"f"} or identity in ambiguous
        if runs[row["run"]]["simulated"] or names_nobody:
            row["board"] = f"{row['run']}/{row['unit']}"
        else:
            row["board"] = identity


def _number_trials(attempts: list[dict[str, Any]]) -> None:
    """A trial is one way through all that a run does to a unit: recovered, then converted, is one and not two. A task
    that comes again is a retry, and begins the next."""
    done: dict[tuple[str, str], set[str]] = {}
    trial: dict[tuple[str, str], int] = {}
    count = 0
    for row in attempts:
        key = (row["run"], row["unit"])
        if key not in done or row["task"] in done[key]:
            done[key], trial[key] = set(), count
            count += 1
        done[key].add(row["task"])
        row["trial"] = trial[key]


def _moment(utc: datetime | None) -> float:
    return utc.timestamp() if utc is not None else 0.0


_FLOATS = {"duration_s", "cycle_s", "speed", "minimum", "maximum", "marginal_minimum", "marginal_maximum"}
_BOOLS = {"counted", "good", "live", "simulated", "reworked"}
_INTS = {"attempt", "order", "position", "stages", "trial"}


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """A table with these columns and the same types whether it is full or empty; absent text is None."""
    series: dict[str, Any] = {}
    for name in columns:
        values = [row[name] for row in rows]
        kind = "float64" if name in _FLOATS else "bool" if name in _BOOLS else "int64" if name in _INTS else "object"
        series[name] = pd.Series(values, dtype=kind)
    return pd.DataFrame(series, columns=columns)
