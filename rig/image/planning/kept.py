"""What makes a board itself: radio calibration, MAC and Tuya's storage, when another board's dump is written to it.

Each stays as it is in flash where it is sound there, else it comes back from the board's first backup. Where both
are lost the storage is left blank, and the calibration is the best there is with a MAC of this board.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from rig.errors import UsageProblem
from rig.image import flashmap
from rig.image.contents.calibration import Calibration, parse_own_mac, read_calibration, with_mac
from rig.image.contents.tuya import read_storage
from rig.image.planning.board import Board
from rig.image.planning.plan import Piece


@dataclass(frozen=True)
class Kept:
    """What is written over the identity ranges, if anything, and a sentence on each choice. `mac`: a new one."""

    pieces: tuple[Piece, ...]
    notes: tuple[str, ...]
    mac: str | None


def keep_identity(data: bytes, board: Board) -> Kept:
    """The pieces by which `board`, with `data` of another board written to it, stays itself.

    A board of which nothing is known (`held` None) is left as it is. UsageProblem for a `Board.mac` that is none.
    """
    if board.held is None:
        note = "this board's flash was not looked at: its calibration and storage are left as they are"
        return Kept((), (note,), None)
    calibration, storage = _calibration(data, board, board.held), _storage(data, board, board.held)
    pieces = (*calibration.pieces, *storage.pieces)
    return Kept(pieces, (*calibration.notes, *storage.notes), calibration.mac)


def chosen_mac(board: Board) -> tuple[str, str]:
    """(MAC, where it is from) for a board whose own is lost: the user's, else the efuse's, else a new one."""
    if board.mac:
        return parse_own_mac(board.mac), "given by the user"
    if board.efuse_mac:
        try:
            return parse_own_mac(board.efuse_mac), "from its efuse"
        except UsageProblem:
            pass
    return board.spare_mac, "made up for it, locally administered"


def cloned(data: bytes, board: Board) -> bool:
    """Whether the board holds, or its backup does, the very calibration of this dump, and it is not its own."""
    return _donors_mac(data, board) in {_sound_mac(board.held, board), _sound_mac(board.backup, board)} - {None}


def _sound_mac(flash: bytes | None, board: Board) -> str | None:
    area = flashmap.region("calibration", board.chip)
    found = read_calibration(flash[area.start : area.end]) if flash else None
    return found.mac if found is not None and found.sound else None


def _donors_mac(data: bytes, board: Board) -> str | None:
    """The MAC of the dump, where a calibration with it is not this board's own but was written to it before.

    That is so if its first backup has another, or the user gives another: else the dump may be this board's own.
    """
    donors = _sound_mac(data, board)
    others = {_sound_mac(board.held, board), _sound_mac(board.backup, board)} - {None, donors}
    if donors is None or donors == board.efuse_mac:
        return None
    given = board.mac is not None and parse_own_mac(board.mac) != donors
    return donors if others or given else None


def _calibration(data: bytes, board: Board, held: bytes) -> Kept:
    area = flashmap.region("calibration", board.chip)
    at, end = area.start, area.end
    theirs, now = _donors_mac(data, board), _sound_mac(held, board)
    unused = (f"the MAC {board.mac} was not used: the board has a sound one of its own",) if board.mac else ()
    if now is not None and now != theirs:
        return Kept((), (f"the calibration stays the board's own, MAC {now}", *unused), None)
    clone = f"the board's calibration is that of the dump, MAC {theirs}, written to it before"
    first = _sound_mac(board.backup, board)
    if board.backup is not None and first is not None and first != theirs:
        why = clone if now else "the board's calibration is lost"
        note = f"{why}: it comes back from its first backup, MAC {first}"
        piece = _piece(at, board.backup[at:end], "calibration of the board's first backup")
        return Kept((piece,), (note, *unused), None)
    mac, origin = chosen_mac(board)
    donors = (("its flash", held), ("its first backup", board.backup), ("the dump", data))
    for name, source in donors:
        sector = _repaired(source[at:end], mac) if source else None
        if sector is not None:
            note = f"the board's calibration is lost: it gets that of {name}, with MAC {mac} ({origin})"
            if name != "the dump":
                note = f"the board's MAC is lost: the calibration in {name} gets MAC {mac} ({origin})"
            if now is not None:
                note = f"{clone}: it gets MAC {mac} ({origin})"
            return Kept((_piece(at, sector, f"calibration of {name} with MAC {mac}"),), (note,), mac)
    lost = "the board's calibration is lost, and neither its backup nor the dump has one: the sector stays as it is"
    unused = (f"the MAC {board.mac} was not used: no calibration can take it",) if board.mac else ()
    return Kept((), (lost, *unused), None)


def _repaired(sector: bytes, mac: str) -> bytes | None:
    """The calibration with another MAC; None where more than its MAC is damaged or made up, or it can hold none."""
    before = read_calibration(sector)
    if len(sector) != flashmap.SECTOR or before is None or (before.made_up and not before.measured):
        return None
    try:
        new = with_mac(sector, mac)
    except UsageProblem:
        return None
    found: Calibration | None = read_calibration(new)
    return new if found is not None and found.sound else None


class _Storage(StrEnum):
    SOUND = "sound"
    DAMAGED = "damaged"  # Tuya's, and a part of it cannot be read
    OTHER = "other"  # data in no format this rig can judge
    BLANK = "blank"


def _storage(data: bytes, board: Board, held: bytes) -> Kept:
    """Sound is what can be read. What is in no known format cannot be judged: it is the board's own and stays.

    But for a board that got the dump before, storage and all: the dump's very storage is none of its own."""
    area = flashmap.region("storage", board.chip)
    at, end = area.start, area.end
    first = board.backup[at:end] if board.backup else b""
    now, before = _judged(held[at:end]), _judged(first)
    if cloned(data, board):
        now = _Storage.BLANK if held[at:end] == data[at:end] else now
        before = _Storage.BLANK if first == data[at:end] else before
    if now is _Storage.SOUND:
        return Kept((), ("Tuya's storage stays the board's own",), None)
    if before is _Storage.SOUND or (before is _Storage.OTHER and first != held[at:end]):
        note = f"Tuya's storage is {_LOST[now]} on the board: it comes back from its first backup"
        return Kept((_piece(at, first, "Tuya's storage of the board's first backup"),), (note,), None)
    if now is _Storage.OTHER:
        return Kept((), ("what the board has in the place of Tuya's storage is in no known format, and stays",), None)
    note = f"Tuya's storage is {_LOST[now]} on the board, and its backup has no sound one: it is left blank"
    return Kept((_piece(at, b"\xff" * area.size, "blank storage"),), (note,), None)


_LOST = {_Storage.DAMAGED: "damaged", _Storage.BLANK: "erased", _Storage.OTHER: "overwritten"}


def _judged(region: bytes) -> _Storage:
    if not region.translate(None, b"\x00\xff"):
        return _Storage.BLANK
    found = read_storage(region)
    if found is None:
        return _Storage.OTHER
    return _Storage.SOUND if found.problem is None else _Storage.DAMAGED


def _piece(at: int, content: bytes, what: str) -> Piece:
    return Piece(at, len(content), None, content, what)
