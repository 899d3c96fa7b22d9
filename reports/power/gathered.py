"""All that a report of supply studies says, gathered from their folders once: pages of any kind are made of this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from reports.releases.safe import shown
from rig.errors import UsageProblem
from rig.power.record import Place, Record, part_name, read_record
from rig.power.study import Part
from rig.power.trial import Cell, Trial, read_trials


@dataclass(frozen=True)
class Run:
    """One study's run."""

    folder: Path
    record: Record
    trials: list[Trial] = field(repr=False)

    @property
    def confidence(self) -> float:
        return self.record.study.confidence

    def place(self, slot: str) -> Place | None:
        return next((each for each in self.record.places if each.slot == slot), None)

    @property
    def firmware(self) -> str:
        """Name and version of what boards ran, as far as the record tells."""
        image = self.record.image
        told = [image[name] for name in ("firmware", "version") if image.get(name)]
        return shown(" ".join(told) or image.get("name") or "unknown firmware")

    def supply(self, slot: str) -> str:
        """Maker and model of the supply that fed a slot."""
        place = self.place(slot)
        told = [place.supply[name] for name in ("maker", "model") if place.supply.get(name)] if place else []
        return shown(" ".join(told) or "unknown supply")


@dataclass(frozen=True)
class Key:
    """What a series of trials repeats, but for the axes."""

    part: str
    activity: str
    phase: str | None
    source: str | None

    @classmethod
    def of(cls, cell: Cell) -> Key:
        return cls(part_name(cell), cell.activity, cell.phase, cell.source)


@dataclass(frozen=True)
class Series:
    """Trials of one part of one study, at one phase or on one source: those that count, without references and those
    whose wave never fired."""

    run: Run
    part: Part
    key: Key
    trials: list[Trial] = field(repr=False)

    @property
    def bad(self) -> list[Trial]:
        return [trial for trial in self.trials if self.is_bad(trial)]

    def is_bad(self, trial: Trial) -> bool:
        return trial.outcome in self.part.bad

    @cached_property
    def boards(self) -> list[str]:
        return list(dict.fromkeys(trial.board for trial in self.trials))

    @cached_property
    def spoiled(self) -> list[Trial]:
        """Those that the bench spoiled, of any board: made again, and not among `trials`."""
        every = (trial for trial in self.run.trials if not trial.counted and not trial.reference)
        return [trial for trial in every if Key.of(trial.cell) == self.key]

    def of_board(self, board: str) -> Series:
        return Series(self.run, self.part, self.key, [trial for trial in self.trials if trial.board == board])

    @property
    def counts(self) -> Counter[str]:
        return Counter(str(trial.outcome) for trial in self.trials)

    @property
    def held(self) -> bool:
        """The supply was held at volts and amps, and no wave was played."""
        return all(trial.cell.waveform is None for trial in self.trials)


@dataclass(frozen=True, eq=False)
class Gathered:
    """`runs` in the order they were named; `series` of all of them. One is only like itself, so that what is worked
    out of it can be kept."""

    runs: list[Run]
    series: list[Series]

    @property
    def trials(self) -> Iterator[Trial]:
        return (trial for run in self.runs for trial in run.trials)

    @property
    def references(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.reference and trial.counted]

    @property
    def judged(self) -> list[Trial]:
        return [trial for each in self.series for trial in each.trials]

    @property
    def blocked(self) -> int:
        return sum(not trial.counted for trial in self.trials)

    @property
    def simulated(self) -> bool:
        """Whether any of them is of a simulated bench."""
        return any(run.record.simulated for run in self.runs)

    def by_method(self, *methods: str) -> list[Series]:
        return [each for each in self.series if each.part.method in methods]


def gather(folders: Sequence[Path]) -> Gathered:
    """Raises UsageProblem for what is no supply study's run, and for one that is named twice."""
    runs: list[Run] = []
    for folder in folders:
        run = Run(folder, read_record(folder), read_trials(folder))
        if any(each.record.id == run.record.id for each in runs):
            raise UsageProblem(f"{folder} is the run {run.record.id}, which is named twice")
        runs.append(run)
    if not runs:
        raise UsageProblem("no run is named")
    return Gathered(runs, [each for run in runs for each in _series(run)])


def _series(run: Run) -> Iterator[Series]:
    """In the order of the study's parts, and in it of what was tried first."""
    found: dict[Key, list[Trial]] = {}
    for trial in run.trials:
        if trial.counted and not trial.reference and not trial.missed:
            found.setdefault(Key.of(trial.cell), []).append(trial)
    for part in run.record.study.parts:
        yield from (Series(run, part, key, trials) for key, trials in found.items() if key.part == part.name)


def several(values: Iterable[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(values))
