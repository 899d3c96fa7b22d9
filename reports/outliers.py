"""The strangest units: far from their like in what they measured, whether or not any limit noticed.

Each number is put into robust sigmas: less the median, over 1.4826 times the median deviation (Hampel), of the values
in the same slot of the same station and product where there are 20 or more, else of the product, else of all. Where
half of the values are equal, the mean deviation (times 1.2533) takes its place (Iglewicz and Hoaglin, 1993). Numbers
that are all equal tell nothing and are left out.

The distance takes into account what goes together anyway (Mahalanobis): with the correlation of the numbers, each
pulled in to 2.5 sigmas so that the strange ones do not decide what is normal, and shrunk by a tenth towards none. A
unit with fewer numbers is measured by those that it has. So that units with few and with many can be compared, the
square of the distance, a chi-square for normal values, is given as the normal score of the same probability.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.tables import Name, Records

Singles = NDArray[np.float32]

TRACES = (
    "Current traces are not compared: they are the supply's own readings, 5 to 20 a second, too slow to show one "
    "boot's shape; no recording of a faster witness is among the records."
)
"""Said in one place, until a witness that samples a thousand times a second or more has recorded any."""

_MANY = 250_000  # values of which a part is looked at for what is normal
_ENOUGH = 1000  # of a stratum, in such a part
MINIMUM = 20  # values from which a slot is its own measure
_PULLED_IN = 2.5
_SHRINK = 0.1
_MOST = 50.0  # sigmas that one number counts with at most: beyond, nothing is stranger still
_PATTERNS = 256  # sets of missing numbers that are told apart; the rest is measured number by number
_FAR = 3.0  # robust sigmas from which a number is strange by itself
_SHOWN = 3


@dataclass(frozen=True)
class Strange:
    """An attempt, how far off it is (normal score), and its strangest numbers: (which, value, robust sigmas)."""

    order: int
    distance: float
    why: list[tuple[Name, float, float]]

    def __str__(self) -> str:
        return "; ".join(
            f"{name.name} ({name.step}) {value:.4g}{' ' + name.unit_of if name.unit_of else ''}, {z:+.1f} sigma"
            for name, value, z in self.why
        )


def strangest(records: Records, k: int = 10) -> list[Strange]:
    """The `k` strangest units, strangest first, each by its strangest attempt that was judged (counted)."""
    judged = records.attempts["counted"].to_numpy()
    names, z = _robust(records, judged)
    if not names or k < 1:
        return []
    score, inverse = _distances(z)
    score[~judged] = -np.inf
    orders = _one_a_board(records.attempts["board"].to_numpy(), score, k)
    why = {order: _strangest_of(z[:, order].astype(np.float64), inverse) for order in orders}
    values = _values(records, names, why)
    return [
        Strange(
            order, float(score[order]), [(names[at], values[order, at], float(z[at, order])) for at in why[order]]
        )
        for order in orders
    ]


def _one_a_board(board: NDArray[np.int32], score: Singles, k: int) -> list[int]:
    found: dict[int, int] = {}
    some = min(len(score), 4 * k + 40)
    while True:
        best = np.argpartition(-score, some - 1)[:some] if some < len(score) else np.arange(len(score))
        best = best[np.lexsort((best, -score[best]))]
        found.clear()
        for order in best[np.isfinite(score[best])].tolist():
            found.setdefault(int(board[order]), order)
        if len(found) >= k or some >= len(score):
            return list(found.values())[:k]
        some = min(len(score), some * 8)


# -- robust sigmas -----------------------------------------------------------------------------------------


def _robust(records: Records, judged: NDArray[np.bool_]) -> tuple[list[Name], Singles]:
    """The names that tell something, and each attempt's numbers in robust sigmas, names downwards; NaN: not there."""
    layers = _strata(records)
    every = records.numbers.names()
    z: Singles = np.full((len(every), len(judged)), np.nan, dtype=np.float32)
    names: list[Name] = []
    for name in every:
        taken = records.numbers.of(name)
        order, value = taken["order"].to_numpy(), taken["value"].to_numpy()
        kept = np.isfinite(value) & judged[order]
        if not kept.all():
            order, value = order[kept], value[kept]
        if len(value) and value.min() < value.max():
            z[len(names), order] = robust_sigmas(value, [layer[order] for layer in layers])
            names.append(name)
    return names, z[: len(names)]


def _strata(records: Records) -> list[NDArray[np.int32]]:
    """What attempts are like each other in, the narrowest first, as codes."""
    attempts = records.attempts
    product, station, slot = (attempts[name].cat.codes.to_numpy().astype(np.int64) + 1 for name in _NARROW)
    wide, wider = len(attempts["slot"].cat.categories) + 1, len(attempts["station"].cat.categories) + 1
    narrow = (product * wider + station) * wide + slot
    return [np.unique(codes, return_inverse=True)[1].astype(np.int32) for codes in (narrow, product)]


_NARROW = ("product", "station", "slot")


def robust_sigmas(values: NDArray[np.float64], layers: list[NDArray[np.int32]]) -> Singles:
    """Each value in robust sigmas of its stratum: in the first of `layers` where that has MINIMUM values and a
    spread, else in the next, else among all. 0 where there is no spread at all."""
    found = np.zeros(len(values), dtype=np.float32)
    left = np.ones(len(values), dtype=np.bool_)
    some = _some(len(values))
    for codes in [*layers, np.zeros(len(values), dtype=np.int32)]:
        centre, scale = _of_strata(values, codes, some)
        own = scale[codes]
        mine = left & (own > 0)
        if mine.all():
            every: Singles = ((values - centre[codes]) / own).astype(np.float32)
            return every
        found[mine] = (values[mine] - centre[codes[mine]]) / own[mine]
        left &= ~mine
        if not left.any():
            break
    return found


def _of_strata(
    values: NDArray[np.float64], codes: NDArray[np.int32], some: NDArray[np.intp] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and robust sigma of each stratum; a sigma of 0 where it has too few values or no spread. Of many values
    `some` tell both to a percent or two, unless that leaves a stratum with few."""
    sizes = np.bincount(codes)
    centre, scale = np.zeros(len(sizes)), np.zeros(len(sizes))
    subset, kept = (codes, values) if some is None else (codes[some], values[some])
    place = np.argsort(subset.astype(np.uint16) if len(sizes) < 1 << 16 else subset, kind="stable")
    ends = np.cumsum(np.bincount(subset, minlength=len(sizes)))
    for stratum, (begin, end) in enumerate(itertools.pairwise([0, *ends.tolist()])):
        mine = kept[place[begin:end]]
        if end - begin < _ENOUGH and sizes[stratum] > end - begin:
            mine = values[codes == stratum]
        if len(mine) >= MINIMUM or len(sizes) == 1:
            centre[stratum] = _median(mine)
            off = np.abs(mine - centre[stratum])
            scale[stratum] = 1.4826 * _median(off) or 1.2533 * float(off.mean())
    return centre, scale


def _some(n: int) -> NDArray[np.intp] | None:
    """Which of so many to look at where a part tells enough, drawn with a fixed seed; None: all."""
    return None if n <= _MANY else np.flatnonzero(np.random.default_rng(n).random(n, dtype=np.float32) < _MANY / n)


def _median(values: NDArray[np.float64]) -> float:
    half = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, half)[half])
    parted = np.partition(values, [half - 1, half])
    return float((parted[half - 1] + parted[half]) / 2)


# -- distance ----------------------------------------------------------------------------------------------


def _distances(z: Singles) -> tuple[Singles, NDArray[np.float64]]:
    """The normal score of each attempt's distance (-inf where it has no number), and the inverse of how the numbers
    go together."""
    together = _correlation(z)
    inverse: NDArray[np.float64] = np.asarray(np.linalg.inv(together), dtype=np.float64)
    score: Singles = np.full(z.shape[1], -np.inf, dtype=np.float32)
    mixed = np.zeros(z.shape[1])
    for weight, row in zip(np.random.default_rng(1).random(len(z)).tolist(), z, strict=True):
        mixed += weight * np.isnan(row)  # one number for each set of missing ones
    if mixed.min(initial=0) == mixed.max(initial=0):
        score[:] = _scores(z, together)
        return score, inverse
    _, which, sizes = np.unique(mixed, return_inverse=True, return_counts=True)
    place = np.argsort(which, kind="stable")
    ends = np.cumsum(sizes)
    commonest = np.argsort(-sizes, kind="stable")
    for kind in commonest[:_PATTERNS]:
        rows = place[ends[kind] - sizes[kind] : ends[kind]]
        score[rows] = _scores(z[:, rows], together)
    rest = np.isin(which, commonest[_PATTERNS:])
    if rest.any():
        score[rest] = _apart(z[:, rest])
    return score, inverse


def _correlation(z: Singles) -> NDArray[np.float64]:
    """Robust correlation of the numbers, in pieces: a million attempts would be copied otherwise."""
    some = _some(z.shape[1])
    z = z if some is None else z[:, some]
    count, n = z.shape
    products, sums, squares = np.zeros((count, count)), np.zeros((count, count)), np.zeros((count, count))
    for begin in range(0, n, 1 << 16):
        piece = z[:, begin : begin + (1 << 16)]
        there = (~np.isnan(piece)).astype(np.float32)
        pulled = np.nan_to_num(np.clip(piece, -_PULLED_IN, _PULLED_IN))
        products += pulled @ pulled.T
        sums += there @ there.T
        squares += (pulled * pulled) @ there.T
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.nan_to_num(products / np.sqrt(squares * squares.T))
    found[sums < 3 * MINIMUM] = 0.0  # too few units have both
    found *= 1 - _SHRINK
    np.fill_diagonal(found, 1.0)
    least = float(np.linalg.eigvalsh(found)[0])
    if least < _SHRINK / 2:  # where numbers are missing, correlations need not fit together
        found = (found + (_SHRINK / 2 - least) * np.eye(count)) / (1 + _SHRINK / 2 - least)
    return found


def _scores(z: Singles, together: NDArray[np.float64]) -> Singles:
    """Attempts that all have the same numbers."""
    there = ~np.isnan(z[:, 0])
    if not there.any():
        return np.full(z.shape[1], -np.inf, dtype=np.float32)
    inverse = np.linalg.inv(together[np.ix_(there, there)]).astype(np.float32)
    score = np.empty(z.shape[1], dtype=np.float32)
    for begin in range(0, z.shape[1], 1 << 16):
        piece = np.clip(z[there, begin : begin + (1 << 16)], -_MOST, _MOST)
        score[begin : begin + (1 << 16)] = normal_score(
            np.einsum("ij,ij->j", piece, inverse @ piece), int(there.sum())
        )
    return score


def _apart(z: Singles) -> Singles:
    """Attempts each of which lacks other numbers: as if none went with another."""
    freedom = (~np.isnan(z)).sum(axis=0)
    square = np.nansum(np.clip(z, -_MOST, _MOST) ** 2, axis=0)
    return np.where(freedom > 0, normal_score(square, np.maximum(freedom, 1)), -np.inf).astype(np.float32)


def normal_score(square: NDArray[np.floating], freedom: int | NDArray[np.integer]) -> NDArray[np.floating]:
    """A chi-square as the normal value of the same probability, by Wilson and Hilferty's cube root (1931): right to
    the second digit where it matters here, and finite however far out."""
    share = 2 / (9 * freedom)
    found: NDArray[np.floating] = (np.cbrt(square / freedom) - (1 - share)) / np.sqrt(share)
    return found


def _strangest_of(own: NDArray[np.float64], inverse: NDArray[np.float64]) -> list[int]:
    """What is strange about it: its farthest numbers; those that do not fit the others where none is far."""
    there = np.flatnonzero(~np.isnan(own))
    by = np.abs(own[there])
    far = int(np.count_nonzero(by > _FAR))
    if not far:
        by = own[there] * (inverse[np.ix_(there, there)] @ own[there])
    chosen: list[int] = there[np.argsort(-by, kind="stable")].tolist()
    return chosen[: min(_SHOWN, far or _SHOWN)]


def _values(records: Records, names: list[Name], why: dict[int, list[int]]) -> dict[tuple[int, int], float]:
    """(order, which name) -> the value itself; each name is looked up once."""
    found: dict[tuple[int, int], float] = {}
    for at in sorted({at for chosen in why.values() for at in chosen}):
        taken = records.numbers.of(names[at])
        order, value = taken["order"].to_numpy(), taken["value"].to_numpy()
        for mine in (each for each, chosen in why.items() if at in chosen):
            found[mine, at] = float(value[int(np.searchsorted(order, mine, side="right")) - 1])
    return found
