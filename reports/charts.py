"""Control charts: individuals with moving ranges (I-MR) and proportions (p), with the Western Electric rules.

The rules, each to one side of the centre, as the handbook of Western Electric (1956) has them: 1, a point beyond 3
sigma; 2, two of three points in a row beyond 2 sigma; 3, four of five beyond 1 sigma; 4, eight in a row on one side.
A hit is a point that completes a pattern: it takes part itself, and every further point that does is a hit of its
own. A point on a line is not beyond it.

How many hits chance alone would give is reckoned, not simulated, for points that are independent: from the normal
distribution for individuals, from each subgroup's binomial for proportions, with what it does that limits come from
the points themselves or from a short baseline. Rules 2 to 4 are not for moving ranges, which hang together and are
lopsided; they have rule 1 at their upper limit only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import NDArray
from scipy import special

from reports.capability import D2, sigma_freedom

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]
Complexes = NDArray[np.complex128]

D4 = 3.267  # upper limit of a range of two, in mean ranges, as the tables of control-chart constants have it
RULES = (1, 2, 3, 4)
RUN = 8  # points in a row of rule 4
_FEW = 12  # points below which their own centre is reckoned as if they were so many
_NORMAL = "reckoned for independent normal values with limits from themselves"
_ESTIMATED = "reckoned for independent normal values, over all limits that so short a baseline may give"
_BINOMIAL = "reckoned from each subgroup's binomial distribution, with limits from themselves"


@dataclass(frozen=True)
class Hit:
    """`index`: of the point that completes the pattern of `rule`."""

    rule: int
    index: int


class Hits(Sequence[Hit]):
    """Hits in order of their points, kept as two arrays: there may be a million."""

    def __init__(self, rules: Ints, indices: Ints) -> None:
        self.rules, self.indices = rules, indices

    def __len__(self) -> int:
        return len(self.rules)

    @overload
    def __getitem__(self, at: int) -> Hit: ...
    @overload
    def __getitem__(self, at: slice) -> Hits: ...
    def __getitem__(self, at: int | slice) -> Hit | Hits:
        if isinstance(at, slice):
            return Hits(self.rules[at], self.indices[at])
        return Hit(int(self.rules[at]), int(self.indices[at]))

    def __iter__(self) -> Iterator[Hit]:
        return map(Hit, self.rules.tolist(), self.indices.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Hits({list(self[:5])}{', ...' if len(self) > 5 else ''})"

    @property
    def places(self) -> Ints:
        """Indices with a hit, ascending, each once: hits are in order of their points."""
        at = self.indices
        found: Ints = at[np.append(True, at[1:] != at[:-1])] if len(at) else at
        return found

    def of(self, rule: int) -> Ints:
        """Indices of the points that complete this rule's pattern."""
        found: Ints = self.indices[self.rules == rule]
        return found

    def counts(self) -> dict[int, int]:
        return {rule: int(np.count_nonzero(self.rules == rule)) for rule in RULES}


@dataclass(frozen=True)
class Chart:
    """`points` has a place for each value given, NaN where there is none to plot; `n` are plotted. `lower`, `upper`
    and `sigma` are a number, or one for each point. `expected`: raw hits by chance alone, by rule; `method` says how
    they were reckoned, `note` why rules were not looked for."""

    points: Floats
    centre: float
    lower: float | Floats
    upper: float | Floats
    hits: Hits
    n: int
    expected: dict[int, float] = field(default_factory=dict)
    method: str = _NORMAL
    sigma: float | Floats = math.nan
    note: str | None = None

    @property
    def expected_by_chance(self) -> float:
        return sum(self.expected.values())


# -- the rules ---------------------------------------------------------------------------------------------


def western_electric(z: NDArray[np.floating]) -> Hits:
    """Rules 1 to 4 on points in sigmas from the centre, in time's order. What is no number is passed over."""
    points: Floats = np.asarray(z, dtype=np.float64)
    known = ~np.isnan(points)
    if known.all():
        return _hits(points)
    found = _hits(points[known])
    return Hits(found.rules, np.flatnonzero(known)[found.indices])


def _hits(z: Floats) -> Hits:
    patterns = [(z > 3) | (z < -3)]
    patterns.append(_two_of_three(z > 2) | _two_of_three(z < -2))
    patterns.append(_four_of_five(z > 1) | _four_of_five(z < -1))
    patterns.append(_run(z > 0) | _run(z < 0))
    some = np.flatnonzero(patterns[0] | patterns[1] | patterns[2] | patterns[3])
    table = np.stack([pattern[some] for pattern in patterns], axis=1)  # a row a point, so that hits come in order
    at, rule = np.nonzero(table)
    return Hits(np.array(RULES)[rule], some[at])


def _two_of_three(beyond: Bools) -> Bools:
    near = np.zeros_like(beyond)
    near[1:] = beyond[:-1]
    near[2:] |= beyond[:-2]
    return beyond & near


def _four_of_five(beyond: Bools) -> Bools:
    before = np.zeros(len(beyond), dtype=np.int8)
    for back in range(1, 5):
        before[back:] += beyond[:-back]
    return beyond & (before >= 3)


def _run(row: Bools) -> Bools:
    whole = np.zeros(len(row), dtype=np.bool_)
    if len(row) >= RUN:
        for step in (1, 2, 4):  # pairs, fours, eights
            row = row[step:] & row[:-step]
        whole[RUN - 1 :] = row
    return whole


# -- by chance ---------------------------------------------------------------------------------------------


def chance(n: int, baseline: int | None = None, *, own: bool = False) -> dict[int, float]:
    """Raw hits by rule that `n` points of a normal process that never moves would give: exact, for known limits.

    `baseline`: the limits come from so many other points (their mean, their mean moving range); they may be off and
    then give more hits: the mean over what they may be, sigma taken as chi-square with the freedom that it has.
    `own`: the limits come from the same points, to which these are a little closer; that gives fewer.
    """
    if not n:
        return dict.fromkeys(RULES, 0.0)
    if baseline is None:
        known = _alike(n, *_beyond(np.zeros(1), np.ones(1)), weights=np.ones(1))
        if not own:
            return known
        # what their own sigma does besides was not worked out: shares fitted to charts of 12 to 400 simulated points
        fit = {1: 1 - 1.65 / max(n, _FEW), 2: 1.0, 3: 1 - 4.7 / max(n, _FEW)}
        return {rule: known[rule] * fit[rule] for rule in fit} | {4: _own_centre(n)[4]}
    nodes, weights = _nodes()
    off = nodes[:, None] / math.sqrt(baseline)
    freedom = sigma_freedom(max(baseline, 2))
    shares = (np.arange(64) + 0.5) / 64
    sigmas = np.sqrt(special.chdtri(freedom, 1 - shares) / freedom)
    return _alike(n, *_beyond(off, sigmas), weights=weights[:, None] / len(shares))


def _own_centre(n: int) -> dict[int, float]:
    """Where the centre is the points' own mean, and sigma is known. Points less their own mean go with each other by
    -1/(n-1): as if all had a common shift with a negative variance, which complex numbers have."""
    nodes, weights = _nodes()
    return _alike(n, *_beyond(1j * nodes / math.sqrt(max(n, _FEW)), np.ones(1)), weights=weights)


def _nodes() -> tuple[Floats, Floats]:
    """Where to look at a normal distribution, and how much each place counts."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(31)
    return nodes, weights / weights.sum()


def _beyond(off: NDArray[np.inexact], sigma: Floats) -> list[Complexes]:
    """Probabilities that a normal point is 0, 1, 2, 3 sigmas above a centre that is `off` too high, for a sigma that
    was taken so large. `off` goes both ways alike, so one side tells of both."""
    return [special.erfc((off + k * sigma + 0j) / math.sqrt(2)) / 2 for k in range(4)]


def _alike(
    n: int, none: Complexes, one: Complexes, two: Complexes, three: Complexes, *, weights: Floats
) -> dict[int, float]:
    """Hits on both sides among `n` points that are alike, the first ones with fewer before them."""
    hits = {
        1: n * three,
        2: two**2 * (n >= 2) + max(n - 2, 0) * two * (1 - (1 - two) ** 2),
        3: one**4 * (n >= 4) + max(n - 4, 0) * one * (4 * one**3 * (1 - one) + one**4),
        4: max(n - RUN + 1, 0) * none**RUN,
    }
    return {rule: 2 * float(np.sum(weights * each).real) for rule, each in hits.items()}


def _unlike(none: Floats, one: Floats, two: Floats, three: Floats) -> dict[int, float]:
    """Hits on one side, from each point's own probabilities to be so many sigmas beyond the centre."""
    second = two * (1 - (1 - _back(two, 1)) * (1 - _back(two, 2)))
    a, b, c, d = (_back(one, back) for back in range(1, 5))
    three_of_four = a * b * c * (1 - d) + a * b * (1 - c) * d + a * (1 - b) * c * d + (1 - a) * b * c * d
    fourth = none.copy()
    for back in range(1, RUN):
        fourth *= _back(none, back)
    hits = (three, second, one * (three_of_four + a * b * c * d), fourth)
    return {rule: float(each.sum()) for rule, each in zip(RULES, hits, strict=True)}


def _back(p: Floats, by: int) -> Floats:
    """What it was `by` points before; 0 before the first."""
    earlier = np.zeros_like(p)
    if by < len(p):
        earlier[by:] = p[:-by]
    return earlier


# -- charts ------------------------------------------------------------------------------------------------


def individuals(values: NDArray[np.floating], *, baseline: slice | None = None) -> tuple[Chart, Chart]:
    """The charts of single values in time's order and of their moving ranges. What is no number is passed over.

    `baseline`: the values (as given) that the limits come from; None: all of them.
    """
    numbers = np.asarray(values, dtype=np.float64)
    at = np.flatnonzero(np.isfinite(numbers))
    if len(at) == len(numbers):
        points = known = numbers
        ranges = np.empty(len(numbers))
        ranges[:1] = np.nan
        np.abs(np.subtract(numbers[1:], numbers[:-1], out=ranges[1:]), out=ranges[1:])
    else:
        known = numbers[at]
        points, ranges = np.full(len(numbers), np.nan), np.full(len(numbers), np.nan)
        points[at] = known
        ranges[at[1:]] = np.abs(np.diff(known))
    source = known if baseline is None else numbers[baseline][np.isfinite(numbers[baseline])]
    if len(source) < 2:
        note = "Limits need two values or more."
        empty = _none(points, float(source.mean()) if len(source) else math.nan, math.nan, len(known), note)
        return empty, _none(ranges, math.nan, math.nan, max(len(known) - 1, 0), note)
    own = ranges[1:] if source is numbers else np.abs(np.diff(source))
    centre, mean_range = float(source.mean()), float(own.mean())
    if source.min() == source.max():
        note = f"The values that the limits come from are all {source[0]:g}: without a spread there are no limits."
        return (
            _none(points, float(source[0]), 0.0, len(known), note),
            _none(ranges, 0.0, 0.0, len(known) - 1, note),
        )
    sigma = mean_range / D2
    outside = len(known) - len(source)
    expected = chance(len(source), own=True)
    if outside > 0:
        more = chance(outside, len(source))
        expected = {rule: expected[rule] + more[rule] for rule in RULES}
    z = points - centre
    z /= sigma
    hits = western_electric(z)
    method = _ESTIMATED if outside > 0 else _NORMAL
    lower, upper = centre - 3 * sigma, centre + 3 * sigma
    chart = Chart(points, centre, lower, upper, hits, len(known), expected, method, sigma)
    return chart, _ranges(ranges, mean_range, len(known) - 1)


def _ranges(ranges: Floats, mean: float, n: int) -> Chart:
    beyond = np.flatnonzero(ranges > D4 * mean)
    hits = Hits(np.ones(len(beyond), dtype=np.intp), beyond)
    share = math.erfc(D4 * D2 / 2)  # |x - y| of two normal values has sigma root 2
    note = "Only rule 1 is for moving ranges: neighbours share a value."
    return Chart(ranges, mean, 0.0, D4 * mean, hits, n, {1: n * share}, _NORMAL, math.nan, note)


def proportions(good: NDArray[np.integer], n: NDArray[np.integer]) -> Chart:
    """The p chart of `good` of `n`, subgroup by subgroup in time's order, with limits for each one's own n.

    The rules are applied to points in sigmas of their own subgroup. One with n 0 is passed over.
    """
    sizes: NDArray[np.int64] = np.asarray(n, dtype=np.int64)
    some = sizes > 0
    points, sigma = np.full(len(sizes), np.nan), np.full(len(sizes), np.nan)
    points[some] = np.asarray(good)[some] / sizes[some]
    total = int(sizes.sum())
    if not total:
        return _none(points, math.nan, math.nan, 0, "There is no subgroup with a unit in it.")
    p = int(np.asarray(good).sum()) / total
    sigma[some] = np.sqrt(p * (1 - p) / sizes[some])
    lower, upper = np.clip(p - 3 * sigma, 0, 1), np.clip(p + 3 * sigma, 0, 1)
    if p in (0, 1):
        note = f"All {total} are {'good' if p else 'bad'}: without a spread there are no limits."
        return Chart(points, p, lower, upper, _no_hits(), int(some.sum()), {}, _BINOMIAL, sigma, note)
    z = (points - p) / sigma
    z[np.abs(z) < 1e-9] = 0.0  # on the centre line, but for rounding
    expected = _binomial(p, sizes[some])
    return Chart(points, p, lower, upper, western_electric(z), int(some.sum()), expected, _BINOMIAL, sigma)


def _binomial(p: float, n: NDArray[np.int64]) -> dict[int, float]:
    sizes, which = np.unique(n, return_inverse=True)
    up, down = [], []
    for k in range(4):
        reach = k * np.sqrt(sizes * p * (1 - p))
        most, least = np.floor(_whole(sizes * p + reach)), np.ceil(_whole(sizes * p - reach)) - 1
        above = np.where(most < sizes, special.bdtrc(np.minimum(most, sizes - 1), sizes, p), 0.0)
        below = np.where(least >= 0, special.bdtr(np.maximum(least, 0), sizes, p), 0.0)
        up.append(above[which])
        down.append(below[which])
    high, low = _unlike(*up), _unlike(*down)
    known, own = chance(len(n)), _own_centre(len(n))
    return {rule: (high[rule] + low[rule]) * (own[rule] / known[rule] if known[rule] else 1) for rule in RULES}


def _whole(counts: Floats) -> Floats:
    """Without what rounding has left of a whole number."""
    near = np.round(counts)
    return np.where(np.abs(counts - near) < 1e-9 * np.maximum(near, 1), near, counts)


def _no_hits() -> Hits:
    return Hits(np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))


def _none(points: Floats, centre: float, sigma: float, n: int, note: str) -> Chart:
    """A chart without limits."""
    return Chart(points, centre, centre, centre, _no_hits(), n, {}, _NORMAL, sigma, note)
