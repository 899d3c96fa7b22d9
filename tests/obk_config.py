"""OpenBeken's configuration sector, for tests that start it with a configuration already there.

Layout and CRC: OpenBeken's sources (new_cfg.h); judged by the firmware, which refuses a sector whose CRC is wrong.
"""

from __future__ import annotations

import struct

AT = 0x1D1000
SIZE = 0xE00
_CRC = 3
_TEXTS = {  # name: (offset, size)
    "ssid": (0x14, 64),
    "password": (0x54, 64),
    "mqtt_client": (0x194, 64),
    "short_name": (0x2DE, 32),
    "long_name": (0x2FE, 64),
    "mqtt_group": (0x554, 64),
    "startup": (0x5E0, 1568),
}
_LED_CORRECTION = 0x53C


def config(**texts: str) -> bytes:
    """A configuration of version 5, changed once, with these texts and no colour correction; all else is zero."""
    data = bytearray(SIZE)
    data[:3] = b"CFG"
    struct.pack_into("<I", data, 4, 5)
    struct.pack_into("<H", data, 0x10, 1)
    struct.pack_into("<6f", data, _LED_CORRECTION, 1.0, 1.0, 1.0, 2.2, 0.1, 0.1)
    for name, text in texts.items():
        at, size = _TEXTS[name]
        assert len(text) < size
        data[at : at + len(text)] = text.encode()
    data[_CRC] = crc8(data[4:])
    return bytes(data)


def crc8(data: bytes) -> int:
    """Reflected 8C, in signed arithmetic, as the firmware computes it: shifts keep the sign."""
    crc = 0
    for byte in data:
        value = byte - 256 if byte > 127 else byte
        for _ in range(8):
            odd = (crc ^ value) & 1
            crc >>= 1
            if odd:
                crc = ((crc ^ 0x8C) + 128) % 256 - 128
            value >>= 1
    return crc & 0xFF
