"""What a simulated bench and its boards are made of: plain data that crosses processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rig.errors import UsageProblem

PERSONALITIES = {"keysight-e36312a": "keysight-e36300", "rigol-dp832": "rigol-dp800"}  # supply -> rig's dialect


@dataclass(frozen=True)
class BoardSpec:
    """What a board is made of. `reset_every` seconds of silence end in a CEN pulse (0: never)."""

    slot: str
    speed: float = 1.0
    seed: int = 0
    powered: bool = False
    reset_every: float = 0.0


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
