"""Measurements in Parquet files, a name's rows together, so that one name is read without the others.

A plain table for any other reader: order, step, phase, name, unit_of, value, text, the four limits, outcome. What
this program goes by is in the file's metadata: which row groups are of which name, and the sets of limits.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reports.numbers import KEYS, LAST, ROWS, codes_of_limits, limit_type, measurement_rows, numeric, text_rows
from reports.settled import settled
from reports.tables import LIMITS, OUTCOME, OUTCOMES, Name, Orders, typed

GROUP = 1 << 15  # rows of a row group: a few attempts' numbers are found without reading all of a name
BUDGET = 360 << 20  # bytes of numbers that are kept once read: twenty names of a million units
_ROW = 16  # bytes of a row that is kept: order, value, limits, outcome
META = b"rig"
_TEXT = pa.dictionary(pa.int32(), pa.string())
_COLUMNS = ["order", "value", "text", "limits", "outcome"]


@dataclass(frozen=True)
class Block:
    """Where a name's rows are. `first`: the least order. `rank`: its place among the names of its file."""

    step: str
    phase: str
    name: str
    unit_of: str
    low: int  # row groups low to high, the last one not among them
    high: int
    texts: int  # rows that are texts
    values: int  # rows that are numbers
    first: int
    rank: int
    same: str = ""  # digest of the orders: names of a step were mostly measured of the same attempts

    @property
    def key(self) -> Name:
        return Name(self.step, self.phase, self.name, self.unit_of)


def write_numbers(path: Path, rows: Iterable[tuple[Name, pd.DataFrame]], sets: pd.DataFrame, *, plain: bool) -> None:
    """Write a file of names' rows (`Numbers.rows_of`). `plain`: with the limits themselves, for other readers."""
    columns = [
        ("order", pa.int32()), *((key, _TEXT) for key in KEYS), ("value", pa.float64()), ("text", pa.string()),
        *((name, pa.float64()) for name in LIMITS if plain), ("outcome", _TEXT), ("limits", pa.int32()),
    ]  # fmt: skip
    schema = pa.schema(columns)
    blocks: list[Block] = []
    told: dict[str, Any] = {}
    values = {name: sets[name].to_numpy(dtype="float64") for name in LIMITS} if plain else {}
    few = [*KEYS, *values, "outcome", "limits", "text"]
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, use_dictionary=few) as writer:
        at = 0
        for rank, (name, table) in enumerate(rows):
            text = table["text"].notna().to_numpy()
            said = int(text.sum())
            known = int(table["number"].notna().sum())
            arrow = _arrow(table, name, values, schema, text if said else None)
            writer.write_table(arrow, row_group_size=GROUP)
            high = at + -(-len(table) // GROUP)
            blocks.append(Block(**asdict(name), low=at, high=high, texts=said, values=known,
                                first=int(table["order"].iloc[0]) if len(table) else 0, rank=rank,
                                same=_digest(table["order"].to_numpy())))  # fmt: skip
            at = high
        told["limits"] = [[float(each) for each in row] for row in sets.to_numpy()]  # exact; NaN is JSON's extension
        told["names"] = [asdict(block) for block in blocks]
        writer.add_key_value_metadata({META: json.dumps(told).encode()})


def _digest(orders: NDArray[Any]) -> str:
    return hashlib.blake2b(orders.astype(np.int32).tobytes(), digest_size=12).hexdigest()


def _arrow(
    table: pd.DataFrame, name: Name, values: Mapping[str, NDArray[np.float64]], schema: pa.Schema, text: Any
) -> pa.Table:
    n, limits = len(table), table["limits"].to_numpy()
    told: dict[str, Any] = {"order": pa.array(table["order"].to_numpy(), pa.int32())}
    first = pa.array(np.zeros(n, np.int32))
    told |= {key: pa.DictionaryArray.from_arrays(first, [getattr(name, key)]) for key in KEYS}
    told["value"] = pa.array(table["number"].to_numpy(), from_pandas=True)
    texts = pa.nulls(n, pa.string()) if text is None else pa.array(table["text"].to_numpy(dtype=object), pa.string(),
                                                                   from_pandas=True)  # fmt: skip
    told["text"] = texts
    told |= {key: pa.array(of[limits], from_pandas=True) for key, of in values.items()}
    codes = pd.Categorical(table["outcome"], dtype=OUTCOME).codes.astype(np.int32)
    told["outcome"] = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), list(OUTCOMES))
    told["limits"] = pa.array(limits, pa.int32())
    return pa.table([told[field.name] for field in schema], schema=schema)


class FileNumbers:
    """Numbers of files by `write_numbers`, read a name at a time.

    `parts`: each file with the order of what is called order in it (-1: left out), or None where it is the order.
    """

    def __init__(self, parts: Sequence[tuple[Path, NDArray[np.int32] | None]], plan: Mapping[str, int]) -> None:
        self._paths = [path for path, _ in parts]
        self._maps = [order_of for _, order_of in parts]
        self._blocks: dict[Name, list[tuple[int, Block]]] = {}
        sets: list[pd.DataFrame] = []
        begins: dict[Name, tuple[int, int, int]] = {}
        self._metadata = [pq.read_metadata(path) for path in self._paths]
        self._orders: dict[tuple[tuple[int, str], ...], NDArray[np.int32]] = {}  # that several names have
        for at in range(len(self._paths)):
            told = json.loads((self._metadata[at].metadata or {})[META])
            sets.append(pd.DataFrame(told["limits"], columns=LIMITS, dtype="float64"))
            order_of = self._maps[at]
            for each in told["names"]:
                block = Block(**each)
                self._blocks.setdefault(block.key, []).append((at, block))
                first = block.first if order_of is None else int(order_of[block.first])
                begin = (plan.get(block.step, LAST), first, block.rank)
                begins[block.key] = min(begin, begins.get(block.key, begin))
        every = pd.concat(sets, ignore_index=True) if sets else pd.DataFrame(columns=LIMITS, dtype="float64")
        self._limits = every.drop_duplicates().sort_values(LIMITS, ignore_index=True)
        self._codes = [codes_of_limits(each.to_numpy(), self._limits) for each in sets]
        self._ranks = sorted(self._blocks, key=lambda name: begins[name])
        self._kept: OrderedDict[Name, pd.DataFrame] = OrderedDict()
        self._lock = threading.Lock()  # two threads may read names
        self._changed: set[Name] = set()  # kept not as they were measured, but as statistics can take them

    def names(self) -> list[Name]:
        return [name for name in self._ranks if self._some(name, "values") or not self._some(name, "texts")]

    def all_names(self) -> list[Name]:
        return list(self._ranks)

    def _some(self, name: Name, what: str) -> bool:
        return any(getattr(block, what) for _, block in self._blocks[name])

    def of(self, name: Name) -> pd.DataFrame:
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        if self._has_texts(name):
            found = numeric(self.rows_of(name))
        else:
            found = self._read(name, text=False)
            read = found["value"].to_numpy()
            if (values := settled(read)) is not read:
                found["value"] = values
                self._changed.add(name)
        with self._lock:
            self._kept[name] = found
            while len(self._kept) > 1 and sum(len(each) for each in self._kept.values()) * _ROW > BUDGET:
                self._kept.popitem(last=False)
        return found

    def rows_of(self, name: Name) -> pd.DataFrame:
        if name not in self._blocks:
            return typed({}, ROWS, 0)
        return self._read(name, text=True)

    def limits(self) -> pd.DataFrame:
        return self._limits

    def texts(self, orders: Orders) -> pd.DataFrame:
        told = self._rows_of_some(orders, [name for name in self._ranks if self._has_texts(name)])
        return text_rows({name: rows[rows["text"].notna()] for name, rows in told.items()})

    def all_of(self, orders: Orders) -> pd.DataFrame:
        return measurement_rows(self._rows_of_some(orders, self._ranks), self._limits)

    def _has_texts(self, name: Name) -> bool:
        return any(block.texts for _, block in self._blocks.get(name, []))

    def _read(self, name: Name, *, text: bool) -> pd.DataFrame:
        blocks = self._blocks.get(name, [])
        same = tuple((at, block.same) for at, block in blocks)
        known = None if text or not all(digest for _, digest in same) else self._orders.get(same)
        left_out = [*([] if text else ["text"]), *([] if known is None else ["order"])]
        columns = [each for each in _COLUMNS if each not in left_out]
        parts = [self._part(at, range(block.low, block.high), columns) for at, block in blocks]
        if known is not None and parts:
            return self._joined(parts, text, known)
        found = self._joined(parts, text)
        if parts and sum(len(each["value"]) for each in parts) == len(found):  # in order as they stand
            self._orders[same] = found["order"].to_numpy()
        return found

    def _joined(
        self, parts: list[dict[str, Any]], text: bool, order: NDArray[np.int32] | None = None
    ) -> pd.DataFrame:
        """Parts below each other, by order. `order`: theirs, where they are known to be in it."""
        if not parts:
            return numeric(typed({}, ROWS, 0)) if not text else typed({}, ROWS, 0)
        told = {key: _below([each[key] for each in parts]) for key in parts[0] if key != "text"}
        rows: Any = slice(None)
        if order is None:
            order = told["order"]
            if (order < 0).any() or (order[1:] < order[:-1]).any():
                some = np.flatnonzero(order >= 0)
                rows = some[np.argsort(order[some], kind="stable")]
        found: dict[str, Any] = {"order": order[rows], "number" if text else "value": told["value"][rows]}
        if text:
            found["text"] = pd.concat([each["text"] for each in parts], ignore_index=True).iloc[rows].array
        found |= {"limits": told["limits"][rows], "outcome": pd.Categorical.from_codes(told["outcome"][rows],
                                                                                      dtype=OUTCOME)}  # fmt: skip
        return pd.DataFrame(found, copy=False)

    def _part(self, at: int, groups: Iterable[int], columns: list[str]) -> dict[str, Any]:
        """Columns of row groups of one file, as arrays; `order` and `limits` those of all files."""
        with pq.ParquetFile(self._paths[at], metadata=self._metadata[at]) as file:
            return self._taken(at, file, groups, columns)

    def _taken(self, at: int, file: pq.ParquetFile, groups: Iterable[int], columns: list[str]) -> dict[str, Any]:
        groups = list(groups)
        alike = {name: _constant(file, groups, name) for name in ("outcome", "limits")}
        table = file.read_row_groups(groups, columns=[name for name in columns if alike.get(name) is None])
        found: dict[str, Any] = {}
        if "order" in columns:
            order, order_of = table["order"].to_numpy(), self._maps[at]
            found["order"] = order if order_of is None else order_of[order]
        found["value"] = table["value"].to_numpy(zero_copy_only=False).astype("float64", copy=False)
        codes = self._codes[at].astype(limit_type(self._limits), copy=False)
        if alike["limits"] is None:
            found["limits"] = codes[table["limits"].to_numpy()]
        else:
            found["limits"] = np.full(table.num_rows, codes[alike["limits"]])
        if alike["outcome"] is None:
            found["outcome"] = _outcomes(table["outcome"])
        else:
            found["outcome"] = np.full(table.num_rows, OUTCOMES.index(alike["outcome"]), dtype=np.int8)
        if "text" in columns:
            found["text"] = pd.Series(table["text"].to_pandas(), dtype="str")
        return found

    def _rows_of_some(self, orders: Orders, names: Sequence[Name]) -> dict[Name, pd.DataFrame]:
        """Rows of a few attempts, by name, in the order of `names`: of what is kept, else out of the files."""
        wanted = np.unique(np.asarray(orders, dtype=np.int64))
        with self._lock:
            kept = {name: self._kept[name] for name in names
                    if name in self._kept and name not in self._changed and not self._has_texts(name)}  # fmt: skip
        read = self._read_some(wanted, [name for name in names if name not in kept])
        return {name: _among(kept[name], wanted) if name in kept else read[name] for name in names}

    def _read_some(self, wanted: NDArray[np.int64], names: Sequence[Name]) -> dict[Name, pd.DataFrame]:
        """The same out of the files: a name's row groups are in order, so those without any of them are not read."""
        parts: dict[Name, list[dict[str, Any]]] = {name: [] for name in names}
        for at, path in enumerate(self._paths if names else []):
            order_of = self._maps[at]
            mine = wanted if order_of is None else np.flatnonzero(np.isin(order_of, wanted))
            if not len(mine):
                continue
            with pq.ParquetFile(path, metadata=self._metadata[at]) as file:
                column = file.schema_arrow.get_field_index("order")
                for name in names:
                    here = (range(block.low, block.high) for of, block in self._blocks[name] if of == at)
                    groups = [each for block in here for each in block if _may_have(file, each, column, mine)]
                    if not groups:
                        continue
                    part = self._taken(at, file, groups, _COLUMNS)
                    rows = np.flatnonzero(np.isin(part["order"], wanted))
                    text = part.pop("text").iloc[rows]
                    parts[name].append({key: each[rows] for key, each in part.items()} | {"text": text})
        return {name: self._joined(of, text=True) for name, of in parts.items()}


def _constant(file: pq.ParquetFile, groups: list[int], name: str) -> Any:
    """What a column has in all rows of these row groups, by what their metadata say; None where that may differ."""
    column = file.schema_arrow.get_field_index(name)
    told = set()
    for group in groups:
        known = file.metadata.row_group(group).column(column).statistics
        if known is None or not known.has_min_max or not known.has_null_count or known.null_count:
            return None
        told |= {known.min, known.max}
    return told.pop() if len(told) == 1 else None


def _below(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _may_have(file: pq.ParquetFile, group: int, column: int, wanted: NDArray[np.int64]) -> bool:
    """Whether one of these orders (ascending) may be in a row group, by what its metadata say."""
    known = file.metadata.row_group(group).column(column).statistics
    if known is None or not known.has_min_max:
        return True
    return bool(np.searchsorted(wanted, known.min) < np.searchsorted(wanted, known.max, side="right"))


def _among(table: pd.DataFrame, wanted: NDArray[np.int64]) -> pd.DataFrame:
    """Rows of these attempts as `rows_of` has them, from what `of` says of a name without texts."""
    order = table["order"].to_numpy()
    low, high = np.searchsorted(order, wanted), np.searchsorted(order, wanted, side="right")
    several = high - low
    rows = np.repeat(low - np.cumsum(several) + several, several) + np.arange(several.sum())
    found = table.iloc[rows].rename(columns={"value": "number"}).reset_index(drop=True)
    return found.assign(text=pd.Series([None] * len(found), dtype="str"))[list(ROWS)]


def _outcomes(column: pa.ChunkedArray) -> NDArray[np.int8]:
    parts = []
    for chunk in column.unify_dictionaries().chunks:
        codes = np.append(OUTCOME.categories.get_indexer(chunk.dictionary.to_pylist()), -1).astype(np.int8)
        parts.append(codes[chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False)])
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int8)
