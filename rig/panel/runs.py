"""The runs of a folder, as the page sees them: listed and looked up by id, so that no path is made from a request."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from rig.panel.book import Attempt, Book
from rig.panel.live import Live, read_live
from rig.panel.tail import JournalTail, last_bytes
from rig.records.events import Event, RunEnded, RunStarted, parser
from rig.records.journal import is_live
from rig.records.run import RunFolder, list_runs

_FRESH_S = 0.15  # a run that was looked at so short ago is not looked at again
_CURRENT_S = 0.5  # which run is the newest is looked for this often
_ALIVE_S = 1.0  # whether its writer lives is asked this often, for the question takes the journal's lock for a moment
_KEPT = 12  # runs whose books stay in memory
_FIRST, _LAST = 4 << 20, 64 << 10  # bytes of a journal's first and last line that are read; the first names all units


class RunView:
    """One run: its book, its live state, its folder."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.id = folder.path.name
        self.book = Book()
        self.live: Live | None = None
        self.alive = False  # a station writes this journal
        self._tail = JournalTail(folder.journal)
        self._lock = threading.Lock()
        self._looked = self._asked = float("-inf")

    @property
    def broken(self) -> str | None:
        return self._tail.broken

    def refresh(self) -> RunView:
        """Take in what was written since the last look."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked < _FRESH_S:
                return self
            if now - self._asked >= _ALIVE_S:
                self.alive, self._asked = is_live(self.folder.journal), now
            self.live = read_live(self.folder.path)  # before the journal: never ahead of it for longer than a look
            fresh = self._tail.fresh()
            if self._tail.again:
                self.book = Book()
            self.book.live = self.alive
            self.book.add(fresh)
            self._looked = now
        return self

    def attempt(self, number: int) -> Attempt | None:
        """The attempt that is number `number` in the journal, from 1."""
        attempts = self.book.attempts
        return attempts[number - 1] if 1 <= number <= len(attempts) else None

    def folder_of(self, attempt: Attempt) -> Path:
        return self.folder.unit_dir(attempt.unit, attempt.attempt)


@dataclass(frozen=True)
class RunLine:
    """A run in the list of runs: what its first and last line say."""

    id: str
    started: RunStarted | None
    ended: RunEnded | None
    alive: bool


class Runs:
    """All runs kept in a folder, newest first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._views: OrderedDict[str, RunView] = OrderedDict()
        self._lock = threading.Lock()
        self._current: tuple[float, RunFolder | None] = float("-inf"), None

    def folders(self) -> list[RunFolder]:
        """A link is none of them (it may lead anywhere), nor is a name that no address can have."""
        found = list_runs(self.path)[::-1]
        return [folder for folder in found if folder.path.name.isprintable() and not folder.path.is_symlink()]

    def find(self, run: str) -> RunView | None:
        """The run with this id, if the folder holds it."""
        found = next((folder for folder in self.folders() if folder.path.name == run), None)
        return None if found is None else self._view(found).refresh()

    def current(self) -> RunView | None:
        """The newest run that goes on, else the newest."""
        when, chosen = self._current
        if time.monotonic() - when >= _CURRENT_S:  # every page that shows a run that is over asks at each look
            folders = self.folders()
            alive = next((folder for folder in folders[:20] if is_live(folder.journal)), None)
            chosen = alive or next(iter(folders), None)
            self._current = time.monotonic(), chosen
        return None if chosen is None else self._view(chosen).refresh()

    def lines(self, most: int = 200) -> list[RunLine]:
        return [_line(folder) for folder in self.folders()[:most]]

    def attempts_at(self, unit: str, most: int = 100) -> list[tuple[RunView, Attempt]]:
        """Every attempt at a unit in any run, newest run first. Only journals that name it are read whole."""
        needle = json.dumps(unit, ensure_ascii=False).encode()
        found: list[tuple[RunView, Attempt]] = []
        for folder in self.folders():
            if len(found) >= most:
                break
            try:
                named = needle in folder.journal.read_bytes()
            except OSError:
                continue
            view = self._view(folder).refresh() if named else None
            found += [(view, each) for each in reversed(view.book.attempts) if each.unit == unit] if view else []
        return found[:most]

    def _view(self, folder: RunFolder) -> RunView:
        with self._lock:
            view = self._views.pop(folder.path.name, None) or RunView(folder)
            self._views[folder.path.name] = view
            while len(self._views) > _KEPT:
                self._views.popitem(last=False)
            return view


def _line(folder: RunFolder) -> RunLine:
    try:
        with folder.journal.open("rb") as file:
            first = file.readline(_FIRST)
    except OSError:
        first = b""
    last = last_bytes(folder.journal, _LAST)[0].rstrip(b"\n").rpartition(b"\n")[2]
    started, ended = _parsed(first), _parsed(last)
    return RunLine(
        folder.path.name,
        started if isinstance(started, RunStarted) else None,
        ended if isinstance(ended, RunEnded) else None,
        is_live(folder.journal),
    )


def _parsed(line: bytes) -> Event | None:
    try:
        return parser.validate_json(line)
    except ValidationError:
        return None
