"""A backup by matching is the flash, whatever the store knows; the board's own bytes are read; it is quick."""

from __future__ import annotations

import itertools
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from chip_on_wire import ChipOnWire, DirectLink
from hypothesis import given, settings
from hypothesis import strategies as st
from test_native_flasher import forged

from rig.chip.frames import SECTOR, Long
from rig.errors import BenchBlocked, UnitFailed
from rig.flashers.base import FlashResult, Progress, no_progress
from rig.flashers.matching import OWN, Matched, Range, read_by_matching
from rig.flashers.native import NativeFlasher
from rig.image import flashmap
from rig.records.blocks import MOST, BlockStore
from rig.sim.flash import SIZE, NorFlash

BLOCK = 0x10000
NOISE = random.Random(61).randbytes(SIZE)
OTHER = NOISE[:OWN] + random.Random(62).randbytes(SIZE - OWN)  # the next board of the batch
OWN_RANGE = ((OWN, SIZE),)
REST = ((0, OWN),)


class Known:
    """A store that holds the blocks of whole flashes, and says what it was asked for."""

    def __init__(self, *flashes: bytes) -> None:
        self.flashes = list(flashes)
        self.asked: list[Range] = []

    def candidates(self, offset: int, length: int) -> list[bytes]:
        self.asked.append((offset, length))
        return [flash[offset : offset + length] for flash in self.flashes]


class Chip:
    """What `read_by_matching` uses of a NativeFlasher, without a wire. `twist` sees each CRC before it is told."""

    def __init__(self, flash: bytes, twist: Callable[[int], int] = lambda crc: crc) -> None:
        self.flash = flash
        self.twist = twist
        self.retries: list[str] = []
        self.crcs: list[Range] = []
        self.known: dict[int, bytes] = {}

    def read(self, link: None, offset: int, length: int, progress: Progress = no_progress) -> FlashResult:
        progress("read", length, length)
        return FlashResult(True, "", 0.0, length, data=self.flash[offset : offset + length])

    def crc(self, link: None, offset: int, length: int) -> int:
        self.crcs.append((offset, length))
        return self.twist(zlib.crc32(self.flash[offset : offset + length]))

    def know(self, offset: int, data: bytes) -> None:
        self.known[offset] = data


def backup(chip: Chip, known: Known, seed: int | None = None, progress: Progress = no_progress) -> Matched:
    draw = None if seed is None else random.Random(seed)
    found = read_by_matching(chip, None, len(chip.flash), known, progress, draw)  # type: ignore[arg-type]
    whole(found, len(chip.flash))
    return found


def whole(found: Matched, size: int = SIZE) -> None:
    """What was read and what was matched are the flash, each byte once, in ranges as large as can be."""
    assert len(found.data) == size
    both = sorted(found.read + found.matched)
    assert [start for start, _ in both] == [0, *(end for _, end in both[:-1])]
    assert both[-1][1] == size
    for ranges in (found.read, found.matched):
        assert all(a[1] < b[0] for a, b in itertools.pairwise(ranges))
    assert found.read_size + found.matched_size == size


@contextmanager
def on_wire(flash: bytes) -> Iterator[tuple[ChipOnWire, DirectLink, NativeFlasher]]:
    with ChipOnWire(NorFlash(flash), speed=200) as chip:
        flasher, link = NativeFlasher(), DirectLink(chip)
        try:
            flasher.identify(link)
            chip.heard.clear()
            yield chip, link, flasher
        finally:
            flasher.close()


def commands(chip: ChipOnWire) -> tuple[list[int], list[Range]]:
    """Sectors the chip was asked to read, and (start, length) of each CRC."""
    heard, reads, crcs = bytes(chip.heard), [], []
    head = b"\x01\xe0\xfc\xff\xf4\x05\x00" + bytes((Long.READ_4K,))
    for at in range(len(heard)):
        if heard.startswith(head, at):
            reads.append(struct.unpack_from("<I", heard, at + 8)[0])
        elif heard.startswith(b"\x01\xe0\xfc\x09\x10", at):
            start, end = struct.unpack_from("<II", heard, at + 5)
            crcs.append((start, end - start + 1))
    return reads, crcs


# -- on the wire --------------------------------------------------------------------------------------------------


def test_the_first_board_is_read_and_the_second_matched_but_for_its_own(tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "blocks")
    first = backup(Chip(NOISE), store)  # type: ignore[arg-type]
    assert (first.data, first.read, first.matched) == (NOISE, ((0, SIZE),), ())
    assert store.add(first.data[:OWN]) == OWN // BLOCK
    with on_wire(OTHER) as (chip, link, flasher):
        second = read_by_matching(flasher, link, SIZE, store)
        assert (second.data, second.read, second.matched) == (OTHER, OWN_RANGE, REST)
        assert second.retries == ()
        reads, crcs = commands(chip)
        assert reads == list(range(OWN, SIZE, SECTOR))
        assert chip.flash.erases == {}
        # by the chip's and the wire's own times: 24 bytes a CRC, 24 more and 3 ms of the host before each but the
        # reads' own, 4123 bytes a sector
        wire = 10 / 921600 * (4123 * len(reads) + 48 * len(crcs))
        assert wire + 0.003 * len(crcs) + sum(length for _, length in crcs) / 438_000 < 7.8
        # what is known of the board's content serves where a later write goes astray
        assert flasher._around._known.keys() >= set(range(0, SIZE, SECTOR))


def test_a_damaged_store_costs_time_and_nothing_else(tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "blocks")
    store.add(NOISE[:OWN])
    damaged = [next(store.folder.glob(f"{at:06x}+*/*.zst")) for at in (0x20000, 0x30000, 0x100000)]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-9])
    found = backup(Chip(OTHER), store)  # type: ignore[arg-type]
    assert found.data == OTHER
    assert found.read == ((0x20000, 0x40000), (0x100000, 0x110000), (OWN, SIZE))
    assert [str(path) in said for path, said in zip(damaged, store.dropped, strict=True)] == [True] * 3


def test_a_chip_whose_crc_is_never_right_has_no_backup() -> None:
    """It fails as a full read does."""
    draw = random.Random(4)
    with on_wire(NOISE) as (chip, link, flasher):
        chip.twist = lambda reply: reply[:-1] + bytes((draw.randrange(256),)) if reply[6] == 0x10 else reply
        with pytest.raises(UnitFailed) as caught:
            read_by_matching(flasher, link, SIZE, Known(NOISE))
        assert caught.value.code == "backup-mismatch"


def test_a_chip_whose_crc_is_wrong_now_and_then_is_read() -> None:
    draw = random.Random(5)

    def twist(reply: bytes) -> bytes:
        wrong = reply[6] == 0x10 and reply[2] != 0xFF and draw.random() < 0.1
        return reply[:-1] + bytes((reply[-1] ^ 0x20,)) if wrong else reply

    with on_wire(OTHER) as (chip, link, flasher):
        chip.twist = twist
        found = read_by_matching(flasher, link, SIZE, Known(NOISE))
        assert (found.data, found.read, found.matched) == (OTHER, ((0, SIZE),), ())
        assert "the chip's CRC is not steady: all of the flash is read" in found.retries


# -- what is taken, and what is not -------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, SIZE - 1), st.integers(1, 255), st.integers(0, 1 << 30))
def test_one_byte_that_differs_anywhere_is_in_the_backup(at: int, change: int, seed: int) -> None:
    flash = bytearray(OTHER)
    flash[at] ^= change
    chip = Chip(bytes(flash))
    found = backup(chip, Known(NOISE), seed)
    assert found.data == chip.flash
    block = at // BLOCK * BLOCK
    assert found.read_size == SIZE - OWN + (BLOCK if at < OWN else 0)
    assert any(start <= block < end for start, end in found.read)
    assert chip.known == {
        start: chip.flash[start : start + BLOCK] for start in range(0, OWN, BLOCK) if start != block
    }


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.binary(min_size=1, max_size=300)), max_size=40),
    st.lists(
        st.lists(st.tuples(st.integers(0, SIZE - 1), st.binary(min_size=1, max_size=300)), max_size=6), max_size=5
    ),
    st.integers(0, 1 << 30),
)
def test_whatever_the_store_knows_the_backup_is_the_flash(
    holds: list[tuple[int, bytes]], others: list[list[tuple[int, bytes]]], seed: int
) -> None:
    def flash(base: bytes, changes: Sequence[tuple[int, bytes]]) -> bytes:
        made = bytearray(base)
        for at, data in changes:
            made[at : at + len(data)] = data[: SIZE - at]
        return bytes(made)

    half = NOISE[:0x100000] + b"\xff" * 0x100000
    chip = Chip(flash(half, holds))
    found = backup(chip, Known(*(flash(half, other) for other in others)), seed)
    assert found.data == chip.flash
    assert all(start >= OWN or start % BLOCK == 0 for start, _ in found.read)


def test_what_is_the_board_s_own_is_read_even_where_it_is_known_or_blank() -> None:
    blank = NOISE[:OWN] + b"\xff" * (SIZE - OWN)
    for flash in (NOISE, blank):
        known = Known(flash)
        found = backup(Chip(flash), known)
        assert (found.data, found.read) == (flash, OWN_RANGE)
        assert known.asked == [(start, BLOCK) for start in range(0, OWN, BLOCK)]
    assert flashmap.CALIBRATION["BK7231N"] == OWN
    for chip in flashmap.REGIONS:
        assert all(start >= OWN for start, _ in flashmap.identity_ranges(chip))
        assert flashmap.OBK_CONFIG[chip] >= OWN


def test_blank_blocks_need_no_store() -> None:
    flash = NOISE[:0x40000] + b"\xff" * (OWN - 0x40000) + NOISE[OWN:]
    chip = Chip(flash)
    found = backup(chip, Known())
    assert (found.data, found.read, found.matched) == (flash, ((0, 0x40000), (OWN, SIZE)), ((0x40000, OWN),))
    unknown = [length for start, length in chip.crcs if start < 0x40000]
    assert len(unknown) == 4  # a block that nobody knows is found out by its small first part
    assert max(unknown) < 0x400


@pytest.mark.parametrize("at", [0x3800, 0x9000, 0xFFFC])
def test_a_block_that_was_made_to_have_the_same_crc_is_not_taken(at: int) -> None:
    """One CRC of the block, or of any range around it, says that the wrong content is the right one."""
    block = NOISE[0x30000:0x40000]
    other = bytearray(block)
    other[0x100:0x180] = bytes(0x80)
    made = forged(block, bytes(other), at)
    assert zlib.crc32(made) == zlib.crc32(block)
    assert made != block
    fake = NOISE[:0x30000] + made + NOISE[0x40000:]
    for flash, held in ((NOISE, fake), (fake, NOISE)):
        for seed in range(10):
            found = backup(Chip(flash), Known(held), seed)
            assert found.data == flash
            assert found.read == ((0x30000, 0x40000), (OWN, SIZE))
        assert backup(Chip(flash), Known(held, flash)).matched == REST


def test_a_forgery_as_narrow_as_can_be_is_found_only_where_a_cut_falls() -> None:
    """The limit that the odds are about: five bytes that differ by the polynomial do not change the CRC of any range
    around them."""
    polynomial = int(f"{0x104C11DB7:033b}"[::-1], 2).to_bytes(5, "little")
    dry = Chip(OTHER)
    backup(dry, Known(NOISE), 3)
    cut = [start for start, _ in dry.crcs if 0x30000 < start < 0x40000][2]
    for at, seen in ((cut - 2, True), (cut + 100, False)):
        flash = bytearray(OTHER)
        for index, byte in enumerate(polynomial):
            flash[at + index] ^= byte
        assert zlib.crc32(flash[0x30000:0x40000]) == zlib.crc32(OTHER[0x30000:0x40000])
        found = backup(Chip(bytes(flash)), Known(NOISE), 3)
        assert (found.data == flash) is seen
        assert (found.read == OWN_RANGE) is not seen


def test_the_right_one_of_many_is_found_in_one_pass() -> None:
    """Candidates cost the chip nothing: what is asked for is the same, however many there are."""
    others = []
    for index in range(MOST - 1):
        made = bytearray(NOISE)
        for block in range(0, OWN, BLOCK):
            made[block + random.Random(index + block).randrange(BLOCK)] ^= 1
        others.append(bytes(made))
    chip = Chip(OTHER)
    found = backup(chip, Known(*others[:9], NOISE, *others[9:]))
    assert (found.data, found.matched) == (OTHER, REST)
    assert sum(length for _, length in chip.crcs) == OWN
    assert len(chip.crcs) == 5 * OWN // BLOCK


def test_the_cuts_are_drawn_anew_each_time() -> None:
    seen = []
    for _ in range(2):
        chip = Chip(OTHER)
        backup(chip, Known(NOISE))
        seen.append(chip.crcs)
        cut = [{start % BLOCK for start, _ in chip.crcs if start // BLOCK == block} for block in range(OWN // BLOCK)]
        assert all(len(points) == 5 for points in cut)
        assert len({tuple(sorted(points)) for points in cut}) == len(cut)
        assert sorted(chip.crcs)[0][0] == 0
        assert all(a[0] + a[1] == b[0] for a, b in itertools.pairwise(chip.crcs))
    assert len(set(seen[0]) & set(seen[1])) < 3


# -- a CRC that is not believed -----------------------------------------------------------------------------------


def denied(*which: int) -> Callable[[int], int]:
    """CRCs that are wrong, by their running number."""
    count = iter(range(1 << 20))
    return lambda crc: crc ^ 1 if next(count) in which else crc


def test_one_crc_that_was_damaged_on_its_way_costs_its_block() -> None:
    found = backup(Chip(OTHER, denied(7)), Known(NOISE))
    assert found.data == OTHER
    assert found.read == ((BLOCK, 2 * BLOCK), (OWN, SIZE))
    assert found.retries == ("0x10000 reads as a block that is known, which the chip's CRC had denied",)


def test_a_second_one_and_all_is_read() -> None:
    for last in (11, 5 * OWN // BLOCK - 5):
        chip = Chip(OTHER, denied(7, last))
        known = Known(NOISE)
        found = backup(chip, known)
        assert (found.data, found.read, found.matched) == (OTHER, ((0, SIZE),), ())
        assert found.retries[-1] == "the chip's CRC is not steady: all of the flash is read"
        assert len(found.retries) == 3
    assert len(known.asked) == OWN // BLOCK  # the last block told


@pytest.mark.parametrize(("wrong", "believed"), [((), True), ((1,), True), ((1, 4), False)])
def test_after_a_read_with_trouble_the_crc_is_asked_again(wrong: tuple[int, ...], believed: bool) -> None:
    chip = Chip(OTHER, denied(*wrong))
    read = chip.read

    def troubled(*what: object) -> FlashResult:
        chip.retries.append("read-4k repeated: no reply")
        chip.read = read  # type: ignore[method-assign]
        return read(*what)  # type: ignore[arg-type]

    chip.read = troubled  # type: ignore[method-assign]
    found = backup(chip, Known(NOISE))
    assert found.data == OTHER
    assert found.matched == (REST if believed else ())
    assert found.retries[0] == "read-4k repeated: no reply"
    assert sum("is another than it was" in line for line in found.retries) == len(wrong)


def test_a_line_that_needs_repeat_after_repeat_is_lost() -> None:
    chip = Chip(OTHER)
    crc = chip.crc

    def repeated(link: None, offset: int, length: int) -> int:
        chip.retries.append("check-crc repeated: no reply")
        return crc(link, offset, length)

    chip.crc = repeated  # type: ignore[method-assign]
    with pytest.raises(BenchBlocked) as caught:
        backup(chip, Known(NOISE))
    assert caught.value.code == "link-lost"
    assert 100 < len(chip.retries) <= 105


def test_without_a_store_all_is_read_blank_or_not() -> None:
    chip = Chip(NOISE[:0x100000] + b"\xff" * 0x100000)
    found = read_by_matching(chip, None, SIZE, None)  # type: ignore[arg-type]
    assert (found.data, found.read, found.matched) == (chip.flash, ((0, SIZE),), ())
    assert chip.crcs == []


def test_a_flash_of_another_size_is_read_whole() -> None:
    chip = Chip(NOISE[:0x100000])
    found = backup(chip, Known(NOISE[:0x100000]))
    assert (found.data, found.read) == (chip.flash, ((0, 0x100000),))
    assert chip.crcs == []


def test_progress_is_told_in_order_up_to_the_whole() -> None:
    seen: list[tuple[str, int, int]] = []
    flash = bytearray(OTHER)
    flash[0x54321] ^= 1
    backup(Chip(bytes(flash)), Known(NOISE), progress=lambda *what: seen.append(what))
    done = [count for _, count, _ in seen]
    assert done == sorted(done)
    assert seen[-1] == ("read", SIZE, SIZE)
    assert len(seen) > OWN // BLOCK


def test_a_read_that_gives_nothing_is_no_backup() -> None:
    chip = Chip(OTHER)
    chip.read = lambda *what: FlashResult(False, "nothing came", 0.0)  # type: ignore[method-assign]
    with pytest.raises(UnitFailed, match="0x1d0000 to 0x200000 could not be read: nothing came"):
        backup(chip, Known(NOISE))
