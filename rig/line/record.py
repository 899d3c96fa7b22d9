"""What one unit's attempt writes down: its events, in the words of the journal.

A step asks this object to measure, note or keep something; the event is durable when the call returns.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig.bench.product import Limits, Product
from rig.errors import Aborted, BenchBlocked, Coded, RigError, UnitFailed, no_room
from rig.image.planning.guard import Plan
from rig.records import events
from rig.records.backups import Backup
from rig.records.events import Event, Outcome
from rig.records.run import RunFolder
from rig.records.sink import EventSink
from rig.records.store import FOLDER, ArtifactStore, sha256_of
from rig.scrub import scrub

ENDING = "ending\n"  # a unit's word to its station: it has been told to end, and switches its output off now
HALF_WRITTEN = "the board is half written: its content is not known"


class Overran(KeyboardInterrupt):
    """The station ends this attempt: a step takes longer than it may. Its text is the sentence."""


@dataclass
class Verdict:
    """How an attempt stands: the worst so far, with the first thing that went wrong."""

    outcome: Outcome = Outcome.PASS
    code: str | None = None
    sentence: str | None = None

    def worsen(self, outcome: Outcome, code: str | None = None, sentence: str | None = None) -> None:
        """The first failure stays; a marginal one gives way to it."""
        if self.outcome is Outcome.PASS or (self.outcome is Outcome.MARGINAL and not outcome.good):
            self.outcome, self.code, self.sentence = outcome, code, sentence


def judged(problem: BaseException, secrets: Sequence[str] = ()) -> tuple[Outcome, str | None, str]:
    """What an exception says about a unit: outcome, failure code, sentence, without any of `secrets`."""
    sentence = scrub(str(problem).strip() or type(problem).__name__, secrets)
    if isinstance(problem, BenchBlocked):
        return Outcome.BLOCKED, problem.code, sentence
    if isinstance(problem, UnitFailed):
        return Outcome.FAIL, problem.code, sentence
    if isinstance(problem, Overran):
        return Outcome.BLOCKED, "step-timeout", sentence
    if isinstance(problem, Aborted | KeyboardInterrupt):
        return Outcome.ABORTED, None, sentence
    if isinstance(problem, Coded):
        return Outcome.FAIL, problem.code, sentence
    if isinstance(problem, RigError):
        return Outcome.BLOCKED, "crashed", sentence
    if no_room(problem):
        where = getattr(problem, "filename", None) or "the run's folder"
        return Outcome.BLOCKED, "disk-full", f"no space is left on the disk of {scrub(str(where), secrets)}"
    return Outcome.BLOCKED, "crashed", f"{type(problem).__name__}: {sentence}"


@dataclass
class UnitRecord:
    """One attempt at one unit. `folder` is its own in the run's folder; times are monotonic."""

    sink: EventSink
    run: RunFolder
    folder: Path
    unit: str
    slot: str
    attempt: int
    product: Product
    flasher: str = "native"
    task: events.Task = "convert"
    role: events.Role = "unit"
    operator: str | None = None
    suite: str | None = None  # of a task `suite`: whose tests these are
    known_as: tuple[str, ...] = ()  # by which identities the unit's board is known from its earlier attempts
    secrets: tuple[str, ...] = field(default=(), repr=False)  # in nothing that is written down
    phase_name: str = ""
    mac: str | None = None
    identity: str | None = None
    efuse: bytes | None = field(default=None, repr=False)
    supply_off: bool | None = None
    verdict: Verdict = field(default_factory=Verdict)
    measured: list[events.Measured] = field(default_factory=list)
    backup: Backup | None = None
    held: bytes | None = None  # all of the flash as this attempt found it
    complete: bool = False  # the last step was reached and passed
    half_written: bool = False  # writing began and was not verified
    _began: float = field(default_factory=time.monotonic)

    def _who(self) -> dict[str, Any]:
        return {"unit": self.unit, "slot": self.slot, "attempt": self.attempt}

    def emit(self, event: Event) -> None:
        self.sink.emit(event)

    # -- course ----------------------------------------------------------------------------------------

    def started(self) -> None:
        self._began = time.monotonic()
        self.emit(
            events.UnitStarted(
                **self._who(),
                flasher=self.flasher,
                task=self.task,
                role=self.role,
                operator=self.operator,
                suite=self.suite,
            )
        )

    @contextlib.contextmanager
    def phase(
        self,
        name: str,
        *,
        last: bool = False,
        limit_s: float | None = None,
        skips: tuple[type[BaseException], ...] = (),
    ) -> Iterator[None]:
        """A step: its beginning, its end with outcome and duration; what is raised in it decides the outcome.

        Without a `last` one that passed, an attempt is no pass, however it ended. `limit_s`: seconds after which the
        station ends the attempt. `skips`: what is raised by a step that leaves itself out.
        """
        self.phase_name = name
        began = time.monotonic()
        self.emit(events.PhaseStarted(**self._who(), phase=name, limit_s=limit_s))
        mark = len(self.measured)
        try:
            yield
        except skips:
            self._phase_over(name, None, began)
            raise
        except BaseException as problem:
            outcome, code, sentence = judged(problem, self.secrets)
            self.verdict.worsen(outcome, code, sentence)
            self._phase_over(name, outcome, began, code, sentence)
            raise
        marginal = any(event.outcome is Outcome.MARGINAL for event in self.measured[mark:])
        outcome = Outcome.MARGINAL if marginal else Outcome.PASS
        if marginal:
            self.verdict.worsen(outcome)
        self._phase_over(name, outcome, began)
        self.complete = self.complete or last

    def skipped(self, name: str) -> None:
        """A step that was not done because an earlier one failed."""
        self._phase_over(name, None, time.monotonic())

    def _phase_over(
        self, name: str, outcome: Outcome | None, began: float, code: str | None = None, sentence: str | None = None
    ) -> None:
        self.emit(
            events.PhaseEnded(
                **self._who(),
                phase=name,
                outcome=outcome,
                duration_s=time.monotonic() - began,
                code=code,
                sentence=sentence,
            )
        )

    def ended(self) -> None:
        """The end of the attempt: good only if its last step passed; a board left half written is said to be."""
        if self.verdict.outcome.good and not self.complete:
            self.verdict = Verdict(Outcome.BLOCKED, "crashed", "the attempt ended before its last step")
        if self.half_written and not self.verdict.outcome.good:
            if self.verdict.outcome is Outcome.ABORTED:
                self.verdict.code = "half-written"
            self.verdict.sentence = f"{self.verdict.sentence}; {HALF_WRITTEN}"
        self.emit(
            events.UnitEnded(
                **self._who(),
                outcome=self.verdict.outcome,
                duration_s=time.monotonic() - self._began,
                code=self.verdict.code,
                sentence=self.verdict.sentence,
                mac=self.mac,
                identity=self.identity,
                supply_off_confirmed=self.supply_off,
            )
        )

    # -- what is learned -------------------------------------------------------------------------------

    def measure(
        self,
        name: str,
        value: float | str | bool | None,
        unit: str = "",
        *,
        low: str | None = None,
        high: str | None = None,
        like: str | None = None,
    ) -> Outcome:
        """One number (or text), judged against the product's limits of that name (or of `like`), written once.

        A value outside its limits raises with the failure code `low` or `high` (below the minimum, or not
        measurable, `low`): BenchBlocked where that code blames the bench, else UnitFailed.
        """
        limits = self.product.limits.get(like or name) or Limits(unit=unit)
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        outcome = limits.judge(number) if limits.bounded else Outcome.PASS
        event = events.Measured(
            **self._who(),
            phase=self.phase_name,
            name=name,
            value=value,
            unit_of=limits.unit or unit,
            minimum=limits.minimum,
            maximum=limits.maximum,
            marginal_minimum=limits.marginal_minimum,
            marginal_maximum=limits.marginal_maximum,
            outcome=outcome,
        )
        self.measured.append(event)
        self.emit(event)
        if outcome is Outcome.FAIL:
            self._outside(name, number, limits, low, high)
        return outcome

    def _outside(self, name: str, value: float | None, limits: Limits, low: str | None, high: str | None) -> None:
        from rig.codes import CODES

        above = value is not None and limits.maximum is not None and value > limits.maximum
        code = (high if above else low) or high or low or "crashed"
        bound = limits.maximum if above or limits.minimum is None else limits.minimum
        measured = value is not None and value == value
        shown = f"is {value:.4g} {limits.unit}" if measured else "could not be measured"
        sentence = f"{name} {shown}" if bound is None else f"{name} {shown}, the limit is {bound:g} {limits.unit}"
        kind: type[Coded] = BenchBlocked if CODES[code].blames == "bench" else UnitFailed
        raise kind(code, sentence)

    def note(self, text: str, *, warning: bool = False, **details: Any) -> None:
        self.emit(
            events.Noted(
                unit=self.unit,
                slot=self.slot,
                level="warning" if warning else "info",
                text=scrub(text, self.secrets),
                details=details,
            )
        )

    def keep(self, name: str, path: Path) -> None:
        """A file in the unit's folder worth keeping, as it is now: it must not be written to any more."""
        if path.exists():
            try:
                digest = ArtifactStore(self.run.path.parent / FOLDER).put(path)
            except OSError as problem:
                digest = sha256_of(path)
                self.note(f"{path.name} is not in the artifact store: {problem.strerror}", warning=True)
            self.emit(events.ArtifactKept(**self._who(), name=name, path=self.run.relative(path), sha256=digest))

    def backup_kept(self, backup: Backup) -> None:
        """The board's backup is durable: after this returns, writing may be allowed."""
        self.backup = backup
        self.emit(
            events.BackupKept(
                **self._who(),
                identity=backup.identity,
                path=_from(self.run.path, backup.path),
                sha256=backup.sha256,
                size=backup.size,
            )
        )

    def planned(self, plan: Plan, image: str, image_sha256: str, contents: Sequence[tuple[int, bytes]]) -> None:
        """What is to be written to this board; each rule that was overridden and each choice is a note of its own."""
        pieces = [
            events.PlannedPiece(
                flash_offset=piece.flash_offset,
                length=piece.length,
                source_offset=piece.source_offset,
                what=piece.what,
                sha256=None if piece.source_offset is None else hashlib.sha256(content).hexdigest(),
            )
            for piece, (_, content) in zip(plan.pieces, contents, strict=True)
        ]
        for said in plan.overrides:
            self.note(f"overridden: {said}", warning=True, override=said.partition(":")[0])
        for text in plan.notes:
            self.note(text)
        self.emit(
            events.Planned(
                **self._who(),
                task=self.task,
                image=image,
                image_sha256=image_sha256,
                pieces=pieces,
                note=scrub(plan.note, self.secrets),
                notes=[scrub(text, self.secrets) for text in plan.notes],
                overrides=[scrub(said, self.secrets) for said in plan.overrides],
                mac=plan.mac,
            )
        )

    @contextlib.contextmanager
    def writing(self, image_sha256: str, ranges: Sequence[tuple[int, int]]) -> Iterator[Callable[[], None]]:
        """From here the board is half written, until the yielded function said that it was verified and that is on
        record. A stop may come at any line of this: then it is said to be half written rather than not."""
        verified = False

        def done() -> None:
            nonlocal verified
            verified = True

        self.half_written = True
        self.emit(events.WriteBegun(**self._who(), image_sha256=image_sha256, ranges=list(ranges)))
        yield done
        if verified:
            self.emit(events.WriteEnded(**self._who(), verified=True))
            self.half_written = False


def _from(folder: Path, path: Path) -> str:
    import os

    return os.path.relpath(path, folder)
