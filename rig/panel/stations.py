"""The page over all stations: what the database that they share says of each, and nothing else."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rig.errors import RigError
from rig.records.database import opened
from rig.records.events import Outcome
from rig.records.stations import Standing, standings

_FRESH_S = 2.0  # the same look serves all who watch
_PATIENCE_S = 2.0
ORDER = [each.value for each in Outcome] + ["running"]


@dataclass(frozen=True)
class Overview:
    """All stations as of `utc`; `problem`: why the database could not be asked since then."""

    stations: list[Standing] = field(default_factory=list)
    utc: datetime | None = None
    problem: str | None = None


class Stations:
    """Looks at most every two seconds, however many watch. A database that is away leaves what was known last."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._guard = threading.Lock()
        self._looked = float("-inf")
        self._known = Overview()

    def look(self) -> Overview:
        with self._guard:
            if time.monotonic() - self._looked >= _FRESH_S:
                self._known = self._ask()
                self._looked = time.monotonic()
            return self._known

    def _ask(self) -> Overview:
        try:
            with opened(self._url, patience_s=_PATIENCE_S) as connection:
                return Overview(standings(connection), datetime.now(UTC))
        except RigError as problem:
            return Overview(self._known.stations, self._known.utc, str(problem))


def ago(seconds: float | None) -> str:
    """How long ago, for people."""
    if seconds is None:
        return "never"
    if seconds < 90:
        return f"{seconds:.0f} s ago"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / 3600:.0f} h ago" if seconds < 172_800 else f"{seconds / 86_400:.0f} days ago"
