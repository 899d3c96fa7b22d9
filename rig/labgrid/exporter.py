"""A bench.toml as the configuration of a labgrid exporter: one group a slot.

    bench-1-A:
      flash:  RigFlashPort    where UART1 is; it is not served over the network
      log:    RawSerialPort   UART2; served by ser2net while a place that holds it is acquired
      supply: PyVISADevice    the instrument
      slot:   RigSlot         the rest of the slot, in plain numbers and texts

labgrid hands classes that it does not know through as they are. Source: labgrid 26.0, `remote/exporter.py`. Commands
and folders of the bench file stay on their host (`place.LOCAL`): what comes from a coordinator may name none.
"""

from __future__ import annotations

import json
import os
import re
from urllib.parse import urlsplit

from rig.bench.config import BenchConfig, SlotTable, SupplyTable
from rig.errors import UsageProblem

FLASH, SLOT, LOG, SUPPLY = "RigFlashPort", "RigSlot", "NetworkSerialPort", "PyVISADevice"
SCHEMES = {"rfc2217": "rfc2217", "socket": "raw"}  # pyserial's URLs by labgrid's protocols
_PLAIN = re.compile(r"[^A-Za-z0-9_.-]+")
Value = str | int | float | bool
Group = dict[str, dict[str, Value]]

_HEAD = """\
## A labgrid exporter's configuration, made by `rig bench export-labgrid` from
## {path}
## Made again after every change there: a run at a place refuses what no longer agrees. Comments begin with two #:
## behind a single one at the beginning of a line the exporter looks for a statement of its template language.
"""


def exporter_yaml(config: BenchConfig) -> str:
    """The whole file. Raises UsageProblem for what labgrid cannot export."""
    rows = [_HEAD.format(path=config.path)]
    for name, group in groups(config).items():
        rows.append(f"{json.dumps(name)}:")
        for resource, params in group.items():
            rows.append(f"  {resource}:")
            rows += [f"    {key}: {_scalar(config, value)}" for key, value in params.items()]
    return "\n".join(rows) + "\n"


def _scalar(config: BenchConfig, value: Value) -> str:
    text = json.dumps(value)  # a JSON scalar is a YAML one
    if value != "{{ hostname }}" and re.search(r"\{\{|\{%|\{#", text):
        raise UsageProblem(f"{config.path}: {value!r} would be a template in an exporter's file: rename it")
    return text


def groups(config: BenchConfig) -> dict[str, Group]:
    """The resources of every slot, by the group's name."""
    found: dict[str, Group] = {}
    for name, slot in config.slot.items():
        group = group_name(config, name)
        if group in found:
            raise UsageProblem(f"{config.path}: slot {name} would be group {group} in labgrid, as another one is")
        found[group] = _group(config, name, slot, config.supply[slot.supply])
    return found


def group_name(config: BenchConfig, slot: str) -> str:
    """What labgrid calls a slot: bench and slot, of letters that a match pattern takes."""
    return _PLAIN.sub("-", f"{config.bench.name}-{slot}").strip("-")


def _group(config: BenchConfig, name: str, slot: SlotTable, supply: SupplyTable) -> Group:
    group: Group = {"flash": {"cls": FLASH, "path": slot.flash_port}}
    if slot.log_port is not None:
        group["log"] = _log(config, name, slot.log_port)
    kind, _, rest = supply.resource.partition("::")
    rest = re.sub(r"(::)?INSTR$", "", rest, flags=re.IGNORECASE)
    group["supply"] = {"cls": SUPPLY, "type": kind, "url": rest}  # labgrid's own driver adds ::INSTR
    told: dict[str, Value | None] = {
        "cls": SLOT,
        "host": "{{ hostname }}",  # the exporter's, as it tells it to labgrid's clients
        "bench_file": str(config.path),
        "bench": config.bench.name,
        "simulated_speed": config.bench.simulated_speed,
        "slot": name,
        "supply": slot.supply,
        "channel": slot.channel,
        "product": slot.product,
        "baud": slot.baud,
        "ovp": slot.ovp,
        "dialect": supply.dialect,
        "serial": supply.serial,
        "amps": supply.amps,
        "cal_due": supply.cal_due.isoformat() if supply.cal_due else None,
    }
    group["slot"] = {key: value for key, value in told.items() if value is not None}
    return group


def _log(config: BenchConfig, name: str, port: str) -> dict[str, Value]:
    if "://" in port:
        url = urlsplit(port)
        if url.scheme not in SCHEMES or url.hostname is None or url.port is None:
            raise UsageProblem(
                f"{config.path}: slot {name}'s log port {port} cannot be shared: labgrid knows devices, rfc2217:// "
                "and socket://"
            )
        protocol = SCHEMES[url.scheme]
        return {"cls": LOG, "host": url.hostname, "port": url.port, "protocol": protocol, "speed": 115200}
    device = port if port.startswith("/dev/") else os.path.realpath(port)
    if not device.startswith("/dev/"):
        raise UsageProblem(
            f"{config.path}: slot {name}'s log port {port} is no device under /dev, and labgrid exports no others"
        )
    return {"cls": "RawSerialPort", "port": device, "speed": 115200}
