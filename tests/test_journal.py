"""The journal: what was acknowledged is there, one writer, torn ends, broken middles."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import typing
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.errors import UsageProblem
from rig.records import journal as journal_module
from rig.records.events import Event, Measured, Noted, PhaseEnded, RunEnded, RunStarted, UnitStarted, parser
from rig.records.journal import Journal, JournalLost, is_live, line_of, read_journal
from rig.records.run import RunFolder, latest, list_runs, safe_name

KINDS = typing.get_args(typing.get_args(Event)[0])


def started(unit: str = "SN1", attempt: int = 1) -> UnitStarted:
    return UnitStarted(unit=unit, slot="A", attempt=attempt)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.floats(-1e300, 1e300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def field_values(annotation: Any) -> st.SearchStrategy[Any]:
    if annotation is float or float in typing.get_args(annotation):
        others = [st.from_type(kind) for kind in typing.get_args(annotation) if kind is not float]
        return st.one_of(st.floats(allow_nan=False, allow_infinity=False), *others)
    if typing.get_origin(annotation) is dict and Any in typing.get_args(annotation):
        return st.dictionaries(st.text(), json_values, max_size=3)
    return st.from_type(annotation)


def events_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    fields = {
        name: st.datetimes(timezones=st.just(UTC)) if name == "utc" else field_values(field.annotation)
        for name, field in kind.model_fields.items()
        if name not in ("kind", "schema_version", "chain")
    }
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_every_kind_of_event_reads_back_as_written(kind: type[Any], data: st.DataObject) -> None:
    event = data.draw(events_of(kind))
    line = line_of(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parser.validate_json(line) == event


def test_all_kinds_were_meant() -> None:
    names = {kind.__name__ for kind in KINDS}
    assert {"RunStarted", "RunResumed", "Measured", "Reworked", "UnitEnded", "RunEnded"} <= names
    assert len(names) == len(KINDS) == 23


def test_events_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    written = [started(f"SN{n}") for n in range(5)]
    with Journal(path) as journal:
        for event in written:
            journal.append(event)
    assert read_journal(path) == (written, None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_going_on_with_a_journal_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for number in range(3):
        with Journal(path) as journal:
            journal.append(started(f"SN{number}"))
    events, torn = read_journal(path)
    assert [event.unit for event in events] == ["SN0", "SN1", "SN2"]
    assert torn is None


def test_an_event_is_on_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    synced: list[bytes] = []
    real = os.fsync
    monkeypatch.setattr(journal_module.os, "fsync", lambda fd: (real(fd), synced.append(path.read_bytes())))
    with Journal(path) as journal:
        synced.clear()
        journal.append(started("SN1"))
        assert [json.loads(seen)["unit"] for seen in synced] == ["SN1"]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        with pytest.raises(UsageProblem, match="another rig"):
            Journal(path)
        journal.append(started())
    Journal(path).close()


def test_live_means_someone_holds_it_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert not is_live(path)
    with Journal(path):
        assert is_live(path)
    assert not is_live(path)


@pytest.mark.parametrize("cut", [1, 20, "all but newline"])
def test_a_torn_last_line_is_dropped_named_and_mended(tmp_path: Path, cut: int | str) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(started("SN1"))
    whole = path.read_bytes()
    line = line_of(started("SN2"))
    path.write_bytes(whole + (line[:-1] if isinstance(cut, str) else line[:cut]))
    events, torn = read_journal(path)
    assert [event.unit for event in events] == ["SN1"]
    assert torn is not None
    assert "line 2" in torn
    assert str(path) in torn
    with Journal(path) as journal:
        assert journal.dropped == torn
        journal.append(started("SN3"))
    events, torn = read_journal(path)
    assert [event.unit for event in events] == ["SN1", "SN3"]
    assert torn is None


def test_a_tail_of_zeros_left_by_a_power_cut_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line_of(started("SN1")) + b"\0" * 300 + b"\n")
    events, torn = read_journal(path)
    assert len(events) == 1
    assert torn is not None
    assert "line 2" in torn


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cut=st.integers(min_value=0, max_value=1000))
def test_cut_anywhere_every_whole_line_survives(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "journal.jsonl"
    lines = [line_of(started(f"SN{n}", attempt=n + 1)) for n in range(4)]
    whole = b"".join(lines)
    path.write_bytes(whole[: cut % (len(whole) + 1)])
    events, torn = read_journal(path)
    size = path.stat().st_size
    survived = sum(1 for n in range(1, 5) if len(b"".join(lines[:n])) <= size)
    assert len(events) == survived
    assert (torn is None) == (size == len(b"".join(lines[:survived])))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"not json", "not JSON"),
        (b"", "not JSON"),
        (b"[]", "not an event"),
        (b'{"kind": "unit-started"}', "unit"),
        (b'{"kind": "lunch"}', "lunch"),
        (b'{"kind": "lunch", "schema_version": 99}', "newer rig"),
    ],
)
def test_a_broken_middle_names_file_and_line(tmp_path: Path, line: bytes, says: str) -> None:
    path = tmp_path / "journal.jsonl"
    good = line_of(started())
    path.write_bytes(good + line + b"\n" + good)
    with pytest.raises(UsageProblem) as caught:
        read_journal(path)
    assert f"{path}, line 2" in str(caught.value)
    assert says in str(caught.value)
    with pytest.raises(UsageProblem, match="line 2"):
        Journal(path)
    assert not is_live(path), "a refused journal stays locked"


def test_an_unknown_last_event_is_no_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line_of(started()) + b'{"kind": "lunch"}\n')
    with pytest.raises(UsageProblem, match="line 2"):
        read_journal(path)


def test_no_journal_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="cannot be read"):
        read_journal(tmp_path / "none.jsonl")
    with pytest.raises(UsageProblem):
        read_journal(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    assert read_journal(tmp_path / "empty.jsonl") == ([], None)


def test_what_cannot_be_read_back_is_never_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        with pytest.raises(ValueError, match="phase-ended"):
            journal.append(
                PhaseEnded(unit="1", slot="A", attempt=1, phase="p", outcome=None, duration_s=float("nan"))
            )
        with pytest.raises(ValueError, match="noted"):
            journal.append(Noted(text="x", details={"odd": "\udcff"}))
        journal.append(
            Measured(unit="1", slot="A", attempt=1, phase="p", name="n", value=float("inf"))
        )  # not measured, then
    events, torn = read_journal(path)
    assert torn is None
    assert [event.value for event in events] == [None]


def test_a_full_disk_says_so_and_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(started("SN1"))
        real, calls = os.write, []

        def full(fd: int, data: bytes) -> int:
            calls.append(len(data))
            if len(calls) == 1:
                return real(fd, bytes(data)[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(journal_module.os, "write", full)
        with pytest.raises(JournalLost, match="No space left"):
            journal.append(started("SN2"))
        monkeypatch.undo()
        with pytest.raises(JournalLost):
            journal.append(started("SN3"))
    events, torn = read_journal(path)
    assert [event.unit for event in events] == ["SN1"]
    assert torn is None


def test_threads_never_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        threads = [
            threading.Thread(target=lambda t=t: [journal.append(started(f"{t}", n + 1)) for n in range(20)])
            for t in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    events, torn = read_journal(path)
    assert torn is None
    for t in range(4):
        assert [event.attempt for event in events if event.unit == str(t)] == list(range(1, 21))


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    script = (
        "import sys; from pathlib import Path\n"
        "from rig.records.journal import Journal; from rig.records.events import UnitStarted\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for n in range(1, 1_000_000):\n"
        "    journal.append(UnitStarted(unit='SN', slot='A', attempt=n)); print(n, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    seen = 0
    with child.stdout:
        while seen < 25:
            seen = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        for line in child.stdout:
            seen = int(line) if line.endswith("\n") else seen
    child.wait(60)
    events, _ = read_journal(path)
    assert [event.attempt for event in events][:seen] == list(range(1, seen + 1))
    with Journal(path) as journal:  # its lock died with it
        journal.append(RunEnded(run="r", exit_code=3, duration_s=1.0))


def test_a_new_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    made = [RunFolder.create(runs) for _ in range(10)]
    assert len({run.id for run in made}) == 10
    assert list_runs(runs) == []  # none has a journal yet
    with pytest.raises(UsageProblem, match="no run"):
        latest(runs)
    for run in made:
        with Journal(run.journal) as journal:
            journal.append(
                RunStarted(run=run.id, command="c", station="s", bench="b", simulated=True, product="ds-121")
            )
    assert sorted(run.id for run in list_runs(runs)) == sorted(run.id for run in made)
    assert latest(runs) == list_runs(runs)[-1]
    assert RunFolder.open(made[0].path).journal.is_file()
    assert stat.S_IMODE(made[0].units.stat().st_mode) == 0o700


def test_an_attempt_is_never_overwritten(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    first = run.new_unit_dir("SN1", 1)
    assert first == run.unit_dir("SN1", 1)
    assert run.relative(first / "boot.log") == "units/SN1/1/boot.log"
    with pytest.raises(UsageProblem, match="on record already"):
        run.new_unit_dir("SN1", 1)
    assert run.new_unit_dir("SN1", 2).is_dir()


@pytest.mark.parametrize("unit", ["../../etc", "..", ".", "", "a/b", "/abs", "x" * 300, "nul\0", "é✓", "a b"])
def test_no_serial_number_leaves_the_run(tmp_path: Path, unit: str) -> None:
    run = RunFolder.create(tmp_path)
    folder = run.new_unit_dir(unit, 1)
    assert folder.resolve().parent.parent == run.units.resolve()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(), st.text())
def test_two_serials_never_share_a_folder(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)
    assert safe_name(one) not in ("", ".", "..")


def test_a_wrong_folder_names_the_nearest(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path)
    run.journal.touch()
    with pytest.raises(UsageProblem, match=run.id):
        RunFolder.open(tmp_path / run.id.replace("-", "_", 1))
    (tmp_path / "file").touch()
    with pytest.raises(UsageProblem):
        RunFolder.create(tmp_path / "file")
