"""`study.json`: what a study's run began with, written before its first trial and never changed.

With `trials.jsonl` it is all that a report needs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rig.errors import UsageProblem
from rig.files import write_durably
from rig.releases.study import Study, study_of
from rig.releases.trial import STUDY, Spec


@dataclass(frozen=True)
class Installed:
    """A release as it was found: versions by package (lower case), SHA-256 of what was installed. `problem`: why it
    could not be installed, one sentence; its trials are `not-installed`."""

    title: str
    spec: str
    versions: dict[str, str] = field(default_factory=dict)
    sha256: str = ""
    python: str = ""
    problem: str | None = None


@dataclass(frozen=True)
class Described:
    """An operation or condition in words, as the report shows it. `group` is its column's group there."""

    id: str
    title: str
    what: str
    group: str = ""
    timed: bool = False


@dataclass(frozen=True)
class Record:
    """What a run began with. `bench`: name, and whether simulated; `rig`: its version and Python's.

    `images`: file name and sha256 of what was written, by what operations call it.
    """

    id: str
    utc: str
    study: Study
    installed: list[Installed]
    operations: list[Described]
    conditions: list[Described]
    schedule: list[Spec]
    bench: dict[str, Any] = field(default_factory=dict)
    images: dict[str, dict[str, str]] = field(default_factory=dict)
    rig: dict[str, str] = field(default_factory=dict)

    def write(self, run: Path) -> None:
        """Durable when this returns."""
        row = asdict(self) | {"study": self.study.model_dump(mode="json")}
        write_durably(run / STUDY, json.dumps(row, indent=1, ensure_ascii=False) + "\n")

    def operation(self, name: str) -> Described:
        return next((each for each in self.operations if each.id == name), Described(name, name, ""))

    def condition(self, name: str) -> Described:
        return next((each for each in self.conditions if each.id == name), Described(name, name, ""))


def read_record(run: Path) -> Record:
    """Raises UsageProblem for a folder that is no study's run."""
    path = run / STUDY
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        return Record(
            id=row["id"],
            utc=row["utc"],
            study=study_of(row["study"], f"{path}, study"),
            installed=[Installed(**each) for each in row["installed"]],
            operations=[Described(**each) for each in row["operations"]],
            conditions=[Described(**each) for each in row["conditions"]],
            schedule=[Spec(**each) for each in row["schedule"]],
            bench=row["bench"],
            images=row["images"],
            rig=row["rig"],
        )
    except FileNotFoundError:
        raise UsageProblem(f"{run} is no run of rig releases: there is no {STUDY} in it") from None
    except OSError as problem:
        raise UsageProblem(f"cannot read {path}: {problem.strerror}") from None
    except (ValueError, KeyError, TypeError) as problem:
        raise UsageProblem(f"{path} is not what rig releases writes: {problem!r}") from None
