"""What stands beside what is written, as far as it is known: whether a command that went astray hit it.

The wire has no checksum. A command whose address was damaged on its way erases or programs another place; the chip
says so in its echo, which the client keeps (`RomClient.strays`). A command that was not answered at all may have gone
anywhere. Where this board's content is known, because it was read or written since it was linked, the chip's CRC of
the surroundings decides then; where it is not, an echo from elsewhere is a failure, and a lost answer is let pass:
that a command is damaged and its answer is lost too takes two faults at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from rig.chip.client import Stray
from rig.chip.frames import SECTOR
from rig.errors import UnitFailed
from rig.flashers.compare import first_difference
from rig.flashers.session import Session

FLASH_SIZE = 0x200000  # addresses wrap at it; all parts in rig.chip.ids have it


class Surroundings:
    """The sectors of one linked board whose content is known."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}

    def know(self, start: int, data: bytes) -> None:
        """`data` stands at `start`; only whole sectors count."""
        first = -(-start // SECTOR) * SECTOR
        for sector in range(first, (start + len(data)) // SECTOR * SECTOR, SECTOR):
            self._known[sector] = data[sector - start : sector - start + SECTOR]

    def forget(self, sectors: Collection[int]) -> None:
        for sector in sectors:
            self._known.pop(sector, None)

    def standing(self, sector: int, now: bytes) -> bytes:
        """`now`, which was read from a sector that keeps some of it. Raises UnitFailed("verify-failed") where other
        content is known of it: written back, what a stray command did there would pass for what others have there."""
        known = self._known.get(sector)
        if known is not None and known != now:
            raise UnitFailed(
                "verify-failed",
                f"0x{sector:x}, which keeps bytes beside what is to be written, has changed since it was read: a "
                "command was damaged on its way",
            )
        return now

    def check(self, session: Session, touched: Collection[int]) -> None:
        """After an operation that wrote the sectors `touched`. Raises UnitFailed("verify-failed")."""
        strays = list(session.rom.strays)
        if not strays and not session.rom.uncertain:
            return
        for stray in strays:
            for sector in _sectors_of(stray):
                if sector not in touched and sector not in self._known:
                    raise UnitFailed(
                        "verify-failed",
                        f"the chip acknowledged {stray.command} at 0x{stray.start:x}, which nobody asked for: a "
                        "command was damaged on its way, and what stood there is not known",
                    )
        for start, data in self._runs(touched):
            wrong = first_difference(session.agrees, start, data)
            if wrong is not None:
                raise UnitFailed(
                    "verify-failed",
                    f"0x{wrong:x}, beside what was to be written, has changed: a command was damaged on its way",
                )

    def _runs(self, without: Collection[int]) -> Iterator[tuple[int, bytes]]:
        """What is known besides, as (start, content) of sectors that follow one another."""
        start, held = 0, bytearray()
        for sector in sorted(self._known):
            if sector in without:
                continue
            if held and sector != start + len(held):
                yield start, bytes(held)
                held = bytearray()
            if not held:
                start = sector
            held += self._known[sector]
        if held:
            yield start, bytes(held)


def _sectors_of(stray: Stray) -> Iterator[int]:
    start = stray.start % FLASH_SIZE
    first = start // SECTOR * SECTOR
    for sector in range(first, start + stray.length, SECTOR):
        yield sector % FLASH_SIZE
