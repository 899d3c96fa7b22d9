"""A run's journal as the page needs it: attempts, what they came to, and the batch's numbers, event by event.

The numbers are those of `reports.metrics` (a test holds the two together): first-pass yield is units good on their
first counted trial / units with a counted trial; units per hour is units good in the end an hour between a run's
first start and last end, within each boot of the station by itself. Golden units count in neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import singledispatchmethod
from typing import Any, Literal

from rig.records import events
from rig.records.events import Event, Outcome


@dataclass
class Step:
    """One phase of an attempt. `ended` False: it runs; `outcome` None with it: skipped."""

    name: str
    ended: bool = False
    outcome: Outcome | None = None
    duration_s: float | None = None
    sentence: str | None = None


@dataclass
class Attempt:
    """One attempt at one unit. `number` is its place in the journal, counted from 1: pages find it by that."""

    number: int
    unit: str
    slot: str
    attempt: int
    started: datetime
    start_ns: int
    boot_id: str
    task: events.Task = "convert"
    role: events.Role = "unit"
    flasher: str = "native"
    operator: str | None = None
    outcome: Outcome | None = None  # None: it runs, or its end is missing (see `Book.outcome_of`)
    code: str | None = None
    sentence: str | None = None
    ended: datetime | None = None
    end_ns: int | None = None
    cycle_s: float | None = None  # start to end, None where the station was rebooted between
    mac: str | None = None
    identity: str | None = None
    supply_off: bool | None = None
    writing: bool = False  # between write-begun and write-ended
    steps: list[Step] = field(default_factory=list)
    measured: list[events.Measured] = field(default_factory=list)
    artifacts: list[events.ArtifactKept] = field(default_factory=list)
    notes: list[events.Noted] = field(default_factory=list)
    backup: events.BackupKept | None = None
    planned: events.Planned | None = None

    @property
    def firmware(self) -> str:
        names = ("firmware", "firmware_version")
        return " ".join(dict.fromkeys(str(each.value) for each in self.measured if each.name in names and each.value))


@dataclass(frozen=True)
class Numbers:
    """What the batch came to so far. Rates are (good, of)."""

    first_pass: tuple[int, int]
    final: tuple[int, int]
    per_hour: float | None


class Book:
    """Take events in order with `add`; read the rest. `live`: whether the run's station is at work."""

    def __init__(self) -> None:
        self.started: events.RunStarted | None = None
        self.ended: events.RunEnded | None = None
        self.live = False
        self.attempts: list[Attempt] = []
        self.refused: list[events.UnitRefused] = []
        self.reworks: list[events.Reworked] = []
        self.notes: list[events.Noted] = []  # of no attempt; what happened to slots and line is told as one
        self.labels: dict[tuple[str, int], events.Labelled] = {}
        self._by_key: dict[tuple[str, int], Attempt] = {}

    def add(self, fresh: Iterable[Event]) -> None:
        for event in fresh:
            self._take(event)

    def latest(self, slot: str) -> Attempt | None:
        """The last attempt in a slot."""
        return next((each for each in reversed(self.attempts) if each.slot == slot), None)

    def find(self, unit: str, attempt: int) -> Attempt | None:
        return self._by_key.get((unit, attempt))

    def outcome_of(self, attempt: Attempt) -> Outcome | None:
        """None while it runs. An end that is missing is given by the station's own rule: half written is
        `unverified`, anything else `blocked`."""
        if attempt.outcome is not None:
            return attempt.outcome
        if self.live and (attempt.unit, attempt.attempt + 1) not in self._by_key:
            return None
        return Outcome.UNVERIFIED if attempt.writing else Outcome.BLOCKED

    def trouble_of(self, attempt: Attempt) -> tuple[str | None, str | None]:
        """Failure code and sentence, for an end that is missing too."""
        if attempt.outcome is not None or self.outcome_of(attempt) is None:
            return attempt.code, attempt.sentence
        if attempt.writing:
            return "half-written", "The journal ends while this board was being written."
        return "crashed", "The journal ends before this attempt did."

    def numbers(self) -> Numbers:
        """First-pass yield, final yield and units per hour of this run."""
        per_unit = self._counted_trials()
        final = sum(goods[-1] for goods in per_unit)
        seconds = self._station_seconds()
        return Numbers(
            first_pass=(sum(goods[0] for goods in per_unit), len(per_unit)),
            final=(final, len(per_unit)),
            per_hour=final * 3600 / seconds if seconds > 0 else None,
        )

    def tally(self) -> Counter[str]:
        """Units by the outcome of their last attempt; `running` for those at work."""
        last = {each.unit: each for each in self._counting()}
        return Counter(str(self.outcome_of(each) or "running") for each in last.values())

    def _counting(self) -> list[Attempt]:
        return [each for each in self.attempts if each.role == "unit"]

    def _counted_trials(self) -> list[list[bool]]:
        """For each unit with a counted trial, whether each of those was good. A trial is one way through all the
        run's tasks: bad if one attempt was, not counted if one was not or one is missing, good if all were."""
        trials: dict[str, list[list[Attempt]]] = {}
        for each in self._counting():
            mine = trials.setdefault(each.unit, [])
            if not mine or each.task in {other.task for other in mine[-1]}:
                mine.append([])
            mine[-1].append(each)
        judged = [[self._judged(trial) for trial in mine] for mine in trials.values()]
        counted = [[good for good in mine if good is not None] for mine in judged]
        return [mine for mine in counted if mine]

    def _judged(self, trial: list[Attempt]) -> bool | None:
        outcomes = [self.outcome_of(each) for each in trial]
        if any(each is not None and each.counted and not each.good for each in outcomes):
            return False
        stages = len(self.started.tasks) if self.started else 1
        good = len(trial) >= stages and all(each is not None and each.good for each in outcomes)
        return True if good else None

    def _station_seconds(self) -> float:
        spans: dict[str, tuple[int, int]] = {}
        for each in self._counting():
            if each.end_ns is not None and each.cycle_s is not None:
                first, last = spans.get(each.boot_id, (each.start_ns, each.end_ns))
                spans[each.boot_id] = min(first, each.start_ns), max(last, each.end_ns)
        return sum(last - first for first, last in spans.values()) / 1e9

    # -- events ----------------------------------------------------------------------------------------

    def _of(self, event: Any) -> Attempt:
        key = (event.unit, event.attempt)
        if key not in self._by_key:
            made = Attempt(
                number=len(self.attempts) + 1, unit=event.unit, slot=event.slot, attempt=event.attempt,
                started=event.utc, start_ns=event.mono_ns, boot_id=event.boot_id,
            )  # fmt: skip
            self.attempts.append(made)
            self._by_key[key] = made
        return self._by_key[key]

    @singledispatchmethod
    def _take(self, event: Any) -> None:
        """What is not shown is passed over."""

    @_take.register
    def _(self, event: events.RunStarted) -> None:
        self.started = event

    @_take.register
    def _(self, event: events.RunResumed) -> None:
        self.ended = None

    @_take.register
    def _(self, event: events.RunEnded) -> None:
        self.ended = event

    @_take.register
    def _(self, event: events.UnitStarted) -> None:
        mine = self._of(event)
        mine.task, mine.role, mine.flasher, mine.operator = event.task, event.role, event.flasher, event.operator

    @_take.register
    def _(self, event: events.UnitEnded) -> None:
        mine = self._of(event)
        if mine.outcome is not None:
            return  # the first end on record stands
        mine.outcome, mine.code, mine.sentence = event.outcome, event.code, event.sentence
        mine.ended, mine.end_ns = event.utc, event.mono_ns
        mine.cycle_s = (event.mono_ns - mine.start_ns) / 1e9 if event.boot_id == mine.boot_id else None
        mine.mac, mine.identity = event.mac or mine.mac, event.identity or mine.identity
        mine.supply_off = event.supply_off_confirmed

    @_take.register
    def _(self, event: events.PhaseStarted) -> None:
        self._of(event).steps.append(Step(event.phase))

    @_take.register
    def _(self, event: events.PhaseEnded) -> None:
        steps = self._of(event).steps
        step = next((each for each in reversed(steps) if each.name == event.phase and not each.ended), None)
        if step is None:
            step = Step(event.phase)
            steps.append(step)
        step.ended, step.outcome = True, event.outcome
        step.duration_s, step.sentence = event.duration_s, event.sentence

    @_take.register
    def _(self, event: events.Measured) -> None:
        self._of(event).measured.append(event)

    @_take.register
    def _(self, event: events.BackupKept) -> None:
        mine = self._of(event)
        mine.backup, mine.identity = event, event.identity

    @_take.register
    def _(self, event: events.Planned) -> None:
        self._of(event).planned = event

    @_take.register
    def _(self, event: events.WriteBegun) -> None:
        self._of(event).writing = True

    @_take.register
    def _(self, event: events.WriteEnded) -> None:
        self._of(event).writing = False

    @_take.register
    def _(self, event: events.ArtifactKept) -> None:
        self._of(event).artifacts.append(event)

    @_take.register
    def _(self, event: events.Labelled) -> None:
        self.labels[event.unit, event.attempt] = event

    @_take.register
    def _(self, event: events.UnitRefused) -> None:
        self.refused.append(event)

    @_take.register
    def _(self, event: events.Reworked) -> None:
        self.reworks.append(event)

    @_take.register(events.SlotOut | events.SlotBack | events.LineStopped | events.LineReleased)
    def _(self, event: Any) -> None:
        who = getattr(event, "who", None)
        why = getattr(event, "why", "") or (f"by {who}" if who else "")
        what = f"slot {event.slot}" if isinstance(event, events.SlotOut | events.SlotBack) else "the line"
        how = {"slot-out": "is out of use", "slot-back": "is in use again", "line-stopped": "stopped"}.get(
            event.kind, "goes on"
        )
        level: Literal["warning", "info"] = "warning" if event.kind in ("slot-out", "line-stopped") else "info"
        text = f"{what} {how}{': ' if why else ''}{why}"
        self.notes.append(
            events.Noted(utc=event.utc, mono_ns=event.mono_ns, boot_id=event.boot_id, level=level, text=text)
        )

    @_take.register
    def _(self, event: events.Noted) -> None:
        mine = next((each for each in reversed(self.attempts) if each.unit == event.unit), None)
        (self.notes if mine is None else mine.notes).append(event)
