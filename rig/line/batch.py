"""Batch files: what is done to a box of boards, under which serial numbers and by which rules, as a TOML file.

docs/batches.md shows it from a user's side. Relative paths start from the file's own folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rig.bench.bench import Slot
from rig.bench.product import Limits, Product, SerialRule
from rig.codes import CODES
from rig.errors import UsageProblem
from rig.files import why_unreadable
from rig.line.job import Job
from rig.line.labels import check_label
from rig.line.rules import Golden, Label, Quarantine, Retry, Rules, Sampling, Spc, Streak
from rig.line.serials import SerialRefused, check_all, check_serial, with_check
from rig.line.spc import MEASURED
from rig.line.study import Study, new_seed
from rig.records.events import Task
from rig.toml import checked, nearest, read_toml

PLANS: tuple[Task, ...] = ("convert", "recover", "verify", "burn-in", "home")
MOST = 10_000  # units of one pattern
_PATTERN = re.compile(r"[^{}]*\{(?::0?\d{0,2}d?)?\}[^{}]*(?:\{check\})?")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class BatchTable(_Table):
    """[batch]: the work. `plan` None: what the command does that it is given to."""

    name: str | None = Field(default=None, min_length=1, max_length=64)  # None: the file's own name
    product: str
    plan: str | None = None
    image: Path | None = None
    then: Path | None = None
    provision: Path | None = None
    home: Path | None = None
    flasher: str | None = None
    reboots: int | None = Field(default=None, ge=1, le=10_000)
    operator: Literal["optional", "required"] = "optional"
    already_passed: Literal["refuse", "retest"] = "refuse"
    shared: bool = False
    first_article: bool = False
    park_image: Path | None = None


class SerialsTable(_Table):
    """[serials]: where serial numbers come from, and what they look like where not as the product says."""

    source: Literal["scan", "list", "pattern"]
    listed: list[str] | None = Field(default=None, alias="list")
    file: Path | None = None
    pattern: str | None = None
    first: int = Field(default=1, ge=0)
    count: int | None = Field(default=None, ge=1, le=MOST)
    regex: str | None = None
    check_digit: Literal["none", "luhn", "mod97", "mod43"] | None = None

    @model_validator(mode="after")
    def _whole(self) -> SerialsTable:
        SerialRule(regex=self.regex)  # compiles
        given = {"list": self.listed, "file": self.file, "pattern": self.pattern}
        named = [key for key, value in given.items() if value is not None]
        if len(named) > 1:
            raise ValueError(f"'{named[0]}' and '{named[1]}' both name the units: give one of the two")
        if self.source == "list" and named not in (["list"], ["file"]):
            raise ValueError('source = "list" needs the units: list = ["SN1", ...] or file = "serials.txt"')
        if self.source == "pattern" and named != ["pattern"]:
            raise ValueError('source = "pattern" needs pattern = "SN{:06d}", and count')
        if (self.pattern is None) != (self.count is None):
            raise ValueError("'pattern' and 'count' go together")
        if self.pattern is not None and not _PATTERN.fullmatch(self.pattern):
            raise ValueError(
                f"{self.pattern!r} is no pattern: it has one number, as SN{{:06d}}, and at most {{check}} at its end"
            )
        return self


class StudyTable(_Table):
    """[study]: the batch measures the bench. `seed` None: one is drawn, and is on record like any other."""

    trials: int = Field(ge=2, le=50)  # one alone says nothing of repeatability
    seed: int | None = Field(default=None, ge=0, lt=2**32)


class _File(_Table):
    batch: BatchTable
    serials: SerialsTable | None = None
    retry: Retry = Retry()
    quarantine: Quarantine = Quarantine()
    streak: Streak = Streak()
    golden: Golden = Golden()
    sampling: Sampling = Sampling()
    spc: Spc = Spc()
    label: Label = Label()
    limits: dict[str, Limits] = Field(default_factory=dict)
    study: StudyTable | None = None


@dataclass(frozen=True)
class Batch:
    """A batch as its file says, every path absolute. What a bench or product must tell is asked for by a method."""

    path: Path
    table: BatchTable
    serials: SerialsTable | None
    rules: Rules
    limits: dict[str, Limits] = field(default_factory=dict)
    study: StudyTable | None = None

    @property
    def name(self) -> str:
        return self.table.name or self.path.stem

    @cached_property
    def task(self) -> Task | None:
        """What is done; None where the file leaves that to the command."""
        plan = self.table.plan
        return None if plan is None else next((task for task in PLANS if task == plan), "suite")

    @property
    def suite(self) -> Path | None:
        """The user's own tests, where the plan is none of ours."""
        return self.path.parent / str(self.table.plan) if self.task == "suite" else None

    @property
    def scanned(self) -> bool:
        return self.serials is not None and self.serials.source == "scan"

    def rule(self, product: Product) -> SerialRule:
        """What a serial number looks like: as the batch says, else the product."""
        own = self.serials
        if own is None:
            return product.serials
        if own.regex is not None:  # a check digit goes with its expression
            return SerialRule(regex=own.regex, check_digit=own.check_digit or "none")
        return product.serials.model_copy(update={"check_digit": own.check_digit or product.serials.check_digit})

    def units(self, product: Product) -> tuple[str, ...]:
        """All units of the batch, in order; none where any that is scanned may come. UsageProblem names the first
        serial number that is not right."""
        own, rule = self.serials, self.rule(product)
        if own is None:
            return ()
        where = f"{self.path}: 'serials.list'"
        if own.file is not None:
            where, units = str(own.file), _listed(own.file)
        elif own.pattern is not None:
            where, units = f"{self.path}: 'serials.pattern'", self._numbered(own, rule)
        else:
            units = tuple(own.listed or ())
        check_all(rule, units, where)
        if self.rules.golden.serial in units:
            raise UsageProblem(f"{self.path}: 'golden.serial' {self.rules.golden.serial} is a unit of the batch too")
        if own.source == "list" and not units:
            raise UsageProblem(f"{where}: there is no serial number in it")
        return units

    def _numbered(self, own: SerialsTable, rule: SerialRule) -> tuple[str, ...]:
        assert own.pattern is not None
        assert own.count is not None
        text = own.pattern.removesuffix("{check}")
        numbers = [text.format(number) for number in range(own.first, own.first + own.count)]
        if text == own.pattern:
            return tuple(numbers)
        try:
            return tuple(with_check(rule, number) for number in numbers)
        except SerialRefused as problem:
            raise UsageProblem(f"{self.path}: 'serials.pattern': {problem}") from None

    def check(self, slots: Sequence[Slot]) -> None:
        """UsageProblem where the batch is for another product, or bounds what that one does not measure."""
        for slot in slots:
            if slot.product.name != self.table.product:
                raise UsageProblem(
                    f"{self.path}: 'batch.product' is {self.table.product!r}, and slot {slot.name} is for "
                    f"{slot.product.name!r}; {nearest(self.table.product, {one.product.name for one in slots})}"
                )
        product = slots[0].product
        for name in self.limits:
            if self.task != "suite" and name not in product.limits:  # a suite measures what it likes
                raise UsageProblem(
                    f"{self.path}: unknown key 'limits.{name}': {product.name} has no such limit; "
                    f"{nearest(name, product.limits)}"
                )
        watchable = [*product.limits, *self.limits, *MEASURED]
        for name in self.rules.spc.measurements:
            if self.task != "suite" and name not in watchable:
                raise UsageProblem(
                    f"{self.path}: 'spc.measurements': nothing measures {name!r}; {nearest(name, watchable)}"
                )
        if self.rules.golden.serial is not None:
            try:
                check_serial(self.rule(product), self.rules.golden.serial)
            except SerialRefused as problem:
                raise UsageProblem(f"{self.path}: 'golden.serial': {problem}") from None

    def job(self, slots: Sequence[Slot], base: Job) -> Job:
        """`base`, which has the stages and what a file does not say, as the job of this batch in these slots.
        UsageProblem where the batch does not fit the slots, or a serial number is not right."""
        self.check(slots)
        product = slots[0].product
        made = replace(
            base,
            batch=self.name,
            rules=self.rules,
            limits={name: _with_unit(own, product.limits.get(name)) for name, own in self.limits.items()},
            units=base.units if self.serials is None else self.units(product),
            scanned=base.scanned or self.scanned,
            serials=self.rule(product),
            flasher=self.table.flasher or base.flasher,
            provision=self.table.provision or base.provision,
            home=self.table.home or base.home,
            suite=self.suite or base.suite,
            reboots=self.table.reboots or base.reboots,
        )
        return made if self.study is None else self._as_study(self.study, made, slots)

    def _as_study(self, table: StudyTable, job: Job, slots: Sequence[Slot]) -> Job:
        """The same job as a gage study. UsageProblem where it would be none."""
        if job.stages[-1].task != "verify":
            raise UsageProblem(
                f'{self.path}: [study] is only for plan = "verify": it puts each board into every slot again and '
                "again, and nothing may be written meanwhile"
            )
        if job.scanned:
            raise UsageProblem(f"{self.path}: [study] needs its units beforehand: a list or a pattern, and no scans")
        if len(job.units) < 2 or len(slots) < 2:
            raise UsageProblem(
                f"{self.path}: [study] compares boards and slots: it needs at least two units and two slots, and "
                f"there are {len(job.units)} and {len(slots)}"
            )
        return replace(job, study=Study(table.trials, new_seed() if table.seed is None else table.seed))


def read_batch(path: Path) -> Batch:
    """The batch that a file describes. UsageProblem names file, key and the nearest right one."""
    path = path.absolute()
    data = checked(_File, read_toml(path, "batch file"), str(path))
    _check_names(path, data)
    label = data.label.model_copy(
        update={"template": _placed(path, data.label.template), "command": _command(path, data.label.command)}
    )
    try:
        check_label(label)
    except UsageProblem as problem:
        raise UsageProblem(f"{path}: [label] {problem}") from None
    named = ("image", "then", "provision", "home", "park_image")
    files = {key: _placed(path, getattr(data.batch, key)) for key in named}
    table = data.batch.model_copy(update=files)
    serials = data.serials
    if serials is not None:
        serials = serials.model_copy(update={"file": _placed(path, serials.file)})
    rules = Rules(
        operator=table.operator,
        already_passed=table.already_passed,
        shared=table.shared,
        first_article=table.first_article,
        park_image=table.park_image,
        retry=data.retry,
        quarantine=data.quarantine,
        streak=data.streak,
        golden=data.golden,
        sampling=data.sampling,
        spc=data.spc,
        label=label,
    )
    if data.study is not None:
        rules = rules.model_copy(update={"already_passed": "retest"})  # a unit that passed before is fit for one
    return Batch(path, table, serials, rules, data.limits, data.study)


def _check_names(path: Path, data: _File) -> None:
    """What the tables name and no type can check."""
    plan = data.batch.plan
    for code in data.retry.codes:
        if code not in CODES:
            raise UsageProblem(f"{path}: 'retry.codes' has no failure code {code!r}; {nearest(code, CODES)}")
    for name in data.spc.known:
        if name not in data.spc.measurements:
            raise UsageProblem(
                f"{path}: 'spc.known.{name}' is for no measurement that is watched; "
                f"{nearest(name, data.spc.measurements)}"
            )
    if (data.retry.attempts > 1) != bool(data.retry.codes):
        raise UsageProblem(
            f"{path}: [retry] needs both attempts (2 or more) and codes, the failure codes worth another try: as it "
            "is, no unit would get one"
        )
    if plan is not None and plan not in PLANS and not (path.parent / plan).exists():
        raise UsageProblem(
            f"{path}: 'batch.plan' is {plan!r}: neither a plan nor a folder or file of tests; {nearest(plan, PLANS)}"
        )
    if data.batch.then is not None and plan not in (None, "recover"):
        raise UsageProblem(f"{path}: 'batch.then' is what a recovered board gets next: only for plan = \"recover\"")
    if data.study is not None:
        _check_study(path, data)
    if data.batch.reboots is not None and plan not in (None, "burn-in"):
        raise UsageProblem(f"{path}: 'batch.reboots' is only for plan = \"burn-in\"; [sampling] has its own")


def _check_study(path: Path, data: _File) -> None:
    """In a study every attempt is a measurement, and none follows from another's end."""
    none = _File(batch=BatchTable(product=data.batch.product))
    tables = ("retry", "streak", "golden", "sampling", "spc", "label")
    given = [f"[{name}]" for name in tables if getattr(data, name) != getattr(none, name)]
    given += [f"'batch.{key}'" for key in ("first_article", "park_image") if getattr(data.batch, key)]
    if given:
        raise UsageProblem(
            f"{path}: {given[0]} has no place in a gage study, where each attempt is a measurement: leave out that, "
            "or [study]"
        )


def _with_unit(own: Limits, product: Limits | None) -> Limits:
    """A batch need not say again what its numbers are in."""
    return own if own.unit or product is None else own.model_copy(update={"unit": product.unit})


def _placed(batch: Path, path: Path | None) -> Path | None:
    return None if path is None else batch.parent / path


def _command(batch: Path, command: list[str]) -> list[str]:
    """A program that is named with a folder stands beside the batch file; any other one is found by PATH."""
    if not command or "/" not in command[0]:
        return command
    return [str(batch.parent / command[0]), *command[1:]]


def _listed(path: Path) -> tuple[str, ...]:
    """One serial number a line; what follows a # and empty lines count for nothing."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UsageProblem(f"no list of serial numbers at {path}") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageProblem(f"cannot read the list of serial numbers {path}: {why_unreadable(problem)}") from None
    return tuple(text for line in lines if (text := line.partition("#")[0].strip()))
