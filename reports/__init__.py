"""Reports out of what runs wrote down: yield, times, measurements and what stands out, as HTML pages with CSV and
JSON beside them.

Needs the extra `report` (pandas, jinja2, statsmodels); what is here says so in one sentence where it is missing,
instead of a traceback. Nothing of it is imported before it is asked for.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rig.errors import UsageProblem

if TYPE_CHECKING:
    from reports.tables import Records

EXTRA = ("pandas", "numpy", "jinja2", "statsmodels", "scipy", "pyarrow")


def read(paths: Iterable[Path | str]) -> Records:
    """The records in `paths`: folders of runs, folders holding such, a database's URL, or a folder of Parquet. The
    other functions take them in place of paths, so that they are read once. Raises UsageProblem for what cannot be
    read."""
    with _extra_needed():
        from reports.load import load

        # what writes is imported while another core unpacks what is read; what goes wrong is told where it is used
        importing = threading.Thread(target=_import_ahead, name="report-import", daemon=True)
        importing.start()
        try:
            return load(paths)
        finally:
            importing.join()


def _import_ahead() -> None:
    with contextlib.suppress(Exception):
        from reports import batch, console  # noqa: F401


def write_report(
    source: Iterable[Path | str] | Records, out_dir: Path, *, what_ifs: Sequence[str] = (),
    exports: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Write index.html, a page for each unit, summary.json and CSV tables into `out_dir`; returns index.html's path.

    `what_ifs`: limits to replay, each like `steady_current.max=0.095`; `exports`: kinds of `reports.exports` to write
    as well. Raises UsageProblem for what cannot be read or makes no sense, an unwritable `out_dir`, a missing extra.
    """
    with _extra_needed():
        from reports.batch import write_report as write

        return write(source, out_dir, what_ifs=what_ifs, exports=exports)


def write_index(
    source: Iterable[Path | str] | Records, out_dir: Path, *, what_ifs: Sequence[str] = (),
    exports: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Write a page over all batches, a row each, and each batch's own report in a folder beside it; returns the path
    of index.html. Raises as `write_report` does."""
    with _extra_needed():
        from reports.index import write_index as write

        return write(source, out_dir, what_ifs=what_ifs, exports=exports)


def batches(records: Records) -> int:
    """How many batches (product and batch name; a run without a batch name is none) these are of."""
    named = records.runs[["product", "batch"]]
    return len(named[named["batch"].notna()].drop_duplicates())


def summary_lines(source: Iterable[Path | str] | Records) -> list[str]:
    """What became of these runs, in a few plain lines for a terminal. Raises as `write_report` does."""
    with _extra_needed():
        from reports.console import summary_lines as lines

        return lines(source)


@contextmanager
def _extra_needed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise UsageProblem(
            f"Reports need the extra 'report' ({error.name} is missing): pip install -e '.[report]'."
        ) from error
