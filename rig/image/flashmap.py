"""Where things are in a 2 MiB BK7231 flash: named regions, and arithmetic on ranges of it.

Offsets are physical flash bytes. Source: the board files of ltchiptool and LibreTiny, OpenBeken's hal_ota.h and
our_lfs.h, the SDK's partition table; checked on real dumps of both chips (RBL headers, "TLV" and "CFG" tags).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FLASH_SIZE = 0x200000
SECTOR = 0x1000

BOOTLOADER = 0x0
APP = 0x11000
APP_END = 0x12A000
APP_LOGICAL = 0x10000  # where the CPU sees the app; the bootloader is at 0x0 in both views
CHIP_TAG = 0x110  # offset of "BK7231\0\0" from the start of a bootloader or app: code address 0x100
CALIBRATION = {"BK7231N": 0x1D0000, "BK7231T": 0x1E0000}
CALIBRATION_TAG = b"TLV\0"
OBK_CONFIG = {"BK7231N": 0x1D1000, "BK7231T": 0x1E1000}
OBK_CONFIG_TAG = b"CFG"

Range = tuple[int, int]  # (first byte, one past the last)


@dataclass(frozen=True)
class Region:
    """A named part of the flash. `identity`: it belongs to one board (its MAC and calibration, its Tuya keys), so
    another board's dump must not replace it. `striped`: stored as code, 32 bytes and a CRC-16."""

    name: str
    start: int
    end: int
    what: str
    identity: bool = False
    striped: bool = False

    @property
    def size(self) -> int:
        return self.end - self.start


_N = (
    Region("bootloader", 0x0, 0x11000, "the boot ROM starts this", striped=True),
    Region("app", 0x11000, 0x12A000, "the firmware", striped=True),
    Region("ota", 0x12A000, 0x1D0000, "downloads, and OpenBeken's file system from 0x12B000"),
    Region("calibration", 0x1D0000, 0x1D1000, "radio calibration and MAC, made at the factory", identity=True),
    Region("net", 0x1D1000, 0x1D2000, "OpenBeken's configuration"),
    Region("vars", 0x1D2000, 0x1E5000, "LibreTiny's store; OpenBeken's boot counters before 2026 at 0x1D3000"),
    Region("easyflash", 0x1E5000, 0x1ED000, "OpenBeken's boot counters since 2026"),
    Region("storage", 0x1ED000, 0x200000, "Tuya's keys and settings of this one board", identity=True),
)
_T = (
    Region("bootloader", 0x0, 0x11000, "also serves the download protocol: keep it", striped=True),
    Region("app", 0x11000, 0x132000, "the firmware", striped=True),
    Region("ota", 0x132000, 0x1E0000, "downloads"),
    Region("calibration", 0x1E0000, 0x1E1000, "radio calibration and MAC, made at the factory", identity=True),
    Region("net", 0x1E1000, 0x1ED000, "OpenBeken's configuration"),
    Region("storage", 0x1ED000, 0x200000, "Tuya's keys and settings of this one board", identity=True),
)
REGIONS = {"BK7231N": _N, "BK7231T": _T}


def region(name: str, chip: str = "BK7231N") -> Region:
    """The region called `name`. KeyError for a name or chip that is not mapped."""
    return {item.name: item for item in REGIONS[chip]}[name]


def identity_ranges(chip: str = "BK7231N") -> tuple[Range, ...]:
    """What makes a board this one board: never taken from another board's dump."""
    return tuple((item.start, item.end) for item in REGIONS[chip] if item.identity)


def without(span: Range, kept: Iterable[Range]) -> tuple[Range, ...]:
    """`span` less the `kept` ranges: what is left, in order, without empty pieces."""
    left, (at, end) = [], span
    for start, stop in sorted(kept):
        if stop <= at or start >= end:
            continue
        if start > at:
            left.append((at, start))
        at = max(at, stop)
    if at < end:
        left.append((at, end))
    return tuple(left)
