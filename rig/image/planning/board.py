"""The board a file is to go to: what is known of it, told from its efuse and from what its flash holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from rig.image import flashmap
from rig.image.beken import TUYA_KEY, ZERO_KEY, KeyName, key_from_efuse
from rig.image.bootloader import KNOWN, bootloader_crc
from rig.image.code import Code, looks_cut_short, read_code, vectors_key
from rig.image.contents.calibration import generated_mac
from rig.image.firmware import FirmwareProfile
from rig.image.identify import identify

_EFUSE_KEY = 16  # bytes
_NAMED = re.compile(rb"BK7231[A-Z]_\d+(?:\.\d+)+|rig-boot \d+")  # the second: of simulated boards


@dataclass(frozen=True)
class Board:
    """What is known of one board.

    `flash_size` in bytes. `key`: what its chip decrypts with, None where nobody knows. `held`: all of its flash as
    it is now; `backup`: its first backup; None where not read. `efuse_mac`: the MAC in its efuse; `mac`: one given
    by the user, for a board whose own is lost. `no_backup`: it is written without one, so nothing that only a
    backup could bring back may be overridden. `spare_mac`: made up once, so that all plans for it agree on it.
    """

    chip: str = "BK7231N"
    flash_size: int = flashmap.FLASH_SIZE
    key: KeyName | None = "tuya"
    held: bytes | None = field(default=None, repr=False)
    backup: bytes | None = field(default=None, repr=False)
    efuse_mac: str | None = None
    mac: str | None = None
    no_backup: bool = False
    spare_mac: str = field(default_factory=generated_mac, repr=False, compare=False)

    @property
    def unsaved(self) -> bool:
        """Whether its calibration and storage are nowhere but in its flash."""
        return self.no_backup or (self.held is not None and self.backup is None)


def board_key(efuse: bytes | None) -> KeyName | None:
    """The key a chip with this efuse decrypts with; "unknown" for one the rig does not hold, None if unreadable."""
    if efuse is None or len(efuse) < _EFUSE_KEY or (len(efuse) > _EFUSE_KEY and not any(efuse)):
        return None
    key = key_from_efuse(efuse)
    if key == TUYA_KEY:
        return "tuya"
    switched_off = key[3] >> 24 in (0x00, 0xFF)  # as in beken.keystream
    return "zero" if key == ZERO_KEY or switched_off else "unknown"


def bootloader_fault(held: bytes, chip: str, key: KeyName | None) -> str | None:
    """Why an app with this key would not be started by the bootloader of a board that holds `held`; None if it would.

    To be read after "because". It must be known by its CRC or its name, whole, and for this chip and key.
    """
    crc = bootloader_crc(held)
    known = KNOWN.get(crc) if crc is not None else None
    if known is not None and not known.bootable:
        return f"the board's bootloader is {known.name}"
    boot = _code(held, flashmap.BOOTLOADER, flashmap.APP, 0)
    if boot is None:
        return "what the board has for a bootloader is no code this rig can read"
    if boot.problems:
        return f"the board's bootloader is damaged ({boot.problems[0]})"
    if boot.tag != chip:
        return f"the board's bootloader is for {boot.chip or 'an unknown chip'}, not for {chip}"
    if key is not None and boot.key != key:
        return f"the board's bootloader is {STORED[boot.key]}, and this is {STORED[key]}"
    if known is None and not _NAMED.search(boot.plain):
        return f"the board's bootloader is of unknown make (CRC-32 {crc:08X})"
    return None


def app_fault(held: bytes, chip: str, key: KeyName | None) -> str | None:
    """Why a bootloader with this key finds no app to start on a board that holds `held`; None if it does."""
    app = _code(held, flashmap.APP, flashmap.APP_END, flashmap.APP_LOGICAL)
    if app is None:
        return "the board holds no app"
    if app.problems or looks_cut_short(app):
        return f"the board's app is damaged ({(*app.problems, 'it was cut short')[0]})"
    if app.chip not in (None, chip):
        return f"the board's app is for {app.chip}"
    if key is not None and app.key != key:
        return f"the board's app is {STORED[app.key]}, and this is {STORED[key]}"
    return None


def app_firmware(held: bytes, profiles: Sequence[FirmwareProfile] | None) -> tuple[str | None, str | None]:
    """(firmware's title, chip) of the app a board holds, if it is whole."""
    found = identify(held, profiles=profiles)
    return (found.firmware, found.chip) if found.app is not None and not found.app.problems else (None, None)


def bootloader_key(held: bytes | None) -> KeyName | None:
    """The key a board's own bootloader is stored with, where that is whole: its chip's, if it ever booted."""
    boot = _code(held, flashmap.BOOTLOADER, flashmap.APP, 0) if held else None
    return boot.key if boot is not None and not boot.problems and boot.key != "unknown" else None


STORED: dict[KeyName, str] = {
    "tuya": "stored with Tuya's key",
    "zero": "not encrypted",
    "unknown": "stored with a key this rig does not know",
}


def _code(data: bytes, start: int, end: int, logical: int) -> Code | None:
    key = vectors_key(data, start, logical)
    return read_code(data, start, end, logical, key) if key is not None else None
