"""A study's run: its folder, its boards each put through the study, and going on where one was killed.

    runs/<id>/study.json     written before the first trial (rig.power.record)
    runs/<id>/trials.jsonl   a trial a line, appended and fsynced (rig.power.trial)
    runs/<id>/logs/          what boards printed, scrubbed
    runs/<id>/traces/        what passed on the wire
    runs/<id>/boards/        what each slot's board has to end with, and whether it did

Every slot has a worker process, which makes one trial at a time; what the next one is follows from those on record.
Boards are put right at the end, when a study is stopped, and of one that was killed when it is resumed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Protocol

from rig.bench.bench import Bench
from rig.errors import Aborted, BenchBlocked
from rig.power.holding import left_behind
from rig.power.plan import Plan
from rig.power.record import Record
from rig.power.trial import LOGS, TRACES, Trial, read_trials
from rig.power.worker import Orders, Task, work
from rig.records.trials import Ledger
from rig.releases.board import FOLDER

_END_S = 300.0  # a worker ends its trial and puts its board right in this time: a whole flash at real speed, and more
_LOOK_S = 0.5


class Watch(Protocol):
    """Who hears of a study's progress."""

    def planned(self, done: int, left: int) -> None:
        """So many trials are on record, about so many will still be made."""

    def ended(self, trial: Trial) -> None: ...

    def say(self, sentence: str) -> None: ...


@dataclass
class _Slot:
    """A worker as its parent sees it."""

    plan: Plan
    pipe: Connection
    process: SpawnProcess
    task: Task | None = None  # what it is at, or what it spoiled
    at_work: bool = False
    told_end: bool = False
    out: str | None = None
    ended: bool = False
    problem: str = ""


class Run:
    """A study under way in its folder. `go` makes its trials; `trials` are those on record."""

    def __init__(
        self,
        folder: Path,
        record: Record,
        image: Path,
        watch: Watch,
        *,
        keep_image: bool = False,
        minutes: float | None = None,
    ) -> None:
        """`keep_image`: boards end with `image`, not with what they came with. `minutes`: instead of the study's.

        Raises UsageProblem where another process is at it, and for trials that this study does not make.
        """
        self.folder, self.record = folder, record
        self._image, self._watch, self._keep_image = image, watch, keep_image
        self._ledger = Ledger(folder)
        self.trials = read_trials(folder)
        self.problems: list[str] = []  # what the bench's slots ended with
        self.refused: list[str] = []  # what was asked of them and cannot be done
        self.failed: list[str] = []  # boards that are none for a study
        self.plans = {place.slot: Plan.of(record, place.slot, self.trials) for place in record.places}
        self._n = max((trial.n for trial in self.trials), default=0)
        minutes = minutes or record.study.max_minutes
        self._deadline = None if minutes is None else time.monotonic() + minutes * 60

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ledger.close()

    @property
    def late(self) -> bool:
        """The study's minutes are over."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def go(self, bench: Bench) -> None:
        """All that is left at this bench's boards; boards that a killed study left otherwise than they came are put
        right, also where no trial is left.

        Raises Aborted when it is stopped by a KeyboardInterrupt, the boards put right. What slots ended with stands
        in `problems`, `refused` and `failed`.
        """
        names = [slot for slot, plan in self.plans.items() if plan.next() is not None or self._owed(slot)]
        if not names:
            return
        for name in names:
            bench.slot(name)
        self._tell_progress()
        with self._workers(bench, names) as slots:
            while any(not slot.told_end and not slot.ended for slot in slots.values()):
                for slot in slots.values():
                    self._give(slot)
                self._hear([slot for slot in slots.values() if not slot.ended])

    def _board(self, slot: str) -> str | None:
        """Which board the study is at: that of the trials on record, else one that is to be put right."""
        tried = next((trial.board for trial in self.trials if trial.slot == slot and trial.board), None)
        return tried or left_behind(self.folder, slot)

    def _owed(self, slot: str) -> bool:
        return left_behind(self.folder, slot) is not None

    def _give(self, slot: _Slot) -> None:
        """The next trial to a worker that has none; the end to one for which there is none."""
        if slot.at_work or slot.ended or slot.told_end:
            return
        asked = None if self.late or slot.out is not None else slot.plan.next()
        with contextlib.suppress(OSError):
            if asked is None:
                slot.told_end = True
                slot.pipe.send(None)
                return
            if slot.task is None:
                self._n += 1
                slot.task = Task(self._n, asked)
            slot.at_work = True
            slot.pipe.send(slot.task)

    def _hear(self, slots: list[_Slot]) -> None:
        ready = wait([slot.pipe for slot in slots], _LOOK_S)
        for slot in slots:
            if slot.pipe in ready:
                self._take(slot)
            elif not slot.process.is_alive() and not slot.pipe.poll():
                self._lost(slot)

    def _take(self, slot: _Slot) -> None:
        try:
            what, value = slot.pipe.recv()
        except (EOFError, OSError):
            self._lost(slot)
            return
        if what == "trial":
            slot.at_work = False
            self._note(slot, value)
        elif what in ("refused", "failed"):
            slot.at_work = False
            told = self.refused if what == "refused" else self.failed
            told.append(f"slot {slot.plan.place.slot}: {value}")
        elif what == "out":
            slot.out, slot.at_work = value, False
            self._watch.say(f"slot {slot.plan.place.slot} is out of use: {value}")
        elif what == "ended":
            slot.ended, slot.at_work = True, False
            slot.problem = value

    def _note(self, slot: _Slot, trial: Trial) -> None:
        self._ledger.append(trial)
        slot.plan.tell(trial)
        self.trials.append(trial)
        if trial.counted:
            slot.task = None
        self._watch.ended(trial)
        if slot.plan.out is not None:
            self._watch.say(f"the board in slot {slot.plan.place.slot} is out of the study: {slot.plan.out}")
        self._tell_progress()

    def _tell_progress(self) -> None:
        self._watch.planned(
            sum(plan.told for plan in self.plans.values()), sum(plan.expected for plan in self.plans.values())
        )

    def _lost(self, slot: _Slot) -> None:
        slot.ended, slot.at_work = True, False
        slot.problem = f"its process died (exit code {slot.process.exitcode})"
        self._watch.say(f"slot {slot.plan.place.slot} is out of use: {slot.problem}")

    @contextlib.contextmanager
    def _workers(self, bench: Bench, names: list[str]) -> Iterator[dict[str, _Slot]]:
        """A process a slot. However this ends they are told to stop and waited for, for they put the boards right."""
        (self.folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
        for name in (LOGS, TRACES):
            (self.folder / name).mkdir(exist_ok=True)
        study = self.record.study
        context = multiprocessing.get_context("spawn")
        slots: dict[str, _Slot] = {}
        try:
            for name in names:
                orders = Orders(
                    bench.path, name, self.folder, self.folder.parent, self._image, study.later, study.widen,
                    self._keep_image, self._board(name), self._owed(name),
                    self.record.place(name).supply.get("model", ""),
                )  # fmt: skip
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(theirs, orders), name=f"rig power, slot {name}")
                process.start()
                theirs.close()
                slots[name] = _Slot(self.plans[name], ours, process)
            yield slots
        except KeyboardInterrupt:
            self._watch.say("stopping: the boards are being put right")
            raise Aborted(f"stopped; go on with: rig power --resume {self.folder}") from None
        finally:
            self._stop(slots)

    def _stop(self, slots: dict[str, _Slot]) -> None:
        for slot in slots.values():
            if not slot.told_end:
                slot.told_end = True
                with contextlib.suppress(OSError):
                    slot.pipe.send("stop")
        deadline = time.monotonic() + _END_S
        while any(not slot.ended for slot in slots.values()) and time.monotonic() < deadline:
            with contextlib.suppress(BenchBlocked):  # a full disk takes no trial; boards are put right all the same
                self._hear([slot for slot in slots.values() if not slot.ended])
        for name, slot in slots.items():
            if not slot.ended:
                slot.problem = "its board was not put right in time"
            slot.process.join(max(0.1, deadline - time.monotonic()) if slot.ended else 0.1)
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
            slot.pipe.close()
            if slot.problem or slot.out:
                self.problems.append(f"slot {name}: {slot.problem or slot.out}")
