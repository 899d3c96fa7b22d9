"""The books of a batch: what became of each unit, from the journal's events and nothing else.

Every unit is in one place: never begun, at work, or ended by its last attempt. A resumed run reads its books from
the journal and goes on with them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from rig.records import events
from rig.records.events import Event, Outcome, Task


@dataclass
class Course:
    """One attempt, as far as it has come."""

    unit: str
    slot: str
    attempt: int
    task: Task
    began_ns: int
    boot_id: str
    outcome: Outcome | None = None
    code: str | None = None
    sentence: str | None = None
    writing: bool = False  # between write-begun and write-ended: nobody knows what the board holds
    half_written: bool = False  # the same, by this attempt or by an earlier one that nothing was written after
    identity: str | None = None
    mac: str | None = None
    firmware: str = ""
    image_sha256: str | None = None  # of what was planned for it
    phase: str | None = None
    phase_began_ns: int = 0
    limit_s: float | None = None
    last_ns: int = 0  # of its last event

    @property
    def over(self) -> bool:
        return self.outcome is not None


class Books:
    """Takes events in the journal's order. Thread-safe. `units`: the batch's; `last_task`: of a unit's way."""

    def __init__(self, units: Iterable[str], last_task: Task) -> None:
        self.units = dict.fromkeys(units)  # in order; scanned ones are added as they begin
        self._last_task = last_task
        self._lock = threading.Lock()
        self._courses: dict[str, list[Course]] = {}  # of units
        self._all: dict[tuple[str, int], Course] = {}  # of golden units and parked boards too
        self._known: dict[str, dict[str, None]] = {}  # unit: what its board called itself, under its new names too
        self.labelled: set[str] = set()
        self._reworked: set[str] = set()
        self._passes: dict[str, int] = {}
        self._values: dict[str, dict[str, tuple[float, bool]]] = {}

    def take(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, events.UnitStarted):
                self._started(event)
            elif isinstance(event, events.Labelled):
                self.labelled.add(event.unit)
            elif isinstance(event, events.UnitRefused):
                if event.rule == "elsewhere" and event.unit not in self._courses:
                    self.units.pop(event.unit, None)  # another station's: it is none of this run any more
            elif isinstance(event, events.Reworked):
                self._reworked.add(event.unit)
                self._known.pop(event.unit, None)  # its module may be another one
            else:
                course = self._all.get((getattr(event, "unit", None) or "", getattr(event, "attempt", 0)))
                if course is not None:
                    _take(course, event)
                    if isinstance(event, events.Measured) and course in self._courses.get(event.unit, []):
                        self._measured(event)
                    if isinstance(event, events.BackupKept | events.UnitEnded) and event.identity:
                        self._meet(event)
                    self._count_pass(course)

    def _started(self, event: events.UnitStarted) -> None:
        course = Course(event.unit, event.slot, event.attempt, event.task, event.mono_ns, event.boot_id)
        self._all[event.unit, event.attempt] = course
        if event.role == "unit":
            self.units.setdefault(event.unit)
            before = self._courses.setdefault(event.unit, [])
            course.half_written = any(each.half_written for each in before[-1:]) and event.unit not in self._reworked
            before.append(course)
            self._reworked.discard(event.unit)
            self.labelled.discard(event.unit)

    def _meet(self, event: events.BackupKept | events.UnitEnded) -> None:
        if event.identity and getattr(event, "code", None) != "wrong-board":
            self._known.setdefault(event.unit, {}).setdefault(event.identity)

    def _measured(self, event: events.Measured) -> None:
        if (number := number_of(event)) is not None:
            self._values.setdefault(event.unit, {})[event.name] = number

    def _count_pass(self, course: Course) -> None:
        mine = self._courses.get(course.unit, [])
        if course.outcome and course.outcome.good and course.task == self._last_task and course in mine:
            self._passes.setdefault(course.unit, len(self._passes) + 1)

    # -- of one unit -----------------------------------------------------------------------------------

    def course(self, unit: str, attempt: int) -> Course | None:
        with self._lock:
            return self._all.get((unit, attempt))

    def last(self, unit: str) -> Course | None:
        """A unit's last attempt; None: it was never begun."""
        with self._lock:
            mine = self._courses.get(unit)
            return mine[-1] if mine else None

    def values_of(self, unit: str) -> dict[str, tuple[float, bool]]:
        """The numbers that were measured at a unit since this was last asked, each the last of its name, and whether
        it is within its limits."""
        with self._lock:
            return self._values.pop(unit, {})

    def image_of(self, unit: str) -> str | None:
        """The sha256 of the image that was last planned for a unit; None: none was."""
        with self._lock:
            planned = [each.image_sha256 for each in self._courses.get(unit, []) if each.image_sha256]
            return planned[-1] if planned else None

    def attempts(self, unit: str) -> int:
        """The highest attempt number so far, of any role; 0: none."""
        with self._lock:
            return max((attempt for name, attempt in self._all if name == unit), default=0)

    def identities(self, unit: str) -> list[str]:
        """What the board called itself, by attempt."""
        with self._lock:
            return [each.identity for each in self._courses.get(unit, []) if each.identity]

    def twins(self, unit: str) -> list[str]:
        """Other units of this run whose board called itself as this one's last did: one board under two numbers."""
        with self._lock:
            named = {name: {each.identity for each in mine} for name, mine in self._courses.items()}
            mine = [each.identity for each in self._courses.get(unit, []) if each.identity]
            return [name for name, known in named.items() if mine and name != unit and mine[-1] in known]

    def known_as(self, unit: str) -> list[str]:
        """By which identities its board is known from earlier attempts; none again once it was reworked."""
        with self._lock:
            return list(self._known.get(unit, ()))

    def done(self, unit: str) -> bool:
        """Judged, good or bad, after all that a unit gets: nothing is left to do on resume."""
        course = self.last(unit)
        return course is not None and self._done(course)

    def _done(self, course: Course) -> bool:
        if course.outcome is None:
            return False
        if course.outcome is Outcome.FAIL:
            return True  # a bad board, half written too: it is not asked for again and again
        at_its_end = course.task == self._last_task or course.task == "burn-in"
        return not course.writing and course.outcome.good and at_its_end

    def reworked(self, unit: str) -> bool:
        """Whether something was done to it by hand since its last attempt."""
        with self._lock:
            return unit in self._reworked

    # -- of all ----------------------------------------------------------------------------------------

    def open(self) -> list[Course]:
        """Attempts without an end, golden ones too."""
        with self._lock:
            return [course for course in self._all.values() if not course.over]

    def all_of_units(self) -> list[Course]:
        """Every attempt at a unit, by unit, in order."""
        with self._lock:
            return [course for mine in self._courses.values() for course in mine]

    def half_written(self) -> list[Course]:
        """Last attempts of units whose board was left between two contents, by them or by an earlier one, and not
        judged since."""
        with self._lock:
            last = [each[-1] for each in self._courses.values()]
            return [course for course in last if course.half_written and not self._done(course)]

    def outcomes(self) -> dict[str, Outcome | None]:
        """By unit, in order of the batch: the outcome of its last attempt, None while it is at work. A unit that was
        never begun is not in here."""
        with self._lock:
            return {unit: self._courses[unit][-1].outcome for unit in self.units if unit in self._courses}

    def never_begun(self) -> list[str]:
        with self._lock:
            return [unit for unit in self.units if unit not in self._courses]

    def pass_number(self, unit: str) -> int:
        """The how-many-th unit of the batch it was that passed, counted from 1; 0: it did not."""
        with self._lock:
            return self._passes.get(unit, 0)

    def counters(self) -> dict[str, int]:
        """Units by state; they add up to the batch."""
        found = self.outcomes()
        counted = {each.value: sum(1 for one in found.values() if one is each) for each in Outcome}
        running = sum(1 for one in found.values() if one is None)
        return counted | {"running": running, "remaining": len(self.never_begun())}


def number_of(event: events.Measured) -> tuple[float, bool] | None:
    """What was measured, where it is a number, and whether it is within its limits."""
    if isinstance(event.value, int | float) and not isinstance(event.value, bool):
        return float(event.value), event.outcome.good
    return None


def _take(course: Course, event: Event) -> None:
    course.last_ns = event.mono_ns
    if isinstance(event, events.PhaseStarted):
        course.phase, course.phase_began_ns, course.limit_s = event.phase, event.mono_ns, event.limit_s
    elif isinstance(event, events.PhaseEnded):
        course.phase, course.limit_s = None, None
    elif isinstance(event, events.WriteBegun):
        course.writing = course.half_written = True
    elif isinstance(event, events.WriteEnded):
        course.writing = course.half_written = False
    elif isinstance(event, events.Planned):
        course.image_sha256 = event.image_sha256
    elif isinstance(event, events.BackupKept):
        course.identity = course.identity or event.identity
    elif isinstance(event, events.Measured) and event.name in ("firmware", "firmware_version") and event.value:
        course.firmware = f"{course.firmware} {event.value}".strip()
    elif isinstance(event, events.UnitEnded) and not course.over:  # the first end on record stands
        course.outcome, course.code, course.sentence = event.outcome, event.code, event.sentence
        course.mac, course.identity = event.mac or course.mac, event.identity or course.identity
        course.phase, course.limit_s = None, None
