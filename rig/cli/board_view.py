"""The batch as it runs, on the terminal: a line a slot where there is one, a line a step where there is not."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import IO, Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from rig.bench.bench import Slot
from rig.cli.board_table import COLOURS, table
from rig.cli.keyboard import Keyboard, descriptor
from rig.cli.standing import Standing
from rig.cli.terminal import err
from rig.cli.typed import command_for
from rig.errors import RigError, UsageProblem
from rig.records import events
from rig.records.events import Event
from rig.records.journal import read_journal
from rig.records.run import RunFolder

Do = Callable[[dict[str, Any]], dict[str, Any]]
_LOOK_S = 0.1
_PER_SECOND = 4


class BoardView:
    """Follows events and progress. On a terminal: a table that stays in place; elsewhere plain lines, one an event
    worth telling. Use as a context manager.

    `units`: how many there are, 0 where nobody knows (scans). `stages`: attempts of a unit that is good. `run`: where
    volts and amps are read from, and what a run that is resumed held already. `console` and `stdin` are the terminal.
    """

    def __init__(
        self,
        slots: Iterable[Slot],
        units: int,
        stages: int = 1,
        *,
        run: RunFolder | None = None,
        console: Console | None = None,
        stdin: IO[str] | None = None,
    ) -> None:
        self._console = console or err
        self._stdin = stdin if stdin is not None else sys.stdin
        self._lock = threading.RLock()
        self._stages = stages
        self._run = run
        self._standing = Standing([slot.name for slot in slots], units)
        self._keyboard: Keyboard | None = None
        self._do: Do | None = None
        self._asked: list[_Asked] = []
        self._nobody = False
        self._told_refused = ""
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._table,
                refresh_per_second=_PER_SECOND,
                redirect_stdout=False,  # results and events for other programs go where they belong
                redirect_stderr=False,
            )

    def __enter__(self) -> BoardView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        keyboard, self._keyboard = self._keyboard, None
        try:
            if keyboard is not None:
                keyboard.close()
        finally:
            if self._live is not None:
                self._live.stop()

    # -- what people do --------------------------------------------------------------------------------

    def stopping(self) -> None:
        self._console.print("Stopping: outputs go off, units are put on record ...")

    def listen(self, do: Do) -> None:
        """From now on what is typed or scanned goes to `do`, as `Station.do` takes it; what it refuses is shown."""
        self._do = do
        self._hear()

    def ask(self, text: str, over: threading.Event) -> str | None:
        """A question to a person: what was typed, or None once `over` is set, by another answer or because the run is
        stopped. Raises UsageProblem where nobody can type."""
        asked = _Asked(text, over)
        with self._lock:
            self._asked.append(asked)
            shown = self._is_open(text)
        if not shown:
            self._tell(text)
        try:
            self._hear()
            while not over.is_set():
                if asked.typed.wait(_LOOK_S):
                    return asked.answer
                if self._nobody:
                    raise UsageProblem("nobody is at the terminal to change boards")
            return None
        finally:
            with self._lock:
                self._asked.remove(asked)

    def _is_open(self, text: str) -> bool:
        """Whether this is a question that was put on record: the station knows it by its name."""
        return any(text.startswith(prompt.text) for prompt in self._standing.prompts.values())

    def _hear(self) -> None:
        if self._keyboard is not None or self._nobody:
            return
        fd = descriptor(self._stdin)
        if fd is None:
            self._nobody = True
            return
        self._keyboard = Keyboard(fd, self._line, self._end, hidden=self._live is not None)

    def _end(self) -> None:
        self._nobody = True

    def _line(self, text: str) -> None:
        with self._lock:
            waiting = next((each for each in self._asked if not each.over.is_set()), None)
            by_name = self._do is not None and (waiting is None or self._is_open(waiting.text))
            prompts = list(self._standing.prompts.values())
        if waiting is not None and not by_name and not (self._do is not None and text.startswith("/")):
            waiting.answer = text
            waiting.typed.set()
            return
        if self._do is None:
            return
        self._told_refused = ""
        try:
            command = command_for(text, self._standing.rows, prompts)
            refused = str(self._do(command).get("error") or "") if command is not None else ""
        except RigError as problem:
            refused = str(problem)
        if refused and refused != self._told_refused:  # an event said it
            self._tell(f"  {refused}", style="yellow")

    # -- what happens ----------------------------------------------------------------------------------

    def progress(self, slot: str, unit: str, what: str, done: int, total: int) -> None:
        with self._lock:
            self._standing.progress(slot, what, done, total)

    def event(self, event: Event) -> None:
        """One event of the journal, already durable."""
        with self._lock:
            if isinstance(event, events.RunResumed):
                self._catch_up(event)
            self._standing.take(event)
        told = _TOLD.get(type(event))
        if told is not None:
            told(self, event)

    def _catch_up(self, resumed: events.RunResumed) -> None:
        """What the run did before it was cut short counts too."""
        if self._run is None:
            return
        with contextlib.suppress(RigError):
            for event in read_journal(self._run.journal)[0]:
                if event.mono_ns == resumed.mono_ns and event.boot_id == resumed.boot_id:
                    return
                self._standing.take(event)

    def _table(self) -> Any:
        with self._lock:
            typed = self._keyboard.text if self._keyboard is not None else None
            return table(self._standing, self._console.width, self._run, typed)

    def _tell(self, text: str | Text, **more: Any) -> None:
        self._console.print(text, markup=False, soft_wrap=True, **more)

    def _phase(self, event: events.PhaseEnded) -> None:
        if event.outcome is not None and self._live is None:
            self._tell(
                f"  slot {event.slot} unit {event.unit}: {event.phase} {event.outcome} {event.duration_s:.1f} s"
            )

    def _unit(self, event: events.UnitEnded) -> None:
        with self._lock:
            count = f"{self._standing.over}/{self._standing.units or '?'}"
            row = self._standing.rows.get(event.slot)
            golden = row is not None and row.role == "golden"
            task = row.task if row is not None and row.unit == event.unit else None
            told_task = task is not None and not golden and (self._stages > 1 or task != self._standing.last_task)
        why = f" [{event.code}] {event.sentence}" if event.code else ""
        which = (f", {task}" if told_task else "") + (f", attempt {event.attempt}" if event.attempt > 1 else "")
        told = Text(f"{count} {'golden ' if golden else ''}unit {event.unit} in slot {event.slot}{which}: ")
        told.append(str(event.outcome), style=COLOURS[event.outcome])
        told.append(f" in {event.duration_s:.1f} s{why}")
        self._tell(told)
        if not event.supply_off_confirmed:
            self._tell(f"  WARNING: the output of slot {event.slot} could not be read back off", style="bold red")

    def _noted(self, event: events.Noted) -> None:
        if event.level == "warning":
            whose = f"slot {event.slot} unit {event.unit}: " if event.slot and event.unit else ""
            self._tell(f"  {whose}note: {event.text}")

    def _prompted(self, event: events.Prompted) -> None:
        if self._live is None:
            choices = f" ({'/'.join(event.choices)})" if event.choices else ""
            self._tell(f"{event.text}{choices}")

    def _answered(self, event: events.Answered) -> None:
        if event.by == "headless":
            self._tell(f"  Nobody is here to answer: {event.answer}")

    def _refused(self, event: events.UnitRefused) -> None:
        self._told_refused = event.sentence
        self._tell(f"  unit {event.unit} refused: {event.sentence}")

    def _stopped(self, event: events.LineStopped) -> None:
        self._tell(f"THE LINE STOPPED: {event.why}", style="bold red")

    def _labelled(self, event: events.Labelled) -> None:
        if not event.printed:
            self._tell(f"  note: the label of unit {event.unit} was not printed: {event.said or event.path}")


class _Asked:
    """A question that waits for its line."""

    def __init__(self, text: str, over: threading.Event) -> None:
        self.text = text
        self.over = over  # answered elsewhere: the next line is not for this one
        self.answer: str | None = None
        self.typed = threading.Event()


_TOLD: dict[type[Any], Callable[[BoardView, Any], None]] = {
    events.PhaseEnded: BoardView._phase,
    events.UnitEnded: BoardView._unit,
    events.Noted: BoardView._noted,
    events.Prompted: BoardView._prompted,
    events.Answered: BoardView._answered,
    events.UnitRefused: BoardView._refused,
    events.SlotOut: lambda view, event: view._tell(f"  slot {event.slot} is out of use: {event.why}"),
    events.SlotBack: lambda view, event: view._tell(f"  slot {event.slot} is back in use"),
    events.LineStopped: BoardView._stopped,
    events.LineReleased: lambda view, event: view._tell("The line goes on."),
    events.Reworked: lambda view, event: view._tell(f"  unit {event.unit} was reworked: {event.what}"),
    events.Labelled: BoardView._labelled,
}
