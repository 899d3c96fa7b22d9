"""Boards that were taken out of a simulated bench's slots: a unit's own goes back in when that unit is asked for.

A board is what its flash holds and its efuses; weak cells, wear and faults do not outlast its being taken out.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from pathlib import Path

MOST = 128  # boards, at most 2 MiB each and mostly half of that; of more the one that was put away first is gone


class Drawer:
    """Keeps boards in `folder` by name. Not thread-safe."""

    def __init__(self, folder: Path, most: int = MOST) -> None:
        self._folder = folder
        self._most = most
        self._boards: OrderedDict[str, tuple[Path, str]] = OrderedDict()
        self._count = 0

    def put(self, name: str, flash: bytes, efuse: str) -> None:
        """Put a board away; `efuse` in hexadecimal."""
        self.take(name)
        self._folder.mkdir(exist_ok=True)
        self._count += 1
        path = self._folder / str(self._count)
        path.write_bytes(zlib.compress(flash, 1))
        self._boards[name] = path, efuse
        while len(self._boards) > self._most:
            self.take(next(iter(self._boards)))

    def take(self, name: str) -> tuple[bytes, str] | None:
        """The board of that name, flash and efuse, out of the drawer; None: it is not in there."""
        path, efuse = self._boards.pop(name, (None, ""))
        if path is None:
            return None
        flash = zlib.decompress(path.read_bytes())
        path.unlink()
        return flash, efuse
