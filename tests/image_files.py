"""Image files for tests: our own, made here, and real ones where RIG_FIRMWARE_DIR names a folder of them."""

from __future__ import annotations

import os
from functools import cache

import pytest

from rig.image import beken, flashmap
from rig.sim import firmware

FIRMWARE_DIR = os.environ.get("RIG_FIRMWARE_DIR")
real_images = pytest.mark.skipif(not FIRMWARE_DIR, reason="RIG_FIRMWARE_DIR names no folder of real images")


@cache
def demo() -> bytes:
    return firmware.demo_image()


@cache
def dump() -> bytes:
    return firmware.factory_dump(7)


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def code_at(data: bytes, start: int, logical: int) -> bytes:
    """The decrypted code of a partition of ours, up to its first bad block."""
    stored, valid = beken.unframe(data[start : start + 0x11000])
    return beken.crypt(stored[: int(valid.argmin()) * beken.BLOCK], logical, beken.TUYA_KEY)


def zero_key_demo() -> bytes:
    """The demo image as for a chip whose cipher is off."""
    parts = []
    for start, end, logical in ((0, flashmap.APP, 0), (flashmap.APP, len(demo()), flashmap.APP_LOGICAL)):
        code = bytearray(code_at(demo(), start, logical))
        code[0x100:0x108] = b"BK7231\0\0"
        stored = beken.frame(bytes(code))
        parts.append(stored + b"\xff" * (end - start - len(stored)))
    return b"".join(parts)
