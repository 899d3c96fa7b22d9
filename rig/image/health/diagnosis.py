"""What is in a flash, what of it is damaged, and what a board with it would do.

A file is judged as if it were written where it belongs: a dump, a QIO or a bootloader from 0x0, an app alone at
0x11000 behind the bootloader the board has, a UF2 where its blocks say. A file of the flash's size is what a board
holds, whatever is in it. Everything is told from the content.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rig.image import flashmap
from rig.image.beken import KeyName
from rig.image.contents.calibration import MADE_UP_MAC, Calibration, read_calibration
from rig.image.contents.openbeken import ObkConfig, read_config
from rig.image.contents.tuya import TuyaStorage, read_storage
from rig.image.flashmap import FLASH_SIZE, Region
from rig.image.health.codecheck import CodeCheck, check_app, check_bootloader
from rig.image.health.findings import DAMAGES as DAMAGES
from rig.image.health.findings import Damage as Damage
from rig.image.health.findings import Forecast as Forecast
from rig.image.health.findings import RegionState as RegionState
from rig.image.health.findings import State as State
from rig.image.health.forecast import Chip, Outcome, outcome
from rig.image.health.partition import read_partition
from rig.image.health.placed import Placed, place
from rig.image.identify import identify
from rig.image.identity import Identity, Kind
from rig.image.rbl import SIZE as RBL_SIZE
from rig.image.rbl import parse as parse_rbl


@dataclass(frozen=True)
class Diagnosis:
    """`on_a_board`: the forecast in sentences. `possible`: every outcome that may be, `forecast` alone where it is
    known. `guesses`: what the forecast leans on and nobody has proven on silicon; `on_a_board` says so too."""

    identity: Identity
    regions: tuple[RegionState, ...]
    damages: tuple[Damage, ...]
    forecast: Forecast
    on_a_board: str
    possible: tuple[Forecast, ...] = ()
    guesses: tuple[str, ...] = ()
    calibration: Calibration | None = None
    config: ObkConfig | None = None
    storage: TuyaStorage | None = field(default=None, repr=False)

    @property
    def bootable(self) -> bool | None:
        """Whether a board starts its firmware from it; None where that cannot be told."""
        if self.forecast in (Forecast.UNKNOWN, Forecast.NOT_A_FLASH):
            return None
        return self.forecast is Forecast.BOOTS

    def state(self, name: str) -> RegionState:
        """The state of the region called `name`. KeyError for a name that this flash's map does not have."""
        return {item.region.name: item for item in self.regions}[name]


def diagnose(
    data: bytes, identity: Identity | None = None, *, chip: str = "BK7231N", key: KeyName | None = "tuya"
) -> Diagnosis:
    """The diagnosis of a file's `data` for a board with this chip and cipher key (None: not known).

    `identity` saves identifying again. Never raises, whatever the bytes.
    """
    found = identify(data) if identity is None else identity
    return _Examination(place(data, found, chip), found, chip, key).result()


class _Examination:
    """One diagnosis being made: the regions in turn, each adding what it finds."""

    def __init__(self, placed: Placed, found: Identity, chip: str, key: KeyName | None) -> None:
        self._placed, self._found, self._chip, self._key = placed, found, chip, key
        self._damages: list[Damage] = []
        self._calibration: Calibration | None = None
        self._config: ObkConfig | None = None
        self._storage: TuyaStorage | None = None
        self._boot: CodeCheck | None = None
        self._app: CodeCheck | None = None

    def result(self) -> Diagnosis:
        regions = tuple(self._region(region) for region in self._placed.regions)
        self._cut_file()
        told = self._outcome()
        said = list(told.sentences)
        if told.forecast in (Forecast.BOOTS, Forecast.UNKNOWN):
            said += self._without()
        if told.guesses:
            said.append(f"Not proven, a guess: {'; '.join(told.guesses)}.")
        return Diagnosis(
            self._found, regions, tuple(sorted(self._damages, key=lambda item: item.offset)), told.forecast,
            " ".join(said), told.possible, told.guesses, self._calibration, self._config, self._storage,
        )  # fmt: skip

    def _region(self, region: Region) -> RegionState:
        held = self._placed.content(region)
        if not held:
            return RegionState(region, State.ABSENT, "not in the file: what the board has there stays", 0)
        used = int(np.count_nonzero(np.frombuffer(held, dtype=np.uint8) != 0xFF))
        if region.striped:
            state, what = self._code(region)
        else:
            look = {"calibration": self._look_at_calibration, "net": self._look_at_config}
            look |= {"storage": self._look_at_storage, "ota": _look_at_ota}
            state, what = look.get(region.name, _look_at_data)(region, held)
        return RegionState(region, state, what, used)

    def _code(self, region: Region) -> tuple[State, str]:
        placed = self._placed
        if region.name == "bootloader":
            part = read_partition(placed.flash, region, placed.boot)
            self._boot = check_bootloader(part, placed, self._chip, self._key)
            check = self._boot
        else:
            part = read_partition(placed.flash, region, placed.app)
            self._app = check_app(part, placed, self._chip, self._key, self._boot)
            check = self._app
        self._damages += check.damages
        return check.state, check.what

    def _outcome(self) -> Outcome:
        boot, app = self._boot, self._app
        if boot is None and app is None:
            what = f"Nothing a board could start from by itself: {self._found.what}."
            return Outcome(Forecast.NOT_A_FLASH, (what,), (Forecast.NOT_A_FLASH,))
        named = " ".join(part for part in (self._found.firmware, self._found.version) if part)
        chip = Chip(self._chip, self._key, named or "the app")
        return outcome(boot.part if boot else None, app.part if app else None, self._placed.tagged, chip)

    def _cut_file(self) -> None:
        """A part of a dump: the file ends within the flash, and not where an image may."""
        end = self._placed.held[1]
        part = self._found.kind is Kind.QIO and self._found.firmware == "Tuya"  # Tuya publishes no such images
        if (self._placed.whole or (part and end > flashmap.APP_END)) and end < FLASH_SIZE:
            self._damage("truncated", end, FLASH_SIZE - end, f"the dump ends at 0x{end:X} of 0x{FLASH_SIZE:X}")

    def _without(self) -> list[str]:
        """What it starts without."""
        names = {damage.name for damage in self._damages}
        said = []
        if names & {"calibration-wiped", "calibration-damaged"} and self._calibration is None:
            said.append(
                "It finds no radio calibration and makes one up: weak radio, and "
                f"MAC {MADE_UP_MAC} unless the chip's efuse has one."
            )
        elif "calibration-damaged" in names:
            said.append("What it makes of its damaged radio calibration is not known: weak radio, or another MAC.")
        elif "calibration-made-up" in names:
            said.append("Its radio calibration was not measured on it: weak radio, and a MAC that is not its own.")
        if "config-crc" in names and self._found.firmware in (None, "OpenBeken"):
            said.append("OpenBeken refuses its configuration and starts with its defaults: an access point, no pins.")
        return said

    def _damage(self, name: str, offset: int, length: int, sentence: str) -> None:
        self._damages.append(Damage(name, offset, length, sentence))

    def _look_at_calibration(self, region: Region, held: bytes) -> tuple[State, str]:
        filler = _filler(held)
        if filler is not None:
            state, word = filler
            self._damage(
                "calibration-wiped", region.start, region.size,
                f"the radio calibration at 0x{region.start:X} is gone: its place is {word}",
            )  # fmt: skip
            return state, f"no calibration: {word}"
        found = read_calibration(held)
        self._calibration = found
        if found is None or found.problems:
            why = found.problems[0] if found else "no calibration begins it"
            self._damage(
                "calibration-damaged", region.start, region.size,
                f"the radio calibration at 0x{region.start:X} is damaged: {why}",
            )  # fmt: skip
            return State.DAMAGED, f"calibration, damaged: {why}"
        if found.made_up:
            self._damage(
                "calibration-made-up", region.start, found.size,
                f"the radio calibration at 0x{region.start:X} is one that firmware made up for a lost one: "
                f"MAC {found.mac}, which is no board's",
            )  # fmt: skip
            return State.DAMAGED, f"calibration made up by firmware, MAC {found.mac}"
        tables = "" if found.measured else ", without transmit powers"
        return State.GOOD, f"calibration, {len(found.entries)} values{tables}, MAC {found.mac}"

    def _look_at_config(self, region: Region, held: bytes) -> tuple[State, str]:
        found = read_config(held[: flashmap.SECTOR])
        self._config = found
        if found is None:
            return _look_at_data(region, held, "content that is no OpenBeken configuration")
        if not found.crc_ok:
            why = (*found.problems, "its CRC-8 is wrong")[0]
            self._damage(
                "config-crc", region.start, 0xE00,
                f"the OpenBeken configuration at 0x{region.start:X} would be refused: {why}",
            )  # fmt: skip
            return State.DAMAGED, f"OpenBeken configuration, refused: {why}"
        odd = f"; {found.problems[0]}" if found.problems else ""
        return State.GOOD, f"OpenBeken configuration, format {found.version}, {len(found.pins)} pins{odd}"

    def _look_at_storage(self, region: Region, held: bytes) -> tuple[State, str]:
        app = self._app.part.plain if self._app else None
        found = read_storage(self._placed.flash, app=app)
        self._storage = found
        if found is None:
            return _look_at_data(region, held, "content that is no Tuya storage this rig can find")
        if found.problem:
            self._damage(
                "storage-unreadable", found.offset, max(region.end - found.offset, 0),
                f"the Tuya storage at 0x{found.offset:X} cannot be read: {found.problem}",
            )  # fmt: skip
            return State.DAMAGED, f"Tuya storage, damaged: {found.problem}"
        return State.GOOD, f"Tuya storage at 0x{found.offset:X}, {len(found.keys)} keys"


def _look_at_ota(region: Region, held: bytes) -> tuple[State, str]:
    header = parse_rbl(held[:RBL_SIZE])
    if header is not None:
        name = " ".join(part for part in (repr(header.name), header.version) if part)
        return State.DATA, f"an over-the-air package of {name}, {header.packed_size:,} bytes"
    if b"littlefs" in held[flashmap.SECTOR : flashmap.SECTOR + 0x100]:
        return State.DATA, "a file system (LittleFS), as OpenBeken makes"
    return _look_at_data(region, held)


def _look_at_data(region: Region, held: bytes, what: str = "content without a checksum") -> tuple[State, str]:
    del region
    filler = _filler(held)
    return (State.DATA, what) if filler is None else filler


def _filler(held: bytes) -> tuple[State, str] | None:
    if not held.strip(b"\xff"):
        return State.ERASED, "erased"
    return None if held.strip(b"\0") else (State.ZERO, "all zeros")


__all__ = ["DAMAGES", "Damage", "Diagnosis", "Forecast", "RegionState", "State", "diagnose"]
