"""A measurement's distribution against its limits, and by group, as inline SVG. A million values cost what forty
columns do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reports.settled import alike
from reports.svg import Axis, across, dots, fitting, line, picture, rect, text
from reports.text import number

WIDTH, HEIGHT = 460.0, 176.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 8.0, 452.0, 24.0, 142.0
_COLUMNS = 40
_FAR = 8.0  # robust sigmas from the median beyond which values are told and not drawn
_REACH = 3.0  # a limit is drawn to scale where that widens the values' range no more than so many times
Floats = npt.NDArray[np.float64]


def histogram_svg(
    values: Floats, *, unit: str = "", lower: float | None = None, upper: float | None = None,
    warn: tuple[float | None, float | None] = (None, None), name: str = "", median: float | None = None,
) -> str:  # fmt: skip
    """Columns of counts with the limits (solid) and the warning limits (dashed). Values that are no number are left
    out; those too far off to be drawn beside the rest, and limits likewise, are told at their side. `median`: of the
    values, where it is known."""
    finite = np.isfinite(values)
    known = values if finite.all() else values[finite]
    if not len(known):
        return '<p class="none">No number was measured.</p>'
    least, most = shown_range(known, median)
    inside = known if (least, most) == (known.min(), known.max()) else known[(known >= least) & (known <= most)]
    span = 0.0 if alike(least, most) else most - least
    low, high = least - 0.04 * span, most + 0.04 * span
    for limit in (lower, upper):
        if limit is not None and least - _REACH * span <= limit <= most + _REACH * span:
            low, high = min(low, limit - 0.06 * span), max(high, limit + 0.06 * span)
    axis = Axis.over(low, high, _LEFT, _RIGHT, wanted=6)
    fewest = max(6, min(_COLUMNS, 2 * round(len(inside) ** 0.5) + 4))
    counts, edges = np.histogram(inside, bins=fewest, range=(least, most) if span else (axis.least, axis.most))
    tall = Axis.over(0.0, float(counts.max()), _BOTTOM, _TOP)
    parts = list(across(axis, _TOP, _BOTTOM, unit))
    for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            middle = (left + right) / 2
            out = (lower is not None and middle < lower) or (upper is not None and middle > upper)
            x, y = axis.at(left), tall.at(count)
            width = axis.at(right) - x - 0.7
            told = f"{number(left)} to {number(right)}: {count}"
            parts.append(rect(x, y, width, _BOTTOM - y, "fail" if out else "first", told))
    parts.append(line(f"M{_LEFT:g} {_BOTTOM:g}H{_RIGHT:g}", "axis"))
    parts += _limits(axis, lower, upper, warn)
    below, above = int((known < least).sum()), int((known > most).sum())
    if below:
        parts.append(text(f"← {below} below {number(least)}", _LEFT, _BOTTOM + 26, "start", "alarm"))
    if above:
        parts.append(text(f"{above} above {number(most)} →", _RIGHT - 60, _BOTTOM + 26, "end", "alarm"))
    told = f"Distribution of {name or 'the values'} against the limits, n = {len(known)}"
    return picture(WIDTH, HEIGHT, told, parts)


def shown_range(known: Floats, middle: float | None = None) -> tuple[float, float]:
    """The range to draw: all values, unless some lie so far off that the rest would be one column. `middle`: the
    median."""
    least, most = float(known.min()), float(known.max())
    if len(known) < 8 or least == most:
        return least, most
    middle = float(np.median(known)) if middle is None else middle
    off = np.abs(known - middle)
    wide = (most - least) / (4 * _FAR)
    if 2 * int(np.count_nonzero(off < wide / 1.4826)) < len(off):  # half of them and more are farther off than that
        return least, most
    robust = 1.4826 * float(np.median(off))
    if alike(middle, middle + robust) or wide <= robust:
        return least, most
    near = known[off <= _FAR * robust]
    return float(near.min()), float(near.max())


def _limits(
    axis: Axis, lower: float | None, upper: float | None, warn: tuple[float | None, float | None]
) -> list[str]:
    parts = []
    for limit, kind in ((warn[0], "warn dash"), (warn[1], "warn dash"), (lower, "fail"), (upper, "fail")):
        if limit is not None and axis.shows(limit):
            parts.append(line(f"M{axis.at(limit):.1f} {_TOP - 6:g}V{_BOTTOM:g}", kind))
    for limit, word, beyond in ((lower, "min", "←"), (upper, "max", "→")):
        if limit is None:
            continue
        if axis.shows(limit):
            near_end = axis.at(limit) > _RIGHT - 60
            anchor = "end" if near_end and word == "min" else "start" if axis.at(limit) < _LEFT + 60 else "middle"
            anchor = "end" if axis.at(limit) > _RIGHT - 40 else anchor
            parts.append(text(f"{word} {number(limit)}", axis.at(limit), _TOP - 10, anchor, "alarm"))
        else:
            left = limit < axis.least
            told = f"{beyond} {word} {number(limit)}" if left else f"{word} {number(limit)} {beyond}"
            parts.append(text(told, _LEFT if left else _RIGHT, _TOP - 10, "start" if left else "end", "muted"))
    return parts


def groups_svg(
    rows: Sequence[tuple[str, int, float, float]], *, unit: str = "", lower: float | None = None,
    upper: float | None = None, name: str = "",
) -> str:  # fmt: skip
    """One measurement by group: (group, n, mean, standard deviation), a dot at the mean, a line of one deviation each
    way; limits where they are near."""
    if not rows:
        return ""
    left, row, top = 96.0, 20.0, 6.0
    bottom = top + row * len(rows)
    ends = [(mean - spread, mean + spread) for _, _, mean, spread in rows]
    low, high = min(each for each, _ in ends), max(each for _, each in ends)
    span = high - low
    for limit in (lower, upper):
        if limit is not None and low - span <= limit <= high + span:
            low, high = min(low, limit), max(high, limit)
    reach = 0.05 * (high - low)
    axis = Axis.over(low - reach, high + reach, left, _RIGHT, wanted=6)
    parts = list(across(axis, top, bottom, unit))
    for place, (group, n, mean, spread) in enumerate(rows):
        y = top + row * (place + 0.5)
        told = f"{group}: mean {number(mean)} {unit}, standard deviation {number(spread)}, n = {n}"
        parts += [
            text(fitting(group, left - 12), left - 8, y + 4, "end", "ink"),
            line(f"M{axis.at(mean - spread):.1f} {y:.1f}H{axis.at(mean + spread):.1f}", "range"),
            dots([(axis.at(mean), y)], "first big", told),
        ]
    for limit in (lower, upper):
        if limit is not None and axis.shows(limit):
            parts.append(line(f"M{axis.at(limit):.1f} {top:g}V{bottom:g}", "fail"))
    about = f"{name or 'The measurement'} by group: mean and one deviation each way"
    return picture(WIDTH, bottom + 30, about, parts)
