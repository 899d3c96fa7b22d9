"""Does a board hold what it should? Judged without erasing or writing a byte.

Compared is what the plan for this board puts into the firmware's part of the flash. From 0x1D0000 on everything is
the board's own (calibration, configuration, counters, Tuya's storage), where its firmware writes at every boot.
"""

from __future__ import annotations

from collections.abc import Sequence

from rig.chip.frames import SECTOR
from rig.errors import UnitFailed
from rig.flashers.matching import OWN, Known

Pieces = Sequence[tuple[int, bytes]]


class Expected:
    """What a board is thought to hold, for `rig.flashers.matching`: the pieces of a plan, then what `others` know.

    A board that holds it is then known by the chip's CRC alone, as at a backup: see there for the odds.
    """

    def __init__(self, pieces: Pieces, others: Known) -> None:
        self._pieces = pieces
        self._others = others

    def candidates(self, offset: int, length: int) -> Sequence[bytes]:
        """The block as the pieces would leave it on a blank flash, then what others were seen to hold there."""
        block = bytearray(b"\xff" * length)
        for start, content in self._pieces:
            first, end = max(start, offset), min(start + len(content), offset + length)
            if first < end:
                block[first - offset : end - offset] = content[first - start : end - start]
        return [bytes(block), *self._others.candidates(offset, length)]


def compared(pieces: Pieces) -> list[tuple[int, bytes]]:
    """Of the pieces of a plan what is compared: below the board's own part of the flash."""
    return [(start, content[: OWN - start]) for start, content in pieces if start < OWN]


def require_content(held: bytes, pieces: Pieces, name: str) -> int:
    """How many bytes of `held`, a whole flash, were found to be as the pieces of the plan for `name` have them.

    Raises UnitFailed("verify-failed") that names the first byte and the count of sectors that differ;
    UnitFailed("image-refused") where nothing can be compared.
    """
    wanted = compared(pieces)
    differ: set[int] = set()
    first: int | None = None
    for start, content in wanted:
        if held[start : start + len(content)] == content:
            continue
        for at in range(start - start % SECTOR, start + len(content), SECTOR):
            low, high = max(at, start), min(at + SECTOR, start + len(content))
            here, there = held[low:high], content[low - start : high - start]
            if here != there:
                differ.add(at)
                wrong = low + next(i for i, (one, other) in enumerate(zip(here, there, strict=True)) if one != other)
                first = wrong if first is None else min(first, wrong)
    if first is not None:
        raise UnitFailed(
            "verify-failed",
            f"the flash differs from {name} at 0x{first:x} ({len(differ)} sector{'s' if len(differ) > 1 else ''} in "
            "all); nothing was written",
        )
    size = sum(len(content) for _, content in wanted)
    if not size:
        raise UnitFailed("image-refused", f"{name} brings nothing below 0x{OWN:x}: there is nothing to compare")
    return size
