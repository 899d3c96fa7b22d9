"""Plots as inline SVG: they print, need no network, and follow the page's light or dark colours.

Matplotlib draws with stand-in colours that are replaced by CSS variables (with a fallback for a page that has
none). No pyplot: nothing global, nothing left open.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.trace import Floats, PowerTrace, Span, read_power, thin
from rig.records.events import Outcome

MOST_POINTS = 1600
INK, MUTED, GRID, VOLTS, AMPS, BAND, BAD, RANGE = (f"#0101{n:02x}" for n in range(10, 18))
_PAINT = {
    INK: "var(--ink, #1c2024)", MUTED: "var(--muted, #5d666f)", GRID: "var(--rule, #d9dde1)",
    VOLTS: "var(--volts, #1f5fa8)", AMPS: "var(--amps, #b3530b)", BAND: "var(--band, #eef1f4)",
    BAD: "var(--fail-soft, #f8dcd8)", RANGE: "var(--idle, #b4bbc3)",
}  # fmt: skip
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "rig", "font.size": 9, "text.color": INK, "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID, "xtick.color": GRID, "ytick.color": GRID, "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED, "axes.spines.top": False, "axes.spines.right": False, "grid.color": GRID,
    "grid.linewidth": 0.6, "axes.linewidth": 0.8, "lines.linewidth": 1.2, "path.simplify": False,
}  # fmt: skip
_serial = itertools.count(1)


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
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.4, 3.9), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1])
        for axes, values, name, colour in (
            (upper, trace.volts, "volts (V)", VOLTS),
            (lower, trace.amps, "amps (A)", AMPS),
        ):
            _shade(axes, zero, spans)
            for label, when in marks:
                axes.axvline(
                    (when - zero) / 1e9, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)), label=f"_{label}"
                )
            _line(axes, seconds, values, colour)
            axes.set_ylabel(name)
            axes.grid(axis="y")
            axes.margins(x=0.01)
            axes.set_ylim(bottom=min(0.0, float(np.nanmin(values, initial=0.0))))
        limited = np.array([mode.lower() == "cc" for mode in trace.modes])
        if limited.any():
            lower.plot(seconds[limited], trace.amps[limited], ".", color=INK, markersize=3)
            lower.annotate("dots: supply in current limit", (1, 1), xycoords="axes fraction", ha="right", va="bottom",
                           fontsize=8, color=MUTED)  # fmt: skip
        lower.set_xlabel("seconds since the first sample")
        left, right = lower.get_xlim()
        labels = [(span.name, (span.start_ns - zero) / 1e9) for span in spans]
        labels += [(label, (when - zero) / 1e9) for label, when in marks]
        _label(upper, [(name, at) for name, at in labels if at <= right], left, right)
        return _svg(figure, "Supply volts and amps over time, steps shaded")


def steps_svg(steps: Sequence[tuple[str, int, float, float, float, float]]) -> str:
    """Step times: (name, n, fastest, p50, p95, slowest), seconds; first step on top. A line from the fastest to
    the slowest, a dot at p50, a tick at p95."""
    if not steps:
        return '<p class="none">No step went well, so there are no times.</p>'
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.4, 0.55 + 0.29 * len(steps)), layout="constrained")
        axes = figure.subplots()
        for row, (_, _, fastest, p50, p95, slowest) in enumerate(steps):
            axes.plot([fastest, slowest], [row, row], color=RANGE, linewidth=4, solid_capstyle="round")
            axes.plot([p95], [row], "|", color=AMPS, markersize=10, markeredgewidth=2)
            axes.plot([p50], [row], "o", color=VOLTS, markersize=6)
        axes.set_yticks(range(len(steps)), [name for name, *_ in steps], parse_math=False)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(steps) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("seconds")
        return _svg(figure, "Step times: p50 and p95")


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


def _line(axes: Axes, seconds: Floats, values: Floats, colour: str) -> None:
    """A line that breaks at missing samples: across a gap nobody knows what the rail did."""
    at = thin(values, MOST_POINTS)
    usual = float(np.median(np.diff(seconds))) if len(seconds) > 2 else 0.0
    gaps = np.flatnonzero(np.diff(seconds) > max(8 * usual, 1e-9)) if usual else np.array([], dtype=np.int64)
    at = np.union1d(at, np.concatenate([gaps, gaps + 1]))
    times, levels = seconds[at], values[at]
    breaks = np.searchsorted(at, gaps + 1)
    axes.plot(np.insert(times, breaks, np.nan), np.insert(levels, breaks, np.nan), color=colour,
              marker="." if len(values) < 3 else "")  # fmt: skip


def _shade(axes: Axes, zero: int, spans: Sequence[Span]) -> None:
    for number, span in enumerate(spans):
        bad = span.outcome is not None and not span.outcome.good and span.outcome is not Outcome.ABORTED
        if bad or number % 2 == 0:
            start, end = (span.start_ns - zero) / 1e9, (span.end_ns - zero) / 1e9
            axes.axvspan(start, end, color=BAD if bad else BAND, linewidth=0, zorder=0)


def _label(axes: Axes, labels: Sequence[tuple[str, float]], left: float, right: float) -> None:
    """Names above the plot, in as many rows as they need (four at most; a name that fits in none is left out)."""
    free = [left] * 4
    for name, at in sorted(labels, key=lambda label: label[1]):
        at = max(at, left)
        width = (right - left) * (0.0092 * len(name) + 0.012)  # of a 9.4 inch plot, at 8 points
        row = next((row for row, until in enumerate(free) if until <= at), None)
        if row is None or at + width > right + 0.1 * (right - left):
            continue
        free[row] = at + width
        axes.annotate(name, (at, 1), xycoords=("data", "axes fraction"), xytext=(1, 3 + 10 * row), fontsize=8,
                      textcoords="offset points", color=MUTED, parse_math=False)  # fmt: skip


def _svg(figure: Figure, told: str) -> str:
    """The figure as an <svg> element for the middle of a page: no prolog, ids of its own, the page's colours."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)  # it would style the whole page
    box = re.search(r'viewBox="[^"]+"', text)
    head = f'<svg class="plot" {box[0] if box else ""} role="img" aria-label="{escape(told)}">'
    text = head + text[text.index(">") + 1 :]
    own = f"p{next(_serial)}-"
    text = re.sub(r'\bid="', f'id="{own}', text)
    text = re.sub(r"url\(#", f"url(#{own}", text)
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{own}', text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1; font-family: inherit", text)
    for stand_in, paint in _PAINT.items():
        text = text.replace(stand_in, paint)
    return text.strip()
