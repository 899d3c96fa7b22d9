"""The simulated bench's own firmware: what its boards leave the factory with, and what a demo run puts on them.

Our own code (src/, built by :mod:`rig.sim.firmware.build`), so that demo and tests need nobody else's images.
"""

from __future__ import annotations

import hashlib
import random
import struct
from functools import cache
from pathlib import Path

from rig.image import beken
from rig.sim.firmware import calibration, rbl

IMAGES = Path(__file__).parent / "images"

BOOT_VERSION = "1"
DEMO_NAME, DEMO_VERSION = "rig-demo", "1.0.0"
FACTORY_NAME, FACTORY_VERSION = "rig-factory", "0.9.3"
DEMO_BANNER = f"{DEMO_NAME} BK7231N, version {DEMO_VERSION}"
FACTORY_BANNER = f"{FACTORY_NAME} BK7231N, version {FACTORY_VERSION}"

BOOT_SIZE = 0x11000  # flash bytes of the bootloader's partition
APP_SIZE = 0x118F70  # and of the app's, to the last byte of its trailer
QIO_SIZE = BOOT_SIZE + APP_SIZE
FLASH_SIZE = 0x200000
CALIBRATION_AT = 0x1D0000
BOOT_COUNT_AT = 0x1EE000  # the sector the factory app counts its boots in; blank on a unit that never ran
BOOT_COUNT_MAGIC = b"RIGB"

_STORAGE_SECTORS = (0x1ED000, 0x1EF000, 0x1F0000, 0x1F1000)


def demo_image() -> bytes:
    """Bootloader and demo app for flash address 0: 0x129F70 bytes, the size and layout of an OpenBeken QIO."""
    return _qio("demo.bin", DEMO_VERSION)


def factory_dump(serial: int) -> bytes:
    """The 2 MiB a simulated unit leaves the factory with. Different for each `serial` (0 to 0xFFFFFF)."""
    flash = bytearray(b"\xff" * FLASH_SIZE)
    _put(flash, 0, _qio("factory.bin", FACTORY_VERSION))
    _put(flash, CALIBRATION_AT, calibration.sector(mac(serial), 64 + _seeded(serial, "trim").randrange(-32, 32)))
    for sector in _STORAGE_SECTORS:
        _put(flash, sector, _storage(serial, sector))
    return bytes(flash)


def efuse(serial: int) -> bytes:
    """The unit's 32 efuse bytes: Tuya key, UID, MAC, control 0 (nothing locked)."""
    uid = hashlib.blake2b(f"rig unit {serial}".encode(), digest_size=8).digest()
    return struct.pack("<4I", *beken.TUYA_KEY) + uid + mac(serial) + bytes(2)


def mac(serial: int) -> bytes:
    """The unit's MAC address: locally administered, 02:52:49 and the serial. ValueError outside 0 to 0xFFFFFF."""
    if not 0 <= serial <= 0xFFFFFF:
        raise ValueError(f"a simulated unit's serial is 0 to {0xFFFFFF}, not {serial}")
    return b"\x02RI" + serial.to_bytes(3, "big")


def boots(flash: bytes | bytearray) -> int:
    """How often the factory app has run in this 2 MiB: 0 as long as nobody started it. See count_boot in app.c."""
    count = 0
    for at in range(BOOT_COUNT_AT, BOOT_COUNT_AT + 0x1000, 32):
        magic, value, check = struct.unpack_from("<4sII", flash, at)
        if magic == BOOT_COUNT_MAGIC and check == value ^ 0xFFFFFFFF:
            count = value
    return count


@cache
def _qio(app: str, version: str) -> bytes:
    boot = rbl.partition("bootloader", BOOT_VERSION, (IMAGES / "boot.bin").read_bytes(), BOOT_SIZE)
    return boot + rbl.partition("app", version, (IMAGES / app).read_bytes(), APP_SIZE)


def _storage(serial: int, sector: int) -> bytes:
    """Settings only this unit has, as far as anybody can tell: a label and noise. Not Tuya's format."""
    label = f"rig unit {serial} {sector:06x}\n".encode()
    return label + _seeded(serial, f"{sector:x}").randbytes(0xC00)


def _seeded(serial: int, what: str) -> random.Random:
    return random.Random(f"rig {serial} {what}")


def _put(flash: bytearray, at: int, data: bytes) -> None:
    flash[at : at + len(data)] = data
