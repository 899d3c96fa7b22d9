"""Records from journals, from the database through its cache, and from Parquet are the same records."""

from __future__ import annotations

import json
import os
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_journals import START, SyntheticRun

from reports import metrics
from reports.load import load
from reports.tables import (
    ARTIFACT_COLUMNS,
    ATTEMPTS,
    DETAIL_COLUMNS,
    LIMITS,
    PHASES,
    Name,
    Records,
    each_row,
    records_of,
)
from rig.errors import UsageProblem
from rig.records.database import default_url, ingest
from rig.records.events import (
    ArtifactKept,
    Instrument,
    Measured,
    Outcome,
    PhaseEnded,
    Planned,
    Reworked,
    RunResumed,
    SlotOut,
    UnitEnded,
    WriteBegun,
)
from rig.records.journal import Journal
from rig.records.run import list_runs

pytest.importorskip("pyarrow")
from reports import cache, store


def first_run(path: Path) -> None:
    instrument = Instrument(name="psu1", identity="RIGOL DP832")
    told = {"batch": "w48", "operator": "Kim", "instruments": [instrument], "tasks": ["recover", "convert"]}
    with SyntheticRun(path, **told) as run:
        run.attempt("GOLD", "pass", seconds=9, role="golden", task="verify", current=0.2)
        for number in range(12):
            unit, slot = f"SN{number}", "ABC"[number % 3]
            run.attempt(unit, "pass", task="recover", slot=slot, identity=f"uid-{number}", current=None)
            kind = ("pass", "fail", "marginal", "blocked", "aborted", "unverified")[number % 6]
            bad = (
                {}
                if kind in ("pass", "marginal")
                else {"code": "no-link", "stop_at": ("identify", "boot")[number % 2]}
            )
            amps = 0.07 + number / 1000 if number != 3 else float("nan")
            run.attempt(unit, kind, slot=slot, identity=f"uid-{number}", firmware="1.17", sentence="said", **bad,
                        current=amps, written=kind == "pass")  # fmt: skip
        who = run.attempt("SN1", "pass", identity="uid-1", mac="c8:47")
        run.write(Measured, **who, phase="boot", name="link_baud", value=921600, unit_of="Bd")
        run.write(Measured, **who, phase="boot", name="patched", value=True)
        run.write(ArtifactKept, **who, name="boot-log", path="units/SN1/boot.log", sha256="ab" * 32)
        run.write(Planned, **who, image="QIO.bin", image_sha256="c3" * 32, pieces=[], note="", overrides=["a: b"])
        run.write(Reworked, unit="SN2", what="resoldered", who="Kim")
        run.note("it is warm", unit="SN1", level="warning", volts=3.3)
        run.write(SlotOut, slot="B", why="blocked")
        run.write(RunResumed, run=path.name, command="rig convert --resume", station="station-1", operator="Lee")
        run.end(1)


def second_run(path: Path, *, sound: bool = False) -> None:
    with SyntheticRun(path, start=START + timedelta(days=1), boot_id="boot-2", simulated=False) as run:
        run.attempt("SN2", "pass", identity="uid-2")
        run.attempt("OTHER", "pass", identity="uid-1")
        if not sound:
            run.begin("open")
            who = run.begin("half")
            run.write(WriteBegun, **who, image_sha256="aa", ranges=[(0, 4096)])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("year")
    second_run(path / "b-second")
    first_run(path / "c-first")
    with SyntheticRun(path / "a-study", start=START + timedelta(days=2), job={"study": {"trials": 2}}) as run:
        for slot in "ABAB":
            run.attempt("SN9", "pass", slot=slot, task="verify", identity="uid-9", current=0.08)
        run.end()
    assert ingest(default_url(path), list_runs(path)) == []
    return path


@pytest.fixture(scope="module")
def by_source(runs: Path) -> dict[str, Records]:
    found = {"journals": load([runs]), "database": load([default_url(runs)])}
    (runs / "parquet").mkdir()
    store.write(found["journals"], runs / "parquet")
    return found | {"parquet": load([runs / "parquet"])}


def plain(records: Records) -> dict[str, Any]:
    """All of it, as rows that compare."""
    numbers = records.numbers
    orders = range(len(records.attempts))
    found = {
        name: rows(getattr(records, name)) for name in ("runs", "attempts", "phases", "golden", "notes", "artifacts")
    }
    found |= {"details": rows(records.details(list(orders))), "limits": rows(numbers.limits())}
    found |= {str(name): rows(numbers.of(name)) for name in numbers.names()}
    found |= {f"rows of {name}": rows(numbers.rows_of(name)) for name in numbers.all_names()}
    found |= {"texts": rows(numbers.texts(orders)), "all": rows(numbers.all_of(orders))}
    return found | {"names": numbers.names(), "remarks": records.remarks}


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [row._asdict() for row in each_row(table)]


@pytest.mark.parametrize("source", ["database", "parquet"])
def test_records_do_not_depend_on_where_they_were_read(by_source: dict[str, Records], source: str) -> None:
    expected, found = plain(by_source["journals"]), plain(by_source[source])
    assert list(found) == list(expected)
    for name, told in expected.items():
        assert found[name] == told, name
    for name in ("attempts", "phases", "golden"):
        pd.testing.assert_frame_equal(getattr(by_source[source], name), getattr(by_source["journals"], name))
    assert metrics.yields(by_source[source]) == metrics.yields(by_source["journals"])
    pd.testing.assert_frame_equal(metrics.measured(by_source[source]), metrics.measured(by_source["journals"]))


@pytest.mark.parametrize("source", ["journals", "database", "parquet"])
def test_what_the_records_say(by_source: dict[str, Records], source: str) -> None:
    records = by_source[source]
    attempts = records.attempts
    assert list(attempts.columns) == list(ATTEMPTS)
    assert list(attempts["order"]) == list(range(len(attempts)))
    assert list(records.phases.columns) == list(PHASES)
    assert records.phases["order"].is_monotonic_increasing
    by_unit = attempts.groupby("unit")
    one = by_unit.get_group("SN1")["trial"].tolist()  # recovered and converted, then converted again
    assert one[0] == one[1] < one[2]
    assert by_unit.get_group("SN2")["reworked"].tolist() == [False, False, True]  # in the later run
    assert by_unit.get_group("SN1")["board"].iloc[0] == by_unit.get_group("OTHER")["board"].iloc[0]
    assert (by_unit.get_group("open")["code"].iloc[0], by_unit.get_group("half")["outcome"].iloc[0]) == (
        "crashed", "unverified")  # fmt: skip
    assert set(attempts["baud"]) == {0, 921600}
    assert attempts["firmware"].dropna().unique().tolist() == ["1.17"]
    again = attempts.index[(attempts["unit"] == "SN1") & (attempts["attempt"] == 3)][0]
    row = records.details([again]).iloc[0]
    assert list(records.details([again]).columns) == DETAIL_COLUMNS
    assert (row["board_name"], row["mac"], row["overrides"]) == ("uid-1", "c8:47", "a: b")
    assert row["folder"].endswith("c-first/units/SN1/3")
    assert records.artifacts[ARTIFACT_COLUMNS]["name"].tolist() == ["boot-log"]
    said = [note.text for note in each_row(records.notes)]
    assert said == ["Reworked by Kim: resoldered", "it is warm", "Slot B is out of use: blocked",
                    "The run was taken up again by Lee."]  # fmt: skip
    study = attempts[attempts["study"]]
    assert (len(study), study["counted"].any(), study["good"].all()) == (4, False, True)
    current = next(
        name for name in records.numbers.names() if name.name == "boot_current" and name.step == "verify boot"
    )
    assert records.numbers.of(current)["order"].tolist() == study["order"].tolist()
    assert metrics.yields(records).boards == 14  # of 12 SN and two that were left open; none of the study
    measured = records.numbers.of(Name("boot", "boot", "boot_current", "A"))
    assert int(measured["value"].isna().sum()) == 1
    assert records.numbers.limits()[LIMITS].iloc[0].tolist()[:2] == [0.02, 0.25]
    texts = records.numbers.texts(range(len(attempts)))
    assert set(texts["name"]) == {"firmware", "patched"}
    assert {row.value for row in each_row(records.numbers.all_of([again])) if row.name == "patched"} == {True}


@pytest.mark.parametrize("source", ["database", "parquet"])
def test_rows_of_some_attempts_are_the_same_out_of_the_files_and_once_read(
    by_source: dict[str, Records], runs: Path, source: str
) -> None:
    fresh = load([runs / "parquet"] if source == "parquet" else [default_url(runs)])
    orders = [3, 0, len(fresh.attempts) - 1]
    before = fresh.numbers.all_of(orders)
    assert set(before["order"]) <= set(orders)
    assert len(before)
    for name in fresh.numbers.names():
        fresh.numbers.of(name)
    pd.testing.assert_frame_equal(fresh.numbers.all_of(orders), before)
    pd.testing.assert_frame_equal(by_source["journals"].numbers.all_of(orders), before)


def test_a_part_of_the_records(by_source: dict[str, Records]) -> None:
    for records in by_source.values():
        part = records.part(records.attempts["run"] == "b-second")
        assert list(part.attempts["unit"]) == ["SN2", "OTHER", "open", "half"]
        assert list(part.attempts["order"]) == [0, 1, 2, 3]
        assert list(part.runs["run"]) == ["b-second"]
        assert set(part.phases["order"]) == {0, 1}
        assert [len(part.numbers.of(name)) for name in part.numbers.names()] == [2]
        assert list(part.details([1])["board_name"]) == ["uid-1"]
        assert set(part.numbers.all_of([1])["order"]) == {1}
        whole = metrics.yields_by(records, "run")
        assert whole["b-second"] == metrics.yields(part)


def lines(folder: Path) -> dict[str, set[str]]:
    return {each.name: set(each.runs) for each in cache._manifest(folder)}


def test_the_cache_follows_the_database_and_nothing_more(tmp_path: Path) -> None:
    second_run(tmp_path / "r1", sound=True)
    url = default_url(tmp_path)
    ingest(url, list_runs(tmp_path))
    assert len(load([url]).attempts) == 2
    folder = tmp_path / "rig.db.cache"
    before = lines(folder)
    assert len(load([url]).attempts) == 2
    assert lines(folder) == before  # nothing was read twice
    first_run(tmp_path / "r2")
    ingest(url, list_runs(tmp_path))
    assert len(load([url]).attempts) == 27
    after = lines(folder)
    assert before.items() <= after.items()  # r1 never ended: its part is its own
    assert sorted(map(sorted, after.values())) == [["r1"], ["r2"]]
    with Journal(tmp_path / "r2" / "journal.jsonl") as journal:
        journal.append(Reworked(unit="SN3", utc=START + timedelta(hours=3), what="P24", who="Kim"))
    ingest(url, list_runs(tmp_path))
    assert "Reworked by Kim: P24" in set(load([url]).notes["text"])
    changed = lines(folder)
    assert before.items() <= changed.items()
    assert len(changed) == 2
    with sqlite3.connect(tmp_path / "rig.db") as raw:  # as after `rig records rebuild` without that run
        for table in ("runs", "attempts", "phases", "measurements"):
            raw.execute(f"delete from {table} where run = 'r2'")
    raw.close()
    assert set(load([url]).attempts["run"]) == {"r1"}
    plain(load([url]))


@pytest.mark.parametrize("damage", ["manifest", "manifest torn", "part", "layout", "all"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: str) -> None:
    second_run(tmp_path / "r1")
    url = default_url(tmp_path)
    ingest(url, list_runs(tmp_path))
    expected = plain(load([url]))
    folder = tmp_path / "rig.db.cache"
    manifest = folder / "manifest.json"
    if damage == "manifest":
        manifest.unlink()
    elif damage == "manifest torn":
        manifest.write_bytes(manifest.read_bytes()[:-9])
    elif damage == "layout":
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"layout": 0}))
    else:
        for path in [*folder.glob("part-*/*")]:
            path.unlink()
    assert plain(load([url])) == expected
    assert manifest.stat().st_mode & 0o077 == 0 or folder.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_beside_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "runs").mkdir(mode=0o500)
    assert cache.place_of(default_url(tmp_path / "runs")).is_relative_to(tmp_path / "home")


def test_clocks_that_jump_give_no_duration(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        run.attempt("1", "pass", seconds=20)
        who = run.begin("2")
        run.now -= 3600  # the clock was set back, the monotonic one too: no clock of a real machine does that
        run.write(PhaseEnded, **who, phase="boot", outcome=Outcome.PASS, duration_s=-3600.0)
        run.write(UnitEnded, **who, outcome=Outcome.PASS, duration_s=-3600.0)
        run.now += 86400 * 400
        run.attempt("3", "pass", seconds=40)
        run.end()
    ingest(default_url(tmp_path), list_runs(tmp_path))
    for records in (load([tmp_path]), load([default_url(tmp_path)])):
        found = metrics.cycle_times(records)
        assert (found["n"], found["fastest"], found["slowest"]) == (2, 20, 40)
        assert records.attempts["duration_s"].isna().tolist() == [False, True, False]
        times = metrics.step_times(records).set_index("phase")
        assert (times.loc["boot", "n"], times.loc["boot", "fastest"]) == (2, 4.0)
        assert metrics.yields(records).final.n == 3
        assert metrics.units_per_hour(records)


def test_an_empty_run_and_one_of_an_older_schema(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "empty") as run:
        run.end()
    old = tmp_path / "old"
    with SyntheticRun(old, start=START + timedelta(days=1)) as run:
        run.attempt("1", "pass", identity="uid-1")
        run.end()
    journal = old / "journal.jsonl"
    kept = [json.loads(line) for line in journal.read_text().splitlines()]
    for event in kept:  # schema 1 knew neither tasks, roles, jobs nor the chain
        for name in ("chain", "task", "role", "job", "tasks", "instruments", "profiles", "operator", "batch"):
            event.pop(name, None)
        event["schema_version"] = 1
    journal.write_text("".join(json.dumps(event) + "\n" for event in kept))
    ingest(default_url(tmp_path), list_runs(tmp_path))
    journals, database = load([tmp_path]), load([default_url(tmp_path)])
    assert plain(database) == plain(journals)
    assert list(journals.attempts["task"]) == ["convert"]
    assert journals.runs["head"].tolist()[1] == "0" * 64
    (tmp_path / "out").mkdir()
    for folder in (tmp_path / "empty", tmp_path):
        store.write(load([folder]), tmp_path / "out")
        assert plain(load([tmp_path / "out"])) == plain(load([folder]))


def test_records_of_a_run_that_goes_on(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        run.attempt("1", "pass")
        run.begin("2")
        run.begin("3")
        run.begin("3")
        ingest(default_url(tmp_path), list_runs(tmp_path))
        found = load([default_url(tmp_path)])
        assert list(found.attempts["outcome"]) == ["pass", "running", "blocked", "running"]
        assert list(load([tmp_path]).attempts["outcome"]) == list(found.attempts["outcome"])
    assert metrics.yields(load([default_url(tmp_path)])).running == 0  # the same cache, the run no longer alive


def test_synthetic_records_need_few_columns() -> None:
    records = records_of({"outcome": np.array(["pass", "fail", "blocked"]), "slot": ["A", "B", "A"]})
    found = metrics.yields(records)
    assert (found.first_pass.good, found.first_pass.n, found.blocked_attempts) == (1, 2, 1)
    assert metrics.measured(records).empty
    assert metrics.yields_by(records, "slot")["B"].failed == 1


@pytest.mark.parametrize("missing", ["attempts", "phases", "measurements", "torn"])
def test_parquet_that_is_not_whole_is_one_sentence(
    by_source: dict[str, Records], tmp_path: Path, missing: str
) -> None:
    store.write(by_source["journals"], tmp_path)
    if missing == "torn":
        path = tmp_path / "phases.parquet"
        path.write_bytes(path.read_bytes()[:-20])
    else:
        (tmp_path / f"{missing}.parquet").unlink()
    with pytest.raises(UsageProblem) as raised:
        load([tmp_path])
    assert "\n" not in str(raised.value)


def test_unlike_sources_are_not_mixed(runs: Path) -> None:
    with pytest.raises(UsageProblem, match="or of one database"):
        load([runs, default_url(runs)])
