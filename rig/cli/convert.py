"""`rig convert`: a batch of boards from factory firmware to an image, with proof, record and report."""

from __future__ import annotations

import hashlib
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from rig.bench.bench import Bench, Slot, open_bench
from rig.bench.power import BoardPower
from rig.bench.slot import check_calibration, check_ports, lease_slot, slot_lock
from rig.cli.board_view import BoardView
from rig.cli.terminal import err, out, say, say_json
from rig.errors import Exit, RigError, UsageProblem
from rig.flashers import load_flasher
from rig.image.guard import plan_write
from rig.image.identify import read_image
from rig.line.loading import Loader
from rig.line.station import Job, Station, check_job
from rig.records.run import RunFolder

HELP = (
    "Convert boards: back up, flash, reboot, prove that they boot, record, report. "
    "Example: rig convert --bench sim:2 --units 4, or "
    "rig convert --bench bench.toml --image OpenBK7231N_QIO_1.18.300.bin --serial SN001 --serial SN002"
)


def convert(
    bench: Annotated[str, typer.Option(help="Bench file, or sim[:BOARDS][@SPEED].")] = "bench.toml",
    image: Annotated[Path | None, typer.Option(help="Image to write; default: the bench file's.")] = None,
    units: Annotated[int | None, typer.Option(min=1, help="How many units, numbered from 1.")] = None,
    serial: Annotated[list[str] | None, typer.Option(help="Serial number of a unit; repeat for more.")] = None,
    slot: Annotated[list[str] | None, typer.Option(help="Slots to use; default: all.")] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Where runs are kept.")] = Path("runs"),
    flasher: Annotated[str, typer.Option(help="native, or NAME==VERSION such as ltchiptool==4.15.0.")] = "native",
    current_limit: Annotated[float | None, typer.Option(help="Amps, instead of the product's.")] = None,
    accept_no_backup: Annotated[
        str | None, typer.Option(metavar="REASON", help="Write a board that cannot be read; recorded.")
    ] = None,
    waive_calibration: Annotated[
        str | None, typer.Option(metavar="REASON", help="Use a supply past its calibration date; recorded.")
    ] = None,
    no_boot_proof: Annotated[bool, typer.Option("--no-boot-proof", help="A slot has no log port; recorded.")] = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Make the HTML report at the end.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    with open_bench(bench) as opened:
        names = dict.fromkeys(slot or opened.slots)
        chosen = [opened.slot(name) for name in names]
        path, sha256 = _image(opened, chosen, image)
        job = Job(
            units=_units(units, serial, len(chosen)),
            image=path,
            image_sha256=sha256,
            flasher=flasher,
            accept_no_backup=accept_no_backup,
            no_boot_proof=no_boot_proof,
            waive_calibration=waive_calibration,
            current_limit=current_limit,
            command="rig " + " ".join(sys.argv[1:]),
        )
        if accept_no_backup and len(job.units) > 1:
            raise UsageProblem("--accept-no-backup is for one unit: name it with --serial, alone")
        check_job(chosen, job, somebody_there=sys.stdin.isatty())
        chosen = chosen[: len(job.units)]
        _prepare(opened, chosen, job)
        run = RunFolder.create(out_dir)
        code = _run(opened, chosen, job, run)
    if report:
        _report(run, code, as_json)
    elif as_json:
        say_json({"exit_code": int(code), "journal": str(run.journal)})
    else:
        say(f"Journal: {run.journal}")
    raise typer.Exit(int(code))


def _image(bench: Bench, slots: list[Slot], image: Path | None) -> tuple[Path, str]:
    """The image, refused here if it must not go onto the product: before anything is switched on."""
    path = image or bench.image
    if path is None:
        raise UsageProblem(
            "which image? For OpenBeken take OpenBK7231N_QIO_<version>.bin from "
            "https://github.com/openshwprojects/OpenBK7231T_App/releases, then: "
            f"rig convert --bench {bench.path.name} --image OpenBK7231N_QIO_<version>.bin"
        )
    data = read_image(path)
    for slot in slots:
        plan_write(data, path.name, chip=slot.product.chip, flash_size=slot.product.flash_size)
    return path, hashlib.sha256(data).hexdigest()


def _units(units: int | None, serials: list[str] | None, slots: int) -> tuple[str, ...]:
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


def _prepare(bench: Bench, slots: list[Slot], job: Job) -> None:
    """What can be known to go wrong before the first board: slots in use, supplies, ports, the flasher."""
    for slot in slots:
        if not job.waive_calibration:
            check_calibration(slot)
        with slot_lock(slot), lease_slot(slot, "rig convert, looking before it starts") as channel:
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
    err.print(
        f"Converting {len(job.units)} unit(s) in {len(slots)} slot(s) on {bench.name} ({pace}) "
        f"with {job.flasher}; image {job.image.name}",
        soft_wrap=True,
    )
    if any(slot.product.mains for slot in slots):
        err.print("Mains switches: work on them only unplugged from the mains.")
    with BoardView(slots, len(job.units)) as view:
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
    import json

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
