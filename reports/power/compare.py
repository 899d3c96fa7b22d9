"""Boards, firmware versions and supplies beside each other: thresholds of the same thing, and whether they differ.

Each two are compared by the distribution of the difference of their V50, which follows from both fits; the intervals
are corrected for how many are compared (Bonferroni), so that a report of equals names any as different in one of
twenty at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from reports.power.gathered import Gathered, several
from reports.power.thresholds import Threshold, thresholds
from reports.releases.safe import shown
from rig.power.posterior import Floats

By = Literal["board", "firmware", "supply"]
WORDS: dict[By, str] = {"board": "Boards", "firmware": "Firmware versions", "supply": "Supplies"}
_MOST = 40  # comparisons of one thing; more boards than that are shown, and not compared two by two


@dataclass(frozen=True)
class Difference:
    """V50 of `second` less that of `first`, in the unit of the axis, with its corrected interval."""

    first: str
    second: str
    value: float
    low: float
    high: float

    @property
    def told_apart(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Comparison:
    """One part and phase over what differs. `mixed`: what else differs between them, and may be the reason too."""

    by: By
    title: str
    axis: str
    members: list[tuple[str, Threshold]] = field(repr=False)
    differences: list[Difference]
    mixed: list[str]


def comparisons(told: Gathered) -> list[Comparison]:
    """Of what was searched more than once."""
    same: dict[tuple[object, ...], list[Threshold]] = {}
    for each in thresholds(told):
        key = each.series.key
        wave = each.series.part.wave
        same.setdefault((key.activity, key.phase, each.axis, wave, key.part), []).append(each)
    pairs = sum(len(rows) * (len(rows) - 1) // 2 for rows in same.values() if len(rows) <= _MOST)
    return [one for rows in same.values() if len(rows) > 1 for one in _compared(rows, max(pairs, 1))]


def _compared(rows: Sequence[Threshold], pairs: int) -> Iterator[Comparison]:
    from reports.power.outcomes import place_of

    names: dict[By, list[str]] = {
        "board": [shown(each.board) for each in rows],
        "firmware": [each.series.run.firmware for each in rows],
        "supply": [each.series.run.supply(each.slot) for each in rows],
    }
    differing: list[By] = [by for by in names if len(several(names[by])) > 1]
    by: By = next((each for each in ("firmware", "supply") if each in differing), "board")
    labels = _labels(rows, names, by)
    members = list(zip(labels, rows, strict=True))
    first = rows[0]
    title = f"{shown(first.series.key.part)}: {place_of(first.series)}"
    found = [
        difference(one, two, confidence=1 - (1 - _confidence(one[1], two[1])) / pairs)
        for at, one in enumerate(members) for two in members[at + 1 :]
        if len(rows) <= _MOST and one[1].known and two[1].known
    ]  # fmt: skip
    yield Comparison(by, title, first.axis, members, found, [WORDS[each].lower() for each in differing if each != by])


def _labels(rows: Sequence[Threshold], names: dict[By, list[str]], by: By) -> list[str]:
    """What tells the members apart, shortest first."""
    for fields in ((by,), (by, "board")):
        told = [" · ".join(dict.fromkeys(names[each][at] for each in fields)) for at in range(len(rows))]
        if len(set(told)) == len(told):
            return told
    return [f"{label} · {shown(each.series.run.record.id)}" for label, each in zip(told, rows, strict=True)]


def _confidence(one: Threshold, two: Threshold) -> float:
    return min(one.fit.confidence, two.fit.confidence)


def difference(one: tuple[str, Threshold], two: tuple[str, Threshold], *, confidence: float) -> Difference:
    """Of two V50, by all pairs of their posteriors' nodes."""
    (first, a), (second, b) = one, two
    at_a, w_a = _nodes(a)
    at_b, w_b = _nodes(b)
    values = (at_b[None, :] - at_a[:, None]).ravel()
    weights = (w_b[None, :] * w_a[:, None]).ravel()
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weights[order])
    middles = (sums - weights[order] / 2) / sums[-1]
    low, value, high = np.interp(((1 - confidence) / 2, 0.5, (1 + confidence) / 2), middles, values[order])
    return Difference(first, second, float(value), float(low), float(high))


def _nodes(each: Threshold) -> tuple[Floats, Floats]:
    """V50's nodes in the unit of the axis, and their weights; those that weigh nothing are left out."""
    posterior, levels = each.fit.posterior, each.fit.levels
    weights = posterior.thresholds
    kept = [place for place, weight in enumerate(weights.tolist()) if weight > 1e-9]
    return np.array([levels.value(float(posterior.nodes[place])) for place in kept]), weights[kept]
