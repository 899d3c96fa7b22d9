"""What every section of the page works from."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports import metrics, timing
from reports.once import once
from reports.page.sets import Linked, Sets
from reports.tables import Records

ALL_ROWS = 500  # attempts up to which the page shows every one
SOME_ROWS = 200  # of more, the ones most worth seeing
parts = once(timing.parts)
Bools = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.int16 | np.int32]  # the narrow ones sort fast


@dataclass
class Context:
    """The records, what was computed of them once, and the sets of units that links lead to."""

    records: Records
    out_dir: Path
    what_ifs: Sequence[str] = ()
    sets: Sets = field(init=False)
    _keys: dict[str, tuple[Keys, list[Any]]] = field(init=False, default_factory=dict)
    _slots: deque[tuple[Any, tuple[Keys, npt.NDArray[np.intp]]]] = field(
        init=False, default_factory=partial(deque, maxlen=3)
    )

    def __post_init__(self) -> None:
        self.sets = Sets(most=ALL_ROWS if self.whole else 40)

    @property
    def attempts(self) -> pd.DataFrame:
        return self.records.attempts

    @property
    def whole(self) -> bool:
        """Whether the page shows every attempt."""
        return len(self.records.attempts) <= ALL_ROWS

    @cached_property
    def found(self) -> metrics.Yields:
        return metrics.yields(self.records)

    @cached_property
    def boards(self) -> pd.DataFrame:
        return metrics.boards(self.records)

    @cached_property
    def counted(self) -> Bools:
        """Of each attempt, by its order: whether it counts."""
        return np.asarray(self.attempts["counted"], dtype=bool)

    @cached_property
    def bad(self) -> pd.DataFrame:
        """The first counted failure of each board: board and code."""
        return metrics.first_failures(self.records)[["board", "code"]]

    @cached_property
    def judged(self) -> pd.DataFrame:
        """Counted trials in time: board, good, and the `order` of the trial's first attempt."""
        trials = metrics.trials(self.records)
        return trials[["board", "good", "order"]][trials["counted"]]

    @cached_property
    def first(self) -> pd.DataFrame:
        """Each board's first counted trial, in time."""
        return self.judged.drop_duplicates("board")

    @cached_property
    def parts(self) -> pd.DataFrame:
        """Where the time of each attempt went."""
        return parts(self.records)

    def keys(self, column: str) -> tuple[Keys, list[Any]]:
        """A column of the attempts as numbers (-1: nothing there) and what each stands for, by name."""
        if column not in self._keys:
            codes, names = _factorized(self.attempts[column])
            self._keys[column] = codes.astype(np.int16 if len(names) < 1 << 15 else np.int32), list(names)
        return self._keys[column]

    def slots(self, orders: npt.NDArray[np.int32]) -> tuple[Keys, npt.NDArray[np.intp]]:
        """The slot of each of these attempts as a number, and the places that put them by slot, in time within each.
        Kept, for what several measurements ask: those of one step are mostly of the same attempts."""
        for known, found in self._slots:
            if len(known) == len(orders) and np.array_equal(known, orders):
                return found
        slots = self.keys("slot")[0].take(orders)
        found = slots, np.argsort(slots, kind="stable")
        self._slots.append((orders, found))
        return found

    def of_boards(self, boards: Any, text: object, title: str) -> Linked:
        """A link to all attempts of some boards; `boards` are their codes."""
        chosen = np.asarray(boards)
        some = chosen[: self.sets.most]
        orders = np.flatnonzero(np.isin(np.asarray(self.attempts["board"]), some))
        return self.sets.link(text, title, orders, total=len(orders) if len(some) == len(chosen) else len(chosen))

    def where(self, mask: Any, text: object, title: str) -> Linked:
        """A link to the attempts where `mask` (by order) is true."""
        return self.sets.link(text, title, np.flatnonzero(np.asarray(mask, dtype=bool)))


def _factorized(column: pd.Series[Any]) -> tuple[npt.NDArray[Any], Any]:
    """As pandas' `factorize` with sorted names; categories of these tables are in order already."""
    if not isinstance(column.dtype, pd.CategoricalDtype) or column.cat.ordered:
        return pd.factorize(column, sort=True)
    codes = column.cat.codes.to_numpy()
    used = np.flatnonzero(np.bincount(codes.astype(np.intp) + 1, minlength=len(column.cat.categories) + 1)[1:])
    names = column.cat.categories[used]
    if not names.is_monotonic_increasing:
        return pd.factorize(column, sort=True)
    if len(used) == len(column.cat.categories):
        return codes, names
    fresh = np.full(len(column.cat.categories) + 1, -1, dtype=codes.dtype)  # the last place is for -1
    fresh[used] = np.arange(len(used))
    return fresh[codes], names


def coded(codes: pd.Series[Any]) -> pd.Series[Any]:
    """Failure codes as text; an attempt without one has a word for that."""
    text = codes.astype(object)
    return text.where(text.notna() & (text != ""), "(no code)")
