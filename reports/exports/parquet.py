"""Parquet: a folder that pandas and duckdb read, and `rig report` itself in place of the runs. See reports.store."""

from __future__ import annotations

from pathlib import Path

from reports import store
from reports.exports.scrubbed import scrubbed
from reports.exports.staging import files, staged
from reports.tables import Records


def write_parquet(records: Records, target: Path) -> list[Path]:
    """Write the tables into `target` and return the files. Raises UsageProblem, see `staged`."""
    with staged(target, lambda path: path.suffix == ".parquet" and path.stem in store.FILES) as folder:
        store.write(scrubbed(records), folder)
    return files(target)
