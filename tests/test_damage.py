"""Damage on request: what a client makes of a drop, a delay, a flip; and that nothing forbidden comes of it."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.chip.client import crc32
from rig.chip.frames import Header, Request, RequestScanner
from rig.errors import UsageProblem
from rig.sim.flash import SIZE, NorFlash
from rig.sim.rom import Rom
from rig.uart.damage import Damage, Damager
from rig.uart.guard import Guard
from rig.uart.trace import Command
from tests.test_tap import NOISE, Table, a_table, set_baud
from tests.waiting import until

CHIP_ID = 0x800000
READ_CHIP_ID = Request(3, struct.pack("<I", CHIP_ID)).encode()
READ_4K = Request(9, struct.pack("<I", 0x1000), True).encode()


def read_4k(table: Table) -> bytes:
    """The sector at 0x1000, of a reply that no terminal holds as a whole."""
    table.port.write(READ_4K)
    found = bytearray()
    assert until(lambda: found.extend(table.port.read(table.port.in_waiting)) or len(found) >= 4111)
    return bytes(found[15:])


def seconds(table: Table) -> float:
    """How long the chip's id takes."""
    began = time.monotonic()
    assert table.ask(READ_CHIP_ID, 15).endswith(bytes.fromhex("1C230700"))
    return time.monotonic() - began


@pytest.fixture
def table() -> Iterator[Table]:
    with a_table() as table:
        yield table


def test_a_reply_is_lost_and_the_next_one_is_not(table: Table) -> None:
    table.linked()
    table.tap.damage(Damage("drop", "host", "read-4k", 2))
    assert read_4k(table) == NOISE[0x1000:0x2000]
    table.port.write(READ_4K)
    assert until(lambda: table.tap.commands[-1].answered and table.tap.commands[-1].damage)
    assert table.ask(READ_CHIP_ID, 15).endswith(bytes.fromhex("1C230700"))
    assert read_4k(table) == NOISE[0x1000:0x2000]
    reads = [command for command in table.tap.commands if command.name == "read-4k"]
    assert [command.damage for command in reads] == [None, "drop to host, bytes 0 to end", None]
    assert reads[1].reply_size == 4111  # the trace tells what the chip did


def test_a_flipped_byte_is_found_by_the_crc(table: Table) -> None:
    client = table.linked()
    table.tap.damage(Damage("flip", "host", "read-4k", at=15 + 100, count=1, bits=0x80))
    read = client.read_sector(0x1000)
    assert [at for at in range(0x1000) if read[at] != NOISE[0x1000 + at]] == [100]
    assert crc32(read) != client.crc(0x1000, 0x1000)
    assert client.read_sector(0x1000) == NOISE[0x1000:0x2000]


def test_a_late_reply_is_late_by_as_much(table: Table) -> None:
    table.linked()
    table.tap.damage(Damage("delay", "host", "read-reg", seconds=0.2))
    assert seconds(table) >= 0.2
    assert until(lambda: seconds(table) < 0.2)  # soon, in one of many tries


def test_a_late_request_is_late_by_as_much(table: Table) -> None:
    table.linked()
    table.tap.damage(Damage("delay", "chip", "read-reg", seconds=0.2))
    heard = len(table.chip.heard)
    assert 0.2 <= seconds(table) < 30
    assert bytes(table.chip.heard[heard:]) == READ_CHIP_ID


def test_what_is_held_back_goes_out_at_the_speed_it_was_written_at(table: Table) -> None:
    table.linked()
    table.tap.damage(Damage("delay", "chip", "set-baud", seconds=30))
    table.port.write(set_baud(921600))
    assert until(lambda: table.tap._to_board)
    table.port.baudrate = 921600
    table.tap._board_at = 0.0  # its time has come, and not before this thread changed the speed
    assert until(lambda: table.tap._port.baudrate == 921600)
    assert not table.tap._to_board
    assert until(lambda: table.port.in_waiting >= 12)
    assert table.port.read(12).hex() == "040e0901e0fc0f00100e0014"
    assert seconds(table) < 10  # not the thirty, nor for ever


def test_every_request_of_a_kind_is_lost(table: Table) -> None:
    table.linked()
    table.tap.damage(Damage("drop", "chip", "read-reg", 0))
    heard = len(table.chip.heard)
    table.port.write(READ_CHIP_ID + READ_CHIP_ID)
    assert read_4k(table) == NOISE[0x1000:0x2000]
    assert bytes(table.chip.heard[heard:]) == READ_4K
    table.tap.damage()
    assert seconds(table) < 10  # not the thirty, nor for ever


def test_a_long_request_that_lost_a_byte_is_answered_as_the_chip_does(table: Table) -> None:
    table.linked()
    table.guard.allow_writes([(0x12000, 0x1000)])
    write = Request(7, struct.pack("<I", 0x12000) + NOISE[:0x1000], True).encode()
    table.tap.damage(Damage("drop", "chip", "write-4k", at=100, count=1))
    assert table.ask(write, 11).hex() == "040eff01e0fcf402000705"  # payload short
    assert table.ask(write, 15).hex() == "040eff01e0fcf40600070000200100"


def test_a_flip_that_makes_a_forbidden_frame_is_left_out(table: Table) -> None:
    """An erase that moves elsewhere, a register read whose code becomes a register write's."""
    table.linked()
    table.guard.allow_writes([(0x12000, 0x1000)])
    erase = Request(0x0F, b"\x20" + struct.pack("<I", 0x12000), True).encode()
    heard = len(table.chip.heard)
    table.tap.damage(
        Damage("flip", "chip", "erase", at=11, count=1), Damage("flip", "chip", "read-reg", at=4, count=1, bits=2)
    )
    table.port.write(erase + READ_CHIP_ID)
    assert table.ask(erase, 16)[-5:] == erase[-5:]
    first, second = (command.damage or "" for command in table.tap.commands[-3:-1])
    assert first.endswith("; left out, for it came to erase: outside the ranges planned for this board")
    assert second.endswith("; left out, for it came to write-reg: has 9 bytes, this command has 13")
    assert table.chip.flash.erases == {0x12: 1}
    assert bytes(table.chip.heard[heard:]) == erase
    assert table.refusals == []  # the tool asked for nothing wrong


def test_arming_forgets_what_is_held_back(table: Table) -> None:
    table.linked()
    table.tap.damage(Damage("delay", "chip", "read-reg", 0, seconds=30))
    table.port.write(READ_CHIP_ID)
    assert until(lambda: table.tap.commands[-1].name == "read-reg" and table.tap._to_board)
    table.chip.switch(False)
    table.tap.damage()
    table.linked()
    assert seconds(table) < 10  # not the thirty, nor for ever


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("drop:host:write-4k", Damage("drop", "host", "write-4k")),
        ("drop:host:write-4k:2", Damage("drop", "host", "write-4k", 2)),
        ("flip:chip:*:0:at=9,bits=0x80", Damage("flip", "chip", "*", 0, at=9, bits=0x80)),
        ("delay:host:check-crc:1:seconds=0.5", Damage("delay", "host", "check-crc", 1, seconds=0.5)),
        ("drop:chip:erase::at=4,count=2", Damage("drop", "chip", "erase", 1, at=4, count=2)),
    ],
)
def test_as_it_is_typed(text: str, wanted: Damage) -> None:
    assert Damage.parse(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "drop", "drop:host", "burn:host:erase", "drop:board:erase", "drop:host:erase:x", "flip:host:erase:1:at",
     "flip:host:erase:1:bits=0", "flip:host:erase:1:at=-1", "delay:host:erase:1:seconds=nan",
     "drop:host:erase:1:bytes=3", "delay:host:erase:1:seconds=x"],
)  # fmt: skip
def test_a_mistake_is_one_sentence(text: str) -> None:
    with pytest.raises(UsageProblem, match=r"^a damage ") as caught:
        Damage.parse(text)
    assert "\n" not in str(caught.value)


# -- whatever is damaged, the board is not hurt --------------------------------------------------------------

FORBIDDEN = Request(0x01, struct.pack("<II", 0x800074, 0xFF0003 | 9 << 8)).encode()  # an efuse write
SECTOR = FORBIDDEN + bytes(0x1000 - 2 * len(FORBIDDEN)) + FORBIDDEN  # such bytes as data, should a frame fall apart
GOOD = [
    Request(0x00),
    Request(0x03, struct.pack("<I", CHIP_ID)),
    Request(0x10, struct.pack("<II", 0, 0xFFF)),
    Request(0x01, struct.pack("<II", 0x800074, 1)),
    Request(0x0F, b"\x20" + struct.pack("<I", 0x12000), True),
    Request(0x07, struct.pack("<I", 0x12000) + SECTOR, True),
    Request(0x06, struct.pack("<I", 0x12000) + FORBIDDEN, True),
    Request(0x0E, b"\x9f\0\0\0", True),
    Request(0x0C, b"\x05", True),
]
damages = st.builds(
    Damage,
    st.sampled_from(["drop", "flip"]),
    st.just("chip"),
    st.just("*"),
    st.integers(0, 4),
    st.integers(0, 20),
    st.integers(0, 3),
    st.integers(1, 255),
)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from(range(len(GOOD))), min_size=1, max_size=5),
    st.lists(damages, min_size=1, max_size=3),
    st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_whatever_is_damaged_flash_and_efuse_outside_of_the_plan_stay(
    chosen: list[int], wanted: list[Damage], pauses: list[bool]
) -> None:
    """The chip behind it gives up on half a frame now and then, and looks for frames in whatever comes next."""
    guard = Guard()
    guard.allow_writes([(0x12000, 0x1000)])
    flash, efuse = NorFlash(), bytearray(32)
    flash.data[0x11000:0x14000] = b"\x5a" * 0x3000
    rom = Rom(flash, efuse, send=lambda at, data, baud: None, on_reset=lambda at: None)
    damager = Damager(wanted, guard.rule)

    def let_through(header: Header) -> bool:
        assert guard.decide(header) is None
        damager.begin(Command(header.name, header.address, 0))
        return True

    scanner = RequestScanner(let_through)
    now = 1.0
    for index, pause in zip(chosen, pauses, strict=False):
        passed, _ = damager.to_chip(scanner.feed(GOOD[index].encode()))
        rom.receive(passed, now)
        now += 0.5 if pause else 0.05
        rom.tick(now)
    assert efuse == bytes(32)
    assert flash.read(0x11000, 0x1000) == flash.read(0x13000, 0x1000) == b"\x5a" * 0x1000
    assert bytes(flash.data[:0x11000]) == b"\xff" * 0x11000
    assert flash.sr == NorFlash().sr
    assert len(flash.data) == SIZE
