"""The simulated serial line: what it paces, and what a wrong speed does. The clock is the test's."""

from __future__ import annotations

import os
import termios
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import pytest
import serial
from waiting import until

from rig.sim.wire import Wire

BAUDS = (9600, 115200, 460800, 921600, 2_000_000)


@pytest.fixture
def wire() -> Iterator[Wire]:
    with closing(Wire(seed=3)) as wire:
        yield wire


@pytest.fixture
def host(wire: Wire) -> Iterator[serial.Serial]:
    with closing(serial.Serial(wire.path, 115200, timeout=0)) as host:
        wire.pull(0.0)
        yield host


def arrivals(wire: Wire, baud: int) -> list[tuple[float, bytes]]:
    return wire.arrived(1e9, baud)


@pytest.mark.parametrize("speed", [1.0, 20.0])
@pytest.mark.parametrize("baud", BAUDS)
def test_bytes_from_the_host_arrive_ten_bit_times_apart(baud: int, speed: float) -> None:
    with closing(Wire(speed=speed)) as wire, closing(serial.Serial(wire.path, baud)) as host:
        wire.pull(0.0)
        data = os.urandom(1000)
        host.write(data)
        wire.pull(50.0)
        duration = 1000 * 10 / baud / speed
        assert wire.arrived(50.0, baud) == []
        early = wire.arrived(50.0 + duration * 0.999, baud)
        pieces = early + wire.arrived(50.0 + duration * 1.001, baud)
        assert b"".join(piece for _, piece in pieces) == data
        assert len(b"".join(piece for _, piece in early)) < 1000
        assert pieces[-1][0] == pytest.approx(50.0 + duration)
        sent = 0
        for at, piece in pieces:
            sent += len(piece)
            assert at == pytest.approx(50.0 + sent * 10 / baud / speed)


@pytest.mark.parametrize("baud", BAUDS)
def test_bytes_to_the_host_come_out_one_by_one(baud: int) -> None:
    with closing(Wire()) as wire, closing(serial.Serial(wire.path, baud, timeout=0)) as host:
        byte = 10 / baud
        wire.send(7.0, b"0123456789", baud)
        wire.send(7.0, b"abc", baud)
        for count in (0, 1, 4, 10, 12, 13):
            wire.flush(7.0 + (count + 0.5) * byte)
            assert until(lambda count=count: host.in_waiting >= count)
            assert host.in_waiting == count
        assert host.read(20) == b"0123456789abc"
        wire.send(8.0, b"later", baud)
        wire.flush(7.9)
        assert host.in_waiting == 0
        assert wire.next_event() == pytest.approx(8.0 + 5 * byte)


def test_a_line_in_use_goes_on_where_it_is(wire: Wire, host: serial.Serial) -> None:
    host.write(b"x" * 100)
    wire.pull(10.0)
    host.write(b"y" * 100)
    wire.pull(10.001)
    (_, _), (at, _) = arrivals(wire, 115200)
    assert at == pytest.approx(10.0 + 200 * 10 / 115200)


def test_slow_bytes_do_not_come_in_lumps(host: serial.Serial, wire: Wire) -> None:
    host.baudrate = 9600
    wire.pull(0.0)
    host.write(bytes(4000))
    wire.pull(0.0)
    times = [0.0, *(at for at, _ in arrivals(wire, 9600))]
    assert max(b - a for a, b in pairwise(times)) < 0.05


def test_a_page_comes_as_a_page(host: serial.Serial, wire: Wire) -> None:
    host.write(bytes(1000))
    wire.pull(0.0)
    assert [len(piece) for _, piece in arrivals(wire, 115200)] == [230, 230, 230, 230, 80]
    host.baudrate = 921600
    wire.pull(0.0)
    host.write(bytes(1000))
    wire.pull(0.0)
    assert [len(piece) for _, piece in arrivals(wire, 921600)] == [256, 256, 256, 232]


def test_different_speeds_read_noise(wire: Wire, host: serial.Serial) -> None:
    host.write(b"\x00" * 96)
    wire.pull(0.0)
    noise = b"".join(piece for _, piece in arrivals(wire, 921600))
    assert len(noise) == 96 * 8
    assert len(set(noise)) > 50
    wire.send(0.0, b"\x00" * 96, 921600)
    wire.flush(1.0)
    assert until(lambda: host.in_waiting >= 12)
    heard = host.read(4096)
    assert heard != b"\x00" * 96
    assert len(heard) == 12


@pytest.mark.parametrize(("other", "fits"), [(115200, True), (112000, True), (119000, True), (105000, False)])
def test_a_few_percent_are_read_through(wire: Wire, host: serial.Serial, other: int, fits: bool) -> None:
    host.write(b"A" * 50)
    wire.pull(0.0)
    assert (b"".join(piece for _, piece in arrivals(wire, other)) == b"A" * 50) is fits


def test_bytes_found_with_a_change_of_speed_were_sent_before_it(wire: Wire, host: serial.Serial) -> None:
    host.write(b"set the speed")
    host.baudrate = 921600
    wire.pull(1.0)
    assert b"".join(piece for _, piece in arrivals(wire, 115200)) == b"set the speed"
    host.write(b"at the new one")
    wire.pull(2.0)
    assert b"".join(piece for _, piece in arrivals(wire, 921600)) == b"at the new one"


def test_the_first_bytes_of_a_host_at_the_rom_s_speed_are_read() -> None:
    with closing(Wire()) as wire, closing(serial.Serial(wire.path, 115200)) as host:
        host.write(b"first")
        wire.pull(0.0)
        assert b"".join(piece for _, piece in arrivals(wire, 115200)) == b"first"


def test_silence_takes_what_is_under_way(wire: Wire, host: serial.Serial) -> None:
    host.write(b"to the chip")
    wire.pull(1.0)
    wire.send(1.0, b"to the host", 115200)
    wire.silence()
    wire.flush(9.0)
    assert arrivals(wire, 115200) == []
    assert host.in_waiting == 0
    assert wire.next_event() == float("inf")


def test_the_next_event_is_what_comes_first(wire: Wire, host: serial.Serial) -> None:
    assert wire.next_event() == float("inf")
    host.write(b"ab")
    wire.pull(5.0)
    assert wire.next_event() == pytest.approx(5.0 + 2 * 10 / 115200)
    wire.send(4.0, b"c", 115200)
    assert wire.next_event() == pytest.approx(4.0 + 10 / 115200)


def test_a_host_that_comes_and_goes_is_heard_each_time(wire: Wire) -> None:
    for word in (b"one", b"two"):
        with closing(serial.Serial(wire.path, 115200)) as host:
            host.write(word)
            wire.pull(0.0)
        wire.pull(0.0)
        assert b"".join(piece for _, piece in arrivals(wire, 115200)) == word


def test_bytes_nobody_reads_are_counted(wire: Wire) -> None:
    wire.send(0.0, bytes(1 << 20), 115200)
    wire.flush(1000.0)
    assert 0 < wire.lost < 1 << 20


def test_a_hung_up_terminal_and_a_chip_without_speed_break_nothing(wire: Wire) -> None:
    fd = os.open(wire.path, os.O_RDWR | os.O_NOCTTY)
    try:
        attributes = termios.tcgetattr(fd)
        attributes[4] = attributes[5] = termios.B0
        termios.tcsetattr(fd, termios.TCSANOW, attributes)
        wire.pull(0.0)
        os.write(fd, b"xy")
        wire.pull(0.0)
        wire.send(0.0, b"reply", 0)
        wire.flush(100.0)
        arrivals(wire, 0)
    finally:
        os.close(fd)
