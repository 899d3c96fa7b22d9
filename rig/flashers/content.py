"""What is to stand in flash: pieces as they are asked for, laid out over the sectors they touch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rig.chip.frames import SECTOR

BLOCK = 0x10000
BLANK = b"\xff" * SECTOR


@dataclass(frozen=True)
class Span:
    """Whole sectors that follow one another: `data` from `start`. `mixed` are the sectors that hold bytes of others:
    they are erased one by one and written back at once."""

    start: int
    data: bytes
    mixed: frozenset[int] = frozenset()

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    def sector(self, address: int) -> bytes:
        return self.data[address - self.start : address - self.start + SECTOR]

    def sectors(self) -> range:
        return range(self.start, self.end, SECTOR)


class Content:
    """Pieces (offset, content) over sectors; where two overlap the later one counts."""

    def __init__(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        self._bytes: dict[int, bytearray] = {}
        self._asked: dict[int, bytearray] = {}  # 1 for each byte that a piece holds
        for offset, data in pieces:
            end = offset + len(data)
            for sector in range(offset // SECTOR * SECTOR, end, SECTOR):
                low, high = max(offset, sector), min(end, sector + SECTOR)
                held = self._bytes.setdefault(sector, bytearray(SECTOR))
                asked = self._asked.setdefault(sector, bytearray(SECTOR))
                held[low - sector : high - sector] = data[low - offset : high - offset]
                asked[low - sector : high - sector] = b"\x01" * (high - low)

    @property
    def size(self) -> int:
        """Bytes asked for."""
        return sum(map(sum, self._asked.values()))

    @property
    def sectors(self) -> list[int]:
        """Addresses of the sectors that are touched, in order."""
        return sorted(self._bytes)

    def runs(self) -> list[tuple[int, bytes]]:
        """The bytes asked for, as (offset, content) that neither touch nor overlap, in order."""
        found: list[tuple[int, bytearray]] = []
        for sector in self.sectors:
            for low, high in _ones(self._asked[sector]):
                piece = self._bytes[sector][low:high]
                if found and found[-1][0] + len(found[-1][1]) == sector + low:
                    found[-1][1].extend(piece)
                else:
                    found.append((sector + low, bytearray(piece)))
        return [(offset, bytes(data)) for offset, data in found]

    def spans(self, sectors: Sequence[int], standing: Callable[[int], bytes]) -> list[Span]:
        """What `sectors` are to hold; `standing(address)` gives what one holds now that keeps some of it."""
        found: list[tuple[int, bytearray, set[int]]] = []
        for sector in sectors:
            data, mixed = bytes(self._bytes[sector]), not all(self._asked[sector])
            if mixed:
                now = standing(sector)
                both = zip(data, now, self._asked[sector], strict=True)
                data = bytes(new if asked else old for new, old, asked in both)
            if not found or found[-1][0] + len(found[-1][1]) != sector:
                found.append((sector, bytearray(), set()))
            found[-1][1].extend(data)
            if mixed:
                found[-1][2].add(sector)
        return [Span(start, bytes(data), frozenset(mixed)) for start, data, mixed in found]


def erases(start: int, end: int) -> Iterator[tuple[int, int]]:
    """(address, size) of the erases of whole sectors from `start` to `end`, the largest that fit and none beyond."""
    at = start
    while at < end:
        size = BLOCK if at % BLOCK == 0 and end - at >= BLOCK else SECTOR
        yield at, size
        at += size


def _ones(mask: bytearray) -> Iterator[tuple[int, int]]:
    """(from, to) of each run of ones."""
    at = mask.find(1)
    while at >= 0:
        end = mask.find(0, at)
        end = len(mask) if end < 0 else end
        yield at, end
        at = mask.find(1, end)
