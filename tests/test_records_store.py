"""The artifact store, and purging: what goes, what stays, what is left in its place."""

from __future__ import annotations

import errno
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kept_runs import KeptRun
from synthetic_journals import START

from rig.bench.product import load_product
from rig.errors import UsageProblem
from rig.line.record import UnitRecord
from rig.records import store as store_module
from rig.records.backups import BackupStore
from rig.records.events import ArtifactKept, BackupKept, Event, WriteBegun, WriteEnded
from rig.records.journal import Journal
from rig.records.purge import find, moment, purge
from rig.records.run import RunFolder, list_runs
from rig.records.store import FOLDER, ArtifactStore, sha256_of, tombstone_of
from rig.records.verify import verify_run, verify_stores

LATER = START + timedelta(days=100)


def test_a_file_is_found_by_its_content_and_private(tmp_path: Path) -> None:
    path = tmp_path / "boot.log"
    path.write_bytes(b"ssid and password")
    path.chmod(0o644)
    store = ArtifactStore(tmp_path / "artifacts")
    digest = store.put(path)
    assert store.path(digest).read_bytes() == b"ssid and password"
    assert store.path(digest) == tmp_path / "artifacts" / digest[:2] / digest
    assert store.path(digest).samefile(path)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, store.path(digest))] == [0o600, 0o600]
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert store.put(path) == digest
    assert [each.name for each in store.folder.rglob("*") if each.is_file()] == [digest]


def test_without_links_it_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*paths: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(store_module.os, "link", refused)
    path = tmp_path / "boot.log"
    path.write_bytes(b"content")
    store = ArtifactStore(tmp_path / "artifacts")
    kept = store.path(store.put(path))
    assert not kept.samefile(path)
    assert kept.read_bytes() == b"content"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_putting_again_mends_what_was_damaged(tmp_path: Path) -> None:
    path = tmp_path / "boot.log"
    path.write_bytes(b"content")
    store = ArtifactStore(tmp_path / "artifacts")
    digest = store.put(path)
    store.path(digest).unlink()
    store.path(digest).write_bytes(b"other")
    assert store.holds(digest) is False
    assert store.put(path) == digest
    assert store.holds(digest) is True
    assert store.holds("0" * 64) is None


def test_a_full_disk_leaves_no_half_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, to: Path) -> None:
        to.write_bytes(b"con")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module, "_link_or_copy", full)
    path = tmp_path / "boot.log"
    path.write_bytes(b"content")
    store = ArtifactStore(tmp_path / "artifacts")
    with pytest.raises(OSError, match="No space"):
        store.put(path)
    assert [each for each in store.folder.rglob("*") if each.is_file()] == []


class Sink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


@pytest.mark.parametrize("room", [True, False])
def test_what_a_unit_keeps_is_in_the_store_and_a_full_disk_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    def full(self: ArtifactStore, path: Path) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    if not room:
        monkeypatch.setattr(ArtifactStore, "put", full)
    run, sink = RunFolder.create(tmp_path), Sink()
    record = UnitRecord(sink, run, run.new_unit_dir("SN1", 1), "SN1", "A", 1, load_product("ds-121"))
    (record.folder / "boot.log").write_bytes(b"log")
    record.keep("boot-log", record.folder / "boot.log")
    record.keep("wire-trace", record.folder / "never-made")
    digest = sha256_of(record.folder / "boot.log")
    kept = sink.events[-1]
    assert (kept.kind, kept.path, kept.sha256) == ("artifact-kept", "units/SN1/1/boot.log", digest)
    assert ArtifactStore(tmp_path / FOLDER).holds(digest) is (True if room else None)
    assert [event.level for event in sink.events if event.kind == "noted"] == ([] if room else ["warning"])


# -- purge ---------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """An old run of two units, a young one of one; SN1's log is the same in both."""
    with KeptRun(tmp_path / "old") as old:
        old.unit("SN1", log=b"the same")
        old.unit("SN2")
        old.end()
    with KeptRun(tmp_path / "young", start=LATER) as young:
        young.unit("SN1", log=b"the same")
        young.end()
    return tmp_path


def test_nothing_goes_by_looking(runs: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    doomed = find(runs, LATER - timedelta(days=1))
    assert doomed.runs == ["old"]
    assert doomed.size > 0
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before


def test_old_evidence_becomes_tombstones_that_verify_accepts(runs: Path) -> None:
    old, young = list_runs(runs)
    kept = sha256_of(old.unit_dir("SN2", 1) / "boot.log")
    shared = sha256_of(young.unit_dir("SN1", 1) / "boot.log")
    journal = old.journal.read_bytes()
    for run in (old, young):
        (run.report / "unit-pages").mkdir(parents=True)
        for name in ("unit-pages/SN1.html", "index.html"):
            (run.report / name).write_text("a boot log, or none")
    purge(find(runs, LATER - timedelta(days=1)), "older than 99")
    reports = sorted(str(path.relative_to(runs)) for path in runs.glob("*/report/**/*.html"))
    assert reports == ["old/report/index.html", "young/report/index.html", "young/report/unit-pages/SN1.html"]
    assert sorted(path.name for path in old.units.rglob("*") if path.is_file()) == ["boot.log.purged"] * 2
    stone = tombstone_of(old.unit_dir("SN2", 1) / "boot.log")
    assert stone is not None
    assert (stone.sha256, stone.size, stone.why) == (kept, len(b"old SN2 1"), "older than 99")
    store = ArtifactStore(runs / FOLDER)
    assert (store.holds(kept), store.holds(shared)) == (None, True)  # the young run needs the one they share
    assert old.journal.read_bytes() == journal
    assert (young.unit_dir("SN1", 1) / "power.csv").exists()
    found = verify_run(old)
    assert (found.problems, found.purged, found.verdict) == ([], 2, "self-consistent")
    assert verify_run(young).problems == []
    assert verify_stores(runs).problems == []
    again = find(runs, LATER - timedelta(days=1))
    assert (again.artifacts, again.others, again.backups) == ([], [], [])


def test_a_tombstone_of_something_else_is_no_excuse(runs: Path) -> None:
    old = list_runs(runs)[0]
    purge(find(runs, LATER - timedelta(days=1)), "older than 99")
    one, other = (old.unit_dir(unit, 1) / "boot.log.purged" for unit in ("SN1", "SN2"))
    one.write_bytes(other.read_bytes())
    assert any("SN1" in problem and "missing" in problem for problem in verify_run(old).problems)


def test_backups_go_only_when_asked(runs: Path) -> None:
    before = LATER - timedelta(days=1)
    assert find(runs, before).backups == []
    doomed = find(runs, before, backups=True)
    assert [path.parent.name for path, _ in doomed.backups] == ["uid-SN2"]  # SN1 was in the young run too
    purge(doomed, "asked for")
    backups = BackupStore(runs / "backups")
    assert backups.first("uid-SN1") is not None
    assert backups.first("uid-SN2") is None  # its next read becomes its backup
    assert verify_run(list_runs(runs)[0]).problems == []
    assert verify_stores(runs).problems == []


def test_a_backup_that_a_board_may_still_need_stays(tmp_path: Path) -> None:
    """Of one that was left half written, and of one that `rig flash` wrote to only yesterday."""
    with KeptRun(tmp_path / "old") as old:
        for unit in ("SN1", "SN2", "SN3"):
            who = old.unit(unit, "fail")
            old.write(WriteBegun, **who, image_sha256="c3" * 32, ranges=[(0, 4096)])
            if unit != "SN1":
                old.write(WriteEnded, **who, verified=True)
    told = {"utc": (LATER - timedelta(days=1)).isoformat(), "id": "1", "identity": "uid-SN2"}
    (tmp_path / "flash-writes.jsonl").write_text(json.dumps(told) + '\n{"utc": "torn')
    doomed = find(tmp_path, LATER - timedelta(days=2), backups=True)
    assert [path.parent.name for path, _ in doomed.backups] == ["uid-SN3"]
    assert ["half written" in doomed.remarks[0], "by hand" in doomed.remarks[1]] == [True, True]
    (backup,) = (tmp_path / "backups" / "uid-SN3").glob("*.zst")  # one that lies with its unit is no odd file either
    backup.rename(old.folder.units / "SN3" / "1" / backup.name)
    with Journal(old.folder.journal) as journal:
        path = f"units/SN3/1/{backup.name}"
        journal.append(BackupKept(**who, identity="uid-SN3", path=path, sha256="5a" * 32, size=1))
    assert not any(path.name == backup.name for path in find(tmp_path, LATER + timedelta(days=9999)).others)


def test_what_was_edited_stays_and_is_told(runs: Path) -> None:
    log = list_runs(runs)[0].unit_dir("SN2", 1) / "boot.log"
    log.write_bytes(b"edited")
    doomed = find(runs, LATER - timedelta(days=1))
    assert any("boot.log" in remark for remark in doomed.remarks)
    purge(doomed, "older than 99")
    assert log.read_bytes() == b"edited"


def test_a_run_that_goes_on_is_never_purged(tmp_path: Path) -> None:
    with KeptRun(tmp_path / "live") as run:
        run.unit("SN1")
        assert find(tmp_path, LATER).runs == []
    assert find(tmp_path, LATER).runs == ["live"]


def test_a_journal_that_cannot_be_read_stops_it(runs: Path) -> None:
    journal = list_runs(runs)[1].journal
    journal.write_bytes(b"not json\n" + journal.read_bytes())
    with pytest.raises(UsageProblem, match="Nothing was purged"):
        find(runs, LATER)


def test_a_record_never_reaches_out_of_its_run(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"x")
    runs = tmp_path / "runs"
    with KeptRun(runs / "r1") as run:
        who = run.unit("SN1")
        run.write(ArtifactKept, **who, name="evil", path="../../precious", sha256=sha256_of(precious))
        run.write(BackupKept, **who, identity="uid-1", path="../../precious", sha256=sha256_of(precious), size=1)
    doomed = find(runs, LATER, backups=True)
    assert len(doomed.artifacts) == 2
    assert len(doomed.backups) == 1
    purge(doomed, "older")
    assert precious.exists()


@pytest.mark.parametrize("text", ["-1", "soon", "2026-13-01", "", "nan"])
def test_a_bad_age_is_one_sentence(text: str) -> None:
    with pytest.raises(UsageProblem, match="--older"):
        moment(text)


def test_an_age_is_days_or_a_date() -> None:
    assert moment("2026-05-31") == datetime(2026, 5, 31, tzinfo=UTC)
    assert abs(moment("2") - (datetime.now(UTC) - timedelta(days=2))) < timedelta(seconds=5)


def test_an_interrupted_purge_is_done_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doomed = find(runs, LATER - timedelta(days=1))
    real, calls = os.unlink, []

    def once(path: object, **more: object) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        real(path, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "unlink", once)
    with pytest.raises(OSError, match="Input/output"):
        purge(doomed, "older")
    monkeypatch.undo()
    purge(find(runs, LATER - timedelta(days=1)), "older")
    assert verify_run(list_runs(runs)[0]).problems == []
