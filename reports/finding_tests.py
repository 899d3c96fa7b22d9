"""Every comparison that is made of some records, and its p: what findings are chosen from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports import discovery
from reports.discovery import Trend
from reports.evidence import Evidence, Factor, Flags, Floats, Ints, Measure

BLOCKS = 64  # points of a series that a change over time is looked for in
SHORTEST = 8  # units of a slot in a run, below which no change over time is looked for
BY_SIZE = ("slot", "station")  # compared in all numbers; the rest in those with limits
IN_LIMITS = ("image", "flasher", "baud")


@dataclass(frozen=True)
class Test:
    """One comparison that was made. `kind`: share, level, drift; `level` -1: the whole bench."""

    kind: str
    measure: Measure
    factor: Factor | None
    level: int
    p: float
    way: float
    size: float  # how clear it is, by its kind: 0.. for a share, chance to be above, Kendall's tau


def all_tests(known: Evidence) -> list[Test]:
    """Every test that could tell something, with its p."""
    tests: list[Test] = []
    for measure in known.measures:
        for factor in known.factors.values():
            if measure.is_share:
                if not measure.code or factor.name in ("slot", "station", "image"):
                    tests += share_tests(measure, factor)
            elif factor.name in BY_SIZE or (factor.name in IN_LIMITS and measure.limited):
                tests += level_tests(measure, factor)
        if not measure.code:
            tests += drift_tests(known, measure)
    return tests


def share_tests(measure: Measure, factor: Factor, keep: Flags | None = None) -> list[Test]:
    rows, codes, values = labelled(measure, factor, keep)
    p = discovery.share(factor.strata[rows], codes, values > 0, len(factor.labels))
    return [Test("share", measure, factor, int(at), float(p[at]), 1.0, 0.0) for at in np.flatnonzero(~np.isnan(p))]


def level_tests(measure: Measure, factor: Factor, keep: Flags | None = None) -> list[Test]:
    rows, codes, values = labelled(measure, factor, keep)
    strata = np.unique(factor.strata[rows], return_inverse=True)[1]
    found = discovery.levels(strata, codes, values, len(factor.labels))
    return [
        Test("level", measure, factor, int(at), float(found.p[at]), float(found.way[at]), float(found.above[at]))
        for at in np.flatnonzero(~np.isnan(found.p))
    ]


def labelled(measure: Measure, factor: Factor, keep: Flags | None) -> tuple[Ints, Ints, Floats]:
    """A measure's rows that have a label: rows, label numbers, values."""
    use = factor.codes[measure.rows] >= 0
    if keep is not None:
        use &= keep[measure.rows]
    rows = measure.rows[use]
    return rows, factor.codes[rows], measure.values[use]


def drift_tests(known: Evidence, measure: Measure, keep: Flags | None = None) -> list[Test]:
    """The whole bench's, and each slot's where there are several."""
    slots = known.factors.get("slot")
    by_slot: dict[int, Trend] = {}
    whole = discovery.NO_TREND
    for series, slot in series_of(known, measure, keep):
        found = discovery.trend(series)
        whole += found
        by_slot[slot] = by_slot.get(slot, discovery.NO_TREND) + found
    tests = [] if np.isnan(whole.p) else [_drift(measure, None, -1, whole)]
    if slots is not None:
        tests += [
            _drift(measure, slots, slot, each) for slot, each in sorted(by_slot.items()) if not np.isnan(each.p)
        ]
    return tests


def _drift(measure: Measure, factor: Factor | None, level: int, found: Trend) -> Test:
    return Test("drift", measure, factor, level, found.p, float(np.sign(found.s)), abs(found.tau))


def series_of(known: Evidence, measure: Measure, keep: Flags | None = None) -> list[tuple[Floats, int]]:
    """The measure over time in each cell, in at most BLOCKS points, with the cell's slot (0: there is only one)."""
    slots = known.factors.get("slot")
    rows, values = measure.rows, measure.values
    if keep is not None:
        use = keep[rows]
        rows, values = rows[use], values[use]
    cells = known.cells[rows]
    order = np.argsort(cells, kind="stable")  # rows are in order of time
    edges = np.flatnonzero(np.diff(cells[order])) + 1
    found = []
    for part in np.split(order, edges):
        series = values[part]
        if len(part) >= SHORTEST and (series != series[0]).any():
            slot = int(slots.codes[rows[part[0]]]) if slots is not None else 0
            found.append((discovery.in_blocks(series, BLOCKS), slot))
    return found
