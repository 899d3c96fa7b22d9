"""Reports of studies of supply failures: a page, Markdown, JSON. One study's, or several side by side.

What is shown comes from the studies' folders alone: `study.json`, `trials.jsonl`, `logs/`, `traces/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rig.errors import UsageProblem
from rig.files import why_unreadable, write_durably

REPORT = "report"


def write(run: Path | Sequence[Path], out: Path | None = None) -> Path:
    """Write power.json, power.md and index.html; the page's path.

    `run`: a study's folder, or several: then boards, firmware versions and supplies are compared over all of them.
    `out`: where to, else `report/` in the (last) study's folder. A study that was stopped, or is under way, is
    reported as far as it went, and the report says so. Each file is on disk whole or not at all, the page last.
    Raises UsageProblem for a folder that is no supply study's, one that cannot be written to, and a missing extra
    `report`.
    """
    folders = [run] if isinstance(run, Path) else list(run)
    folder = out or folders[-1] / REPORT
    try:
        from reports.power.data import as_json
        from reports.power.gathered import gather
        from reports.power.markdown import markdown
        from reports.power.page import page

        told = gather(folders)
        pages = {"power.json": as_json(told), "power.md": markdown(told), "index.html": page(told)}
    except ModuleNotFoundError as missing:
        from reports import EXTRA

        if (missing.name or "").partition(".")[0] not in EXTRA:
            raise
        raise UsageProblem(
            f"The report needs the extra 'report' ({missing.name} is missing): pip install -e '.[report]'."
        ) from None
    try:
        for name, text in pages.items():
            write_durably(folder / name, text)
    except OSError as problem:
        raise UsageProblem(f"The report cannot be written to {folder}: {why_unreadable(problem)}.") from None
    return folder / "index.html"


def sentence(run: Path | Sequence[Path]) -> str:
    """The study's result in a sentence or two, for a terminal's last lines."""
    from reports.power.gathered import gather
    from reports.power.words import headline

    return headline(gather([run] if isinstance(run, Path) else list(run)))
