"""Bootloaders by their checksum: what a CRC-32 over the first bytes of the flash says about a board.

257 bytes on a BK7231N, because its ROM includes the end address, and 256 on a BK7231T and its kind: that is what
flashing tools ask for and print as "unknown bootloader CRC". Source: bk7231tools' table; the values marked here were
computed on images or from the pattern itself.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

CRC_LENGTH = 257
T_CRC_LENGTH = 256


@dataclass(frozen=True)
class Bootloader:
    """`bootable`: a BK7231N starts with it. `name` reads well after "the bootloader is". `size`: bytes of its code,
    decrypted, where a whole one was measured."""

    crc: int
    name: str
    bootable: bool = False
    chip: str | None = None
    size: int | None = None


ERASED = Bootloader(0xB397B8F6, "erased (257 times FF)")
READS_ZERO = Bootloader(0xB7BFA0CE, "all zeros: the chip cannot read its flash, or it was wiped")

_KNOWN = (
    Bootloader(0xE14191BA, "Tuya's BK7231N 1.0.1", True, "BK7231N", 0xEA20),
    ERASED,
    READS_ZERO,
    Bootloader(0xAC09C7F1, "BK7231T's 1.0.5, as in Tuya's and OpenBeken's T images", False, "BK7231T", 0xDD20),
    Bootloader(0x5064205D, "no bootloader but an OpenBeken app for BK7231N, written at 0x0 instead of 0x11000"),
    Bootloader(0x57723426, "no bootloader but an OpenBeken app for BK7231T, written at 0x0 instead of 0x11000"),
    Bootloader(0x8E4E6CDB, "OpenBeken's for BK7231M, not encrypted", False, "BK7231M"),
    Bootloader(0x698E014A, "a BL2028N's, not encrypted", False, "BK7231M"),
    Bootloader(0xF42F8C32, "BK7238's (T1) 2.0.0", False, "BK7238"),
    Bootloader(0x6BEB0924, "BK7238's 1.0.14", False, "BK7238"),
)
# Over 256 bytes. Source: bk7231tools' table; BK7231T 1.0.5 was seen in a real dump.
_KNOWN_T = (
    Bootloader(0xC1ECA871, "Tuya's BK7231T (BK7231S) 1.0.1", False, "BK7231T"),
    Bootloader(0x4B31E44D, "Tuya's BK7231T (BK7231S) 1.0.3", False, "BK7231T"),
    Bootloader(0xBA54C1B8, "Tuya's BK7231T (BK7231S) 1.0.5", False, "BK7231T", 0xDD20),
    Bootloader(0xE5CBC953, "Tuya's BK7231T (BK7231S) 1.0.6", False, "BK7231T"),
    Bootloader(0xF0231EF6, "a BK7231Q's", False, "BK7231Q"),
    Bootloader(0xFF5A3EAC, "a BK7231Q's, of Tuya's SDK", False, "BK7231Q"),
    Bootloader(0x2739019F, "BK7231U's 1.0.6", False, "BK7231U"),
    Bootloader(0x39F9B50C, "BK7252's 0.1.3", False, "BK7252"),
    Bootloader(0xE3A27C26, "BK7252's, of its SDK", False, "BK7252"),
    Bootloader(0xFEA8A821, "erased (256 times FF)"),
    Bootloader(0x0D968558, "all zeros: the chip cannot read its flash, or it was wiped"),
)
KNOWN = {item.crc: item for item in _KNOWN}
KNOWN_T = {item.crc: item for item in _KNOWN_T}


def bootloader_crc(data: bytes) -> int | None:
    """CRC-32 of the first 257 bytes; None if there are fewer."""
    return zlib.crc32(data[:CRC_LENGTH]) if len(data) >= CRC_LENGTH else None


def known_bootloader(data: bytes) -> Bootloader | None:
    """What begins a flash or a file, by either checksum; None if it is not in the table."""
    crc = bootloader_crc(data)
    if crc is None:
        return None
    return KNOWN.get(crc) or KNOWN_T.get(zlib.crc32(data[:T_CRC_LENGTH]))
