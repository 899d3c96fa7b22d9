"""A flasher that resets the board by RTS and DTR: on the bench, where that is a power-cycle, and by hand at a
simulated board, where it is CEN. The tool is bk7231tools 2.1.2, unmodified."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import serial
from chip_on_wire import ChipOnWire
from sim_process import ROOT, SimProcess
from waiting import until

from rig.bench.bench import open_bench
from rig.bench.link import SlotLink
from rig.bench.slot import use_slot
from rig.chip.client import RomClient
from rig.errors import BenchBlocked, UsageProblem
from rig.flashers import load_flasher
from rig.flashers.environment import provide
from rig.flashers.native import NativeFlasher
from rig.flashers.process import Run, run_tool
from rig.sim.reset_lines import board_of
from rig.uart import lines
from rig.uart.guard import Guard
from rig.uart.lines import environment
from rig.uart.tap import Tap

RELEASE = "2.1.2"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool may be held up between its connection and its word."""
    monkeypatch.setattr(lines, "_PATIENCE_S", 60.0)


# -- the tap and the link --------------------------------------------------------------------------------


@dataclass
class Power:
    """What a link needs of a supply; `log` is what it did. `discharging` is called while the rail falls."""

    chip: ChipOnWire
    on_ns: int = 0
    log: list[str] = field(default_factory=list)
    discharging: object = None

    def on(self) -> int:
        self.log.append("on")
        self.on_ns = 1
        self.chip.switch(True)
        return self.on_ns

    def off(self) -> bool:
        self.log.append("off")
        self.on_ns = 0
        self.chip.switch(False)
        return True

    def off_and_discharged(self) -> float:
        self.off()
        if callable(self.discharging):
            self.discharging()
        return 0.1

    def check(self) -> None: ...


@contextmanager
def linked() -> Iterator[tuple[SlotLink, Tap, Power, RomClient]]:
    """A board that is on and linked, as a flasher left it."""
    with ChipOnWire() as chip:
        chip.powered = False
        power = Power(chip)
        with Tap(chip.path, Guard(), on_link=power.on) as tap:
            link = SlotLink(tap, power, 921600)
            link.prepare()
            with serial.Serial(tap.path, 115200, timeout=0.005) as port:
                client = RomClient(port)
                client.link(30)
                until(lambda: power.on_ns)
                power.log.clear()
                yield link, tap, power, client


def pull(address: str) -> None:
    """What a tool's shim tells of a reset, and its wait for the answer."""
    for text in (b"rts=1 dtr=1\n", b"rts=1 dtr=0\n", b"rts=0 dtr=0\n"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect("\0" + address[1:])
            connection.sendall(text)
            assert connection.recv(1) == b"."


def test_a_pulse_is_a_power_cycle_that_ends_at_the_next_link_check() -> None:
    with linked() as (link, tap, power, client):
        held: list[bool] = []
        power.discharging = lambda: held.append(tap._port.break_condition)
        pull(link.lines)
        assert power.log == ["off"]
        assert held == [True]  # TX is low while the rail falls
        assert tap._port.break_condition is True
        client.link(30)
        assert until(lambda: power.log == ["off", "on"])
        assert [command.name for command in tap.commands] == ["link-check", "reset-pulse", "link-check"]
        pulse = tap.commands[1]
        assert tap.commands[0].begun_ns < pulse.begun_ns <= pulse.sent_ns <= tap.commands[2].begun_ns
        link.check()


def test_a_pulse_at_a_board_that_is_still_off_does_nothing() -> None:
    with linked() as (link, tap, power, client):
        link.prepare()
        power.log.clear()
        pull(link.lines)
        assert power.log == []
        client.link(30)  # still armed
        assert until(lambda: power.log == ["on"])
        link.off()
        power.log.clear()
        pull(link.lines)
        client.port.write(bytes.fromhex("01E0FC0100"))
        assert until(lambda: tap.commands[-1].name == "link-check")
        assert power.log == []  # nor does it arm what the rig switched off
        names = [command.name for command in tap.commands if "reset" in command.name]
        assert names == ["reset-pulse-while-off"] * 2


def test_switching_off_while_a_pulse_is_carried_out_stays_off() -> None:
    """Somebody stops the run just then: no link check may bring the board back."""
    with linked() as (link, tap, power, client):
        power.discharging = link.off
        pull(link.lines)
        for _ in range(3):
            seen = len(tap.commands)
            client.port.write(bytes.fromhex("01E0FC03") + b"\0\0\x80\0" + bytes.fromhex("01E0FC0100"))
            assert until(lambda seen=seen: len(tap.commands) > seen or tap.commands[-1].name == "link-check")
        assert "on" not in power.log
        assert tap._held
        assert tap._port.break_condition is True


def test_switching_off_in_the_midst_of_arming_stays_off(monkeypatch) -> None:
    """`keep_off` waits for no lock: it may come between the check of the course and the end of `arm`."""
    with linked() as (link, tap, power, client):
        drop = tap._drop_input
        monkeypatch.setattr(tap, "_drop_input", lambda: (drop(), tap.keep_off()))
        pull(link.lines)
        monkeypatch.undo()
        client.port.write(bytes.fromhex("01E0FC0100"))
        assert until(lambda: tap.commands[-1].name == "link-check")
        assert until(lambda: not tap._armed)
        tap.keep_off()  # waits for whoever switches on
        assert power.log == ["off"]


def test_a_rail_that_does_not_fall_blocks_the_slot() -> None:
    def stuck() -> None:
        raise BenchBlocked("rail-stuck", "the rail stands at 1.2 V")

    with linked() as (link, tap, power, _):
        power.discharging = stuck
        pull(link.lines)
        with pytest.raises(BenchBlocked, match="the rail stands at"):
            link.check()
        assert not tap._armed


def test_the_next_run_waits_for_a_pulse_that_is_carried_out() -> None:
    with linked() as (link, _, power, _):
        begun, free = threading.Event(), threading.Event()

        def fall() -> None:
            begun.set()
            free.wait(60)

        power.discharging = fall
        tool = threading.Thread(target=pull, args=(link.lines,))
        tool.start()
        assert begun.wait(60)
        power.discharging = None
        rig = threading.Thread(target=link.prepare)
        rig.start()
        rig.join(0.2)
        assert rig.is_alive()
        assert power.log == ["off"]
        free.set()
        rig.join(60)
        tool.join(60)
        assert power.log == ["off", "off"]


# -- bk7231tools, unmodified ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tool():
    """The environment of the release, or a skip where PyPI cannot be reached."""
    try:
        return provide("bk7231tools", RELEASE)
    except UsageProblem as problem:
        if "cannot be reached" in str(problem):
            pytest.skip(str(problem))
        raise


@pytest.fixture(scope="module")
def bench():
    pytest.importorskip("unicorn", reason="simulated boards need the extra `sim`")
    runtime = tempfile.mkdtemp(prefix="rig-rt-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIG_RUNTIME_DIR", runtime)
        with open_bench("sim:1@20") as bench:
            yield bench
    shutil.rmtree(runtime, ignore_errors=True)


def test_on_the_bench_it_identifies_reads_and_writes(bench, tool):
    flasher = load_flasher(f"bk7231tools=={RELEASE}")
    data = random.Random(1).randbytes(0x2345)
    with use_slot(bench.slot("A")) as slot:
        who = flasher.identify(slot.link)
        assert (who.chip, who.chip_id, who.flash_size) == ("BK7231N", 0x7231C, 0x200000)
        assert who.flash_id == b"\xeb\x60\x15"
        slot.guard.allow_writes([(0x10000, 0x3000)])
        assert flasher.write(slot.link, [(0x10000, data)]).ok  # below 0x11000: the guard on the wire decides
        assert flasher.read(slot.link, 0x10000, 0x3000).data == data.ljust(0x3000, b"\xff")
        pulses = [command.name for command in slot.tap.commands if "reset" in command.name]
        assert pulses == ["reset-pulse-while-off"] * 3
        native = NativeFlasher()
        assert native.verify(slot.link, [(0x10000, data)]).ok
        native.close()
    assert flasher.versions["bk7231tools"] == RELEASE


def test_on_the_bench_it_resets_a_board_that_is_on(bench, tool, tmp_path):
    """As typed at the tap's port while the board runs its firmware: only a reset brings it into its ROM."""
    with use_slot(bench.slot("A")) as slot:
        slot.link.boot()
        on_ns = slot.power.on_ns
        run = Run((str(tool.executable("bk7231tools")), "chip_info", "-d", slot.link.path, "--timeout", "30"))
        run_tool(run, folder=tmp_path, path=tool.bin, variables=environment(slot.link.lines),
                 silence=60, limit=60, check=slot.link.check)  # fmt: skip
        assert "Connected! Chip info: BK7231N / Flash ID: eb 60 15" in run.output
        assert slot.power.on_ns > on_ns
        assert slot.link.off_volts < 0.3
        assert [command.name for command in slot.tap.commands if "reset" in command.name] == ["reset-pulse"]


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rig.sim.reset_lines", *words],
        capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_by_hand_at_a_simulated_board(tool, tmp_path):
    """Nobody bridges CEN and nothing of the rig is between: the tool's own reset finds the board running."""
    pytest.importorskip("unicorn", reason="simulated boards need the extra `sim`")
    command = str(tool.executable("bk7231tools"))
    with SimProcess(tmp_path, "--boards", "1", "--powered", "--speed", "20") as sim:
        port = str(sim.control.parent / "A.uart1")
        assert until(lambda: sim.status()["phase"] == "running")
        info = typed(command, "chip_info", "-d", port)
        assert info.returncode == 0, info.stderr
        assert re.search(r"^Connected! Chip info: BK7231N / Flash ID: eb 60 15 ", info.stdout, re.MULTILINE)
        before = sim.dump(tmp_path)
        file = tmp_path / "file.bin"
        file.write_bytes(random.Random(2).randbytes(0x1800))
        written = typed(command, "write_flash", "-d", port, "-s", "0x20000", str(file))
        assert (written.returncode, written.stdout.splitlines()[-1]) == (0, "OK!"), written.stderr
        assert sim.dump(tmp_path) == before[:0x20000] + file.read_bytes().ljust(0x2000, b"\xff") + before[0x22000:]
        assert board_of(["tool", "-d", port]) == (sim.control, "A")
        failed = typed("false", "-d", port)
        assert failed.returncode == 1
    nobody = typed(command, "chip_info", "-d", port)
    assert nobody.returncode == 2
    assert nobody.stderr == (
        "no word of this command is the flash port of a simulated board, as `rig sim` printed it\n"
    )
