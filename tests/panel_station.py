"""A station that is none, for tests of the page: it writes what a station writes (journal, live.json, power.csv,
boot.live.log) and takes the control socket's commands, in the same words; units go as far as the test says.

with FakeStation(runs, slots="ABCDEFGH") as station:
    station.load("A", "SN1"); station.begin("A"); station.step("A", "backup", 0.5); station.end("A", "pass")
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from rig.errors import UsageProblem
from rig.line.control import ControlServer
from rig.line.live import Live
from rig.line.prompts import Prompts, Question
from rig.records import events
from rig.records.events import Event, Outcome
from rig.records.journal import Journal
from rig.records.run import RunFolder

STEPS = ("image", "supply-off", "identify", "backup", "plan", "flash", "settled", "boot", "steady")


class FakeStation:
    """One run. `commands` are those that came over the socket, in order."""

    def __init__(self, runs: Path, run: str = "20261122-171500-ab12", slots: str = "AB", **told: Any) -> None:
        self.folder = RunFolder(runs / run)
        self.folder.path.mkdir(parents=True)
        self.folder.units.mkdir(mode=0o700)
        self.journal = Journal(self.folder.journal)
        self.commands: list[dict[str, Any]] = []
        self.standing: dict[str, Any] = {
            "state": "running", "why": None, "operator": told.get("operator"), "units_total": told.pop("units", 200),
        }  # fmt: skip
        self.state: dict[str, dict[str, Any]] = {name: {"unit": None, "attempt": 1} for name in slots}
        self.outcomes: dict[str, str] = {}
        self._attempts: dict[str, int] = {}
        self._step: dict[str, str] = {}
        self._sockets = tempfile.TemporaryDirectory(prefix="panel-")
        self._stopped = threading.Event()
        self.prompts = Prompts(self.emit, self._stopped, attended=True)
        self.control = ControlServer(Path(self._sockets.name), self._do)
        facts = {
            "run": run, "command": "rig convert", "station": "station-1", "bench": "bench-1", "simulated": False,
            "product": "ds-121", "batch": "2026-w48", "image": "OpenBK7231N_QIO_1.18.300.bin", "limits_version": "1",
        }  # fmt: skip
        fixed = {
            "run": run, "pid": 1, "control": str(self.control.address), "batch": "2026-w48", "product": "ds-121",
            "mains": True,
        }  # fmt: skip
        self.live = Live(self.folder.path, list(slots), fixed, self._standing)
        self.emit(events.RunStarted(**(facts | told)))

    def __enter__(self) -> FakeStation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, exit_code: int = 0) -> None:
        """The run ends as it should."""
        self.prompts.close()
        self.standing["state"] = "ended"
        self.emit(events.RunEnded(run=self.folder.id, exit_code=exit_code, duration_s=60.0))
        self._gone()

    def die(self) -> None:
        """The station is killed: no end in the journal, live.json stays as it is."""
        self._gone()

    def _gone(self) -> None:
        self.live.close()
        self.control.close()
        self.journal.close()
        self._sockets.cleanup()

    # -- the course of things --------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        self.journal.append(event)
        if hasattr(self, "live"):
            self.live.take(event)

    def changed(self, **standing: Any) -> None:
        self.standing |= standing
        self.live.changed()

    def wait_scan(self, slot: str) -> None:
        self.live.slot(slot, state="waiting-scan")

    def begin(self, slot: str, unit: str, **told: Any) -> dict[str, Any]:
        """A unit's attempt is begun."""
        self._attempts[unit] = self._attempts.get(unit, 0) + 1
        who = {"unit": unit, "slot": slot, "attempt": self._attempts[unit]}
        self.folder.new_unit_dir(unit, who["attempt"])
        self.state[slot] = who
        self.emit(events.UnitStarted(**who, operator=self.standing["operator"], **told))
        return who

    def until(self, slot: str, step: str, done: int = 0, total: int = 0, what: str = "read") -> None:
        """All steps before `step` are over, that one goes on."""
        who = self.state[slot]
        for name in STEPS[: STEPS.index(step)]:
            self.emit(events.PhaseStarted(**who, phase=name))
            self.emit(events.PhaseEnded(**who, phase=name, outcome=Outcome.PASS, duration_s=1.5))
        self._step[slot] = step
        self.emit(events.PhaseStarted(**who, phase=step))
        if step == "flash":
            self.emit(events.WriteBegun(**who, image_sha256="c3" * 32, ranges=[(0, 4096)]))
        self.live.progress(slot, what, done, total)

    def end(self, slot: str, outcome: str, code: str | None = None, sentence: str | None = None) -> None:
        who = self.state[slot]
        self.outcomes[who["unit"]] = outcome
        if self._step.get(slot):
            ended = {"phase": self._step.pop(slot), "outcome": Outcome(outcome), "duration_s": 2.5}
            self.emit(events.PhaseEnded(**who, **ended, code=code, sentence=sentence))
        self.emit(
            events.UnitEnded(
                **who,
                outcome=Outcome(outcome),
                duration_s=31.0,
                code=code,
                sentence=sentence,
                mac="c8:47:8c:12:34:56",
                supply_off_confirmed=True,
            )
        )
        self.live.rest(slot)

    def log(self, slot: str, text: str) -> None:
        with (self._unit_dir(slot) / "boot.live.log").open("a") as file:
            file.write(text)

    def power(self, slot: str, rows: list[tuple[float, float, float]]) -> None:
        """Samples: (seconds, volts, amps)."""
        lines = [f"{round(at * 1e9)},{volts:.4f},{amps:.4f},cv\n" for at, volts, amps in rows]
        (self._unit_dir(slot) / "power.csv").write_text("mono_ns,volts,amps,mode\n" + "".join(lines))

    def ask(self, what: Any, text: str, slot: str, choices: tuple[str, ...] = (), **more: Any) -> None:
        self.prompts.open(Question(what, text, slot=slot, choices=choices, **more))
        self.live.changed()

    def _unit_dir(self, slot: str) -> Path:
        who = self.state[slot]
        return self.folder.unit_dir(who["unit"], who["attempt"])

    # -- what the page asks ----------------------------------------------------------------------------

    def _standing(self) -> dict[str, Any]:
        running = sum(1 for who in self.state.values() if who["unit"] and who["unit"] not in self.outcomes)
        counters = dict.fromkeys(Outcome, 0) | {"running": running}
        for outcome in list(self.outcomes.values()):  # asked for in the thread of live.json too
            counters[Outcome(outcome)] += 1
        total = self.standing["units_total"]
        counters["remaining"] = total - len(self.outcomes) - running if total else None
        return {**self.standing, "counters": counters, "prompts": self.prompts.listed()}

    def _do(self, command: dict[str, Any]) -> dict[str, Any]:
        assert command["by"] == "panel"
        self.commands.append({key: value for key, value in command.items() if key != "by"})
        do = command["do"]
        if do == "scan":
            return self._scan(command["slot"], command["text"])
        if do == "answer":
            self.prompts.answer(command["prompt"], command["answer"], by=command["by"], who=command["who"])
        elif do == "abort" and "slot" in command:
            self.end(command["slot"], "aborted", sentence="stopped by a person")
        elif do == "operator":
            self.standing["operator"] = command["who"]
        elif do == "release":
            self.live.slot(command["slot"], state="idle")
        elif do == "release-line":
            self.standing |= {"state": "running", "why": None}
        elif do == "abort":
            self.standing["state"] = "stopping"
        self.live.changed()
        return {}

    def _scan(self, slot: str | None, text: str) -> dict[str, Any]:
        if text in self._attempts:
            raise UsageProblem(f"{text} was worked on in this run already: it is on record")
        free = [name for name, who in self.state.items() if not who["unit"] or who["unit"] in self.outcomes]
        chosen = slot or next(iter(free), None)
        if chosen is None or chosen not in free:
            raise UsageProblem("no slot waits for a unit")
        self.begin(chosen, text)
        self.until(chosen, "identify")
        return {"slot": chosen, "unit": text}
