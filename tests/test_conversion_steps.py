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
        self.verified = False

    @contextlib.contextmanager
    def writing(self, sha256: str, ranges: Sequence[tuple[int, int]]) -> Iterator[Callable[[], None]]:
        yield lambda: setattr(self, "verified", True)

    def measure(self, *what: object) -> None:
        pass

    note = measure


class Flasher:
    """Writes nothing; verifies all but the flash offsets in `bad`."""

    name = "native"

    def __init__(self, *bad: int) -> None:
        self.bad = bad

    def close(self) -> None:
        pass

    def write(self, link: object, pieces: object, progress: object) -> FlashResult:
        return FlashResult(True, "written", 1.0)

    def verify(self, link: object, pieces: Sequence[tuple[int, bytes]], progress: object) -> FlashResult:
        wrong = [offset for offset, _ in pieces if offset in self.bad]
        return FlashResult(not wrong, f"differs at {wrong}" if wrong else "agrees", 1.0)


def image() -> Any:
    plan = SimpleNamespace(untouched=lambda board: [(0, board[:0x11000]), (0x12000, board[0x12000:])])
    return SimpleNamespace(sha256="0", ranges=[(0x11000, 3)], pieces=PIECES, plan=plan)


def power(sag: Sag | None) -> Any:
    supplied = SimpleNamespace(volts=3.3, current_limit=0.5, sag_volts=0.3)
    return SimpleNamespace(sag=sag, supplied=supplied, setting=None)


def write(record: Record, sag: Sag | None) -> None:
    guard, rom = SimpleNamespace(forbid_writes=lambda: None), Flasher()
    nothing: Any = None
    steps.test_the_image_is_written(nothing, rom, rom, image(), guard, power(sag), record, nothing)  # type: ignore[arg-type]


def test_what_was_written_in_a_sag_is_not_called_verified() -> None:
    record = Record()
    with pytest.raises(BenchBlocked) as blocked:
        write(record, Sag(2.5, True, 1))
    assert blocked.value.code == "weak-supply"
    assert not record.verified
    write(record, None)
    assert record.verified


@pytest.mark.parametrize(
    ("bad", "said"), [(0x11000, "after a power-cycle"), (0x12000, "outside of what was to be written"), (None, None)]
)
def test_the_whole_flash_is_read_again_after_the_power_cycle(bad: int | None, said: str | None) -> None:
    rom: Any = Flasher(*[bad] if bad is not None else [])
    nothing: Any = None
    record: Any = Record()
    with pytest.raises(UnitFailed, match=said) if said else contextlib.nullcontext():
        steps.test_what_was_written_stays(nothing, rom, image(), record, nothing)
