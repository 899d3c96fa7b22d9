"""What a study found, in sentences that a person can act on. All from its data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rig.power.outcome import OUTCOMES
from rig.power.record import Record
from rig.power.result import Ended, Found

_UNITS = {"volts": "V", "amps": "A", "nth": ""}  # all else is seconds
_DOES = {
    "link": ("link", "links"),
    "flash": ("write", "writes"),
    "boot": ("boot", "boots"),
    "convert": ("conversion", "conversions"),
    "running": ("run", "runs"),
}


def sentences(record: Record, boards: Iterable[Ended]) -> list[str]:
    """One or two for each part of each board, what is missing, and what stands against it all."""
    found = []
    boards = list(boards)
    for board in boards:
        who = f"Slot {board.slot}: " if len(boards) > 1 else ""
        found += [who + sentence_of(one, record.study.confidence) for one in board.found if one.n]
        if board.out is not None:
            found.append(f"{who}The board is out of the study: {board.out}.")
        elif board.left:
            missing = "1 trial is" if board.left == 1 else f"{board.left} trials are"
            found.append(f"{who}About {missing} missing: rig power --resume RUN goes on.")
    return [*found, *filter(None, [hurried(record)])]


def hurried(record: Record) -> str | None:
    """What stands against a simulated bench faster than the study asks for; None where nothing does."""
    speed = float(record.bench.get("speed", 1.0))
    if not record.simulated or speed <= record.study.speed:
        return None
    return (
        f"The bench is at {speed:g} times real speed, the study asks for {record.study.speed:g}: where a simulated "
        "board falls behind its rail, it seems to need more than it does."
    )


def sentence_of(found: Found, confidence: float) -> str:
    """What one job came to."""
    where = ", ".join(
        part for part in (found.part.name, found.phase, found.source.title if found.source else None) if part
    )
    return f"{where}: {_said(found, confidence)}{_spoiled(found)}"


def _said(found: Found, confidence: float) -> str:
    if found.part.method == "search":
        return _threshold(found)
    if found.part.method == "confirm":
        return _row(found)
    if found.part.method == "staircase":
        return _levels(found)
    return _counted(found, confidence)


def _spoiled(found: Found) -> str:
    """At which level: if it was the weak supply that spoiled them, the level looks better than it is."""
    n = Counter(", ".join(value(axis, at) for axis, at in trial.cell.x.items()) for trial in found.spoiled)
    if not n:
        return ""
    where = ", ".join(f"{times} at {level}" if level else f"{times}" for level, times in sorted(n.items()))
    return f" (besides, spoiled by the bench and made again: {where})"


def value(axis: str, number: float) -> str:
    """`0.245 A`."""
    return f"{number:.4g} {_UNITS.get(axis, 's')}".strip()


def _threshold(found: Found) -> str:
    fit, axis = found.fit, found.axis
    assert fit is not None
    assert axis is not None
    one, many = _DOES[found.part.activity]
    side = "below" if fit.downwards else "above"
    if fit.outside is not None:
        end = fit.levels.low if fit.outside == "below" else fit.levels.high
        good = (fit.outside == "below") == fit.downwards
        how = f"no threshold as far as {value(axis, end)}" if good else f"every {one} is bad up to {value(axis, end)}"
        return f"{how} ({_n(found)})"
    v50, v01 = fit.v50, fit.v_at(0.01)
    said = (
        f"half of all {many} are bad at {value(axis, v50.value)} ({fit.confidence:.0%} interval "
        f"{value(axis, v50.low)} to {value(axis, v50.high)}), more {side}; one in a hundred at "
        f"{value(axis, v01.value)} ({_n(found)})"
    )
    return f"{said}. {fit.doubt}" if fit.doubt else said


def _row(found: Found) -> str:
    climbed, axis = found.climbed, found.axis
    assert climbed is not None
    assert axis is not None
    _, many = _DOES[found.part.activity]
    if climbed.level is None and found.why is None:
        return f"under way ({_n(found)})"
    refuted = f"; not at {', '.join(value(axis, each) for each in climbed.refuted)}" if climbed.refuted else ""
    if climbed.level is None:
        return f"at no level are enough {many} in a row good{refuted}"
    return (
        f"{climbed.in_a_row} {many} in a row are good at {value(axis, climbed.level)}{refuted}: with "
        f"{climbed.confidence:.0%} confidence at most {climbed.most:.1%} of them fail there"
    )


def _counted(found: Found, confidence: float) -> str:
    one, many = _DOES[found.part.activity]
    told = found.as_dict(confidence)
    source = f"at {found.source.volts:g} V, {found.source.amps:g} A: " if found.source else ""
    if not found.bad:
        most = f"with {confidence:.0%} confidence at most {told['at_most']:.1%} are"
        return f"{source}none of {_some(found.n, one, many)} is bad: {most}"
    low, high = told["share"]
    return f"{source}{found.bad} of {_some(found.n, one, many)} bad ({low:.0%} to {high:.0%}): {_outcomes(found)}"


def _levels(found: Found) -> str:
    bad = [trial for trial in found.trials if trial.outcome in found.part.bad]
    if not bad:
        return f"as ever at every level ({_n(found)})"
    highest = max(trial.cell.x["volts"] for trial in bad)
    kinds = ", ".join(dict.fromkeys(trial.outcome for trial in bad if trial.cell.x["volts"] == highest))
    said = f"first affected at {highest:.3g} V ({kinds}); {_outcomes(found)}"
    fine = min((trial.cell.x["volts"] for trial in found.trials if trial.cell.x["volts"] > highest), default=None)
    return said if fine is None else f"as ever down to {fine:.3g} V, {said}"


def _outcomes(found: Found) -> str:
    counts: Counter[str] = found.counts
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome])


def _some(n: int, one: str, many: str) -> str:
    return f"{n} {one}" if n == 1 else f"{n} {many}"


def _n(found: Found) -> str:
    return f"{found.n} trial{'' if found.n == 1 else 's'}"
