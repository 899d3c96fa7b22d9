"""When the known-good unit is due in a slot, and what its failing means."""

from __future__ import annotations

from collections.abc import Iterable

from rig.line.rules import Golden
from rig.records.events import Outcome, Role


class GoldenSchedule:
    """Keeps, for each slot, how many units of the batch it had since the golden unit last proved it.

    The golden unit is due in every slot before its first unit, and again after every `every` units of that slot. It
    stays due until it was good there. Not thread-safe: for the station's own thread, or under its lock.
    """

    def __init__(self, rule: Golden, slots: Iterable[str]) -> None:
        self._rule = rule
        self._units = dict.fromkeys(slots, 0)  # since the last good check
        self._proven: set[str] = set()

    def due(self, slot: str) -> bool:
        """Whether the next unit in this slot must be the golden one."""
        if self._rule.serial is None:
            return False
        return slot not in self._proven or 0 < self._rule.every <= self._units.get(slot, 0)

    def ended(self, slot: str, role: Role, outcome: Outcome) -> str | None:
        """A unit in this slot is over, its retries included. Returns why the line stops, as a sentence; None: it goes
        on.

        The line stops when the golden unit is not good: then the bench is wrong, or the unit no longer golden, and
        what this slot said since the last good check is in doubt. An aborted check changes nothing."""
        if self._rule.serial is None:
            return None
        units = self._units.get(slot, 0)
        if role == "unit":
            self._units[slot] = units + 1
        elif outcome.good:
            self._units[slot] = 0
            self._proven.add(slot)
        elif outcome is not Outcome.ABORTED:
            self._proven.discard(slot)
            since = f"; the {units} unit(s) since its last good check there are in doubt" if units else ""
            return f"the golden unit {self._rule.serial} ended as {outcome.value} in slot {slot}{since}"
        return None
