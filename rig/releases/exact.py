"""Exact tests for few paired trials: what chance alone does is counted out, no shape of noise is assumed.

In a block every release is put to the same task once, in random order on one board. Were two releases the same, it
would be as likely as not that either of them got either of the two results of a block, whatever drift, outliers or
slow boards are about. So all signs that the paired differences could have had are equally likely (Fisher's
randomisation test), and the chance of a result as bad as the one seen is counted. Sources: Fisher, The Design of
Experiments (1935), section 21; of looking repeatedly: Lan and DeMets, Biometrika 70 (1983) 659, with the spending
function like Pocock's; of discrete tests in a family: Tarone, Biometrics 46 (1990) 515, and Holm, Scand. J. Statist.
6 (1979) 65; of intervals of a share: Clopper and Pearson, Biometrika 26 (1934) 404.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_MOST_COUNTED = 12  # of more differences than these not all signs are counted, but so many drawn ones
_DRAWN = 1 << _MOST_COUNTED
_SEED = 20_250_101  # of the drawn ones: the same answer every time
# levels that p-values of repeated looks are told apart at: 5 % and what Holm makes of it, and some below
_LEVELS = sorted(
    {alpha / k for alpha in (0.05, 0.03, 0.01) for k in range(1, 49)} | {0.03 * 0.7**k for k in range(25)}
)
_TIE = 1e-12


def spent(share: float) -> float:
    """Which part of the error may be spent once `share` of all blocks are made: Lan and DeMets's like Pocock's."""
    return math.log(1 + (math.e - 1) * min(1.0, max(0.0, share)))


def sign_flip(differences: Sequence[float]) -> float:
    """p, one-sided: the share of all signs under which the sum is as great as it is or greater.

    Differences beyond their median size count as that: one outlier is a vote and no more. 1 for none.
    """
    if not any(differences):
        return 1.0
    values = np.asarray(differences, dtype=np.float64)
    return float(np.mean(_signs(values) @ _votes(np.abs(values)) >= _own(values) - _TIE))


def crossed(differences: Sequence[float], planned: int, alpha: float) -> bool:
    """Whether a look after any of these differences, in the order they came, found more than `alpha` allows.

    Looked at after each of them, of `planned` in all: what all looks together find under no difference is at most
    `alpha`, counted over all signs.
    """
    return any(differences) and _Looks(differences, planned, alpha).crossed(alpha)


def looked(differences: Sequence[float], planned: int) -> float:
    """p of looking after each difference, one-sided: the least level at which some look would have ended it.

    Above 5 % it is only said that it is above that.
    """
    if not any(differences):
        return 1.0
    looks = _Looks(differences, planned, _LEVELS[-1])
    if looks.least > _LEVELS[-1]:
        return min(1.0, looks.least)
    found = 1.0
    for alpha in reversed(_LEVELS):  # from the greatest down, as long as it is found: so that it grows with alpha
        if alpha < looks.least or not looks.crossed(alpha):
            break
        found = alpha
    return found


class _Looks:
    """The sums that all signs give at each look that can find something at level `most`. `least`: no level below it
    can be crossed."""

    def __init__(self, differences: Sequence[float], planned: int, most: float) -> None:
        values = np.asarray(differences, dtype=np.float64)
        signs = _signs(values)
        self._sums: list[tuple[float, Floats, float]] = []
        self.least = math.inf
        for n in range(1, len(values) + 1):
            share, part = spent(n / max(planned, len(values))), values[:n]
            if most * share * 2**n < 1:  # too few signs
                continue
            sums, own = signs[:, :n] @ _votes(np.abs(part)), _own(part) - _TIE
            self._sums.append((share, sums, own))
            self.least = min(self.least, float(np.mean(sums >= own)) / share)

    def crossed(self, alpha: float) -> bool:
        if alpha < self.least:
            return False
        ended: Flags = np.zeros(len(self._sums[0][1]), dtype=np.bool_)
        for share, sums, own in self._sums:
            may = math.floor(alpha * share * len(ended) + 1e-9) - int(ended.sum())
            if may < 1:
                continue
            going = np.sort(sums[~ended])[::-1]
            bound = _bound(going, may) if len(going) else math.inf
            if own >= bound - 2 * _TIE:
                return True
            ended |= sums >= bound - _TIE
        return False


def _bound(falling: Floats, may: int) -> float:
    """The least sum of which at most `may` are as great or greater; equal ones stay together. Above 0 always."""
    if may >= len(falling):
        return max(float(falling[-1]), _TIE * 4)
    kept = int(np.searchsorted(-falling, -falling[may] - 2 * _TIE))  # how many are greater than the first too many
    return max(float(falling[kept - 1]), _TIE * 4) if kept else math.inf


def _votes(sizes: Floats) -> Floats:
    some = sizes[sizes > 0]
    return np.minimum(sizes, np.median(some)) if len(some) else sizes


def _own(values: Floats) -> float:
    return float(np.sign(values) @ _votes(np.abs(values)))


def _signs(values: Floats) -> Floats:
    """A row for each choice of signs. Of many values drawn ones stand for all, and the ones seen are among them: what
    is counted with these is still a p (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39)."""
    if len(values) <= _MOST_COUNTED:
        return _all_signs(len(values))
    signs = _drawn_signs(len(values)).copy()
    signs[0] = np.where(values < 0, -1.0, 1.0)
    return signs


@cache
def _all_signs(n: int) -> Floats:
    bits = (np.arange(1 << n)[:, None] >> np.arange(n)[::-1]) & 1
    return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)


@cache
def _drawn_signs(n: int) -> Floats:
    drawn = np.random.default_rng(_SEED).integers(0, 2, (_DRAWN, n))
    return np.asarray(1.0 - 2.0 * drawn, dtype=np.float64)


# -- families -------------------------------------------------------------------------------------------------------


def capable(least: Sequence[float], alpha: float) -> list[bool]:
    """Which tests of a family take part: those whose least possible p can be small enough for as many as take part
    (Tarone). `least` must follow from the plan, never from results."""
    count = 1
    while sum(each <= alpha / count for each in least) > count:
        count += 1
    return [each <= alpha / count for each in least]


def holm(p: Sequence[float]) -> list[float]:
    """Corrected p: below alpha for any false alarm in the family with a chance of alpha at most."""
    found, worst = [1.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda each: p[each])):
        worst = max(worst, min(1.0, p[index] * (len(p) - rank)))
        found[index] = worst
    return found


# -- shares ---------------------------------------------------------------------------------------------------------


def clopper_pearson(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share, hits of n. (0, 1) for n = 0."""
    tail = (1 - confidence) / 2
    low = _root(lambda share: _at_least(hits, n, share) - tail) if hits else 0.0
    high = _root(lambda share: tail - (1 - _at_least(hits + 1, n, share))) if hits < n else 1.0
    return low, high


def _at_least(hits: int, n: int, share: float) -> float:
    return math.fsum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(hits, n + 1))


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
