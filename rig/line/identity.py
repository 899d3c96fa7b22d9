"""Which board is in the slot, by what no other one has; and by what it is found again once it gets a new MAC."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from rig.errors import ImageRefused
from rig.flashers.base import ChipIdentity
from rig.image import flashmap
from rig.image.contents.calibration import MADE_UP_MAC, read_calibration
from rig.image.planning.board import Board
from rig.image.planning.kept import cloned
from rig.image.planning.plan import Plan
from rig.records.backups import Backup, BackupStore

_NO_MAC = (bytes(6), b"\xff" * 6)
_ERASED = b"\xff" * flashmap.SECTOR
_UNDER_WAY = 16  # sectors: what one erase covers


def identity_of(who: ChipIdentity) -> str | None:
    """What tells this board from all others: its UID, else its efuse's MAC, else that of its calibration.

    None where these are blank, no device's, or what firmware makes up: then boards would pass for one another.
    Whether boards in the field have a UID is not known: no efuse of a real one was at hand.
    """
    uid = (who.efuse or b"")[16:24]
    if any(uid) and uid != b"\xff" * 8:
        return f"uid-{uid.hex()}"
    mac = efuse_mac(who.efuse) or _device(who.mac)
    return f"mac-{mac}" if mac else None


def another_board(known: Sequence[str], found: str | None) -> str | None:
    """A sentence where the board that calls itself `found` is certainly none of those `known`; else None.

    Only UIDs are proof of that: a board known by its MAC may have lost it, or got a new one by its plan.
    """
    uids = [name for name in known if name.startswith("uid-")]
    if not uids or found is None or not found.startswith("uid-") or found in uids:
        return None
    return f"its board was {uids[-1]} and the one in the slot is {found}; put in its own, or put a rework on record"


def efuse_mac(efuse: bytes | None) -> str | None:
    """Efuse bytes 24 to 29, as read by ltchiptool; None where nothing was written there or it is no device's."""
    raw = (efuse or b"")[24:30]
    return _device(raw.hex(":")) if len(raw) == 6 else None


def mac_after(plan: Plan, data: bytes, board: Board) -> str | None:
    """The MAC of the board once `plan` for the file `data` is written: in its calibration, else in its efuse.

    None: none of its own, or its flash is not known.
    """
    if board.held is None:
        return None
    at = flashmap.CALIBRATION[board.chip]
    sector = bytearray(board.held[at : at + flashmap.SECTOR])
    for start, content in plan.contents(data):
        first, last = max(start, at), min(start + len(content), at + flashmap.SECTOR)
        if first < last:
            sector[first - at : last - at] = content[first - start : last - start]
    found = read_calibration(bytes(sector))
    if found is not None and found.made_up:
        return None  # the firmware takes it for its own
    return (found.mac if found else None) or board.efuse_mac


def carry_over(
    store: BackupStore, backup: Backup, plan: Plan, data: bytes, board: Board, efuse: bytes | None
) -> Backup | None:
    """Keep `backup` under what the board will be called too, where `plan` gives it another identity: one that is
    known by its MAC only, and gets a new one. None where its name stays.

    ImageRefused where another board has that name; the same one, whose last try was cut off or whose calibration was
    lost since, has it already. By its MAC a board that got another's dump before cannot be told from that one: what
    it held itself becomes its backup.
    """
    name = identity_of(ChipIdentity(mac=mac_after(plan, data, board), efuse=efuse))
    if name is None or name == backup.identity or board.held is None:
        return None
    own = board.held if backup.identity.startswith("mac-") and cloned(data, board) else backup.content()
    there = store.first(name)
    if there is not None and there.sha256 != hashlib.sha256(own).hexdigest():
        before = there.content()
        if _same_storage(before, board) or _cut_off(before, plan, data, board.held):
            return there
        other = " give another with --mac." if plan.mac else " use another file."
        raise ImageRefused(
            f"this board is to get the MAC {name.removeprefix('mac-')}, by which another one was backed up "
            f"({there.path.parent}): no two boards may have the same;{other}"
        )
    return store.keep(name, own)


def _same_storage(before: bytes, board: Board) -> bool:
    """Whether the board holds the very keys of the one that held `before`: whatever else was written to it since, and
    though its calibration is lost, it is that one and gets its own MAC back."""
    area = flashmap.region("storage", board.chip)
    first, now = before[area.start : area.end], (board.held or b"")[area.start : area.end]
    return first == now and bool(first.translate(None, b"\x00\xff"))


def _cut_off(before: bytes, plan: Plan, data: bytes, held: bytes) -> bool:
    """Whether `held` is what a write of `plan` leaves behind that was cut off on the board that held `before`: each
    sector the old one, the new one or erased, but for a few that were under way or that firmware counts in."""
    after = bytearray(before)
    for start, content in plan.contents(data):
        after[start : start + len(content)] = content
    strange = 0
    for at in range(0, len(held), flashmap.SECTOR):
        sector = held[at : at + flashmap.SECTOR]
        if sector in (before[at : at + flashmap.SECTOR], after[at : at + flashmap.SECTOR], _ERASED):
            continue
        strange += 1
        if strange > _UNDER_WAY or any(start <= at < end for start, end in flashmap.identity_ranges()):
            return False
    return len(before) == len(held)


def _device(mac: str | None) -> str | None:
    """`mac`, if it is one board's: not blank, of a group, or made up by firmware."""
    raw = bytes.fromhex((mac or "").replace(":", ""))
    return None if len(raw) < 6 or raw in _NO_MAC or raw[0] & 1 or mac == MADE_UP_MAC else mac
