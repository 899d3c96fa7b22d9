"""Reports of studies of flasher releases: a page, Markdown for a pull request, JSON for CI.

What is shown comes from the study's folder alone: `study.json`, `trials.jsonl`, `traces/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rig.errors import UsageProblem
from rig.files import why_unreadable, write_durably

REPORT = "report"
FailOn = Literal["regression", "wrong", "lies"]


def write(run_folder: Path, against: Path | None = None) -> Path:
    """Write report/verdict.json, report/verdict.md and report/index.html into a study's folder; the page's path.

    `against`: the folder of an earlier study, to show what changed since. A study that was stopped, or is under way,
    is reported as far as it went, and the report says so. Each file is on disk whole or not at all, the page last.
    Raises UsageProblem for a folder that is no study's, one that cannot be written to, and where jinja2 is missing.
    """
    from reports.releases.data import as_json
    from reports.releases.gathered import gather
    from reports.releases.markdown import markdown

    told = gather(run_folder, against)
    folder = run_folder / REPORT
    try:
        write_durably(folder / "verdict.json", as_json(told))
        write_durably(folder / "verdict.md", markdown(told))
        try:
            from reports.releases.page import page
        except ModuleNotFoundError as missing:
            raise UsageProblem(
                f"The page needs the extra 'report' ({missing.name} is missing): pip install -e '.[report]'; "
                f"{folder / 'verdict.md'} is written."
            ) from None
        write_durably(folder / "index.html", page(told))
    except OSError as problem:
        raise UsageProblem(f"The report cannot be written to {folder}: {why_unreadable(problem)}.") from None
    return folder / "index.html"


def fail(run_folder: Path, fail_on: FailOn | None) -> bool:
    """Whether a study's run is a failure for CI. `regression`: a release is worse than the baseline, as the verdict
    has it; `lies`: some release says that it is done, and it is not; `wrong`: that, or wrong, hung or crashed; None:
    never. A study that is not whole fails for what it has seen only: ask `complete` in verdict.json besides. Raises
    UsageProblem for a folder that is no study's, and for another word."""
    from rig.releases.record import read_record
    from rig.releases.trial import read_trials
    from rig.releases.verdict import verdict

    return not verdict(read_trials(run_folder), read_record(run_folder).study).ok(fail_on)
