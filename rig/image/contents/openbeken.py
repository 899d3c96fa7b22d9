"""OpenBeken's configuration: the 3,584 bytes it keeps at 0x1D1000 of a BK7231N, read, written and checked.

Source: mainConfig_t in new_pins.h and new_cfg.c of OpenBeken's sources, versions of 2023 (format 3) and 2026
(format 5); the defaults are, byte for byte, what OpenBeken 1.18.300 itself writes into an empty flash, and what it
does with a wrong checksum was watched as it ran on the executing chip model.

The checksum is a CRC-8 in *signed* arithmetic: the compiler's char is signed on this chip, so a shift to the right
keeps the sign. Tools that compute it with unsigned bytes make configurations that the firmware throws away.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from functools import lru_cache

from rig.image.contents.openbeken_names import role_name
from rig.image.flashmap import OBK_CONFIG, OBK_CONFIG_TAG, SECTOR

OFFSET = OBK_CONFIG["BK7231N"]
SIZE = 0xE00  # bytes, since format 4
OLD_SIZE = 2016  # bytes, up to format 3: a start-up command of 512 bytes, no second network, no web password
VERSION = 5
PINS = 29  # P0 to P28
CHANNELS = 64
DEFAULT_FLAGS = frozenset({10})  # publish its state when MQTT connects

_CRC, _VERSION, _FLAGS, _CHANGES = 3, 4, 8, 0x10
_MQTT_PORT, _MAC = 0x294, 0x2D8
_ROLES, _CHANNEL, _CHANNEL2, _TYPES = 0x33E, 0x35E, 0x37E, 0x39E
_PIN_ROOM = 32
_TEXTS = {  # field: (offset, room in bytes; each ends with a zero byte)
    "ssid": (0x14, 64),
    "password": (0x54, 64),
    "mqtt_host": (0x94, 256),
    "mqtt_client": (0x194, 64),
    "mqtt_user": (0x1D4, 64),
    "mqtt_password": (0x214, 128),
    "short_name": (0x2DE, 32),
    "long_name": (0x2FE, 64),
    "mqtt_group": (0x554, 64),
    "startup": (0x5E0, 1568),
    "ssid2": (0xC00, 64),
    "password2": (0xC40, 68),
    "web_password": (0xC84, 33),
}
_OLD_STARTUP_ROOM = 512
_FILLS_ITS_ROOM = "password"  # the one text that needs no zero byte: a WPA key of 64 digits
SECRETS = ("password", "password2", "mqtt_password", "web_password")


@dataclass(frozen=True)
class PinRole:
    """What one pin does: `pin` 0 to 28, `role` as OpenBeken numbers them, and the channels it works on (0 to 63)."""

    pin: int
    role: int
    channel: int = 0
    channel2: int = 0

    @property
    def name(self) -> str:
        """The role by the name that OpenBeken's pages and commands give it."""
        return role_name(self.role)

    def __str__(self) -> str:
        second = f", {self.channel2}" if self.channel2 else ""
        return f"P{self.pin} {self.name} (channel {self.channel}{second})"


@dataclass(frozen=True)
class ObkConfig:
    """What the rig sets and shows of a configuration; its other bytes are kept in `raw` and survive being rewritten.

    An `ssid` of "" is an access point of its own, with the long name as SSID. `changes`: how often it was saved.
    `crc_ok`: the firmware takes it. `problems`: why the firmware would refuse it, or what it would take wrongly; each
    a sentence. `flags`: numbers of those that are set.
    """

    short_name: str = ""
    long_name: str = ""
    ssid: str = ""
    password: str = field(default="", repr=False)
    ssid2: str = ""
    password2: str = field(default="", repr=False)
    mqtt_host: str = ""
    mqtt_port: int = 1883
    mqtt_user: str = ""
    mqtt_password: str = field(default="", repr=False)
    mqtt_client: str = ""
    mqtt_group: str = ""
    web_password: str = field(default="", repr=False)
    startup: str = ""
    pins: tuple[PinRole, ...] = ()
    flags: frozenset[int] = frozenset()
    mac: str | None = None
    changes: int = 1
    version: int = VERSION
    crc_ok: bool = field(default=True, compare=False)
    problems: tuple[str, ...] = field(default=(), compare=False)
    raw: bytes = field(default=b"", repr=False, compare=False)


def default_config(mac: str) -> ObkConfig:
    """What OpenBeken for BK7231N sets up where it finds no configuration, on a board with this MAC."""
    octets = bytes.fromhex(mac.replace(":", ""))
    tail = octets[2:].hex().upper()
    return ObkConfig(
        short_name=f"obk{tail}",
        long_name=f"OpenBK7231N_{tail}",
        mqtt_client=f"obk{tail}",
        mqtt_user="homeassistant",
        mqtt_password="qqqqqqqqqq",
        mqtt_group="bekens_n",
        flags=DEFAULT_FLAGS,
        mac=_mac(octets),
    )


def read_config(sector: bytes) -> ObkConfig | None:
    """The configuration at the start of these bytes; None where they do not begin with "CFG".

    Never raises and looks at no more than the first 3,584 bytes.
    """
    found = bytes(sector[:SIZE])
    if not found.startswith(OBK_CONFIG_TAG):
        return None
    problems = []
    if len(found) < SIZE:
        problems.append(f"only {len(found):,} of its {SIZE:,} bytes are here")
    raw = found.ljust(SIZE, b"\0")
    version, flags, changes = struct.unpack_from("<iQH", raw, _VERSION)
    crc_ok, why = _checked(raw, version)
    problems += why
    if not 0 < version <= VERSION:
        problems.append(f"its format is {version}, and those known are 1 to {VERSION}")
    texts = {}
    for name, (at, room) in _TEXTS.items():
        if at >= OLD_SIZE and version <= 3:
            texts[name] = ""
            continue
        if name == "startup" and version <= 3:
            room = _OLD_STARTUP_ROOM
        texts[name], ended = _text(raw[at : at + room])
        if not ended and name != _FILLS_ITS_ROOM:
            problems.append(f"its {_words(name)} has no end")
    pins = tuple(
        PinRole(pin, raw[_ROLES + pin], raw[_CHANNEL + pin], raw[_CHANNEL2 + pin])
        for pin in range(PINS)
        if raw[_ROLES + pin]
    )
    octets = raw[_MAC : _MAC + 6]
    return ObkConfig(
        **texts,
        mqtt_port=struct.unpack_from("<i", raw, _MQTT_PORT)[0],
        pins=pins,
        flags=frozenset(number for number in range(64) if flags >> number & 1),
        mac=_mac(octets) if any(octets) else None,
        changes=changes,
        version=version,
        crc_ok=crc_ok,
        problems=tuple(problems),
        raw=raw,
    )


def write_config(config: ObkConfig) -> bytes:
    """The 3,584 bytes of `config`, in format 5, with the checksum that the firmware computes.

    What was read and is unchanged keeps its bytes. Raises ValueError for a text, pin, channel or number that does
    not fit; `rig.image.contents.provision` says so in a sentence before it comes to that.
    """
    before = read_config(config.raw) if config.raw else None
    data = bytearray(config.raw or _blank())
    if before is not None and before.version <= 3:
        data[OLD_SIZE:] = bytes(SIZE - OLD_SIZE)
        if before.version < 3 and not config.mqtt_client:  # as the firmware does with its oldest ones
            config = replace(config, mqtt_client=config.short_name)
    for name, (at, room) in _TEXTS.items():
        text = getattr(config, name)
        if before is not None and text == getattr(before, name):
            continue
        data[at : at + room] = _encoded(name, text, room)
    struct.pack_into("<iQ", data, _VERSION, VERSION, sum(1 << number for number in config.flags))
    struct.pack_into("<H", data, _CHANGES, config.changes)
    struct.pack_into("<i", data, _MQTT_PORT, config.mqtt_port)
    if before is None or config.mac != before.mac:
        data[_MAC : _MAC + 6] = bytes.fromhex(config.mac.replace(":", "")) if config.mac else bytes(6)
    if before is None or config.pins != before.pins:
        _put_pins(data, config.pins)
    data[:3] = OBK_CONFIG_TAG
    data[_CRC] = crc8(bytes(data[_VERSION:]))
    return bytes(data)


def config_sector(config: ObkConfig) -> bytes:
    """The whole flash sector of a configuration: its bytes, and FF behind them as after an erase."""
    return write_config(config).ljust(SECTOR, b"\xff")


def crc8(data: bytes) -> int:
    """OpenBeken's CRC-8 on this chip: reflected 8C, start 0, in signed arithmetic."""
    table, crc = _signed_table(), 0
    for byte in data:
        # A negative byte's sign comes in at its top, shift by shift: after eight of them all of it is ones.
        crc = table[crc ^ byte] ^ (0xFF if byte & 0x80 else 0)
    return crc


def crc8_unsigned(data: bytes) -> int:
    """The same with unsigned bytes (Maxim's CRC-8): right on other chips, and refused on this one."""
    table, crc = _unsigned_table(), 0
    for byte in data:
        crc = table[crc ^ byte]
    return crc


@lru_cache(maxsize=1)
def _signed_table() -> tuple[int, ...]:
    return tuple(_shifted(value, keep=0x80) for value in range(256))


@lru_cache(maxsize=1)
def _unsigned_table() -> tuple[int, ...]:
    return tuple(_shifted(value, keep=0) for value in range(256))


def _shifted(crc: int, keep: int) -> int:
    for _ in range(8):
        odd = crc & 1
        crc = crc >> 1 | crc & keep
        if odd:
            crc ^= 0x8C
    return crc


def _checked(raw: bytes, version: int) -> tuple[bool, list[str]]:
    """Whether the firmware takes it, and what there is to say about its checksum.

    Format 3, and no other, is checked over its 2,016 bytes: 1.18.300 does so; sources since January 2026 do not.
    """
    stored, end = raw[_CRC], OLD_SIZE if version == 3 else SIZE
    right = crc8(raw[_VERSION:end])
    if stored == right:
        return True, []
    if stored == crc8_unsigned(raw[_VERSION:end]):
        why = f"was computed with unsigned bytes; on this chip OpenBeken computes {right:02X}"
    elif version <= 3 and stored == crc8(raw[_VERSION:OLD_SIZE]):
        why = f"covers {OLD_SIZE:,} bytes, as in its day; OpenBeken now computes {right:02X}"
    else:
        why = f"is not the {right:02X} that its content gives"
    return False, [f"its checksum {stored:02X} {why}: the firmware starts with its defaults"]


def _blank() -> bytes:
    """What OpenBeken's defaults hold besides what is in ObkConfig."""
    data = bytearray(SIZE)
    texts = {0x298: b"https://openbekeniot.github.io/webapp/", 0x478: b"217.147.223.78", 0x5A0: b"192.168.0.1"}
    for at, text in texts.items():  # web app, time server, host to ping
        data[at : at + len(text)] = text
    data[0x4B8:0x4BB] = bytes((3, 10, 5))  # short press, long press, repeat while held; tenths of a second
    struct.pack_into("<6f", data, 0x53C, 1.0, 1.0, 1.0, 2.2, 0.1, 0.1)  # light correction
    data[0x597] = 5  # seconds until a boot counts as good
    return bytes(data)


def _put_pins(data: bytearray, pins: tuple[PinRole, ...]) -> None:
    for start in (_ROLES, _CHANNEL, _CHANNEL2):
        data[start : start + _PIN_ROOM] = bytes(_PIN_ROOM)
    for pin in pins:
        if not 0 <= pin.pin < PINS or not (0 <= pin.channel < 256 and 0 <= pin.channel2 < 256):
            raise ValueError(f"{pin} is outside P0 to P{PINS - 1} or its channels")
        data[_ROLES + pin.pin] = pin.role
        data[_CHANNEL + pin.pin] = pin.channel
        data[_CHANNEL2 + pin.pin] = pin.channel2


def _text(raw: bytes) -> tuple[str, bool]:
    """A C string, fit for a terminal whatever its bytes, and whether it ends."""
    content, end, _ = raw.partition(b"\0")
    text = content.decode("utf-8", "backslashreplace")
    shown = "".join(char if char.isprintable() or char in "\r\n\t" else f"\\x{ord(char):02x}" for char in text)
    return shown, bool(end)


def _encoded(name: str, text: str, room: int) -> bytes:
    data = text.encode()
    if len(data) > room - (name != _FILLS_ITS_ROOM) or b"\0" in data:
        raise ValueError(f"{_words(name)}: {len(data)} bytes do not fit into {room}")
    return data.ljust(room, b"\0")


def room_for(name: str) -> int:
    """Bytes that the text field `name` of ObkConfig takes."""
    return _TEXTS[name][1] - (name != _FILLS_ITS_ROOM)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _mac(octets: bytes) -> str:
    return octets.hex(":")
