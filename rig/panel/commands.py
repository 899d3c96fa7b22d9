"""What a page may ask the station to do: a closed list, each field bounded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Name = Annotated[str, Field(min_length=1, max_length=200)]
Slot = Annotated[str, Field(min_length=1, max_length=64)]


class _Command(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Scan(_Command):
    """A serial was scanned; `slot` None: the station knows where it belongs."""

    do: Literal["scan"]
    slot: Slot | None = None
    text: Name
    who: Name | None = None


class Answer(_Command):
    do: Literal["answer"]
    prompt: Name
    answer: Name
    who: Name | None = None


class Abort(_Command):
    """A slot's unit; without a slot the run."""

    do: Literal["abort"]
    slot: Slot | None = None


class Finish(_Command):
    """Nothing more is begun; what is at work ends."""

    do: Literal["finish"]


class Release(_Command):
    """A slot is used again."""

    do: Literal["release"]
    slot: Slot
    who: Name | None = None


class ReleaseLine(_Command):
    """A line that had stopped goes on."""

    do: Literal["release-line"]
    who: Name | None = None


class Rework(_Command):
    do: Literal["rework"]
    unit: Name
    what: Annotated[str, Field(min_length=1, max_length=200)]
    who: Name


class Retest(_Command):
    do: Literal["retest"]
    unit: Name


class Operator(_Command):
    """Who stands here, by badge."""

    do: Literal["operator"]
    who: Name


_COMMANDS: TypeAdapter[Any] = TypeAdapter(
    Annotated[
        Scan | Answer | Abort | Finish | Release | ReleaseLine | Rework | Retest | Operator, Field(discriminator="do")
    ]
)


def command_of(body: bytes) -> dict[str, Any]:
    """A request's body as the command that goes to the station. ValidationError for anything else."""
    command: _Command = _COMMANDS.validate_json(body)
    found = command.model_dump()
    if isinstance(command, Abort) and command.slot is None:
        found.pop("slot")
    return found | {"by": "panel"}
