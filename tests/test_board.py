"""One simulated board in this process, its clock the test's: power, ROM, boot, reset, and what the bench may ask."""

from __future__ import annotations

import base64
import math
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import serial
from waiting import until

from rig.sim import firmware
from rig.sim.flash import SIZE
from rig.sim.spec import BoardSpec

module = pytest.importorskip("rig.sim.board", reason="a board needs unicorn (extra: sim)")
loop = pytest.importorskip("rig.sim.boardloop", reason="a board needs unicorn (extra: sim)")

LINK = bytes.fromhex("01E0FC0100")
LINKED = bytes.fromhex("040E0501E0FC0100")
WINDOW = module.ROM_WINDOW_S
POWER_UP = 0.004  # seconds from output on to the end of power-on reset, at 0.5 A
BOOT = ["rig-boot 1", "ST:00000000", "J 0x10000", firmware.DEMO_BANNER, "reset cause 0 power-on"]


class Table:
    """A board with both ends of its wires; `run` lets its time pass, as fast as it can be computed."""

    def __init__(self, flash: bytes = firmware.demo_image(), **spec: Any) -> None:
        # the clock is the test's: however long the chip takes, it is not behind
        self.board = module.Board(BoardSpec("A", **spec), flash, firmware.efuse(5), run_budget_s=math.inf)
        self.requests = loop.Requests(self.board)
        self.now = self.board.rail.now
        self.uart1 = serial.Serial(self.board.uart1.path, 115200, timeout=0)
        self.uart2 = serial.Serial(self.board.uart2.path, 115200, timeout=0)
        self._log = b""

    def close(self) -> None:
        self.uart1.close()
        self.uart2.close()
        self.board.uart1.close()
        self.board.uart2.close()

    def run(self, seconds: float) -> Table:
        end = self.now + seconds
        while self.now < end:
            soonest = self.board.next_event(self.now)
            # the chip's own work takes some wall time too
            self.now = min(end, max(soonest, self.now + 0.0002))
            self.board.step(self.now)
            if self.board.phase is module.Phase.RUNNING:
                self._read_log()
        return self

    def ask(self, **message: Any) -> dict[str, Any]:
        self.board.step(self.now)
        answer = self.requests.handle(message)
        self.board.step(self.now)
        return answer or {}

    def supply(self, on: bool, amps: float = 0.5, volts: float = 3.3) -> Table:
        self.ask(op="supply", on=on, volts=volts, amps=amps)
        return self

    def say(self, frame: bytes) -> None:
        self.uart1.write(frame)
        assert select.select([self.board.uart1.master], [], [], 5)[0]
        self.board.step(self.now)

    def hears(self, size: int) -> bytes:
        """`size` bytes on UART1, less if there are no more."""
        heard = bytearray()
        until(lambda: heard.extend(self.uart1.read(4096)) or len(heard) >= size, 0.3)
        return bytes(heard + self.uart1.read(4096))

    def _read_log(self) -> None:
        # until it finds nothing: only then the kernel has handed over what the board wrote
        while data := self.uart2.read(4096):
            self._log += data

    @property
    def log(self) -> list[str]:
        self._read_log()
        return [line for line in self._log.decode("latin-1").replace("\r", "").split("\n") if line]

    @property
    def status(self) -> dict[str, Any]:
        return self.ask(op="status")

    @property
    def phase(self) -> str:
        return str(self.status["phase"])


@pytest.fixture
def table() -> Iterator[Table]:
    with closing(Table()) as table:
        yield table


def test_nothing_happens_without_power(table: Table) -> None:
    table.run(1.0)
    table.say(LINK)
    table.run(0.1)
    assert table.status["phase"] == "off"
    assert table.hears(1) == b""
    assert table.board.next_event(table.now) == math.inf


def test_it_boots_what_is_in_its_flash(table: Table) -> None:
    table.supply(True).run(POWER_UP + WINDOW - 0.01)
    assert table.phase == "rom"
    assert table.log == []
    table.run(0.4)
    assert table.phase == "running"
    assert table.log[:5] == BOOT
    table.run(2.2)
    assert "boot complete" in table.log
    assert table.status["resets"] == 1
    assert table.ask(op="sense")["mode"] == "cv"
    assert 0.05 < table.ask(op="sense")["amps"] < 0.35


def test_the_rom_listens_for_its_window_and_no_longer(table: Table) -> None:
    table.supply(True).run(POWER_UP + WINDOW * 0.9)
    table.say(LINK)
    table.run(0.01)
    assert table.hears(8) == LINKED
    table.supply(False).run(1.0)
    table.supply(True).run(POWER_UP + WINDOW * 1.1)
    table.say(LINK)
    table.run(0.1)
    assert table.hears(1) == b""
    assert table.phase == "running"


def test_a_board_that_is_late_to_look_hears_what_came_within_its_window(table: Table) -> None:
    """Starved of the machine's time: its process comes to its turn once the window is over."""
    table.supply(True).run(POWER_UP + WINDOW * 0.4)
    table.uart1.write(LINK)
    assert select.select([table.board.uart1.master], [], [], 5)[0]
    table.now += WINDOW  # and nobody looked
    table.board.step(table.now)
    table.run(0.01)
    assert (table.phase, table.status["linked"]) == ("rom", True)
    assert table.hears(8) == LINKED


def test_the_window_is_not_divided_by_the_speed() -> None:
    with closing(Table(speed=20)) as table:
        table.supply(True).run(POWER_UP / 20 + WINDOW * 0.9)
        assert table.phase == "rom"
        table.run(WINDOW * 0.2)
        assert table.phase == "running"


def test_a_link_check_keeps_it_in_download_mode(table: Table) -> None:
    table.supply(True).run(0.1)
    table.say(LINK)
    table.run(10.0)
    assert (table.phase, table.status["linked"]) == ("rom", True)
    assert table.log == []
    table.say(bytes.fromhex("01E0FC020EA5"))  # reboot
    table.run(WINDOW + 0.5)
    assert (table.phase, table.status["resets"]) == ("running", 2)
    assert table.log[:4] == BOOT[:4]


def test_a_new_speed_is_answered_after_its_delay_and_forgotten_by_a_reset(table: Table) -> None:
    table.supply(True).run(0.1)
    table.say(LINK + bytes.fromhex("01E0FC060F00100E0014"))
    table.run(0.015)
    assert table.hears(8) == LINKED
    table.uart1.baudrate = 921600
    table.run(0.01)
    assert table.hears(12) == bytes.fromhex("040E0901E0FC0F00100E0014")
    table.say(LINK)
    table.run(0.01)
    assert table.hears(8) == LINKED
    table.ask(op="reset")
    table.run(0.01)
    table.say(LINK)
    table.run(0.05)
    assert table.hears(8) != LINKED
    table.uart1.baudrate = 115200
    table.run(0.01)
    table.say(LINK)
    table.run(0.05)
    assert table.hears(8).endswith(LINKED)


def test_a_frame_that_stops_early_is_answered_with_nobody_else_on_the_line(table: Table) -> None:
    table.supply(True).run(0.1)
    table.say(LINK + bytes.fromhex("01E0FC0503000080"))
    table.run(0.5)
    assert table.hears(19) == LINKED + bytes.fromhex("040E0801E0FC0305000080")


def test_a_damaged_app_resets_by_watchdog_into_the_rom_again_and_again() -> None:
    image = bytearray(firmware.demo_image())
    image[0x11000:0x12000] = b"\xff" * 0x1000
    with closing(Table(bytes(image))) as table:
        table.supply(True).run(POWER_UP + 3.5 * (WINDOW + 0.02))
        resets = table.status["resets"]
        assert resets in (3, 4)
        assert table.log.count("rig-boot 1") in (3, 4)
        assert table.log[:4] == ["rig-boot 1", "ST:00000000", "J 0x10000", "[ARM ANOMALY][2]"]
        while table.phase != "rom":
            table.run(0.01)
        table.say(LINK)
        table.run(2.0)
        assert table.hears(8) == LINKED
        assert table.status["resets"] <= resets + 1


def test_a_flash_without_a_bootloader_stays_in_the_rom() -> None:
    with closing(Table(b"")) as table:
        table.supply(True).run(5.0)
        assert (table.phase, table.log) == ("rom", [])
        table.say(LINK)
        table.run(0.05)
        assert table.hears(8) == LINKED


def test_a_weak_supply_shows_a_loop_of_power_on_resets(table: Table) -> None:
    table.supply(True, amps=0.1).run(2.5)
    log = table.log
    assert table.status["resets"] > 3
    assert log.count("rig-boot 1") > 3
    assert log.count("reset cause 0 power-on") > 3
    assert "boot complete" not in log
    assert "radio ready" not in log
    table.supply(False).run(1.0)
    table.supply(True, amps=0.5).run(3.0)
    assert "boot complete" in table.log


def test_what_a_board_says_as_it_dies_does_not_come_out(table: Table) -> None:
    table.supply(True).run(1.0)
    table.supply(False).run(0.5)
    assert table.phase == "off"
    said = len(table._log)
    table.run(1.0)
    assert len(table._log) == said
    assert table.status["volts"] < 0.3


@pytest.fixture
def lives(table: Table, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the firmware ran each time until its power was gone, seconds."""
    lives: list[float] = []
    changed = table.board._power_changed

    def note(now: float) -> None:
        if not table.board.rail.alive:
            lives.append(table.board.rail.now - table.board._anchor[0])
        changed(now)

    monkeypatch.setattr(table.board, "_power_changed", note)
    return lives


def test_the_log_ends_where_the_power_did(table: Table, lives: list[float]) -> None:
    table.supply(True, amps=0.1)
    while not lives:
        table.run(0.01)
    said = len("\r\n".join(table.log))
    assert 0.005 < lives[0] < 0.1  # it died in the calibration of its radio
    assert lives[0] * 11520 * 0.5 < said <= lives[0] * 11520


def test_a_chip_behind_its_clock_loses_no_life_by_it(table: Table, lives: list[float]) -> None:
    table.board.run_budget_s = 0.0  # 2 ms of its time at each look, however much is due
    table.supply(True, amps=0.1)
    while table.phase != "running":
        table.run(0.0002)
    while not lives:
        table.now += 0.012
        table.board.step(table.now)
    assert 0.005 < lives[0] < 0.015
    assert len("\r\n".join(table.log)) > lives[0] * 11520 * 0.5


def test_somebody_bridges_cen_when_nobody_is_linked() -> None:
    with closing(Table(reset_every=1.0)) as table:
        table.supply(True).run(4.5)
        assert table.status["resets"] == 5
        while table.phase != "rom":
            table.run(0.05)
        resets = table.status["resets"]
        for _ in range(5):
            table.say(LINK)
            table.run(0.6)
        assert table.status["resets"] == resets
        table.run(1.0)
        assert table.status["resets"] == resets + 1


def test_a_board_that_comes_late_to_its_turn_does_not_take_that_for_silence() -> None:
    """What was said meanwhile waits in its port."""
    with closing(Table(reset_every=1.0)) as table:
        table.supply(True).run(POWER_UP + 0.01)
        table.say(LINK)
        table.run(0.1)
        resets = table.status["resets"]
        table.now += 1.5
        table.say(LINK)
        table.run(0.1)
        assert (table.phase, table.status["resets"]) == ("rom", resets)
        table.run(1.2)
        assert table.status["resets"] == resets + 1


def test_a_fixed_supply_needs_no_bench() -> None:
    with closing(Table(powered=True)) as table:
        table.run(0.6)
        assert table.phase == "running"
        assert table.ask(op="sense") == {"volts": pytest.approx(3.3), "amps": 0.0, "mode": "off"}
        answer = table.ask(op="load-flash", flash="/nowhere", efuse="00" * 32)
        assert "No such file" in answer["error"]


def test_another_board_is_put_in_only_with_the_output_off(table: Table, tmp_path: Path) -> None:
    other = tmp_path / "flash"
    other.write_bytes(firmware.factory_dump(9))
    table.supply(True).run(0.6)
    change = {"op": "load-flash", "flash": str(other), "efuse": firmware.efuse(9).hex()}
    assert "the output is on" in table.ask(**change)["error"]
    assert table.phase == "running"
    table.supply(False).run(0.5)
    table.ask(op="pull")
    assert table.ask(**change) == {"ok": True}
    table.supply(True).run(2.0)
    assert firmware.FACTORY_BANNER in table.log
    dump = tmp_path / "dump"
    assert table.ask(op="dump", path=str(dump))["efuse"] == firmware.efuse(9).hex()
    assert firmware.boots(dump.read_bytes()) == 1


def test_pulled_in_the_middle_of_an_erase_a_block_is_half_erased() -> None:
    content = random.Random(2).randbytes(SIZE)
    with closing(Table(content)) as table:
        table.supply(True).run(0.1)
        table.say(LINK + bytes.fromhex("01E0FCFFF406000FD800000200"))
        table.run(0.05)
        table.ask(op="pull")
        table.run(0.5)
        assert table.phase == "off"
        assert table.board.rail.load == 0.0  # the erase that never ended no longer draws anything
        assert table.ask(op="sense") == {"volts": 3.3, "amps": 0.0, "mode": "cv"}
        block = table.board.flash.read(0x20000, 0x10000)
        assert block not in (content[0x20000:0x30000], b"\xff" * 0x10000)
        assert bytes(table.board.flash.data[:0x20000]) == content[:0x20000]
        assert bytes(table.board.flash.data[0x30000:]) == content[0x30000:]
        assert table.hears(16) == LINKED
        table.ask(op="insert")
        table.run(0.1)
        assert table.phase == "rom"


def test_erasing_draws_more_than_waiting(table: Table) -> None:
    table.supply(True).run(0.1)
    table.say(LINK)
    table.run(0.2)
    assert table.ask(op="sense")["amps"] == pytest.approx(0.030, abs=0.001)
    table.say(bytes.fromhex("01E0FCFFF406000FD800000200"))
    table.run(0.12)
    assert table.ask(op="sense")["amps"] == pytest.approx(0.045, abs=0.001)
    table.run(0.3)
    assert table.ask(op="sense")["amps"] == pytest.approx(0.030, abs=0.001)


def test_flash_damaged_behind_its_back_is_what_runs_next(table: Table) -> None:
    table.ask(op="poke", offset=0x11000, data=base64.b64encode(bytes(34)).decode(), sr=0x1C)
    table.supply(True).run(0.5)
    assert "[ARM ANOMALY][2]" in table.log
    assert table.board.flash.sr == 0x1C


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"op": "fly"}, "unknown op 'fly'"),
        ({}, "unknown op None"),
        ({"op": "poke", "offset": 0}, "data"),
        ({"op": "dump", "path": "/nowhere/x"}, "No such file"),
        ({"op": "load-flash", "flash": "/nowhere", "efuse": "zz"}, "nowhere"),
    ],
)
def test_a_senseless_request_gets_an_answer(table: Table, message: dict[str, Any], says: str) -> None:
    assert says in table.ask(**message)["error"]


# -- its event loop ------------------------------------------------------------------------------------------


def test_a_bench_that_goes_away_during_an_answer_ends_it_quietly(table: Table) -> None:
    ours, theirs = socket.socketpair()
    supply, fed = socket.socketpair()
    with theirs, supply, fed:
        ours.sendall(b'{"op": "status"}\n')
        ours.close()
        loop.serve(table.board, theirs, fed)


def test_a_supply_that_goes_away_leaves_its_output_as_it_is(table: Table) -> None:
    ours, theirs = socket.socketpair()
    supply, fed = socket.socketpair()
    with ours, theirs, fed, ours.makefile("rb") as answers:
        supply.sendall(b'{"op": "supply", "on": true, "volts": 3.3, "amps": 0.5}\n{"op": "sense"}\n')
        thread = threading.Thread(target=loop.serve, args=(table.board, theirs, fed))
        thread.start()
        with supply, supply.makefile("rb") as read:
            assert b'"volts"' in read.readline()
        ours.settimeout(10)
        ours.sendall(b'{"op": "status"}\n')
        assert b'"on": true' in answers.readline()
        ours.sendall(b'{"op": "quit"}\n')
        thread.join(10)
        assert not thread.is_alive()


def test_a_rail_that_resets_faster_than_can_be_followed_still_leaves_the_bench_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    constants = {"amps": {"rom": 0.04}}  # more than its source gives
    with closing(Table(speed=200, source="ch340-v3", constants=constants)) as table:
        board, given_up = table.board, time.monotonic() + 20
        board.run_budget_s = module._RUN_BUDGET_S
        changed = board._power_changed

        def patient(now: float) -> None:
            if time.monotonic() > given_up:
                board.rail.set_point.on = False  # ends the thread of a loop that hears nobody
            changed(now)

        monkeypatch.setattr(board, "_power_changed", patient)
        ours, theirs = socket.socketpair()
        supply, fed = socket.socketpair()
        with ours, theirs, supply, fed, ours.makefile("rb") as answers:
            ours.settimeout(10)
            thread = threading.Thread(target=loop.serve, args=(board, theirs, fed))
            thread.start()
            ours.sendall(b'{"op": "supply", "on": true, "volts": 3.3, "amps": 0.5}\n')
            assert until(lambda: board.resets > 3000, 15)
            ours.sendall(b'{"op": "status"}\n')
            assert b'"resets"' in answers.readline()
            assert until(lambda: time.monotonic() - board.rail.now < 0.3)  # what it cannot follow is dropped
            ours.sendall(b'{"op": "supply", "on": false, "volts": 3.3, "amps": 0.5}\n{"op": "quit"}\n')
            thread.join(10)
            assert not thread.is_alive()
