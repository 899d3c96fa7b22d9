"""A unit's record: which events it writes, and what an exception or a number makes of the outcome."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest

from rig.bench.product import Limits, load_product
from rig.errors import Aborted, BenchBlocked, Coded, RigError, UnitFailed, UsageProblem
from rig.image.identity import Identity, Kind
from rig.image.planning.plan import Piece, Plan
from rig.line.record import Overran, UnitRecord, Verdict, judged
from rig.records.backups import BackupStore
from rig.records.events import Event, Outcome
from rig.records.run import RunFolder

LIMITS = {
    "rom_current": Limits(unit="A", minimum=0.005, maximum=0.1, marginal_minimum=0.01, marginal_maximum=0.08),
    "boot_time": Limits(unit="s", maximum=30, marginal_maximum=20),
    "warned": Limits(unit="s", marginal_maximum=20),
}


class Kept:
    """A sink that keeps."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.kind == kind]


@pytest.fixture
def sink() -> Kept:
    return Kept()


@pytest.fixture
def record(sink: Kept, tmp_path: Path) -> UnitRecord:
    run = RunFolder.create(tmp_path / "runs")
    product = load_product("ds-121").model_copy(update={"limits": LIMITS})
    return UnitRecord(sink, run, run.new_unit_dir("SN1", 2), "SN1", "A", 2, product)


@pytest.mark.parametrize(
    ("problem", "outcome", "code", "sentence"),
    [
        (BenchBlocked("weak-supply", "it sagged"), Outcome.BLOCKED, "weak-supply", "it sagged"),
        (UnitFailed("verify-failed", "differs"), Outcome.FAIL, "verify-failed", "differs"),
        (Coded("verify-failed", "differs"), Outcome.FAIL, "verify-failed", "differs"),
        (Aborted("stopped"), Outcome.ABORTED, None, "stopped"),
        (KeyboardInterrupt(), Outcome.ABORTED, None, "KeyboardInterrupt"),
        (UsageProblem("wrong file"), Outcome.BLOCKED, "crashed", "wrong file"),
        (RigError("lost"), Outcome.BLOCKED, "crashed", "lost"),
        (ZeroDivisionError("division by zero"), Outcome.BLOCKED, "crashed", "ZeroDivisionError: division by zero"),
    ],
)
def test_what_an_exception_says_of_a_unit(
    problem: BaseException, outcome: Outcome, code: str | None, sentence: str
) -> None:
    assert judged(problem) == (outcome, code, sentence)


def test_the_first_failure_stays() -> None:
    verdict = Verdict()
    verdict.worsen(Outcome.MARGINAL)
    assert verdict.outcome is Outcome.MARGINAL
    verdict.worsen(Outcome.PASS)
    assert verdict.outcome is Outcome.MARGINAL
    verdict.worsen(Outcome.FAIL, "verify-failed", "differs")
    verdict.worsen(Outcome.BLOCKED, "port-lost", "later")
    verdict.worsen(Outcome.MARGINAL)
    assert verdict == Verdict(Outcome.FAIL, "verify-failed", "differs")


def test_a_good_unit(record: UnitRecord, sink: Kept) -> None:
    record.started()
    with record.phase("rom", last=True):
        assert record.measure("rom_current", 0.03, low="no-current", high="short") is Outcome.PASS
        assert record.measure("version", "1.0") is Outcome.PASS
        assert record.measure("pages", 12, "B") is Outcome.PASS
    record.mac, record.identity, record.supply_off = "02:52:49:00:00:01", "uid-1", True
    record.ended()
    assert [event.kind for event in sink.events] == [
        "unit-started", "phase-started", "measured", "measured", "measured", "phase-ended", "unit-ended"
    ]  # fmt: skip
    assert {(event.unit, event.slot, event.attempt) for event in sink.events} == {("SN1", "A", 2)}  # type: ignore[union-attr]
    current, version, pages = sink.of("measured")
    assert (current.phase, current.value, current.unit_of, current.maximum) == ("rom", 0.03, "A", 0.1)
    assert (version.value, version.unit_of, pages.unit_of) == ("1.0", "", "B")
    (end,) = sink.of("unit-ended")
    assert (end.outcome, end.code, end.mac, end.supply_off_confirmed) == (
        Outcome.PASS, None, "02:52:49:00:00:01", True
    )  # fmt: skip
    assert end.duration_s >= sink.of("phase-ended")[0].duration_s >= 0


def test_an_attempt_that_ended_before_its_last_step_is_no_pass(record: UnitRecord, sink: Kept) -> None:
    with record.phase("one"):
        pass
    record.ended()
    (end,) = sink.of("unit-ended")
    assert (end.outcome, end.code) == (Outcome.BLOCKED, "crashed")


@pytest.mark.parametrize("kind", [BenchBlocked, UnitFailed])
def test_a_fault_while_writing_keeps_its_code_and_says_that_the_board_is_half_written(
    record: UnitRecord, sink: Kept, kind: type[Coded]
) -> None:
    with pytest.raises(Coded), record.phase("flash"), record.writing("00", [(0, 16)]):
        raise kind("link-lost", "it stopped answering")
    record.ended()
    (end,) = sink.of("unit-ended")
    assert (end.outcome.value, end.code) == ("blocked" if kind is BenchBlocked else "fail", "link-lost")
    assert end.sentence == "it stopped answering; the board is half written: its content is not known"


def test_an_attempt_that_its_station_ends_for_its_time_is_no_persons_doing(record: UnitRecord, sink: Kept) -> None:
    with pytest.raises(KeyboardInterrupt), record.phase("boot"):
        raise Overran("the step boot was not over after 60 s")
    record.ended()
    (end,) = sink.of("unit-ended")
    assert (end.outcome, end.code) == (Outcome.BLOCKED, "step-timeout")


def test_stopped_while_writing_says_that_the_board_is_half_written(record: UnitRecord, sink: Kept) -> None:
    with pytest.raises(KeyboardInterrupt), record.phase("flash"), record.writing("00", [(0, 16)]):
        raise KeyboardInterrupt("stopped")
    record.ended()
    (end,) = sink.of("unit-ended")
    assert (end.outcome, end.code) == (Outcome.ABORTED, "half-written")
    assert "half written" in (end.sentence or "")


@pytest.mark.parametrize("kind", ["write-begun", "write-ended"])
def test_stopped_as_a_write_goes_on_record_is_half_written_too(
    record: UnitRecord, sink: Kept, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The books go by what is on record; what the unit says of its end may not be better than that."""
    emit = record.emit

    def stopped(event: Event) -> None:
        emit(event)
        if event.kind == kind:
            raise KeyboardInterrupt("stopped")

    monkeypatch.setattr(record, "emit", stopped)
    with pytest.raises(KeyboardInterrupt), record.phase("flash"), record.writing("00", [(0, 16)]) as verified:
        verified()
    record.ended()
    (end,) = sink.of("unit-ended")
    assert (end.outcome, end.code) == (Outcome.ABORTED, "half-written")


def test_a_marginal_number_makes_its_step_and_the_unit_marginal(record: UnitRecord, sink: Kept) -> None:
    with record.phase("one"):
        assert record.measure("rom_current", 0.09) is Outcome.MARGINAL
    with record.phase("two"):
        assert record.measure("rom_current", 0.02) is Outcome.PASS
    assert [event.outcome for event in sink.of("phase-ended")] == [Outcome.MARGINAL, Outcome.PASS]
    assert record.verdict.outcome is Outcome.MARGINAL
    assert record.measure("warned", 21.0) is Outcome.MARGINAL


@pytest.mark.parametrize(
    ("name", "value", "error", "code", "sentence"),
    [
        ("rom_current", 0.001, BenchBlocked, "no-current", "rom_current is 0.001 A, the limit is 0.005 A"),
        ("rom_current", 0.4, UnitFailed, "short", "rom_current is 0.4 A, the limit is 0.1 A"),
        ("rom_current", None, BenchBlocked, "no-current", "rom_current could not be measured, the limit is 0.005 A"),
        ("boot_time", None, BenchBlocked, "no-current", "boot_time could not be measured, the limit is 30 s"),
        ("boot_time", math.nan, BenchBlocked, "no-current", "boot_time could not be measured, the limit is 30 s"),
        ("warned", None, BenchBlocked, "no-current", "warned could not be measured"),
    ],
)
def test_a_number_outside_its_limits(
    record: UnitRecord, sink: Kept, name: str, value: float | None, error: type[Coded], code: str, sentence: str
) -> None:
    with pytest.raises(error) as caught, record.phase("rom"):
        record.measure(name, value, low="no-current", high="short")
    assert (caught.value.code, str(caught.value)) == (code, sentence)
    assert sink.of("measured")[0].outcome is Outcome.FAIL
    (end,) = sink.of("phase-ended")
    assert (end.code, end.sentence) == (code, sentence)
    assert end.outcome is (Outcome.BLOCKED if error is BenchBlocked else Outcome.FAIL)
    assert record.verdict.code == code


def test_one_code_serves_both_sides(record: UnitRecord) -> None:
    with pytest.raises(UnitFailed) as caught:
        record.measure("boot_time", None, high="not-complete")
    assert caught.value.code == "not-complete"
    with pytest.raises(BenchBlocked) as blocked:
        record.measure("rom_current", 7)
    assert blocked.value.code == "crashed"


def test_a_skipped_step_has_no_outcome(record: UnitRecord, sink: Kept) -> None:
    record.skipped("verify")
    assert sink.of("phase-ended")[0].outcome is None
    assert record.verdict.outcome is Outcome.PASS


def test_a_write_is_over_only_when_it_was_verified(record: UnitRecord, sink: Kept) -> None:
    with pytest.raises(UnitFailed), record.writing("abc", [(0, 0x1000)]):
        raise UnitFailed("verify-failed", "differs")
    with record.writing("abc", [(0, 0x1000)]):
        pass
    assert [event.ranges for event in sink.of("write-begun")] == [[(0, 0x1000)]] * 2
    assert sink.of("write-ended") == []
    with record.writing("abc", [(0, 0x1000)]) as done:
        assert sink.of("write-ended") == []
        done()
    assert [event.verified for event in sink.of("write-ended")] == [True]


def test_what_is_kept_is_named_from_the_run_s_folder(record: UnitRecord, sink: Kept) -> None:
    log = record.folder / "boot.log"
    record.keep("boot-log", log)
    assert sink.events == []
    log.write_text("booted")
    record.keep("boot-log", log)
    (kept,) = sink.of("artifact-kept")
    assert (record.run.path / kept.path).read_text() == "booted"
    assert len(kept.sha256) == 64
    backup = BackupStore(record.run.path.parent / "backups").keep("uid-1", b"flash")
    record.backup_kept(backup)
    (event,) = sink.of("backup-kept")
    assert (record.run.path / event.path).resolve() == backup.path.resolve()
    assert (event.identity, event.size, record.backup) == ("uid-1", 5, backup)


def test_secrets_do_not_reach_the_journal(record: UnitRecord, sink: Kept) -> None:
    record.note("wifi password=hunter22222 seen", warning=True)
    assert "hunter22222" not in sink.of("noted")[0].text
    assert sink.of("noted")[0].level == "warning"
    with pytest.raises(UnitFailed), record.phase("boot"):
        raise UnitFailed("not-complete", "last line: password=hunter22222")
    assert "hunter22222" not in sink.of("phase-ended")[0].sentence


def test_a_plan_is_on_record_with_its_choices_and_what_was_overridden(record: UnitRecord, sink: Kept) -> None:
    record.secrets = ("hunter22",)
    pieces = (Piece(0, 4, 0), Piece(0x1D1000, 4, None, b"CFG!", "configuration"))
    said = "damaged: x.bin is damaged: hunter22"
    plan = Plan(
        Identity(Kind.QIO, "x"), pieces, "x.bin whole at 0x0", (said,), ("the MAC is its own",), "02:00:00:00:00:05"
    )
    record.planned(plan, "x.bin", "5a" * 32, plan.contents(b"code"))
    warning, choice = sink.of("noted")
    assert (warning.level, warning.details) == ("warning", {"override": "damaged"})
    assert "hunter22" not in warning.text
    assert (choice.level, choice.text) == ("info", "the MAC is its own")
    (planned,) = sink.of("planned")
    image, made = planned.pieces
    assert image.sha256 == hashlib.sha256(b"code").hexdigest()
    assert (made.flash_offset, made.source_offset, made.sha256) == (0x1D1000, None, None)
    assert [text.partition(":")[0] for text in planned.overrides] == ["damaged"]
    assert "hunter22" not in planned.model_dump_json()
    assert (planned.mac, planned.notes) == ("02:00:00:00:00:05", ["the MAC is its own"])
