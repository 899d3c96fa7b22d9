"""What the bench spoiled, at the level that it belongs to: where a weak supply is what makes the bench fail, leaving
such trials out makes the level look better than it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from reports.power import names, outcomes
from reports.power.gathered import Gathered, Key, Run
from reports.releases.safe import shown
from rig.power.study import Part
from rig.power.trial import Trial


@dataclass(frozen=True)
class Spoiled:
    """`n` trials of one board, at one level, that the bench spoiled. `level`: "" of what has none. `counted`: how
    many others at it count, `bad`: those of these that were bad. `why`: of most of them."""

    run: Run = field(repr=False)
    part: str
    place: str
    level: str
    board: str
    n: int
    counted: int
    bad: int
    why: str

    @property
    def words(self) -> str:
        """Like: amps-in-a-row, conversion at 360 mA: 2 beside 46 that count."""
        where = f"{self.part}, {self.place}" + (f" at {self.level}" if self.level else "")
        return f"{where}: {self.n} beside {self.counted} that count"


@lru_cache(maxsize=4)
def rows(told: Gathered) -> list[Spoiled]:
    """In the order in which each level was first tried."""
    return [row for run in told.runs for row in _rows(run)]


def _rows(run: Run) -> Iterator[Spoiled]:
    parts = {part.name: part for part in run.record.study.parts}
    alike: dict[tuple[object, ...], list[Trial]] = {}
    for trial in run.trials:
        at = Key.of(trial.cell), tuple(sorted(trial.cell.x.items())), trial.board, trial.reference
        alike.setdefault(at, []).append(trial)
    for trials in alike.values():
        part = parts.get(Key.of(trials[0].cell).part)
        if part is not None and not all(trial.counted for trial in trials):
            yield _row(run, part, trials)


def _row(run: Run, part: Part, trials: list[Trial]) -> Spoiled:
    first = trials[0]
    mine = [trial for trial in trials if not trial.counted]
    counted = [trial for trial in trials if trial.counted and not trial.missed]
    level = ", ".join(names.amount(axis, value) for axis, value in first.cell.x.items())
    ((why, _),) = Counter(trial.why for trial in mine).most_common(1)
    return Spoiled(
        run, "reference" if first.reference else shown(part.name), outcomes.place_at(run, Key.of(first.cell)), level,
        first.board, len(mine), len(counted), sum(trial.outcome in part.bad for trial in counted), shown(why),
    )  # fmt: skip
