"""Pictures of a study: a shmoo with its fitted boundary, and the trials of a search with the curve they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from reports.power import names
from reports.power.compare import Comparison
from reports.power.shmoo import Shmoo, Square
from reports.power.thresholds import Threshold
from reports.svg import Axis, across, dots, fitting, line, picture, text, up
from reports.text import number

_WIDTH, _LEFT, _TOP = 940.0, 86.0, 10.0
_CELL, _LEAST = 34.0, 22.0  # height of a row of a shmoo; least room in which a count is written
_MOST_HIGH = 620.0
_CURVE = 80  # points of a curve
_COUNT_AT = 0.25  # of a cell's width, beside the boundary's dot in its middle


@dataclass(frozen=True)
class Bands:
    """Values along an edge of a shmoo, each with the band that it fills: half-way to its neighbours. `log`: by
    factors."""

    values: list[float]
    begin: float
    end: float
    log: bool

    def at(self, value: float) -> float:
        low, high = self._ends
        share = (self._t(value) - low) / (high - low)
        return self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin)

    def band(self, value: float) -> tuple[float, float]:
        """(one side, the other) of the band of a value, smaller first."""
        place = self.values.index(value)
        edges = self._edges
        one, two = (self._at_t(edges[place]), self._at_t(edges[place + 1]))
        return min(one, two), max(one, two)

    @property
    def _edges(self) -> list[float]:
        t = [self._t(each) for each in self.values]
        if len(t) == 1:
            return [t[0] - 0.5, t[0] + 0.5]
        middles = [(one + two) / 2 for one, two in pairwise(t)]
        return [t[0] - (middles[0] - t[0]), *middles, t[-1] + (t[-1] - middles[-1])]

    @property
    def _ends(self) -> tuple[float, float]:
        edges = self._edges
        return edges[0], edges[-1]

    def _at_t(self, t: float) -> float:
        low, high = self._ends
        return self.begin + (t - low) / (high - low) * (self.end - self.begin)

    def _t(self, value: float) -> float:
        return math.log10(value) if self.log else value


def by_factors(axis: str, values: Sequence[float]) -> bool:
    """Times are drawn by factors, where they span some."""
    return names.is_time(axis) and axis != "nth" and min(values) > 0 and max(values) >= 5 * min(values)


def shmoo_svg(each: Shmoo) -> str:
    """A cell a pair of values with its count, redder the more were bad; the boundary where a fit gives one."""
    xs, ys = each.xs, each.ys
    height = min(_MOST_HIGH, max(_CELL * len(ys), 3 * _CELL))
    bottom = _TOP + height
    right = min(_WIDTH - 12, _LEFT + max(74.0 * len(xs), 220.0))
    x = Bands(xs, _LEFT, right, by_factors(each.across, xs))
    y = Bands(ys, bottom, _TOP, by_factors(each.up, ys))
    parts = [part for square in each.squares for part in _square(each, square, x, y)]
    parts += _boundary(each, x, y)
    parts += _below(x, bottom, lambda value: names.amount(each.across, value))
    parts += _beside(y, lambda value: names.amount(each.up, value))
    parts.append(text(names.axis(each.across) + (", by factors" if x.log else ""), right, bottom + 32, "end"))
    parts.append(text(names.axis(each.up) + (", by factors" if y.log else ""), _LEFT, bottom + 32))
    told = f"Shmoo of {names.axis(each.up)} over {names.axis(each.across)}: {each.bad} of {each.n} trials bad"
    return picture(_WIDTH, bottom + 40, told, parts)


def _square(each: Shmoo, square: Square, x: Bands, y: Bands) -> Iterator[str]:
    (x0, x1), (y0, y1) = x.band(square.x), y.band(square.y)
    share = square.bad / square.n
    kinds = ", ".join(f"{count} {names.TITLES.get(kind, kind)}" for kind, count in square.counts.most_common())
    said = f"{names.amount(each.up, square.y)}, {names.amount(each.across, square.x)}: {kinds}"
    kind, opacity = ("bad", 0.2 + 0.65 * share) if square.bad else ("fine", 0.3)
    yield (
        f'<rect x="{x0 + 0.75:.1f}" y="{y0 + 0.75:.1f}" width="{max(x1 - x0 - 1.5, 0.5):.1f}" '
        f'height="{max(y1 - y0 - 1.5, 0.5):.1f}" class="{kind}" fill-opacity="{opacity:.2f}">'
        f"<title>{escape(said)}</title></rect>"
    )
    if y1 - y0 >= _LEAST / 2 and x1 - x0 >= _LEAST:
        yield text(f"{square.bad}/{square.n}", x0 + (x1 - x0) * _COUNT_AT, (y0 + y1) / 2 + 4, "middle", "ink")


def _boundary(each: Shmoo, x: Bands, y: Bands) -> Iterator[str]:
    """Through the columns whose fit lies inside; its interval as a thin line."""
    low, high = min(each.ys), max(each.ys)
    places = []
    for at, fit in each.boundary.items():
        if fit.outside is not None or not low <= fit.v50.value <= high:
            continue
        middle = x.at(at)
        places.append((middle, y.at(fit.v50.value)))
        yield line(f"M{middle:.1f} {y.at(fit.v50.low):.1f}V{y.at(fit.v50.high):.1f}", "edge thin")
    if len(places) > 1:
        yield line("M" + "L".join(f"{one:.1f} {two:.1f}" for one, two in places), "edge")
    yield dots(places, "edge big", "V50 of the column")


def _below(bands: Bands, bottom: float, told: Callable[[float], str]) -> Iterator[str]:
    free = -math.inf
    for value in bands.values:
        words = told(value)
        at, half = bands.at(value), 3.4 * len(words)
        if at - half > free:
            yield text(words, at, bottom + 15, "middle")
            free = at + half + 6


def _beside(bands: Bands, told: Callable[[float], str]) -> Iterator[str]:
    free = math.inf
    for value in bands.values:  # from the bottom up
        at = bands.at(value)
        if free - at >= 13:
            yield text(told(value), _LEFT - 8, at + 4, "end")
            free = at


# -- a search -------------------------------------------------------------------------------------------------------


def response_svg(each: Threshold) -> str:
    """Share of bad trials by level, larger dots for more trials, with the fitted curve and the interval of V50."""
    axis = _axis(each)
    height, bottom = 150.0, _TOP + 150.0
    share = Axis.over(0.0, 1.0, bottom, _TOP, wanted=4)
    fit = each.fit
    along = [axis.least + (axis.most - axis.least) * place / _CURVE for place in range(_CURVE + 1)]
    inside = [value for value in along if value > 0 or not fit.levels.log]
    curve = [(axis.at(value), share.at(_chance(each, value))) for value in inside]
    parts = [*across(axis, _TOP, bottom), *up(share, _LEFT, _WIDTH - 12)]
    if each.known:
        low, high = axis.at(fit.v50.low), axis.at(fit.v50.high)
        parts.append(
            f'<rect x="{min(low, high):.1f}" y="{_TOP:g}" width="{max(abs(high - low), 1):.1f}" height="{height:g}" '
            f'class="interval"><title>V50 {names.amount(each.axis, fit.v50.value)}</title></rect>'
        )
        parts.append(line("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in curve), "first"))
        parts.append(line(f"M{axis.at(fit.v50.value):.1f} {_TOP:g}V{bottom:g}", "first dash"))
    for level in each.levels:
        size = 5 + 2.6 * math.sqrt(level.n)
        said = f"{names.amount(each.axis, level.value)}: {level.bad} of {level.n} bad"
        x, y = axis.at(level.value), share.at(level.bad / level.n)
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size / 2:.1f}" class="{"bad" if level.bad else "fine"} dot">'
            f"<title>{escape(said)}</title></circle>"
        )
    parts.append(text(f"{names.axis(each.axis)} [{names.unit(each.axis)}]", _WIDTH - 12, bottom + 28, "end"))
    parts.append(text("share of trials that are bad", _LEFT, bottom + 28))
    told = f"Share of bad trials over {names.axis(each.axis)}, {fit.n} trials"
    return picture(_WIDTH, bottom + 34, told, parts)


def _chance(each: Threshold, value: float) -> float:
    """Of a bad trial, by the medians of V50 and scale."""
    levels, fit = each.fit.levels, each.fit
    away = (levels.place(value) - levels.place(fit.v50.value)) / fit.scale_steps.value
    return 1 / (1 + math.exp(max(-500.0, min(500.0, away if fit.downwards else -away))))


def _axis(each: Threshold) -> Axis:
    """Over what was tried and the threshold with its interval."""
    tried = [level.value for level in each.levels]
    inside = [each.fit.v50.low, each.fit.v50.high] if each.known else []
    low, high = min([*tried, *inside]), max([*tried, *inside])
    room = (high - low) * 0.04 or each.fit.levels.step
    return Axis.over(max(low - room, 0.0), high + room, _LEFT, _WIDTH - 12, wanted=8)


def comparison_svg(each: Comparison) -> str:
    """V50 of each member, a row each, with its interval."""
    rows = [(label, one) for label, one in each.members if one.known]
    if not rows:
        return ""
    left, row_height = 330.0, 24.0
    bottom = 8 + row_height * len(rows)
    low, high = min(one.fit.v50.low for _, one in rows), max(one.fit.v50.high for _, one in rows)
    room = (high - low) * 0.1 or rows[0][1].fit.levels.step
    axis = Axis.over(max(low - room, 0.0), high + room, left, _WIDTH - 90, wanted=6)
    parts = list(across(axis, 4, bottom, f"V50 of {names.axis(each.axis)} [{names.unit(each.axis)}]"))
    for place, (label, one) in enumerate(rows):
        y, v50 = 16 + row_height * place, one.fit.v50
        parts += [
            text(fitting(label, left - 14), left - 14, y + 4, "end", "ink"),
            line(f"M{axis.at(v50.low):.1f} {y:g}H{axis.at(v50.high):.1f}", "first"),
            dots([(axis.at(v50.value), y)], "first big", label),
            text(f"{number(v50.value)} {names.unit(each.axis)}", _WIDTH - 80, y + 4, "start", "ink"),
        ]
    return picture(_WIDTH, bottom + 32, f"V50 of {names.axis(each.axis)} with intervals", parts)
