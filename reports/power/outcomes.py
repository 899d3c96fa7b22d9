"""How often each class of outcome came, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from reports.power import names
from reports.power.gathered import Gathered, Key, Run, Series
from reports.releases.safe import shown
from rig.power.trial import Trial


@dataclass(frozen=True)
class Row:
    """Outcomes of a series, or of all reference trials. `bad`: how many the study counts as bad."""

    part: str
    place: str
    counts: Counter[str]
    bad: int

    @property
    def n(self) -> int:
        return self.counts.total()


def rows(told: Gathered) -> list[Row]:
    """A row a series, references last; several runs' are told apart by the run."""
    found = [_row(told, each) for each in told.series]
    references = told.references
    if references:
        counts = Counter(str(trial.outcome) for trial in references)
        found.append(Row("reference", "undisturbed", counts, sum(not trial.good for trial in references)))
    return found


def _row(told: Gathered, series: Series) -> Row:
    part = shown(series.key.part)
    if len(told.runs) > 1:
        part = f"{shown(series.run.record.id)}: {part}"
    return Row(part, place_of(series), series.counts, len(series.bad))


def place_of(series: Series) -> str:
    """Phase or activity, and the source where there is one."""
    return place_at(series.run, series.key)


def place_at(run: Run, key: Key) -> str:
    """The same of what is no series."""
    where = names.at(key.activity, key.phase)
    return f"{where} on {_title(run, key.source)}" if key.source is not None else where


def source_title(series: Series) -> str:
    return _title(series.run, series.key.source)


def _title(run: Run, source: str | None) -> str:
    return shown(next((each.title for each in run.record.sources if each.name == source), source))


def seen(told: Gathered) -> list[str]:
    """Classes that came up at all, in order of severity."""
    counts = Counter(str(trial.outcome) for trial in told.trials)
    return [each for each in names.KINDS if counts[each]]


def failed_references(told: Gathered) -> list[Trial]:
    return [trial for trial in told.references if not trial.good]


def worst_of(trials: Sequence[Trial]) -> str | None:
    """The most severe class among them."""
    found = {str(trial.outcome) for trial in trials}
    return next((each for each in reversed(names.KINDS) if each in found), None)
