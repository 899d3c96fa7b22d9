"""Files that are not BK7231 code: known by a magic, or by what they look like once code is ruled out."""

from __future__ import annotations

import re
import struct

from . import flashmap
from .beken import TUYA_KEY
from .identity import Identity, KeyName, Kind
from .rbl import MAGIC as RBL_MAGIC
from .rbl import SIZE as RBL_SIZE
from .rbl import parse as parse_rbl

_UG_MAGIC, _UG_END = bytes.fromhex("55aa55aa"), bytes.fromhex("aa55aa55")
_UF2_MAGIC = bytes.fromhex("5546320a57515d9e")
_UF2_FAMILY = 0x2000  # flag: the word at 0x1C is a family id
# Source: LibreTiny's families.json.
_UF2_FAMILIES = {
    0x7B3EF230: "BK7231N", 0x675A40B0: "BK7231T", 0xAFE81D49: "BK7231Q", 0x159AC324: "BK7238", 0x6A82CC42: "BK7251",
}  # fmt: skip
_EFUSE_SIZES = (16, 32)
_ROM_SIZE = 0x4000
_ESP_TABLE = 0x8000  # an ESP32's partition table
_ARM_VECTORS = re.compile(rb"..\x00\xea\x14\xf0\x9f\xe5", re.DOTALL)
_SMALLEST = 0x1000


def seen(data: bytes, at: int, length: int, meaning: str) -> str:
    return f"0x{at:X}: {data[at : at + length].hex(' ')} = {meaning}"


def ascii_text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("ascii", "replace").strip()


def container(data: bytes) -> Identity | None:
    """What a file is by its magic or size alone; None if that does not tell."""
    size = len(data)
    if not data.strip(b"\xff") or not data.strip(b"\0"):
        filler = "FF, as an erased flash" if data[:1] == b"\xff" else "00, as from a flash that could not be read"
        what = f"{size:,} bytes of nothing but {filler}" if size else "an empty file"
        return Identity(Kind.BLANK if size else Kind.TOO_SMALL, what, size=size)
    if data[:8] == _UF2_MAGIC:
        return _uf2(data)
    if data[:4] == _UG_MAGIC and data[0x1C:0x20] == _UG_END:
        version = ascii_text(data[4:16])
        return Identity(
            Kind.UG, "an over-the-air package (UG) for Tuya firmware", size=size, version=version,
            evidence=(seen(data, 0, 4, "UG package"), seen(data, 0x1C, 4, "end of its header")),
        )  # fmt: skip
    if data[:4] == RBL_MAGIC:
        header = parse_rbl(data[:RBL_SIZE])
        of = f" of the {header.name!r} partition" if header else ""
        what = f"an over-the-air package (RBL){of}"
        return Identity(Kind.RBL, what, size=size, evidence=(seen(data, 0, 8, "RBL header"),))
    if data[:4] == b"\x7fELF":
        return Identity(Kind.ELF, "an ELF program, not an image", size=size, evidence=(seen(data, 0, 4, "ELF"),))
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06") or data[:3] == b"\x1f\x8b\x08":
        of = "gzip" if data[:1] == b"\x1f" else "zip"
        what = f"a {of} archive: unpack it first"
        return Identity(Kind.ARCHIVE, what, size=size, evidence=(seen(data, 0, 4, of),))
    return _efuse(data) if size in _EFUSE_SIZES else None


def _efuse(data: bytes) -> Identity:
    what = f"{len(data)} bytes, the size of a dump of a chip's efuse"
    key: KeyName | None = None
    evidence: tuple[str, ...] = ()
    if data[:16] == struct.pack("<4I", *TUYA_KEY):
        what, key = f"a {len(data)}-byte dump of a chip's efuse (it holds Tuya's cipher key)", "tuya"
        evidence = (seen(data, 0, 16, "Tuya's key as it lies in the efuse"),)
    return Identity(Kind.EFUSE, what, key=key, evidence=evidence, size=len(data))


def _uf2(data: bytes) -> Identity:
    chip = None
    if len(data) >= 32:
        flags, family = struct.unpack_from("<I", data, 8)[0], struct.unpack_from("<I", data, 0x1C)[0]
        chip = _UF2_FAMILIES.get(family) if flags & _UF2_FAMILY else None
    what = f"a UF2 container for {chip or 'an unknown chip family'}"
    evidence = (seen(data, 0, 8, "UF2"), seen(data, 0x1C, 4, f"family {chip or 'unknown'}"))
    return Identity(Kind.UF2, what, chip=chip, evidence=evidence, size=len(data))


def anything_else(data: bytes) -> Identity:
    """What a file is that is neither a container nor code."""
    size = len(data)
    if _ARM_VECTORS.match(data):
        kind = Kind.ROM if size == _ROM_SIZE else Kind.RAW_ARM
        what = "a dump of a chip's boot ROM" if kind is Kind.ROM else "a raw ARM program, without cipher and CRC-16"
        return Identity(kind, what, evidence=(seen(data, 0, 8, "ARM vectors, no CRC-16 behind them"),), size=size)
    if at := _esp_header(data):
        return Identity(Kind.ESP, "an image for an Espressif chip (ESP8266 or ESP32)", evidence=(at,), size=size)
    if _is_text(data):
        return Identity(Kind.TEXT, "a text file", size=size)
    if size < _SMALLEST:
        return Identity(Kind.TOO_SMALL, f"{size:,} bytes, too small for any firmware", size=size)
    if not data[: flashmap.APP].strip(b"\xff"):
        what = "a file whose bootloader area is erased and whose app is not code this rig can read"
        return Identity(Kind.UNKNOWN, what, size=size)
    return Identity(Kind.UNKNOWN, "no file this rig knows: no container and no BK7231 code", size=size)


def _esp_header(data: bytes) -> str | None:
    """Evidence of an Espressif image: E9, a plausible segment count and flash mode; at 0x0 or, merged, at 0x1000."""
    for at in (0, 0x1000):
        if at and data[:at].strip(b"\xff"):
            break
        head = data[at : at + 4]
        if len(head) == 4 and head[0] == 0xE9 and 1 <= head[1] <= 16 and head[2] <= 5:
            return seen(data, at, 4, "Espressif image header")
    if data[_ESP_TABLE : _ESP_TABLE + 2] == b"\xaa\x50" and not data[:0x1000].strip(b"\xff"):
        return seen(data, _ESP_TABLE, 2, "Espressif partition table")
    return None


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\r\n\t\f" for char in text)
