"""The database: what it holds, that it is the same however it came to be, and that no run ever suffers from it."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import Any

import pytest
from kept_runs import KeptRun, kept_run
from sim_process import rig_inside
from synthetic_journals import START, SyntheticRun
from waiting import until, wait_until

from rig.errors import UsageProblem
from rig.records import database
from rig.records import follower as follower_module
from rig.records.chain import head
from rig.records.database import (
    DatabaseProblem,
    contents,
    default_url,
    ingest,
    opened,
    read_rows,
    rebuild,
    shown_url,
)
from rig.records.events import Instrument, Noted, Planned, Reworked, RunResumed
from rig.records.follower import Follower
from rig.records.lookup import attempts_of, passed_before, records, unit_record
from rig.records.run import RunFolder, list_runs

Tables = dict[str, list[dict[str, Any]]]


def held(url: str, run: str | None = None) -> Tables:
    with opened(url) as connection:
        return contents(connection, run)


def rebuilt(runs: Path) -> Tables:
    """What a database made from the journals alone holds."""
    url = f"sqlite:///{runs / 'again.db'}"
    assert rebuild(url, list_runs(runs)) == []
    return held(url)


def batch_of_64(path: Path) -> None:
    """All outcomes, retries, rework, a resumed run."""
    rng = random.Random(5)
    instrument = Instrument(name="psu1", identity="RIGOL DP832", serial="DP8C1", cal_due=date(2027, 5, 1))
    with SyntheticRun(path, batch="2026-w48", operator="Kim", instruments=[instrument], profiles={"p": "ab"}) as run:
        for number in range(64):
            unit, slot = f"SN{number:03}", "ABCDEFGH"[number % 8]
            kind = rng.choice(["pass", "pass", "pass", "marginal", "fail", "blocked", "aborted", "unverified"])
            good = kind in ("pass", "marginal")
            told = {} if good else {"code": "no-link", "stop_at": rng.choice(["identify", "write", "boot"])}
            run.attempt(unit, kind, slot=slot, identity=f"uid-{number}", mac=f"c8:47:{number}", written=good, **told)
            if kind == "fail":
                run.write(Reworked, unit=unit, what="resoldered", who="Kim")
                run.attempt(unit, "pass", slot=slot, identity=f"uid-{number}", firmware="OpenBeken")
            if number == 40:
                run.write(RunResumed, run=path.name, command="rig convert --resume", station="station-1")
        run.begin("SN064")  # the journal ends with it under way
        run.end(1)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 65 units, to be copied: a thousand lines take a second to fsync."""
    path = tmp_path_factory.mktemp("big") / "r1"
    batch_of_64(path)
    return path


# -- what it holds -------------------------------------------------------------------------------------


def test_a_record_carries_all_that_it_must(tmp_path: Path) -> None:
    instrument = Instrument(name="psu1", identity="RIGOL DP832", serial="DP8C1", cal_due=date(2027, 5, 1))
    told = {"batch": "w48", "operator": "Kim", "instruments": [instrument], "profiles": {"product ds-121": "ab" * 32}}
    with SyntheticRun(tmp_path / "r1", **told) as run:
        plan = {"image": "QIO.bin", "image_sha256": "c3" * 32, "pieces": [], "note": ""}
        run.attempt("SN1", "fail", code="no-link", sentence="silent", stop_at="identify", current=None)
        run.write(Reworked, unit="SN1", what="P24 resoldered", who="Kim")
        who = run.attempt("SN1", "pass", identity="uid-1", mac="c8:47", written=True, current=0.21)
        run.write(Planned, **who, **plan)
        run.attempt("SN1", "pass")
        run.end()
    url = default_url(tmp_path)
    assert ingest(url, list_runs(tmp_path)) == []
    found = held(url)
    first, row, again = found["attempts"]
    expected = {
        "run": "r1", "unit": "SN1", "attempt": 2, "slot": "A", "task": "convert", "role": "unit", "batch": "w48",
        "product": "ds-121", "station": "station-1", "operator": "Kim", "mac": "c8:47", "identity": "uid-1",
        "outcome": "pass", "code": None, "image": "QIO.bin", "image_sha256": "c3" * 32, "backup_sha256": "5a" * 32,
        "limits_version": "ds-121/3", "tools": {"rig": "0.1.0", "python": "3.11.7"}, "reworked": True,
        "profiles": {"product ds-121": "ab" * 32}, "write_verified": True, "half_written": False,
        "supply_off_confirmed": True, "started": START + timedelta(seconds=30),
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    told_of = {"name": "psu1", "identity": "RIGOL DP832", "serial": "DP8C1", "cal_due": "2027-05-01"}
    assert row["instruments"] == [told_of]
    assert [first[name] for name in ("outcome", "code", "sentence")] == ["fail", "no-link", "silent"]
    assert (first["reworked"], again["reworked"]) == (False, False)
    measured = next(each for each in found["measurements"] if each["attempt"] == 2)
    limits = ("number", "text", "unit_of", "minimum", "maximum", "marginal_maximum", "limits_version", "outcome")
    assert [measured[name] for name in limits] == [0.21, None, "A", 0.02, 0.25, 0.2, "ds-121/3", "marginal"]
    assert found["instruments"][0]["cal_due"] == date(2027, 5, 1)
    assert found["runs"][0]["head"] == head(tmp_path / "r1" / "journal.jsonl")
    rework = next(each for each in found["entries"] if each["kind"] == "reworked")
    assert (rework["unit"], rework["text"], rework["details"]["who"]) == ("SN1", "P24 resoldered", "Kim")
    assert rework["utc"].tzinfo is UTC


def test_what_is_no_number_is_text(tmp_path: Path) -> None:
    from rig.records.events import Measured

    with SyntheticRun(tmp_path / "r1") as run:
        who = run.begin("SN1")
        for value in (1, 0.5, True, "OpenBeken", None):
            run.write(Measured, **who, phase="boot", name="x", value=value)
    ingest(default_url(tmp_path), list_runs(tmp_path))
    rows = held(default_url(tmp_path))["measurements"]
    assert [(row["number"], row["text"]) for row in rows] == [
        (1.0, None), (0.5, None), (None, "true"), (None, "OpenBeken"), (None, None),
    ]  # fmt: skip


def test_a_board_that_is_being_written_has_no_outcome_yet(tmp_path: Path) -> None:
    from rig.records.events import WriteBegun

    with SyntheticRun(tmp_path / "r1") as run:
        run.write(WriteBegun, **run.begin("SN1"), image_sha256="c3" * 32, ranges=[(0, 4096)])
        ingest(default_url(tmp_path), list_runs(tmp_path))
    row = held(default_url(tmp_path))["attempts"][0]
    assert (row["outcome"], row["half_written"], row["write_verified"]) == (None, True, False)


def test_the_database_is_private(tmp_path: Path) -> None:
    kept_run(tmp_path / "r1", "SN1")
    ingest(default_url(tmp_path), list_runs(tmp_path))
    assert stat.S_IMODE((tmp_path / "rig.db").stat().st_mode) == 0o600


# -- the same however it came to be --------------------------------------------------------------------


def test_deleted_and_rebuilt_it_is_equal_for_a_batch_of_64(tmp_path: Path, big: Path) -> None:
    shutil.copytree(big, tmp_path / "r1")
    url = default_url(tmp_path)
    ingest(url, list_runs(tmp_path))
    before = held(url)
    assert len({row["unit"] for row in before["attempts"]}) == 65
    assert {row["outcome"] for row in before["attempts"]} >= {"pass", "marginal", "fail", "blocked", None}
    assert any(row["reworked"] for row in before["attempts"])
    (tmp_path / "rig.db").unlink()
    rebuild(url, list_runs(tmp_path))
    assert held(url) == before
    assert ingest(url, list_runs(tmp_path)) == []
    assert held(url) == before


def test_in_parts_it_is_the_same_as_at_once(tmp_path: Path, big: Path) -> None:
    shutil.copytree(big, tmp_path / "whole" / "r1")
    lines = (tmp_path / "whole" / "r1" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "r1").mkdir()
    journal, url, rng, at = tmp_path / "r1" / "journal.jsonl", default_url(tmp_path), random.Random(3), 0
    while at < len(lines):
        at += rng.choice([1, 2, 40, 150, 300])
        journal.write_bytes(b"".join(lines[:at]) + (lines[at][:20] if at < len(lines) else b""))  # torn just now
        assert ingest(url, [tmp_path / "r1"]) == []
        assert held(url)["runs"][0]["lines"] == min(at, len(lines))
    assert held(url) == rebuilt(tmp_path / "whole")


def test_a_broken_line_is_told_and_what_is_before_it_is_in(tmp_path: Path) -> None:
    kept_run(tmp_path / "r1", "SN1")
    kept_run(tmp_path / "r2", "SN2")
    journal = tmp_path / "r1" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:5], b"rubbish\n", *lines[5:]]))
    remarks = ingest(default_url(tmp_path), list_runs(tmp_path))
    assert len(remarks) == 1
    assert "line 6" in remarks[0]
    assert {row["run"]: row["lines"] for row in held(default_url(tmp_path))["runs"]}["r1"] == 5


def test_rebuilding_drops_what_no_journal_says(tmp_path: Path) -> None:
    kept_run(tmp_path / "r1", "SN1")
    url = default_url(tmp_path)
    ingest(url, list_runs(tmp_path))
    with sqlite3.connect(tmp_path / "rig.db") as raw:
        raw.execute("update attempts set outcome = 'fail'")
        raw.execute("insert into instruments values ('r9', 'psu', '', null, null)")
    raw.close()
    rebuild(url, list_runs(tmp_path))
    assert held(url) == rebuilt(tmp_path)
    assert [each.name for each in tmp_path.glob(".*")] == []


def test_a_damaged_file_is_rebuilt(tmp_path: Path) -> None:
    kept_run(tmp_path / "r1", "SN1")
    url = default_url(tmp_path)
    (tmp_path / "rig.db").write_bytes(b"no database at all" * 100)
    (tmp_path / "rig.db-journal").write_bytes(b"left by a killed writer")
    with pytest.raises(DatabaseProblem, match="not a database"):
        ingest(url, list_runs(tmp_path))
    rebuild(url, list_runs(tmp_path))
    assert len(held(url)["attempts"]) == 1
    assert not (tmp_path / "rig.db-journal").exists()


def test_a_journal_that_lost_lines_is_not_hidden(tmp_path: Path) -> None:
    kept_run(tmp_path / "r1", "SN1", "SN2")
    url, journal = default_url(tmp_path), tmp_path / "r1" / "journal.jsonl"
    ingest(url, list_runs(tmp_path))
    before = held(url)
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-5]))
    remarks = ingest(url, list_runs(tmp_path))
    assert len(remarks) == 1
    assert "rig records verify" in remarks[0]
    assert held(url) == before


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:////proc/none/rig.db", "/proc/none"),
        ("nonsense", "no database's URL"),
        ("postgresql+psycopg://kim:secret@127.0.0.1:1/rig", "127.0.0.1"),
    ],
)
def test_a_database_that_cannot_be_had_is_one_sentence(tmp_path: Path, url: str, says: str) -> None:
    kept_run(tmp_path / "r1", "SN1")
    with pytest.raises((DatabaseProblem, UsageProblem)) as caught:
        ingest(url, list_runs(tmp_path))
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_rigs_tables_are_left_alone(tmp_path: Path) -> None:
    kept_run(tmp_path / "r1", "SN1")
    url = default_url(tmp_path)
    ingest(url, list_runs(tmp_path))
    with sqlite3.connect(tmp_path / "rig.db") as raw:
        raw.execute("update alembic_version set version_num = '0099'")
    raw.close()
    with pytest.raises(DatabaseProblem, match="layout 0099"):
        ingest(url, list_runs(tmp_path))


def test_a_copy_of_a_run_is_taken_once(tmp_path: Path) -> None:
    kept_run(tmp_path / "r1", "SN1")
    (tmp_path / "r2").mkdir()
    (tmp_path / "r2" / "journal.jsonl").write_bytes((tmp_path / "r1" / "journal.jsonl").read_bytes())
    remarks = ingest(default_url(tmp_path), list_runs(tmp_path))
    assert len(remarks) == 1
    assert "copy" in remarks[0]


def test_urls(tmp_path: Path) -> None:
    assert database.url_of(tmp_path) == f"sqlite:///{tmp_path}/rig.db"
    assert database.url_of(tmp_path, "sqlite:///r/x.db", Path("/bench")) == "sqlite:////bench/r/x.db"
    assert database.url_of(tmp_path, "sqlite:////abs/x.db", Path("/bench")) == "sqlite:////abs/x.db"
    assert database.url_of(tmp_path, "postgresql://h/d", Path("/bench")) == "postgresql://h/d"


# -- the follower --------------------------------------------------------------------------------------


@contextlib.contextmanager
def following(run: KeptRun | SyntheticRun, url: str) -> Iterator[tuple[Follower, list[str]]]:
    told: list[str] = []
    with Follower(url, run.folder, told.append, interval_s=0.02) as follower:
        yield follower, told


def test_a_follower_keeps_up_with_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "PATIENCE_S", 60.0)  # this test reads meanwhile, however slowly
    url = default_url(tmp_path)
    with SyntheticRun(tmp_path / "r1") as run, following(run, url) as (follower, told):
        for number in range(5):
            run.attempt(f"SN{number}", "pass")
            follower.poke()
            wait_until(lambda n=number: _units(url) == n + 1, 60, f"unit {number} in the database")
        run.end()
    assert told == []
    assert held(url) == rebuilt(tmp_path)


def _units(url: str) -> int:
    try:
        return len(held(url)["attempts"])
    except DatabaseProblem:
        return 0


def test_a_database_that_is_locked_is_told_once_and_caught_up(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(follower_module, "PATIENCE_S", 0.02)
    url = default_url(tmp_path)
    with SyntheticRun(tmp_path / "r1") as run:
        run.attempt("SN1", "pass")
        ingest(url, list_runs(tmp_path))
        other = sqlite3.connect(tmp_path / "rig.db", isolation_level=None)
        other.execute("begin exclusive")
        with following(run, url) as (follower, told):
            for number in range(3):
                run.attempt(f"SN{number + 2}", "pass")
                follower.poke()
                assert until(lambda: follower.problem)
            other.execute("rollback")
            other.close()
            run.end()
    assert len(told) == 1
    assert "locked" in told[0]
    assert held(url) == rebuilt(tmp_path)


def test_whatever_the_database_raises_is_told_and_no_password_with_it(tmp_path: Path, monkeypatch: Any) -> None:
    def odd(*_: object, **__: object) -> None:
        raise ValueError("a row that it cannot take")

    url, took = default_url(tmp_path), follower_module.bring_up
    monkeypatch.setattr(follower_module, "bring_up", odd)
    with SyntheticRun(tmp_path / "r1") as run, following(run, url) as (follower, told):
        run.attempt("SN1", "pass")
        follower.poke()
        assert until(lambda: follower.problem)
        monkeypatch.setattr(follower_module, "bring_up", took)
        run.end()
    assert "a row that it cannot take" in told[0]
    assert held(url) == rebuilt(tmp_path)
    for secret in ("postgresql+psycopg://rig:hunter2@db/rig", "postgresql://db/rig?user=rig&password=hunter2"):
        assert "hunter2" not in shown_url(secret)
        assert "db/rig" in shown_url(secret)


def test_a_database_deleted_under_a_run_is_made_again(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    with SyntheticRun(tmp_path / "r1") as run, following(run, url) as (follower, _):
        run.attempt("SN1", "pass")
        follower.poke()
        wait_until(lambda: _units(url) == 1, 60, "the first unit in the database")
        (tmp_path / "rig.db").unlink()
        run.attempt("SN2", "pass")
    assert held(url) == rebuilt(tmp_path)


def test_a_line_that_never_came_to_disk_is_taken_back(tmp_path: Path) -> None:
    """The database was ahead: it read a line that a power cut then took from the journal."""
    url, journal = default_url(tmp_path), tmp_path / "r1" / "journal.jsonl"
    with SyntheticRun(tmp_path / "r1") as run:
        run.attempt("SN1", "pass")
        before = journal.read_bytes()
        run.begin("SN2")
    ingest(url, list_runs(tmp_path))
    journal.write_bytes(before)
    from rig.records.journal import Journal

    with Journal(journal) as again:
        for number in range(3):
            again.append(Noted(text=f"another line {number}"))
    told: list[str] = []
    Follower(url, tmp_path / "r1", told.append).close()
    assert len(told) == 1
    assert "made anew" in told[0]
    assert held(url) == rebuilt(tmp_path)


def in_child(work: Callable[[], None]) -> int:
    """Do it in a process of its own, which can be killed; its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def ended(child: int, patience_s: float = 120.0) -> int:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the child did not end")


def test_a_full_disk_under_the_database_stops_no_run(tmp_path: Path) -> None:
    """No file of the child may grow over 48 KiB: the journal stays below, the database does not."""
    url = default_url(tmp_path)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (48 << 10, 48 << 10))
        with SyntheticRun(tmp_path / "r1") as run, following(run, url) as (follower, told):
            for number in range(8):
                run.attempt(f"SN{number}", "pass")
                follower.poke()
            run.end()
            assert until(lambda: follower.problem)
        (tmp_path / "told").write_text("\n".join(told))

    assert ended(in_child(work)) == 0
    told = (tmp_path / "told").read_text().splitlines()
    assert len(told) == 1
    assert "The run goes on" in told[0]
    rows, broken = read_rows(RunFolder(tmp_path / "r1"))
    assert (broken, len(rows.attempts), rows.run["exit_code"]) == (None, 8, 0)
    assert ingest(url, list_runs(tmp_path)) == []  # there is room again
    assert held(url) == rebuilt(tmp_path)


def killed_and_caught_up(runs: Path, after: str, after_s: float, seed: int) -> bool:
    """A writer of journal and database is killed at some moment after the file `after` was begun; what is then taken
    in equals a rebuild. Whether the database had been begun."""
    url = default_url(runs)

    def work() -> None:
        with SyntheticRun(runs / "r1") as run, following(run, url) as (follower, _):
            for number in range(10_000):
                run.attempt(f"SN{number}", "pass", identity=f"uid-{number}")
                follower.poke()

    child = in_child(work)
    assert until(lambda: (runs / after).exists())
    time.sleep(after_s)  # the moment is what is random here
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL
    begun = (runs / "rig.db").exists()
    if not list_runs(runs) or not (runs / "r1" / "journal.jsonl").stat().st_size:
        return begun
    assert ingest(url, list_runs(runs)) == [], f"seed {seed}"
    assert held(url) == rebuilt(runs), f"seed {seed}"
    assert held(url)["runs"][0]["head"] == head(runs / "r1" / "journal.jsonl")
    return begun


def test_a_killed_writer_leaves_a_database_that_is_caught_up(tmp_path: Path) -> None:
    rng = random.Random(11)
    files = ["r1/journal.jsonl", "rig.db"] * 3
    begun = [killed_and_caught_up(tmp_path / str(n), each, rng.uniform(0.0, 0.25), n) for n, each in enumerate(files)]
    assert any(begun)


@pytest.mark.soak
def test_a_hundred_killed_writers(tmp_path: Path) -> None:
    rng = random.Random(12)
    files = ["r1/journal.jsonl", "rig.db"] * 50
    begun = [killed_and_caught_up(tmp_path / str(n), each, rng.uniform(0.0, 0.5), n) for n, each in enumerate(files)]
    assert sum(begun) >= 50


# -- questions -----------------------------------------------------------------------------------------


def two_days(runs: Path) -> None:
    with SyntheticRun(runs / "r1") as run:
        run.attempt("SN1", "pass")
        run.attempt("SN2", "fail", code="no-link", stop_at="identify")
        run.attempt("SN3", "pass")
        run.attempt("SN4", "pass")
        run.attempt("SN5", "marginal", current=0.21)
        run.attempt("SN7", "pass", task="burn-in")
        run.end()
    with SyntheticRun(runs / "r2", start=START + timedelta(days=1)) as run:
        run.attempt("SN2", "pass")
        run.attempt("SN3", "fail", code="no-link", stop_at="identify")
        run.attempt("SN4", "blocked", code="no-current", stop_at="power-on")
        who = run.begin("SN6")
        assert who["attempt"] == 1
        run.end()


@pytest.mark.parametrize("source", ["journals", "database", "half", "damaged"])
def test_passed_before(tmp_path: Path, source: str) -> None:
    two_days(tmp_path)
    url = default_url(tmp_path)
    if source in ("database", "half"):
        ingest(url, list_runs(tmp_path)[: 1 if source == "half" else 2])
    if source == "damaged":
        (tmp_path / "rig.db").write_bytes(b"rubbish" * 1000)
    said = {unit: passed_before(tmp_path, unit, "ds-121") for unit in [f"SN{n}" for n in range(1, 8)]}
    assert said["SN1"] == "SN1 passed in run r1 at station station-1 on 2026-11-22 17:15 UTC (attempt 1, pass)"
    assert "r2 at station station-1 on 2026-11-23" in str(said["SN2"])  # failed, then passed
    assert said["SN3"] is None  # passed, then failed
    assert "r1" in str(said["SN4"])  # a blocked attempt says nothing
    assert "marginal" in str(said["SN5"])
    assert said["SN6"] is None
    assert said["SN7"] is None
    assert passed_before(tmp_path, "SN7", "ds-121", "burn-in") is not None
    assert passed_before(tmp_path, "SN1", "other-product") is None
    if source == "database":
        assert passed_before(url, "SN1", "ds-121") == said["SN1"]
    if source == "half":
        assert passed_before(url, "SN2", "ds-121") is None
        assert passed_before(url, "SN2", "ds-121", runs=tmp_path) == said["SN2"]


def test_what_the_database_lacks_of_a_run_is_asked_of_its_journal(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "r1") as run:
        run.attempt("SN1", "fail", code="no-link", stop_at="identify")
        ingest(default_url(tmp_path), list_runs(tmp_path))
        run.attempt("SN1", "pass")
        assert "attempt 2" in str(passed_before(tmp_path, "SN1", "ds-121"))


@pytest.mark.parametrize("in_database", [False, True])
def test_a_reworked_unit_is_not_passed(tmp_path: Path, in_database: bool) -> None:
    with SyntheticRun(tmp_path / "r1") as run:
        run.attempt("SN1", "pass")
        run.write(Reworked, unit="SN1", what="relay changed", who="Kim")
        run.end()
    if in_database:
        ingest(default_url(tmp_path), list_runs(tmp_path))
    assert passed_before(tmp_path, "SN1", "ds-121") is None


def test_a_golden_unit_has_not_passed(tmp_path: Path) -> None:
    from rig.records.events import Outcome, UnitEnded, UnitStarted

    with SyntheticRun(tmp_path / "r1") as run:
        who = {"unit": "GOLD", "slot": "A", "attempt": 1}
        run.write(UnitStarted, **who, role="golden")
        run.write(UnitEnded, **who, outcome=Outcome.PASS, duration_s=1.0)
    assert passed_before(tmp_path, "GOLD", "ds-121") is None


def test_a_unit_is_found_by_serial_mac_and_identity(tmp_path: Path, big: Path) -> None:
    shutil.copytree(big, tmp_path / "r1")
    kept_run(tmp_path / "r2", "SN001", start=START + timedelta(days=1))
    with records(tmp_path) as (connection, remarks):
        assert remarks == []
        by_serial = unit_record(connection, "SN001")
        assert [row["run"] for row in by_serial["attempts"]][-1] == "r2"
        assert unit_record(connection, "c8:47:1")["attempts"] == [
            row for row in by_serial["attempts"] if row["run"] == "r1"
        ]
        assert len(unit_record(connection, "uid-1")["measurements"]) > 0
        assert by_serial["artifacts"][0]["unit"] == "SN001"
        failed = attempts_of(connection, outcome="fail", batch="2026-w48")
        assert failed
        assert {row["outcome"] for row in failed} == {"fail"}
        with pytest.raises(UsageProblem, match="did you mean"):
            unit_record(connection, "SN0O1")


def test_where_no_database_can_be_written_the_journals_answer(tmp_path: Path) -> None:
    kept_run(tmp_path / "r1", "SN1")
    (tmp_path / "rig.db").mkdir()
    with records(tmp_path) as (connection, remarks):
        assert [row["unit"] for row in attempts_of(connection)] == ["SN1"]
    assert "from the journals" in remarks[0]


def test_the_database_of_a_bench_is_named_by_its_file(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "runs" / "r1") as run:
        run.attempt("SN1", "pass")
        run.end()
    (tmp_path / "line").mkdir()
    bench = tmp_path / "line" / "bench.toml"
    slot = 'supply = "psu"\nchannel = 1\nflash_port = "/dev/x"\nproduct = "ds-121"\n'
    psu = '[supply.psu]\nresource = "TCPIP::127.0.0.1::9::SOCKET"\n'
    bench.write_text(f'[bench]\nname = "b"\n[records]\nurl = "sqlite:///all.db"\n{psu}[slot.A]\n{slot}')
    words = ("--out", "runs", "--bench", "line/bench.toml")
    for command in (("rebuild",), ("list",), ("show", "SN1"), ("verify",)):
        done = rig_inside("records", *command, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "line" / "all.db").exists()
    assert not (tmp_path / "runs" / "rig.db").exists()
    assert "database compared" in done.stdout
    both = rig_inside("records", "list", *words, "--url", "sqlite:///x.db", cwd=tmp_path)
    assert (both.returncode, "one of the two" in both.stderr) == (2, True)
