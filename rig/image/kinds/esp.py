"""Images for Espressif's chips: which chip, and whether one program or a whole flash merged into one file.

Source: ESP-IDF's esp_app_format.h and partition table format, esptool's account of the ESP8266 image; checked on one
image each of an ESP8266 and an ESP32-S2. Merged images were not at hand: what is said of them is by the format.
"""

from __future__ import annotations

import struct

from rig.image.identity import Confidence, Evidence, Identity, Kind, Statement, ascii_text, seen

_MAGIC = 0xE9
_EXTENDED = 24  # bytes of the header of all but the ESP8266
_TABLE, _TABLE_ENTRY = 0x8000, b"\xaa\x50"
_APP_DESCRIPTION = 0xABCD5432
_SEGMENTS, _MODES = range(1, 17), range(6)
_CHIPS = {
    0: "ESP32", 2: "ESP32-S2", 5: "ESP32-C3", 9: "ESP32-S3", 12: "ESP32-C2", 13: "ESP32-C6", 16: "ESP32-H2",
    18: "ESP32-P4", 20: "ESP32-C61", 23: "ESP32-C5",
}  # fmt: skip
_BOOTLOADERS = (0x0, 0x1000, 0x2000)  # S3 and C3, ESP32 and S2, P4 and C5: FF before it
_ESP8266_ENTRY = (range(0x40100000, 0x40110000), range(0x40200000, 0x40300000))  # its code RAM, its flash
_ESP8266_CODE = range(0x3FFE8000, 0x40300000)


def espressif(data: bytes) -> Identity | None:
    """What an Espressif image is; None for any other file."""
    at = next((place for place in _BOOTLOADERS if _header(data, place) and not data[:place].strip(b"\xff")), None)
    table = data[_TABLE : _TABLE + 2] == _TABLE_ENTRY
    if at is None and not (table and not data[:0x1000].strip(b"\xff")):
        return None
    evidence: list[Evidence] = []
    chip, sure = None, Confidence.GUESS
    if at is not None:
        chip, sure, why = _chip(data, at)
        evidence += [seen(data, at, 4, "Espressif image header"), *why]
    if table:
        evidence.append(seen(data, _TABLE, 2, "Espressif partition table"))
    merged = table or bool(at)
    kind = Kind.ESP_MERGED if merged else Kind.ESP
    statements = [
        Statement("kind", kind.value, Confidence.CERTAIN if table else Confidence.LIKELY, tuple(evidence)),
        Statement("chip", chip or "ESP8266 or ESP32", sure, tuple(evidence)),
    ]
    project, version, described = _described(data, (at or 0) if not merged else 0x10000)
    if described:
        statements.append(Statement("firmware", project, Confidence.CERTAIN, (described,)))
        statements.append(Statement("version", version, Confidence.CERTAIN, (described,)))
    form = ", merged: bootloader, partition table and program" if merged else ""
    what = f"an image for an Espressif chip ({chip or 'ESP8266 or ESP32'}){form}"
    return Identity(
        kind, what, chip, firmware=project or None, version=version or None, statements=tuple(statements),
        size=len(data),
    )  # fmt: skip


def _header(data: bytes, at: int) -> bool:
    head = data[at : at + 4]
    return len(head) == 4 and head[0] == _MAGIC and head[1] in _SEGMENTS and head[2] in _MODES


def _chip(data: bytes, at: int) -> tuple[str | None, Confidence, tuple[Evidence, ...]]:
    """Which chip the header at `at` is for: an ESP8266 has 8 bytes of it and its segments at once, others 24."""
    if len(data) < at + _EXTENDED + 8:
        return None, Confidence.GUESS, ()
    entry, address, length = struct.unpack_from("<III", data, at + 4)
    if any(entry in place for place in _ESP8266_ENTRY) and address in _ESP8266_CODE and length < 0x100000:
        return "ESP8266", Confidence.LIKELY, (seen(data, at + 4, 12, "entry and first segment of an ESP8266"),)
    number = struct.unpack_from("<H", data, at + 12)[0]
    chip = _CHIPS.get(number)
    if chip is None:
        return None, Confidence.GUESS, ()
    # Zero, the first ESP32's number, is also what any other four bytes may be.
    sure = Confidence.CERTAIN if number else Confidence.LIKELY
    return chip, sure, (seen(data, at + 12, 2, f"chip number of an {chip}"),)


def _described(data: bytes, at: int) -> tuple[str, str, Evidence | None]:
    """(project, version, evidence) from the description that ESP-IDF puts first into a program's first segment."""
    place = at + _EXTENDED + 8
    if len(data) < place + 80 or struct.unpack_from("<I", data, place)[0] != _APP_DESCRIPTION:
        return "", "", None
    version, project = ascii_text(data[place + 16 : place + 48]), ascii_text(data[place + 48 : place + 80])
    return project, version, seen(data, place, 4, f"ESP-IDF's description: {project} {version}")
