"""One attempt at a unit: a pytest process of its own, watched from its start to its end.

A process that hangs in a step is ended: SIGTERM, a grace, SIGKILL. One that died without a word, or that contradicts
what it wrote, gets its end on record here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig.bench.bench import Bench, Slot
from rig.line.books import Books, Course
from rig.line.job import Job, Stage
from rig.line.prefork import QUIET, Prefork, Process
from rig.line.record import ENDING, HALF_WRITTEN
from rig.line.suite import OURS, ROOT, environment, suite_words
from rig.records import events
from rig.records.events import Event, Outcome, Role
from rig.records.run import RunFolder
from rig.scrub import scrub

GRACE_S = 15.0  # from SIGTERM to SIGKILL for a unit's process
ANSWER_S = 1.0  # choice: to SIGKILL where it does not even say that it ends; its output is to be off within 2 s
BETWEEN_S = 120.0  # choice: longest time outside of any step: Python's start, and closing down
_LOOK_S = 0.2
# plugins that may be installed and that our own plans have no use for: a quarter second of CPU for each unit
_UNUSED = ("xdist", "xdist.looponfail", "anyio", "doctest", "legacypath", "junitxml", "pastebin")
_PYTEST = (sys.executable, "-m", "pytest")
_SUITES = {"verify": "test_verify.py", "burn-in": "test_burn_in.py", "home": "test_home.py"}

Progress = Callable[[str, str, str, int, int], None]
"""Called with (slot, unit, what, done, total)."""


@dataclass(frozen=True)
class Ground:
    """What all attempts of a run share. `locks`: descriptors of the slots' locks, held for the whole run; `address`:
    where units hand their events to; `confirm_off`: reads a slot's output back off; `settle`: waits until the books
    have what units were told is on record; `starts`: as many processes start at a time as there are cores, so that
    sixteen at once take no core from boards that are at work; `prefork`: forks them, where there are several."""

    bench: Bench
    job: Job
    folder: RunFolder
    books: Books
    emit: Callable[[Event], None]
    address: Path
    locks: dict[str, int]
    confirm_off: Callable[[Slot], bool]
    stopped: threading.Event
    on_progress: Progress = lambda slot, unit, what, done, total: None
    operator: Callable[[], str | None] = lambda: None
    settle: Callable[[], None] = lambda: None
    starts: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(os.cpu_count() or 1))
    prefork: Prefork | None = None


@dataclass
class Attempt:
    """`run()` is done when the unit has its end on record and its process is gone. `stop()` ends it early."""

    ground: Ground
    slot: Slot
    unit: str
    number: int
    stage: Stage
    role: Role = "unit"
    reboots: int = 0
    _process: Process | None = None
    _aborted: threading.Event = field(default_factory=threading.Event)
    _overran: str | None = None
    _ending: threading.Event = field(default_factory=threading.Event)  # it said that it switches off and ends
    _starting: bool = False

    @property
    def _who(self) -> dict[str, Any]:
        return {"unit": self.unit, "slot": self.slot.name, "attempt": self.number}

    @property
    def _stopping(self) -> bool:
        return self.ground.stopped.is_set() or self._aborted.is_set()

    def stop(self) -> None:
        """Ask the unit to end; its output goes off. Returns at once; may be called from a signal handler."""
        self._aborted.set()
        self.signal()

    def signal(self) -> None:
        """SIGTERM to the unit's process, if it is there."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def run(self) -> Course:
        """Raises what prevents the process from starting: then nothing of it is on record."""
        self.ground.starts.acquire()
        self._starting = True
        try:
            return self._run()
        finally:
            self._started_up()

    def _started_up(self) -> None:
        """Its first word is on record, or it is gone: the next one may start."""
        if self._starting:
            self._starting = False
            self.ground.starts.release()

    def _run(self) -> Course:
        began = time.monotonic()
        ours, theirs = socket.socketpair()
        with contextlib.closing(ours):
            with theirs:
                output = self.ground.folder.new_unit_dir(self.unit, self.number) / "pytest.log"
                self._process = self._start(output, theirs.fileno())
            if self._stopping:
                self.signal()
            follower = threading.Thread(target=self._follow, args=(ours,), daemon=True)
            follower.start()
            self._wait(began, ours)
            follower.join(1)
        self._close(time.monotonic() - began, output)
        course = self.ground.books.course(self.unit, self.number)
        assert course is not None
        return course

    def never_begun(self, problem: Exception | None = None) -> None:
        """The run was stopped before this stage, or it could not be begun: the record says which one the board did
        not get."""
        self._started()
        if problem is None:
            sentence = f"stopped before this {self.stage.task} began; what was done before it stands"
            self._ended(Outcome.ABORTED, None, sentence, 0.0)
        else:
            why = scrub(str(problem), self.ground.job.secrets) or type(problem).__name__
            sentence = f"this {self.stage.task} could not be begun ({why}); what was done before it stands"
            self._ended(Outcome.BLOCKED, "crashed", sentence, 0.0)

    # -- the process -----------------------------------------------------------------------------------

    def _start(self, output: Path, owner: int) -> Process:
        lock, words = self.ground.locks[self.slot.name], self.command(owner)
        with output.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            if self.ground.prefork is not None and self.stage.task != "suite" and tuple(words[:3]) == _PYTEST:
                with contextlib.suppress(OSError):  # it is gone: without it then
                    mine, name = [*words[3:], *QUIET], f"rig slot {self.slot.name}"
                    return self.ground.prefork.start(mine, name=name, output=file.fileno(), fds=[owner, lock])
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                pass_fds=[owner, lock],
                start_new_session=True,  # a Ctrl-C in the terminal is the station's to pass on
                env=environment(),
            )

    def command(self, owner: int) -> list[str]:
        """The unit's command line; `owner`: the descriptor by which it sees us go."""
        ground, job = self.ground, self.ground.job
        folder = ground.folder.unit_dir(self.unit, self.number)
        words = [
            *(*_PYTEST, "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"),
            *("-p", "no:unraisableexception"),  # it looks through all objects at the end: half a second of the CPU
            *self._suite(),
            *("--bench", str(ground.bench.path), "--slot", self.slot.name, *self._what()),
            *("--flasher", job.flasher, f"--unit={self.unit}", "--attempt", str(self.number)),
            *("--run-dir", str(ground.folder.path), "--station", str(ground.address), "--owner-fd", str(owner)),
            *("--slot-lock", str(ground.locks[self.slot.name])),
            *(f"--known-as={name}" for name in ground.books.known_as(self.unit)),
            *("--html", str(folder / "unit.html"), "--self-contained-html", "--backup", job.backup),
        ]
        words += ["--role", self.role] if self.role != "unit" else []
        words += [f"--operator={who}"] if (who := ground.operator()) else []
        if job.accept_no_backup:
            words += [f"--accept-no-backup={job.accept_no_backup}"]
        if job.no_boot_proof:
            words += ["--no-boot-proof"]
        if job.current_limit is not None:
            words += ["--current-limit", f"{job.current_limit:g}"]
        if job.limits:
            limits = {name: each.model_dump(mode="json", exclude_defaults=True) for name, each in job.limits.items()}
            words += [f"--limits={json.dumps(limits)}"]
        return words

    def _suite(self) -> list[str]:
        """Which tests, and by which configuration."""
        if self.stage.task == "suite":
            suite = str(self.ground.job.suite)
            return [*suite_words(Path(suite)), f"--suite={suite}"]
        lean = [word for plugin in _UNUSED for word in ("-p", f"no:{plugin}")]
        return [*lean, *OURS, str(ROOT / "tests_hil" / _SUITES.get(self.stage.task, "test_conversion.py"))]

    def _what(self) -> list[str]:
        """The options that say what is done, and with which content."""
        job, stage = self.ground.job, self.stage
        words = ["--task", stage.task]
        if stage.task == "restore":
            words += [f"--restore={job.backups[self.unit]}"]
        words += [f"--image={stage.image}"] if stage.image else []
        words += [f"--image-sha256={stage.image_sha256}"] if stage.image_sha256 else []
        words += [f"--override={rule}" for rule in job.overrides]
        if job.mac and stage.task == "recover":
            words += ["--mac", job.mac]
        if stage.task != "recover" and job.provision:
            words += [f"--provision={job.provision}"]
        if job.no_provision:
            words += ["--no-provision"]
        words += [f"--home={job.home}"] if job.home else []
        words += ["--no-home"] if job.no_home else []
        if stage.task == "burn-in" and (reboots := self.reboots or job.reboots):
            words += ["--reboots", str(reboots)]
        return words

    def _follow(self, connection: socket.socket) -> None:
        with connection.makefile("r", errors="replace") as lines, contextlib.suppress(OSError, ValueError):
            for line in lines:
                if line == ENDING:
                    self._ending.set()
                    continue
                what, done, total = line.rsplit(" ", 2)
                self.ground.on_progress(self.slot.name, self.unit, what, int(done), int(total))

    def _wait(self, began: float, owner: socket.socket) -> None:
        """Until the process ends. Once it is stopped, or a step takes too long, it has a grace, then it is killed.

        The grace is for its record, not for its output: its end of `owner` sees us go at once, and a thread of its
        own says so, switches off, whatever its steps hang in, and then ends them. Where nothing is said no thread of
        it runs (it is frozen, or hangs where Python cannot switch): it is killed, and its lease goes with it.
        """
        assert self._process is not None
        deadline: float | None = None
        answer = 0.0
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LOOK_S)
                return
            if self._starting and self.ground.books.course(self.unit, self.number) is not None:
                self._started_up()
            if deadline is None and not self._stopping:
                self._overran = self._too_long(began)
                if self._overran:
                    with contextlib.suppress(OSError):  # what it says of its end, once it has read its own
                        owner.sendall(self._overran.encode())
            if deadline is None and (self._overran or self._stopping):
                deadline, answer = time.monotonic() + GRACE_S, time.monotonic() + ANSWER_S
                with contextlib.suppress(OSError):  # it has gone
                    owner.shutdown(socket.SHUT_WR)
            if deadline is not None and time.monotonic() > (answer if self._is_mute() else deadline):
                self._process.kill()

    def _is_mute(self) -> bool:
        """It has begun, so that its output may be on, has not ended, and was not heard to do so."""
        course = self.ground.books.course(self.unit, self.number)
        return course is not None and course.outcome is None and not self._ending.is_set()

    def _too_long(self, began: float) -> str | None:
        """A sentence once the step under way, or what is between steps, takes longer than it may."""
        course, now = self.ground.books.course(self.unit, self.number), time.monotonic()
        if course is None:
            since, limit, what = began, BETWEEN_S, "its first step"
        elif course.phase is not None:
            since, limit = course.phase_began_ns / 1e9, course.limit_s or float("inf")
            what = f"the step {course.phase}"
        else:
            since, limit, what = max(began, course.last_ns / 1e9), BETWEEN_S, "what is between two steps"
        if now - since <= limit:
            return None
        return f"{what} was not over after {limit:g} s, so the unit's process was ended"

    # -- its end ---------------------------------------------------------------------------------------

    def _close(self, seconds: float, output: Path) -> None:
        """A unit that did not say how it ended gets its end here. What it said stands, however its process ended."""
        assert self._process is not None
        code = self._process.wait()
        self.ground.settle()
        course = self.ground.books.course(self.unit, self.number)
        if course is None:
            self._started()
        writing = course is not None and course.writing
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if course is not None and course.outcome is not None:
            if course.outcome.good and code != 0:
                text = f"the process of unit {self.unit} ended with {how} after it said {course.outcome}: that stands"
                self.ground.emit(events.Noted(unit=self.unit, slot=self.slot.name, level="warning", text=text))
        elif self._overran and not self._stopping:
            half = f"; {HALF_WRITTEN}" if writing else ""
            self._ended(Outcome.BLOCKED, "step-timeout", f"{self._overran}{half}", seconds)
        else:
            outcome, name = (Outcome.ABORTED if self._stopping else Outcome.BLOCKED), "crashed"
            if writing:
                outcome, name = Outcome.UNVERIFIED, "half-written"
            self._ended(outcome, name, f"the unit's process ended with {how}; {self._last_line(output)}", seconds)
        page = output.with_name("unit.html")
        if not page.exists() or not page.stat().st_size:
            text = f"unit {self.unit} has no page: {page} could not be written"
            self.ground.emit(events.Noted(unit=self.unit, slot=self.slot.name, level="warning", text=text))

    def _started(self) -> None:
        self.ground.emit(
            events.UnitStarted(
                **self._who,
                flasher=self.ground.job.flasher,
                task=self.stage.task,
                role=self.role,
                operator=self.ground.operator(),
                suite=str(self.ground.job.suite) if self.stage.task == "suite" else None,
            )
        )

    def _ended(self, outcome: Outcome, code: str | None, sentence: str, seconds: float) -> None:
        self.ground.emit(
            events.UnitEnded(
                **self._who,
                outcome=outcome,
                duration_s=seconds,
                code=code,
                sentence=sentence,
                supply_off_confirmed=self.ground.confirm_off(self.slot),
            )
        )

    def _last_line(self, output: Path) -> str:
        lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
        return f"its last line: {scrub(lines[-1], self.ground.job.secrets)[:200]}" if lines else "it printed nothing"
