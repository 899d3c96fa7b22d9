"""What releases of flashing tools are expected to do, read from flasher_releases.toml, and what was seen."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig.errors import UsageProblem
from rig.flashers.environment import release_key

FILE = Path(__file__).with_name("flasher_releases.toml")
TOOLS = ("ltchiptool", "bk7231tools")
_CONSTRAINT = re.compile(r"(?P<name>\w+)(?P<sign><|>=)(?P<version>[\d.]+)")


@dataclass(frozen=True)
class Operation:
    """What is done with every release. `commands`: arguments by tool; a tool without them has no such operation."""

    id: str
    title: str
    what: str
    proof: str  # output, read, efuse or write
    commands: Mapping[str, list[str]]
    patterns: Mapping[str, list[str]]  # by tool: what its output has to show
    board: Mapping[str, Any]  # the state the board is put into before
    file: str = ""  # what is written: whole, app, small
    at: int = 0
    length: int = 0


@dataclass(frozen=True)
class Expectation:
    """`outcome` as in `Seen.outcome`; `says` and `never` are searched in the output; `why` is the reason."""

    operation: str
    outcome: str
    why: str
    when: str = ""
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    pulses: int | None = None  # of the reset lines

    def fits(self, tool: str, versions: Mapping[str, str]) -> bool:
        """Whether it is about this tool, installed with these versions."""
        return all(_holds(part.strip(), tool, versions) for part in self.when.split(",") if part.strip())

    def differences(self, seen: Seen) -> list[str]:
        """In what `seen` is not as expected; empty: in nothing."""
        found = [] if seen.outcome == self.outcome else [f"expected {self.outcome!r}, seen {seen.outcome!r}"]
        found += [f"does not say /{text}/" for text in self.says if not seen.says(text)]
        found += [f"says /{text}/" for text in self.never if seen.says(text)]
        if self.pulses is not None and seen.pulses != self.pulses:
            found.append(f"{seen.pulses} reset pulses, not {self.pulses}")
        return found


@dataclass
class Seen:
    """What one release did at one operation."""

    outcome: str
    exit_code: int
    pulses: int = 0
    lines: list[str] = field(default_factory=list)

    def says(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in self.lines)


@dataclass(frozen=True)
class Expectations:
    releases: tuple[str, ...]
    operations: tuple[Operation, ...]
    rules: tuple[Expectation, ...]

    def of(self, operation: str, tool: str, versions: Mapping[str, str]) -> Expectation:
        """The last one that fits. Raises UsageProblem if none does."""
        fitting = [rule for rule in self.rules if rule.operation == operation and rule.fits(tool, versions)]
        if not fitting:
            raise UsageProblem(f"{FILE.name} expects nothing of {tool} at {operation!r}")
        return fitting[-1]


def load() -> Expectations:
    """The file beside this module."""
    table = tomllib.loads(FILE.read_text(encoding="utf-8"))
    operations = []
    for entry in table["operation"]:
        commands = {tool: entry.pop(tool) for tool in TOOLS if tool in entry}
        patterns = {tool: entry.pop(f"{tool}_proof", []) for tool in TOOLS}
        operations.append(Operation(**{"board": {}} | entry, commands=commands, patterns=patterns))
    rules = [
        Expectation(**entry | {name: tuple(entry.get(name, ())) for name in ("says", "never")})
        for entry in table["expect"]
    ]
    return Expectations(tuple(table["releases"]), tuple(operations), tuple(rules))


def tool_of(release: str) -> str:
    return release.partition("==")[0]


def _holds(constraint: str, tool: str, versions: Mapping[str, str]) -> bool:
    if constraint.startswith("tool="):
        return tool == constraint.removeprefix("tool=")
    match = _CONSTRAINT.fullmatch(constraint)
    if match is None:
        raise UsageProblem(f"{FILE.name}: {constraint!r} is neither NAME<VERSION nor NAME>=VERSION nor tool=NAME")
    if match["name"] not in versions:
        return False
    below = release_key(versions[match["name"]]) < release_key(match["version"])
    return below == (match["sign"] == "<")


def outcome(*, done: bool, exit_code: int, lines: list[str], touched: bool | None) -> str:
    """`done` is what the content proves, `touched` whether flash changed (None: it was not to be written)."""
    text = "\n".join(lines)
    if exit_code == 2 and re.search(r"No such (command|option)|invalid choice|unrecognized arguments", text):
        return "absent"
    if done and exit_code == 0:
        return "done"
    if exit_code == 0 and not re.search(r"Traceback|Error\b", text):
        return "exit 0, not done"
    parts = ["error"]
    if touched is not None:
        parts.append("flash changed" if touched else "flash untouched")
    if exit_code != 1:
        parts.append(f"exit {exit_code}")
    return ", ".join(parts)
