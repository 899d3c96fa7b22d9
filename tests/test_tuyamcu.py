"""The simulated TuyaMCU: its frames, its answers, and its line to the chip at the speed the firmware set."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import until

pytest.importorskip("unicorn", reason="a board needs unicorn (extra: sim)")

from rig.errors import UsageProblem
from rig.sim.soc import NEVER
from rig.sim.spec import SimOptions, check_options
from rig.sim.tuyamcu import (
    BAUD,
    LONGEST,
    Command,
    Dp,
    DpType,
    Frame,
    FrameReader,
    TuyaMcu,
    decode_dps,
)
from tests.soc_programs import MAIN, MS, UART1, UART2, Asm, Bench, image, program
from tests.test_board import LINK, LINKED, POWER_UP, WINDOW, Table

HEARTBEAT = bytes.fromhex("55AA00000000FF")
GAP = 200 * MS
PROPERTY = settings(max_examples=150, derandomize=True, deadline=None)

frames = st.builds(Frame, st.integers(0, 255), st.binary(max_size=40), st.integers(0, 255))
SIZES = {DpType.BOOL: [1], DpType.VALUE: [4], DpType.ENUM: [1], DpType.BITMAP: [1, 2, 4]}


@st.composite
def dps(draw: st.DrawFn) -> Dp:
    kind = draw(st.sampled_from(DpType))
    size = draw(st.sampled_from(SIZES[kind])) if kind in SIZES else draw(st.integers(0, 20))
    return Dp(draw(st.integers(0, 255)), kind, draw(st.binary(min_size=size, max_size=size)))


# --- frames -------------------------------------------------------------------------------------------------------


def test_known_frames() -> None:
    assert Frame(Command.HEARTBEAT).encode() == HEARTBEAT
    assert Frame(Command.HEARTBEAT, b"\1", 3).encode() == bytes.fromhex("55AA030000010104")
    on = Dp.switch(1, on=True).encode()
    assert Frame(Command.SET, on).encode() == bytes.fromhex("55AA0006000501010001010E")
    assert Dp.number(7, -2).encode() == bytes.fromhex("07020004FFFFFFFE")


@PROPERTY
@given(st.lists(frames, max_size=5), st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_frames_come_out_as_they_went_in_however_cut(wanted: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(frame.encode() for frame in wanted)
    reader, found, at = FrameReader(), [], 0
    for turn in range(len(stream)):
        size = cuts[turn % len(cuts)]
        found += reader.feed(stream[at : at + size])
        at += size
    assert found == wanted


@PROPERTY
@given(st.binary(max_size=60), st.lists(frames, min_size=1, max_size=3))
def test_frames_are_found_behind_noise_and_a_gap(noise: bytes, wanted: list[Frame]) -> None:
    mcu = TuyaMcu()
    mcu.receive(noise, GAP)
    heard = len(mcu.heard)
    mcu.receive(b"".join(frame.encode() for frame in wanted), 3 * GAP)
    assert mcu.heard[heard:] == wanted


@PROPERTY
@given(frames, st.data())
def test_a_damaged_frame_is_none(frame: Frame, data: st.DataObject) -> None:
    code = bytearray(frame.encode())
    at = data.draw(st.integers(0, len(code) - 1).filter(lambda at: at not in (4, 5)))  # a length may swallow it
    code[at] ^= data.draw(st.integers(1, 255))
    assert frame not in FrameReader().feed(bytes(code))


def test_a_senseless_length_does_not_swallow_what_follows() -> None:
    too_long = b"\x55\xaa\x00\x00" + (LONGEST + 1).to_bytes(2, "big")
    assert FrameReader().feed(too_long + HEARTBEAT) == [Frame(Command.HEARTBEAT)]


@PROPERTY
@given(st.lists(dps(), max_size=5))
def test_data_points_come_out_as_they_went_in(wanted: list[Dp]) -> None:
    data = b"".join(dp.encode() for dp in wanted)
    assert decode_dps(data) == wanted
    if data:
        with pytest.raises(ValueError, match="no data point"):
            decode_dps(data[:-1])


@pytest.mark.parametrize("data", ["0101", "01090001 00", "01010002 0000", "01020001 00"])
def test_what_is_no_data_point(data: str) -> None:
    with pytest.raises(ValueError, match=r"data point|not a valid DpType"):
        decode_dps(bytes.fromhex(data))


# --- answers ------------------------------------------------------------------------------------------------------


def ask(mcu: TuyaMcu, command: int, data: bytes = b"") -> list[Frame]:
    """All it answers, the line silent before and after."""
    mcu.receive(Frame(command, data).encode(), max(mcu._free_at, mcu._last_ns) + GAP)
    return FrameReader().feed(mcu.take(NEVER))


def test_it_answers_what_a_module_asks() -> None:
    mcu = TuyaMcu("product")
    assert [ask(mcu, Command.HEARTBEAT)[0].data for _ in range(3)] == [b"\0", b"\1", b"\1"]
    assert ask(mcu, Command.PRODUCT)[0].data == b'{"p":"product","v":"1.0.0","m":0}'
    assert ask(mcu, Command.MODE) == [Frame(Command.MODE, b"", 3)]
    assert mcu.network is None
    assert ask(mcu, Command.NETWORK, b"\4") == [Frame(Command.NETWORK, b"", 3)]
    assert mcu.network == 4
    state = ask(mcu, Command.STATUS)
    assert {frame.command for frame in state} == {Command.REPORT}
    assert [decode_dps(frame.data)[0] for frame in state] == list(mcu.dps.values())
    assert ask(mcu, 0x1C) == []
    mcu.power_on()
    assert ask(mcu, Command.HEARTBEAT)[0].data == b"\0"


def test_a_data_point_is_set_and_reported_back() -> None:
    mcu = TuyaMcu()
    on = Dp.switch(3, on=True)
    assert ask(mcu, Command.SET, on.encode()) == [Frame(Command.REPORT, on.encode(), 3)]
    assert mcu.dps[3] == on
    before = dict(mcu.dps)
    foreign, other_type = Dp.switch(99, on=True), replace(Dp.number(3, 1), id=3)
    assert ask(mcu, Command.SET, foreign.encode() + other_type.encode()) == []
    assert ask(mcu, Command.SET, on.encode()[:-1]) == []
    assert mcu.dps == before


def test_its_bytes_come_at_9600_and_after_a_while() -> None:
    mcu = TuyaMcu()
    assert mcu.due == NEVER
    mcu.receive(HEARTBEAT, 5 * MS)
    first = mcu.due
    assert first > 5 * MS + 10 * MS
    assert mcu.take(first - 1) == b""
    assert mcu.take(first) == b"\x55"
    assert mcu.due - first == 10 * 1_000_000_000 // BAUD


# --- on the chip --------------------------------------------------------------------------------------------------


def asks_for(frame: bytes, baud: int) -> bytes:
    """A program that sends `frame` on UART1 at `baud` and shows on UART2 what it reads there."""
    main = Asm(MAIN).stack(0x12, 0x402000).uart().store(UART1, 3 | 3 << 3 | (26_000_000 // baud - 1) << 8)
    main.store(UART1 + 0x10, 1 << 1 | 1 << 6)
    for byte in frame:
        main.store(UART1 + 0xC, byte)
    main.store(0x00802040, 1).store(0x00802044, 1).irqs_on().rest()
    handler = Asm(0x800).read(UART1 + 0xC).words(0xE1A01421)  # the byte is in bits 15:8
    handler.load(0, UART2 + 0xC).words(0xE5801000, 0xE25EF004)
    return image(program(main, {0x18: handler}))


def test_a_program_asks_and_is_answered() -> None:
    bench = Bench(asks_for(HEARTBEAT, BAUD), mcu=TuyaMcu()).run(60)
    assert bench.text().encode("latin-1") == Frame(Command.HEARTBEAT, b"\0", 3).encode()
    assert bench.mcu is not None
    assert bench.mcu.heard == [Frame(Command.HEARTBEAT)]
    assert abs(bench.soc.uart_baud(1) - BAUD) < 10
    assert bench.soc.uart_baud(2) == 26_000_000 // 226


class McuTable(Table):
    """A board with a TuyaMCU, its host's port for UART1 at `baud`."""

    def __init__(self, flash: bytes, baud: int, **spec: Any) -> None:
        super().__init__(flash, mcu="tuya", **spec)
        self.uart1.baudrate = baud


@pytest.mark.parametrize(("baud", "heard"), [(BAUD, True), (115_200, False)])
def test_a_boards_mcu_and_host_hear_the_speed_the_firmware_set(baud: int, heard: bool) -> None:
    """At 9600 the MCU understands and answers; at 115,200 it hears noise. A host at 9600 hears likewise."""
    with closing(McuTable(asks_for(HEARTBEAT, baud), BAUD)) as table:
        table.supply(True).run(POWER_UP + WINDOW + 0.1)
        answer = Frame(Command.HEARTBEAT, b"\0", 3).encode()
        until(lambda: table.uart2.in_waiting >= len(answer), 0.2)
        table._read_log()
        assert (table._log == answer) is heard
        said = table.hears(len(HEARTBEAT))
        assert (said == HEARTBEAT) is heard
        assert bool(said)
        assert bool(table.board.mcu.heard) is heard


def test_a_host_reaches_the_firmware_at_the_firmwares_speed() -> None:
    for baud, understood in ((BAUD, True), (115_200, False)):
        with closing(Table(asks_for(b"", BAUD))) as table:
            table.uart1.baudrate = baud
            table.supply(True).run(POWER_UP + WINDOW + 0.05)
            table.say(b"hi")
            table.run(0.05)
            table.hears(0)
            until(lambda: table.uart2.in_waiting >= 2, 0.2)
            table._read_log()
            assert (table._log == b"hi") is understood


def test_it_is_silent_while_somebody_talks_to_the_rom() -> None:
    with closing(McuTable(asks_for(HEARTBEAT, BAUD), 115_200)) as table:
        table.supply(True).run(POWER_UP + 0.05)
        table.say(HEARTBEAT)
        table.run(0.05)
        table.say(LINK)
        table.run(0.5)
        assert table.hears(len(LINKED)) == LINKED
        assert table.board.mcu.heard == []


def test_a_reset_cuts_its_answer_off() -> None:
    with closing(McuTable(asks_for(HEARTBEAT, BAUD), BAUD)) as table:
        table.supply(True).run(POWER_UP + WINDOW)
        while not table.board.mcu.heard:
            table.run(0.002)
        table.ask(op="reset")
        assert table.board.mcu.due == NEVER


def test_power_off_starts_it_anew() -> None:
    with closing(McuTable(asks_for(HEARTBEAT, BAUD), BAUD)) as table:
        for _ in range(2):
            table.supply(True).run(POWER_UP + WINDOW + 0.1)
            assert table.hears(len(HEARTBEAT)) == HEARTBEAT
            assert len(table.board.mcu.heard) == 1
            assert table.board.mcu._met
            table.supply(False).run(0.5)


def test_only_known_mcus_are_simulated() -> None:
    check_options(SimOptions(mcu="tuya"))
    with pytest.raises(UsageProblem, match="no simulated MCU 'zigbee'; there is tuya"):
        check_options(SimOptions(mcu="zigbee"))
