"""Durable files: whole or not at all, and private where they must be."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.files import fsync_dir, write_durably


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_written_whole(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "deep" / "er" / "file.bin"
    write_durably(path, b"\x00one")
    assert path.read_bytes() == b"\x00one"
    write_durably(path, "zwö")
    assert path.read_text(encoding="utf-8") == "zwö"
    assert mode(path) == 0o666 & ~umask
    assert os.listdir(path.parent) == ["file.bin"]


def test_a_private_file_is_its_owner_s_only(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "secret"
    path.write_text("before")
    path.chmod(0o644)
    write_durably(path, "after", private=True)
    assert mode(path) == 0o600
    assert path.read_text() == "after"


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_durably(path, "old")
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_durably(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_it_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (done.append("dir" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), replace(a, b)))
    write_durably(tmp_path / "x", "data")
    assert done == ["file", "rename", "dir"]
    fsync_dir(tmp_path)
    assert done[-1] == "dir"


def test_writing_does_not_touch_the_process_s_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's file would be open to everybody in the meantime."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))
    write_durably(tmp_path / "x", "data")
