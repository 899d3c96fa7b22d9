"""`labgrid:PLACE[@HOST[:PORT]]`: a bench by the place that labgrid knows it as."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass

from rig.errors import UsageProblem

PREFIX = "labgrid:"
PORT = 20408  # labgrid's default. Source: labgrid 26.0, `labgrid-coordinator --help`
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True)
class PlaceSpec:
    """A place and the coordinator that knows it, `HOST:PORT`."""

    place: str
    coordinator: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.place}@{self.coordinator}"

    @property
    def loopback(self) -> bool:
        """Whether the coordinator's address means another machine on another machine."""
        host = self.coordinator.rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def is_place(spec: str) -> bool:
    """Whether `--bench SPEC` means a labgrid place."""
    return spec.startswith(PREFIX)


def parse(spec: str) -> PlaceSpec:
    """The place meant. Without an address: `LG_COORDINATOR`, else this machine. Raises UsageProblem."""
    place, at, address = spec.removeprefix(PREFIX).rpartition("@")
    if not at:
        place, address = address, os.environ.get("LG_COORDINATOR") or "127.0.0.1"
    found = _ADDRESS.fullmatch(address)
    if not place or place != place.strip() or not place.isprintable() or found is None:
        raise UsageProblem(f"--bench {spec}: a shared bench is labgrid:PLACE or labgrid:PLACE@HOST:PORT")
    if found["port"] and not 0 < int(found["port"]) < 65536:
        raise UsageProblem(f"--bench {spec}: there is no port {found['port']}")
    return PlaceSpec(place, f"{found['host']}:{found['port'] or PORT}")
