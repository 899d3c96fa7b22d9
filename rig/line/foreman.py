"""The line's rules at work: what follows, for slots and line, from each unit's end; and what a person releases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from rig.bench.bench import Slot
from rig.line.attempt import Ground
from rig.line.books import Course
from rig.line.golden import GoldenSchedule
from rig.line.labels import make_label
from rig.line.prompts import By, Prompt, Prompts, Question
from rig.line.quarantine import SlotHealth
from rig.line.queue import Queue, Turn
from rig.line.resume import Happened
from rig.line.rules import Spc as SpcRule
from rig.line.spc import Spc
from rig.line.streak import Streak
from rig.records import events
from rig.records.journal import JournalLost

GO_ON, STOP = "go on", "stop"
YES, NO = "yes", "no"


class Line:
    """Stops and releases the line and its slots. `lost` is called when the journal can no longer be written."""

    def __init__(
        self, ground: Ground, queue: Queue, prompts: Prompts, slots: list[Slot], lost: Callable[[JournalLost], None]
    ) -> None:
        rules = ground.job.rules
        self._ground = ground
        self._queue = queue
        self._prompts = prompts
        self._lost = lost
        self._slots = [slot.name for slot in slots]
        self._guard = threading.Lock()  # around the rules: they keep no lock of their own
        self._golden = GoldenSchedule(rules.golden, self._slots)
        self._health = SlotHealth(rules.quarantine)
        self._streak = Streak(rules.streak)
        self._spc = Spc(rules.spc if ground.job.study is None else SpcRule())  # a study's boards come again and again
        self._line_prompt: Prompt | None = None
        self._stopping = threading.Lock()  # a line that is stopped has its question, whoever looks
        self._asking = threading.Lock()  # a release either comes before the question, or finds it
        self._stuck_prompt: Prompt | None = None

    def recall(self, happened: Iterable[Happened]) -> None:
        """What the stations before this one of the run had counted. Slots that were out are in use again, and a line
        that was stopped goes on: somebody has taken the run up again."""
        with self._guard:
            for each in happened:
                if isinstance(each, events.SlotBack):
                    self._health.back(each.slot)
                elif isinstance(each, events.LineReleased):
                    self._streak.reset()
                    self._spc.reset()
                else:
                    if each.role == "unit":
                        self._ground.books.values_of(each.unit)  # they are charted here, and not with its next turn
                        self._chart(each.slot, each.values)
                    self._golden.ended(each.slot, each.role, each.outcome)
                    if each.role == "unit" and each.told:
                        self._health.ended(each.slot, each.outcome, each.code)
                        self._streak.ended(each.outcome)
            for slot in self._slots:
                if self._health.out(slot) is not None:
                    self._health.back(slot)
            if self._streak.stops:
                self._streak.reset()

    # -- from the slots --------------------------------------------------------------------------------

    def golden_due(self, slot: str) -> bool:
        with self._guard:
            return self._golden.due(slot)

    def turn_over(self, slot: Slot, turn: Turn, course: Course) -> None:
        """Before the slot is free for its next one: what stops the line stops it in time."""
        outcome = course.outcome
        charts = []
        if turn.role == "unit":
            with self._guard:
                charts = self._chart(slot.name, self._ground.books.values_of(course.unit))
        if turn.role == "unit" and outcome is not None and outcome.good:
            self.label(course, slot)
        if outcome is None or self._ground.stopped.is_set():
            return
        with self._guard:
            golden = self._golden.ended(slot.name, turn.role, outcome)
            out = self._health.ended(slot.name, outcome, course.code) if turn.role == "unit" else None
            streak = self._streak.ended(outcome) if turn.role == "unit" else None
        if turn.role == "unit" and outcome.good and self._queue.one_by_one:
            self.ask_approval(course.unit)
        if course.code == "disk-full" and self._more_to_come():
            self._stop_line("disk-full", f"{course.sentence}: make room")  # the next board would not fare better
        if golden is not None:
            self._stop_line("golden", golden)
        if streak is not None and self._more_to_come():
            self._stop_line("streak", streak)
        for said in charts:
            self._out_of_control(slot.name, course.unit, said)
        if out is not None and self._more_to_come():
            self.slot_unusable(slot.name, out)

    def _chart(self, slot: str, values: Mapping[str, tuple[float, bool]]) -> list[str]:
        """What the control charts say of the numbers of a unit that is over."""
        said = [self._spc.taken(slot, name, value, good=good) for name, (value, good) in values.items()]
        return [each for each in said if each is not None]

    def _out_of_control(self, slot: str, unit: str, said: str) -> None:
        """One stop is enough, and there is nothing to stop after the last unit: then it is noted."""
        if self._ground.job.rules.spc.stop and self._queue.line is None and self._more_to_come():
            self._stop_line("spc", said)
        else:
            self._ground.emit(events.Noted(unit=unit, slot=slot, level="warning", text=said, details={"rule": "spc"}))

    def slot_unusable(self, slot: str, why: str) -> None:
        """The slot is out until somebody releases it."""
        if self._queue.put_out(slot, why):
            self._ground.emit(events.SlotOut(slot=slot, why=why))

    def journal_lost(self, problem: JournalLost) -> None:
        self._lost(problem)

    def _more_to_come(self) -> bool:
        return self._queue.left() > 0 or self._ground.job.scanned

    # -- labels ----------------------------------------------------------------------------------------

    def label(self, course: Course, slot: Slot | None) -> None:
        """Make and print the label of a unit that passed, and put on record what became of it."""
        ground = self._ground
        image = ground.books.image_of(course.unit) or ground.job.stages[-1].image_sha256
        fields = {
            "unit": course.unit,
            "mac": course.mac,
            "batch": ground.job.batch,
            "product": slot.product.name if slot is not None else None,
            "utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "firmware": course.firmware or None,
            "sha256": image,
            "sha12": image and image[:12],  # what fits onto a small label
        }
        folder = ground.folder.unit_dir(course.unit, course.attempt)
        made = make_label(ground.job.rules.label, fields, folder, secrets=ground.job.secrets)
        if made is None:
            return
        path = ground.folder.relative(made.path) if made.path is not None else ""
        ground.emit(
            events.Labelled(
                unit=course.unit,
                slot=course.slot,
                attempt=course.attempt,
                path=path,
                printed=made.printed,
                said=made.said,
            )
        )

    # -- the first article, the line -------------------------------------------------------------------

    def ask_approval(self, unit: str) -> None:
        """The first good unit: a person looks at it before any other is begun."""
        why = f"unit {unit} is the first article: it waits for approval"
        text = f"Unit {unit} passed and is the first of its batch. Look at it and its page. May the others follow?"
        self._stop("first-article", why, Question("approve", text, unit=unit, choices=(YES, NO), headless=NO))

    def _stop_line(self, rule: str, why: str) -> None:
        text = f"The line is stopped: {why}. Go on?"
        self._stop(rule, why, Question("continue", text, choices=(GO_ON, STOP), headless=STOP))

    def _stop(self, rule: str, why: str, question: Question) -> None:
        with self._stopping:
            if not self._queue.stop_line(why):
                return
            self._ground.emit(events.LineStopped(rule=rule, why=why))
            self._line_prompt = self._prompts.open(question, self._line_answered)

    def _line_answered(self, prompt: Prompt) -> None:
        if prompt.answer not in (GO_ON, YES):
            self._queue.close()
            return
        with self._guard:
            self._streak.reset()
            self._spc.reset()
        if self._queue.release_line(approved=prompt.answer == YES):
            self._ground.emit(events.LineReleased(who=prompt.who))

    def release_line(self, by: By, who: str | None) -> bool:
        """False: the line is not stopped."""
        with self._stopping:
            prompt = self._line_prompt
        if self._queue.line is None or prompt is None or prompt.over.is_set():
            return False
        answer = YES if prompt.question.what == "approve" else GO_ON
        self._prompts.answer(prompt.id, answer, by=by, who=who)
        return True

    # -- slots that are out ----------------------------------------------------------------------------

    def release_slot(self, slot: str, by: By, who: str | None) -> bool:
        """False: it was not out."""
        with self._guard:
            self._health.back(slot)
        with self._asking:
            if not self._queue.back(slot):
                return False
            prompt, self._stuck_prompt = self._stuck_prompt, None
        self._ground.emit(events.SlotBack(slot=slot, who=who))
        if prompt is not None and not prompt.over.is_set():
            self._prompts.withdraw(prompt, by, who)
        return True

    def look(self) -> None:
        """Called now and then: where every slot is out and units are left, somebody has to say what comes next."""
        with self._asking:
            asked = self._stuck_prompt is not None and not self._stuck_prompt.over.is_set()
            if asked or not self._queue.stuck():
                return
            out = "; ".join(f"{slot}: {why}" for slot, why in self._queue.out.items())
            text = f"No slot is left to work in ({out}). Put them right; use them again?"
            question = Question("continue", text, choices=(GO_ON, STOP), headless=STOP)
            self._stuck_prompt = self._prompts.open(question, self._stuck_answered)

    def _stuck_answered(self, prompt: Prompt) -> None:
        if prompt.answer == STOP:
            self._queue.close()
        elif prompt.answer == GO_ON:
            self._stuck_prompt = None
            for slot in self._queue.out:
                self.release_slot(slot, prompt.by, prompt.who)
