"""The page's numbers are those of the reports, and it follows a journal however it grows."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from reports.load import load
from reports.metrics import units_per_hour, yields
from rig.panel.book import Book
from rig.panel.line import line_of
from rig.panel.runs import Runs
from rig.panel.tail import JournalTail
from rig.records import events
from rig.records.events import Outcome
from tests.panel_station import FakeStation
from tests.synthetic_journals import SyntheticRun

ENDS = ("pass", "marginal", "fail", "blocked", "aborted", "unverified", None)
ATTEMPT = st.fixed_dictionaries({
    "unit": st.sampled_from(["SN1", "SN2", "SN3", "SN4"]),
    "task": st.sampled_from(["convert", "convert", "recover", "burn-in"]),
    "end": st.sampled_from(ENDS),
    "seconds": st.integers(1, 90),
    "writing": st.booleans(),
    "boot": st.sampled_from(["same", "same", "same", "new"]),
    "golden": st.sampled_from([False, False, False, True]),
})  # fmt: skip


def write(run: SyntheticRun, told: dict[str, Any], attempts: dict[str, int]) -> None:
    unit = "GOLDEN" if told["golden"] else told["unit"]
    attempts[unit] = attempts.get(unit, 0) + 1
    who = {"unit": unit, "slot": "A", "attempt": attempts[unit]}
    run.write(events.UnitStarted, **who, task=told["task"], role="golden" if told["golden"] else "unit")
    if told["boot"] == "new":
        run.boot_id += "x"
    run.now += told["seconds"]
    if told["writing"]:
        run.write(events.WriteBegun, **who, image_sha256="c3" * 32, ranges=[(0, 4096)])
    if told["end"] is not None:
        run.write(events.UnitEnded, **who, outcome=Outcome(told["end"]), duration_s=told["seconds"])


@settings(max_examples=25, derandomize=True, deadline=None, phases=[Phase.generate])
@given(st.lists(ATTEMPT, max_size=9), st.booleans(), st.sampled_from([["convert"], ["recover", "convert"]]))
def test_yield_and_units_per_hour_are_those_of_the_reports(
    told: list[dict[str, Any]], live: bool, tasks: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = SyntheticRun(Path(folder) / "20261122-171500-ab12", tasks=tasks)
        attempts: dict[str, int] = {}
        for each in told:
            write(run, each, attempts)
        if not live:
            run.journal.close()
        view = Runs(Path(folder)).find("20261122-171500-ab12")
        records = load([run.folder.path])
        run.journal.close()
        assert view is not None
        assert view.alive is live
        numbers, theirs = view.book.numbers(), yields(records)
        assert numbers.first_pass == (theirs.first_pass.good, theirs.first_pass.n)
        assert numbers.final == (theirs.final.good, theirs.final.n)
        assert numbers.per_hour == pytest.approx(units_per_hour(records))


def test_a_journal_read_in_pieces_is_the_journal_read_at_once(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        run.attempt("SN1", "pass", firmware="OpenBeken")
        run.attempt("SN2", "fail", code="no-link", stop_at="identify")
        run.end()
    raw = run.folder.journal.read_bytes()
    grows = tmp_path / "grows.jsonl"
    tail, pieces = JournalTail(grows), []
    for size in range(0, len(raw) + 97, 97):
        grows.write_bytes(raw[:size])
        pieces += tail.fresh()
        assert not tail.again
    assert pieces == JournalTail(run.folder.journal).fresh()
    assert len(pieces) == raw.count(b"\n")


def test_a_line_taken_back_is_forgotten(tmp_path: Path) -> None:
    """The disk refused and the journal cut its line off again, then another one came."""
    with SyntheticRun(tmp_path / "run") as run:
        tail = JournalTail(run.folder.journal)
        run.begin("SN1")
        size = run.folder.journal.stat().st_size
        run.begin("SN2")
        assert [event.kind for event in tail.fresh()] == ["run-started", "unit-started", "unit-started"]
        with run.folder.journal.open("r+b") as file:
            file.truncate(size)
        run.begin("SN3")
        run.begin("SN4")
        assert [getattr(event, "unit", None) for event in tail.fresh()] == [None, "SN1", "SN3", "SN4"]
        assert tail.again


def test_a_damaged_line_is_named_and_ends_the_reading(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        run.begin("SN1")
    raw = run.folder.journal.read_bytes()
    run.folder.journal.write_bytes(raw + b'{"kind": "no such thing"}\n' + raw)
    tail = JournalTail(run.folder.journal)
    assert len(tail.fresh()) == 2
    assert tail.broken is not None
    assert "damaged" in tail.broken
    assert tail.fresh() == []


def test_what_runs_is_shown_until_its_station_is_gone(tmp_path: Path) -> None:
    """A station that was killed leaves a live.json that says `running`: the journal is believed, not that."""
    station = FakeStation(tmp_path)
    station.begin("A", "SN1")
    station.until("A", "flash", 1, 2, "write")
    station.begin("B", "SN2")
    station.live._write()
    line = line_of(Runs(tmp_path).find("20261122-171500-ab12"))  # type: ignore[arg-type]
    assert [(tile.name, tile.state, tile.step) for tile in line.tiles] == [
        ("A", "running", "flash"), ("B", "running", None),
    ]  # fmt: skip
    assert line.at_work
    assert line.counters["running"] == 2
    station.die()
    line = line_of(Runs(tmp_path).find("20261122-171500-ab12"))  # type: ignore[arg-type]
    assert line.gone
    assert [(tile.state, str(tile.outcome), tile.code) for tile in line.tiles] == [
        ("latched", "unverified", "half-written"), ("latched", "blocked", "crashed"),
    ]  # fmt: skip


def test_steps_notes_and_refusals_are_kept_by_attempt(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        run.attempt("SN1", "fail", code="no-link", stop_at="identify", sentence="it never answered")
        run.note("a waiver", unit="SN1")
        run.note("of nobody")
        run.write(events.UnitRefused, unit="SN1", rule="duplicate", sentence="SN1 was worked on already")
        book = Book()
        book.add(JournalTail(run.folder.journal).fresh())
    (attempt,) = book.attempts
    assert [(step.name, str(step.outcome)) for step in attempt.steps[:3]] == [
        ("power-on", "pass"), ("identify", "fail"), ("backup", "None"),
    ]  # fmt: skip
    assert [note.text for note in attempt.notes] == ["a waiver"]
    assert [note.text for note in book.notes] == ["of nobody"]
    assert book.refused[0].rule == "duplicate"


def test_golden_units_count_in_no_number(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        for unit, attempt, outcome in (("GOLDEN", 1, "fail"), ("SN1", 1, "pass"), ("GOLDEN", 2, "pass")):
            who = {"unit": unit, "slot": "A", "attempt": attempt}
            run.write(events.UnitStarted, **who, role="unit" if unit == "SN1" else "golden")
            run.now += 36
            run.write(events.UnitEnded, **who, outcome=Outcome(outcome), duration_s=36)
        book = Book()
        book.add(JournalTail(run.folder.journal).fresh())
    assert book.numbers().first_pass == book.numbers().final == (1, 1)
    assert book.numbers().per_hour == pytest.approx(100)
    assert book.tally() == {"pass": 1}


def test_runs_are_those_of_the_folder_and_their_first_line_may_be_long(tmp_path: Path) -> None:
    """A line of 10 000 units; a link that leads elsewhere; a name that no address can have."""
    units = [f"SN{number:06d}" for number in range(10_000)]
    with SyntheticRun(tmp_path / "runs" / "20261122-171500-ab12", job={"units": units}, batch="w48") as run:
        run.end()
    with SyntheticRun(tmp_path / "elsewhere") as other:
        other.end()
    (tmp_path / "runs" / "latest").symlink_to(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "runs" / "bad-\udcff")
    runs = Runs(tmp_path / "runs")
    (line,) = runs.lines()
    assert line.started is not None
    assert line.started.batch == "w48"
    current = runs.current()
    assert current is not None
    assert current.id == "20261122-171500-ab12"
    assert runs.find("latest") is None
