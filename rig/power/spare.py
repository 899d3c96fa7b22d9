"""Which sectors a study may wear out: those that neither the firmware nor its data use. Pure.

Trials that write under a bad supply go nowhere else. They take a window of sectors each, always the least worn one,
so that the wear spreads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rig.chip.frames import ERASE_SIZES, SECTOR
from rig.errors import UsageProblem
from rig.image import flashmap
from rig.uart.trace import Command

WINDOW = 8  # sectors of one trial: a choice. Off the 64 KiB grid, so that each sector has an erase of its own
_BLANK = b"\xff" * SECTOR


def spare_windows(flash: bytes, chip: str, written: Iterable[tuple[int, int]]) -> list[int]:
    """Addresses of windows of WINDOW sectors in the download area of `flash` that are blank and in none of the
    `written` ranges (address, length), after the firmware has run: what it keeps there is not blank.

    Raises UsageProblem where there is none.
    """
    area = flashmap.region("ota", chip)
    taken = {at // SECTOR for start, length in written for at in range(start, start + length, SECTOR)}
    taken |= {(start + length - 1) // SECTOR for start, length in written if length}
    free = [
        sector
        for sector in range(area.start // SECTOR, area.end // SECTOR)
        if sector not in taken and flash[sector * SECTOR : (sector + 1) * SECTOR] == _BLANK
    ]
    found: list[int] = []
    run: list[int] = []
    for sector in free:
        run = [*run, sector] if run and run[-1] == sector - 1 else [sector]
        if len(run) == WINDOW:
            found.append(run[0] * SECTOR)
            run = []
    if not found:
        raise UsageProblem(
            f"this firmware leaves no {WINDOW} sectors in a row free from 0x{area.start:06x} to 0x{area.end:06x}, "
            "and a study of writes goes to spare sectors only: use another image for it"
        )
    return found


def least_worn(windows: Sequence[int], worn: Mapping[int, int]) -> int:
    """The window whose most worn sector has the fewest erases; of several the first."""
    return min(windows, key=lambda at: (max(worn.get(at + n * SECTOR, 0) for n in range(WINDOW)), at))


def erases_of(commands: Iterable[Command], flash_size: int) -> Counter[int]:
    """Erases by sector address, of what passed on the wire."""
    found: Counter[int] = Counter()
    for command in commands:
        if command.refused is not None or command.address is None or command.name not in ("erase", "erase-4k"):
            continue
        size = ERASE_SIZES.get(int((command.head or "0")[:2], 16), SECTOR) if command.name == "erase" else SECTOR
        start = command.address % flash_size // size * size
        found.update(range(start, start + size, SECTOR))
    return found
