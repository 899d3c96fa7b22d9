"""What a study asks of one board: its jobs in their order, and references between.

Pure: a plan knows its study, its place and the trials told, and nothing of benches. Told the same trials again it
stands where it stood.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from rig.errors import UsageProblem
from rig.power.cells import cell_of, reference_of
from rig.power.jobs import ConfirmJob, Job, ListJob, SearchJob, Values
from rig.power.outcome import GOOD
from rig.power.record import Place, Played, Record
from rig.power.study import Part, Study
from rig.power.trial import Cell, Phase, Trial

_FOLLOWED = ("wave", "nth", "delay_s", "volts", "amps")
_MOST_MISSED = 3  # waves in a row that never fired: their phase does not come


@dataclass(frozen=True)
class Asked:
    """A trial to be made."""

    cell: Cell
    reference: bool


class Plan:
    """The plan of the board at `place`. `out`: why the board is out of the study."""

    def __init__(self, study: Study, place: Place, sources: Sequence[Played] = ()) -> None:
        self.study, self.place = study, place
        self._sources = {each.name: each for each in sources}
        self.jobs = list(_jobs(study, place.slot))
        self.out: str | None = None
        self.told = 0
        self._given_up: dict[int, str] = {}  # jobs by their number
        self._missed = 0
        self._since = study.reference_every  # trials since the last reference; one comes first
        self._referred: set[str] = set()  # activities that had one
        self._last: Part | None = None  # part of the last trial
        self._asked: tuple[Asked, int | None, Values] | None = None

    @classmethod
    def of(cls, record: Record, slot: str, trials: Iterable[Trial] = ()) -> Plan:
        """As it stands after those of `trials` that are the slot's. Raises UsageProblem for another study's."""
        return cls(record.study, record.place(slot), record.sources).replay(
            sorted((each for each in trials if each.slot == slot), key=lambda each: each.n)
        )

    def next(self) -> Asked | None:
        """The trial to make now, the same until something is told. None: nothing is left, or it is out."""
        if self._asked is None:
            self._asked = self._choose()
        return None if self._asked is None else self._asked[0]

    def tell(self, trial: Trial) -> None:
        """What came of the trial asked for. One that the bench spoiled, or whose wave never fired, is asked again."""
        asked = self.next()
        if asked is None or (asked.cell, asked.reference) != (trial.cell, trial.reference):
            raise UsageProblem(f"trial {trial.n} on record is none that this study makes there: it has changed since")
        if not trial.counted:
            return
        assert self._asked is not None
        _, number, x = self._asked
        self._asked = None
        self.told += 1
        if trial.outcome == "dead":
            self.out = f"it is dead: {trial.why}"
        if number is None:
            self._since = 0
            self._referred.add(trial.cell.activity)
            if trial.outcome not in GOOD and self.out is None:
                self.out = f"its reference trial, with nothing done to the supply, is {trial.outcome}: {trial.why}"
            return
        self._since += 1
        job = self.jobs[number]
        self._last = job.part
        if trial.missed:
            self._missed += 1
            if self._missed >= _MOST_MISSED:
                self._give_up(number, f"its wave did not fire {_MOST_MISSED} times in a row: {trial.missed}")
                self._missed = 0
            return
        self._missed = 0
        job.tell(x, trial.outcome in job.part.bad)

    def replay(self, trials: Iterable[Trial]) -> Plan:
        """Told all of these, in their order. Returns itself."""
        for trial in trials:
            self.tell(trial)
        return self

    def why(self, job: Job) -> str | None:
        """Why a job is done or will not be; None: trials of it are left."""
        return self._given_up.get(self.jobs.index(job)) or job.why

    @property
    def left(self) -> int:
        """About how many trials the study still asks, `max_trials` apart."""
        left = sum(job.expected for number, job in enumerate(self.jobs) if number not in self._given_up)
        since = self._since if left or self._last is not None else 0
        return left + math.ceil((since + left) / self.study.reference_every)  # one each so many, and a last one

    @property
    def expected(self) -> int:
        """About how many trials will still be made."""
        if self.next() is None:
            return 0
        most = self.left if self.study.max_trials is None else min(self.left, self.study.max_trials - self.told)
        return max(1, most)

    def _give_up(self, number: int, why: str) -> None:
        """With a search goes the row that would have begun at its threshold."""
        for other, job in enumerate(self.jobs):
            if other == number or (isinstance(job, ConfirmJob) and job.after is self.jobs[number]):
                self._given_up[other] = why

    def _job(self) -> tuple[int, Job, Values] | None:
        for number, job in enumerate(self.jobs):
            if number not in self._given_up and (x := job.next()) is not None:
                return self._in_turn(job) or (number, job, x)
        return None

    def _in_turn(self, job: Job) -> tuple[int, Job, Values] | None:
        """Of a series' phases and sources the one that had fewest, so that a study that is stopped has each of them
        about equally often; None: it is no series."""
        if job.part.series is None:
            return None
        alike = [
            (other.made, number, other, x) for number, other in enumerate(self.jobs)
            if isinstance(other, ListJob) and other.part is job.part and number not in self._given_up
            and (x := other.next()) is not None
        ]  # fmt: skip
        _, number, one, x = min(alike, key=lambda each: each[:2])
        return number, one, x

    def _choose(self) -> tuple[Asked, int | None, Values] | None:
        if self.out is not None or (self.study.max_trials is not None and self.told >= self.study.max_trials):
            return None
        found = self._job()
        if found is None:
            return self._reference(self._last) if self._last is not None and self._since else None
        number, job, x = found
        if self._since >= self.study.reference_every or job.part.activity not in self._referred:
            return self._reference(job.part)
        source = self._sources[job.source] if job.source else None
        part = job.part
        if isinstance(job, ConfirmJob):  # but for its activity it is as in the part that it follows
            part = part.model_copy(update={name: getattr(job.after.part, name) for name in _FOLLOWED})
        return Asked(cell_of(self.study, part, self.place, source, job.phase, x), False), number, x

    def _reference(self, part: Part) -> tuple[Asked, None, Values]:
        return Asked(reference_of(self.study, part, self.place), True), None, {}


def _jobs(study: Study, slot: str) -> Iterator[Job]:
    """All of them, in the order in which they are done."""
    searches: dict[str, list[SearchJob]] = {}
    for part in study.parts:
        if part.confirm is not None:
            for search in searches[part.confirm.after]:
                yield ConfirmJob(part, "", search, study.confidence)
            continue
        phases: list[Phase | None] = [*part.phases] or [None]
        sources: list[str | None] = [*part.source_names] or [None]
        for phase, source in product(phases, sources):
            key = f"{study.seed}/{slot}/{part.name}/{phase or ''}/{source or ''}"
            if part.search is None:
                yield ListJob(part, phase, source, key)
                continue
            job = SearchJob(part, phase, source, key, study.confidence)
            searches.setdefault(part.name, []).append(job)
            yield job
