"""Products: what a board is and what is good for it. TOML data: rig/products/*.toml, or a user's own folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from rig.errors import UsageProblem
from rig.image.contents.provision import Provision
from rig.records.events import Outcome
from rig.toml import checked, nearest, read_toml

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


def load_product(name: str, folders: Sequence[Path] = ()) -> Product:
    """The product profile called `name`, users' own folders first. UsageProblem names the nearest one."""
    found: dict[str, Path] = {}
    for folder in [_BUILT_IN, *folders]:
        found |= {path.stem: path for path in sorted(folder.glob("*.toml"))}
    if name not in found:
        raise UsageProblem(f"no product called {name!r}; {nearest(name, found)}")
    path = found[name]
    product = checked(Product, read_toml(path, "product profile"), str(path))
    if product.provision is not None:
        product.provision.placed(path.parent)
    return product
