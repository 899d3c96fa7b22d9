"""Which chip code is for: by the tag its ROM looks for, by the names in it, by code only one chip's SDK has.

The tag tells a family; its members differ in the cipher key in their efuse and in what their makers call them, so a
name in the code narrows it, and without one the family's first member is meant.
Source: images of N, T and M (16 N, 8 T) measured for this; 7238 and 7252N by OpenBeken's releases for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rig.image import flashmap
from rig.image.bootloader import Bootloader
from rig.image.code import Code
from rig.image.identity import Confidence, Evidence, seen

FAMILIES = {"BK7231N": ("BK7231N", "BK7231M", "BL2028N"), "BK7238": ("BK7238", "BK7252N")}
NAME = re.compile(rb"(BK72\d\d[A-Za-z]?)_\d{1,4}(?:\.\d{1,4}){1,3}")
_SOLD_AS = {"BK7231S": "BK7231T"}  # Tuya's bootloaders for T call it S


@dataclass(frozen=True)
class Chip:
    """`name`: the chip. `told`: it is named, not only one of its family's members."""

    name: str
    sure: Confidence
    evidence: tuple[Evidence, ...]
    told: bool = False

    @property
    def family(self) -> str:
        return family(self.name)


def family(chip: str) -> str:
    """The family's first member, which the others count as."""
    return next((first for first, members in FAMILIES.items() if chip in members), chip)


def chip_of_code(data: bytes, code: Code, name: str | None, read: tuple[Evidence, ...]) -> Chip | None:
    """The chip `code` is for. `name`: what a firmware profile found in it, `read`: where."""
    name = _SOLD_AS.get(name or "", name)
    if code.tag:
        tag = seen(data, code.start + flashmap.CHIP_TAG, 8, f"the tag of a {code.tag}")
        if name and family(name) == code.tag:
            return Chip(name, Confidence.CERTAIN, (tag, *read), told=True)
        if name:  # they disagree: the ROM goes by the tag
            return Chip(code.tag, Confidence.LIKELY, (tag, *read))
        sure = Confidence.CERTAIN if code.key == "tuya" else Confidence.LIKELY
        return Chip(code.tag, sure, (tag,))
    if code.chip:
        at = code.start + flashmap.CHIP_TAG
        at = at if at < len(data) else code.start
        return Chip(code.chip, Confidence.LIKELY, (seen(data, at, 8, f"no tag, but code of a {code.chip}"), *read))
    return Chip(name, Confidence.LIKELY, read, told=True) if name else None


def chip_of_bootloader(data: bytes, code: Code, known: Bootloader | None) -> Chip | None:
    """The chip a bootloader is for: by its checksum, by its name, and else as any code."""
    if known is not None and known.chip:
        by = seen(data, code.start, 8, f"by its CRC-32, {known.name}")
        return Chip(known.chip, Confidence.CERTAIN, (by,), told=True)
    found = NAME.search(code.plain)
    name = found[1].decode("ascii").upper() if found else None
    read = (Evidence(code.start, b"", f"calls itself {found[0].decode('ascii')}"),) if found else ()
    return chip_of_code(data, code, name, read)


def agreed(boot: Chip | None, app: Chip | None) -> Chip | None:
    """The chip of a file with both: the one that is named, where they are of one family; else the bootloader's."""
    if boot is None or app is None:
        return boot or app
    if boot.family != app.family:
        return boot
    first, second = (app, boot) if app.told and not boot.told else (boot, app)
    return Chip(first.name, first.sure, (*first.evidence, *second.evidence), first.told)
