"""Units that this station may begin, where several share a database: asked for there, one answer a unit.

A thread of its own asks, ahead of the line, so that no slot waits for a network; what a slot is to begin next is
known by then. Where the database is away the line works off what it has, then goes on by rule: `accept` begins units
unasked, says so on record, and what that led to is named when the database is back; `refuse` waits.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from rig.errors import RigError, UsageProblem
from rig.line.queue import Queue
from rig.line.serials import SerialRefused
from rig.records import events
from rig.records.claims import Claimant, Verdict, give_back, take
from rig.records.database import DatabaseProblem, opened, shown_url
from rig.records.events import Event
from rig.records.journal import JournalLost, is_live
from rig.records.lookup import passed_before
from rig.records.run import JOURNAL

log = logging.getLogger(__name__)

ELSEWHERE = "elsewhere"  # rule of a listed unit that another station has or had
AWAY = "database-away"  # rule of a scanned unit that could not be asked for
PATIENCE_S = 2.0  # for the database, at the start and of somebody with a scanner
RETRY_S = 2.0  # while it is away it is looked for this often
_LOOK_S = 0.1
_CLOSE_S = 5.0
_LATER_S = 2.0  # units that another station took beforehand are asked for again so often
_AT_ONCE = 500  # listed units that are asked for in one transaction

Offline = Literal["accept", "refuse"]


class Claims:
    """Of one run. `ahead`: units of a shared list that are claimed and not begun, at most; None: the list is this
    run's alone, and all of it is claimed at the start (`claim_all`). `asks` False: no unit names a board, nothing is
    ever asked. `runs`: where this station's own journals are.

    `follow` begins the thread; `close` ends it and gives back what was not begun.
    """

    def __init__(self, url: str, who: Claimant, runs: Path, *, offline: Offline, ahead: int | None) -> None:
        self._url = url
        self._who = who
        self._runs = runs
        self._offline = offline
        self._ahead = ahead
        self._guard = threading.Condition()
        self._ours: set[str] = set()
        self._begun: set[str] = set()
        self._unasked: list[str] = []  # begun by rule, not yet on record
        self._asked: dict[str, Verdict | None] = {}  # scanned; None: no answer yet
        self._later: dict[
            str, tuple[float, str]
        ] = {}  # taken elsewhere, not begun: when to ask again, and who has it
        self._waited = False  # it was said that only such are left
        self._away: str | None = None
        self._tried = float("-inf")
        self._closing = threading.Event()
        self._poked = threading.Event()
        self._queue: Queue | None = None
        self._emit: Callable[[Event], None] = lambda event: None
        self._thread = threading.Thread(target=self._keep, name="claims", daemon=True)

    # -- what the line asks ----------------------------------------------------------------------------

    def claim_all(self, units: Sequence[str]) -> str | None:
        """The whole list, before anything is begun. UsageProblem names the units that another station has or had, and
        where the database is away and the rule is to refuse. A sentence where it is away and is not waited for."""
        try:
            found = self._take(units)
        except DatabaseProblem as problem:
            self._away, self._tried = str(problem), time.monotonic()
            if self._offline == "refuse":
                raise UsageProblem(
                    f'{str(problem).rstrip(".")}: without it no unit is begun here (offline = "refuse")'
                ) from problem
            return str(problem)
        others = [each for each in found.values() if not each.ours]
        if others:
            self._release([each.unit for each in found.values() if each.ours])
            more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            raise UsageProblem(
                f"{others[0].sentence}{more}: take it out of the batch, let that run end or go on, or write shared = "
                "true into its [batch], and each station takes what none else has"
            )
        self._ours |= set(found)
        return None

    def pick(self, units: Sequence[str]) -> str | None:
        """Which of these listed units may be begun now: one that was asked for, if there is any. Never waits."""
        with self._guard:
            for unit in units:
                if unit in self._ours or unit in self._begun:
                    return unit
            if not units:
                return None
            self._poked.set()
            if self._away is None or self._offline == "refuse":
                return None
            self._begun.add(units[0])
            self._unasked.append(units[0])
            return units[0]

    def scanned(self, unit: str) -> None:
        """A unit that somebody has just scanned. SerialRefused where another station has it or had it; the database
        is waited for a moment, and not at all while it is known to be away."""
        with self._guard:
            if unit in self._ours:
                return
            if self._away is None:
                self._asked[unit] = None
                self._poked.set()
                self._guard.wait_for(
                    lambda: self._asked.get(unit) or self._away or self._closing.is_set(), PATIENCE_S
                )
                verdict = self._asked.pop(unit, None)
                if verdict is not None:
                    if not verdict.ours:
                        raise SerialRefused(verdict.rule, verdict.sentence)
                    return
            if self._offline == "refuse":
                why = (self._away or f"The database {shown_url(self._url)} does not answer").rstrip(".")
                raise SerialRefused(AWAY, f"{unit} cannot be asked for, so it is not begun: {why}")
            if unit not in self._begun:
                self._begun.add(unit)
                self._unasked.append(unit)
        self._poked.set()

    @property
    def away(self) -> bool:
        return self._away is not None

    @property
    def holding(self) -> str | None:
        """Why the line waits, where it does: no unit is left that it may begin unasked."""
        queue, away = self._queue, self._away
        if away is None and (others := self._others()):
            return f"other stations have taken what is left: {others[0]}"
        if away is None or self._offline != "refuse" or queue is None:
            return None
        waiting = queue.waiting()
        with self._guard:
            asked = any(unit in self._ours for unit in waiting)
        return f"no unit may be begun unasked: {away}" if waiting and not asked else None

    # -- the thread ------------------------------------------------------------------------------------

    def follow(self, queue: Queue, emit: Callable[[Event], None]) -> None:
        """Look after the units of `queue`; what becomes of them goes on record by `emit`."""
        self._queue, self._emit = queue, emit
        self._thread.start()

    def close(self) -> None:
        """Give back what was claimed and not begun, where the database is there. It is not waited for long: a run
        that has ended holds no unit that it did not begin."""
        self._closing.set()
        self._poked.set()
        with self._guard:
            self._guard.notify_all()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_S)

    def begun(self, unit: str) -> None:
        """From here on the journal has it."""
        with self._guard:
            self._begun.add(unit)

    def _keep(self) -> None:
        while not self._closing.is_set():
            try:
                self._look()
            except JournalLost:
                return  # the run is being stopped, and whoever wrote has told
            except Exception:
                log.exception("claims")  # the next look may do
            self._poked.wait(_LOOK_S)
            self._poked.clear()
            if self._away is not None:
                self._closing.wait(_LOOK_S)  # a line that asks again and again is answered by rule
        with self._guard:
            left = [unit for unit in self._ours if unit not in self._begun]
        self._release(left)

    def _look(self) -> None:
        assert self._queue is not None
        self._tell_unasked()
        waiting = self._queue.waiting()
        with self._guard:
            asked = [unit for unit, verdict in self._asked.items() if verdict is None]
            mine = self._ours | self._begun
            stock = sum(1 for unit in waiting if unit in self._ours)
            now = time.monotonic()
            open_ = [unit for unit in waiting if unit not in mine and self._later.get(unit, (0.0, ""))[0] <= now]
        most = None if self._ahead is None else max(0, self._ahead - stock)
        wanted = open_[:_AT_ONCE] if most != 0 else []
        due = time.monotonic() - self._tried >= RETRY_S
        if (self._away is not None and not due) or (self._away is None and not asked and not wanted):
            return
        try:
            found = self._take(asked) if asked else {}
            found_here = self._local(self._take(wanted, most))
        except DatabaseProblem as problem:
            self._went(str(problem))
            return
        self._came_back()
        with self._guard:
            for verdict in (*found.values(), *found_here.values()):
                if verdict.ours:
                    self._ours.add(verdict.unit)
            for unit, verdict in found.items():
                if unit in self._asked:
                    self._asked[unit] = verdict
                elif verdict.ours:
                    self._begun.discard(unit)  # nobody waited for it: it is given back at the end, or scanned again
            self._guard.notify_all()
        for verdict in found_here.values():
            if not verdict.ours and (verdict.begun or self._ahead is None):
                self._later.pop(verdict.unit, None)
                if self._queue.drop(verdict.unit):
                    self._emit(events.UnitRefused(unit=verdict.unit, rule=ELSEWHERE, sentence=verdict.sentence))
            elif not verdict.ours:  # it may be given back
                self._later[verdict.unit] = (time.monotonic() + _LATER_S, verdict.sentence)
        self._queue.news()
        self._tell_waiting()

    def _tell_waiting(self) -> None:
        """Once, where nothing is left but what another station took and has not begun."""
        left = self._others()
        if left and not self._waited and self._queue is not None and not self._queue.at_work():
            self._waited = True
            text = (
                f"only units that other stations have taken are left ({len(left)}): {left[0]}. They are worked on "
                "here if they are given back; `rig records release UNIT` gives back those of a station that died"
            )
            self._emit(events.Noted(text=text, details={"waits": len(left)}))

    def _others(self) -> list[str]:
        """Sentences on the units that are left, where other stations have all of them."""
        waiting = [] if self._queue is None else self._queue.waiting()
        with self._guard:
            told = [self._later[unit][1] for unit in waiting if unit in self._later and unit not in self._ours]
        return told if len(told) == len(waiting) else []

    def _tell_unasked(self) -> None:
        with self._guard:
            unasked, self._unasked = self._unasked, []
        for unit in unasked:
            text = f"unit {unit} was begun without asking other stations: the database was away"
            self._emit(events.Noted(unit=unit, level="warning", text=text, details={"unasked": True}))

    def _went(self, why: str) -> None:
        with self._guard:
            self._tried = time.monotonic()
            before, self._away = self._away, why
            self._guard.notify_all()
        if before is None:
            rule = (
                "units are begun unasked" if self._offline == "accept" else "no unit is begun that was not asked for"
            )
            text = f"{why.rstrip('.')}: until it is back, {rule}"
            self._emit(events.Noted(level="warning", text=text, details={"database": "away"}))
        assert self._queue is not None
        self._queue.news()

    def _came_back(self) -> None:
        with self._guard:
            before, self._away = self._away, None
        if before is not None:
            self._emit(
                events.Noted(text="the database is back: units are asked for again", details={"database": "back"})
            )

    # -- the database ----------------------------------------------------------------------------------

    def _take(self, units: Sequence[str], most: int | None = None) -> dict[str, Verdict]:
        if not units and self._away is None:
            return {}
        with opened(self._url, write=True, patience_s=PATIENCE_S / 2) as connection:
            return take(connection, self._who, units, most=most, dead=self._dead)

    def _local(self, found: dict[str, Verdict]) -> dict[str, Verdict]:
        """The same, with what this station's own journals have and the database does not, yet."""
        ours = [unit for unit, verdict in found.items() if verdict.ours]
        if self._ahead is None or not self._who.refuse or not ours:
            return found
        for unit in ours:
            with contextlib.suppress(RigError):
                said = passed_before(self._url, unit, self._who.product, self._who.task, runs=self._runs)
                if said is not None:
                    found[unit] = Verdict(unit, False, "already-passed", said)
        self._release([unit for unit in ours if not found[unit].ours])
        return found

    def _dead(self, run: str) -> bool:
        """A run of this very station that nobody writes any more."""
        journal = self._runs / run / JOURNAL
        return run != self._who.run and journal.is_file() and not is_live(journal)

    def _release(self, units: Sequence[str]) -> None:
        if units and self._away is None:
            with (
                contextlib.suppress(RigError),
                opened(self._url, write=True, patience_s=PATIENCE_S / 2) as connection,
            ):
                give_back(connection, self._who.run, units)
