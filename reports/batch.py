"""A batch report on disk: one HTML page that needs nothing but itself, a page for each unit it shows, the figures as
JSON, tables as CSV."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports.cells import cell
from reports.exports import KINDS
from reports.exports.staging import staged
from reports.load import load
from reports.page.unit import FOLDER
from reports.page.whole import Pages
from reports.summary import summary
from reports.tables import Records
from rig.errors import UsageProblem
from rig.files import why_unreadable, write_durably

UNIT_COLUMNS = [
    "run", "board", "unit", "slot", "attempt", "task", "operator", "flasher", "outcome", "counted", "code",
    "sentence", "image", "image_sha256", "overrides", "started",
    "ended", "cycle_s", "duration_s", "mac", "identity", "firmware", "backup_sha256", "backup_bytes",
    "backup_verified_by", "write_verified", "supply_off_confirmed", "reworked",
]  # fmt: skip
MOST_CSV = 20_000  # attempts up to which tables are written as CSV without being asked for
MOST_RUNS = 500  # up to which summary.json is laid out for people
_PRIVATE = ["order", "position", "start_ns", "end_ns"]  # columns that mean something inside this program only


def write_report(
    source: Iterable[Path | str] | Records, out_dir: Path, *, what_ifs: Sequence[str] = (),
    exports: Sequence[str] = (), index: str = "",
) -> Path:  # fmt: skip
    """Write index.html, unit-pages/, summary.json and, of up to 20,000 attempts, units.csv, phases.csv and
    measurements.csv; then the exports that are asked for (`reports.exports`). Returns index.html's path.

    `source`: records, or paths as `load` takes them; `what_ifs`: limits to replay, as `replay.parse_what_if` reads
    them; `index`: a link to the page over all batches. Each file is on disk whole or not at all; index.html comes
    last. Raises UsageProblem for what `load` refuses, a limit that makes no sense, and an `out_dir` that cannot be
    written.
    """
    strange = [kind for kind in exports if kind not in KINDS]
    if strange:
        raise UsageProblem(f"There is no export {strange[0]!r}: choose from {', '.join(KINDS)}.")
    records = source if isinstance(source, Records) else load(source)
    small = len(records.attempts) <= MOST_CSV
    pages = Pages(records, out_dir, what_ifs=what_ifs, files=_files_told(small, exports), index=index)
    page = pages.batch()
    try:
        _write_units(pages, out_dir)
        for name, text in (_tables(records) if small else {}).items():
            write_durably(out_dir / name, text)
        figures = summary(records)
        indent = 2 if len(records.runs) <= MOST_RUNS else None  # with it JSON is written ten times slower
        told = json.dumps(figures, indent=indent, ensure_ascii=False)
        write_durably(out_dir / "summary.json", told + "\n")
        _write_exports(records, out_dir, exports)
        write_durably(out_dir / "index.html", page)
    except OSError as error:
        raise UsageProblem(f"The report cannot be written to {out_dir}: {why_unreadable(error)}.") from error
    return out_dir / "index.html"


def _files_told(small: bool, exports: Sequence[str]) -> str:
    """Where the rows are that a page cannot show."""
    if small:
        return "All rows are in units.csv, phases.csv and measurements.csv, the figures in summary.json."
    kinds = ", ".join(f"{kind}/" for kind in exports)
    where = f"in {kinds}" if exports else "written by `rig report --export parquet`"
    return f"All rows are {where}, the figures in summary.json."


def _write_exports(records: Records, out_dir: Path, exports: Sequence[str]) -> None:
    if not exports:
        return
    from reports.exports import export

    for kind in dict.fromkeys(exports):
        export(records, kind, out_dir)


def _write_units(pages: Pages, out_dir: Path) -> None:
    """The units' pages as a folder that takes the place of the one before."""
    with staged(out_dir / FOLDER, lambda path: path.suffix == ".html") as folder:
        for name, text in pages.units():
            (folder / Path(name).name).write_text(text, encoding="utf-8")


def _tables(records: Records) -> dict[str, str]:
    """The tables that always were beside the page, as CSV."""
    orders = records.attempts["order"].to_numpy()
    long = records.details(orders).drop(columns=[*records.attempts.columns], errors="ignore")
    attempts = records.attempts.join(long)
    attempts["board"] = attempts.pop("board_name")
    who = attempts[["run", "board", "unit", "slot", "attempt"]]
    measurements = records.numbers.all_of(orders.tolist())
    sentences = records.steps.drop(columns=_PRIVATE, errors="ignore")
    return {
        "units.csv": _csv(attempts[UNIT_COLUMNS]),
        "phases.csv": _csv(_beside(who, records.steps["order"], sentences)),
        "measurements.csv": _csv(_beside(who, measurements["order"], measurements.drop(columns=["order"]))),
    }


def _beside(who: pd.DataFrame, orders: pd.Series[int], table: pd.DataFrame) -> pd.DataFrame:
    whose = who.iloc[orders.to_numpy()].reset_index(drop=True)
    return pd.concat([whose, table.reset_index(drop=True)], axis=1)


def _csv(table: pd.DataFrame) -> str:
    told = pd.DataFrame({name: _cells(values) for name, values in table.items()}, index=table.index)
    return told.to_csv(index=False, lineterminator="\n")


def _cells(values: pd.Series[Any]) -> Any:
    """A column with each value as `cell` has it; of texts each different one is looked at once."""
    if isinstance(values.dtype, pd.CategoricalDtype | pd.StringDtype):
        codes, names = pd.factorize(values)
        fresh = np.array([*(cell(str(each)) for each in names), None], dtype=object)
        return fresh[codes]  # the last one for -1: absent
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return values
    return [_known(each) for each in values.astype(object)]


def _known(value: object) -> object:
    return None if value is pd.NaT or value is pd.NA else cell(value)
