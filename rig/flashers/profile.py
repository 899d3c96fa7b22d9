"""Flasher profiles: how an outside tool is started and how its output is read, as TOML that needs no Python.

The shipped ones are in `profiles/`, a user's own in the folders given to `find_profile` (a bench's
`profiles/flashers`). The file is NAME.toml; from a release on whose commands differ, NAME@VERSION.toml.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from rig.errors import UsageProblem
from rig.flashers.environment import release_key
from rig.toml import checked, nearest, read_toml

SHIPPED = Path(__file__).parent / "profiles"
PLACEHOLDERS = ("tool", "port", "baud", "family", "file", "offset", "length")
OPERATIONS = ("identify", "read", "write", "verify", "erase")

OperationName = Literal["identify", "read", "write", "verify", "erase"]
FieldName = Literal["chip", "chip_id", "flash_id", "flash_size", "mac"]


def _known_placeholders(words: list[str]) -> list[str]:
    sample: dict[str, object] = dict.fromkeys(PLACEHOLDERS, "") | {"baud": 0, "offset": 0, "length": 0}
    for word in words:
        try:
            used = [name for _, name, _, _ in string.Formatter().parse(word) if name is not None]
            for name in used:
                if name not in PLACEHOLDERS:
                    raise ValueError(f"{{{name}}} is unknown; {nearest(name, PLACEHOLDERS)}")
            word.format(**sample)
        except ValueError as bad:
            raise ValueError(f"{word!r} is no template: {bad}") from None
    return words


Command = Annotated[list[str], Field(min_length=1), AfterValidator(_known_placeholders)]
Line = re.Pattern[str]  # searched for in one line of output, after `noise` was taken off its start


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Operation(_Table):
    """One operation: `command` is the whole command line; every one of `success` has to match some line."""

    command: Command
    success: Annotated[list[Line], Field(min_length=1)]

    def words(self, values: dict[str, object]) -> list[str]:
        """The command line. `values` has all PLACEHOLDERS; numbers take format specifications (`{offset:#x}`)."""
        return [word.format(**values) for word in self.command]


class Identify(Operation):
    """`fields`: patterns with a group `value`, for what a tool tells of a chip."""

    fields: Annotated[dict[FieldName, Line], Field(min_length=1)]

    @model_validator(mode="after")
    def _have_values(self) -> Identify:
        for name, pattern in self.fields.items():
            if "value" not in pattern.groupindex:
                raise ValueError(f"the pattern for {name} needs a group (?P<value>...)")
        return self


class Progress(_Table):
    """A line that tells how far it is: groups `percent`, or `address` (hexadecimal, of the flash)."""

    match: Line

    @model_validator(mode="after")
    def _has_group(self) -> Progress:
        if not {"percent", "address"} & set(self.match.groupindex):
            raise ValueError("the pattern needs a group (?P<percent>...) or (?P<address>...)")
        return self


class Output(_Table):
    """How what a tool prints is read, line by line."""

    noise: Line | None = None  # taken off a line's start before anything is looked for
    error: Line  # group `value`: what the tool says went wrong; the last one counts
    linked: Line  # the chip has answered
    unlinked: list[Line] = Field(default_factory=list)  # it failed because the chip never answered
    retry: list[Line] = Field(default_factory=list)  # it did something again
    progress: list[Progress] = Field(default_factory=list)
    private: list[Line] = Field(default_factory=list)  # group `value`: never shown or kept

    @model_validator(mode="after")
    def _have_values(self) -> Output:
        for pattern in [self.error, *self.private]:
            if "value" not in pattern.groupindex:
                raise ValueError(f"the pattern {pattern.pattern!r} needs a group (?P<value>...)")
        return self


class Patience(_Table):
    """When a tool counts as hung: nothing printed for `silence` seconds, or not done after `start` seconds and
    `wire_times` the time its bytes take on the wire."""

    silence: float = Field(default=30.0, gt=0)
    start: float = Field(default=60.0, gt=0)
    wire_times: float = Field(default=10.0, gt=0)

    def limit(self, size: int, baud: int) -> float:
        """Seconds for `size` bytes at `baud`, 10 bits a byte."""
        return self.start + self.wire_times * size * 10 / baud


class Profile(_Table):
    """One outside tool. `families`: how it calls a chip of ours; `record`: packages whose versions results carry.

    With a `package` it is a release on PyPI, and `executable` a command that it installs. Without one it is a program
    of the user's own: `executable` is its full path, `files` what else belongs to it and is hashed with it.
    """

    title: str
    package: str | None = None
    executable: str
    files: list[Path] = Field(default_factory=list)
    source: Annotated[str, Field(min_length=3)]
    record: list[str] = Field(default_factory=list)
    pins: list[str] = Field(default_factory=list)
    families: dict[str, str]
    write_align: int = Field(default=1, ge=1)  # bytes: where a write may start
    exit_codes: list[int] = Field(default=[0])  # demanded besides the output, never instead of it
    output: Output
    patience: Patience = Patience()
    identify: Identify | None = None
    read: Operation | None = None
    write: Operation | None = None
    verify: Operation | None = None
    erase: Operation | None = None

    @model_validator(mode="after")
    def _is_somewhere(self) -> Profile:
        if self.package is None and not Path(self.executable).is_absolute():
            raise ValueError(f"executable {self.executable!r} needs its full path, since no package installs it")
        if self.package is None and (self.pins or self.record):
            raise ValueError("pins and record are for a package on PyPI")
        if self.package is not None and self.files:
            raise ValueError("files are for a program of your own, not for a package on PyPI")
        if any(not path.is_absolute() for path in self.files):
            raise ValueError("files need their full paths")
        return self

    def operation(self, name: OperationName) -> Operation | None:
        found: Operation | None = getattr(self, name)
        return found


def find_profile(name: str, version: str, folders: Sequence[Path] = ()) -> Profile:
    """The profile of a tool for one of its releases; a user's folders come before the shipped one.

    Raises UsageProblem: no such tool (names the nearest), or a mistake in the file.
    """
    found: dict[str, Path] = {}
    for folder in [SHIPPED, *folders]:
        found |= {path.stem: path for path in sorted(folder.glob("*.toml"))}
    tools = {stem.partition("@")[0] for stem in found}
    if name not in tools:
        raise UsageProblem(f"no flasher called {name!r}; {nearest(name, {*tools, 'native'})}")
    fitting = {release_key(since): path for stem, path in found.items() for tool, _, since in [stem.partition("@")]
               if tool == name and release_key(since) <= release_key(version)}  # fmt: skip
    if not fitting:
        raise UsageProblem(f"no profile of {name} is for a release as old as {version}")
    path = fitting[max(fitting)]
    return checked(Profile, read_toml(path, "flasher profile"), str(path))
