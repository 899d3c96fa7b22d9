"""The line and the driver: what is sent, in which order, what is refused, and what happens when the line breaks."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyvisa.constants import StatusCode
from pyvisa.errors import VisaIOError
from pyvisa_py.protocols.rpc import RPCError
from supply_fake import FakeSupply, write_acme
from waiting import until

from rig.errors import BenchBlocked, UsageProblem
from rig.sim.psu import PsuServer, ResistiveLoad
from rig.supply import driver, visa
from rig.supply.channel import Setting
from rig.supply.dialect import Transport
from rig.supply.driver import VisaChannel
from rig.supply.instrument import Supply
from rig.supply.visa import Link

QUICK = Transport(timeout_s=0.3)  # where there is no answer
PATIENT = Transport(timeout_s=30)
SETTING = Setting(3.3, 0.5, ovp=3.7)


@pytest.fixture
def fake() -> Iterator[FakeSupply]:
    with FakeSupply() as fake:
        yield fake


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    return write_acme(tmp_path / "dialects")


@pytest.fixture
def supply(fake: FakeSupply, acme: Path) -> Iterator[Supply]:
    supply = Supply.open(fake.resource, folders=[acme])
    yield supply
    supply.close()


@pytest.fixture
def channel(supply: Supply, fake: FakeSupply) -> VisaChannel:
    fake.received.clear()
    return VisaChannel(supply, 1, max_volts=3.6)


# The line


def test_nagle_is_off_and_keepalive_on(fake: FakeSupply) -> None:
    link = Link(fake.resource, PATIENT)
    link.open()
    sock = link._socket()
    assert sock is not None
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1

    def ten_rounds() -> float:
        started = time.monotonic()
        for _ in range(10):
            link.write("SEL A", "SEL B")
            link.query("V?")
        return time.monotonic() - started

    assert until(lambda: ten_rounds() < 0.2)  # with Nagle each round takes 40 ms, always
    link.close()


def test_a_closed_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(BenchBlocked, match=rf"{port}::SOCKET .*refused") as told:
        Link(f"TCPIP::127.0.0.1::{port}::SOCKET", QUICK).open()
    assert told.value.code == "supply-lost"


@pytest.mark.parametrize("resource", ["psu1", "TCPIP::", "TCPIP::127.0.0.1::SOCKET"])
def test_a_resource_that_is_none_is_a_usage_problem(resource: str) -> None:
    with pytest.raises(UsageProblem, match="VISA resource"):
        Link(resource, QUICK).open()


def test_a_silent_instrument_is_lost(fake: FakeSupply) -> None:
    fake.twist = lambda line: None
    with pytest.raises(BenchBlocked, match=r"no answer to '\*IDN\?' \(timeout\)"):
        Link(fake.resource, QUICK).open()


def test_a_late_answer_does_not_meet_the_next_question(fake: FakeSupply) -> None:
    link = Link(fake.resource, PATIENT)
    link.open()
    released = threading.Event()

    def late(line: str) -> object:
        if line == "I?" and not released.is_set():
            released.wait(60)
            return "9.999A"
        return FakeSupply.GO_ON

    fake.twist = late
    link.transport = QUICK
    with pytest.raises(BenchBlocked):
        link.query("I?")
    link.transport = PATIENT
    released.set()
    assert [link.query("V?"), link.query("I?")] == ["V1 0.00", "0.100A"]
    assert link.generation == 2
    link.close()


def test_a_hung_up_line_is_noticed_at_once_and_reopened_later(fake: FakeSupply) -> None:
    link = Link(fake.resource, PATIENT)
    link.open()
    fake.hang_up()
    assert until(lambda: link._socket().recv(1, socket.MSG_PEEK) == b"")  # type: ignore[union-attr]
    started = time.monotonic()
    with pytest.raises(BenchBlocked, match=r"closed the connection\."):
        link.query("V?")
    assert time.monotonic() - started < 20  # not the timeout
    assert link.query("V?") == "V1 0.00"
    link.close()


def test_a_line_hung_up_in_place_of_an_answer_is_noticed_at_once(fake: FakeSupply) -> None:
    fake.twist = lambda line: FakeSupply.HANG_UP
    started = time.monotonic()
    with pytest.raises(BenchBlocked, match="closed the connection"):
        Link(fake.resource, PATIENT).open()
    assert time.monotonic() - started < 20  # not the timeout


def test_the_visa_library_is_the_users_choice(fake: FakeSupply, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYVISA_LIBRARY", "@nonesuch")
    with pytest.raises(UsageProblem, match="VISA library '@nonesuch' cannot be loaded"):
        Link(fake.resource, PATIENT).open()


@pytest.mark.parametrize(
    "raised",
    [ValueError("the bulk-in header is short"), RPCError("timeout"), struct.error("unpack requires 4 bytes")],
    ids=["USBTMC", "VXI-11", "a packet cut short"],
)
@pytest.mark.parametrize("does", ["write", "read_raw"])
def test_whatever_a_transport_raises_is_a_lost_line(
    channel: VisaChannel, fake: FakeSupply, monkeypatch: pytest.MonkeyPatch, does: str, raised: Exception
) -> None:
    """And so the output is switched off over the next one."""

    def breaks(*_: object) -> None:
        raise raised

    channel.configure(SETTING, max_volts=3.6)
    channel.on()
    link = channel._supply.link
    monkeypatch.setattr(link._session, does, breaks)
    with pytest.raises(BenchBlocked) as told:
        channel.measure()
    assert told.value.code == "supply-lost"
    monkeypatch.setattr(link._session or link._visa_open(), does, breaks, raising=False)
    assert channel.off()
    assert fake.state["A"]["OUT"] == 0


@pytest.mark.parametrize(
    "raised",
    [ValueError("No device found."), VisaIOError(int(StatusCode.error_resource_not_found))],
    ids=["USBTMC", "HiSLIP"],
)
def test_a_resource_that_was_there_before_is_lost_and_not_a_mistake_in_the_file(
    channel: VisaChannel, fake: FakeSupply, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    class NotThere:
        def open_resource(self, *_: object, **__: object) -> None:
            raise raised

    channel.configure(SETTING, max_volts=3.6)
    channel.on()
    monkeypatch.setattr(driver, "OFF_PATIENCE_S", 0.1)
    with monkeypatch.context() as cable:
        cable.setattr(visa, "_manager", lambda library: NotThere())
        fake.hang_up()
        with pytest.raises(BenchBlocked) as told:
            channel.measure()
        assert told.value.code == "supply-lost"
        assert channel.off() is False
        with pytest.raises(UsageProblem):
            Link("USB0::1::2::3::INSTR", QUICK).open()
    assert fake.state["A"]["OUT"] == 1
    assert channel.off()
    assert fake.state["A"]["OUT"] == 0


def test_what_nobody_asked_for_is_dropped(fake: FakeSupply) -> None:
    link = Link(fake.resource, PATIENT)
    link.open()
    fake.say("welcome\n")
    assert until(lambda: link._socket().recv(1, socket.MSG_PEEK))  # type: ignore[union-attr]
    assert link.query("V?") == "V1 0.00"
    fake.twist = lambda line: "0.100A\nand more" if line == "I?" else FakeSupply.GO_ON
    assert [link.query("I?"), link.query("V?")] == ["0.100A", "V1 0.00"]
    link.close()


def test_another_instrument_after_reconnecting_is_refused(fake: FakeSupply) -> None:
    link = Link(fake.resource, PATIENT)
    link.open()
    link.close()
    fake.idn = "ACME,P2,SN2002"
    with pytest.raises(BenchBlocked, match="another instrument"):
        link.query("V?")


def test_threads_get_their_own_answers(fake: FakeSupply) -> None:
    link = Link(fake.resource, PATIENT)
    link.open()
    wrong: list[str] = []

    def ask(question: str, answer: str) -> None:
        wrong.extend(got for _ in range(150) if (got := link.query(question)) != answer)

    pairs = [("V?", "V1 0.00"), ("I?", "0.100A"), ("OVP?", "33.00")]
    threads = [threading.Thread(target=ask, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    link.close()


# Who it is


def test_the_wrong_serial_number_is_a_usage_problem(fake: FakeSupply, acme: Path) -> None:
    with pytest.raises(UsageProblem, match="serial number 1001, not 2002"):
        Supply.open(fake.resource, serial="2002", folders=[acme])


def test_an_instrument_without_dialect_lists_them(fake: FakeSupply) -> None:
    with pytest.raises(UsageProblem, match=r"'ACME,P2,SN1001'.*rigol-dp800"):
        Supply.open(fake.resource)


def test_a_dialect_for_another_instrument_is_refused(fake: FakeSupply) -> None:
    with pytest.raises(UsageProblem, match="none of dialect rigol-dp800"):
        Supply.open(fake.resource, dialect="rigol-dp800")


def test_the_opening_is_sent_in_every_session(supply: Supply, fake: FakeSupply) -> None:
    supply.link.close()
    supply.link.query("V?")
    assert fake.received.count("REMOTE") == 2


# Setting


def values_sent(fake: FakeSupply) -> list[str]:
    return [line for line in fake.received if line.split()[0] in ("OVP", "OCP", "I", "V", "OUT")]


def test_settings_go_out_in_order_with_the_output_off(channel: VisaChannel, fake: FakeSupply) -> None:
    assert channel.configure(SETTING, max_volts=3.6) == Setting(3.3, 0.5, 3.7, False)
    assert values_sent(fake) == ["OUT 0", "OVP 3.70", "OCP 0", "I 0.500", "V 3.30"]
    assert fake.state["A"] == {"V": 3.3, "I": 0.5, "OVP": 3.7, "OUT": 0, "OCP": 0}
    assert fake.state["B"]["V"] == 0


@pytest.mark.parametrize("volts", [3.61, 12.0, -0.1, math.nan, math.inf])
def test_volts_above_the_maximum_are_never_sent(channel: VisaChannel, fake: FakeSupply, volts: float) -> None:
    with pytest.raises(UsageProblem):
        channel.configure(Setting(volts, 0.5, ovp=30), max_volts=30)  # the lease's 3.6 V hold
    assert fake.received == []
    channel.configure(SETTING, max_volts=3.4)
    fake.received.clear()
    with pytest.raises(UsageProblem, match=r"maximum is 3\.4 V|nan|inf|-0\.1"):
        channel.set_volts(3.5 if volts > 3.6 else volts)  # the lower maximum stays in force
    assert fake.received == []


def test_rounding_never_passes_the_maximum(supply: Supply) -> None:
    @settings(derandomize=True, max_examples=200)
    @given(st.floats(0.5, 30), st.floats(0, 31))
    def check(ceiling: float, volts: float) -> None:
        channel = VisaChannel(supply, 1, max_volts=ceiling)
        try:
            sent = channel._checked(Setting(volts, 0.5, 32), ceiling).volts
        except UsageProblem:
            assert volts > min(ceiling, 30)
        else:
            assert float(f"{sent:.2f}") <= ceiling
            assert abs(sent - volts) <= 0.01 + 1e-9

    check()


@pytest.mark.parametrize(
    "setting",
    [
        Setting(3.3, 0.0, 3.7),
        Setting(3.3, 3.1, 3.7),
        Setting(3.3, math.nan, 3.7),
        Setting(3.3, 0.5, 3.3),
        Setting(3.3, 0.5, 3.0),
        Setting(3.3, 0.5, 34),
        Setting(3.3, 0.5, None),
    ],
)
def test_settings_that_cannot_be_are_refused_unsent(channel: VisaChannel, fake: FakeSupply, setting: Setting) -> None:
    with pytest.raises(UsageProblem):
        channel.configure(setting, max_volts=3.6)
    assert fake.received == []


@pytest.mark.parametrize(("line", "what"), [("OVP 3.70", "OVP"), ("I 0.500", "current limit"), ("V 3.30", "volts")])
def test_a_setting_that_reads_back_otherwise_is_refused(
    channel: VisaChannel, fake: FakeSupply, line: str, what: str
) -> None:
    fake.twist = lambda got: None if got == line else FakeSupply.GO_ON  # silently dropped, as some makes do
    with pytest.raises(BenchBlocked, match=what) as told:
        channel.configure(SETTING, max_volts=3.6)
    assert told.value.code == "supply-refused"
    with pytest.raises(BenchBlocked, match="configure it"):
        channel.on()
    assert "OUT 1" not in fake.received


def test_ocp_that_stays_on_is_refused(channel: VisaChannel, fake: FakeSupply) -> None:
    fake.twist = lambda got: None if got == "OCP 0" else FakeSupply.GO_ON
    with pytest.raises(BenchBlocked, match="did not switch its OCP off"):
        channel.configure(SETTING, max_volts=3.6)


def test_ocp_trips_when_asked(channel: VisaChannel, fake: FakeSupply) -> None:
    channel.configure(Setting(3.3, 0.5, 3.7, ocp_trips=True), max_volts=3.6)
    assert fake.state["A"]["OCP"] == 1


def test_an_error_in_the_queue_refuses_and_an_old_one_does_not(channel: VisaChannel, fake: FakeSupply) -> None:
    fake.errors = ["-410,Query INTERRUPTED"]
    channel.configure(SETTING, max_volts=3.6)
    fake.twist = lambda got: fake.errors.append("-222,Data out of range") if got == "V 3.30" else FakeSupply.GO_ON
    fake.state["A"]["V"] = 3.3
    with pytest.raises(BenchBlocked, match="-222,Data out of range"):
        channel.configure(SETTING, max_volts=3.6)


def test_an_error_that_means_nothing_hides_none_behind_it(supply: Supply, fake: FakeSupply) -> None:
    fake.errors = ["-103,Invalid separator", "-222,Data out of range"]
    assert supply.errors() == ["-222,Data out of range"]


# Switching


def test_on_needs_configuring_and_reads_back(channel: VisaChannel, fake: FakeSupply) -> None:
    with pytest.raises(BenchBlocked, match="configure it"):
        channel.on()
    channel.configure(SETTING, max_volts=3.6)
    before = time.monotonic_ns()
    assert before < channel.on() < time.monotonic_ns()
    assert fake.state["A"]["OUT"] == 1
    reading = channel.measure()
    assert (reading.volts, reading.amps, reading.mode) == (3.3, 0.1, "cv")
    assert channel.off()
    assert channel.measure().mode == "off"
    channel.on()  # after our own off() it is still configured
    assert channel.off()


def test_a_knob_that_was_turned_keeps_the_output_off(channel: VisaChannel, fake: FakeSupply) -> None:
    channel.configure(SETTING, max_volts=3.6)
    fake.state["A"]["V"] = 12.0
    with pytest.raises(BenchBlocked, match="volts changed by somebody"):
        channel.on()
    assert "OUT 1" not in fake.received


def test_an_output_that_does_not_stay_on_is_told(channel: VisaChannel, fake: FakeSupply) -> None:
    channel.configure(SETTING, max_volts=3.6)

    def trip(line: str) -> object:
        if line == "OUT 1":
            fake.tripped["A"] = "OVP"
            return None
        return FakeSupply.GO_ON

    fake.twist = trip
    with pytest.raises(BenchBlocked, match="did not stay on: OVP tripped"):
        channel.on()


def test_found_off_needs_configuring_again(channel: VisaChannel, fake: FakeSupply) -> None:
    channel.configure(SETTING, max_volts=3.6)
    channel.on()
    fake.state["A"]["OUT"] = 0
    fake.tripped["A"] = "OVP"
    assert channel.measure().mode == "off"
    assert (channel.tripped(), channel.measure().mode) == ("ovp", "off")
    with pytest.raises(BenchBlocked, match="configure it"):
        channel.on()
    channel.configure(SETTING, max_volts=3.6)
    assert channel.tripped() is None
    channel.on()
    assert channel.off()


def test_reconnecting_needs_configuring_again(channel: VisaChannel, fake: FakeSupply, supply: Supply) -> None:
    channel.configure(SETTING, max_volts=3.6)
    supply.link.close()
    channel.measure()
    with pytest.raises(BenchBlocked, match="configure it"):
        channel.on()
    with pytest.raises(BenchBlocked, match="configure it"):
        channel.set_volts(3.0)
    assert "OUT 1" not in fake.received


def test_off_reconnects_and_off_that_fails_says_so(channel: VisaChannel, fake: FakeSupply) -> None:
    channel.configure(SETTING, max_volts=3.6)
    channel.on()
    fake.hang_up()
    assert channel.off()
    assert fake.state["A"]["OUT"] == 0
    fake.state["A"]["OUT"] = 1
    fake.twist = lambda line: None if line == "OUT 0" else FakeSupply.GO_ON
    assert channel.off() is False


def test_a_lost_answer_after_on_switches_off(channel: VisaChannel, fake: FakeSupply) -> None:
    channel.configure(SETTING, max_volts=3.6)
    sent_on = threading.Event()

    def hang_up_after_on(line: str) -> object:
        if line == "OUT 1":
            sent_on.set()
        elif line == "S?" and sent_on.is_set():
            sent_on.clear()
            return FakeSupply.HANG_UP
        return FakeSupply.GO_ON

    fake.twist = hang_up_after_on
    with pytest.raises(BenchBlocked) as told:
        channel.on()
    assert told.value.code == "supply-lost"
    assert fake.state["A"]["OUT"] == 0


def test_volts_and_current_limit_change_while_on(channel: VisaChannel, fake: FakeSupply) -> None:
    channel.configure(SETTING, max_volts=3.6)
    channel.on()
    fake.received.clear()
    before = time.monotonic_ns()
    first, second = channel.set_volts(2.7, verify=False), channel.set_volts(3.3, verify=False)
    assert before < first < second < time.monotonic_ns()
    assert until(lambda: len(fake.received) == 4)
    assert fake.received == ["SEL A", "V 2.70", "SEL A", "V 3.30"]
    channel.set_volts(2.7)
    channel.set_current_limit(0.2)
    assert (fake.state["A"]["V"], fake.state["A"]["I"]) == (2.7, 0.2)
    channel.off()
    channel.on()  # the new values are what must still be read back


def test_volts_that_do_not_read_back_while_on_switch_off(channel: VisaChannel, fake: FakeSupply) -> None:
    channel.configure(SETTING, max_volts=3.6)
    channel.on()
    fake.twist = lambda line: None if line == "V 2.70" else FakeSupply.GO_ON
    with pytest.raises(BenchBlocked, match="switched off"):
        channel.set_volts(2.7)
    assert fake.state["A"]["OUT"] == 0


def test_an_answer_that_cannot_be_read_reopens_the_line(channel: VisaChannel, fake: FakeSupply) -> None:
    fake.twist = lambda line: "overload" if line == "M?" else FakeSupply.GO_ON
    with pytest.raises(BenchBlocked, match="'overload'") as told:
        channel.measure()
    assert told.value.code == "supply-refused"
    fake.twist = lambda line: FakeSupply.GO_ON
    assert channel.measure().mode == "off"
    assert fake.connections == 2


def test_no_channel_of_that_number(supply: Supply) -> None:
    with pytest.raises(UsageProblem, match="has no channel 3"):
        VisaChannel(supply, 3, max_volts=3.6)


# The rest of the contract is in test_supply_contract.py, for every simulated supply


@pytest.fixture(params=["keysight-e36312a", "rigol-dp832"])
def psu(request: pytest.FixtureRequest) -> Iterator[PsuServer]:
    with PsuServer(request.param, [ResistiveLoad(33.0), ResistiveLoad(2.0)], serial="SIM1", max_clients=1) as psu:
        yield psu


@pytest.fixture
def simulated(psu: PsuServer) -> Iterator[Supply]:
    supply = Supply.open(psu.resource, serial="sim1", patience_s=1)
    yield supply
    supply.close()


def test_volts_above_the_maximum_are_not_sent(simulated: Supply, psu: PsuServer) -> None:
    channel = VisaChannel(simulated, 2, max_volts=3.6)
    channel.configure(SETTING, max_volts=3.6)
    for volts in (3.7, 12.0):
        with pytest.raises(UsageProblem):
            channel.configure(Setting(volts, 0.5, 20.0), max_volts=20)
        with pytest.raises(UsageProblem):
            channel.set_volts(volts)
    sent = [float(found[1]) for _, line in psu.received if (found := re.search(r"VOLT ([\d.]+)", line))]
    assert sent == [3.3]


def test_the_only_client_comes_back(simulated: Supply, psu: PsuServer) -> None:
    channel = VisaChannel(simulated, 1, max_volts=3.6)
    channel.configure(SETTING, max_volts=3.6)
    channel.on()
    simulated.link.close()
    assert channel.off()  # one client only, and it has to be let in again
    assert psu.outputs[0].on is False


# Instruments with a switch behind the channels' own, or with one for all


@pytest.fixture
def hmp() -> Iterator[tuple[PsuServer, Supply]]:
    with PsuServer("rs-hmp4040", [ResistiveLoad(33.0) for _ in range(4)], serial="SIM1") as psu:
        supply = Supply.open(psu.resource)
        yield psu, supply
        supply.close()


def test_the_master_switch_brings_no_armed_channel_with_it(hmp: tuple[PsuServer, Supply]) -> None:
    psu, supply = hmp
    supply.link.write("INST OUT3", "VOLT 24", "OUTP:SEL ON")  # somebody armed 24 V, the master is off
    mine = VisaChannel(supply, 1, max_volts=3.6)
    mine.configure(SETTING, max_volts=3.6)
    mine.on()
    assert [output.on for output in psu.outputs] == [True, False, False, False]
    assert psu.outputs[2].rail.sense()[0] == 0


def test_one_channels_off_leaves_its_neighbours_on(hmp: tuple[PsuServer, Supply]) -> None:
    psu, supply = hmp
    one, two = VisaChannel(supply, 1, max_volts=3.6), VisaChannel(supply, 2, max_volts=3.6)
    for channel in (one, two):
        channel.configure(SETTING, max_volts=3.6)
        channel.on()
    assert one.off()
    assert [output.on for output in psu.outputs] == [False, True, False, False]
    assert (one.measure().mode, two.measure().mode) == ("off", "cv")
    supply.link.write("OUTP:GEN OFF")  # somebody at the front panel: armed is not on
    assert until(lambda: not psu.outputs[1].on)
    assert two.measure().mode == "off"
    with pytest.raises(BenchBlocked, match="configure it"):
        two.on()


def test_a_blown_fuse_is_no_trip_any_more_once_it_was_configured_anew(hmp: tuple[PsuServer, Supply]) -> None:
    psu, supply = hmp
    rail = psu.outputs[0].rail
    assert isinstance(rail, ResistiveLoad)
    rail.ohms = 2.0
    mine = VisaChannel(supply, 1, max_volts=3.6)
    mine.configure(Setting(3.3, 0.5, 3.7, ocp_trips=True), max_volts=3.6)
    with contextlib.suppress(BenchBlocked):  # a trip may be quicker than the reading back
        mine.on()
    assert until(lambda: mine.tripped() == "ocp")
    assert mine.configure(Setting(3.3, 0.5, 3.7, ocp_trips=True), max_volts=3.6).ocp_trips
    assert supply.link.query("FUSE:TRIP?", ["INST:NSEL 1"]) == "1"  # it still shows
    assert mine.tripped() is None
    rail.ohms = 33.0
    mine.on()
    assert (mine.measure().mode, mine.tripped()) == ("cv", None)
    rail.ohms = 2.0
    assert until(lambda: mine.tripped() == "ocp"), "the next one counts"


def test_a_serial_line_is_put_into_remote_first() -> None:
    for name, quirk in (("keysight-e3631a", "over_rs232"), ("bk-9130b", "remote_first")):
        with PsuServer(name, [ResistiveLoad(33.0)], serial="SIM1") as psu:
            assert getattr(psu.instrument, quirk) is False
            setattr(psu.instrument, quirk, True)
            supply = Supply.open(psu.resource)
            mine = VisaChannel(supply, 1, max_volts=3.6)
            mine.configure(Setting(3.3, 0.5, 3.7 if name == "bk-9130b" else None), max_volts=3.6)
            assert psu.outputs[0].volts == 3.3
            supply.close()


def test_the_dialects_pause_is_kept_between_messages() -> None:
    with PsuServer("bk-9130b", [], serial="SIM1") as psu:
        supply = Supply.open(psu.resource)
        write, sent = supply.link._session.write, []

        def noted(line: str) -> None:
            began = time.monotonic()
            write(line)
            sent.append((began, time.monotonic()))

        supply.link._session.write = noted
        for _ in range(3):
            supply.link.write("INST:NSEL 1")
        supply.link.query("*IDN?")
        supply.link.query("*IDN?")
        pauses = [began - ended for (_, ended), (began, _) in itertools.pairwise(sent)]
        assert len(pauses) == 4
        assert min(pauses) >= supply.dialect.transport.gap_s >= 0.02
        supply.close()


def test_an_empty_or_strange_slot_is_told() -> None:
    with PsuServer("keysight-n6705c", [], serial="SIM1") as psu:
        supply = Supply.open(psu.resource)
        assert supply.limits(3).volts_step == 0.0035
        psu.instrument.modules = ("N6762A", "N7777X", "")  # type: ignore[attr-defined]
        with pytest.raises(UsageProblem, match="slot 2 of the N6705C is N7777X"):
            VisaChannel(supply, 2, max_volts=3.6)
        supply.close()


# Joined questions


def test_a_measurement_is_one_exchange_where_the_dialect_joins_questions() -> None:
    with PsuServer("keysight-e36312a", [ResistiveLoad(33.0)], serial="MY1", max_clients=1) as psu:
        supply = Supply.open(psu.resource)
        with contextlib.closing(supply):
            channel = VisaChannel(supply, 1, max_volts=3.6)
            channel.configure(SETTING, max_volts=3.6)
            channel.on()
            before = len(psu.received)
            reading = channel.measure()
            assert (round(reading.volts, 3), round(reading.amps, 3), reading.mode) == (3.3, 0.1, "cv")
            (line,) = [line for _, line in psu.received[before:]]
            assert line.count("?") == 3
            channel.off()
            assert channel.measure().mode == "off"


def test_fewer_answers_than_questions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with PsuServer("keysight-e36312a", [ResistiveLoad(33.0)], serial="MY1") as psu:
        supply = Supply.open(psu.resource)
        with contextlib.closing(supply):
            channel = VisaChannel(supply, 1, max_volts=3.6)
            monkeypatch.setattr(supply.link, "query", lambda line, before=(): "+3.3;+0.1")
            with pytest.raises(BenchBlocked, match="only"):
                channel.measure()
