"""`live.json`: how a line stands right now, as its station writes it beside the journal, unsynced."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rig.line import live


class _Part(BaseModel):
    """What a newer station adds is passed over: the page then shows less, and does not end."""

    model_config = ConfigDict(extra="ignore")


class LiveSlot(_Part):
    """One slot. The last outcome stays (`latched`) until the slot's next scan or unit."""

    state: Literal["idle", "waiting-scan", "loading", "running", "latched", "out"] = "idle"
    unit: str | None = None
    attempt: int | None = None
    task: str | None = None
    role: str = "unit"
    phase: str | None = None
    what: str | None = None
    done: int | None = None
    total: int | None = None
    outcome: str | None = None
    code: str | None = None
    sentence: str | None = None
    since_utc: datetime | None = None


class LivePrompt(_Part):
    """A question to a person. `headless` is the answer that is taken where nobody can be asked."""

    id: str
    what: str = "continue"
    slot: str | None = None
    unit: str | None = None
    text: str = ""
    choices: list[str] = []
    picture: str | None = None
    headless: str | None = None


class Live(_Part):
    """A line. `control` is the path of its station's control socket."""

    run: str
    pid: int = 0
    control: str | None = None
    state: Literal["running", "stopping", "stopped-line", "waiting", "ended"] = "running"
    why: str | None = None
    operator: str | None = None
    batch: str | None = None
    product: str = ""
    mains: bool = False
    scanned: bool = False
    units_total: int | None = None
    counters: dict[str, int | None] = {}
    slots: dict[str, LiveSlot] = {}
    prompts: list[LivePrompt] = []


def read_live(folder: Path) -> Live | None:
    """The line of a run's folder; None where there is none, or none that makes sense."""
    found = live.read_live(folder)
    try:
        return None if found is None else Live.model_validate(found)
    except ValidationError:
        return None
