"""Steps of the conversion that decide by what they are told, run with stand-ins for what tells them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from rig.bench.power import Sag
from rig.errors import BenchBlocked, UnitFailed
from rig.flashers.base import FlashResult
from tests_hil import test_conversion as steps

PIECES = [(0x11000, b"new")]


class Record:
    held = bytes(0x200000)

    def __init__(self) -> None:
        self.began = self.verified = False
        self.notes: list[str] = []

    @contextlib.contextmanager
    def writing(self, sha256: str, ranges: Sequence[tuple[int, int]]) -> Iterator[Callable[[], None]]:
        self.began = True
        yield lambda: setattr(self, "verified", True)

    def measure(self, *what: object) -> None:
        pass

    def note(self, text: str, *, warning: bool = False) -> None:
        self.notes.append(text)


class Flasher:
    """Writes nothing; verifies all but the flash offsets in `bad`."""

    name = "native"

    def __init__(self, *bad: int) -> None:
        self.bad = bad

    def close(self) -> None:
        pass

    def write(self, link: object, pieces: object, progress: object) -> FlashResult:
        return FlashResult(True, "written", 1.0, verified=not self.bad)

    def read(self, link: object, offset: int, length: int) -> FlashResult:
        return FlashResult(True, "read", 1.0, data=PIECES[0][1][:length])

    def verify(self, link: object, pieces: Sequence[tuple[int, bytes]], progress: object) -> FlashResult:
        wrong = [offset for offset, _ in pieces if offset in self.bad]
        return FlashResult(not wrong, f"differs at {wrong}" if wrong else "agrees", 1.0)


def image() -> Any:
    plan = SimpleNamespace(untouched=lambda board: [(0, board[:0x11000]), (0x12000, board[0x12000:])])
    return SimpleNamespace(sha256="0", ranges=[(0x11000, 3)], pieces=PIECES, plan=plan)


class Power:
    """A rail that sagged to `before` while the board was read, to `during` while it was written; None: it stood. What
    judges comes after a power-cycle."""

    supplied = SimpleNamespace(volts=3.3, current_limit=0.5, sag_volts=0.3)
    setting = None

    def __init__(self, before: float | None = None, during: float | None = None) -> None:
        self.sag = self._sag(before)
        self._during = self._sag(during)
        self.deepest_sag = self.sag

    def _sag(self, volts: float | None) -> Sag | None:
        return None if volts is None else Sag(volts, True, 1)

    def forget_sags(self) -> None:
        self.deepest_sag = self._during


def write(record: Record, power: Power, rom: Flasher) -> None:
    guard: Any = SimpleNamespace(forbid_writes=lambda: None)
    nothing: Any = None
    board: Any = SimpleNamespace(tap=SimpleNamespace(commands=[], strays=0))
    everything: Any = (board, nothing, rom, rom, image(), guard, power, record, nothing)
    steps.test_the_image_is_written(*everything)


@pytest.mark.parametrize("rom", [Flasher(), Flasher(0x11000)])
def test_what_was_written_in_a_sag_is_not_called_verified_nor_the_boards_fault(rom: Flasher) -> None:
    record = Record()
    with pytest.raises(BenchBlocked, match=r"2\.50 V") as blocked:
        write(record, Power(during=2.5), rom)
    assert blocked.value.code == "weak-supply"
    assert record.began
    assert not record.verified


def test_nothing_is_written_on_a_rail_that_sagged_before() -> None:
    record = Record()
    with pytest.raises(BenchBlocked) as blocked:
        write(record, Power(before=2.5), Flasher())
    assert blocked.value.code == "weak-supply"
    assert not record.began
    write(record, Power(), Flasher())
    assert record.verified


def test_a_write_that_nobody_verified_is_judged_by_the_rig() -> None:
    record = Record()
    with pytest.raises(UnitFailed, match="differs at"):
        write(record, Power(), Flasher(0x11000))
    assert not record.verified


@pytest.mark.parametrize(
    ("bad", "said"), [(0x11000, "after a power-cycle"), (0x12000, "outside of what was to be written"), (None, None)]
)
def test_the_whole_flash_is_read_again_after_the_power_cycle(bad: int | None, said: str | None) -> None:
    with pytest.raises(UnitFailed, match=said) if said else contextlib.nullcontext():
        settle(Record(), bad, "erase")


def test_what_old_firmware_may_have_changed_while_a_tool_missed_its_link_is_a_note(record: Record) -> None:
    settle(record, 0x12000, "reset-pulse")
    assert "old firmware may have run" in record.notes[0]


@pytest.fixture
def record() -> Record:
    return Record()


def settle(record: Record, bad: int | None, command: str) -> None:
    """The step, with `bad` a flash offset that reads wrong, after `command` passed the wire."""
    board = SimpleNamespace(tap=SimpleNamespace(commands=[SimpleNamespace(name=command)], strays=0))
    nothing: Any = None
    rom = Flasher(*[bad] if bad is not None else [])
    everything: Any = (board, nothing, rom, image(), record, nothing)
    steps.test_what_was_written_stays(*everything)
