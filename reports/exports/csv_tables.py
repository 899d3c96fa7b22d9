"""CSV: runs, attempts, phases, measurements and golden units, a file each.

UTF-8, comma, a header, text in quotes, nothing where a value is absent; times in ISO 8601 UTC, durations in seconds.
`order` names an attempt in attempts.csv, phases.csv and measurements.csv alike. What a spreadsheet would run as a
formula has an apostrophe before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from reports.cells import safe_column
from reports.exports.measured import Measured
from reports.exports.staging import files, staged
from reports.tables import DETAILS, Records

NAMES = ("runs", "attempts", "phases", "measurements", "golden")
RUN = [
    "run", "started", "ended", "exit_code", "duration_s", "live", "command", "station", "bench", "simulated", "speed",
    "product", "batch", "operator", "image", "image_sha256", "limits_version", "tasks", "tools", "instruments",
    "resumed", "head", "study",
]  # fmt: skip
ATTEMPT = [
    "order", "run", "board", "unit", "slot", "attempt", "trial", "task", "operator", "flasher", "outcome", "counted",
    "good", "study", "code", "sentence", "image", "image_sha256", "overrides", "started", "ended", "cycle_s",
    "duration_s", "mac", "identity", "firmware", "backup_sha256", "backup_bytes", "backup_verified_by",
    "write_verified", "supply_off_confirmed", "reworked", "station", "batch", "product", "limits_version",
    "simulated", "speed", "baud",
]  # fmt: skip
KEY = ["order", "run", "unit", "slot", "attempt"]
PHASE = ["step", "phase", "outcome", "duration_s", "code"]
ATTEMPTS_AT_ONCE = 50_000  # with 20 measurements each a million rows, some 300 MB


def write_csv(records: Records, target: Path) -> list[Path]:
    """Write NAMES as CSV into `target` and return the files. Memory does not grow with the units but for the
    measurements' values. Raises UsageProblem, see `staged`."""
    with staged(target, lambda path: path.stem in NAMES and path.suffix == ".csv") as folder:
        _write(folder / "runs.csv", [_table(records.runs, RUN)])
        _write(folder / "golden.csv", [_attempts(records.golden, records.golden).drop_columns(["order"])])
        measured = Measured(records)
        with (
            (folder / "attempts.csv").open("wb") as attempts,
            (folder / "phases.csv").open("wb") as phases,
            (folder / "measurements.csv").open("wb") as measurements,
        ):
            sinks = [_Sink(attempts), _Sink(phases), _Sink(measurements)]
            for each in _chunks(records, measured):
                for sink, table in zip(sinks, each, strict=True):
                    sink.write(table)
            for sink in sinks:
                sink.close()
    return files(target)


def _chunks(records: Records, measured: Measured) -> Iterator[tuple[pa.Table, pa.Table, pa.Table]]:
    """Attempts, their phases, their measurements; at least once, for the headers."""
    orders = records.steps["order"].to_numpy()
    for low in range(0, max(len(records.attempts), 1), ATTEMPTS_AT_ONCE):
        high = min(low + ATTEMPTS_AT_ONCE, len(records.attempts))
        mine = records.attempts.iloc[low:high]
        attempts = _attempts(mine, records.details(np.arange(low, high)))
        edges = np.searchsorted(orders, [low, high])
        steps = records.steps.iloc[edges[0] : edges[1]]
        phases = _with_key(attempts, steps["order"].to_numpy() - low, _table(steps, PHASE))
        rows, table = measured.between(low, high)
        yield attempts, phases, _with_key(attempts, rows - low, table)


def _attempts(attempts: Any, details: Any) -> pa.Table:
    details = details.reset_index(drop=True)
    known = {name: attempts[name].reset_index(drop=True) for name in attempts}
    known |= {name: details[name] for name in DETAILS if name != "order"}
    known["board"] = details["board_name"]
    known["baud"] = known["baud"].where(known["baud"] > 0)
    whole = {"backup_bytes", "baud"}
    columns = {name: safe_column(known[name], guard=True) for name in ATTEMPT}
    return pa.table({
        name: column.cast(pa.int64()) if name in whole else column for name, column in columns.items()
    })  # fmt: skip


def _table(table: Any, names: list[str]) -> pa.Table:
    return pa.table({name: safe_column(table[name], guard=True) for name in names})


def _with_key(attempts: pa.Table, rows: Any, table: pa.Table) -> pa.Table:
    """The table's rows with what names their attempt in front; `rows`: where each one's is in `attempts`."""
    key = attempts.select(KEY).take(pa.array(rows, pa.int64()))
    return pa.table(dict(zip([*KEY, *table.column_names], [*key.columns, *table.columns], strict=True)))


def _write(path: Path, tables: Iterable[pa.Table]) -> None:
    with path.open("wb") as file:
        sink = _Sink(file)
        for table in tables:
            sink.write(table)
        sink.close()


class _Sink:
    """A CSV file that tables are added to. The file is Python's own: its errors keep their reason."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._writer: Any = None

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = csv.CSVWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        self._writer.close()
        self._file.flush()
