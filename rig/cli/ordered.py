"""What was ordered, on the command line and in a batch file, as a job; and what can be said against it before any
board has power."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rig.bench.bench import Bench, Slot
from rig.bench.config import allowed_images
from rig.cli.options import LineOptions, UnitOptions
from rig.errors import UsageProblem
from rig.home.config import home_of
from rig.image.planning.rules import Overrides
from rig.line.batch import Batch
from rig.line.home import check_at_home, with_home
from rig.line.job import Job, Stage
from rig.line.labels import check_printer
from rig.line.provisioning import check_provision, provision_of
from rig.line.serials import check_all
from rig.line.target import Order, Target, open_target
from rig.records.events import Task
from rig.records.kept import find_kept
from rig.records.lookup import passed_before
from rig.records.run import list_runs, safe_name

BURN_IN_REBOOTS = 10  # where nobody says how many
PROVISIONED: tuple[Task, ...] = ("convert",)
_IMAGE_OF_THE_BENCH: tuple[Task, ...] = ("convert", "verify")  # what `image` in a bench file is for


@dataclass(frozen=True)
class Wanted:
    """What one command asks for, beside the options that all of them take. `task` None: as the batch file says.
    `backups`: RUN/UNIT by unit, for restore."""

    task: Task | None
    image: Path | None = None
    then: Path | None = None
    mac: str | None = None
    suite: Path | None = None
    reboots: int | None = None
    backups: dict[str, str] | None = None

    def given(self) -> dict[str, object]:
        """By flag, what the command line said of it."""
        flags: dict[str, object] = {
            "--image": self.image,
            "--then": self.then,
            "--mac": self.mac,
            "--reboots": self.reboots,
            "--from": self.backups or None,
            str(self.suite): self.suite,
        }
        return {flag: value for flag, value in flags.items() if value is not None}


def chosen_slots(bench: Bench, names: Sequence[str] | None) -> list[Slot]:
    """The slots by name, each once; all without names. Raises UsageProblem."""
    return [bench.slot(name) for name in dict.fromkeys(names or bench.slots)]


def job_for(bench: Bench, slots: list[Slot], wanted: Wanted, options: LineOptions, batch: Batch | None) -> Job:
    """The job, judged for every slot's product. Raises UsageProblem or ImageRefused."""
    if batch is not None:
        wanted = _with_batch(wanted, batch, options)
    job = Job(
        units=tuple(wanted.backups or ()),
        stages=_stages(bench, wanted),
        flasher=options.flasher,
        backups=wanted.backups or {},
        overrides=tuple(options.override or ()),
        mac=wanted.mac,
        backup=options.backup,
        accept_no_backup=options.accept_no_backup,
        no_boot_proof=options.no_boot_proof,
        waive_calibration=options.waive_calibration,
        current_limit=options.current_limit,
        command="rig " + " ".join(sys.argv[1:]),
        operator=_operator(options),
        suite=wanted.suite,
        reboots=(wanted.reboots or BURN_IN_REBOOTS) if wanted.task == "burn-in" else 0,
        bench=str(bench.path),
        slots=tuple(slot.name for slot in slots),
        serials=slots[0].product.serials,
    )
    if isinstance(options, UnitOptions):
        job = replace(
            job,
            provision=options.provision,
            no_provision=options.no_provision,
            home=options.home,
            no_home=options.no_home,
            scanned=options.scan,
            units=() if batch is not None and batch.serials else _unit_names(options, slots),
        )
    if batch is not None:
        job = batch.job(slots, job)
    job = with_home(job, slots)
    if (job.provision or job.no_provision) and not any(stage.task in (*PROVISIONED, "home") for stage in job.stages):
        raise UsageProblem(
            "--provision is for a conversion"
            + (": name its image with --then FILE" if wanted.task == "recover" else ", and nothing is written here")
        )
    if wanted.reboots is not None and wanted.task != "burn-in":
        raise UsageProblem("--reboots is for burn-in")
    return judged(bench, slots, job)


def judged(bench: Bench, slots: Sequence[Slot], job: Job) -> Job:
    """The job with the sha256 of its images and the secrets of its provisioning, once nothing stands against it for
    any of these slots: images, overrides, serial numbers, files. Raises UsageProblem or ImageRefused.

    An image whose sha256 the job has already must still have it.
    """
    Overrides.of(job.overrides)
    check_printer(job.rules.label)
    stages, secrets = [], list[str]()
    for stage in job.stages:
        found = _targets(bench, slots, job, stage)
        stages.append(replace(stage, image_sha256=found[0].sha256) if stage.image and found else stage)
        if stage.task in PROVISIONED:
            secrets += _secrets(slots, found, job)
        if stage is job.stages[-1]:
            secrets += check_at_home(bench, slots, job, found)
    if job.rules.golden.serial is not None and job.stages[-1].image is None:
        raise UsageProblem(
            "a golden unit is verified against an image, and none is named: neither here nor on the bench"
        )
    if job.rules.park_image is not None:
        _targets(bench, slots, job, Stage("convert", job.rules.park_image))
    return replace(job, stages=tuple(stages), secrets=tuple(dict.fromkeys(secrets)))


def refuse_passed(slots: Sequence[Slot], job: Job, runs: Path) -> None:
    """UsageProblem where an earlier run passed a unit that is named beforehand, unless the rules say retest. None is
    left out by itself: the boards stand in their slots in the order of the list. Scans, and what other stations
    did, the station judges itself."""
    if job.scanned or job.rules.shared or job.rules.already_passed != "refuse":
        return
    product = slots[0].product.name
    here = {path.name for run in list_runs(runs) if run.units.is_dir() for path in run.units.iterdir()}
    for unit in job.units:
        if safe_name(unit) not in here:
            continue  # no record but those in `runs`
        before = passed_before(runs, unit, product, job.stages[-1].task)
        if before is not None:
            raise UsageProblem(
                f"{before}: go on with that run (--resume), take the unit out of the batch, or write "
                'already_passed = "retest" into its [batch]'
            )


def _targets(bench: Bench, slots: Sequence[Slot], job: Job, stage: Stage) -> list[Target]:
    """What the stage writes, judged for each slot's product; none where it brings no image."""
    if stage.task == "restore":
        kept = [find_kept(spec, Path()) for spec in job.backups.values()]
        orders = [Order("restore", own=own, overrides=job.overrides) for own in kept]
    elif stage.image is None:
        return []
    else:
        allowed = allowed_images(bench.config)
        orders = [Order(stage.task, stage.image, None, job.overrides, allowed, stage.image_sha256)]
    return [open_target(order, slot.product) for order in orders for slot in slots]


def _secrets(slots: Sequence[Slot], found: list[Target], job: Job) -> list[str]:
    """The secrets of the provisioning in these slots, once it is right for all units; none where there is none."""
    secrets: list[str] = []
    for slot, target in zip(slots, found, strict=True):
        home = home_of(slot.product.home, job.home, off=job.no_home)
        provision = provision_of(slot.product, job.provision, off=job.no_provision, home=home)
        if provision is not None:
            secrets += check_provision(provision, target, job.units)
    return secrets


def _with_batch(wanted: Wanted, batch: Batch, options: LineOptions) -> Wanted:
    """What both say together. UsageProblem where both say the same thing, or the command is another one's."""
    table, serials = batch.table, batch.serials
    if wanted.task and batch.task and (wanted.task, wanted.suite) != (batch.task, batch.suite):
        right = f"rig run --batch {batch.path.name}"
        raise UsageProblem(f"{batch.path}: 'batch.plan' is {table.plan!r}: {right} does that")
    task = wanted.task or batch.task or "convert"
    said = options.given() | wanted.given()
    twice: dict[str, tuple[str, object]] = {
        "--image": ("batch.image", table.image),
        "--then": ("batch.then", table.then),
        "--reboots": ("batch.reboots", table.reboots),
        "--flasher": ("batch.flasher", table.flasher),
        "--provision": ("batch.provision", table.provision),
        "--no-provision": ("batch.provision", table.provision),
        "--home": ("batch.home", table.home),
        "--no-home": ("batch.home", table.home),
        "--serial": ("serials", serials),
        "--units": ("serials", serials),
        "--scan": ("serials", serials),
    }
    for flag, (key, value) in twice.items():
        if flag in said and value is not None:
            raise UsageProblem(f"{batch.path} has {key!r}: leave out {flag}, or that")
    if table.then is not None and task != "recover":
        raise UsageProblem(f"{batch.path}: 'batch.then' is what a recovered board gets next: only for a recovery")
    return replace(
        wanted,
        task=task,
        image=wanted.image or table.image,
        then=wanted.then or table.then,
        reboots=wanted.reboots or table.reboots,
        suite=wanted.suite or batch.suite,
    )


def _stages(bench: Bench, wanted: Wanted) -> tuple[Stage, ...]:
    assert wanted.task is not None
    if wanted.task == "restore":
        return (Stage("restore"),)
    image = wanted.image or (None if wanted.task == "recover" else bench.image)
    if wanted.task == "recover":
        if image is None:
            raise UsageProblem(
                "which image? A full dump of such a board, or a QIO: --image FILE, or `image` in the batch file"
            )
        then = () if wanted.then is None else (Stage("convert", wanted.then),)
        return (Stage("recover", image), *then)
    if image is None and wanted.task in _IMAGE_OF_THE_BENCH:
        command = "convert" if wanted.task == "convert" else f"run {wanted.task}"
        raise UsageProblem(
            "which image? For OpenBeken take OpenBK7231N_QIO_<version>.bin from "
            "https://github.com/openshwprojects/OpenBK7231T_App/releases, then: "
            f"rig {command} --bench {bench.path.name} --image OpenBK7231N_QIO_<version>.bin"
        )
    return (Stage(wanted.task, image),)


def _operator(options: LineOptions) -> str | None:
    if options.operator is not None and not options.operator.strip():
        raise UsageProblem("--operator is empty")
    return options.operator


def _unit_names(options: UnitOptions, slots: Sequence[Slot]) -> tuple[str, ...]:
    """Serials as given, or running numbers, one a slot unless told otherwise. Raises UsageProblem."""
    if options.units and options.serial:
        raise UsageProblem("--units numbers the units, --serial names them: give one of the two")
    if options.units and options.scan:
        raise UsageProblem("--units numbers the units, --scan has them scanned: give one of the two")
    if options.serial:
        if not all(name.strip() for name in options.serial):
            raise UsageProblem("--serial is empty")
        check_all(slots[0].product.serials, options.serial, "--serial")
        return tuple(options.serial)
    return () if options.scan else tuple(str(number) for number in range(1, (options.units or len(slots)) + 1))
