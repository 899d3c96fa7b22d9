"""`rig image`: files made and compared without a board. Here: `provision`, an OpenBeken configuration of one unit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rig.cli import compare
from rig.cli.terminal import err, say, say_json
from rig.errors import ImageRefused, UsageProblem

if TYPE_CHECKING:
    from rig.image.contents.openbeken import ObkConfig
    from rig.image.contents.provision import Provision

app = typer.Typer(
    no_args_is_help=True,
    help="Files made and compared without a board. Example: rig image provision --config p.toml --serial SN1 "
    "--from-dump dump.bin --out sector.bin",
)
app.command("compare", help=compare.HELP)(compare.compare)

PROVISION_HELP = (
    "Write the OpenBeken configuration of one unit: a sector for 0x1D1000, or a copy of a dump with it. "
    "Example: rig image provision --config p.toml --serial SN1 --mac c8:47:8c:01:59:f7 --out sector.bin"
)


@app.command(help=PROVISION_HELP)
def provision(
    config: Annotated[Path, typer.Option(metavar="FILE", help="TOML file with the table [provision].")],
    serial: Annotated[str, typer.Option(help="The unit's serial number.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to make (0600); one that is there is not touched.")],
    mac: Annotated[str | None, typer.Option(help="The unit's MAC; default: the dump's.")] = None,
    from_dump: Annotated[
        Path | None,
        typer.Option(metavar="DUMP", help="The unit's own dump: its MAC, and pins from its Tuya storage."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(metavar="DUMP", help="Make a copy of this OpenBeken dump with the configuration in it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    from rig.files import write_durably
    from rig.image.contents.openbeken import config_sector
    from rig.image.contents.provision import load_provision
    from rig.image.identify import read_image
    from rig.target import check_file

    if out.exists() or out.is_symlink():
        raise UsageProblem(f"{out} is there already, and is not overwritten: name another file")
    check_file(out)
    wanted = load_provision(config)
    base = None if into is None else read_image(into)
    source = base if from_dump is None else read_image(from_dump)
    made, notes = _unit(wanted, serial, mac, source)
    sector = config_sector(made)
    content = sector if base is None or into is None else _placed(base, into.name, sector)
    write_durably(out, content, private=True)
    rows = {"file": str(out), "bytes": len(content), **_described(wanted, made), "notes": list(notes)}
    if as_json:
        say_json(rows)
        return
    _show(rows)


def _unit(wanted: Provision, serial: str, mac: str | None, dump: bytes | None) -> tuple[ObkConfig, tuple[str, ...]]:
    """The unit's configuration, and what there is to say of where it came from."""
    from rig.image import flashmap
    from rig.image.contents.calibration import read_calibration
    from rig.image.contents.template import pin_template
    from rig.image.contents.tuya import read_storage

    notes: list[str] = []
    storage = None if dump is None else read_storage(dump)
    if dump is not None and mac is None:
        calibration = read_calibration(dump[flashmap.CALIBRATION["BK7231N"] :][: flashmap.SECTOR])
        mac = calibration.mac if calibration else None
        if mac is None:
            notes.append("the dump's calibration holds no MAC")
    if storage is not None and storage.problem:
        notes.append(f"Tuya's storage in the dump: {storage.problem}")
    if wanted.pins == "tuya" and storage is not None:
        notes += pin_template(storage).notes
    return wanted.config(serial, mac, storage), tuple(notes)


def _placed(dump: bytes, name: str, sector: bytes) -> bytes:
    """`dump` with the configuration in its place. ImageRefused where it is of no use, or there is no such place."""
    from rig.image.contents.openbeken import OFFSET
    from rig.image.identify import identify

    found = identify(dump)
    if found.firmware != "OpenBeken" or found.chip != "BK7231N":
        raise ImageRefused(f"{name} is {found.what}: only OpenBeken for BK7231N reads this configuration")
    if len(dump) < OFFSET + len(sector):
        raise ImageRefused(
            f"{name} ends at 0x{len(dump):X}, before 0x{OFFSET:X}; filling it up would erase a board's calibration: "
            "take --out without --into, or rig convert --provision"
        )
    return dump[:OFFSET] + sector + dump[OFFSET + len(sector) :]


def _described(wanted: Provision, made: ObkConfig) -> dict[str, Any]:
    """What is set; of secrets, only that they are."""
    from rig.image.contents.openbeken_names import flag_name
    from rig.image.contents.settings import settings

    return {
        "name": made.long_name,
        "short name": made.short_name,
        "mac": made.mac,
        "ssid": made.ssid or None,
        "password": _set(made.password),
        "ssid2": made.ssid2 or None,
        "password2": _set(made.password2),
        "mqtt host": f"{made.mqtt_host}:{made.mqtt_port}" if made.mqtt_host else None,
        "mqtt user": made.mqtt_user or None,
        "mqtt password": _set(made.mqtt_password),
        "mqtt client": made.mqtt_client,
        "mqtt group": made.mqtt_group,
        "web password": _set(made.web_password),
        "pins": [str(pin) for pin in made.pins],
        "flags": [f"{number} {flag_name(number)}" for number in sorted(made.flags)],
        "startup": settings(made).get("startup"),
        "log must say": list(wanted.expected(made)),
    }


def _set(secret: str) -> str | None:
    return "set" if secret else None


def _show(rows: dict[str, Any]) -> None:
    for note in rows.pop("notes"):
        err.print(f"Note: {note}", soft_wrap=True)
    for name, value in rows.items():
        values = value if isinstance(value, list) else [value]
        for at, item in enumerate(values or [None]):
            say(f"{name if at == 0 else '':<14} {'-' if item is None else str(item)}")
