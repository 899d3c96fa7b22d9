"""`rig bench check|list|init`: is the bench safe and wired; what is connected; write a bench.toml."""

from __future__ import annotations

import glob
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from serial.tools.list_ports import comports

from rig.bench.bench import Bench, Slot, open_bench, read_bench
from rig.bench.slot import check_alone, check_calibration, check_ports, slot_lock
from rig.bench.witness import check_witness
from rig.cli.terminal import err, out, say, say_json
from rig.errors import Exit, RigError, UsageProblem
from rig.files import write_durably
from rig.flashers.speed import latency_advice
from rig.line.loading import MAINS
from rig.supply import client
from rig.target import check_file

app = typer.Typer(no_args_is_help=True, help="The bench itself. Example: rig bench check --bench bench.toml")

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command(
    help="Walk every supply's dialect with outputs off, open every port. Example: rig bench check --bench b.toml"
)
def check(
    bench: Annotated[str, typer.Option(help="Bench file, or sim.")] = "bench.toml",
    slot: Annotated[list[str] | None, typer.Option(help="Only these slots.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every line that was sent.")] = False,
    as_json: JsonOption = False,
) -> None:
    with open_bench(bench) as opened:
        slots = [opened.slot(name) for name in slot] if slot else list(opened.slots.values())
        results = [_check_slot(opened, place) for place in slots]
    code = max((result["exit_code"] for result in results), default=0)
    if as_json:
        say_json(results)
    else:
        _show(results, verbose)
    raise typer.Exit(code)


def _check_slot(bench: Bench, slot: Slot) -> dict[str, Any]:
    """One slot's findings; the first that is wrong ends it."""
    result: dict[str, Any] = {"slot": slot.name, "product": slot.product.name, "mains": slot.product.mains}
    try:
        with slot_lock(slot):
            check_calibration(slot)
            instrument, probe = client.check(
                slot.supply.resource,
                slot.table.channel,
                dialect=slot.supply.dialect,
                serial=slot.supply.serial,
                dialect_dirs=slot.dialect_dirs,
            )
            result |= {"supply": instrument.idn, "dialect": probe["dialect"], "rows": probe["rows"]}
            result["verdict"] = probe["verdict"]
            if probe["together"]:
                check_alone(instrument.model, slot)
            check_ports(slot)
        notes = []
        if (witness := check_witness(slot)) is not None:
            result["witness"] = witness
            notes.append(witness)
        if (study := slot.product.supply.study) is not None:
            result["supply_study"] = study.model_dump(mode="json")
            notes.append(str(slot.product.supply.cited))
        if slot.table.log_port is None:
            notes.append("no log port: a boot cannot be proven")
        if slot.table.ovp == "none":
            notes.append("no over-voltage protection: nothing but the set volts stands between supply and board")
        if slow := latency_advice(slot.table.flash_port):
            notes.append(slow)
        result["notes"] = notes
        result["exit_code"] = int(Exit.GOOD if probe["good"] else Exit.BLOCKED)
    except RigError as problem:
        result["verdict"] = str(problem)
        result["exit_code"] = int(problem.exit_code)
    return result


def _show(results: list[dict[str, Any]], verbose: bool) -> None:
    for result in results:
        mark = "ok" if result["exit_code"] == 0 else "NOT OK"
        say(f"slot {result['slot']} ({result['product']}): {mark}. {result['verdict']}")
        if "supply" in result:
            say(f"  supply {result['supply']}, dialect {result['dialect']}")
        for note in result.get("notes", []):
            say(f"  note: {note}")
        if verbose and "rows" in result:
            table = Table("entry", "sent", "reply", "ms", "problem", box=None)
            for row in result["rows"]:
                table.add_row(row["entry"], row["sent"], row["reply"], f"{row['ms']:.1f}", row["problem"])
            out.print(table)
    if any(result["mains"] for result in results):
        say(f"Before any board is loaded: {MAINS}")


@app.command("list", help="Serial ports and VISA resources that are connected. Example: rig bench list")
def list_(
    visa: Annotated[bool, typer.Option(help="Also look for VISA instruments (takes seconds).")] = False,
    as_json: JsonOption = False,
) -> None:
    ports = [{"port": _stable(port.device), "device": port.device, "what": port.description} for port in comports()]
    resources: list[str] = []
    if visa:
        resources = _instruments()
    if as_json:
        say_json({"ports": ports, "resources": resources})
        return
    for row in ports:
        say(f"{row['port']}  {row['what']}")
    for resource in resources:
        say(resource)
    if not ports and not resources:
        say("Nothing found: no serial port is connected" + ("" if visa else "; --visa also looks for instruments"))
    if visa:
        err.print(
            "Many instruments on a network do not answer a search: the address of one that is missing here stands in "
            "its own menu, and goes into bench.toml as TCPIP::ADDRESS::PORT::SOCKET.", soft_wrap=True,
        )  # fmt: skip


def _instruments() -> list[str]:
    """VISA resources. What the search could find with more packages is said in one sentence instead of warnings."""
    import pyvisa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pyvisa.ResourceManager("@py").list_resources("?*")
    return [each for each in found if not each.startswith("PRLGX")]  # any port might have such an adaptor


def _stable(device: str) -> str:
    """The port by its physical place: the only name that survives adaptors without serial numbers."""
    for link in glob.glob("/dev/serial/by-path/*"):
        if Path(link).resolve() == Path(device).resolve():
            return link
    return device


@app.command(
    "export-labgrid",
    help="Write a labgrid exporter's configuration of this bench. "
    "Example: rig bench export-labgrid --bench bench.toml --out exporter.yaml",
)
def export_labgrid(
    bench: Annotated[Path, typer.Option(help="Bench file.")] = Path("bench.toml"),
    out_file: Annotated[Path | None, typer.Option("--out", help="Where to write it; default: on stdout.")] = None,
) -> None:
    from rig.labgrid.exporter import exporter_yaml, groups

    config = read_bench(bench).config
    text = exporter_yaml(config)
    if out_file is None:
        out.print(text, end="", markup=False, highlight=False, soft_wrap=True)
        return
    write_durably(out_file, text)
    say(f"Wrote {out_file}. On this machine: labgrid-exporter --coordinator HOST:PORT {out_file.absolute()}")
    say("Once, a place for each slot that is lent apart:")
    for group in groups(config):
        say(f"  labgrid-client -p {group} create; labgrid-client -p {group} add-match '*/{group}/*'")


_TEMPLATE = """\
# A bench for the rig. The boards are mains switches: work on them only unplugged from the mains.
[bench]
name = "bench-1"

[supply.psu1]
resource = "{resource}"      # any VISA resource; LAN: TCPIP::ADDRESS::5025::SOCKET (Keysight), ::5555:: (Rigol)
# dialect = "keysight-e36300"       # else chosen by what the instrument says it is
# serial = "MY12345678"             # refuse another instrument

[slot.A]
supply = "psu1"
channel = 1
flash_port = "{flash}"       # UART1: module pads RX1, TX1
log_port = "{log}"           # UART2: module pad TX2
baud = 921600
product = "ds-121"
ovp = "supply"                      # or "none" for a supply without over-voltage protection
# change = ["./feeder", "next"]     # command that puts the next board in; else you are asked
"""


@app.command(help="Write a bench.toml to fill in. Example: rig bench init bench.toml")
def init(file: Annotated[Path, typer.Argument()] = Path("bench.toml")) -> None:
    if file.exists():
        raise UsageProblem(f"{file} is there already: it is not replaced")
    check_file(file)
    ports = [_stable(port.device) for port in comports()] + ["/dev/serial/by-path/FLASH", "/dev/serial/by-path/LOG"]
    write_durably(file, _TEMPLATE.format(resource="TCPIP::192.168.1.50::5025::SOCKET", flash=ports[0], log=ports[1]))
    say(f"Wrote {file}: fill in supply and ports, then: rig bench check --bench {file}")
    say(f"Before any board is loaded: {MAINS}")
