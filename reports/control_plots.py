"""Control charts as inline SVG. A chart of more points than a page has room for is drawn in columns: from the lowest
to the highest of each, with their mean; a rule hit in a column marks it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reports.charts import Chart
from reports.settled import span_of
from reports.svg import Axis, dots, line, picture, text, up

MOST = 240  # points drawn one by one; more are drawn in so many columns
_TALL = 86.0
Floats = npt.NDArray[np.float64]


class Panel:
    """One chart of a picture."""

    def __init__(self, name: str, chart: Chart) -> None:
        self.name = name
        self.points = chart.points
        self.centre, self.lower, self.upper = (self._all(each) for each in (chart.centre, chart.lower, chart.upper))
        self.hits = chart.hits.places

    def _all(self, value: float | Floats) -> Floats:
        """A value for each point, or one for all."""
        found = np.asarray(value, dtype=np.float64).reshape(-1)
        return found if len(found) == len(self.points) else found[:1]

    @property
    def binned(self) -> bool:
        return len(self.points) > MOST


def control_svg(panels: Sequence[Panel], *, unit: str = "", width: float = 460.0, told: str = "") -> str:
    """Panels under each other over one row of points, first to last."""
    panels = [panel for panel in panels if np.isfinite(panel.points).any()]
    if not panels:
        return '<p class="none">No number was measured.</p>'
    parts: list[str] = []
    top = 18.0
    for panel in panels:
        parts += _panel(panel, top, top + _TALL, width, unit)
        top += _TALL + 24
    n = len(panels[0].points)
    parts.append(text("1", 58, top - 9))
    parts.append(text(f"{n} in order", width - 6, top - 9, "end"))
    return picture(width, top - 4, told or f"Control chart of {n} points", parts)


def _panel(panel: Panel, top: float, bottom: float, width: float, unit: str) -> list[str]:
    left, right = 56.0, width - 6
    spans = [span_of(each) for each in (panel.points, panel.lower, panel.upper)]
    low, high = min(least for least, _ in spans), max(most for _, most in spans)
    if len(panel.points) >= 8:
        low, high = _without_far(panel, low, high)
    reach = 0.06 * (high - low)
    axis = Axis.over(low - reach, high + reach, bottom, top, wanted=4)
    places = np.linspace(left + 4, right - 4, len(panel.points)) if len(panel.points) > 1 else np.array([left + 20])
    parts = list(up(axis, left, right))
    parts.append(text(panel.name + (f" ({unit})" if unit else ""), left, top - 5, "start", "ink"))
    parts += _limits(panel, axis, places, right)
    parts += _columns(panel, axis, places) if panel.binned else _points(panel, axis, places)
    return parts


def _without_far(panel: Panel, low: float, high: float) -> tuple[float, float]:
    """One point a hundred sigmas off would flatten the rest: it is drawn at the edge."""
    upper, lower = (edge[np.isfinite(edge)] for edge in (panel.upper, panel.lower))
    if not len(upper) or not len(lower):
        return low, high
    ceiling, floor = float(upper.max()), float(lower.min())
    room = 4 * (ceiling - floor)
    return (max(low, floor - room), min(high, ceiling + room)) if room > 0 else (low, high)


def _limits(panel: Panel, axis: Axis, places: Floats, right: float) -> list[str]:
    parts = []
    for edge, kind in ((panel.centre, "second thin"), (panel.upper, "fail dash"), (panel.lower, "fail dash")):
        if not np.isfinite(edge).all() or not len(edge):
            continue
        if np.ptp(edge) == 0:
            parts.append(line(f"M56 {axis.at(float(edge[0])):.1f}H{right:g}", kind))
        else:
            at = np.unique(np.linspace(0, len(edge) - 1, min(len(edge), MOST)).astype(int))
            half = (places[-1] - places[0]) / max(len(at) - 1, 1) / 2
            steps = (f"{places[i] - half:.1f} {axis.at(float(edge[i])):.1f}H{places[i] + half:.1f}" for i in at)
            parts.append(line("M" + "M".join(steps), kind))
    return parts


def _points(panel: Panel, axis: Axis, places: Floats) -> list[str]:
    known = np.flatnonzero(np.isfinite(panel.points))
    drawn = [(float(places[i]), axis.at(float(panel.points[i]))) for i in known]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in drawn) if len(drawn) > 1 else ""
    marked = [(float(places[i]), axis.at(float(panel.points[i]))) for i in panel.hits if i in set(known.tolist())]
    some = [drawn[i] for i in range(len(drawn))]
    return [line(path, "first thin"), dots(some, "first small"), dots(marked, "fail", "a rule hit ends here")]


def _columns(panel: Panel, axis: Axis, places: Floats) -> list[str]:
    edges = np.linspace(0, len(panel.points), MOST + 1).astype(int)
    marked = set(np.searchsorted(edges, panel.hits, side="right").tolist())
    plain: list[str] = []
    hit: list[str] = []
    means: list[str] = []
    begins = edges[:-1]  # more points than columns: none is empty
    there = np.isfinite(panel.points)
    n = np.add.reduceat(there, begins, dtype=np.intp)
    points = panel.points
    if not there.all():
        points = np.where(there, points, np.nan)
    sums = np.add.reduceat(np.where(there, points, 0.0) if (n < np.diff(edges)).any() else points, begins)
    least, most = (np.minimum, np.maximum) if there.all() else (np.fmin, np.fmax)  # the plain ones are far quicker
    low, high = least.reduceat(points, begins), most.reduceat(points, begins)
    for column in np.flatnonzero(n).tolist():
        x = float(places[(edges[column] + edges[column + 1] - 1) // 2])
        stroke = f"M{x:.1f} {axis.at(float(low[column])):.1f}V{axis.at(float(high[column])):.1f}"
        (hit if column + 1 in marked else plain).append(stroke)
        means.append(f"{x:.1f} {axis.at(float(sums[column] / n[column])):.1f}")
    return [
        line("".join(plain), "range thin"), line("".join(hit), "fail faint"),
        line("M" + "L".join(means) if len(means) > 1 else "", "first"),
    ]  # fmt: skip
