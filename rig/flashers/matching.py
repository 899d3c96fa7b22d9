"""A backup in a quarter of the time: what other boards held at the same place is asked for by CRC, and the rest read.

Always read are this board's own bytes, from 0x1D0000 to the end: calibration and MAC, configuration and counters,
Tuya's storage. They are what cannot be had elsewhere, and where boards of a batch differ. They come first, and
each of their blocks has to agree with the chip's CRC, so that a chip whose CRC says nothing matches nothing.

Scheme. Each other block of 64 KiB is asked for in five parts that together are the block, cut at four inner points
drawn anew for each block and each board (`rig.flashers.differential`, which says why parts and no wider ranges). The
CRC of a part is held against that part of every candidate at once: blank, and the blocks that the store knows at this
offset. A candidate is taken only if it agrees in all five; once none is left, the block is read. The first part is
small, so that a block nobody knows is found out in 5 ms. Candidates cost the chip nothing, however many they are; one
CRC of the whole block, to look its candidate up, would be a second pass, and proves nothing that the parts do not.

Odds that a block is taken for one of c candidates and is none: c * 2^-64 at most where they differ on both sides of a
cut. Where all that differs lies between two neighbouring cuts (24 KiB at most) one CRC-32 judges: c * 2^-32 for
unrelated bytes, never for one or two wrong bits or a burst of 32. The worst board (29 blocks that each differ so from
16 candidates) gets a wrong backup once in 9 million; a batch of 1000 with one such block and one candidate each, once
in 4 million. A block that was made to have the CRC of another is found unless the change and its four bytes lie
between the same two cuts. Who cannot live with that reads all, which has odds of its own: a misread byte never
passes, a misread block does with 2^-32.

Time for 2 MiB at 921600 baud, where 64 KiB take 0.73 s to read and the chip's CRC 0.15 s (438 kB/s):
  all of it read            32 * (0.73 + 0.15)                       28.2 s
  second board of a batch    3 * (0.73 + 0.15) + 29 * 0.15 +  0.5     7.5 s
The 0.5 s are 145 commands of 3 to 4 ms: 24 bytes, a link check between two CRCs, the host. At 2 Mbaud 15.8 and 6.3 s.
A second pass over the blocks would make it 11.9 s. An adaptor that holds replies back for 16 ms (an FTDI's latency
timer as it comes) adds 4.6 s.

Trust. A block that is read because no candidate agreed, and then reads as one of them, was denied by a wrong CRC. So
was a read that had to be repeated, if the CRC of its parts disagrees afterwards. Once may be a reply that was damaged
on its way; twice, and the chip's CRC is not believed for anything: what was matched is read too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random, SystemRandom
from typing import Protocol

from rig.chip.client import crc32
from rig.errors import BenchBlocked, UnitFailed
from rig.flashers.base import Link, Progress, no_progress
from rig.flashers.content import BLOCK
from rig.flashers.differential import cuts
from rig.flashers.native import NativeFlasher
from rig.flashers.session import MOST_RETRIES
from rig.flashers.surroundings import FLASH_SIZE

OWN = 0x1D0000  # from here on a flash is its board's own. Source: rig.image.flashmap, N and T
_HEAD = (0x200, 0x400)  # choice: bytes of a block's first part, drawn between; the chip takes 1 to 2 ms for them
_MOST_DOUBTS = 1

Range = tuple[int, int]  # (first byte, one past the last)


class Known(Protocol):
    """Where candidates come from; `rig.records.blocks.BlockStore` is one."""

    def candidates(self, offset: int, length: int) -> Sequence[bytes]:
        """What was seen at `offset` of other boards, the likeliest first; a bounded number, each `length` bytes."""
        ...


@dataclass(frozen=True)
class Matched:
    """All of a flash, and how each byte of it is known. Ranges are (first byte, one past the last), in order, and
    do not touch; `read` and `matched` together are the flash. Blank blocks are in `matched`."""

    data: bytes = field(repr=False)
    read: tuple[Range, ...]  # came over the wire, and agrees with the chip's CRC
    matched: tuple[Range, ...]  # known by the chip's CRC alone
    seconds: float
    retries: tuple[str, ...] = ()

    @property
    def read_size(self) -> int:
        """Bytes."""
        return _size(self.read)

    @property
    def matched_size(self) -> int:
        """Bytes."""
        return _size(self.matched)


def read_by_matching(
    rom: NativeFlasher,
    link: Link,
    size: int,
    store: Known | None,
    progress: Progress = no_progress,
    draw: Random | None = None,
) -> Matched:
    """All `size` bytes of the flash behind `link`; with `store` None all of them are read. So is a flash of another
    size than 2 MiB: where its own bytes are is not known. `draw` is for tests; forgers must not know it.

    Raises what `NativeFlasher.read` raises: UnitFailed("backup-mismatch") for a flash that never agrees with its CRC,
    BenchBlocked("link-lost") for a line that needs more repeats than one operation may.
    """
    return _Backup(rom, link, size, store, progress, draw or SystemRandom()).take()


class _Backup:
    """One flash on its way to the host."""

    def __init__(
        self, rom: NativeFlasher, link: Link, size: int, store: Known | None, progress: Progress, draw: Random
    ) -> None:
        self._rom = rom
        self._mark = len(rom.retries)
        self._link = link
        self._store = store
        self._progress = progress
        self._draw = draw
        self._data = bytearray(size)
        self._read: list[Range] = []
        self._matched: list[Range] = []
        self._doubts: list[str] = []

    def take(self) -> Matched:
        began, size = time.monotonic(), len(self._data)
        if self._store is not None and size == FLASH_SIZE:
            self._match(self._store)
        for start, end in _gaps(size, self._read + self._matched):
            self._fetch(start, end)
        retries = (*self._rom.retries[self._mark :], *self._doubts)
        seconds = time.monotonic() - began
        return Matched(bytes(self._data), _joined(self._read), _joined(self._matched), seconds, retries)

    def _match(self, store: Known) -> None:
        """As much as the chip's CRC can be believed for."""
        self._fetch_and_judge(OWN, FLASH_SIZE)
        for start in range(0, OWN, BLOCK):
            if len(self._rom.retries) - self._mark > MOST_RETRIES:
                said = f"bytes are lost or damaged on the way: more than {MOST_RETRIES} repeats"
                raise BenchBlocked("link-lost", said)
            if len(self._doubts) <= _MOST_DOUBTS:
                self._block(start, start + BLOCK, store)
        if len(self._doubts) > _MOST_DOUBTS:
            self._doubts.append("the chip's CRC is not steady: all of the flash is read")
            self._matched.clear()

    def _block(self, start: int, end: int, store: Known) -> None:
        candidates = [b"\xff" * (end - start), *store.candidates(start, end - start)]
        left = candidates
        for low, high in self._parts(start, end):
            crc = self._rom.crc(self._link, low, high - low)
            left = [block for block in left if crc32(block[low - start : high - start]) == crc]
            if not left:
                self._fetch_and_judge(start, end)
                if self._data[start:end] in candidates:
                    said = f"0x{start:x} reads as a block that is known, which the chip's CRC had denied"
                    self._doubts.append(said)
                return
        self._data[start:end] = left[0]
        self._rom.know(start, left[0])
        self._matched.append((start, end))
        self._tell(0)

    def _parts(self, start: int, end: int) -> list[Range]:
        """The whole range, cut anew each time; the first part is small."""
        (low, high), *rest = cuts(start, end, self._draw)
        head = low + self._draw.randrange(*_HEAD)
        return [(low, head), (head, high), *rest]

    def _fetch(self, start: int, end: int) -> None:
        """Over the wire."""
        found = self._rom.read(self._link, start, end - start, lambda what, done, total: self._tell(done))
        if found.data is None or len(found.data) != end - start:
            raise UnitFailed("unreadable", f"0x{start:x} to 0x{end:x} could not be read: {found.said}")
        self._data[start:end] = found.data
        self._read.append((start, end))

    def _fetch_and_judge(self, start: int, end: int) -> None:
        """As `_fetch`; where that went with trouble, was it the line or the CRC?"""
        before = len(self._rom.retries)
        self._fetch(start, end)
        if len(self._rom.retries) > before:
            for low, high in cuts(start, end, self._draw):
                if self._rom.crc(self._link, low, high - low) != crc32(bytes(self._data[low:high])):
                    self._doubts.append(f"the chip's CRC of 0x{low:x} to 0x{high:x} is another than it was")

    def _tell(self, done: int) -> None:
        """`done` bytes more than what is settled."""
        settled = _size(self._read) + _size(self._matched)
        self._progress("read", min(settled + done, len(self._data)), len(self._data))


def _size(ranges: Sequence[Range]) -> int:
    return sum(end - start for start, end in ranges)


def _joined(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """In order, those that touch as one."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return tuple(found)


def _gaps(size: int, ranges: Sequence[Range]) -> list[Range]:
    """What of 0 to `size` is in none of `ranges`."""
    found, at = [], 0
    for start, end in (*_joined(ranges), (size, size)):
        if start > at:
            found.append((at, start))
        at = end
    return found
