"""A study's run: its folder, its trials over the slots of a bench, and going on where one was killed.

    runs/<id>/study.json     written before the first trial (rig.releases.record)
    runs/<id>/trials.jsonl   a trial a line, appended and fsynced (rig.releases.trial)
    runs/<id>/traces/        what passed on the wire
    runs/<id>/boards/        what each slot's board has to end with, and whether it did

Every slot has a worker process. Boards are put right at the end of each bench's part and when a study is stopped; of
one that was killed when it is resumed.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import platform
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Protocol

from rig.bench.bench import Bench
from rig.errors import Aborted, BenchBlocked
from rig.records.run import RunFolder
from rig.records.trials import Ledger
from rig.releases.files import Images
from rig.releases.operations import Catalogue
from rig.releases.record import Installed, Record
from rig.releases.study import Study
from rig.releases.tools import Tool, own_version
from rig.releases.trial import Spec, Task, Trial, of, read_trials
from rig.releases.worker import Asked, Orders, work

_END_S = 180.0  # a worker puts its board right in this time: a whole flash at real speed, and more
_LOOK_S = 0.5
_AGAIN = 2  # times that a trial is tried again which the bench spoiled
_MOST_ROUNDS = 8  # of confirmation


class Watch(Protocol):
    """Who hears of a study's progress."""

    def planned(self, total: int, done: int) -> None: ...

    def ended(self, trial: Trial) -> None: ...

    def say(self, sentence: str) -> None: ...


@dataclass
class _Slot:
    """A worker as its parent sees it."""

    name: str
    pipe: Connection
    process: SpawnProcess
    waiting: deque[list[Spec]] = field(default_factory=deque)
    block: list[Spec] = field(default_factory=list)  # what it is at
    at_work: bool = False
    out: str | None = None
    ended: bool = False
    problem: str = ""


class Run:
    """A study under way in its folder. `go` makes the trials of one bench; `done` are those on record."""

    def __init__(
        self,
        folder: Path,
        record: Record,
        tools: dict[str, Tool],
        images: Images,
        catalogue: Catalogue,
        watch: Watch,
        enough: Callable[[Task, Sequence[Trial]], bool] = lambda task, trials: False,
    ) -> None:
        self.folder = folder
        self.record = record
        self._tools, self._images, self._catalogue, self._watch = tools, images, catalogue, watch
        self._enough = enough
        self.problems: list[str] = []  # what the bench's slots ended with
        self._ledger = Ledger(folder)
        self.trials = {trial.n: trial for trial in read_trials(folder) if trial.outcome != "blocked"}
        self._traced = {self._cell(trial) for trial in self.trials.values() if trial.outcome == "correct"}
        self._tried: Counter[int] = Counter()  # how often a trial was tried again
        self._deadline = (
            time.monotonic() + record.study.max_minutes * 60 if record.study.max_minutes is not None else None
        )

    def __enter__(self) -> Run:
        self._watch.planned(len(self.record.schedule), len(self.trials))
        return self

    def __exit__(self, *exc: object) -> None:
        self._ledger.close()

    @property
    def left(self) -> list[Spec]:
        """What is not on record yet."""
        return [spec for spec in self.record.schedule if spec.n not in self.trials]

    def not_installed(self) -> None:
        """Trials of releases that could not be installed: on record, and no board is touched."""
        problems = {each.title: each.problem for each in self.record.installed if each.problem is not None}
        for spec in self.left:
            if spec.release in problems:
                self._note(of(spec, board="", outcome="not-installed", why=problems[spec.release], utc=_utc()))

    def go(self, bench: Bench, specs: Iterable[Spec]) -> None:
        """The trials `specs` that are not on record, at this bench's boards. Those that a killed study left
        otherwise than they came are put right, also where no trial is left.

        Raises BenchBlocked where no slot is left, and Aborted when it is stopped by a KeyboardInterrupt, the boards
        put right.
        """
        blocks = _blocks(spec for spec in specs if spec.n not in self.trials)
        names = sorted({block[0].slot for block in blocks} | self._owed(bench))
        if not names:
            return
        for name in names:
            bench.slot(name)
        with self._workers(bench, names) as slots:
            for block in blocks:
                slots[block[0].slot].waiting.append(block)
            self._until_done(slots)

    def _owed(self, bench: Bench) -> set[str]:
        """Slots of this bench whose board was not put right by whoever was at it last."""
        found = set()
        for path in (self.folder / "boards").glob("*.json"):
            told = json.loads(path.read_text(encoding="utf-8"))
            if path.stem in bench.slots and not told.get("right"):
                found.add(path.stem)
        return found

    def confirm(self, bench: Bench, pending: Callable[[list[Trial]], Sequence[tuple[str, Task]]]) -> None:
        """What `pending` says of the trials on record is tried again, beside the baseline, until it says nothing.

        These trials come behind the plan's; a study that is resumed asks for what is still to be confirmed.
        """
        able = {title for title in self._tools if title != self.record.study.base}
        for _ in range(_MOST_ROUNDS):
            asked: dict[Task, list[str]] = {}
            for release, task in pending(list(self.trials.values())):
                if release in able:
                    asked.setdefault(task, []).append(release)
            if not asked or self._late():
                return
            specs = self._more(asked, list(bench.slots))
            self._watch.planned(len(self.trials) + len(specs), len(self.trials))
            self.go(bench, specs)

    def _more(self, asked: dict[Task, list[str]], slots: Sequence[str]) -> list[Spec]:
        """A block for each task: the baseline and the releases, in an order that is drawn."""
        usable = [each for each in slots if self.record.study.slots == "all" or each in self.record.study.slots]
        known: list[Spec | Trial] = [*self.record.schedule, *self.trials.values()]
        n, block = max(each.n for each in known), max(each.block for each in known)
        draw = random.Random(self.record.study.seed + n)
        found: list[Spec] = []
        for task, releases in asked.items():
            block += 1
            repeat = 1 + max((each.repeat for each in known if each.task == task), default=0)
            order = [self.record.study.base, *releases]
            draw.shuffle(order)
            for release in order:
                n += 1
                slot = usable[block % len(usable)]
                found.append(
                    Spec(n, release, task.operation, task.condition, task.baud, block, repeat, slot, task.timed)
                )
        return found

    def _until_done(self, slots: dict[str, _Slot]) -> None:
        while True:
            for slot in slots.values():
                self._give(slot)
                self._balance(slot, slots)
            if not any(slot.at_work for slot in slots.values()):
                if any(slot.waiting for slot in slots.values()):
                    said = "; ".join(f"slot {slot.name}: {slot.out}" for slot in slots.values() if slot.out)
                    raise BenchBlocked("crashed", f"no slot is left that works: {said}")
                return
            self._hear([slot for slot in slots.values() if not slot.ended])
            self._move(slots)

    def _give(self, slot: _Slot) -> None:
        """The next block to a worker that has none."""
        while slot.waiting and not slot.at_work and slot.out is None:
            block = slot.waiting.popleft()
            block = [spec for spec in block if spec.n not in self.trials]
            task = block[0].task if block else None
            if task is None or self._late() or (task.timed and self._enough(task, list(self.trials.values()))):
                continue
            asked = [
                Asked(spec, self._cell(spec) not in self._traced, self._tried[spec.n] >= _AGAIN) for spec in block
            ]
            slot.at_work, slot.block = True, block
            with contextlib.suppress(OSError):
                slot.pipe.send((block[0].block, asked))

    def _balance(self, idle: _Slot, slots: dict[str, _Slot]) -> None:
        """A slot that is through takes over the last block that waits elsewhere."""
        if idle.at_work or idle.out is not None or idle.ended:
            return
        most = max(slots.values(), key=lambda each: len(each.waiting))
        if most.waiting:
            idle.waiting.append([replace(spec, slot=idle.name) for spec in most.waiting.pop()])
            self._give(idle)

    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    def _hear(self, slots: Sequence[_Slot]) -> None:
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
            self._note(value)
        elif what == "block":
            slot.at_work = False
            self._again(slot)
        elif what == "out":
            slot.out, slot.at_work = value, False
            self._again(slot)
            self._watch.say(f"slot {slot.name} is out of use: {value}")
        elif what == "ended":
            slot.ended, slot.at_work = True, False
            slot.problem = value

    def _lost(self, slot: _Slot) -> None:
        slot.ended, slot.at_work = True, False
        slot.out = slot.out or f"its process died (exit code {slot.process.exitcode})"
        self._again(slot)
        self._watch.say(f"slot {slot.name} is out of use: {slot.out}")

    def _again(self, slot: _Slot) -> None:
        """What the bench spoiled of a block is tried again."""
        block = [spec for spec in slot.block if spec.n not in self.trials and self._tried[spec.n] < _AGAIN]
        self._tried.update(spec.n for spec in block)
        slot.block = []
        if block:
            slot.waiting.appendleft(block)

    def _move(self, slots: dict[str, _Slot]) -> None:
        """What waits at a slot that is out goes to the others."""
        good = [slot for slot in slots.values() if slot.out is None]
        for slot in slots.values():
            while slot.out is not None and good and slot.waiting:
                block = slot.waiting.popleft()
                to = min(good, key=lambda each: len(each.waiting))
                to.waiting.append([replace(spec, slot=to.name) for spec in block])

    def _note(self, trial: Trial) -> None:
        self._ledger.append(trial)
        if trial.outcome != "blocked":
            self.trials[trial.n] = trial
        if trial.outcome == "correct" and trial.trace is not None:
            self._traced.add(self._cell(trial))
        self._watch.ended(trial)

    @staticmethod
    def _cell(one: Spec | Trial) -> tuple[str, Task]:
        return one.release, one.task

    @contextlib.contextmanager
    def _workers(self, bench: Bench, names: Sequence[str]) -> Iterator[dict[str, _Slot]]:
        """A process a slot. However this ends they are told to stop and waited for, for they put the boards right."""
        (self.folder / "boards").mkdir(mode=0o700, exist_ok=True)
        (self.folder / "traces").mkdir(exist_ok=True)
        context = multiprocessing.get_context("spawn")
        slots: dict[str, _Slot] = {}
        try:
            for name in names:
                orders = Orders(
                    bench.path, name, self.folder, self.folder.parent, self._catalogue, self._images, self._tools
                )
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(theirs, orders), name=f"rig releases, slot {name}")
                process.start()
                theirs.close()
                slots[name] = _Slot(name, ours, process)
            yield slots
        except KeyboardInterrupt:
            self._watch.say("stopping: the boards are being put right")
            raise Aborted(f"stopped; go on with: rig releases --resume {self.folder}") from None
        finally:
            self._stop(slots)

    def _stop(self, slots: dict[str, _Slot]) -> None:
        for slot in slots.values():
            with contextlib.suppress(OSError):
                slot.pipe.send("stop" if slot.at_work else None)
        deadline = time.monotonic() + _END_S
        while any(not slot.ended for slot in slots.values()) and time.monotonic() < deadline:
            self._hear([slot for slot in slots.values() if not slot.ended])
        for slot in slots.values():
            if not slot.ended:
                slot.problem = "its board was not put right in time"
            slot.process.join(max(0.1, deadline - time.monotonic()) if slot.ended else 0.1)
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
            slot.pipe.close()
            if slot.problem or slot.out:
                self.problems.append(f"slot {slot.name}: {slot.problem or slot.out}")
                self._watch.say(self.problems[-1])


def _blocks(specs: Iterable[Spec]) -> list[list[Spec]]:
    """By block, in the order of the plan."""
    found: dict[int, list[Spec]] = {}
    for spec in sorted(specs, key=lambda each: each.n):
        found.setdefault(spec.block, []).append(spec)
    return list(found.values())


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def new_record(
    study: Study,
    catalogue: Catalogue,
    installed: Sequence[Installed],
    schedule: Sequence[Spec],
    images: Images,
    bench: dict[str, Any],
    folder: RunFolder,
) -> Record:
    """What a run begins with; not written yet."""
    tasks = {spec.task for spec in schedule}
    operations = [each.described for each in catalogue.operation if each.id in {task.operation for task in tasks}]
    conditions = [each.described for each in catalogue.condition if each.id in {task.condition for task in tasks}]
    return Record(
        id=folder.id,
        utc=_utc(),
        study=study,
        installed=list(installed),
        operations=operations,
        conditions=conditions,
        schedule=list(schedule),
        bench=bench,
        images=images.told(),
        rig={"version": own_version(), "python": platform.python_version(), "machine": platform.platform()},
    )
