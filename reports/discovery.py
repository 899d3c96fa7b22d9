"""Which of many tests may be believed: false-discovery control, and the tests themselves, on plain arrays.

Every test here is conditional on what was drawn: it asks how the same outcomes, or the same numbers, would lie if
labels (slots, images, ...) were dealt out anew within strata. So it needs no normal distribution, takes ties and
tails as they are, and cannot take an effect of the stratum for one of the label.

- `share`: exact distribution of a count over strata (hypergeometric, convolved): Fisher's exact test, stratified.
- `levels`: Wilcoxon's rank sums over strata with tied ranks (van Elteren); exact where the sample is small.
- `trend`: Mann and Kendall's trend over cells. Its distribution is symmetrical whatever the ties, and has lighter
  tails than the normal one that is used: it errs to the side of silence.

Source of the methods: Fisher 1935; van Elteren 1960; Mann 1945, Hirsch and Slack 1984; Benjamini and Hochberg 1995;
Benjamini and Yekutieli 2001; Tarone 1990 for leaving out tests that could not have told anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammaln, ndtr

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HOPELESS = 1e-3  # a test that could not have come below this p, however its data lay, is not made (choice)
_EXACT_COUNT = 400  # more expected than that, or more strata than the next: a binomial of the same mean and variance
_EXACT_STRATA = 64
_EXACT_RANKS = 3_000_000  # cells of the table that an exact rank distribution may take
_EXACT_STRATUM = 80  # the largest stratum that one is made for
_MIDDLING = 0.05  # rank sums beyond this p are not worth the exact distribution


def benjamini_hochberg(p: Floats) -> Floats:
    """q-values of p-values, which are independent or positively dependent."""
    return _stepped_up(p, 1.0)


def benjamini_yekutieli(p: Floats) -> Floats:
    """q-values of p-values whatever their dependence: the price is the sum of 1/i over all tests."""
    return _stepped_up(p, float(np.sum(1.0 / np.arange(1, len(p) + 1))))


def _stepped_up(p: Floats, price: float) -> Floats:
    p = np.asarray(p, dtype=float)
    n = len(p)
    order = np.argsort(p, kind="stable")[::-1]
    scaled = p[order] * n * price / np.arange(n, 0, -1)
    q = np.empty(n)
    q[order] = np.minimum(np.minimum.accumulate(scaled), 1.0) if n else scaled
    return q


# -- counts --------------------------------------------------------------------------------------------


def share(strata: Ints, levels: Ints, hit: NDArray[np.bool_], n_levels: int) -> Floats:
    """For each level, the chance that it would have no fewer of the `hit` rows than it has, if within each stratum
    chance had dealt them: p, one-sided; NaN where the test could tell nothing."""
    found = np.full(n_levels, np.nan)
    size = int(strata.max()) + 1 if len(strata) else 0
    if not size or not hit.any():
        return found
    total = np.bincount(strata, minlength=size)
    hits = np.bincount(strata, weights=hit, minlength=size).astype(np.int64)
    cell = strata * n_levels + levels
    members = np.bincount(cell, minlength=size * n_levels).reshape(size, n_levels)
    own = np.bincount(cell, weights=hit, minlength=size * n_levels).reshape(size, n_levels).astype(np.int64)
    mixed = (members < total[:, None]) & (members > 0) & (hits > 0)[:, None] & (hits < total)[:, None]
    for level in range(n_levels):
        use = mixed[:, level]
        if use.any():
            found[level] = _count_p(total[use], hits[use], members[use, level], int(own[use, level].sum()))
    return found


def _count_p(total: Ints, hits: Ints, members: Ints, own: int) -> float:
    expected = hits * members / total
    if expected.sum() > _EXACT_COUNT or len(total) > _EXACT_STRATA:
        spread = expected * (1 - hits / total) * (total - members) / np.maximum(total - 1, 1)
        mean, chance = float(expected.sum()), 1 - float(spread.sum() / expected.sum())
        if mean < 1:  # could hardly be told from nothing
            return math.nan
        return float(betainc(own, max(mean / chance - own, 0.0) + 1, chance)) if own > 0 else 1.0
    low, masses = 0, np.ones(1)
    for n, k, m in zip(total.tolist(), hits.tolist(), members.tolist(), strict=True):
        first, part = _hypergeometric(n, k, m)
        low, masses = low + first, np.convolve(masses, part)
    if masses[-1] > HOPELESS:
        return math.nan
    return float(min(1.0, masses[max(0, own - low) :].sum()))


@lru_cache(maxsize=4096)
def _hypergeometric(n: int, k: int, m: int) -> tuple[int, Floats]:
    """(least, probabilities from there on) of how many of `k` among `n` are among `m` drawn."""
    low, high = max(0, m + k - n), min(m, k)
    x = np.arange(low, high + 1)
    logs = _choose(k, x) + _choose(n - k, m - x) - _choose(n, np.asarray(m))
    return low, np.exp(logs)


def _choose(n: int, k: NDArray[Any]) -> Floats:
    told: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return told


# -- levels --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Levels:
    """What `levels` found, one entry a level: p (two-sided, NaN: no test), which way (+1: higher than the others),
    and the chance that one of the level is above one of the others in its stratum (ties half)."""

    p: Floats
    way: Floats
    above: Floats


def levels(strata: Ints, own: Ints, values: Floats, n_levels: int) -> Levels:
    """Each level's values against the others' in the same stratum. No NaN among `values`."""
    p, way, above = (np.full(n_levels, np.nan) for _ in range(3))
    size = int(strata.max()) + 1 if len(strata) else 0
    if not size:
        return Levels(p, way, above)
    ranks = midranks(strata, values)
    total = np.bincount(strata, minlength=size)
    centred = ranks - (total[strata] + 1) / 2
    squares = np.bincount(strata, weights=centred**2, minlength=size)
    small = len(values) <= _EXACT_STRATUM * 4
    weight = np.ones(size) if small else 1.0 / (total + 1)
    cell = strata * n_levels + own
    members = np.bincount(cell, minlength=size * n_levels).reshape(size, n_levels)
    sums = np.bincount(cell, weights=centred, minlength=size * n_levels).reshape(size, n_levels)
    others = total[:, None] - members
    with np.errstate(divide="ignore", invalid="ignore"):
        part = squares / (total * np.maximum(total - 1, 1))
        spread = np.sqrt((weight**2 * part) @ (members * others))
        shift = weight @ sums
        step = np.where(shift == 0, 0.0, 0.5 * weight.min())
        z = np.maximum(np.abs(shift) - step, 0.0) / spread
        above[:] = 0.5 + (sums * (others > 0)).sum(axis=0) / np.maximum((members * others).sum(axis=0), 1)
    p = 2 * ndtr(-z)
    p[~(spread > 0)] = np.nan
    hope = np.array([_hope(total, members[:, level]) for level in range(n_levels)])
    p[hope > HOPELESS] = np.nan
    way = np.sign(shift)
    if small:
        for level in np.flatnonzero(p < _MIDDLING):
            exact = _rank_p(strata, ranks, own == level)
            if exact is not None:
                p[level] = exact
    return Levels(p, way, above)


def midranks(strata: Ints, values: Floats) -> Floats:
    """Rank of each value in its stratum from 1, equal ones sharing the middle of theirs."""
    order = np.lexsort((values, strata))
    s, v = strata[order], values[order]
    new = np.ones(len(v), dtype=bool)
    new[1:] = (s[1:] != s[:-1]) | (v[1:] != v[:-1])
    group = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(v)) - 1
    begin = np.ones(len(v), dtype=bool)
    begin[1:] = s[1:] != s[:-1]
    start = np.flatnonzero(begin)[np.cumsum(begin) - 1]
    ranks = np.empty(len(v))
    ranks[order] = ((first + last) / 2)[group] - start + 1
    return ranks


def _hope(total: Ints, members: Ints) -> float:
    """The least p that any arrangement could have: one of all ways to deal the labels."""
    use = (members > 0) & (members < total)
    n, m = total[use], members[use]
    return float(2 * np.exp(-np.sum(gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1))))


def _rank_p(strata: Ints, ranks: Floats, mine: NDArray[np.bool_]) -> float | None:
    """Exact two-sided p of the sum of ranks of `mine`; None where that would take too long."""
    low, masses, observed = 0, np.ones(1), 0
    for stratum in range(int(strata.max()) + 1):
        inside = strata == stratum
        n, m = int(inside.sum()), int((inside & mine).sum())
        if m in (0, n):
            continue
        doubled = np.rint(2 * ranks[inside]).astype(np.int64)
        observed += int(doubled[mine[inside]].sum())
        if n > _EXACT_STRATUM or n * min(m, n - m) * int(doubled.sum()) > 40 * _EXACT_RANKS:
            return None
        first, part = _rank_sums(tuple(np.sort(doubled).tolist()), m)
        low, masses = low + first, np.convolve(masses, part)
    at = observed - low
    return float(min(1.0, 2 * min(masses[: at + 1].sum(), masses[at:].sum())))


@lru_cache(maxsize=256)
def _rank_sums(scores: tuple[int, ...], m: int) -> tuple[int, Floats]:
    """(least, probabilities from there on) of the sum of `m` drawn from `scores`."""
    if m > len(scores) // 2:  # the others' sum tells the same
        first, part = _rank_sums(scores, len(scores) - m)
        return sum(scores) - (first + len(part) - 1), part[::-1]
    most = sum(scores[-m:])
    ways = np.zeros((m + 1, most + 1))
    ways[0, 0] = 1.0
    reach = 0
    for taken, score in enumerate(scores, 1):
        reach = min(most, reach + score)
        top = min(m, taken)
        ways[1 : top + 1, score : reach + 1] += ways[0:top, 0 : reach + 1 - score].copy()
    least = sum(scores[:m])
    found = ways[m, least:]
    return least, found / found.sum()


# -- trends --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trend:
    """Kendall's sum over pairs of a series in order: `s`, its variance by chance, and how many pairs there are."""

    s: float
    variance: float
    pairs: int

    def __add__(self, other: Trend) -> Trend:
        return Trend(self.s + other.s, self.variance + other.variance, self.pairs + other.pairs)

    @property
    def p(self) -> float:
        """Two-sided; NaN without a test."""
        if self.variance <= 0:
            return math.nan
        return float(2 * ndtr(-max(0.0, abs(self.s) - 1) / math.sqrt(self.variance)))

    @property
    def tau(self) -> float:
        return self.s / self.pairs if self.pairs else 0.0


NO_TREND = Trend(0.0, 0.0, 0)


def trend(values: Floats) -> Trend:
    """Of one series in its order; ties are allowed."""
    n = len(values)
    if n < 2:
        return NO_TREND
    first, second = _pairs_of(n)
    s = float(np.sign(values[second] - values[first]).sum())
    spread = float(n * (n - 1) * (2 * n + 5))
    ordered = np.sort(values)
    if (ordered[1:] == ordered[:-1]).any():
        _, ties = np.unique(values, return_counts=True)
        spread -= float((ties * (ties - 1.0) * (2 * ties + 5)).sum())
    return Trend(s, spread / 18, n * (n - 1) // 2)


@lru_cache(maxsize=128)
def _pairs_of(n: int) -> tuple[Ints, Ints]:
    first, second = np.triu_indices(n, 1)
    return first, second


def in_blocks(values: Floats, most: int) -> Floats:
    """A long series as at most `most` medians (means, where all are 0 or 1) of equal runs of neighbours, in order. A
    series that is exchangeable stays so. The rest that fills no block, at the beginning, is left out."""
    if len(values) <= most:
        return values
    size = -(-len(values) // most)
    kept = values[len(values) % size :].reshape(-1, size)
    if ((kept == 0) | (kept == 1)).all():
        means: Floats = kept.mean(axis=1)
        return means
    ordered = np.sort(kept, axis=1)
    blocks: Floats = (ordered[:, (size - 1) // 2] + ordered[:, size // 2]) / 2
    return blocks


def slope(values: Floats) -> float:
    """Theil and Sen's: the median change from one of the series to the next."""
    n = len(values)
    if n < 2:
        return 0.0
    first, second = np.triu_indices(n, 1)
    return float(np.median((values[second] - values[first]) / (second - first)))
