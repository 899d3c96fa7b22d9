"""Which sectors a flasher touched, by what passed on the wire, whatever it says of itself."""

from __future__ import annotations

from collections.abc import Iterable

from rig.chip.frames import ERASE_SIZES, SECTOR
from rig.uart.trace import Command

_PROGRAMS = ("write-4k", "write-256", "erase-4k")


def touched_sectors(commands: Iterable[Command], flash_size: int) -> set[int]:
    """Addresses of the sectors that were erased or programmed; what the guard stopped touched nothing."""
    found: set[int] = set()
    for command in commands:
        if command.refused is not None or command.address is None:
            continue
        at = command.address % flash_size  # an N takes addresses beyond its flash for the same ones from 0
        if command.name == "erase" and command.head:
            size = ERASE_SIZES.get(int(command.head[:2], 16), SECTOR)
            start = at // size * size
            found.update(range(start, start + size, SECTOR))
        elif command.name in _PROGRAMS:
            found.add(at // SECTOR * SECTOR)
    return found
