"""What a study came to, part by part and board by board, from its record and its trials alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rig.power.bounds import clopper_pearson, upper_bound
from rig.power.climb import Climbed
from rig.power.fit import Fit
from rig.power.jobs import ConfirmJob, Job, SearchJob
from rig.power.outcome import GOOD
from rig.power.plan import Plan
from rig.power.record import Played, Record, part_name
from rig.power.study import Part
from rig.power.trial import Trial


@dataclass(frozen=True)
class Found:
    """One job of a study at one board. `trials` are those that count for it: neither references, nor spoiled ones,
    nor those whose wave never fired. `spoiled`: by the bench, each made again.

    `axis`: what `fit` and `climbed` are in. `climbed`: of a part that confirms; its `level` None: none. `why`: why it
    is done, None while it is not.
    """

    part: Part
    slot: str
    board: str
    phase: str | None
    source: Played | None
    trials: list[Trial] = field(repr=False)
    spoiled: list[Trial] = field(repr=False)
    bad: int
    why: str | None
    axis: str | None = None
    fit: Fit | None = None
    climbed: Climbed | None = None

    @property
    def n(self) -> int:
        return len(self.trials)

    @property
    def counts(self) -> Counter[str]:
        """How often it came out how."""
        return Counter(trial.outcome for trial in self.trials)

    def as_dict(self, confidence: float) -> dict[str, Any]:
        """For JSON."""
        low, high = clopper_pearson(self.bad, self.n, confidence)
        return {
            "part": self.part.name, "method": self.part.method, "activity": self.part.activity, "slot": self.slot,
            "board": self.board, "phase": self.phase, "source": self.source.name if self.source else None,
            "n": self.n, "bad": self.bad, "spoiled": [trial.cell.x for trial in self.spoiled],
            "outcomes": dict(self.counts), "share": [low, high],
            "at_most": upper_bound(self.bad, self.n, confidence) if self.n else 1.0, "done": self.why,
            "axis": self.axis, "fit": self.fit.as_dict() if self.fit else None,
            "in_a_row": self.climbed.as_dict() if self.climbed else None,
        }  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """A board's whole study. `out`: why it is out of it. `left`: about how many trials are missing."""

    slot: str
    board: str
    trials: int
    references: int
    references_good: int
    out: str | None
    left: int
    found: list[Found]


def results(record: Record, trials: Sequence[Trial]) -> list[Ended]:
    """What each slot's board came to. Raises UsageProblem for trials that are not of this study."""
    return [_board(record, place.slot, trials) for place in record.places]


def found_in(record: Record, trials: Sequence[Trial]) -> list[Found]:
    """All jobs of all boards, in the order of the study."""
    return [found for board in results(record, trials) for found in board.found]


def _board(record: Record, slot: str, trials: Iterable[Trial]) -> Ended:
    own = sorted((trial for trial in trials if trial.slot == slot), key=lambda trial: trial.n)
    plan = Plan.of(record, slot, own)
    board = next((trial.board for trial in own if trial.board), "")
    references = [trial for trial in own if trial.reference and trial.counted]
    played = {each.name: each for each in record.sources}
    found = [_found(plan, job, slot, board, played, own) for job in plan.jobs]
    return Ended(
        slot, board, plan.told, len(references), sum(trial.outcome in GOOD for trial in references), plan.out,
        0 if plan.out else plan.left, found,
    )  # fmt: skip


def _found(plan: Plan, job: Job, slot: str, board: str, played: dict[str, Played], own: list[Trial]) -> Found:
    every = [trial for trial in own if _is_of(job, trial)]
    mine, spoiled = [each for each in every if each.counted], [each for each in every if not each.counted]
    bad = sum(trial.outcome in job.part.bad for trial in mine)
    fit, climbed, axis = None, None, None
    if isinstance(job, SearchJob):
        axis, fit = job.axis, job.search.result if job.search.trials else None
    elif isinstance(job, ConfirmJob):
        axis, climbed = job.after.axis, job.climb.result if job.climb is not None else None
    source = played.get(job.source) if job.source else None
    return Found(job.part, slot, board, job.phase, source, mine, spoiled, bad, plan.why(job), axis, fit, climbed)


def _is_of(job: Job, trial: Trial) -> bool:
    cell = trial.cell
    if trial.reference or (trial.counted and trial.missed):
        return False
    return (part_name(cell), cell.phase, cell.source) == (job.part.name, job.phase, job.source)
