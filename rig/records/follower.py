"""Keeps the database up to a run while it goes on, without the run ever waiting for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from rig.errors import RigError
from rig.records.database import bring_up, opened, shown_url
from rig.records.rows import Rows
from rig.records.run import RunFolder

log = logging.getLogger(__name__)

INTERVAL_S = 1.0  # choice: at most one transaction in this time; each costs the disk the journal is on a few fsyncs
PATIENCE_S = 2.0  # for another writer of the database; what is missed is caught up at the next try


class Follower:
    """Takes a run's journal into the database at `url`, in a thread of its own; `close` when the run is over.

    Nothing is raised for a database that is locked, full, damaged or away: `warn` is told once (again only if it
    fails after having worked), `problem` has the sentence while it lasts, and what was missed is written as soon as
    it can be, by a later run or `rig records rebuild` at the latest.
    """

    def __init__(
        self,
        url: str,
        run: RunFolder | Path,
        warn: Callable[[str], None] = log.warning,
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.problem: str | None = None
        self._url = url
        self._folder = run if isinstance(run, RunFolder) else RunFolder(run)
        self._rows = Rows.of(self._folder.id)
        self._warn = warn
        self._interval_s = interval_s
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
            self._poked.wait()
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

    def _catch_up(self) -> None:
        journal = self._folder.journal
        with journal.open("rb") as file:
            file.seek(self._rows.size)
            new = file.read().split(b"\n")[:-1]
        self._rows.feed(new, journal)
        with opened(self._url, write=True, patience_s=PATIENCE_S) as connection:
            remark = bring_up(connection, self._rows, self._folder, anew=True)
        if remark is not None:
            self._warn(remark)

    def _failed(self, why: str) -> None:
        if self.problem is None:
            self._warn(f"{why}. The run goes on; its journal has everything, and the database is caught up later.")
        self.problem = why
