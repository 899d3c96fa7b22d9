"""`rig flash write --differential`, what is counted on the wire, and who is told of a write that was cut off."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.chip.frames import SECTOR
from rig.flashers.matching import Matched
from rig.image.planning.plan import Piece, Plan
from rig.line import steps
from rig.line.record import UnitRecord
from rig.line.writes import NAME, cut_off, record_end, record_erase, record_write, shared_sectors
from rig.records import events
from rig.records.backups import BackupStore
from rig.records.journal import Journal
from rig.records.run import RunFolder
from rig.sim import firmware
from rig.uart.touched import touched_sectors
from rig.uart.trace import Command
from tests.sim_process import BACKED_UP, SimProcess, rig_inside, start_rig
from tests.waiting import wait_until

APP = 0x11000
WHO = "uid-1"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    pytest.importorskip("unicorn", reason="simulated boards need the extra `sim`")
    with SimProcess(tmp_path_factory.mktemp("bench"), "--speed", "20") as process:
        yield process


def test_only_what_differs_is_touched_but_all_after_a_write_that_was_cut_off(
    bench: SimProcess, tmp_path: Path
) -> None:
    image = firmware.demo_image()[APP:]
    (tmp_path / "app.bin").write_bytes(image)
    sectors = -(-len(image) // SECTOR)
    words = ("flash", "write", "app.bin", "--bench", bench.bench_file)

    # from about the first erase on every answer is late: there is a write to be killed, however late that comes
    bench.hand("fault", name="late", options={"ms": 300, "after": BACKED_UP + 10_000})
    process = start_rig(*words, cwd=tmp_path)
    before = bench.status()["erased_sectors"]

    def erasing() -> bool:
        assert process.poll() is None, process.communicate()[0]
        return bool(bench.status()["erased_sectors"] > before)

    try:
        wait_until(erasing, 120, "an erase")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    bench.hand("heal")

    def write(*more: str) -> tuple[dict[str, object], str]:
        done = rig_inside(*words, "--json", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert bench.dump(tmp_path)[APP : APP + len(image)] == image
        return json.loads(done.stdout), " ".join(done.stderr.split())

    told, said = write("--differential")
    assert "The last write to this board was cut off (rig flash, app.bin" in said
    assert "All of it is written" in said
    assert "cut off" in str(told["cut_off_before"])
    assert told["sectors"] == {"planned": sectors, "touched": sectors}

    told, said = write("--differential")
    assert "cut off" not in said
    assert told["cut_off_before"] is None
    assert told["sectors"] == {"planned": sectors, "touched": 0}

    bench.poke(APP + 0x3004, b"\x00\x00\x01")
    told, _ = write("--differential")
    assert told["sectors"] == {"planned": sectors, "touched": 1}
    assert told["bytes"] == SECTOR

    done = rig_inside(*words, "--differential", cwd=tmp_path)
    assert "sectors hold it already" in done.stdout
    assert f"Sectors of 4 KiB touched: 0, of {sectors} planned" in done.stdout


def test_a_tool_knows_no_differential_write(bench: SimProcess, tmp_path: Path) -> None:
    words = ("flash", "write", "x.bin", "--differential", "--flasher", "ltchiptool==4.15.0")
    done = rig_inside(*words, "--bench", bench.bench_file, cwd=tmp_path)
    assert done.returncode == 2
    assert "leave --flasher ltchiptool==4.15.0 out" in " ".join(done.stderr.split())


# -- the record ------------------------------------------------------------------------------------------------


def plan_of(*ranges: tuple[int, int]) -> Plan:
    return Plan(None, tuple(Piece(at, length, 0, "x") for at, length in ranges), "")  # type: ignore[arg-type]


def test_a_write_that_never_ended_is_told_until_one_ends_well(tmp_path: Path) -> None:
    assert cut_off(tmp_path, WHO) is None
    assert cut_off(tmp_path, None) is None
    first = BackupStore(tmp_path / "backups").keep(WHO, bytes(range(256)) * 16)
    record_write(tmp_path, WHO, "app.bin", "0" * 64, plan_of((0x11000, 0x1800)))
    said = cut_off(tmp_path, WHO) or ""
    assert "(rig flash, app.bin" in said
    assert "0x11000+0x1800" in said
    assert f"in the sectors at 0x12000 may be in its backup only, {first.path}" in said
    assert cut_off(tmp_path, "uid-2") is None

    begun = record_erase(tmp_path, WHO, 0x11000, 0x1000, ())
    said = cut_off(tmp_path, WHO) or ""
    assert "an erase" in said
    assert "beside" not in said  # whole sectors share nothing
    record_end(tmp_path, begun)
    assert cut_off(tmp_path, WHO) is None


def test_a_board_that_is_to_get_another_name_is_found_by_either(tmp_path: Path) -> None:
    record_write(tmp_path, "mac-1", "dump.bin", "0" * 64, plan_of((0, 0x1000)), also="mac-2")
    assert cut_off(tmp_path, "mac-1")
    assert cut_off(tmp_path, "mac-2")


def test_a_torn_line_costs_no_other(tmp_path: Path) -> None:
    begun = record_erase(tmp_path, WHO, 0, 0x1000, ())
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes() + b'{"utc": "2026-')
    assert cut_off(tmp_path, WHO)
    record_end(tmp_path, begun)
    assert cut_off(tmp_path, WHO) is None
    path.write_bytes(path.read_bytes() + b"[]\n\xff\xfe\n")
    record_erase(tmp_path, WHO, 0, 0x1000, ())
    assert cut_off(tmp_path, WHO)


def test_a_write_of_a_run_that_was_cut_off_is_told_too(tmp_path: Path) -> None:
    def attempt(number: int, *, ended: bool, identity: str = WHO) -> None:
        who = {"unit": "SN1", "slot": "A", "attempt": number}
        with Journal(run.journal) as journal:
            journal.append(
                events.BackupKept(**who, identity=identity, path="x", sha256="0" * 64, size=1)  # type: ignore[arg-type]
            )
            journal.append(
                events.WriteBegun(**who, image_sha256="0" * 64, ranges=[(0x11000, 0x2000)])  # type: ignore[arg-type]
            )
            if ended:
                journal.append(events.WriteEnded(**who, verified=True))  # type: ignore[arg-type]

    run = RunFolder.create(tmp_path)
    attempt(1, ended=False)
    assert f"unit SN1 of run {run.id}" in (cut_off(tmp_path, WHO) or "")
    attempt(2, ended=False, identity="uid-2")  # another board by the same name says nothing of this one
    assert f"unit SN1 of run {run.id}" in (cut_off(tmp_path, WHO) or "")
    begun = record_erase(tmp_path, WHO, 0, 0x1000, ())
    assert "an erase" in (cut_off(tmp_path, WHO) or "")  # the last one counts
    record_end(tmp_path, begun)
    assert cut_off(tmp_path, WHO) is None
    attempt(3, ended=True)
    assert cut_off(tmp_path, WHO) is None


def test_a_conversion_notes_it_on_a_board_that_has_an_earlier_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder.create(tmp_path)
    sink = SimpleNamespace(emit=lambda event: notes.append(event.text) if event.kind == "noted" else None)
    notes: list[str] = []
    record = UnitRecord(sink, run, run.path, "1", "A", 1, SimpleNamespace(limits={}), identity=WHO)  # type: ignore[arg-type]
    place: Any = SimpleNamespace(record=record)
    held = bytes(range(256)) * (0x200000 // 256)

    def backed_up(data: bytes) -> list[str]:
        notes.clear()
        monkeypatch.setattr(steps, "read_flash", lambda place, known: Matched(data, (), (), 0.0))
        steps.take_backup(place, fast=False)
        return [text for text in notes if "cut off" in text]

    record_write(tmp_path, WHO, "app.bin", "0" * 64, plan_of((0x11000, 0x1800)))
    assert not backed_up(held)  # its first backup: whatever was written before, nothing of it is known to be lost
    begun = record_write(tmp_path, WHO, "app.bin", "0" * 64, plan_of((0x11000, 0x1800)))
    (said,) = backed_up(held[:0x12000] + b"\xff" * 0x1000 + held[0x13000:])
    assert "sectors at 0x12000 may be in its backup only" in said
    record_end(tmp_path, begun)
    assert not backed_up(held[:0x12000] + b"\xff" * 0x1000 + held[0x13000:])


spans = st.lists(st.tuples(st.integers(0, 0x3000), st.integers(1, 0x3000)), max_size=3)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(spans)
def test_shared_sectors_are_those_covered_in_part(ranges: list[tuple[int, int]]) -> None:
    apart, at = [], 0
    for gap, length in ranges:  # plans do not overlap
        apart.append((at + gap, length))
        at += gap + length
    asked = {byte for start, length in apart for byte in range(start, start + length)}
    touched = {byte // SECTOR * SECTOR for byte in asked}
    expected = [at for at in sorted(touched) if not asked.issuperset(range(at, at + SECTOR))]
    assert shared_sectors(apart) == expected


def command(name: str, address: int | None, head: str | None = None, refused: str | None = None) -> Command:
    return Command(name, address, 0, head=head, refused=refused)


def test_sectors_are_counted_by_what_passed() -> None:
    passed = [
        command("erase", 0x210000, "d800002100"),  # a block, by the address an N takes too
        command("erase", 0x12000, "2000200100"),
        command("erase", 0x30000, "2000000300", refused="outside"),
        command("write-256", 0x20F00),
        command("write-4k", 0x21000),
        command("erase-4k", 0x22000),
        command("read-4k", 0x40000),
        command("link-check", None),
    ]
    expected = {*range(0x10000, 0x20000, SECTOR), 0x20000, 0x21000, 0x22000}
    assert touched_sectors(passed, 0x200000) == expected
