"""Where reports read from: runs' journals, the database, or Parquet. See `tables` for what comes out."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports import raw
from reports.assemble import assemble
from reports.numbers import MemoryNumbers
from reports.raw import Raw
from reports.tables import RUNNING, Records, each_row, typed
from rig.errors import UsageProblem
from rig.records import chain
from rig.records.events import RunStarted
from rig.records.journal import is_live, read_journal
from rig.records.rows import Row, Rows
from rig.records.run import JOURNAL, RunFolder, list_runs

__all__ = ["RUNNING", "Records", "each_row", "load"]


def load(paths: Iterable[Path | str]) -> Records:
    """Read runs: a run's folder, a folder that holds runs, a database's URL (`sqlite:///runs/rig.db`), or a folder of
    Parquet that `rig report --export parquet` wrote. A run given twice is read once.

    Several folders of runs may be named; a database or Parquet stands alone. Raises UsageProblem for a path without
    a journal and for a broken journal, DatabaseProblem for a database that cannot be read.
    """
    given = list(paths)
    urls = [each for each in given if isinstance(each, str) and "://" in each]
    folders = [Path(each) for each in given if each not in urls]
    stores = [each for each in folders if (each / "attempts.parquet").is_file()]
    if (urls or stores) and len(given) > 1:
        raise UsageProblem("A report is of folders of runs, or of one database, or of one folder of Parquet.")
    if not urls and not stores:
        return _from_journals(folders)
    try:
        from reports import cache, store
    except ModuleNotFoundError as problem:
        if problem.name != "pyarrow":
            raise
        raise UsageProblem("Databases and Parquet are read with pyarrow: pip install -e '.[report]'.") from problem
    if urls:
        return cache.records_of_database(urls[0])
    if not store.is_store(stores[0]):
        raise UsageProblem(f"The Parquet in {stores[0]} is not whole; `rig report --export parquet` writes it.")
    return store.read(stores[0])


def _from_journals(paths: list[Path]) -> Records:
    remarks: list[str] = []
    seen: dict[str, Path] = {}
    runs: list[Row] = []
    notes: list[Row] = []
    kept: list[pd.DataFrame] = []
    tables: list[tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]] = []
    for folder in _folders(paths):
        events, torn = read_journal(folder.journal)
        live = is_live(folder.journal)
        first = next((event for event in events if isinstance(event, RunStarted)), None)
        run = first.run if first else folder.id
        if run in seen:
            if seen[run].resolve() != folder.path.resolve():
                remarks.append(f"{folder.path} is a copy of run {run} in {seen[run]} and was left out.")
            continue
        seen[run] = folder.path
        if torn is not None and not live:
            remarks.append(torn)
        if first is None:
            remarks.append(f"{folder.journal} has no beginning: what ran, and on which bench, is not known.")
        rows = Rows.of_events(run, events)
        told = rows.run | {"link": chain.head(folder.journal)}
        runs.append(raw.run_row(told, rows.instruments, str(folder.path), live))
        notes += [row for row in rows.by_line["entries"] if row["kind"] in raw.NOTE_KINDS]
        kept.append(pd.DataFrame(rows.by_line["artifacts"], columns=raw.ARTIFACTS))
        tables.append(raw.of_rows(rows))
    attempts, phases, measured = raw.joined(tables)
    every = pd.concat([each for each in kept if len(each)] or kept[:1], ignore_index=True)
    long = attempts[list(raw.LONG)]

    def artifacts(units: Collection[str] | None) -> pd.DataFrame:
        return every if units is None else every[every["unit"].isin(list(units))]

    read = Raw(runs, attempts, long.iloc.__getitem__, phases, measured, notes, artifacts, remarks)
    return assemble(read, memory_numbers)


def memory_numbers(measured: pd.DataFrame, order_of: NDArray[np.int32], plan: dict[str, int]) -> MemoryNumbers:
    """Numbers from a table of `raw.MEASURED`."""
    order = order_of[measured["at"].to_numpy()]
    rows = np.flatnonzero(order >= 0)
    rows = rows[np.argsort(order[rows], kind="stable")]
    table = measured.iloc[rows].drop(columns=["at"])
    told: dict[str, Any] = {name: table[name].array for name in table.columns}
    kinds = {name: kind for name, kind in raw.MEASURED.items() if name != "at"}
    return MemoryNumbers(typed(told | {"order": order[rows]}, {"order": "int32"} | kinds, len(rows)), plan)


def _folders(paths: list[Path]) -> list[RunFolder]:
    found: list[RunFolder] = []
    for path in paths:
        inside = [] if (path / JOURNAL).is_file() else list_runs(path)
        found += inside or [RunFolder.open(path)]
    if not found:
        raise UsageProblem("No run was named to report on.")
    return found
