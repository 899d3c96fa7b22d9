"""What releases are put to: operations and conditions, read from operations.toml; they are data.

An operation says what is asked of a tool, what state the board is in before, and what must be so afterwards; what a
tool is told stands in its flasher profile, or here where it is another command. A condition is a state of board,
supply or wire that operations are repeated under.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from rig.errors import UsageProblem
from rig.flashers.profile import Command, Line
from rig.releases.record import Described
from rig.releases.study import Study
from rig.releases.trial import Task
from rig.toml import checked, nearest, read_toml
from rig.uart.damage import Damage

FILE = Path(__file__).with_name("operations.toml")
NORMAL = "normal"
FLASH_SIZE = 0x200000
SECTOR = 0x1000

Expects = Literal[
    "done",  # it does what it was asked for, and says so
    "done-or-refused",  # that, or it declines and touches nothing
    "refused",  # it declines and touches nothing
    "failed",  # it cannot work, and says so: in words and by its exit code
]


def _damages(words: list[str]) -> list[str]:
    for word in words:
        try:
            Damage.parse(word)
        except UsageProblem as problem:
            raise ValueError(str(problem)) from None
    return words


Damages = Annotated[list[str], AfterValidator(_damages)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Laid(_Table):
    """Content of `length` bytes from `at` before the operation; without a length to the end of the flash."""

    what: Literal["blank", "zero", "used"]  # FF, 00, random bytes as of some firmware
    at: int = Field(ge=0, lt=FLASH_SIZE)
    length: int = Field(default=0, ge=0)

    def over(self, content: bytearray) -> None:
        end = min(self.at + self.length, len(content)) if self.length else len(content)
        if self.what == "used":
            content[self.at : end] = used(len(content))[self.at : end]
        else:
            content[self.at : end] = (b"\xff" if self.what == "blank" else b"\0") * (end - self.at)


class Operation(_Table):
    """`does`: which command of a tool's profile; `commands` instead, by tool, where it is another one, with `success`
    as in a profile. `own_words`: tools that have none here do not have the operation at all.

    `file` (see `files.make`) is written at `offset`; `length` is of a read. `tail`: what stands behind a file in its
    last sector must be "kept", or may be blank ("free"). `shows`: patterns its output must have, by tool. `running`:
    the board's own firmware runs and the tool has to reset it. `interrupt`: ended by the rig after so many programmed
    sectors, and asked again. `stray`: (offset, length) that the running firmware may change. `silence`, `limit`:
    seconds of patience instead of the profile's.
    """

    id: str
    title: str
    what: str
    group: Literal["look", "read", "write", "trouble", "time"]
    does: Literal["identify", "read", "write", "efuse"]
    expects: Expects = "done"
    file: str | None = None
    offset: int = Field(default=0, ge=0, lt=FLASH_SIZE)
    length: int = Field(default=0, ge=0, le=FLASH_SIZE)
    tail: Literal["kept", "free"] = "free"
    commands: dict[str, Command] = Field(default_factory=dict)
    success: dict[str, list[Line]] = Field(default_factory=dict)
    shows: dict[str, list[str]] = Field(default_factory=dict)
    own_words: bool = False
    native: Literal["as-told", "planned", "uf2"] = "as-told"
    laid: list[Laid] = Field(default_factory=list)
    damage: Damages = Field(default_factory=list)
    running: bool = False
    interrupt: int | None = Field(default=None, ge=1)
    baud: int | None = None
    timed: bool = False
    stray: list[tuple[int, int]] = Field(default_factory=list)
    silence: float = Field(default=15.0, gt=0)
    limit: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _whole(self) -> Operation:
        if self.does == "read" and not self.length:
            raise ValueError("a read has a length")
        if self.does == "write" and self.file is None:
            raise ValueError("a write has a file")
        return self

    @property
    def described(self) -> Described:
        return Described(self.id, self.title, self.what, self.group, self.timed)


class Condition(_Table):
    """`operations`: which ones are repeated under it. `volts` and `current_limit` (amps) are the supply's, `damage`
    is done to the wire, `sr` is the flash's status register, `laid` its content."""

    id: str
    title: str
    what: str
    operations: list[str] = Field(default_factory=list)
    volts: float | None = Field(default=None, gt=0)
    current_limit: float | None = Field(default=None, gt=0)
    damage: Damages = Field(default_factory=list)
    sr: int | None = Field(default=None, ge=0, le=0xFFFF)
    laid: list[Laid] = Field(default_factory=list)

    @property
    def described(self) -> Described:
        return Described(self.id, self.title, self.what)


class Catalogue(_Table):
    """All there are, in their order."""

    operation: list[Operation]
    condition: list[Condition]

    @model_validator(mode="after")
    def _fits(self) -> Catalogue:
        for names in ([each.id for each in self.operation], [each.id for each in self.condition]):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"there are two called {twice!r}")
        known = [each.id for each in self.operation]
        for condition in self.condition:
            for name in condition.operations:
                if name not in known:
                    raise ValueError(f"condition {condition.id} names operation {name!r}; {nearest(name, known)}")
        if NORMAL not in [each.id for each in self.condition]:
            raise ValueError(f"there is no condition {NORMAL!r}")
        return self

    def of(self, name: str) -> Operation:
        """Raises UsageProblem naming the nearest."""
        found = next((each for each in self.operation if each.id == name), None)
        if found is None:
            raise UsageProblem(f"no operation {name!r}; {nearest(name, [each.id for each in self.operation])}")
        return found

    def under(self, name: str) -> Condition:
        """Raises UsageProblem naming the nearest."""
        found = next((each for each in self.condition if each.id == name), None)
        if found is None:
            raise UsageProblem(f"no condition {name!r}; {nearest(name, [each.id for each in self.condition])}")
        return found

    def tasks(self, study: Study) -> list[Task]:
        """What the study asks of every release, in the catalogue's order. Raises UsageProblem."""
        names = [each.id for each in self.operation] if study.operations == "all" else study.operations
        operations = [self.of(name) for name in names]
        chosen = [each.id for each in self.condition] if study.conditions == "all" else study.conditions
        conditions = [self.under(name) for name in chosen]
        found: list[Task] = []
        for operation in operations:
            if operation.timed and not study.timing:
                continue
            for condition in conditions:
                if condition.id != NORMAL and operation.id not in condition.operations:
                    continue
                bauds: Sequence[int] = study.bauds if operation.baud is None else [operation.baud]
                found += [Task(operation.id, condition.id, baud, operation.timed) for baud in bauds]
        if not found:
            raise UsageProblem("the study asks nothing: none of its operations is repeated under its conditions")
        return found


@cache
def load_catalogue(path: Path = FILE) -> Catalogue:
    """Raises UsageProblem in one sentence."""
    return checked(Catalogue, read_toml(path, "list of operations"), str(path))


@cache
def used(size: int, seed: int = 7) -> bytes:
    """Bytes as some firmware may have left them: random, always the same, no sector blank."""
    return random.Random(seed).randbytes(size)
