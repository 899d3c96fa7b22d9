"""How fast a link goes: it steps down by itself, what works is remembered, and adaptors that hold replies back."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chip_on_wire import ChipOnWire, DirectLink

from rig.errors import BenchBlocked, UnitFailed
from rig.flashers.native import NativeFlasher
from rig.flashers.speed import LADDER, SpeedMemory, above, below, latency_advice, remembered, state_file
from rig.sim.flash import SIZE, NorFlash

SECTOR = 0x1000
NOISE = random.Random(21).randbytes(SIZE)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.chip.client._REPLY_S", 0.08)
    monkeypatch.setattr("rig.chip.client._ERASE_S", {0x1000: 0.1, 0x8000: 0.1, 0x10000: 0.1})


@contextmanager
def a_flasher(
    chip: ChipOnWire, baud: int = 2_000_000, memory: SpeedMemory | None = None
) -> Iterator[tuple[NativeFlasher, DirectLink]]:
    flasher = NativeFlasher(memory)
    try:
        yield flasher, DirectLink(chip, baud)
    finally:
        flasher.close()


def lossy(chip: ChipOnWire, above_baud: int, every: int, code: int | None = None) -> None:
    """Every so many-th reply (of one long command) gets lost above a speed."""
    count = [0]

    def twist(reply: bytes) -> bytes:
        if chip.rom.baud <= above_baud or (code is not None and (reply[2] != 0xFF or reply[9] != code)):
            return reply
        count[0] += 1
        return b"" if count[0] % every == 0 else reply

    chip.twist = twist


def test_the_ladder() -> None:
    assert LADDER == (2000000, 1500000, 921600, 460800, 230400, 115200)
    assert [below(baud) for baud in LADDER] == [*LADDER[1:], None]
    assert below(1_000_000) == 921_600
    assert [above(baud) for baud in LADDER] == [None, *LADDER[:-1]]


def test_a_board_that_cannot_go_fast_gets_the_fastest_it_can() -> None:
    with ChipOnWire(NorFlash(NOISE), worst_baud=500_000) as chip, a_flasher(chip) as (flasher, link):
        result = flasher.read(link, 0, SECTOR)
        assert result.data == NOISE[:SECTOR]
        assert result.retries == (
            "2000000 baud failed, going on at 1500000",
            "1500000 baud failed, going on at 921600",
            "921600 baud failed, going on at 460800",
        )
        assert (flasher.baud, chip.rom.baud, link.prepared) == (460800, 460800, 4)


def test_a_board_that_knows_one_speed_only_is_worked_at_it() -> None:
    with ChipOnWire(NorFlash(NOISE), worst_baud=115_200) as chip, a_flasher(chip, 230_400) as (flasher, link):
        assert flasher.read(link, 0, SECTOR).ok
        assert flasher.baud == 115200


def test_a_speed_change_that_was_not_heard_needs_no_power_cycle() -> None:
    with ChipOnWire(NorFlash(NOISE)) as chip, a_flasher(chip) as (flasher, link):
        finish, left = chip.rom.finish_baud_change, [1]

        def deaf(at: float) -> None:
            if left[0] and chip.rom.baud_change:
                left[0], chip.rom.baud_change = 0, None
            finish(at)

        chip.rom.finish_baud_change = deaf  # type: ignore[method-assign]
        assert flasher.read(link, 0, SECTOR).retries == ("2000000 baud failed, going on at 1500000",)
        assert link.prepared == 1


def test_it_steps_down_in_the_middle_of_a_write_and_goes_on() -> None:
    """The ROM keeps its state over a change of speed: nothing begins anew, and no power-cycle either."""
    piece = random.Random(3).randbytes(0x18000)
    with ChipOnWire(NorFlash(NOISE)) as chip, a_flasher(chip) as (flasher, link):
        lossy(chip, 1_000_000, every=4, code=0x07)
        result = flasher.write(link, [(0x20000, piece)])
        assert result.ok
        assert [line for line in result.retries if "baud" in line] == [
            "2000000 baud: too many repeats; going on at 1500000",
            "1500000 baud: too many repeats; going on at 921600",
        ]
        assert flasher.baud == chip.rom.baud == 921600
        assert link.prepared == 1
        assert len(result.retries) == 2 + 6
        assert bytes(chip.flash.data) == NOISE[:0x20000] + piece + NOISE[0x38000:]
        assert set(chip.flash.erases.values()) == {1}


def test_a_command_that_gets_through_at_a_lower_speed_only_is_repeated_there() -> None:
    with ChipOnWire(NorFlash(NOISE)) as chip, a_flasher(chip) as (flasher, link):
        lossy(chip, 1_000_000, every=1, code=0x09)
        result = flasher.read(link, 0, SECTOR)
        assert result.data == NOISE[:SECTOR]
        assert [line for line in result.retries if "baud" in line] == [
            "2000000 baud: no reply to read-4k in 4 tries; going on at 1500000",
            "1500000 baud: no reply to read-4k in 4 tries; going on at 921600",
        ]


def test_sectors_that_came_out_wrong_are_written_again_more_slowly() -> None:
    """Damage that no reply tells of: only the CRC of the range does."""
    piece = random.Random(4).randbytes(0x30000)
    with ChipOnWire(NorFlash(NOISE)) as chip, a_flasher(chip) as (flasher, link):
        program, count = chip.flash.program, [0]

        def noisy(addr: int, data: bytes, *, done: float = 1.0) -> bool:
            count[0] += 1
            if chip.rom.baud > 1_000_000 and count[0] % 100 == 0:
                data = data[:7] + bytes((data[7] ^ 0x10,)) + data[8:]
            return program(addr, data, done=done)

        chip.flash.program = noisy  # type: ignore[method-assign]
        result = flasher.write(link, [(0x20000, piece)])
        assert result.ok
        assert flasher.baud == 1_500_000
        assert any("sectors or more came out wrong; going on at 1500000" in line for line in result.retries)
        assert bytes(chip.flash.data) == NOISE[:0x20000] + piece + NOISE[0x50000:]


def test_a_line_that_loses_too_much_at_every_speed_blames_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.flashers.session.MOST_RETRIES", 12)
    with ChipOnWire(NorFlash(NOISE), speed=400) as chip, a_flasher(chip) as (flasher, link):
        lossy(chip, 0, every=2, code=0x07)
        with pytest.raises(BenchBlocked, match="more than 12 commands had to be repeated") as caught:
            flasher.write(link, [(0x20000, bytes(0x20000))])
        assert caught.value.code == "link-lost"


def test_reads_that_never_agree_end_at_the_ladder_s_foot() -> None:
    with ChipOnWire(NorFlash(NOISE), speed=400) as chip, a_flasher(chip) as (flasher, link):

        def twist(reply: bytes) -> bytes:
            wrong = reply[2] == 0xFF and reply[9] == 0x09
            return reply[:2000] + bytes((reply[2000] ^ 1,)) + reply[2001:] if wrong else reply

        chip.twist = twist
        with pytest.raises(UnitFailed, match="disagree") as caught:
            flasher.read(link, 0, 0x10000)
        assert caught.value.code == "backup-mismatch"
        assert sum("going on at" in line for line in flasher.retries) == 5


# -- what is remembered ----------------------------------------------------------------------------------------


def test_what_worked_in_a_slot_is_what_the_next_link_begins_with(tmp_path: Path) -> None:
    memory = SpeedMemory(tmp_path / "speed" / "A.json")
    with ChipOnWire(NorFlash(NOISE), worst_baud=1_000_000) as chip:
        with a_flasher(chip, memory=memory) as (flasher, link):
            flasher.read(link, 0, SECTOR)
        assert json.loads(memory.path.read_text()) == {"asked": 2000000, "baud": 921600, "clean": 0}
        with a_flasher(chip, memory=memory) as (flasher, link):
            assert flasher.read(link, 0, SECTOR).retries == ()
            assert (flasher.baud, link.prepared) == (921600, 1)
        assert memory.first(2_000_000) == 921_600


def test_a_step_down_in_the_middle_is_remembered_at_once(tmp_path: Path) -> None:
    memory = SpeedMemory(tmp_path / "A.json")
    with ChipOnWire(NorFlash(NOISE)) as chip, a_flasher(chip, memory=memory) as (flasher, link):
        lossy(chip, 1_600_000, every=1, code=0x09)
        flasher.read(link, 0, SECTOR)
        assert memory.first(2_000_000) == 1_500_000


def test_a_lower_speed_is_not_for_ever(tmp_path: Path) -> None:
    memory = SpeedMemory(tmp_path / "A.json")
    assert memory.first(2_000_000) == 2_000_000
    memory.lowered(2_000_000, 460_800)
    for _ in range(19):
        memory.ended_well(2_000_000, 460_800)
    assert memory.first(2_000_000) == 460_800
    memory.ended_well(2_000_000, 460_800)
    assert memory.first(2_000_000) == 921_600  # one step at a time
    memory.lowered(2_000_000, 460_800)  # it did not hold
    assert memory.first(2_000_000) == 460_800
    memory.ended_well(2_000_000, 921_600)  # and if it does, it stays
    assert memory.first(2_000_000) == 921_600
    assert memory.first(921_600) == 921_600
    assert memory.first(1_500_000) == 1_500_000  # the bench file asks for something else now


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"asked": 2000000}', '{"asked": 2000000, "baud": "fast", "clean": 0}']
)
def test_a_damaged_memory_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "A.json"
    path.write_text(text)
    assert SpeedMemory(path).first(921_600) == 921_600


def test_a_memory_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = SpeedMemory(tmp_path / "file" / "A.json")
    memory.lowered(921_600, 460_800)
    assert memory.first(921_600) == 921_600


def test_each_slot_has_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (state_file(f"/dev/serial/by-path/pci-0:1.{n}-port0", tmp_path) for n in (1, 2))
    assert one != other
    assert one.parent == tmp_path / "speed"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert state_file("/dev/ttyUSB0").is_relative_to(tmp_path / "state" / "rig")


# -- adaptors ----------------------------------------------------------------------------------------------------


def test_an_adaptor_that_holds_replies_back_is_told_with_what_to_do(tmp_path: Path) -> None:
    device = tmp_path / "bus" / "usb-serial" / "devices" / "ttyUSB7"
    device.mkdir(parents=True)
    assert latency_advice("/dev/ttyUSB7", tmp_path) is None  # not an FTDI
    (device / "latency_timer").write_text("16\n")
    by_path = tmp_path / "by-path-port0"
    by_path.symlink_to("/dev/ttyUSB7")
    for port in ("/dev/ttyUSB7", str(by_path)):
        said = latency_advice(port, tmp_path)
        assert said is not None
        assert said.startswith(f"The adaptor at {port} holds each reply back for up to 16 ms")
        assert f"echo 1 | sudo tee {device}/latency_timer" in said
        assert 'ATTR{latency_timer}="1"' in said
    (device / "latency_timer").write_text("1\n")
    assert latency_advice("/dev/ttyUSB7", tmp_path) is None
    (device / "latency_timer").write_text("odd")
    assert latency_advice("/dev/ttyUSB7", tmp_path) is None
    assert latency_advice("socket://192.168.1.9:4000", tmp_path) is None


def test_a_pseudo_terminal_has_no_memory(tmp_path: Path) -> None:
    """Its number is given to the next one: what one simulated board could not do says nothing about another."""
    ours, theirs = os.openpty()
    try:
        assert remembered(os.ttyname(theirs), tmp_path) is None
        link = tmp_path / "board-A"
        link.symlink_to(os.ttyname(theirs))
        assert remembered(str(link), tmp_path) is None
    finally:
        os.close(ours)
        os.close(theirs)
    found = remembered("/dev/serial/by-path/pci-0:1.1-port0", tmp_path)
    assert found is not None
    assert found.path.is_relative_to(tmp_path)
