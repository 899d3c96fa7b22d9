"""May the firmware of the board in the slot run? Only where nothing is at stake: its backup is kept, or it holds an
image that is at hand.

A board fresh from its device has calibration and keys that nobody else has, and its firmware may change them as it
starts. A plan that boots boards without backing them up asks here first, while the board waits in its ROM.
"""

from __future__ import annotations

from collections.abc import Callable

from rig.errors import BenchBlocked, ImageRefused, RigError
from rig.line.place import Place
from rig.line.target import Target, board_of
from rig.line.verification import compared
from rig.records.backups import BackupStore


def require_clearance(place: Place, image: Callable[[], Target]) -> None:
    """BenchBlocked("no-backup") for a board that has no backup on record and does not hold `image`, which is asked
    for only where there is none. The board is in its ROM, identified; what it holds is told by the chip's CRC."""
    record, none = place.record, "no backup on record"
    try:
        kept = BackupStore(record.run.path.parent / "backups").first(record.identity) if record.identity else None
    except RigError as problem:
        kept, none = None, f"no backup ({problem})"
    if kept is not None:
        record.measure("cleared_by", "backup")
        return
    if why := _not_held(place, image):
        raise BenchBlocked(
            "no-backup",
            f"this board ({record.identity or 'without UID and MAC'}) has {none}, and {why}: its firmware "
            "was not started",
        )
    record.measure("cleared_by", "image")


def _not_held(place: Place, image: Callable[[], Target]) -> str | None:
    """Why the board cannot be said to hold the image; None where it does, below what is any board's own."""
    try:
        target = image()
        target.aim(board_of(place.slot.product, efuse=place.record.efuse, held=None, backup=None))
    except ImageRefused as problem:
        return f"the image is none for it ({problem})"
    except RigError as problem:
        return f"there is nothing to compare its flash with ({problem})"
    wanted = compared(target.pieces)
    if not any(content for _, content in wanted):
        return f"{target.name} brings nothing that could be compared"
    check = place.rom.verify(place.link, wanted, place.progress)
    return None if check.ok else f"it does not hold {target.name} ({check.said})"
