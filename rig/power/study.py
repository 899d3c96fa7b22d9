"""A study of supply failures as a TOML file says it: parts, one after the other, each at each slot's board.

name = "my dip"
title = "Where a dip of 50 ms resets a board"
words = "A sentence or two for whoever reads the report."
speed = 1                             # of a simulated bench whose speed nobody chose
reference_every = 10                  # trials between two with an undisturbed supply
later = 3                             # power-cycles after which flash is looked at again

[[parts]]
name = "depth"
words = "Depth of a dip of 50 ms, by what the board is at."
activity = "boot"                     # link, flash, boot, convert, running
phases = ["boot", "rf-calibration"]   # when it fires; each is a search of its own; none: the whole activity
wave = { kind = "dip", seconds = 0.05 }
search = { axis = "volts", low = 0.5, high = 3.2, step = 0.05 }

Instead of `search` a part has one of

grid = { axes = { volts = [1.5, 2.0, 2.5], seconds = { low = 0.01, high = 1, points = 7, log = true } }, repeats = 5 }
series = { repeats = 1000 }                                # again and again; `axes` as above: drawn each time
staircase = { fraction = 0.05, hold_s = 5, rest_s = 10 }   # ISO 16750-2, reset behaviour: level below level
confirm = { after = "depth", reliability = 0.9 }           # from its threshold on, until so many in a row are good

An axis is one of the wave's own numbers, or `volts` and `amps` of the supply, or `delay_s` and `nth` of the phase.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from rig.errors import UsageProblem
from rig.power.levels import Levels
from rig.power.outcome import COUNTED, GOOD, Outcome
from rig.power.sources import load_sources
from rig.power.trial import Activity, Phase
from rig.toml import checked, nearest, read_toml

FOLDER = Path(__file__).with_name("studies")
DEFAULT = "minimum-supply"

Text = Annotated[str, Field(min_length=1, max_length=2000)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]

_WAVES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # its numbers, and those of them that may be left out
    "dip": (("volts", "seconds"), ()),
    "interruption": (("seconds",), ()),
    "sag": (("volts", "fall_s", "hold_s", "rise_s", "points"), ("points",)),
    "ramp": (("start", "end", "seconds", "points"), ("points",)),
    "starve": (("amps", "seconds"), ()),
    "soft-start": (("volts", "seconds", "points"), ("points",)),
}
_SUPPLY = ("volts", "amps")
_PHASE = ("delay_s", "nth")
_MOST_POINTS = 200


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Wave(_Table):
    """What the output does: rig.supply.waveform has each kind. Volts, amps, seconds. An axis may stand for any."""

    kind: Literal["dip", "interruption", "sag", "ramp", "starve", "soft-start"]
    volts: NotNegative | None = None
    amps: NotNegative | None = None
    seconds: Positive | None = None
    fall_s: NotNegative | None = None
    hold_s: NotNegative | None = None
    rise_s: NotNegative | None = None
    start: NotNegative | None = None
    end: NotNegative | None = None
    points: Annotated[int, Field(ge=2, le=200)] | None = None

    @property
    def numbers(self) -> tuple[str, ...]:
        """What this kind takes."""
        return _WAVES[self.kind][0]

    @property
    def given(self) -> dict[str, float]:
        return {name: value for name in self.numbers if (value := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _only_its_own(self) -> Wave:
        for name in type(self).model_fields:
            if name != "kind" and getattr(self, name) is not None and name not in self.numbers:
                raise ValueError(f"a {self.kind} has no {name!r}, it has {', '.join(self.numbers)}")
        return self


class Range(_Table):
    """An axis: a list of values, or from `low` to `high` each `step`, or so many `points`, evenly or (`log`) in the
    same proportion."""

    listed: Annotated[list[NotNegative], Field(min_length=1, max_length=_MOST_POINTS)] | None = None
    low: NotNegative | None = None
    high: Positive | None = None
    step: Positive | None = None
    points: Annotated[int, Field(ge=2, le=_MOST_POINTS)] | None = None
    log: bool = False

    @model_validator(mode="before")
    @classmethod
    def _or_a_list(cls, data: Any) -> Any:
        return {"listed": data} if isinstance(data, list) else data

    @model_validator(mode="after")
    def _makes_sense(self) -> Range:
        if self.listed is not None:
            if len(set(self.listed)) < len(self.listed):
                raise ValueError("names one of its values twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("it takes 'low' and 'high', or a list of values")
        if self.high <= self.low:
            raise ValueError("'high' must be more than 'low'")
        if (self.step is None) == (self.points is None):
            raise ValueError("it takes either 'step' or 'points'")
        if self.log and (self.points is None or self.low == 0):
            raise ValueError("with 'log' it takes 'points', and 'low' is more than 0")
        if self.step is not None and (self.high - self.low) / self.step > _MOST_POINTS:
            raise ValueError(f"those are more than {_MOST_POINTS} values")
        return self

    @property
    def values(self) -> list[float]:
        """What the axis goes through, in the order of the file."""
        if self.listed is not None:
            return self.listed
        assert self.low is not None
        assert self.high is not None
        if self.step is not None:
            count = math.floor((self.high - self.low) / self.step + 1e-6) + 1
            return [round(self.low + at * self.step, 9) for at in range(count)]
        assert self.points is not None
        shares = [at / (self.points - 1) for at in range(self.points)]
        if self.log:
            return [_shown(self.low * (self.high / self.low) ** share) for share in shares]
        return [_shown(self.low + (self.high - self.low) * share) for share in shares]


class SearchTable(_Table):
    """A threshold of `axis`, from `low` to `high` on a grid of `step` (with `log` a factor, as for seconds).
    `downwards`: it is bad below the threshold, else above it."""

    axis: Text
    low: NotNegative
    high: Positive
    step: Positive
    log: bool = False
    downwards: bool = True
    max_trials: Annotated[int, Field(ge=6, le=1000)] = 60

    @model_validator(mode="after")
    def _makes_sense(self) -> SearchTable:
        if not self.low < self.high:
            raise ValueError("'high' must be more than 'low'")
        if self.log and not (self.step > 1 and self.low > 0):
            raise ValueError("with 'log' the 'step' is a factor above 1, and 'low' is more than 0")
        steps = math.log(self.high / self.low, self.step) if self.log else (self.high - self.low) / self.step
        if not 3 <= steps <= 1000:
            raise ValueError("from 'low' to 'high' there are 3 to 1000 steps")
        return self

    @property
    def levels(self) -> Levels:
        if self.log:
            return Levels.factors(self.low, self.high, self.step)
        return Levels.linear(self.low, self.high, self.step)


class GridTable(_Table):
    """A shmoo: each pair of values `repeats` times, in an order that is drawn."""

    axes: Annotated[dict[str, Range], Field(min_length=1, max_length=2)]
    repeats: Annotated[int, Field(ge=1, le=10_000)] = 3


class SeriesTable(_Table):
    """`repeats` trials. With `axes` each of them is drawn from their values."""

    repeats: Annotated[int, Field(ge=1, le=1_000_000)]
    axes: dict[str, Range] = {}


class StaircaseTable(_Table):
    """Levels from (1 - `fraction`) of the product's volts down to none, each below the last, each held `hold_s`
    seconds and followed by `rest_s` at full volts, in which the board is judged. Source: ISO 16750-2, 4.6.2."""

    fraction: Annotated[float, Field(ge=0.01, le=0.5)] = 0.05
    hold_s: Positive = 5.0
    rest_s: Positive = 10.0
    repeats: Annotated[int, Field(ge=1, le=1000)] = 1


class ConfirmTable(_Table):
    """From the threshold that part `after` found on: so many trials in a row are good that with the study's
    confidence a share of `reliability` is (29 for 0.95 and 0.9). A bad one: again, one step of `after` safer."""

    after: Text
    reliability: Share = 0.9


class Part(_Table):
    """One thing a study does. `volts`, `amps`: of the supply, else the product's. `phases`, `sources` (weak sources,
    or "all"): each of them is done by itself. `delay_s`: from the phase's event to the firing; `nth`: the how many-th
    erase, program and so on. `bad`: outcomes that count as bad; else all but unaffected and late."""

    name: Name
    words: Text
    activity: Activity
    phases: list[Phase] = []
    sources: list[Text] | Literal["all"] = []
    volts: Positive | None = None
    amps: Positive | None = None
    wave: Wave | None = None
    nth: Annotated[int, Field(ge=1)] = 1
    delay_s: NotNegative = 0.0
    bad: list[Outcome] = [each for each in COUNTED if each not in GOOD]
    search: SearchTable | None = None
    grid: GridTable | None = None
    series: SeriesTable | None = None
    staircase: StaircaseTable | None = None
    confirm: ConfirmTable | None = None

    @property
    def method(self) -> str:
        """search, grid, series, staircase or confirm."""
        return next(name for name in _METHODS if getattr(self, name) is not None)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of what is varied within it."""
        if self.search is not None:
            return (self.search.axis,)
        table = self.grid or self.series
        return tuple(table.axes) if table is not None else ("volts",) if self.staircase is not None else ()

    @property
    def source_names(self) -> list[str]:
        return list(load_sources()) if self.sources == "all" else list(self.sources)

    @field_validator("phases", "sources", "bad")
    @classmethod
    def _each_once(cls, value: list[Any] | str, info: ValidationInfo) -> list[Any] | str:
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ValueError("names one of them twice")
        if info.field_name == "bad" and not value:
            raise ValueError("names no outcome")
        return value

    @model_validator(mode="after")
    def _holds_together(self) -> Part:
        has = [name for name in _METHODS if getattr(self, name) is not None]
        if len(has) != 1:
            said = "has " + " and ".join(has) if has else "has none"
            raise ValueError(f"it takes one of {', '.join(_METHODS)}; it {said}")
        if self.staircase is not None and self.wave is not None:
            raise ValueError("a staircase has its own waves: leave out 'wave'")
        waves = self.wave is not None or self.staircase is not None
        if self.confirm is None and bool(self.phases) != waves:
            raise ValueError("'phases' and 'wave' belong together: when it fires, and what")
        if self.sources and (self.volts is not None or self.amps is not None):
            raise ValueError("'sources' give volts and amps: leave these out")
        for axis in self.axes if self.staircase is None else ():
            self._takes(axis)
        if self.wave is not None:
            missing = [
                name
                for name in self.wave.numbers
                if name not in _WAVES[self.wave.kind][1] and name not in self.wave.given and name not in self.axes
            ]
            if missing:
                raise ValueError(f"its {self.wave.kind} has no {missing[0]!r}, and no axis is called so")
        unknown = [] if self.sources == "all" else [name for name in self.sources if name not in load_sources()]
        if unknown:
            raise ValueError(f"there is no source {unknown[0]!r}; {nearest(unknown[0], load_sources())}")
        return self

    def _takes(self, axis: str) -> None:
        able = [*(self.wave.numbers if self.wave is not None else ()), *_SUPPLY, *(_PHASE if self.phases else ())]
        if axis not in able or axis == "points":
            raise ValueError(f"there is no axis {axis!r} here; {nearest(axis, dict.fromkeys(able))}")
        if self.owner(axis) != "supply":
            return
        if self.sources:
            raise ValueError(f"'sources' give {axis}: no axis can")
        table = self.grid or self.series
        least = self.search.low if self.search is not None else min(table.axes[axis].values) if table else 1.0
        if not least > 0:
            raise ValueError(f"{axis} of a supply are more than 0")

    def owner(self, axis: str) -> Literal["wave", "supply", "phase"]:
        """What an axis is a number of."""
        if self.staircase is not None or (self.wave is not None and axis in self.wave.numbers):
            return "wave"
        return "phase" if axis in _PHASE else "supply"


_FOLLOWED = ("wave", "phases", "sources", "volts", "amps", "nth", "delay_s")  # what a confirm has of another part
_METHODS = ("search", "grid", "series", "staircase", "confirm")


class Study(_Table):
    """What is asked. `max_trials`: of one board, references too; `max_minutes`: no trial is begun after them.
    `confidence`: of every interval and bound. `image`: what boards run and are converted to, else the bench's.
    `widen`: a wave that is too short for the supply is played as short as it can."""

    name: Name
    title: Text
    words: Text
    parts: Annotated[list[Part], Field(min_length=1)]
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    reference_every: Annotated[int, Field(ge=1, le=100_000)] = 10
    later: Annotated[int, Field(ge=1, le=20)] = 2
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    speed: Annotated[float, Field(ge=0.01, le=1000)] = 1.0
    max_trials: Annotated[int, Field(ge=1)] | None = None
    max_minutes: Positive | None = None
    widen: bool = False
    slots: list[Text] | Literal["all"] = "all"
    image: Path | None = None

    @model_validator(mode="after")
    def _parts_agree(self) -> Study:
        names = [part.name for part in self.parts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two parts are called {twice!r}")
        for at, part in enumerate(self.parts):
            if part.confirm is None:
                continue
            before = {one.name: one for one in self.parts[:at]}
            asked = part.confirm.after
            if asked not in before or before[asked].search is None:
                found = [name for name, one in before.items() if one.search is not None]
                raise ValueError(f"part {part.name!r} comes after {asked!r}, which is no search before it; "
                                 f"{nearest(asked, found)}")  # fmt: skip
            own = [name for name in _FOLLOWED if getattr(part, name) != Part.model_fields[name].default]
            if own:
                raise ValueError(f"part {part.name!r} has {own[0]!r} of {asked!r}: leave it out")
        return self

    def part(self, name: str) -> Part:
        """Raises UsageProblem naming the nearest."""
        for each in self.parts:
            if each.name == name:
                return each
        raise UsageProblem(f"the study {self.name} has no part {name!r}; "
                           f"{nearest(name, [each.name for each in self.parts])}")  # fmt: skip

    def only(self, **changed: Any) -> Study:
        """The same with some fields changed, checked as ever. Raises UsageProblem."""
        return checked(Study, self.model_dump() | changed, "the study")


def ready() -> dict[str, Path]:
    """The studies that come with the rig, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def load_study(name: str = DEFAULT) -> Study:
    """A ready study by its name, or a file. Raises UsageProblem in one sentence that names the nearest key or study.

    The path of an image in it starts from its folder.
    """
    found = ready()
    path = found.get(name, Path(name))
    if name not in found and not path.suffix and "/" not in name and not path.is_file():
        raise UsageProblem(f"no study called {name!r}; {nearest(name, found)}, or name a file")
    study = checked(Study, read_toml(path, "study"), str(path))
    if study.image is None:
        return study
    return study.model_copy(update={"image": (path.parent / study.image.expanduser()).resolve()})


def study_of(row: Any, where: str) -> Study:
    """A study from what `study.json` holds under `study`. Raises UsageProblem."""
    if not isinstance(row, dict):
        raise UsageProblem(f"{where}: there is no study in it")
    return checked(Study, row, where)


def study_hash(study: Study) -> str:
    """What a study asks, as 12 hexadecimal digits."""
    return hashlib.sha256(study.model_dump_json().encode()).hexdigest()[:12]


def _shown(value: float) -> float:
    """With four digits that count: nobody sets a supply finer, and tables stay readable."""
    return float(f"{value:.4g}")
