"""What `rig convert`, `recover`, `restore` and `run` do alike: the look before the start, the run, the report."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import typer

from rig.bench.bench import Bench, Slot, open_bench
from rig.bench.power import BoardPower
from rig.bench.slot import check_calibration, check_ports, lease_slot, slot_lock
from rig.cli.board_view import BoardView
from rig.cli.json_events import JsonEvents
from rig.cli.options import LineOptions, UnitOptions, only_with
from rig.cli.ordered import Wanted, chosen_slots, job_for, judged, refuse_passed
from rig.cli.sound import Sound, command_of
from rig.cli.terminal import err, say, say_json
from rig.errors import BenchBlocked, Exit, RigError, UsageProblem
from rig.flashers import load_flasher
from rig.line.batch import read_batch
from rig.line.home import reach_brokers
from rig.line.job import Job, check_job, job_from_dict
from rig.line.loading import Loader
from rig.line.resume import require_ended, require_left, units_left
from rig.line.station import Station
from rig.line.suite import check_suite
from rig.records.events import Event, RunStarted
from rig.records.journal import read_journal
from rig.records.run import RunFolder
from rig.scrub import scrub
from rig.stops import stopped_by_signals

_ORPHANS_S = 30.0  # the units of a station that was killed let go of their slots by themselves
_DOING = {
    "convert": "Converting",
    "recover": "Recovering",
    "restore": "Restoring",
    "verify": "Verifying",
    "burn-in": "Burning in",
    "home": "Meeting",
    "suite": "Testing",
}


def work(options: LineOptions, wanted: Wanted) -> None:
    """All of a command that works on boards; ends with typer.Exit. Raises UsageProblem or BenchBlocked before the
    first board."""
    if options.json and options.json_events:
        raise UsageProblem("--json prints the result, --json-events what leads to it: give one of the two")
    if options.resume is not None:
        _resume(options.resume, options, wanted)
    path = options.batch if isinstance(options, UnitOptions) else None
    batch = None if path is None else read_batch(path)
    with open_bench(options.bench_spec) as bench:
        slots = chosen_slots(bench, options.slot)
        job = job_for(bench, slots, wanted, options, batch)
        check_job(slots, job, somebody_there=_somebody(job, options))
        if job.units and not job.scanned and job.study is None:
            slots = slots[: len(job.units)]
            job = replace(job, slots=tuple(slot.name for slot in slots))
        if isinstance(options, UnitOptions) and (options.serial or (batch is not None and batch.serials is not None)):
            refuse_passed(slots, job, options.out)  # running numbers name no board
        prepare(bench, slots, job)
        run = RunFolder.create(options.out)
        try:
            run_job(bench, slots, job, options, run)
        except RigError:
            run.drop_unbegun()
            raise


def _resume(spec: str, options: LineOptions, wanted: Wanted) -> None:
    """Go on with a run by what its journal says it was to do."""
    only_with(spec, options.given() | wanted.given())
    run = RunFolder.named(spec, options.out)
    found, _ = read_journal(run.journal)
    started = next((event for event in found if isinstance(event, RunStarted)), None)
    if started is None or not started.job:
        raise UsageProblem(f"run {run.id} does not say what it was to do, so it cannot go on: it began no unit")
    require_ended(run)
    job = job_from_dict(started.job)
    bench_file = options.bench or job.bench
    if options.bench is None and started.simulated and not Path(bench_file).exists():
        raise UsageProblem(
            f"run {run.id} was on a simulated bench that ended with it; only on one of its own (rig sim) can a run "
            "go on"
        )
    job = replace(job, command="rig " + " ".join(sys.argv[1:]), operator=options.operator or job.operator)
    with open_bench(bench_file) as bench:
        slots = chosen_slots(bench, job.slots)
        require_left(run.id, found, job, slots)
        job = judged(bench, slots, job)
        check_job(slots, job, somebody_there=_somebody(job, options), resume=True)
        prepare(bench, slots, job, patience_s=_ORPHANS_S)
        run_job(bench, slots, job, options, run, resume=True)


def _somebody(job: Job, options: LineOptions) -> bool:
    """Whether anybody can put boards in and answer."""
    return sys.stdin.isatty() or job.scanned or options.attended


@contextmanager
def _named(slot: Slot, slots: list[Slot]) -> Iterator[None]:
    """Of several slots, the one that the bench's fault is at."""
    try:
        yield
    except BenchBlocked as problem:
        if len(slots) == 1:
            raise
        raise BenchBlocked(problem.code, f"Slot {slot.name} of {len(slots)} cannot be used: {problem}") from problem


def prepare(bench: Bench, slots: list[Slot], job: Job, *, patience_s: float = 0.0) -> None:
    """What can be known to go wrong before the first board: slots in use, supplies, ports, the flasher.

    Slots that are in use are waited for, `patience_s` seconds.
    """
    if job.accept_no_backup and len(job.units) != 1:
        raise UsageProblem("--accept-no-backup is for one unit: name it with --serial, alone")
    if job.mac and len(job.units) != 1:
        raise UsageProblem("--mac is for one unit: no two boards may have the same")
    if job.suite is not None:
        check_suite(job.suite)
    reach_brokers(bench, slots, job)
    for slot in slots:
        if not job.waive_calibration:
            check_calibration(slot)
        looking = f"{job.command[:40]}, looking before it starts"
        with _named(slot, slots), slot_lock(slot, patience_s), lease_slot(slot, looking) as channel:
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


def run_job(
    bench: Bench, slots: list[Slot], job: Job, options: LineOptions, run: RunFolder, *, resume: bool = False
) -> None:
    """The run and its report; ends with typer.Exit."""
    _announce(bench, slots, job, run if resume else None)
    code = _run(bench, slots, job, options, run, resume)
    lent = bench.tenure is not None
    lasting = resume or lent or Path(options.bench_spec).exists()  # else a simulated bench, which ends with us
    if code is not Exit.GOOD and lasting and units_left(read_journal(run.journal)[0], job, slots):
        where = "" if options.out == LineOptions.out else f" --out {options.out}"
        if lent:
            where = f" --bench {options.bench_spec}{where}"
        err.print(f"Units are left; to go on with them: rig {sys.argv[1]} --resume {run.id}{where}", soft_wrap=True)
    if options.report:
        _report(run, code, options)
    elif options.json:
        say_json({"exit_code": int(code), "journal": str(run.journal)})
    else:
        _tell(f"Journal: {run.journal}", options)
    raise typer.Exit(int(code))


def _announce(bench: Bench, slots: list[Slot], job: Job, resumed: RunFolder | None) -> None:
    pace = f"simulated, {bench.speed:g} times real time" if bench.simulated else "real time"
    units = f"{len(job.units)} unit(s)" if job.units else "units as they are scanned"
    images = ", then ".join(_content(stage.image, stage.task) for stage in job.stages)
    doing = f"{_DOING[job.stages[0].task]} {units} in {len(slots)} slot(s) on {bench.name} ({pace})"
    if job.study is not None:
        doing += f", as a gage study: {len(job.units) * len(slots) * job.study.trials} measurements"
    err.print(f"{doing} with {job.flasher}; image {images}", soft_wrap=True)
    if resumed is not None:
        err.print(f"Going on with run {resumed.id}.", soft_wrap=True)
    if job.scanned:
        err.print("Scan or type serial numbers (A SN001: for slot A). /help tells what else can be typed.")
    if any(slot.product.mains for slot in slots):
        err.print("Mains switches: work on them only unplugged from the mains.")


def _content(image: Path | None, task: str) -> str:
    if task == "home":
        return "the unit met at home"
    if image is not None:
        return image.name
    return "each board's own backup" if task == "restore" else "as it stands on the board"


def _run(bench: Bench, slots: list[Slot], job: Job, options: LineOptions, run: RunFolder, resume: bool) -> Exit:
    elsewhere = job.scanned or options.attended  # somebody is at the panel, or at a scanner's program
    typed = sys.stdin.isatty()
    with BoardView(slots, len(job.units), stages=len(job.stages), run=run) as view:
        listeners = [view.event, *_listeners(options)]

        def heard(event: Event) -> None:
            for listen in listeners:
                listen(event)

        station = Station(
            bench,
            slots,
            job,
            run,
            loader=Loader(bench, None if elsewhere and not typed else view.ask),
            on_event=heard,
            on_progress=view.progress,
            resume=resume,
            attended=elsewhere or typed,
        )
        if typed or job.scanned:  # else what comes on stdin is somebody else's
            view.listen(station.do)

        def stop(number: int) -> None:
            station.stop()  # first: what is told may go nowhere
            view.stopping()

        if bench.tenure is not None:
            bench.tenure.listen(station.note, lambda why: station.finish(f"nothing more is begun: {why}"))
        with stopped_by_signals(stop):
            return station.run()


def _listeners(options: LineOptions) -> list[Callable[[Event], None]]:
    """Who else hears of each event."""
    found: list[Callable[[Event], None]] = []
    if options.json_events:
        found.append(JsonEvents(sys.stdout).event)
    if options.sound:
        found.append(Sound(sys.stderr, command_of(os.environ)).event)
    return found


def _tell(text: str, options: LineOptions) -> None:
    """A line of the result; on stderr where stdout is for events only."""
    if options.json_events:
        err.print(text, markup=False, soft_wrap=True)
    else:
        say(text)


def _report(run: RunFolder, code: Exit, options: LineOptions) -> None:
    from reports import read, summary_lines, write_report

    try:
        records = read([run.path])
        page = write_report(records, run.report)
        lines = summary_lines(records)
    except Exception as problem:  # noqa: BLE001 - the boards were judged: a fault in the report is not theirs
        told = scrub(str(problem))  # of a fault nobody foresaw it may be a line of a log
        if not isinstance(problem, RigError):
            told = f"a fault in making it ({type(problem).__name__}: {told}); rig report {run.path} shows where."
        err.print(f"No report: {told}", markup=False, soft_wrap=True)
        _tell(f"Journal: {run.journal}", options)
        return
    if options.json:
        say_json(
            json.loads((page.parent / "summary.json").read_text()) | {"exit_code": int(code), "report": str(page)}
        )
        return
    for line in lines:
        _tell(line, options)
    _tell(f"Report: {page}", options)
