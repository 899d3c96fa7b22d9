"""What a labgrid place holds, as a bench: its resources in, a bench file out.

A group with a RigSlot is a slot. Ports, supply and settings come from the place; commands and folders (`LOCAL`) from
the host's own bench file, whose name the RigSlot gives, and from there only: a coordinator that anybody on the
network may talk to must not name a program to start. What both say must agree.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import stat
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from rig.bench.config import BenchConfig, load_bench
from rig.errors import UsageProblem
from rig.labgrid.exporter import FLASH, LOG, SCHEMES, SLOT, SUPPLY
from rig.labgrid.spec import PlaceSpec

Resource = dict[str, Any]
Table = dict[str, Any]
LOCAL = {"bench": ("profiles", "image", "allowed_images"), "slot": ("change",)}  # never from a coordinator
_SLOT_KEYS = ("channel", "product", "baud", "ovp")
_SUPPLY_KEYS = ("dialect", "serial", "amps")
_ENDINGS = re.compile(r"::(SOCKET|RAW|INSTR)$", re.IGNORECASE)
_LOCAL_VISA = ("ASRL", "USB", "GPIB", "PXI")


@dataclass(frozen=True)
class PlaceSlot:
    """One group of a place, its resources by what the rig uses them for."""

    group: str
    slot: Table  # of its RigSlot
    flash: Resource
    log: Resource | None
    supply: Resource

    @property
    def host(self) -> str:
        """The machine that the flash port is plugged into."""
        return str(self.slot.get("host") or self.flash["params"].get("host") or "")


def slots_of(spec: PlaceSpec, resources: list[Resource]) -> list[PlaceSlot]:
    """The slots of a place. Raises UsageProblem: none, or one without a port or a supply, or on several machines."""
    groups: dict[tuple[str, str], list[Resource]] = {}
    for one in resources:
        groups.setdefault((one["exporter"], one["group"]), []).append(one)
    found = [_slot(spec, group, members) for (_, group), members in groups.items() if any(map(_is_slot, members))]
    if not found:
        raise UsageProblem(
            f"place {spec.place} holds no slot of a rig: its exporter's file comes from rig bench export-labgrid; "
            f"then labgrid-client -p {spec.place} add-match '*/BENCH-SLOT/*'"
        )
    hosts = sorted({slot.host for slot in found})
    if len(hosts) > 1:
        raise UsageProblem(
            f"place {spec.place} has slots on several machines ({', '.join(hosts)}): make a place of each machine"
        )
    return found


def _is_slot(resource: Resource) -> bool:
    return bool(resource["cls"] == SLOT)


def _slot(spec: PlaceSpec, group: str, members: list[Resource]) -> PlaceSlot:
    slot = next(filter(_is_slot, members))

    def one(name: str, *classes: str) -> Resource | None:
        fit = [found for found in members if found["name"] == name and found["cls"] in classes]
        return fit[0] if fit else None

    flash, supply = one("flash", FLASH, LOG), one("supply", SUPPLY)
    for what, name in ((flash, "flash"), (supply, "supply")):
        if what is None:
            raise UsageProblem(
                f"place {spec.place}: group {group} has a slot and no resource {name!r}; does the place match all of "
                f"it? labgrid-client -p {spec.place} add-match '*/{group}/*'"
            )
    assert flash is not None
    assert supply is not None
    for what in filter(None, (flash, supply)):
        if not what["avail"]:
            raise UsageProblem(f"place {spec.place}: resource {group}/{what['name']} is away: is it plugged in?")
    return PlaceSlot(group, slot["params"], flash, one("log", LOG), supply)


def is_here(host: str) -> bool:
    """Whether `host` is this machine, by one of its addresses."""
    names = {socket.gethostname(), socket.getfqdn(), "localhost"}
    if host in names:
        return True
    try:
        addresses = {found[4][0] for found in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return any(_is_ours(str(address)) for address in addresses)


def _is_ours(address: str) -> bool:
    kind = socket.AF_INET6 if ipaddress.ip_address(address.partition("%")[0]).version == 6 else socket.AF_INET
    with socket.socket(kind, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def bench_toml(spec: PlaceSpec, found: list[PlaceSlot]) -> str:
    """The bench file of a place's slots, for a run on their host. Raises UsageProblem in one sentence."""
    config = _own_file(spec, found)
    first = found[0].slot
    bench: Table = {"name": str(first.get("bench") or spec.place)}
    supplies: dict[str, Table] = {}
    slots: dict[str, Table] = {}
    witnesses: dict[str, Table] = {}
    records: Table = {}
    if "simulated_speed" in first:
        bench["simulated_speed"] = first["simulated_speed"]
    for one in found:
        name = str(one.slot.get("slot") or one.group)
        supply = str(one.slot.get("supply") or "psu")
        table = {"resource": resource_of(one)} | {k: one.slot[k] for k in _SUPPLY_KEYS if k in one.slot}
        if "cal_due" in one.slot:
            table["cal_due"] = _date(spec, str(one.slot["cal_due"]))
        if supplies.setdefault(supply, table) != table or name in slots:
            raise UsageProblem(f"place {spec.place}: two of its groups call a slot or a supply by one name ({name})")
        slots[name] = {"supply": supply, "flash_port": _path(spec, one)} | _log(spec, one)
        slots[name] |= {key: one.slot[key] for key in _SLOT_KEYS if key in one.slot}
    if config is not None:
        for name, slot in slots.items():
            _agree(spec, config, name, slot, supplies[slot["supply"]])
            own = config.slot[name]
            if "://" not in str(slot.get("log_port", "://")):
                slot["log_port"] = str(own.log_port)  # by its lasting name
            slot |= {key: value for key in LOCAL["slot"] if (value := getattr(own, key)) is not None}
            if own.change and "/" in own.change[0]:
                slot["change"] = [os.path.normpath(config.path.parent / own.change[0]), *own.change[1:]]
            if own.witness is not None:
                slot["witness"] = own.witness
                witnesses[own.witness] = config.witness[own.witness].model_dump(exclude_none=True)
        for key in LOCAL["bench"]:
            if (value := getattr(config.bench, key)) is not None:
                bench[key] = str(config.path.parent / value)
        records = _records(config)
    return _toml({"bench": bench, "supply": supplies, "slot": slots, "witness": witnesses, "records": records})


def _records(config: BenchConfig) -> Table:
    from rig.records.database import url_of

    records = config.records.model_dump(exclude_unset=True, exclude_none=True)
    if config.records.url is not None:
        records["url"] = url_of(Path("runs"), config.records.url, config.path.parent)
    return {
        key: str(config.path.parent / value) if isinstance(value, Path) else value for key, value in records.items()
    }


def _own_file(spec: PlaceSpec, found: list[PlaceSlot]) -> BenchConfig | None:
    """The host's own bench file, where the place names one: of this user or root, and writable by nobody else."""
    named = sorted({str(one.slot["bench_file"]) for one in found if "bench_file" in one.slot})
    if not named:
        return None
    if len(named) > 1:
        raise UsageProblem(f"place {spec.place} has slots of several bench files: {', '.join(named)}")
    path = Path(named[0])
    try:
        status = path.stat()
    except OSError as problem:
        raise UsageProblem(
            f"place {spec.place} names the bench file {path}, which cannot be read ({problem.strerror}): export it "
            "again, as the user who works there"
        ) from None
    if status.st_uid not in (0, os.getuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageProblem(
            f"{path} names commands that a run starts, so it must be yours or root's and writable by nobody else"
        )
    return load_bench(path)


def _agree(spec: PlaceSpec, config: BenchConfig, name: str, slot: Table, supply: Table) -> None:
    """UsageProblem where the exporter's file is older than the bench file."""
    own = config.slot.get(name)
    if own is None:
        raise UsageProblem(f"place {spec.place} has slot {name}, which is not in {config.path}: export that again")
    theirs = config.supply[own.supply]
    told = {key: slot[key] for key in _SLOT_KEYS if key in slot} | {"supply": slot["supply"]}
    said: dict[str, tuple[object, object]] = {key: (value, getattr(own, key)) for key, value in told.items()}
    said |= {key: (supply.get(key), getattr(theirs, key)) for key in (*_SUPPLY_KEYS, "cal_due")}
    said["resource"] = (_whole(supply["resource"]), _whole(theirs.resource))
    said["flash_port"] = (os.path.realpath(slot["flash_port"]), os.path.realpath(own.flash_port))
    if (log := slot.get("log_port")) is not None and "://" not in log and "://" not in (own.log_port or "://"):
        said["log_port"] = (os.path.realpath(log), os.path.realpath(str(own.log_port)))
    for key, (exported, there) in said.items():
        if exported != there:
            raise UsageProblem(
                f"place {spec.place}: {key} of slot {name} is {exported} in labgrid and {there} in {config.path}: "
                "run rig bench export-labgrid again and restart the exporter"
            )


def resource_of(slot: PlaceSlot) -> str:
    """The VISA resource of a slot's supply. Raises UsageProblem for one at another machine's own connectors."""
    params = slot.supply["params"]
    resource = "::".join(filter(None, (str(params["type"]), str(params["url"]))))
    resource = resource if _ENDINGS.search(resource) else f"{resource}::INSTR"
    if slot.supply["exporter"] != slot.flash["exporter"]:
        host = resource.split("::")[1]
        if resource.upper().startswith(_LOCAL_VISA) or host == "localhost" or host.startswith("127."):
            raise UsageProblem(
                f"the supply {resource} of group {slot.group} is connected to another machine than the flash port: "
                "use its network connection, or plug it into the same machine"
            )
    return resource


def _whole(resource: str) -> str:
    return resource if _ENDINGS.search(resource) else f"{resource}::INSTR"


def _path(spec: PlaceSpec, slot: PlaceSlot) -> str:
    params, extra = slot.flash["params"], slot.flash["extra"]
    path = params.get("path") or extra.get("path")
    if not path:
        raise UsageProblem(f"place {spec.place}: the flash port of group {slot.group} has no path on its machine")
    return str(path)


def _log(spec: PlaceSpec, slot: PlaceSlot) -> Table:
    """The log port: by its device where it is on the flash port's machine, else over the network."""
    if slot.log is None:
        return {}
    params, extra = slot.log["params"], slot.log["extra"]
    if slot.log["exporter"] == slot.flash["exporter"] and extra.get("path"):
        return {"log_port": str(extra["path"])}
    if extra.get("proxy_required"):
        raise UsageProblem(
            f"place {spec.place}: the log port of group {slot.group} is behind an isolated exporter; start that one "
            "without --isolated"
        )
    if not params.get("port"):
        raise UsageProblem(f"place {spec.place}: the log port of group {slot.group} is away: is it plugged in?")
    schemes = {protocol: scheme for scheme, protocol in SCHEMES.items()}
    scheme = schemes.get(str(params.get("protocol", "rfc2217")), "rfc2217")
    # not every port behind ser2net answers for its modem lines, and a log needs none
    options = "?ign_set_control" if scheme == "rfc2217" else ""
    return {"log_port": f"{scheme}://{params['host']}:{params['port']}{options}"}


def _date(spec: PlaceSpec, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageProblem(f"place {spec.place}: cal_due is {text!r}: this must be a date") from None


def _toml(tables: dict[str, Table]) -> str:
    """`bench` and `records` are tables, the others hold tables by name."""
    rows = []
    for kind, table in tables.items():
        named = {"": table} if kind in ("bench", "records") else table
        for name, content in named.items():
            if content:
                rows.append(f"[{kind}.{json.dumps(name, ensure_ascii=False)}]" if name else f"[{kind}]")
                rows += [f"{key} = {_value(value)}" for key, value in content.items()]
    return "\n".join(rows) + "\n"


def _value(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else json.dumps(value, ensure_ascii=False)
