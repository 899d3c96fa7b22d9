"""A station on a bench without instruments or boards: its units are `tests.fake_unit`, all else is the rig's own.

In this process (`StationBench.start`), or in one of its own that can be killed (`python -m tests.station_bench`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from rig.bench.bench import Slot, read_bench
from rig.errors import Exit
from rig.line import attempt, instruments, station
from rig.line.control import tell_station
from rig.line.job import Job, Stage, job_from_dict, job_to_dict
from rig.line.live import read_live
from rig.line.loading import Loader
from rig.line.rules import Rules
from rig.line.station import Station
from rig.records import events
from rig.records.journal import read_journal
from rig.records.run import RunFolder
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
ANSWER_S = attempt.ANSWER_S
_SLOT = """
[slot.{name}]
supply = "psu"
channel = {number}
flash_port = "{folder}/{name}-flash"
log_port = "{folder}/{name}-log"
product = "ds-121"
{change}
"""


class QuietLoader(Loader):
    """Outputs of no supply are off."""

    def confirm_off(self, slot: Slot) -> bool:
        return True


def fake_units(patch: Any) -> None:
    """Attempts run `tests.fake_unit`; nobody asks a supply who it is. A unit that is ended has all the time to say
    so: where one is to be killed (`deaf`, `frozen`), the test says after how long."""
    real = attempt.Attempt.command

    def command(self: attempt.Attempt, owner: int) -> list[str]:
        return [sys.executable, "-S", str(ROOT / "tests" / "fake_unit.py"), *real(self, owner)]

    patch.setattr(attempt.Attempt, "command", command)
    patch.setattr(attempt, "GRACE_S", 60.0)
    patch.setattr(attempt, "ANSWER_S", 60.0)
    patch.setattr(station, "instruments_of", lambda slots, standby: [])
    assert instruments is not None


class StationBench:
    """`slots` places whose boards a command changes (`by_hand`: a person does). Runs are in `folder`/runs."""

    def __init__(
        self, folder: Path, slots: int = 1, *, by_hand: bool = False, amps: float | None = None, records: str = ""
    ) -> None:
        self.folder = folder
        self.changes = folder / "changes.txt"
        self._units = folder / "units.json"
        os.environ["RIG_FAKE_UNITS"] = str(self._units)
        self.behave()
        say = f'echo "$RIG_SLOT $RIG_UNIT $RIG_ROLE" >> {self.changes}'
        change = "" if by_hand else f"change = {json.dumps(['/bin/sh', '-c', say])}"
        tables = [
            _SLOT.format(name=chr(65 + number), number=number + 1, folder=folder, change=change)
            for number in range(slots)
        ]
        supply = '[supply.psu]\nresource = "TCPIP::127.0.0.1::9::SOCKET"\n' + (f"amps = {amps}\n" if amps else "")
        self.path = folder / "bench.toml"
        self.path.write_text(f'[bench]\nname = "b"\n{supply}{"".join(tables)}{records}')
        self.bench = read_bench(self.path)
        self.run = RunFolder.create(folder / "runs")

    def behave(self, **units: list[str]) -> None:
        """What units do, an attempt a word; see `tests.fake_unit`."""
        written = self._units.with_suffix(".new")
        written.write_text(json.dumps(units))
        written.replace(self._units)  # a unit may be reading

    def go(self, unit: str) -> None:
        (self.folder / f"{unit}.go").touch()

    def job(self, *units: str, tasks: tuple[events.Task, ...] = ("convert",), **more: Any) -> Job:
        rules = Rules.model_validate(more.pop("rules", {}))
        stages = tuple(Stage(task, self.folder / "image.bin") for task in tasks)
        names = tuple(self.bench.slots)
        return Job(units, stages, rules=rules, bench=str(self.path), slots=names, **more)

    def start(self, job: Job, **more: Any) -> Running:
        return Running(self, job, **more)

    def spawn(self, job: Job) -> subprocess.Popen[bytes]:
        """The same in a process of its own."""
        told = self.folder / "job.json"
        told.write_text(json.dumps(job_to_dict(job)))
        words = [sys.executable, "-m", "tests.station_bench", str(self.path), str(told), str(self.run.path)]
        return subprocess.Popen(words, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL)

    @property
    def found(self) -> list[events.Event]:
        return read_journal(self.run.journal)[0] if self.run.journal.exists() else []

    def of(self, kind: type, **fields: Any) -> list[Any]:
        """Events of this kind with these values, in order."""
        return [
            event
            for event in self.found
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items())
        ]

    def wait(self, kind: type, seconds: float = 60, **fields: Any) -> Any:
        """The first such event, once it is there."""
        wait_until(lambda: self.of(kind, **fields), seconds, f"{kind.__name__} {fields}")
        return self.of(kind, **fields)[0]

    def outcomes(self) -> list[tuple[str, int, str, str | None]]:
        """(unit, attempt, outcome, code) of each end on record."""
        return [(one.unit, one.attempt, one.outcome.value, one.code) for one in self.of(events.UnitEnded)]

    def order(self) -> list[str]:
        return [f"{event.slot}:{event.unit}" for event in self.of(events.UnitStarted)]

    @property
    def live(self) -> dict[str, Any]:
        return read_live(self.run.path) or {}

    def tell_when_there(self, answer: str, seconds: float = 60) -> None:
        """Answer the first open prompt, once there is one."""
        wait_until(lambda: self.live.get("prompts"), seconds, "a prompt")
        self.tell("answer", prompt=self.live["prompts"][0]["id"], answer=answer)

    def tell(self, do: str, **more: Any) -> dict[str, Any]:
        """A command over the control socket, as another program gives it."""
        wait_until(lambda: self.live.get("control"), 60, "the control socket")
        return tell_station(Path(self.live["control"]), {"do": do, **more})


class Running:
    """A station at work in a thread. As a context manager it is stopped at the end."""

    def __init__(self, bench: StationBench, job: Job, *, ask: Any = None, **more: Any) -> None:
        more.setdefault("attended", True)
        slots, loader = list(bench.bench.slots.values()), QuietLoader(bench.bench, ask)
        self.station = Station(bench.bench, slots, job, bench.run, loader=loader, **more)
        self.code: Exit | None = None
        self.problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.code = self.station.run()
        except BaseException as problem:  # noqa: BLE001 - raised in `end`
            self.problem = problem

    def end(self, seconds: float = 120) -> Exit:
        """The exit code, once the run is over."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the run does not end"
        if self.problem is not None:
            raise self.problem
        assert self.code is not None
        return self.code

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.station.stop()
        self._thread.join(60)


def main() -> int:
    import pytest

    path, told, run = map(Path, sys.argv[1:])
    bench = read_bench(path)
    job = replace(job_from_dict(json.loads(told.read_text())), command="rig convert")
    with pytest.MonkeyPatch.context() as patch:
        fake_units(patch)
        slots = list(bench.slots.values())
        return int(Station(bench, slots, job, RunFolder(run), loader=QuietLoader(bench)).run())


if __name__ == "__main__":
    sys.exit(main())
