"""OpenBeken's boot counters: how often a board has started, and how often it stayed up for 5 s.

Since February 2026 they are the value "OBK_FV" of an EasyFlash store at 0x1E5000: nodes "KV40", each with a CRC-32
and a state byte before it, newer ones behind older ones. Before, they were records of 64 bytes behind FE FE FE FE at
0x1D3000, the last written one counting. Sources: OpenBeken's hal_flashVars_bk7231.c, EasyFlash's ef_env.c; the newer
form checked on a flash OpenBeken 1.18.300 wrote while it ran, the older one not (no such dump is at hand).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from rig.image import flashmap

_NODE = b"KV40"
_NODE_HEAD = 20  # bytes: magic, length, CRC-32, name length, value length
_WRITTEN = 0x3F  # state of a node that is neither half-written nor replaced
_STATE_BEFORE = 4  # the state byte lies so far before the magic
_KEY = b"OBK_FV"
_OLD_AT, _OLD_MAGIC, _OLD_RECORD = 0x1D3000, b"\xfe" * 4, 64


@dataclass(frozen=True)
class Counters:
    """`boots`: starts; `good`: the value of `boots` when it last stayed up. `offset`: where in flash they are."""

    boots: int
    good: int
    offset: int

    @property
    def failures(self) -> int:
        """Starts since the last one that stayed up; over 4, OpenBeken goes into safe mode."""
        return self.boots - self.good

    def __str__(self) -> str:
        return f"{self.boots}, {self.failures} of them since the last good start"


def read_counters(flash: bytes) -> Counters | None:
    """The counters in a whole BK7231N flash; None where it has none. Never raises."""
    return _easyflash(flash) or _records(flash)


def _easyflash(flash: bytes) -> Counters | None:
    where = flashmap.region("easyflash")
    end = min(where.end, len(flash))
    found = None
    at = flash.find(_NODE, where.start, end)
    while at >= 0:
        found = _node(flash, at, end) or found
        at = flash.find(_NODE, at + 4, end)
    return found


def _node(flash: bytes, at: int, end: int) -> Counters | None:
    if at + _NODE_HEAD > end or flash[at - _STATE_BEFORE] != _WRITTEN:
        return None
    crc, name_length, value_length = struct.unpack_from("<IB3xI", flash, at + 8)
    value = at + _NODE_HEAD + name_length
    if value + value_length > end or value_length < 4 or flash[at + _NODE_HEAD : value] != _KEY:
        return None
    if zlib.crc32(flash[at + 12 : value + value_length]) != crc:
        return None
    boots, good = struct.unpack_from("<HH", flash, value)
    return Counters(boots, good, value)


def _records(flash: bytes) -> Counters | None:
    area = flash[_OLD_AT : _OLD_AT + 2 * flashmap.SECTOR]
    if area[:4] != _OLD_MAGIC:
        return None
    used = len(area.rstrip(b"\xff"))
    if used < 4 + _OLD_RECORD or area[used - 1] != _OLD_RECORD:
        return None
    boots, good = struct.unpack_from("<HH", area, used - _OLD_RECORD)
    return Counters(boots, good, _OLD_AT + used - _OLD_RECORD)
