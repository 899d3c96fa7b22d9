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
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK, MUTED, GRID, VOLTS, AMPS, RANGE = (f"#0101{n:02x}" for n in range(10, 16))
_PAINT = {
    INK: "var(--ink, #1c2024)", MUTED: "var(--muted, #5d666f)", GRID: "var(--rule, #d9dde1)",
    VOLTS: "var(--volts, #1f5fa8)", AMPS: "var(--amps, #b3530b)",
    RANGE: "var(--idle, #b4bbc3)",
}  # fmt: skip
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "rig", "font.size": 9, "text.color": INK, "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID, "xtick.color": GRID, "ytick.color": GRID, "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED, "axes.spines.top": False, "axes.spines.right": False, "grid.color": GRID,
    "grid.linewidth": 0.6, "axes.linewidth": 0.8, "lines.linewidth": 1.2, "path.simplify": False,
}  # fmt: skip
_serial = itertools.count(1)


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
