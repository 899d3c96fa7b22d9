"""A slot's worker: a process that puts its board through one trial after the other, and right at the end.

It is told trials over a pipe and answers with each as it ends. When the pipe closes, for its parent was killed, it
goes at once: the supply service switches the output off, and the board is put right by whoever resumes the study.
"""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from rig.bench.bench import Slot, read_bench
from rig.bench.slot import OpenSlot, slot_lock, use_slot
from rig.errors import Coded, RigError, UnitFailed, UsageProblem
from rig.flashers.native import NativeFlasher
from rig.image.firmware import FirmwareProfile, load_profiles
from rig.line.identity import identity_of
from rig.power.plan import Asked
from rig.power.subject import Subject
from rig.scrub import scrub
from rig.stops import leave_to_parent

_MOST_BLOCKED = 3  # trials in a row that the bench spoiled: the slot is out
_MOST_COMMANDS = 200_000  # kept of the wire before the slot is taken anew
_LOCK_S = 20.0  # a killed study's worker lets go of its slot in this time


@dataclass(frozen=True)
class Orders:
    """What a worker needs; it crosses processes. `later`: power-cycles after which flash is looked at again. `board`:
    the identity that must be in the slot; None: any. `owed`: it was not put right by whoever was at it last.
    `supply`: the model that must feed it; empty: any."""

    bench: Path
    slot: str
    run: Path
    runs: Path
    image: Path
    later: int
    widen: bool
    keep_image: bool = False
    board: str | None = None
    owed: bool = False
    supply: str = ""


@dataclass(frozen=True)
class Task:
    """A trial to be made, with its number in the study."""

    n: int
    asked: Asked


def work(pipe: Connection, orders: Orders) -> None:
    """The process's whole life. Sends ("trial", Trial); if it does not go on, ("refused", sentence) for what cannot
    be asked, ("failed", sentence) for a board that is none for a study, or ("out", sentence) for the bench; at last
    ("ended", sentence), which is empty where the board was put right."""
    leave_to_parent()
    _Worker(pipe, orders).run()


class _Worker:
    def __init__(self, pipe: Connection, orders: Orders) -> None:
        self._pipe = pipe
        self._orders = orders
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._task: Task | None = None  # to be made
        self._blocked = 0
        self._profiles: tuple[FirmwareProfile, ...] = ()
        self._why = ""  # what the bench spoiled the last one with
        self._refused = self._failed = ""  # what cannot be asked; why the board is none for a study
        self._over = False  # nothing more will be asked
        threading.Thread(target=self._listen, name="orders", daemon=True).start()

    def _listen(self) -> None:
        try:
            while (told := self._pipe.recv()) is not None:
                if told == "stop":
                    self._stopping.set()
                    break
                self._tasks.put(told)
        except (EOFError, OSError):
            _leave()
        self._tasks.put(None)

    def _tell(self, what: str, value: Any) -> None:
        try:
            self._pipe.send((what, value))
        except OSError:
            _leave()

    def run(self) -> None:
        bench = read_bench(self._orders.bench)
        self._profiles = load_profiles(*bench.profiles("firmwares"))
        slot = bench.slot(self._orders.slot)
        problem = ""
        try:
            with slot_lock(slot, _LOCK_S):
                self._task = self._tasks.get()
                self._over = self._task is None
                idle = self._over and not self._orders.owed  # nothing is asked: the board is not touched
                while not idle and not self._session(slot) and self._blocked < _MOST_BLOCKED:
                    pass
        except UsageProblem as bad:
            self._refused = scrub(str(bad))
        except RigError as bad:
            problem = scrub(str(bad))
        if self._blocked >= _MOST_BLOCKED:
            what = "its board was not put right" if self._over else "it spoiled trial after trial"
            problem = f"{what}: {self._why}"
        for what, sentence in (("refused", self._refused), ("failed", self._failed)):
            if sentence:
                self._tell(what, sentence)
        if problem:
            self._tell("out", problem)
        self._tell("ended", problem)

    def _session(self, slot: Slot) -> bool:
        """The slot taken into use until all is done and the board is right (True), or it has to be taken anew."""
        orders = self._orders
        with use_slot(slot, holder="rig power", locked=True) as used:
            try:
                self._require_same(used)
                subject = Subject(
                    used, orders.runs, orders.run, slot.product, orders.image,
                    speed=slot.speed, profiles=self._profiles, cycles=orders.later, widen=orders.widen,
                )  # fmt: skip
                with subject:
                    return self._with(subject, used)
            except (Coded, OSError) as problem:  # a full disk, too, is the bench's
                self._spoiled(scrub(str(problem)))
                return False
            finally:
                used.link.off()

    def _with(self, subject: Subject, used: OpenSlot) -> bool:
        over = True
        try:
            subject.begin()
            over = bool(self._refused or self._failed) or self._trials(subject, used)  # nobody asks for more then
        except UsageProblem as problem:
            self._refused = scrub(str(problem))
        except UnitFailed as problem:
            self._failed = scrub(str(problem))
        if over or self._blocked >= _MOST_BLOCKED:  # else whoever takes it anew puts the board right first
            subject.put_right(leave_image=self._orders.keep_image and not self._refused and not self._failed)
        return over

    def _require_same(self, used: OpenSlot) -> None:
        """A study that goes on is gone on with at its own board, on the same supply. Raises UsageProblem, before
        anything is written."""
        wanted = self._orders.supply
        if wanted and used.instrument.model != wanted:
            raise UsageProblem(
                f"slot {self._orders.slot} is fed by another supply ({used.instrument.model}) than the study began "
                f"with ({wanted}): connect that one, or begin another study"
            )
        if self._orders.board is None:
            return
        flasher = NativeFlasher()
        try:
            found = identity_of(flasher.identify(used.link))
        finally:
            flasher.close()
        if found != self._orders.board:
            raise UsageProblem(
                f"in slot {self._orders.slot} is another board ({found}) than the study began with "
                f"({self._orders.board}): put that one in"
            )

    def _spoiled(self, why: str) -> None:
        self._blocked += 1
        self._why = why

    def _trials(self, subject: Subject, used: OpenSlot) -> bool:
        """Trials as they are asked for, until there are no more or the study is stopped (True)."""
        while len(used.tap.commands) < _MOST_COMMANDS:
            if self._task is None and not self._over:
                self._task = self._tasks.get()
                self._over = self._task is None
            if self._task is None or self._stopping.is_set():
                return True
            asked = self._task.asked
            trial = subject.trial(asked.cell, self._task.n, reference=asked.reference)
            self._task = None  # spoiled or not: whoever asked decides whether it is asked again
            self._tell("trial", trial)
            self._blocked = self._blocked if trial.outcome == "blocked" else 0
            if trial.outcome == "blocked":
                self._spoiled(trial.why)
            if subject.broken:
                return self._blocked >= _MOST_BLOCKED
        return False


def _leave() -> NoReturn:
    """Nobody is left to tell; leases end with this process, so the output goes off."""
    os._exit(3)
