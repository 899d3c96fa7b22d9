"""What is believed of one threshold after some trials, counted out on a grid of thresholds, widths and lapses.

The model: of trials at place u (in steps), a share `lapse` comes out by a coin, whatever the level (a reset that had
another cause, a board that happened to be idle); of the others

    P(bad) = 1 / (1 + exp((u - v50) / scale))          bad below v50; mirrored where bad lies above

so P(bad) at v50 is one half with any lapse. The prior is weak: any v50 over the levels and a margin beyond both ends
is as likely as any other; ln(scale) is normal about one step with a standard deviation of 1 (95 %: 0.14 to 7.1
steps); lapses up to 10 %, few likelier than many. So all intervals stay finite when bad and good do not overlap,
where maximum likelihood has none. Source of the method: Watson and Pelli, Perception & Psychophysics 33 (1983) 113;
Watson, QUEST+, J. of Vision 17 (2017) 3:10. The prior's numbers are a guess; what intervals cover under them is
measured in tests/test_power_search.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from rig.power.levels import Levels

Floats = NDArray[np.float64]

_GRAIN = 0.25  # of v50, in steps
_MARGIN = 0.1  # beyond each end, as a share of the levels' span, and at least
_LEAST_MARGIN = 8.0  # so many steps
_SCALE_SD = 1.0  # of ln(scale), about a scale of one step
_SCALES = np.exp(np.linspace(math.log(0.1), math.log(10.0), 13))
LAPSES = np.array([0.002, 0.01, 0.025, 0.05, 0.1])
LAPSE_WEIGHTS = np.array([0.15, 0.3, 0.3, 0.18, 0.07])  # about Beta(1, 30) with mean 0.03
_SCALE_GRAIN = float(np.log(_SCALES[1] / _SCALES[0]))
_COARSE = 1.5  # a grid is, where two thirds of the weight lie within so many of its grains
_NEGLIGIBLE = 1e-5  # weight of a threshold that is not weighed any more
_CACHED = 64  # levels, whose responses are kept: they are asked for again and again


class Posterior:
    """Weights over (v50, scale, lapse), all in steps. `downwards`: bad lies below the threshold.

    `evidence`: the logarithm of the chance of all that was told, under the model. `joint`: weights of (v50, scale);
    `thresholds`: of v50, at `nodes`.
    """

    def __init__(self, levels: Levels, downwards: bool = True) -> None:
        margin = max(_LEAST_MARGIN, _MARGIN * levels.span)
        nodes = np.arange(-margin, levels.span + margin + _GRAIN / 2, _GRAIN)
        self._begin(nodes, _SCALES, 1.0 if downwards else -1.0)

    def _begin(self, nodes: Floats, scales: Floats, sign: float) -> None:
        self.nodes, self._scales, self._sign = nodes, scales, sign
        half = float(nodes[1] - nodes[0]) / 2
        self._ends: Floats = np.append(nodes - half, nodes[-1] + half)
        self._grain = 2 * half
        prior = LAPSE_WEIGHTS[:, None] * np.exp(-0.5 * (np.log(scales) / _SCALE_SD) ** 2)
        self._cached: dict[float, Floats] = {}
        self._set(np.repeat(prior[:, None, :], len(nodes), axis=1))
        self.evidence = 0.0

    def tell(self, place: float, bad: bool) -> None:
        """One trial at a place."""
        chance = self._chance(place)
        self.evidence += self._set(self._weights * (chance if bad else 1.0 - chance))

    def tell_all(self, trials: Iterable[tuple[float, bool]]) -> None:
        """Many trials at once, thousands at a place as well."""
        counts: dict[float, list[int]] = {}
        for place, bad in trials:
            counts.setdefault(place, [0, 0])[bad] += 1
        with np.errstate(divide="ignore"):  # weights may be down to nothing
            logs = np.log(self._weights)
        for place, (good, bad_ones) in counts.items():
            chance = self._chance(place)
            logs = logs + good * np.log1p(-chance) + bad_ones * np.log(chance)
        self.evidence += float(logs.max()) + self._set(np.exp(logs - logs.max()))

    def quantiles(self, shares: Iterable[float]) -> list[float]:
        """Of v50; each node stands for a grain about it."""
        return [float(np.interp(share * self._sums[-1], self._sums, self._ends)) for share in shares]

    def scale_quantiles(self, shares: Iterable[float]) -> list[float]:
        """Of the scale."""
        logs = np.log(self._scales)
        half = (logs[1] - logs[0]) / 2
        ends = np.concatenate([logs - half, [logs[-1] + half]])
        sums = np.concatenate([[0.0], np.cumsum(self.joint.sum(axis=0))])
        return [float(np.exp(np.interp(share * sums[-1], sums, ends))) for share in shares]

    def lapse(self) -> float:
        """Its mean."""
        return float(self._weights.sum(axis=(1, 2)) @ LAPSES)

    def crossing(self, chance: float, shares: Iterable[float]) -> list[float]:
        """Quantiles of the place where a trial that does not lapse is bad with `chance`."""
        places = self.nodes[:, None] + self._scales[None, :] * self._sign * math.log((1 - chance) / chance)
        return _weighted(places.ravel(), self.joint.ravel(), shares)

    def chances(self, place: float, shares: Iterable[float]) -> list[float]:
        """Quantiles of P(bad) at a place, of a trial that does not lapse."""
        return _weighted(self._response(place).ravel(), self.joint.ravel(), shares)

    def information(self, places: Floats) -> Floats:
        """What a trial at each of these places is expected to tell of v50 and scale together, in nats."""
        rows = self.thresholds > _NEGLIGIBLE
        all_of = self.joint[rows]
        some = self._weights[:, rows]
        lapsed, sound = np.tensordot(LAPSES / 2, some, 1), np.tensordot(1 - LAPSES, some, 1)
        bad = lapsed + np.stack([self._response(float(place))[rows] for place in places]) * sound
        good = all_of - bad
        inside = (_nats(bad) + _nats(good) - _nats(all_of)).sum(axis=(1, 2))
        return np.asarray(inside - _nats(bad.sum(axis=(1, 2))) - _nats(good.sum(axis=(1, 2))) + _nats(all_of.sum()))

    def finer(self, trials: Sequence[tuple[float, bool]]) -> Posterior:
        """Itself where its grid is fine enough for what it was told, else another of the same trials on a finer grid
        about where it is: hundreds of trials know a threshold better than to a quarter of a step."""
        low, high = self.quantiles((0.16, 0.84))
        soft, softer = self.scale_quantiles((0.16, 0.84))
        if high - low > _COARSE * self._grain and math.log(softer / soft) > _COARSE * _SCALE_GRAIN:
            return self
        low, high = self.quantiles((1e-6, 1 - 1e-6))
        soft, softer = self.scale_quantiles((1e-6, 1 - 1e-6))
        found = copy(self)
        found._begin(np.linspace(low, high, 240), np.geomspace(soft, softer, 24), self._sign)
        found.tell_all(trials)
        found.evidence = self.evidence
        return found

    def _set(self, weights: Floats) -> float:
        """Returns the logarithm of their sum, which is made 1."""
        total = float(weights.sum())
        self._weights: Floats = weights / total
        self.joint: Floats = self._weights.sum(axis=0)
        self.thresholds: Floats = self.joint.sum(axis=1)
        self._sums: Floats = np.concatenate([[0.0], np.cumsum(self.thresholds)])
        return math.log(total)

    def _chance(self, place: float) -> Floats:
        """P(bad) by lapse, node and scale."""
        return LAPSES[:, None, None] / 2 + (1 - LAPSES)[:, None, None] * self._response(place)

    def _response(self, place: float) -> Floats:
        """P(bad) without lapses at a place, by node and scale."""
        found = self._cached.get(place)
        if found is None:
            if len(self._cached) >= _CACHED:
                self._cached.clear()
            away = (place - self.nodes)[:, None] * (self._sign / self._scales)
            found = np.asarray(1.0 / (1.0 + np.exp(np.clip(away, -500.0, 500.0))))
            self._cached[place] = found
        return found


def _nats(weights: Floats) -> Floats:
    return np.asarray(weights * np.log(np.maximum(weights, 1e-300)))


def _weighted(values: Floats, weights: Floats, shares: Iterable[float]) -> list[float]:
    """Quantiles of weighted values, between which is interpolated."""
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weights[order])
    middles = (sums - weights[order] / 2) / sums[-1]
    return [float(np.interp(share, middles, values[order])) for share in shares]
