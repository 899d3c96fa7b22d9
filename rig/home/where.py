"""By which address a board can be reached whose MAC is known: the access point's leases, this machine's ARP table."""

from __future__ import annotations

from pathlib import Path

ARP = Path("/proc/net/arp")


def plain(mac: str) -> str:
    """A MAC's twelve digits, however it was written; whatever else it is stays another one."""
    return "".join(char for char in mac.lower() if char not in ":-. ")


def leased(leases: Path | None, mac: str) -> str | None:
    """The newest lease of this MAC in dnsmasq's file: time, MAC, address, name, client a line."""
    found = None
    for words in _rows(leases):
        if len(words) >= 3 and plain(words[1]) == plain(mac):
            found = words[2]
    return found


def resolved(mac: str, table: Path = ARP) -> str | None:
    """The address at which this machine has seen this MAC, by the kernel's ARP table."""
    for words in _rows(table):
        if len(words) >= 4 and words[2] != "0x0" and plain(words[3]) == plain(mac):
            return words[0]
    return None


def _rows(path: Path | None) -> list[list[str]]:
    if path is None:
        return []
    try:
        return [line.split() for line in path.read_text(errors="replace").splitlines()]
    except OSError:
        return []
