"""Records as they may leave: the same, every text in them as on a page."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd

from reports.cells import safe_column
from reports.tables import DETAILS, Name, Numbers, Orders, Records, category
from reports.text import shown


def scrubbed(records: Records) -> Records:
    """The same records without secrets and control characters. What is long is scrubbed when it is asked for."""

    def look_up(orders: Orders) -> pd.DataFrame:
        return _frame(records.details(orders)[list(DETAILS)])

    return dataclasses.replace(
        records,
        runs=_frame(records.runs),
        attempts=_frame(records.attempts),
        steps=_frame(records.steps),
        golden=_frame(records.golden),
        notes=_frame(records.notes),
        remarks=[shown(remark) for remark in records.remarks],
        numbers=_Numbers(records.numbers),
        look_up=look_up,
        read_artifacts=lambda units: _frame(records.artifacts_of(units)),
    )


def _frame(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({name: _column(values) for name, values in table.items()}, columns=table.columns)


def _column(values: pd.Series[Any]) -> pd.Series[Any]:
    if isinstance(values.dtype, pd.CategoricalDtype):
        names = [str(each) for each in values.cat.categories]
        fresh = [shown(name) for name in names]
        if fresh == names:
            return values
        texts = pd.Series(fresh, dtype="str").astype("category")
        return pd.Series(category(texts.array.take(values.cat.codes.to_numpy(), allow_fill=True)), index=values.index)
    if isinstance(values.dtype, pd.StringDtype):
        return pd.Series(safe_column(values).to_pandas(), dtype="str").set_axis(values.index)
    if values.dtype == np.dtype(object):
        return pd.Series([_plain(each) for each in values], dtype=object, index=values.index)
    return values


def _plain(value: Any) -> Any:
    """A value of a column of any objects. A table is scrubbed as its JSON, where a name stands beside its secret."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if hasattr(value, "model_dump"):
        return type(value)(**_plain(value.model_dump(mode="json")))
    if not isinstance(value, dict) or not value:
        return value
    told = json.dumps(value, default=str)
    fresh = shown(told)
    return value if fresh == told else _read(fresh)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"scrubbed": text}


class _Numbers:
    """Numbers with every text and name scrubbed."""

    def __init__(self, whole: Numbers) -> None:
        self._whole = whole
        self._own: dict[Name, Name] = {}
        for name in whole.all_names():
            fresh = Name(*(shown(each) for each in dataclasses.astuple(name)))
            while fresh in self._own:
                fresh = dataclasses.replace(fresh, name=f"{fresh.name} #")
            self._own[fresh] = name

    def names(self) -> list[Name]:
        known = set(self._whole.names())
        return [fresh for fresh, own in self._own.items() if own in known]

    def all_names(self) -> list[Name]:
        return list(self._own)

    def of(self, name: Name) -> pd.DataFrame:
        return self._whole.of(self._own.get(name, name))

    def rows_of(self, name: Name) -> pd.DataFrame:
        return _frame(self._whole.rows_of(self._own.get(name, name)))

    def limits(self) -> pd.DataFrame:
        return self._whole.limits()

    def texts(self, orders: Orders) -> pd.DataFrame:
        return _frame(self._whole.texts(orders))

    def all_of(self, orders: Orders) -> pd.DataFrame:
        return _frame(self._whole.all_of(orders))
