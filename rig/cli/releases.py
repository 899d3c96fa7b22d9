"""`rig releases`: which flasher releases can be trusted. A study over releases, operations and conditions."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rig.bench.bench import Bench, open_bench
from rig.cli.terminal import err, say, say_json
from rig.errors import BenchBlocked, Exit, UsageProblem
from rig.records.run import RunFolder
from rig.releases.design import plan, schedule, stopping
from rig.releases.files import Images, find_images
from rig.releases.operations import Catalogue, load_catalogue
from rig.releases.record import Installed, Record, read_record
from rig.releases.runner import Run, new_record
from rig.releases.study import DEFAULT, Release, Study, load_study
from rig.releases.tools import Tool, install
from rig.releases.trial import Task, Trial, read_trials
from rig.releases.verdict import to_confirm, verdict
from rig.target import check_folder

HELP = (
    "Which flasher releases can be trusted: all at the same operations on the same boards, judged by what flash "
    "holds. Example: rig releases --flasher ltchiptool==4.15.0 --flasher ltchiptool==4.14.4 --bench sim:2"
)

RIGHT_SPEED, TIMED_SPEED = 50, 1  # of a simulated bench: for what is right or wrong, and for what is timed
_SIM = re.compile(r"sim(?::\d+)?")  # without a speed of its own
_QUICK = ["identify", "read-part", "read-unaligned", "write-small", "write-odd", "uf2-unaligned", "efuse", "no-board"]


def releases(
    study: Annotated[Path | None, typer.Option("--study", metavar="FILE", help="Study file; default: ours.")] = None,
    flasher: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="Release instead of the study's; repeat for more.")
    ] = None,
    bench: Annotated[
        str | None, typer.Option("--bench", help="Bench file, or sim[:BOARDS][@SPEED]; default: sim:2.")
    ] = None,
    operation: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Operation instead of the study's; repeat for more.")
    ] = None,
    condition: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Condition instead of the study's; repeat for more.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few operations, none timed: minutes.")] = False,
    repeats: Annotated[int | None, typer.Option(min=1, help="How often each is judged.")] = None,
    pairs: Annotated[int | None, typer.Option(min=1, help="How often each is timed.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the order.")] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Bootloader and app of a BK7231N, to be written.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where runs and backups are kept.")] = Path("runs"),
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a study that was stopped or killed.")
    ] = None,
    fail_on: Annotated[
        Literal["regression", "wrong", "lies"] | None,
        typer.Option(help="End with exit code 1 for these; regression: against the study's baseline."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="RUN", help="An earlier study to show the difference from.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    changes = _changes(flasher, operation, condition, quick, repeats, pairs, seed, image)
    if resume is not None and (study is not None or changes):
        raise UsageProblem("--resume goes on with what the study began with: leave out what it asks")
    if against is not None:
        read_record(against)
    catalogue = load_catalogue()
    if resume is not None:
        record = read_record(resume)
        _require_comparable(record.study, fail_on)
        folder = resume
        problems = _make(folder, record, catalogue, bench or str(record.bench["spec"]), None).problems
    else:
        asked = load_study(study or DEFAULT).only(**changes) if changes else load_study(study or DEFAULT)
        catalogue.tasks(asked)
        _require_comparable(asked, fail_on)
        check_folder(out)
        run = _make(None, asked, catalogue, bench or "sim:2", out)
        folder, problems = run.folder, run.problems
    _finish(folder, fail_on, against, as_json)
    if problems:
        raise BenchBlocked("crashed", "; ".join(problems))


def _require_comparable(study: Study, fail_on: str | None) -> None:
    if fail_on == "regression" and len(study.releases) < 2:
        raise UsageProblem(
            f"--fail-on regression compares releases, and the study has {study.base} only: name first what to "
            "compare it with"
        )


def _changes(
    flasher: list[str] | None, operation: list[str] | None, condition: list[str] | None, quick: bool,
    repeats: int | None, pairs: int | None, seed: int | None, image: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """What the command line asks instead of the study's file."""
    found: dict[str, Any] = {}
    if flasher:
        found |= {"releases": [Release(spec=spec).model_dump() for spec in flasher], "baseline": None}
    if quick:
        found |= {"operations": _QUICK, "conditions": ["normal"], "timing": False}
    given = {"operations": operation, "conditions": condition, "repeats": repeats, "pairs": pairs, "seed": seed}
    found |= {name: value for name, value in given.items() if value}
    if image is not None:
        found["image"] = image.resolve()
    return found


# -- a run ----------------------------------------------------------------------------------------------------------


def _make(folder: Path | None, asked: Record | Study, catalogue: Catalogue, spec: str, out: Path | None) -> Run:
    """All trials that are not on record, at one bench, or at two simulated ones in turn."""
    study = asked.study if isinstance(asked, Record) else asked
    parts = _parts(spec, [task.timed for task in catalogue.tasks(study)])
    run: Run | None = None
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(_Bar())
        for part, timed in parts:
            with open_bench(part) as bench:
                if run is None:
                    run = stack.enter_context(_begun(folder, asked, catalogue, spec, bench, out, watch))
                    run.not_installed()
                specs = [each for each in run.left if timed is None or each.timed == timed]
                if specs:
                    watch.say(f"{len(specs)} trials at bench {bench.name}{_pace(bench)}")
                run.go(bench, specs)
                if study.confirm:
                    run.confirm(bench, lambda trials, of=timed: _unsure(trials, study, of))  # type: ignore[misc]
    assert run is not None
    return run


def _unsure(trials: list[Trial], study: Study, timed: bool | None) -> list[tuple[str, Task]]:
    """(release, task) of what is to be tried again, at this bench."""
    return [(release, task) for release, task in to_confirm(trials, study) if timed in (None, task.timed)]


def _parts(spec: str, timed: list[bool]) -> list[tuple[str, bool | None]]:
    """(bench, which trials: timed, not timed, None: all). A simulated bench whose speed nobody chose is two."""
    if _SIM.fullmatch(spec) is None:
        return [(spec, None)]
    found: list[tuple[str, bool | None]] = []
    if not all(timed):
        found.append((f"{spec}@{RIGHT_SPEED}", False))
    if any(timed):
        found.append((f"{spec}@{TIMED_SPEED}", True))
    return found


def _begun(
    folder: Path | None, asked: Record | Study, catalogue: Catalogue, spec: str, bench: Bench, out: Path | None,
    watch: _Bar,
) -> Run:  # fmt: skip
    """A new run, its record written; or one that goes on."""
    study = asked.study if isinstance(asked, Record) else asked
    images = find_images(study, bench.image)
    tools, installed = _installed(study, bench, watch)
    if isinstance(asked, Record):
        assert folder is not None
        _require_same(asked, installed, images)
        return Run(folder, asked, tools, images, catalogue, watch, stopping(study, catalogue.tasks(study)))
    assert out is not None
    slots = list(bench.slots) if study.slots == "all" else study.slots
    for name in slots:
        bench.slot(name)
    tasks = catalogue.tasks(study)
    order = schedule(study.titles, tasks, pairs=study.pairs, repeats=study.repeats, slots=slots, seed=study.seed)
    new = RunFolder.create(out)
    told = {"spec": spec, "name": bench.name, "simulated": bench.simulated}
    record = new_record(study, catalogue, installed, order, images, told, new)
    record.write(new.path)
    watch.say(f"Study {study.name}: {len(order)} trials, in {new.path}")
    watch.say(plan(study, tasks))
    return Run(new.path, record, tools, images, catalogue, watch, stopping(study, catalogue.tasks(study)))


def _installed(study: Study, bench: Bench, watch: _Bar) -> tuple[dict[str, Tool], list[Installed]]:
    tools: dict[str, Tool] = {}
    found = []
    for release in study.releases:
        tool, told = install(release, bench.profiles("flashers"), watch.say)
        found.append(told)
        if tool is not None:
            tools[release.title] = tool
        else:
            watch.say(f"{release.title} is not installed: {told.problem}")
    if not tools:
        raise UsageProblem(f"none of the releases can be installed: {found[0].problem}")
    return tools, found


def _require_same(record: Record, installed: list[Installed], images: Images) -> None:
    """A study goes on with what it began with. Raises UsageProblem."""
    if images.told() != record.images:
        raise UsageProblem("the image is another one than the study began with: name that with RIG_FIRMWARE_DIR")
    begun = {each.title: each for each in record.installed}
    for each in installed:
        was = begun[each.title]
        if was.problem is None and (each.problem is not None or each.sha256 != was.sha256):
            raise UsageProblem(f"{each.title} is not what the study began with: its installation has changed since")


def _pace(bench: Bench) -> str:
    if not bench.simulated:
        return ""
    return " at real speed" if bench.speed == 1 else f" at {bench.speed:g} times real speed"


# -- the end --------------------------------------------------------------------------------------------------------


def _finish(folder: Path, fail_on: str | None, against: Path | None, as_json: bool) -> None:
    """Report, result, exit code."""
    record, trials = read_record(folder), read_trials(folder)
    report = _report(folder, against)
    counts: Counter[str] = Counter(trial.outcome for trial in trials)
    made = {trial.n for trial in trials if trial.outcome != "blocked"}
    ends = stopping(record.study, list(dict.fromkeys(spec.task for spec in record.schedule)))
    missing = [spec for spec in record.schedule if spec.n not in made and not ends(spec.task, trials)]
    found = verdict(trials, record.study)
    if as_json:
        told = {"run": str(folder), "report": str(report) if report else None, "outcomes": counts}
        say_json(told | {"missing": len(missing), "verdict": found.as_dict()})
    else:
        say(", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) or "no trial was made")
        for one in found.regressions:
            say(f"Regression: {one.sentence}")
        if report is not None:
            say(f"Report: {report}")
    unjudged = found.unjudged(fail_on) if fail_on is not None else []
    for title in unjudged:
        err.print(f"No pass: {title} is not judged ({found.lines[title]}).", markup=False, soft_wrap=True)
    stopped = missing and record.study.max_minutes is None
    if not found.ok(fail_on) and not (stopped and unjudged):
        raise typer.Exit(int(Exit.FAILED))
    if stopped:
        raise BenchBlocked("crashed", f"{len(missing)} trials were not made: rig releases --resume {folder}")


def _report(folder: Path, against: Path | None) -> Path | None:
    """The page of the study; None where that part is not installed."""
    try:
        module = import_module("reports.releases")
    except ModuleNotFoundError:
        return None
    made: Path = module.write(folder, against=against)
    return made


class _Bar:
    """Progress on stderr; `Watch` of the runner."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=err, transient=True, disable=not err.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("trials", total=None)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def planned(self, total: int, done: int) -> None:
        self._bar.update(self._task, total=total, completed=done)

    def ended(self, trial: Trial) -> None:
        if trial.outcome != "blocked":
            self._bar.advance(self._task)
        under = "" if trial.condition == "normal" else f", {trial.condition}"
        what = f"{trial.slot}: {trial.release}, {trial.operation}{under}"
        if trial.outcome in ("correct", "refuses", "absent", "not-installed"):
            self._bar.update(self._task, description=f"{what}: {trial.outcome}")
        else:
            self.say(f"{what}: {trial.outcome}: {trial.why}")

    def say(self, sentence: str) -> None:
        err.print(sentence, markup=False, soft_wrap=True)
