"""The board of a study as it begins: nothing is written without its backup, nor to another one's slot."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rig.bench.product import load_product
from rig.chip.client import crc32
from rig.errors import BenchBlocked, UnitFailed
from rig.flashers.base import ChipIdentity
from rig.line.writes import cut_off
from rig.releases.board import FOLDER, Board

PRODUCT = load_product("ds-121")
SIZE = PRODUCT.flash_size


class Rom:
    """A chip with this flash and this UID."""

    def __init__(self, flash: bytes, uid: int) -> None:
        self.flash, self.uid, self.written = flash, uid, 0

    def identify(self, link: Any) -> ChipIdentity:
        efuse = bytes(16) + bytes([self.uid]) * 8 + bytes(8)
        return ChipIdentity("BK7231N", PRODUCT.chip_id, b"\xeb\x60\x15", SIZE, efuse=efuse)

    def register(self, link: Any) -> int:
        return 0

    def crc(self, link: Any, at: int, size: int) -> int:
        return crc32(self.flash[at : at + size])

    def read(self, link: Any, at: int, size: int) -> Any:
        return SimpleNamespace(data=self.flash[at : at + size])

    def write(self, link: Any, pieces: Any) -> Any:
        self.written += 1
        return SimpleNamespace(ok=True)

    def set_register(self, link: Any, value: int) -> None: ...

    def close(self) -> None: ...


def board(folder: Path, rom: Rom) -> Board:
    guard = SimpleNamespace(refusals=[], allow_writes=lambda ranges: None)
    used: Any = SimpleNamespace(slot=SimpleNamespace(name="A", product=PRODUCT), link=None, guard=guard)
    made = Board(used, folder, folder / "run")
    made._rom = rom  # type: ignore[assignment]
    return made


def test_a_board_without_a_backup_is_never_written(tmp_path: Path) -> None:
    rom = Rom(bytes(SIZE), 1)  # reads as zeros only
    one = board(tmp_path, rom)
    with pytest.raises(UnitFailed, match="no backup"):
        one.begin()
    rom.flash = b"\x01" * SIZE
    one.put_right()
    assert rom.written == 0
    assert not (tmp_path / "run" / FOLDER / "A.json").exists()


def test_another_board_does_not_take_the_place_of_one_that_is_to_be_put_right(tmp_path: Path) -> None:
    board(tmp_path, Rom(b"\x01" * SIZE, 1)).begin()
    path = tmp_path / "run" / FOLDER / "A.json"
    before = path.read_text()
    other = Rom(b"\x02" * SIZE, 2)
    with pytest.raises(BenchBlocked, match="has still to be put right: put it in again"):
        board(tmp_path, other).begin()
    assert (path.read_text(), other.written) == (before, 0)
    mine = board(tmp_path, Rom(b"\x01" * SIZE, 1))
    mine.begin()
    mine.put_right()
    assert json.loads(path.read_text())["right"]
    board(tmp_path, other).begin()
    assert json.loads(path.read_text())["identity"] == "uid-" + "02" * 8


def test_what_a_killed_study_left_is_not_taken_for_the_boards_own_by_another_one(tmp_path: Path) -> None:
    killed = board(tmp_path, Rom(b"\x01" * SIZE, 1))
    killed.begin()
    half = Rom(b"\x01\x02" * (SIZE // 2), 1)
    other = board(tmp_path, half)
    other._record = tmp_path / "other-run" / FOLDER / "A.json"
    with pytest.raises(UnitFailed, match=r"was cut off .*--resume.*rig restore") as told:
        other.begin()
    assert told.value.code == "half-written"
    other.put_right()
    assert half.written == 0
    assert cut_off(tmp_path, killed.identity), "and it stays said"
    half.flash = b"\x01" * SIZE  # it is as it was backed up, whoever saw to that
    other.begin()
