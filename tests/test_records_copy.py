"""Copies of the records: alike while a batch runs, cut off, on a full disk, tampered with; and their way back."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kept_runs import KeptRun, kept_run
from line_crashes import small_disk
from typer.testing import CliRunner, Result

from rig.cli.records import app
from rig.errors import Exit, UsageProblem
from rig.records import copy, events, manifest, tree
from rig.records.database import contents, default_url, opened, rebuild
from rig.records.events import Noted
from rig.records.journal import Journal, read_journal
from rig.records.manifest import CopyProblem, check
from rig.records.purge import find, moment, purge
from rig.records.run import RunFolder, list_runs
from rig.records.verify import verify_run, verify_stores
from tests.station_bench import StationBench, fake_units
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
LONG_AGO_S = 1_700_000_000


def settled(runs: Path) -> None:
    """As files are that nobody has touched for a while."""
    for path in runs.rglob("*"):
        os.utime(path, (LONG_AGO_S, LONG_AGO_S), follow_symlinks=False)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("pristine") / "runs"
    kept_run(runs / "r1", "SN1", "blocks")  # a unit may be called anything
    kept_run(runs / "r2", "SN3")
    (runs / "flash-writes.jsonl").write_text('{"id": 1}\n{"ended": 1}\n')
    (runs / "flash-writes.jsonl").chmod(0o600)
    for derived in ("rig.db", "rig.db-journal", "r1/live.json", "r1/share.json"):
        (runs / derived).write_text("derived")
    (runs / "blocks" / "0+10000").mkdir(parents=True)
    (runs / "blocks" / "0+10000" / "x.bin.zst").write_text("derived")
    (runs / "r1" / ".half.4711").write_text("just being written")
    settled(runs)
    return runs


@pytest.fixture
def runs(pristine: Path, tmp_path: Path) -> Path:
    """Alike, names that are one file too."""
    subprocess.run(["cp", "-a", pristine, tmp_path / "runs"], check=True)
    return tmp_path / "runs"


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "copies"


def rig(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def problems(runs: Path) -> list[str]:
    found = [*(verify_run(run) for run in list_runs(runs)), verify_stores(runs)]
    return [problem for each in found for problem in each.problems]


def content(runs: Path) -> dict[str, tuple[int, bytes | None, int]]:
    """Everything that counts, by path: rights, content, when it was changed."""
    found = {}
    for path in sorted(runs.rglob("*")):
        name, told = path.relative_to(runs).as_posix(), path.stat()
        if (
            name.startswith(("rig.db", "blocks"))
            or path.name in ("live.json", "share.json")
            or path.name.startswith(".")
        ):
            continue
        is_file = path.is_file()
        found[name] = (stat.S_IMODE(told.st_mode), path.read_bytes() if is_file else None,
                       told.st_mtime_ns if is_file else 0)  # fmt: skip
    return found


def left(to: Path) -> list[str]:
    """What stands in a folder of copies."""
    return sorted(path.name for path in to.iterdir() if path.name != ".lock")


# -- there and back ----------------------------------------------------------------------------------------


def test_a_copy_has_all_that_cannot_be_made_again_and_comes_back_alike(runs: Path, to: Path, tmp_path: Path) -> None:
    before = content(runs)
    made = copy.backup(runs, to)
    assert (made.problems, made.runs) == ([], 2)
    assert content(made.path / "runs") == before
    assert content(runs) == before
    names = {path.name for path in made.path.rglob("*")}
    assert not names & {"rig.db", "rig.db-journal", "live.json", "share.json", "0+10000", ".half.4711"}
    assert (made.path / "runs" / "r1" / "units" / "blocks").is_dir()
    one, two = (made.path / "runs" / name for name in ("r1/units/SN1/1/boot.log", "artifacts"))
    assert any(os.path.samefile(one, each) for each in two.glob("*/*")), "one file with two names"
    assert problems(made.path / "runs") == []
    again = tmp_path / "again" / "runs"
    result = rig("restore", "--from", to, "--out", again, "--sum", made.sum)
    assert result.exit_code == 0, result.output
    assert "everything is as it was recorded" in result.output
    assert content(again) == before
    with opened(default_url(again)) as restored:
        found = contents(restored)
    (runs / "rig.db").unlink()
    (runs / "rig.db-journal").unlink()
    rebuild(default_url(runs), list_runs(runs))
    with opened(default_url(runs)) as theirs:
        assert found == contents(theirs)
    assert len(found["attempts"]) == 3


def test_what_holds_passwords_is_nobody_elses(runs: Path, to: Path) -> None:
    was = os.umask(0)
    try:
        made = copy.backup(runs, to)
        copy.restore(made.path, to.parent / "again")
    finally:
        os.umask(was)
    for path in (to, made.path, made.path / "runs" / "artifacts", to.parent / "again" / "backups"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for name in ("r1/journal.jsonl", "flash-writes.jsonl"):
        assert stat.S_IMODE((made.path / "runs" / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((to.parent / "again" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((made.path / "manifest.jsonl").stat().st_mode) == 0o600


def test_a_second_copy_costs_what_is_new(runs: Path, to: Path) -> None:
    first = copy.backup(runs, to)
    log = runs / "r2" / "units" / "SN3" / "1" / "power.csv"
    log.write_text("mono_ns,volts,amps,mode\n1,3.3,0.1,cv\n")
    kept_run(runs / "r3", "SN4")
    second = copy.backup(runs, to)
    assert first.path != second.path
    new = content(runs)
    assert content(second.path / "runs") == new
    assert content(first.path / "runs") != new
    assert 0 < second.new < first.new
    same = "r1/units/SN1/1/boot.log"
    assert os.path.samefile(first.path / "runs" / same, second.path / "runs" / same)
    assert os.path.samefile(first.path / "runs/r1/journal.jsonl", second.path / "runs/r1/journal.jsonl")
    shutil.rmtree(first.path)
    assert check(second.path) == []  # each copy is whole by itself


def test_a_file_that_may_have_changed_within_a_tick_is_copied_again(
    runs: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same size, with the same time stamp."""
    monkeypatch.setattr(tree, "_RACY_NS", 60_000_000_000)
    path = runs / "r1" / "units" / "SN1" / "1" / "power.csv"
    path.write_text("a" * 24)
    at = path.stat().st_mtime_ns
    copy.backup(runs, to)
    path.write_text("b" * 24)
    os.utime(path, ns=(at, at))
    made = copy.backup(runs, to)
    assert (made.path / "runs" / "r1/units/SN1/1/power.csv").read_text() == "b" * 24


def test_so_many_copies_stay(runs: Path, to: Path) -> None:
    made = [copy.backup(runs, to) for _ in range(3)]
    last = copy.backup(runs, to, keep=2)
    assert last.gone == [each.path.name for each in made[:2]]
    assert left(to) == [made[2].path.name, last.path.name]
    assert copy.find_copy(to) == last.path
    assert check(last.path) == []


# -- while a batch runs ------------------------------------------------------------------------------------


def test_copies_taken_while_a_batch_runs_are_consistent(runs: Path, to: Path) -> None:
    over = threading.Event()

    def grown() -> int:
        journal = runs / "r9" / "journal.jsonl"
        return journal.stat().st_size if journal.exists() else 0

    def work() -> None:
        with KeptRun(runs / "r9") as run:
            number = 0
            while not over.is_set():
                number += 1
                run.unit(f"SN9{number}")
            run.end()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        made, size = [], 0
        for _ in range(5):
            wait_until(lambda: grown() > size, 60, "the batch going on")  # noqa: B023
            size = grown()
            made.append(copy.backup(runs, to))
    finally:
        over.set()
        worker.join()
    made.append(copy.backup(runs, to))
    lengths = []
    for each in made:
        assert each.problems == []
        assert check(each.path) == []
        assert problems(each.path / "runs") == []
        journal = each.path / "runs" / "r9" / "journal.jsonl"
        lengths.append(len(read_journal(journal)[0]) if journal.exists() else 0)
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 2, "the batch went on meanwhile"


def test_what_ends_after_its_journal_was_copied_hurts_nothing(
    runs: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = KeptRun(runs / "r5")
    run.unit("SN51")
    real: Callable[..., Any] = tree.Tree._any

    def meanwhile(self: tree.Tree, name: str) -> None:
        if name == "artifacts":
            run.unit("SN52")
        real(self, name)

    monkeypatch.setattr(tree.Tree, "_any", meanwhile)
    made = copy.backup(runs, to)
    run.end()
    run.journal.close()
    assert "SN52" in run.folder.journal.read_text()
    assert "SN52" not in (made.path / "runs" / "r5" / "journal.jsonl").read_text()
    assert problems(made.path / "runs") == []


def test_a_journal_that_a_crash_tore_goes_on_after_it_was_copied(runs: Path, to: Path) -> None:
    path = runs / "r1" / "journal.jsonl"
    whole = path.read_bytes()
    for torn in (b'{"kind":"no', b'{"kind":"no\n'):
        path.write_bytes(whole + torn)
        made = copy.backup(runs, to)
        assert made.problems == []
        assert (made.path / "runs" / "r1" / "journal.jsonl").read_bytes() == whole
    with Journal(path) as journal:
        journal.append(Noted(text="the run goes on"))
    made = copy.backup(runs, to)
    assert made.problems == []
    assert problems(made.path / "runs") == []


def test_evidence_that_is_purged_meanwhile_has_its_tombstone_in_the_copy(
    runs: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = tree.Tree._listed

    def meanwhile(self: tree.Tree, name: str) -> list[str]:
        found: list[str] = real(self, name)
        if name == "r1/units/SN1/1":
            assert "boot.log" in found
            purge(find(runs, moment("0")), "a test")
        return found

    monkeypatch.setattr(tree.Tree, "_listed", meanwhile)
    made = copy.backup(runs, to)  # a tombstone may get the inode of what it is the stone of
    assert made.problems == []
    assert not (made.path / "runs" / "r1/units/SN1/1/boot.log").exists()
    assert (made.path / "runs" / "r1/units/SN1/1/boot.log.purged").exists()
    assert problems(made.path / "runs") == []


def test_a_run_that_was_put_back_is_gone_on_with(tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_units(monkeypatch)
    bench = StationBench(tmp_path)
    bench.behave(**{"2": ["held"]})
    job = bench.job("1", "2")
    with bench.start(job) as run:
        bench.wait(events.UnitStarted, unit="2")
        made = copy.backup(tmp_path / "runs", to)  # then the disk is gone
        run.station.stop()
        run.end()
    copy.restore(made.path, tmp_path / "again")
    bench.run = RunFolder(tmp_path / "again" / bench.run.id)
    bench.behave()
    assert bench.start(job, resume=True).end() is Exit.GOOD
    assert bench.outcomes() == [("1", 1, "pass", None), ("2", 1, "blocked", "crashed"), ("2", 2, "pass", None)]
    assert verify_run(bench.run).problems == []


# -- cut off, full, in the way ---------------------------------------------------------------------------------


def test_a_copy_that_is_killed_leaves_the_earlier_ones_and_the_next_one_is_whole(runs: Path, to: Path) -> None:
    first = copy.backup(runs, to)
    kept_run(runs / "r4", "SN7", "SN8")
    killed = (
        "import os, signal, sys; from pathlib import Path; from rig.records import copy, tree\n"
        "real, left = tree.Tree._copied, [2]\n"
        "def copied(self, entry, to):\n"
        "    left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(self, entry, to)\n"
        "tree.Tree._copied = copied\n"
        "copy.backup(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    done = subprocess.run([sys.executable, "-c", killed, runs, to], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert any(name.startswith(".partial-") for name in left(to))
    assert copy.copies(to) == [first.path]
    assert check(first.path) == []
    made = copy.backup(runs, to)
    assert left(to) == [first.path.name, made.path.name]
    assert content(made.path / "runs") == content(runs)


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk that can be filled needs root")
def test_a_full_disk_costs_the_new_copy_and_no_other(runs: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "1m"):
        to = disk / "copies"
        first = copy.backup(runs, to)
        with KeptRun(runs / "r6") as run:
            run.unit("SN6", log=secrets.token_bytes(2_000_000))
            run.end()
        result = rig("backup", "--to", to, "--out", runs, "--keep", 1)
        assert result.exit_code == 1
        assert isinstance(result.exception, CopyProblem)
        assert "no space left on device" in str(result.exception)
        assert left(to) == [first.path.name]
        assert check(first.path) == []
        with pytest.raises(CopyProblem, match="no space left"):
            copy.restore(copy.backup(runs, tmp_path / "elsewhere").path, disk / "runs")
        assert sorted(path.name for path in disk.iterdir()) == ["copies"]


def test_a_disk_that_keeps_something_else_than_was_written_is_found(
    runs: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = copy._settle

    def rots(folder: Path) -> None:
        real(folder)
        path = next(folder.rglob("r2/**/power.csv"))
        path.write_bytes(path.read_bytes()[:-1] + b"\0")

    monkeypatch.setattr(copy, "_settle", rots)
    with pytest.raises(CopyProblem, match=r"does not read back: .*power\.csv was edited or damaged"):
        copy.backup(runs, to)
    assert left(to) == []


def test_a_copy_that_makes_no_sense_is_refused(runs: Path, to: Path) -> None:
    for where in (runs, runs / "copies", runs.parent):
        with pytest.raises(UsageProblem, match="one inside the other"):
            copy.backup(runs, where)
    with pytest.raises(UsageProblem, match="There is no run"):
        copy.backup(runs.parent / "nothing", to)
    (runs.parent / "file").touch()
    with pytest.raises(UsageProblem, match="not a folder"):
        copy.backup(runs, runs.parent / "file")
    with pytest.raises(UsageProblem, match="no copy of records"):
        copy.find_copy(runs.parent)
    made = copy.backup(runs, to)
    with copy._alone(to), pytest.raises(UsageProblem, match="another copy"):
        copy.backup(runs, to)
    assert left(to) == [made.path.name]


def test_nothing_is_ever_overwritten(runs: Path, to: Path) -> None:
    made, before = copy.backup(runs, to), content(runs)
    assert isinstance(rig("restore", "--from", to, "--out", runs).exception, UsageProblem)
    assert content(runs) == before
    (to.parent / "empty").mkdir()
    copy.restore(made.path, to.parent / "empty")
    assert content(to.parent / "empty") == before


def test_what_cannot_be_copied_is_named_and_all_else_is_copied(runs: Path, to: Path) -> None:
    (runs / "r1" / "units" / "SN1" / "1" / "link.log").symlink_to("boot.log")
    (runs / "backups").rename(runs.parent / "big-disk")
    (runs / "backups").symlink_to(runs.parent / "big-disk")
    result = rig("backup", "--to", to, "--out", runs, "--keep", 1, "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert [problem for problem in told["problems"] if "link.log is neither a file nor a folder" in problem]
    assert len(told["problems"]) == 1
    assert problems(Path(told["path"]) / "runs") == []


# -- tampered with ---------------------------------------------------------------------------------------------


def edit_a_file(made: Path) -> None:
    path = made / "runs" / "r1" / "units" / "SN1" / "1" / "power.csv"
    path.write_text(path.read_text().replace("volts", "VOLTS"))


def edit_a_journal(made: Path) -> None:
    path = made / "runs" / "r1" / "journal.jsonl"
    path.write_text(path.read_text().replace('"fail"', '"pass"').replace("SN1", "SN9", 1))


def remove_a_file(made: Path) -> None:
    next((made / "runs" / "backups").glob("*/*.zst")).unlink()


def put_a_file_in(made: Path) -> None:
    (made / "runs" / "r1" / "more.log").touch()


def put_a_link_in(made: Path) -> None:
    path = made / "runs" / "r1" / "journal.jsonl"
    path.rename(made / "journal")
    path.symlink_to(made / "journal")


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (edit_a_file, r"power\.csv was edited or damaged"),
        (edit_a_journal, r"journal\.jsonl was edited or damaged"),
        (remove_a_file, r"\.bin\.zst is missing"),
        (put_a_file_in, r"more\.log was put in"),
        (put_a_link_in, r"journal\.jsonl is no file any more"),
    ],
)
def test_a_copy_that_was_tampered_with_is_named_and_not_put_back(
    tamper: Callable[[Path], None], named: str, runs: Path, to: Path
) -> None:
    made = copy.backup(runs, to)
    tamper(made.path)
    again = to.parent / "again"
    result = rig("restore", "--from", to, "--out", again)
    assert result.exit_code == 1
    assert "NOT AS COPIED" in result.output
    assert "NOT put back" in result.output
    (found,) = check(made.path)
    assert re.search(named, found)
    assert not again.exists()
    assert rig("restore", "--from", to, "--check").exit_code == 1


def test_a_damaged_copy_is_put_back_when_that_is_asked_for(runs: Path, to: Path) -> None:
    remove_a_file(copy.backup(runs, to).path)
    result = rig("restore", "--from", to, "--out", to.parent / "again", "--damaged")
    assert result.exit_code == 1
    assert "is back in" in result.output
    assert "NOT AS RECORDED" in result.output
    assert (to.parent / "again" / "r1" / "journal.jsonl").exists()


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("r1/journal", "../../journal"),
        lambda text: text.replace("r1/journal", "/etc/journal"),
        lambda text: "\n".join(text.splitlines()[:-1]),
        lambda text: text.replace('"sha256"', '"sha257"'),
        lambda text: text[:-30],
        lambda text: "",
    ],
)
def test_a_manifest_that_was_damaged_is_said_to_be(edit: Callable[[str], str], runs: Path, to: Path) -> None:
    made = copy.backup(runs, to)
    path = made.path / manifest.NAME
    path.write_text(edit(path.read_text()))
    result = rig("restore", "--from", made.path, "--out", to.parent / "again")
    assert result.exit_code == 1
    assert "damaged or was edited" in str(result.exception)
    assert not (to.parent / "again").exists()


def test_who_wrote_the_sum_down_sees_an_edit_of_copy_and_manifest(runs: Path, to: Path) -> None:
    made = copy.backup(runs, to)
    path = made.path / "runs" / "r1" / "units" / "SN1" / "1" / "power.csv"
    edit_a_file(made.path)
    listed = manifest.read_manifest(made.path)
    name = "r1/units/SN1/1/power.csv"
    listed.entries[name] = replace(listed.entries[name], sha256=manifest.digest_from_disk(path))
    listed.write(made.path)
    assert check(made.path) == []
    assert "not the one that was given" in check(made.path, wanted=made.sum)[0]
    assert rig("restore", "--from", to, "--check", "--sum", made.sum).exit_code == 1


def test_a_copy_of_another_format_is_refused(runs: Path, to: Path) -> None:
    made = copy.backup(runs, to)
    path = made.path / manifest.NAME
    path.write_text(path.read_text().replace('"format": 1', '"format": 2', 1))
    with pytest.raises(UsageProblem, match="format 2; this rig reads format 1"):
        copy.restore(made.path, to.parent / "again")


def test_a_journal_that_was_changed_since_the_last_copy_is_named(runs: Path, to: Path) -> None:
    first = copy.backup(runs, to)
    path = runs / "r1" / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: whole[:-1].rindex(b"\n") + 1])  # its end cut off: it agrees with itself
    result = rig("backup", "--to", to, "--out", runs, "--keep", 1)
    assert result.exit_code == 1
    assert "does not go on from what was copied before" in result.output
    assert first.path in copy.copies(to), "what may be the only sign of it stays"
    assert (first.path / "runs" / "r1" / "journal.jsonl").read_bytes() == whole


def test_damage_in_an_older_copy_is_not_handed_on(runs: Path, to: Path) -> None:
    first = copy.backup(runs, to)
    name = "runs/r1/units/SN1/1/power.csv"
    good = (first.path / name).read_bytes()
    (first.path / name).write_bytes(b"x" * len(good))
    second = copy.backup(runs, to)
    assert (second.path / name).read_bytes() == good
    assert any("power.csv, of the copy before, is not as it was copied" in problem for problem in second.problems)
    assert check(second.path) == []
    (second.path / manifest.NAME).write_text("nonsense")
    third = copy.backup(runs, to)
    assert third.new >= first.new
    assert any("everything was copied anew" in problem for problem in third.problems)


# -- older records ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("schema", "lines"), [(1, 46), (2, 50)])
def test_a_run_of_an_older_schema_is_read_copied_and_gone_on_with(
    schema: int, lines: int, tmp_path: Path, to: Path
) -> None:
    """Journals as the rig of that time wrote them."""
    runs = tmp_path / "runs"
    run = RunFolder(runs / "20261122-183557-d94d")
    run.units.mkdir(parents=True)
    shutil.copyfile(ROOT / "tests" / "data" / "older-journals" / f"schema-{schema}.jsonl", run.journal)
    found, torn = read_journal(run.journal)
    assert (len(found), torn) == (lines, None)
    assert {event.schema_version for event in found} == {schema}
    assert rebuild(default_url(runs), list_runs(runs)) == []
    shown = json.loads(rig("list", "--out", runs, "--json").stdout)
    assert [(row["unit"], row["task"], row["outcome"]) for row in shown] == [("1", "convert", "pass")]
    with Journal(run.journal) as journal:  # rework: today's line behind yesterday's
        journal.append(Noted(text="of today"))
    assert copy.backup(runs, to).problems == []
    copy.restore(copy.find_copy(to), tmp_path / "again")
    checked = verify_run(RunFolder(tmp_path / "again" / run.id))
    assert checked.lines == lines + 1
    assert not [problem for problem in checked.problems if "journal" in problem and "line" in problem]
    assert f"the first {lines} line(s) are of an older rig" in checked.remarks[0]
