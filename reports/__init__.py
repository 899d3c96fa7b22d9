"""Reports out of runs' journals: yield, times, measurements, as one HTML page with CSV and JSON beside it.

Needs the extra `report` (pandas, matplotlib, jinja2, statsmodels); what is here says so in one sentence where it
is missing, instead of a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rig.errors import UsageProblem

EXTRA = ("pandas", "numpy", "matplotlib", "jinja2", "statsmodels", "scipy")


def write_report(run_dirs: Iterable[Path], out_dir: Path) -> Path:
    """Write index.html, units.csv, phases.csv, measurements.csv and summary.json into `out_dir`.

    `run_dirs`: folders of runs, or folders holding such. Returns the path of index.html. Raises UsageProblem for
    a folder without a journal, a broken journal, an unwritable `out_dir`, or a missing extra.
    """
    try:
        from reports.batch import write_report as write
    except ModuleNotFoundError as error:
        raise _extra_missing(error) from error
    return write(run_dirs, out_dir)


def summary_lines(run_dirs: Iterable[Path]) -> list[str]:
    """What became of these runs, in a few plain lines for a terminal. Raises as `write_report` does."""
    try:
        from reports.console import summary_lines as lines
    except ModuleNotFoundError as error:
        raise _extra_missing(error) from error
    return lines(run_dirs)


def _extra_missing(error: ModuleNotFoundError) -> Exception:
    if (error.name or "").partition(".")[0] not in EXTRA:
        return error
    return UsageProblem(f"Reports need the extra 'report' ({error.name} is missing): pip install -e '.[report]'.")
