"""The batch as it runs, on the terminal: a line a slot where there is one, a line a step where there is not."""

from __future__ import annotations

import select
import sys
import threading
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from rig.bench.bench import Slot
from rig.cli.terminal import err
from rig.errors import UsageProblem
from rig.records import events
from rig.records.events import Event, Outcome

_COLOURS = {
    Outcome.PASS: "green",
    Outcome.MARGINAL: "yellow",
    Outcome.FAIL: "red",
    Outcome.BLOCKED: "magenta",
    Outcome.ABORTED: "cyan",
    Outcome.UNVERIFIED: "red",
}


class BoardView:
    """Follows events and progress. On a terminal: live bars; elsewhere plain lines, one an event worth telling."""

    def __init__(self, slots: list[Slot], units: int, stages: int = 1) -> None:
        self._live = err.is_terminal
        self._lock = threading.Lock()
        self._units = units
        self._stages = stages  # attempts of a unit that is good
        self._over = 0
        self._bars = Progress(
            TextColumn("slot {task.fields[slot]:<3} unit {task.fields[unit]:<10}"),
            BarColumn(bar_width=28),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=err,
            disable=not self._live,
        )
        self._tasks: dict[str, TaskID] = {
            slot.name: self._bars.add_task("waiting", total=1.0, slot=slot.name, unit="-") for slot in slots
        }

    def __enter__(self) -> BoardView:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def stopping(self) -> None:
        err.print("Stopping: outputs go off, units are put on record ...")

    def ask(self, text: str, stopped: threading.Event) -> None:
        """A prompt to a person, until Enter or until the run is stopped; the bars rest meanwhile."""
        self._bars.stop()
        try:
            err.print(text, markup=False)
            while not stopped.is_set():
                if select.select([sys.stdin], [], [], 0.2)[0]:
                    if not sys.stdin.readline():
                        raise UsageProblem("nobody is at the terminal to change boards")
                    return
        finally:
            self._bars.start()

    def progress(self, slot: str, unit: str, what: str, done: int, total: int) -> None:
        if self._live:
            self._bars.update(
                self._tasks[slot], completed=done / max(total, 1), description=f"{what} {done // 1024} KiB"
            )

    def event(self, event: Event) -> None:
        """One event of the journal, already durable."""
        if isinstance(event, events.UnitStarted):
            self._update(event.slot, unit=event.unit, description="starting", completed=0)
        elif isinstance(event, events.PhaseStarted):
            self._update(event.slot, description=event.phase, completed=0)
        elif isinstance(event, events.PhaseEnded):
            self._phase(event)
        elif isinstance(event, events.UnitEnded):
            self._unit(event)
        elif isinstance(event, events.Noted) and event.level == "warning":
            err.print(f"  note: {event.text}", markup=False, soft_wrap=True)

    def _update(self, slot: str, **fields: object) -> None:
        if self._live and slot in self._tasks:
            self._bars.update(self._tasks[slot], **fields)  # type: ignore[arg-type]

    def _phase(self, event: events.PhaseEnded) -> None:
        if event.outcome is None:
            return
        self._update(event.slot, completed=1.0)
        if not self._live:
            err.print(
                f"  slot {event.slot} unit {event.unit}: {event.phase} {event.outcome} {event.duration_s:.1f} s"
            )

    def _unit(self, event: events.UnitEnded) -> None:
        with self._lock:
            self._over += event.attempt == self._stages or not event.outcome.good
            count = f"{self._over}/{self._units}"
        colour = _COLOURS[event.outcome]
        why = f" [{event.code}] {event.sentence}" if event.code else ""
        which = f", attempt {event.attempt} of {self._stages}" if self._stages > 1 else ""
        err.print(f"{count} unit {event.unit} in slot {event.slot}{which}: ", end="", markup=False)
        err.print(str(event.outcome), style=colour, end="")
        err.print(f" in {event.duration_s:.1f} s{why}", markup=False, soft_wrap=True)
        if not event.supply_off_confirmed:
            err.print(f"  WARNING: the output of slot {event.slot} could not be read back off", style="bold red")
        self._update(event.slot, description=str(event.outcome))
