"""Reading flash so that what was read is what the chip has: each block's CRC, and only what differs is read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rig.chip.frames import SECTOR
from rig.errors import UnitFailed
from rig.flashers.base import Progress, no_progress
from rig.flashers.content import BLOCK
from rig.flashers.session import Session

_ROUNDS = 3  # choice: how often a block is put right before it counts as unstable
_MOST_AGAIN = 32  # choice: sectors read again in one operation


class Reader:
    """Reads one range for one operation. `note` is called with each repeat."""

    def __init__(self, session: Session, note: Callable[[str], None]) -> None:
        self._session = session
        self._note = note
        self._again = 0

    def read(self, start: int, length: int, progress: Progress = no_progress) -> bytes:
        return b"".join(self.blocks(start, length, progress))

    def blocks(self, start: int, length: int, progress: Progress = no_progress) -> Iterator[bytes]:
        """Blocks that end at multiples of 64 KiB. Raises UnitFailed("backup-mismatch")."""
        at, end = start, start + length
        while at < end:
            stop = min((at // BLOCK + 1) * BLOCK, end)
            yield self._block(at, stop, lambda done: progress("read", done - start, length))
            at = stop

    def _block(self, at: int, stop: int, told: Callable[[int], None]) -> bytes:
        parts = {}
        for low, high in _parts(at, stop):
            parts[low] = self._part(low, high)
            told(high)
        for attempt in range(1 + _ROUNDS):
            data = b"".join(parts.values())
            if self._session.agrees(at, data):
                return data
            self._note(f"read of 0x{at:x}: CRC differs (attempt {attempt + 1})")
            if attempt < _ROUNDS:
                self._put_right(parts, at, stop)
        raise self._unstable(f"what was read from 0x{at:x} {1 + _ROUNDS} times disagrees with the chip's own CRC")

    def _put_right(self, parts: dict[int, bytes], at: int, stop: int) -> None:
        """Read again what does not agree by itself; none of it may: then the block's CRC came back wrong."""
        for low, high in _parts(at, stop):
            if not self._session.agrees(low, parts[low]):
                self._again += 1
                if self._again > _MOST_AGAIN:
                    raise self._unstable(f"more than {_MOST_AGAIN} sectors read disagree with the chip's own CRC")
                parts[low] = self._part(low, high)
                self._session.trouble()

    def _part(self, low: int, high: int) -> bytes:
        sector = low // SECTOR * SECTOR
        return self._session.read_sector(sector)[low - sector : high - sector]

    def _unstable(self, said: str) -> UnitFailed:
        return UnitFailed("backup-mismatch", said)


def _parts(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """(from, to) of what lies in each sector."""
    for sector in range(start // SECTOR * SECTOR, stop, SECTOR):
        yield max(start, sector), min(stop, sector + SECTOR)
