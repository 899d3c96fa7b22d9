"""A unit that does not link is examined before its step ends: what may be switched on for that, what stops it, and
what the unit fails with. The doctor's own verdicts: test_doctor.py; conversions on the faulty bench: test_faults.py.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures import examination
from fixtures.examination import _MADE_KEY, concluded, examined
from rig.bench.bench import read_bench
from rig.bench.slot import use_slot
from rig.codes import CODES
from rig.errors import BenchBlocked, UnitFailed
from rig.flashers.native import NativeFlasher
from rig.line.doctor import Finding
from rig.line.record import UnitRecord
from rig.records import events
from rig.records.backups import Backup
from rig.records.events import Outcome
from rig.records.run import RunFolder
from tests.sim_process import SimProcess, start_rig
from tests.test_convert import of_kind, run_of
from tests.waiting import until

pytest.importorskip("unicorn", reason="simulated boards need the extra `sim`")
OFF_WITHIN_S = 2.0
BACKUP = Backup("uid-0", Path("x"), "0" * 64, 0)
NO_LINK = UnitFailed("no-link", "the board does not answer")


class Sink:
    def __init__(self) -> None:
        self.got: list[events.Event] = []

    def emit(self, event: events.Event) -> None:
        self.got.append(event)

    @property
    def notes(self) -> list[events.Noted]:
        return [event for event in self.got if isinstance(event, events.Noted)]


def record_of(product: Any, folder: Path) -> tuple[UnitRecord, Sink]:
    sink = Sink()
    return UnitRecord(sink, RunFolder(folder), folder, "1", "A", 1, product), sink


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    with SimProcess(tmp_path_factory.mktemp("examination"), "--speed", "20") as process:
        yield process


def made_by(record: UnitRecord, used: Any, bench_file: Path) -> Any:
    """A pytest.Config as the fixtures leave it."""
    opened = read_bench(bench_file)
    config = SimpleNamespace(stash=pytest.Stash())
    config.stash[_MADE_KEY] = {
        "bench": opened, "slot": opened.slot("A"), "board": used, "record": record, "rom": NativeFlasher(),
    }  # fmt: skip
    return config


def test_a_board_with_a_backup_is_let_run_and_one_that_answers_now_fails_as_it_did(
    bench: SimProcess, tmp_path: Path
) -> None:
    slot = read_bench(bench.bench_file).slot("A")
    with use_slot(slot, holder="test") as used:
        record, sink = record_of(slot.product, tmp_path)
        record.backup = BACKUP
        config = made_by(record, used, bench.bench_file)
        bench.hand("fault", name="open-pin", options={"pin": "tx1"})
        found = examined(config, NO_LINK)
        assert not bench.status()["on"]
        assert (found.code, sink.notes[0].details["finding"]) == ("no-link", "mute")
        assert "its ROM hears them, and is not heard; try first: check TX1" in str(found)

        bench.hand("heal")
        assert examined(config, NO_LINK) is NO_LINK
        assert not bench.status()["on"]
        assert (sink.notes[1].level, sink.notes[1].details["finding"]) == ("warning", "linked")


@pytest.mark.parametrize(
    ("backup", "half_written", "may"),
    [(None, False, False), (None, True, False), (BACKUP, True, False), (BACKUP, False, True)],
)
def test_what_may_be_let_run(
    backup: Backup | None, half_written: bool, may: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No firmware before its backup, and no half of one."""
    asked = []

    def diagnose(*things: object, may_boot: bool, **more: object) -> Finding:
        asked.append(may_boot)
        return Finding("silent", "no-link", "nothing")

    monkeypatch.setattr(examination, "diagnose_link", diagnose)
    record, _ = record_of(None, tmp_path)
    record.backup, record.half_written = backup, half_written
    config: Any = SimpleNamespace(stash=pytest.Stash())
    things = SimpleNamespace(speed=1.0, table=SimpleNamespace(log_port=None), product=None, link=None, power=None)
    config.stash[_MADE_KEY] = {"bench": things, "slot": things, "board": things, "record": record}
    assert str(examined(config, NO_LINK)) == "nothing"
    assert asked == [may]


@pytest.mark.parametrize("code", ["no-current", "short", "weak-supply", "supply-lost", "port-lost", "no-link"])
def test_a_finding_is_what_the_unit_fails_with(code: str, tmp_path: Path) -> None:
    record, sink = record_of(None, tmp_path)
    found = concluded(NO_LINK, Finding("bench", code, "what was found", {"amps": 0.5}, ("this", "that")), record)
    assert type(found) is (BenchBlocked if CODES[code].blames == "bench" else UnitFailed)
    assert (found.code, str(found)) == (code, "what was found; try first: this")
    (note,) = sink.notes
    assert note.level == "info"
    assert note.details == {"finding": "bench", "measured": {"amps": 0.5}, "next": ["this", "that"]}


def on_since(bench: SimProcess) -> int:
    """When the output was switched on, 0 while it is off: it may have been off and on again between two looks."""
    status = bench.status()
    return status["switched_ns"] if status["on"] else 0


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)], ids=lambda n: n.name
)
def test_an_examination_is_stopped_with_the_station(number: signal.Signals, tmp_path: Path) -> None:
    """Off within two seconds, by SIGTERM and when the station is gone; at real time it would go on for four."""
    with SimProcess(tmp_path, "--speed", "1") as bench:
        bench.hand("fault", name="dead")
        process = start_rig("convert", "--no-report", "--bench", bench.bench_file, cwd=tmp_path)
        try:
            first = until(lambda: on_since(bench))
            assert until(lambda: on_since(bench) not in (0, first)), "the second time the doctor has it"
            assert bench.off_after(lambda: process.send_signal(number)) < OFF_WITHIN_S
        finally:
            if process.poll() is None and number is not signal.SIGTERM:
                process.kill()
            process.communicate(timeout=60)
        if number is signal.SIGTERM:
            _, found = run_of(tmp_path)
            (ended,) = of_kind(found, events.UnitEnded)
            assert (process.returncode, ended.outcome) == (130, Outcome.ABORTED)
            assert ended.supply_off_confirmed
