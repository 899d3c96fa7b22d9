"""Backups: the first one of a board stays its backup, and what is not one is not taken for one."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest

from rig import files
from rig.errors import UnitFailed, UsageProblem
from rig.records.backups import BackupStore

DUMP = random.Random(1).randbytes(0x20000)
LATER = random.Random(2).randbytes(0x20000)


@pytest.fixture
def store(tmp_path: Path) -> BackupStore:
    return BackupStore(tmp_path / "runs" / "backups")


def test_a_board_s_first_backup_stays_its_backup(store: BackupStore) -> None:
    assert store.first("uid-01") is None
    kept = store.keep("uid-01", DUMP)
    assert (kept.size, kept.content()) == (len(DUMP), DUMP)
    again = store.keep("uid-01", LATER)
    assert again.content() == LATER
    first = BackupStore(store.folder).first("uid-01")
    assert first == kept
    assert first.content() == DUMP
    assert store.keep("uid-01", DUMP) == kept
    assert store.first("uid-02") is None
    assert len(list(store.folder.glob("*/*.bin.zst"))) == 2


def test_they_are_private_for_they_hold_passwords(store: BackupStore) -> None:
    before = os.umask(0o022)
    try:
        kept = store.keep("mac-02:52:49:00:00:01", DUMP)
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(kept.path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.path.parent.iterdir()} == {0o600}


def test_an_identity_cannot_leave_the_folder(store: BackupStore) -> None:
    kept = store.keep("../../etc", DUMP)
    assert kept.path.resolve().is_relative_to(store.folder.resolve())
    assert store.first("../../etc") == kept


@pytest.mark.parametrize("nothing", [bytes(0x1000), b""])
def test_zeros_are_no_backup(store: BackupStore, nothing: bytes) -> None:
    with pytest.raises(UnitFailed) as caught:
        store.keep("uid-01", nothing)
    assert caught.value.code == "unreadable"
    assert store.first("uid-01") is None
    assert not store.folder.exists()


@pytest.mark.parametrize("damage", ["short", "flip", "empty", "other"])
def test_a_damaged_backup_is_not_given_out(store: BackupStore, damage: str) -> None:
    kept, other = store.keep("uid-01", DUMP), store.keep("uid-02", LATER)
    raw = kept.path.read_bytes()
    flipped = bytearray(raw)
    flipped[len(raw) // 2] ^= 0xFF
    kept.path.write_bytes(
        {"short": raw[:-100], "flip": bytes(flipped), "empty": b"", "other": other.path.read_bytes()}[damage]
    )
    with pytest.raises(UsageProblem, match=f"the backup {kept.path}"):
        kept.content()


def test_a_backup_that_is_gone_is_not_replaced_by_a_later_state(store: BackupStore) -> None:
    kept = store.keep("uid-01", DUMP)
    kept.path.unlink()
    with pytest.raises(UsageProblem, match="the backup of uid-01 is gone"):
        store.first("uid-01")
    with pytest.raises(UsageProblem, match="is gone"):
        store.keep("uid-01", LATER)
    mark = kept.path.parent / "first"
    mark.write_text("{")
    with pytest.raises(UsageProblem, match=f"{mark}, which names the backup of uid-01, cannot be read"):
        store.first("uid-01")


def test_the_folders_are_on_disk_too(store: BackupStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    real = files.fsync_dir
    for module in ("rig.files", "rig.records.backups"):
        monkeypatch.setattr(f"{module}.fsync_dir", lambda folder: (synced.append(folder), real(folder)))
    kept = store.keep("uid-01", DUMP)
    assert {store.folder.parent, store.folder, kept.path.parent} <= set(synced)


def test_what_a_failed_try_left_behind_is_made_durable_by_the_next(
    store: BackupStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is there, whole; that its name survives a power cut nobody knows until its folder was synced."""
    real, failing, synced = files.fsync_dir, [True], []

    def fsync_dir(folder: Path) -> None:
        if failing and list(folder.glob("*.bin.zst")):
            failing.clear()
            raise OSError(5, "Input/output error")
        synced.append(folder)
        real(folder)

    for module in ("rig.files", "rig.records.backups"):
        monkeypatch.setattr(f"{module}.fsync_dir", fsync_dir)
    with pytest.raises(OSError, match="Input/output"):
        store.keep("uid-01", DUMP)
    synced.clear()
    kept = store.keep("uid-01", DUMP)
    monkeypatch.setattr("rig.records.backups.write_durably", None)  # nothing is left to be written
    synced.clear()
    assert store.keep("uid-01", DUMP) == kept
    assert synced == [store.folder.parent, store.folder, kept.path.parent]
