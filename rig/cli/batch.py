"""What `rig convert`, `recover` and `restore` share: options, the look before the start, the run, the report."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from rig.bench.bench import Bench, Slot
from rig.bench.power import BoardPower
from rig.bench.slot import check_calibration, check_ports, lease_slot, slot_lock
from rig.cli.board_view import BoardView
from rig.cli.terminal import err, out, say, say_json
from rig.errors import Exit, RigError, UsageProblem
from rig.flashers import load_flasher
from rig.image.planning.rules import Overrides
from rig.line.job import Job, Stage, check_job
from rig.line.loading import Loader
from rig.line.station import Station
from rig.line.target import Order, Target, open_target
from rig.records.run import RunFolder

BenchOption = Annotated[str, typer.Option("--bench", help="Bench file, or sim[:BOARDS][@SPEED].")]
UnitsOption = Annotated[int | None, typer.Option(min=1, help="How many units, numbered from 1.")]
SerialOption = Annotated[list[str] | None, typer.Option(help="Serial number of a unit; repeat for more.")]
SlotOption = Annotated[list[str] | None, typer.Option(help="Slots to use; default: all.")]
OutOption = Annotated[Path, typer.Option("--out", help="Where runs are kept.")]
FlasherOption = Annotated[str, typer.Option(help="native, or NAME==VERSION such as ltchiptool==4.15.0.")]
CurrentOption = Annotated[float | None, typer.Option(help="Amps, instead of the product's.")]
BackupOption = Annotated[
    Literal["fast", "full"], typer.Option(help="full: read what earlier boards held too; 28 s, not 8, at 921600.")
]
NoBackupOption = Annotated[
    str | None, typer.Option(metavar="REASON", help="Write a board that cannot be read; recorded.")
]
CalibrationOption = Annotated[
    str | None, typer.Option(metavar="REASON", help="Use a supply past its calibration date; recorded.")
]
NoProofOption = Annotated[bool, typer.Option("--no-boot-proof", help="A slot has no log port; recorded.")]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option(metavar="RULE", help="Let the image off from one rule (docs/image-rules.md); repeatable, recorded."),
]
ProvisionOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="OpenBeken configuration of each unit; default: the product's.")
]
NoProvisionOption = Annotated[bool, typer.Option("--no-provision", help="Without the product's provisioning.")]
ReportOption = Annotated[bool, typer.Option("--report/--no-report", help="Make the HTML report at the end.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

_DOING = {"convert": "Converting", "recover": "Recovering", "restore": "Restoring"}


@dataclass(frozen=True)
class Asked:
    """What the command line said that does not depend on the task."""

    out_dir: Path
    report: bool
    as_json: bool


def chosen_slots(bench: Bench, names: Sequence[str] | None) -> list[Slot]:
    """The slots by name, each once; all without names. Raises UsageProblem."""
    return [bench.slot(name) for name in dict.fromkeys(names or bench.slots)]


def targets(slots: Sequence[Slot], order: Order) -> list[Target]:
    """The order judged for every slot's product, before anything is switched on. Raises UsageProblem."""
    Overrides.of(order.overrides)
    return [open_target(order, slot.product) for slot in slots]


def stage_of(target: Target) -> Stage:
    """What the station is told of a target that was judged."""
    return Stage(target.task, target.order.image, target.sha256)


def unit_names(units: int | None, serials: list[str] | None, slots: int) -> tuple[str, ...]:
    """Serials as given, or running numbers, one a slot unless told otherwise. Raises UsageProblem."""
    if units and serials:
        raise UsageProblem("--units numbers the units, --serial names them: give one of the two")
    if serials:
        for name in serials:
            if not name.strip():
                raise UsageProblem("--serial is empty")
            if serials.count(name) > 1:
                raise UsageProblem(f"serial {name} is given twice")
        return tuple(serials)
    return tuple(str(number) for number in range(1, (units or slots) + 1))


def run_batch(bench: Bench, slots: list[Slot], job: Job, asked: Asked) -> None:
    """Look, run, report; ends with typer.Exit. Raises UsageProblem or BenchBlocked before the first board."""
    if job.accept_no_backup and len(job.units) > 1:
        raise UsageProblem("--accept-no-backup is for one unit: name it with --serial, alone")
    if job.mac and len(job.units) > 1:
        raise UsageProblem("--mac is for one unit: no two boards may have the same")
    check_job(slots, job, somebody_there=sys.stdin.isatty())
    slots = slots[: len(job.units)]
    prepare(bench, slots, job)
    run = RunFolder.create(asked.out_dir)
    code = _run(bench, slots, job, run)
    if asked.report:
        _report(run, code, asked.as_json)
    elif asked.as_json:
        say_json({"exit_code": int(code), "journal": str(run.journal)})
    else:
        say(f"Journal: {run.journal}")
    raise typer.Exit(int(code))


def prepare(bench: Bench, slots: list[Slot], job: Job) -> None:
    """What can be known to go wrong before the first board: slots in use, supplies, ports, the flasher."""
    for slot in slots:
        if not job.waive_calibration:
            check_calibration(slot)
        with slot_lock(slot), lease_slot(slot, f"{job.command[:40]}, looking before it starts") as channel:
            supplied = slot.product.supply
            if job.current_limit is not None:
                supplied = supplied.model_copy(update={"current_limit": job.current_limit})
            with BoardPower(channel, supplied, ovp=slot.table.ovp == "supply"):
                check_ports(slot)  # set and read back, never switched on
        if slot.table.log_port is None and not job.no_boot_proof:
            raise UsageProblem(
                f"slot {slot.name} has no log_port in {bench.path}, so a boot cannot be proven: "
                "name one, or accept it with --no-boot-proof"
            )
    if job.flasher != "native":
        err.print(f"Preparing {job.flasher} in an environment of its own ...")
        load_flasher(job.flasher, folders=bench.profiles("flashers")).close()


def _run(bench: Bench, slots: list[Slot], job: Job, run: RunFolder) -> Exit:
    pace = f"simulated, {bench.speed:g} times real time" if bench.simulated else "real time"
    images = ", then ".join(stage.image.name if stage.image else "each board's own backup" for stage in job.stages)
    err.print(
        f"{_DOING[job.stages[0].task]} {len(job.units)} unit(s) in {len(slots)} slot(s) on {bench.name} ({pace}) "
        f"with {job.flasher}; image {images}",
        soft_wrap=True,
    )
    if any(slot.product.mains for slot in slots):
        err.print("Mains switches: work on them only unplugged from the mains.")
    with BoardView(slots, len(job.units), stages=len(job.stages)) as view:
        station = Station(
            bench,
            slots,
            job,
            run,
            loader=Loader(bench, view.ask),
            on_event=view.event,
            on_progress=view.progress,
        )
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, frame: object) -> None:
            view.stopping()
            station.stop()

        for number in before:
            signal.signal(number, stop)
        try:
            code = station.run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return code


def _report(run: RunFolder, code: Exit, as_json: bool) -> None:
    from reports import summary_lines, write_report

    try:
        page = write_report([run.path], run.report)
    except RigError as problem:
        err.print(f"No report: {problem}", markup=False, soft_wrap=True)
        say(f"Journal: {run.journal}")
        return
    if as_json:
        say_json(
            json.loads((page.parent / "summary.json").read_text()) | {"exit_code": int(code), "report": str(page)}
        )
        return
    for line in summary_lines([run.path]):
        say(line)
    out.print(f"Report: {page}", soft_wrap=True, markup=False)
