"""Whatever image, flash and line: it ends as planned with nothing else touched, or it says that it failed.

And whenever a flasher is killed, the next one ends at the planned content.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from chip_on_wire import ChipOnWire, DirectLink
from flasher_process import Flashers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rig.chip.ids import PROTECT_MASK
from rig.errors import Coded
from rig.flashers.native import NativeFlasher
from rig.flashers.speed import LADDER
from rig.sim.flash import SIZE, NorFlash
from rig.sim.wire import Disturbance

SECTOR, BLOCK = 0x1000, 0x10000
SPEED = 200.0
NOISE = random.Random(31).randbytes(SIZE)


@pytest.fixture(autouse=True, scope="module")
def short_waits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rig.chip.client._REPLY_S", 0.06)
        patch.setattr("rig.chip.client._ERASE_S", {0x1000: 0.03, 0x8000: 0.03, 0x10000: 0.03})
        patch.setattr("rig.sim.rom._PARTIAL_FRAME_S", 0.02)
        yield


@dataclass(frozen=True)
class Fault:
    """`at`: which reply, or which byte towards the chip."""

    kind: str
    at: int
    seed: int


class BadLine(Disturbance):
    """What faults do to the line, from the moment it is `on`."""

    def __init__(self, faults: list[Fault]) -> None:
        self.on = False
        self._replies = {fault.at: fault for fault in faults if fault.kind in ("lost", "damaged", "doubled")}
        self._bytes = {fault.at: fault for fault in faults if fault.kind in ("flip", "drop")}
        self._reply = self._byte = 0

    def to_chip(self, data: bytes) -> bytes:
        if not self.on:
            return data
        out = bytearray()
        for byte in data:
            fault = self._bytes.get(self._byte)
            self._byte += 1
            if fault is None:
                out.append(byte)
            elif fault.kind == "flip":
                out.append(byte ^ 1 << fault.seed % 8)
        return bytes(out)

    def replies(self, data: bytes) -> list[bytes]:
        if not self.on:
            return [data]
        fault = self._replies.get(self._reply)
        self._reply += 1
        if fault is None:
            return [data]
        if fault.kind == "doubled":
            return [data, data]
        if fault.kind == "lost":
            return []
        at = fault.seed % len(data)
        return [data[:at] + bytes((data[at] ^ 1 << fault.seed % 7,)) + data[at + 1 :]]


@st.composite
def faults(draw: st.DrawFn) -> list[Fault]:
    found = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["lost", "damaged", "doubled", "flip", "flip", "drop"]))
        # frames are short but for what is written: heads, where damage does most, are hit often enough
        most = [60, 400, 20_000] if kind in ("flip", "drop") else [8, 40]
        at = draw(st.integers(0, draw(st.sampled_from(most))))
        found.append(Fault(kind, at, draw(st.integers(0, 5000))))
    return found


@st.composite
def pieces(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    found = []
    for _ in range(draw(st.integers(1, 3))):
        length = draw(st.one_of(st.integers(1, 0x40), st.integers(1, 0x5000), st.just(SECTOR), st.just(BLOCK)))
        base = draw(st.sampled_from([0, 0x10000, 0x11000, 0x1F000, 0x80000, SIZE - length]))
        offset = min(base + draw(st.sampled_from([0, 0, 1, 0x800, 0xFFF, 0x3000])), SIZE - length)
        found.append((offset, content(draw(st.integers(0, 1 << 30)), offset, length)))
    return found


def content(seed: int, offset: int, length: int) -> bytes:
    """New bytes, blank ones, those that are there, or those with one bit changed."""
    draw = random.Random(seed)
    kind = draw.choice(["new", "new", "blank", "sparse", "same", "bit"])
    there = NOISE[offset : offset + length]
    if kind == "new":
        return draw.randbytes(length)
    if kind == "blank":
        return b"\xff" * length
    if kind == "sparse":
        return b"".join(draw.choice([b"\xff" * 512, draw.randbytes(512)]) for _ in range(length // 512 + 1))[:length]
    if kind == "same":
        return there
    at = draw.randrange(length)
    return there[:at] + bytes((there[at] ^ 1 << draw.randrange(8),)) + there[at + 1 :]


@st.composite
def orders(draw: st.DrawFn) -> tuple[str, list[tuple[int, bytes]]]:
    operation = draw(st.sampled_from(["write", "write", "update", "erase"]))
    wanted = draw(pieces())
    if operation == "erase":
        offset, data = wanted[0]
        first = offset // SECTOR * SECTOR
        end = -(-(offset + len(data)) // SECTOR) * SECTOR
        wanted = [(first, b"\xff" * (end - first))]
    return operation, wanted


def perform(
    order: tuple[str, list[tuple[int, bytes]]],
    blank: int,
    sr: int,
    locked: bool,
    baud: int,
    known: bool,
    bad: list[Fault],
) -> None:
    operation, wanted = order
    flash = NorFlash(NOISE, sr=sr)
    flash.sr_locked = locked
    flash.overwrite(blank, b"\xff" * BLOCK)
    before = bytes(flash.data)
    planned = bytearray(before)
    for offset, data in wanted:
        planned[offset : offset + len(data)] = data
    line = BadLine(bad)
    flasher = NativeFlasher()
    said, ok = "", False
    with ChipOnWire(flash, speed=SPEED) as chip, chip.waited_for():
        chip.wire.disturbances.append(line)
        link = DirectLink(chip, baud)
        try:
            flasher.crc(link, 0, 1)
            if known:
                flasher.know(0, before)  # as after a backup
            line.on = True
            if operation == "erase":
                offset, data = wanted[0]
                result = flasher.erase(link, offset, len(data))
            else:
                result = getattr(flasher, operation)(link, wanted)
            said, ok = result.said, result.ok
        except Coded as problem:
            said = str(problem)
        finally:
            flasher.close()
    after = bytes(flash.data)
    protected = locked and bool(sr & PROTECT_MASK)
    if ok:
        wrong = [f"0x{at:x}" for at in range(0, SIZE, SECTOR) if after[at : at + SECTOR] != planned[at : at + SECTOR]]
        assert not wrong, f"{operation} says {said!r}, but {wrong} differ"
    if not bad:
        assert ok or protected, said
        assert flash.sr & ~PROTECT_MASK == sr & ~PROTECT_MASK
    if all(fault.kind in ("lost", "doubled") for fault in bad) and len(bad) < 2:
        assert ok or protected, said  # a line that is no worse is got over
    if protected and planned != before:
        assert not ok
        assert after == before


CASES = {
    "order": orders(),
    "blank": st.sampled_from([0, 0x10000, 0x80000]),
    "sr": st.sampled_from([0, 0, 0x0200, 0x001C, 0x4204, 0x407C]),
    "locked": st.sampled_from([False, False, False, True]),
    "baud": st.sampled_from(LADDER),
    "known": st.just(True),
    "bad": faults(),
}
SETTINGS = {"derandomize": True, "deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@given(**CASES)
@settings(max_examples=24, **SETTINGS)
def test_it_ends_as_planned_or_says_that_it_failed(**case: object) -> None:
    perform(**case)  # type: ignore[arg-type]


def test_a_stray_erase_of_a_sector_that_keeps_some_of_it_is_no_success() -> None:
    """Two bits flipped before anything was written: a command became an erase of the sector the range ends in."""
    perform(
        order=("write", [(1, random.Random(1).randbytes(SECTOR))]),
        blank=0x10000,
        sr=0x1C,
        locked=False,
        baud=2_000_000,
        known=True,
        bad=[Fault("flip", 26, 0), Fault("flip", 154, 1)],
    )


@pytest.mark.soak
@given(**CASES)
@settings(max_examples=1500, **SETTINGS)
def test_it_ends_as_planned_or_says_that_it_failed_for_long(**case: object) -> None:
    """Cousin: the test above."""
    perform(**case)  # type: ignore[arg-type]


# -- killed ----------------------------------------------------------------------------------------------------


class Killer(Disturbance):
    """kill -9 of `pid` when so many bytes have gone to the chip."""

    def __init__(self) -> None:
        self.pid = 0
        self.left = -1

    def to_chip(self, data: bytes) -> bytes:
        if self.pid and self.left >= 0:
            self.left -= len(data)
            if self.left < 0:
                os.kill(self.pid, signal.SIGKILL)
                self.pid = 0
        return data


def kill_at_random_moments(turns: int) -> None:
    """A write that is killed; then power goes, in the middle of whatever the flash is doing; then another flasher."""
    draw = random.Random(2027)
    flash = NorFlash(NOISE)
    killer = Killer()
    killed = 0
    with ChipOnWire(flash, speed=100) as chip, Flashers() as flashers, quiet_end(chip):
        chip.wire.disturbances.append(killer)

        def cycle() -> None:
            with chip._lock:
                chip.rom.power_lost(time.monotonic())
            chip.switch(True)

        for turn in range(turns):
            block = draw.randbytes(0x2000) + b"\xff" * 0xD000 + draw.randbytes(0x1000)
            plan = [(0x1E000, draw.randbytes(0x2000) + block), (0x40000, b"\xff" * SECTOR + draw.randbytes(SECTOR))]
            planned = bytearray(flash.data)
            for offset, data in plan:
                planned[offset : offset + len(data)] = data
            killer.left = draw.randrange(200, 0x6000)

            def start(pid: int) -> None:
                killer.pid = pid

            status, said = flashers.run(chip.path, "write", plan, prepare=cycle, started=start)
            killed += status == -signal.SIGKILL
            assert said is None or said["ok"], f"turn {turn}: {said}"
            killer.pid = 0
            status, said = flashers.run(chip.path, "write", plan, prepare=cycle)
            assert status == 0
            assert said is not None
            assert said["ok"], f"turn {turn}: {said}"
            assert bytes(flash.data) == planned, f"turn {turn}"
            assert flash.weak_bits == 0, f"turn {turn}: cells that were cut short in an erase are left"
    assert killed > turns * 0.8


@contextmanager
def quiet_end(chip: ChipOnWire) -> Iterator[None]:
    """Whatever a killed flasher left under way is over before the chip goes."""
    try:
        yield
    finally:
        chip.switch(False)


def test_a_flasher_that_is_killed_leaves_nothing_the_next_one_cannot_put_right() -> None:
    kill_at_random_moments(4)


@pytest.mark.soak
def test_fifty_flashers_are_killed_at_random_moments() -> None:
    """Cousin: the test above."""
    kill_at_random_moments(50)
