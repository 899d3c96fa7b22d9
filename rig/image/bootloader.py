"""Bootloaders by their checksum: what a CRC-32 over the first 257 bytes of the flash says about a board.

257 because the BK7231N's ROM includes the end address, and that is what flashing tools ask it for and print as
"unknown bootloader CRC". Source: bk7231tools' table; the values marked here were computed on images or from the
pattern itself.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

CRC_LENGTH = 257


@dataclass(frozen=True)
class Bootloader:
    """`bootable`: a BK7231N starts with it. `name` reads well after "the bootloader is"."""

    crc: int
    name: str
    bootable: bool = False
    chip: str | None = None


ERASED = Bootloader(0xB397B8F6, "erased (257 times FF)")
READS_ZERO = Bootloader(0xB7BFA0CE, "all zeros: the chip cannot read its flash, or it was wiped")

_KNOWN = (
    Bootloader(0xE14191BA, "Tuya's BK7231N 1.0.1", True, "BK7231N"),
    ERASED,
    READS_ZERO,
    Bootloader(0xAC09C7F1, "BK7231T's, as in OpenBeken's T images", False, "BK7231T"),
    Bootloader(0x5064205D, "no bootloader but an OpenBeken app for BK7231N, written at 0x0 instead of 0x11000"),
    Bootloader(0x57723426, "no bootloader but an OpenBeken app for BK7231T, written at 0x0 instead of 0x11000"),
    Bootloader(0x8E4E6CDB, "OpenBeken's for BK7231M, not encrypted", False, "BK7231M"),
    Bootloader(0x698E014A, "a BL2028N's, not encrypted", False, "BK7231M"),
    Bootloader(0xF42F8C32, "BK7238's (T1) 2.0.0", False, "BK7238"),
    Bootloader(0x6BEB0924, "BK7238's 1.0.14", False, "BK7238"),
)
KNOWN = {item.crc: item for item in _KNOWN}


def bootloader_crc(data: bytes) -> int | None:
    """CRC-32 of the first 257 bytes; None if there are fewer."""
    return zlib.crc32(data[:CRC_LENGTH]) if len(data) >= CRC_LENGTH else None
