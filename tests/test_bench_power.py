"""A board's power and link, over a scripted supply channel: switching, discharging, sags, samples, faults."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import serial
from chip_on_wire import ChipOnWire
from waiting import until

from rig.bench.link import SlotLink
from rig.bench.power import BoardPower
from rig.bench.product import Supplied, load_product
from rig.bench.slot import use_slot
from rig.chip import client
from rig.chip.client import RomClient
from rig.chip.frames import Request
from rig.errors import BenchBlocked, UnitFailed
from rig.flashers.native import NativeFlasher
from rig.sim.psu import PsuServer, ResistiveLoad
from rig.supply.channel import Limits, Mode, Reading, Setting
from rig.supply.driver import VisaChannel
from rig.supply.instrument import Supply
from rig.uart.guard import Guard
from rig.uart.tap import Tap

SUPPLIED = load_product("ds-121").supply


class Channel:
    """A supply channel that does as it is told, and shows what the test says."""

    limits = Limits(30, 3, 0.001, 0.001, 0.0, ())

    def __init__(self) -> None:
        self.is_on = False
        self.settings: list[tuple[Setting, float]] = []
        self.switched: list[bool] = []
        self.volts, self.amps, self.mode = 3.3, 0.03, "cv"
        self.falls: Iterator[float] = iter(())
        self.confirms = True
        self.error: BenchBlocked | None = None
        self.measured = 0
        self.chip: ChipOnWire | None = None
        self.lock = threading.Lock()

    def configure(self, setting: Setting, *, max_volts: float) -> Setting:
        self.settings.append((setting, max_volts))
        self.is_on = False
        return setting

    def on(self) -> int:
        self._switch(True)
        return time.monotonic_ns()

    def off(self) -> bool:
        self._switch(False)
        return self.confirms

    def _switch(self, on: bool) -> None:
        self.is_on = on
        self.switched.append(on)
        if self.chip is not None:
            self.chip.switch(on)

    def measure(self) -> Reading:
        if self.error is not None:
            raise self.error
        with self.lock:
            self.measured += 1
            mode: Mode = "off"
            volts = next(self.falls, 0.0)
            if self.is_on:
                volts, mode = self.volts, self.mode  # type: ignore[assignment]
            return Reading(volts, self.amps if self.is_on else 0.0, mode, time.monotonic_ns())

    def tripped(self) -> None:
        return None

    def set_volts(self, volts: float, *, verify: bool = True) -> int:
        self.volts = volts
        return time.monotonic_ns()

    def set_current_limit(self, amps: float, *, verify: bool = True) -> int:
        return time.monotonic_ns()


@pytest.fixture
def channel() -> Channel:
    return Channel()


@contextmanager
def powered(channel: Channel, samples: Path | None = None, *, ovp: bool = True) -> Iterator[BoardPower]:
    with BoardPower(channel, SUPPLIED, ovp=ovp, samples=samples) as power:
        yield power


def test_it_is_set_up_once_and_off_afterwards(channel: Channel) -> None:
    with powered(channel) as power:
        assert channel.settings == [(Setting(3.3, 0.5, 3.6, ocp_trips=False), 3.6)]
        assert channel.switched == []
        before = time.monotonic_ns()
        assert before < power.on() < time.monotonic_ns()
        assert channel.is_on
    assert not channel.is_on
    assert "power-samples" not in [thread.name for thread in threading.enumerate()]


def test_it_is_off_after_a_failure_too(channel: Channel) -> None:
    def work() -> None:
        with powered(channel) as power:
            power.on()
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        work()
    assert channel.switched == [True, False]


def test_a_channel_without_ovp_and_a_product_that_trips(channel: Channel) -> None:
    trips = SUPPLIED.model_copy(update={"on_overcurrent": "trip"})
    with BoardPower(channel, trips, ovp=False):
        assert channel.settings[0][0] == Setting(3.3, 0.5, None, ocp_trips=True)


def test_discharged_is_below_the_product_s_off_level(channel: Channel) -> None:
    with powered(channel) as power:
        power.on()
        channel.falls = iter([2.0, 1.0, 0.5, 0.35, 0.29, 0.1, 0.05, 0.02])
        assert power.off_and_discharged() < SUPPLIED.off_volts
        assert channel.switched[-1] is False


def test_a_supply_that_is_turned_up_by_hand_is_switched_off() -> None:
    """One without an OVP."""
    with PsuServer("keysight-e3631a", [ResistiveLoad(33.0)], serial="0") as psu:
        supply = Supply.open(psu.resource)
        with BoardPower(VisaChannel(supply, 1, max_volts=3.6), SUPPLIED, ovp=False) as power:
            power.on()
            assert until(lambda: power.drawn(0.0))
            psu.outputs[0].program(volts=5.0)
            assert until(lambda: power.error)
            assert not psu.outputs[0].on
            with pytest.raises(BenchBlocked, match=r"reads 5\.00 V, .* may get 3\.6 V: it was switched off"):
                power.check()
            with pytest.raises(BenchBlocked, match="had its volts changed"):
                power.on()
        supply.close()


def test_one_reading_that_is_too_high_costs_no_board_its_power(channel: Channel) -> None:
    with powered(channel) as power:
        power.on()
        measure, high = channel.measure, iter([True])
        channel.measure = lambda: replace(measure(), volts=33.0) if next(high, False) else measure()  # type: ignore[method-assign]
        before = channel.measured
        assert until(lambda: channel.measured > before + 5)
        power.check()
        assert channel.is_on


def test_a_rail_that_stays_up_is_fed_by_something_else(channel: Channel) -> None:
    quick = SUPPLIED.model_copy(update={"off_timeout": 0.05})
    with BoardPower(channel, quick, ovp=True) as power:
        channel.falls = iter(lambda: 1.9, None)
        before = channel.measured
        with pytest.raises(BenchBlocked, match=r"1\.90 V 0\.05 s after the output went off") as caught:
            power.off_and_discharged()
        assert caught.value.code == "rail-stuck"
        assert channel.measured - before < 25  # not as fast as the supply answers
        channel.confirms = False
        with pytest.raises(BenchBlocked) as caught:
            power.off_and_discharged()
        assert caught.value.code == "supply-lost"
        channel.falls = iter(())


def test_a_sag_is_remembered_with_its_deepest_point(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.bench.power._SETTLE_NS", 0)
    with powered(channel) as power:
        power.watch_closely(True)
        channel.volts = 3.15  # within what the product allows
        power.on()
        seen = channel.measured
        assert until(lambda: channel.measured > seen + 3)
        assert power.sag is None
        for volts, mode in ((3.0, "cv"), (2.2, "cc"), (3.3, "cv")):
            channel.volts, channel.mode = volts, mode
            seen = channel.measured
            assert until(lambda seen=seen: channel.measured > seen + 3)
        sag = power.sag
        assert sag is not None
        assert (sag.volts, sag.limited) == (2.2, True)
        power.on()
        seen = channel.measured
        assert until(lambda: channel.measured > seen + 3)
        assert power.sag is None
        assert power.deepest_sag == sag  # through the power-cycle
        power.forget_sags()
        assert power.deepest_sag is None


def test_inrush_is_no_sag(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.bench.power._SETTLE_NS", 60 * 10**9)  # however late this thread sees five readings
    channel.volts, channel.mode = 1.0, "cc"
    with powered(channel) as power:
        power.watch_closely(True)
        power.on()
        seen = channel.measured
        assert until(lambda: channel.measured > seen + 5)
        channel.volts, channel.mode = 3.3, "cv"
        assert power.sag is None


def test_a_slow_meter_s_old_readings_are_none_of_the_board(channel: Channel) -> None:
    """For as long as a new reading takes, it shows what was before switching on: no volts, no amps."""
    channel.volts, channel.amps = 0.0, 0.0
    measure = channel.measure
    with BoardPower(channel, SUPPLIED, ovp=True, refresh_s=0.5) as power:

        def late() -> Reading:
            reading, since = measure(), power.on_ns
            is_new = since and reading.mono_ns >= since + 450_000_000
            return replace(reading, volts=3.3, amps=0.03) if is_new else reading

        channel.measure = late  # type: ignore[method-assign]
        began = power.on()
        assert power.average(0.05) == (pytest.approx(3.3), pytest.approx(0.03))
        assert time.monotonic_ns() - began > 500_000_000
        assert power.sag is None


def test_an_average_is_of_what_comes(channel: Channel) -> None:
    with powered(channel) as power:
        power.watch_closely(True)
        power.on()
        channel.amps = 0.2
        volts, amps = power.average(0.05)
        assert (volts, amps) == (pytest.approx(3.3), pytest.approx(0.2))
        started = time.monotonic()
        power.average(60, until=lambda: time.monotonic() > started + 0.02)
        assert time.monotonic() < started + 30


def test_samples_are_kept(channel: Channel, tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    with powered(channel, path) as power:
        power.on()
        seen = channel.measured
        assert until(lambda: channel.measured > seen + 2)
    first, *rows = path.read_text().splitlines()
    assert first == "mono_ns,volts,amps,mode"
    assert all(len(row.split(",")) == 4 for row in rows)
    assert any(row.endswith(",3.3000,0.0300,cv") for row in rows)
    times = [int(row.split(",")[0]) for row in rows]
    assert times == sorted(times)


def test_a_supply_that_stops_answering_is_told(channel: Channel) -> None:
    with powered(channel) as power:
        power.check()
        channel.error = BenchBlocked("supply-lost", "it stopped answering")
        assert until(lambda: power.error is not None)
        with pytest.raises(BenchBlocked, match="it stopped answering"):
            power.check()
        with pytest.raises(BenchBlocked, match="it stopped answering"):
            power.average(0.01)


def test_an_unexpected_failure_to_measure_is_told(channel: Channel) -> None:
    with powered(channel) as power:
        channel.error = RuntimeError("the service failed")  # type: ignore[assignment]
        assert until(lambda: power.error is not None)
        with pytest.raises(BenchBlocked, match="measuring failed: RuntimeError: the service failed") as caught:
            power.check()
        assert caught.value.code == "supply-lost"


def test_switching_off_while_it_goes_on_leaves_it_off(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What falls after that is no sag."""
    monkeypatch.setattr("rig.bench.power._SETTLE_NS", 0)
    begun, go_on = threading.Event(), threading.Event()
    slow_on = channel.on

    def on() -> int:
        moment = slow_on()
        begun.set()
        assert go_on.wait(60)
        return moment

    monkeypatch.setattr(channel, "on", on)
    with powered(channel) as power:
        switcher = threading.Thread(target=power.on)
        switcher.start()
        assert begun.wait(60)
        other = threading.Thread(target=power.off)
        other.start()
        other.join(0.05)
        go_on.set()
        switcher.join(60)
        other.join(60)
        assert channel.switched == [True, False]
        assert power.on_ns == 0
        seen = channel.measured
        assert until(lambda: channel.measured > seen + 3)
        assert power.sag is None


def test_a_slot_that_was_given_back_is_not_switched_on(channel: Channel) -> None:
    with powered(channel) as power:
        pass
    with pytest.raises(BenchBlocked, match="stays off"):
        power.on()
    assert not channel.is_on


def test_what_was_read_last_is_known_after_switching_off(channel: Channel) -> None:
    with powered(channel) as power:
        assert power.reading() is None
        power.on()
        channel.amps = 0.031
        seen = channel.measured
        assert until(lambda: channel.measured > seen + 3)
        power.off()
        seen = channel.measured
        assert until(lambda: channel.measured > seen + 3)
        last = power.reading()
        assert last is not None
        assert (last.mode, last.amps) == ("cv", 0.031)
        power.on()
        channel.mode = "cc"
        now = power.reading()
        assert now is not None
        assert now.mode == "cc"


def test_samples_that_cannot_be_written_are_told(channel: Channel, tmp_path: Path) -> None:
    with powered(channel, tmp_path / "power.csv") as power:
        assert power._file is not None
        power._file.close()
        power._file = open("/dev/full", "w", buffering=1)  # noqa: SIM115
        assert until(lambda: power.error is not None)
        with pytest.raises(BenchBlocked, match="the power samples cannot be written"):
            power.check()
        power._file = None


@pytest.mark.parametrize("value", [math.nan, -1.0])
def test_a_supply_that_reads_nonsense_is_not_discharged(channel: Channel, value: float) -> None:
    quick = Supplied(**(SUPPLIED.model_dump() | {"off_timeout": 0.02}))
    with BoardPower(channel, quick, ovp=True) as power:
        channel.falls = iter(lambda: value, None)
        if math.isnan(value):
            with pytest.raises(BenchBlocked):
                power.off_and_discharged()
        else:
            assert power.off_and_discharged() == value
        channel.falls = iter(())


@contextmanager
def linked(channel: Channel) -> Iterator[tuple[SlotLink, Tap, ChipOnWire]]:
    with ChipOnWire() as chip, powered(channel) as power:
        chip.powered = False
        channel.chip = chip
        with Tap(chip.path, Guard(), on_link=power.on) as tap:
            tap.hold()
            yield SlotLink(tap, power, 921600), tap, chip
        channel.chip = None


def test_the_board_gets_its_power_at_the_first_link_check(channel: Channel) -> None:
    with linked(channel) as (link, tap, chip):
        flasher = NativeFlasher()
        assert flasher.identify(link).chip == "BK7231N"
        assert channel.switched == [False, True]
        assert link.off_volts is not None
        assert link.off_volts < 0.3
        assert flasher.read(link, 0, 0x1000).ok
        assert channel.switched == [False, True]
        flasher.close()
        assert link.off() is True
        assert not chip.powered
        assert tap._port.break_condition is True


def test_a_boot_needs_no_link_check(channel: Channel) -> None:
    with linked(channel) as (link, tap, chip):
        assert link.boot() < time.monotonic_ns()
        assert chip.powered
        assert tap._port.break_condition is False
        assert chip.heard == b""


def test_what_the_guard_stopped_is_told_to_the_flasher(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.chip.client._RETRIES", 0)
    monkeypatch.setitem(client._ERASE_S, 0x1000, 0.05)
    with linked(channel) as (link, _, chip):
        flasher = NativeFlasher()
        flasher.identify(link)
        with pytest.raises(BenchBlocked, match="erase at 0x1000: comes before this board's backup is safe") as caught:
            flasher.erase(link, 0x1000, 0x1000)
        assert caught.value.code == "guard-stopped"
        assert chip.flash.erases == {}
        flasher.close()


def test_faults_of_port_and_supply_come_out_of_the_link(channel: Channel) -> None:
    with linked(channel) as (link, tap, _):
        link.check()
        link.prepare()
        with closing(serial.Serial(tap.path, 115200, timeout=0.005)) as port:
            RomClient(port).link(3)
            port.write(Request(0x0A, b"\x00", True).encode())
            assert until(lambda: tap.guard.refusals)
            with pytest.raises(BenchBlocked, match="erase-all"):
                link.check()
        channel.error = BenchBlocked("supply-lost", "gone")
        assert until(lambda: link._power.error is not None)
        with pytest.raises(BenchBlocked, match="gone"):
            link.check()
        channel.error = None


def test_a_board_that_missed_its_rom_is_off_again(channel: Channel) -> None:
    """Its factory firmware must not run: nothing has backed it up."""
    with linked(channel) as (link, _, chip):
        chip.twist = lambda reply: b""
        flasher = NativeFlasher()
        with pytest.raises(UnitFailed, match="after power-on") as caught:
            flasher.identify(link)
        assert caught.value.code == "no-link"
        assert channel.switched == [False, True, False]
        assert len(chip.heard) < 2.5 / 0.005 * len(Request(0).encode())  # at most 2.5 s of link checks
        assert link.power_on_ns == 0
        flasher.close()


def test_a_hung_port_does_not_keep_the_output_on(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.uart.tap._TURN_S", 0.5)
    with linked(channel) as (link, tap, _):
        link.boot()
        locked, go_on = threading.Event(), threading.Event()

        def hang() -> None:
            with tap._lock:
                locked.set()
                go_on.wait(60)

        hung = threading.Thread(target=hang)
        hung.start()
        assert locked.wait(60)
        order: list[str] = []
        switch, turn = channel._switch, tap._turn
        channel._switch = lambda on: order.append("on" if on else "off") or switch(on)  # type: ignore[assignment]
        monkeypatch.setattr(tap, "_turn", lambda: order.append("port") or turn())
        assert link.off() is True
        assert order == ["off", "port"]  # nobody waits for the port before
        assert hung.is_alive()  # nor for as long as it hangs
        with pytest.raises(BenchBlocked, match="its adaptor hangs"):
            link.check()
        go_on.set()
        hung.join(60)


def test_a_slot_s_output_goes_off_before_its_ports_are_closed(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing the port may take its time."""

    @contextmanager
    def lease(*rest: object) -> Iterator[Channel]:
        yield channel

    channel.instrument = None  # type: ignore[attr-defined]
    monkeypatch.setattr("rig.bench.slot.lease_slot", lease)
    was_on: list[bool] = []
    close = Tap.close
    monkeypatch.setattr(Tap, "close", lambda tap: was_on.append(channel.is_on) or close(tap))
    with ChipOnWire() as chip:
        table = SimpleNamespace(flash_port=chip.path, ovp="supply", baud=921600)
        slot = SimpleNamespace(name="A", table=table, product=load_product("ds-121"), speed=1.0)
        with use_slot(slot) as used:  # type: ignore[arg-type]
            used.link.boot()
            assert channel.is_on
    assert was_on == [False]


def test_power_that_comes_late_does_not_follow_switching_off(channel: Channel) -> None:
    with linked(channel) as (link, tap, chip):
        begun, power_on = threading.Event(), tap._on_link

        def late() -> None:
            begun.set()
            until(lambda: False, 0.3)  # the processor was elsewhere
            power_on()

        tap._on_link = late
        link.prepare()
        with closing(serial.Serial(tap.path, 115200)) as port:
            port.write(Request(0).encode())
            assert begun.wait(60)
            assert link.off() is True
            assert not until(lambda: channel.is_on, 0.5)
            assert not chip.powered


def test_a_reading_on_request_is_what_is_known_once_it_is_off(channel: Channel) -> None:
    """On a machine with much else to do the sampling may not have looked since the capacitors were charged."""
    power = BoardPower(channel, SUPPLIED, ovp=True)  # not entered: nothing samples
    power.sample()
    assert power.reading() is None  # off: nothing to say of a board
    power.on()
    channel.amps = 0.002
    power.sample()
    power.off()
    seen = power.reading()
    assert seen is not None
    assert seen.amps == 0.002
    power.on()
    channel.error = BenchBlocked("supply-lost", "no answer")
    power.sample()  # says nothing: that is check's
    channel.error = None
    power.off()


def test_a_board_that_is_only_read_is_looked_at_less_often_until_that_is_over(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rig.bench.power._CALM_S", 60.0)
    with powered(channel) as power:
        power.on()
        with power.calmly():
            assert until(lambda: _still(channel)), "no look for longer than the usual pace"
            seen = channel.measured
        assert until(lambda: channel.measured > seen + 2), "and at once again at the usual one"


def _still(channel: Channel) -> bool:
    before = channel.measured
    return not until(lambda: channel.measured > before, 0.2)
