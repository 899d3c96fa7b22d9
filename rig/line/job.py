"""What a run is to do: the units, and what is done to each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rig.bench.bench import Slot
from rig.bench.product import Limits
from rig.errors import UsageProblem
from rig.line.rules import Rules
from rig.records.events import Task


@dataclass(frozen=True)
class Stage:
    """One thing done to every unit, an attempt of its own. `image` None: each unit's own backup."""

    task: Task
    image: Path | None = None
    image_sha256: str | None = None


@dataclass(frozen=True)
class Job:
    """What is to be done to every unit. `units` are serials or running numbers, in order; `stages` in order too, each
    begun only if the one before was good.

    `backups`: for restore, the RUN/UNIT of each unit. `provision`: a file, for the stages that convert. `secrets`:
    what is in it that may be shown nowhere.
    """

    units: tuple[str, ...]
    stages: tuple[Stage, ...]
    flasher: str = "native"
    backups: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    mac: str | None = None
    provision: Path | None = None
    no_provision: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)
    backup: Literal["fast", "full"] = "fast"
    accept_no_backup: str | None = None
    no_boot_proof: bool = False
    waive_calibration: str | None = None
    current_limit: float | None = None
    command: str = "rig convert"
    batch: str | None = None
    operator: str | None = None
    rules: Rules = field(default_factory=Rules)
    scanned: bool = False  # units come by scan; `units` then are all that may come (none: any the product allows)
    suite: Path | None = None  # of a task `suite`: the user's own folder or file of tests
    reboots: int = 0  # of a task `burn-in`
    limits: Mapping[str, Limits] = field(default_factory=dict)  # instead of the product's, by measurement


def check_job(slots: list[Slot], job: Job, *, somebody_there: bool) -> None:
    """UsageProblem when boards must be changed and neither a command nor a person can do it."""
    if len(job.units) <= len(slots) or somebody_there:
        return
    for slot in slots:
        if slot.table.change is None:
            raise UsageProblem(
                f"{len(job.units)} units for {len(slots)} slot(s): the next board must be put in, but nobody is "
                f"at a terminal and slot {slot.name} has no `change` command in its bench file"
            )
