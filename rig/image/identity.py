"""What a file is: the answer of `rig.image.identify`, apart from how it is found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

KeyName = Literal["tuya", "zero"]


class Kind(StrEnum):
    """Kinds of file that people have been seen to flash, or to try to."""

    FULL_DUMP = "full-dump"  # a whole flash, as read from a board
    QIO = "qio"  # bootloader and app from 0x0, not the whole flash
    APP = "app"  # the app alone (UA), as it is in flash at 0x11000
    BOOTLOADER = "bootloader"  # the bootloader alone
    UG = "ug"  # Tuya's over-the-air package
    RBL = "rbl"  # over-the-air package without Tuya's header
    UF2 = "uf2"  # LibreTiny's container
    ESP = "esp"  # Espressif
    ELF = "elf"
    RAW_ARM = "raw-arm"  # a linker's output, without cipher and CRC-16
    EFUSE = "efuse"
    ROM = "rom"
    ARCHIVE = "archive"  # zip, gzip
    TEXT = "text"
    BLANK = "blank"  # nothing but FF, or nothing but 00
    TOO_SMALL = "too-small"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Identity:
    """What a file is, told from its content alone.

    `chip`: which chip it was made for, None where the content does not say. `key`: the cipher key its code is
    stored with. `firmware`, `version`: as in a profile's title. `bootloader`: its name and state in words.
    `rf_area`: it holds, or written whole would overwrite, the calibration sector; `calibrated`: a calibration is
    in it. `evidence`: what that was decided from, offset first. `problems`: damage found, each one reason not to
    write it. `what`: the file in one phrase, such as "OpenBeken 1.18.300 for BK7231N, bootloader and app (QIO)".
    """

    kind: Kind
    what: str
    chip: str | None = None
    key: KeyName | None = None
    firmware: str | None = None
    version: str | None = None
    bootloader: str | None = None
    rf_area: bool = False
    calibrated: bool = False
    evidence: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    size: int = 0
