"""A study of flasher releases as a TOML file says it: which releases, at what, how often, on which slots.

name = "my change"
baseline = "stable"                   # else the first release
operations = ["identify", "read", "write-app"]    # or "all"
conditions = ["normal", "protected"]  # or "all"
bauds = [921600]
repeats = 2                           # of what is judged right or wrong
timing = true
pairs = 5                             # of what is timed: each release so often, in blocks
seed = 1
slots = ["A", "B"]                    # or "all"

[[releases]]
name = "stable"
spec = "ltchiptool==4.15.0"

[[releases]]
spec = "git+https://github.com/libretiny-eu/ltchiptool@refs/pull/100/head"
python = "3.12"
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from rig.errors import UsageProblem
from rig.toml import checked, nearest, read_toml

DEFAULT = Path(__file__).with_name("default.toml")

Text = Annotated[str, Field(min_length=1, max_length=200)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Release(_Table):
    """One flasher release.

    `spec`: `native`, `NAME==VERSION[,DEPENDENCY==VERSION]`, `git+URL@REVISION`, a wheel's or a checkout's path, or
    the name of a profile of a program of one's own. `name`: how it is called in tables, else its spec. `python`:
    version (`3.12`) or path of the Python it is installed with, else the rig's own. `profile`: whose command line it
    has (`ltchiptool`), where its spec does not tell.
    """

    spec: Text
    name: Text | None = None
    python: Text | None = None
    profile: Text | None = None

    @property
    def title(self) -> str:
        return self.name or self.spec


class Study(_Table):
    """What is asked. `bauds`: link speeds. `max_minutes`: no new block is begun after it; what is missing is said.

    `image`: an N's bootloader and app (a QIO), `wrong_image`: another chip's; else what the bench and the
    environment give, or what is made of them. `sequential`: timed comparisons end early where it is clear already,
    else all `pairs` are made. `confirm`: what a release does worse than the baseline is tried again until it is sure.
    """

    name: Text = "study"
    releases: Annotated[list[Release], Field(min_length=1)]
    baseline: Text | None = None
    operations: list[Text] | Literal["all"] = "all"
    conditions: list[Text] | Literal["all"] = "all"
    bauds: Annotated[list[Annotated[int, Field(ge=9600, le=3_250_000)]], Field(min_length=1)] = [921600]
    repeats: Annotated[int, Field(ge=1, le=1000)] = 1
    timing: bool = True
    pairs: Annotated[int, Field(ge=1, le=1000)] = 5
    sequential: bool = True
    confirm: bool = True
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    slots: list[Text] | Literal["all"] = "all"
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    image: Path | None = None
    wrong_image: Path | None = None

    @field_validator("operations", "conditions", "slots", "bauds")
    @classmethod
    def _each_once(cls, value: list[Any] | str, info: ValidationInfo) -> list[Any] | str:
        if not value:
            raise ValueError(f"names no {info.field_name}")
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ValueError("names one of them twice")
        return value

    @model_validator(mode="after")
    def _names_differ(self) -> Study:
        titles = [release.title for release in self.releases]
        twice = next((title for title in titles if titles.count(title) > 1), None)
        if twice is not None:
            raise ValueError(f"two releases are called {twice!r}: give one a name of its own")
        if self.baseline is not None and self.baseline not in titles:
            raise ValueError(f"there is no release called {self.baseline!r} for a baseline; "
                             f"{nearest(self.baseline, titles)}")  # fmt: skip
        return self

    @property
    def base(self) -> str:
        """Title of the release that all others are compared with."""
        return self.baseline or self.releases[0].title

    @property
    def titles(self) -> list[str]:
        return [release.title for release in self.releases]

    def release(self, title: str) -> Release:
        return next(each for each in self.releases if each.title == title)

    def only(self, **changed: Any) -> Study:
        """The same with some fields changed, checked as ever. Raises UsageProblem."""
        return checked(Study, self.model_dump() | changed, "the study")


def load_study(path: Path = DEFAULT) -> Study:
    """A study file, read and checked. Raises UsageProblem in one sentence that names the nearest key.

    Paths of wheels and checkouts in it start from its folder.
    """
    study = checked(Study, read_toml(path, "study"), str(path))
    found: dict[str, Any] = {"releases": [_from(path.parent, release) for release in study.releases]}
    for name in ("image", "wrong_image"):
        image = getattr(study, name)
        found[name] = None if image is None else (path.parent / image.expanduser()).resolve()
    return study.model_copy(update=found)


def _from(folder: Path, release: Release) -> Release:
    """With the full path, where its spec is one."""
    if not is_path(release.spec):
        return release
    path = (folder / Path(release.spec).expanduser()).resolve()
    return release.model_copy(update={"spec": str(path), "name": release.name or Path(release.spec).name})


def is_path(spec: str) -> bool:
    """Whether a spec names a wheel or a checkout on disk: it has a slash and no scheme, or ends in .whl."""
    return spec.endswith(".whl") or ("/" in spec and re.match(r"[a-z+]+://|git\+", spec) is None)


def study_hash(study: Study) -> str:
    """What a study asks, as 12 hexadecimal digits: a run is resumed with the study that it began with."""
    return hashlib.sha256(study.model_dump_json().encode()).hexdigest()[:12]


def study_of(row: Any, where: str) -> Study:
    """A study from what `study.json` holds under `study`. Raises UsageProblem."""
    if not isinstance(row, dict):
        raise UsageProblem(f"{where}: there is no study in it")
    return checked(Study, row, where)
