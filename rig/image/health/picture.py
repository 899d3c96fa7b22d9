"""A flash map: its regions to scale, each with its state by colour and letter, and where the damage is.

For a terminal and as an SVG that stands alone or in a page: light or dark as the reader's system is, its text can be
selected, and nothing in it is loaded from anywhere. Whatever came from the file is escaped.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from rich.console import Group, RenderableType
from rich.text import Text

from rig.image.flashmap import FLASH_SIZE
from rig.image.health.diagnosis import Diagnosis, RegionState, State
from rig.image.printable import printable

LETTERS = {
    State.GOOD: "G", State.DAMAGED: "X", State.ERASED: "E", State.ZERO: "0", State.FOREIGN: "F", State.ABSENT: "-",
    State.DATA: "D",
}  # fmt: skip
_STYLES = {
    State.GOOD: "black on green", State.DAMAGED: "bold white on red", State.ERASED: "black on bright_black",
    State.ZERO: "white on black", State.FOREIGN: "black on yellow", State.ABSENT: "dim", State.DATA: "black on cyan",
}  # fmt: skip
_NARROWEST = 24
_FULL_RANGE, _STATE_IN_WORDS = 72, 48  # characters of width from which there is room for them


def map_text(diagnosis: Diagnosis, width: int = 80) -> RenderableType:
    """The map for a terminal of `width` characters: a bar to scale, marks under it, and a line for each region."""
    width = max(width, _NARROWEST)
    regions = diagnosis.regions
    cells = shares([item.region.size for item in regions], width)
    head = Text("0x000000", "dim").append(f"0x{FLASH_SIZE:06X}".rjust(width - 8))
    lines = [head, _bar(regions, cells)]
    if diagnosis.damages:
        lines.append(_marks(diagnosis, cells, width))
    lines += [_row(item, width) for item in regions]
    return Group(*lines)


def shares(sizes: Sequence[int], width: int) -> list[int]:
    """`width` shared out in proportion to `sizes`, none less than 1."""
    total = sum(sizes) or 1
    given = [max(1, size * width // total) for size in sizes]
    while sum(given) > width and max(given) > 1:
        given[given.index(max(given))] -= 1
    while sum(given) < width:
        behind = [size / total * width - have for size, have in zip(sizes, given, strict=True)]
        given[behind.index(max(behind))] += 1
    return given


def _bar(regions: Sequence[RegionState], cells: Sequence[int]) -> Text:
    bar = Text(no_wrap=True)
    for item, count in zip(regions, cells, strict=True):
        letter, name = LETTERS[item.state], f" {item.region.name} "
        shown = name.center(count, letter) if count >= len(name) + 2 else letter * count
        bar.append(shown, _STYLES[item.state])
    return bar


def _marks(diagnosis: Diagnosis, cells: Sequence[int], width: int) -> Text:
    """A line with a mark under each place that is damaged; a damage that fills its region has one under all of it."""
    marked = [" "] * width
    for damage in diagnosis.damages:
        first = _cell(damage.offset, diagnosis.regions, cells)
        last = _cell(damage.offset + max(damage.length, 1) - 1, diagnosis.regions, cells)
        marked[first : last + 1] = "^" * (last + 1 - first)
    return Text("".join(marked), "bold red", no_wrap=True)


def _cell(offset: int, regions: Sequence[RegionState], cells: Sequence[int]) -> int:
    at = 0
    for item, count in zip(regions, cells, strict=True):
        if offset < item.region.end:
            inside = max(offset - item.region.start, 0)
            return at + inside * count // item.region.size
        at += count
    return max(at - 1, 0)


def _row(item: RegionState, width: int) -> Text:
    region = item.region
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f" {LETTERS[item.state]} ", _STYLES[item.state])
    line.append(f" {region.name:<11} ")
    line.append(f"0x{region.start:06X}{f'-0x{region.end:06X}' if width >= _FULL_RANGE else ''} ", "dim")
    if width >= _STATE_IN_WORDS:
        line.append(f"{item.state.value:<8} ", "bold red" if item.state is State.DAMAGED else "")
    line.append("" if item.state is State.ABSENT else printable(item.what))
    line.truncate(width, overflow="ellipsis")
    return line


# --- SVG ------------------------------------------------------------------------------------------------------------

_WIDTH = 860
_TOP = 58  # of the map, under the title
_BAR_X, _BAR_WIDTH = 118, 54
_ROW_X, _ROW_HEIGHT = 212, 40
_THINNEST = 3.0
_LINE = 20
_WHAT_CHARACTERS, _SENTENCE_CHARACTERS = 86, 114
_MOST_LISTED = 40
_CSS = """
.fm { --fm-ink: #1a1f24; --fm-muted: #5a646e; --fm-rule: #b4bbc3; --fm-paper: #ffffff; --fm-mark: #b3352b;
  --fm-hurt: #f7dedb; --fm-good: #2d7a4f; --fm-damaged: #b3352b; --fm-erased: #dfe3e7; --fm-zero: #4a525a;
  --fm-foreign: #c26a1a;
  --fm-data: #4c8bbf; --fm-on-light: #1a1f24; --fm-on-dark: #ffffff;
  font: 13px/1.4 "Inter", "Segoe UI", system-ui, -apple-system, "Helvetica Neue", "DejaVu Sans", sans-serif;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
@media screen and (prefers-color-scheme: dark) {
  .fm { --fm-ink: #e4e7ea; --fm-muted: #98a2ad; --fm-rule: #59626c; --fm-paper: #14171a; --fm-mark: #ec7a6e;
    --fm-hurt: #54302b; --fm-good: #5fb886; --fm-damaged: #ec7a6e; --fm-erased: #2d333a; --fm-zero: #8a939c;
    --fm-foreign: #e89a55;
    --fm-data: #6aa9dd; --fm-on-light: #e4e7ea; --fm-on-dark: #14171a; } }
.fm text { fill: var(--fm-ink); }
.fm .paper { fill: var(--fm-paper); }
.fm .title { font-size: 16px; font-weight: 600; }
.fm .name { font-weight: 600; }
.fm .muted { fill: var(--fm-muted); }
.fm .code { font-family: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", monospace; font-size: 12px; }
.fm .lead { stroke: var(--fm-rule); fill: none; }
.fm .mark { fill: var(--fm-mark); stroke: none; }
.fm text.warn { fill: var(--fm-mark); }
.fm .good { fill: var(--fm-good); } .fm .damaged { fill: var(--fm-damaged); } .fm .erased { fill: var(--fm-erased); }
.fm .zero { fill: var(--fm-zero); } .fm .foreign { fill: var(--fm-foreign); } .fm .data { fill: var(--fm-data); }
.fm .hurt { fill: var(--fm-hurt); } .fm .edge { stroke: var(--fm-paper); }
.fm .absent { fill: none; stroke: var(--fm-rule); stroke-dasharray: 3 3; }
.fm text.letter { font-weight: 700; font-size: 12px; text-anchor: middle; fill: var(--fm-on-dark); }
.fm text.letter.plain { fill: var(--fm-on-light); }
"""


def map_svg(diagnosis: Diagnosis, name: str = "", *, alone: bool = True) -> str:
    """The map as an SVG document. `name`: the file's. `alone`: with title, forecast and list of damages; without,
    and without an XML declaration, it is for a page that has them already."""
    return "\n".join(_Svg(diagnosis, name, alone).lines()) + "\n"


class _Svg:
    def __init__(self, diagnosis: Diagnosis, name: str, alone: bool) -> None:
        self._told = diagnosis
        self._alone = alone
        self._title = f"Flash map of {name}" if name else "Flash map"
        self._height = _ROW_HEIGHT * len(diagnosis.regions)  # of the bar
        self._listed = diagnosis.damages[:_MOST_LISTED] if alone else ()
        self._more = len(diagnosis.damages) - len(self._listed) if alone else 0

    def lines(self) -> Iterator[str]:
        body = [*self._forecast()] if self._alone else []
        top = _TOP + _LINE * len(body) if self._alone else 12
        drawn = [*self._regions(top), *self._marks(top)]
        below, height = self._list(top + self._height + 34)
        height = height if below else top + self._height + 16
        if self._alone:
            yield '<?xml version="1.0" encoding="UTF-8"?>'
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="fm" role="img" aria-labelledby="fm-title fm-desc" '
            f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">'
        )
        yield f'<title id="fm-title">{_text(self._title)}</title>'
        yield f'<desc id="fm-desc">{_text(self._described())}</desc>'
        yield f"<style>{_CSS}</style>"
        yield f'<rect class="paper" width="{_WIDTH}" height="{height}"/>'
        if self._alone:
            yield _written(16, 30, _shortened(self._title, 80), "title")
        yield from body
        yield from drawn
        yield from below
        yield "</svg>"

    def _described(self) -> str:
        """The picture in words, for those who do not see it."""
        states = "; ".join(f"{item.region.name} {item.state.value}: {item.what}" for item in self._told.regions)
        hurt = "; ".join(f"{one.name} at 0x{one.offset:X}" for one in self._told.damages[:_MOST_LISTED])
        return f"{self._told.on_a_board} Regions: {states}. Damage: {hurt or 'none found'}."

    def _forecast(self) -> Iterator[str]:
        parts = textwrap.wrap(printable(self._told.on_a_board), _SENTENCE_CHARACTERS) or [""]
        for at, part in enumerate(parts):
            yield _written(16, _TOP - 6 + at * _LINE, part, "muted")

    def _y(self, offset: int, top: int) -> float:
        return top + self._height * min(max(offset, 0), FLASH_SIZE) / FLASH_SIZE

    def _regions(self, top: int) -> Iterator[str]:
        ends: float = top
        for row, item in enumerate(self._told.regions):
            start = max(self._y(item.region.start, top), ends)
            ends = max(self._y(item.region.end, top), start + _THINNEST)
            yield self._region(item, row, start, ends, top)
        yield _written(_BAR_X - 18, top + 4, "0x000000", "code muted", anchor="end")
        yield _written(_BAR_X - 18, top + self._height + 4, f"0x{FLASH_SIZE:06X}", "code muted", anchor="end")

    def _region(self, item: RegionState, row: int, start: float, end: float, top: int) -> str:
        state, region = item.state.value, item.region
        at = top + row * _ROW_HEIGHT
        middle, bar_end = (start + end) / 2, _BAR_X + _BAR_WIDTH
        bend = f"M{bar_end} {middle:.1f} h14 L{_ROW_X - 18} {at + 14} h12"
        look = "hurt" if item.state is State.DAMAGED else state  # the damage itself is drawn over it
        plain = " plain" if item.state in (State.ERASED, State.ABSENT) else ""
        facts = f"0x{region.start:06X}–0x{region.end:06X}   {state}"
        what = "" if item.state is State.ABSENT else _shortened(item.what, _WHAT_CHARACTERS)
        return "\n".join((
            "<g>",
            f"<title>{_text(f'{region.name}, {region.what}: {state}, {item.what}')}</title>",
            f'<rect class="{look}" x="{_BAR_X}" y="{start:.1f}" width="{_BAR_WIDTH}" height="{end - start:.1f}"/>',
            f'<path class="edge" d="M{_BAR_X} {start:.1f} h{_BAR_WIDTH}"/>' if row else "",
            f'<path class="lead" d="{bend}"/>',
            f'<rect class="{state}" x="{_ROW_X}" y="{at + 4}" width="20" height="20" rx="3"/>',
            _written(_ROW_X + 10, at + 18.5, LETTERS[item.state], f"letter{plain}"),
            _written(_ROW_X + 30, at + 14, region.name, "name"),
            _written(_ROW_X + 118, at + 14, facts, "code muted"),
            _written(_ROW_X + 30, at + 30, what, ""),
            "</g>",
        ))  # fmt: skip

    def _marks(self, top: int) -> Iterator[str]:
        """A wedge at the left of the bar for each damage, what it covers of a region that is otherwise there, and its
        offset where there is room for one."""
        hurt = [item.region for item in self._told.regions if item.state is State.DAMAGED]
        free = top + 14.0
        for offset, together in groupby(self._told.damages, key=lambda one: one.offset):
            same = list(together)
            y, end = self._y(offset, top), self._y(offset + max(one.length for one in same), top)
            if any(region.start <= offset < region.end for region in hurt):
                tall = max(end - y, _THINNEST - 1)
                yield f'<rect class="damaged" x="{_BAR_X}" y="{y:.1f}" width="{_BAR_WIDTH}" height="{tall:.1f}"/>'
            yield f'<path class="mark" d="M{_BAR_X - 2} {y:.1f} l-9 -5 v10 z"/>'
            if y >= free and y < top + self._height - 10:
                yield _written(_BAR_X - 18, y + 4, f"0x{offset:06X}", "code warn", anchor="end")
                free = y + 15

    def _list(self, at: int) -> tuple[list[str], int]:
        """The damages in words from height `at` on, and where the picture ends."""
        lines = []
        for damage in self._listed:
            parts = textwrap.wrap(printable(damage.sentence), _WHAT_CHARACTERS) or [""]
            texts = [_written(_ROW_X + 30, at + row * _LINE, part, "") for row, part in enumerate(parts)]
            texts += [_written(16, at, f"0x{damage.offset:06X}", "code warn"), _written(88, at, damage.name, "name")]
            lines.append(f"<g>{''.join(texts)}</g>")
            at += _LINE * len(parts)
        if self._more:
            lines.append(_written(16, at, f"and {self._more} more", "muted"))
            at += _LINE
        return lines, at - 4


def _written(x: float, y: float, text: str, look: str, anchor: str = "") -> str:
    style = f' class="{look}"' if look else ""
    ends = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:g}" y="{y:g}"{style}{ends}>{_text(text)}</text>'


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _text(text: str) -> str:
    return escape(printable(text))
