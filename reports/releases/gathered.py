"""All that a study's report says, gathered from its files once: pages of any kind are made of this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reports.releases.difference import Difference, difference
from reports.releases.grid import BAD, Grid, Square, grid
from reports.releases.wire import Excerpt, excerpt
from rig.releases.design import stopping
from rig.releases.record import Record, read_record
from rig.releases.trial import Trial, read_trials
from rig.releases.verdict import Verdict, verdict

MOST_TRACES = 40  # shown in the page


@dataclass(frozen=True)
class Gathered:
    """`trials`: all on record; `missing`: how many of the schedule were not made and are missed."""

    run: Path
    record: Record
    trials: list[Trial]
    grid: Grid
    verdict: Verdict
    missing: int
    against: Difference | None

    @property
    def simulated(self) -> bool:
        return bool(self.record.bench.get("simulated"))

    @property
    def counts(self) -> Counter[str]:
        return Counter(str(trial.outcome) for trial in self.trials)

    @property
    def red(self) -> list[Square]:
        return [square for square in self.grid.squares if square.outcome in BAD]

    def first_wrong(self) -> Trial | None:
        """Of what is a regression the first, else of all that is wrong, in the order they were made."""
        worse = [*self.verdict.regressions, *self.verdict.suspected]
        places = {(each.release, each.task) for each in worse}
        found = [trial for trial in self.trials if trial.outcome in BAD]
        new = [each for each in found if (each.release, each.task) in places]
        return next(iter(new or found), None)

    def traces(self) -> list[Excerpt]:
        """Of every red square its first bad trial's, the first wrong run's first."""
        first = self.first_wrong()
        chosen = [square.bad[0] for square in self.red if square.bad]
        if first is not None:
            chosen = [first, *(trial for trial in chosen if trial is not first)]
        found = (excerpt(self.run, trial) for trial in chosen[:MOST_TRACES])
        return [each for each in found if each is not None]


def gather(run: Path, against: Path | None = None) -> Gathered:
    """Raises UsageProblem for what is no study's run."""
    record = read_record(run)
    trials = read_trials(run)
    made = grid(record, trials)
    other = None
    if against is not None:
        earlier = read_record(against)
        before = read_trials(against)
        other = difference(record, trials, made, earlier, before, grid(earlier, before))
    return Gathered(run, record, trials, made, verdict(trials, record.study), _missing(record, trials), other)


def _missing(record: Record, trials: Sequence[Trial]) -> int:
    """But for blocks of times that nobody needed any more."""
    made = {trial.n for trial in trials if trial.outcome != "blocked"}
    left = [spec for spec in record.schedule if spec.n not in made]
    enough = stopping(record.study, list(dict.fromkeys(spec.task for spec in record.schedule)))
    decided = {task for task in {spec.task for spec in left} if task.timed and enough(task, trials)}
    return sum(spec.task not in decided for spec in left)
