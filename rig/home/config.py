"""[home]: the network that units are met in after they were converted, as a table of a TOML file or a product.

Secrets never stand in it, only where they are. docs/home.md shows it from a user's side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from rig.errors import UsageProblem
from rig.image.contents.openbeken_names import FLAG_NUMBERS
from rig.image.contents.provision import Mqtt, Name, Provision, Text, Wifi
from rig.image.contents.secret import Secret
from rig.toml import checked, read_toml

ANNOUNCES: Final = "automatic-hass-discovery"  # the flag by which OpenBeken announces itself unasked
Seconds = Annotated[float, Field(gt=0, le=600)]
Channel = Annotated[int, Field(ge=0, le=63)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class HomeBroker(_Table):
    """The MQTT broker, as the rig reaches it and as the units do. `prefix`: Home Assistant's discovery topic."""

    host: Annotated[Text, Field(min_length=1, pattern=r"^\S+$")]
    port: int = Field(default=1883, ge=1, le=65535)
    user: Text = ""
    password: Secret | None = None
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")] = "homeassistant"


class Home(_Table):
    """The table [home].

    `wifi`: what units are told that have no provisioning of their own. `relays`: channels that must be there; None:
    those that the unit announces. `discovery`: whether it must announce itself, or may be asked to. `name`: the long
    name that it is given over the network. `join`, `answer`: seconds. `interface`: of the access point, in this
    machine. `leases`: dnsmasq's file. `own_ap`: where a unit answers that opened an access point of its own.
    `stand_in`: on a simulated bench, which has no radio, something stands in for the boards at the broker.
    """

    broker: HomeBroker
    wifi: Wifi | None = None
    relays: tuple[Channel, ...] | None = None
    discovery: Literal["ask", "itself"] = "ask"
    name: Name | None = None
    join: Seconds = 60.0
    answer: Seconds = 15.0
    interface: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,15}$")] | None = None
    leases: Path | None = None
    own_ap: str = "192.168.4.1"  # Source: OpenBeken's own access point
    http_port: int = Field(default=80, ge=1, le=65535)
    stand_in: bool = False
    _folder: Path = PrivateAttr(default=Path())

    def placed(self, folder: Path) -> Home:
        """The same, with the files it names counted from `folder`: that of the TOML file."""
        self._folder = folder
        return self

    @property
    def lease_file(self) -> Path | None:
        return None if self.leases is None else self._folder / self.leases

    def broker_password(self) -> str:
        """UsageProblem for a secret that is missing, or open to others."""
        secret = self.broker.password
        return "" if secret is None else secret.reveal("broker.password", self._folder, "home")

    def secrets(self) -> tuple[str, ...]:
        """Every secret that it names, read now: what must be shown nowhere."""
        found = [self.broker_password()]
        if self.wifi is not None:
            for key in ("password", "password2"):
                secret = getattr(self.wifi, key)
                found.append("" if secret is None else secret.reveal(f"wifi.{key}", self._folder, "home"))
        if (own := self.as_provision()) is not None:
            found += own.secrets()  # whether OpenBeken could take them
        return tuple(dict.fromkeys(text for text in found if text))

    def secret_files(self) -> list[Path]:
        """Where those of its secrets are that stand in files."""
        wifi = () if self.wifi is None else (self.wifi.password, self.wifi.password2)
        named = (secret.file for secret in (self.broker.password, *wifi) if secret is not None)
        return [self._folder / Path(file).expanduser() for file in named if file]

    def as_provision(self) -> Provision | None:
        """What a unit is told that has no provisioning of its own; None where this says nothing of a network."""
        if self.wifi is None:
            return None
        broker = self.broker
        mqtt = Mqtt(host=broker.host, port=broker.port, user=broker.user, password=broker.password)
        made = Provision(wifi=self.wifi, mqtt=mqtt, flags=(FLAG_NUMBERS[ANNOUNCES],))
        return made.placed(self._folder)


class _File(_Table):
    home: Home


def load_home(path: Path) -> Home:
    """The [home] table of a TOML file of its own. UsageProblem names file, key and mistake, never a secret."""
    return checked(_File, read_toml(path, "home file"), str(path)).home.placed(path.parent)


def home_of(own: Home | None, path: Path | None, *, off: bool = False) -> Home | None:
    """The file's [home], else the product's `own`; None with `off`. UsageProblem for a file that is none."""
    if off and path is not None:
        raise UsageProblem("--home and --no-home: give one of the two")
    if off:
        return None
    return own if path is None else load_home(path)


def check_home(home: Home, provision: Provision | None, *, converts: bool) -> tuple[str, ...]:
    """Its secrets, once units would come into this network and to this broker. UsageProblem where they would not:
    `provision` is what they are told, where they are converted."""
    secrets = home.secrets()
    if not converts:
        return secrets
    if provision is None or provision.wifi is None:
        raise UsageProblem(
            "[home] meets units in a network, and nothing tells them which: give --provision, or ssid and password "
            "in [home.wifi]"
        )
    if provision.mqtt is None:
        raise UsageProblem("[home] meets units at a broker, and the provisioning names none: add [provision.mqtt]")
    known = (provision.wifi.ssid, provision.wifi.ssid2)
    if home.wifi is not None and home.wifi.ssid not in known:
        raise UsageProblem(
            f"the station's access point is {home.wifi.ssid!r} by [home.wifi], and the provisioning sends units to "
            f"{provision.wifi.ssid!r}: give the access point that name, or make it ssid2 of the provisioning"
        )
    return secrets
