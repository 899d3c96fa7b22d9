"""One trial of a study: a release, an operation, a condition, once on one board; planned, and as it came out.

A study's trials stand in `trials.jsonl`, one JSON object a line, appended and fsynced one by one. All that judges or
shows a study reads these and `study.json`, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from rig.errors import UsageProblem
from rig.records.trials import read_rows

STUDY = "study.json"
TRACES = "traces"

Outcome = Literal[
    "correct",  # the oracle is satisfied, and it says so
    "wrong",  # it says that it failed, or the oracle is not satisfied and it claims nothing; `why` tells the damage
    "lies",  # says success, and the oracle is not satisfied
    "refuses",  # declines in words, flash untouched, where it may
    "hangs",  # silent or busy beyond patience, ended by us
    "crashes",  # a traceback or a signal
    "absent",  # this release has no such command or option
    "not-installed",  # the release could not be installed; one row each cell, no board was touched
    "blocked",  # the bench was to blame; counted nowhere
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
GOOD: tuple[Outcome, ...] = ("correct", "refuses")  # counted as a success
COUNTED: tuple[Outcome, ...] = ("correct", "wrong", "lies", "refuses", "hangs", "crashes")  # of these a rate is made


@dataclass(frozen=True, order=True)
class Task:
    """What all releases of a study are put to alike: an operation under a condition at a speed.

    `timed`: its seconds are compared, on a board at its real speed; else only whether it is right.
    """

    operation: str
    condition: str = "normal"
    baud: int = 921600
    timed: bool = False


@dataclass(frozen=True)
class Spec:
    """A trial as it is scheduled. `n` counts from 1 through the study, in the order of the plan.

    `block`: trials of one block are a comparison: every release at the same task once, one after the other on the
    same slot's board. Blocks are numbered through the study. `repeat`: which block of its task it is, from 1.
    """

    n: int
    release: str
    operation: str
    condition: str
    baud: int
    block: int
    repeat: int
    slot: str
    timed: bool = False

    @property
    def task(self) -> Task:
        return Task(self.operation, self.condition, self.baud, self.timed)


@dataclass(frozen=True)
class Trial:
    """A trial as it came out.

    `why`: one sentence, what was seen against what the oracle wants. `says_ok`: what its output claims (its exit code
    alone claims nothing). `tail`: its last lines, scrubbed. `seconds`: of the tool's own process; of the native
    flasher the operation's. `link_s`: from its start to the first link reply; `host_s`, `wire_s`, `chip_s`, `lost_s`:
    where the time went from the first link reply to the last reply. `commands`: how many of each kind passed;
    `bytes_out` and `bytes_in` are the wire's. `differing`: (offset, length) where flash is not as the oracle wants,
    at most 16. `speed`: of the simulated board, 1 of a real one. `trace`: its file, below the study's folder.
    """

    n: int
    release: str
    operation: str
    condition: str
    baud: int
    block: int
    repeat: int
    slot: str
    board: str
    timed: bool
    outcome: Outcome
    why: str
    says_ok: bool = False
    exit_code: int | None = None
    tail: list[str] = field(default_factory=list)
    seconds: float = 0.0
    link_s: float = 0.0
    host_s: float = 0.0
    wire_s: float = 0.0
    chip_s: float = 0.0
    lost_s: float = 0.0
    commands: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    differing: list[tuple[int, int]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    utc: str = ""
    speed: float = 1.0
    trace: str | None = None

    @property
    def task(self) -> Task:
        return Task(self.operation, self.condition, self.baud, self.timed)

    @property
    def good(self) -> bool:
        return self.outcome in GOOD

    @property
    def counted(self) -> bool:
        """Whether it says anything of the release."""
        return self.outcome in COUNTED

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Trial:
        """Raises UsageProblem for what is no trial; keys of a later rig are passed over."""
        known = {each.name for each in fields(cls)}
        found = {name: value for name, value in row.items() if name in known}
        found["differing"] = [(int(at), int(length)) for at, length in found.get("differing", [])]
        if found.get("outcome") not in OUTCOMES:
            raise UsageProblem(f"trial {row.get('n')}: {found.get('outcome')!r} is no outcome")
        try:
            return cls(**found)
        except TypeError as problem:
            raise UsageProblem(f"trial {row.get('n')}: {problem}") from None


def of(spec: Spec, **found: Any) -> Trial:
    """A trial of what was planned, with what was `found`: `board`, `outcome`, `why` at least."""
    return Trial(**asdict(spec), **found)


def read_trials(run: Path) -> list[Trial]:
    """As `rig.records.trials.read_rows`."""
    return read_rows(run, Trial.from_dict)
