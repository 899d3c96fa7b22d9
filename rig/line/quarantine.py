"""Which slot is taken out of use: one that blocks unit after unit is a bad jig, not a bad batch."""

from __future__ import annotations

from rig.line.rules import Quarantine
from rig.records.events import Outcome

_PROVES_THE_SLOT = (Outcome.PASS, Outcome.MARGINAL, Outcome.FAIL)


class SlotHealth:
    """Counts, for each slot by itself, the units in a row that the bench was to blame for.

    A unit that was judged (pass, marginal, fail) shows that the slot works and begins the count anew: a bad board is
    no bad slot. Aborted, unverified and a full disk say nothing of the slot and change nothing. Not thread-safe: for
    the station's own thread, or under its lock.
    """

    def __init__(self, rule: Quarantine) -> None:
        self._rule = rule
        self._blocked: dict[str, list[str]] = {}
        self._out: dict[str, str] = {}

    def ended(self, slot: str, outcome: Outcome, code: str | None) -> str | None:
        """A unit in this slot is over, its retries included. Returns why the slot is out, as a sentence; None: it may
        go on. For a slot that is out already the reason stays the first one, until `back`."""
        if slot in self._out:
            return self._out[slot]
        if outcome in _PROVES_THE_SLOT:
            self._blocked.pop(slot, None)
            return None
        if outcome is not Outcome.BLOCKED or code == "disk-full":
            return None
        codes = self._blocked.setdefault(slot, [])
        codes.append(code or "no code")
        if len(codes) < self._rule.blocked_in_a_row:
            return None
        self._out[slot] = _why(slot, codes)
        return self._out[slot]

    def out(self, slot: str) -> str | None:
        """Why this slot is out; None: it is in use."""
        return self._out.get(slot)

    def back(self, slot: str) -> None:
        """A person says that the slot is good again: it starts with no blocked unit to its name."""
        self._out.pop(slot, None)
        self._blocked.pop(slot, None)


def _why(slot: str, codes: list[str]) -> str:
    named = ", ".join(dict.fromkeys(codes))
    if len(codes) == 1:
        return f"slot {slot} blocked its unit ({named})"
    return f"slot {slot} blocked {len(codes)} units in a row ({named})"
