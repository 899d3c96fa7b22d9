"""Anything at all, through all that reads a file: no exception but a refusal, in bounded time, inside the file."""

from __future__ import annotations

import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import demo, dump, patched
from image_mutations import MAGICS, middle, mutated, small, storages, uf2, whole

from rig.errors import ImageRefused, UsageProblem
from rig.image import flashmap
from rig.image.compare import compare
from rig.image.contents.calibration import read_calibration
from rig.image.contents.counters import read_counters
from rig.image.contents.openbeken import read_config
from rig.image.contents.tuya import read_storage
from rig.image.health.diagnosis import Diagnosis, diagnose
from rig.image.health.picture import map_svg
from rig.image.identify import identify
from rig.image.identity import Identity
from rig.image.inspector import inspect_image
from rig.image.kinds.uf2 import read_uf2
from rig.image.planning.board import Board
from rig.image.planning.guard import plan_write
from rig.image.planning.plan import Plan
from rig.image.planning.rules import OVERRIDABLE

T = TypeVar("T")

SLOWEST_S = 2.0
SEED = 20261122


class Run:
    """Cases through all readers, with the CPU time each took at most: a busy machine is not the file's fault."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.cases: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}
        self._last = demo()[:0x2000]
        for reader in (identify, diagnose, read_storage):
            reader(dump())  # imports and caches are not the first file's fault

    def case(self, kind: str, bases: tuple[bytes, ...], others: tuple[bytes, ...]) -> None:
        data = mutated(self.draw.choice(bases), others, self.draw)
        where = f"case {sum(self.cases.values())} of seed {SEED}, {len(data)} bytes"
        started = time.process_time()
        try:
            self._read(kind, data)
        except Exception as problem:
            raise AssertionError(f"{where}: {type(problem).__name__}: {problem}") from problem
        self.cases[kind] += 1
        self.seconds[kind] += time.process_time() - started
        assert max(self.slowest.values()) < SLOWEST_S, (where, self.slowest)
        self._last = data

    def _read(self, kind: str, data: bytes) -> None:
        found = self._timed("identify", lambda: identify(data))
        told = self._timed("diagnose", lambda: diagnose(data, found))
        self._timed("inspect_image", lambda: inspect_image(data, "x.bin", diagnosis=told).model_dump_json())
        self._timed("map_svg", lambda: map_svg(told))
        self._timed("compare", lambda: compare(self._last, data))
        check_identity(found, data)
        check_diagnosis(told, data)
        for board, options in self._plans(kind):
            plan = self._timed("plan_write", lambda: planned(data, board, options))  # noqa: B023
            if plan is not None:
                check_plan(plan, data, board, options)
        for reader in (read_config, read_storage, read_calibration, read_uf2, read_counters):
            self._timed(reader.__name__, lambda: reader(data))  # noqa: B023

    def _plans(self, kind: str) -> list[tuple[Board, dict[str, object]]]:
        boards = [
            Board(), Board(key=None), Board(key="zero"), Board(held=dump(), backup=dump()), Board(held=demo()),
            Board(held=b"\xff" * flashmap.FLASH_SIZE, efuse_mac="c8:47:8c:01:02:03"), Board(flash_size=0x100000),
        ]  # fmt: skip
        ways: list[dict[str, object]] = [
            {}, {"start": 0}, {"start": flashmap.APP}, {"start": 0x1D0000}, {"keep_identity": False},
            {"own_backup": True}, {"overrides": OVERRIDABLE},
        ]  # fmt: skip
        count = 3 if kind == "small" else 2
        return [(Board(), {}), *((self.draw.choice(boards), self.draw.choice(ways)) for _ in range(count - 1))]

    def _timed(self, name: str, work: Callable[[], T]) -> T:
        started = time.process_time()
        result = work()
        self.slowest[name] = max(self.slowest.get(name, 0.0), time.process_time() - started)
        return result

    @property
    def report(self) -> str:
        each = ", ".join(
            f"{count:,} {kind} at {self.seconds[kind] / count * 1000:.1f} ms" for kind, count in self.cases.items()
        )
        slow = ", ".join(f"{name} {taken * 1000:.0f}" for name, taken in self.slowest.items())
        return f"{each}; slowest single call, ms of CPU: {slow}"


def planned(data: bytes, board: Board, options: dict[str, object]) -> Plan | None:
    try:
        return plan_write(data, "x.bin", board=board, **options)  # type: ignore[arg-type]
    except (ImageRefused, UsageProblem):
        return None


def check_identity(found: Identity, data: bytes) -> None:
    """What is shown as evidence is in the file, where it is said to be."""
    assert found.size == len(data)
    assert found.what
    for item in (one for statement in found.statements for one in statement.evidence):
        if item.offset is not None:
            assert 0 <= item.offset <= len(data), item
            assert data[item.offset : item.offset + len(item.data)] == item.data, item


def check_diagnosis(told: Diagnosis, data: bytes) -> None:
    """Regions and damages are inside the flash, and damages inside what the file gives it."""
    assert told.on_a_board
    for one in told.damages:
        assert one.offset >= 0, one
        assert one.length >= 0, one
        assert one.offset + one.length <= max(flashmap.FLASH_SIZE, len(data)), one
        assert one.name, one
        assert one.sentence, one
    for state in told.regions:
        assert 0 <= state.used <= state.region.size, state


def check_plan(plan: Plan, data: bytes, board: Board, options: dict[str, object]) -> None:
    """Its pieces are inside file and flash, never over each other, and leave alone what is not asked for by name."""
    at = 0
    for piece, (offset, content) in zip(plan.pieces, plan.contents(data), strict=True):
        assert piece.flash_offset == offset >= at, plan.ranges
        assert piece.length == len(content) > 0, plan.ranges
        at = offset + len(content)
    assert at <= board.flash_size
    if not options and board.held is None:
        for start, end in flashmap.identity_ranges():
            assert all(offset + size <= start or end <= offset for offset, size in plan.ranges), plan.ranges


def test_damaged_files() -> None:
    """The short cousin of the run below."""
    run = Run(SEED)
    for number in range(500):
        run_one(run, number)


def run_one(run: Run, number: int) -> None:
    """Small pieces mostly; some of tens of kilobytes, where all that hangs on offsets is; some whole images."""
    if number % 100 == 7:
        run.case("whole", whole(), whole())
    elif number % 100 in (13, 57):
        run.case("middle", middle(), small() + middle())
    elif number % 100 in (29, 31) and storages():
        run.case("storage", storages(), small() + storages())
    else:
        run.case("small", small(), small())


@pytest.mark.soak
def test_a_hundred_thousand_damaged_files(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(SEED + 1)
    started = time.monotonic()
    for number in range(100_000):
        run_one(run, number)
        if number % 2000 == 1999:
            with capsys.disabled():
                sys.stderr.write(f"{number + 1} cases in {time.monotonic() - started:.0f} s: {run.report}\n")


words = st.integers(0, 2**32 - 1)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.one_of(words, st.sampled_from([0x0, 0x11000, 0x1D0000, 0x1FFF00])),
                       st.binary(max_size=256)), max_size=6),
    words,
    st.binary(max_size=60),
)  # fmt: skip
def test_uf2_of_any_blocks(blocks: list[tuple[int, bytes]], family: int, tags: bytes) -> None:
    data = uf2(blocks, family, tags)
    read = read_uf2(data)
    assert sum(len(content) for _, content in read.blocks) <= len(data)
    plan = planned(data, Board(), {})
    if plan is not None:
        check_plan(plan, data, Board(), {})


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.sampled_from(MAGICS), st.lists(st.one_of(words, st.sampled_from([0x11111100, 0x11111102])), max_size=40))
def test_a_magic_and_any_words(magic: bytes, rest: list[int]) -> None:
    data = magic + b"".join(struct.pack("<I", word) for word in rest)
    check_identity(identify(data), data)
    for reader in (read_config, read_calibration, read_uf2, read_counters):
        reader(data)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.integers(0, 0x4000), st.sampled_from([b"\0", b"\xff", b"TLV\0", b"RBL\0", b"\xa5\x5a"]))
def test_what_lies_behind_the_files_end_does_not_matter(length: int, behind: bytes) -> None:
    """Cut out of a larger buffer, it reads as it does alone; and readers of sectors stop at a sector's end."""
    base = mutated(demo()[:0x4000], small(), random.Random(length))[:length]
    buffer = memoryview(base + behind * 0x400)
    assert identify(bytes(buffer[: len(base)])) == identify(base)
    # Its header names more than a sector holds: what comes behind is not taken for the rest of it.
    sector = patched(dump()[0x1D0000:0x1D1000], 4, struct.pack("<I", 0x1800))
    assert read_calibration(sector + behind * 0x400) == read_calibration(sector)
