"""Questions to people: on record, open to whoever answers first, and never a hang where nobody is there.

A prompt is answered at the terminal, from the panel, or by any program over the control socket. Where nobody is there
its headless answer is taken at once; one that has none waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rig.errors import Aborted, RigError, UsageProblem
from rig.records import events
from rig.records.events import Event

_LOOK_S = 0.2  # `stopped` is set by signal handlers, which may wake nobody

What = Literal["load", "scan", "approve", "continue"]
By = Literal["terminal", "panel", "command", "headless", "stopped"]
Terminal = Callable[[str, threading.Event], str | None]
"""Asks at the terminal, until Enter or until the event is set: what was typed, None if nothing can be. UsageProblem
where nobody is there."""


@dataclass(frozen=True)
class Question:
    """What is asked. `choices` none: any answer will do, and means done."""

    what: What
    text: str
    slot: str | None = None
    unit: str | None = None
    choices: tuple[str, ...] = ()
    picture: str | None = None
    headless: str | None = None


@dataclass
class Prompt:
    """A question that was asked. `over` is set once `answer` or `problem` is there."""

    id: str
    question: Question
    over: threading.Event = field(default_factory=threading.Event)
    answer: str = ""
    by: By = "stopped"
    who: str | None = None
    problem: RigError | None = None
    on_answer: Callable[[Prompt], None] | None = None
    asker: int = field(default_factory=threading.get_ident)
    told: threading.Event = field(default_factory=threading.Event)  # the question is on record


class Prompts:
    """All questions of a run. Thread-safe. `emit` puts on record; `ask` is the terminal, if there is one; `attended`:
    somebody is there. `begun`: prompts that the run has on record already."""

    def __init__(
        self,
        emit: Callable[[Event], None],
        stopped: threading.Event,
        *,
        ask: Terminal | None = None,
        attended: bool = False,
        begun: int = 0,
    ) -> None:
        self._emit = emit
        self._stopped = stopped
        self._ask = ask
        self._attended = attended
        self._count = begun
        self._open: dict[str, Prompt] = {}
        self._lock = threading.Lock()
        self._for_terminal: deque[Prompt] = deque()
        self._more = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def ask(self, question: Question, *, over: Callable[[], bool] = lambda: False) -> Prompt:
        """Ask and wait. Raises Aborted when the run was stopped meanwhile, or `over` says that nobody waits for the
        answer any more; and what the terminal, or the answer's way to the record, ran into."""
        prompt = self.open(question)
        while not prompt.over.wait(_LOOK_S):
            if self._stopped.is_set() or over():
                self._settle(prompt, "", "stopped", None)
        if prompt.problem is not None:
            raise prompt.problem
        if prompt.by == "stopped":
            raise Aborted("stopped while somebody was asked")
        return prompt

    def open(self, question: Question, on_answer: Callable[[Prompt], None] | None = None) -> Prompt:
        """Ask and go on; `on_answer` is called with the prompt once it is answered by somebody."""
        with self._lock:
            self._count += 1
            prompt = Prompt(f"p{self._count}", question, on_answer=on_answer)
            self._open[prompt.id] = prompt  # whoever reads of it may answer at once
        try:
            self._emit(events.Prompted(prompt=prompt.id, **{**asdict(question), "choices": list(question.choices)}))
        except BaseException:
            with self._lock:
                self._open.pop(prompt.id, None)
            raise
        finally:
            prompt.told.set()
        if self._stopped.is_set() or self._closed.is_set():
            self._settle(prompt, "", "stopped", None)
        elif question.headless is not None and not self._attended:
            self._settle(prompt, question.headless, "headless", None)
        elif self._ask is not None:
            self._to_terminal(prompt)
        return prompt

    def done_by_command(self, question: Question) -> None:
        """On record: what a person would have been asked for was done by a command."""
        with self._lock:
            self._count += 1
            name = f"p{self._count}"
        self._emit(events.Prompted(prompt=name, **{**asdict(question), "choices": list(question.choices)}))
        self._emit(events.Answered(prompt=name, answer="done", by="command"))

    def note(self, text: str, *, slot: str, load: str) -> None:
        """On record: from here until it was done nobody knows which board is in the slot."""
        self._emit(events.Noted(unit=load, slot=slot, text=text, details={"load": load}))

    def answer(self, prompt: str, answer: str, *, by: By, who: str | None = None) -> None:
        """The first answer holds. UsageProblem for a prompt that is not open, or an answer it does not have."""
        with self._lock:
            found = self._open.get(prompt)
        if found is None:
            raise UsageProblem(f"there is no open question {prompt}: it was answered already, or never asked")
        choices = found.question.choices
        if choices and answer not in choices:
            raise UsageProblem(f"{answer!r} is no answer to {prompt}: it takes {', '.join(choices)}")
        if not self._settle(found, answer, by, who):
            raise UsageProblem(f"{prompt} was answered a moment ago")

    def withdraw(self, prompt: Prompt, by: By, who: str | None) -> None:
        """What was asked has come about without an answer."""
        prompt.on_answer = None
        self._settle(prompt, "", by, who)

    def get(self, prompt: str) -> Prompt | None:
        """An open prompt by its id."""
        with self._lock:
            return self._open.get(prompt)

    def find(self, *what: What, slot: str | None = None) -> Prompt | None:
        """An open prompt of this kind, and of this slot if one is named."""
        with self._lock:
            return next(
                (
                    each
                    for each in self._open.values()
                    if each.question.what in what and slot in (None, each.question.slot)
                ),
                None,
            )

    def listed(self) -> list[dict[str, Any]]:
        """The open ones, for pages."""
        with self._lock:
            found = list(self._open.values())
        return [{"id": each.id, **asdict(each.question), "choices": list(each.question.choices)} for each in found]

    def close(self) -> None:
        """Nobody is asked any more; what is open is answered by `stopped`."""
        self._closed.set()
        for prompt in list(self._open.values()):
            self._settle(prompt, "", "stopped", None)
        self._more.set()
        if self._thread is not None:
            self._thread.join()

    def _settle(self, prompt: Prompt, answer: str, by: By, who: str | None, problem: RigError | None = None) -> bool:
        with self._lock:
            if self._open.pop(prompt.id, None) is None:
                return False
        if threading.get_ident() != prompt.asker:  # a listener of that very event is past it
            prompt.told.wait()
        try:
            self._emit(events.Answered(prompt=prompt.id, answer=answer, by=by, who=who))
        except RigError as lost:
            prompt.problem = lost  # whoever waits for the answer must not wait for ever
            prompt.over.set()
            raise
        prompt.answer, prompt.by, prompt.who, prompt.problem = answer, by, who, problem
        prompt.over.set()
        if prompt.on_answer is not None and by != "stopped":
            prompt.on_answer(prompt)
        return True

    # -- the terminal ----------------------------------------------------------------------------------

    def _to_terminal(self, prompt: Prompt) -> None:
        with self._lock:
            self._for_terminal.append(prompt)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="prompts", daemon=True)
                self._thread.start()
        self._more.set()

    def _serve(self) -> None:
        """One question at a time."""
        while not self._closed.is_set():
            try:
                prompt = self._for_terminal.popleft()
            except IndexError:
                self._more.wait(_LOOK_S)
                self._more.clear()
                continue
            while not prompt.over.is_set():
                self._type(prompt)

    def _type(self, prompt: Prompt) -> None:
        """Until it is answered, here or elsewhere."""
        assert self._ask is not None
        question = prompt.question
        text = f"{question.text} ({'/'.join(question.choices)})" if question.choices else question.text
        try:
            typed = self._ask(text, prompt.over)
        except UsageProblem as problem:  # nobody is at the terminal
            answer = question.headless or ""
            self._settle(prompt, answer, "headless" if answer else "stopped", None, None if answer else problem)
            return
        typed = (typed or "").strip()
        if prompt.over.is_set():
            return
        if question.choices and typed not in question.choices:
            if self._stopped.is_set():
                self._settle(prompt, "", "stopped", None)
            return
        if question.what == "scan" and not typed:
            return
        self._settle(prompt, typed or "done", "terminal", None)
