"""Parts of a flash that hold no code, as files of their own: calibration, OpenBeken's configuration, Tuya's storage.

They come from tools that read or back up one area. Each is told by what begins it.
"""

from __future__ import annotations

import struct

from rig.image import flashmap
from rig.image.identity import Confidence, Evidence, Identity, Kind, Statement, seen

# What a storage block's key page holds where it is empty: 16 times FF, AES-128-ECB under "qwertyuiopasdfgh".
# Source: bk7231tools' storage analysis; the same bytes are in three factory dumps at 0x1EE020.
STORAGE_FILLER = bytes.fromhex("46dced0e672f3b70ae1276a3f8712e03")
_FILLER_AT = 32
_OBK_VERSIONS = range(1, 16)
_OBK_SIZES = (2016, 3584)  # configuration versions up to 3; since 4


def area(data: bytes) -> Identity | None:
    """What an area file is; None for any other file."""
    size = len(data)
    if size > flashmap.FLASH_SIZE:
        return None
    tag = flashmap.CALIBRATION_TAG
    if data[: len(tag)] == tag:
        return _calibration(data)
    if data[:3] == flashmap.OBK_CONFIG_TAG and size >= 8 and struct.unpack_from("<I", data, 4)[0] in _OBK_VERSIONS:
        return _config(data)
    at = data.find(STORAGE_FILLER, 0, 4 * flashmap.SECTOR)
    return _storage(data, at) if at >= _FILLER_AT else None


def _calibration(data: bytes) -> Identity:
    size = len(data)
    found = [Statement("kind", Kind.CALIBRATION.value, Confidence.CERTAIN, (seen(data, 0, 4, "a calibration"),))]
    # Read from there to the end of a 2 MiB flash, its size tells where it began, and that the chip.
    chip = next((name for name, at in flashmap.CALIBRATION.items() if at + size == flashmap.FLASH_SIZE), None)
    what = "a radio calibration (TLV) alone, without code"
    if size > flashmap.SECTOR:
        what = f"{size:,} bytes of flash from the radio calibration (TLV) on, without code"
    if chip:
        place = Evidence(None, b"", f"{size:,} bytes: a 2 MiB flash from 0x{flashmap.CALIBRATION[chip]:X} to its end")
        found.append(Statement("chip", chip, Confidence.GUESS, (place,)))
    return Identity(Kind.CALIBRATION, what, statements=tuple(found), size=size)


def _config(data: bytes) -> Identity:
    size = len(data)
    version = struct.unpack_from("<I", data, 4)[0]
    evidence = (seen(data, 0, 3, "an OpenBeken configuration"), seen(data, 4, 4, f"of version {version}"))
    sure = Confidence.CERTAIN if size >= _OBK_SIZES[0] else Confidence.LIKELY
    short = size < _OBK_SIZES[version > 3]
    return Identity(
        Kind.OBK_CONFIG, "an OpenBeken configuration alone, without code",
        statements=(Statement("kind", Kind.OBK_CONFIG.value, sure, evidence),),
        problems=(f"it was cut short: {size:,} of {_OBK_SIZES[version > 3]:,} bytes",) if short else (),
        size=size,
    )  # fmt: skip


def _storage(data: bytes, at: int) -> Identity:
    size, start = len(data), at - _FILLER_AT
    evidence = (seen(data, at, 16, f"an empty key field of Tuya's storage, which begins at 0x{start:X} of the file"),)
    return Identity(
        Kind.STORAGE, "Tuya's storage (keys and settings of one board) alone, without code",
        statements=(Statement("kind", Kind.STORAGE.value, Confidence.LIKELY, evidence),),
        size=size,
    )  # fmt: skip
