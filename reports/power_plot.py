"""A unit's volts and amps as inline SVG, written by hand: the unit's own process draws it, a slot waits for that, and
matplotlib takes two seconds of a core to be there at all.

Two panels over one axis of seconds: the steps shaded and named above, the rail's volts, the amps below. It prints,
needs no network, and takes its colours from the page's CSS variables.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from reports.trace import Floats, PowerTrace, Span, read_power, thin
from rig.records.events import Outcome

MOST_POINTS = 1600
WIDTH, HEIGHT = 676.8, 280.8
_LEFT, _RIGHT = 42.0, 670.0  # of both panels
_UPPER, _LOWER = (48.0, 146.0), (154.0, 252.0)  # top and bottom of each
_ROWS, _ROW = 4, 10.0  # of names above the plot
_LETTER = 4.6  # width of one at 8 points
_MUTED = "var(--muted, #5d666f)"
_GRID = "var(--rule, #d9dde1)"


def power_svg(csv: Path, spans: Sequence[Span] = (), marks: Sequence[tuple[str, int]] = ()) -> str:
    """Volts and amps over seconds, the steps shaded, `marks` (a label, monotonic ns) as lines.

    Time 0 is the first sample. Lines break where samples are missing. Raises UsageProblem when the trace cannot
    be read or holds no sample.
    """
    return draw_power(read_power(csv), spans, marks)


def draw_power(trace: PowerTrace, spans: Sequence[Span] = (), marks: Sequence[tuple[str, int]] = ()) -> str:
    """The same, of a trace that is read already; without samples, a sentence instead of a plot."""
    if not len(trace):
        return '<p class="none">No volts or amps were sampled.</p>'
    zero = int(trace.mono_ns[0])
    seconds = (trace.mono_ns - zero) / 1e9
    ends = [float(seconds[0]), float(seconds[-1]), *(_since(each, zero) for span in spans for each in _moments(span))]
    across = _Axis.over(min(ends), max(ends), _LEFT, _RIGHT, wanted=9)
    upper = _Axis.over(*_range(trace.volts), _UPPER[1], _UPPER[0], wanted=4)
    lower = _Axis.over(*_range(trace.amps), _LOWER[1], _LOWER[0], wanted=4)
    limited = [at for at, mode in enumerate(trace.modes) if mode.lower() == "cc"]
    parts = [
        *_shades(spans, zero, across),
        *_marks([_since(when, zero) for _, when in marks], across),
        *_scale(upper, "volts (V)"),
        *_scale(lower, "amps (A)"),
        *_seconds(across),
        _line(across, upper, seconds, trace.volts, "var(--volts, #1f5fa8)"),
        _line(across, lower, seconds, trace.amps, "var(--amps, #b3530b)"),
        *_dots(across, lower, seconds, trace.amps, limited),
    ]
    labels = [(span.name, _since(span.start_ns, zero)) for span in spans]
    labels += [(label, _since(when, zero)) for label, when in marks]
    parts += _labels([(name, at) for name, at in labels if at <= across.most], across)
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" style="font-family: inherit" '
        f'aria-label="Supply volts and amps over time, steps shaded">{"".join(parts)}</svg>'
    )


# -- axes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    """From `least` to `most`, drawn from `begin` to `end` in the units of the picture, with ticks `step` apart."""

    least: float
    most: float
    begin: float
    end: float
    step: float

    @classmethod
    def over(cls, least: float, most: float, begin: float, end: float, *, wanted: int) -> _Axis:
        most = most if most > least else least + 1.0
        return cls(least, most, begin, end, _nice((most - least) / wanted))

    def at(self, value: float) -> float:
        return self.begin + (value - self.least) / (self.most - self.least) * (self.end - self.begin)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Places and their texts."""
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        for number in range(math.ceil(self.least / self.step - 1e-9), math.floor(self.most / self.step + 1e-9) + 1):
            yield self.at(number * self.step), f"{number * self.step:.{digits}f}"


def _nice(step: float) -> float:
    """The next of 1, 2, 5, 10, ... at or above."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(each * power for each in (1.0, 2.0, 5.0, 10.0) if each * power >= step * 0.999)


def _range(values: Floats) -> tuple[float, float]:
    """From zero, or what is below it, to a little above the highest."""
    known = values[~np.isnan(values)]
    least, most = (min(0.0, float(known.min())), float(known.max())) if len(known) else (0.0, 0.0)
    return least, most + 0.05 * (most - least)


def _moments(span: Span) -> tuple[int, int]:
    return span.start_ns, span.end_ns


def _since(mono_ns: int, zero: int) -> float:
    return (mono_ns - zero) / 1e9


# -- parts of the picture ----------------------------------------------------------------------------------


def _shades(spans: Sequence[Span], zero: int, across: _Axis) -> Iterator[str]:
    for number, span in enumerate(spans):
        bad = span.outcome is not None and not span.outcome.good and span.outcome is not Outcome.ABORTED
        if not bad and number % 2:
            continue
        paint = "var(--fail-soft, #f8dcd8)" if bad else "var(--band, #eef1f4)"
        left, right = (across.at(_since(each, zero)) for each in _moments(span))
        for top, bottom in (_UPPER, _LOWER):
            yield (
                f'<rect x="{left:.1f}" y="{top:g}" width="{max(0.0, right - left):.1f}" height="{bottom - top:g}" '
                f'style="fill: {paint}"/>'
            )


def _marks(moments: Sequence[float], across: _Axis) -> Iterator[str]:
    for moment in moments:
        if across.least <= moment <= across.most:
            yield _stroke(f"M {across.at(moment):.1f} {_UPPER[0]:g} V {_LOWER[1]:g}", _MUTED, 0.8, dash="3 2")


def _scale(axis: _Axis, name: str) -> Iterator[str]:
    """Lines across, their values, the panel's name."""
    for at, text in axis.ticks():
        yield _stroke(f"M {_LEFT:g} {at:.1f} H {_RIGHT:g}", _GRID, 0.6)
        yield _text(text, _LEFT - 4, at + 3, "end")
    middle = (axis.begin + axis.end) / 2
    yield _text(name, 9, middle, "middle", turned=True)
    yield _stroke(f"M {_LEFT:g} {axis.end:g} V {axis.begin:g}", _GRID, 0.8)


def _seconds(across: _Axis) -> Iterator[str]:
    for at, text in across.ticks():
        yield _stroke(f"M {at:.1f} {_LOWER[1]:g} v 3", _GRID, 0.8)
        yield _text(text, at, _LOWER[1] + 13, "middle")
    yield _text("seconds since the first sample", (_LEFT + _RIGHT) / 2, _LOWER[1] + 25, "middle")


def _line(across: _Axis, axis: _Axis, seconds: Floats, values: Floats, paint: str) -> str:
    """A line that breaks at missing samples: across a gap nobody knows what the rail did."""
    at = thin(values, MOST_POINTS)
    usual = float(np.median(np.diff(seconds))) if len(seconds) > 2 else 0.0
    gaps = np.flatnonzero(np.diff(seconds) > max(8 * usual, 1e-9)) if usual else np.array([], dtype=np.int64)
    begins = set((gaps + 1).tolist())
    words, pen = [], "M"
    for index in np.union1d(at, np.concatenate([gaps, gaps + 1])).tolist():
        pen = "M" if index in begins else pen
        if math.isnan(values[index]):
            pen = "M"
            continue
        words.append(f"{pen} {across.at(float(seconds[index])):.2f} {axis.at(float(values[index])):.2f}")
        pen = "L"
    alone = len(values) < 3  # else they would not be seen
    return _stroke(" ".join(word + " h 0.01" if alone else word for word in words), paint, 3.0 if alone else 1.2)


def _dots(across: _Axis, axis: _Axis, seconds: Floats, values: Floats, limited: Sequence[int]) -> Iterator[str]:
    """Where the supply limits its current."""
    if not limited:
        return
    places = [
        f"M {across.at(float(seconds[at])):.2f} {axis.at(float(values[at])):.2f} h 0.01"
        for at in limited
        if not math.isnan(values[at])
    ]
    yield _stroke(" ".join(places), "var(--ink, #1c2024)", 2.2)
    yield _text("dots: supply in current limit", _RIGHT, _LOWER[0] - 1, "end", size=8)


def _labels(labels: Sequence[tuple[str, float]], across: _Axis) -> Iterator[str]:
    """Names above the plot, in as many rows as they need (four at most; a name that fits in none is left out)."""
    free = [across.begin] * _ROWS
    for name, moment in sorted(labels, key=lambda label: label[1]):
        at = max(across.at(moment), across.begin)
        width = _LETTER * len(name) + 8
        row = next((row for row, until in enumerate(free) if until <= at), None)
        if row is None or at + width > WIDTH + 40:
            continue
        free[row] = at + width
        yield _text(name, at + 1, _UPPER[0] - 3 - _ROW * row, "start", size=8)


def _stroke(path: str, paint: str, width: float, *, dash: str = "") -> str:
    dashed = f"; stroke-dasharray: {dash}" if dash else ""
    style = f"fill: none; stroke: {paint}; stroke-width: {width:g}; stroke-linecap: round{dashed}"
    return f'<path d="{path}" style="{style}"/>'


def _text(text: str, x: float, y: float, anchor: str, *, size: int = 9, turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x:g} {y:g})"' if turned else ""
    visible = "".join(char if char.isprintable() else " " for char in text)
    return (
        f'<text x="{x:.1f}" y="{y:.1f}"{turn} style="text-anchor: {anchor}; font-size: {size}px; fill: {_MUTED}">'
        f"{escape(visible)}</text>"
    )
