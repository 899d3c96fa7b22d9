"""One simulated board and its power, in this process: sags while its flash works, weak sources, its rail's trace."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rig.sim import firmware
from rig.sim.flash import SIZE
from tests.test_board import LINK, LINKED, Table

module = pytest.importorskip("rig.sim.board", reason="a board needs unicorn (extra: sim)")
SECTOR = 0x1000
BLANK = zlib.crc32(b"\xff" * SECTOR) ^ 0xFFFFFFFF
AT = 0x12000
NOISE = random.Random(2).randbytes(SIZE)  # nothing boots from it, and half of its bits an erase moves


@pytest.fixture
def table() -> Iterator[Table]:
    with closing(Table(NOISE, seed=1)) as table:
        yield table


def link(table: Table) -> None:
    table.supply(True).run(0.05)
    table.say(LINK)
    table.run(0.01)
    assert table.hears(8) == LINKED


def erase(table: Table) -> None:
    table.say(bytes.fromhex("01E0FCFFF406000F20") + AT.to_bytes(4, "little"))
    table.run(0.05)
    assert table.hears(16)[:10] == bytes.fromhex("040EFF01E0FCF407000F")


def crc(table: Table) -> int:
    table.say(bytes.fromhex("01E0FC0910") + AT.to_bytes(4, "little") + (AT + SECTOR - 1).to_bytes(4, "little"))
    table.run(0.05)
    return int.from_bytes(table.hears(11)[7:], "little")


def test_a_sag_in_an_erase_leaves_a_sector_that_reads_right_now_and_wrong_later(table: Table) -> None:
    link(table)
    table.ask(op="sag", volts=2.6, seconds=0.03, at="erase")
    erase(table)
    assert [crc(table) for _ in range(3)] == [BLANK] * 3
    assert table.status["weak_bits"] > 5
    table.supply(False).run(1.0)
    link(table)
    later = crc(table)
    assert later != BLANK
    assert [crc(table) for _ in range(3)] == [later] * 3
    erase(table)
    table.supply(False).run(1.0)
    link(table)
    assert crc(table) == BLANK  # erased anew it is sound


def test_the_same_seed_leaves_the_same_damage() -> None:
    left = []
    for seed in (1, 1, 2):
        with closing(Table(NOISE, seed=seed)) as table:
            link(table)
            table.ask(op="sag", volts=2.6, seconds=0.03, at="erase")
            erase(table)
            table.board.flash.power_on()
            left.append((table.board.flash.weak_bits, table.board.flash.read(AT, SECTOR)))
    assert left[0][1] == left[1][1] != left[2][1]


def test_when_the_board_is_looked_at_changes_nothing() -> None:
    left = set()
    for late in (0.0008, 0.002, 0.004, 0.008):
        with closing(Table(NOISE, seed=1, speed=20)) as table:
            link(table)
            table.ask(op="sag", volts=2.55, seconds=0.15, at="erase")
            table.say(bytes.fromhex("01E0FCFFF406000FD800000200"))
            table.now += late
            table.board.step(table.now)
            table.run(0.03)
            left.add((table.status["weak_bits"], bytes(table.board.flash.data[0x20000:0x30000])))
    assert len(left) == 1
    assert left.pop()[0] > 100


def test_a_deeper_sag_stops_the_erase_and_without_one_nothing_is_weak(table: Table) -> None:
    link(table)
    erase(table)
    assert table.status["weak_bits"] == 0
    before = bytes(table.board.flash.data[AT + SECTOR : AT + 2 * SECTOR])
    table.ask(op="sag", volts=2.0, seconds=0.02, at="erase")
    table.say(bytes.fromhex("01E0FCFFF406000F20") + (AT + SECTOR).to_bytes(4, "little"))
    table.run(0.05)
    assert table.phase == "rom"  # 2.0 V is no reset
    left = bytes(table.board.flash.data[AT + SECTOR : AT + 2 * SECTOR])
    assert left.endswith(before[0x200:])  # stopped in its first page, or in the second
    assert left != b"\xff" * SECTOR


def test_a_crc_in_a_deep_sag_is_wrong(table: Table) -> None:
    link(table)
    right = crc(table)
    table.say(bytes.fromhex("01E0FC0910") + AT.to_bytes(4, "little") + (AT + SECTOR - 1).to_bytes(4, "little"))
    table.run(0.004)
    table.ask(op="sag", volts=1.9, seconds=0.002)
    table.run(0.05)
    assert int.from_bytes(table.hears(11)[7:], "little") != right
    assert crc(table) == right


@pytest.mark.parametrize("command", ["01E0FCFFF4050009", "01E0FCFFF4060008"], ids=["4 KiB", "up to 255 bytes"])
def test_a_read_in_a_deep_sag_is_wrong(table: Table, command: str) -> None:
    link(table)
    frame = bytes.fromhex(command) + AT.to_bytes(4, "little") + (b"\x80" if command.endswith("8") else b"")
    for volts, right in ((1.9, False), (2.1, True)):
        table.ask(op="sag", volts=volts, seconds=0.2)
        table.run(0.1)
        table.say(frame)
        table.run(0.5)
        read = table.hears(15 + 0x80)[15 : 15 + 0x80]
        table.uart1.reset_input_buffer()
        assert len(read) == 0x80
        assert (read == NOISE[AT : AT + 0x80]) is right


def test_a_sag_ends_with_the_board_it_was_made_on(table: Table, tmp_path: Path) -> None:
    other = tmp_path / "flash"
    other.write_bytes(NOISE)
    link(table)
    table.ask(op="sag", volts=1.9, seconds=60)
    table.run(0.1)
    assert table.status["volts"] == pytest.approx(1.9, abs=0.01)
    table.supply(False).run(1.0)
    assert table.status["volts"] < 0.3  # what pulls down feeds nothing
    assert table.ask(op="load-flash", flash=str(other), efuse="00" * 32) == {"ok": True}
    table.supply(True).run(0.1)
    assert table.status["volts"] > 3.2


def test_a_sag_while_the_firmware_itself_programs() -> None:
    with closing(Table(firmware.factory_dump(1), constants={"flash": {"weak_share": 1.0}})) as table:
        table.supply(True).run(0.1)
        table.ask(op="sag", volts=2.55, seconds=5.0)
        table.run(2.0)
        assert table.phase == "running"
        assert table.status["weak_bits"] > 0  # of the record it counts its boots with


def test_a_weak_pin_links_and_reads_and_resets_when_the_radio_starts() -> None:
    with closing(Table(firmware.demo_image(), source="cp2102-pin")) as table:
        link(table)
        table.say(bytes.fromhex("01E0FCFFF405000900000000"))
        table.run(0.5)
        assert table.hears(4000)[15:4000] == firmware.demo_image()[: 4000 - 15]
        table.supply(False).run(1.0)
        table.supply(True).run(2.0)
        assert table.status["resets"] > 3
        assert table.log.count("rig-boot 1") > 2
        assert "radio ready" not in table.log
        volts, _, mode = table.board.rail.sense()
        assert (round(volts, 2), mode) == (3.3, "cv")  # the bench supply is not what gives way


def test_a_board_of_its_own_constants() -> None:
    own = {"amps": {"rom": 0.05}, "rail": {"cable_ohms": 2.0}}
    with closing(Table(firmware.demo_image(), constants=own)) as table:
        link(table)
        table.run(0.2)
        assert table.ask(op="sense")["amps"] == pytest.approx(0.05, abs=1e-3)
        assert table.status["volts"] == pytest.approx(3.3 - 0.05 * 2.0, abs=2e-3)


def test_the_trace_shows_the_board_and_not_the_terminals(table: Table) -> None:
    link(table)
    table.run(0.2)
    table.ask(op="sag", volts=2.4, seconds=0.05)
    table.run(0.2)
    now = table.now
    volts = table.ask(op="trace", begin=now - 0.3, end=now - 0.001, points=300)["volts"]
    assert min(volts) == pytest.approx(2.4, abs=0.01)
    assert 45 <= sum(level < 2.5 for level in volts) <= 55
    assert table.ask(op="sense")["volts"] == pytest.approx(3.3, abs=0.01)
    assert table.ask(op="trace", begin=now + 1, end=now + 2, points=2)["volts"] == [None, None]


@pytest.mark.parametrize(
    "sag", [{"volts": 9, "seconds": 1}, {"volts": 2, "seconds": 0}, {"volts": 2, "seconds": 1, "at": "lunch"}, {}]
)
def test_a_senseless_sag_is_refused(table: Table, sag: dict[str, object]) -> None:
    assert "sag" in table.ask(op="sag", **sag)["error"]
