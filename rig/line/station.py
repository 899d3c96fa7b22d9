"""The station: runs a batch over the slots of a bench, one process a unit, and keeps the journal.

Each slot has a worker; a unit's attempt is a pytest process of its own, so that one that dies blocks its slot only.
Where more than one thing is done to a unit (recovered, then converted), each is an attempt, on the same board. The
station is the journal's single writer: units hand it their events and wait until they are on disk. A process
that died without a word is marked here: blocked, or unverified if its board was being written.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rig.bench.bench import Bench, Slot
from rig.bench.slot import slot_lock
from rig.errors import Exit, RigError
from rig.line.job import Job, Stage
from rig.line.loading import Loader
from rig.records import events
from rig.records.events import Event, Outcome
from rig.records.journal import Journal
from rig.records.run import RunFolder
from rig.records.sink import SinkServer
from rig.scrub import scrub

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]  # the checkout is the rig
_GRACE_S = 15.0  # from SIGTERM to SIGKILL for a unit's process

Progress = Callable[[str, str, str, int, int], None]
"""Called with (slot, unit, what, done, total)."""


@dataclass
class _Course:
    """What the station knows of a unit under way."""

    outcome: Outcome | None = None
    writing: bool = False
    code: str | None = None


class Station:
    """One run over `slots`. `run()` returns the exit code; `stop()` may be called from a signal handler."""

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
    ) -> None:
        self.bench = bench
        self.slots = slots
        self.job = job
        self.folder = run
        self._loader = loader
        self._on_event = on_event
        self._on_progress = on_progress
        # the first boards are in their slots already: which unit is where goes by the order of both
        self._loaded = {slot.name: unit for slot, unit in zip(slots, job.units, strict=False)}
        self._queue = deque(job.units[len(self._loaded) :])
        self._queue_lock = threading.Lock()
        self._courses: dict[str, _Course] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stopped = loader.stopped
        self._locks: dict[str, int] = {}  # descriptors of the slots' locks, held for the whole run

    # -- the run ---------------------------------------------------------------------------------------

    def run(self) -> Exit:
        """All units, or until stopped. Every unit that began has an end on record."""
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            journal = stack.enter_context(Journal(self.folder.journal))
            server = stack.enter_context(SinkServer(journal, on_event=self._seen))
            self._locks = {slot.name: stack.enter_context(slot_lock(slot)) for slot in self.slots}
            server.emit(self._run_started())
            if self.job.waive_calibration:
                text = f"a calibration past its date was waived: {self.job.waive_calibration}"
                server.emit(events.Noted(level="warning", text=text))
            workers = [
                threading.Thread(target=self._work, args=(slot, server), name=f"slot {slot.name}")
                for slot in self.slots
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            if self._queue and not self._stopped.is_set():
                server.emit(
                    events.Noted(
                        level="warning",
                        text=f"{len(self._queue)} unit(s) were not started: no slot was left to work in",
                    )
                )
            code = self._exit_code()
            server.emit(events.RunEnded(run=self.folder.id, exit_code=int(code), duration_s=time.monotonic() - began))
        return code

    def stop(self) -> None:
        """Ask every unit to end; their outputs go off. Returns at once."""
        self._stopped.set()
        for process in list(self._processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def _run_started(self) -> events.RunStarted:
        product = self.slots[0].product
        last = self.job.stages[-1]
        return events.RunStarted(
            run=self.folder.id,
            command=self.job.command,
            station=platform.node(),
            bench=self.bench.name,
            simulated=self.bench.simulated,
            speed=self.bench.speed,
            product=product.name,
            image=last.image.name if last.image else None,
            image_sha256=last.image_sha256,
            limits_version=product.limits_version,
            tasks=[stage.task for stage in self.job.stages],
            tools={
                "rig": metadata.version("rig"),
                "python": platform.python_version(),
                "pyvisa": metadata.version("pyvisa"),
                "pyserial": metadata.version("pyserial"),
                "flasher": self.job.flasher,
            },
        )

    def _seen(self, event: Event) -> None:
        if isinstance(event, events.UnitStarted):
            self._courses[event.unit] = _Course()
        course = self._courses.get(getattr(event, "unit", None) or "")
        if course is not None:
            if isinstance(event, events.WriteBegun):
                course.writing = True
            elif isinstance(event, events.WriteEnded):
                course.writing = False
            elif isinstance(event, events.UnitEnded):
                course.outcome, course.code = event.outcome, event.code
        self._on_event(event)

    def _exit_code(self) -> Exit:
        outcomes = {course.outcome for course in self._courses.values()}
        if self._stopped.is_set() or Outcome.ABORTED in outcomes:
            return Exit.ABORTED
        if outcomes & {Outcome.FAIL, Outcome.UNVERIFIED}:
            return Exit.FAILED
        if outcomes & {Outcome.BLOCKED, None} or len(self._courses) < len(self.job.units):
            return Exit.BLOCKED
        return Exit.GOOD

    # -- a slot ----------------------------------------------------------------------------------------

    def _next_unit(self, slot: Slot) -> str | None:
        with self._queue_lock:
            if slot.name in self._loaded and not self._stopped.is_set():
                return self._loaded.pop(slot.name)
            return self._queue.popleft() if self._queue and not self._stopped.is_set() else None

    def _work(self, slot: Slot, server: SinkServer) -> None:
        """Units in this slot until there are none, or the slot itself turns out bad: that blocks this slot only."""
        loaded = True
        while (unit := self._next_unit(slot)) is not None:
            try:
                if not loaded:
                    self._loader.next_board(slot, unit)
                loaded = False
                for attempt, stage in enumerate(self.job.stages, start=1):
                    self._attempt(slot, unit, attempt, stage, server)
                    outcome = self._courses[unit].outcome
                    if outcome is None or not outcome.good:
                        break
            except Exception as problem:
                if not isinstance(problem, RigError):
                    log.exception("slot %s", slot.name)
                if self._courses.get(unit) is None:
                    with self._queue_lock:
                        self._queue.appendleft(unit)
                if not self._stopped.is_set():
                    self._out_of_use(slot, scrub(str(problem)) or type(problem).__name__, server)
                return
            if self._courses[unit].outcome is Outcome.BLOCKED and self._queue:
                self._out_of_use(slot, f"unit {unit} was blocked there", server)
                return

    def _out_of_use(self, slot: Slot, why: str, server: SinkServer) -> None:
        text = f"slot {slot.name} is out for the rest of this run: {why}"
        server.emit(events.Noted(slot=slot.name, level="warning", text=text))

    def _attempt(self, slot: Slot, unit: str, attempt: int, stage: Stage, server: SinkServer) -> None:
        """One stage of a unit, in a process of its own."""
        began = time.monotonic()
        if attempt > 1:
            self._courses[unit] = _Course()
            if self._stopped.is_set():
                self._never_begun(slot, unit, attempt, stage, server)
                return
        ours, theirs = socket.socketpair()
        output = self.folder.new_unit_dir(unit, attempt) / "pytest.log"
        with theirs, output.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            process = subprocess.Popen(
                self._command(slot, unit, attempt, stage, server.address, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno(), self._locks[slot.name]],
                start_new_session=True,  # a Ctrl-C in the terminal is the station's to pass on
                env=_environment(),
            )
        self._processes[slot.name] = process
        if self._stopped.is_set():
            process.send_signal(signal.SIGTERM)
        follower = threading.Thread(target=self._follow, args=(ours, slot.name, unit), daemon=True)
        follower.start()
        self._wait(process)
        follower.join(1)
        ours.close()
        self._close_unit(slot, unit, attempt, process.returncode, time.monotonic() - began, server, output)

    def _never_begun(self, slot: Slot, unit: str, attempt: int, stage: Stage, server: SinkServer) -> None:
        """The run was stopped between two stages: the record says which one the board did not get."""
        who: dict[str, Any] = {"unit": unit, "slot": slot.name, "attempt": attempt}
        server.emit(events.UnitStarted(**who, flasher=self.job.flasher, task=stage.task))
        sentence = f"stopped before this {stage.task} began; what was done before it stands"
        server.emit(
            events.UnitEnded(
                **who,
                outcome=Outcome.ABORTED,
                duration_s=0.0,
                sentence=sentence,
                supply_off_confirmed=self._loader.confirm_off(slot),
            )
        )

    def _command(self, slot: Slot, unit: str, attempt: int, stage: Stage, address: Path, fd: int) -> list[str]:
        folder = self.folder.unit_dir(unit, attempt)
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"),
            *("-p", "no:unraisableexception"),  # it looks through all objects at the end: half a second of the CPU
            *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)),
            str(ROOT / "tests_hil" / "test_conversion.py"),
            *("--bench", str(self.bench.path), "--slot", slot.name, *self._what(stage, unit)),
            *("--flasher", self.job.flasher, f"--unit={unit}", "--attempt", str(attempt)),
            *("--run-dir", str(self.folder.path), "--station", str(address), "--owner-fd", str(fd)),
            *("--slot-lock", str(self._locks[slot.name])),
            *("--html", str(folder / "unit.html"), "--self-contained-html"),
        ]
        command += ["--backup", self.job.backup]
        if self.job.accept_no_backup:
            command += [f"--accept-no-backup={self.job.accept_no_backup}"]
        if self.job.no_boot_proof:
            command += ["--no-boot-proof"]
        if self.job.current_limit is not None:
            command += ["--current-limit", f"{self.job.current_limit:g}"]
        return command

    def _what(self, stage: Stage, unit: str) -> list[str]:
        """The options that say what is done, and with which content."""
        job, words = self.job, ["--task", stage.task]
        words += [f"--image={stage.image}"] if stage.image else [f"--restore={job.backups[unit]}"]
        words += [f"--image-sha256={stage.image_sha256}"] if stage.image_sha256 else []
        words += [f"--override={rule}" for rule in job.overrides]
        if job.mac and stage.task == "recover":
            words += ["--mac", job.mac]
        if stage.task == "convert" and job.provision:
            words += [f"--provision={job.provision}"]
        if job.no_provision:
            words += ["--no-provision"]
        return words

    def _follow(self, connection: socket.socket, slot: str, unit: str) -> None:
        with connection.makefile("r", errors="replace") as lines:
            for line in lines:
                what, done, total = line.rsplit(" ", 2)
                self._on_progress(slot, unit, what, int(done), int(total))

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Until the unit's process ends; after stop() it has a grace, then it is killed."""
        deadline: float | None = None
        while True:
            try:
                process.wait(0.2)
                return
            except subprocess.TimeoutExpired:
                pass
            if self._stopped.is_set():
                deadline = deadline or time.monotonic() + _GRACE_S
                if time.monotonic() > deadline:
                    process.kill()

    def _close_unit(
        self,
        slot: Slot,
        unit: str,
        attempt: int,
        returncode: int,
        seconds: float,
        server: SinkServer,
        output: Path,
    ) -> None:
        """A unit that did not say how it ended, or whose process contradicts it, gets its end here."""
        course = self._courses.setdefault(unit, _Course())
        good = course.outcome is not None and course.outcome.good
        if course.outcome is None or (good and returncode != 0):
            how = f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"exit code {returncode}"
            outcome, code = Outcome.BLOCKED, "crashed"
            if course.writing:
                outcome, code = Outcome.UNVERIFIED, "half-written"
            elif self._stopped.is_set():
                outcome, code = Outcome.ABORTED, "crashed"
            server.emit(
                events.UnitEnded(
                    unit=unit,
                    slot=slot.name,
                    attempt=attempt,
                    outcome=outcome,
                    duration_s=seconds,
                    code=code,
                    sentence=f"the unit's process ended with {how}; {self._last_line(output)}",
                    supply_off_confirmed=self._loader.confirm_off(slot),
                )
            )
        page = output.with_name("unit.html")
        if not page.exists() or not page.stat().st_size:
            text = f"unit {unit} has no page: {page} could not be written"
            server.emit(events.Noted(unit=unit, slot=slot.name, level="warning", text=text))

    def _last_line(self, output: Path) -> str:
        lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
        return f"its last line: {scrub(lines[-1], self.job.secrets)[:200]}" if lines else "it printed nothing"


def _environment() -> dict[str, str]:
    """Ours, without what would change which of a unit's steps run."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")}
    return kept | {"PYTHONUNBUFFERED": "1"}
