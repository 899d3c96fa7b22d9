"""Times of releases against the baseline's as a picture: a row a comparison, a dot with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.svg import Axis, across, dots, fitting, line, picture, text

_WIDTH, _NAMES, _ROW = 940.0, 400.0, 24.0


@dataclass(frozen=True)
class Ratio:
    """A ratio of times with its interval; 1: as fast as the baseline. `slower`: the verdict says so."""

    name: str
    ratio: float
    low: float
    high: float
    slower: bool
    told: str


def ratios_svg(rows: Sequence[Ratio]) -> str:
    """Nothing for no rows. The line at 1 is the baseline; what is slower is named so, not by its colour alone."""
    if not rows:
        return ""
    bottom = 10 + _ROW * len(rows)
    least, most = min(0.9, *(row.low for row in rows)), max(1.1, *(row.high for row in rows))
    axis = Axis.over(least - 0.02, most + 0.02, _NAMES, _WIDTH - 110, wanted=7)
    parts = list(across(axis, 4, bottom, "times the baseline's time"))
    parts.append(line(f"M{axis.at(1):.1f} 4V{bottom:g}", "axis"))
    for place, row in enumerate(rows):
        y = 18 + _ROW * place
        kind = "fail" if row.slower else "first"
        parts += [
            text(fitting(row.name, _NAMES - 12), _NAMES - 12, y + 4, "end", "ink"),
            line(f"M{axis.at(row.low):.1f} {y:g}H{axis.at(row.high):.1f}", f"{kind}"),
            dots([(axis.at(row.ratio), y)], f"{kind} big", row.told),
            text(f"{row.ratio:.3f}", _WIDTH - 98, y + 4, "start", "alarm" if row.slower else "ink"),
        ]
        if row.slower:
            parts.append(text("slower", _WIDTH, y + 4, "end", "alarm"))
    return picture(_WIDTH, bottom + 32, "Times against the baseline's, with their intervals", parts)
