"""Made-up journals, for tests of the reports only: what a run would write, with times that are chosen.

with SyntheticRun(folder) as run:
    run.attempt("SN1", "fail", seconds=40, code="no-link")
    run.attempt("SN1", "pass", seconds=30)
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rig.records.events import (
    BackupKept,
    Event,
    Measured,
    Noted,
    Outcome,
    PhaseEnded,
    PhaseStarted,
    RunEnded,
    RunStarted,
    UnitEnded,
    UnitStarted,
    WriteBegun,
    WriteEnded,
)
from rig.records.journal import Journal
from rig.records.run import RunFolder

START = datetime(2026, 11, 22, 17, 15, tzinfo=UTC)
STEPS = (("power-on", 0.05), ("identify", 0.05), ("backup", 0.3), ("write", 0.4), ("boot", 0.2))  # shares of a unit


class SyntheticRun:
    """One run's folder and journal. `now` is its clock in seconds; attempts follow each other on it."""

    def __init__(self, path: Path, *, start: datetime = START, boot_id: str = "boot-1", **told: Any) -> None:
        path.mkdir(parents=True)
        (path / "units").mkdir()
        self.folder = RunFolder(path)
        self.journal = Journal(self.folder.journal)
        self.boot_id = boot_id
        self.now = 0.0
        self._start = start
        self._attempts: dict[str, int] = {}
        facts = {
            "run": path.name, "command": "rig convert", "station": "station-1", "bench": "bench-1",
            "simulated": False, "product": "ds-121", "limits_version": "ds-121/3",
            "tools": {"rig": "0.1.0", "python": "3.11.7"},
        }  # fmt: skip
        self.write(RunStarted, **(facts | told))

    def __enter__(self) -> SyntheticRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.close()

    def write(self, kind: type[Any], **told: Any) -> Event:
        event: Event = kind(
            utc=self._start + timedelta(seconds=self.now), mono_ns=5_000_000_000 + round(self.now * 1e9),
            boot_id=self.boot_id, **told,
        )  # fmt: skip
        self.journal.append(event)
        return event

    def end(self, exit_code: int = 0) -> None:
        self.write(RunEnded, run=self.folder.path.name, exit_code=exit_code, duration_s=self.now)

    def note(self, text: str, unit: str | None = None, level: str = "info", **details: Any) -> None:
        self.write(Noted, text=text, unit=unit, level=level, details=details)

    def begin(
        self, unit: str, slot: str = "A", flasher: str = "native", task: str = "convert", **told: Any
    ) -> dict[str, Any]:
        """An attempt that is begun; the rest is up to the test."""
        self._attempts[unit] = self._attempts.get(unit, 0) + 1
        who = {"unit": unit, "slot": slot, "attempt": self._attempts[unit]}
        self.write(UnitStarted, **who, flasher=flasher, task=task, **told)
        return who

    def attempt(
        self, unit: str, outcome: str, *, seconds: float = 30.0, code: str | None = None, stop_at: str | None = None,
        identity: str | None = None, mac: str | None = None, firmware: str | None = None,
        current: float | None = 0.07, sentence: str | None = None, slot: str = "A", off: bool | None = True,
        written: bool = False, shares: tuple[tuple[str, float], ...] = STEPS, task: str = "convert",
        role: str = "unit",
    ) -> dict[str, Any]:  # fmt: skip
        """A whole attempt; `stop_at` is the step that did not go well, later ones are skipped."""
        who = self.begin(unit, slot, task=task, role=role)
        begun, over = self.now, False
        for phase, share in shares:
            if over:
                self.write(PhaseEnded, **who, phase=phase, outcome=None, duration_s=0.0)
                continue
            self.write(PhaseStarted, **who, phase=phase)
            self.now += seconds * share
            result = outcome if phase == stop_at else "pass"
            over = phase == stop_at
            if phase == "boot" and current is not None:
                judged = "fail" if current > 0.25 else "marginal" if current > 0.2 else "pass"
                self.write(Measured, **who, phase=phase, name="boot_current", value=current, unit_of="A",
                           minimum=0.02, maximum=0.25, marginal_maximum=0.2, outcome=Outcome(judged))  # fmt: skip
            if phase == "boot" and firmware is not None:
                self.write(Measured, **who, phase=phase, name="firmware", value=firmware)
            self.write(PhaseEnded, **who, phase=phase, outcome=Outcome(result), duration_s=seconds * share,
                       code=code if over else None)  # fmt: skip
            if phase == "backup" and result == "pass" and identity is not None:
                kept = {"path": "backup.bin.zst", "sha256": "5a" * 32, "size": 2 << 20}
                self.write(BackupKept, **who, identity=identity, **kept)
            if phase == "write" and written:
                self.write(WriteBegun, **who, image_sha256="c3" * 32, ranges=[(0, 4096)])
                self.write(WriteEnded, **who, verified=True)
        self.now = begun + seconds
        self.write(UnitEnded, **who, outcome=Outcome(outcome), duration_s=seconds, code=code, sentence=sentence,
                   identity=identity, mac=mac, supply_off_confirmed=off)  # fmt: skip
        return who
