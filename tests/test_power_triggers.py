"""Triggers: at what a waveform is fired, on the wire and in the log, and what is said when it never comes to that."""

from __future__ import annotations

import os
import pty
import random
import re
import struct
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import serial
from chip_on_wire import ChipOnWire
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import until

from rig.bench.achieved import achieved
from rig.bench.bench import open_bench
from rig.bench.slot import use_slot
from rig.bench.witness import open_witness
from rig.chip.client import RomClient
from rig.chip.frames import Header, Long, Request, Short
from rig.errors import BenchBlocked, UsageProblem
from rig.image.firmware import FirmwareProfile, load_profile, load_profiles
from rig.power.trial import PHASES
from rig.power.triggers import COMMANDS, LOG_PHASES, Trap, Trigger
from rig.sim.flash import SIZE, NorFlash
from rig.supply.means import fit
from rig.supply.waveform import dip
from rig.uart.arrivals import Arrivals
from rig.uart.bootlog import BootLog
from rig.uart.guard import Guard
from rig.uart.tap import Tap

MS = 1_000_000
ENOUGH_S = 30.0
Wire = tuple[ChipOnWire, Tap, RomClient, serial.Serial]
NAMES = sorted({name for names in COMMANDS.values() for name in names} | {"set-baud", "read-reg", "reboot"})


@dataclass
class Wired:
    """What a trap needs of a tap."""

    on_command: Callable[[str, int | None, int], None] | None = None


@dataclass
class Power:
    on_ns: int = 0


@dataclass
class Firing:
    """Notes when it was fired."""

    at: list[int] = field(default_factory=list)

    def __call__(self) -> int:
        self.at.append(time.monotonic_ns())
        return self.at[-1]


# -- arrivals --------------------------------------------------------------------------------------------


class Port:
    """A port whose system still holds bytes for so many looks."""

    def __init__(self, baud: int, looks: int = 0) -> None:
        self.baudrate, self.looks = baud, looks

    @property
    def out_waiting(self) -> int:
        self.looks -= 1
        return max(0, self.looks + 1)


def arrived(arrivals: Arrivals, count: int) -> list[tuple[str, int | None, int]]:
    told: list[tuple[str, int | None, int]] = []

    def all_told() -> bool:
        arrivals.tell(lambda *what: told.append(what))
        return len(told) == count

    assert until(all_told)
    assert arrivals.due is None
    return told


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(5, 4110), st.integers(0, 300_000)), min_size=1, max_size=5), st.booleans())
def test_a_command_has_arrived_when_its_bytes_are_through(frames: list[tuple[int, int]], held: bool) -> None:
    """One after the other, at the line's baud, from when they were sent."""
    arrivals = Arrivals(Port(3_000_000))  # type: ignore[arg-type]
    arrivals.pace = 10.0
    now = began = time.monotonic_ns()
    free = 0
    expected = []
    for size, later in frames:
        arrivals.begins(began)
        arrivals.ends(Header(Short.LINK_CHECK, False, size, b""))
        arrivals.written(now, held=held)
        free = max(free, now if held else began) + size * 10e9 / 30_000_000
        expected.append(free)
        began += later
    told = arrived(arrivals, len(frames))
    assert [name for name, _, _ in told] == ["link-check"] * len(frames)
    assert [mono_ns for _, _, mono_ns in told] == pytest.approx(expected, abs=10)
    assert all(mono_ns <= time.monotonic_ns() for _, _, mono_ns in told)


def test_what_the_system_still_holds_has_not_arrived() -> None:
    arrivals = Arrivals(Port(1_000_000, looks=4))  # type: ignore[arg-type]
    began = time.monotonic_ns()
    arrivals.begins(began)
    arrivals.ends(Header(Long.ERASE, True, 12, b"\x20" + struct.pack("<I", 0x12000)))
    arrivals.written(began, held=False)
    assert arrived(arrivals, 1)[0][:2] == ("erase", 0x12000)
    assert time.monotonic_ns() - began > 4 * MS
    port = Port(1_000_000)
    del type(port).out_waiting
    Arrivals(port).tell(None)  # type: ignore[arg-type]


# -- the tap ---------------------------------------------------------------------------------------------


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reply is lost here: a command is asked once, however late a thread runs."""
    monkeypatch.setattr("rig.chip.client._REPLY_S", ENOUGH_S)


@pytest.fixture
def on_wire(patient: None) -> Iterator[Wire]:
    guard = Guard()
    guard.allow_writes([(0x12000, 0x4000)])
    with (
        ChipOnWire(NorFlash(random.Random(1).randbytes(SIZE)), speed=1.0) as chip,
        Tap(chip.path, guard, on_link=lambda: chip.switch(True)) as tap,
        closing(serial.Serial(tap.path, 115200, timeout=0.005)) as port,
    ):
        tap.arm()
        client = RomClient(port)
        client.link(ENOUGH_S)
        client.set_baud(921600)
        yield chip, tap, client, port


def test_the_tap_tells_of_a_command_once_the_board_has_all_of_it(on_wire: Wire) -> None:
    _, tap, client, _ = on_wire
    told: list[tuple[str, int | None, int]] = []
    tap.on_command = lambda *what: told.append(what)
    began = time.monotonic_ns()
    client.erase(0x12000, 0x1000)
    client.write_sector(0x12000, bytes(0x1000))
    client.crc(0x12000, 0x1000)
    client.read_register(0x800000)
    assert [(name, address) for name, address, _ in told] == [
        ("erase", 0x12000), ("write-4k", 0x12000), ("check-crc", 0x12000), ("read-reg", 0x800000),
    ]  # fmt: skip
    times = [mono_ns for _, _, mono_ns in told]
    assert began < times[0] < times[1] < times[2] < times[3] < time.monotonic_ns()
    for (_, _, mono_ns), command in zip(told, tap.commands[-4:], strict=True):
        wire_ns = command.size * 10e9 / 921600
        assert mono_ns >= command.begun_ns + wire_ns - 1
        assert command.reply_ns is not None
        assert mono_ns < command.reply_ns  # while the chip is at it, not when it has answered
    assert times[1] - tap.commands[-3].begun_ns > 44 * MS  # 4 KiB at 921600 baud: the port took them at once
    tap.check()


def test_what_does_not_reach_the_board_is_not_told(on_wire: Wire) -> None:
    chip, tap, client, port = on_wire
    told: list[str] = []
    tap.on_command = lambda name, address, mono_ns: told.append(name)
    outside = Request(Long.ERASE, b"\x20" + struct.pack("<I", 0x100000), True).encode()
    port.write(outside)
    assert until(lambda: tap.guard.refusals)
    client.read_register(0x800000)
    assert told == ["read-reg"]
    tap.hold()
    chip.switch(False)
    before = len(tap.commands)
    port.write(Request(Short.READ_REG, struct.pack("<I", 0x800000)).encode())
    assert until(lambda: len(tap.commands) > before)
    tap.arm()
    port.baudrate = 115200
    port.write(Request(Short.READ_REG, struct.pack("<I", 0x800000)).encode())  # before there is power
    RomClient(port).link(ENOUGH_S)
    assert set(told[1:]) == {"link-check"}


def test_a_listener_that_fails_is_the_taps_error(on_wire: Wire) -> None:
    _, tap, client, _ = on_wire

    def fails(*what: object) -> None:
        raise ZeroDivisionError("no")

    tap.on_command = fails
    client.read_register(0x800000)
    assert until(lambda: tap.error)
    with pytest.raises(BenchBlocked, match="what waits for a command failed: ZeroDivisionError: no"):
        tap.check()


@pytest.mark.parametrize(
    ("phase", "nth", "command", "code"),
    [
        ("erase", 2, "erase", Long.ERASE),
        ("program", 2, "write-4k", Long.WRITE_4K),
        ("crc", 1, "check-crc", Short.CHECK_CRC),
    ],
)
def test_a_trap_fires_while_the_chip_is_at_it(on_wire: Wire, phase: str, nth: int, command: str, code: int) -> None:
    """An erase takes 45 ms, a sector's CRC 0.1 ms a page: here the chip takes longer, until the trap has fired."""
    chip, tap, client, _ = on_wire
    fire, left = Firing(), [nth]

    def at_it(reply: bytes) -> bytes:
        if code in (reply[6], reply[9] if reply[2] == 0xFF else None):
            left[0] -= 1
            if not left[0]:
                until(lambda: fire.at, ENOUGH_S / 2)
        return reply

    chip.twist = at_it
    with Trap(Trigger(phase, nth), tap, None, None, fire) as trap:
        for address in (0x12000, 0x13000, 0x14000):
            client.erase(address, 0x1000)
            client.write_sector(address, bytes(0x1000))
        client.crc(0x12000, 0x1000)
        assert trap.wait(ENOUGH_S)
    assert tap.on_command is None
    meant = [each for each in tap.commands if each.name == command][nth - 1]
    assert trap.fired_ns == fire.at[0]
    assert len(fire.at) == 1
    assert trap.seen_ns is not None
    assert trap.missed is None
    assert meant.reply_ns is not None
    assert meant.begun_ns < trap.seen_ns < meant.reply_ns
    assert trap.seen_ns <= trap.fired_ns < meant.reply_ns


# -- counting --------------------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(NAMES), max_size=30), st.sampled_from(sorted(COMMANDS)), st.integers(1, 6))
def test_it_is_the_nth_of_its_phase_or_none(names: list[str], phase: str, nth: int) -> None:
    tap, power, fire = Wired(), Power(1), Firing()
    with Trap(Trigger(phase, nth), tap, None, power, fire) as trap:
        assert tap.on_command is not None
        for number, name in enumerate(names):
            tap.on_command(name, None, 1000 + number)
        hits = [1000 + number for number, name in enumerate(names) if name in COMMANDS[phase]]  # type: ignore[index]
        if len(hits) >= nth:
            assert trap.wait(ENOUGH_S)
    assert trap.seen_ns == (hits[nth - 1] if len(hits) >= nth else None)
    assert len(fire.at) == (len(hits) >= nth)
    assert (trap.missed is None) == (len(hits) >= nth)
    if len(hits) < nth:
        assert trap.missed is not None
        assert "never passed on the wire" in trap.missed
        assert (f"only {len(hits)} of them" in trap.missed) == bool(hits)


def test_link_checks_count_from_power_on() -> None:
    tap, power, fire = Wired(), Power(0), Firing()
    with Trap(Trigger("link"), tap, None, power, fire) as trap:
        assert tap.on_command is not None
        tap.on_command("link-check", None, 10)
        power.on_ns = 30
        tap.on_command("link-check", None, 20)  # was under way before
        assert trap.seen_ns is None
        tap.on_command("link-check", None, 40)
        assert trap.wait(ENOUGH_S)
    assert trap.seen_ns == 40


def test_the_delay_counts_from_the_phase() -> None:
    tap, fire = Wired(), Firing()
    with Trap(Trigger("erase", delay_s=0.05), tap, None, None, fire) as trap:
        assert tap.on_command is not None
        seen = time.monotonic_ns() - 20 * MS  # it was a while ago
        tap.on_command("erase-4k", 0x1000, seen)
        assert trap.wait(ENOUGH_S)
    assert trap.fired_ns is not None
    assert trap.fired_ns >= seen + 50 * MS
    with Trap(Trigger("erase", delay_s=30), tap, None, None, fire) as trap:
        tap.on_command("erase-4k", 0x1000, time.monotonic_ns())
        assert not trap.wait(0.01)
    assert trap.missed == "It was over before 30 s after the erase had passed."
    assert len(fire.at) == 1


def test_rom_is_a_time_after_the_next_power_on() -> None:
    was = time.monotonic_ns()
    power, fire = Power(was), Firing()
    with Trap(Trigger("rom", delay_s=0.03), None, None, power, fire) as trap:
        assert not trap.wait(0.02)  # that it is on already says nothing
        power.on_ns = 0
        assert not trap.wait(0.01)
        power.on_ns = on = time.monotonic_ns()
        assert trap.wait(ENOUGH_S)
    assert trap.seen_ns == on
    assert trap.fired_ns is not None
    assert trap.fired_ns >= on + 30 * MS
    with Trap(Trigger("rom"), None, None, power, fire) as trap:
        pass
    assert trap.missed == "Power-on was not seen."


def test_what_firing_raises_is_raised() -> None:
    def fails() -> int:
        raise BenchBlocked("supply-lost", "The supply is gone.")

    power = Power()
    with pytest.raises(BenchBlocked, match="gone"), Trap(Trigger("rom"), None, None, power, fails) as trap:  # noqa: PT012
        power.on_ns = 1
        assert not trap.wait(ENOUGH_S)
    assert trap.missed == "It could not be fired: The supply is gone."
    with pytest.raises(KeyError), Trap(Trigger("rom"), None, None, Power(5), fails) as trap:  # noqa: PT012
        trap._power.on_ns = 6  # type: ignore[union-attr, misc]
        trap.wait(ENOUGH_S)
        raise KeyError  # of what was done meanwhile: it comes first


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("erse",), "no phase 'erse'; there are rom, link, erase"),
        (("erase", 0), "the phase erase has no number 0"),
        (("rom", 2), "the phase rom has no number 2"),
        (("erase", 1, -0.1), "a trigger's delay is 0 to 3600 s"),
        (("erase", 1, float("nan")), "a trigger's delay is 0 to 3600 s"),
    ],
)
def test_what_is_no_trigger(asked: tuple[object, ...], says: str) -> None:
    with pytest.raises(UsageProblem, match=says):
        Trigger(*asked)  # type: ignore[arg-type]


def test_what_this_bench_cannot_see() -> None:
    profiles = load_profiles()
    esphome = [profile for profile in profiles if profile.name == "esphome-bk7231n"]
    for phase, tap, power, known, says in [
        ("erase", None, Power(), profiles, "needs a flash port"),
        ("rom", Wired(), None, profiles, "needs a supply"),
        ("boot", Wired(), Power(), profiles, "give the slot a log_port"),
        ("rf-calibration", Wired(), Power(), esphome, r"no firmware profile says how rf-calibration .* \(ESPHome\)"),
        ("running", Wired(), Power(), [], "none was given"),
    ]:
        with pytest.raises(UsageProblem, match=says):
            Trap(Trigger(phase), tap, None, power, Firing(), known)


def test_every_phase_there_is_can_be_a_trigger() -> None:
    assert {Trigger(phase).phase for phase in PHASES} == {"rom", *COMMANDS, *LOG_PHASES}
    assert [Trigger("erase", nth).words for nth in (1, 2, 3, 4, 11, 12, 21, 102)] == [
        "the erase", "the 2nd erase", "the 3rd erase", "the 4th erase", "the 11th erase", "the 12th erase",
        "the 21st erase", "the 102nd erase",
    ]  # fmt: skip


# -- the log ---------------------------------------------------------------------------------------------


class Board:
    """The far end of a log port."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        tty.setraw(self.master)
        self.port = os.ttyname(slave)
        os.close(slave)

    def says(self, text: str) -> None:
        os.write(self.master, text.encode("latin-1"))


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    os.close(made.master)


@pytest.fixture
def log(board: Board) -> Iterator[BootLog]:
    with BootLog.open(board.port) as opened:
        yield opened


def demo() -> FirmwareProfile:
    return next(profile for profile in load_profiles() if profile.name == "rig-demo")


BOOT = ["rig-boot 1", "ST:00000000", "J 0x10000", "rig-demo BK7231N, version 1.0.0", "reset cause 0 (power-on)"]


@pytest.mark.parametrize(
    ("phase", "nth", "at"),
    [
        ("boot", 1, "rig-boot 1"),
        ("boot", 2, "rig-boot 1 again"),
        ("rf-calibration", 1, "radio start"),
        ("access-point", 1, "radio ready"),
        ("running", 1, "boot complete"),
    ],
)
def test_a_phase_of_a_boot_is_the_line_it_begins_with(
    board: Board, log: BootLog, phase: str, nth: int, at: str
) -> None:
    power, fire = Power(time.monotonic_ns()), Firing()
    board.says("".join(f"{text}\n" for text in [*BOOT, "radio start", "radio ready", "boot complete", "alive 6"]))
    assert log.wait_for("alive 6", ENOUGH_S)
    with Trap(Trigger(phase, nth), None, log, power, fire, load_profiles()) as trap:
        assert not trap.wait(0.02)  # what was there before the next power-on is another boot's
        power.on_ns = log.mark("power-on")
        board.says("\xff\x00\n")  # noise of switching on
        assert log.wait_for(r"\\x00", ENOUGH_S, since_ns=power.on_ns)
        for text in [*BOOT, "radio start", "radio ready", "rig-boot 1 again", "boot complete"]:
            board.says(f"{text}\n")  # each with a stamp of its own
            assert log.wait_for(re.escape(text), ENOUGH_S, since_ns=power.on_ns)
        assert trap.wait(ENOUGH_S)
    line = next(line for line in log.lines_since(power.on_ns) if at in line.text)
    assert trap.seen_ns == line.mono_ns
    assert trap.fired_ns is not None
    assert trap.fired_ns >= trap.seen_ns


def test_a_board_that_runs_already_is_caught_where_it_is(board: Board, log: BootLog) -> None:
    power, fire = Power(log.mark("power-on")), Firing()
    board.says("boot complete\nalive 6\n")
    assert log.wait_for("alive 6", ENOUGH_S)
    with Trap(Trigger("running"), None, log, power, fire, [demo()], since_ns=power.on_ns) as trap:
        assert trap.wait(ENOUGH_S)
    assert trap.seen_ns == log.lines[0].mono_ns


def test_a_phase_that_does_not_come(board: Board, log: BootLog) -> None:
    power = Power()
    with Trap(Trigger("access-point"), None, log, power, Firing(), [demo()]) as trap:
        power.on_ns = log.mark("power-on")
        board.says("rig-boot 1\nradio start\n")
        assert log.wait_for("radio start", ENOUGH_S)
        began = time.monotonic()
    assert trap.missed == "The access point did not appear in the log."
    assert time.monotonic() - began < ENOUGH_S
    assert not any(thread.name == "trap" for thread in threading.enumerate())


def test_a_log_port_that_goes_away_is_the_benchs_fault(board: Board, log: BootLog) -> None:
    power = Power()
    with (  # noqa: PT012
        pytest.raises(BenchBlocked, match="went away"),
        Trap(Trigger("running"), None, log, power, Firing(), [demo()]) as trap,
    ):
        power.on_ns = log.mark("power-on")
        os.close(board.master)
        board.master = os.dup(0)
        assert not trap.wait(ENOUGH_S)


@pytest.mark.parametrize(
    ("name", "firmware", "phases"),
    [
        ("openbeken_BK7231N_safe_mode_boot_uart2.txt", "openbeken-bk7231n", ["boot", "rf-calibration"]),
        ("tuya_CB3S_72-087_1gang_switch_1.3.5_uart2.txt", "tuya-bk7231n",
         ["boot", "rf-calibration", "running", "access-point"]),
        ("emulated/obkN_1.18.300_first_boot.log", "openbeken-bk7231n",
         ["boot", "rf-calibration", "access-point", "running"]),
        ("emulated/tuyaN_tywb_4ch_factory_boot.log", "tuya-bk7231n", ["boot", "rf-calibration"]),
    ],
)  # fmt: skip
def test_the_profiles_texts_are_in_kept_logs_in_that_order(name: str, firmware: str, phases: list[str]) -> None:
    folder = os.environ.get("RIG_LOG_DIR")
    if folder is None:
        pytest.skip("needs kept logs (RIG_LOG_DIR)")
    lines = (Path(folder) / name).read_text(errors="replace").splitlines()
    profile = load_profile(Path("rig/firmwares") / f"{firmware}.toml")
    found = []
    for phase in phases:
        texts = profile.log.phase(phase)  # type: ignore[arg-type]
        found.append(next((at for at, line in enumerate(lines) if any(text in line for text in texts)), None))
    assert None not in found
    assert found == sorted(found)  # type: ignore[type-var]


def test_a_misspelt_phase_in_a_profile_is_told(tmp_path: Path) -> None:
    text = Path("rig/firmwares/rig-demo.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("rf-calibration =", "rf-calibraton ="))
    with pytest.raises(UsageProblem, match="'rf-calibration' or 'access-point'"):
        load_profile(path)


@pytest.mark.usefixtures("patient")
def test_a_dip_is_fired_at_an_erase_on_a_bench_and_witnessed() -> None:
    """All of it through bench.toml: the trigger off the wire, the supply's own list, the scope at the rail."""
    pytest.importorskip("unicorn", reason="a simulated board needs unicorn (extra: sim)")
    speed = 5.0
    with open_bench(f"sim:1@{speed:g}+witness+seed=5") as bench, use_slot(bench.slot("A")) as used:
        witness = open_witness(used.slot)
        assert witness is not None
        with witness, closing(serial.Serial(used.link.path, 115200, timeout=0.005)) as port:
            used.link.prepare()
            client = RomClient(port)
            client.link(ENOUGH_S)
            used.guard.allow_writes([(0x150000, 0x3000)])
            channel = used.power.channel
            commanded = fit(dip(2.9, 0.02), channel.limits, False, speed=speed)
            witness.start(10.0)  # as late as a busy machine's threads may be
            channel.arm(commanded)
            with Trap(Trigger("erase", 2), used.tap, None, used.power, channel.fire) as trap:
                for address in (0x150000, 0x151000, 0x152000):
                    client.erase(address, 0x1000)
                assert trap.wait(ENOUGH_S)
            assert until(lambda: not channel.playing())
            over_ns = time.monotonic_ns()
            assert trap.fired_ns is not None
            assert trap.seen_ns is not None
            samples = witness.record(trap.fired_ns - 20 * MS, over_ns + 100 * MS)
            meant = [each for each in used.tap.commands if each.name == "erase"][1]
    assert meant.address == 0x151000
    assert meant.reply_ns is not None
    assert meant.begun_ns < trap.seen_ns < meant.reply_ns
    found = achieved(samples, 3.3, trap.fired_ns)
    assert found.v_min == pytest.approx(2.9, abs=0.04)
    early, late = commanded.means.early_s, commanded.means.late_s
    edges = 0.012  # board's seconds that the simulated supply takes to settle, at one level of an edge
    assert 0.02 - early - edges < found.widths["3.0"] * speed < 0.02 + late + edges
    assert found.delay_s is not None
    assert found.delay_s < 2  # of the supply's own: milliseconds
