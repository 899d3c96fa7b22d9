"""Finding a marker's text in a boot log, also where another thread's print landed in the middle of it.

On one UART with several threads printing, lines are woven byte-wise: `get rfcali_m#Startup delayed 10ms#`. A marker
is found whole in a line, or in two parts with other text between them, in one line or from one to the next.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from .bootlog import LogLine

_WEAVABLE = 18  # characters; a shorter marker in two parts would be found where it is not
_PART, _PART_OF_NUMBERS = 3, 5  # the smallest part; "0: 0:" in two parts would be in any list of numbers
_GAP = 160  # characters of other text between the two parts: about one long line


def find(lines: Sequence[LogLine], markers: Iterable[str]) -> LogLine | None:
    """The first line that has one of `markers` whole; failing that, the first where one begins in two parts."""
    markers = tuple(markers)
    has = _any_of(markers)
    for line in lines:
        if has(line.text):
            return line
    for marker in markers:
        if len(marker) >= _WEAVABLE:
            found = _find_woven(lines, marker)
            if found:
                return found
    return None


def find_all(lines: Sequence[LogLine], markers: Iterable[str]) -> list[int]:
    """Indices of all lines that have one of `markers` whole."""
    markers = tuple(markers)
    has = _any_of(markers)
    return [at for at, line in enumerate(lines) if has(line.text)]


@lru_cache(maxsize=256)
def _any_of(markers: tuple[str, ...]) -> Callable[[str], object]:
    """Whether a text has one of them whole: boot logs are looked through at every new line."""
    return re.compile("|".join(map(re.escape, markers)) or r"(?!)").search


def _find_woven(lines: Sequence[LogLine], marker: str) -> LogLine | None:
    pattern = _woven(marker)
    for at, line in enumerate(lines):
        following = lines[at + 1].text if at + 1 < len(lines) else ""
        found = pattern.search(f"{line.text}\n{following}")
        if found and found.start() < len(line.text):
            return line
    return None


@lru_cache(maxsize=256)
def _woven(marker: str) -> re.Pattern[str]:
    part = _PART_OF_NUMBERS if any(char.isdigit() for char in marker) else _PART
    gap = f".{{1,{_GAP}}}?"
    splits = (re.escape(marker[part:at]) + gap + re.escape(marker[at:]) for at in range(part, len(marker) - part + 1))
    return re.compile(re.escape(marker[:part]) + f"(?:{'|'.join(splits)})", re.DOTALL)  # a literal start is quick


def watch(markers: Iterable[str]) -> Callable[[LogLine], bool]:
    """A test for `BootLog.wait_for`: true at the line with which one of `markers`, whole or woven, is there.

    It remembers the line before, so make a new one for every wait.
    """
    markers = tuple(markers)
    before: list[LogLine] = []

    def fits(line: LogLine) -> bool:
        found = find([*before, line], markers)
        before[:] = [line]
        return found is not None

    return fits
