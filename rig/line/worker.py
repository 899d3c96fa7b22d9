"""A slot at work: its next unit is put in, tried, tried again where a rule says so, and what follows from its end."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from rig.bench.bench import Slot
from rig.errors import Aborted, RigError, UsageProblem
from rig.line import retry, sampling
from rig.line.attempt import Attempt, Ground
from rig.line.books import Course
from rig.line.budget import Budget
from rig.line.foreman import Line
from rig.line.job import Stage
from rig.line.live import Live
from rig.line.loading import Loader
from rig.line.prompts import Prompts
from rig.line.queue import Queue, Turn
from rig.records import events
from rig.records.events import Outcome, Role
from rig.records.journal import JournalLost
from rig.scrub import scrub

log = logging.getLogger(__name__)


@dataclass
class Crew:
    """What all slots of a run work with. `resumed`: boards that are said to be in slots are asked for."""

    ground: Ground
    queue: Queue
    prompts: Prompts
    loader: Loader
    budget: Budget
    live: Live
    foreman: Line
    resumed: bool = False


class Worker:
    """One slot's thread."""

    def __init__(self, crew: Crew, slot: Slot) -> None:
        self._crew = crew
        self.slot = slot
        self.board: str | None = None  # the unit whose board is in the slot
        self._begun = False  # the turn under way has had an attempt
        self._attempt: Attempt | None = None
        self._aborted = threading.Event()  # the unit under way, by a person
        self._thread = threading.Thread(target=self._work, name=f"slot {slot.name}")

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """True once the slot is done for this run."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def signal(self) -> None:
        """Pass a stop of the run on. Safe in a signal handler."""
        attempt = self._attempt
        if attempt is not None:
            attempt.signal()

    def abort(self) -> None:
        """Stop the unit under way in this slot, and only that. UsageProblem where there is none."""
        attempt = self._attempt
        if attempt is not None:
            self._aborted.set()
            attempt.stop()
        elif self._crew.prompts.find("load", slot=self.slot.name) is not None:
            raise UsageProblem(f"slot {self.slot.name} waits for a board: nothing is on there that could be aborted")
        else:
            raise UsageProblem(f"no unit is at work in slot {self.slot.name}")

    # -- a turn ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        crew, name = self._crew, self.slot.name
        while (turn := self._next()) is not None:
            self._aborted.clear()
            before, moves = crew.ground.books.attempts(turn.unit), False
            try:
                course = self._turn(turn)
                if course is not None:
                    crew.foreman.turn_over(self.slot, turn, course)
                    moves = self._moves(turn, course)
            except Exception as problem:  # noqa: BLE001 - whatever it is, it is this slot's and no other's
                self._give_up(turn, before, problem)
            else:
                if course is None:
                    crew.queue.give_back(name)
                elif moves:
                    self.board = None  # it is somebody else's to work on from here
                    crew.queue.move(name)
                else:
                    crew.queue.over(name)
            crew.live.changed()

    def _next(self) -> Turn | None:
        crew, name = self._crew, self.slot.name
        if name not in crew.queue.out:
            crew.live.rest(name, scanned=crew.ground.job.scanned)
        return crew.queue.next(name, lambda: crew.foreman.golden_due(name))

    def _moves(self, turn: Turn, course: Course) -> bool:
        """Whether the unit is given to another slot, since this one blocked it; said on record."""
        ground, stopped = self._crew.ground, self._crew.ground.stopped.is_set() or self._aborted.is_set()
        if not ground.job.rules.retry.other_slot or turn.role != "unit" or stopped:
            return False
        if course.outcome is not Outcome.BLOCKED or not self._crew.queue.elsewhere(self.slot.name):
            return False
        text = f"unit {turn.unit} is given to another slot: slot {self.slot.name} blocked it ({course.code})"
        ground.emit(events.Noted(unit=turn.unit, slot=self.slot.name, text=text, details={"moved": course.code}))
        return True

    def _give_up(self, turn: Turn, before: int, problem: Exception) -> None:
        try:
            self._failed(turn, before, problem)
        except JournalLost as lost:
            self._crew.foreman.journal_lost(lost)

    def _failed(self, turn: Turn, before: int, problem: Exception) -> None:
        """The slot cannot be used. A unit that was never begun goes to the others."""
        crew, name = self._crew, self.slot.name
        if crew.ground.books.attempts(turn.unit) > before:
            crew.queue.over(name)
        else:
            crew.queue.give_back(name)
        if crew.ground.stopped.is_set() or isinstance(problem, Aborted):
            return
        if isinstance(problem, JournalLost):
            crew.foreman.journal_lost(problem)
            return
        if not isinstance(problem, RigError):
            log.error("slot %s", name, exc_info=problem)
        crew.foreman.slot_unusable(name, scrub(str(problem)) or type(problem).__name__)

    def _turn(self, turn: Turn) -> Course | None:
        """The unit's last attempt; None: it was never begun, since the run was stopped."""
        crew = self._crew
        self.board, self._begun = None, False
        if not turn.loaded or (crew.resumed and self.slot.table.change is None):
            crew.live.begin(self.slot.name, "loading", turn.unit)
            crew.loader.next_board(self.slot, turn, crew.prompts, over=lambda: crew.queue.closed)
        crew.loader.is_in(self.slot, turn.unit)
        self.board = turn.unit if turn.role == "unit" else None  # nothing is ever written to a golden one
        golden = crew.ground.job.stages[-1]
        stages = crew.ground.job.stages
        if turn.role == "golden":
            stages = (Stage("verify", golden.image, golden.image_sha256),)
        course = self.through(turn.unit, stages, turn.role)
        if course is not None and turn.role == "unit":
            course = self._sampled(course)
            self._same_board(turn.unit)
        return course

    def through(self, unit: str, stages: tuple[Stage, ...], role: Role) -> Course | None:
        """The board in the slot through all stages, each tried as often as the rule says."""
        course: Course | None = None
        for place, stage in enumerate(stages):
            if place and self._crew.ground.stopped.is_set():
                return self._never_begun(unit, stage, role)
            try:
                course = self._tried(unit, stage, role)
            except (RigError, OSError) as problem:
                if place and not isinstance(problem, JournalLost):
                    self._never_begun(unit, stage, role, problem)
                raise
            if course is None or course.outcome is None or not course.outcome.good:
                break
        return course

    def _tried(self, unit: str, stage: Stage, role: Role, reboots: int = 0) -> Course | None:
        ground, rule, count = self._crew.ground, self._crew.ground.job.rules.retry, 0
        while True:
            course = self._once(unit, stage, role, reboots)
            count += 1
            if course is None or course.outcome is None or ground.stopped.is_set() or self._aborted.is_set():
                return course
            if not retry.again(rule, course.outcome, course.code, count):
                return course
            text = f"unit {unit} is tried again after {course.code}: attempt {count + 1} of {rule.attempts}"
            ground.emit(events.Noted(unit=unit, slot=self.slot.name, text=text, details={"retry": course.code}))

    def _once(self, unit: str, stage: Stage, role: Role, reboots: int) -> Course | None:
        """An attempt, with the current it may draw; None: the run was stopped, or may begin nothing, before there was
        any. A turn's first one does not begin on a stopped line, however long it was loaded or waited for current."""
        crew, ground = self._crew, self._crew.ground
        amps = limit_of(self.slot, ground)
        while self._begun or crew.queue.proceed():
            if not crew.budget.take(self.slot.table.supply, amps, ground.stopped):
                return None
            try:
                if not self._begun and crew.queue.held:
                    continue
                self._begun = True
                crew.queue.begun(self.slot.name)
                attempt = Attempt(ground, self.slot, unit, self._number(unit), stage, role, reboots)
                self._attempt = attempt
                if self._aborted.is_set():
                    attempt.stop()
                return attempt.run()
            finally:
                self._attempt = None
                crew.budget.give(self.slot.table.supply, amps)
        return None

    def _number(self, unit: str) -> int:
        """The next attempt's: after all on record, and after those that left no word but a folder."""
        ground = self._crew.ground
        number = ground.books.attempts(unit) + 1
        while ground.folder.unit_dir(unit, number).exists():
            number += 1
        return number

    def _never_begun(self, unit: str, stage: Stage, role: Role, problem: Exception | None = None) -> Course | None:
        attempt = Attempt(self._crew.ground, self.slot, unit, self._number(unit), stage, role)
        attempt.never_begun(problem)
        return self._crew.ground.books.last(unit)

    def _sampled(self, course: Course) -> Course:
        """A unit that passed gets a burn-in where it is a sample; it is then what that says of it."""
        ground, rules = self._crew.ground, self._crew.ground.job.rules
        if course.outcome is None or not course.outcome.good or ground.stopped.is_set():
            return course
        if course.task == "burn-in" or not sampling.due(rules.sampling, ground.books.pass_number(course.unit)):
            return course
        last = ground.job.stages[-1]
        stage = Stage("burn-in", last.image, last.image_sha256)
        return self._tried(course.unit, stage, "unit", rules.sampling.reboots) or course

    def _same_board(self, unit: str) -> None:
        """A warning where number and board do not go together: boards were mixed up, or numbers."""
        ground = self._crew.ground
        known, told = dict.fromkeys(ground.books.identities(unit)), []
        if len(known) > 1:
            names = ", then ".join(known)
            told.append(f"unit {unit} was {names}: another board was in the slot, or it got a new name")
        if twins := ground.books.twins(unit):
            told.append(
                f"the board of unit {unit} calls itself {[*known][-1]}, as that of unit {', '.join(twins)} did: one "
                "board was put in under two numbers, or two boards share an identity; look before either is used"
            )
        for text in told:
            ground.emit(events.Noted(unit=unit, slot=self.slot.name, level="warning", text=text))

    def park(self, stage: Stage) -> None:
        """The park image onto the board that is left in the slot. It counts nowhere."""
        unit = self.board
        if unit is None:
            return
        self._begun = True
        self._aborted.clear()  # of the unit before
        course = self._once(unit, stage, "golden", 0)
        if course is None or course.outcome is None or not course.outcome.good:
            why = f" ({course.code}: {course.sentence})" if course is not None and course.code else ""
            ended = course.outcome.value if course is not None and course.outcome else Outcome.ABORTED.value
            text = f"the park image is not on the board in slot {self.slot.name}: it ended {ended}{why}"
            self._crew.ground.emit(events.Noted(unit=unit, slot=self.slot.name, level="warning", text=text))


def limit_of(slot: Slot, ground: Ground) -> float:
    """Amps that a board in this slot may draw."""
    return ground.job.current_limit or slot.product.supply.current_limit
