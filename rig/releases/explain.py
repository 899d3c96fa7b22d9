"""Why a cell of a study is not green: known reasons as data, explanations.toml.

A reason fits by what a trial shows (its outcome, what it printed, what passed on the wire) and by which release it is
of; a reason that only its version would give fits nothing. What no reason fits stays without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from rig.flashers.environment import release_key
from rig.releases.trial import GOOD, Outcome, Task, Trial
from rig.toml import checked, read_toml

FILE = Path(__file__).with_name("explanations.toml")

_SIGNS = "<=|>=|==|<|>"
_VERSION = re.compile(rf"(?P<name>[\w.-]+?)(?P<sign>{_SIGNS})(?P<version>\d[\w.+-]*)")
_COUNT = re.compile(rf"(?P<sign>{_SIGNS})(?P<count>\d+)")
_TOOL = "tool="
_TOOLS = ("ltchiptool", "bk7231tools")  # the first that is installed is the tool, the others came with it


def _patterns(texts: list[str]) -> list[str]:
    for text in texts:
        try:
            re.compile(text)
        except re.error as problem:
            raise ValueError(f"{text!r} is no pattern: {problem}") from None
    return texts


def _when(text: str) -> str:
    for part in _parts(text):
        if not part.startswith(_TOOL) and _VERSION.fullmatch(part) is None:
            raise ValueError(f"{part!r} is neither NAME<VERSION, NAME>=VERSION nor tool=NAME")
    return text


def _counts(found: dict[str, str]) -> dict[str, str]:
    for name, text in found.items():
        if _COUNT.fullmatch(text) is None:
            raise ValueError(f"{name}: {text!r} is no count such as '>=1'")
    return found


Patterns = Annotated[list[str], AfterValidator(_patterns)]


class Reason(BaseModel):
    """One known reason. What is left out is not asked for; what is there must all hold.

    `operations`, `conditions`: ids. `when`: which releases, by the versions installed: `bk7231tools<2.1,
    tool=ltchiptool`. `outcomes`: what came out. `why`, `says`: patterns of the trial's sentence, and of what it
    printed, each in some line. `commands`: how many of a kind passed on the wire, `>=1`. `retries`: the same of
    repeated commands. `flash`: whether it was left as it has to be. `text`: one sentence. `source`: read in the
    release's own code, seen on the wire.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(min_length=10)
    source: Annotated[list[Literal["code", "wire"]], Field(min_length=1)]
    outcomes: Annotated[list[Outcome], Field(min_length=1)]
    operations: list[str] = Field(default_factory=list)
    conditions: list[str] = Field(default_factory=list)
    when: Annotated[str, AfterValidator(_when)] = ""
    why: Patterns = Field(default_factory=list)
    says: Patterns = Field(default_factory=list)
    commands: Annotated[dict[str, str], AfterValidator(_counts)] = Field(default_factory=dict)
    retries: str | None = None
    exit_code: int | None = None
    flash: Literal["right", "wrong"] | None = None

    @model_validator(mode="after")
    def _by_what_was_seen(self) -> Reason:
        if self.retries is not None:
            _counts({"retries": self.retries})
        if set(self.outcomes) & {"correct", "refuses", "not-installed", "blocked"}:
            raise ValueError("a reason is for what is not as it has to be, and lies with the release")
        return self

    @property
    def sentence(self) -> str:
        return f"{self.text} ({', '.join(self.source)})"

    def fits(self, trial: Trial) -> bool:
        """Whether it is the reason of this trial."""
        return (
            trial.outcome in self.outcomes
            and (not self.operations or trial.operation in self.operations)
            and (not self.conditions or trial.condition in self.conditions)
            and all(_holds(part, trial.versions) for part in _parts(self.when))
            and all(re.search(pattern, trial.why) for pattern in self.why)
            and all(any(re.search(pattern, line) for line in trial.tail) for pattern in self.says)
            and all(_counted(trial.commands.get(name, 0), wanted) for name, wanted in self.commands.items())
            and (self.retries is None or _counted(trial.retries, self.retries))
            and (self.exit_code is None or trial.exit_code == self.exit_code)
            and (self.flash is None or (self.flash == "wrong") == bool(trial.differing))
        )


class Reasons(BaseModel):
    """The file. Of several that fit a trial the first counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: list[Reason]

    def of(self, trial: Trial) -> Reason | None:
        return next((each for each in self.reason if each.fits(trial)), None)


class Where(Protocol):
    """A cell: see `rig.releases.verdict.Cell`."""

    @property
    def release(self) -> str: ...
    @property
    def task(self) -> Task: ...


@cache
def load_reasons(path: Path = FILE) -> Reasons:
    """Raises UsageProblem in one sentence."""
    return checked(Reasons, read_toml(path, "list of known reasons"), str(path))


def explained(cell: Where, trials: Iterable[Trial], reasons: Reasons | None = None) -> list[str]:
    """The known reasons of a cell's bad trials, a sentence each, each once; [] where none is known, or none is bad.

    What could not be installed gives its own reason.
    """
    known = reasons if reasons is not None else load_reasons()
    found: dict[str, None] = {}
    for trial in bad_of(cell, trials):
        if trial.outcome == "not-installed":
            found[trial.why] = None
        elif (reason := known.of(trial)) is not None:
            found[reason.sentence] = None
    return list(found)


def bad_of(cell: Where, trials: Iterable[Trial]) -> list[Trial]:
    """A cell's trials that are not as they have to be, in the order they were made; none that the bench spoiled."""
    return [
        trial
        for trial in trials
        if (trial.release, trial.task) == (cell.release, cell.task) and trial.outcome not in (*GOOD, "blocked")
    ]


def tool_of(versions: Mapping[str, str]) -> str:
    """Which tool a release with these packages is of; `native` for none that is known."""
    return next((name for name in _TOOLS if name in versions), "native")


def _parts(text: str) -> Sequence[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _holds(part: str, versions: Mapping[str, str]) -> bool:
    if part.startswith(_TOOL):
        return tool_of(versions) == part.removeprefix(_TOOL)
    match = _VERSION.fullmatch(part)
    assert match is not None
    if match["name"] not in versions:
        return False
    return _compare(release_key(versions[match["name"]]), match["sign"], release_key(match["version"]))


def _counted(count: int, wanted: str) -> bool:
    match = _COUNT.fullmatch(wanted)
    assert match is not None
    return _compare((count,), match["sign"], (int(match["count"]),))


def _compare(one: tuple[int, ...], sign: str, other: tuple[int, ...]) -> bool:
    """Numbers that are not there are 0: 2.1 is 2.1.0."""
    length = max(len(one), len(other))
    left, right = (each + (0,) * (length - len(each)) for each in (one, other))
    return {
        "<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right, "==": left == right,
    }[sign]  # fmt: skip
