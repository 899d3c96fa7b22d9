"""A batch run as a gage study: every unit in every slot, so many times, in an order that a recorded seed gives.

A measurement is one attempt at a unit in a slot. Where a slot is free it takes the next of its own in the drawn order
whose board can be had: one that is at work elsewhere, or on its way between slots, cannot. So no unit is ever in two
slots; and a slot that a board is being taken out of begins nothing (`Queue` sees to that).
"""

from __future__ import annotations

import random
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from rig.errors import UsageProblem
from rig.line.books import Books
from rig.line.queue import Queue, Turn
from rig.records.events import Outcome

_MEASURED = (Outcome.PASS, Outcome.MARGINAL, Outcome.FAIL, Outcome.UNVERIFIED)  # the bench had its say: no repetition


@dataclass(frozen=True)
class Study:
    """How often each unit is measured in each slot, and what the order is drawn with."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    trials: int
    seed: int


@dataclass(frozen=True)
class Cell:
    """One measurement: this unit in this slot."""

    unit: str
    slot: str


def new_seed() -> int:
    """One that nobody has chosen."""
    return secrets.randbelow(2**32)


def told(study: Study, units: Sequence[str], slots: Sequence[str]) -> str:
    """For the record."""
    return (
        f"gage study: {len(units)} units in {len(slots)} slots, {study.trials} times each, are "
        f"{len(units) * len(slots) * study.trials} measurements; their order was drawn with the seed {study.seed}"
    )


def drawn(study: Study, units: Sequence[str], slots: Sequence[str]) -> list[Cell]:
    """All measurements in their order: round by round, each round every unit in every slot, shuffled."""
    draw = random.Random(study.seed)
    order: list[Cell] = []
    for _ in range(study.trials):
        one = [Cell(unit, slot) for unit in units for slot in slots]
        draw.shuffle(one)
        order += one
    return order


def cells_left(study: Study, units: Sequence[str], slots: Sequence[str], books: Books) -> list[Cell]:
    """Those of `drawn` that no attempt has measured yet. A blocked or aborted attempt measured nothing."""
    done = Counter(Cell(each.unit, each.slot) for each in books.all_of_units() if each.outcome in _MEASURED)
    left: list[Cell] = []
    for cell in drawn(study, units, slots):
        if done[cell]:
            done[cell] -= 1
        else:
            left.append(cell)
    return left


class StudyQueue(Queue):
    """The measurements of a study between its slots. `inside`: slot -> unit whose board is in it, as far as it is
    known; none of them counts as put in: every measurement has its board put in anew."""

    def __init__(
        self,
        cells: Iterable[Cell],
        slots: Iterable[str],
        stopped: threading.Event,
        *,
        inside: Mapping[str, str] | None = None,
        identified: bool = True,
    ) -> None:
        super().__init__((), slots, stopped, identified=identified)
        self._cells = list(cells)
        self._inside = dict(inside or {})
        self._moving: dict[str, set[str]] = {}  # slot that is being loaded -> units that are in someone's hands

    def _take(self, slot: str, golden_due: Callable[[], bool]) -> Turn | None:
        for index, cell in enumerate(self._cells):
            if cell.slot == slot and self._to_be_had(cell.unit):
                del self._cells[index]
                return self._moved(cell)
        return None

    def _to_be_had(self, unit: str) -> bool:
        at_work = {turn.unit for turn in self._work.values()}
        return unit not in at_work and not any(unit in each for each in self._moving.values())

    def _where(self, unit: str) -> str | None:
        return next((name for name, inside in self._inside.items() if inside == unit), None)

    def _moved(self, cell: Cell) -> Turn:
        """The board is on its way from here on, and so is the one that it takes the place of."""
        origin, before = self._where(cell.unit), self._inside.pop(cell.slot, None)
        self._moving[cell.slot] = {cell.unit} | ({before} if before is not None else set())
        if origin is not None and origin != cell.slot:
            self._inside.pop(origin)
        return Turn(cell.unit, origin=origin if origin != cell.slot else None)

    def _nothing_left(self) -> bool:
        return not (self._work or self._cells)

    def begun(self, slot: str) -> None:
        with self._changed:
            self._inside[slot] = self._work[slot].unit
            self._moving.pop(slot, None)
            self._loading.discard(slot)
            self._changed.notify_all()

    def over(self, slot: str) -> None:
        with self._changed:
            self._moving.pop(slot, None)
            super().over(slot)

    def give_back(self, slot: str) -> None:
        """Nobody knows where its board was left: it is asked for without a word on where it is."""
        with self._changed:
            turn = self._work.get(slot)
            if turn is not None:
                self._cells.insert(0, Cell(turn.unit, slot))
            self._moving.pop(slot, None)
            super().over(slot)

    def scan(self, slot: str | None, unit: str) -> str:
        raise UsageProblem("the boards of a gage study are asked for one by one: nothing is to be scanned")

    def again(self, unit: str) -> None:
        raise UsageProblem("a gage study measures each unit as often as its batch file says: none comes again")

    def left(self) -> int:
        """Measurements that wait, those whose boards are being put in too."""
        with self._changed:
            return len(self._cells) + len(self._loading)

    def stuck(self) -> bool:
        """Nothing is at work, and every slot that has measurements left is out."""
        with self._changed:
            mine = {cell.slot for cell in self._cells}
            return bool(mine) and mine <= self._out.keys() and not self._work and not self._closed
