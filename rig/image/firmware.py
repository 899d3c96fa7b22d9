"""Firmware profiles: TOML files that say how a firmware is told from others, in its image and in its boot log.

The rig brings some (rig/firmwares/); a folder of one's own adds to them, and a file there with a known `name`
replaces the rig's. The files describe; `rig.image.identify` and `rig.uart.verdict` judge.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from rig.errors import UsageProblem

OWN_FOLDER = Path(__file__).resolve().parent.parent / "firmwares"


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as problem:
        raise ValueError(f"not a regular expression ({problem})") from problem
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("a blank text would be found in every line")
    return text


Pattern = Annotated[str, AfterValidator(_regex)]
Marker = Annotated[str, AfterValidator(_not_blank)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageSigns(_Table):
    """Regular expressions over the decrypted app; groups `version`, `chip`, `product`, `sdk` where they can tell.

    `closed`: its images end in an RBL header, so that an app or QIO image without one was cut short; a dump without
    one is taken, and not said to boot. False: they have none. None: not known.
    """

    patterns: tuple[Pattern, ...] = ()
    closed: bool | None = None


class ResetCauses(_Table):
    """`pattern` has a group `cause`; `causes` maps what it holds, in lower case, to a name."""

    pattern: Pattern
    causes: dict[str, str]


LogPhase = Literal["boot", "rf-calibration", "access-point", "running"]  # boot: the first line, running: complete


class LogSigns(_Table):
    """The boot log. `versions` are regular expressions with a group `version`; all else is plain text, any of it.

    Markers are found even where another thread's print cut them in two. `hold`: until when the board must keep
    its power after a boot ("complete": until that marker; "init_done": until that one). `expected_s`: seconds
    from power-on to `complete` on a healthy board, for choosing a time limit. `phases`: texts with which a phase of a
    boot begins, for studies of the supply; `phase` adds those that every firmware has.
    """

    versions: tuple[Pattern, ...] = ()
    signs: tuple[Marker, ...] = Field(min_length=1)
    bootloader: tuple[Marker, ...] = ()
    jump: tuple[Marker, ...] = ()
    app: tuple[Marker, ...] = Field(min_length=1)
    init_done: tuple[Marker, ...] = ()
    complete: tuple[Marker, ...] = Field(min_length=1)
    safe_mode: tuple[Marker, ...] = ()
    crash: tuple[Marker, ...] = ()
    rf_lost: tuple[Marker, ...] = ()
    hold: Literal["complete", "init_done"] = "complete"
    expected_s: float = Field(gt=0, default=10.0)
    reset: ResetCauses | None = None
    phases: dict[Literal["rf-calibration", "access-point"], tuple[Marker, ...]] = {}

    def phase(self, name: LogPhase) -> tuple[str, ...]:
        """The texts with which it begins, any of them; none: this firmware's log does not show it."""
        if name == "boot":
            return self.bootloader or self.app
        return self.complete if name == "running" else self.phases.get(name, ())


class FirmwareProfile(_Table):
    """One firmware. `file` is the name of its published image, with {version} in it; `published` where it is."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    chip: str
    file: str | None = None
    published: str | None = None
    image: ImageSigns = ImageSigns()
    log: LogSigns

    @cached_property
    def image_patterns(self) -> tuple[re.Pattern[bytes], ...]:
        return tuple(re.compile(pattern.encode()) for pattern in self.image.patterns)


def load_profile(path: Path) -> FirmwareProfile:
    """The profile in a TOML file. UsageProblem with one sentence: which file, which key, what is wrong."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return FirmwareProfile.model_validate(content)
    except OSError as problem:
        raise UsageProblem(f"{path}: cannot be read ({problem.strerror}).") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise UsageProblem(f"{path}: is not TOML ({problem}).") from problem
    except ValidationError as problem:
        raise UsageProblem(f"{path}: {_first_problem(problem)}.") from problem


def load_profiles(*folders: Path) -> tuple[FirmwareProfile, ...]:
    """The rig's own profiles and those in `folders`; a later one replaces an earlier one of the same name.

    UsageProblem for a folder that is not there or a file that is not a profile.
    """
    found: dict[str, FirmwareProfile] = {}
    for folder in (OWN_FOLDER, *folders):
        if not folder.is_dir():
            raise UsageProblem(f"{folder}: there is no such folder of firmware profiles.")
        for path in sorted(folder.glob("*.toml")):
            profile = load_profile(path)
            found[profile.name] = profile
    return tuple(found.values())


def _first_problem(problem: ValidationError) -> str:
    errors = problem.errors(include_url=False)
    first = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return f"{where}: {first['msg'].removeprefix('Value error, ')}"
    nearest = difflib.get_close_matches(str(first["loc"][-1]), _keys_at(first["loc"][:-1]), n=1, cutoff=0.0)
    return f"{where} is not a known key; the nearest is {nearest[0]}"


def _keys_at(location: Iterable[Any]) -> list[str]:
    tables: dict[str, type[BaseModel]] = {"image": ImageSigns, "log": LogSigns, "reset": ResetCauses}
    model: type[BaseModel] = FirmwareProfile
    for part in location:
        model = tables[str(part)]
    return list(model.model_fields)
