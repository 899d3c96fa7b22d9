"""live.json: how a run stands this moment, for pages and terminals that only look.

It is no record: unsynced, replaced whole, at most five times a second and only when something changed. A reader sees
the old state or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rig.records import events
from rig.records.events import Event
from rig.records.run import safe_name

LIVE = "live.json"
_PERIOD_S = 0.2

SlotState = Literal["idle", "waiting-scan", "loading", "running", "latched", "out"]
State = Literal["running", "stopping", "stopped-line", "waiting", "ended"]


class Live:
    """Keeps the file of one run. Thread-safe. `fixed`: what stays as it is (run, pid, control, batch, ...);
    `standing` is asked for the rest of the head (state, why, operator, counters, prompts) whenever it is written."""

    def __init__(
        self, folder: Path, slots: list[str], fixed: dict[str, Any], standing: Callable[[], dict[str, Any]]
    ) -> None:
        self._path = folder / LIVE
        self._fixed = fixed
        self._standing = standing
        self._slots: dict[str, dict[str, Any]] = {name: _empty() for name in slots}
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._changed = threading.Event()
        self._over = threading.Event()
        self._written: str | None = None
        self._changed.set()
        self._thread = threading.Thread(target=self._keep, name="live.json", daemon=True)
        self._thread.start()

    # -- what changes ----------------------------------------------------------------------------------

    def changed(self) -> None:
        """Something of the standing has changed."""
        self._changed.set()

    def slot(self, name: str, **fields: Any) -> None:
        """Set some of a slot's fields; one that gets another `state` says since when."""
        with self._guard:
            entry = self._slots.get(name)
            if entry is None:
                return
            if fields.get("state", entry["state"]) != entry["state"]:
                entry["since_utc"] = _now()
            entry.update(fields)
        self._changed.set()

    def begin(self, name: str, state: SlotState, unit: str | None = None) -> None:
        """A slot turns to another unit: its last outcome is latched no more."""
        self.slot(name, **(_empty() | {"state": state, "unit": unit, "since_utc": _now()}))

    def rest(self, name: str, *, scanned: bool = False) -> None:
        """A slot has nothing to do: what its last unit ended as stays to be seen, until the next one begins."""
        with self._guard:
            entry = self._slots.get(name, _empty())
            latched = entry["outcome"] is not None
        self.slot(name, state="latched" if latched else "waiting-scan" if scanned else "idle")

    def progress(self, name: str, what: str, done: int, total: int) -> None:
        self.slot(name, what=what, done=done, total=total)

    def take(self, event: Event) -> None:
        """An event of the journal."""
        if isinstance(event, events.UnitStarted):
            self.begin(event.slot, "running", event.unit)
            folder = f"units/{safe_name(event.unit)}/{event.attempt}"
            self.slot(event.slot, attempt=event.attempt, task=event.task, role=event.role, folder=folder)
        elif isinstance(event, events.PhaseStarted):
            self.slot(event.slot, phase=event.phase, what=None, done=0, total=0)
        elif isinstance(event, events.UnitEnded):
            said = {"outcome": event.outcome.value, "code": event.code, "sentence": event.sentence}
            self.slot(event.slot, what=None, done=0, total=0, **said)
        elif isinstance(event, events.SlotOut):
            self.slot(event.slot, state="out")
        elif isinstance(event, events.SlotBack):
            self.rest(event.slot)
        self._changed.set()

    # -- the file --------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What the file says, as of now."""
        with self._guard:
            slots = {name: dict(entry) for name, entry in self._slots.items()}
        return {**self._fixed, **self._standing(), "slots": slots}

    def close(self) -> None:
        """The last state is written; the file stays."""
        self._over.set()
        self._changed.set()
        self._thread.join()
        self._write()

    def _keep(self) -> None:
        while not self._over.is_set():
            self._changed.wait()
            self._changed.clear()
            self._write()
            self._over.wait(_PERIOD_S)

    def _write(self) -> None:
        with self._writing:  # from here on: an older state never comes after a newer one
            state = self.state()
            text = json.dumps(state, ensure_ascii=False)
            if text == self._written:
                return
            with contextlib.suppress(OSError):  # a full disk ends the run by its journal, not by this
                _replace(self._path, json.dumps({**state, "utc": _now()}, ensure_ascii=False))
                self._written = text


def read_live(folder: Path) -> dict[str, Any] | None:
    """What a run's live.json says; None where there is none, or none that can be read."""
    try:
        found = json.loads((folder / LIVE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


def _empty() -> dict[str, Any]:
    return {
        "state": "idle", "unit": None, "attempt": None, "task": None, "role": "unit", "phase": None, "what": None,
        "done": 0, "total": 0, "outcome": None, "code": None, "sentence": None, "folder": None, "since_utc": None,
    }  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
