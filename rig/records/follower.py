"""Keeps the database up to a run while it goes on, without the run ever waiting for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rig.errors import RigError
from rig.records.claims import conflicts
from rig.records.database import bring_up, ingest, opened, shown_url
from rig.records.rows import Rows
from rig.records.run import RunFolder, list_runs
from rig.records.stations import heard

log = logging.getLogger(__name__)

INTERVAL_S = 1.0  # choice: at most one transaction in this time; each costs the disk the journal is on a few fsyncs
RETRY_S = 2.0  # a database that was away is looked for this often while a run lasts
HEARD_S = 5.0  # stations that share a database let it know this often that they are there
PATIENCE_S = 2.0  # for another writer of the database; what is missed is caught up at the next try


class Follower:
    """Takes a run's journal into the database at `url`, in a thread of its own; `close` when the run is over.

    Nothing is raised for a database that is locked, full, damaged or away: `warn` is told once (again only if it
    fails after having worked), `problem` has the sentence while it lasts, and what was missed is written as soon as
    it can be, by a later run or `rig records rebuild` at the latest.

    `station`: it shares the database with others. It then lets that know that it is there, takes in what its earlier
    runs could not, and names units that another station worked on too.
    """

    def __init__(
        self,
        url: str,
        run: RunFolder | Path,
        warn: Callable[[str], None] = log.warning,
        *,
        interval_s: float = INTERVAL_S,
        station: str | None = None,
    ) -> None:
        self.problem: str | None = None
        self._url = url
        self._folder = run if isinstance(run, RunFolder) else RunFolder(run)
        self._rows = Rows.of(self._folder.id)
        self._warn = warn
        self._interval_s = interval_s
        self._station = station
        self._heard = float("-inf")
        self._told = 0  # lines of which the database has all
        self._owed = station is not None  # earlier runs are to be taken in
        self._named: set[tuple[str, str]] = set()  # units and runs of conflicts that were told
        self._poked = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="database", daemon=True)
        self._thread.start()

    def poke(self) -> None:
        """There are new lines in the journal. Returns at once."""
        self._poked.set()

    def close(self, patience_s: float = 10.0) -> None:
        """Take in what is left, then stop; a database that does not answer is given up after `patience_s` seconds."""
        self._closing.set()
        self._poked.set()
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self._failed(f"The database {shown_url(self._url)} did not answer in {patience_s:g} s")

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self) -> None:
        while True:
            self._poked.wait(self._patience())
            self._poked.clear()
            last = self._closing.is_set()
            try:
                self._catch_up()
            except (RigError, OSError) as problem:
                self._failed(str(problem).rstrip("."))
            except Exception as problem:  # noqa: BLE001 - whatever it is, the thread lives on and the run is told
                named = f"{type(problem).__name__}: {problem}"
                self._failed(f"The database {shown_url(self._url)} cannot be written: {named}")
            else:
                self.problem = None
            if last:
                return
            self._closing.wait(self._interval_s)

    def _patience(self) -> float | None:
        """How long nothing may be looked at, where nothing happens."""
        if self.problem is not None:
            return RETRY_S
        return None if self._station is None else HEARD_S

    def _catch_up(self) -> None:
        journal = self._folder.journal
        with journal.open("rb") as file:
            file.seek(self._rows.size)
            new = file.read().split(b"\n")[:-1]
        self._rows.feed(new, journal)
        changed = {unit for (unit, _), line in self._rows.touched.items() if line > self._told}
        with opened(self._url, write=True, patience_s=PATIENCE_S) as connection:
            remarks = [bring_up(connection, self._rows, self._folder, anew=True)]
            found = []
            if self._station is not None:
                found = conflicts(connection, self._rows.run["run"], changed)
                if time.monotonic() - self._heard > HEARD_S or self._closing.is_set():
                    heard(connection, self._station, None if self._closing.is_set() else self._folder.id)
                    self._heard = time.monotonic()
        self._told = self._rows.lines
        for each in found:
            if (each.unit, each.other) not in self._named:
                self._named.add((each.unit, each.other))
                remarks.append(each.sentence)
        for remark in filter(None, remarks):
            self._warn(remark)
        if self._owed and not self._closing.is_set():
            others = [run for run in list_runs(self._folder.path.parent) if run.id != self._folder.id]
            for remark in ingest(self._url, others[::-1]):
                self._warn(remark)
            self._owed = False

    def _failed(self, why: str) -> None:
        if self.problem is None:
            self._warn(f"{why}. The run goes on; its journal has everything, and the database is caught up later.")
        self.problem = why
