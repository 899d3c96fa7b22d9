"""What is a board's own, and whether it still is after a trial: calibration and configuration, by their meaning.
Pure.

Firmware writes to both now and then (a counter, a MAC that it adopts), so bytes that differ are no loss.
"""

from __future__ import annotations

from dataclasses import dataclass

from rig.image import flashmap
from rig.image.contents.calibration import Calibration, read_calibration
from rig.image.contents.openbeken import ObkConfig, read_config

_TELLING = ("short_name", "long_name", "ssid", "mqtt_host", "mqtt_client", "pins", "flags", "startup")


@dataclass(frozen=True)
class Owned:
    """A board's calibration and its configuration; None: it has none."""

    calibration: Calibration | None
    config: ObkConfig | None


def owned(flash: bytes, chip: str) -> Owned:
    """What `flash` holds of it."""
    at, config = flashmap.CALIBRATION[chip], flashmap.OBK_CONFIG[chip]
    return Owned(
        read_calibration(flash[at : at + flashmap.SECTOR]), read_config(flash[config : config + flashmap.SECTOR])
    )


def calibration_kept(before: Owned, now: Owned) -> bool | None:
    """None: there was no sound one to lose."""
    old, new = before.calibration, now.calibration
    if old is None or not old.sound:
        return None
    if new is None or not new.sound or new.mac != old.mac:
        return False
    return {entry.tag: entry.data for entry in new.entries} == {entry.tag: entry.data for entry in old.entries}


def config_kept(before: Owned, now: Owned) -> bool | None:
    """None: there was none to lose, or none that the firmware takes."""
    old, new = before.config, now.config
    if old is None or not old.crc_ok:
        return None
    return new is not None and new.crc_ok and all(getattr(new, name) == getattr(old, name) for name in _TELLING)
