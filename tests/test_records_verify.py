"""`rig records`: whatever was changed behind the rig's back is found and named; what was not is not."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kept_runs import KeptRun, kept_run
from synthetic_journals import START
from typer.testing import CliRunner, Result

from rig.cli.records import app
from rig.errors import UsageProblem
from rig.records import chain
from rig.records.database import default_url, ingest
from rig.records.events import Noted
from rig.records.journal import Journal, line_of, read_journal
from rig.records.run import RunFolder, list_runs
from rig.records.verify import verify_run, verify_stores


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with logs, backups, a database: nothing was touched."""
    runs = tmp_path_factory.mktemp("pristine")
    kept_run(runs / "r1", "SN1", "SN2")
    kept_run(runs / "r2", "SN3", start=START + timedelta(days=1))
    assert ingest(default_url(runs), list_runs(runs)) == []
    return runs


@pytest.fixture
def runs(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "runs")
    return tmp_path / "runs"


def problems(runs: Path) -> list[str]:
    """Everything that is found, over all runs and the stores."""
    found = [verify_run(run, url=default_url(runs)) for run in list_runs(runs)]
    return [problem for each in [*found, verify_stores(runs)] for problem in each.problems]


def test_what_nobody_touched_is_self_consistent(runs: Path) -> None:
    assert problems(runs) == []
    found = verify_run(RunFolder(runs / "r1"), url=default_url(runs))
    assert (found.verdict, found.artifacts, found.backups, found.purged) == ("self-consistent", 2, 2, 0)
    assert found.in_database == found.lines == len(read_journal(runs / "r1" / "journal.jsonl")[0])
    assert found.head == chain.head(runs / "r1" / "journal.jsonl")
    assert found.remarks == []


# -- tampering, each named -----------------------------------------------------------------------------


def lines_of(runs: Path) -> list[bytes]:
    return (runs / "r1" / "journal.jsonl").read_bytes().splitlines(keepends=True)


def change_lines(runs: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    (runs / "r1" / "journal.jsonl").write_bytes(b"".join(change(lines_of(runs))))


def edit_a_line(runs: Path) -> None:
    change_lines(runs, lambda all_: [*all_[:6], all_[6].replace(b"SN1", b"SN9"), *all_[7:]])


def delete_a_line(runs: Path) -> None:
    change_lines(runs, lambda all_: all_[:6] + all_[7:])


def insert_a_line(runs: Path) -> None:
    change_lines(runs, lambda all_: [*all_[:6], line_of(Noted(text="never said")), *all_[6:]])


def swap_lines(runs: Path) -> None:
    change_lines(runs, lambda all_: [*all_[:6], all_[7], all_[6], *all_[8:]])


def cut_the_end(runs: Path) -> None:
    change_lines(runs, lambda all_: all_[:-3])


def forge_the_rest(runs: Path) -> None:
    """A line edited, and every link after it computed anew: only the database still knows."""

    def forge(all_: list[bytes]) -> list[bytes]:
        made, before = [], chain.START
        for line in all_:
            passed = b'"outcome":"pass","duration_s":30.0'
            body = chain.split(line.rstrip(b"\n"))[0].replace(passed, passed.replace(b"pass", b"fail"))
            written, before = chain.forged(before, body)
            made.append(written)
        return made

    change_lines(runs, forge)


def spoil_a_line(runs: Path) -> None:
    change_lines(runs, lambda all_: [*all_[:6], b"rubbish\n", *all_[6:]])


def edit_a_log(runs: Path) -> None:
    """In an editor that writes a new file."""
    log = runs / "r1" / "units" / "SN1" / "1" / "boot.log"
    log.unlink()
    log.write_bytes(b"all is well")


def remove_a_log(runs: Path) -> None:
    (runs / "r1" / "units" / "SN1" / "1" / "boot.log").unlink()


def stored(runs: Path) -> Path:
    return next(path for path in (runs / "artifacts").rglob("*") if path.is_file() and b"r1 SN1" in path.read_bytes())


def edit_the_stored_log(runs: Path) -> None:
    path = stored(runs)
    path.unlink()
    path.write_bytes(b"all is well")


def remove_the_stored_log(runs: Path) -> None:
    stored(runs).unlink()


def backup_of(runs: Path, unit: str) -> Path:
    return next((runs / "backups" / f"uid-{unit}").glob("*.zst"))


def swap_a_backup(runs: Path) -> None:
    """A sound file, of another board."""
    backup_of(runs, "SN1").write_bytes(backup_of(runs, "SN2").read_bytes())


def damage_a_backup(runs: Path) -> None:
    path = backup_of(runs, "SN1")
    path.write_bytes(path.read_bytes()[:-5])


def remove_a_backup(runs: Path) -> None:
    backup_of(runs, "SN1").unlink()


def mark_another_backup(runs: Path) -> None:
    mark = runs / "backups" / "uid-SN1" / "first"
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"sha256": "0" * 64}))


def sql(statement: str) -> Callable[[Path], None]:
    def run(runs: Path) -> None:
        with sqlite3.connect(runs / "rig.db") as raw:
            raw.execute(statement)
        raw.close()

    return run


def spoil_the_database(runs: Path) -> None:
    (runs / "rig.db").write_bytes(b"x" * 5000)


TAMPERING: dict[str, tuple[Callable[[Path], None], str]] = {
    "journal line edited": (edit_a_line, r"r1/journal.jsonl, line 7 "),
    "journal line deleted": (delete_a_line, r"r1/journal.jsonl, line 7 .*removed"),
    "journal line inserted": (insert_a_line, r"r1/journal.jsonl, line 7 .*put in"),
    "journal lines reordered": (swap_lines, r"r1/journal.jsonl, line 7 .*order"),
    "journal cut at its end": (cut_the_end, r"rig.db knows \d+ lines of this run, its journal has \d+"),
    "journal forged whole": (forge_the_rest, r"unit SN1, attempt 1: outcome is 'pass', by the journal it is 'fail'"),
    "journal line no event": (spoil_a_line, r"r1/journal.jsonl, line 7 is not an event"),
    "log edited": (edit_a_log, r"boot-log of unit SN1, attempt 1 .*boot.log\) was edited"),
    "log removed": (remove_a_log, r"boot-log of unit SN1, attempt 1 .*boot.log\) is missing"),
    "stored log edited": (edit_the_stored_log, r"stored artifact .*artifacts/../[0-9a-f]{64} was edited"),
    "stored log removed": (remove_the_stored_log, r"boot-log of unit SN1, attempt 1 is missing in the store"),
    "backup swapped": (swap_a_backup, r"backup of unit SN1, attempt 1 .* was edited or damaged"),
    "backup damaged": (damage_a_backup, r"backup of unit SN1, attempt 1 .* was edited or damaged"),
    "backup removed": (remove_a_backup, r"backup of unit SN1, attempt 1 .* is missing"),
    "first backup changed": (mark_another_backup, r"uid-SN1/first names a backup that is not there"),
    "attempt changed": (
        sql("update attempts set outcome = 'fail' where unit = 'SN2'"),
        r"rig.db: attempts row unit SN2, attempt 1: outcome is 'fail', by the journal it is 'pass'",
    ),
    "measurement changed": (
        sql("update measurements set number = 0.01 where unit = 'SN2'"),
        r"measurements row line \d+: number is 0.01, by the journal it is 0.07",
    ),
    "attempt deleted": (
        sql("delete from attempts where unit = 'SN1'"),
        r"attempts row unit SN1, attempt 1 was removed",
    ),
    "phase added": (
        sql("insert into phases (run, line, unit, slot, attempt, phase, duration_s) values "
            "('r1', 99999, 'SN1', 'A', 1, 'boot', 1.0)"),
        r"phases row line 99999 was put in",
    ),
    "run changed": (sql("update runs set batch = 'x' where run = 'r1'"), r"runs row run r1: batch is 'x', by the"),
    "run deleted": (sql("delete from runs where run = 'r1'"), r"the row of run r1 was removed"),
    "lines changed": (sql("update runs set lines = 3 where run = 'r1'"), r"row line \d+ was put in"),
    "database no database": (spoil_the_database, r"rig.db cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERING)
def test_tampering_is_found_and_named(runs: Path, what: str) -> None:
    tamper, named = TAMPERING[what]
    tamper(runs)
    found = problems(runs)
    assert any(re.search(named, each) for each in found), found


def test_one_run_by_itself_is_checked_in_the_store_too(runs: Path) -> None:
    edit_the_stored_log(runs)
    assert [each for each in verify_run(RunFolder(runs / "r1")).problems if "stored artifact" in each]
    assert verify_run(RunFolder(runs / "r2")).problems == []


def test_a_run_that_only_the_database_knows(runs: Path) -> None:
    shutil.rmtree(runs / "r2")
    result = rig("verify", "--out", runs)
    assert result.exit_code == 1
    assert "rig.db has run r2, of which there is no journal" in result.output


def test_a_live_run_is_no_tampering(runs: Path) -> None:
    with KeptRun(runs / "r3", start=START + timedelta(days=2)) as run:
        run.unit("SN8")
        ingest(default_url(runs), list_runs(runs))
        run.unit("SN9")
        journal = run.folder.journal
        with journal.open("ab") as file:
            file.write(b'{"kind":')  # a line that is just being written
        found = verify_run(run.folder, url=default_url(runs))
        assert found.problems == []
        assert any("behind" in remark for remark in found.remarks)
        assert any("torn" in remark for remark in found.remarks)


def test_an_older_journal_says_that_nothing_could_be_seen(runs: Path) -> None:
    (runs / "r0").mkdir()
    (runs / "r0" / "journal.jsonl").write_bytes(line_of(Noted(text="x", schema_version=2)))
    found = verify_run(RunFolder(runs / "r0"))
    assert found.problems == []
    assert found.verdict == "unchained"
    assert any("older rig" in remark for remark in found.remarks)
    assert "no chain" in rig("verify", runs / "r0").output


# -- heads ---------------------------------------------------------------------------------------------


def test_a_head_says_whether_it_is_the_same(runs: Path) -> None:
    run = RunFolder(runs / "r1")
    head = chain.head(run.journal)
    assert verify_run(run, head=head).verdict == "same"
    assert verify_run(run, head=f" {head.upper()}\n").verdict == "same"
    other = verify_run(run, head=chain.head(runs / "r2" / "journal.jsonl"))
    assert other.verdict == "other"
    assert other.problems
    with Journal(run.journal) as journal:
        journal.append(Noted(text="rework, after the report was printed"))
    later = verify_run(run, head=head)
    assert (later.verdict, later.problems) == ("continued", [])
    assert "1 line(s) came after it" in later.remarks[-1]
    raw = run.journal.read_bytes()
    run.journal.write_bytes(line_of(Noted(schema_version=2, text="SN9 was good, says a line without a link")) + raw)
    assert verify_run(run, head=head).verdict == "damaged"  # all that the head stands for is there, and more
    for bad in ("", "5f2c", "z" * 64):
        with pytest.raises(UsageProblem, match="64 hexadecimal"):
            verify_run(run, head=bad)


def test_a_head_tells_what_the_chain_alone_cannot(runs: Path) -> None:
    """Cut at its end, or forged whole, a journal agrees with itself."""
    run = RunFolder(runs / "r1")
    head = chain.head(run.journal)
    cut_the_end(runs)
    assert verify_run(run).verdict == "self-consistent"
    assert verify_run(run, head=head).verdict == "other"
    forge_the_rest(runs)
    assert verify_run(run).verdict == "self-consistent"
    assert verify_run(run, head=head).verdict == "other"


# -- the command ---------------------------------------------------------------------------------------


def rig(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_verify_by_command(runs: Path) -> None:
    result = rig("verify", "--out", runs)
    assert result.exit_code == 0
    assert result.output.count("self-consistent") == 3
    assert "--head compares" in result.output
    head = chain.head(runs / "r1" / "journal.jsonl")
    assert "the same: the head is the one that was given" in rig("verify", runs / "r1", "--head", head).output
    assert rig("verify", "r1", "--out", runs, "--head", head).exit_code == 0  # by its name
    assert rig("verify", runs / "r2", "--head", head).exit_code == 1
    assert isinstance(rig("verify", "--out", runs, "--head", head).exception, UsageProblem)
    edit_a_log(runs)
    result = rig("verify", "--out", runs, "--json")
    told = json.loads(result.output)
    assert (result.exit_code, told["good"]) == (1, False)
    assert [each["verdict"] for each in told["checked"]] == ["damaged", "self-consistent", "self-consistent"]


def test_rebuild_by_command(runs: Path) -> None:
    (runs / "rig.db").unlink()
    told = json.loads(rig("rebuild", "--out", runs, "--json").output)
    assert (told["rows"]["runs"], told["rows"]["attempts"], told["rows"]["backups"]) == (2, 3, 3)
    assert rig("verify", "--out", runs).exit_code == 0
    assert isinstance(rig("rebuild", "--out", runs / "none").exception, UsageProblem)


def test_list_and_show_by_command(runs: Path) -> None:
    assert rig("list", "--out", runs).output.splitlines()[-1] == "3 attempt(s)"
    assert rig("list", "--out", runs, "--run", "r2").output.splitlines()[-1] == "1 attempt(s)"
    assert isinstance(rig("list", "--out", runs, "--outcome", "pas").exception, UsageProblem)
    shown = rig("show", "SN1", "--out", runs).output
    assert "r1 SN1 slot A attempt 1 convert: pass" in shown
    assert "boot_current 0.07 A (limits 0.02..0.25): pass" in shown
    assert "units/SN1/1/boot.log" in shown
    told: dict[str, Any] = json.loads(rig("show", "SN1", "--out", runs, "--json").output)
    assert told["attempts"][0]["backup_sha256"]
    assert isinstance(rig("show", "SN7", "--out", runs).exception, UsageProblem)


def test_purge_by_command(runs: Path) -> None:
    would = rig("purge", "--older", "2026-11-23", "--out", runs)
    assert "Would purge 4 kept file(s), 2 other(s), 0 backup(s) of 1 run(s)" in would.output
    assert (runs / "r1" / "units" / "SN1" / "1" / "boot.log").exists()
    done = json.loads(rig("purge", "--older", "2026-11-23", "--yes", "--json", "--out", runs).output)
    assert (done["done"], done["runs"], len(done["artifacts"])) == (True, ["r1"], 4)
    assert not (runs / "r1" / "units" / "SN1" / "1" / "boot.log").exists()
    result = rig("verify", "--out", runs)
    assert result.exit_code == 0
    assert "2 purged" in result.output
    assert rig("purge", "--older", "2020-01-01", "--out", runs).output == "No run is that old.\n"


def test_rework_by_command(runs: Path) -> None:
    said = ("--what", "P24 resoldered", "--who", "Kim", runs / "r1")
    assert rig("rework", "SN1", *said).exit_code == 0
    event = read_journal(runs / "r1" / "journal.jsonl")[0][-1]
    assert (event.kind, event.unit, event.what, event.who) == ("reworked", "SN1", "P24 resoldered", "Kim")
    assert "reworked: SN1: P24 resoldered, by Kim" in rig("show", "SN1", "--out", runs).output
    assert rig("verify", "--out", runs).exit_code == 0
    assert isinstance(rig("rework", "SN7", *said).exception, UsageProblem)
    assert isinstance(rig("rework", "SN1", "--what", " ", "--who", "Kim", runs / "r1").exception, UsageProblem)


def test_rework_of_a_run_that_goes_on_is_the_stations(runs: Path, tmp_path: Path) -> None:
    from rig.line.control import ControlServer

    asked: list[dict[str, Any]] = []
    said = ("--what", "resoldered", "--who", "Kim", runs / "r3")
    with KeptRun(runs / "r3", start=START + timedelta(days=2)) as run:
        run.unit("SN8")
        assert isinstance(rig("rework", "SN8", *said).exception, UsageProblem)
        with ControlServer(tmp_path, lambda command: asked.append(command) or {}) as server:
            (runs / "r3" / "live.json").write_text(json.dumps({"control": str(server.address)}))
            assert rig("rework", "SN8", *said).exit_code == 0
    assert asked == [{"do": "rework", "unit": "SN8", "what": "resoldered", "who": "Kim"}]


def test_help_stays_quick() -> None:
    """The commands' list imports neither SQLAlchemy nor anything else that takes long."""
    modules = "database, follower, lookup, verify, journal"
    script = f"import sys, rig.cli; from rig.records import {modules}; print('sqlalchemy' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout == "False\n"
