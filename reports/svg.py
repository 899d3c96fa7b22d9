"""Inline SVG by hand: elements and an axis with round ticks.

Pictures take their colours from the page's style sheet by class (`ink`, `grid`, `pass`, `fail`, ...), so that they
follow light, dark and print; they need no network and weigh a few kilobytes whatever they show.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

from reports.settled import alike

_LETTER = 6.4  # width of a digit, about
_SHORT = ((1e9, "G"), (1e6, "M"), (1e3, "k"))  # from a hundred of them on, as 100000 does not fit beside a picture


@dataclass(frozen=True)
class Axis:
    """From `least` to `most`, drawn from `begin` to `end` in the units of the picture, with ticks `step` apart."""

    least: float
    most: float
    begin: float
    end: float
    step: float

    @classmethod
    def over(cls, least: float, most: float, begin: float, end: float, *, wanted: int = 5) -> Axis:
        """An axis that shows this range and no more; a range of nothing is widened about its value."""
        if not most > least or alike(least, most):
            reach = abs(least) * 0.05 or 0.5
            least, most = least - reach, least + reach
        return cls(least, most, begin, end, nice((most - least) / max(wanted, 1)))

    def at(self, value: float) -> float:
        """Where a value is; one beyond an end is at that end."""
        share = (value - self.least) / (self.most - self.least)
        return self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin)

    def shows(self, value: float) -> bool:
        return self.least <= value <= self.most

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Places and their texts."""
        top = max(abs(self.least), abs(self.most))
        scale, short = next((each for each in _SHORT if top >= 100 * each[0]), (1.0, ""))
        digits = max(0, -math.floor(math.log10(self.step / scale) + 1e-9))
        plain = digits <= 6 and top < 1e14
        first, last = math.ceil(self.least / self.step - 1e-9), math.floor(self.most / self.step + 1e-9)
        for number in range(first, last + 1):
            value = number * self.step
            told = f"{value / scale + 0.0:.{digits}f}{short}" if plain else f"{value:.3g}"
            yield self.at(value), "0" if number == 0 else told


def nice(step: float) -> float:
    """The next of 1, 2, 5, 10, ... at or above."""
    if not step > 0 or not math.isfinite(step):
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(each * power for each in (1.0, 2.0, 5.0, 10.0) if each * power >= step * 0.999)


def picture(width: float, height: float, told: str, parts: Iterable[str]) -> str:
    """A whole picture. `told` is what it shows, for those who cannot see it."""
    return (
        f'<svg class="plot" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(told)}">'
        f"{''.join(parts)}</svg>"
    )


def rect(x: float, y: float, width: float, height: float, kind: str, told: str = "") -> str:
    """A filled area; nothing narrower than half a unit, so that a few of many are still seen."""
    title = f"<title>{escape(told)}</title>" if told else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{max(height, 0.5):.1f}" '
        f'class="{kind}"' + (f">{title}</rect>" if title else "/>")
    )


def line(path: str, kind: str) -> str:
    """A stroke along an SVG path."""
    return f'<path d="{path}" class="s {kind}"/>' if path else ""


def dots(places: Iterable[tuple[float, float]], kind: str, told: str = "") -> str:
    """Many points as one element: strokes of no length with round ends."""
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
    if not path:
        return ""
    title = f"<title>{escape(told)}</title>" if told else ""
    return f'<path d="{path}" class="d {kind}"' + (f">{title}</path>" if title else "/>")


def text(words: str, x: float, y: float, anchor: str = "start", kind: str = "") -> str:
    """Text at a place; what does not print is left blank."""
    visible = "".join(char if char.isprintable() else " " for char in words)
    where = {"start": "", "middle": " m", "end": " e"}[anchor]
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{(kind + where).strip()}">{escape(visible)}</text>'


def across(axis: Axis, top: float, bottom: float, unit: str = "") -> Iterator[str]:
    """A horizontal axis below a panel: faint lines up, values below, the unit at the end."""
    places = list(axis.ticks())
    yield line("".join(f"M{at:.1f} {top:g}V{bottom:g}" for at, _ in places), "grid")
    room = places[1][0] - places[0][0] if len(places) > 1 else math.inf
    widest = _LETTER * max((len(told) for _, told in places), default=0) + 6
    for at, told in places[:: math.ceil(widest / room) or 1]:
        yield text(told, at, bottom + 13, "middle")
    if unit:
        yield text(unit, axis.end, bottom + 26, "end")


def up(axis: Axis, left: float, right: float) -> Iterator[str]:
    """A vertical axis left of a panel: faint lines across, values beside."""
    places = list(axis.ticks())
    yield line("".join(f"M{left:g} {at:.1f}H{right:g}" for at, _ in places), "grid")
    for at, told in places:
        yield text(told, left - 5, at + 3.5, "end")


def fitting(words: str, room: float, letter: float = 5.9) -> str:
    """Words cut to the room they have, units of the picture; `letter` is about the width of one."""
    most = max(int(room / letter), 2)
    return words if len(words) <= most else words[: most - 1] + "…"
