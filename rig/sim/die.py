"""A flash die at work: an erase or program changes the content when it ends, as far as its supply let it.

The die takes its usual time whatever its supply does (a guess: its own check of the result is taken to be as blind as
the rig is). Times are wall seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class DieSupply(Protocol):
    """What feeds the die, asked about a time that is past."""

    def worked(self, start: float, end: float) -> float:
        """Seconds of work at full rate between two moments, started at the first."""

    def reads_well(self, start: float, end: float) -> bool:
        """Whether what was read between two moments came out right; two that are one are now."""


class SteadySupply:
    """Volts that never sag."""

    def worked(self, start: float, end: float) -> float:
        return end - start

    def reads_well(self, start: float, end: float) -> bool:
        return True


@dataclass
class _Operation:
    start: float
    end: float
    change: Callable[[float], object]


class Die:
    """Operations under way. `change(done)` is called when one ends, with the part of it that was done, 0 to 1."""

    def __init__(self, supply: DieSupply | None = None) -> None:
        self.supply = supply or SteadySupply()
        self._operations: list[_Operation] = []

    @property
    def next_end(self) -> float:
        """When the next operation ends (inf: none is under way)."""
        return min((operation.end for operation in self._operations), default=math.inf)

    def begin(self, start: float, end: float, change: Callable[[float], object]) -> None:
        self._operations.append(_Operation(start, end, change))

    def settle(self, now: float) -> None:
        """End what ended by `now`, in order."""
        while self._operations and self._operations[0].end <= now:
            operation = self._operations.pop(0)
            self._finish(operation, operation.end)

    def power_lost(self, now: float) -> None:
        """What is under way stays where it is."""
        self.settle(now)
        for operation in self._operations:
            self._finish(operation, now)
        self._operations.clear()

    def complete(self) -> None:
        """The chip was reset but has power: the die goes on by itself."""
        for operation in self._operations:
            operation.change(1.0)
        self._operations.clear()

    def _finish(self, operation: _Operation, until: float) -> None:
        length = operation.end - operation.start
        done = self.supply.worked(operation.start, until) / length if length > 0 else 1.0
        operation.change(1.0 if done > 1.0 - 1e-6 else max(0.0, done))
