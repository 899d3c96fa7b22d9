"""A calibration sector ("TLV", flash 0x1D0000) for a simulated unit.

Groups, tags, lengths and places as on factory boards (measured on dumps of CB3S and CBU modules: the MAC's entry at
0x1C, 0x1F6 bytes in all). The values are our own: flat gain tables, a crystal trim per unit.
"""

from __future__ import annotations

import struct

Entries = list[tuple[int, bytes]]


def sector(mac: bytes, trim: int) -> bytes:
    """The used part of the sector: `mac` is 6 bytes, `trim` the crystal trim 0-127."""
    body = _group(0x11111100, _unit(mac, trim))
    body += _group(0x22222200, _transmit_power(), padded_to=0xB8)
    body += _group(0x33333300, _thermal(trim))
    body += _group(0x44444400, _receive())
    return b"TLV\0" + struct.pack("<I", len(body)) + body


def _group(tag: int, entries: Entries, padded_to: int = 0) -> bytes:
    body = b"".join(struct.pack("<II", tag + number, len(value)) + value for number, value in entries)
    body += b"\x5a" * (padded_to - len(body))
    return struct.pack("<II", tag, len(body)) + body


def _words(first: int, values: list[int]) -> Entries:
    return [(first + at, struct.pack("<I", value)) for at, value in enumerate(values)]


def _unit(mac: bytes, trim: int) -> Entries:
    values = _words(3, [330, 0x01531300, trim, 0x03500050])  # 3 is the temperature code at calibration
    return [*_words(1, [0x00BC6100]), (2, mac), *values, (7, struct.pack("<II", trim, trim))]


def _transmit_power() -> Entries:
    tables = [(2, b"\x90" * 14), (3, b"\xa0" * 14), (4, b"\x9c" * 14)]
    return [*_words(1, [15]), *tables, *_words(5, [4, 4]), (7, b"\x88" * 40), *_words(8, [1])]


def _thermal(trim: int) -> Entries:
    return _words(1, [4, 8, 16, 2000, 2080, 4000, 4080, trim, trim, 2000, 2048])


def _receive() -> Entries:
    return [(1, b"\x80" * 16 + b"\x78\xc0" * 8), *_words(2, [855, 264])]
