"""Bars of counts, shares and seconds as inline SVG. Names in them are shown as they are given: scrub them before."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from reports.metrics import percent
from reports.svg import Axis, across, dots, fitting, line, picture, rect, text, up
from reports.text import seconds
from reports.timing import PARTS

WIDTH = 940.0
_NAMES = 206.0  # room for the names of rows


def bar_svg(parts: Sequence[tuple[str, int]]) -> str:
    """One bar of a whole: (kind, count); a kind is its CSS colour variable (pass, retest, fail, ...)."""
    total = sum(count for _, count in parts)
    if not total:
        return ""
    at, pieces = 0.0, []
    for kind, count in parts:
        width = 1000 * count / total
        if count:
            pieces.append(
                f'<rect x="{at:.2f}" y="0" width="{max(width - 3, 1):.2f}" height="16" rx="2" '
                f'style="fill: var(--{escape(kind)})"><title>{escape(kind)}: {count}</title></rect>'
            )
        at += width
    told = ", ".join(f"{kind} {count}" for kind, count in parts if count)
    return (
        f'<svg class="bar" viewBox="0 0 997 16" preserveAspectRatio="none" role="img" aria-label="{escape(told)}">'
        f"{''.join(pieces)}</svg>"
    )


def steps_svg(steps: Sequence[tuple[str, int, float, float, float, float]]) -> str:
    """Step times: (name, n, fastest, p50, p95, slowest), seconds; first step on top. A line from the fastest to
    the slowest, a dot at p50, a tick at p95."""
    if not steps:
        return '<p class="none">No step went well, so there are no times.</p>'
    height, row = 8 + 22.0 * len(steps), 22.0
    axis = Axis.over(0.0, max(slowest for *_, slowest in steps) * 1.02, _NAMES, WIDTH - 12, wanted=8)
    parts = list(across(axis, 4, height, "seconds"))
    for place, (name, _, fastest, p50, p95, slowest) in enumerate(steps):
        y = 15 + row * place
        parts += [
            text(fitting(name, _NAMES - 10), _NAMES - 10, y + 4, "end", "ink"),
            line(f"M{axis.at(fastest):.1f} {y:g}H{axis.at(slowest):.1f}", "range"),
            line(f"M{axis.at(p95):.1f} {y - 5:g}v10", "second"),
            dots([(axis.at(p50), y)], "first big", f"{name}: p50 {seconds(p50)} s, p95 {seconds(p95)} s"),
        ]
    return picture(WIDTH, height + 32, "Step times: p50 and p95", parts)


def pareto_svg(rows: Sequence[tuple[str, int, float]], what: str) -> str:
    """Counts by name, the commonest on top: (name, count, cumulative share), the share at the right."""
    if not rows:
        return ""
    row, top = 22.0, 18.0
    axis = Axis.over(0.0, max(count for _, count, _ in rows) * 1.06, _NAMES, WIDTH - 90, wanted=6)
    parts = [text("cumulative", WIDTH, 11, "end")]
    for place, (name, count, cumulative) in enumerate(rows):
        y = top + row * place
        parts += [
            text(fitting(name, _NAMES - 10), _NAMES - 10, y + 14, "end", "ink"),
            rect(_NAMES, y + 3, axis.at(count) - _NAMES, 15, "fail", f"{name}: {count} {what}"),
            text(str(count), axis.at(count) + 5, y + 14.5, "start", "ink"),
            text(percent(cumulative), WIDTH, y + 14.5, "end"),
        ]
    return picture(WIDTH, top + row * len(rows) + 4, f"{what} by code, with the cumulative share", parts)


def stacked_svg(rows: Sequence[tuple[str, int, dict[str, float]]]) -> str:
    """Where a unit's time goes: (group, n, seconds by part), a bar a group; parts in the order of PARTS."""
    if not rows:
        return ""
    most = max(sum(parts.values()) for _, _, parts in rows) or 1.0
    bottom = 26 + 24.0 * len(rows)
    axis = Axis.over(0.0, most * 1.04, _NAMES, WIDTH - 12, wanted=8)
    drawn = list(across(axis, 24, bottom, "seconds, p50 of each part"))
    x = _NAMES
    for number, part in enumerate(PARTS):
        drawn += [rect(x, 4, 11, 11, f"c{number}"), text(part, x + 15, 13.5)]
        x += 34 + 6.2 * len(part)
    for place, (name, n, parts) in enumerate(rows):
        y, at = 28 + 24.0 * place, _NAMES
        drawn.append(text(f"{fitting(name, _NAMES - 70)} (n = {n})", _NAMES - 10, y + 13, "end", "ink"))
        for number, part in enumerate(PARTS):
            took = parts.get(part, 0.0)
            if took > 0:
                width = axis.at(took) - _NAMES
                drawn.append(rect(at, y + 1, max(width - 1, 0.5), 17, f"c{number}", f"{part}: {seconds(took)} s"))
                at += width
    return picture(WIDTH, bottom + 32, "Seconds of a unit by part", drawn)


def rates_svg(rows: Sequence[tuple[str, float, float, float, int]], told: str) -> str:
    """Rates with their intervals: (name, rate, low, high, n), left to right; the axis holds the intervals."""
    if not rows:
        return ""
    top, bottom, left = 10.0, 150.0, 46.0
    axis = Axis.over(100 * max(min(low for _, _, low, _, _ in rows) - 0.02, 0.0), 100.0, bottom, top, wanted=4)
    parts = [*up(axis, left, WIDTH - 6)]
    room = (WIDTH - left - 6) / len(rows)
    each = max(1, round(60 / room))  # of the names, so that they do not touch
    places = []
    for place, (name, rate, low, high, n) in enumerate(rows):
        x = left + room * (place + 0.5)
        places.append((x, axis.at(100 * rate)))
        parts.append(line(f"M{x:.1f} {axis.at(100 * low):.1f}V{axis.at(100 * high):.1f}", "range thin"))
        about = f"{name}: {percent(rate)}, n = {n}, {percent(low)} to {percent(high)}"
        parts.append(dots([places[-1]], "first", about))
        if place % each == 0:
            parts.append(text(fitting(name, room * each - 4), x, bottom + 15, "middle"))
    if len(places) > 1:
        parts.insert(0, line("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places), "muted"))
    return picture(WIDTH, bottom + 22, told, parts)


def spark_svg(rates: Sequence[float]) -> str:
    """A small line of rates for a row of a table; nothing for fewer than two."""
    if len(rates) < 2:
        return ""
    least = min(min(rates), 0.9)
    axis, step = Axis.over(least, 1.0, 20.0, 3.0), 94 / (len(rates) - 1)
    places = [(3 + step * at, axis.at(rate)) for at, rate in enumerate(rates)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    told = f"from {percent(rates[0])} to {percent(rates[-1])}, lowest {percent(min(rates))}"
    return (
        f'<svg class="spark" viewBox="0 0 100 23" role="img" aria-label="{escape(told)}"><title>{escape(told)}'
        f"</title>{line(path, 'first')}{dots(places[-1:], 'first')}</svg>"
    )
