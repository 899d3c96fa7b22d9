"""How a run stands, by its events: what each slot does, how the units came out, what people are asked.

Nothing here is drawn or read: the same events give the same standing, on a terminal or in a test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from rig.records import events
from rig.records.events import Event, Outcome, Role, Task


@dataclass
class SlotRow:
    """A slot. Its last outcome stays until its next unit begins. `done` and `total` are bytes of `what`."""

    slot: str
    state: Literal["waiting", "running", "latched"] = "waiting"
    unit: str | None = None
    attempt: int = 1
    task: Task = "convert"
    role: Role = "unit"
    step: str | None = None
    what: str | None = None
    done: int = 0
    total: int = 0
    began_ns: int = 0
    duration_s: float = 0.0
    outcome: Outcome | None = None
    code: str | None = None
    sentence: str | None = None
    off: bool = True  # its output was read back off at the last unit's end
    out: str | None = None  # why the slot is out of use


@dataclass
class _Unit:
    attempts: list[tuple[Task, Outcome | None]] = field(default_factory=list)  # None: at work

    def trials(self, last: Task) -> Iterable[Outcome]:
        """A trial is all that a run does to a unit, once: its first attempt that is not good is its outcome."""
        outcome = Outcome.PASS
        for task, ended in self.attempts:
            if ended is None:
                return
            outcome = ended if not ended.good or ended is Outcome.MARGINAL else outcome
            if not ended.good or task == last:
                yield outcome
                outcome = Outcome.PASS

    def over(self, last: Task) -> bool:
        task, outcome = self.attempts[-1]
        return outcome is not None and (not outcome.good or task in (last, "burn-in"))


class Standing:
    """Takes events in the journal's order. `units`: how many there are in all; 0 where that is not known (scans)."""

    def __init__(self, slots: Iterable[str], units: int, last_task: Task = "convert") -> None:
        self.rows = {name: SlotRow(name) for name in slots}
        self.units = units
        self.prompts: dict[str, events.Prompted] = {}  # open ones, oldest first
        self.line_stopped: str | None = None
        self.last_task = last_task
        self._units: dict[str, _Unit] = {}

    def take(self, event: Event) -> None:
        if isinstance(event, events.RunStarted) and event.tasks:
            self.last_task = event.tasks[-1]
        elif isinstance(event, events.UnitStarted):
            self._began(event)
        elif isinstance(event, events.UnitEnded):
            self._ended(event)
        elif isinstance(event, events.Prompted):
            self.prompts[event.prompt] = event
        elif isinstance(event, events.Answered):
            self.prompts.pop(event.prompt, None)
        elif isinstance(event, events.LineStopped):
            self.line_stopped = event.why
        elif isinstance(event, events.LineReleased):
            self.line_stopped = None
        elif isinstance(event, events.PhaseStarted | events.SlotOut | events.SlotBack):
            self._of_slot(event)

    def progress(self, slot: str, what: str, done: int, total: int) -> None:
        row = self.rows.get(slot)
        if row is not None and row.state == "running":
            row.what, row.done, row.total = what, done, total

    def _of_slot(self, event: events.PhaseStarted | events.SlotOut | events.SlotBack) -> None:
        row = self.rows.get(event.slot)
        if row is None:
            return
        if isinstance(event, events.PhaseStarted):
            row.step, row.what, row.done, row.total = event.phase, None, 0, 0
        else:
            row.out = event.why if isinstance(event, events.SlotOut) else None

    def _began(self, event: events.UnitStarted) -> None:
        self.rows[event.slot] = SlotRow(
            event.slot, "running", event.unit, event.attempt, event.task, event.role, began_ns=event.mono_ns
        )
        if event.role == "unit":
            self._units.setdefault(event.unit, _Unit()).attempts.append((event.task, None))

    def _ended(self, event: events.UnitEnded) -> None:
        row = self.rows.get(event.slot)
        if row is not None and (row.unit, row.attempt) == (event.unit, event.attempt) and row.state == "latched":
            return  # the first end on record stands
        golden = row is not None and row.unit == event.unit and row.role == "golden"
        if row is not None and row.unit == event.unit:
            row.state, row.what, row.duration_s = "latched", None, event.duration_s
            row.outcome, row.code, row.sentence = event.outcome, event.code, event.sentence
            row.off = event.supply_off_confirmed is True
        unit = self._units.get(event.unit)
        if unit is not None and not golden:
            unit.attempts[-1] = (unit.attempts[-1][0], event.outcome)

    # -- sums ------------------------------------------------------------------------------------------

    @property
    def over(self) -> int:
        """Units that are through with all that is done to them, or failed on the way."""
        return sum(unit.over(self.last_task) for unit in self._units.values())

    def counters(self) -> dict[str, int]:
        """Units by the outcome of their last attempt, those at work as `running`; they and `remaining` add up to the
        batch. Without a number of units, `remaining` is left out."""
        last = [unit.attempts[-1][1] for unit in self._units.values()]
        found = {each.value: last.count(each) for each in Outcome} | {"running": last.count(None)}
        if self.units:
            found["remaining"] = max(0, self.units - len(self._units))
        return found

    def first_pass(self) -> tuple[int, int]:
        """(good at their first trial, units that have one): one that was blocked or aborted says nothing."""
        first = [
            next((outcome for outcome in unit.trials(self.last_task) if outcome.counted), None)
            for unit in self._units.values()
        ]
        counted = [outcome for outcome in first if outcome is not None]
        return sum(outcome.good for outcome in counted), len(counted)
