"""`rig recover` and `rig restore` on two broken boards with one dump: each stays itself and goes back to what it was.

One simulated bench for all of it, its runs one after the other:

stopped    slot A alone: SIGTERM while it is written
recovered  both, with the dump of a third board, then converted
restored   both, each with its own first backup: A never booted, B was sound once
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reports.load import load
from reports.metrics import step_times, trials, yields
from rig.image.contents.calibration import read_calibration
from rig.line.attempt import Attempt
from rig.line.job import Job, Stage
from rig.records import events
from rig.records.backups import BackupStore
from rig.records.events import Outcome
from rig.records.journal import read_journal
from rig.records.kept import find_kept
from rig.records.run import RunFolder, latest
from rig.sim import firmware
from tests.sim_process import SimProcess, rig, start_rig
from tests.test_convert import of_kind
from tests.test_convert_faults import OFF_WITHIN_S, wait_for_journal

pytest.importorskip("unicorn")

DONOR = 7  # serial of the board whose dump is used
OTA = (0x12A000, 0x1D0000)
WELL_INTO_WRITE = 350_000  # bytes on the flash line: 214 000 until the first erase, 700 000 more for a full OTA area
ERASED_BOOT = (0x0, 0x11000)
CALIBRATION = (0x1D0000, 0x1D1000)
APP_END = 0x12A000
STORAGE = (0x1ED000, 0x200000)


@dataclass(frozen=True)
class Run:
    """One run that is over."""

    done: subprocess.CompletedProcess[str]
    folder: RunFolder
    events: list[events.Event]

    def of(self, unit: str, kind: type, attempt: int = 1) -> list[Any]:
        found = [event for event in of_kind(self.events, kind) if event.unit == unit]
        return [event for event in found if getattr(event, "attempt", attempt) == attempt]

    def one(self, unit: str, kind: type, attempt: int = 1) -> Any:
        (event,) = self.of(unit, kind, attempt)
        return event

    def measured(self, unit: str, name: str, attempt: int = 1) -> Any:
        (value,) = [event.value for event in self.of(unit, events.Measured, attempt) if event.name == name]
        return value

    def notes(self, unit: str) -> str:
        return "\n".join(event.text for event in self.of(unit, events.Noted))


@dataclass(frozen=True)
class Story:
    """What happened on the bench. Flashes by slot: `held` as the boards came, the others after a run."""

    bench: SimProcess
    cwd: Path
    donor: bytes
    held: dict[str, bytes]
    stopped: Run
    off_after_s: float
    recovered: Run
    restored: Run
    after_restore: dict[str, bytes]


def run(cwd: Path, *words: str | Path) -> Run:
    done = rig(*words, cwd=cwd)
    folder = latest(cwd / "runs")
    found, torn = read_journal(folder.journal)
    assert torn is None
    return Run(done, folder, found)


def wipe(bench: SimProcess, slot: str, *areas: tuple[int, int]) -> None:
    for start, end in areas:
        bench.poke(start, b"\xff" * (end - start), slot)


def break_a(bench: SimProcess) -> None:
    """Nothing left of A that matters; with an app it would be written in no time."""
    wipe(bench, "A", (0x0, APP_END), CALIBRATION, STORAGE)


def dumps(bench: SimProcess, cwd: Path) -> dict[str, bytes]:
    return {slot: bench.dump(cwd, slot) for slot in ("A", "B")}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    cwd = tmp_path_factory.mktemp("recover")
    donor = cwd / "donor.bin"
    donor.write_bytes(firmware.factory_dump(DONOR))
    with SimProcess(cwd, "--speed", "3", "--boards", "2") as bench:
        break_a(bench)
        full = bytearray(donor.read_bytes())
        full[slice(*OTA)] = random.Random(3).randbytes(OTA[1] - OTA[0])
        (cwd / "full.bin").write_bytes(full)
        # so slow from there on that the stop, however late, comes before the write ends
        bench.hand("fault", name="late", options={"ms": 400, "after": WELL_INTO_WRITE})
        stopped, off_after_s = stop_while_writing(bench, cwd, cwd / "full.bin")
    with SimProcess(cwd, "--speed", "20", "--boards", "2") as bench:  # the same two boards
        sound = bench.dump(cwd, "B")  # B was backed up when it was well
        BackupStore(cwd / "runs" / "backups").keep(identity(cwd, bench, "B"), sound)
        break_a(bench)
        wipe(bench, "B", ERASED_BOOT, CALIBRATION)
        held = dumps(bench, cwd)
        common = ("--bench", bench.bench_file, "--units", "2", "--no-report")
        then = bench.control.parent / "rig-demo_QIO.bin"
        recovered = run(cwd, "recover", "--image", donor, "--then", then, *common)
        words = [word for unit in ("1", "2") for word in ("--from", f"{recovered.folder.id}/{unit}")]
        restored = run(cwd, "restore", "--no-report", "--bench", bench.bench_file, *words)
        yield Story(
            bench,
            cwd,
            donor.read_bytes(),
            held,
            stopped,
            off_after_s,
            recovered,
            restored,
            dumps(bench, cwd),
        )


def identity(cwd: Path, bench: SimProcess, slot: str) -> str:
    efuse = bytes.fromhex(bench.hand("dump", slot, path=str(cwd / "x"))["efuse"])
    return f"uid-{efuse[16:24].hex()}"


def stop_while_writing(bench: SimProcess, cwd: Path, donor: Path) -> tuple[Run, float]:
    words = ("recover", "--no-report", "--bench", bench.bench_file, "--image", donor, "--slot", "A", "--serial", "X")
    process = start_rig(*words, cwd=cwd)
    wait_for_journal(process, cwd, '"write-begun"')
    off_after_s = bench.off_after(process.terminate)
    output, _ = process.communicate(timeout=60)
    folder = latest(cwd / "runs")
    done = subprocess.CompletedProcess(words, process.returncode, output, output)
    return Run(done, folder, read_journal(folder.journal)[0]), off_after_s


# -- stopped -------------------------------------------------------------------------------------------------


def test_a_recovery_that_is_stopped_leaves_the_supply_off_and_says_half_written(story: Story) -> None:
    assert story.stopped.done.returncode == 130
    ended = story.stopped.one("X", events.UnitEnded)
    assert (ended.outcome, ended.code) == (Outcome.ABORTED, "half-written")
    assert "half written" in ended.sentence
    assert ended.supply_off_confirmed
    assert story.off_after_s < OFF_WITHIN_S


# -- recovered, then converted -------------------------------------------------------------------------------


def test_both_are_recovered_and_then_converted_on_the_same_board(story: Story) -> None:
    assert story.recovered.done.returncode == 0, story.recovered.done.stderr
    for unit in ("1", "2"):
        first, second = (story.recovered.one(unit, events.UnitStarted, attempt) for attempt in (1, 2))
        assert (first.task, second.task) == ("recover", "convert")
        ended = [story.recovered.one(unit, events.UnitEnded, attempt) for attempt in (1, 2)]
        assert all(event.outcome.good for event in ended)
        assert ended[0].identity == ended[1].identity
        assert story.recovered.measured(unit, "firmware", 1) == "rig-factory"
        assert story.recovered.measured(unit, "firmware", 2) == "rig-demo"
    assert story.recovered.events[0].tasks == ["recover", "convert"]  # type: ignore[union-attr]


def test_the_plan_is_on_record_before_anything_is_written(story: Story) -> None:
    for unit in ("1", "2"):
        mine = [event for event in story.recovered.events if getattr(event, "unit", None) == unit]
        kinds = [event.kind for event in mine]
        assert kinds.index("backup-kept") < kinds.index("planned") < kinds.index("write-begun")
        planned, begun = (story.recovered.one(unit, kind) for kind in (events.Planned, events.WriteBegun))
        assert [(piece.flash_offset, piece.length) for piece in planned.pieces] == begun.ranges
        assert planned.image == "donor.bin"
        assert all(note in story.recovered.notes(unit) for note in planned.notes)


def test_two_boards_with_one_dump_stay_two(story: Story) -> None:
    """A, with nothing left, gets the donor's calibration with the MAC of its efuse; B's comes from its backup."""
    mac = {unit: story.recovered.one(unit, events.UnitEnded, 2).mac for unit in ("1", "2")}
    assert len({*mac.values(), firmware.mac(DONOR).hex(":")}) == 3
    planned = {unit: story.recovered.one(unit, events.Planned) for unit in ("1", "2")}
    assert planned["1"].mac == mac["1"]
    assert "efuse" in "\n".join(planned["1"].notes)
    assert planned["2"].mac is None
    assert "first backup" in "\n".join(planned["2"].notes)
    own = read_calibration(story.after_restore["B"][slice(*CALIBRATION)])
    assert own is not None
    assert mac["2"] == own.mac


def test_what_was_written_was_verified_against_the_plan(story: Story) -> None:
    """The backup that the conversion took holds what the recovery planned: image, calibration and storage."""
    for unit in ("1", "2"):
        planned = story.recovered.one(unit, events.Planned)
        found = held_after_recovery(story, unit)
        made = [piece for piece in planned.pieces if piece.source_offset is None]
        assert made, "something was made for this board"
        for piece in planned.pieces:
            if piece.source_offset is not None:
                at = piece.source_offset
                there = found[piece.flash_offset : piece.flash_offset + piece.length]
                assert there == story.donor[at : at + piece.length]
    found = held_after_recovery(story, "1")
    calibration = read_calibration(found[slice(*CALIBRATION)])
    assert calibration is not None
    assert calibration.mac == story.recovered.one("1", events.UnitEnded).mac
    storage = found[slice(*STORAGE)].replace(counted(found), b"")
    assert storage.strip(b"\xff") == b""  # blank, as the plan says; but for the boots the firmware counts there


def counted(flash: bytes) -> bytes:
    """What the factory firmware wrote in its boot counter's sector."""
    return flash[firmware.BOOT_COUNT_AT : firmware.BOOT_COUNT_AT + 0x1000].rstrip(b"\xff")


def held_after_recovery(story: Story, unit: str) -> bytes:
    """The flash as the conversion found it. Kept beside the board's first backup."""
    kept = find_kept(f"{story.recovered.folder.id}/{unit}", story.cwd / "runs")
    folder = kept.backup.path.parent
    store = BackupStore(folder.parent)
    assert store.first(kept.identity) == kept.backup
    found = [unpacked(path) for path in folder.glob("*.zst") if path != kept.backup.path]
    (recovered,) = [flash for flash in found if flash[:APP_END] == story.donor[:APP_END] and firmware.boots(flash)]
    return recovered


def unpacked(path: Path) -> bytes:
    import zstandard

    return zstandard.ZstdDecompressor().decompress(path.read_bytes(), max_output_size=0x200000)


def test_a_board_whose_two_stages_passed_passed_once_at_first(story: Story) -> None:
    records = load([story.recovered.folder.path])
    found = yields(records)
    assert (found.first_pass.good, found.first_pass.n, found.retested.good, found.boards) == (2, 2, 0, 2)
    tried = trials(records)
    cycles = records.attempts.groupby("unit")["cycle_s"].sum()
    assert sorted(tried["cycle_s"]) == pytest.approx(sorted(cycles))
    assert {"flash", "recover flash"} <= {*step_times(records)["phase"]}


# -- restored ------------------------------------------------------------------------------------------------


def test_a_board_is_back_to_its_backup_byte_for_byte(story: Story) -> None:
    """B: what its firmware counted since is all that differs."""
    ended = story.restored.one("2", events.UnitEnded)
    assert ended.outcome.good, ended.sentence
    kept = find_kept(f"{story.recovered.folder.id}/2", story.cwd / "runs").backup.content()
    now = bytearray(story.after_restore["B"])
    sector = slice(firmware.BOOT_COUNT_AT, firmware.BOOT_COUNT_AT + 0x1000)
    now[sector] = kept[sector]
    assert bytes(now) == kept
    assert kept != story.held["B"]
    assert story.restored.measured("2", "firmware") == "rig-factory"


def test_a_board_that_did_not_boot_before_is_no_pass_after_and_the_sentence_says_why(story: Story) -> None:
    """A: what it came with is back, erased bootloader and all."""
    assert story.restored.done.returncode == 1
    ended = story.restored.one("1", events.UnitEnded)
    assert (ended.outcome, ended.code) == (Outcome.FAIL, "log-silent")
    assert "byte for byte" in ended.sentence
    assert story.after_restore["A"] == story.held["A"]


def test_a_backup_goes_onto_no_other_board(story: Story) -> None:
    before = story.bench.dump(story.cwd, "B")
    source = f"{story.recovered.folder.id}/1"
    refused = run(
        story.cwd, "restore", "--no-report", "--bench", story.bench.bench_file, "--slot", "B", "--from", source
    )
    assert refused.done.returncode == 3
    ended = refused.one("1", events.UnitEnded)
    assert (ended.outcome, ended.code) == (Outcome.BLOCKED, "wrong-board")
    mine, theirs = (story.restored.one(unit, events.UnitEnded).identity for unit in ("2", "1"))
    assert mine in ended.sentence
    assert theirs in ended.sentence
    assert "rig recover" in ended.sentence
    assert story.bench.dump(story.cwd, "B") == before
    assert not refused.of("1", events.WriteBegun)


# -- between the two ------------------------------------------------------------------------------------------


def test_a_run_stopped_between_two_stages_has_the_second_on_record_as_never_begun(tmp_path: Path) -> None:
    kept: list[Any] = []
    job = Job(units=("1",), stages=(Stage("recover"), Stage("convert")))
    folder = RunFolder.create(tmp_path)
    ground: Any = SimpleNamespace(
        job=job, folder=folder, emit=kept.append, confirm_off=lambda slot: True, operator=lambda: None
    )
    slot: Any = SimpleNamespace(name="A")
    Attempt(ground, slot, "1", 2, job.stages[1]).never_begun()
    begun, ended = kept
    assert (begun.kind, begun.attempt, begun.task) == ("unit-started", 2, "convert")
    assert (ended.outcome, ended.code, ended.supply_off_confirmed) == (Outcome.ABORTED, None, True)
    assert "before this convert began" in ended.sentence
    assert not folder.unit_dir("1", 2).exists()
