"""Which sectors of a board do not hold yet what they should: found by CRC, so that only they are touched.

Scheme. A block of 64 KiB is never skipped on one CRC-32: it is asked for in parts, at least two and one for each
16 KiB, which are cut at inner points that are drawn anew each time. Together the parts are the block, so an identical
image costs one pass of the chip's CRC. A sector near a difference is looked at by itself, in two parts likewise.

Why parts, and not a second, wider range: CRC-32 is linear. If two contents of a block have the same CRC, their
difference is a multiple of its polynomial, and stays one with whatever equal bytes stand before and behind it: every
range that holds the whole difference agrees again, and a hundred such ranges prove what one did. Only a cut through
the difference asks something new, for its two halves would have to be multiples each by itself. Two passes that cut
at different points ask no more than one pass that cuts at all of them, and cost twice.

Odds that a block which differs is skipped: 2^-32k with unrelated content in k of its parts, so 2^-64 or less where it
differs on both sides of a cut. A block that was made to have the CRC of another (four free bytes suffice) is found
unless the change and the four bytes lie between the same two cuts. What differs only between two neighbouring cuts is
judged by one CRC-32: 2^-32 for unrelated bytes, never for one or two wrong bits or a burst of 32. No set of CRCs can
do better there, only reading can. Where that does not suffice there is `NativeFlasher.write`, which skips none but
blank sectors, and those it has erased.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random, SystemRandom

from rig.chip.frames import SECTOR
from rig.flashers.base import Progress, no_progress
from rig.flashers.compare import Agrees
from rig.flashers.content import BLOCK

_PART = 0x4000  # bytes a part has about


def changed_sectors(
    agrees: Agrees, runs: list[tuple[int, bytes]], progress: Progress = no_progress, draw: Random | None = None
) -> list[int]:
    """Addresses of the sectors in which the flash differs from `runs` (offset, content), in order.

    A reply damaged on its way may name a sector too many, never one too few but for the odds above.
    """
    draw = draw or SystemRandom()
    found: set[int] = set()
    total, done = sum(len(data) for _, data in runs), 0
    for offset, data in runs:
        for start, end in _blocks(offset, offset + len(data)):
            block = data[start - offset : end - offset]
            found |= _of_block(agrees, start, block, draw)
            done += len(block)
            progress("compare", done, total)
    return sorted(found)


def cuts(start: int, end: int, draw: Random) -> list[tuple[int, int]]:
    """`start` to `end` in parts, at least two where there is room, cut at points drawn from the middle half of their
    share, so that no part is tiny."""
    length = end - start
    count = min(max(2, length // _PART), length)
    share = length / count
    points = [start + round(share * (at + draw.uniform(-0.25, 0.25))) for at in range(1, count)]
    points = [point for point in points if start < point < end]
    return list(zip([start, *points], [*points, end], strict=True))


def _of_block(agrees: Agrees, start: int, block: bytes, draw: Random) -> set[int]:
    end = start + len(block)

    def differs(low: int, high: int) -> bool:
        return not agrees(low, block[low - start : high - start])

    parts = cuts(start, end, draw)
    wrong = [part for part in parts if differs(*part)]
    # cut where the parts were cut as well: what made a part differ then makes one of its sectors differ for certain
    points = {low for low, _ in parts}
    found = set()
    for sector in sorted({sector for low, high in wrong for sector in _sectors(low, high)}):
        low, high = max(sector, start), min(sector + SECTOR, end)
        inner = {point for point in points if low < point < high} | {at for at, _ in cuts(low, high, draw)}
        at = sorted({low, *inner, high})
        if any(differs(*pair) for pair in pairwise(at)):
            found.add(sector)
    return found


def _blocks(start: int, end: int) -> Iterator[tuple[int, int]]:
    """`start` to `end` in pieces that end at multiples of 64 KiB."""
    while start < end:
        stop = min((start // BLOCK + 1) * BLOCK, end)
        yield start, stop
        start = stop


def _sectors(start: int, end: int) -> range:
    return range(start // SECTOR * SECTOR, end, SECTOR)
