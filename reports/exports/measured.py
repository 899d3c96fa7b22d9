"""Measurements of many attempts at once, by order, without an object for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reports.cells import safe_column
from reports.tables import LIMITS, OUTCOMES, Records

COLUMNS = ["step", "phase", "name", "value", "text", "unit_of", *LIMITS, "outcome"]


class Measured:
    """All measurements of `records`, for slices of their attempts. Holds their values: 15 bytes a measurement."""

    def __init__(self, records: Records) -> None:
        self._names = records.numbers.all_names()
        self._rows = [_spare(records.numbers.rows_of(name)) for name in self._names]
        limits = records.numbers.limits()
        self._limits = {name: limits[name].to_numpy(dtype="float64") for name in LIMITS}

    def between(self, low: int, high: int) -> tuple[NDArray[np.int64], pa.Table]:
        """The order of each measurement of the attempts from low to before high, and COLUMNS; by order, then plan."""
        parts = [_slice(rows, low, high) for rows in self._rows]
        orders = _joined([part["order"] for part in parts], np.int64)
        which = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        sort = np.lexsort((which, orders))
        limit = _joined([part["limits"] for part in parts], np.int64)[sort]
        outcome = _joined([part["outcome"].cat.set_categories(OUTCOMES).cat.codes for part in parts], np.int64)
        columns: dict[str, Any] = {
            key: _named([getattr(name, key) for name in self._names], which[sort])
            for key in ("step", "phase", "name", "unit_of")
        }
        columns["value"] = _numbers(_joined([part["number"] for part in parts], np.float64)[sort])
        columns["text"] = pa.concat_arrays([pa.nulls(0, pa.string()), *map(_texts, parts)]).take(pa.array(sort))
        columns |= {name: _numbers(sets[limit]) for name, sets in self._limits.items()}
        columns["outcome"] = _named(OUTCOMES, outcome[sort])
        return orders[sort], pa.table({name: columns[name] for name in COLUMNS})


def _spare(rows: pd.DataFrame) -> pd.DataFrame:
    """Without the texts where there are none."""
    return rows if rows["text"].notna().any() else rows.drop(columns=["text"])


def _slice(rows: pd.DataFrame, low: int, high: int) -> pd.DataFrame:
    first, last = np.searchsorted(rows["order"].to_numpy(), [low, high])
    return rows.iloc[first:last]


def _texts(rows: pd.DataFrame) -> pa.Array:
    return safe_column(rows["text"], guard=True) if "text" in rows else pa.nulls(len(rows), pa.string())


def _joined(parts: list[Any], kind: type[np.number[Any]]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *(part.to_numpy(dtype=kind) for part in parts)])


def _numbers(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values, from_pandas=True)


def _named(names: Any, codes: NDArray[Any]) -> pa.Array:
    """The name that each code stands for; none for -1."""
    texts = safe_column(pd.Series(list(names), dtype="str"), guard=True)
    if not len(texts):
        return pa.nulls(len(codes), pa.string())
    return pc.take(texts, pa.array(np.where(codes < 0, 0, codes), mask=codes < 0))
