"""Products: what a board is and what is good for it. TOML data: rig/products/*.toml, or a user's own folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rig.errors import UsageProblem
from rig.home.config import Home
from rig.image.contents.provision import Provision
from rig.records.events import Outcome
from rig.toml import checked, nearest, read_toml

BOOT_PEAK = "boot_peak_current"  # the measurement that a study's amps bound
_BUILT_IN = Path(__file__).parent.parent / "products"


class Limits(BaseModel):
    """Limits of one measurement. Outside minimum/maximum it fails; inside them but outside the marginal band it
    passes as marginal."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    marginal_minimum: float | None = None
    marginal_maximum: float | None = None
    source: str = ""

    @property
    def bounded(self) -> bool:
        """Whether there is anything to judge by."""
        bounds = (self.minimum, self.maximum, self.marginal_minimum, self.marginal_maximum)
        return any(bound is not None for bound in bounds)

    def judge(self, value: float | None) -> Outcome:
        if value is None or value != value:
            return Outcome.FAIL
        if self.minimum is not None and value < self.minimum:
            return Outcome.FAIL
        if self.maximum is not None and value > self.maximum:
            return Outcome.FAIL
        if self.marginal_minimum is not None and value < self.marginal_minimum:
            return Outcome.MARGINAL
        if self.marginal_maximum is not None and value > self.marginal_maximum:
            return Outcome.MARGINAL
        return Outcome.PASS


class CitedStudy(BaseModel):
    """The study of supply failures that a product's volts and current limit lean on, as its report says it.

    `run`: its id. `volts_min`, `amps_min`: what it found to be enough: volts at the board, amps of the supply's
    limit. `sentence`: its recommendation. `margin`: a unit whose current while it boots comes within this share of
    `amps_min` is marginal, as the boards that were studied say less of it. `simulated`: it was made on a simulated
    bench, and says nothing of real boards.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    run: Annotated[str, Field(min_length=1)]
    date: date
    volts_min: Annotated[float, Field(gt=0)]
    amps_min: Annotated[float, Field(gt=0)]
    sentence: Annotated[str, Field(min_length=1, max_length=400)]
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.1
    simulated: bool = False

    @property
    def marginal_amps(self) -> float:
        """From here up a boot's current is near what was found to be enough."""
        return round(self.amps_min * (1 - self.margin), 4)

    @property
    def source(self) -> str:
        """For limits and pages: which study."""
        return f"study {self.run} of {self.date}{' on a simulated bench' if self.simulated else ''}"


class Supplied(BaseModel):
    """How a board is fed: volts, the absolute maximum no driver passes, amps of the current limit, OVP volts."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    volts: float
    maximum_volts: float
    current_limit: float
    ovp: float
    on_overcurrent: Literal["limit", "trip"] = "limit"
    off_volts: float = 0.3  # below it a board counts as off
    off_timeout: float = 5.0  # seconds a rail may take to fall there
    sag_volts: float = 0.2  # this far below `volts` while on, the supply is weak
    study: CitedStudy | None = None  # why these volts and amps are enough

    @model_validator(mode="after")
    def _as_studied(self) -> Self:
        if self.study is not None:
            for name, own, least in (
                ("volts", self.volts, self.study.volts_min),
                ("current_limit", self.current_limit, self.study.amps_min),
            ):
                if own < least:
                    raise ValueError(f"{name} is {own:g}, less than the {least:g} that its own study found enough")
        return self

    @property
    def cited(self) -> str | None:
        """Settings and the study behind them in one sentence; None without a study."""
        if self.study is None:
            return None
        said = self.study.sentence.rstrip(".")
        return f"{self.volts:g} V with a limit of {self.current_limit:g} A, by {self.study.source}: {said}"


class SerialRule(BaseModel):
    """What a unit's serial number looks like: the whole of it matches `regex`, and its check digit is right.

    The check digit is of the regex's group `checked` where it has one, else of the whole serial number; how each
    kind is worked out stands in `rig.line.serials`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    regex: str | None = None
    check_digit: Literal["none", "luhn", "mod97", "mod43"] = "none"

    @field_validator("regex")
    @classmethod
    def _compiles(cls, regex: str | None) -> str | None:
        if regex is not None:
            try:
                re.compile(regex, re.ASCII)
            except re.error as problem:
                raise ValueError(f"not a regular expression ({problem})") from None
        return regex


class Product(BaseModel):
    """One product. `limits` are by measurement name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    title: str
    chip: str
    chip_id: int
    flash_size: int
    mains: bool
    limits_version: str
    firmware: list[str] = Field(default_factory=list)  # firmware profiles to expect after conversion
    supply: Supplied
    limits: dict[str, Limits] = Field(default_factory=dict)
    serials: SerialRule = SerialRule()
    provision: Provision | None = None  # OpenBeken's configuration of each unit, written with the image
    home: Home | None = None  # the network that each converted unit is met in

    def bound_by_study(self, simulated: bool) -> None:
        """A boot that draws nearly what the study found to be enough is marginal, if the product says no other; one
        of simulated boards bounds such boards alone."""
        study = self.supply.study
        if study is not None and BOOT_PEAK not in self.limits and (simulated or not study.simulated):
            self.limits[BOOT_PEAK] = Limits(unit="A", marginal_maximum=study.marginal_amps, source=study.source)


def load_product(name: str, folders: Sequence[Path] = (), *, simulated: bool = False) -> Product:
    """The product profile called `name`, users' own folders first. UsageProblem names the nearest one. `simulated`:
    its boards are."""
    found: dict[str, Path] = {}
    for folder in [_BUILT_IN, *folders]:
        found |= {path.stem: path for path in sorted(folder.glob("*.toml"))}
    if name not in found:
        raise UsageProblem(f"no product called {name!r}; {nearest(name, found)}")
    path = found[name]
    product = checked(Product, read_toml(path, "product profile"), str(path))
    product.bound_by_study(simulated)
    if product.provision is not None:
        product.provision.placed(path.parent)
    if product.home is not None:
        product.home.placed(path.parent)
    return product
