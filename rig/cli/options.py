"""The options that commands working on boards have in common: one dataclass a kind of command, and how a command
takes them.

    @takes(UnitOptions)
    def convert(options: UnitOptions, image: Annotated[Path | None, typer.Option(...)] = None) -> None: ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from rig.errors import UsageProblem

Options = TypeVar("Options", bound="LineOptions")
DEFAULT_BENCH = "bench.toml"


@dataclass(frozen=True)
class LineOptions:
    """What `rig convert`, `recover`, `restore` and `run` all take: bench, how boards are worked on, what is said."""

    bench: Annotated[
        str | None, typer.Option(help="Bench file (bench.toml), sim[:BOARDS][@SPEED], or labgrid:PLACE.")
    ] = None
    slot: Annotated[list[str] | None, typer.Option(help="Slots to use; default: all.")] = None
    out: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs")
    operator: Annotated[str | None, typer.Option(metavar="NAME", help="Who works here; in every record.")] = None
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Go on with a run that was cut short; all else is as it began."),
    ] = None
    flasher: Annotated[str, typer.Option(help="native, or NAME==VERSION such as ltchiptool==4.15.0.")] = "native"
    override: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="Let the image off from one rule (docs/image-rules.md); repeatable, recorded.",
        ),
    ] = None
    current_limit: Annotated[float | None, typer.Option(help="Amps, instead of the product's.")] = None
    backup: Annotated[
        Literal["fast", "full"],
        typer.Option(help="full: read what earlier boards held too; 28 s, not 8, at 921600."),
    ] = "fast"
    accept_no_backup: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Write a board that cannot be read; recorded."),
    ] = None
    waive_calibration: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Use a supply past its calibration date; recorded."),
    ] = None
    no_boot_proof: Annotated[bool, typer.Option("--no-boot-proof", help="A slot has no log port; recorded.")] = False
    attended: Annotated[
        bool, typer.Option("--attended", help="Somebody is at the panel, though nobody at this terminal.")
    ] = False
    report: Annotated[bool, typer.Option("--report/--no-report", help="Make the HTML report at the end.")] = True
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False
    json_events: Annotated[
        bool, typer.Option("--json-events", help="Print each event as a line of JSON, as it happens.")
    ] = False
    sound: Annotated[bool, typer.Option("--sound", help="Say pass and fail by sound too.")] = False

    @property
    def bench_spec(self) -> str:
        return self.bench or DEFAULT_BENCH

    def given(self) -> dict[str, Any]:
        """What the command line said, by flag: everything that is not as it would be without a word."""
        said = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {
            f"--{name.replace('_', '-')}": value
            for name, (value, default) in said.items()
            if value not in (default, [])
        }


@dataclass(frozen=True)
class UnitOptions(LineOptions):
    """What commands take that are told which units there are, or find that in a batch file."""

    batch: Annotated[Path | None, typer.Option(metavar="FILE", help="Batch file (docs/batches.md).")] = None
    units: Annotated[int | None, typer.Option(min=1, help="How many units, numbered from 1.")] = None
    serial: Annotated[list[str] | None, typer.Option(help="Serial number of a unit; repeat for more.")] = None
    scan: Annotated[
        bool, typer.Option("--scan", help="Units come as they are scanned; with --serial, only those.")
    ] = False
    provision: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="OpenBeken configuration of each unit; default: the product's."),
    ] = None
    no_provision: Annotated[bool, typer.Option("--no-provision", help="Without the product's provisioning.")] = False
    home: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Meet each converted unit in this network (docs/home.md)."),
    ] = None
    no_home: Annotated[bool, typer.Option("--no-home", help="Without the product's check at home.")] = False


def takes(options: type[Options]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose first parameter is `options`: on the command line each of their fields, behind its own."""

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(options, include_extras=True)
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        common = {field.name for field in fields(LineOptions)}
        ordered = sorted(fields(options), key=lambda field: field.name in common)  # its own before all others'
        shared = [
            inspect.Parameter(
                one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name]
            )
            for one in ordered
        ]

        def command(**said: Any) -> None:
            function(options(**{one.name: said.pop(one.name) for one in shared}), **said)

        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + shared
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        return command

    return wrap


def only_with(resume: str, given: dict[str, Any]) -> None:
    """UsageProblem for an option that a resumed run has from its beginning."""
    free = ("resume", "bench", "out", "operator", "attended", "report", "json", "json-events", "sound")
    extra = next((flag for flag in given if flag.removeprefix("--") not in free), None)
    if extra is not None:
        raise UsageProblem(f"--resume goes on with what run {resume} began with: leave out {extra}")
