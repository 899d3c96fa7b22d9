"""What a device tells Home Assistant of itself: one message an entity, at PREFIX/COMPONENT/ID/config.

Source: Home Assistant's MQTT discovery, long keys and abbreviated ones; OpenBeken uses the abbreviated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

_LONG: Final = {
    "unique_id": "uniq_id",
    "state_topic": "stat_t",
    "command_topic": "cmd_t",
    "availability_topic": "avty_t",
    "payload_on": "pl_on",
    "payload_off": "pl_off",
    "device": "dev",
}
_OF_DEVICE: Final = {"identifiers": "ids", "configuration_url": "cu", "sw_version": "sw"}
_SWITCHED: Final = ("switch", "light")


@dataclass(frozen=True)
class Entity:
    """One entity. Topics are whole; `on` and `off`: what is sent and reported. `device`: the device's name there.
    `problems`: why Home Assistant would not take it, or could not switch it."""

    component: str
    unique_id: str
    base: str
    state: str = ""
    command: str = ""
    on: str = "ON"
    off: str = "OFF"
    device: str = ""
    problems: tuple[str, ...] = ()

    @property
    def channel(self) -> int | None:
        """Of OpenBeken's channels, the one that a switch is: told at BASE/CHANNEL/set, its state is at
        BASE/CHANNEL/get. Under no other topic is anything switched, whoever announced it."""
        number = self.state.removeprefix(f"{self.base}/").partition("/")[0]
        topics = (f"{self.base}/{number}/get", f"{self.base}/{number}/set")
        own = self.component == "switch" and number.isdecimal() and (self.state, self.command) == topics
        return int(number) if own else None


def parse_discovery(prefix: str, topic: str, payload: str) -> Entity | None:
    """The entity of a message; None where the topic is none of discovery's, or the message takes an entity away."""
    parts = topic.split("/")
    if len(parts) < 4 or parts[0] != prefix or parts[-1] != "config" or not payload.strip():
        return None
    try:
        told = json.loads(payload)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        return Entity(parts[1], parts[-2], "", problems=("its message is no JSON object",))
    return _entity(parts[1], parts[-2], _short(told, _LONG))


def _entity(component: str, at: str, told: dict[str, Any]) -> Entity:
    base = _text(told.get("~"))

    def topic(key: str) -> str:
        text = _text(told.get(key))
        if text.startswith("~"):
            return base + text[1:]
        return text[:-1] + base if text.endswith("~") else text

    device = told.get("dev")
    device = _short(device, _OF_DEVICE) if isinstance(device, dict) else {}
    problems = [f"it has no {key}" for key in ("uniq_id",) if not _text(told.get(key))]
    if not device.get("ids"):
        problems.append("it belongs to no device")
    if component in _SWITCHED:
        problems += [f"it has no {key}" for key in ("cmd_t", "stat_t") if not topic(key)]
    return Entity(
        component,
        _text(told.get("uniq_id")) or at,
        base,
        topic("stat_t"),
        topic("cmd_t"),
        _text(told.get("pl_on")) or "ON",
        _text(told.get("pl_off")) or "OFF",
        _text(device.get("name")),
        tuple(problems),
    )


def _short(told: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in told.items()}


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
