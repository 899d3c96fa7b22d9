"""The RBL header: 96 bytes that name a payload, its version, its size and its checksums.

In flash it closes a code partition (its last 102 bytes: 96 and three CRC-16s); in an OTA file it comes first.
Source: bk7231tools analysis/rbl.py; fields and the hash checked on six images: FNV-1a over the first `raw` bytes
of the payload as stored, encrypted but without the CRC-16s.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache

from .beken import BLOCK, FRAMED, unframe

MAGIC = b"RBL\0"
SIZE = 96
FRAMED_SIZE = SIZE // BLOCK * FRAMED


@dataclass(frozen=True)
class Rbl:
    """One header. Sizes in bytes: `raw_size` of the payload, `packed_size` with 1-16 of padding that need not be
    in flash. `encrypted` as an over-the-air package is; a payload in flash is not, in this sense."""

    name: str
    version: str
    encrypted: bool
    hash: int
    raw_size: int
    packed_size: int


def parse(header: bytes) -> Rbl | None:
    """The header in these 96 bytes; None unless it begins with RBL and its own checksum is right."""
    if len(header) < SIZE or header[:4] != MAGIC:
        return None
    algorithm, _, name, version, _, _, digest, raw, packed, crc = struct.unpack_from("<II16s24s24sIIIII", header, 4)
    if zlib.crc32(header[: SIZE - 4]) != crc:
        return None
    return Rbl(_text(name), _text(version), bool(algorithm & 0xFF), digest, raw, packed)


def find_in_flash(data: bytes, start: int, end: int) -> tuple[int, Rbl] | None:
    """The header that closes the code partition between `start` and `end`: (flash offset, header).

    Only with good checksums, its own and its blocks'; of several the last one. OpenBeken's T images have theirs
    off the payload's block grid, so no border is asked for.
    """
    end = min(end, len(data))
    at = data.rfind(MAGIC, start, end)
    while at >= 0:
        header, valid = unframe(data[at : min(at + FRAMED_SIZE, end)])
        found = parse(header)
        if found is not None and valid.all():
            return at, found
        at = data.rfind(MAGIC, start, at)
    return None


@lru_cache(maxsize=4)
def fnv1a(data: bytes) -> int:
    """FNV-1a, 32 bits: the header's hash. Remembered: it takes a quarter of a second for an app, asked for twice."""
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("ascii", "replace")
