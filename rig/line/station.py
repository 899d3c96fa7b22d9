"""The station: runs a batch over the slots of a bench, one process a unit, and keeps the journal.

Each slot has a worker; a unit's attempt is a pytest process of its own, so that one that dies blocks its slot only.
Where more than one thing is done to a unit (recovered, then converted), each is an attempt, on the same board. The
station is the journal's single writer: units hand it their events and wait until they are on disk. What is written
and switched when, and what follows from each failure: docs/event-order.md.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

from rig.bench.bench import Bench, Slot
from rig.bench.slot import slot_lock
from rig.errors import Exit, RigError, UsageProblem
from rig.line.attempt import Ground, Progress
from rig.line.books import Books
from rig.line.budget import Budget
from rig.line.claims import Claims
from rig.line.control import ControlServer, station_folder
from rig.line.foreman import Line
from rig.line.instruments import instruments_of, profiles_of
from rig.line.job import Job, Stage, job_to_dict, limited
from rig.line.live import Live
from rig.line.loading import Loader
from rig.line.orders import Orders
from rig.line.prefork import Prefork
from rig.line.prompts import Prompts
from rig.line.queue import Queue
from rig.line.resume import Order, Past, close_past, first_boards, order_of, read_past, require_ended, sample_is_owed
from rig.line.study import StudyQueue, cells_left, drawn, told
from rig.line.suite import environment
from rig.line.watchdog import Watchdog, WatchedJournal
from rig.line.worker import Crew, Worker
from rig.records import events
from rig.records.claims import Claimant, is_named
from rig.records.database import url_of
from rig.records.events import Event, Outcome
from rig.records.follower import Follower
from rig.records.journal import Journal, JournalLost, read_journal
from rig.records.lookup import passed_before
from rig.records.run import RunFolder
from rig.records.share import Share
from rig.records.sink import SinkServer
from rig.scrub import scrub

_LOOK_S = 0.2
_READY_S = 5.0  # the control socket is there a moment before the run is
_ORPHANS_S = 30.0  # a killed station's units let go of their slots by themselves


class Station:
    """One run over `slots`. `run()` returns the exit code; `stop()` may be called from a signal handler.

    `resume`: `run` holds a run that died or was stopped, which goes on. `attended`: somebody is there to answer, or
    nobody, and headless answers are taken; as it is, somebody is at a terminal or where units are scanned.
    """

    def __init__(
        self,
        bench: Bench,
        slots: list[Slot],
        job: Job,
        run: RunFolder,
        *,
        loader: Loader,
        on_event: Callable[[Event], None] = lambda event: None,
        on_progress: Progress = lambda slot, unit, what, done, total: None,
        resume: bool = False,
        attended: bool | None = None,
    ) -> None:
        self.bench = bench
        self.slots = slots
        self.job = job
        self.folder = run
        self._loader = loader
        loader.run = run.id
        self._on_event = on_event
        self._on_progress = on_progress
        self._resume = resume
        self._attended = attended if attended is not None else job.scanned or sys.stdin.isatty()
        self._stopped = loader.stopped
        self._stopping = False
        self._books = Books(job.units, job.stages[-1].task)
        self._workers: dict[str, Worker] = {}
        self._live: Live | None = None
        self._follower: Follower | None = None
        self._orders: Orders | None = None
        self._emit: Callable[[Event], None] | None = None
        self._put_down: Callable[[Event], None] = lambda event: None
        self._ready = threading.Event()
        self._lost: JournalLost | None = None
        self._ended = False
        self._watchdog = Watchdog.of_environment()
        self._claims = self._claims_of()
        self._share: Share | None = None

    # -- the run ---------------------------------------------------------------------------------------

    def run(self) -> Exit:
        """All units, or until stopped. Every unit that began has an end on record.

        Raises UsageProblem before anything is switched on, JournalLost when the disk fails meanwhile.
        """
        began = time.monotonic()
        self._check()
        if self._resume:
            require_ended(self.folder)
        with contextlib.ExitStack() as stack:
            stack.callback(self._watchdog.close)
            stack.callback(self._loader.standby.close)
            locks = {slot.name: stack.enter_context(self._lock(slot)) for slot in self.slots}
            journal = stack.enter_context(WatchedJournal(self.folder.journal, self._watchdog))
            place = stack.enter_context(station_folder())
            server = stack.enter_context(SinkServer(journal, on_event=self._seen, folder=place))
            past = self._past()
            unasked = self._claim_list() if past is None else None
            self._put_down = server.emit
            order = self._begin(self._record, past, journal)
            if unasked is not None:
                self._record(events.Noted(level="warning", text=f"units are begun unasked for now: {unasked}"))
            ground = Ground(
                self.bench, self.job, self.folder, self._books, self._record, server.address, locks,
                self._loader.confirm_off, self._stopped, self._progress, self._operator, server.settle,
                prefork=self._prefork(stack),
            )  # fmt: skip
            line = self._set_up(stack, ground, order, past)
            self._watchdog.ready()
            self._work(line)
            self._watchdog.stopping()
            if self._lost is not None:
                raise self._lost
            self._prompts.close()
            if self._claims is not None:
                self._claims.close()
            if self._share is not None:
                self._share.close()
            self._note_what_is_left(server.emit)
            code = self._exit_code()
            server.emit(events.RunEnded(run=self.folder.id, exit_code=int(code), duration_s=time.monotonic() - began))
            self._ended = True
        return code

    def stop(self) -> None:
        """Ask every unit to end; their outputs go off. Returns at once."""
        self._watchdog.stopping()
        if not self._stopping:  # a second signal within the first one must not wait for what that one holds
            self._stopping = True
            self._stopped.set()
        for worker in list(self._workers.values()):
            worker.signal()

    def do(self, command: dict[str, Any]) -> dict[str, Any]:
        """An order from a person, as in `rig.line.orders`. Thread-safe. UsageProblem for one that cannot be."""
        self._ready.wait(_READY_S)
        if self._orders is None:
            raise UsageProblem("the run has not begun yet")
        return self._orders.do(command)

    def note(self, text: str) -> None:
        """A warning on record, while the run lasts. Thread-safe."""
        self._warn(text)

    def finish(self, why: str) -> None:
        """Nothing more is begun, for a reason that goes on record; what is at work ends. Thread-safe."""
        self._warn(why)
        with contextlib.suppress(UsageProblem):  # it is over already
            self.do({"do": "finish"})

    # -- before the first unit -------------------------------------------------------------------------

    def _check(self) -> None:
        """What makes no sense to begin."""
        if self.job.rules.operator == "required" and not self.job.operator and not self._attended:
            raise UsageProblem("an operator is required and nobody is there to ask: name one with --operator")
        for slot in self.slots:
            total, amps = slot.supply.amps, self.job.current_limit or slot.product.supply.current_limit
            if total is not None and amps > total:
                raise UsageProblem(
                    f"slot {slot.name} may draw {amps:g} A, and its supply {slot.table.supply} gives {total:g} A in "
                    "all: lower the current limit, or correct `amps` of the supply in the bench file"
                )

    def _lock(self, slot: Slot) -> contextlib.AbstractContextManager[int]:
        return slot_lock(slot, patience_s=_ORPHANS_S if self._resume else 0.0)

    def _prefork(self, stack: contextlib.ExitStack) -> Prefork | None:
        """Where more than one unit's process is to be started, they are forked."""
        if not self.job.scanned and len(self.job.units) < 2:
            return None
        return stack.enter_context(Prefork(environment()))

    def _past(self) -> Past | None:
        """The run as it was left; None where this is its beginning."""
        if not self._resume:
            return None
        found, _ = read_journal(self.folder.journal)
        past = read_past(found, self.job, self.slots)
        self._books = past.books
        return past

    def _begin(self, emit: Callable[[Event], None], past: Past | None, journal: Journal) -> Order:
        """The run's first word, now or after a crash; what is to be done."""
        tools = {
            "rig": metadata.version("rig"),
            "python": platform.python_version(),
            "pyvisa": metadata.version("pyvisa"),
            "pyserial": metadata.version("pyserial"),
            "flasher": self.job.flasher,
        }
        if past is None:
            emit(self._run_started(tools))
            if cited := self.slots[0].product.supply.cited:
                emit(events.Noted(text=f"supply settings: {cited}"))
            order = self._first_order(emit)
        else:
            close_past(past, self.slots, emit, self._loader.confirm_off)
            emit(
                events.RunResumed(
                    run=self.folder.id,
                    command=self.job.command,
                    station=self._name,
                    operator=self.job.operator,
                    tools=tools,
                )
            )
            order = order_of(past, self.job, self.slots)
        if journal.dropped is not None:
            emit(events.Noted(level="warning", text=journal.dropped))
        if self.job.waive_calibration:
            text = f"a calibration past its date was waived: {self.job.waive_calibration}"
            emit(events.Noted(level="warning", text=text))
        return order

    def _claims_of(self) -> Claims | None:
        """Where stations share a database, what units may be begun is asked there."""
        job, records = self.job, self.bench.config.records
        if records.url is None or job.study is not None:
            return None
        if not is_named({"units": job.units, "scanned": job.scanned}):
            return None
        product, rules = self.slots[0].product.name, job.rules
        who = Claimant(
            self.folder.id, self._name, product, job.stages[-1].task, job.batch, rules.already_passed == "refuse"
        )
        ahead = records.ahead * len(self.slots) if rules.shared else None
        return Claims(self._url, who, self.folder.path.parent, offline=records.offline, ahead=ahead)

    def _claim_list(self) -> str | None:
        """A list that is this run's alone is claimed before its first word; see `Claims.claim_all`."""
        if self._claims is None or self.job.scanned or self.job.rules.shared:
            return None
        return self._claims.claim_all(self.job.units)

    def _first_order(self, emit: Callable[[Event], None]) -> Order:
        study, names = self.job.study, [slot.name for slot in self.slots]
        if study is None:
            return Order(first_boards(self.job, names), [], list(self.job.units))
        emit(events.Noted(text=told(study, self.job.units, names)))
        return Order({}, [], [], drawn(study, self.job.units, names))

    def _run_started(self, tools: dict[str, str]) -> events.RunStarted:
        product, last = limited(self.slots[0].product, self.job), self.job.stages[-1]
        return events.RunStarted(
            run=self.folder.id,
            command=self.job.command,
            station=self._name,
            bench=self.bench.name,
            simulated=self.bench.simulated,
            speed=self.bench.speed,
            product=product.name,
            batch=self.job.batch,
            operator=self.job.operator,
            image=last.image.name if last.image else None,
            image_sha256=last.image_sha256,
            limits_version=product.limits_version,
            tasks=[stage.task for stage in self.job.stages],
            tools=tools,
            profiles=profiles_of(self.bench, self.slots),
            instruments=instruments_of(self.slots, self._loader.standby),
            job=job_to_dict(self.job),
        )

    def _set_up(self, stack: contextlib.ExitStack, ground: Ground, order: Order, past: Past | None) -> Line:
        """Everything that works on the run, in the order in which it is taken down again from the end."""
        job, names = self.job, [slot.name for slot in self.slots]
        asks_who = job.rules.operator == "required" and not job.operator
        self._emit = ground.emit
        queue = self._queue = Queue(
            order.rest, names, self._stopped, first=order.first, loaded=order.loaded, golden=job.rules.golden.serial,
            scanned=job.scanned, open_end=job.scanned and not job.units, identified=not asks_who,
            one_by_one=job.rules.first_article and not (past is not None and past.approved),
            **({} if self._claims is None else {"pick": self._claims.pick}),
        ) if job.study is None else StudyQueue(
            order.cells, names, self._stopped, inside=order.loaded, identified=not asks_who
        )  # fmt: skip
        begun = past.prompts if past is not None else 0
        prompts = Prompts(ground.emit, self._stopped, ask=self._loader.ask, attended=self._attended, begun=begun)
        self._prompts = prompts
        line = Line(ground, queue, prompts, self.slots, self._journal_lost)
        line.recall(past.history if past is not None else ())
        control = stack.enter_context(ControlServer(ground.address.parent, self.do))
        live = self._live = Live(self.folder.path, names, self._fixed(str(control.address)), self._standing)
        stack.callback(self._close_live, live)
        budget = Budget({slot.table.supply: slot.supply.amps for slot in self.slots})
        crew = Crew(ground, queue, prompts, self._loader, budget, live, line, resumed=past is not None)
        self._workers = {slot.name: Worker(crew, slot) for slot in self.slots}
        before = self._passed_before if job.rules.already_passed == "refuse" else lambda unit: None
        claim = self._claims.scanned if self._claims is not None else lambda unit: None
        self._orders = Orders(ground, queue, prompts, line, live, self._workers, self.stop, before, claim)
        self._ready.set()
        records = self.bench.config.records
        shares = None if records.url is None else self._name
        self._follower = stack.enter_context(Follower(self._url, self.folder, self._warn, station=shares))
        self._follower.poke()
        if records.artifacts is not None:
            where = self.bench.path.parent / records.artifacts
            self._share = Share(self.folder.path.parent, where, self._warn)
            stack.callback(self._share.close)
        if self._claims is not None:
            stack.callback(self._claims.close)
            self._claims.follow(queue, ground.emit)
        stack.callback(prompts.close)
        if asks_who:
            self._orders.ask_operator()
        if past is not None:
            self._catch_up(line, queue)
        return line

    def _catch_up(self, line: Line, queue: Queue) -> None:
        """What the dead station owed to units that had passed."""
        by_name = {slot.name: slot for slot in self.slots}
        good = [unit for unit, outcome in self._books.outcomes().items() if outcome and outcome.good]
        for unit in good:
            course = self._books.last(unit)
            owed = self._books.done(unit) and not sample_is_owed(self._books, unit, self.job)
            if course is not None and owed and unit not in self._books.labelled:
                line.label(course, by_name.get(course.slot))
        if good and queue.one_by_one:
            line.ask_approval(good[0])

    def _close_live(self, live: Live) -> None:
        self._ended = True
        live.close()

    def _warn(self, text: str) -> None:
        """Of the database: on record while the run lasts."""
        if self._emit is not None and not self._ended:
            with contextlib.suppress(JournalLost):
                self._emit(events.Noted(level="warning", text=text))

    # -- the units -------------------------------------------------------------------------------------

    def _work(self, line: Line) -> None:
        workers = list(self._workers.values())
        for worker in workers:
            worker.start()
        left = workers
        while left := [worker for worker in left if not worker.join(_LOOK_S / len(left))]:
            with contextlib.suppress(JournalLost):  # whoever wrote last has told
                line.look()
            self._watchdog.beat(self._status)
        image = self.job.rules.park_image
        if image is not None and not self._stopped.is_set() and self._lost is None:
            stage = Stage("convert", image)
            parking = [
                threading.Thread(target=self._park, args=(worker, stage), name=f"park {worker.slot.name}")
                for worker in workers
                if worker.slot.name not in self._queue.out
            ]
            for thread in parking:
                thread.start()
            for thread in parking:
                while thread.is_alive():
                    thread.join(_LOOK_S)
                    self._watchdog.beat(self._status)

    def _park(self, worker: Worker, stage: Stage) -> None:
        try:
            worker.park(stage)
        except JournalLost as lost:
            self._journal_lost(lost)
        except (RigError, OSError) as problem:
            text = f"the park image is not on the board in slot {worker.slot.name}: {scrub(str(problem))}"
            self._warn(text)

    def _note_what_is_left(self, emit: Callable[[Event], None]) -> None:
        left = self._queue.left()
        if not left:
            return
        why = "no slot was left to work in"
        if self._stopped.is_set():
            why = "the run was stopped"
        elif len(self._queue.out) < len(self.slots):
            why = "the line was stopped" if self._queue.line is not None else "the run was ended before"
        what, details = "measurement(s) of the study", {}
        if self.job.study is None:
            what, details = "unit(s)", {events.NOT_BEGUN: left}  # reports count them
        emit(events.Noted(level="warning", text=f"{left} {what} were not started: {why}", details=details))

    def _exit_code(self) -> Exit:
        outcomes = set(self._books.outcomes().values())
        if self.job.study is not None:
            outcomes |= {each.outcome for each in self._books.all_of_units()} - {Outcome.BLOCKED, Outcome.ABORTED}
            names = [slot.name for slot in self.slots]
            outcomes |= {None} if cells_left(self.job.study, self.job.units, names, self._books) else set()
        if self._stopped.is_set() or Outcome.ABORTED in outcomes:
            return Exit.ABORTED
        if outcomes & {Outcome.FAIL, Outcome.UNVERIFIED}:
            return Exit.FAILED
        if outcomes & {Outcome.BLOCKED, None} or self._books.never_begun() or self._queue.left():
            return Exit.BLOCKED
        return Exit.GOOD

    # -- what is heard ---------------------------------------------------------------------------------

    def _seen(self, event: Event) -> None:
        """Every event of the run, once it is on disk."""
        self._books.take(event)
        if self._live is not None:
            self._live.take(event)
        if self._claims is not None and isinstance(event, events.UnitStarted):
            self._claims.begun(event.unit)
        if self._follower is not None:
            self._follower.poke()
        self._on_event(event)

    def _record(self, event: Event) -> None:
        """The station's own events. Whoever finds that the disk fails, a person's order too, stops the run."""
        try:
            self._put_down(event)
        except JournalLost as problem:
            self._journal_lost(problem)
            raise

    def _progress(self, slot: str, unit: str, what: str, done: int, total: int) -> None:
        if self._live is not None:
            self._live.progress(slot, what, done, total)
        self._on_progress(slot, unit, what, done, total)

    def _operator(self) -> str | None:
        return self._orders.operator if self._orders is not None else self.job.operator

    def _journal_lost(self, problem: JournalLost) -> None:
        self._lost = self._lost or problem
        self.stop()

    def _passed_before(self, unit: str) -> str | None:
        """A sentence on the earlier run that a unit passed; None too where that cannot be told."""
        try:
            product, task, runs = self.slots[0].product.name, self.job.stages[-1].task, self.folder.path.parent
            away = self._claims is not None and self._claims.away
            return passed_before(runs if away else self._url, unit, product, task, runs=runs)
        except RigError:
            return None

    # -- how it stands ---------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        """Of this station, as records call it."""
        return self.bench.config.records.station or platform.node()

    @property
    def _url(self) -> str:
        """Of the database."""
        return url_of(self.folder.path.parent, self.bench.config.records.url, self.bench.path.parent)

    def _fixed(self, control: str) -> dict[str, Any]:
        product = self.slots[0].product
        return {
            "run": self.folder.id, "pid": os.getpid(), "control": control, "batch": self.job.batch,
            "product": product.name, "mains": product.mains, "simulated": self.bench.simulated,
            "speed": self.bench.speed, "scanned": self.job.scanned,
        }  # fmt: skip

    def _units_total(self) -> int | None:
        """None: nobody knows, they come as they are scanned."""
        return None if self.job.scanned and not self.job.units else len(self._books.units)

    def _counters(self) -> dict[str, int | None]:
        """`remaining` None: as many as come."""
        found: dict[str, int | None] = dict(self._books.counters())
        is_open = self._units_total() is None and not self._queue.closed
        return found | {"remaining": None} if is_open else found

    def _status(self) -> str:
        """How it stands, in a line. What all workers need is asked for it, so it comes only while that is there."""
        standing = self._standing()
        counts = [f"{count} {name}" for name, count in standing["counters"].items() if count]
        why = f" ({standing['why']})" if standing["why"] else ""
        asked = f"; {len(standing['prompts'])} question(s) open" if standing["prompts"] else ""
        return f"run {self.folder.id} {standing['state']}{why}: {', '.join(counts) or 'no unit yet'}{asked}"

    def _standing(self) -> dict[str, Any]:
        queue, why = self._queue, None
        if self._ended:
            state = "ended"
        elif self._stopped.is_set():
            state = "stopping"
        elif (why := queue.line) is not None:
            state = "stopped-line"
        elif queue.waits_for_operator:
            state, why = "waiting", "nobody has said who works here"
        elif self._claims is not None and (held := self._claims.holding) is not None:
            state, why = "waiting", held
        else:
            state = "running"
        return {
            "state": state, "why": why, "operator": self._operator(), "units_total": self._units_total(),
            "counters": self._counters(), "out": queue.out, "prompts": self._prompts.listed(),
        }  # fmt: skip
