"""The RBL header: 96 bytes that name a payload, its version, its size and its checksums.

In flash it closes a code partition (its last 102 bytes: 96 and three CRC-16s); in an OTA file it comes first.
Source: bk7231tools analysis/rbl.py; fields and the hash checked on six images: FNV-1a over the first `raw` bytes
of the payload as stored, encrypted but without the CRC-16s.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rig.image.beken import BLOCK, FRAMED, unframe

MAGIC = b"RBL\0"
SIZE = 96
FRAMED_SIZE = SIZE // BLOCK * FRAMED


CIPHERS = {0: "none", 1: "XOR", 2: "AES-256"}
PACKERS = {0: "none", 1: "gzip", 2: "quicklz", 3: "fastlz"}
_VERSION = re.compile(r"[0-9A-Za-z][\w.+-]*", re.ASCII)
_CANDIDATES = 256  # headers looked at in one partition: images have one to three, a file made to be slow has many


@dataclass(frozen=True)
class Rbl:
    """One header. Sizes in bytes: `raw_size` of the payload, `packed_size` with 1-16 of padding that need not be
    in flash. `encrypted` as an over-the-air package is; a payload in flash is not, in this sense. `cipher`, `packer`:
    how the payload is packed, by name. `crc`: CRC-32 of the packed payload."""

    name: str
    version: str
    encrypted: bool
    hash: int
    raw_size: int
    packed_size: int
    cipher: str = "none"
    packer: str = "none"
    crc: int = 0


def parse(header: bytes) -> Rbl | None:
    """The header in these 96 bytes; None unless it begins with RBL and its own checksum is right."""
    if len(header) < SIZE or header[:4] != MAGIC:
        return None
    algorithm, _, name, version, _, payload, digest, raw, packed, crc = struct.unpack_from(
        "<II16s24s24sIIIII", header, 4
    )
    if zlib.crc32(header[: SIZE - 4]) != crc:
        return None
    cipher, packer = algorithm & 0xFF, algorithm >> 8 & 0xFF
    return Rbl(
        _text(name), _version(version), bool(cipher), digest, raw, packed,
        CIPHERS.get(cipher, f"cipher {cipher}"), PACKERS.get(packer, f"packer {packer}"), payload,
    )  # fmt: skip


def find_in_flash(data: bytes, start: int, end: int) -> tuple[int, Rbl] | None:
    """The header that closes the code partition between `start` and `end`: (flash offset, header).

    Only with good checksums, its own and its blocks'; of several the last one. OpenBeken's T images have theirs
    off the payload's block grid, so no border is asked for.
    """
    end = min(end, len(data))
    at = data.rfind(MAGIC, start, end)
    for _ in range(_CANDIDATES):
        if at < 0:
            break
        header, valid = unframe(data[at : min(at + FRAMED_SIZE, end)])
        found = parse(header)
        if found is not None and valid.all():
            return at, found
        at = data.rfind(MAGIC, start, at)
    return None


_PRIME = 0x01000193
_CHUNK = 1 << 16


def fnv1a(data: bytes) -> int:
    """FNV-1a, 32 bits: the header's hash."""
    value = 0x811C9DC5
    for start in range(0, len(data), _CHUNK):
        value = _fnv1a_on(value, np.frombuffer(data[start : start + _CHUNK], dtype=np.uint8))
    return value


def _fnv1a_on(value: int, data: npt.NDArray[np.uint8]) -> int:
    """The hash carried on from `value` over `data`, without a step in Python for each byte.

    h' = (h ^ byte) * prime. The XOR changes the low eight bits only, and those follow from themselves: with them
    known, each step is an addition and a multiplication, and all of them together one sum of products.
    """
    low = _low_bytes(value & 0xFF, data)
    change = (low ^ data).astype(np.uint32) - low  # what the XOR adds, modulo 2**32
    powers = np.full(len(data), _PRIME, dtype=np.uint32)
    np.multiply.accumulate(powers, out=powers)
    total = int((change * powers[::-1]).sum(dtype=np.uint32))
    return (value * int(powers[-1]) + total) & 0xFFFFFFFF


def _low_bytes(first: int, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The low byte of the hash before each step. Bit by bit: bit k of a product with an odd number is bit k of the
    factor, XOR what the bits below it carry; so each bit is a running XOR once those below are known."""
    low = np.zeros(len(data), dtype=np.uint8)
    for bit in range(8):
        below = (low ^ data) & np.uint8((1 << bit) - 1)
        carried = below * np.uint8(_PRIME & 0xFF)
        steps = (carried ^ data) >> np.uint8(bit) & np.uint8(1)
        before = np.empty_like(steps)
        before[0] = first >> bit & 1
        before[1:] = steps[:-1]
        low |= np.bitwise_xor.accumulate(before) << np.uint8(bit)
    return low


def torn_header(data: bytes, start: int) -> int | None:
    """Where, from `start` on, a header begins that the end of the file cuts in two: its blocks are no code."""
    at = data.find(MAGIC, start)
    if at < 0:
        return None
    block, valid = unframe(data[at : at + FRAMED])
    return at if len(block) < BLOCK or valid.all() else None


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("ascii", "replace")


def _version(field: bytes) -> str:
    """The version, or nothing where the packer left what was in its memory."""
    text = _text(field)
    return text if _VERSION.fullmatch(text) else ""
