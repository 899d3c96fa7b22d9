"""Which unit a slot begins next, and whether it may begin now.

Nothing is begun while the line is stopped, before a required operator is known, while the first article waits, or in
a slot that is out. A unit whose slot cannot have it goes back in front, for the others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rig.errors import UsageProblem
from rig.records.events import Role

_LOOK_S = 0.2  # `stopped` is set by signal handlers, which may wake nobody


@dataclass(frozen=True)
class Turn:
    """What a slot does next. `loaded`: the board is in it already; `origin`: the slot that it stands in."""

    unit: str
    role: Role = "unit"
    loaded: bool = False
    origin: str | None = None


class Queue:
    """The units of a run between its slots. Thread-safe.

    `loaded`: slot -> unit whose board is in it at the start. `golden`: the golden unit's serial number. `one_by_one`:
    until the line is released as approved, one unit at a time (first article). `scanned`: units come by `scan`;
    `units` then are all that may, unless `open_end`. `first`: units begun before all others, scanned or not. `pick`:
    which of these listed units may be begun now, where that is decided elsewhere; it is called under the queue's
    lock."""

    def __init__(
        self,
        units: Iterable[str],
        slots: Iterable[str],
        stopped: threading.Event,
        *,
        first: Iterable[str] = (),
        loaded: Mapping[str, str] | None = None,
        golden: str | None = None,
        scanned: bool = False,
        open_end: bool = False,
        one_by_one: bool = False,
        identified: bool = True,
        pick: Callable[[Sequence[str]], str | None] = lambda units: units[0] if units else None,
    ) -> None:
        self._stopped = stopped
        self._pick = pick
        self._slots = list(slots)
        self._loaded = dict(loaded or {})
        taken = {*first, *self._loaded.values()}
        rest = [unit for unit in units if unit not in taken]
        self._waiting = deque(unit for unit in first if unit not in self._loaded.values())
        self._waiting.extend(() if scanned else rest)
        self._expected = None if open_end else set(rest if scanned else ())  # None: as many as come
        self._scanned = scanned
        self._assigned: dict[str, str] = {}  # slot -> unit that was scanned for it
        self._shunned: dict[str, set[str]] = {}  # unit -> slots that have blocked it; it waits for another
        self._last: dict[str, str] = {}  # slot -> unit of its last turn: whose board is in it
        self._golden = golden
        self._one_by_one = one_by_one
        self._identified = identified
        self._asking: set[str] = set()
        self._work: dict[str, Turn] = {}
        self._loading: set[str] = set()  # slots whose turn has had no attempt yet
        self._out: dict[str, str] = {}
        self._line: str | None = None
        self._closed = False
        self._changed = threading.Condition()

    # -- a slot's worker -------------------------------------------------------------------------------

    def next(self, slot: str, golden_due: Callable[[], bool] = lambda: False) -> Turn | None:
        """Waits for this slot's next turn. None: nothing is left that it could do, or the run is stopped."""
        with self._changed:
            self._asking.add(slot)
            try:
                while not self._stopped.is_set() and not self._closed:
                    turn = self._take(slot, golden_due) if self._may_begin(slot) else None
                    if turn is not None:
                        self._work[slot] = turn
                        self._put_in(slot, turn.unit)
                        self._loading.add(slot)
                        return turn
                    if self._nothing_left():
                        self._changed.notify_all()
                        return None
                    self._changed.wait(_LOOK_S)
                return None
            finally:
                self._asking.discard(slot)

    def _may_begin(self, slot: str) -> bool:
        if slot in self._out or self._line is not None or not self._identified:
            return False
        if any(turn.origin == slot and name in self._loading for name, turn in self._work.items()):
            return False  # its board is being taken out
        return not (self._one_by_one and any(turn.role == "unit" for turn in self._work.values()))

    def _take(self, slot: str, golden_due: Callable[[], bool]) -> Turn | None:
        if slot in self._loaded:
            may = self._pick([self._loaded[slot]]) is not None
            return Turn(self._loaded.pop(slot), loaded=True) if may else None
        waiting = self._pick([unit for unit in self._waiting if slot not in self._shunned.get(unit, ())])
        if waiting is None and slot not in self._assigned and not self._awaits_scan():
            return None
        if self._golden is not None and golden_due():
            at_work = any(turn.role == "golden" for turn in self._work.values())
            return None if at_work else Turn(self._golden, "golden")  # there is one golden unit
        if slot in self._assigned:
            return Turn(self._assigned.pop(slot))
        if waiting is None:
            return None
        self._waiting.remove(waiting)
        return Turn(waiting, origin=self._origin(waiting, slot))

    def _origin(self, unit: str, slot: str) -> str | None:
        """The slot that the board of a unit still stands in that comes to another one."""
        if unit not in self._shunned:
            return None
        return next((name for name, last in self._last.items() if last == unit and name != slot), None)

    def _put_in(self, slot: str, unit: str) -> None:
        """A board is in one slot only."""
        self._last = {name: last for name, last in self._last.items() if last != unit} | {slot: unit}

    def _awaits_scan(self) -> bool:
        return self._scanned and (self._expected is None or bool(self._expected))

    def _nothing_left(self) -> bool:
        return not (self._work or self._waiting or self._loaded or self._assigned or self._awaits_scan())

    def begun(self, slot: str) -> None:
        """The slot's turn has its first attempt."""
        with self._changed:
            self._loading.discard(slot)

    def over(self, slot: str) -> None:
        """The slot's turn has ended."""
        with self._changed:
            turn = self._work.pop(slot, None)
            if turn is not None:
                self._shunned.pop(turn.unit, None)
            self._loading.discard(slot)
            self._changed.notify_all()

    def elsewhere(self, slot: str) -> bool:
        """Whether another slot that is in use could have the unit of this slot's turn, which was blocked in it."""
        with self._changed:
            shunned = self._shunned.get(self._work[slot].unit, set()) | {slot}
            return not self._over() and any(name not in shunned and name not in self._out for name in self._slots)

    def move(self, slot: str) -> None:
        """The slot's turn has ended blocked, and its unit is the next of the slots that have not blocked it yet."""
        with self._changed:
            unit = self._work[slot].unit
            shunned = self._shunned.get(unit, set()) | {slot}
            self.over(slot)
            self._shunned[unit] = shunned
            self._waiting.appendleft(unit)
            self._give_up()  # the other one may have gone out since `elsewhere` was asked
            self._changed.notify_all()

    def _give_up(self) -> None:
        """A unit that every slot in use has blocked stays as it ended."""
        used = [slot for slot in self._slots if slot not in self._out]
        for unit in [each for each in self._waiting if each in self._shunned]:
            if all(slot in self._shunned[unit] for slot in used):
                self._waiting.remove(unit)

    def give_back(self, slot: str) -> None:
        """The slot's turn could not begin: its unit is the next of the others, or to be scanned again."""
        with self._changed:
            turn = self._work.pop(slot, None)
            self._last.pop(slot, None)  # nobody knows where its board was left
            self._loading.discard(slot)
            if turn is not None and turn.role == "unit":
                self._return(turn.unit)
            self._changed.notify_all()

    def _return(self, unit: str) -> None:
        if not self._scanned:
            self._waiting.appendleft(unit)
        elif self._expected is not None:
            self._expected.add(unit)

    def proceed(self) -> bool:
        """Before a turn's first attempt, which may have waited for its board or its current: waits while the line is
        stopped. False: nothing may begin any more."""
        with self._changed:
            while self._line is not None and not self._over():
                self._changed.wait(_LOOK_S)
            return not self._over()

    @property
    def held(self) -> bool:
        """Nothing may begin just now: the line is stopped, the queue closed, or the run stopped."""
        with self._changed:
            return self._line is not None or self._over()

    @property
    def closed(self) -> bool:
        """Nothing may begin any more."""
        with self._changed:
            return self._over()

    def _over(self) -> bool:
        return self._closed or self._stopped.is_set()

    # -- what people order -----------------------------------------------------------------------------

    def scan(self, slot: str | None, unit: str) -> str:
        """`unit` is in `slot` (None: in the first slot that waits for a scan); the slot that has it now.

        Raises UsageProblem where no slot waits, or one has this unit already. Whether it may come at all is the
        caller's to have asked."""
        with self._changed:
            if not self._scanned:
                raise UsageProblem("units of this run are given by its list: nothing is to be scanned")
            if (other := self._slot_of(unit)) is not None:
                raise UsageProblem(f"{unit} is in slot {other} already: two boards cannot have one number")
            waiting = [name for name in self._slots if name in self._asking and name not in self._assigned]
            waiting = [name for name in waiting if name not in self._loaded and name not in self._out]
            if slot is None:
                if not waiting:
                    raise UsageProblem("no slot waits for a unit: wait until one has ended")
                slot = waiting[0]
            elif slot not in waiting:
                raise UsageProblem(f"slot {slot} {self._why_not(slot)}: it cannot have another unit now")
            self._assigned[slot] = unit
            if unit in self._waiting:  # a person gives it to this slot
                self._waiting.remove(unit)
            if self._expected is not None:
                self._expected.discard(unit)
            self._changed.notify_all()
            return slot

    def _why_not(self, slot: str) -> str:
        if slot in self._out:
            return "is out of use"
        if slot in self._assigned:
            return f"has unit {self._assigned[slot]}, which is about to begin"
        turn = self._work.get(slot)
        if turn is None:
            return "waits for no scan"
        return f"is at work on {turn.unit}"

    def slot_of(self, unit: str) -> str | None:
        """The slot that has this unit, or is about to."""
        with self._changed:
            return self._slot_of(unit)

    def _slot_of(self, unit: str) -> str | None:
        found = {turn.unit: slot for slot, turn in self._work.items()}
        for kept in (self._assigned, self._loaded):
            found |= {each: slot for slot, each in kept.items()}
        return found.get(unit)

    def again(self, unit: str) -> None:
        """A unit that is over is the next one; where units are scanned it may be scanned again. UsageProblem where it
        is in a slot, or next already: no unit is begun twice."""
        with self._changed:
            if (slot := self._slot_of(unit)) is not None:
                raise UsageProblem(f"unit {unit} is in slot {slot}: wait for its end, or abort it")
            if unit in self._waiting:
                raise UsageProblem(f"unit {unit} is to be tested again already")
            self._shunned.pop(unit, None)
            if not self._scanned:
                self._waiting.appendleft(unit)
            elif self._expected is not None:
                self._expected.add(unit)
            self._changed.notify_all()

    def waiting(self) -> list[str]:
        """Units that are known and not begun, the next ones first; not those that are yet to be scanned."""
        with self._changed:
            return [*self._loaded.values(), *self._waiting]

    def drop(self, unit: str) -> bool:
        """A unit is not to be begun here any more. False: it was begun, or is not in the queue."""
        with self._changed:
            there = unit in self._waiting
            if there:
                self._waiting.remove(unit)
            for slot in [slot for slot, loaded in self._loaded.items() if loaded == unit]:
                del self._loaded[slot]
                there = True
            self._changed.notify_all()
            return there

    def news(self) -> None:
        """What may be picked may have changed."""
        with self._changed:
            self._changed.notify_all()

    def identified(self) -> None:
        """It is known who works here."""
        with self._changed:
            self._identified = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more is begun; what is at work ends."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # -- the line and its slots ------------------------------------------------------------------------

    def stop_line(self, why: str) -> bool:
        """Nothing is begun until `release_line`. False: it was stopped already."""
        with self._changed:
            before, self._line = self._line, self._line or why
            return before is None

    def release_line(self, *, approved: bool = False) -> bool:
        """False: the line was not stopped. `approved`: the first article is good, units may go side by side."""
        with self._changed:
            before, self._line = self._line, None
            self._one_by_one = self._one_by_one and not approved
            self._changed.notify_all()
            return before is not None

    def put_out(self, slot: str, why: str) -> bool:
        """No unit begins in this slot until `back`. False: it was out already."""
        with self._changed:
            already = slot in self._out
            self._out.setdefault(slot, why)
            for kept in (self._loaded, self._assigned):
                if slot in kept:
                    self._return(kept.pop(slot))
            self._give_up()
            self._changed.notify_all()
            return not already

    def back(self, slot: str) -> bool:
        """False: the slot was not out."""
        with self._changed:
            was = self._out.pop(slot, None)
            for slots in self._shunned.values():  # it was put right: it may have again what it blocked
                slots.discard(slot)
            self._changed.notify_all()
            return was is not None

    # -- how it stands ---------------------------------------------------------------------------------

    @property
    def one_by_one(self) -> bool:
        with self._changed:
            return self._one_by_one

    @property
    def line(self) -> str | None:
        """Why the line is stopped."""
        with self._changed:
            return self._line

    @property
    def out(self) -> dict[str, str]:
        """Slots that are out, and why."""
        with self._changed:
            return dict(self._out)

    @property
    def asking(self) -> set[str]:
        """Slots whose workers wait for their next unit."""
        with self._changed:
            return set(self._asking)

    @property
    def waits_for_operator(self) -> bool:
        with self._changed:
            return not self._identified

    def at_work(self) -> set[str]:
        """Units that are being loaded, are at work, or were scanned and are about to be."""
        with self._changed:
            return {turn.unit for turn in self._work.values()} | {*self._assigned.values(), *self._loaded.values()}

    def left(self) -> int:
        """Units that wait to be begun, as far as they are known; those whose boards are being put in too."""
        with self._changed:
            waiting = len(self._waiting) + len(self._loaded) + len(self._assigned)
            waiting += sum(1 for slot in self._loading if self._work[slot].role == "unit")
            return waiting + len(self._expected or ())

    def stuck(self) -> bool:
        """Every slot is out, nothing is at work, and units are left."""
        with self._changed:
            all_out = all(slot in self._out for slot in self._slots)
            return all_out and not self._work and not self._closed and not self._nothing_left()
