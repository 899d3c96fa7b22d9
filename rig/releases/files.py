"""The files that tools are given, and what flash has to hold once they are written.

Whole images are the user's or the bench's; all else is made here, the same bytes every time. A UF2 file is built as
LibreTiny's are. Source: Microsoft's UF2 specification; ltchiptool's uf2tool (tags, partition table, part info).
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rig.errors import UsageProblem
from rig.image import beken
from rig.image.flashmap import CHIP_TAG
from rig.image.identify import read_image
from rig.image.kinds.uf2 import MAGIC
from rig.releases.operations import FLASH_SIZE, SECTOR, used
from rig.releases.study import Study

APP = 0x11000
NAMES = ("app", "whole", "auto", "small", "odd", "blanks", "uf2", "uf2-unaligned", "wrong-app", "block", "block-2")

_USUAL = ("OpenBK7231N_QIO_1.18.300.bin", "OpenBK7231T_QIO_1.18.300.bin")
_T_CODE = bytes.fromhex("001081e0")  # where an N's tag is, on every T image seen: rig.image.code
_N_FAMILY = 0x7B3EF230
_UF2_END = bytes.fromhex("306fb10a")
_UF2_DATA = 256


@dataclass(frozen=True)
class Images:
    """`whole`: an N's bootloader and app, as for address 0; `wrong` the same of another chip; names for people."""

    whole: bytes = field(repr=False)
    whole_name: str
    wrong: bytes = field(repr=False)
    wrong_name: str

    def told(self) -> dict[str, dict[str, str]]:
        """For the record."""
        return {
            "image": {"name": self.whole_name, "sha256": hashlib.sha256(self.whole).hexdigest()},
            "wrong image": {"name": self.wrong_name, "sha256": hashlib.sha256(self.wrong).hexdigest()},
        }


@dataclass(frozen=True)
class Made:
    """`content` of the file as the tool gets it, named with `suffix`; `pieces`: (offset, bytes) it is to become."""

    content: bytes = field(repr=False)
    pieces: tuple[tuple[int, bytes], ...] = field(repr=False)
    suffix: str = ".bin"


def images_of(whole: bytes, whole_name: str, wrong: bytes | None, wrong_name: str = "") -> Images:
    """Raises UsageProblem for an image that is not a bootloader and an app."""
    if not APP < len(whole) < FLASH_SIZE:
        raise UsageProblem(
            f"{whole_name}: releases are studied with a bootloader and an app (a QIO), more than {APP:,} bytes and "
            "less than a whole flash"
        )
    if wrong is None:
        wrong, wrong_name = retagged(whole), f"{whole_name} with the marks of a BK7231T"
    if len(wrong) <= APP:
        raise UsageProblem(f"{wrong_name}: the wrong image is a bootloader and an app too, more than {APP:,} bytes")
    return Images(whole, whole_name, wrong, wrong_name)


def find_images(study: Study, bench: Path | None) -> Images:
    """The study's, else what $RIG_FIRMWARE_DIR holds, else the bench's; the wrong one is made where there is none.

    Raises UsageProblem.
    """
    folder = os.environ.get("RIG_FIRMWARE_DIR")
    there = [Path(folder) / name for name in _USUAL] if folder else []
    whole = study.image or next((path for path in there[:1] if path.is_file()), None) or bench
    if whole is None:
        raise UsageProblem(
            "no image to write: name an OpenBeken QIO for BK7231N with --image FILE, published at "
            "https://github.com/openshwprojects/OpenBK7231T_App/releases"
        )
    wrong = study.wrong_image or next((path for path in there[1:] if path.is_file()), None)
    return images_of(
        read_image(whole), whole.name, read_image(wrong) if wrong is not None else None, wrong.name if wrong else ""
    )


def make(name: str, offset: int, images: Images) -> Made:
    """The file called `name`, for flash address `offset`."""
    if name == "uf2":
        data = used(4 * SECTOR, 11)
        return Made(uf2(APP, [(0, data)]), ((APP, data),), ".uf2")
    if name == "uf2-unaligned":
        data = used(3 * SECTOR, 12)
        return Made(uf2(APP, [(0x800, data)]), ((APP + 0x800, data),), ".uf2")
    if name == "auto":
        return Made(images.whole, ((APP, images.whole[APP:]),))
    content = _content(name, images)
    return Made(content, ((offset, content),))


def _content(name: str, images: Images) -> bytes:
    if name == "app":
        return images.whole[APP:]
    if name == "whole":
        return images.whole
    if name == "wrong-app":
        return images.wrong[APP:]
    if name == "small":
        return used(4 * SECTOR, 13)
    if name == "odd":
        return used(3 * SECTOR + 100, 14)
    if name == "blanks":
        data = bytearray(used(16 * SECTOR, 15))
        for first, count in ((0, 1), (3, 3), (15, 1)):  # the first sector, some, the last
            data[first * SECTOR : (first + count) * SECTOR] = b"\xff" * (count * SECTOR)
        return bytes(data)
    if name in ("block", "block-2"):
        return used(0x10000, 16 if name == "block" else 17)
    raise UsageProblem(f"no file {name!r} for releases; there is {', '.join(NAMES)}")


def retagged(whole: bytes) -> bytes:
    """An N's image with what tells a BK7231T's: no tag in its bootloader, T code where its app has its tag."""
    data = bytearray(whole)
    for start, logical, key in ((0, 0, None), (APP, 0x10000, beken.TUYA_KEY)):
        at = start + CHIP_TAG
        stored, _ = beken.unframe(bytes(data[at : at + beken.FRAMED]))
        address = logical + CHIP_TAG // beken.FRAMED * beken.BLOCK
        plain = bytearray(beken.crypt(stored, address, key) if key else stored)
        plain[:8] = _T_CODE * 2
        code = beken.crypt(bytes(plain), address, key) if key else bytes(plain)
        data[at : at + beken.FRAMED] = beken.frame(code)
    return bytes(data)


def uf2(partition: int, parts: Sequence[tuple[int, bytes]]) -> bytes:
    """A UF2 file for LibreTiny's flasher: `parts` (offset, bytes) within an app partition at flash `partition`."""
    table = struct.pack("<I16s16sII4x", 0x45503130, b"app", b"flash0", partition, 0x119000)
    head = [
        (0x00DE43, b"rig-study"), (0x9FC7BC, b"1.0.0"), (0xCA25C8, b"generic-bk7231n-qfn32-tuya"),
        (0x59563D, b"1.0.0"), (0x6C8492, b"\x02"), (0x8288ED, table),
    ]  # fmt: skip
    blocks: list[tuple[int, bytes, list[tuple[int, bytes]]]] = [(0, b"", head)]
    tags = [(0xC0EE0C, bytes.fromhex("100100") + b"app\0")]  # device and flasher: the first name
    for offset, data in parts:
        for at in range(0, len(data), _UF2_DATA):
            blocks.append((offset + at, data[at : at + _UF2_DATA], tags))
            tags = []
    return b"".join(_block(number, len(blocks), *block) for number, block in enumerate(blocks))


def _block(number: int, total: int, address: int, data: bytes, tags: Sequence[tuple[int, bytes]]) -> bytes:
    flags = 0x2000 | (0x8000 if tags else 0) | (0 if data else 1)
    head = MAGIC + struct.pack("<6I", flags, address, len(data), number, total, _N_FAMILY)
    body = data + b"".join(_tag(tag, value) for tag, value in tags)
    return head + body.ljust(476, b"\0") + _UF2_END


def _tag(tag: int, value: bytes) -> bytes:
    raw = bytes((4 + len(value),)) + tag.to_bytes(3, "little") + value
    return raw.ljust(-(-len(raw) // 4) * 4, b"\0")
