"""Several stations with one database: no unit twice, none lost, whatever is away meanwhile."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import Postgres, Relay, server
from station_bench import StationBench, fake_units
from synthetic_journals import SyntheticRun
from waiting import until, wait_until

from rig.errors import Exit, UsageProblem
from rig.records import claims, events, share
from rig.records.database import DatabaseProblem, contents, default_url, ingest, opened, rebuild
from rig.records.run import list_runs
from rig.records.stations import standings
from rig.records.verify import verify_run

SHARED = {"shared": True, "already_passed": "refuse"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with server() as made:
        yield made


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_units(monkeypatch)
    for name, seconds in (
        ("line.claims.RETRY_S", 0.3),
        ("line.claims._LATER_S", 0.2),
        ("records.follower.RETRY_S", 0.3),
    ):
        monkeypatch.setattr(f"rig.{name}", seconds)


def station(folder: Path, name: str, url: str, *, slots: int = 1, more: str = "", **told: Any) -> StationBench:
    path = folder / name
    path.mkdir()
    return StationBench(path, slots, records=f'[records]\nurl = "{url}"\nstation = "{name}"\n{more}\n', **told)


def notes(bench: StationBench, level: str = "warning") -> list[str]:
    return [each.text for each in bench.of(events.Noted) if each.level == level]


def dropped(bench: StationBench) -> dict[str, str]:
    return {each.unit: each.sentence for each in bench.of(events.UnitRefused)}


def agree(url: str, *benches: StationBench, conflicts: int = 0) -> None:
    """Every journal is in the database, line by line, and the database is the one that the journals make."""
    for bench in benches:
        found = verify_run(bench.run, url=url)
        assert found.problems == []
        assert found.in_database == found.lines
    fresh = default_url(benches[0].folder / "again")
    remarks = [said for bench in benches for said in ingest(fresh, list_runs(bench.run.path.parent))]
    assert len(remarks) == conflicts
    with opened(url) as one, opened(fresh) as other:
        assert contents(one) == contents(other)


def each_once(benches: list[StationBench], units: list[str]) -> None:
    """Every unit passed in one run, and was begun in no other."""
    begun = Counter(unit for bench in benches for unit in {each.unit for each in bench.of(events.UnitStarted)})
    assert begun == Counter(units)
    passed = [each.unit for bench in benches for each in bench.of(events.UnitEnded) if each.outcome.good]
    assert sorted(passed) == sorted(units)


# -- one list, two stations ----------------------------------------------------------------------------


def test_two_stations_share_a_list_while_the_server_stops(postgres: Postgres, tmp_path: Path) -> None:
    name = postgres.database()
    units = [f"SN{number}" for number in range(1, 17)]
    with Relay(postgres.port) as relay:
        rule = 'offline = "refuse"\nahead = 4'
        one = station(tmp_path, "st-1", postgres.url(name), slots=2, more=rule)
        two = station(tmp_path, "st-2", postgres.url(name, relay.port), more=rule)
        job = {"rules": SHARED, "batch": "w48"}
        two.behave(**{each: ["held"] for each in units})  # else one may be through before the other has begun
        with one.start(one.job(*units, **job)) as first, two.start(two.job(*units, **job)) as second:
            for bench in (one, two):
                two.go(bench.wait(events.UnitStarted).unit)
            for bench in (one, two):
                bench.wait(events.UnitEnded)
            postgres.stop(signal.SIGQUIT)
            ended = len(one.of(events.UnitEnded))
            for unit in units:
                two.go(unit)
            wait_until(lambda: len(one.of(events.UnitEnded)) > ended, 60, "a unit while the server is away")
            postgres.start()
            relay.cut()
            until(lambda: second.code is not None, 0.5)
            relay.mend()
            assert (first.end(), second.end()) == (Exit.GOOD, Exit.GOOD)
    url = postgres.url(name)
    each_once([one, two], units)
    for bench in (one, two):
        assert ingest(url, [bench.run]) == []
        assert bench.of(events.UnitStarted)
    with opened(url) as connection:
        assert claims.conflicts(connection) == []
        assert {row["station"] for row in contents(connection)["runs"]} == {"st-1", "st-2"}
    agree(url, one, two)


def test_without_the_database_a_list_waits_where_the_rule_is_to_refuse(postgres: Postgres, tmp_path: Path) -> None:
    name = postgres.database()
    units = [f"SN{number}" for number in range(1, 9)]
    with Relay(postgres.port) as relay:
        rule = 'offline = "refuse"\nahead = 1'
        one = station(tmp_path, "st-1", postgres.url(name), more=rule)
        two = station(tmp_path, "st-2", postgres.url(name, relay.port), more=rule)
        two.behave(**{each: ["held"] for each in units})
        with one.start(one.job(*units, rules=SHARED)) as first, two.start(two.job(*units, rules=SHARED)) as second:
            two.wait(events.UnitStarted)
            relay.cut()
            for unit in units:
                two.go(unit)
            # what it had taken beforehand it works off; then it waits, and says why
            wait_until(lambda: (two.live.get("why") or "").startswith("no unit may be begun unasked"), 60, "waiting")
            assert len({each.unit for each in two.of(events.UnitStarted)}) <= 3
            relay.mend()
            assert (first.end(), second.end()) == (Exit.GOOD, Exit.GOOD)
    begun = [unit for bench in (one, two) for unit in {each.unit for each in bench.of(events.UnitStarted)}]
    assert len(begun) == len(set(begun))
    assert any("until it is back, no unit is begun that was not asked for" in text for text in notes(two))
    assert any("is back" in text for text in notes(two, "info"))
    assert not any("without asking" in text for text in notes(two))


def test_a_run_that_ends_holds_nothing_that_it_did_not_begin(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    one = station(tmp_path, "st-1", url, more="ahead = 3")
    two = station(tmp_path, "st-2", url)
    two.behave(SN1=["held"])
    units = ["SN1", "SN2", "SN3", "SN4"]
    with one.start(one.job(*units, rules=SHARED)) as running:
        one.wait(events.UnitStarted)
        wait_until(lambda: held_claims(url) == units, 60, "units taken beforehand")
        with two.start(two.job(*units, rules=SHARED)) as other:
            # what the first one took and has not begun is not lost to the second one
            wait_until(lambda: "SN1" in dropped(two), 60, "the unit that is at work there is left to it")
            wait_until(lambda: "taken at station st-1" in (two.live.get("why") or ""), 60, "a station that waits")
            running.station.stop()
            assert running.end() == Exit.ABORTED
            assert other.end() == Exit.GOOD
    assert sorted(unit for unit, _, outcome, _ in two.outcomes() if outcome == "pass") == ["SN2", "SN3", "SN4"]
    assert dropped(two).keys() == {"SN1"}
    assert any("only units that other stations have taken are left" in text for text in notes(two, "info"))
    assert held_claims(url) == []
    again = station(tmp_path, "st-3", url)  # what was aborted there is free
    again.go("SN1")
    assert again.start(again.job(*units, rules=SHARED)).end() == Exit.GOOD
    assert again.order() == ["A:SN1"]


def held_claims(url: str) -> list[str]:
    """Units that are at work, or about to be, by the database."""
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        try:
            return [
                unit for (unit,) in connection.execute("select unit from claims where outcome is null order by 1")
            ]
        except sqlite3.OperationalError:
            return []


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_who_comes_at_the_same_moment_gets_different_units(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        url = default_url(tmp_path)
    else:
        made: Postgres = request.getfixturevalue("postgres")
        url = made.url(made.database())
    units = [f"SN{number:02d}" for number in range(40)]
    got: dict[str, list[str]] = {}
    start = threading.Barrier(4)

    def come(run: str) -> None:
        who, mine, seen = claims.Claimant(run, run, "ds-121", "convert"), list[str](), set[str]()
        start.wait()
        while left := [unit for unit in units if unit not in seen]:
            with opened(url, write=True, patience_s=30) as connection:
                found = claims.take(connection, who, left, most=3)
            seen |= set(found)
            mine += [unit for unit, verdict in found.items() if verdict.ours]
        got[run] = mine

    threads = [threading.Thread(target=come, args=(f"r{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(got) == 4  # nobody ended in an error
    assert sorted(unit for mine in got.values() for unit in mine) == units


def test_a_board_is_at_one_station_whatever_is_done_there(tmp_path: Path) -> None:
    with opened(default_url(tmp_path), write=True) as connection:
        assert claims.take(connection, claims.Claimant("r1", "st-1", "ds-121", "convert"), ["SN1"])["SN1"].ours
        other = claims.take(connection, claims.Claimant("r2", "st-2", "ds-121", "verify"), ["SN1", "SN2"])
        assert (other["SN1"].rule, other["SN2"].ours) == ("in-work", True)
        assert claims.take(connection, claims.Claimant("r3", "st-2", "plug", "convert"), ["SN1"])["SN1"].ours
        assert claims.give_back(connection, "r1", ["SN1", "SN2"]) == 1
        assert claims.take(connection, claims.Claimant("r2", "st-2", "ds-121", "verify"), ["SN1"])["SN1"].ours


# -- lists of one station, and scans -------------------------------------------------------------------


def test_a_list_with_a_unit_that_another_station_has_begins_nothing(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    one = station(tmp_path, "st-1", url)
    one.behave(SN1=["held"])
    with one.start(one.job("SN1", "SN2")) as running:
        one.wait(events.UnitStarted)
        two = station(tmp_path, "st-2", url)
        with pytest.raises(UsageProblem, match=rf"SN2 is taken at station st-1, in run {one.run.id}, since"):
            two.start(two.job("SN2", "SN3")).end()
        assert not two.run.journal.exists() or not two.found
        one.go("SN1")
        assert running.end() == Exit.GOOD
    refuse = {"already_passed": "refuse"}
    with pytest.raises(UsageProblem, match=rf"SN2 passed in run {one.run.id} at station st-1"):
        two.start(two.job("SN3", "SN2", rules=refuse)).end()
    assert held_claims(url) == []
    assert two.start(two.job("SN2", "SN3")).end() == Exit.GOOD  # a retest
    with opened(url) as connection:
        assert claims.conflicts(connection) == []


def test_scans_are_decided_in_the_database(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    one, two = station(tmp_path, "st-1", url, by_hand=True), station(tmp_path, "st-2", url, by_hand=True)
    two.behave(SN1=["held"])
    told = {"scanned": True, "rules": {"already_passed": "refuse"}}
    with one.start(one.job(**told)) as first, two.start(two.job(**told)) as second:
        for bench in (one, two):
            wait_until(lambda bench=bench: bench.live.get("control"), 60, "a station")
        one.tell("scan", text="SN1")
        one.tell_when_there("done")
        one.wait(events.UnitStarted)
        with pytest.raises(UsageProblem, match=r"SN1 is (in work|taken) at station st-1"):
            two.tell("scan", text="SN1")
        two.go("SN1")
        one.wait(events.UnitEnded)

        def said() -> str:
            threading.Event().wait(0.3)  # as fast as a person: a file's other writers get their turn
            with pytest.raises(UsageProblem) as refused:
                two.tell("scan", text="SN1")
            heard.append(str(refused.value))
            return heard[-1]

        heard: list[str] = []
        wait_until(lambda: f"SN1 passed in run {one.run.id} at station st-1" in said(), 60, "the pass is known")
        one.tell("finish")
        two.tell("finish")
        assert (first.end(), second.end()) == (Exit.GOOD, Exit.GOOD)
    assert {each.rule for each in two.of(events.UnitRefused)} == {"in-work", "already-passed"}


def test_running_numbers_name_no_board(tmp_path: Path) -> None:
    for name in ("st-1", "st-2"):
        with SyntheticRun(tmp_path / name, station=name, job={"units": ["1", "2"]}) as run:
            run.attempt("1", "pass")
            run.end()
    url = default_url(tmp_path)
    assert ingest(url, list_runs(tmp_path)) == []
    with opened(url) as connection:
        assert claims.conflicts(connection) == []
        assert connection.exec_driver_sql("select count(*) from claims").scalar() == 0
    assert not claims.is_named({"units": ["1", "2"]})
    assert all(claims.is_named(each) for each in ({"units": ["2", "1"]}, {"scanned": True}, {"units": ["SN1"]}, {}))


def test_a_unit_of_a_station_that_died_is_let_go_by_a_person(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    one = station(tmp_path, "st-1", url)
    one.behave(SN1=["held"])
    process = one.spawn(one.job("SN1"))
    try:
        wait_until(lambda: held_claims(url) == ["SN1"] and one.of(events.UnitStarted), 60, "SN1 at work")
    finally:
        process.kill()
        process.wait()
    one.go("SN1")
    two = station(tmp_path, "st-2", url)
    with pytest.raises(UsageProblem, match=r"SN1 is (in work|taken) at station st-1"):
        two.start(two.job("SN1")).end()
    with opened(url, write=True) as connection:
        assert [row["run"] for row in claims.release(connection, "SN1")] == [one.run.id]
    assert two.start(two.job("SN1")).end() == Exit.GOOD


# -- what happens unasked ------------------------------------------------------------------------------


def test_a_unit_that_both_began_unasked_is_named_with_both_runs(postgres: Postgres, tmp_path: Path) -> None:
    name = postgres.database()
    url = postgres.url(name)
    with Relay(postgres.port) as relay:
        one = station(tmp_path, "st-1", url)
        two = station(tmp_path, "st-2", postgres.url(name, relay.port))
        two.behave(SN1=["held"], SN2=["held"])
        relay.cut()
        with one.start(one.job("SN1")) as first, two.start(two.job("SN1", "SN2")) as second:
            one.wait(events.UnitStarted)
            two.wait(events.UnitStarted)
            two.go("SN1")
            assert first.end() == Exit.GOOD
            relay.mend()
            wait_until(lambda: any("by two stations" in text for text in notes(two)), 60, "the conflict")
            two.go("SN2")
            assert second.end() == Exit.GOOD
    said = next(text for text in notes(two) if "by two stations" in text)
    assert f"run {one.run.id} at station st-1" in said
    assert f"run {two.run.id} at station st-2" in said
    assert "at the same time" in said
    assert any("unit SN1 was begun without asking" in text for text in notes(two))
    with opened(url) as connection:
        assert [each.unit for each in claims.conflicts(connection)] == ["SN1"]
        assert Counter(row["unit"] for row in contents(connection)["attempts"]) == {"SN1": 2, "SN2": 1}
    agree(url, one, two, conflicts=1)


def test_passed_again_though_the_rules_refuse_it(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    job = {"scanned": True, "rules": {"already_passed": "refuse"}}
    with SyntheticRun(tmp_path / "r1", station="st-1") as run:
        run.attempt("SN1", "pass")
        run.attempt("SN2", "pass")
        run.write(events.Reworked, unit="SN2", what="resoldered", who="Kim")
        run.attempt("SN3", "fail")
        run.end()
    with SyntheticRun(tmp_path / "r2", station="st-2", job=job) as run:
        run.now = 1000
        for unit in ("SN1", "SN2", "SN3"):
            run.attempt(unit, "pass")
        run.end()
    (said,) = ingest(url, list_runs(tmp_path))
    assert said.startswith("unit SN1 was worked on by two stations, though it had passed: run r1 at station st-1")
    assert rebuild(url, list_runs(tmp_path)) == [said]


# -- a network that hangs ------------------------------------------------------------------------------


@pytest.mark.soak
def test_a_database_that_hangs_costs_the_line_nothing(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rig.records.database.SILENCE", 1.0)
    name = postgres.database()
    units = [f"SN{number}" for number in range(1, 6)]
    with Relay(postgres.port) as relay:
        one = station(tmp_path, "st-1", postgres.url(name, relay.port))
        one.behave(SN1=["held"], SN5=["held"])
        with one.start(one.job(*units)) as running:
            one.wait(events.UnitStarted)
            relay.hang()
            began = time.monotonic()
            one.go("SN1")
            wait_until(lambda: len(one.of(events.UnitEnded)) == 4, 30, "all units but the last")
            took = time.monotonic() - began
            wait_until(lambda: any("cannot be" in text for text in notes(one)), 30, "a warning")
            relay.mend()
            one.go("SN5")
            assert running.end() == Exit.GOOD
    assert took < 5
    ingest(postgres.url(name), [one.run])
    agree(postgres.url(name), one)


def test_an_answer_that_never_comes_is_not_waited_for(postgres: Postgres) -> None:
    name = postgres.database()
    with Relay(postgres.port) as relay:
        url = postgres.url(name, relay.port)
        with opened(url, write=True):
            pass
        began = time.monotonic()

        def ask() -> None:
            with opened(url, patience_s=0.2) as connection:
                relay.hang()
                connection.exec_driver_sql("select 1")

        with pytest.raises(DatabaseProblem):
            ask()
        assert time.monotonic() - began < 20


# -- the shared folder ---------------------------------------------------------------------------------


def test_kept_files_come_to_the_shared_folder(tmp_path: Path) -> None:
    from rig.records.backups import BackupStore
    from rig.records.store import ArtifactStore

    runs, folder = tmp_path / "runs", tmp_path / "share"
    backup = BackupStore(runs / "backups").keep("uid-1", b"flash" * 1000)
    with SyntheticRun(runs / "r1") as run:
        who = run.begin("SN1")
        place = run.folder.new_unit_dir("SN1", 1)
        (place / "boot.log").write_text("booted")
        sha256 = ArtifactStore(runs / "artifacts").put(place / "boot.log")
        told = {"path": run.folder.relative(place / "boot.log"), "sha256": sha256}
        run.write(events.ArtifactKept, **who, name="boot-log", **told)
        kept = {"path": f"../backups/uid-1/{backup.path.name}", "sha256": backup.sha256, "size": backup.size}
        run.write(events.BackupKept, **who, identity="uid-1", **kept)
    with pytest.raises(FileNotFoundError):
        share.catch_up(runs, folder)
    folder.mkdir()
    assert share.catch_up(runs, folder) == (2, [])
    assert share.catch_up(runs, folder) == (0, [])
    copy = ArtifactStore(folder / "artifacts").path(sha256)
    assert (copy.read_text(), copy.stat().st_mode & 0o777) == ("booted", 0o600)
    own = BackupStore(folder / "backups").first("uid-1")
    assert own is not None
    assert own.content() == b"flash" * 1000
    # what is no longer what it was is not passed on, and is said again and again
    (runs / "r1" / share.MARK).unlink()
    copy.unlink()
    damaged = ArtifactStore(runs / "artifacts").path(sha256)
    damaged.write_text("edited")
    copied, (problem,) = share.catch_up(runs, folder)
    assert (copied, copy.exists()) == (0, False)
    assert "is not what it was when it was kept" in problem
    assert not (runs / "r1" / share.MARK).exists()
    assert [path for path in folder.rglob(".*") if path.is_file()] == []


def test_the_first_backup_of_a_board_is_the_first_stations(tmp_path: Path) -> None:
    from rig.records.backups import BackupStore

    folder = tmp_path / "share"
    folder.mkdir()
    for name, content in (("one", b"factory"), ("two", b"converted")):
        runs = tmp_path / name
        kept = BackupStore(runs / "backups").keep("uid-1", content)
        with SyntheticRun(runs / name) as run:
            who = run.begin("SN1")
            run.write(events.BackupKept, **who, identity="uid-1", path=f"../backups/uid-1/{kept.path.name}",
                      sha256=kept.sha256, size=kept.size)  # fmt: skip
        assert share.catch_up(runs, folder) == (1, [])
    own = BackupStore(folder / "backups").first("uid-1")
    assert own is not None
    assert own.content() == b"factory"
    assert len(list((folder / "backups" / "uid-1").glob("*.zst"))) == 2


def test_a_shared_folder_that_is_away_is_a_warning(tmp_path: Path) -> None:
    one = station(tmp_path, "st-1", default_url(tmp_path), more='artifacts = "../share"')
    assert one.start(one.job("SN1")).end() == Exit.GOOD
    assert [text for text in notes(one) if "shared folder" in text and "not there" in text]


# -- how stations stand --------------------------------------------------------------------------------


def test_how_stations_stand(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    one, two = station(tmp_path, "st-1", url, slots=2), station(tmp_path, "st-2", url)
    two.behave(SN2=["fail no-link"], SN3=["blocked no-current", "pass"], SN9=["held"])
    assert (
        one.start(one.job("SN1", "SN2", "SN3", batch="w48", rules={"quarantine": {"blocked_in_a_row": 9}})).end() == 1
    )
    with two.start(two.job("SN9", batch="w49")) as running:
        two.wait(events.UnitStarted)

        def stand() -> dict[str, Any]:
            with opened(url) as connection:
                return {each.station: each for each in standings(connection)}

        wait_until(lambda: len(stand()) == 2 and stand()["st-2"].counts.get("running"), 60, "both stations")
        found = stand()
        assert (found["st-1"].state, found["st-2"].state) == ("over", "at work")
        assert (found["st-1"].batch, found["st-1"].first) == ("w48", (1, 2))
        assert {name: count for name, count in found["st-1"].counts.items() if count} == {
            "pass": 1, "fail": 1, "blocked": 1,
        }  # fmt: skip
        assert found["st-2"].heard_s is not None
        assert found["st-2"].heard_s < 10
        told = " ".join(the_page(url).split())
        assert "<b>st-1</b></td><td>over</td><td>w48</td>" in told
        assert "1 pass, 1 fail, 1 blocked</td><td>50 % (1 of 2)</td>" in told
        assert "<b>st-2</b></td><td>at work</td><td>w49</td>" in told
        two.go("SN9")
        assert running.end() == Exit.GOOD


def the_page(url: str) -> str:
    """All stations, as the panel shows them."""
    testclient = pytest.importorskip("fastapi.testclient", reason="the extra panel is not installed")
    from rig.panel.access import Access
    from rig.panel.app import make_app

    client = testclient.TestClient(make_app(Path("nowhere"), Access(None, secure=False), url))
    client.base_url = "http://127.0.0.1:8080"
    answer = client.get("/stations")
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def test_the_page_over_all_stations_without_its_database(postgres: Postgres) -> None:
    url = postgres.url(postgres.database())
    with opened(url, write=True):
        pass
    assert "No station is on record there." in the_page(url)
    with Relay(postgres.port) as relay:
        relay.cut()
        told = the_page(postgres.url("rig", relay.port).replace("rig@", "rig:pass-word@"))
    assert "cannot be read" in told
    assert "pass-word" not in told


def test_a_report_over_all_stations_by_station(postgres: Postgres, tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="the extra report is not installed")
    import reports

    url = postgres.url(postgres.database())
    for name, outcome in (("st-1", "pass"), ("st-2", "fail")):
        with SyntheticRun(tmp_path / name / "r", run=f"run-{name}", station=name, batch="w48") as run:
            for number in range(8):
                run.attempt(f"{name}-{number}", outcome if number % 2 else "pass", stop_at="boot", code="no-boot")
            run.end()
        assert ingest(url, list_runs(tmp_path / name)) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        records = reports.read([url])
        page = reports.write_report(records, tmp_path / "report").read_text()
        summary = (tmp_path / "report" / "summary.json").read_text()
    assert "st-1" in page
    assert "st-2" in page
    assert "Station" in page
    assert '"station": "st-2"' in summary
