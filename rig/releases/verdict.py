"""What a study found: how often each release was right at each task, and what is worse than the baseline.

Three kinds of regression, told apart. *In fact*: a flasher does the same each time, so what it did wrong in each of
two or more repetitions, and the baseline in none, is a difference that needs no p; how many repetitions it takes
follows from how often trials of the same study went another way than their repetitions. *Less reliable*: right less
often, by an exact paired test. *Slower*: by more than 2 %, by an exact paired test of times. A study of a release
against itself raises any alarm with a chance of 5 % at most, all kinds and comparisons together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rig.errors import UsageProblem
from rig.releases.compare import Comparison, compare, named
from rig.releases.design import ALPHA, ALPHA_FACT, ALPHA_SUCCESS, ALPHA_TIME, PRACTICAL, plan
from rig.releases.exact import clopper_pearson
from rig.releases.study import Study
from rig.releases.trial import Outcome, Task, Trial

BAD: tuple[Outcome, ...] = ("lies", "wrong", "crashes", "hangs")  # the worst first

State = Literal["green", "red", "grey"]


@dataclass(frozen=True)
class Cell:
    """A release at a task. `n` trials count, of which `counts` tells the outcomes, with those that do not count.
    `low`, `high`: exact 95 % interval of the share of successes (Clopper and Pearson). `state`: green if all that
    count were right, red if one was not, grey if none counts. `reason`: the first that was not right says why."""

    release: str
    task: Task
    counts: dict[str, int]
    n: int
    good: int
    low: float
    high: float
    state: State
    reason: str | None = None

    @property
    def operation(self) -> str:
        return self.task.operation

    @property
    def condition(self) -> str:
        return self.task.condition

    @property
    def baud(self) -> int:
        return self.task.baud

    @property
    def worst(self) -> str:
        """One word for the whole cell: its worst outcome, else what there was most of."""
        for outcome in BAD:
            if self.counts.get(outcome):
                return outcome
        return max(self.counts, key=lambda each: self.counts[each])


@dataclass(frozen=True)
class Verdict:
    """`suspected`: what was wrong each time it was tried, but too seldom tried to be a regression. `lines`: a line
    for each release. `plan`: what the study could find. `rate`: how often it would raise an alarm for nothing."""

    baseline: str
    cells: list[Cell]
    comparisons: list[Comparison]
    regressions: list[Comparison]
    suspected: list[Comparison]
    lines: dict[str, str]
    plan: str
    rate: str

    @property
    def alpha(self) -> float:
        """The chance of any alarm at all in a study of a release against itself, at most."""
        return ALPHA

    def unjudged(self, fail_on: str | None) -> list[str]:
        """Releases of which a study does not know what `fail_on` asks: no trial of theirs counts (one that was never
        installed has none), or, for `regression`, none can be compared with the baseline's."""
        judged = {cell.release for cell in self.cells if cell.n}
        if fail_on == "regression":
            judged &= {self.baseline} | {one.release for one in self.comparisons}
        return [title for title in self.lines if title not in judged]

    def ok(self, fail_on: str | None) -> bool:
        """Whether a study passes: `regression`: there is none; `wrong`: no trial of any release went wrong in any
        way; `lies`: none lied; None: always. Not to know is no pass. Raises UsageProblem for another word."""
        if fail_on is None:
            return True
        if fail_on not in ("regression", "wrong", "lies"):
            raise UsageProblem(f"a study can fail on regression, wrong or lies, not on {fail_on!r}")
        if self.unjudged(fail_on):
            return False
        if fail_on == "regression":
            return bool(self.comparisons) and not self.regressions
        bad = BAD if fail_on == "wrong" else ("lies",)
        return not any(cell.counts.get(outcome) for cell in self.cells for outcome in bad)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        flags = ("slower", "faster", "less_reliable", "in_fact", "suspected", "regression")
        return {
            "baseline": self.baseline,
            "plan": self.plan,
            "rate": self.rate,
            "releases": self.lines,
            "regressions": [
                {"release": each.release, **asdict(each.task), "kinds": list(each.kinds), "sentence": each.sentence}
                for each in self.regressions
            ],
            "alpha": self.alpha,
            "unjudged": self.unjudged(None),
            "suspected": [each.sentence for each in self.suspected],
            "cells": [_flat(cell) | {"worst": cell.worst} for cell in self.cells],
            "comparisons": [_flat(one) | {flag: getattr(one, flag) for flag in flags} for one in self.comparisons],
        }  # fmt: skip


def _flat(row: Cell | Comparison) -> dict[str, Any]:
    """With the task's fields beside its own."""
    found = asdict(row)
    task: dict[str, Any] = found.pop("task")
    return {"release": found.pop("release")} | task | found


def verdict(trials: Sequence[Trial], study: Study) -> Verdict:
    """Of all trials on record, in the order they were made."""
    tasks = list(dict.fromkeys(trial.task for trial in trials))
    rows, compared = cells(trials), compare(trials, study)
    return Verdict(
        baseline=study.base,
        cells=rows,
        comparisons=compared,
        regressions=[one for one in compared if one.regression],
        suspected=[one for one in compared if one.suspected and not one.regression],
        lines={title: _line(title, study.base, rows, compared) for title in study.titles},
        plan=plan(study, tasks),
        rate=f"A release compared with itself raises any alarm in {ALPHA:.0%} of studies at most: times "
        f"{ALPHA_TIME:.0%}, shares of successes {ALPHA_SUCCESS:.0%}, differences in fact {ALPHA_FACT:.0%}.",
    )


def cells(trials: Sequence[Trial]) -> list[Cell]:
    """By release and task, in the order in which they come up. What the bench spoiled is not counted."""
    found: dict[tuple[str, Task], list[Trial]] = {}
    for trial in trials:
        found.setdefault((trial.release, trial.task), []).append(trial)
    return [_cell(release, task, mine) for (release, task), mine in found.items()]


def to_confirm(trials: Sequence[Trial], study: Study) -> list[tuple[str, Task]]:
    """(release, task) of what was wrong each time and must be tried again, with the baseline, before it counts."""
    return [(one.release, one.task) for one in compare(trials, study) if one.suspected]


def _cell(release: str, task: Task, trials: Sequence[Trial]) -> Cell:
    counted = [trial for trial in trials if trial.counted]
    good = sum(trial.good for trial in counted)
    low, high = clopper_pearson(good, len(counted))
    state: State = "grey" if not counted else "green" if good == len(counted) else "red"
    wrong = next((trial for trial in counted or trials if not trial.good), None)
    counts = dict(Counter(trial.outcome for trial in trials))
    return Cell(
        release, task, {str(name): count for name, count in counts.items()}, len(counted), good, low, high, state,
        wrong.why if wrong is not None else None,
    )  # fmt: skip


# -- words ----------------------------------------------------------------------------------------------------------


def _line(title: str, baseline: str, rows: Sequence[Cell], compared: Sequence[Comparison]) -> str:
    mine = [cell for cell in rows if cell.release == title]
    judged = [cell for cell in mine if cell.state != "grey"]
    if mine and all(set(cell.counts) == {"not-installed"} for cell in mine):
        return f"not installed: {mine[0].reason}"
    said = [f"{sum(cell.state == 'green' for cell in judged)} of {len(judged)} right"]
    worst = Counter(cell.worst for cell in judged if cell.state == "red")
    words = {"lies": ("lies", "lie"), "wrong": ("wrong", "wrong"), "crashes": ("crashes", "crash"),
             "hangs": ("hangs", "hang")}  # fmt: skip
    said += [f"{worst[outcome]} {words[outcome][worst[outcome] > 1]}" for outcome in BAD if worst[outcome]]
    absent = sum("absent" in cell.counts for cell in mine)
    if absent:
        said.append(f"{absent} it does not have")
    if title == baseline:
        return f"{', '.join(said)}; the baseline"
    against = [one for one in compared if one.release == title]
    wrongs = [named(one.task) for one in against if one.in_fact or one.less_reliable]
    if wrongs:
        said.append(f"worse than {baseline} at {', '.join(wrongs)}")
    doubts = [named(one.task) for one in against if one.suspected and not one.regression]
    if doubts:
        said.append(f"perhaps worse, to be confirmed, at {', '.join(doubts)}")
    said += [f"{named(one.task)} {one.times}" for one in against if one.slower or one.faster]
    if not any(one.regression or one.suspected for one in against):
        said.append(f"nothing worse than {baseline} by {PRACTICAL:.0%} or in fact" if against else "not compared")
    return ", ".join(said)
