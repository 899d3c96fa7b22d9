"""Provisioning: what a new OpenBeken board is told before its first boot, as a table of a TOML file.

Names are templates, so that every unit gets its own. Secrets never stand in the file: it says where they are, an
environment variable or a file that only its owner can read. docs/provisioning.md shows it from a user's side.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from rig.errors import UsageProblem
from rig.image.contents.calibration import parse_mac
from rig.image.contents.openbeken import CHANNELS, DEFAULT_FLAGS, PINS, ObkConfig, PinRole, room_for
from rig.image.contents.openbeken_names import FLAG_NUMBERS, FLAGS, ROLE_NUMBERS, ROLES
from rig.image.contents.secret import Secret
from rig.image.contents.template import pin_template
from rig.image.contents.tuya import TuyaStorage
from rig.toml import checked, nearest, read_toml

_FIELDS = ("serial", "unit", "mac", "mac6", "mac8")  # serial and unit are the same; macN: its last N digits
_SSID_ROOM = 32  # bytes of an SSID: the long name is one where no network is set
# A long name is an SSID, a host name and part of JSON; a short one is an MQTT topic and client besides.
_NOT_LONG = re.compile(r"[^A-Za-z0-9 ._-]")
_NOT_SHORT = re.compile(r"[^A-Za-z0-9._-]")
_WPA_KEY = re.compile(r"[0-9a-fA-F]{64}")
_PIN = re.compile(r"P?(\d{1,2})")


def _template(text: str) -> str:
    """A name with fields, checked as far as it can be without a unit."""
    if not text.strip():
        raise ValueError("a name cannot be empty: the firmware's access point would have none")
    try:
        parts = list(Formatter().parse(text))
    except ValueError as problem:
        raise ValueError(f"not a template of a name ({problem})") from None
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if name not in _FIELDS:
            raise ValueError(f"there is no field {{{name}}}; {nearest(name, _FIELDS)}")
        if form or conversion:
            raise ValueError(f"{{{name}}} takes no format")
    return text


def _own_template(text: str) -> str:
    """A name by which a broker tells units apart."""
    if not any(name for _, name, _, _ in Formatter().parse(_template(text))):
        raise ValueError("every unit would be the same MQTT client; put {serial}, {mac}, {mac6} or {mac8} into it")
    return text


def _flag(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < 64:
            return value
        raise ValueError(f"flags are 0 to 63, not {value}")
    number = FLAG_NUMBERS.get(str(value))
    if number is None:
        raise ValueError(f"there is no flag {value!r}; {nearest(str(value), FLAGS)}")
    return number


def _roles(value: object) -> object:
    """`24 = "Rel 1"` or `P24 = "Btn 1 2"`: role, channel, second channel."""
    if not isinstance(value, dict):
        if value == "tuya" or isinstance(value, tuple):
            return value
        raise ValueError('pins are "tuya" (from the board\'s own storage) or a table such as 24 = "Rel 1"')
    roles: dict[int, PinRole] = {}
    for key, text in value.items():
        role = _role(str(key), text)
        if role.pin in roles:
            raise ValueError(f"P{role.pin} is named twice")
        roles[role.pin] = role
    return tuple(roles[pin] for pin in sorted(roles))


def _role(key: str, text: object) -> PinRole:
    pin = _PIN.fullmatch(key)
    if pin is None or int(pin[1]) >= PINS:
        raise ValueError(f"{key!r} is no pin; pins are 0 to {PINS - 1}")
    name, *channels = str(text).replace(";", " ").split() or [""]
    if name.lower() not in ROLE_NUMBERS or name.lower() == "none":
        raise ValueError(f"pin {key}: there is no role {name!r}; {nearest(name, ROLES[1:])}")
    if len(channels) > 2 or not all(channel.isdecimal() and int(channel) < CHANNELS for channel in channels):
        raise ValueError(f"pin {key}: behind the role come one or two channels, 0 to {CHANNELS - 1}, not {text!r}")
    first, second = [*(int(channel) for channel in channels), 0, 0][:2]
    return PinRole(int(pin[1]), ROLE_NUMBERS[name.lower()], first, second)


def _no_line_break(text: str) -> str:
    if any(ord(char) < 0x20 for char in text):
        raise ValueError("no control characters")
    return text


def _bytes(longest: int, least: int = 0) -> AfterValidator:
    def check(text: str) -> str:
        if len(text) < least:
            raise ValueError("it cannot be empty")
        if len(text.encode()) > longest:
            raise ValueError(f"at most {longest} bytes")
        return text

    return AfterValidator(check)


Text = Annotated[str, AfterValidator(_no_line_break)]
Ssid = Annotated[Text, _bytes(_SSID_ROOM, 1)]
Name = Annotated[str, AfterValidator(_template)]
OwnName = Annotated[str, AfterValidator(_own_template)]


_SECRETS = (  # field of ObkConfig, table, key there
    ("password", "wifi", "password"),
    ("password2", "wifi", "password2"),
    ("mqtt_password", "mqtt", "password"),
    ("web_password", "", "web_password"),
)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Wifi(_Table):
    """The network to join, and one to try where that is not there. Without a password a network is open."""

    ssid: Ssid
    password: Secret | None = None
    ssid2: Ssid | None = None
    password2: Secret | None = None


class Mqtt(_Table):
    """The broker. `client` is also the topic that a unit publishes under; without one it is the short name."""

    host: Annotated[Text, Field(min_length=1, pattern=r"^\S+$"), _bytes(room_for("mqtt_host"))]
    port: int = Field(default=1883, ge=1, le=65535)
    user: Annotated[Text, _bytes(room_for("mqtt_user"))] = ""
    password: Secret | None = None
    client: OwnName | None = None
    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$"), _bytes(room_for("mqtt_group"))] = "bekens_n"


class Provision(_Table):
    """The table [provision]. `flags` come on top of the firmware's own; `startup` runs at each boot, behind what the
    pins of a Tuya storage need."""

    name: Name = "OpenBK7231N_{mac8}"
    short_name: OwnName = "obk{mac8}"
    wifi: Wifi | None = None
    mqtt: Mqtt | None = None
    pins: Annotated[Literal["tuya"] | tuple[PinRole, ...], BeforeValidator(_roles)] = ()
    flags: tuple[Annotated[int, BeforeValidator(_flag)], ...] = ()
    startup: Annotated[str, _bytes(room_for("startup"))] = ""
    web_password: Secret | None = None
    _folder: Path = PrivateAttr(default=Path())

    def placed(self, folder: Path) -> Provision:
        """The same, with the files of its secrets named from `folder`: that of the TOML file."""
        self._folder = folder
        return self

    def secrets(self) -> tuple[str, ...]:
        """Every secret it names, read now: what must not be shown. UsageProblem for one that is missing, open to
        others, or that the firmware could not take."""
        return tuple(self._revealed().values())

    def secret_files(self) -> list[Path]:
        """Where those of its secrets are that stand in files."""
        named = (secret.file for _, _, secret in self._named_secrets())
        return [self._folder / Path(file).expanduser() for file in named if file]

    def config(self, serial: str, mac: str | None, storage: TuyaStorage | None) -> ObkConfig:
        """The configuration of one unit. UsageProblem, in a sentence, where its serial number, MAC or storage do not
        give what is asked for."""
        mac = None if mac is None else parse_mac(mac)
        fields = _unit_fields(serial, mac)
        short = _named("short_name", self.short_name, fields, _NOT_SHORT, room_for("short_name"))
        template = self._pins(storage)
        config = ObkConfig(
            short_name=short,
            long_name=_named("name", self.name, fields, _NOT_LONG, _SSID_ROOM),
            mqtt_client=short,
            mqtt_group="bekens_n",
            pins=template[0],
            startup="\n".join(part for part in (template[1], self.startup) if part),
            flags=DEFAULT_FLAGS | frozenset(self.flags),
            mac=mac,
        )
        if len(config.startup.encode()) > room_for("startup"):
            raise UsageProblem(f"the start-up commands take more than {room_for('startup')} bytes")
        if self.wifi is not None:
            config = replace(config, ssid=self.wifi.ssid, ssid2=self.wifi.ssid2 or "")
        if self.mqtt is not None:
            client = self.mqtt.client or self.short_name
            config = replace(
                config,
                mqtt_host=self.mqtt.host,
                mqtt_port=self.mqtt.port,
                mqtt_user=self.mqtt.user,
                mqtt_group=self.mqtt.group,
                mqtt_client=_named("mqtt.client", client, fields, _NOT_SHORT, room_for("mqtt_client")),
            )
        return replace(config, **self._revealed())

    def expected(self, config: ObkConfig) -> tuple[str, ...]:
        """What OpenBeken's log says, within its boot complete marker, where it took `config`.

        Source: OpenBeken 1.18.300 on the executing chip. The long name is told only by its own access point.
        """
        said = ["Correct config has been loaded", f"Using SSID [{config.ssid}]"]
        said.append(f"MQTT_RegisterCallback called for bT {config.mqtt_client}/")
        if not config.ssid:
            said.append(f"ssid:{config.long_name} key:")
        return tuple(said)

    def _pins(self, storage: TuyaStorage | None) -> tuple[tuple[PinRole, ...], str]:
        if self.pins != "tuya":
            return self.pins, ""
        if storage is None:
            raise UsageProblem('pins = "tuya" needs the Tuya storage of the board, and it has none that can be read')
        template = pin_template(storage)
        if not template.pins and not template.startup:
            why = storage.problem or template.notes[0]
            raise UsageProblem(f'pins = "tuya": the board\'s Tuya storage gives no pins ({why})')
        return template.pins, template.startup

    def _revealed(self) -> dict[str, Any]:
        """The secrets by the field of ObkConfig that they belong in."""
        found = {}
        for field, where, secret in self._named_secrets():
            text = secret.reveal(where, self._folder)
            _check_secret(field, where, text)
            found[field] = text
        return found

    def _named_secrets(self) -> Iterator[tuple[str, str, Secret]]:
        for field, table, name in _SECRETS:
            holder = getattr(self, table) if table else self
            secret = getattr(holder, name, None)
            if secret is not None:
                yield field, f"{table}.{name}" if table else name, secret


class _File(_Table):
    provision: Provision


def load_provision(path: Path) -> Provision:
    """The [provision] table of a TOML file of its own. UsageProblem names file, key and mistake, never a secret."""
    return checked(_File, read_toml(path, "provisioning file"), str(path)).provision.placed(path.parent)


def _unit_fields(serial: str, mac: str | None) -> dict[str, str]:
    fields = {"serial": serial, "unit": serial}
    if mac is not None:
        digits = mac.replace(":", "").upper()
        fields |= {"mac": digits, "mac6": digits[-6:], "mac8": digits[-8:]}
    return fields


def _named(what: str, template: str, fields: dict[str, str], bad: re.Pattern[str], longest: int) -> str:
    try:
        name = template.format_map(fields)
    except KeyError as missing:
        raise UsageProblem(
            f"[provision] {what} is {template!r}, and this board's MAC is not known: {{{missing.args[0]}}} stays open"
        ) from None
    if not name.strip() or name != name.strip():
        raise UsageProblem(f"[provision] {what} gives {name!r}, which is empty or begins or ends with a blank")
    wrong = bad.search(name)
    if wrong:
        raise UsageProblem(f"[provision] {what} gives {name!r}: no network or topic is called with {wrong.group()!r}")
    if len(name) > longest:
        raise UsageProblem(f"[provision] {what} gives {name!r}: {len(name)} characters, and {longest} fit")
    return name


def _check_secret(field: str, where: str, text: str) -> None:
    """Of a wrong secret nothing is shown but its length."""
    size = len(text.encode())
    if field.startswith("password") and not (8 <= size <= 63 or _WPA_KEY.fullmatch(text)):
        raise UsageProblem(
            f"[provision] ({where}): WPA passwords have 8 to 63 characters or 64 hex digits, this {size}"
        )
    if size > room_for(field):
        raise UsageProblem(f"[provision] ({where}): {size} bytes, and OpenBeken takes {room_for(field)}")
