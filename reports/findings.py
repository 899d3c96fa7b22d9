"""Findings: what differs by more than chance and by enough to act on, and of what. The first screen of a report.

Every slot, image, station, flasher, baud, operator and run is compared with the others of its kind: how many units
failed, how many were blocked, by code too; slots and stations also in every number that was measured (images,
flashers and bauds in those that have limits: how fast an image is written is no finding about it); and slots, as the
whole bench, in what changes over the batch. Tests hold their level whatever the distribution (`discovery.py`).

Of all these tests together (hundreds) those are shown that survive Benjamini and Yekutieli's control at q = 0.05. Not
Benjamini and Hochberg's: that wants tests that are independent or positively dependent, while the tests of one slot
against the others pull against each other (one slot higher makes the rest lower) and the numbers of a unit hang
together in both directions. Where nothing is wrong, this shows anything in one batch of twenty at most; made-up clean
batches say one in a hundred or fewer.

Numbers of images, flashers and bauds are a family of their own, with a tenth of q: two programs mostly do differ, and
among many tests that rightly say so others would be let through with them.

Then, by choice: what is smaller than `LEAST` (finding_sizes.py) is true and yet no reason to do anything; what a
stronger finding explains is not said a second time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports import discovery
from reports.evidence import Evidence, Flags, Floats, evidence
from reports.finding_sizes import worth_saying
from reports.finding_tests import IN_LIMITS, Test, all_tests, drift_tests, level_tests, share_tests
from reports.once import once
from reports.tables import Records

Q = 0.05
_PROGRAMS = 0.1  # of q, for the family of numbers that programs differ in
SHOWN = 8  # findings on the first screen
MOST_ORDERS = 1000  # units named behind a finding


@dataclass(frozen=True)
class Finding:
    """One cause, said once. `what`: slot, image, station, flasher, baud, operator, run, or drift; `who`: its name;
    `measure`: what it shows in most clearly; `orders`: the attempts behind it."""

    sentence: str
    what: str
    who: str
    measure: str
    q: float
    n: int
    effect: str
    orders: list[int]
    action: str


@dataclass(frozen=True)
class Search:
    """What was looked for and what was found, strongest first."""

    found: list[Finding]
    tests: int
    survived: int  # of the tests, before the small and the explained were left out
    thinned: int  # boards for each one that was looked at


def findings(records: Records, *, q: float = Q) -> list[Finding]:
    """What survives false-discovery control over all tests made, strongest first, at most SHOWN."""
    return search(records, q=q).found[:SHOWN]


def tested(records: Records) -> int:
    """How many tests that takes."""
    return search(records).tests


def search(records: Records, *, q: float = Q) -> Search:
    """All of it. Asked again of the same records for the usual q, it is not computed again."""
    return _usual(records) if q == Q else _searched(records, q)


@once
def _usual(records: Records) -> Search:
    return _searched(records, Q)


def _searched(records: Records, q: float) -> Search:
    if not len(records.attempts):
        return Search([], 0, 0, 1)
    known = evidence(records)
    return decided(known, all_tests(known), q)


def decided(known: Evidence, tests: list[Test], q: float = Q) -> Search:
    """Which of these tests are believed, and what they come to."""
    from reports.finding_words import told

    if not tests:
        return Search([], 0, 0, known.thinned)
    p = np.array([test.p for test in tests])
    values = q_values(tests)
    kept = [at for at in np.argsort(p, kind="stable") if values[at] <= q]
    bar = float(p[kept].max()) if kept else 0.0
    strong = [(tests[at], float(values[at])) for at in kept if worth_saying(known, tests[at])]
    causes = _causes(known, strong, bar)
    return Search([told(known, cause) for cause in causes], len(tests), len(kept), known.thinned)


def q_values(tests: list[Test]) -> Floats:
    """Of all tests: each family by itself, at its part of q."""
    p = np.array([test.p for test in tests])
    programs = np.array([test.kind == "level" and test.factor is not None and test.factor.name in IN_LIMITS
                         for test in tests])  # fmt: skip
    found = np.ones(len(tests))
    for family, part in ((programs, _PROGRAMS), (~programs, 1 - _PROGRAMS)):
        found[family] = np.minimum(1.0, discovery.benjamini_yekutieli(p[family]) / part)
    return found


@dataclass
class Cause:
    """All that is said of one label: its tests, the strongest first, with their q."""

    tests: list[tuple[Test, float]]

    @property
    def first(self) -> Test:
        return self.tests[0][0]

    @property
    def q(self) -> float:
        return min(q for _, q in self.tests)

    def holds(self, test: Test) -> bool:
        first = self.first
        if test.factor is None or first.factor is None:
            return test.factor is first.factor and test.measure.topic == first.measure.topic
        return (test.factor.name, test.level) == (first.factor.name, first.level)


def _causes(known: Evidence, strong: list[tuple[Test, float]], bar: float) -> list[Cause]:
    """Strongest first: each test joins its label's cause, or is one of its own if it would still stand without the
    rows of the causes before it."""
    causes: list[Cause] = []
    for test, q in sorted(strong, key=lambda each: (each[0].p, -_matters(each[0]))):
        own = [cause for cause in causes if cause.holds(test)]
        if _explained(known, test, [cause for cause in causes if cause not in own], bar):
            continue
        if own:
            own[0].tests.append((test, q))
        else:
            causes.append(Cause([(test, q)]))
    return causes


def _matters(test: Test) -> float:
    """Of two slots one is slower and one faster, with the same p: named is the slower one."""
    return test.way if test.measure.is_share or test.measure.topic in ("time", "count") else 0.0


def _explained(known: Evidence, test: Test, causes: list[Cause], bar: float) -> bool:
    keep = np.ones(len(known.orders), dtype=bool)
    for cause in causes:
        if not test.measure.touches({each.measure.topic for each, _ in cause.tests}):
            continue
        factor = cause.first.factor
        if factor is None:
            if test.kind == "drift":
                return True
            continue
        held = test.factor is not None and factor.name in test.factor.within
        if not held or factor.name == "slot":  # what a slot does may change over time: no stratum holds that
            keep &= factor.codes != cause.first.level
    if keep.all():
        return False
    again = _again(known, test, keep)
    return np.isnan(again) or again > bar


def _again(known: Evidence, test: Test, keep: Flags) -> float:
    """The test's p on fewer rows; NaN where it cannot be made on them."""
    if test.kind == "drift":
        tests = drift_tests(known, test.measure, keep)
    else:
        assert test.factor is not None
        tests = (share_tests if test.kind == "share" else level_tests)(test.measure, test.factor, keep)
    same = [each for each in tests if (each.level, each.factor is None) == (test.level, test.factor is None)]
    return next((each.p for each in same if each.way == test.way), np.nan)
