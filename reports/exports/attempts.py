"""Attempts one at a time, with their steps, for exports that write text: read in chunks, so memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.tables import Records, each_row

ATTEMPTS_AT_ONCE = 10_000


@dataclass(frozen=True)
class One:
    """An attempt: `row` has columns of `attempts` and `details`, absent ones None; `steps` those of `phases`;
    `measurements` those of `Numbers.all_of`, or none where they were not asked for."""

    row: Any
    steps: list[Any]
    measurements: list[Any]


def each_attempt(
    records: Records, orders: NDArray[Any], columns: Sequence[str], *, measurements: bool = False
) -> Iterator[One]:
    """These attempts, in the order given, with these columns (and `order`)."""
    phases = records.phases
    where = phases["order"].to_numpy()
    for low in range(0, len(orders), ATTEMPTS_AT_ONCE):
        part = np.asarray(orders[low : low + ATTEMPTS_AT_ONCE], dtype=np.int64)
        details = records.details(part)
        attempts = records.attempts.iloc[part].reset_index(drop=True)
        known = {name: (attempts if name in attempts else details)[name] for name in ("order", *columns)}
        attempts = pd.DataFrame(known)
        steps = _by_order(phases.iloc[_rows(where, part)])
        measured = _by_order(records.numbers.all_of(part.tolist())) if measurements else {}
        for row in each_row(attempts):
            yield One(row, steps.get(row.order, []), measured.get(row.order, []))


def _rows(where: NDArray[Any], orders: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of a table sorted by order that are of these attempts."""
    first, last = np.searchsorted(where, orders), np.searchsorted(where, orders + 1)
    count = last - first
    return np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())


def _by_order(table: Any) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for row in each_row(table):
        found.setdefault(row.order, []).append(row)
    return found
