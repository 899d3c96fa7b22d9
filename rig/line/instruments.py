"""What took part in a run: instruments as they say themselves, and profiles by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rig.bench.bench import Bench, Slot
from rig.bench.slot import lease_slot
from rig.errors import RigError
from rig.records.events import Instrument
from rig.supply.client import Standby

_BUILT_IN = Path(__file__).resolve().parent.parent


def instruments_of(slots: Sequence[Slot], standby: Standby) -> list[Instrument]:
    """Each supply once; its service stands by from now on. One that does not answer now is named as the bench file
    knows it: its units will say why."""
    found: dict[str, Instrument] = {}
    for slot in slots:
        name = slot.table.supply
        if name in found:
            continue
        known = Instrument(name=name, serial=slot.supply.serial, cal_due=slot.supply.cal_due)
        try:
            with lease_slot(slot, "asking who it is") as channel:
                standby.keep(channel)
                told = channel.instrument
        except RigError:
            found[name] = known
            continue
        found[name] = known.model_copy(update={"identity": told.idn, "serial": told.serial or known.serial})
    return list(found.values())


def profiles_of(bench: Bench, slots: Sequence[Slot]) -> dict[str, str]:
    """Names like `product ds-121` -> sha256 of the file that says so, users' own before built-in ones."""
    wanted = {("products", slot.product.name) for slot in slots}
    wanted |= {("firmwares", name) for slot in slots for name in slot.product.firmware}
    wanted |= {("dialects", slot.supply.dialect) for slot in slots if slot.supply.dialect}
    found = {}
    for kind, name in sorted(wanted):
        path = _file_of(bench, kind, name)
        if path is not None:
            found[f"{kind[:-1]} {name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _file_of(bench: Bench, kind: str, name: str) -> Path | None:
    built_in = {"dialects": _BUILT_IN / "supply" / "dialects"}.get(kind, _BUILT_IN / kind)
    for folder in (*bench.profiles(kind), built_in):
        if (path := folder / f"{name}.toml").is_file():
            return path
    return None
