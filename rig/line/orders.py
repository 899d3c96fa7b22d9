"""What people may order of a station while it runs, at its terminal, on the panel, or by a program of their own.

    {"do": "scan", "slot": "A" or null, "text": "SN1", "who": null}     the unit in that slot (null: in the next one)
    {"do": "answer", "prompt": "p3", "answer": "yes", "who": null, "by": "panel"}
    {"do": "abort", "slot": "A"}                     that unit; without a slot the whole run, as SIGTERM
    {"do": "finish"}                                 nothing more is begun; what is at work ends
    {"do": "release", "slot": "A", "who": "Ann"}     a slot that is out; `release-line`: the line
    {"do": "rework", "unit": "SN1", "what": "reflowed U1", "who": "Ann"}
    {"do": "retest", "unit": "SN1"}
    {"do": "operator", "who": "Ann"}                 a badge
    {"do": "state"}                                  what live.json says, as of now

`by` says where it comes from: terminal, panel or command, which is what it is without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from rig.errors import UsageProblem
from rig.line.attempt import Ground
from rig.line.foreman import Line
from rig.line.live import Live
from rig.line.prompts import By, Prompt, Prompts, Question
from rig.line.queue import Queue
from rig.line.serials import SerialRefused, admit
from rig.line.worker import Worker
from rig.records import events
from rig.toml import nearest

_LONGEST = 200  # characters of what people type
_FROM = tuple(by for by in get_args(By) if by not in ("headless", "stopped"))


class Orders:
    """`do` may be called from any thread. UsageProblem is a person's mistake, in one sentence."""

    def __init__(
        self,
        ground: Ground,
        queue: Queue,
        prompts: Prompts,
        line: Line,
        live: Live,
        workers: dict[str, Worker],
        stop: Callable[[], None],
        passed_before: Callable[[str], str | None],
        claim: Callable[[str], None] = lambda unit: None,
    ) -> None:
        self._ground = ground
        self._queue = queue
        self._prompts = prompts
        self._line = line
        self._live = live
        self._workers = workers
        self._stop = stop
        self._passed_before = passed_before
        self._claim = claim
        self._retests: set[str] = set()
        self.operator = ground.job.operator
        self._orders: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "scan": self._scan, "answer": self._answer, "abort": self._abort, "finish": self._finish,
            "release": self._release, "release-line": self._release_line, "rework": self._rework,
            "retest": self._retest, "operator": self._badge, "state": self._state,
        }  # fmt: skip

    def do(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry one order out; what it came to."""
        name = command.get("do")
        if not isinstance(name, str) or name not in self._orders:
            raise UsageProblem(f"the station has no order {name!r}; {nearest(str(name), self._orders)}")
        if name not in ("state", "abort") and self._ground.stopped.is_set():
            raise UsageProblem("the run is being stopped: nothing can be ordered any more")
        found = self._orders[name](command)
        self._live.changed()
        return found

    # -- units -----------------------------------------------------------------------------------------

    def _scan(self, command: dict[str, Any]) -> dict[str, Any]:
        text, who, slot = _text(command, "text"), _who(command), self._slot(command)
        if self._queue.waits_for_operator:
            return self._badge({**command, "who": text})
        if (loading := self._load_prompt(slot, text)) is not None:
            return self._confirm(loading, text, _by(command), who)
        try:
            self._admit(text)
            self._claim(text)
        except SerialRefused as problem:
            self._refused(text, slot, problem.rule, str(problem), who)
        try:
            given = self._queue.scan(slot, text)
        except UsageProblem as problem:
            if self._queue.slot_of(text) is not None:  # another scan of it was quicker
                self._refused(text, slot, "in-work", str(problem), who)
            raise
        self._retests.discard(text)
        return {"slot": given, "unit": text}

    def _load_prompt(self, slot: str | None, text: str) -> Prompt | None:
        """The question for a board that a scan answers."""
        if slot is not None:
            return self._prompts.find("load", slot=slot)
        for name in self._workers:
            found = self._prompts.find("load", slot=name)
            if found is not None and found.question.unit == text:
                return found
        return None if self._ground.job.scanned else self._prompts.find("load")

    def _confirm(self, prompt: Prompt, text: str, by: By, who: str | None) -> dict[str, Any]:
        question = prompt.question
        if question.unit != text:
            sentence = f"slot {question.slot} waits for unit {question.unit}, and {text} was scanned: another board"
            self._refused(text, question.slot, "mismatch", sentence, who)
        self._prompts.answer(prompt.id, text, by=by, who=who)
        return {"slot": question.slot, "unit": text}

    def _admit(self, unit: str) -> None:
        if not self._ground.job.scanned:
            raise UsageProblem("units of this run come by its list, and no slot waits for a board: nothing to scan")
        books, job = self._ground.books, self._ground.job
        if unit == job.rules.golden.serial:
            raise SerialRefused("not-in-batch", f"{unit} is the golden unit: it is not worked on as one of the batch")
        if (slot := self._queue.slot_of(unit)) is not None:
            raise self._in_work(unit, slot)
        done = {each for each in books.units if books.done(each) and not books.reworked(each)}
        admit(
            unit,
            rule=job.serials,
            expected=job.units,
            at_work=self._queue.at_work(),
            ended=done - self._retests,
            passed_before=self._passed_before if unit not in books.units else lambda unit: None,
        )

    def _in_work(self, unit: str, slot: str) -> SerialRefused:
        course = self._ground.books.last(unit)
        if course is not None and course.outcome is not None and self._ground.books.done(unit):
            return SerialRefused("duplicate", f"{unit} ended in slot {slot} just now ({course.outcome}): take it out")
        text = f"{unit} is being worked on in slot {slot}: two boards cannot have one number"
        return SerialRefused("in-work", text)

    def _refused(self, unit: str, slot: str | None, rule: str, sentence: str, who: str | None) -> None:
        self._ground.emit(events.UnitRefused(unit=unit, slot=slot, rule=rule, sentence=sentence, who=who))
        raise UsageProblem(sentence)

    def _rework(self, command: dict[str, Any]) -> dict[str, Any]:
        unit, what, who = self._known(command), _text(command, "what"), _who(command) or self.operator
        if who is None:
            raise UsageProblem("rework is a record, so it needs a name: say who works here first (/operator NAME)")
        self._ground.emit(events.Reworked(unit=unit, what=what, who=who))
        return {"unit": unit}

    def _retest(self, command: dict[str, Any]) -> dict[str, Any]:
        unit = self._known(command)
        self._queue.again(unit)
        self._retests.add(unit)
        return {"unit": unit}

    def _known(self, command: dict[str, Any]) -> str:
        unit = _text(command, "unit")
        course = self._ground.books.last(unit)
        if course is None:
            known = nearest(unit, self._ground.books.outcomes())
            raise UsageProblem(f"unit {unit} was not worked on in this run; {known}")
        if not course.over or unit in self._queue.at_work():
            raise UsageProblem(f"unit {unit} is at work: wait for its end, or abort it")
        return unit

    # -- people, prompts, slots ------------------------------------------------------------------------

    def ask_operator(self) -> None:
        """Nothing begins until somebody says who they are."""
        text = "Scan your badge, or type your name: no unit begins before."
        self._prompts.open(Question("scan", text), self._identified)

    def _identified(self, prompt: Prompt) -> None:
        self.operator = prompt.who or prompt.answer
        self._queue.identified()

    def _badge(self, command: dict[str, Any]) -> dict[str, Any]:
        who = _text(command, "who")
        prompt = self._prompts.find("scan")
        if prompt is not None:
            self._prompts.answer(prompt.id, who, by=_by(command), who=who)
        elif who != self.operator:
            self.operator = who
            self._ground.emit(events.Noted(text=f"the operator is {who} from here on", details={"operator": who}))
        return {"operator": who}

    def _answer(self, command: dict[str, Any]) -> dict[str, Any]:
        name, answer = _text(command, "prompt"), _text(command, "answer")
        prompt = self._prompts.get(name)
        if prompt is not None and prompt.question.what == "scan":
            return self._badge({**command, "who": answer})
        if prompt is not None and prompt.question.what == "load" and answer.lower() != "done":
            return self._confirm(prompt, answer, _by(command), _who(command))  # a scan in place of an answer
        self._prompts.answer(name, answer, by=_by(command), who=_who(command))
        return {"prompt": name}

    def _abort(self, command: dict[str, Any]) -> dict[str, Any]:
        slot = self._slot(command)
        if slot is None:
            self._stop()
            return {}
        self._workers[slot].abort()
        return {"slot": slot}

    def _finish(self, command: dict[str, Any]) -> dict[str, Any]:
        self._queue.close()
        return {}

    def _release(self, command: dict[str, Any]) -> dict[str, Any]:
        slot = self._slot(command)
        if slot is None:
            raise UsageProblem("which slot is to be released?")
        if not self._line.release_slot(slot, _by(command), _who(command)):
            raise UsageProblem(f"slot {slot} is not out of use")
        return {"slot": slot}

    def _release_line(self, command: dict[str, Any]) -> dict[str, Any]:
        if not self._line.release_line(_by(command), _who(command)):
            raise UsageProblem("the line is not stopped")
        return {}

    def _state(self, command: dict[str, Any]) -> dict[str, Any]:
        return {"state": self._live.state()}

    def _slot(self, command: dict[str, Any]) -> str | None:
        slot = command.get("slot")
        if slot is not None and (not isinstance(slot, str) or slot not in self._workers):
            raise UsageProblem(f"this run has no slot {slot!r}; {nearest(str(slot), self._workers)}")
        return slot


def _text(command: dict[str, Any], key: str) -> str:
    """A text that has to be there, as typed or scanned, without the blanks around it."""
    text = command.get(key)
    if not isinstance(text, str) or not text.strip():
        raise UsageProblem(f"{command['do']} needs {key!r}: a text that is not empty")
    text = text.strip()
    if len(text) > _LONGEST or not text.isprintable():
        raise UsageProblem(f"{key!r} has at most {_LONGEST} characters, all of them printable")
    return text


def _who(command: dict[str, Any]) -> str | None:
    return None if command.get("who") in (None, "") else _text(command, "who")


def _by(command: dict[str, Any]) -> By:
    by = command.get("by", "command")
    if by not in _FROM:
        raise UsageProblem(f"'by' is one of {', '.join(_FROM)}, not {by!r}")
    found: By = by
    return found
