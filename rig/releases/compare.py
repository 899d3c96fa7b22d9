"""A release against the baseline at one task: success by pairs, time by pairs, and where a slowdown comes from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from rig.releases.design import ALPHA_FACT, ALPHA_SUCCESS, ALPHA_TIME, FEWEST, PRACTICAL, Pair, log_ratios, paired
from rig.releases.exact import capable, holm, looked, sign_flip
from rig.releases.operations import NORMAL
from rig.releases.slowdown import bootstrap, where_from
from rig.releases.study import Study
from rig.releases.trial import GOOD, Outcome, Task, Trial

Kind = Literal["in fact", "less reliable", "slower"]

_FICKLE = 2  # trials of a task that went another way: it says nothing of other tasks


@dataclass(frozen=True)
class Comparison:
    """`pairs`: blocks in which both count; `good` and `base_good` of them went well. `worse` and `better`: of these,
    how many only the baseline or only the release got right. `success_p`: exact, one-sided, of that (McNemar);
    `success_q` after correction over the study, None where so few pairs can show nothing. `fact`: what the release
    always does and the baseline never, `confirmed_by` so many pairs, of `confirmed_at` that have to say so; `reason`:
    what was seen first.

    `ratio`: median of release's time over baseline's in `timed_pairs` pairs, of the time from first link reply to
    last reply; `low`, `high`: 95 % bootstrap interval over blocks, this comparison alone; `time_p`, `time_q`: exact,
    one-sided, of being slower, before and after correction. `slower`: by more than 2 %, the interval above 1, and
    `time_q` within its share of the study's error. `faster` is said without correction. `speed`: of the boards.
    """

    release: str
    baseline: str
    task: Task
    pairs: int
    good: int
    base_good: int
    worse: int
    better: int
    success_p: float
    success_q: float | None
    fact: str | None
    confirmed_by: int
    confirmed_at: int
    reason: str | None = None
    timed_pairs: int = 0
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    time_p: float | None = None
    time_q: float | None = None
    speed: float = 1.0
    explanation: str = ""

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
    def slower(self) -> bool:
        return (
            self.ratio is not None
            and self.low is not None
            and self.time_q is not None
            and self.ratio > 1 + PRACTICAL
            and self.low > 1
            and self.time_q <= ALPHA_TIME + 1e-12
        )

    @property
    def faster(self) -> bool:
        return (
            self.ratio is not None
            and self.high is not None
            and self.timed_pairs >= FEWEST
            and self.ratio < 1 / (1 + PRACTICAL)
            and self.high < 1
        )

    @property
    def less_reliable(self) -> bool:
        return self.success_q is not None and self.success_q <= ALPHA_SUCCESS + 1e-12

    @property
    def in_fact(self) -> bool:
        return self.fact is not None and self.confirmed_by >= self.confirmed_at

    @property
    def suspected(self) -> bool:
        """Seen each time it was tried, and not often enough yet."""
        return self.fact is not None and self.confirmed_by < self.confirmed_at

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """In which ways it is a regression."""
        found: dict[Kind, bool] = {
            "in fact": self.in_fact, "less reliable": self.less_reliable, "slower": self.slower
        }  # fmt: skip
        return tuple(kind for kind, yes in found.items() if yes)

    @property
    def regression(self) -> bool:
        return bool(self.kinds)

    @property
    def times(self) -> str:
        """ "5.1% slower (+4.2% to +6.0%, 12 pairs)"; empty where nothing was timed."""
        if self.ratio is None or self.low is None or self.high is None:
            return ""
        more = self.ratio - 1
        word = f"{abs(more):.1%} {'slower' if more > 0 else 'faster'}" if abs(more) >= 0.0005 else "as fast"
        clock = "" if self.speed == 1 else f", on a board {self.speed:g} times as fast as a real one"
        return f"{word} ({self.low - 1:+.1%} to {self.high - 1:+.1%}, {self.timed_pairs} pairs{clock})"

    @property
    def sentence(self) -> str:
        """What is worse, with its numbers and its reason; empty where nothing is, not even perhaps."""
        said = []
        if self.fact is not None:
            verb = "is wrong" if self.fact == "wrong" else self.fact
            doubt = "" if self.in_fact else f", which needs {self.confirmed_at} to count"
            said.append(f"{verb} {self.confirmed_by} of {self.confirmed_by} times, {self.baseline} never{doubt}: "
                        f"{self.reason}")  # fmt: skip
        elif self.less_reliable:
            said.append(
                f"is right less often: in {self.worse} of {self.pairs} pairs only {self.baseline} was right, in "
                f"{self.better} only it (p = {self.success_q:.2g} after correction): {self.reason}"
            )
        if self.slower:
            said.append(f"is {self.times} (p = {self.time_q:.2g} after correction): {self.explanation}")
        return f"{self.release}, {named(self.task)}: {'; '.join(said)}" if said else ""

    def __str__(self) -> str:
        return self.sentence


def named(task: Task) -> str:
    """A task in a sentence."""
    return task.operation if task.condition == NORMAL else f"{task.operation} ({task.condition})"


def compare(trials: Sequence[Trial], study: Study) -> list[Comparison]:
    """Every other release against the study's baseline, at each task at which a pair of both is on record.

    Corrections are over all that the study planned to compare, found or not.
    """
    tasks = list(dict.fromkeys(trial.task for trial in trials))
    by_task = {task: [trial for trial in trials if trial.task == task] for task in tasks}
    asked = [(release, task) for release in study.titles if release != study.base for task in tasks]
    needed = _repetitions(by_task, len(asked))
    draft: list[Comparison] = []
    for release, task in asked:
        pairs = paired(by_task[task], task, release, study.base)
        planned = study.pairs if task.timed else study.repeats
        looks = planned if task.timed and study.sequential else None
        found = _success(release, study.base, task, pairs, looks, needed[task])
        draft.append(_timed(found, pairs, looks) if task.timed else found)
    least = [0.5 ** (study.pairs if one.task.timed else study.repeats) for one in draft]
    able = [index for index, yes in enumerate(capable(least, ALPHA_SUCCESS)) if yes]
    success = dict(zip(able, holm([draft[index].success_p for index in able]), strict=True))
    timed = [index for index, one in enumerate(draft) if one.task.timed]
    times = dict(zip(timed, holm([draft[index].time_p or 1.0 for index in timed]), strict=True))
    whole = [
        replace(one, success_q=success.get(index), time_q=times[index] if one.time_p is not None else None)
        for index, one in enumerate(draft)
    ]
    return [one for one in whole if one.pairs]


def _p(differences: Sequence[float], planned: int | None) -> float:
    """`planned`: it was looked at after each of them, of so many; None: once."""
    return sign_flip(differences) if planned is None else looked(differences, planned)


# -- success --------------------------------------------------------------------------------------------------------


def _success(
    release: str, baseline: str, task: Task, pairs: Sequence[Pair], looks: int | None, needed: int
) -> Comparison:
    signs = [float(base.good) - float(new.good) for base, new in pairs]
    fact = _fact(pairs)
    return Comparison(
        release, baseline, task, len(pairs), sum(new.good for _, new in pairs), sum(base.good for base, _ in pairs),
        signs.count(1.0), signs.count(-1.0), _p(signs, looks), None, fact, len(pairs) if fact else 0, needed,
        next((new.why for _, new in pairs if not new.good), None), speed=pairs[0][1].speed if pairs else 1.0,
    )  # fmt: skip


def _rank(outcome: Outcome) -> int:
    """How bad. Who lies about a failure is worse than who owns up to it."""
    if outcome in GOOD:
        return 0
    return 2 if outcome == "lies" else 1


def _fact(pairs: Sequence[Pair]) -> str | None:
    """What the release does in every pair and the baseline in none, and is worse."""
    was, now = {base.outcome for base, _ in pairs}, {new.outcome for _, new in pairs}
    if len(was) != 1 or len(now) != 1:
        return None
    before, after = was.pop(), now.pop()
    return after if _rank(after) > _rank(before) else None


def _repetitions(by_task: dict[Task, list[Trial]], comparisons: int) -> dict[Task, int]:
    """How many pairs must agree before a difference counts as one in fact; 2 at least, of each task.

    A flasher does the same each time, a bench not quite. How often a trial went another way than its repetitions is
    taken from the study itself: of this task, or of all but those at which several did, whichever is worse. With as
    many accidents, all pairs of any of the study's comparisons must not agree with a chance above 1 %.
    """
    odd: dict[Task, tuple[int, int]] = {}
    for task, trials in by_task.items():
        of_release: dict[str, list[Outcome]] = {}
        for trial in trials:
            if trial.counted:
                of_release.setdefault(trial.release, []).append(trial.outcome)
        several = [outcomes for outcomes in of_release.values() if len(outcomes) > 1]
        usual = sum(Counter(outcomes).most_common(1)[0][1] for outcomes in several)
        total = sum(len(outcomes) for outcomes in several)
        odd[task] = (total - usual, total)
    steady = [each for each in odd.values() if each[0] < _FICKLE]
    anywhere = (sum(strays for strays, _ in steady) + 0.5) / (sum(total for _, total in steady) + 1)
    found = dict.fromkeys(odd, 2)
    if not any(total for _, total in odd.values()):  # nothing was made twice
        return found
    for task, (here, of) in odd.items():
        rate = min(0.5, max(anywhere, here / of if of else 0.0))
        coincidence = rate * (1 - rate)
        found[task] = max(2, math.ceil(math.log(ALPHA_FACT / max(1, comparisons)) / math.log(coincidence)))
    return found


# -- time -----------------------------------------------------------------------------------------------------------


def _timed(one: Comparison, pairs: Sequence[Pair], looks: int | None) -> Comparison:
    right = [(base, new) for base, new in pairs if base.good and new.good]
    ratios = log_ratios(right)
    if not ratios:
        return one
    middle = math.exp(median(ratios))
    low, high = bootstrap(ratios)
    return replace(
        one, timed_pairs=len(ratios), ratio=middle, low=low, high=high, time_p=_p(ratios, looks),
        explanation=where_from(right) if abs(math.log(middle)) > math.log1p(PRACTICAL) else "",
    )  # fmt: skip
