"""OpenBeken's page /index, read for what it says of itself.

Only this page tells version and reset cause truly. The Tasmota-style `Status 0` is mostly constants (RestartReason
"HardwareWatchdog", BootCount 22) and is never asked for them. Source: the sources of OpenBeken, and the texts in the
image of 1.18.300.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

POWER_ON: Final = 0
RESTARTED: Final = 1
_CAUSES: Final = {  # Source: the SDK's reset sources, as OpenBeken's page numbers them
    POWER_ON: "power-on",
    RESTARTED: "restart",
    2: "watchdog",
    3: "woken by a pin",
    4: "woken by its timer",
    5: "crash",
    6: "undefined instruction",
    7: "prefetch abort",
    8: "data abort",
}

_TITLE = re.compile(r"<title>([^<]*)</title>")
_BUILT = re.compile(r"Built on ([^<]{1,60}?) version ([^\s<]{1,40})")
_CAUSE = re.compile(r"Reboot reason: (\d{1,3}) - ")
_MAC = re.compile(r"Device MAC: ((?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2})")
_SHORT = re.compile(r"Short name: ([^<]*?), Chipset ([^\s<]+)")
_UPTIME = re.compile(r'id="onlineFor" data-initial="(\d{1,9})"')
_INCOMPLETE = re.compile(r"incomplete boots: (\d{1,6})")
_SAFE = "You are in safe mode"
_CHANNEL = re.compile(r"Channel (\d{1,2}) = (-?\d+(?:\.\d+)?)")
_RSSI = re.compile(r"\((-\d{1,3})dBm\)")
_MQTT = re.compile(r"MQTT State: (?:<span[^>]*>)?([^<]{1,40})")


@dataclass(frozen=True)
class Page:
    """What the page says. `cause`: number of the last reset's; `uptime`: seconds; `channels`: their values."""

    name: str
    version: str
    cause: int
    mac: str | None = None
    short_name: str | None = None
    chipset: str | None = None
    uptime: int | None = None
    incomplete_boots: int | None = None
    safe_mode: bool = False
    channels: Mapping[int, float] = field(default_factory=dict)
    rssi: int | None = None
    mqtt: str | None = None

    @property
    def cause_said(self) -> str:
        return _CAUSES.get(self.cause, f"cause {self.cause}")


def parse_page(text: str) -> Page | None:
    """The page; None for any other one: without a title, build and reset cause it is not OpenBeken's /index."""
    title, built, cause = _TITLE.search(text), _BUILT.search(text), _CAUSE.search(text)
    if title is None or built is None or cause is None:
        return None
    mac, short, uptime = _MAC.search(text), _SHORT.search(text), _UPTIME.search(text)
    incomplete, rssi, mqtt = _INCOMPLETE.search(text), _RSSI.search(text), _MQTT.search(text)
    return Page(
        name=html.unescape(title[1]).strip(),
        version=built[2],
        cause=int(cause[1]),
        mac=mac[1].lower() if mac else None,
        short_name=html.unescape(short[1]) if short else None,
        chipset=short[2] if short else None,
        uptime=int(uptime[1]) if uptime else None,
        incomplete_boots=int(incomplete[1]) if incomplete else None,
        safe_mode=_SAFE in text,
        channels={int(hit[1]): float(hit[2]) for hit in _CHANNEL.finditer(text)},
        rssi=int(rssi[1]) if rssi else None,
        mqtt=mqtt[1].strip() if mqtt else None,
    )
