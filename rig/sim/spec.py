"""What a simulated bench and its boards are made of: plain data that crosses processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig.errors import UsageProblem
from rig.sim.constants import BENCH, load_constants, read_overrides
from rig.sim.faults import Request
from rig.sim.psu import PERSONALITIES

MCUS = ("tuya",)


@dataclass(frozen=True)
class BoardSpec:
    """What a board is made of. `reset_every` seconds of silence end in a CEN pulse (0: never).

    `mcu`: what else hangs on its UART1, one of MCUS; "" for nothing. `constants` are the tables that differ on this
    board from constants.toml, `source` is what stands between the supply's output and it, a name of `[source.*]`.
    """

    slot: str
    speed: float = 1.0
    seed: int = 0
    powered: bool = False
    reset_every: float = 0.0
    mcu: str = ""
    constants: dict[str, Any] = field(default_factory=dict)
    source: str = BENCH


@dataclass(frozen=True)
class SimOptions:
    """What `rig sim` was asked for. `flash` None: our own factory firmware, another unit at every change."""

    boards: int = 2
    flash: Path | None = None
    speed: float = 1.0
    powered: bool = False
    reset_every: float = 0.0
    supply: str = "keysight-e36312a"
    seed: int | None = None  # of all that is random, the units' serials too; None: another box of boards each time
    faults: tuple[Request, ...] = ()  # there from the start
    boards_per_supply: int | None = None  # None: as many as a supply has outputs
    mcu: str = ""  # on each board's UART1, as in BoardSpec
    constants: Path | None = None  # a study's file over constants.toml
    source: str = BENCH  # of each board, as in BoardSpec
    witness: bool = False  # an oscilloscope on each board's rail

    @property
    def share(self) -> int:
        """How many boards hang on each supply."""
        return self.boards_per_supply or len(PERSONALITIES[self.supply].board_outputs)


def check_options(options: SimOptions) -> None:
    """UsageProblem for what cannot be simulated."""
    if not 1 <= options.boards <= 64:
        raise UsageProblem(f"--boards takes 1 to 64, not {options.boards}")
    if not 0.01 <= options.speed <= 1000:
        raise UsageProblem(f"--speed takes 0.01 to 1000, not {options.speed:g}")
    if options.reset_every and not 0.1 <= options.reset_every <= 86400:
        raise UsageProblem(f"--reset-every takes 0 (never) or 0.1 to 86400 seconds, not {options.reset_every:g}")
    if options.seed is not None and not 0 <= options.seed < 1 << 20:
        raise UsageProblem(f"--seed takes 0 to {(1 << 20) - 1}, not {options.seed}")
    if options.supply not in PERSONALITIES:
        raise UsageProblem(f"no simulated supply {options.supply!r}; there are {', '.join(PERSONALITIES)}")
    if options.mcu and options.mcu not in MCUS:
        raise UsageProblem(f"no simulated MCU {options.mcu!r}; there is {', '.join(MCUS)}")
    outputs = len(PERSONALITIES[options.supply].board_outputs)
    if options.boards_per_supply is not None and not 1 <= options.boards_per_supply <= outputs:
        raise UsageProblem(f"--boards-per-supply takes 1 to {outputs}, not {options.boards_per_supply}")
    slots = [slot_name(index) for index in range(options.boards)]
    for tables in board_constants(options).values():
        load_constants(tables).part(options.source)
    for asked in options.faults:
        if asked.slot not in slots:
            raise UsageProblem(f"--fault: no slot {asked.slot}; there are {', '.join(slots)}")


def board_constants(options: SimOptions) -> dict[str, dict[str, Any]]:
    """For each slot, what differs on its board from constants.toml. UsageProblem for a mistake in the file."""
    slots = [slot_name(index) for index in range(options.boards)]
    return read_overrides(options.constants, slots) if options.constants else {slot: {} for slot in slots}


def slot_name(index: int) -> str:
    """A, B, ..., Z, A2, B2, ..."""
    letter = chr(ord("A") + index % 26)
    return letter if index < 26 else f"{letter}{index // 26 + 1}"
