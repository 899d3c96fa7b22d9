"""Files that are not BK7231 code: known by a magic, or by what they look like once code is ruled out."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from rig.image import flashmap
from rig.image.beken import TUYA_KEY, ZERO_KEY, KeyName, key_from_efuse
from rig.image.code import vectors_key
from rig.image.identity import Confidence, Evidence, Identity, Kind, Statement, ascii_text, seen
from rig.image.kinds.archive import archive
from rig.image.kinds.areas import area
from rig.image.kinds.esp import espressif
from rig.image.kinds.package import rbl, ug
from rig.image.kinds.uf2 import MAGIC as UF2_MAGIC
from rig.image.kinds.uf2 import Uf2, read_uf2

_EFUSE_SIZES = (16, 32)
_ROM_SIZE = 0x4000
_ARM_VECTORS = re.compile(rb"..\x00\xea\x14\xf0\x9f\xe5", re.DOTALL)
_SMALLEST = 0x1000
# Source: the ELF specification's e_machine.
_ELF_MACHINES = {
    3: "x86",
    8: "MIPS",
    40: "ARM",
    62: "x86-64",
    94: "Xtensa (Espressif)",
    183: "AArch64",
    243: "RISC-V",
}
_CONTROLS = bytes(value for value in (*range(9), 11, *range(14, 32), 127) if value != 27)
_TEXTS = (
    (re.compile(rb"\s*:[0-9A-Fa-f]{10,}\s"), "an Intel HEX file, which is text: no image as it stands"),
    (re.compile(rb"\s*S[0-9][0-9A-Fa-f]{6,}\s"), "a Motorola S-record file, which is text: no image as it stands"),
    (re.compile(rb"(?is)\s*(?:<!doctype html|<html)"), "a web page (HTML), not the file behind it: a text file"),
    (re.compile(rb"version https://git-lfs"), "a text file: Git LFS's stand-in for a file, not the file itself"),
)


def container(data: bytes, inside: Callable[[bytes], Identity] | None = None) -> Identity | None:
    """What a file is by its magic or size alone; None if that does not tell. `inside` identifies what an archive
    holds; without it none is opened."""
    if blank := _blank(data):
        return blank
    if data[:8] == UF2_MAGIC:
        return _uf2(data)
    if data[:4] == b"\x7fELF":
        return _elf(data)
    if package := ug(data) or rbl(data):
        return package
    if len(data) in _EFUSE_SIZES and not _is_text(data):
        return _efuse(data)
    return archive(data, inside)


def _simple(data: bytes, kind: Kind, what: str, sure: Confidence, *evidence: Evidence) -> Identity:
    return Identity(kind, what, statements=(Statement("kind", kind.value, sure, evidence),), size=len(data))


def _blank(data: bytes) -> Identity | None:
    size = len(data)
    if not size:
        return _simple(data, Kind.TOO_SMALL, "an empty file", Confidence.CERTAIN, Evidence(None, b"", "0 bytes"))
    if data.strip(data[:1]) or data[0] not in (0x00, 0xFF) or (size in _EFUSE_SIZES and not data[0]):
        return None
    filler = "FF, as an erased flash" if data[0] else "00, as from a flash that could not be read"
    evidence = seen(data, 0, 1, f"the one byte in all {size:,}")
    return _simple(data, Kind.BLANK, f"{size:,} bytes of nothing but {filler}", Confidence.CERTAIN, evidence)


def _efuse(data: bytes) -> Identity:
    size = len(data)
    held = key_from_efuse(data)
    key: KeyName = "tuya" if held == TUYA_KEY else "zero" if held == ZERO_KEY else "unknown"
    if key == "tuya":
        what = f"a {size}-byte dump of a chip's efuse (it holds Tuya's cipher key)"
        meaning, sure = "Tuya's key as it lies in the efuse", Confidence.CERTAIN
    elif key == "zero":
        what = f"{size} bytes, the size of a dump of a chip's efuse, and no cipher key in them"
        meaning, sure = "no key, so that code is not encrypted", Confidence.LIKELY
    else:
        what = f"{size} bytes, the size of a dump of a chip's efuse, with a cipher key this rig does not know"
        meaning, sure = "where a key lies in the efuse", Confidence.GUESS
    evidence = (seen(data, 0, 16, meaning),)
    statements = (Statement("kind", Kind.EFUSE.value, sure, evidence), Statement("key", key, sure, evidence))
    return Identity(Kind.EFUSE, what, key=key, statements=statements, size=size)


def _uf2(data: bytes) -> Identity:
    found = read_uf2(data)
    chip = found.chip or "an unknown chip family"
    named = [found.tags[tag] for tag in ("FIRMWARE", "VERSION") if found.tags.get(tag)]
    holds = f" with {' '.join(named)}" if named else ""
    return Identity(
        Kind.UF2, f"a UF2 container for {chip}{holds}", chip=found.chip,
        firmware=found.tags.get("FIRMWARE"), version=found.tags.get("VERSION"),
        statements=_uf2_statements(data, found), problems=found.problems, size=len(data), uf2=found,
    )  # fmt: skip


def _uf2_statements(data: bytes, found: Uf2) -> tuple[Statement, ...]:
    whole = Confidence.LIKELY if found.problems else Confidence.CERTAIN
    statements = [Statement("kind", Kind.UF2.value, Confidence.CERTAIN, (seen(data, 0, 8, "UF2"),))]
    if found.family is not None:
        family = seen(data, 0x1C, 4, f"family {found.chip or 'unknown'}")
        statements.append(Statement("chip", found.chip or f"family {found.family:08X}", whole, (family,)))
    names = {"FIRMWARE": "firmware", "VERSION": "version", "BOARD": "board", "LT_VERSION": "sdk"}
    for tag, about in names.items():
        if found.tags.get(tag):
            evidence = Evidence(None, b"", f"tag {tag}")
            value = f"LibreTiny {found.tags[tag]}" if about == "sdk" else found.tags[tag]
            statements.append(Statement(about, value, whole, (evidence,)))
    for piece in found.pieces[:8]:
        end = piece.flash_offset + len(piece.content)
        place = f"for flash 0x{piece.flash_offset:X}-0x{end:X}" + (f" ({piece.partition})" if piece.partition else "")
        statements.append(
            Statement("inside", place, whole, (seen(data, piece.source_offset, 16, "its first block"),))
        )
    return tuple(statements)


def _elf(data: bytes) -> Identity:
    order = ">" if data[5:6] == b"\x02" else "<"
    number = struct.unpack_from(f"{order}H", data, 18)[0] if len(data) >= 20 else None
    machine = _ELF_MACHINES.get(number) if number is not None else None
    what = "an ELF program" + (f" for {machine}" if machine else "") + ", not an image"
    found = _simple(data, Kind.ELF, what, Confidence.CERTAIN, seen(data, 0, 4, "ELF"))
    if machine is None:
        return found
    named = Statement("chip", machine, Confidence.CERTAIN, (seen(data, 18, 2, f"ELF machine {machine}"),))
    return Identity(Kind.ELF, what, statements=(*found.statements, named), size=len(data))


def anything_else(data: bytes) -> Identity:
    """What a file is that is neither a container nor code."""
    size = len(data)
    if _ARM_VECTORS.match(data) or vectors_key(data, 0, 0) == "zero":
        kind = Kind.ROM if size == _ROM_SIZE else Kind.RAW_ARM
        what = "a dump of a chip's boot ROM" if kind is Kind.ROM else "a raw ARM program, without cipher and CRC-16"
        return _simple(data, kind, what, Confidence.LIKELY, seen(data, 0, 8, "ARM vectors, no CRC-16 behind them"))
    if found := espressif(data) or area(data):
        return found
    if _is_text(data):
        return _text(data)
    if size < _SMALLEST:
        return _simple(
            data, Kind.TOO_SMALL, f"{size:,} bytes, too small for any firmware", Confidence.CERTAIN,
            Evidence(None, b"", f"{size:,} bytes"),
        )  # fmt: skip
    if not data[: flashmap.APP].strip(b"\xff"):
        what = "a file whose bootloader area is erased and whose app is not code this rig can read"
        return _simple(data, Kind.UNKNOWN, what, Confidence.LIKELY, seen(data, 0, 8, "erased"))
    what = "no file this rig knows: no container and no BK7231 code"
    return _simple(data, Kind.UNKNOWN, what, Confidence.GUESS, seen(data, 0, 16, "nothing known"))


def _text(data: bytes) -> Identity:
    what = next((what for pattern, what in _TEXTS if pattern.match(data[:1024])), "a text file")
    return _simple(data, Kind.TEXT, what, Confidence.CERTAIN, seen(data, 0, 16, ascii_text(data[:16])))


def _is_text(data: bytes) -> bool:
    # No loop over characters: a file may have 16 million.
    if len(data.translate(None, _CONTROLS)) != len(data):
        return False
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\r\n\t\f\x1b" for char in text[:0x10000])
