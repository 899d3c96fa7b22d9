"""The RBL trailer at the end of a code partition, by which tools recognise what lies there.

The chip's own bootloaders do not look at it to boot. Source: the header layout in bk7231tools and ltchiptool; sums
and padding checked on OpenBeken and factory images.
"""

from __future__ import annotations

import struct
import zlib

from rig.image import beken

_HEADER = struct.Struct("<4sII16s24s24sIIII")
SIZE = _HEADER.size + 4  # 96: three code blocks
_PAD_TO = 16
_BUILT = 1767225600  # 2026-01-01 UTC: fixed, so that the same source gives the same bytes
_NOT_COMPRESSED_NOT_ENCRYPTED = 0


def trailer(name: str, version: str, payload: bytes) -> bytes:
    """The 96 header bytes over `payload`, the code as stored (encrypted), without CRC-16s."""
    padding = _PAD_TO - len(payload) % _PAD_TO
    header = _HEADER.pack(
        b"RBL\0",
        _NOT_COMPRESSED_NOT_ENCRYPTED,
        _BUILT,
        name.encode(),
        version.encode(),
        b"0" * 23,
        zlib.crc32(payload + bytes((padding,)) * padding),
        _fnv1a(payload),
        len(payload),
        len(payload) + padding,
    )
    return header + zlib.crc32(header).to_bytes(4, "little")


def partition(name: str, version: str, raw: bytes, size: int) -> bytes:
    """A code partition of `size` flash bytes: the framed code `raw`, FF, and the framed trailer at its very end."""
    end = beken.frame(trailer(name, version, beken.unframe(raw)[0]))
    return raw + b"\xff" * (size - len(raw) - len(end)) + end


def _fnv1a(data: bytes) -> int:
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value
