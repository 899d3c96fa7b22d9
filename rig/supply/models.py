"""What an instrument can do: its channels, or the modules in its slots, as a dialect file lists them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Source = Annotated[str, Field(min_length=3)]
Step = Annotated[float, Field(gt=0, le=1)]


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Sequence_(Table):
    """What the instrument can step through by itself (LIST, timer, ARB). Seconds.

    A step lasts `min_dwell_s` to `max_dwell_s` on a grid (`grid_s`; the shortest step, if it is not given), and comes
    out at most `early_s` shorter and `late_s` longer.
    """

    min_dwell_s: float = Field(gt=0)
    max_dwell_s: float = Field(default=3600, gt=0)
    grid_s: float | None = Field(default=None, gt=0)
    early_s: float = Field(default=0, ge=0)
    late_s: float = Field(default=0.001, ge=0)
    max_steps: int = Field(gt=1)  # the last one is the rig's own: back to what is set
    source: Source


class Module(Table):
    """What a channel can do that depends on what is plugged in. Volts and amps; a setting is rounded to the steps."""

    names: list[str] = Field(min_length=1)  # as `queries.module` answers
    volts_max: float = Field(gt=0)
    amps_max: float = Field(gt=0)
    ovp_max: float | None = Field(default=None, gt=0)
    volts_step: Step
    amps_step: Step
    ovp_step: Step = 0.01
    ocp_max: float | None = Field(default=None, gt=0)  # where a level that cannot be switched off is out of the way
    volts_tolerance: float | None = Field(default=None, gt=0)  # in reading back; default: one step
    amps_tolerance: float | None = Field(default=None, gt=0)
    sequence: Sequence_ | None = None
    source: Source


class Place(Table):
    """One output of an instrument, as lines name it."""

    number: int = Field(gt=0)
    name: str = ""


class ChannelLimits(Module, Place):
    """What one channel can do."""

    names: list[str] = []


class Model(Table):
    """An instrument: its channels, or how many slots for modules it has."""

    name: str
    channel: list[ChannelLimits] = []
    slots: int = Field(default=0, ge=0, le=16)
    sequence: Sequence_ | None = None
    unused: list[Place] = []  # outputs for no board; they go on with the others where outputs switch together

    @model_validator(mode="after")
    def _one_way(self) -> Model:
        if bool(self.channel) == bool(self.slots):
            raise ValueError("give either channel or slots")
        return self

    @property
    def numbers(self) -> list[int]:
        """The channels that there can be."""
        return [limits.number for limits in self.channel] or list(range(1, self.slots + 1))
