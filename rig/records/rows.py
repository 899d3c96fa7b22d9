"""A journal as rows of the database's tables: a fold over its lines, the same fed at once or in parts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rig.errors import UsageProblem
from rig.records import events
from rig.records.chain import START, link, split

Row = dict[str, Any]
ENTRY_TEXT = ("text", "sentence", "what", "why", "answer", "said", "note", "command")  # what an entry says, by field
_OF_RUN = ("command", "station", "bench", "simulated", "speed", "product", "batch", "operator", "image",
           "image_sha256", "limits_version", "tasks", "tools", "profiles", "job")  # fmt: skip


@dataclass
class Rows:
    """What the lines of a run's journal come to, so far. `size` is where they end, in bytes.

    `digests`: of the first 0, 1, 2 lines and so on, each what the chain's head is there if all lines carry their
    links; they are computed, so that a changed line has another one whatever link it carries.

    Rows that belong to one line are in `by_line`, by table, in the journal's order; `attempts` change as lines come,
    `touched` says by which line each did last.
    """

    run: Row
    size: int = 0
    digests: list[str] = field(default_factory=lambda: [START])
    instruments: list[Row] = field(default_factory=list)  # by name
    attempts: dict[tuple[str, int], Row] = field(default_factory=dict)
    touched: dict[tuple[str, int], int] = field(default_factory=dict)
    by_line: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    _reworked: set[str] = field(default_factory=set)
    _opened: dict[tuple[str, int, str], int] = field(default_factory=dict)  # a step of an attempt -> mono_ns

    @property
    def lines(self) -> int:
        return len(self.digests) - 1

    @classmethod
    def of(cls, run: str) -> Rows:
        """Nothing read yet. `run`: what it is called should its journal have no beginning."""
        told: Row = dict.fromkeys(_OF_RUN) | {"tasks": [], "tools": {}, "profiles": {}, "job": {}}
        ends: Row = dict.fromkeys(("started", "ended", "exit_code", "duration_s", "worked_s"))
        return cls({"run": run, "resumed": 0, "link": START} | ends | told)

    @classmethod
    def of_events(cls, run: str, told: Iterable[events.Event]) -> Rows:
        """A journal that was read already. Its digests are not computed: for readers, not for the database."""
        rows = cls.of(run)
        for event in told:
            rows.digests.append("")
            rows._take(event)
        return rows

    def feed(self, lines: Iterable[bytes], path: Path) -> None:
        """Take in the next lines (whole, without the newline). UsageProblem names the line that is no event; what
        came before it is taken in."""
        for line in lines:
            body, own = split(line)
            try:
                event = events.parser.validate_json(body)
            except ValidationError as problem:
                raise UsageProblem(f"{path}, line {self.lines + 1} is not an event of this rig.") from problem
            self.size += len(line) + 1
            self.digests.append(link(self.digests[-1], body))
            self.run["link"] = own or self.run["link"]
            self._take(event)

    def run_row(self) -> Row:
        return self.run | {"lines": self.lines, "bytes": self.size, "head": self.digests[-1]}

    # -- one event -------------------------------------------------------------------------------------

    def _take(self, event: events.Event) -> None:
        takers: dict[type, Callable[[Any], None]] = {
            events.RunStarted: self._run_started, events.RunResumed: self._run_resumed,
            events.RunEnded: self._run_ended, events.UnitStarted: self._unit_started,
            events.UnitEnded: self._unit_ended, events.PhaseEnded: self._phase_ended,
            events.Measured: self._measured, events.BackupKept: self._backup_kept, events.Planned: self._planned,
            events.WriteBegun: self._write_begun, events.WriteEnded: self._write_ended,
            events.ArtifactKept: self._artifact_kept, events.Reworked: self._rework,
        }  # fmt: skip
        if self.run["started"] is None:
            self.run["started"] = event.utc
        if isinstance(event, events.PhaseStarted):
            self._attempt(event)
            self._opened[event.unit, event.attempt, event.phase] = event.mono_ns
        elif (take := takers.get(type(event))) is not None:
            take(event)
        else:
            self._entry(event)

    def _run_started(self, event: events.RunStarted) -> None:
        told = event.model_dump(mode="json", include=set(_OF_RUN))
        self.run |= told | {"run": event.run, "started": event.utc}
        named = {each.name: {"run": event.run} | each.model_dump() for each in event.instruments}
        self.instruments = [named[name] for name in sorted(named)]

    def _run_resumed(self, event: events.RunResumed) -> None:
        self.run |= {"resumed": self.run["resumed"] + 1, "ended": None, "exit_code": None, "duration_s": None}
        self._entry(event)

    def _run_ended(self, event: events.RunEnded) -> None:
        worked = (self.run["worked_s"] or 0.0) + event.duration_s
        self.run |= {"ended": event.utc, "exit_code": event.exit_code, "duration_s": event.duration_s,
                     "worked_s": worked}  # fmt: skip
        self._entry(event)

    def _attempt(self, event: Any) -> Row:
        """The attempt that an event is of, which changes with it."""
        key = (event.unit, event.attempt)
        if key not in self.attempts:
            told = {name: self.run[name] for name in ("run", "batch", "product", "station", "image", "image_sha256",
                                                      "limits_version", "tools", "profiles")}  # fmt: skip
            self.attempts[key] = told | {
                "unit": event.unit, "attempt": event.attempt, "line": self.lines, "slot": event.slot,
                "task": "convert", "role": "unit", "operator": self.run["operator"], "suite": None, "flasher": None,
                "started": event.utc, "ended": None, "duration_s": None, "outcome": None, "code": None,
                "sentence": None, "mac": None, "identity": None, "backup_sha256": None, "backup_bytes": None,
                "backup_verified_by": None, "planned": False, "overrides": None, "boot_id": event.boot_id,
                "start_ns": event.mono_ns, "end_ns": None, "cycle_s": None, "half_written": False,
                "write_verified": None, "supply_off_confirmed": None, "reworked": event.unit in self._reworked,
                "instruments": [_plain(each) for each in self.instruments],
            }  # fmt: skip
            self._reworked.discard(event.unit)
        self.touched[key] = self.lines
        return self.attempts[key]

    def _unit_started(self, event: events.UnitStarted) -> None:
        self._attempt(event).update(
            task=event.task, role=event.role, operator=event.operator or self.run["operator"], suite=event.suite,
            flasher=event.flasher,
        )  # fmt: skip

    def _unit_ended(self, event: events.UnitEnded) -> None:
        row = self._attempt(event)
        if row["outcome"] is not None:
            return  # the first end on record stands
        row |= {
            "ended": event.utc, "outcome": str(event.outcome), "code": event.code, "sentence": event.sentence,
            "duration_s": event.duration_s, "mac": event.mac or row["mac"],
            "identity": event.identity or row["identity"], "supply_off_confirmed": event.supply_off_confirmed,
            "end_ns": event.mono_ns,
            "cycle_s": (event.mono_ns - row["start_ns"]) / 1e9 if event.boot_id == row["boot_id"] else None,
        }  # fmt: skip

    def _planned(self, event: events.Planned) -> None:
        row = self._attempt(event)
        row.update(
            mac=event.mac or row["mac"], image=event.image, image_sha256=event.image_sha256, planned=True,
            overrides=", ".join(event.overrides) or None,
        )  # fmt: skip
        self._entry(event)

    def _write_begun(self, event: events.WriteBegun) -> None:
        self._attempt(event).update(half_written=True, write_verified=False, image_sha256=event.image_sha256)
        self._entry(event)

    def _write_ended(self, event: events.WriteEnded) -> None:
        self._attempt(event).update(half_written=False, write_verified=event.verified)
        self._entry(event)

    def _phase_ended(self, event: events.PhaseEnded) -> None:
        row = self._add("phases", event, "phase", "outcome", "duration_s", "code", "sentence")
        began = self._opened.get((event.unit, event.attempt, event.phase))
        row |= {"start_ns": began, "end_ns": event.mono_ns}

    def _measured(self, event: events.Measured) -> None:
        value = event.value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        text = None if value is None or is_number else str(value).lower() if isinstance(value, bool) else str(value)
        row = self._add("measurements", event, "phase", "name", "unit_of", "minimum", "maximum", "marginal_minimum",
                        "marginal_maximum", "outcome")  # fmt: skip
        row |= {
            "number": value if is_number else None,
            "text": text,
            "limits_version": self.run["limits_version"],
        }

    def _backup_kept(self, event: events.BackupKept) -> None:
        self._add("backups", event, "identity", "path", "sha256", "size", "verified_by")
        self._attempt(event).update(
            identity=event.identity, backup_sha256=event.sha256, backup_bytes=event.size,
            backup_verified_by=event.verified_by,
        )  # fmt: skip

    def _artifact_kept(self, event: events.ArtifactKept) -> None:
        self._add("artifacts", event, "name", "path", "sha256")

    def _rework(self, event: events.Reworked) -> None:
        self._reworked.add(event.unit)
        self._entry(event)

    def _add(self, table: str, event: Any, *names: str) -> Row:
        self._attempt(event)
        row = {"run": self.run["run"], "line": self.lines, "unit": event.unit, "slot": event.slot,
               "attempt": event.attempt}  # fmt: skip
        row |= event.model_dump(mode="json", include=set(names))
        self.by_line[table].append(row)
        return row

    def _entry(self, event: events.Event) -> None:
        told = event.model_dump(mode="json", exclude={"utc", "mono_ns", "boot_id", "schema_version", "kind"})
        text = next((str(told[name]) for name in ENTRY_TEXT if told.get(name)), "")
        own = {name: told.pop(name, None) for name in ("unit", "slot", "attempt")}
        self.by_line["entries"].append(
            {"run": self.run["run"], "line": self.lines, "kind": event.kind, "utc": event.utc, "text": text,
             "details": told} | own
        )  # fmt: skip


def _plain(row: Row) -> Row:
    """An instrument as JSON takes it."""
    told = {name: value for name, value in row.items() if name != "run"}
    return dict(json.loads(json.dumps(told, default=str)))
