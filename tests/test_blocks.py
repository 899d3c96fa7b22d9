"""Blocks that boards were seen to hold: whole or not given out, bounded, private, for several processes at once."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from rig import files
from rig.records.blocks import MOST, SIZE, BlockStore

BLANK = b"\xff" * SIZE


def noise(seed: int, size: int = SIZE) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def store(tmp_path: Path) -> BlockStore:
    return BlockStore(tmp_path / "runs" / "blocks")


def entries(store: BlockStore, offset: int = 0, length: int = SIZE) -> list[Path]:
    return sorted((store.folder / f"{offset:06x}+{length:x}").glob("*.bin.zst"))


def aged(path: Path, seconds: float) -> None:
    before = path.stat().st_mtime - seconds
    os.utime(path, (before, before))


def test_a_block_comes_back_where_it_stood_and_nowhere_else(store: BlockStore) -> None:
    first, second = noise(1), noise(2, 0x5000)
    assert store.candidates(0, SIZE) == []
    assert store.add(first + BLANK + second, SIZE) == 2  # a blank one is known without
    again = BlockStore(store.folder)
    assert again.add(first + BLANK + second, SIZE) == 0
    assert again.candidates(SIZE, SIZE) == [first]
    assert again.candidates(3 * SIZE, 0x5000) == [second]
    assert again.candidates(0, SIZE) == again.candidates(2 * SIZE, SIZE) == again.candidates(3 * SIZE, SIZE) == []
    assert again.dropped == []
    with pytest.raises(ValueError, match="not at 0x1000"):
        store.add(first, 0x1000)


def test_they_are_private_for_a_flash_may_hold_passwords(store: BlockStore) -> None:
    before = os.umask(0o022)
    try:
        store.folder.mkdir(parents=True)
        assert stat.S_IMODE(store.folder.stat().st_mode) == 0o755
        store.add(noise(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in store.folder.iterdir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in entries(store)} == {0o600}


def test_a_place_keeps_what_was_seen_last(store: BlockStore) -> None:
    for seed in range(MOST):
        store.add(noise(seed))
        aged(*(path for path in entries(store) if path.stat().st_mtime_ns == newest(store)), 100.0 - seed)
    store.add(noise(0))  # seen again
    store.add(noise(MOST))
    found = store.candidates(0, SIZE)
    assert len(found) == len(entries(store)) == MOST
    assert set(found[:2]) == {noise(0), noise(MOST)}
    assert found[2:] == [noise(seed) for seed in range(MOST - 1, 1, -1)]


def newest(store: BlockStore) -> int:
    return max(path.stat().st_mtime_ns for path in entries(store))


def bomb() -> bytes:
    """64 MiB out of 6 KiB, with a window that is small enough to be let pass."""
    parameters = zstandard.ZstdCompressionParameters(window_log=17)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(64 << 20))


@pytest.mark.parametrize("damage", ["short", "flip", "empty", "other", "longer", "no frame", "a folder"])
def test_a_damaged_entry_is_dropped_and_named(store: BlockStore, damage: str) -> None:
    good, other = noise(1), noise(2)
    store.add(good)
    (path,) = entries(store)
    store.add(other)
    (beside,) = set(entries(store)) - {path}
    raw = path.read_bytes()
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        made = {
            "short": raw[:-100],
            "flip": raw[:1000] + bytes((raw[1000] ^ 1,)) + raw[1001:],
            "empty": b"",
            "other": beside.read_bytes(),
            "longer": zstandard.ZstdCompressor().compress(good + b"x"),
            "no frame": good,
        }
        path.write_bytes(made[damage])
    assert store.candidates(0, SIZE) == [other]
    assert len(store.dropped) == 1
    assert str(path) in store.dropped[0]
    if damage == "a folder":
        assert path.exists()  # nothing of ours
        return
    assert entries(store) == [beside]
    assert store.add(good) == 1  # the next board puts it right
    assert store.candidates(0, SIZE)[0] == good
    assert len(store.dropped) == 1


@pytest.mark.parametrize("damage", ["bomb", "large", "wide window"])
def test_what_an_entry_says_of_itself_takes_no_memory(store: BlockStore, damage: str) -> None:
    store.add(noise(1))
    (path,) = entries(store)
    wide = zstandard.ZstdCompressor().compress(bytes(8 << 20))
    path.write_bytes({"bomb": bomb(), "large": bytes(8 << 20), "wide window": wide}[damage])
    tracemalloc.start()
    try:
        assert store.candidates(0, SIZE) == []
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert damage != "wide window" or "too much memory" in store.dropped[0]  # what zstandard itself would take


def test_a_block_under_the_name_of_another_length_is_not_given_out(store: BlockStore) -> None:
    store.add(noise(1, 0x5000))
    (path,) = entries(store, 0, 0x5000)
    store.add(noise(2))
    path.rename(store.folder / f"{0:06x}+{SIZE:x}" / path.name)
    assert store.candidates(0, SIZE) == [noise(2)]
    assert "not what its name says" in store.dropped[0]


def test_a_damaged_entry_is_put_right_when_it_is_seen_again(store: BlockStore) -> None:
    store.add(noise(1))
    (path,) = entries(store)
    path.write_bytes(b"damaged")
    assert store.add(noise(1)) == 1
    assert BlockStore(store.folder).candidates(0, SIZE) == [noise(1)]
    assert len(store.dropped) == 1


def test_what_another_process_has_put_right_meanwhile_is_not_dropped(store: BlockStore) -> None:
    store.add(noise(1))
    (path,) = entries(store)
    good = path.read_bytes()
    path.write_bytes(b"damaged")
    drop = store._drop

    def late(*what: object) -> None:
        files.write_durably(path, good, private=True)
        drop(*what)  # type: ignore[arg-type]

    store._drop = late  # type: ignore[method-assign]
    assert store.candidates(0, SIZE) == []
    assert BlockStore(store.folder).candidates(0, SIZE) == [noise(1)]


def test_a_disk_that_gives_back_something_else_is_told(store: BlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(path: Path, data: bytes, *, private: bool = False) -> None:
        files.write_durably(path, data[:-1], private=private)

    monkeypatch.setattr("rig.records.blocks.write_durably", bad)
    with pytest.raises(OSError, match="cannot be read back"):
        store.add(noise(1))
    assert entries(store) == []


def test_a_store_that_is_no_folder_gives_nothing_and_says_so(store: BlockStore) -> None:
    store.folder.parent.mkdir()
    store.folder.write_text("a file")
    assert store.candidates(0, SIZE) == []
    assert "cannot be looked at: Not a directory" in store.dropped[0]
    with pytest.raises(FileExistsError):
        store.add(noise(1))


def test_what_a_killed_process_left_half_written_is_not_given_out_and_goes(store: BlockStore) -> None:
    store.add(noise(1))
    (path,) = entries(store)
    left, fresh = (path.with_name(f".{path.name}.{end}") for end in ("dead", "live"))
    for half in (left, fresh):
        half.write_bytes(path.read_bytes()[:500])
    aged(left, 7200)
    store.add(noise(2))
    assert not left.exists()
    assert fresh.exists()  # its process may be at it
    assert set(store.candidates(0, SIZE)) == {noise(1), noise(2)}
    assert store.dropped == []


def test_blocks_and_folders_are_on_disk_when_add_returns(store: BlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    real = files.fsync_dir
    for module in ("rig.files", "rig.records.blocks"):
        monkeypatch.setattr(f"{module}.fsync_dir", lambda folder: (synced.append(folder), real(folder)))
    store.add(noise(1))
    assert {store.folder.parent, store.folder, entries(store)[0].parent} <= set(synced)


_ADDS = """
import random, sys
from pathlib import Path
from rig.records.blocks import SIZE, BlockStore
store = BlockStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for turn in range(15):
    for path in (store.folder / f"{0:06x}+{SIZE:x}").glob("*.zst") if turn % 5 == 4 else ():
        path.write_bytes(b"damaged")
    store.add(random.Random(turn % 7).randbytes(SIZE) + random.Random(int(sys.argv[2]) + turn).randbytes(0x1000))
"""


def test_two_processes_add_at_once_while_a_third_reads(store: BlockStore) -> None:
    """Both keep the same block at one place, other ones at another, and damage what they find now and then."""
    known = {noise(seed) for seed in range(7)}
    adders = [
        subprocess.Popen(
            [sys.executable, "-c", _ADDS, str(store.folder), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in (100, 200)
    ]
    try:
        for adder in adders:
            assert adder.stdout.readline() == "ready\n"  # type: ignore[union-attr]
        for adder in adders:
            adder.stdin.write("\n")  # type: ignore[union-attr]
            adder.stdin.flush()  # type: ignore[union-attr]
        while any(adder.poll() is None for adder in adders):
            assert set(store.candidates(0, SIZE)) <= known
        assert [adder.wait(30) for adder in adders] == [0, 0]
    finally:
        for adder in adders:
            adder.kill()
            adder.communicate()
    assert not list(store.folder.glob("*/.*"))
    assert set(store.candidates(0, SIZE)) <= known
    assert len(store.candidates(SIZE, 0x1000)) == MOST
    last = {noise(seed + 14, 0x1000) for seed in (100, 200)}
    assert last <= set(store.candidates(SIZE, 0x1000))
