"""Records as a folder of Parquet: written by `rig report --export parquet`, read by `rig report`, pandas, duckdb.

runs, attempts (with what `details` has), phases, measurements, golden, notes, artifacts, each a .parquet; `order`
joins them. Lists and tables within a cell are JSON text. Needs pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reports.number_files import FileNumbers, write_numbers
from reports.tables import (
    ARTIFACT_COLUMNS,
    ATTEMPTS,
    DETAILS,
    MOMENTS,
    NOTE_COLUMNS,
    OUTCOME,
    PHASES,
    RUN_COLUMNS,
    Records,
    run_table,
    typed,
)
from rig.errors import UsageProblem
from rig.records.events import Instrument

LAYOUT = 1
META = b"rig"
FILES = ("runs", "attempts", "phases", "measurements", "golden", "notes", "artifacts")
GROUP = 1 << 16
if "jemalloc" in pa.supported_memory_backends():  # mimalloc gives memory back to take it again: seconds, of millions
    pa.set_memory_pool(pa.jemalloc_memory_pool())
_DETAILS = {name: kind for name, kind in DETAILS.items() if name != "order"}
STEPS = {name: kind for name, kind in PHASES.items() if name not in MOMENTS}
_JSON = ("tasks", "tools", "instruments", "study")
_TIMES = ("started", "ended", "utc")


def write(records: Records, folder: Path) -> None:
    """Write all files into `folder`, which must be there. OSError is the caller's."""
    runs = records.runs.copy()
    for name in _JSON:
        runs[name] = [json.dumps(each, default=_plain) for each in runs[name]]
    meta = {META: json.dumps({"layout": LAYOUT, "remarks": records.remarks}).encode()}
    _write(folder, "runs", _objects(runs, RUN_COLUMNS), meta)
    numbers, names = records.numbers, records.numbers.all_names()
    rows = ((name, numbers.rows_of(name)) for name in names)
    write_numbers(folder / "measurements.parquet", rows, numbers.limits(), plain=True)
    _write_attempts(records, folder / "attempts.parquet")
    _write(folder, "phases", table_of(records.phases))
    _write(folder, "golden", table_of(records.golden))
    notes = records.notes.assign(details=[json.dumps(each, default=str) for each in records.notes["details"]])
    _write(folder, "notes", _objects(notes, NOTE_COLUMNS))
    _write(folder, "artifacts", table_of(typed(records.artifacts, dict.fromkeys(ARTIFACT_COLUMNS, "str")
                                               | {"attempt": "int32"}, len(records.artifacts))))  # fmt: skip


def is_store(folder: Path) -> bool:
    """Whether this is a folder that `write` wrote."""
    return all((folder / f"{name}.parquet").is_file() for name in FILES)


def read(folder: Path) -> Records:
    """The records that were written here. Measurements and details stay in their files until they are asked for.

    Raises UsageProblem: it is damaged, or of another layout.
    """
    try:
        return _read(folder)
    except (pa.ArrowException, OSError, KeyError, ValueError) as problem:
        if isinstance(problem, UsageProblem):
            raise
        said = str(problem).strip().splitlines() or [type(problem).__name__]
        raise UsageProblem(f"The Parquet in {folder} cannot be read: {said[0]}") from problem


def _read(folder: Path) -> Records:
    meta = json.loads((pq.read_schema(folder / "runs.parquet").metadata or {}).get(META, b"{}"))
    if meta.get("layout") != LAYOUT:
        raise UsageProblem(
            f"The Parquet in {folder} is of another rig (layout {meta.get('layout')}, this one reads {LAYOUT})."
        )
    runs = _rows(folder, "runs")
    for row in runs:
        row |= {name: json.loads(row[name]) for name in _JSON}
        row["instruments"] = [Instrument(**each) for each in row["instruments"]]
    attempts = frame_of(folder / "attempts.parquet", ATTEMPTS)
    phases = frame_of(folder / "phases.parquet", STEPS)
    plan = {str(step): int(at) for step, at in phases.groupby("step", observed=True)["position"].min().items()}
    notes = [row | {"details": json.loads(row["details"])} for row in _rows(folder, "notes")]
    return Records(
        runs=run_table(runs),
        attempts=attempts,
        steps=phases,
        numbers=FileNumbers([(folder / "measurements.parquet", None)], plan),
        golden=frame_of(folder / "golden.parquet", ATTEMPTS | _DETAILS),
        notes=pd.DataFrame({name: [row[name] for row in notes] for name in NOTE_COLUMNS}, dtype=object),
        remarks=meta["remarks"],
        look_up=FileDetails(folder / "attempts.parquet"),
        read_artifacts=lambda units: _artifacts(folder, units),
        read_moments=lambda: frame_of(folder / "phases.parquet", {name: PHASES[name] for name in MOMENTS}),
    )


class FileDetails:
    """Details of a few attempts from the file of all of them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, orders: Sequence[int] | NDArray[Any]) -> pd.DataFrame:
        wanted = np.asarray(orders, dtype=np.int64)
        found = some_rows(self._path, wanted, _DETAILS)
        found.insert(0, "order", wanted.astype(np.int32))
        return found


def some_rows(path: Path, wanted: NDArray[Any], kinds: Mapping[str, str]) -> pd.DataFrame:
    """These rows of a file, in the order given; row groups without one of them are not read."""
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)]
        edges = np.cumsum([0, *sizes])
        mine = np.searchsorted(edges, wanted, side="right") - 1
        groups = np.unique(mine)
        if not len(groups):
            return typed({}, kinds, 0)
        table = file.read_row_groups([int(each) for each in groups], columns=list(kinds))
    low = np.cumsum([0, *(sizes[each] for each in groups)])
    rows = low[np.searchsorted(groups, mine)] + wanted - edges[mine]
    table = table.take(pa.array(rows))
    return typed({name: _pandas(table[name], kind) for name, kind in kinds.items()}, kinds, len(wanted))


def frame_of(path: Path, kinds: Mapping[str, str]) -> pd.DataFrame:
    """A file's columns as a table of these kinds."""
    table = pq.read_table(path, columns=list(kinds))
    return typed({name: _pandas(table[name], kind) for name, kind in kinds.items()}, kinds, table.num_rows)


def _pandas(values: pa.ChunkedArray, kind: str) -> Any:
    if kind in ("category", "outcome"):
        chunks = values.unify_dictionaries()
        names = pd.Index(chunks.chunk(0).dictionary.to_pylist() if chunks.num_chunks else [], dtype="str")
        told = np.arange(len(names)) if kind == "category" else OUTCOME.categories.get_indexer(names)
        told = np.append(told, -1).astype(np.min_scalar_type(-len(names) - 1))  # the last place is for -1
        parts = [told[each.indices.fill_null(-1).to_numpy(zero_copy_only=False)] for each in chunks.chunks]
        codes = np.concatenate(parts) if parts else told[:0]
        if kind == "outcome":
            return pd.Categorical.from_codes(codes, dtype=OUTCOME)
        return pd.Categorical.from_codes(codes, names)
    if kind == "flag":
        return values.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)
    if kind in ("str", "time"):
        return values.to_pandas()  # without a mapper: with one, texts go by objects
    return values.to_numpy(zero_copy_only=False)


def table_of(frame: pd.DataFrame) -> pa.Table:
    """A table as Arrow: categories as dictionaries of text, absent as null."""
    told: dict[str, Any] = {}
    for name, values in frame.items():
        if isinstance(values.dtype, pd.CategoricalDtype):
            codes = values.cat.codes.to_numpy().astype(np.int32)
            names = pa.array([str(each) for each in values.cat.categories], pa.string())
            told[str(name)] = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), names)
        else:
            told[str(name)] = pa.Array.from_pandas(values)
    return pa.table(told)


def _write(folder: Path, name: str, table: pa.Table, meta: Mapping[bytes, bytes] | None = None) -> None:
    told = table.replace_schema_metadata(dict(meta)) if meta else table
    write_table(told, folder / f"{name}.parquet")


def write_table(table: pa.Table, path: Path) -> None:
    few = [field.name for field in table.schema if not pa.types.is_floating(field.type)
           and not pa.types.is_integer(field.type) and not pa.types.is_timestamp(field.type)]  # fmt: skip
    pq.write_table(table, path, compression="zstd", compression_level=1, row_group_size=GROUP, use_dictionary=few)


def _write_attempts(records: Records, path: Path) -> None:
    writer: pq.ParquetWriter | None = None
    try:
        for low in range(0, max(len(records.attempts), 1), GROUP):
            part = records.attempts.iloc[low : low + GROUP].reset_index(drop=True)
            long = records.details(part["order"].to_numpy())[list(_DETAILS)]
            table = table_of(pd.concat([part, long], axis=1))
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1)
            writer.write_table(table, row_group_size=GROUP)
    finally:
        if writer is not None:
            writer.close()


def _objects(frame: pd.DataFrame, columns: list[str]) -> pa.Table:
    """A table of plain objects; a column of nothing is text."""
    told = {}
    for name in columns:
        values = [None if each is None or each is pd.NaT or each != each else each for each in frame[name].tolist()]
        values = [each.to_pydatetime() if isinstance(each, pd.Timestamp) else each for each in values]
        kind = pa.timestamp("us", tz="UTC") if name in _TIMES else None
        kind = pa.float64() if name in ("speed", "duration_s") else kind
        array = pa.array(values, kind)
        told[name] = array.cast(pa.string()) if pa.types.is_null(array.type) else array
    return pa.table(told)


def _rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return list(pq.read_table(folder / f"{name}.parquet").to_pylist())


def of_units(path: Path, units: Collection[str] | None) -> pa.Table:
    """The rows of a file that are some units' (None: all)."""
    return pq.read_table(path, filters=None if units is None else [("unit", "in", list(units))])


def _artifacts(folder: Path, units: Collection[str] | None) -> pd.DataFrame:
    kinds = dict.fromkeys(ARTIFACT_COLUMNS, "str") | {"attempt": "int32"}
    table = of_units(folder / "artifacts.parquet", units)
    return typed({name: _pandas(table[name], kind) for name, kind in kinds.items()}, kinds, table.num_rows)


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return value.isoformat() if isinstance(value, datetime) else str(value)
