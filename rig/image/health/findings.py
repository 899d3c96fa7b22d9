"""What a diagnosis is made of: states of regions, named damages, and what a board would do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from rig.image.flashmap import Region


class State(StrEnum):
    """What a region of the flash is in."""

    GOOD = "good"  # its checksums, or its structure where it has none, are right
    DAMAGED = "damaged"
    ERASED = "erased"  # nothing but FF
    ZERO = "zero"  # nothing but 00
    FOREIGN = "foreign"  # content that does not belong there: for another chip, key or place, or no code at all
    ABSENT = "absent"  # the file does not reach it: what the board has there stays
    DATA = "data"  # content that carries no checksum


class Forecast(StrEnum):
    """What a board with this flash does at power-on. Named after the verdicts on a boot log (`rig.uart.verdict`)."""

    BOOTS = "boots"
    SILENT = "silent"  # nothing on the log port; the ROM still answers a flasher
    BOOTLOADER_ONLY = "bootloader-only"  # nothing useful after "J 0x10000"
    BOOT_LOOP = "boot-loop"  # the app speaks, and the board resets again and again
    CRASHES = "crashes"  # the app speaks, crashes and stays dead; only ever one of several possible outcomes
    NOT_A_FLASH = "not-a-flash"  # the file is nothing a board could start from
    UNKNOWN = "unknown"  # hangs on what the file does not tell; `Diagnosis.possible` lists what may be


@dataclass(frozen=True)
class RegionState:
    """`what`: what is in it, in words. `used`: how many of its bytes are not erased."""

    region: Region
    state: State
    what: str
    used: int


# Every name a damage can have.
DAMAGES = {
    "bootloader-erased": "the bootloader's place is erased",
    "bootloader-zero": "the bootloader's place reads as zeros: wiped, or the flash could not be read",
    "bootloader-unknown": "what stands in the bootloader's place is no code this rig can read",
    "bootloader-wrong-chip": "the bootloader is another chip's",
    "no-tag": "the bootloader lacks the tag at 0x110 without which an N's ROM does not start it",
    "app-at-0": "an app stands at 0x0, where the bootloader belongs",
    "app-erased": "the app's place is erased",
    "app-missing": "what stands in the app's place is no code this rig can read",
    "app-wrong-chip": "the app is another chip's",
    "key-mismatch": "code is stored with another cipher key than the board's chip has, or than the rest",
    "block-crc": "code blocks whose CRC-16 is wrong",
    "truncated": "the file ends before what it holds does",
    "rbl-header": "the header that closes code is damaged",
    "rbl-hash": "every block of the code is good, and the whole is not what its header was made for",
    "calibration-wiped": "the calibration's place is erased",
    "calibration-damaged": "the calibration cannot be read to its end, or its MAC is none",
    "calibration-made-up": "the calibration is the firmware's replacement for a lost one",
    "config-crc": "an OpenBeken configuration that the firmware refuses",
    "storage-unreadable": "a Tuya storage, or a part of it, that cannot be decrypted",
}


@dataclass(frozen=True)
class Damage:
    """One damage. `name` is out of `DAMAGES`; `offset` and `length` in bytes of the flash; `sentence`: to be read."""

    name: str
    offset: int
    length: int
    sentence: str

    def __post_init__(self) -> None:
        if self.name not in DAMAGES:
            raise ValueError(f"{self.name!r} is no name of a damage")
