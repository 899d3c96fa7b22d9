"""The wire tap between a flasher and a simulated ROM: what it passes, stops, times, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import select
import struct
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
import serial
from chip_on_wire import EFUSE, ChipOnWire
from waiting import until

from rig.chip.client import RomClient, crc32
from rig.chip.frames import Request
from rig.errors import BenchBlocked
from rig.sim.flash import SIZE, NorFlash
from rig.uart.guard import Guard, Refusal
from rig.uart.port import open_port
from rig.uart.tap import Tap

NOISE = random.Random(21).randbytes(SIZE)
LINK = Request(0x00).encode()
EFUSE_WRITE = Request(0x01, struct.pack("<II", 0x800074, 0xFF0003 | 9 << 8)).encode()
ERASE = Request(0x0F, b"\x20" + struct.pack("<I", 0x12000), True).encode()
READ_CHIP_ID = Request(0x03, struct.pack("<I", 0x800000)).encode()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reply is missing here; one that is late is no reason to ask again."""
    monkeypatch.setattr("rig.chip.client._REPLY_S", 30.0)


@dataclass
class Table:
    chip: ChipOnWire
    tap: Tap
    port: serial.Serial
    guard: Guard
    refusals: list[Refusal]
    links: list[float] = field(default_factory=list)

    def linked(self) -> RomClient:
        self.tap.arm()
        client = RomClient(self.port)
        client.link(60)
        # a busy machine answers late, and then every link check that was sent meanwhile
        until(lambda: self.chip.wire.next_event() == float("inf") and self.quiet())
        return client

    def quiet(self) -> bool:
        """Nothing came for a while."""
        since = time.monotonic()
        while time.monotonic() < since + 0.02:
            if self.port.read(0x1000):
                return False
        return True

    def ask(self, frame: bytes, size: int) -> bytes:
        """Send a frame, and return `size` bytes of what comes back."""
        self.port.write(frame)
        until(lambda: self.port.in_waiting >= size)
        return self.port.read(self.port.in_waiting)


@contextmanager
def a_table(speed: float = 50.0) -> Iterator[Table]:
    refusals: list[Refusal] = []
    links: list[float] = []
    guard = Guard()
    with ChipOnWire(NorFlash(NOISE), speed=speed) as chip:
        chip.powered = False

        def power() -> None:
            links.append(0.0)
            chip.switch(True)

        with (
            Tap(chip.path, guard, on_link=power, on_refusal=refusals.append) as tap,
            closing(serial.Serial(tap.path, 115200, timeout=0.005)) as port,
        ):
            yield Table(chip, tap, port, guard, refusals, links)


@pytest.fixture
def table() -> Iterator[Table]:
    with a_table() as table:
        yield table


def test_a_flasher_reads_through_it_at_any_speed(table: Table) -> None:
    client = table.linked()
    for baud in (921600, 1_500_000, 2_000_000, 230400, 460800):
        client.set_baud(baud)
        assert table.chip.rom.baud == baud
        assert table.tap._port.baudrate == baud
        assert client.read_sector(0x5000) == NOISE[0x5000:0x6000]
    assert client.crc(0, SIZE) == crc32(NOISE)
    assert client.efuse() == EFUSE
    assert client.flash_id() == b"\xeb\x60\x15"
    assert client.retries == []
    assert table.refusals == []
    table.tap.check()


def test_a_flasher_that_opens_the_port_anew_is_followed_back(table: Table) -> None:
    table.linked().set_baud(921600)
    table.port.close()
    table.tap.hold()
    table.chip.switch(False)
    table.tap.arm()
    with closing(serial.Serial(table.tap.path, 115200, timeout=0.005)) as port:
        RomClient(port).link(60)
        assert RomClient(port).read_register(0x800000) == 0x7231C
    assert len(table.links) == 2


def test_an_efuse_write_never_reaches_the_board(table: Table) -> None:
    table.linked()
    table.guard.allow_writes([(0, SIZE)])
    assert table.ask(EFUSE_WRITE, 8).hex() == "040e0501e0fc0106"  # a refusal, not silence
    assert table.ask(READ_CHIP_ID, 15).endswith(bytes.fromhex("1C230700"))
    assert EFUSE_WRITE[4:] not in table.chip.heard
    assert table.chip.efuse == EFUSE
    assert [str(refusal) for refusal in table.refusals] == [
        "write-reg at 0x800074: an efuse write never passes: it cannot be undone"
    ]
    assert table.tap.commands[-2].refused == "an efuse write never passes: it cannot be undone"
    assert not table.tap.commands[-2].answered  # not by the chip


def test_an_erase_reaches_the_board_only_once_the_backup_is_safe(table: Table) -> None:
    table.linked()
    assert table.ask(ERASE, 16).hex() == "040eff01e0fcf407000f06" + ERASE[-5:].hex()
    assert table.ask(READ_CHIP_ID, 15).endswith(bytes.fromhex("1C230700"))
    assert ERASE[4:] not in table.chip.heard
    assert bytes(table.chip.flash.data) == NOISE
    assert table.refusals == [Refusal("erase", 0x12000, "comes before this board's backup is safe")]
    table.guard.allow_writes([(0x12000, 0x1000)])
    assert table.ask(ERASE, 16)[-5:] == ERASE[-5:]
    assert table.chip.flash.erases == {0x12: 1}
    outside = Request(0x07, struct.pack("<I", 0x13000) + bytes(0x1000), True).encode()
    assert table.ask(outside, 15).hex() == "040eff01e0fcf406000706" + outside[8:12].hex()
    assert table.ask(READ_CHIP_ID, 15).endswith(bytes.fromhex("1C230700"))
    assert table.chip.flash.read(0x12000, 0x2000) == b"\xff" * 0x1000 + NOISE[0x13000:0x14000]
    assert table.guard.refusals == table.refusals
    assert len(table.refusals) == 2


def test_the_first_link_check_switches_the_board_on_once(table: Table) -> None:
    table.tap.arm()
    assert table.tap._port.break_condition is True
    table.port.write(b"reboot\r\n" + READ_CHIP_ID)
    assert until(lambda: table.tap.commands and table.tap.commands[-1].name == "read-reg")
    assert table.links == []
    RomClient(table.port).link(60)
    assert table.tap._port.break_condition is False
    table.port.write(LINK * 20)
    RomClient(table.port).link(60)
    assert table.links == [0.0]
    assert bytes(table.chip.heard[:5]) == LINK


def test_when_armed_nothing_but_a_link_check_gets_through(table: Table) -> None:
    table.chip.powered = True  # as if it were on already
    table.tap.arm()
    table.port.write(READ_CHIP_ID)
    assert until(lambda: table.tap.commands)
    table.port.write(b"\xff" * 100 + READ_CHIP_ID + b"\xff" + LINK + LINK)
    assert until(lambda: len(table.chip.heard) >= 10)
    assert table.chip.heard == LINK + LINK


def test_when_held_not_even_a_link_check_gets_through(table: Table) -> None:
    table.linked()
    table.tap.hold()
    heard = len(table.chip.heard)
    seen = len(table.tap.commands)
    table.port.write(READ_CHIP_ID + LINK)
    assert until(lambda: len(table.tap.commands) == seen + 2)
    assert table.tap._port.break_condition is True
    table.tap.disarm()
    assert table.tap._port.break_condition is False
    assert table.ask(READ_CHIP_ID, 15).endswith(bytes.fromhex("1C230700"))
    assert bytes(table.chip.heard[heard:]) == READ_CHIP_ID
    assert len(table.links) == 1


def test_text_passes_and_noise_does_not_stop_frames(table: Table) -> None:
    table.linked()
    table.port.write(b"reboot\r\n")
    assert table.ask(b"\x01\x01" + READ_CHIP_ID, 15).endswith(bytes.fromhex("1C230700"))
    assert b"reboot\r\n" in table.chip.heard


def test_half_a_frame_is_forgotten_after_a_while(table: Table) -> None:
    table.linked()
    last = table.tap._last_byte
    table.port.write(READ_CHIP_ID[:6])
    assert until(lambda: table.tap._last_byte > last)
    assert until(lambda: time.monotonic() - table.tap._last_byte > 0.26)
    assert table.ask(READ_CHIP_ID, 15).endswith(bytes.fromhex("1C230700"))


def test_the_trace_tells_every_command_and_its_times(tmp_path: Path) -> None:
    with a_table(speed=1.0) as table:
        client = table.linked()
        client.set_baud(921600)
        client.read_sector(0x5000)
        client.crc(0, 0x10000)
        table.port.write(EFUSE_WRITE)
        assert until(lambda: table.refusals)
        table.tap.save_trace(tmp_path / "wire.jsonl")
    commands = [json.loads(line) for line in (tmp_path / "wire.jsonl").read_text().splitlines()]
    commands = [commands[0], *(command for command in commands[1:] if command["name"] != "link-check")]
    assert " ".join(command["name"] for command in commands) == "link-check set-baud read-4k check-crc write-reg"
    for command in commands[:4]:
        assert command["begun_ns"] <= command["sent_ns"] < command["reply_ns"] <= command["reply_end_ns"]
        assert command["answered"]
        assert "refused" not in command
    assert commands[4]["refused"]
    assert not commands[4]["answered"]
    _, baud, read, crc, _ = commands
    assert (baud["baud"], baud["reply_baud"], read["baud"]) == (115200, 921600, 921600)
    assert read["status"] == 0
    assert (read["address"], read["size"], read["reply_size"]) == (0x5000, 12, 4111)
    wire = 4111 * 10 / 921600
    assert wire * 0.9 < (read["reply_end_ns"] - read["begun_ns"]) / 1e9 < wire * 3 + 10
    assert 0x10000 / 438_000 < (crc["reply_ns"] - crc["begun_ns"]) / 1e9 < 0x10000 / 438_000 + 10
    assert 0.02 < (baud["reply_ns"] - baud["sent_ns"]) / 1e9 < 10
    assert all(b["begun_ns"] > a["begun_ns"] for a, b in pairwise(commands))


def test_a_long_row_of_link_checks_is_one_line_of_the_trace(table: Table) -> None:
    table.port.write(LINK * 300)
    assert until(lambda: table.chip.wire.next_event() == float("inf") and table.tap.commands)
    assert until(lambda: [command.name for command in table.tap.commands] == ["link-check"])


def test_a_port_that_goes_away_blocks_the_slot() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    path = os.ttyname(slave)
    with Tap(path, Guard()) as tap:
        os.close(slave)
        tap.check()
        os.close(master)
        assert until(lambda: tap.error is not None)
        with pytest.raises(BenchBlocked, match=f"the flash port {path} went away") as caught:
            tap.check()
        assert caught.value.code == "port-lost"
        tap.arm()
        tap.hold()
        tap.disarm()
        with pytest.raises(BenchBlocked):
            tap.check()


def test_a_port_that_is_missing_or_taken_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BenchBlocked, match=r"there is no port /dev/nowhere") as caught:
        Tap("/dev/nowhere", Guard())
    assert caught.value.code == "port-lost"
    with ChipOnWire() as chip, Tap(chip.path, Guard()), pytest.raises(BenchBlocked, match="in use by another"):
        open_port(chip.path, 115200)
    with pytest.raises(BenchBlocked, match="cannot be opened"):
        open_port("socket://127.0.0.1:1", 115200)
    with pytest.raises(BenchBlocked, match="cannot be watched"):
        Tap("loop://", Guard())


def test_a_supply_that_fails_is_told_by_the_tap() -> None:
    def fail() -> None:
        raise BenchBlocked("supply-lost", "the supply stopped answering")

    with (
        ChipOnWire() as chip,
        Tap(chip.path, Guard(), on_link=fail) as tap,
        closing(serial.Serial(tap.path, 115200)) as port,
    ):
        tap.arm()
        port.write(LINK)
        assert until(lambda: tap.error is not None)
        with pytest.raises(BenchBlocked, match="the supply stopped answering"):
            tap.check()


def test_an_unexpected_failure_to_switch_on_is_told_too() -> None:
    def fail() -> None:
        raise RuntimeError("the service failed")

    with (
        ChipOnWire() as chip,
        Tap(chip.path, Guard(), on_link=fail) as tap,
        closing(serial.Serial(tap.path, 115200)) as port,
    ):
        tap.arm()
        port.write(LINK)
        assert until(lambda: tap.error is not None)
        with pytest.raises(BenchBlocked, match="switching on failed: RuntimeError: the service failed") as caught:
            tap.check()
        assert caught.value.code == "supply-lost"


@pytest.mark.parametrize("end", [Tap.hold, Tap.keep_off, Tap.close])
def test_nothing_switches_on_after_it_was_to_be_off(end: Callable[[Tap], None]) -> None:
    begun, done = threading.Event(), []

    def slowly() -> None:
        begun.set()
        until(lambda: False, 0.3)
        done.append("on")

    with ChipOnWire() as chip, contextlib.ExitStack() as stack:
        tap = stack.enter_context(Tap(chip.path, Guard(), on_link=slowly))
        with closing(serial.Serial(tap.path, 115200)) as port:
            tap.arm()
            port.write(LINK)
            assert begun.wait(60)
        if end is Tap.close:
            stack.pop_all()
        end(tap)
        assert done == ["on"]  # it was under way, and has been waited for
        assert tap._linkers == []
        tap._switch_on(tap._armed_in)  # a thread that got the processor only now
        assert done == ["on"]


def test_a_link_check_seen_while_the_board_goes_off_switches_nothing_on(table: Table) -> None:
    table.tap.arm()
    with table.tap._lock:
        table.tap.keep_off()
        table.tap._armed = True  # as the thread saw it a moment ago
        table.tap._link_seen()
    for linker in table.tap._linkers:
        linker.join(60)
    assert table.links == []


def test_a_journal_that_fails_is_not_taken_for_a_lost_port() -> None:
    def fail(refusal: Refusal) -> None:
        raise OSError("no space left on device")

    with (
        ChipOnWire() as chip,
        Tap(chip.path, Guard(), on_refusal=fail) as tap,
        closing(serial.Serial(tap.path, 115200)) as port,
    ):
        port.write(EFUSE_WRITE)
        assert until(lambda: tap.error is not None)
        with pytest.raises(BenchBlocked, match="no space left") as caught:
            tap.check()
        assert caught.value.code == "crashed"
        assert tap._thread.is_alive()
        assert EFUSE_WRITE[4:] not in chip.heard


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_tap_whose_thread_died_does_not_look_well(monkeypatch: pytest.MonkeyPatch) -> None:
    with ChipOnWire() as chip, Tap(chip.path, Guard()) as tap, closing(serial.Serial(tap.path, 115200)) as port:
        monkeypatch.setattr(tap, "_push", lambda: 1 / 0)
        port.write(LINK)
        assert until(lambda: not tap._thread.is_alive())
        with pytest.raises(BenchBlocked) as caught:
            tap.check()
        assert caught.value.code == "crashed"


@contextmanager
def a_board_nobody_reads() -> Iterator[tuple[Tap, int]]:
    """A tap, and the board's end of its port."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    try:
        with Tap(os.ttyname(slave), Guard()) as tap:
            yield tap, master
    finally:
        os.close(master)
        os.close(slave)


def test_a_firmware_that_chatters_to_nobody_fills_no_memory() -> None:
    with a_board_nobody_reads() as (tap, board):
        sent = 0
        deadline = time.monotonic() + 60
        while sent < 0x60000 and time.monotonic() < deadline:
            if select.select([], [board], [], 0.1)[1]:
                sent += os.write(board, bytes(512))
            assert len(tap._to_host) <= 0x10000
        assert sent >= 0x60000
        assert until(lambda: len(tap._to_host) == 0x10000)
        tap.arm()
        assert tap._to_host == b""
        tap.check()


def test_a_hung_port_is_told_and_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adaptor that takes nothing more."""
    monkeypatch.setattr("rig.uart.port._WRITE_S", 0.3)
    with a_board_nobody_reads() as (tap, _):
        fd = os.open(tap.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            fill(fd, tap)
        finally:
            os.close(fd)
        with pytest.raises(BenchBlocked, match="takes no bytes: its adaptor hangs") as caught:
            tap.check()
        assert caught.value.code == "port-lost"


def fill(fd: int, tap: Tap) -> None:
    def more() -> bool:
        with contextlib.suppress(BlockingIOError):
            os.write(fd, b"\xff" * 1024)
        return tap.error is not None

    assert until(more)


def test_a_port_stuck_in_its_driver_holds_up_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.uart.tap._TURN_S", 0.2)
    stuck, go_on = threading.Event(), threading.Event()
    with a_board_nobody_reads() as (tap, _), closing(serial.Serial(tap.path, 115200)) as port:

        def hang(data: bytes) -> int:
            stuck.set()
            go_on.wait(20)
            return len(data)

        monkeypatch.setattr(tap._port, "write", hang)
        port.write(b"\xff")
        assert stuck.wait(60)
        began = time.monotonic()
        tap.hold()
        tap.arm()
        tap.disarm()
        with pytest.raises(BenchBlocked, match="its adaptor hangs"):
            tap.check()
        tap.close()
        assert time.monotonic() - began < 10  # not the 20 that it hangs
        assert tap._port.is_open  # its descriptor is still in use
        go_on.set()
        assert until(lambda: not tap._thread.is_alive())


def test_a_slow_port_is_no_gap_in_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port whose buffer is shorter than a frame: write() comes back when the wire took it."""
    frame = Request(0x07, struct.pack("<I", 0x12000) + b"\x01" * 0x1000, True).encode()  # 01 begins a frame, too
    heard = bytearray()
    with a_board_nobody_reads() as (tap, board), closing(serial.Serial(tap.path, 115200)) as port:
        tap.guard.allow_writes([(0, SIZE)])
        write = tap._port.write

        def slowly(data: bytes) -> int | None:
            done = write(data)
            until(lambda: False, 0.3)
            return done

        def more() -> int:
            with contextlib.suppress(BlockingIOError):
                heard.extend(os.read(board, 0x4000))
            return len(heard)

        monkeypatch.setattr(tap._port, "write", slowly)
        port.write(frame[:100])
        assert until(lambda: more() >= 100)
        port.write(frame[100:])  # waits while the tap's write does
        assert until(lambda: more() >= len(frame))
        assert heard == frame


def test_bytes_dropped_by_arming_do_not_look_like_a_lost_port() -> None:
    with a_board_nobody_reads() as (tap, board):
        with tap._lock:
            os.write(board, b"the thread sees these and waits for its turn")
            assert select.select([tap._port], [], [], 5)[0]
            seen = time.monotonic()
            assert until(lambda: time.monotonic() > seen + 0.05)
            tap.arm()
        os.write(board, b"more")
        assert until(lambda: not tap._port.in_waiting)
        tap.check()


def test_arming_while_bytes_come_breaks_nothing() -> None:
    with a_board_nobody_reads() as (tap, board):
        for _ in range(300):
            with contextlib.suppress(BlockingIOError):
                os.write(board, bytes(512))
            tap.arm()
            tap.disarm()
        tap.check()
        assert tap._thread.is_alive()


def test_nothing_of_it_stays() -> None:
    with ChipOnWire() as chip:
        threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with (
                Tap(chip.path, Guard(), on_link=lambda: chip.switch(True)) as tap,
                closing(serial.Serial(tap.path, 115200, timeout=0.005)) as port,
            ):
                tap.arm()
                RomClient(port).link(60)
        assert until(lambda: threading.active_count() <= threads)  # fewer: one of an earlier test has ended meanwhile
        assert len(os.listdir("/proc/self/fd")) <= descriptors


def set_baud(baud: int, delay: int = 20) -> bytes:
    return Request(0x0F, struct.pack("<IB", baud, delay)).encode()


def test_the_chips_answer_is_heard_even_if_the_flasher_changes_its_speed_late(table: Table) -> None:
    """A busy machine wakes a flasher late from its pause: the chip answers at the new speed all the same."""
    table.linked()
    table.port.write(set_baud(921600))
    assert until(lambda: table.port.in_waiting >= 12)
    assert table.port.read(12).hex() == "040e0901e0fc0f00100e0014"
    table.port.baudrate = 921600
    assert table.ask(READ_CHIP_ID, 15).endswith(bytes.fromhex("1C230700"))
    assert table.chip.rom.baud == 921600


def test_a_flasher_that_does_not_follow_its_own_change_is_spoken_for_at_its_speed(table: Table) -> None:
    table.linked()
    table.port.write(set_baud(921600))
    assert until(lambda: table.tap._port.baudrate == 921600)
    table.port.write(READ_CHIP_ID)
    assert until(lambda: table.tap._port.baudrate == 115200)
    assert until(lambda: table.tap.commands[-1].name == "read-reg")


@pytest.mark.parametrize("baud", [0, 0xC0000000])
def test_a_speed_that_no_chip_has_is_passed_on_and_not_followed(table: Table, baud: int) -> None:
    table.linked()
    table.port.write(set_baud(baud, 0))
    assert until(lambda: bytes(table.chip.heard).endswith(set_baud(baud, 0)))
    assert table.tap._port.baudrate == 115200
    table.tap.check()


def test_arming_takes_a_speed_back_that_nobody_followed(table: Table) -> None:
    table.linked()
    table.port.write(set_baud(921600))
    assert until(lambda: table.tap._port.baudrate == 921600)
    table.chip.switch(False)
    table.linked()
    assert table.tap._port.baudrate == 115200


def test_at_two_million_baud_nothing_is_lost() -> None:
    """In real time: as many bytes as the wire carries, through both pseudo-terminals."""
    with a_table(speed=1.0) as table:
        client = table.linked()
        client.set_baud(2_000_000)
        read = b"".join(client.read_sector(at) for at in range(0, 0x10000, 0x1000))
        assert read == NOISE[:0x10000]
        assert client.retries == []
        assert table.chip.wire.lost == 0
        assert client.crc(0, 0x10000) == crc32(read)


def test_a_stopped_frame_is_not_answered_while_the_board_has_no_power(table: Table) -> None:
    table.tap.arm()
    table.port.write(ERASE + READ_CHIP_ID)
    assert until(lambda: len(table.tap.commands) == 2)
    assert table.tap.commands[0].refused
    assert table.port.read(1) == b""


def test_the_page_of_a_trace_has_sections_and_their_sums(table: Table, tmp_path: Path) -> None:
    table.tap.section("identify")
    client = table.linked()
    client.read_register(0x800000)
    table.tap.section("read")
    client.read_sector(0x5000)
    assert table.ask(ERASE, 16)
    table.tap.write_trace(tmp_path / "trace.txt")
    page = (tmp_path / "trace.txt").read_text()
    first, second = page.split("== read ==")
    assert first.startswith("== identify ==")
    assert "read-reg 0x800000 9 > 15 bytes at 115200" in first
    assert "read-4k 0x005000 12 > 4111 bytes at 115200" in second
    assert "[STOPPED: comes before this board's backup is safe]" in second
    assert second.rstrip().endswith("1 stopped by the guard")
    table.tap.write_trace(tmp_path / "trace.jsonl")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert json.loads((tmp_path / "trace.jsonl").read_text().splitlines()[-1])["refused"]


def test_chatter_that_nobody_reads_does_not_keep_the_machine_busy() -> None:
    """Firmware that talks on UART1 while no flasher listens: what the pseudo-terminal does not take just waits."""
    ours, theirs = pty.openpty()
    try:
        tty.setraw(theirs)
        with Tap(os.ttyname(theirs), Guard(), on_link=lambda: None) as tap:
            tap.disarm()
            for _ in range(8):
                os.write(ours, b"." * 0x800)
                assert until(lambda: not select.select([theirs], [], [], 0)[0])
            assert until(lambda: len(tap._to_host) > 0)
            before = time.process_time()
            threading.Event().wait(0.3)
            assert time.process_time() - before < 0.1
            tap.check()
    finally:
        os.close(ours)
        os.close(theirs)
