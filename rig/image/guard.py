"""The guard before the wire: which bytes of a file may go where, or one sentence on why none may.

A file is judged by its content (`rig.image.identify`); its name is used in the sentence only. What passes becomes
a plan of pieces, and everything downstream (flasher, tap, verify) follows the plan and not the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rig.errors import ImageRefused, UsageProblem

from . import flashmap
from .flashmap import Range
from .identify import identify
from .identity import Identity, KeyName, Kind

_VERSION = re.compile(r"(?<![\d.])\d+\.\d+\.\d+(?![\d.]*\d)")


@dataclass(frozen=True)
class Piece:
    """`length` bytes of the file from `source_offset`, to be at `flash_offset`. All in bytes."""

    flash_offset: int
    length: int
    source_offset: int


@dataclass(frozen=True)
class Plan:
    """What is written: the pieces in flash order, and a note for the person and the record."""

    identity: Identity
    pieces: tuple[Piece, ...]
    note: str

    @property
    def size(self) -> int:
        """Bytes written in all."""
        return sum(piece.length for piece in self.pieces)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """(flash offset, length) of every piece."""
        return [(piece.flash_offset, piece.length) for piece in self.pieces]

    def contents(self, data: bytes) -> list[tuple[int, bytes]]:
        """(flash offset, content) of every piece, out of the file's `data`."""
        return [
            (piece.flash_offset, data[piece.source_offset : piece.source_offset + piece.length])
            for piece in self.pieces
        ]

    def untouched(self, board: bytes) -> list[tuple[int, bytes]]:
        """(flash offset, content) of what the plan leaves alone of a board that held `board`, in whole sectors."""
        kept, at, sector = [], 0, flashmap.SECTOR
        for start, length in sorted(self.ranges):
            first = start // sector * sector
            if at < first:
                kept.append((at, board[at:first]))
            at = max(at, -(-(start + length) // sector) * sector)
        return [*kept, (at, board[at:])] if at < len(board) else kept


def plan_write(
    data: bytes,
    name: str,
    *,
    chip: str = "BK7231N",
    flash_size: int = flashmap.FLASH_SIZE,
    start: int | None = None,
    keep_identity: bool = True,
    key: KeyName = "tuya",
) -> Plan:
    """The plan for writing the file `data`, called `name`, to a board with this chip, flash and cipher key.

    A QIO goes to 0x0 (with `start` 0x11000: its app part there), an app to 0x11000 only, a full dump to 0x0. With
    `keep_identity` a dump leaves out the calibration sector and Tuya's storage, which are the board's own; give
    False for a board's own backup. Raises ImageRefused with one sentence: what the file is, what to use instead;
    UsageProblem for a chip whose flash is not mapped.
    """
    if chip != "BK7231N":
        raise UsageProblem(f"this rig writes BK7231N boards; it has no rules for {chip}.")
    found = identify(data, name)
    label = name or "the file"
    reason = _refusal(found, chip, key, flash_size)
    if reason:
        raise ImageRefused(f"{label} is {reason}; {_instead(found, name)}.")
    if found.kind is Kind.APP:
        return _app_plan(found, label, start)
    if found.kind is Kind.FULL_DUMP:
        return _dump_plan(found, label, start, chip, keep_identity)
    return _qio_plan(found, label, start)


def _refusal(found: Identity, chip: str, key: KeyName, flash_size: int) -> str | None:
    """Why a file is not written at all, to be read after "it is"; None if it may be."""
    if found.kind not in (Kind.QIO, Kind.APP, Kind.FULL_DUMP):
        return _NOT_AN_IMAGE.get(found.kind, "{what}").format(what=found.what)
    if found.chip and found.chip != chip:
        return f"{found.what}: the wrong chip for this {chip} board"
    if found.key and found.key != key:
        holds = {"tuya": "decrypts with Tuya's key", "zero": "takes unencrypted code"}[key]
        return f"{found.what}: this board's chip {holds}, so it could not run it"
    if found.problems:
        return f"{found.what}, and damaged: {_listed(found.problems)}"
    if not found.chip:
        return f"{found.what}: nothing in it says that it is for {chip}"
    if found.size > flash_size:
        return f"{found.what}, {found.size:,} bytes for a flash of {flash_size:,}"
    if found.rf_area and found.kind is not Kind.FULL_DUMP:
        where = flashmap.CALIBRATION[chip]
        return f"{found.what} and more, up to 0x{found.size:X}: it would erase the radio calibration at 0x{where:X}"
    return None


_NOT_AN_IMAGE = {
    Kind.EFUSE: "{what}, not firmware: it holds a cipher key and no code",
    Kind.UG: "{what}, not a flash image: the bootloader unpacks it, a UART write does not",
    Kind.RBL: "{what}, not a flash image: the bootloader unpacks it, a UART write does not",
    Kind.UF2: "{what}: its blocks would have to be unpacked first",
    Kind.BOOTLOADER: "{what}: without an app behind it a board does not start",
    Kind.ROM: "{what}, not firmware",
    Kind.TEXT: "{what}, not firmware",
}


def _instead(found: Identity, name: str) -> str:
    """What to use, with the version the file (or, failing that, its name) tells."""
    if found.kind is Kind.BLANK:
        return f"use {_qio(None)}, or the board's own backup"
    if found.kind is Kind.FULL_DUMP and found.chip == "BK7231N":
        return f"use another dump of such a board, or {_qio(None)}, at 0x0"
    version = found.version if found.firmware == "OpenBeken" or found.kind is Kind.UG else None
    if version is None and found.kind in (Kind.RBL, Kind.UF2, Kind.UG):
        hint = _VERSION.search(name)
        version = hint.group() if hint else None
    whole = " whole" if found.problems else ""
    return f"use {_qio(version)}{whole} at 0x0 instead"


def _qio(version: str | None) -> str:
    return f"OpenBK7231N_QIO_{version or '<version>'}.bin"


def _listed(problems: tuple[str, ...]) -> str:
    more = len(problems) - 2
    return " and ".join(problems[:2]) + (f" (and {more} more)" if more > 0 else "")


def _qio_plan(found: Identity, label: str, start: int | None) -> Plan:
    if start == flashmap.APP:
        piece = Piece(flashmap.APP, found.size - flashmap.APP, flashmap.APP)
        return Plan(found, (piece,), f"the app part of {label} at 0x11000; the board's bootloader stays")
    if start not in (None, 0):
        raise ImageRefused(
            f"{label} is {found.what}: it goes to 0x0, or its app part to 0x11000, not to 0x{start:X}; "
            "leave the start out."
        )
    return Plan(found, (Piece(0, found.size, 0),), f"{label} whole at 0x0")


def _app_plan(found: Identity, label: str, start: int | None) -> Plan:
    if start == 0:
        raise ImageRefused(
            f"{label} is {found.what}: at 0x0 it would replace the bootloader and the board would stay silent; "
            "it goes to 0x11000."
        )
    if start not in (None, flashmap.APP):
        raise ImageRefused(f"{label} is {found.what}: it runs from 0x11000 only, not from 0x{start:X}.")
    return Plan(found, (Piece(flashmap.APP, found.size, 0),), f"{label} at 0x11000; the board's bootloader stays")


def _dump_plan(found: Identity, label: str, start: int | None, chip: str, keep_identity: bool) -> Plan:
    if start not in (None, 0):
        raise ImageRefused(f"{label} is {found.what}: it goes to 0x0, not to 0x{start:X}; leave the start out.")
    kept: tuple[Range, ...] = flashmap.identity_ranges(chip) if keep_identity else ()
    pieces = tuple(Piece(at, end - at, at) for at, end in flashmap.without((0, found.size), kept))
    if not keep_identity:
        lost = "" if found.calibrated else ", which holds no radio calibration"
        return Plan(found, pieces, f"{label} whole at 0x0, as a board's own backup{lost}")
    spared = ", ".join(f"0x{at:X}-0x{end:X}" for at, end in kept)
    note = f"{label} at 0x0 without {spared}: calibration, MAC and Tuya's keys stay the board's own"
    return Plan(found, pieces, note)
