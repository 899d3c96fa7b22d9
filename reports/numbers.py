"""Measurements held in memory, by name: of the runs of a few days. See `tables.Numbers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.settled import settled
from reports.tables import (
    LIMITS,
    MEASUREMENT_COLUMNS,
    OUTCOME,
    TEXT_COLUMNS,
    Name,
    Numbers,
    Orders,
    category,
    rows_among,
    typed,
)

KEYS = ["step", "phase", "name", "unit_of"]
ROWS: dict[str, str] = {"order": "int32", "number": "float64", "text": "str", "limits": "int16", "outcome": "outcome"}
HELD = 100_000  # attempts of a part up to which its numbers are kept: twenty names of them are 30 MB
LAST = 1 << 30  # the place of a step that is in no plan


class MemoryNumbers:
    """Numbers out of one long table.

    `table`: order (ascending), step, phase, name, unit_of, number (NaN: none), text (NaN: none), LIMITS, outcome.
    `plan`: the position of each step; names are in that order, then in that of their first appearance.
    """

    def __init__(self, table: pd.DataFrame, plan: Mapping[str, int] | None = None) -> None:
        which = table.groupby(KEYS, sort=False, observed=True, dropna=False).ngroup().to_numpy()
        found = [Name(*(str(each) for each in key)) for key in table[KEYS].drop_duplicates().itertuples(index=False)]
        place = np.argsort(which, kind="stable")
        edges = np.searchsorted(which[place], np.arange(len(found) + 1))
        rows = {name: place[edges[at] : edges[at + 1]] for at, name in enumerate(found)}
        ranks = sorted(found, key=lambda name: (plan or {}).get(name.step, LAST))  # stable: then as they appear
        self._limits = sets_of_limits(table[LIMITS])
        limits = codes_of_limits(table[LIMITS].to_numpy(dtype="float64"), self._limits)
        self._table = table[["order", "number", "text", "outcome"]].assign(limits=limits)[list(ROWS)]
        self._rows = {name: rows[name] for name in ranks}
        text, number = table["text"].notna().to_numpy(), table["number"].notna().to_numpy()
        self._names = [name for name, of in self._rows.items() if number[of].any() or not text[of].any()]

    @classmethod
    def empty(cls) -> MemoryNumbers:
        """No measurements at all."""
        return cls.of_names({})

    @classmethod
    def of_names(cls, told: Mapping[Name, Mapping[str, Any]]) -> MemoryNumbers:
        """Numbers from arrays, for synthetic records: for each name `order` (ascending), `value` and, where there are
        such, LIMITS and `outcome` (arrays or one for all). The names are in the plan's order."""
        parts = []
        for name, columns in told.items():
            plain: dict[str, Any] = dict.fromkeys(LIMITS, np.nan) | {"outcome": "pass"}
            values = np.asarray(columns["value"], dtype="float64")
            given = plain | {key: each for key, each in columns.items() if key != "value"}
            part = pd.DataFrame(given, index=range(len(values)))
            parts.append(part.assign(number=values, text=None, **{key: getattr(name, key) for key in KEYS}))
        long = ["order", *KEYS, "number", "text", *LIMITS, "outcome"]
        table = pd.concat(parts, ignore_index=True)[long] if parts else pd.DataFrame(columns=long)
        kinds: dict[str, Any] = dict.fromkeys(["number", *LIMITS], "float64") | {"order": "int32", "outcome": OUTCOME}
        kinds |= {**dict.fromkeys(KEYS, "category"), "text": "str"}
        table = table.astype(kinds).sort_values("order", kind="stable", ignore_index=True)
        return cls(table, {name.step: at for at, name in reversed(list(enumerate(told)))})

    def names(self) -> list[Name]:
        return list(self._names)

    def all_names(self) -> list[Name]:
        return list(self._rows)

    def of(self, name: Name) -> pd.DataFrame:
        return numeric(self.rows_of(name))

    def rows_of(self, name: Name) -> pd.DataFrame:
        rows = self._rows.get(name)
        return typed({}, ROWS, 0) if rows is None else self._table.iloc[rows].reset_index(drop=True)

    def limits(self) -> pd.DataFrame:
        return self._limits

    def texts(self, orders: Orders) -> pd.DataFrame:
        return text_rows(self._rows_of_all(orders, self._table["text"].notna().to_numpy()))

    def all_of(self, orders: Orders) -> pd.DataFrame:
        return measurement_rows(self._rows_of_all(orders), self._limits)

    def _rows_of_all(self, orders: Orders, also: NDArray[np.bool_] | None = None) -> dict[Name, pd.DataFrame]:
        wanted = self._table["order"].isin(list(orders)).to_numpy()
        wanted = wanted if also is None else wanted & also
        return {name: self._table.iloc[rows[wanted[rows]]] for name, rows in self._rows.items()}


class PartNumbers:
    """Numbers of some attempts of other numbers. `kept`: their orders there, ascending."""

    def __init__(self, whole: Numbers, kept: NDArray[Any]) -> None:
        self._whole = whole
        self._kept = kept
        self._held: dict[Name, pd.DataFrame] = {}  # what was asked for, of a part that is small

    def names(self) -> list[Name]:
        return [name for name in self._whole.names() if len(self.of(name))]

    def all_names(self) -> list[Name]:
        return [name for name in self._whole.all_names() if len(self.rows_of(name))]

    def of(self, name: Name) -> pd.DataFrame:
        held = self._held.get(name)
        if held is not None:
            return held
        found = self._here(self._whole.of(name))
        found["value"] = settled(found["value"].to_numpy())
        if len(self._kept) <= HELD:
            self._held[name] = found
        return found

    def rows_of(self, name: Name) -> pd.DataFrame:
        return self._here(self._whole.rows_of(name))

    def limits(self) -> pd.DataFrame:
        return self._whole.limits()

    def texts(self, orders: Orders) -> pd.DataFrame:
        return self._here(self._whole.texts(self._kept[np.asarray(orders, dtype=np.int64)]))

    def all_of(self, orders: Orders) -> pd.DataFrame:
        return self._here(self._whole.all_of(self._kept[np.asarray(orders, dtype=np.int64)]))

    def _here(self, table: pd.DataFrame) -> pd.DataFrame:
        rows, order = rows_among(table["order"].to_numpy(), self._kept)
        found: pd.DataFrame = table.iloc[rows].reset_index(drop=True)
        found["order"] = order
        return found


def numeric(rows: pd.DataFrame) -> pd.DataFrame:
    """What `Numbers.of` says, from `rows_of`."""
    text = rows["text"].notna().to_numpy()
    rows = rows[~text].reset_index(drop=True) if text.any() else rows
    rows = rows.assign(number=settled(rows["number"].to_numpy()))
    return rows.rename(columns={"number": "value"}).drop(columns=["text"])


def sets_of_limits(rows: pd.DataFrame) -> pd.DataFrame:
    """The different rows among these, sorted, so that the same limits have the same sets."""
    return rows.astype("float64").drop_duplicates().sort_values(LIMITS, ignore_index=True)


def codes_of_limits(rows: NDArray[np.float64], sets: pd.DataFrame) -> NDArray[Any]:
    """For each row of limits which of the sets it is. int16, and int32 where there are too many sets for it."""
    both = pd.DataFrame(np.vstack([sets.to_numpy(), rows]), columns=LIMITS)
    codes = both.groupby(LIMITS, sort=False, dropna=False).ngroup().to_numpy()[len(sets) :]
    return codes.astype(limit_type(sets))


def limit_type(sets: pd.DataFrame) -> type[np.signedinteger[Any]]:
    return np.int16 if len(sets) < 1 << 15 else np.int32


def text_rows(rows: Mapping[Name, pd.DataFrame]) -> pd.DataFrame:
    """TEXT_COLUMNS of `rows_of` by name (in the plan's order), of texts alone."""
    return _long(rows, {}).rename(columns={"text": "value"})[TEXT_COLUMNS]


def measurement_rows(rows: Mapping[Name, pd.DataFrame], sets: pd.DataFrame) -> pd.DataFrame:
    """MEASUREMENT_COLUMNS of `rows_of` by name (in the plan's order); text "true" and "false", which is how yes and
    no are kept, as such."""
    told = _long(rows, {name: sets[name].to_numpy() for name in LIMITS})
    number, text = told["number"].to_numpy(), told["text"].to_numpy(dtype=object)
    value = number.astype(object)
    value[np.isnan(number)] = None
    said = told["text"].notna().to_numpy()
    value[said] = [{"true": True, "false": False}.get(each, each) for each in text[said]]
    told["value"] = pd.Series(value, dtype=object)
    return told[MEASUREMENT_COLUMNS]


def _long(rows: Mapping[Name, pd.DataFrame], limits: Mapping[str, NDArray[np.float64]]) -> pd.DataFrame:
    some = {name: each for name, each in rows.items() if len(each)}
    parts = [each[list(ROWS)] for each in some.values()] or [typed({}, ROWS, 0)]
    told = pd.concat(parts, ignore_index=True)
    which = np.repeat(np.arange(len(some)), [len(each) for each in some.values()])
    for key in KEYS:
        names = pd.Categorical([getattr(name, key) for name in some])
        told[key] = category(names.take(which)) if len(some) else typed({}, {key: "category"}, 0)[key]
    for name, values in limits.items():
        told[name] = values[told["limits"].to_numpy()] if len(told) else np.empty(0)
    return told.iloc[np.lexsort((which, told["order"].to_numpy()))].reset_index(drop=True)
