"""Dialects: how a family of supplies is spoken to, as TOML that a bench engineer can add without Python.

The shipped ones are in `dialects/`; a user's own are found in the folders given to `load` (a bench's
`profiles/dialects`). `docs/adding-a-supply.md` explains the file; every entry says where it was learnt.
"""

from __future__ import annotations

import difflib
import re
import string
import tomllib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rig.errors import UsageProblem
from rig.supply.channel import Instrument
from rig.supply.models import ChannelLimits, Model, Module, Place, Sequence_, Source, Table
from rig.supply.replies import BitReply, ErrorReply, NumberReply, Reply, TextReply, Value, WordReply

SHIPPED = Path(__file__).parent / "dialects"

_FIELDS = frozenset({"channel", "name", "value"})
_SEQUENCE_FIELDS = frozenset({"channel", "name", "volts", "amps", "seconds", "triplets", "count", "index"})

Lines = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class Identity(Table):
    """`match`: a regular expression on the whole reply to *IDN? (case does not matter) with the groups `model` and,
    where the instrument tells them, `maker`, `serial` and `firmware`."""

    match: str
    source: Source

    @field_validator("match")
    @classmethod
    def _has_model(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groupindex
        except re.error as bad:
            raise ValueError(f"not a regular expression: {bad}") from None
        if "model" not in groups:
            raise ValueError("needs a group (?P<model>...)")
        return pattern


class Transport(Table):
    """How bytes go to the instrument and back. Seconds; a `gap_s` is kept between two messages.

    `joins`: several questions in one line, `A?;:B?`, are answered in one, `1;2` (IEEE 488.2: 6.3 and 8.4.1). A
    measurement is then one exchange; without it each question is asked alone.
    """

    port: int | None = Field(default=None, gt=0, lt=65536)  # raw TCP, for composing a resource from a host name
    baud: int | None = None  # serial instruments
    stop_bits: Literal[1, 2] | None = None
    read_termination: str = "\n"
    write_termination: str = "\n"
    gap_s: float = Field(default=0, ge=0, le=1)
    timeout_s: float = Field(default=2, gt=0, le=30)
    joins: bool = False
    one_client: bool = False  # accepts one connection only, and frees a dead one late
    source: Source = "SCPI custom"


class Command(Table):
    """Something to send. `{channel}` is the channel's number, `{name}` its name, `{value:.3f}` the value."""

    send: Lines
    source: Source

    @field_validator("send")
    @classmethod
    def _known_fields(cls, lines: list[str]) -> list[str]:
        if not lines:
            raise ValueError("nothing to send")
        for line in lines:
            _template_fields(line)
        return lines


class Query(Table):
    """A question. `before` is sent first (choosing a channel where the instrument has that)."""

    send: str
    before: Lines = Field(default_factory=list)
    reply: Reply
    latched: bool = False  # a bits register that tells what was so since it was last read; a reading clears it
    source: Source

    @field_validator("send", "before")
    @classmethod
    def _known_fields(cls, lines: str | list[str]) -> str | list[str]:
        for line in [lines] if isinstance(lines, str) else lines:
            if any(name == "value" for name, _ in _template_fields(line)):
                raise ValueError("a query has no value")
        return lines


class Commands(Table):
    volts: Command
    amps: Command
    output_on: Command
    output_off: Command
    ovp: Command | None = None  # level
    ovp_on: Command | None = None
    ovp_off: Command | None = None
    ovp_clear: Command | None = None
    ocp: Command | None = None  # level; without it protection trips at the current limit
    ocp_on: Command | None = None
    ocp_off: Command | None = None
    ocp_clear: Command | None = None
    opening: Command | None = None  # first in every session, before *IDN? once the dialect is known


class Queries(Table):
    volts: Query
    amps: Query
    output: Query  # of the channel's own switch
    independent: Query | None = None  # its outputs are not coupled (series, parallel, tracking)
    master: Query | None = None  # of a switch behind it, which all channels share: on is both
    measured_volts: Query
    measured_amps: Query
    mode: Query | None = None  # without it a reading within a step of the limit is taken for "cc"
    ovp: Query | None = None
    ovp_enabled: Query | None = None
    ovp_tripped: Query | None = None
    ocp: Query | None = None
    ocp_enabled: Query | None = None
    ocp_tripped: Query | None = None
    error: Query | None = None
    command_error: Query | None = None  # where `error` tells nothing of a line that was not understood; see `probe`
    module: Query | None = None  # what is plugged into a channel's slot


class Missing(Table):
    """A query that this family does not have although its neighbours do, and what happens if it is sent."""

    send: str
    effect: str
    source: Source


class Timings(Table):
    """Typical worst cases. Seconds."""

    set_s: float = Field(gt=0, le=10)  # until a new setting reads back
    output_s: float = Field(gt=0, le=10)  # until the output's state reads back
    refresh_s: float = Field(ge=0, le=10)  # between two new readings of the meter
    source: Source


class Timed(Table):
    """How well writes at their times make a step: it lasts `least_s` or more, and comes out at most `early_s` shorter
    and `late_s` longer. What is always the same about a write (its way, its processing) moves both edges alike and
    does not count; what differs from one to the next does."""

    least_s: float = Field(default=0.2, gt=0)
    early_s: float = Field(default=0.1, ge=0)
    late_s: float = Field(default=0.1, ge=0)
    source: Source = "nothing is known of this family: guess"


class Told(Table):
    """A question for the steps that are loaded, answered with numbers: of each step `what`, in turn, or how many
    there are (`count`, by itself). `{index}`: it is asked once a step; `{count}`: of so many."""

    send: str
    before: Lines = Field(default_factory=list)
    what: list[Literal["index", "volts", "amps", "seconds", "count"]] = Field(min_length=1)
    source: Source

    @field_validator("send", "before")
    @classmethod
    def _known_fields(cls, lines: str | list[str]) -> str | list[str]:
        for line in [lines] if isinstance(lines, str) else lines:
            _template_fields(line, {"channel", "name", "index", "count"})
        return lines

    @property
    def once_a_step(self) -> bool:
        return any(name == "index" for name, _ in _template_fields(self.send, {"channel", "name", "index", "count"}))


class Sequencer(Table):
    """How steps are given to an instrument that plays them by itself (`sequence` of a model or module says how many
    and how long).

    `load`: first, with {volts}, {amps}, {seconds} as lists with commas, or {triplets} of the three, and {count}.
    `step`: once a step, with {index} (from `first_index`) and single {volts}, {amps}, {seconds}; up to `fill` with
    steps of no time. `arm`: after that. `trigger`: starts it on this channel and no other. `abort`: ends it and
    forgets it, and is also sent when nothing plays. `done`: true when nothing plays; without it, its time tells.
    `told`: the steps as the instrument has them, to be compared before they are played.
    """

    load: Lines = Field(default_factory=list)
    step: Lines = Field(default_factory=list)
    first_index: int = Field(default=0, ge=0)
    fill: int = Field(default=0, ge=0, le=100)
    arm: Lines = Field(default_factory=list)
    trigger: Lines
    abort: Lines
    done: Query | None = None
    told: list[Told] = Field(default_factory=list)
    source: Source

    @field_validator("load", "step", "arm", "trigger", "abort")
    @classmethod
    def _known_fields(cls, lines: list[str], info: ValidationInfo) -> list[str]:
        lists = {"load": {"volts", "amps", "seconds", "triplets", "count"}}
        single = {"step": {"volts", "amps", "seconds", "index"}}
        known = {"channel", "name"} | lists.get(str(info.field_name), set()) | single.get(str(info.field_name), set())
        for line in lines:
            _template_fields(line, known)
        if not lines and info.field_name in ("trigger", "abort"):
            raise ValueError("nothing to send")
        return lines

    @model_validator(mode="after")
    def _loads(self) -> Sequencer:
        sent = {name for line in [*self.load, *self.step] for name, _ in _template_fields(line, _SEQUENCE_FIELDS)}
        if "triplets" not in sent and not {"volts", "amps", "seconds"} <= sent:
            raise ValueError("load and step send no {volts}, {amps} and {seconds}, nor {triplets}")
        if self.told and not {"volts", "amps"} <= {what for told in self.told for what in told.what}:
            raise ValueError("told says nothing of the volts, or of the amps")
        return self

    def forms(self, what: str) -> Iterator[str]:
        """The formats in which "volts", "amps" or "seconds" is sent."""
        for line in [*self.load, *self.step]:
            yield from (form for name, form in _template_fields(line, _SEQUENCE_FIELDS) if name in (what, "triplets"))


Capability = Literal["ovp", "ocp", "trips", "error-queue", "mode", "sequence"]  # "trips": it tells which has tripped


class Dialect(Table):
    """One family of supplies: the whole file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    judge: str = ""  # the public driver that agreed with our simulated instrument, or why there is none
    outputs: Literal["separate", "together"] = "separate"  # together: one switch for all, so one lease at a time
    ocp_rearm: Literal["clear", "output_on"] = "clear"  # output_on: a trip shows until the output is switched on
    identity: Identity
    transport: Transport
    commands: Commands
    queries: Queries
    timings: Timings
    timed: Timed = Timed()
    sequence: Sequencer | None = None
    tells_trips: bool = True  # false: after a trip the output is off, and nothing says why
    model: list[Model] = Field(min_length=1)
    module: list[Module] = Field(default_factory=list)
    missing: list[Missing] = Field(default_factory=list)

    @model_validator(mode="after")
    def _whole(self) -> Dialect:
        problems = [*self._unpaired(), *self._always_on(), *self._wrong_replies(), *self._wrong_templates()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _unpaired(self) -> Iterator[str]:
        """A thing that is set must be readable, else nothing was verified."""
        c, q = self.commands, self.queries
        needs: list[tuple[str, object, str, object]] = [
            ("commands.ovp", c.ovp, "queries.ovp", q.ovp),
            ("commands.ovp", c.ovp if self.tells_trips else None, "queries.ovp_tripped", q.ovp_tripped),
            ("commands.ocp", c.ocp if self.tells_trips else None, "queries.ocp_tripped", q.ocp_tripped),
            ("commands.ovp_on", c.ovp_on, "queries.ovp_enabled", q.ovp_enabled),
            ("commands.ocp", c.ocp, "queries.ocp", q.ocp),
            ("commands.ocp_on", c.ocp_on, "commands.ocp_off", c.ocp_off),
            ("commands.ocp_off", c.ocp_off, "queries.ocp_enabled", q.ocp_enabled),
            ("commands.ocp_off", c.ocp_off, "queries.ocp_tripped", q.ocp_tripped),
            ("queries.ovp_tripped", q.ovp_tripped, "commands.ovp_clear", c.ovp_clear),
        ]
        if self.ocp_rearm == "clear":
            needs.append(("queries.ocp_tripped", q.ocp_tripped, "commands.ocp_clear", c.ocp_clear))
        if any(model.slots for model in self.model):
            needs += [("slots", 1, "queries.module", q.module), ("slots", 1, "[[module]]", self.module or None)]
        yield from (f"{a} needs {b}" for a, has_a, b, has_b in needs if has_a is not None and has_b is None)

    def _always_on(self) -> Iterator[str]:
        """OCP that cannot be switched off is moved out of the way: above the highest current limit."""
        if self.commands.ocp is None or self.commands.ocp_off is not None:
            return
        for limits in [*self.module, *(channel for model in self.model for channel in model.channel)]:
            if limits.ocp_max is None or limits.ocp_max <= limits.amps_max:
                yield "commands.ocp without commands.ocp_off needs an ocp_max above the amps_max of every channel"
                return

    def _wrong_replies(self) -> Iterator[str]:
        flags = {
            "output", "independent", "master", "ovp_enabled", "ocp_enabled", "ovp_tripped", "ocp_tripped",
            "command_error",
        }  # fmt: skip
        for name, query in self.queries:
            if query is None:
                continue
            reply = query.reply
            if query.latched and not (isinstance(reply, BitReply) and name in {"mode", "ovp_tripped", "ocp_tripped"}):
                yield f"queries.{name} cannot be latched: only bits for the mode and for trips can"
            if name == "error":
                right = isinstance(reply, ErrorReply)
            elif name == "module":
                right = isinstance(reply, TextReply)
            elif name == "mode":
                modes = {"cv", "cc", "off", "unregulated"} | ({"unknown"} if query.latched else set())
                right = isinstance(reply, WordReply | BitReply) and reply.meanings() <= modes
            elif name in flags:
                right = isinstance(reply, WordReply | BitReply) and reply.meanings() == {True, False}
            else:
                right = isinstance(reply, NumberReply)
            if not right:
                yield f"queries.{name} has a reply of the wrong kind or with the wrong meanings"

    def _wrong_templates(self) -> Iterator[str]:
        yield from self._misplaced_fields()
        yield from self._lost_decimals()

    def _misplaced_fields(self) -> Iterator[str]:
        """A field that nothing fills: a value where there is none, a channel in a line that is for all."""
        for name, command in self.commands:
            fields = {field for line in (command.send if command else []) for field, _ in _template_fields(line)}
            if "value" in fields and name not in ("volts", "amps", "ovp", "ocp"):
                yield f"commands.{name} has no {{value}}"
            if fields and name == "opening":
                yield "commands.opening is for the whole instrument and has no {channel}"
        for name in ("error", "master"):
            query: Query | None = getattr(self.queries, name)
            if query is not None and any(_template_fields(line) for line in [*query.before, query.send]):
                yield f"queries.{name} is for the whole instrument and has no {{channel}}"

    def _lost_decimals(self) -> Iterator[str]:
        """A value must arrive whole: `{value:.1f}` would send 3.3 for 3.34."""
        for name in ("volts", "amps", "ovp", "ocp"):
            command: Command | None = getattr(self.commands, name)
            if command is None:
                continue
            specs = [spec for line in command.send for field, spec in _template_fields(line) if field == "value"]
            if not specs:
                yield f"commands.{name} does not send its {{value}}"
            limits = [*self.module, *(channel for model in self.model for channel in model.channel)]
            steps = {getattr(one, f"{'amps' if name == 'ocp' else name}_step") for one in limits}
            for spec in specs:
                if _loses(steps, spec):
                    yield f"commands.{name} sends fewer decimals than the channel's step"
        yield from self._lost_in_sequence()

    def _lost_in_sequence(self) -> Iterator[str]:
        if self.sequence is None:
            return
        done = self.sequence.done
        reply = None if done is None or done.latched else done.reply
        if done is not None and not (isinstance(reply, WordReply | BitReply) and reply.meanings() == {True, False}):
            yield "sequence.done has a reply of the wrong kind or with the wrong meanings"
        modules: list[Module] = [*self.module, *(channel for model in self.model for channel in model.channel)]
        owners: list[Module | Model] = [*self.module, *self.model]
        played = [one.sequence for one in owners if one.sequence is not None]
        if not played:
            yield "sequence needs a `sequence` of a model or module: how many steps it takes, and how long they are"
        steps = {
            "volts": {one.volts_step for one in modules},
            "amps": {one.amps_step for one in modules},
            "seconds": {one.grid_s or one.min_dwell_s for one in played},
        }
        for what, grids in steps.items():
            if any(_loses(grids, form) for form in self.sequence.forms(what)):
                yield f"sequence sends fewer decimals of {{{what}}} than the channel's step"

    def resource(self, host: str) -> str:
        """The VISA resource of such an instrument at `host`. Raises UsageProblem if it has no raw socket."""
        if self.transport.port is None:
            raise UsageProblem(f"Dialect {self.name} names no TCP port: give the whole VISA resource.")
        return f"TCPIP::{host}::{self.transport.port}::SOCKET"

    def capabilities(self, model: str, limits: ChannelLimits | None = None) -> frozenset[Capability]:
        """What the rig may count on with this instrument, or with that channel of it."""
        c, q = self.commands, self.queries
        sequence = self.plays(model, limits)
        has: list[tuple[Capability, object]] = [
            ("ovp", c.ovp), ("ocp", c.ocp_on or c.ocp), ("trips", q.ovp_tripped or q.ocp_tripped),
            ("error-queue", q.error), ("mode", q.mode), ("sequence", sequence),
        ]  # fmt: skip
        return frozenset(name for name, present in has if present is not None)

    def plays(self, model: str, limits: ChannelLimits | None = None) -> Sequence_ | None:
        """What that instrument, or that channel of it, steps through by itself; None: nothing."""
        found = self._model(model)
        if self.sequence is None:
            return None
        return (limits and limits.sequence) or (found and found.sequence) or None

    def recognise(self, idn: str) -> Instrument | None:
        """The instrument behind a reply to *IDN?, or None if it is not one of this family."""
        found = re.fullmatch(self.identity.match, idn, re.IGNORECASE)
        if found is None:
            return None
        part = {"maker": "", "serial": "", "firmware": "", **found.groupdict(default="")}
        return Instrument(
            idn=idn, maker=part["maker"].strip(), model=part["model"].strip(), serial=part["serial"].strip(),
            firmware=part["firmware"].strip(), dialect=self.name,
        )  # fmt: skip

    @property
    def latches_trips(self) -> bool:
        """A trip may have been told, and forgotten, before we asked."""
        return any(
            query is not None and query.latched for query in (self.queries.ovp_tripped, self.queries.ocp_tripped)
        )

    def _model(self, name: str) -> Model | None:
        return next((model for model in self.model if model.name.upper() == name.upper()), None)

    def model_of(self, name: str) -> Model:
        """The model of that name. Raises UsageProblem."""
        found = self._model(name)
        if found is None:
            names = ", ".join(m.name for m in self.model)
            raise UsageProblem(f"Dialect {self.name} does not know the model {name}; it knows {names}.")
        return found

    def channel(self, model: str, number: int, module: str = "") -> ChannelLimits:
        """The limits of one channel, with what is plugged into it where the model has slots.

        Raises UsageProblem for a model, channel or module that the dialect does not have.
        """
        found = self.model_of(model)
        if number not in found.numbers:
            numbers = ", ".join(str(known) for known in found.numbers)
            raise UsageProblem(f"The {found.name} has no channel {number} that the rig can use; it has {numbers}.")
        if not found.slots:
            return next(limits for limits in found.channel if limits.number == number)
        for plugged in self.module:
            if module.upper() in (name.upper() for name in plugged.names):
                return ChannelLimits(**{**plugged.model_dump(), "number": number, "sequence": plugged.sequence})
        names = ", ".join(name for plugged in self.module for name in plugged.names)
        raise UsageProblem(
            f"In slot {number} of the {found.name} is {module or 'nothing'}; dialect {self.name} knows {names}."
        )

    def read(self, query: Query, raw: str, channel: int) -> Value:
        """A reply's meaning. Raises ValueError with what is wrong."""
        return query.reply.parse(raw, channel)


def _template_fields(line: str, known: frozenset[str] | set[str] = _FIELDS) -> list[tuple[str, str]]:
    try:
        fields = [(name, spec or "") for _, name, spec, _ in string.Formatter().parse(line) if name is not None]
    except ValueError as bad:
        raise ValueError(f"{line!r}: {bad}") from None
    for name, _ in fields:
        if name not in known:
            raise ValueError(f"{line!r}: {{{name}}} is not one of {', '.join(f'{{{one}}}' for one in sorted(known))}")
    return fields


def _loses(steps: set[float], form: str) -> bool:
    return any(abs(float(format(step * k, form)) - step * k) > 1e-9 for step in steps for k in (1, 7, 333))


def available(folders: Sequence[Path] = ()) -> dict[str, Path]:
    """Dialect name -> file. A user's file takes the place of a shipped one of the same name."""
    found: dict[str, Path] = {}
    for folder in (SHIPPED, *folders):
        if folder != SHIPPED and not folder.is_dir():
            raise UsageProblem(f"The dialect folder {folder} does not exist.")
        found.update({path.stem: path for path in sorted(folder.glob("*.toml"))})
    return found


def load(name: str, folders: Sequence[Path] = ()) -> Dialect:
    """The dialect called `name`. Raises UsageProblem naming the nearest right name, key or the place of a mistake."""
    files = available(folders)
    if name not in files:
        near = difflib.get_close_matches(name.lower(), files, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageProblem(f"There is no supply dialect {name!r}; {hint}There are: {', '.join(sorted(files))}.")
    return load_file(files[name])


def load_file(path: Path) -> Dialect:
    """A dialect from a file. Raises UsageProblem."""
    try:
        stat = path.stat()
    except OSError as bad:
        raise UsageProblem(f"{path}: cannot be read ({bad.strerror}).") from bad
    return _load(path, stat.st_mtime_ns)


@lru_cache(maxsize=32)
def _load(path: Path, mtime_ns: int) -> Dialect:
    del mtime_ns  # only there so that a changed file is read again
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as bad:
        raise UsageProblem(f"{path}: not a readable TOML file ({bad}).") from bad
    try:
        dialect = Dialect.model_validate(data)
    except ValidationError as bad:
        raise UsageProblem(f"{path}: {_first_problem(bad)}") from bad
    if dialect.name != path.stem:
        raise UsageProblem(f"{path}: is named {dialect.name!r} inside; file name and name must agree.")
    return dialect


def _first_problem(bad: ValidationError) -> str:
    errors: list[Any] = bad.errors(include_url=False)
    error = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])  # a misspelt key explains the rest
    where = ".".join(str(part) for part in error["loc"] if part not in ("number", "word", "bits", "error", "text"))
    more = f" ({len(errors) - 1} more after that)" if len(errors) > 1 else ""
    if error["type"] != "extra_forbidden":
        return f"{where or 'the file'}: {error['msg']}{more}."
    key = str(error["loc"][-1])
    known = {name for table in _tables(Dialect) for name in table.model_fields}
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown key {where}{f'; did you mean {near[0]!r}?' if near else ''}{more}."


def _tables(_: type[BaseModel]) -> list[type[BaseModel]]:
    return [
        Dialect, Identity, Transport, Command, Query, Commands, Queries, Missing, Sequence_, Timings, Timed,
        Sequencer, ChannelLimits, Model, Module, Place, NumberReply, WordReply, BitReply, ErrorReply,
    ]  # fmt: skip


def recognise(idn: str, folders: Sequence[Path] = ()) -> tuple[Dialect, Instrument]:
    """The dialect for a reply to *IDN?; a user's own comes before the shipped ones.

    Raises UsageProblem listing the dialects if none knows the instrument.
    """
    files = available(folders)
    own = [name for name, path in files.items() if path.parent != SHIPPED]
    for name in [*own, *(name for name in files if name not in own)]:
        dialect = load_file(files[name])
        instrument = dialect.recognise(idn)
        if instrument is not None:
            return dialect, instrument
    raise UsageProblem(
        f"No dialect knows the instrument that says {idn!r}. There are: {', '.join(sorted(files))}; "
        "name the right one in bench.toml, or add a file for this instrument (docs/adding-a-supply.md)."
    )
