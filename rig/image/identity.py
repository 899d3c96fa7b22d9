"""What a file is: the answer of `rig.image.identify`, apart from how it is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from rig.image.beken import KeyName as KeyName

if TYPE_CHECKING:
    from rig.image.code import Code
    from rig.image.kinds.uf2 import Uf2


class Kind(StrEnum):
    """Kinds of file that people have been seen to flash, or to try to."""

    FULL_DUMP = "full-dump"  # a whole flash, as read from a board
    QIO = "qio"  # bootloader and app from 0x0, not the whole flash
    APP = "app"  # the app alone (UA, LibreTiny's app slot), as it is in flash at 0x11000
    BOOTLOADER = "bootloader"  # the bootloader alone
    UG = "ug"  # Tuya's over-the-air package
    RBL = "rbl"  # over-the-air package without Tuya's header
    UF2 = "uf2"  # LibreTiny's container
    ESP = "esp"  # Espressif, one program
    ESP_MERGED = "esp-merged"  # Espressif, bootloader, partition table and program in one file
    ELF = "elf"
    RAW_ARM = "raw-arm"  # a linker's output, without cipher and CRC-16
    EFUSE = "efuse"
    ROM = "rom"
    CALIBRATION = "calibration"  # the radio calibration sector alone, or the flash from there on
    OBK_CONFIG = "obk-config"  # an OpenBeken configuration alone
    STORAGE = "storage"  # Tuya's storage alone
    ARCHIVE = "archive"  # zip, gzip
    TEXT = "text"
    BLANK = "blank"  # nothing but FF, or nothing but 00
    TOO_SMALL = "too-small"
    UNKNOWN = "unknown"


class Confidence(StrEnum):
    """How sure a statement is."""

    CERTAIN = "certain"  # a checksum agrees, or nothing else has those bytes
    LIKELY = "likely"  # what every file seen so far of that kind has
    GUESS = "guess"  # the best of several readings


@dataclass(frozen=True)
class Evidence:
    """What was seen: `data` at byte `offset` of the file (None: of the file as a whole), and what that means."""

    offset: int | None
    data: bytes
    meaning: str

    def __str__(self) -> str:
        place = f"0x{self.offset:X}: " if self.offset is not None else ""
        return f"{place}{self.data.hex(' ')} = {self.meaning}" if self.data else f"{place}{self.meaning}"


@dataclass(frozen=True)
class Statement:
    """One thing said of a file. `about`: "kind", "chip", "family", "key", "firmware", "version", "product", "sdk",
    "board", "bootloader", "size", "calibration", "configuration", "storage", "header", "sums" or "inside"."""

    about: str
    value: str
    confidence: Confidence
    evidence: tuple[Evidence, ...] = ()

    def __str__(self) -> str:
        return f"{self.about}: {self.value} ({self.confidence})"


def seen(data: bytes, at: int, length: int, meaning: str) -> Evidence:
    """The `length` bytes at `at` of `data`, and what they mean."""
    return Evidence(at, data[at : at + length], meaning)


def ascii_text(field: bytes) -> str:
    """A NUL-terminated field as text that is safe to print."""
    text = field.split(b"\0")[0].decode("ascii", "replace").strip()
    return "".join(char if char.isprintable() else "?" for char in text)


@dataclass(frozen=True)
class Identity:
    """What a file is, told from its content alone.

    `chip`: which chip it was made for, None where the content does not say. `key`: the cipher key its code is
    stored with. `firmware`, `version`: as in a profile's title. `bootloader`: its name and state in words.
    `rf_area`: it holds, or written whole would overwrite, the calibration sector; `calibrated`: a calibration is
    in it. `problems`: damage found, each one reason not to write it. `what`: the file in one phrase, such as
    "OpenBeken 1.18.300 for BK7231N, bootloader and app (QIO)". `statements`: all that is said of it, each with how
    sure it is and what it rests on. `boot`, `app`: its code partitions, read; `uf2`: its blocks, if it is one.
    `closed`: whether its firmware's images end in an RBL header, None where that is not known.
    `inside`: what an archive or package holds, by name, where that could be read.
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
    statements: tuple[Statement, ...] = ()
    problems: tuple[str, ...] = ()
    size: int = 0
    closed: bool | None = None
    boot: Code | None = field(default=None, repr=False, compare=False)
    app: Code | None = field(default=None, repr=False, compare=False)
    uf2: Uf2 | None = field(default=None, repr=False, compare=False)
    inside: tuple[tuple[str, Identity], ...] = ()

    @property
    def evidence(self) -> tuple[str, ...]:
        """What all statements rest on, each line once, by offset."""
        found = dict.fromkeys(item for statement in self.statements for item in statement.evidence)
        return tuple(str(item) for item in sorted(found, key=lambda item: (item.offset is None, item.offset or 0)))
