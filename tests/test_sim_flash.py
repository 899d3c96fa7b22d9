"""The simulated flash die: weak cells, operations that are cut short, and how a sag on the rail comes to them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.sim.cells import CutShort, cut_short
from rig.sim.die import Die
from rig.sim.flash import SIZE, NorFlash
from rig.sim.flashuse import FlashUse

SECTOR, PAGE = 0x1000, 0x100
LAW = CutShort()


@pytest.fixture
def noise() -> bytes:
    return random.Random(5).randbytes(SIZE)


# -- weak bits -----------------------------------------------------------------------------------------------


def test_a_bit_that_is_always_wrong(noise: bytes) -> None:
    flash = NorFlash(noise)
    flash.weaken(0x1234, 0x81, 1.0)
    assert flash.read(0x1234, 1)[0] == noise[0x1234] ^ 0x81
    assert flash.read(0x1233, 3)[::2] == noise[0x1233:0x1236:2]
    assert flash.read(SIZE - 1, 0x1236)[0x1235] == noise[0x1234] ^ 0x81  # across the end of the die too
    assert bytes(flash.data) == noise
    assert flash.weak_bits == 2


def test_a_weak_bit_is_drawn_at_each_read_and_again_with_the_same_seed() -> None:
    def reads(seed: int) -> list[int]:
        flash = NorFlash(seed=seed)
        flash.weaken(7, 1, 0.3)
        return [flash.read(0, 16)[7] for _ in range(1000)]

    assert reads(1) == reads(1) != reads(2)
    assert set(reads(1)) == {0xFF, 0xFE}
    assert 230 < reads(1).count(0xFE) < 370


def test_a_bit_drawn_at_power_on_stays_so_until_the_next() -> None:
    flash = NorFlash(seed=4)
    flash.weaken(7, 1, 0.0, at_power_on=0.5)
    seen = []
    for _ in range(200):
        reads = {flash.read(7, 1)[0] for _ in range(5)}
        assert len(reads) == 1
        seen += reads
        flash.power_on()
    assert seen[0] == 0xFF  # right until the first power-on
    assert 60 < seen.count(0xFE) < 140


@pytest.mark.parametrize("stuck", [False, True])
def test_what_heals_a_weak_bit(stuck: bool) -> None:
    flash = NorFlash()
    flash.weaken(0x2000, 0x03, 1.0, stuck=stuck)
    flash.program(0x2000, b"\xfe")  # bit 0 is driven anew, bit 1 is not
    assert flash.read(0x2000, 1) == (b"\xfd" if stuck else b"\xfc")
    flash.erase(0x2000, SECTOR)
    assert flash.read(0x2000, 1) == (b"\xfc" if stuck else b"\xff")
    assert flash.weak_bits == (2 if stuck else 0)


def test_whoever_caches_code_hears_of_it() -> None:
    flash, heard = NorFlash(), []
    flash.on_change.append(lambda start, end: heard.append((start, end)))
    flash.weaken(0x40, 1, 0.5, at_power_on=0.5)
    flash.power_on()
    assert heard == [(0x40, 0x41), (0x40, 0x41)]


@pytest.mark.parametrize(
    ("address", "mask", "probability"), [(SIZE, 1, 0.5), (-1, 1, 0.5), (0, 0, 0.5), (0, 256, 0.5), (0, 1, 1.1)]
)
def test_senseless_weakness_is_refused(address: int, mask: int, probability: float) -> None:
    with pytest.raises(ValueError):
        NorFlash().weaken(address, mask, probability)


# -- operations that are cut short ---------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.floats(0.0, 0.9999), st.sampled_from([PAGE, SECTOR]), st.integers(0, 1 << 30))
def test_bits_only_move_the_right_way_and_pages_in_order(done: float, size: int, seed: int) -> None:
    rng = random.Random(seed)
    old = rng.randbytes(size)
    content, weak = cut_short(old, b"\xff" * size, done, LAW, rng)
    assert all(new & was == was for new, was in zip(content, old, strict=True))
    finished = int(size // PAGE * min(1.0, done / LAW.reads_done)) * PAGE
    assert content[:finished] == b"\xff" * finished
    assert content[finished + PAGE :] == old[finished + PAGE :]
    assert not any(weak[finished:])
    assert all(not mask & was for mask, was in zip(weak, old, strict=True))  # only cells that moved


def test_the_frontier_page_is_a_mix() -> None:
    old = bytes(SECTOR)
    content, _ = cut_short(old, b"\xff" * SECTOR, LAW.reads_done * 5.5 / 16, LAW, random.Random(1))
    ones = int.from_bytes(content[5 * PAGE : 6 * PAGE], "little").bit_count()
    assert 0.4 * 8 * PAGE < ones < 0.6 * 8 * PAGE


def test_the_less_was_done_the_more_cells_are_weak() -> None:
    counts = []
    for done in (0.99, 0.9, 0.75, 0.6):
        _, weak = cut_short(bytes(0x10000), b"\xff" * 0x10000, done, LAW, random.Random(3))
        counts.append(sum(mask.bit_count() for mask in weak))
    assert counts == sorted(counts)
    assert 20 <= counts[0] <= 60
    assert counts[3] == pytest.approx(0x80000 * LAW.weak_share, rel=0.1)


def test_a_short_erase_reads_right_now_and_wrong_later_and_a_good_one_heals_it() -> None:
    flash = NorFlash(bytes(SIZE), seed=2)
    flash.erase(0x3000, SECTOR, done=0.7)
    blank = b"\xff" * SECTOR
    assert flash.read(0x3000, SECTOR) == blank
    flash.power_on()
    assert flash.read(0x3000, SECTOR) != blank
    flash.erase(0x3000, SECTOR)
    flash.power_on()
    assert flash.read(0x3000, SECTOR) == blank


def test_a_program_without_power_does_nothing_and_a_short_one_is_weak() -> None:
    flash = NorFlash(law=CutShort(weak_share=0.05), seed=2)
    assert flash.program(0, bytes(PAGE), done=0.0)
    assert flash.read(0, PAGE) == b"\xff" * PAGE
    flash.program(0, bytes(PAGE), done=0.3)
    assert flash.read(0, PAGE) not in (b"\xff" * PAGE, bytes(PAGE))
    flash.program(0, bytes(PAGE), done=0.65)
    assert bytes(flash.data[:PAGE]) == bytes(PAGE)
    assert flash.weak_bits > 10


# -- the die at work -----------------------------------------------------------------------------------------


class Weak:
    """A supply that lets a die do half of its work."""

    def worked(self, start: float, end: float) -> float:
        return (end - start) / 2

    def reads_well(self, start: float, end: float) -> bool:
        return False


def test_content_changes_when_an_operation_ends() -> None:
    done: list[float] = []
    die = Die()
    die.begin(1.0, 2.0, done.append)
    assert die.next_end == 2.0
    die.settle(1.9)
    assert done == []
    die.settle(2.0)
    assert done == [1.0]
    assert die.next_end == float("inf")


@pytest.mark.parametrize(
    ("end", "part"),
    [
        (lambda die: die.settle(5.0), 0.5),
        (lambda die: die.power_lost(1.4), 0.2),
        (lambda die: die.power_lost(7.0), 0.5),
        (lambda die: die.complete(), 1.0),
    ],
)
def test_how_much_of_it_was_done(end: Callable[[Die], None], part: float) -> None:
    done: list[float] = []
    die = Die(Weak())
    die.begin(1.0, 2.0, done.append)
    end(die)
    assert done == [pytest.approx(part)]
    die.settle(9.0)
    assert len(done) == 1


class Sagging(Weak):
    """A supply that lets a die do three quarters of its work."""

    def worked(self, start: float, end: float) -> float:
        return (end - start) * 0.75


def test_firmware_s_own_flash_work_is_judged_when_it_is_over() -> None:
    flash = NorFlash(bytes(SIZE), seed=6)
    use = FlashUse(flash, Sagging(), 1.0)
    flash.erase(0x8000, SECTOR)  # nobody watches
    use.watch(True)
    flash.erase(0x4000, SECTOR)
    use.load_changed(True, 1.0)
    use.load_changed(True, 1.01)
    flash.program(0x4000, b"\x12" * 32)
    assert flash.weak_bits == 0
    use.load_changed(False, 1.05)
    assert flash.weak_bits > 20
    assert flash.read(0x4000, 32) == b"\x12" * 32  # what came after the erase stays
    use.watch(False)
    before = flash.weak_bits
    flash.erase(0x6000, SECTOR)
    use.load_changed(True, 2.0)
    use.load_changed(False, 3.0)
    assert flash.weak_bits == before


def test_firmware_s_erase_that_lost_its_power_is_half_done() -> None:
    flash = NorFlash(bytes(SIZE), seed=6)
    use = FlashUse(flash, Sagging(), 1.0)
    use.watch(True)
    flash.erase(0x4000, SECTOR)
    use.load_changed(True, 1.0)
    use.power_lost(1.02)  # 0.75 * 20 ms of 45 ms
    content = flash.read(0x4000, SECTOR)
    assert content[: 8 * PAGE] == b"\xff" * 8 * PAGE
    assert content[9 * PAGE :] == bytes(7 * PAGE)


def test_firmware_s_chip_erase_takes_its_own_time() -> None:
    flash = NorFlash(bytes(SIZE), seed=6)
    use = FlashUse(flash, Sagging(), 1.0)
    use.watch(True)
    flash.erase(0, SIZE)
    use.load_changed(True, 1.0)
    use.power_lost(4.2)  # 0.75 * 3.2 s of 8 s, where 60 % reads as finished
    assert flash.data[SIZE // 2 - PAGE - 1] == 0xFF
    assert flash.data[SIZE // 2 + PAGE] == 0


def test_what_a_burst_of_the_radio_hid_is_not_judged_with_what_came_later() -> None:
    flash = NorFlash(bytes(SIZE), seed=6)
    use = FlashUse(flash, Sagging(), 1.0)
    use.watch(True)
    flash.erase(0x4000, SECTOR)
    use.load_changed(False, 1.05)  # the work was never seen
    flash.erase(0x8000, SECTOR)
    use.load_changed(True, 2.0)
    use.load_changed(False, 2.045)
    assert flash.weak_bits > 20
    flash.erase(0x8000, SECTOR)  # heals its own
    assert flash.weak_bits == 0
