"""How much supply is enough, in a sentence, out of the data alone: nothing is said that no trial or fit says.

For each axis of a supply that was held (volts, current limit): the level at which so many in a row were good, of the
worst board; where nothing was confirmed, the upper end of the interval of the level where one in a hundred is bad.
And what less does: the nearest level below at which most were bad, with its counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports.power import names, stopped
from reports.power.gathered import Gathered, Run, Series, several
from reports.power.rates import InARow, in_a_row
from reports.power.thresholds import Threshold, thresholds
from reports.text import number
from rig.power.trial import Trial

_DEMANDING = ("convert", "boot", "running", "flash", "link")  # what asks most of a supply comes first


@dataclass(frozen=True)
class Enough:
    """The least of `axis` that is enough for `activity`, `other` being what the other of volts and amps was then.

    `how`: `confirmed`: `good` in a row were good at it on the worst board; `fitted`: by the fit, not tried so often.
    `spoiled`: trials of that row that the bench spoiled, made again.
    `less`: (level, bad, n) of what is clearly too little; None where nothing was.
    """

    run: Run
    axis: str
    activity: str
    value: float
    other: float
    how: str
    good: int
    spoiled: int
    bound: float | None
    boards: int
    less: tuple[float, int, int] | None
    less_how: str

    @property
    def volts(self) -> float:
        return self.value if self.axis == "volts" else self.other

    @property
    def amps(self) -> float:
        return self.value if self.axis == "amps" else self.other


def enough(told: Gathered) -> list[Enough]:
    """For each run, activity and axis of a held supply; current limits first."""
    confirmed, fitted = in_a_row(told), thresholds(told)
    found: list[Enough] = []
    for run in told.runs:
        for axis in ("amps", "volts"):
            for activity in several(each.key.activity for each in told.series if each.run is run):
                made = _enough(run, axis, activity, confirmed, fitted, told)
                if made is not None:
                    found.append(made)
    return found


def _enough(
    run: Run, axis: str, activity: str, confirmed: Sequence[InARow], fitted: Sequence[Threshold], told: Gathered
) -> Enough | None:
    mine = [each for each in told.series if _of(each, run, activity) and each.key.source is None]
    tried = [
        (series, trial) for series in mine for trial in series.trials if list(trial.cell.x) == [axis]
    ]  # fmt: skip
    if not tried:
        return None
    rows = [each for each in confirmed if each.axis == axis and _of(each.series, run, activity)]
    fits = [each for each in fitted if each.axis == axis and _of(each.series, run, activity) and each.downwards]
    boards = several(trial.board for _, trial in tried)
    good, spoiled, bound, how = 0, 0, None, "fitted"
    if rows and all(each.confirmed for each in rows) and {each.board for each in rows} >= set(boards):
        worst = max(rows, key=lambda each: each.value)
        value, good, spoiled, bound, how = worst.value, worst.good, worst.spoiled, worst.bound, "confirmed"
    elif fits and all(each.known for each in fits):
        highest = max(fits, key=lambda each: each.rare.high)
        step = highest.fit.levels.step
        value = round(math.ceil(highest.rare.high / step - 1e-9) * step, 9)
        refused = [level for each in rows for level in each.refused]  # of rows that were not finished
        value = max([value, *(round(level + step, 9) for level in refused)])
        if value > highest.fit.levels.high:
            return None  # beyond all that was tried: nothing that is known to be enough
    else:
        return None
    others = [_other(axis, trial) for _, trial in tried]
    less, how_less = _less(run, axis, value, tried)
    return Enough(run, axis, activity, value, max(others), how, good, spoiled, bound, len(boards), less, how_less)


def _of(series: Series, run: Run, activity: str) -> bool:
    return series.run is run and series.key.activity == activity and series.held


def _other(axis: str, trial: Trial) -> float:
    return trial.cell.volts if axis == "amps" else trial.cell.amps


def _less(
    run: Run, axis: str, value: float, tried: Sequence[tuple[Series, Trial]]
) -> tuple[tuple[float, int, int] | None, str]:
    """Of levels below `value` at which most were bad the one with most bad ones (of several the nearest): level, bad,
    n; and in words how and where these failed, if it was the same each time."""
    below: dict[float, list[bool]] = {}
    for series, trial in tried:
        level = trial.cell.x[axis]
        if level < value:
            below.setdefault(level, []).append(series.is_bad(trial))
    counts = {level: (sum(each), len(each)) for level, each in below.items()}
    clear = {level: (bad, n) for level, (bad, n) in counts.items() if 2 * bad > n}
    if not clear:
        return None, ""
    level = max(clear, key=lambda each: (clear[each][0], each))
    bad, n = clear[level]
    kinds = several(names.TITLES[trial.outcome] for series, trial in tried if _bad_at(series, trial, axis, level))
    where = stopped.told(run, [trial for series, trial in tried if _bad_at(series, trial, axis, level)])
    return (level, bad, n), ", ".join([kinds[0]] * (len(kinds) == 1) + [where] * bool(where))


def _bad_at(series: Series, trial: Trial, axis: str, level: float) -> bool:
    return series.is_bad(trial) and trial.cell.x[axis] == level


def recommendation(told: Gathered) -> str:
    """Like: 3.3 V, at least 0.42 A limit (29 of 29 conversions in a row); 300 mA fails conversion in 37 of 40. Empty
    where the data say of no supply that it is enough."""
    return " ".join(_sentence(each) for each in what_counts(told))


def what_counts(told: Gathered) -> list[Enough]:
    """Of the activity that asks most of a supply, one an axis: over all runs the one whose board needs most."""
    found = enough(told)
    activity = next((each for each in _DEMANDING if any(one.activity == each for one in found)), "")
    rows = [each for each in found if each.activity == activity]
    return [_worst([each for each in rows if each.axis == axis]) for axis in several(each.axis for each in rows)]


def _worst(same: Sequence[Enough]) -> Enough:
    boards = several(trial.board for each in same for trial in each.run.trials)
    return replace(max(same, key=lambda each: each.value), boards=len(boards) if len(same) > 1 else same[0].boards)


def _sentence(each: Enough) -> str:
    if each.axis == "amps":
        head = f"{number(each.other)} V, at least {number(each.value)} A limit"
    else:
        head = f"At {number(each.other)} A limit, at least {number(each.value)} V"
    what = names.DONE.get(each.activity, "trials")
    proof = "by the fit, not tried often"
    if each.how == "confirmed":
        proof = f"{each.good} of {each.good} {what} in a row"
        proof += f", {each.spoiled} more spoiled by the bench" if each.spoiled else ""
    worst = f", the worst of {each.boards} boards" if each.boards > 1 else ""
    told = f"{head} ({proof}{worst})"
    if each.less is None:
        return f"{told}."
    level, bad, n = each.less
    amount = names.milliamps(level) if each.axis == "amps" else f"{number(level)} V"
    how = f" ({each.less_how})" if each.less_how else ""
    return f"{told}; {amount} fails {names.ACTIVITY.get(each.activity, each.activity)} in {bad} of {n}{how}."


def product_table(told: Gathered) -> str:
    """What a product's TOML may cite, ready to be copied; empty without a recommendation for a current limit."""
    rows = {each.axis: each for each in what_counts(told)}
    amps = rows.get("amps")
    if amps is None:
        return ""
    volts = rows["volts"].value if "volts" in rows else amps.other
    record = amps.run.record
    lines = [
        "[supply.study]", f"run = {json.dumps(record.id)}", f"date = {record.utc[:10]}", f"volts_min = {volts:g}",
        f"amps_min = {amps.value:g}", f"sentence = {json.dumps(recommendation(told)[:400])}",
    ]  # fmt: skip
    return "\n".join([*lines, "simulated = true        # no real board was measured"] if record.simulated else lines)
