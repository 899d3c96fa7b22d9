"""The rules a batch runs by: data, from its batch file or a product, with defaults that suit a single board.

What they mean is decided elsewhere (`rig.line.queue`, `quarantine`, `golden`, ...); here they only stand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Retry(_Rule):
    """Which units are tried again by themselves, on the board as it stands in its slot. Every attempt is kept."""

    attempts: int = Field(default=1, ge=1, le=10)  # in all, the first one included
    codes: list[str] = []  # failure codes worth another try; none: no unit is tried again
    other_slot: bool = False  # a unit that is blocked at the end is given to a slot that it was not blocked in


class Quarantine(_Rule):
    """When a slot is taken out of use: after so many blocked units in a row (the bench was to blame for each)."""

    blocked_in_a_row: int = Field(default=1, ge=1)


class Streak(_Rule):
    """When the line stops: after so many failed units in a row, over all slots, in order of their ends. 0: never."""

    failures_in_a_row: int = Field(default=0, ge=0)


class Golden(_Rule):
    """A known-good unit that proves the bench: verified at the start of a run and after every `every` units of a slot
    (0: at the start only). `serial` None: there is none."""

    serial: str | None = None
    every: int = Field(default=0, ge=0)


class Sampling(_Rule):
    """Which units that passed get a burn-in besides: each `every`-th one (0: none), by `reboots` boots."""

    every: int = Field(default=0, ge=0)
    reboots: int = Field(default=10, ge=1)


class Known(_Rule):
    """Where a measurement's control chart lies, in the measurement's own unit."""

    centre: float
    sigma: float = Field(gt=0)


class Spc(_Rule):
    """Which measurements are watched while the batch runs, slot by slot, by which rules of Western Electric. `stop`:
    the line stops when one fires; else it is noted. A chart's centre and sigma come from its first `baseline` good
    values, unless they are `known`."""

    measurements: list[str] = []  # none: nothing is watched
    rules: list[Literal[1, 2, 3, 4]] = [1, 2, 3, 4]
    stop: bool = False
    baseline: int = Field(default=25, ge=8)
    known: dict[str, Known] = {}


class Label(_Rule):
    """A label for each unit that passed: `template` with {unit}, {mac}, {batch}, {product}, {utc}, {firmware},
    {sha256}, {sha12}; then `command`, an argument list that is given the label's path as {file}."""

    template: Path | None = None
    command: list[str] = []


class Rules(_Rule):
    """All of them. `operator`: whether a person must have said who they are before a unit begins."""

    operator: Literal["optional", "required"] = "optional"
    already_passed: Literal["refuse", "retest"] = "retest"  # a unit that an earlier run passed; a batch file: refuse
    shared: bool = False  # several stations work through the same list; each takes what none else has
    first_article: bool = False  # the first good unit waits for a person's approval before any other is begun
    retry: Retry = Retry()
    quarantine: Quarantine = Quarantine()
    streak: Streak = Streak()
    golden: Golden = Golden()
    sampling: Sampling = Sampling()
    spc: Spc = Spc()
    label: Label = Label()
    park_image: Path | None = None  # written to the board left in each slot when the run ends; None: nothing is
