"""The simulator's physical constants: constants.toml, and a study's own file over it, for all boards or for one.

An override file has the same tables, with only the keys that differ; `[slot.B.rail]` is for the board of slot B
alone. `[source.NAME]` there may be a new part.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rig.errors import UsageProblem
from rig.sim.cells import CutShort
from rig.sim.flash import SIZE
from rig.toml import checked, nearest, read_toml

FILE = Path(__file__).with_name("constants.toml")
BENCH = "bench"  # the source that is the bench supply's own output

Amps = Annotated[float, Field(ge=0, le=100)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Chance = Annotated[float, Field(ge=0, le=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Loads(_Table):
    """Amps the chip draws in each of its states."""

    off: Amps
    rom: Amps
    idle: Amps
    cpu: Amps
    erase: Amps
    program: Amps
    rf_cal: Amps
    rf_tx: Amps
    radio_idle: Amps
    halted: Amps

    def of(self, name: str) -> float:
        return float(getattr(self, name))


class RailTable(_Table):
    """The way from the supply to the chip, and the chip's own levels. Farads, ohms, volts, seconds."""

    board_farads: Positive
    cable_ohms: NotNegative
    reset_ohms: Positive
    knee_volts: NotNegative
    reset_falling_volts: Positive
    reset_rising_volts: Positive
    reset_release_seconds: NotNegative
    fixed_volts: Positive
    meter_seconds: Positive
    trace_seconds: Positive

    @model_validator(mode="after")
    def _levels(self) -> RailTable:
        if self.reset_falling_volts >= self.reset_rising_volts:
            raise ValueError("reset_falling_volts must be below reset_rising_volts")
        return self


class FlashTable(_Table):
    """The flash die's supply levels, volts, and the law of what was cut short (rig.sim.cells)."""

    works_volts: Positive
    inhibit_volts: Positive
    read_volts: Positive
    reads_done: Annotated[float, Field(gt=0, le=1)]
    frontier_bit: Chance
    weak_share: Chance
    wrong_at_power_on: Chance
    wrong_at_read: Chance

    @model_validator(mode="after")
    def _levels(self) -> FlashTable:
        if self.inhibit_volts >= self.works_volts:
            raise ValueError("inhibit_volts must be below works_volts")
        return self

    @property
    def law(self) -> CutShort:
        return CutShort(
            self.reads_done, self.frontier_bit, self.weak_share, self.wrong_at_power_on, self.wrong_at_read
        )


class CoreTable(_Table):
    """What executing below `works_volts` does (rig.sim.undervolt). Shares are of the mishaps, then of those that go
    on; `stray_start` to `stray_end` (exclusive) are flash addresses."""

    works_volts: Positive
    mishaps_per_second: NotNegative
    hang_share: Chance
    stray_share: Chance
    stray_start: Annotated[int, Field(ge=0, lt=SIZE)]
    stray_end: Annotated[int, Field(gt=0, le=SIZE)]

    @model_validator(mode="after")
    def _area(self) -> CoreTable:
        if self.stray_start >= self.stray_end:
            raise ValueError("stray_start must be below stray_end")
        return self


class SourceTable(_Table):
    """What feeds a board. `volts`, `amps` None: as the bench supply is set.

    `ohms` is in series behind the output capacitor `farads`. A regulator with an unregulated input in front of it
    also has `input_volts`, `input_ohms` and `dropout_volts`: it gives no more than (input - dropout) less what
    its current drops in `input_ohms`. `sink_amps` it can take back (a down-programmer), `slew` volts per second is
    how fast it is programmed upwards.
    """

    volts: Positive | None = None
    amps: Positive | None = None
    ohms: NotNegative
    farads: Positive
    slew: Positive
    sink_amps: NotNegative = 0.0
    input_volts: Positive | None = None
    input_ohms: Positive | None = None
    dropout_volts: NotNegative = 0.0

    @model_validator(mode="after")
    def _input(self) -> SourceTable:
        if (self.input_volts is None) != (self.input_ohms is None):
            raise ValueError("input_volts and input_ohms belong together")
        if self.volts is None and self.input_volts is not None:
            raise ValueError("a source with input_volts is a part with volts of its own")
        return self


class Constants(_Table):
    """All that a simulated board's electricity is made of."""

    amps: Loads
    rail: RailTable
    flash: FlashTable
    core: CoreTable
    source: dict[str, SourceTable]

    @model_validator(mode="after")
    def _window(self) -> Constants:
        if self.core.works_volts < self.rail.reset_falling_volts:
            raise ValueError("core.works_volts must not be below rail.reset_falling_volts")
        return self

    def part(self, name: str) -> SourceTable:
        """The source of that name. Raises UsageProblem."""
        if name not in self.source:
            raise UsageProblem(f"no source {name!r}: {nearest(name, self.source)}")
        return self.source[name]


def load_constants(overrides: dict[str, Any] | None = None, where: str = str(FILE)) -> Constants:
    """constants.toml with `overrides` (tables of keys that differ) over it. Raises UsageProblem naming `where`."""
    return checked(Constants, _merged(_shipped(), overrides or {}), where)


def read_overrides(path: Path, slots: list[str]) -> dict[str, dict[str, Any]]:
    """A study's file: for each of `slots`, what differs on its board. Raises UsageProblem for any mistake in it."""
    content = read_toml(path, "constants file")
    by_slot = content.pop("slot", {})
    if not isinstance(by_slot, dict) or not all(isinstance(table, dict) for table in by_slot.values()):
        raise UsageProblem(f"{path}: `slot` must be tables, as [slot.A.rail]")
    for name in by_slot:
        if name not in slots:
            raise UsageProblem(f"{path}: there is no slot {name!r}; {nearest(name, slots)}")
    load_constants(content, str(path))
    found = {}
    for slot in slots:
        found[slot] = _merged(content, by_slot.get(slot, {}))
        load_constants(found[slot], f"{path}, slot {slot}" if slot in by_slot else str(path))
    return found


def sources() -> list[str]:
    """Names of the parts that are shipped."""
    return list(_shipped()["source"])


@cache
def _shipped() -> dict[str, Any]:
    return read_toml(FILE, "constants file")


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
