"""The radio calibration sector ("TLV"): what the factory measured of one board, and its MAC.

A header (tag "TLV\\0" and a length), then groups of entries, each a tag, a length and a value, all little-endian
words. There is no checksum: what can be judged is that every length fits into what holds it and that the MAC is one.
Source: Beken's SDK (manual_cal), which walks it the same way; checked on the dumps of three factory boards.
"""

from __future__ import annotations

import re
import secrets
import struct
from dataclasses import dataclass

from rig.errors import UsageProblem
from rig.image.flashmap import CALIBRATION_TAG, SECTOR

MAC_ENTRY = 0x11111102
_HEAD = 8  # bytes of a header: tag and length of what follows
_FILLERS = (0x5A, 0xFF, 0x00)  # a group's room is filled up with ZZ on factory boards
_POWER = 0x22222200
_GROUPS = {
    0x11111100: "board",
    _POWER: "transmit power",
    0x33333300: "transmitter",
    0x44444400: "receiver",
}
_NAMES = {
    0x11111101: "id", MAC_ENTRY: "MAC", 0x11111103: "temperature code", 0x11111104: "channel", 0x11111105: "crystal",
    0x11111106: "ADC", 0x11111107: "low-pass filter", 0x22222201: "enabled", 0x22222202: "power 11b",
    0x22222203: "power 11g", 0x22222204: "power 11n", 0x22222205: "difference n20", 0x22222206: "difference n40",
    0x22222207: "power BLE", 0x22222208: "status",
}  # fmt: skip
_NO_MAC = (bytes(6), b"\xff" * 6)
MADE_UP_MAC = "c8:47:8c:00:00:00"  # what Beken's SDK uses where a board has none


@dataclass(frozen=True)
class Entry:
    """One value: `offset` of `data` in the sector. `name` says what it is, or repeats the tag."""

    tag: int
    name: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class Calibration:
    """A calibration as read. `mac`: "c8:47:8c:01:59:f7", None where there is none or it is no board's. `problems`:
    each a sentence on damage; an empty tuple where every length fits and the MAC is one. `size`: bytes in use."""

    mac: str | None
    entries: tuple[Entry, ...]
    problems: tuple[str, ...]
    size: int = 0

    @property
    def made_up(self) -> bool:
        """Whether firmware made it in place of a lost one: it then has the SDK's MAC, that of no board. Source: what
        OpenBeken and a Tuya firmware wrote into an erased sector on the executing model."""
        return self.mac == MADE_UP_MAC

    @property
    def measured(self) -> bool:
        """Whether it has a table of transmit powers, which only the factory can measure."""
        return any(entry.tag & 0xFFFFFF00 == _POWER for entry in self.entries)

    @property
    def sound(self) -> bool:
        """Whether it is worth keeping as a board's own: whole, with a MAC, and not made up."""
        return not self.problems and not self.made_up


def read_calibration(sector: bytes) -> Calibration | None:
    """The calibration in these bytes (a sector, or less where a file ends); None where no TLV header begins them.

    Never raises and never reads past `sector` or its first 4,096 bytes.
    """
    sector = sector[:SECTOR]
    if sector[:4] != CALIBRATION_TAG:
        return None
    if len(sector) < _HEAD:
        return Calibration(None, (), ("it ends within its header",), len(sector))
    problems: list[str] = []
    entries: list[Entry] = []
    end = _HEAD + struct.unpack_from("<I", sector, 4)[0]
    if end > len(sector):
        problems.append(f"its header names {end - _HEAD:,} bytes, and {len(sector) - _HEAD:,} are there")
        end = len(sector)
    at = _HEAD
    while at < end:
        group = _head(sector, at, end)
        if group is None or group[0] not in _GROUPS:
            problems.append(f"at 0x{at:X} of it stands no group")
            break
        tag, size = group
        at += _HEAD
        if at + size > end:
            problems.append(f"its group {_GROUPS[tag]!r} names {size:,} bytes, and {end - at:,} are left")
            size = end - at
        found, problem = _entries(sector, at, at + size, tag)
        entries += found
        problems += [problem] if problem else []
        at += size
    mac, problem = _mac(entries)
    return Calibration(mac, tuple(entries), (*problems, *([problem] if problem else [])), end)


def with_mac(sector: bytes, mac: str) -> bytes:
    """The same calibration, of the same length, with another MAC. UsageProblem where the sector has none to change,
    or `mac` is not one."""
    new = bytes.fromhex(parse_mac(mac).replace(":", ""))
    found = read_calibration(sector)
    entry = _mac_entry(found.entries) if found else None
    if entry is None or len(entry.data) != len(new):
        raise UsageProblem("this calibration sector has no entry for a MAC, so none can be put into it.")
    return sector[: entry.offset] + new + sector[entry.offset + len(new) :]


def generated_mac() -> str:
    """A new random MAC, locally administered and of one device: second hexadecimal digit 2, 6, A or E."""
    raw = bytearray(secrets.token_bytes(6))
    raw[0] = raw[0] & 0xFC | 0x02
    return _text(bytes(raw))


def parse_mac(text: str) -> str:
    """`text` ("C8-47-8C-01-59-F7", with colons, dashes or nothing between) in the rig's form: lower case, colons.

    UsageProblem with one sentence for what is no MAC, or none a device can have (group bit set, all zeros).
    """
    plain = re.fullmatch(r"([0-9a-f]{2})([:-]?)((?:[0-9a-f]{2}\2){4}[0-9a-f]{2})", text.strip().lower())
    raw = bytes.fromhex(re.sub("[:-]", "", plain.group())) if plain else b""
    if not plain:
        raise UsageProblem(f"{text!r} is no MAC; write it like c8:47:8c:01:59:f7.")
    if why := _unusable(raw):
        raise UsageProblem(f"{text} is no MAC of a device: {why}.")
    return _text(raw)


def parse_own_mac(text: str) -> str:
    """As `parse_mac`, for a MAC that is to be one board's own: UsageProblem too for the one firmware makes up."""
    mac = parse_mac(text)
    if mac == MADE_UP_MAC:
        raise UsageProblem(f"{mac} is what firmware makes up for a board without a MAC: no board's own.")
    return mac


def _entries(sector: bytes, at: int, end: int, group: int) -> tuple[list[Entry], str | None]:
    found: list[Entry] = []
    while at < end:
        head = _head(sector, at, end)
        if head is None or head[0] & 0xFFFFFF00 != group:
            rest = set(sector[at:end])
            if len(rest) == 1 and rest <= set(_FILLERS):
                return found, None
            return found, f"at 0x{at:X} of it stands no entry of its group {_GROUPS[group]!r}"
        tag, size = head
        at += _HEAD
        name = _NAMES.get(tag, f"{tag:08X}")
        if at + size > end:
            return found, f"its entry {name!r} names {size:,} bytes, and {end - at:,} are left in its group"
        found.append(Entry(tag, name, at, sector[at : at + size]))
        at += size
    return found, None


def _head(sector: bytes, at: int, end: int) -> tuple[int, int] | None:
    if end - at < _HEAD:
        return None
    tag, size = struct.unpack_from("<II", sector, at)
    return tag, size


def _mac_entry(entries: list[Entry] | tuple[Entry, ...]) -> Entry | None:
    return next((entry for entry in entries if entry.tag == MAC_ENTRY), None)


def _mac(entries: list[Entry]) -> tuple[str | None, str | None]:
    """(MAC, what is wrong with it)."""
    entry = _mac_entry(entries)
    if entry is None:
        return None, "it has no MAC"
    if len(entry.data) != 6:
        return None, f"its MAC has {len(entry.data)} bytes"
    why = _unusable(entry.data)
    return (None, f"its MAC {_text(entry.data)} is no device's: {why}") if why else (_text(entry.data), None)


def _unusable(raw: bytes) -> str | None:
    if raw in _NO_MAC:
        return "every byte of it is the same"
    if raw[0] & 1:
        return "its group bit is set"
    return None


def _text(raw: bytes) -> str:
    return raw.hex(":")
