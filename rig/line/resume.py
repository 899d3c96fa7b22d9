"""Going on with a run that died or was stopped: what its journal says, what it left open, what comes first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rig.bench.bench import Slot
from rig.errors import UsageProblem
from rig.line import sampling
from rig.line.books import Books, Course, number_of
from rig.line.job import Job
from rig.line.live import read_live
from rig.line.study import Cell, cells_left
from rig.records import events
from rig.records.events import Event, Outcome, Role
from rig.records.journal import is_live
from rig.records.run import RunFolder

_WHO_DIED = "the rig died"


@dataclass(frozen=True)
class TurnOver:
    """A unit was over in a slot, its retries included. `told`: by itself or its station, and not by a resume.
    `values`: the numbers measured in this turn, each the last of its name, and whether it is within its limits."""

    slot: str
    unit: str
    role: Role
    outcome: Outcome
    code: str | None
    told: bool = True
    values: dict[str, tuple[float, bool]] = field(default_factory=dict)


Happened = TurnOver | events.SlotBack | events.LineReleased
"""What slots, streak and golden schedule are told of, in order."""


@dataclass
class Past:
    """A run as its journal has it. `boards`: slot -> the unit whose board was put in last. `prompts`: how many were
    asked; `unanswered` of them are open; `out`: slots that are; `line`: the line is stopped; `approved`: the first
    article; `history`: what the rules of the line count."""

    books: Books
    boards: dict[str, str] = field(default_factory=dict)
    prompts: int = 0
    unanswered: list[str] = field(default_factory=list)
    out: list[str] = field(default_factory=list)
    line: bool = False
    approved: bool = False
    history: list[Happened] = field(default_factory=list)

    def put_in(self, slot: str, unit: str) -> None:
        """A board is in one slot only."""
        self.boards = {name: other for name, other in self.boards.items() if other != unit} | {slot: unit}


@dataclass(frozen=True)
class Order:
    """Which units are left. `loaded`: slot -> unit whose board is in it; `first`: before all others; then `rest`. Of
    a gage study: the measurements that are left, and `loaded`, which is where boards are."""

    loaded: dict[str, str]
    first: list[str]
    rest: list[str]
    cells: list[Cell] = field(default_factory=list)


def read_past(found: Sequence[Event], job: Job, slots: Sequence[Slot]) -> Past:
    """The state of a run from all its events."""
    past = Past(Books(job.units, job.stages[-1].task))
    past.boards = first_boards(job, job.slots or [slot.name for slot in slots])
    asked: dict[str, events.Prompted] = {}
    for event in found:
        past.books.take(event)
        if isinstance(event, events.Prompted):
            past.prompts += 1
            asked[event.prompt] = event
        elif isinstance(event, events.Noted) and event.slot and "load" in event.details:
            past.boards.pop(event.slot, None)  # a command changes it: until its end is on record it may hold any
        elif isinstance(event, events.Answered):
            question = asked.pop(event.prompt, None)
            if question is not None and event.by != "stopped":
                past.approved = past.approved or (question.what == "approve" and event.answer == "yes")
                if question.what == "load" and question.slot and question.unit:
                    past.put_in(question.slot, question.unit)
        elif isinstance(event, events.UnitStarted):
            past.put_in(event.slot, event.unit)
        elif isinstance(event, events.SlotOut):
            past.out.append(event.slot)
        elif isinstance(event, events.SlotBack):
            past.out = [slot for slot in past.out if slot != event.slot]
        elif isinstance(event, events.LineStopped | events.LineReleased):
            past.line = isinstance(event, events.LineStopped)
    past.unanswered = list(asked)
    past.history = turns_of(found, job.rules.golden.serial)
    return past


def turns_of(found: Sequence[Event], golden: str | None) -> list[Happened]:
    """Turns that ended, and what was released, from a run's events. A turn's end is that of its last attempt: after
    it the slot is loaded anew, begins another unit, or its station ends. Boards that were parked had no turn."""
    began: dict[tuple[str, int], events.UnitStarted] = {}
    ended: dict[tuple[str, int], events.UnitEnded] = {}
    for event in found:
        if isinstance(event, events.UnitStarted):
            began[event.unit, event.attempt] = event
        elif isinstance(event, events.UnitEnded):
            ended.setdefault((event.unit, event.attempt), event)  # the first end on record stands
    happened: list[Happened] = []
    then: dict[str, tuple[str, Role]] = {}  # slot -> whom it goes on with, seen from its end
    values: dict[str, dict[str, tuple[float, bool]]] = {}  # unit -> those of its turn, seen from its end
    for event in reversed(found):
        if isinstance(event, events.UnitStarted):
            then[event.slot] = event.unit, event.role
        elif isinstance(event, events.Prompted) and event.what == "load" and event.slot:
            then.pop(event.slot, None)
        elif isinstance(event, events.RunResumed | events.RunEnded):
            then.clear()
        elif isinstance(event, events.SlotBack | events.LineReleased):
            happened.append(event)
        elif isinstance(event, events.Measured) and event.unit in values:
            start, number = began.get((event.unit, event.attempt)), number_of(event)
            if start is not None and start.role == "unit" and number is not None:
                values[event.unit].setdefault(event.name, number)
        elif isinstance(event, events.UnitEnded) and ended[event.unit, event.attempt] is event:
            start = began.get((event.unit, event.attempt))
            if start is None or then.get(event.slot) == (event.unit, start.role):
                continue
            if start.role == "unit" or event.unit == golden:
                told = not (event.sentence or "").startswith(_WHO_DIED)
                over = TurnOver(event.slot, event.unit, start.role, event.outcome, event.code, told)
                values[event.unit] = over.values
                happened.append(over)
    return happened[::-1]


def first_boards(job: Job, slots: Sequence[str]) -> dict[str, str]:
    """slot -> unit whose board is in it when a run begins: first unit, first slot. None where units are scanned, the
    golden unit comes first, a study draws the order, or which unit is next depends on other stations."""
    if job.scanned or job.rules.golden.serial is not None or job.study is not None or job.rules.shared:
        return {}
    return dict(zip(slots, job.units, strict=False))


def close_past(
    past: Past, slots: Sequence[Slot], emit: Callable[[Event], None], confirm_off: Callable[[Slot], bool]
) -> None:
    """Give what was left open its end. The slots' locks are held: no process of the dead station is left."""
    by_name = {slot.name: slot for slot in slots}
    for course in past.books.open():
        slot = by_name.get(course.slot)
        off = confirm_off(slot) if slot is not None else None
        emit(_end_of(course, off))
    for prompt in past.unanswered:
        emit(events.Answered(prompt=prompt, answer="", by="stopped"))
    if past.line:
        emit(events.LineReleased())
    for name in past.out:
        emit(events.SlotBack(slot=name))


def _end_of(course: Course, off: bool | None) -> events.UnitEnded:
    if course.writing:
        outcome, code = Outcome.UNVERIFIED, "half-written"
        sentence = f"{_WHO_DIED} while this board was being written: its content is not known"
    else:
        outcome, code = Outcome.BLOCKED, "crashed"
        sentence = f"{_WHO_DIED} before this attempt had ended"
    return events.UnitEnded(
        unit=course.unit,
        slot=course.slot,
        attempt=course.attempt,
        outcome=outcome,
        duration_s=max(0.0, (course.last_ns or course.began_ns) - course.began_ns) / 1e9,  # until its last word
        code=code,
        sentence=sentence,
        mac=course.mac,
        identity=course.identity,
        supply_off_confirmed=off,
    )


def require_left(run: str, found: Sequence[Event], job: Job, slots: Sequence[Slot]) -> None:
    """UsageProblem for a run that came to its end and has no unit left to be begun: it goes nowhere from there."""
    ends = [event for event in found if isinstance(event, events.RunEnded | events.RunResumed)]
    ended = bool(ends) and isinstance(ends[-1], events.RunEnded)
    if ended and not units_left(found, job, slots) and not (job.scanned and not job.units):
        raise UsageProblem(
            f"run {run} is over: each of its units has its end. To test one again, give it a run of its own"
        )


def units_left(found: Sequence[Event], job: Job, slots: Sequence[Slot]) -> bool:
    """Whether a run, by its events, has units to go on with."""
    past = read_past(found, job, slots)
    order = order_of(past, job, slots)
    begun = order.cells if job.study is not None else order.loaded or order.first or order.rest
    return bool(past.books.open() or begun)


def order_of(past: Past, job: Job, slots: Sequence[Slot]) -> Order:
    """What is left to do, once `close_past` is done: half-written boards first, then those between two stages, then
    what was never begun, then what was blocked or aborted.

    A board that is in a slot by a `change` command, or since the start, is worked on there, whatever its turn: the
    command would put another one in. People are asked for every board.
    """
    books = past.books
    if job.study is not None:
        names = [slot.name for slot in slots]
        return Order(past.boards, [], [], cells_left(job.study, job.units, names, books))
    left = [unit for unit in books.units if not books.done(unit) or sample_is_owed(books, unit, job)]
    half = [course.unit for course in books.half_written()]
    last = {unit: books.last(unit) for unit in left}
    between = [unit for unit in left if (one := last[unit]) and one.outcome and one.outcome.good and unit not in half]
    new = [unit for unit in left if last[unit] is None]
    again = [unit for unit in left if unit not in (*half, *between, *new)]
    loaded: dict[str, str] = {}
    for slot in slots:
        unit = past.boards.get(slot.name)
        by_command = slot.table.change is not None and not job.scanned
        if unit in left and (unit in half or by_command) and unit not in loaded.values():
            loaded[slot.name] = unit
    first = [unit for unit in half if unit not in loaded.values()]
    rest = [unit for unit in (*between, *new, *again) if unit not in loaded.values()]
    return Order(loaded, first, rest)


def sample_is_owed(books: Books, unit: str, job: Job) -> bool:
    """It passed, is a sample, and its burn-in was never begun."""
    course, number = books.last(unit), books.pass_number(unit)
    if course is None or course.outcome is None or not course.outcome.good or course.task == "burn-in":
        return False
    return books.done(unit) and number > 0 and sampling.due(job.rules.sampling, number)


def require_ended(run: RunFolder) -> None:
    """UsageProblem while the station that the run belongs to is there."""
    if is_live(run.journal):
        live = read_live(run.path) or {}
        whose = f" (process {live['pid']})" if isinstance(live.get("pid"), int) else ""
        raise UsageProblem(f"run {run.id} is still at work{whose}: wait for its end, or stop it, before it can go on")
