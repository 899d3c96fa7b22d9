"""Events: what a run writes down. The journal is a file of these, one JSON object a line, and all else
(reports, pages, databases) is derived from it.

Names follow OpenHTF's record where it has one (outcome, phase, measurement, validators, marginal). Every
event has UTC, monotonic nanoseconds and the boot id: durations are only ever taken within one boot id.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

SCHEMA = 3  # 2: `planned`, and the task of a unit's attempt; 3: batches, prompts, resumed runs, the chain

Task = Literal["convert", "recover", "restore", "verify", "burn-in", "home", "suite"]
Role = Literal["unit", "golden"]
"""A golden unit proves the bench, not the batch: it counts in no yield."""


class Outcome(StrEnum):
    """What became of a unit or a step. `marginal` is a pass in every rate and exit code."""

    PASS = "pass"
    MARGINAL = "marginal"
    FAIL = "fail"
    BLOCKED = "blocked"
    ABORTED = "aborted"
    UNVERIFIED = "unverified"

    @property
    def good(self) -> bool:
        return self in (Outcome.PASS, Outcome.MARGINAL)

    @property
    def counted(self) -> bool:
        """Whether an attempt with this outcome counts in yield: blocked and aborted say nothing of the board."""
        return self not in (Outcome.BLOCKED, Outcome.ABORTED)


@lru_cache(maxsize=1)
def boot_id() -> str:
    """This boot of this machine (monotonic clocks of two boots do not compare)."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else "unknown"


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")

    utc: datetime = Field(default_factory=lambda: datetime.now(UTC))
    mono_ns: int = Field(default_factory=time.monotonic_ns)
    boot_id: str = Field(default_factory=boot_id)
    schema_version: int = SCHEMA
    chain: str | None = Field(default=None, exclude=True)  # of its line, see rig.records.chain; the journal writes it


class Instrument(BaseModel):
    """A supply or witness that took part, as it said itself."""

    model_config = ConfigDict(extra="forbid")

    name: str  # in bench.toml
    identity: str = ""  # its answer to *IDN?
    serial: str | None = None
    cal_due: date | None = None


class RunStarted(_Event):
    """First line of every journal."""

    kind: Literal["run-started"] = "run-started"
    run: str  # unique id; the run's folder carries it
    command: str
    station: str
    bench: str
    simulated: bool
    speed: float = 1.0  # how many times faster than real a simulated bench runs; 1 on a real one
    product: str
    batch: str | None = None
    operator: str | None = None
    image: str | None = None  # file name
    image_sha256: str | None = None
    limits_version: str = ""
    tasks: list[Task] = ["convert"]  # what is done to each unit, one attempt each, in order
    tools: dict[str, str] = {}  # name -> version of what took part (rig, python, flasher, ...)
    profiles: dict[str, str] = {}  # "product ds-121", "firmware openbeken-bk7231n" -> sha256 of the file
    instruments: list[Instrument] = []
    job: dict[str, Any] = {}  # what was asked for, as `rig.line.job` writes it: `--resume` goes on from this


class RunResumed(_Event):
    """The same run goes on, after a crash or a stop; what was left open by then has been given its end."""

    kind: Literal["run-resumed"] = "run-resumed"
    run: str
    command: str
    station: str
    operator: str | None = None
    tools: dict[str, str] = {}


class UnitStarted(_Event):
    kind: Literal["unit-started"] = "unit-started"
    unit: str  # serial number or running number; unique in its run
    slot: str
    attempt: int  # counts from 1 over the attempts of this unit; a retry never overwrites
    flasher: str = "native"
    task: Task = "convert"
    role: Role = "unit"
    operator: str | None = None
    suite: str | None = None  # of a task `suite`: the user's own folder or file


class PhaseStarted(_Event):
    kind: Literal["phase-started"] = "phase-started"
    unit: str
    slot: str
    attempt: int
    phase: str
    limit_s: float | None = None  # longer than this and the station ends the attempt; None: no limit


class PhaseEnded(_Event):
    """A step is over. `outcome` None: skipped, because an earlier step failed."""

    kind: Literal["phase-ended"] = "phase-ended"
    unit: str
    slot: str
    attempt: int
    phase: str
    outcome: Outcome | None
    duration_s: float
    code: str | None = None
    sentence: str | None = None


class Measured(_Event):
    """One number, written once, read everywhere. `outcome` is judged against the limits where it was taken."""

    kind: Literal["measured"] = "measured"
    unit: str
    slot: str
    attempt: int
    phase: str
    name: str
    value: float | str | bool | None  # None: could not be measured
    unit_of: str = ""  # SI symbol: V, A, s, B, B/s; "" for a pure number or text
    minimum: float | None = None
    maximum: float | None = None
    marginal_minimum: float | None = None
    marginal_maximum: float | None = None
    outcome: Outcome = Outcome.PASS


class BackupKept(_Event):
    """A complete backup is durable on disk and agrees with the chip's CRC. Writing may be allowed after this."""

    kind: Literal["backup-kept"] = "backup-kept"
    unit: str
    slot: str
    attempt: int
    identity: str  # efuse UID or MAC: what the board is
    path: str  # relative to the run's folder
    sha256: str  # of the uncompressed content
    size: int
    verified_by: str = "chip-crc"


class PlannedPiece(BaseModel):
    """One range to be written. `source_offset`: where in the image it stands; None: made for this board, and then
    `sha256` of its content is None too: from it a password could be guessed."""

    model_config = ConfigDict(extra="forbid")

    flash_offset: int
    length: int
    source_offset: int | None = None
    what: str = ""
    sha256: str | None = None


class Planned(_Event):
    """What is to be written to this very board, and what is verified later. Nothing is erased before this."""

    kind: Literal["planned"] = "planned"
    unit: str
    slot: str
    attempt: int
    task: Task = "convert"
    image: str  # file name
    image_sha256: str
    pieces: list[PlannedPiece]
    note: str
    notes: list[str] = []  # where calibration, MAC and storage come from, and other choices, a sentence each
    overrides: list[str] = []  # rules that were overridden, each "rule: what would have been refused"
    mac: str | None = None  # the MAC the plan gives the board; None: it keeps its own


class WriteBegun(_Event):
    """From here on, until `write-ended`, the board is half written: a crash leaves it unverified."""

    kind: Literal["write-begun"] = "write-begun"
    unit: str
    slot: str
    attempt: int
    image_sha256: str
    ranges: list[tuple[int, int]]  # (flash offset, length) in bytes


class WriteEnded(_Event):
    kind: Literal["write-ended"] = "write-ended"
    unit: str
    slot: str
    attempt: int
    verified: bool


class ArtifactKept(_Event):
    """A file worth keeping: `name` such as boot-log, wire-trace, power-trace, unit-page."""

    kind: Literal["artifact-kept"] = "artifact-kept"
    unit: str
    slot: str
    attempt: int
    name: str
    path: str  # relative to the run's folder
    sha256: str


class UnitEnded(_Event):
    kind: Literal["unit-ended"] = "unit-ended"
    unit: str
    slot: str
    attempt: int
    outcome: Outcome
    duration_s: float
    code: str | None = None  # failure code, see rig.codes
    sentence: str | None = None
    mac: str | None = None
    identity: str | None = None
    supply_off_confirmed: bool | None = None  # output read back off at the end; None: could not be asked


NOT_BEGUN = "not_begun"  # in a note's details: how many of the units asked for its run left alone


class Noted(_Event):
    """Something worth telling that is neither a step nor a number (a waiver, a retry, a guard's refusal)."""

    kind: Literal["noted"] = "noted"
    unit: str | None = None
    slot: str | None = None
    level: Literal["info", "warning"] = "info"
    text: str
    details: dict[str, Any] = {}


class UnitRefused(_Event):
    """A unit that was asked for and is not worked on. `rule`: `pattern`, `check-digit`, `duplicate`,
    `already-passed`, `not-in-batch`, `in-work`; `elsewhere`: another station has or had it, and it is none of this
    run's any more; `database-away`: whether one does could not be asked."""

    kind: Literal["unit-refused"] = "unit-refused"
    unit: str
    slot: str | None = None
    rule: str
    sentence: str
    who: str | None = None


class Reworked(_Event):
    """Something was done to the board by hand; what is tested after it is a retest of a reworked unit."""

    kind: Literal["reworked"] = "reworked"
    unit: str
    what: str
    who: str


class Prompted(_Event):
    """A person is asked. `headless` is the answer that is taken where nobody can be: None where there is none."""

    kind: Literal["prompted"] = "prompted"
    prompt: str  # unique in its run
    what: Literal["load", "scan", "approve", "continue"]
    slot: str | None = None
    unit: str | None = None
    text: str
    choices: list[str] = []
    picture: str | None = None  # a file of the product's profile
    headless: str | None = None


class Answered(_Event):
    kind: Literal["answered"] = "answered"
    prompt: str
    answer: str
    by: Literal["terminal", "panel", "command", "headless", "stopped"]
    who: str | None = None


class SlotOut(_Event):
    """A slot is not used any more, until it is released or for the rest of the run."""

    kind: Literal["slot-out"] = "slot-out"
    slot: str
    why: str


class SlotBack(_Event):
    kind: Literal["slot-back"] = "slot-back"
    slot: str
    who: str | None = None


class LineStopped(_Event):
    """No further unit is begun until a person lets the line go on. `rule`: `streak`, `golden`, `spc`,
    `disk-full`, `first-article`."""

    kind: Literal["line-stopped"] = "line-stopped"
    rule: str
    why: str


class LineReleased(_Event):
    kind: Literal["line-released"] = "line-released"
    who: str | None = None


class Labelled(_Event):
    """A label was made for a unit that passed; `printed` False: its command failed, as `said`."""

    kind: Literal["labelled"] = "labelled"
    unit: str
    slot: str
    attempt: int
    path: str  # relative to the run's folder
    printed: bool
    said: str = ""


class RunEnded(_Event):
    kind: Literal["run-ended"] = "run-ended"
    run: str
    exit_code: int
    duration_s: float


Event = Annotated[
    RunStarted
    | RunResumed
    | UnitStarted
    | PhaseStarted
    | PhaseEnded
    | Measured
    | BackupKept
    | Planned
    | WriteBegun
    | WriteEnded
    | ArtifactKept
    | UnitEnded
    | Noted
    | UnitRefused
    | Reworked
    | Prompted
    | Answered
    | SlotOut
    | SlotBack
    | LineStopped
    | LineReleased
    | Labelled
    | RunEnded,
    Field(discriminator="kind"),
]

parser: TypeAdapter[Event] = TypeAdapter(Event)
