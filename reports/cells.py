"""Values of a run as cells of a table that leaves the rig: no passwords, nothing that a spreadsheet would run.

`safe_column` says what `text.shown` says of each text.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from reports.text import LOOK, shown

_FORMULA = ("=", "+", "-", "@", "\t")
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"  # Arrow writes the fraction with the seconds


def cell(value: Any) -> Any:
    """A cell that a spreadsheet takes as it is meant: times in ISO, and no text that it would run as a formula."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        text = shown(value)
        return f"'{text}" if text.startswith(_FORMULA) else text
    return value


def safe_column(values: Any, *, guard: bool = False) -> pa.Array:
    """A column of a pandas table for Arrow, absent ones null: text as `shown` has it, lists and the like as JSON.

    `guard`: for spreadsheets, see `cell`; times are ISO text then.
    """
    if pd.api.types.is_object_dtype(values):
        values = pd.Series([_plain(value) for value in values], dtype="str")
    column = pa.array(values, from_pandas=True)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        names = _safe_texts(column.dictionary.cast(pa.string()), guard)
        return pc.take(names, column.indices) if len(names) else pa.nulls(len(column), pa.string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _safe_texts(column.cast(pa.string()), guard)
    if guard and pa.types.is_timestamp(column.type):
        return pc.strftime(column, format=_MOMENT)
    return column


def _safe_texts(texts: pa.Array, guard: bool) -> pa.Array:
    suspect = pc.fill_null(pc.match_substring_regex(texts, LOOK), False)
    if pc.any(suspect).as_py():
        fresh = pa.array([shown(text) for text in texts.filter(suspect).to_pylist()], pa.string())
        texts = pc.replace_with_mask(texts, suspect, fresh)
    if guard:
        texts = pc.replace_substring_regex(texts, r"\A([=+\-@\t])", r"'\1")
    return texts


def _plain(value: Any) -> str | None:
    """A value of a column of any objects, as text."""
    if value is None or value is pd.NaT or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_json)


def _json(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)
