"""bench.toml: the one file by which a real bench differs from a simulated one, or from another."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from rig.errors import UsageProblem
from rig.image.planning.trust import Allowed, load_allowed
from rig.toml import checked, nearest, read_toml


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class BenchTable(_Table):
    name: str
    profiles: Path | None = None  # folder of users' own dialects/, witnesses/, products/, firmwares/, flashers/
    image: Path | None = None  # what `rig convert` writes when no --image is given
    allowed_images: Path | None = None  # sha256sum lines: nothing else is written on this bench
    simulated_speed: float | None = Field(default=None, gt=0)  # written by `rig sim`: results say it


class SupplyTable(_Table):
    resource: str  # any VISA resource
    dialect: str | None = None  # else chosen by *IDN?
    serial: str | None = None  # refuse another instrument
    amps: float | None = Field(default=None, gt=0)  # all its outputs together; units wait until there is room
    cal_due: date | None = None  # past it the bench is blocked unless waived


class SlotTable(_Table):
    supply: str
    channel: int = Field(ge=1)
    flash_port: str  # UART1
    log_port: str | None = None  # UART2
    baud: int = Field(default=921600, ge=9600, le=3_250_000)
    product: str
    ovp: Literal["supply", "none"] = "supply"
    change: list[str] | None = Field(default=None, min_length=1)  # command that puts the next board in; else a prompt
    witness: str | None = None  # what measures the rail's truth, in studies of the supply


class WitnessTable(_Table):
    resource: str  # any VISA resource
    dialect: str | None = None  # else chosen by *IDN?
    channel: int = Field(default=1, ge=1)
    serial: str | None = None  # refuse another instrument
    probe: float = Field(default=10.0, gt=0)  # how much its probe divides by


class RecordsTable(_Table):
    url: str | None = None  # of the database; its password comes from the environment or a file of passwords
    station: str | None = Field(default=None, min_length=1, max_length=64)  # what records call it; else the host
    artifacts: Path | None = None  # folder that stations share: kept files and backups once more
    offline: Literal["accept", "refuse"] = "accept"  # units that the database, which is away, cannot be asked for
    ahead: int = Field(default=2, ge=1, le=100)  # units a slot that are taken beforehand of a list stations share


class BenchConfig(_Table):
    """A whole bench.toml. `path` is where it was read; relative paths in it start from its folder."""

    bench: BenchTable
    supply: dict[str, SupplyTable] = Field(default_factory=dict)
    slot: dict[str, SlotTable] = Field(default_factory=dict)
    witness: dict[str, WitnessTable] = Field(default_factory=dict)
    records: RecordsTable = Field(default_factory=RecordsTable)
    _path: Path = PrivateAttr(default=Path("bench.toml"))

    @property
    def path(self) -> Path:
        return self._path

    @model_validator(mode="after")
    def _whole(self) -> BenchConfig:
        if not self.slot:
            raise ValueError("there is no [slot.NAME] table: a bench needs at least one slot")
        return self


def load_bench(path: Path) -> BenchConfig:
    """Read and check a bench file. UsageProblem says what is wrong, in one sentence."""
    config = checked(BenchConfig, read_toml(path, "bench file"), str(path))
    config._path = path.absolute()
    used: dict[tuple[str, int], str] = {}
    ports: dict[str, str] = {}
    witnesses: dict[str, str] = {}
    for name, slot in config.slot.items():
        if slot.supply not in config.supply:
            raise UsageProblem(
                f"{path}: slot {name} names supply {slot.supply!r}; {nearest(slot.supply, config.supply)}"
            )
        resource = config.supply[slot.supply].resource
        other = used.setdefault((resource, slot.channel), name)
        if other != name:
            raise UsageProblem(
                f"{path}: slots {other} and {name} both name {slot.supply} channel {slot.channel}; "
                "each board needs an output of its own"
            )
        if slot.witness is not None:
            _check_witness(config, path, name, slot.witness, witnesses)
        if "://" in slot.flash_port:
            raise UsageProblem(
                f"{path}: slot {name}'s flash_port is {slot.flash_port}: a network in the flash path looks just like "
                "the faults that are looked for, so boards are flashed on the machine that has the port. Run the rig "
                "there (docs/shared-benches.md); log_port and supply may be on the network"
            )
        for port in filter(None, (slot.flash_port, slot.log_port)):
            device = os.path.realpath(port) if port.startswith("/") else port
            if ports.get(device) == name:
                raise UsageProblem(f"{path}: slot {name} names port {port} both for flashing and for the log")
            if device in ports:
                raise UsageProblem(f"{path}: slots {ports[device]} and {name} both name port {port}")
            ports[device] = name
    return config


def _check_witness(config: BenchConfig, path: Path, name: str, witness: str, used: dict[str, str]) -> None:
    """It is there, and watches this slot alone: it has one time base."""
    if witness not in config.witness:
        raise UsageProblem(f"{path}: slot {name} names witness {witness!r}; {nearest(witness, config.witness)}")
    other = used.setdefault(config.witness[witness].resource, name)
    if other != name:
        raise UsageProblem(
            f"{path}: slots {other} and {name} both name {witness} as their witness; it can watch one board at a time"
        )


def allowed_images(config: BenchConfig) -> Allowed | None:
    """The list of images this bench may write; None: any. UsageProblem for one that cannot be read."""
    listed = config.bench.allowed_images
    return None if listed is None else load_allowed(config.path.parent / listed)


def profile_folders(config: BenchConfig, kind: str) -> list[Path]:
    """The user's own folders for `kind` (dialects, witnesses, products, firmwares, flashers), if there are any."""
    if config.bench.profiles is None:
        return []
    folder = config.path.parent / config.bench.profiles
    if not folder.is_dir():
        raise UsageProblem(f"{config.path}: the profiles folder {folder} does not exist")
    return [folder / kind] if (folder / kind).is_dir() else []
