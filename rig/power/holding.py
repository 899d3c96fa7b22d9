"""What a board's flash holds, during a study: known, looked at, and put as it is wanted.

What was written while the supply was bad may read right today and wrong tomorrow. Such sectors are remembered, and
written again when the board is put right, whatever they seem to hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from rig.bench.slot import OpenSlot
from rig.chip.frames import SECTOR
from rig.errors import Coded, UnitFailed
from rig.flashers.native import NativeFlasher
from rig.releases.board import FOLDER, Board

_LINK_TRIES = 3  # before a board counts as dead
_SILENT = ("no-link", "link-lost", "unreadable")


def left_behind(run: Path, slot: str) -> str | None:
    """The identity of the board in `slot` that whoever was at it last did not put right; None: there is none."""
    try:
        told = json.loads((run / FOLDER / f"{slot}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(told.get("identity")) if isinstance(told, dict) and not told.get("right") else None


class Holding:
    """The flash of a `board` that has begun. All of it at the product's supply; raises Coded errors."""

    def __init__(self, used: OpenSlot, board: Board) -> None:
        self._used, self._board = used, board
        self._now: bytes | None = board.own
        self.weak: set[int] = set()  # addresses of sectors written under a bad supply, and not since under a good one

    def known(self, wanted: bytes) -> bytes:
        """What it holds; looked at only where that is not known."""
        if self._now is None:
            self._now = self._board.look(wanted, wanted)
        return self._now

    def forget(self) -> None:
        """Something was done to it."""
        self._now = None

    def look(self, wanted: bytes, before: bytes) -> bytes | None:
        """All of it, from a power-cycle on; None: the board does not answer any more. Raises the bench's faults."""
        self._used.guard.refusals.clear()
        for left in reversed(range(_LINK_TRIES)):
            self._board.release()
            try:
                self._now = self._board.look(wanted, before)
                return self._now
            except Coded as problem:
                if problem.code not in _SILENT or (not left and problem.code != "no-link"):
                    raise
        return None

    def put(self, wanted: bytes, *, weak: bool = True) -> None:
        """All of it as `wanted`: what differs is written, and with `weak` what was written under a bad supply too.

        Raises UnitFailed("verify-failed") for a flash that does not take it.
        """
        self._board.open_guard()
        now = self.known(wanted)
        sectors = {at for at in range(0, len(wanted), SECTOR) if now[at : at + SECTOR] != wanted[at : at + SECTOR]}
        sectors |= self.weak if weak else set()
        if sectors:
            self._write(wanted, sectors)
        self._now = wanted

    def rewrite(self, wanted: bytes) -> None:
        """Every sector of it."""
        self._board.open_guard()
        self._write(wanted, range(0, len(wanted), SECTOR))
        self._now = wanted

    def _write(self, wanted: bytes, sectors: Iterable[int]) -> None:
        self._board.release()
        self._now = None
        rom = NativeFlasher()
        try:
            wrote = rom.write(self._used.link, [(at, wanted[at : at + SECTOR]) for at in sorted(sectors)])
        finally:
            rom.close()
        if not wrote.ok:
            raise UnitFailed("verify-failed", f"the board could not be put right: {wrote.said}")
        self.weak.difference_update(sectors)
