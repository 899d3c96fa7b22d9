"""An OpenBeken configuration as names and values for a person: secrets only as there or not."""

from __future__ import annotations

from rig.image.contents.openbeken import SECRETS, ObkConfig
from rig.image.contents.openbeken_names import flag_name
from rig.scrub import scrub

_TEXTS = (
    "short_name", "long_name", "ssid", "ssid2", "mqtt_host", "mqtt_user", "mqtt_client", "mqtt_group",
)  # fmt: skip
PRESENT = "present"


def settings(config: ObkConfig) -> dict[str, str]:
    """What it sets, by name; what is empty is left out, of a secret is only said that it is there."""
    found = {_words(name): str(getattr(config, name)) for name in _TEXTS}
    found |= dict.fromkeys(secrets(config), PRESENT)
    found["startup"] = scrub(config.startup)
    found["mqtt port"] = str(config.mqtt_port) if config.mqtt_host else ""
    found["mac"] = config.mac or ""
    found["flags"] = ", ".join(flag_name(number) for number in sorted(config.flags))
    found |= {"format": str(config.version), "saved": f"{config.changes} times"}
    return {name: value for name, value in found.items() if value}


def secrets(config: ObkConfig) -> dict[str, str]:
    """The secrets in it, by name; a start-up command is one where it sets a password."""
    found = {_words(name): getattr(config, name) for name in SECRETS if getattr(config, name)}
    return found | ({"startup": config.startup} if scrub(config.startup) != config.startup else {})


def _words(name: str) -> str:
    return name.replace("_", " ")
