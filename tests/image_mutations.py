"""Damaged files for fuzzing the image code: bases of every kind, and ways to damage them, out of one seed."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path

from image_files import FIRMWARE_DIR, demo, dump, zero_key_demo

from rig.image import flashmap, rbl
from rig.sim import firmware
from tests import obk_config

MAGICS = (
    b"TLV\0", b"CFG", b"RBL\0", b"UF2\nWQ]\x9e", b"\x55\xaa\x55\xaa", b"\x7fELF", b"PK\x03\x04", b"\x1f\x8b\x08",
    b"\xe9\x06\x02\x20", b"\xaa\x50", b"BK7231\0\0", b"BK7238\0\0", b"KV40", b"EF40", b"\xfe\xfe\xfe\xfe",
    b"\x48\x0b\x00\xea\x14\xf0\x9f\xe5", b"\x69\x0c\xb5\x96\x35\xff\x2a\x99", b"\x2f\x07\xb5\x94\x35\xff\x2a\x9b",
)  # fmt: skip
LENGTHS = (0, 1, 0x7F, 0xFF, 0x1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC)
PLACES = (
    0, 4, 8, 0x10, 0x14, 0x1C, 0x100, 0x110, 0x1FC, 0x200, 0x1000, 0x8000, 0x10F9A, flashmap.APP, 0x11110, 0x129F0A,
    flashmap.APP_END, 0x1D0000, 0x1D0004, 0x1D1000, 0x1D3000, 0x1E0000, 0x1E1000, 0x1E5004, 0x1ED000, 0x1EE000,
)  # fmt: skip


def uf2(blocks: list[tuple[int, bytes]], family: int = 0x7B3EF230, tags: bytes = b"") -> bytes:
    """A UF2 file of these (flash offset, content) blocks, its tags in the first one."""
    out = []
    for number, (at, content) in enumerate(blocks):
        flags = 0x2000 | (0x8000 if tags and not number else 0)
        head = struct.pack(
            "<8I", 0x0A324655, 0x9E5D5157, flags, at, len(content), number, len(blocks), family
        )  # fmt: skip
        body = content + tags if not number else content
        out.append(head + body.ljust(476, b"\0") + struct.pack("<I", 0x0AB16F30))
    return b"".join(out)


def ota(payload: bytes, name: bytes = b"app") -> bytes:
    """An over-the-air package (RBL) around `payload`, its header right."""
    digest, size = rbl.fnv1a(payload), len(payload)
    head = struct.pack("<4sII16s24s24sIIII", b"RBL\0", 0x0102, 0, name, b"1.0.0", b"0" * 8, 0, digest, size, size)
    return head + struct.pack("<I", zlib.crc32(head)) + payload


def ug(package: bytes) -> bytes:
    """Tuya's header before a package."""
    head = bytes.fromhex("55aa55aa") + b"1.0.0".ljust(12, b"\0") + struct.pack(">III", len(package), 0, 0)
    return head + bytes.fromhex("aa55aa55") + package


def converted() -> bytes:
    """A factory dump after a conversion, with an OpenBeken configuration of its own."""
    flash = bytearray(dump())
    flash[: firmware.QIO_SIZE] = demo()
    flash[0x1D1000 : 0x1D1000 + obk_config.SIZE] = obk_config.config(ssid="net", short_name="a", long_name="b")
    return bytes(flash)


def _zip(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.bin", content)
    return file.getvalue()


@cache
def small() -> tuple[bytes, ...]:
    """A few kilobytes each: milliseconds a case."""
    app = demo()[flashmap.APP : flashmap.APP + 34 * 90]
    own = [
        app,
        zero_key_demo()[flashmap.APP : flashmap.APP + 34 * 90],
        demo()[: 34 * 60],
        dump()[flashmap.CALIBRATION["BK7231N"] :][:0x1000],
        obk_config.config(ssid="net", password="secret", short_name="a", long_name="b", startup="addRepeatingEvent"),
        firmware.efuse(7),
        uf2([(0, b"")] + [(0x11000 + at, app[at : at + 256]) for at in range(0, 2048, 256)]),
        ota(app),
        ug(ota(app)),
        _zip(app),
        b"\x7fELF" + app,
        b"\xe9\x03\x02\x20" + app,
        bytes.fromhex("480b00ea14f09fe5") + bytes(range(256)) * 8,
        b"a text file\n" * 40,
        b"",
    ]
    return (*own, *(data[:0x1000] for data in _real()))


@cache
def storages() -> tuple[bytes, ...]:
    """Tuya's storage alone, out of real dumps: each entry decrypted by a slow parser."""
    return tuple(data[0x1EE000:0x1F6000] for data in _real() if len(data) == flashmap.FLASH_SIZE)


@cache
def middle() -> tuple[bytes, ...]:
    """Bootloader and a short app: everything that hangs on offsets, tens of kilobytes each."""
    end = flashmap.APP + 34 * 90
    return (demo()[:end], zero_key_demo()[:end], *(data[:end] for data in _real()[:3]))


@cache
def whole() -> tuple[bytes, ...]:
    """Files in full."""
    return (demo(), dump(), converted(), zero_key_demo(), demo()[flashmap.APP :], *_real())


@cache
def _real() -> tuple[bytes, ...]:
    if not FIRMWARE_DIR:
        return ()
    return tuple(path.read_bytes() for path in sorted(Path(FIRMWARE_DIR).iterdir()) if path.suffix != ".tsv")


def mutated(base: bytes, others: tuple[bytes, ...], draw: random.Random) -> bytes:
    """`base` with one to four damages; `others` are what it is spliced with."""
    data = bytearray(base)
    for _ in range(draw.choice((1, 1, 2, 4))):
        draw.choice(_WAYS)(data, others, draw)
    return bytes(data[: 16 << 20])


def _at(data: bytearray, draw: random.Random) -> int:
    if draw.random() < 0.4:
        near = [place for place in PLACES if place < len(data)]
        if near:
            return draw.choice(near)
    return draw.randrange(len(data) + 1)


def _flip(data: bytearray, others: tuple[bytes, ...], draw: random.Random) -> None:
    for _ in range(draw.choice((1, 1, 8, 100)) if data else 0):
        at = min(_at(data, draw), len(data) - 1)
        data[at] ^= 1 << draw.randrange(8)


def _swap(data: bytearray, others: tuple[bytes, ...], draw: random.Random) -> None:
    size = draw.choice((2, 34, 96, 512, 0x1000))
    a, b = _at(data, draw), _at(data, draw)
    one, other = bytes(data[a : a + size]), bytes(data[b : b + size])
    if abs(a - b) >= size and len(one) == len(other):
        data[a : a + size], data[b : b + size] = other, one


def _cut(data: bytearray, others: tuple[bytes, ...], draw: random.Random) -> None:
    del data[_at(data, draw) :]


def _drop(data: bytearray, others: tuple[bytes, ...], draw: random.Random) -> None:
    at = _at(data, draw)
    del data[at : at + draw.choice((1, 2, 34, 0x200, 0x1000))]


def _insert(data: bytearray, others: tuple[bytes, ...], draw: random.Random) -> None:
    at = _at(data, draw)
    data[at:at] = draw.choice((b"\xff", b"\0", draw.randbytes(1))) * draw.choice((1, 34, 0x1000))


def _splice(data: bytearray, others: tuple[bytes, ...], draw: random.Random) -> None:
    other = draw.choice(others)
    at = _at(data, draw)
    data[at:] = other[at if draw.random() < 0.5 else _at(bytearray(other[:0x1000]), draw) :]


def _length(data: bytearray, others: tuple[bytes, ...], draw: random.Random) -> None:
    at = _at(data, draw) & ~3
    if draw.random() < 0.5:
        found = [bytes(data).find(magic) for magic in MAGICS]
        here = [place for place in found if place >= 0]
        at = draw.choice(here) + draw.randrange(4, 100, 4) if here else at
    data[at : at + 4] = struct.pack(draw.choice("<>") + "I", draw.choice(LENGTHS))


def _magic(data: bytearray, others: tuple[bytes, ...], draw: random.Random) -> None:
    at, magic = _at(data, draw), draw.choice(MAGICS)
    new = magic * draw.choice((1, 1, 1, 64, 2000))
    data[at : at + len(new)] = new


def _fill(data: bytearray, others: tuple[bytes, ...], draw: random.Random) -> None:
    at, size = _at(data, draw), draw.choice((1, 34, 0x1000, 0x11000))
    size = min(size, len(data) - at)
    data[at : at + size] = draw.choice((b"\xff" * size, bytes(size), draw.randbytes(size)))


_WAYS = (_flip, _flip, _swap, _cut, _drop, _insert, _splice, _length, _length, _magic, _fill)
