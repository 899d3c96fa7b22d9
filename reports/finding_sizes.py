"""How large a difference is, and the least that is worth saying."""

from __future__ import annotations

import numpy as np

from reports import discovery
from reports.evidence import Evidence, Flags, Floats, Measure
from reports.finding_tests import IN_LIMITS, Test, labelled, series_of

LEAST = {
    # the least that is worth saying, whatever its certainty; with many units everything is certain. Choices.
    "share": 0.02,  # two units more in a hundred: below it one chases single boards
    "ratio": 1.5,  # and half as many again: two in a hundred more of forty is not that slot
    "time": 0.05,  # of the others' median: less is lost in how an operator works
    "unit": 0.01,  # and of what a whole unit takes: a short step may double and nobody waits longer for it
    "count": 0.2,  # retries, resets, stray bytes: so many more a unit, in the mean (their median is mostly 0)
    "limits": 0.05,  # of the width between the limits: half of what a gage may take of them (10 %)
    "quarter": 0.25,  # of that width, between images, flashers, bauds: two programs may differ, their units must fit
    "other": 0.05,  # of the others' median, where there are no limits
    "above": 0.14,  # so far from 1/2 is the chance that one of it is above one of the others (half a sigma)
    "tau": 0.2,  # of a change over time: Kendall's, so that it orders 60 of 100 pairs
}
_STRATA, _PAIRS = 40, 400


def worth_saying(known: Evidence, test: Test) -> bool:
    """Whether it is large enough (LEAST), and in a direction that anybody minds."""
    measure = test.measure
    if test.kind == "share":
        own, others = shares(known, test)
        return own - others >= LEAST["share"] and own >= LEAST["ratio"] * others
    if test.way < 0 and test.kind == "drift" and (measure.is_share or measure.topic == "time"):
        return False  # fewer failures, shorter times
    if test.kind == "level":
        shift = abs(levels_apart(known, test))
        own = test.factor is not None and test.factor.name in IN_LIMITS
        enough = LEAST["quarter"] * room(measure) if own else least(known, measure)
        return abs(test.size - 0.5) >= LEAST["above"] and shift >= enough
    if measure.is_share:
        early, late = halves(known, test)
        return late - early >= LEAST["share"]
    return test.size >= LEAST["tau"] and abs(change(known, test)) >= least(known, measure)


def least(known: Evidence, measure: Measure) -> float:
    """The least shift of a number that is worth saying, in its unit."""
    usual = abs(float(np.median(measure.values)))
    if measure.topic == "time":
        return max(LEAST["time"] * usual, LEAST["unit"] * known.unit_s)
    if measure.topic == "count":
        return LEAST["count"]
    return LEAST["limits"] * room(measure) if measure.limited else LEAST["other"] * usual


def room(measure: Measure) -> float:
    """The width between the limits; of a single limit, from the usual value to it."""
    usual = float(np.median(measure.values))
    low = usual if np.isnan(measure.minimum) else measure.minimum
    high = usual if np.isnan(measure.maximum) else measure.maximum
    return abs(high - low)


def mine(known: Evidence, test: Test) -> Flags:
    """Which of the measure's rows are of the test's label (of the whole bench: all)."""
    if test.factor is None:
        return np.ones(len(test.measure.rows), dtype=bool)
    found: Flags = test.factor.codes[test.measure.rows] == test.level
    return found


def telling(test: Test) -> Flags:
    """Which of the measure's rows tell something of a share: those of strata with the label and others in them, but
    not of those where every unit ended so: there no slot can be told from another."""
    assert test.factor is not None
    codes = test.factor.codes[test.measure.rows]
    strata = test.factor.strata[test.measure.rows]
    named = codes >= 0
    total, own, hits = (
        np.bincount(strata[named & flags], minlength=int(strata.max(initial=0)) + 1)
        for flags in (named, codes == test.level, test.measure.values > 0)
    )
    found: Flags = named & ((own > 0) & (own < total) & (hits < total))[strata]
    return found


def shares(known: Evidence, test: Test) -> tuple[float, float]:
    """The label's share (or mean), and the others', where they can be compared."""
    own, use = mine(known, test), telling(test)
    values = test.measure.values
    ours, theirs = (float(values[each].mean()) if each.any() else 0.0 for each in (own & use, ~own & use))
    return ours, theirs


def levels_apart(known: Evidence, test: Test) -> float:
    """How far the label's values lie from the others': the median over pairs of one stratum; of counts, by means."""
    if test.measure.topic == "count":
        own, others = shares(known, test)
        return own - others
    pairs = apart(test)
    return float(np.median(pairs)) if len(pairs) else 0.0


def apart(test: Test) -> Floats:
    """Differences between the label's values and the others', pairs of one stratum; of many pairs some."""
    assert test.factor is not None
    rows, codes, values = labelled(test.measure, test.factor, None)
    strata = test.factor.strata[rows]
    own = codes == test.level
    found: list[Floats] = []
    each = np.unique(strata[own])[:_STRATA]
    for stratum in each:
        inside = strata == stratum
        ours, theirs = values[inside & own], values[inside & ~own]
        if len(ours) and len(theirs):
            few = max(2, _PAIRS // len(each))
            found.append((_thin(ours, few)[:, None] - _thin(theirs, few)[None, :]).ravel())
    return np.concatenate(found) if found else np.empty(0)


def _thin(values: Floats, most: int) -> Floats:
    return values[:: max(1, -(-len(values) // most))]


def halves(known: Evidence, test: Test) -> tuple[float, float]:
    """The share in the first and in the second half of each series, together."""
    (early, n_early), (late, n_late) = halves_counted(known, test)
    return early / max(n_early, 1), late / max(n_late, 1)


def halves_counted(known: Evidence, test: Test, *, whole: bool = False) -> tuple[tuple[int, int], tuple[int, int]]:
    """(hits, units) in the first halves of the label's series, and in the second; `whole`: all is one series."""
    own = mine(known, test) & telling(test) if whole else mine(known, test)
    rows, values = test.measure.rows[own], test.measure.values[own]
    counts = [[0, 0], [0, 0]]
    cells = np.zeros(len(rows), dtype=np.int64) if whole else known.cells[rows]
    order = np.argsort(cells, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(cells[order])) + 1):
        middle = len(part) // 2
        for half, which in enumerate((part[:middle], part[middle:])):
            counts[half][0] += int(values[which].sum())
            counts[half][1] += len(which)
    return (counts[0][0], counts[0][1]), (counts[1][0], counts[1][1])


def change(known: Evidence, test: Test) -> float:
    """From the first unit of a series to its last, by Theil and Sen's slope: the mean of the label's series."""
    found = [
        (discovery.slope(series) * (len(series) - 1), len(series))
        for series, slot in series_of(known, test.measure)
        if test.level in (-1, slot)
    ]
    return float(np.average([each for each, _ in found], weights=[n for _, n in found])) if found else 0.0
