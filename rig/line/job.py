"""What a run is to do: the units, and what is done to each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from rig.bench.bench import Slot
from rig.bench.product import Limits, Product, SerialRule
from rig.errors import UsageProblem
from rig.line.rules import Rules
from rig.line.study import Study
from rig.records.events import Task


@dataclass(frozen=True)
class Stage:
    """One thing done to every unit, an attempt of its own. `image` None: each unit's own backup."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    task: Task
    image: Path | None = None
    image_sha256: str | None = None


@dataclass(frozen=True)
class Job:
    """What is to be done to every unit. `units` are serials or running numbers, in order; `stages` in order too, each
    begun only if the one before was good.

    `backups`: for restore, the RUN/UNIT of each unit. `provision`: a file, for the stages that convert. `secrets`:
    what is in it that may be shown nowhere. `study`: each unit in each slot, so many times, which measures the bench.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    units: tuple[str, ...]
    stages: tuple[Stage, ...]
    flasher: str = "native"
    backups: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    mac: str | None = None
    provision: Path | None = None
    no_provision: bool = False
    home: Path | None = None
    no_home: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)
    backup: Literal["fast", "full"] = "fast"
    accept_no_backup: str | None = None
    no_boot_proof: bool = False
    waive_calibration: str | None = None
    current_limit: float | None = None
    command: str = "rig convert"
    batch: str | None = None
    operator: str | None = None
    rules: Rules = field(default_factory=Rules)
    serials: SerialRule = field(
        default_factory=SerialRule
    )  # what a serial looks like: the batch's, else the product's
    scanned: bool = False  # units come by scan; `units` then are all that may come (none: any the product allows)
    suite: Path | None = None  # of a task `suite`: the user's own folder or file of tests
    reboots: int = 0  # of a task `burn-in`
    limits: Mapping[str, Limits] = field(default_factory=dict)  # instead of the product's, by measurement
    study: Study | None = None
    bench: str = ""  # its file, and the slots in it, by which a resumed run finds them again
    slots: tuple[str, ...] = ()


def check_job(slots: list[Slot], job: Job, *, somebody_there: bool, resume: bool = False) -> None:
    """UsageProblem when boards must be put in and neither a command nor a person can do it, or an operator is
    required and nobody could say who they are. A run that is resumed does not rely on what is in its slots."""
    if somebody_there:
        return
    if job.rules.operator == "required" and not job.operator:
        raise UsageProblem("an operator is required and nobody is there to ask: name one with --operator")
    golden = job.rules.golden.serial is not None
    if len(job.units) <= len(slots) and not (resume or golden or job.study is not None or job.rules.shared):
        return
    which = "the boards must be put in again" if resume else "the next board must be put in"
    if golden and not resume:
        which = f"the golden unit {job.rules.golden.serial} must be put in and out"
    if job.rules.shared:
        which = "which board comes next depends on other stations"
    if job.study is not None:
        which = "a gage study moves each board from slot to slot"
    for slot in slots:
        if slot.table.change is None:
            raise UsageProblem(
                f"{len(job.units)} units for {len(slots)} slot(s): {which}, but nobody is at a terminal and slot "
                f"{slot.name} has no `change` command in its bench file (--attended: somebody is at the panel)"
            )


def limited(product: Product, job: Job) -> Product:
    """The product with the job's limits in place of its own; the version of the limits then names the batch too."""
    if not job.limits:
        return product
    version = f"{product.limits_version}+{job.batch or 'own'}"
    return product.model_copy(update={"limits": product.limits | dict(job.limits), "limits_version": version})


_ADAPTER: TypeAdapter[Job] = TypeAdapter(Job)


def job_to_dict(job: Job) -> dict[str, Any]:
    """The job as a journal keeps it: no secrets, paths absolute, so that it holds wherever it is taken up again."""
    rules = job.rules.model_copy(
        update={
            "park_image": _absolute(job.rules.park_image),
            "label": job.rules.label.model_copy(update={"template": _absolute(job.rules.label.template)}),
        }
    )
    placed = replace(
        job,
        stages=tuple(replace(stage, image=_absolute(stage.image)) for stage in job.stages),
        provision=_absolute(job.provision),
        home=_absolute(job.home),
        suite=_absolute(job.suite),
        bench=str(Path(job.bench).absolute()) if job.bench else "",
        rules=rules,
    )
    told: dict[str, Any] = _ADAPTER.dump_python(placed, mode="json", exclude={"secrets"})
    return told


def job_from_dict(told: Mapping[str, Any]) -> Job:
    """The job again, without its secrets. UsageProblem for what no rig of this version wrote."""
    try:
        return _ADAPTER.validate_python(dict(told))
    except ValidationError as problem:
        error = problem.errors()[0]
        where = ".".join(str(key) for key in error["loc"])
        raise UsageProblem(
            f"what the run was to do cannot be read ({where}: {error['msg']}): it was begun by another version of rig"
        ) from None


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
