"""What a number of trials without a failure, or with few, says about the chance of one.

"It never failed" is no number: after n good trials in a row the chance of a failure may still be 1 - alpha^(1/n),
about 3/n at 95 % (59 trials: 5 %, 299: 1 %, 2995: 0.1 %). Sources: Clopper and Pearson, Biometrika 26 (1934) 404; of
the rule of three: Hanley and Lippman-Hand, JAMA 249 (1983) 1743.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from rig.errors import UsageProblem


def zero_failures(n: int, confidence: float = 0.95) -> float:
    """The greatest chance of a failure that n trials without one leave, one-sided. 1 for n = 0."""
    return upper_bound(0, n, confidence)


def upper_bound(failures: int, n: int, confidence: float = 0.95) -> float:
    """The greatest chance of a failure that so many of n leave, one-sided and exact."""
    _checked(failures, n, confidence)
    if failures == n:
        return 1.0
    if failures == 0:
        return -math.expm1(math.log1p(-confidence) / n)
    return _root(lambda share: _at_least(failures + 1, n, share) - confidence)


def clopper_pearson(failures: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of the chance of a failure. (0, 1) for n = 0. Of any n, thousands as well."""
    _checked(failures, n, confidence)
    high = upper_bound(failures, n, (1 + confidence) / 2)
    return 1 - upper_bound(n - failures, n, (1 + confidence) / 2), high


def in_a_row(most: float, confidence: float = 0.95) -> int:
    """How many trials without a failure say that the chance of one is `most` at most: 59 for 5 %, 29 for 10 %.

    Raises UsageProblem for a chance or a confidence that is none.
    """
    if not 0 < most < 1:
        raise UsageProblem(f"a chance of failing lies between 0 and 1, not at {most:g}")
    _checked(0, 1, confidence)
    return math.ceil(math.log1p(-confidence) / math.log1p(-most) - 1e-9)


def _checked(failures: int, n: int, confidence: float) -> None:
    if not 0 <= failures <= n:
        raise UsageProblem(f"{failures} failures of {n} trials is no count")
    if not 0 < confidence < 1:
        raise UsageProblem(f"a confidence lies between 0 and 1, not at {confidence:g}")


def _at_least(hits: int, n: int, share: float) -> float:
    """The chance of so many hits or more, by logarithms: powers of small shares vanish and binomials overflow."""
    if hits <= 0 or share >= 1:
        return 1.0
    if share <= 0:
        return 0.0
    few = hits > n / 2
    k = np.arange(hits, n + 1) if few else np.arange(0, hits)
    logs = _log_choose(n)[k] + k * math.log(share) + (n - k) * math.log1p(-share)
    total = float(np.exp(logs).sum())
    return total if few else 1 - total


def _log_choose(n: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    return np.asarray(factorials[n] - factorials - factorials[::-1])


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
