"""`study.json`: what a supply study's run began with, written before its first trial and never changed.

With `trials.jsonl` it is all that a report needs: `rig.power.result` reads both. A trial's `cell.study` is
`STUDY/PART`, its `cell.phase`, `cell.source` and `cell.x` say which of the part's trials it is.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rig.errors import UsageProblem
from rig.files import write_durably
from rig.power.study import Study, study_of
from rig.power.trial import STUDY, Cell

KIND = "power"  # tells this study.json from one of another command


@dataclass(frozen=True)
class Place:
    """A slot as it was found. `supply`: model, maker, serial, firmware of the instrument, and its dialect.

    `volts`, `amps`: what the product wants, and what a reference trial has. `means`: what the supply can play a wave
    with, one row a way. `sentences`: of the study's waves what this supply makes of them. `witness`: the instrument
    that measures the rail; None: what is achieved is not measured.
    """

    slot: str
    product: str
    volts: float
    amps: float
    maximum_volts: float
    supply: dict[str, str] = field(default_factory=dict)
    witness: dict[str, Any] | None = None
    means: list[dict[str, Any]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Played:
    """A weak source as the supply plays it at this bench's product: `title` and `source` are for people."""

    name: str
    title: str
    volts: float
    amps: float
    source: str


@dataclass(frozen=True)
class Record:
    """What a run began with. `bench`: spec, name, whether simulated, and its speed; `rig`: its version and Python's.

    `image`: name and sha256 of what boards run, with `firmware` and `version` as far as they can be told.
    """

    id: str
    utc: str
    study: Study
    places: list[Place]
    sources: list[Played] = field(default_factory=list)
    bench: dict[str, Any] = field(default_factory=dict)
    image: dict[str, str] = field(default_factory=dict)
    rig: dict[str, str] = field(default_factory=dict)

    def write(self, run: Path) -> None:
        """Durable when this returns."""
        row = {"kind": KIND} | asdict(self) | {"study": self.study.model_dump(mode="json")}
        write_durably(run / STUDY, json.dumps(row, indent=1, ensure_ascii=False) + "\n")

    def place(self, slot: str) -> Place:
        return next(each for each in self.places if each.slot == slot)

    @property
    def simulated(self) -> bool:
        return bool(self.bench.get("simulated"))


def part_name(cell: Cell) -> str:
    """The name of the part that a cell is of."""
    return cell.study.rpartition("/")[2]


def is_power_run(run: Path) -> bool:
    """Whether a folder is a run of rig power."""
    try:
        return bool(json.loads((run / STUDY).read_text(encoding="utf-8")).get("kind") == KIND)
    except (OSError, ValueError, AttributeError):
        return False


def read_record(run: Path) -> Record:
    """Raises UsageProblem for a folder that is no supply study's run."""
    path = run / STUDY
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if row.get("kind") != KIND:
            raise UsageProblem(f"{run} is no run of rig power: it is another command's")
        return Record(
            id=row["id"],
            utc=row["utc"],
            study=study_of(row["study"], f"{path}, study"),
            places=[Place(**each) for each in row["places"]],
            sources=[Played(**each) for each in row["sources"]],
            bench=row["bench"],
            image=row["image"],
            rig=row["rig"],
        )
    except FileNotFoundError:
        raise UsageProblem(f"{run} is no run of rig power: there is no {STUDY} in it") from None
    except OSError as problem:
        raise UsageProblem(f"cannot read {path}: {problem.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise UsageProblem(f"{path} is not what rig power writes: {problem!r}") from None
