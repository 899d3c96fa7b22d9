"""UF2 containers for tests, made here as Microsoft's specification has them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

BK7231N, BK7231T = 0x7B3EF230, 0x675A40B0


def uf2(pieces: Sequence[tuple[int, bytes]], family: int = BK7231N) -> bytes:
    """A container that puts each (flash offset, content) in blocks of 256 bytes, in the order given."""
    blocks = [(at + skip, data[skip : skip + 256]) for at, data in pieces for skip in range(0, len(data), 256)]
    return b"".join(
        b"UF2\nWQ]\x9e"
        + struct.pack("<6I", 0x2000, at, len(part), number, len(blocks), family)
        + part.ljust(476, b"\0")
        + bytes.fromhex("306fb10a")
        for number, (at, part) in enumerate(blocks)
    )
