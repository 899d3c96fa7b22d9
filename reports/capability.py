"""What a process can do beside its limits: Cp, Cpk, Pp and Ppk of numbers in the order they were measured.

Cp and Cpk use the spread from one value to the next (mean moving range / 1.128), Pp and Ppk that of all values; the
first is what the process could do if its level never moved. No index below 30 values. Intervals hold 95 % for normal
values: chi-square for Cp and Pp, Bissell's normal approximation for Cpk and Ppk (A. F. Bissell, "How reliable is your
capability index?", Applied Statistics 39, 1990), which has no shape but a bell's and can be a few percent short.

Where values are not normal, an index is a number without a meaning in parts per million. The warning needs both: a
test (D'Agostino and Pearson's K2, p < 0.01) and an effect (|skewness| > 0.5 or |excess kurtosis| > 1), for in a
million values any test finds something. What was observed outside the limits stands beside it, with what may be
claimed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

FEWEST = 30
D2 = 1.128  # mean range of two normal values in sigmas, as the tables of control-chart constants have it
_RANGE_VARIANCE = 2 - 4 / math.pi  # of such a range, in sigmas squared: 0.853 squared
# of two ranges that share a value: E|U||V| of two normals with variance 2 and correlation -1/2, less the mean squared
_SHARED = (4 / math.pi) * (math.sqrt(0.75) + 0.5 * math.asin(0.5) - 1)
_TAIL_FEWEST = 2000  # values from which the 0.135 % quantiles are seen and not made up
_STRANGE_P = 0.01
_MOVES = 1.5  # choice: sigma overall over sigma within; a level that stays gives 1, and of 30 values hardly ever 1.5


@dataclass(frozen=True)
class Index:
    """A capability index with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Tail:
    """What was seen outside the limits, whatever the values' shape. `at_most`: with 95 % confidence the true share is
    no higher (Clopper-Pearson, one-sided). `ppk`: like Ppk, with median and the 0.135 % and 99.865 % quantiles in
    place of mean and three sigmas (as ISO 22514-2 has it); None below 2000 values, which do not show those."""

    outside: int
    n: int
    at_most: float
    ppk: float | None


@dataclass(frozen=True)
class Capability:
    """`refused`: the sentence why there is no index; then all of them are None. Cp and Pp need both limits.

    Sigmas are NaN where there are no two values to compare. `skew` and `kurtosis` (excess) are what `warnings` speak
    of; `normal_p` is the p-value of the test, None where it was not made."""

    n: int
    mean: float
    sigma_within: float
    sigma_overall: float
    cp: Index | None = None
    cpk: Index | None = None
    pp: Index | None = None
    ppk: Index | None = None
    normal_p: float | None = None
    warnings: list[str] = field(default_factory=list)
    refused: str | None = None
    skew: float = math.nan
    kurtosis: float = math.nan
    tail: Tail | None = None


def capability(
    values: NDArray[np.floating],
    lower: float | None,
    upper: float | None,
    *,
    groups: NDArray[np.generic] | None = None,
    place: NDArray[np.intp] | None = None,
) -> Capability:
    """Capability of `values` (in time's order, of one unit) between the limits; what is no number is left out.

    `groups`: of each value, what it must be compared within (a slot): no moving range spans two of them. `place`: the
    places that sort `groups`, stably, for whoever knows them.
    """
    numbers = np.asarray(values, dtype=np.float64)
    known = np.isfinite(numbers)
    if not known.all():
        numbers, groups, place = numbers[known], None if groups is None else np.asarray(groups)[known], None
    n = len(numbers)
    mean = float(numbers.mean()) if n else math.nan
    within, freedom = sigma_within(numbers, groups, place)
    overall = float(numbers.std(ddof=1)) if n > 1 else math.nan
    if n > 1 and numbers.min() == numbers.max():
        within, overall = 0.0, 0.0  # not what rounding leaves of it
    refused = _refusal(numbers, overall, lower, upper)
    if refused is not None:
        return Capability(n, mean, within, overall, refused=refused)
    skew, kurtosis, p = shape(numbers)
    tail = _tail(numbers, lower, upper)
    warnings = [*_resolution(numbers, within), *_odd_shape(skew, kurtosis, p, tail)]
    cp = cpk = None
    if within > 0:
        cp, cpk = _indices(mean, within, n, freedom, lower, upper)
    else:
        warnings.append("Values that follow each other are alike, so there is no spread within: no Cp and no Cpk.")
    pp, ppk = _indices(mean, overall, n, n - 1, lower, upper)
    if overall > _MOVES * within > 0:
        warnings.append(
            f"The level moves: all values spread {overall / within:.1f} times as far as those that follow each "
            "other, so Ppk is what comes out and Cpk only what could."
        )
    return Capability(n, mean, within, overall, cp, cpk, pp, ppk, p, warnings, None, skew, kurtosis, tail)


def _refusal(numbers: Floats, overall: float, lower: float | None, upper: float | None) -> str | None:
    n = len(numbers)
    if lower is None and upper is None:
        return "There is no limit to compare the values with."
    if lower is not None and upper is not None and lower >= upper:
        return f"The limits {lower:g} and {upper:g} leave nothing between them."
    if n < FEWEST:
        return f"{n} value{'' if n == 1 else 's'}: too few, an index is not stated below {FEWEST}."
    if not overall > 0:
        return f"All {n} values are {numbers[0]:g}: there is no spread to compare with the limits."
    return None


def sigma_within(
    values: Floats, groups: NDArray[np.generic] | None = None, place: NDArray[np.intp] | None = None
) -> tuple[float, float]:
    """Mean moving range / 1.128, and the degrees of freedom that it is worth: those of a chi-square whose standard
    deviation varies as much. About 0.6 for each value, since neighbouring ranges share one. NaN and 0 below two."""
    if groups is None:
        ranges, joined = np.abs(np.diff(values)), max(len(values) - 2, 0)
    else:
        order = np.argsort(groups, kind="stable") if place is None else place
        sorted_groups = np.asarray(groups).take(order)
        alike = sorted_groups[1:] == sorted_groups[:-1]
        ranges = np.abs(np.diff(values.take(order)))[alike]
        joined = int(np.count_nonzero(alike[1:] & alike[:-1]))
    if not len(ranges):
        return math.nan, 0.0
    return float(ranges.mean()) / D2, _freedom(len(ranges), joined)


def sigma_freedom(n: int) -> float:
    """Degrees of freedom of a sigma from the moving ranges of `n` values, 2 or more, in one row."""
    return _freedom(n - 1, n - 2)


def _freedom(ranges: int, joined: int) -> float:
    """`joined`: how many pairs of ranges share a value."""
    variance = (ranges * _RANGE_VARIANCE + 2 * joined * _SHARED) / ranges**2
    return D2**2 / (2 * variance)


def cp_interval(cp: float, freedom: float) -> Index:
    """95 % interval of Cp or Pp: sigma squared is chi-square with so many degrees of freedom."""
    low, high = (cp * math.sqrt(float(special.chdtri(freedom, p)) / freedom) for p in (0.975, 0.025))
    return Index(cp, low, high)


def cpk_interval(cpk: float, n: int, freedom: float) -> Index:
    """95 % interval of Cpk or Ppk by Bissell's approximation; `n` values, sigma with `freedom`."""
    half = float(special.ndtri(0.975)) * math.sqrt(1 / (9 * n) + cpk**2 / (2 * freedom))
    return Index(cpk, cpk - half, cpk + half)


def _indices(
    mean: float, sigma: float, n: int, freedom: float, lower: float | None, upper: float | None
) -> tuple[Index | None, Index]:
    sides = []
    if upper is not None:
        sides.append((upper - mean) / (3 * sigma))
    if lower is not None:
        sides.append((mean - lower) / (3 * sigma))
    both = None
    if lower is not None and upper is not None:
        both = cp_interval((upper - lower) / (6 * sigma), freedom)
    return both, cpk_interval(min(sides), n, freedom)


def shape(values: Floats) -> tuple[float, float, float | None]:
    """Skewness, excess kurtosis, and the p-value of D'Agostino and Pearson's K2 test that both are a normal's.

    The transformations are those of D'Agostino (1970) and of Anscombe and Glynn (1983). p is None below 20 values,
    where they do not hold, and all are NaN (None) without spread."""
    n = len(values)
    off = values - values.mean()
    square = off * off
    m2 = float(square.mean())
    if not m2 > 0:
        return math.nan, math.nan, None
    skew = float((square * off).mean()) / m2**1.5
    kurtosis = float((square * square).mean()) / m2**2
    if n < 20:
        return skew, kurtosis - 3, None
    k2 = _skew_normal(skew, n) ** 2 + _kurtosis_normal(kurtosis, n) ** 2
    return skew, kurtosis - 3, float(special.chdtrc(2, k2))


def _skew_normal(skew: float, n: int) -> float:
    y = skew * math.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    beta = 3 * (n**2 + 27 * n - 70) * (n + 1) * (n + 3) / ((n - 2) * (n + 5) * (n + 7) * (n + 9))
    w2 = math.sqrt(2 * (beta - 1)) - 1
    return math.asinh(y / math.sqrt(2 / (w2 - 1))) / math.sqrt(0.5 * math.log(w2))


def _kurtosis_normal(kurtosis: float, n: int) -> float:
    expected = 3 * (n - 1) / (n + 1)
    variance = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    x = (kurtosis - expected) / math.sqrt(variance)
    root = 6 * (n**2 - 5 * n + 2) / ((n + 7) * (n + 9)) * math.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / root * (2 / root + math.sqrt(1 + 4 / root**2))
    inner = 1 + x * math.sqrt(2 / (a - 4))
    cube = math.copysign(abs((1 - 2 / a) / inner) ** (1 / 3), inner) if inner else math.inf
    return (1 - 2 / (9 * a) - cube) / math.sqrt(2 / (9 * a))


def _tail(values: Floats, lower: float | None, upper: float | None) -> Tail:
    n = len(values)
    low, high = (-math.inf if lower is None else lower), (math.inf if upper is None else upper)
    outside = int(np.count_nonzero((values < low) | (values > high)))
    at_most = float(special.betaincinv(outside + 1, n - outside, 0.95)) if outside < n else 1.0
    return Tail(outside, n, at_most, _quantile_ppk(values, lower, upper) if n >= _TAIL_FEWEST else None)


def _quantile_ppk(values: Floats, lower: float | None, upper: float | None) -> float | None:
    least, median, most = np.quantile(values, [0.00135, 0.5, 0.99865])
    sides = []
    if upper is not None and most > median:
        sides.append(float((upper - median) / (most - median)))
    if lower is not None and median > least:
        sides.append(float((median - lower) / (median - least)))
    return min(sides, default=None)


def _resolution(values: Floats, within: float) -> list[str]:
    """A meter's steps that are coarser than the spread: then sigma is the meter's. Wheeler's rule of thumb: a step
    should not be larger than sigma."""
    if len(np.unique(values[:2000])) > 100:
        return []  # so many different values cannot be that coarse
    different = np.unique(values)
    step = float(np.diff(different).min())
    if within > 0 and step <= within * (1 + 1e-9):
        return []
    return [
        f"Only {len(different)} different values, {step:.3g} apart: the spread is as coarse as the meter's steps, "
        "and the indices with it."
    ]


def _odd_shape(skew: float, kurtosis: float, p: float | None, tail: Tail) -> list[str]:
    if p is None or p >= _STRANGE_P or (abs(skew) <= 0.5 and abs(kurtosis) <= 1):
        return []
    seen = f"{tail.outside} of {tail.n} were outside the limits (at most {100 * tail.at_most:.2g} %, 95 %)"
    instead = "" if tail.ppk is None else f"; by quantiles instead of sigmas Ppk is {tail.ppk:.2f}"
    return [
        f"The values are not normal (skewness {skew:.1f}, excess kurtosis {kurtosis:.1f}; K2 test, p {_small(p)}), "
        f"so the indices say little about what falls outside: {seen}{instead}."
    ]


def _small(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
