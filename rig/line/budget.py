"""The current that the slots of one supply may draw together."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from rig.errors import UsageProblem

_LOOK_S = 0.2  # how often a waiting unit looks whether it is to stop; what is given back wakes it at once
_ROUNDING_A = 1e-9


class Budget:
    """Amps that each supply can give in all; a unit takes its current limit before it begins and gives it back when
    its output is off. Thread-safe. First come, first served on each supply: a unit with a large limit is not
    overtaken for ever by small ones.

    A supply with None, or not named at all, has no limit of its own: whoever asks gets at once.
    """

    def __init__(self, amps_by_supply: Mapping[str, float | None]) -> None:
        self._total = {name: amps for name, amps in amps_by_supply.items() if amps is not None}
        self._taken = dict.fromkeys(self._total, 0.0)
        self._waiting: dict[str, list[object]] = {name: [] for name in self._total}
        self._changed = threading.Condition()

    def take(self, supply: str, amps: float, stopped: threading.Event) -> bool:
        """Waits until `amps` are free on this supply and takes them. False: `stopped` was set, nothing is taken.

        UsageProblem when the supply could never give as much: no waiting helps. ValueError for less than 0 A."""
        if not amps >= 0:
            raise ValueError(f"{amps} A cannot be taken")
        if supply not in self._total:
            return not stopped.is_set()
        if amps > self._total[supply] + _ROUNDING_A:
            raise UsageProblem(
                f"supply {supply} gives {self._total[supply]:g} A in all, less than the {amps:g} A one slot may draw"
                ": lower the current limit, or correct `amps` of the supply in the bench file"
            )
        me, line = object(), self._waiting[supply]
        with self._changed:
            line.append(me)
            try:
                while not stopped.is_set():
                    if line[0] is me and self._taken[supply] + amps <= self._total[supply] + _ROUNDING_A:
                        self._taken[supply] += amps
                        return True
                    self._changed.wait(_LOOK_S)
                return False
            finally:
                line.remove(me)
                self._changed.notify_all()

    def give(self, supply: str, amps: float) -> None:
        """Gives back what `take` took, once that slot's output is off. ValueError for more than was taken."""
        if supply not in self._total:
            return
        with self._changed:
            left = self._taken[supply] - amps
            if not amps >= 0 or left < -_ROUNDING_A:
                raise ValueError(f"{amps} A given back to {supply}, of {self._taken[supply]} A taken")
            self._taken[supply] = max(0.0, left)
            self._changed.notify_all()

    def taken(self, supply: str) -> float:
        """Amps that are taken of this supply now."""
        with self._changed:
            return self._taken.get(supply, 0.0)
