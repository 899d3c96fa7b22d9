"""Volts and amps of the last minute as inline SVG, from the end of power.csv."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from rig.panel.tail import last_bytes

WINDOW_S = 60.0  # of time that is drawn
WIDTH, HEIGHT = 300, 40  # of a curve's own coordinates
_TAIL = 96 << 10  # bytes: a minute at 20 samples a second is 43 KiB
_GROUPS = 150  # of samples, of each the lowest and the highest are drawn: no dip is lost


@dataclass(frozen=True)
class Curve:
    """One quantity: the path in WIDTH x HEIGHT, its newest value, lowest and highest, and the scale's top."""

    path: str
    newest: float
    lowest: float
    highest: float
    top: float

    @property
    def svg(self) -> Markup:
        return Markup(
            '<svg class="curve" viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
            '<path class="line" d="{}"/></svg>'
        ).format(WIDTH, HEIGHT, self.path)


@dataclass(frozen=True)
class Power:
    """What the supply read of late; `seconds` of time are drawn."""

    volts: Curve
    amps: Curve
    seconds: float


def read_samples(path: Path) -> list[tuple[int, float, float]]:
    """(mono_ns, volts, amps) of the last minute on file. Its last line may be torn and is left out."""
    raw, whole = last_bytes(path, _TAIL)
    lines = raw.decode(errors="replace").split("\n")[:-1]
    rows = [row for row in map(_row, lines if whole else lines[1:]) if row is not None]
    rows.sort()
    return [row for row in rows if row[0] >= rows[-1][0] - WINDOW_S * 1e9] if rows else []


def power_of(path: Path) -> Power | None:
    """None where there is nothing to draw."""
    rows = read_samples(path)
    if len(rows) < 2:
        return None
    end = rows[-1][0]
    times = [(end - row[0]) / 1e9 for row in rows]
    span = max(times[0], 5.0)
    places = [WIDTH * (1 - ago / span) for ago in times]
    volts, amps = [row[1] for row in rows], [row[2] for row in rows]
    return Power(_curve(places, volts, 4.0), _curve(places, amps, 0.1), times[0])


def _curve(places: list[float], values: list[float], least_top: float) -> Curve:
    top = _round_up(max(least_top, *values))
    keep = _extremes(values)
    points = [f"{places[at]:.1f} {HEIGHT - 1 - (HEIGHT - 2) * max(values[at], 0.0) / top:.1f}" for at in keep]
    return Curve("M" + "L".join(points), values[-1], min(values), max(values), top)


def _extremes(values: list[float]) -> list[int]:
    """Which samples to draw: of each group the lowest and highest, and both ends."""
    count = len(values)
    if count <= 2 * _GROUPS:
        return list(range(count))
    keep = {0, count - 1}
    for group in range(_GROUPS):
        piece = range(group * count // _GROUPS, (group + 1) * count // _GROUPS)
        keep |= {min(piece, key=values.__getitem__), max(piece, key=values.__getitem__)}
    return sorted(keep)


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 10 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 2, 4, 5) if value <= step * power * (1 + 1e-9)), 10 * power)


def _row(line: str) -> tuple[int, float, float] | None:
    cells = line.split(",")
    if len(cells) != 4:
        return None
    try:
        row = int(cells[0]), float(cells[1]), float(cells[2])
    except ValueError:
        return None
    return row if math.isfinite(row[1]) and math.isfinite(row[2]) and abs(row[0]) < 2**63 else None
