"""Units behind a number: a set is what a link on the page leads to.

A browser with scripts shows the set's rows in the unit table; one without shows the set's own list (`:target`). A set
of very many names the first ones and says where all are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reports.text import shown

Orders = npt.NDArray[np.int64]


class Linked(NamedTuple):
    """A number or name as text, and the link to the units behind it ("" for none)."""

    text: str
    href: str = ""


@dataclass(frozen=True)
class UnitSet:
    """`orders`: the attempts that are listed; `total`: how many there are."""

    id: str
    title: str
    orders: list[int]
    total: int


class Sets:
    """All sets of a page. `most`: how many attempts a set lists."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._sets: dict[str, UnitSet] = {}

    def link(self, text: object, title: str, orders: Iterable[int] | Orders, total: int | None = None) -> Linked:
        """`text`, leading to these attempts; without a link where there are none. A title names one set only."""
        found = np.asarray(orders if isinstance(orders, np.ndarray) else list(orders), dtype=np.int64)
        count = len(found) if total is None else total
        if not len(found):
            return Linked(str(text))
        title = shown(title)
        if title not in self._sets:
            kept = found[: self.most].tolist()
            self._sets[title] = UnitSet(f"set-{len(self._sets) + 1}", title, kept, count)
        return Linked(str(text), f"#{self._sets[title].id}")

    def all(self) -> list[UnitSet]:
        return list(self._sets.values())

    def orders(self) -> list[int]:
        """Every attempt that is in a set, once, in the order of the sets."""
        return list(dict.fromkeys(order for each in self._sets.values() for order in each.orders))
