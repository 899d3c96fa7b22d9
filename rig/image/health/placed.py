"""A file as it would lie in a board's flash: what of the flash it holds, and what is known of its code already."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from rig.image import flashmap
from rig.image.beken import FRAMED, unframe
from rig.image.code import TAGS, Code
from rig.image.flashmap import FLASH_SIZE, REGIONS, Range, Region
from rig.image.health.partition import code_place
from rig.image.identity import Identity, Kind

_FROM_ZERO = (Kind.FULL_DUMP, Kind.QIO, Kind.BOOTLOADER)
_FEW = 8  # good code blocks that a file of unknown kind must have to be taken for damaged code
_LOOKED_AT = 0x20000  # bytes of it


@dataclass(frozen=True)
class Placed:
    """`found`: what the file is. `flash`: its content from address 0, as far as the file reaches; `held`: the part of
    it that is the file's. `whole`: it is to be all of a flash. `boot`, `app`: what `rig.image.code` read, with
    offsets in the flash."""

    found: Identity
    flash: bytes = field(repr=False)
    held: Range
    regions: tuple[Region, ...]
    whole: bool = False
    boot: Code | None = None
    app: Code | None = None

    def content(self, region: Region) -> bytes:
        """What the file has of a region; b"" where it does not reach it."""
        return self.flash[max(region.start, self.held[0]) : min(region.end, self.held[1])]

    @property
    def tagged(self) -> bool:
        """Whether it has the tag that an N's ROM looks for: as it is, not encrypted."""
        return self.flash[flashmap.CHIP_TAG : flashmap.CHIP_TAG + 8] in TAGS


def place(data: bytes, found: Identity, chip: str) -> Placed:
    """`data`, identified as `found`, where it belongs on a board with this chip. A file that belongs nowhere holds
    nothing of the flash."""
    if len(data) >= FLASH_SIZE and found.kind is not Kind.UF2:
        boot, app = (found.boot, found.app) if found.kind in _FROM_ZERO else (None, None)
        return _at(data, 0, found, chip, whole=True, boot=boot, app=app)
    if found.kind in _FROM_ZERO:
        return _at(data, 0, found, chip, whole=found.kind is Kind.FULL_DUMP, boot=found.boot, app=found.app)
    if found.kind is Kind.APP:
        return _at(data, flashmap.APP, found, chip, app=found.app)
    if found.kind is Kind.UF2:
        return _uf2(found, chip)
    if found.kind in (Kind.CALIBRATION, Kind.OBK_CONFIG, Kind.STORAGE):
        return _area(data, found, chip)
    if found.kind in (Kind.UNKNOWN, Kind.TOO_SMALL) and (start := _damaged_code(data)) is not None:
        return _at(data, start, found, chip)
    return Placed(found, b"", (0, 0), _regions(found, b"", chip))


def _at(
    data: bytes, start: int, found: Identity, chip: str, *, whole: bool = False,
    boot: Code | None = None, app: Code | None = None,
) -> Placed:  # fmt: skip
    flash = (b"\xff" * start + data)[:FLASH_SIZE]
    app = _moved(app, start) if app else None
    return Placed(found, flash, (start, len(flash)), _regions(found, flash, chip), whole, boot, app)


def _moved(code: Code, by: int) -> Code:
    rbl = (code.rbl[0] + by, code.rbl[1]) if code.rbl else None
    bad = tuple(at + by for at in code.bad_blocks)
    return replace(code, start=code.start + by, end=code.end + by, rbl=rbl, bad_blocks=bad)


def _uf2(found: Identity, chip: str) -> Placed:
    pieces = [piece for piece in found.uf2.pieces if 0 <= piece.flash_offset < FLASH_SIZE] if found.uf2 else []
    if not pieces:
        return Placed(found, b"", (0, 0), _regions(found, b"", chip))
    first = min(piece.flash_offset for piece in pieces)
    flash = bytearray(b"\xff" * min(max(piece.flash_offset + len(piece.content) for piece in pieces), FLASH_SIZE))
    for piece in pieces:
        end = min(piece.flash_offset + len(piece.content), FLASH_SIZE)
        flash[piece.flash_offset : end] = piece.content[: end - piece.flash_offset]
    return Placed(found, bytes(flash), (first, len(flash)), _regions(found, bytes(flash), chip))


def _area(data: bytes, found: Identity, chip: str) -> Placed:
    places = {region.name: region for region in _regions(found, b"", chip)}
    name = {Kind.CALIBRATION: "calibration", Kind.OBK_CONFIG: "net"}.get(found.kind, "storage")
    start = places[name].start
    if found.kind is Kind.STORAGE and len(data) <= places[name].size - flashmap.SECTOR:
        start += flashmap.SECTOR  # what Tuya uses of its region begins a sector further on
    return _at(data, start, found, chip)


def _damaged_code(data: bytes) -> int | None:
    """Where a file belongs that is code by its CRC-16s, though its first block is lost; None for any other file."""
    stored, valid = unframe(data[:_LOOKED_AT])
    blocks = np.frombuffer(data, dtype=np.uint8, count=len(valid) * FRAMED).reshape(-1, FRAMED)
    used = int((blocks != 0xFF).any(axis=1).sum())
    if valid.sum() < _FEW or valid.sum() < 0.9 * used:
        return None
    place = code_place(stored, valid)
    return None if place is None else (flashmap.BOOTLOADER if place == 0 else flashmap.APP)


def _regions(found: Identity, flash: bytes, chip: str) -> tuple[Region, ...]:
    """The map that fits what is there: that which has a calibration, the file's chip's first, else the board's."""
    tagged = [name for name, at in flashmap.CALIBRATION.items() if flash[at : at + 4] == flashmap.CALIBRATION_TAG]
    if tagged and found.chip not in tagged:  # another chip's code was written over it: the rest is still the board's
        return REGIONS[tagged[0]]
    return REGIONS.get(found.chip or chip, REGIONS.get(chip, REGIONS["BK7231N"]))
