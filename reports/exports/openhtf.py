"""OpenHTF JSON: a test record a unit's attempt, as OpenHTF's own output callback writes it.

Source: records that OpenHTF 1.6.3 wrote (openhtf.output.callbacks.json_factory); a test compares keys and types with
one that is written then. What became of the attempt in the rig's own words, and what OpenHTF has no place for, is in
`metadata`. An attempt that is not over yet has no record, as in OpenHTF.

| rig | OpenHTF |
|---|---|
| pass, marginal | PASS, `marginal` false or true |
| fail, unverified | FAIL |
| blocked, by its code `step-timeout` | ERROR, TIMEOUT |
| aborted | ABORTED |
| a step not reached | SKIP |
| a value that could not be measured | UNSET |
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from reports.exports.attempts import One, each_attempt
from reports.exports.staging import files, staged
from reports.tables import RUNNING, UNKNOWN_NS, Records, each_row
from reports.text import shown
from rig.errors import UsageProblem
from rig.records.run import safe_name

MOST = 50_000  # files that a folder and its reader still cope with
_OUTCOMES = {"pass": "PASS", "marginal": "PASS", "fail": "FAIL", "unverified": "FAIL", "blocked": "ERROR",
             "aborted": "ABORTED"}  # fmt: skip
_STEPS = {"pass": ("PASS", "CONTINUE"), "marginal": ("PASS", "CONTINUE"), "fail": ("FAIL", "FAIL_AND_CONTINUE"),
          "unverified": ("FAIL", "FAIL_AND_CONTINUE"), "blocked": ("ERROR", "STOP"), "aborted": ("ERROR", ""),
          None: ("SKIP", "SKIP")}  # fmt: skip
_UNITS = {  # UNECE codes, source: openhtf.util.units
    "V": ("volt", "VLT", "V"), "A": ("ampere", "AMP", "A"), "mA": ("milliampere", "4K", "mA"),
    "W": ("watt", "WTT", "W"), "Ω": ("ohm", "OHM", "\N{OHM SIGN}"), "s": ("second [unit of time]", "SEC", "s"),
    "ms": ("millisecond", "C26", "ms"), "B": ("byte", "AD", "byte"), "B/s": ("byte per second", "P93", "byte/s"),
    "Bd": ("baud", "J38", "Bd"), "Hz": ("hertz", "HTZ", "Hz"), "dB": ("decibel", "2N", "dB"),
    "dBm": ("Decibel-milliwatts", "DBM", "dBm"), "°C": ("degree Celsius", "CEL", "°C"),
    "degC": ("degree Celsius", "CEL", "°C"), "%": ("percent", "P1", "%"),
}  # fmt: skip
_OPTIONS: dict[str, Any] = {  # of a phase, what OpenHTF writes where none are set
    "name": None, "timeout_s": None, "run_if": None, "requires_state": False, "force_repeat": False,
    "repeat_on_measurement_fail": False, "repeat_on_timeout": False, "repeat_limit": None, "run_under_pdb": False,
    "phase_name_case": "KEEP", "stop_on_measurement_fail": False,
}  # fmt: skip
_CODE_INFO = {"name": "", "docstring": None, "sourcecode": ""}
_METADATA = (
    "run", "attempt", "slot", "product", "batch", "operator", "flasher", "outcome", "counted", "study", "image",
    "image_sha256", "limits_version", "mac", "identity", "firmware", "backup_sha256", "simulated", "speed",
)  # fmt: skip
_NEEDED = (
    *_METADATA, "unit", "task", "station", "code", "sentence", "started", "ended", "start_ns", "cycle_s",
    "duration_s",
)  # fmt: skip
_LEVELS = {"info": 20, "warning": 30}


def write_openhtf(records: Records, target: Path) -> list[Path]:
    """Write `<run>/<unit>.<attempt>.json` into `target` and return the files. Raises UsageProblem above MOST
    attempts, and see `staged`."""
    ended = np.flatnonzero((records.attempts["outcome"] != RUNNING).to_numpy())
    if len(ended) > MOST:
        raise UsageProblem(
            f"OpenHTF has a file for each attempt, and these are {len(ended)} attempts; at most {MOST} are exported "
            "at a time. Name fewer runs, or export csv or parquet."
        )
    notes = _notes(records)
    with staged(target, lambda path: path.suffix == ".json" and len(path.parts) == 2) as folder:
        for one in each_attempt(records, ended, _NEEDED, measurements=True):
            row = one.row
            file = folder / safe_name(row.run) / f"{safe_name(row.unit)}.{row.attempt}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(_record(one, notes.get((row.run, row.unit), [])), ensure_ascii=False) + "\n")
    return files(target)


def _record(one: One, notes: Iterable[Any]) -> dict[str, Any]:
    row = one.row
    timeout = row.outcome == "blocked" and row.code == "step-timeout"
    bad = row.outcome not in ("pass", "marginal")
    start, end = _ends(row)
    return {
        "dut_id": shown(row.unit),
        "start_time_millis": start,
        "end_time_millis": end,
        "outcome": "TIMEOUT" if timeout else _OUTCOMES[row.outcome],
        "outcome_details": [_detail(row)] if bad else [],
        "marginal": None if bad else row.outcome == "marginal",
        "metadata": {
            "test_name": row.task, "test_version": _text(row.limits_version),
            "config": {"station_id": _text(row.station)},
        } | {name: _plain(getattr(row, name)) for name in _METADATA},
        "phases": _phases(one, start, end),
        "subtests": [],
        "branches": [],
        "diagnosers": [],
        "diagnoses": [],
        "log_records": [_log_record(note) for note in notes if start <= _millis(note.utc) <= end],
        "station_id": _text(row.station),
        "code_info": _CODE_INFO,
    }  # fmt: skip


def _detail(row: Any) -> dict[str, str]:
    return {"code": _text(row.code or row.outcome), "description": _text(row.sentence or "")}


def _ends(row: Any) -> tuple[int, int]:
    """An attempt without an end has the one its last sign of life gives: its duration, else its start."""
    start = _millis(row.started)
    lasted = row.cycle_s if row.cycle_s is not None else row.duration_s
    if lasted is not None:
        return start, start + round(lasted * 1000)
    return start, start if row.ended is None else max(_millis(row.ended), start)


def _phases(one: One, start: int, end: int) -> list[dict[str, Any]]:
    taken: dict[str, list[Any]] = {}
    for measurement in one.measurements:
        taken.setdefault(measurement.step, []).append(measurement)
    found, at = [], start
    for step in one.steps:
        begun, at = _when(step, one.row, start, at)
        outcome, result = _STEPS[step.outcome]
        measured, marginal = taken.pop(step.step, []), step.outcome == "marginal"
        found.append(_phase(step.step, outcome, result, begun, at, measured, marginal))
    for name, measured in taken.items():  # of a step without an end
        found.append(_phase(name, "ERROR", "", at, max(at, end), measured, False))
    for position, phase in enumerate(found):
        phase["descriptor_id"] = position
    return found


def _when(step: Any, row: Any, start: int, before: int) -> tuple[int, int]:
    """Start and end of a step in milliseconds: by the monotonic clock from the attempt's start on, else after the
    step before it."""
    lasted = round((step.duration_s or 0) * 1000)
    if min(row.start_ns, step.end_ns) <= UNKNOWN_NS or step.end_ns < row.start_ns:
        return before, before + lasted
    end = start + (step.end_ns - row.start_ns) // 1_000_000
    known = row.start_ns <= step.start_ns <= step.end_ns
    begun = start + (step.start_ns - row.start_ns) // 1_000_000 if known else max(end - lasted, start)
    return begun, end


def _phase(
    name: str, outcome: str, result: str, start: int, end: int, measured: list[Any], marginal: bool
) -> dict[str, Any]:
    return {
        "measurements": dict(_measurements(measured)),
        "options": _OPTIONS,
        "diagnosers": [],
        "subtest_name": None,
        "start_time_millis": start,
        "end_time_millis": end,
        "attachments": {},
        "diagnosis_results": [],
        "failure_diagnosis_results": [],
        "result": {"phase_result": result},
        "outcome": outcome,
        "marginal": marginal if outcome == "PASS" else None,
        "descriptor_id": 0,
        "name": shown(name),
        "codeinfo": _CODE_INFO,
    }


def _measurements(measured: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is measured again under its name within a step gets a number behind it."""
    seen: dict[str, int] = {}
    for each in measured:
        name = shown(each.name)
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            name = f"{name} #{seen[name]}"
        good = each.outcome in ("pass", "marginal")
        outcome = "UNSET" if each.value is None else "PASS" if good else "FAIL"
        told: dict[str, Any] = {"name": name, "outcome": outcome}
        if limits := _limits(each):
            told["validators"] = [limits]
        if each.unit_of:
            called, code, suffix = _UNITS.get(each.unit_of, (each.unit_of, "NDL", each.unit_of))
            told["units"] = {"name": shown(called), "code": code, "suffix": shown(suffix)}
        if each.value is not None:
            told["measured_value"] = _plain(each.value)
        yield name, told


def _limits(each: Any) -> str:
    """As OpenHTF's own in_range says itself."""
    low, high = each.minimum, each.maximum
    if low is not None and low == high:
        return f"x == {low}"
    parts = ["x"]
    if each.marginal_minimum is not None:
        parts.insert(0, f"Marginal:{each.marginal_minimum}")
    if low is not None:
        parts.insert(0, f"{low}")
    if each.marginal_maximum is not None:
        parts.append(f"Marginal:{each.marginal_maximum}")
    if high is not None:
        parts.append(f"{high}")
    return " <= ".join(parts) if len(parts) > 1 else ""


def _notes(records: Records) -> dict[tuple[str, str], list[Any]]:
    found: dict[tuple[str, str], list[Any]] = {}
    for note in each_row(records.notes[records.notes["unit"].notna()]):
        found.setdefault((note.run, note.unit), []).append(note)
    return found


def _log_record(note: Any) -> dict[str, Any]:
    return {
        "level": _LEVELS.get(note.level, 20), "logger_name": "rig", "source": "journal.jsonl", "lineno": 0,
        "timestamp_millis": _millis(note.utc), "message": shown(note.text),
    }  # fmt: skip


def _millis(utc: datetime) -> int:
    return int(utc.timestamp() * 1000)


def _text(value: object) -> str:
    return "" if value is None else shown(str(value))


def _plain(value: Any) -> Any:
    """A value as JSON takes it."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
