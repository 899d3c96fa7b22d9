"""The made-up year that reports are timed on: this rig reads it, and finds in it what plain pandas finds."""

from __future__ import annotations

from pathlib import Path

from benchmarks import report_plain
from benchmarks.report import same_figures
from benchmarks.synthetic_parquet import write_parquet
from benchmarks.synthetic_year import write_database
from reports import read
from reports.summary import summary

UNITS = 500  # two runs


def test_the_report_of_a_made_up_year_agrees_with_plain_pandas(tmp_path: Path) -> None:
    database, parquet = tmp_path / "rig.db", tmp_path / "parquet"
    write_database(database, UNITS)
    write_parquet(parquet, UNITS)
    plain = report_plain.tables(parquet)
    same_figures(summary(read([f"sqlite:///{database}"])), plain)
    same_figures(summary(read([parquet])), plain)
