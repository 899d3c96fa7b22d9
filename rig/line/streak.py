"""When so many units fail in a row that something common to all of them must be wrong."""

from __future__ import annotations

from rig.line.rules import Streak as StreakRule
from rig.records.events import Outcome


class Streak:
    """Counts failed units in order of their ends, over all slots. Golden units are not given to it.

    A good unit ends the streak. Blocked, aborted and unverified ones say nothing of the boards: they neither end nor
    lengthen it. Not thread-safe: for the station's own thread, or under its lock.
    """

    def __init__(self, rule: StreakRule) -> None:
        self._rule = rule
        self.length = 0  # failed units in a row by now

    def ended(self, outcome: Outcome) -> str | None:
        """A unit is over, its retries included. Returns why the line stops, as a sentence; None: it goes on.

        Every further failure stops it again until a good unit or `reset`."""
        if outcome.good:
            self.length = 0
        elif outcome is Outcome.FAIL:
            self.length += 1
        else:
            return None
        if not self.stops:
            return None
        most = self._rule.failures_in_a_row
        return f"{self.length} unit{'s' if self.length > 1 else ''} failed in a row: the line stops at {most}"

    @property
    def stops(self) -> bool:
        """So many have failed in a row that the line does."""
        return 0 < self._rule.failures_in_a_row <= self.length

    def reset(self) -> None:
        """A person lets the line go on: the count begins anew."""
        self.length = 0
