"""The sentences of a report of supply studies."""

from __future__ import annotations

from collections.abc import Sequence

from reports.power import achieved, names, outcomes, spoiled
from reports.power.gathered import Gathered, Run, several
from reports.power.rates import InARow, Rate, Rated, Staircase, rates
from reports.power.recommend import recommendation
from reports.power.thresholds import Threshold, thresholds
from reports.releases.safe import shown
from reports.releases.words import count, listed
from reports.text import number
from rig.errors import UsageProblem
from rig.power.fit import Estimate
from rig.power.outcome import GOOD
from rig.power.plan import Plan
from rig.power.words import hurried

_SHA = 12  # digits shown
_MOST_SPOILED = 4  # levels in a remark; the table has all
_TELLING = ("its wave did not fire", "no level is good")  # why a job ended, where that is no result


def title(told: Gathered) -> str:
    studies = several(run.record.study.title for run in told.runs)
    return shown(studies[0]) if len(studies) == 1 else "Studies of supply failures"


def headline(told: Gathered) -> str:
    """What came of it, in a sentence or two, for the first line of everything."""
    if not told.judged:
        return "No trial is on record: nothing is known." if not told.blocked else "The bench spoiled every trial."
    found = recommendation(told) or _weakest(told) or _stairs(told)
    if found:
        return found
    bad = sum(len(each.bad) for each in told.series)
    n = len(told.judged)
    bound = Rate.of(bad, n, told.runs[0].confidence)
    if not bad:
        return f"Nothing happened in {count(n, 'trial')}: it does in {percent(bound.high)} of such at most."
    return f"{bad} of {count(n, 'trial')} were not as ever: {_kinds(told)}."


def _weakest(told: Gathered) -> str:
    """Of thresholds of waves: the phase that stands least, by part and axis."""
    found = [each for each in thresholds(told) if each.known and not each.series.held]
    if not found:
        return ""
    axis = found[0].axis
    worst = (max if found[0].downwards else min)(
        (each for each in found if each.axis == axis), key=lambda each: each.rare.value
    )
    return statement(worst)


def _stairs(told: Gathered) -> str:
    from reports.power.rates import staircases

    found = [each for each in staircases(told) if each.first_bad is not None]
    return staircase(max(found, key=lambda each: each.first_bad or 0.0)) if found else ""


def statement(each: Threshold) -> str:
    """A threshold in a sentence."""
    where = outcomes.place_of(each.series)
    part = shown(each.series.part.words.strip().rstrip("."))
    if each.fit.outside is not None:
        side = "below" if each.fit.outside == "below" else "above"
        end = each.fit.levels.low if side == "below" else each.fit.levels.high
        return f"{where}: the threshold lies {side} {names.amount(each.axis, end)} ({part})."
    half, rare = estimate(each.axis, each.fit.v50), estimate(each.axis, each.rare)
    return f"{_upper(where)}: half are not as ever at {half}, one in a hundred at {rare} ({part})."


def staircase(each: Staircase) -> str:
    if each.first_bad is None:
        return f"No level of the staircase did anything to board {shown(each.board)}."
    at = next(stair for stair in each.stairs if stair.volts == each.first_bad)
    worst = outcomes.worst_of(at.trials)
    kind = names.TITLES[worst] if worst else "bad"
    good = "" if each.last_good is None else f"; down to {number(each.last_good)} V nothing happens"
    return f"The first level that is not as ever is {number(each.first_bad)} V ({kind}){good}."


def estimate(axis: str, value: Estimate) -> str:
    """2.41 V (2.38 to 2.45)."""
    return f"{names.about(axis, value.value)} ({interval(axis, value)})"


def interval(axis: str, value: Estimate) -> str:
    low, high = names.about(axis, value.low), names.about(axis, value.high)
    of = low.rpartition(" ")[2]
    return f"{low.removesuffix(f' {of}')} to {high}" if high.endswith(f" {of}") else f"{low} to {high}"


def percent(share: float) -> str:
    """With as many digits as matter below one in a hundred."""
    return f"{share * 100:.2g} %" if share < 0.1 else f"{share * 100:.0f} %"


def rate(each: Rate) -> str:
    """3 of 20 (3.2 to 38 %); without a bad one: 0 of 20 (at most 14 %)."""
    if not each.bad:
        return f"0 of {each.n} (at most {percent(each.high)})"
    return f"{each.bad} of {each.n} ({percent(each.low).removesuffix(' %')} to {percent(each.high)})"


def source_verdict(each: Rated) -> str:
    """Whether a weak source is enough, as far as so many trials tell."""
    what = names.ACTIVITY.get(each.series.key.activity, each.series.key.activity)
    if each.rate.bad == each.rate.n:
        return f"not enough for {what}: fails each time"
    if each.rate.bad:
        return f"not enough for {what}: fails at times"
    return f"nothing failed; at most {percent(each.rate.high)} do"


def in_a_row(each: InARow) -> str:
    where = f"{names.amount(each.axis, each.value)}: {each.good} of {each.needed} in a row"
    if not each.confirmed:
        return f"{where}, not confirmed"
    return f"{where}; at most {percent(each.bound)} fail"


def remarks(told: Gathered) -> list[str]:
    """What a reader must know before trusting any of it."""
    found = []
    if told.simulated:
        all_of = all(run.record.simulated for run in told.runs)
        which = "Simulated bench" if all_of else f"Simulated bench in {listed(_simulated(told))}"
        found.append(
            f"{which}: no real board was measured. Thresholds are those of the simulation's constants, most of which "
            "are guesses; what is tested is the method."
        )
    found += several(doubt for run in told.runs if (doubt := hurried(run.record)) is not None)
    played, witnessed = achieved.measured(told)
    if played and not witnessed:
        found.append("No witness was on the rail: what the supply achieved is not measured, only what it was told.")
    elif witnessed < played:
        found.append(f"A witness saw {witnessed} of {played} waves; what the others came to is not measured.")
    for run in told.runs:
        found += _unfinished(run, len(told.runs) > 1)
    if told.blocked:
        found.append(_spoiled(told))
    skipped = sum(trial.counted and trial.missed is not None for trial in told.trials)
    if skipped:
        found.append(f"In {count(skipped, 'trial')} the phase that a wave waits for never came: counted nowhere.")
    widened = sum(bool((trial.commanded or {}).get("widened")) for trial in told.trials)
    if widened:
        found.append(f"In {count(widened, 'trial')} the wave was widened to what the supply can do.")
    found += several(each.fit.doubt for each in thresholds(told) if each.fit.doubt is not None)
    return found


def _spoiled(told: Gathered) -> str:
    every = spoiled.rows(told)
    where = "; ".join(each.words for each in every[:_MOST_SPOILED]) + ("; and more" * (len(every) > _MOST_SPOILED))
    return (
        f"The bench spoiled {count(told.blocked, 'trial')}: made again, and counted nowhere. Where a weak supply is "
        f"why, the level looks better than it is ({where})."
    )


def _simulated(told: Gathered) -> list[str]:
    return [shown(run.record.id) for run in told.runs if run.record.simulated]


def _unfinished(run: Run, named: bool) -> list[str]:
    """Boards that are out, what is left, waves that never fired."""
    found = []
    whose = f"Run {shown(run.record.id)}, slot" if named else "Slot"
    for place in run.record.places:
        try:
            plan = Plan.of(run.record, place.slot, run.trials)
        except UsageProblem as problem:
            found.append(f"{whose} {shown(place.slot)}: {shown(problem)}.")
            continue
        if plan.out is not None:
            found.append(f"{whose} {shown(place.slot)} is out of the study: {shown(plan.out)}.")
        elif plan.next() is not None:
            left = f"about {count(plan.expected, 'trial')} left"
            found.append(f"{whose} {shown(place.slot)} is not finished: {left}. What is missing may be what matters.")
        elif plan.left:
            found.append(f"{whose} {shown(place.slot)} ended at the {count(plan.told, 'trial')} it was given.")
        for job in plan.jobs:
            why = plan.why(job) or ""
            if why.startswith(_TELLING):
                at = f", {names.at(job.part.activity, job.phase)}" if job.phase else ""
                found.append(f"{whose} {shown(place.slot)}, part {shown(job.part.name)}{at}: {shown(why)}.")
    return found


def tiles(told: Gathered) -> list[tuple[str, str, str]]:
    """Figures at a glance: name, value, more."""
    boards = several(trial.board for trial in told.trials if trial.board)
    bad = sum(len(each.bad) for each in told.series)
    n = len(told.references)
    good = n - len(outcomes.failed_references(told))
    worst = outcomes.worst_of([trial for trial in told.trials if trial.counted])
    named = names.TITLES.get(worst, "–") if worst else "–"
    return [
        ("Trials", number(len(told.judged)), f"{count(len(boards), 'board')}, {bad} of the trials not as ever"),
        ("Worst outcome", named, names.MEANINGS.get(worst, "") if worst else ""),
        ("References", f"{good} of {n}", "as ever, with the supply undisturbed"),
    ]


def _kinds(told: Gathered) -> str:
    found = {kind: sum(each.counts[kind] for each in told.series) for kind in names.KINDS}
    return ", ".join(f"{n} {names.TITLES[kind]}" for kind, n in found.items() if n and kind not in GOOD)


def facts(told: Gathered) -> list[tuple[str, str]]:
    """How it was measured, a line each."""
    rows: list[tuple[str, str]] = []
    for run in told.runs:
        rows += _facts(run, f" {shown(run.record.id)}" if len(told.runs) > 1 else "")
    rows += [
        ("Bad", "all that is not as ever or late, unless a part of the study says otherwise"),
        ("Thresholds", "logistic with lapses, weak prior, fitted board by board; intervals are the posterior's"),
        ("Judged by", "the rig itself: flash read back through the ROM at the product's supply, and a boot"),
    ]
    return rows


def _facts(run: Run, which: str) -> list[tuple[str, str]]:
    record, study = run.record, run.record.study
    kind = "simulated" if record.simulated else "real"
    name = shown(record.bench.get("name", record.bench.get("spec", "?")))
    image = record.image
    rows = [
        (f"Study{which}", f"{shown(study.name)}, {shown(record.id)}, begun {shown(record.utc)}"),
        (f"Bench{which}", name if name == kind else f"{name} ({kind})"),
    ]
    for place in record.places:
        witness = (place.witness or {}).get("instrument") or (place.witness or {}).get("name")
        saw = shown(witness) if witness else ("a witness" if place.witness else "no witness")
        fed = f"{shown(place.product)}, {number(place.volts)} V, {number(place.amps)} A limit"
        rows.append((f"Slot {shown(place.slot)}{which}", f"{fed}; {run.supply(place.slot)}; {saw}"))
    if image:
        rows.append((f"Firmware{which}", f"{run.firmware}, {shown(image.get('name', '?'))} "
                                         f"(sha256 {shown(image.get('sha256', ''))[:_SHA]})"))  # fmt: skip
    speeds = sorted({trial.speed for trial in run.trials})
    if record.simulated and speeds:
        rows.append((f"Speed{which}", " and ".join(f"{number(speed)}×" for speed in speeds) + " real time"))
    often = f"a reference trial every {study.reference_every}"
    rows.append((f"Confidence{which}", f"{percent(study.confidence)}; order drawn (seed {study.seed}), {often}"))
    rig, python = record.rig.get("version", "?"), record.rig.get("python", "?")
    rows.append((f"Rig{which}", f"{shown(rig)}, Python {shown(python)}"))
    return rows


def wear(told: Gathered) -> list[tuple[str, str, int]]:
    """(board, sector, erases), the most worn first."""
    found: dict[tuple[str, str], int] = {}
    for trial in told.trials:
        for sector, erases in trial.erased.items():
            key = (shown(trial.board), shown(sector))
            found[key] = found.get(key, 0) + erases
    return [(board, sector, erases) for (board, sector), erases in sorted(found.items(), key=lambda each: -each[1])]


def source_rates(told: Gathered) -> list[Rated]:
    return [each for each in rates(told) if each.series.key.source is not None]


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def named_boards(rows: Sequence[Threshold]) -> bool:
    """Whether a table must say which board each row is of."""
    return len(several(each.board for each in rows)) > 1
