"""UF2: a container of 512-byte blocks that say themselves where in flash their content goes.

LibreTiny's carry tags: which firmware, which board, and for each run of blocks the partition it is for, once for a
flasher on the UART and once for the device's own update. Only the first are for this rig to write. A file without
such tags names plain flash addresses.
Source: Microsoft's UF2 specification; ltchiptool's uf2tool (tags, partition table) and families.json.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

MAGIC = bytes.fromhex("5546320a57515d9e")
BLOCK = 512
FAMILIES = {
    0x7B3EF230: "BK7231N", 0x675A40B0: "BK7231T", 0xAFE81D49: "BK7231Q", 0x159AC324: "BK7238", 0x6A82CC42: "BK7251",
    0x9FFFD543: "RTL8710A", 0x22E0D6FC: "RTL8710B", 0xE08F7564: "RTL8720C", 0x3379CFE2: "RTL8720D",
    0xDE1270B7: "BL60X", 0xA38090A8: "LN882H", 0x7EAB61ED: "ESP8266", 0x1C5F21B0: "ESP32", 0xBFDD4EEE: "ESP32-S2",
    0xC47E5767: "ESP32-S3", 0xD42BA06C: "ESP32-C3", 0xE48BFF56: "RP2040",
}  # fmt: skip

_END = bytes.fromhex("306fb10a")
_MAX_BLOCKS = 1 << 14  # 4 MiB of flash in the usual portions of 256 bytes
_DATA = 476  # bytes of a block for content and tags
_NOT_FLASH, _FILE, _FAMILY, _TAGGED = 0x1, 0x1000, 0x2000, 0x8000  # flags
_TEXT_TAGS = {
    0x00DE43: "FIRMWARE", 0x9FC7BC: "VERSION", 0xCA25C8: "BOARD", 0x59563D: "LT_VERSION", 0x650D9D: "DEVICE",
}  # fmt: skip
_BUILD_DATE = 0x822F30  # seconds since 1970
_TABLE = 0x8288ED  # partition table, 48 bytes an entry
_FORMAT_2 = 0x6C8492
_PARTS = 0xC0EE0C  # three bytes of indexes by scheme, then names
_OLD_FLASHER, _OLD_DEVICE = 0x805946, 0xA1E4D7  # names, in LibreTiny's first format
_ENTRY = struct.Struct("<I16s16sII4x")
_ENTRY_MAGIC = 0x45503130
_PARTITIONS = {
    "BK7231N": {"bootloader": 0x0, "app": 0x11000, "download": 0x12A000, "calibration": 0x1D0000, "net": 0x1D1000},
    "BK7231T": {"bootloader": 0x0, "app": 0x11000, "download": 0x132000, "calibration": 0x1E0000, "net": 0x1E1000},
}
_TAGS_SHOWN = 64  # characters of one
_MAX_TAGS = 24  # in one block


@dataclass(frozen=True)
class Uf2Piece:
    """Adjoining blocks joined: `content` for `flash_offset`; the first of its blocks is at `source_offset` of the
    file. `partition`: the name the file gives that place, where it names places."""

    flash_offset: int
    content: bytes = field(repr=False)
    source_offset: int
    partition: str | None = None


@dataclass(frozen=True)
class Uf2:
    """A UF2 file read.

    `family`: its family id, `chip` that id's name. `blocks`: (flash offset, content) of each block for a flasher;
    `pieces`: the same joined, in flash order. `update`: pieces for the device's own update, which a flasher leaves
    out. `tags`: FIRMWARE, VERSION, BOARD, LT_VERSION, ... as text. `count`: blocks in the file. `problems`: why it is
    not whole, or not readable; nothing of such a file should be written.
    """

    family: int | None
    chip: str | None
    blocks: tuple[tuple[int, bytes], ...] = field(repr=False)
    pieces: tuple[Uf2Piece, ...]
    tags: dict[str, str]
    problems: tuple[str, ...]
    update: tuple[Uf2Piece, ...] = ()
    count: int = 0


@dataclass(frozen=True)
class _Block:
    source: int
    flags: int
    address: int
    number: int
    total: int
    family: int
    content: bytes
    tags: tuple[tuple[int, bytes], ...]


def read_uf2(data: bytes) -> Uf2:
    """The blocks of a UF2 file and what they say. Never raises: what is wrong is in `problems`.

    A file of more than 16,384 blocks is refused as a problem and not read to its end.
    """
    problems: list[str] = []
    blocks = list(_blocks(data, problems))
    _check_numbers(data, blocks, problems)
    tags = {key: value for block in blocks for key, value in block.tags}
    families = {block.family for block in blocks if block.flags & _FAMILY} or _family_at_start(data)
    family = next(iter(families)) if len(families) == 1 else None
    if len(families) > 1:
        problems.append("its blocks are for different chip families")
    chip = FAMILIES.get(family) if family is not None else None
    places = _table(tags.get(_TABLE, b"")) or _PARTITIONS.get(chip or "", {})
    flasher, update = _placed(blocks, places, problems)
    return Uf2(
        family=family,
        chip=chip,
        blocks=tuple((piece.flash_offset, piece.content) for piece in flasher),
        pieces=_joined(flasher, problems),
        tags=_texts(tags),
        problems=tuple(dict.fromkeys(problems)),
        update=_joined(update, []),
        count=len(blocks),
    )


def _family_at_start(data: bytes) -> set[int]:
    """The family of a file with not even one whole block."""
    if len(data) < 32 or data[:8] != MAGIC or not struct.unpack_from("<I", data, 8)[0] & _FAMILY:
        return set()
    return {struct.unpack_from("<I", data, 0x1C)[0]}


def _blocks(data: bytes, problems: list[str]) -> Iterator[_Block]:
    if len(data) > _MAX_BLOCKS * BLOCK:
        problems.append(f"it has more than {_MAX_BLOCKS:,} blocks, more than any flash of these modules")
    for source in range(0, min(len(data), _MAX_BLOCKS * BLOCK), BLOCK):
        raw = data[source : source + BLOCK]
        if len(raw) < BLOCK:
            problems.append(f"it was cut short: its last block, at 0x{source:X}, has {len(raw)} of 512 bytes")
            return
        if raw[:8] != MAGIC or raw[-4:] != _END:
            problems.append(f"what is at 0x{source:X} is no UF2 block")
            return
        flags, address, length, number, total, family = struct.unpack_from("<6I", raw, 8)
        if length > _DATA:
            problems.append(f"its block at 0x{source:X} claims {length:,} bytes of content")
            return
        tags = tuple(_tags(raw[32 + length : BLOCK - 4])) if flags & _TAGGED else ()
        content = b"" if flags & _NOT_FLASH else raw[32 : 32 + length]
        yield _Block(source, flags, address, number, total, family, content, tags)


def _tags(room: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, value) of each: a length byte that counts its four-byte head, three of tag, the value, up to four."""
    at = 0
    for _ in range(_MAX_TAGS):
        if at + 4 > len(room) or room[at] < 4:
            return
        length = room[at]
        if at + length > len(room):
            return
        yield int.from_bytes(room[at + 1 : at + 4], "little"), room[at + 4 : at + length]
        at += -(-length // 4) * 4


def _check_numbers(data: bytes, blocks: list[_Block], problems: list[str]) -> None:
    if not blocks:
        problems.append("it has no whole block")
        return
    total = blocks[0].total
    if any(block.flags & _FILE for block in blocks):
        problems.append("it holds files, not flash content")
    for expected, block in enumerate(blocks):
        if block.number != expected or block.total != total:
            at = f"block {block.number} of {block.total} at 0x{block.source:X}"
            problems.append(f"its blocks are not in order: {at}, where block {expected} of {total} belongs")
            return
    if len(blocks) < total:
        problems.append(f"it was cut short: it has {len(blocks):,} of {total:,} blocks")
    elif len(blocks) > total:
        problems.append(f"it has {len(blocks):,} blocks and says {total:,}")


def _placed(
    blocks: list[_Block], places: dict[str, int], problems: list[str]
) -> tuple[list[Uf2Piece], list[Uf2Piece]]:
    """Each block's content at its flash offset: for a flasher, and for the device's own update."""
    named = any(tag in (_FORMAT_2, _PARTS, _OLD_FLASHER) for block in blocks for tag, _ in block.tags)
    flasher: list[Uf2Piece] = []
    update: list[Uf2Piece] = []
    for_flasher: str | None = None
    for_device: str | None = None
    for block in blocks:
        tags = dict(block.tags)
        if _PARTS in tags:
            for_device, for_flasher = _partitions(tags[_PARTS])
        elif _OLD_FLASHER in tags:
            for_flasher, for_device = _text(tags[_OLD_FLASHER]) or None, _text(tags.get(_OLD_DEVICE, b"")) or None
        if not block.content:
            continue
        if not named:
            flasher.append(Uf2Piece(block.address, block.content, block.source))
            continue
        for partition, pieces in ((for_flasher, flasher), (for_device, update)):
            if partition is None:
                continue
            if partition not in places:
                problems.append(f"it names a partition {partition!r} and does not say where that is")
                continue
            pieces.append(Uf2Piece(places[partition] + block.address, block.content, block.source, partition))
    return flasher, update


def _partitions(info: bytes) -> tuple[str | None, str | None]:
    """(partition for the device's single-image update, partition for a flasher): digit 0 and 3 of the indexes."""
    names = [name for name in info[3:].split(b"\0") if name]

    def name(index: int) -> str | None:
        return _text(names[index - 1]) if 0 < index <= len(names) else None

    return (name(info[0] >> 4), name(info[1] & 0xF)) if len(info) >= 3 else (None, None)


def _table(raw: bytes) -> dict[str, int]:
    """Partition offsets, in bytes of flash, by name."""
    found = {}
    for at in range(0, len(raw) - _ENTRY.size + 1, _ENTRY.size):
        magic, name, _, offset, _ = _ENTRY.unpack_from(raw, at)
        if magic == _ENTRY_MAGIC:
            found[_text(name)] = offset
    return found


def _joined(blocks: list[Uf2Piece], problems: list[str]) -> tuple[Uf2Piece, ...]:
    """Blocks that follow each other in flash as one piece each."""
    runs: list[tuple[Uf2Piece, list[bytes]]] = []
    end = -1
    for block in sorted(blocks, key=lambda item: item.flash_offset):
        if runs and block.flash_offset < end:
            problems.append(f"two of its blocks are for flash 0x{block.flash_offset:X}")
        elif runs and block.flash_offset == end:
            runs[-1][1].append(block.content)
        else:
            runs.append((block, [block.content]))
        end = max(end, block.flash_offset + len(block.content))
    return tuple(
        Uf2Piece(first.flash_offset, b"".join(parts), first.source_offset, first.partition) for first, parts in runs
    )


def _texts(tags: dict[int, bytes]) -> dict[str, str]:
    found = {name: _text(tags[tag]) for tag, name in _TEXT_TAGS.items() if tag in tags}
    if len(tags.get(_BUILD_DATE, b"")) == 4:
        found["BUILD_DATE"] = str(int.from_bytes(tags[_BUILD_DATE], "little"))
    return found


def _text(raw: bytes) -> str:
    text = raw.split(b"\0")[0].decode("utf-8", "replace")[:_TAGS_SHOWN]
    return "".join(char if char.isprintable() else "?" for char in text)
