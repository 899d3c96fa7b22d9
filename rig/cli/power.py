"""`rig power`: how much supply is enough. A study of what boards do when they get less."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from rig.bench.bench import Bench, open_bench
from rig.cli.terminal import err, say, say_json
from rig.errors import BenchBlocked, Exit, UsageProblem
from rig.power.begin import find_image, image_told, new_record, require_same, slots_of
from rig.power.record import Record, read_record
from rig.power.result import Ended, results
from rig.power.runner import Run
from rig.power.study import DEFAULT, Study, load_study, ready
from rig.power.trial import Trial, read_trials
from rig.power.words import hurried, sentences
from rig.records.run import RunFolder
from rig.target import check_folder

HELP = (
    "How much supply is enough: where boards stop linking, flashing, booting, and what that looks like. A DS-121 is "
    "a mains switch: only unplugged from the mains. Example: rig power --study boot-brownout --bench bench.toml"
)

_SIM = re.compile(r"(sim(?::\d+)?)(@[\d.]+)?((?:\+.*)?)")
_MOST_SEED = 1 << 20  # of a simulated bench
_PACE_S = 1800.0  # trials last from seconds to a minute: over what their pace is averaged


def power(
    study: Annotated[
        str | None, typer.Option("--study", metavar="NAME|FILE", help=f"See --list; default: {DEFAULT}.")
    ] = None,
    bench: Annotated[
        str | None, typer.Option("--bench", help="Bench file, or sim[:BOARDS][@SPEED][+witness]; default: sim.")
    ] = None,
    slot: Annotated[list[str] | None, typer.Option(help="Slots to use; default: all. Each board is a study.")] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What boards run and are converted to: bootloader and app.")
    ] = None,
    max_trials: Annotated[int | None, typer.Option(min=1, help="Of each board; what is missing is said.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="No trial is begun after them.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all that is drawn.")] = None,
    out: Annotated[Path, typer.Option(help="Where runs and backups are kept.")] = Path("runs"),
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a study that was stopped or killed.")
    ] = None,
    widen: Annotated[
        bool, typer.Option("--widen", help="Waves too short for the supply are played as short as it can.")
    ] = False,
    keep_image: Annotated[
        bool, typer.Option("--keep-image", help="Boards end with the image, not with what they came with.")
    ] = False,
    as_list: Annotated[bool, typer.Option("--list", help="The studies there are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    if as_list:
        _list(as_json)
        return
    changes = _changes(slot, image, max_trials, minutes, seed, widen)
    if resume is not None:
        if study is not None or changes.keys() - {"max_minutes", "image"}:
            raise UsageProblem("--resume goes on with what the study began with: leave out what it asks")
        record = read_record(resume)
        run = _resumed(resume, record, bench or str(record.bench["spec"]), changes, keep_image)
    else:
        asked = load_study(study or DEFAULT)
        asked = asked.only(**changes) if changes else asked
        check_folder(out)
        run = _begun(asked, bench or "sim", out, keep_image)
    _finish(run, as_json)


def _changes(
    slot: list[str] | None, image: Path | None, max_trials: int | None, minutes: float | None, seed: int | None,
    widen: bool,
) -> dict[str, Any]:  # fmt: skip
    """What the command line asks instead of the study's file."""
    given = {
        "slots": slot, "image": image.resolve() if image is not None else None, "max_trials": max_trials,
        "max_minutes": minutes, "seed": seed, "widen": widen or None,
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None and value != []}


def _list(as_json: bool) -> None:
    studies = [load_study(name) for name in ready()]
    if as_json:
        say_json([{"name": each.name, "title": each.title, "words": each.words.strip()} for each in studies])
        return
    for each in studies:
        mark = " (what is made if none is named)" if each.name == DEFAULT else ""
        say(f"{each.name}{mark}: {each.title}")
        for part in each.parts:
            say(f"    {part.name}: {part.words}")


# -- a run ----------------------------------------------------------------------------------------------------------


def _begun(study: Study, spec: str, out: Path, keep_image: bool) -> Run:
    spec = _simulated(spec, study)
    with _Bar() as watch, open_bench(spec) as bench:
        slots_of(study, bench)
        image = find_image(study, bench)
        image_told(image)  # before any supply is asked
        folder = RunFolder.create(out)
        try:
            record = new_record(study, bench, spec, image, folder.id)
        except BaseException:
            with contextlib.suppress(OSError):
                folder.units.rmdir()
                folder.path.rmdir()
            raise
        record.write(folder.path)
        watch.say(f"Study {study.name}, {study.title.lower()}: in {folder.path}")
        _tell(record, bench, watch)
        return _go(folder.path, record, image, bench, watch, keep_image)


def _resumed(folder: Path, record: Record, spec: str, changes: dict[str, Any], keep_image: bool) -> Run:
    with _Bar() as watch, open_bench(spec) as bench:
        study = record.study.only(**changes) if changes else record.study
        image = find_image(study, bench)
        if image_told(image)["sha256"] != record.image["sha256"]:
            raise UsageProblem(f"{image.name} is not the image that the study began with: name that with --image")
        require_same(record, bench)
        watch.say(f"Going on with study {record.study.name} in {folder}: {len(read_trials(folder))} trials on record")
        return _go(folder, record, image, bench, watch, keep_image, changes.get("max_minutes"))


def _go(
    folder: Path, record: Record, image: Path, bench: Bench, watch: _Bar, keep_image: bool,
    minutes: float | None = None,
) -> Run:  # fmt: skip
    with Run(folder, record, image, watch, keep_image=keep_image, minutes=minutes) as run:
        run.go(bench)
    return run


def _simulated(spec: str, study: Study) -> str:
    """A simulated bench whose speed or seed nobody chose has the study's: whoever resumes it gets the same boards."""
    match = _SIM.fullmatch(spec)
    if match is None:
        return spec
    seed = "" if "+seed=" in match[3] else f"+seed={study.seed % _MOST_SEED}"
    return f"{match[1]}{match[2] or f'@{study.speed:g}'}{match[3]}{seed}"


def _tell(record: Record, bench: Bench, watch: _Bar) -> None:
    """What is begun, before it is: boards, supplies, what these make of the waves, what measures it."""
    if bench.simulated:
        watch.say(f"Simulated bench at {bench.speed:g} times real speed: no real board, no real supply.")
    if (doubt := hurried(record)) is not None:
        watch.say(doubt)
    for place in record.places:
        supply = f"{place.supply.get('maker', '')} {place.supply.get('model', '')}".strip()
        watch.say(f"  slot {place.slot}: {place.product} at {place.volts:g} V, {place.amps:g} A from {supply}")
        for sentence in place.sentences:
            watch.say(f"    {sentence}")
        if place.sentences and place.witness is None:
            watch.say("    no witness measures this rail: what is achieved is not measured")
    for source in record.sources:
        watch.say(f"  {source.title}: played as {source.volts:g} V with a limit of {source.amps:g} A")


# -- the end --------------------------------------------------------------------------------------------------------


def _finish(run: Run, as_json: bool) -> None:
    """Report, result, exit code."""
    record = read_record(run.folder)
    trials = read_trials(run.folder)
    boards = results(record, trials)
    report = _report(run.folder)
    told = sentences(record, boards)
    if as_json:
        say_json(_as_dict(run.folder, record, trials, boards, report, told))
    else:
        counts = _outcomes(trials)
        say(", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) or "no trial was made")
        for sentence in told:
            say(sentence)
        if report is not None:
            say(f"Report: {report}")
    failed = any(board.out is not None for board in boards) or any(
        found.climbed is not None and found.why is not None and found.climbed.level is None
        for board in boards
        for found in board.found
    )
    for sentence in run.failed:
        err.print(f"rig: {sentence}", markup=False, highlight=False, soft_wrap=True)
    if failed or run.failed:
        raise typer.Exit(int(Exit.FAILED))
    if run.refused:
        raise UsageProblem("; ".join(run.refused))
    if run.problems:
        raise BenchBlocked("crashed", "; ".join(run.problems))


def _as_dict(
    folder: Path, record: Record, trials: list[Trial], boards: list[Ended], report: Path | None, told: list[str]
) -> dict[str, Any]:
    return {
        "run": str(folder),
        "study": record.study.name,
        "report": str(report) if report else None,
        "simulated": record.simulated,
        "outcomes": _outcomes(trials),
        "sentences": told,
        "boards": [
            {
                "slot": board.slot, "board": board.board, "trials": board.trials, "references": board.references,
                "references_good": board.references_good, "out": board.out, "left": board.left,
                "parts": [found.as_dict(record.study.confidence) for found in board.found],
            }
            for board in boards
        ],
    }  # fmt: skip


def _outcomes(trials: list[Trial]) -> Counter[str]:
    """How often it came out how, what the bench spoiled included; neither references, nor waves that never fired."""
    return Counter(trial.outcome for trial in trials if not trial.reference and not trial.missed)


def _report(folder: Path) -> Path | None:
    """The page of the study; None where that part is not installed."""
    try:
        module = import_module("reports.power")
    except ModuleNotFoundError:
        return None
    made: Path = module.write(folder)
    return made


class _Bar:
    """Progress on stderr; `Watch` of the runner."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left about"), TimeRemainingColumn(), speed_estimate_period=_PACE_S,
            console=err, transient=True, disable=not err.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("trials", total=None)
        self._told = False
        self._shown = time.monotonic()

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def planned(self, done: int, left: int) -> None:
        if not self._told:
            self.say(f"About {left} trials are to be made.")
            self._told = True
        self._bar.update(self._task, total=done + left, completed=done)

    def ended(self, trial: Trial) -> None:
        cell = trial.cell
        part = "reference" if trial.reference else cell.study.rpartition("/")[2]
        at = [cell.phase, cell.source, *(f"{name} {value:g}" for name, value in cell.x.items())]
        what = f"{trial.slot}: {part} {', '.join(filter(None, at))}".strip()
        self._bar.update(self._task, description=f"{what}: {trial.outcome}")
        if not trial.good:
            self.say(f"  {trial.n} {what}: {trial.outcome}: {trial.why}")
        elif not (trial.reference or err.is_terminal):  # on a terminal the bar shows it
            self.say(f"  {trial.n} {what}: {trial.outcome}")

    def say(self, sentence: str) -> None:
        err.print(sentence, markup=False, highlight=False, soft_wrap=True)
