"""What differs between flash and what it should hold, by the chip's own CRC: one CRC a range, halved if it differs.

A CRC-32 that agrees says that unrelated content is equal but for odds of 2^-32, and finds every change of one or two
bits and every burst of up to 32 bits for certain, over any range that fits in a flash. Source: the polynomial's known
Hamming distance, 3 up to 2^32 - 1 bits.
"""

from __future__ import annotations

from collections.abc import Callable

from rig.chip.frames import SECTOR

Agrees = Callable[[int, bytes], bool]
"""Whether the chip's CRC-32 from (start) on is that of (data)."""


class TooMany(Exception):
    """More sectors differ than was asked for; `found` are the first ones."""

    def __init__(self, found: list[int]) -> None:
        super().__init__(f"more than {len(found) - 1} sectors differ")
        self.found = found


_ROUNDS = 3  # choice: how often a range that differs, and whose parts agree, is asked for


def _no_doubt(start: int) -> None:
    """For callers who do not want to know."""


def differing(
    agrees: Agrees, start: int, data: bytes, most: int, on_doubt: Callable[[int], None] = _no_doubt
) -> list[int]:
    """Where `data` does not stand in flash from `start`: the first byte of each sector's part that differs, in order.

    A CRC that differs is not believed alone: its halves are asked, down to a sector, which is asked twice. A reply
    that was damaged on its way costs time and nothing else. Where all parts agree then, the whole has to as well, for
    cells that read now one way and now another would pass else; `on_doubt` is called with the start.

    Raises TooMany as soon as more than `most` differ.
    """
    found: list[int] = []
    for _ in range(_ROUNDS):
        if not data or agrees(start, data):
            return []
        _look_closer(agrees, start, data, most, found)
        if found:
            return found
        on_doubt(start)
    return [start]


def first_difference(
    agrees: Agrees, start: int, data: bytes, on_doubt: Callable[[int], None] = _no_doubt
) -> int | None:
    """As `differing`, and no more than the first."""
    try:
        found = differing(agrees, start, data, 0, on_doubt)
    except TooMany as many:
        found = many.found
    return found[0] if found else None


def _look(agrees: Agrees, start: int, data: bytes, most: int, found: list[int]) -> None:
    if data and not agrees(start, data):
        _look_closer(agrees, start, data, most, found)


def _look_closer(agrees: Agrees, start: int, data: bytes, most: int, found: list[int]) -> None:
    sectors = range(start // SECTOR * SECTOR, start + len(data), SECTOR)
    if len(sectors) > 1:
        middle = sectors[len(sectors) // 2]
        _look(agrees, start, data[: middle - start], most, found)
        _look(agrees, middle, data[middle - start :], most, found)
    elif not agrees(start, data):
        found.append(start)
        if len(found) > most:
            raise TooMany(found)
