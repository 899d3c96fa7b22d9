"""Witness dialects: how an oscilloscope is spoken to, as TOML that a bench engineer can add without Python.

The shipped ones are in `witnesses/`; a user's own are found in the bench's `profiles/witnesses`. A dialect suits an
instrument that rolls: it samples on and on, and a record that is stopped ends at the moment of the stop.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from rig.errors import UsageProblem
from rig.supply.channel import Instrument
from rig.supply.dialect import Identity, Transport
from rig.supply.models import Source, Table
from rig.toml import checked, nearest, read_toml

SHIPPED = Path(__file__).parent / "witnesses"
_FIELDS = {"channel": 1, "probe": 10.0, "range": 4.0, "offset": 1.8, "window": 0.5, "points": 1000}
_NEEDED = ("points", "dt", "step")


def _line(text: str) -> str:
    """A line to send: its fields are among _FIELDS, and take the formats that are asked of them."""
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
        if unknown := [name for name in names if name not in _FIELDS]:
            raise ValueError(f"{{{unknown[0]}}} is not one of {', '.join(_FIELDS)}")
        text.format(**_FIELDS)
    except (ValueError, IndexError) as bad:
        raise ValueError(f"{text!r}: {bad}") from None
    return text


def _whole(fields: list[str]) -> list[str]:
    if missing := [name for name in _NEEDED if name not in fields]:
        raise ValueError(f"needs {', '.join(missing)}")
    return fields


Line = Annotated[str, AfterValidator(_line)]
Lines = Annotated[
    list[Line], BeforeValidator(lambda value: [value] if isinstance(value, str) else value), Field(min_length=1)
]


class Send(Table):
    """Lines to send. Fields: {channel}, {probe}, {range} and {offset} in volts, {window} in seconds, {points}."""

    send: Lines
    source: Source


class Ask(Table):
    send: Line
    source: Source


class Preamble(Ask):
    """Numbers with commas; `fields` names them. Needed: `points`, `dt` (seconds) and `step` (volts)."""

    fields: Annotated[list[str], AfterValidator(_whole)]


class Data(Ask):
    """Numbers with commas, in volts, oldest first, behind the head of a block if there is one. `hole` and more stands
    where nothing was sampled."""

    hole: float = Field(gt=1e3)


class Commands(Table):
    roll: Send
    stop: Send
    fetch: Send


class Queries(Table):
    done: Ask
    preamble: Preamble
    data: Data
    error: Ask


class Record(Table):
    """What one record can be: seconds of the whole window, points fetched of it, levels over the vertical range."""

    channels: int = Field(ge=1)
    window_min_s: float = Field(gt=0)
    window_max_s: float = Field(gt=0)
    points: int = Field(ge=100)
    levels: int = Field(ge=2)
    source: Source


class WitnessDialect(Table):
    """One family of witnesses: the whole file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    judge: str = ""
    identity: Identity
    transport: Transport
    record: Record
    commands: Commands
    queries: Queries

    def recognise(self, idn: str) -> Instrument | None:
        """The instrument behind an answer to *IDN?; None if it is not of this family."""
        found = re.fullmatch(self.identity.match, idn, re.IGNORECASE)
        if found is None:
            return None
        part = {"maker": "", "serial": "", "firmware": "", **found.groupdict(default="")}
        told = {name: part[name].strip() for name in ("maker", "model", "serial", "firmware")}
        return Instrument(idn=idn, dialect=self.name, **told)


def available(folders: Sequence[Path] = ()) -> dict[str, Path]:
    """Name -> file; a user's file takes the place of a shipped one of the same name."""
    return {path.stem: path for folder in (SHIPPED, *folders) for path in sorted(folder.glob("*.toml"))}


def load(name: str, folders: Sequence[Path] = ()) -> WitnessDialect:
    """The dialect called `name`. UsageProblem in one sentence, naming the nearest right name or key."""
    files = available(folders)
    if name not in files:
        raise UsageProblem(f"no witness dialect called {name!r}; {nearest(name, files)}")
    path = files[name]
    return checked(WitnessDialect, read_toml(path, "witness dialect"), str(path))


def recognise(idn: str, folders: Sequence[Path] = ()) -> tuple[WitnessDialect, Instrument]:
    """The dialect for an answer to *IDN?, a user's own first. UsageProblem if none knows the instrument."""
    files = available(folders)
    for name in sorted(files, key=lambda each: files[each].parent == SHIPPED):
        dialect = load(name, folders)
        if found := dialect.recognise(idn):
            return dialect, found
    raise UsageProblem(
        f"no witness dialect knows the instrument that says {idn!r}; there is {', '.join(sorted(files))}: name the "
        "right one in the bench file, or add one"
    )
