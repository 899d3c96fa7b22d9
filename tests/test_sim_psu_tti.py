"""What is peculiar to the Aim-TTi PL303-P, as a raw client and as our driver meet it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from sim_psu_client import serving
from waiting import until

from rig.errors import BenchBlocked
from rig.sim.psu import PsuServer, ResistiveLoad
from rig.sim.psu.instrument import WATCH_S
from rig.sim.psu.tti_pl303p import TTiPL303P
from rig.supply.channel import Setting
from rig.supply.driver import VisaChannel
from rig.supply.instrument import Supply

TTI = "tti-pl303p"
SETTING = Setting(3.3, 0.5, 3.7)


@pytest.fixture
def serve():
    with serving() as start:
        yield start


@pytest.fixture
def load() -> ResistiveLoad:
    return ResistiveLoad(10)


@pytest.fixture(params=[False, True], ids=["noted-as-long", "noted-once"])
def psu(request: pytest.FixtureRequest, load: ResistiveLoad) -> Iterator[PsuServer]:
    """With either idea of what a lasting limit does to LSR1."""
    with PsuServer(TTI, [load], serial="S1") as psu:
        psu.instrument.notes_only_changes = request.param
        yield psu


@pytest.fixture
def channel(psu: PsuServer) -> Iterator[VisaChannel]:
    supply = Supply.open(psu.resource)
    yield VisaChannel(supply, 1, max_volts=5)
    supply.close()


def test_numbers_are_in_the_mnemonics_and_answers_are_tagged_or_suffixed(serve):
    _, client = serve(TTI, ResistiveLoad(10))
    for line in ("V1 3.3", "I1 0.5", "OVP1 3.6", "OCP1 2.2", "OP1 1"):
        client.write(line)
    asked = ["*IDN?", "V1?", "I1?", "OVP1?", "OCP1?", "OP1?", "V1O?", "I1O?", "QER?"]
    assert [client.ask(line) for line in asked] == [
        "THURLBY THANDAR, PL303-P, SIM1, 3.02-4.01", "V1 3.300", "I1 0.500", "3.600", "2.2000", "1", "3.300V",
        "0.330A", "0",
    ]  # fmt: skip
    client.write("v1v 2.5")
    assert client.ask("v1?") == "V1 2.500"
    client.write("DELTAV1 0.1")
    client.write("INCV1")
    client.write("DECI1")
    assert [client.ask("DELTAV1?"), client.ask("V1?"), client.ask("I1?")] == ["DELTAV1 0.100", "V1 2.600", "I1 0.490"]
    client.write("OPALL 0")
    assert client.ask("OP1?") == "0"
    client.write("*RST")
    assert client.ask("V1?") == "V1 1.000"


def test_limits_are_latched_and_cleared_by_reading(serve):
    load = ResistiveLoad(10)
    _, client = serve(TTI, load)
    assert client.ask("LSR1?") == "0"
    client.write("V1 3.3;I1 0.5;OP1 1")
    assert client.ask("OP1?") == "1"
    load.ohms = 2
    assert client.ask("OP1?") == "1"
    load.ohms = 10
    assert client.ask("LSR1?") == "3"  # it has been both
    assert client.ask("LSR1?") == "1"
    client.write("LSE1 1")
    assert int(client.ask("*STB?")) & 1
    client.write("OVP1 3")
    assert client.ask("OP1?") == "0"
    assert int(client.ask("LSR1?")) & 12 == 4
    assert client.ask("LSR1?") == "0"
    client.write("OP1 1")
    assert [client.ask("OP1?"), client.ask("EER?")] == ["0", "104"]
    client.write("OVP1 3.6;TRIPRST")
    assert client.ask("OP1?") == "0"  # cleared, and still off
    client.write("OP1 1")
    assert client.ask("OP1?") == "1"


def test_over_current_trips_after_half_a_second_and_not_before() -> None:
    load = ResistiveLoad(100)
    supply = TTiPL303P([load], serial="T")
    supply.execute("V1 3.3;I1 0.5;OCP1 0.3;OP1 1")
    now = time.monotonic()
    load.ohms = 10
    supply.tick(now)
    supply.tick(now + 0.4)
    assert supply.outputs[0].tripped is None
    supply.tick(now + 0.6)
    assert supply.outputs[0].tripped == "ocp"
    assert supply.execute("OP1?;LSR1?") == "0;9"  # CV it was, too


@pytest.mark.parametrize("armed", ["ocp_on", "ovp_on", None])
def test_a_short_limit_that_nobody_asked_about_is_latched_whatever_is_armed(armed: str | None) -> None:
    load = ResistiveLoad(10)
    supply = TTiPL303P([load], serial="T")
    for protection in ("ocp_on", "ovp_on"):
        setattr(supply.outputs[0], protection, protection == armed)
    supply.execute("V1 3.3;I1 0.5;OP1 1")
    assert supply.execute("LSR1?") == "1"
    now = time.monotonic()
    due = supply.tick(now)
    assert due == now + WATCH_S
    load.ohms = 2
    supply.tick(due)
    load.ohms = 10
    assert supply.execute("LSR1?;LSR1?") == "3;1"
    supply.execute("OP1 0")
    assert supply.tick(now + 1) is None  # nothing to be looked at


def test_a_value_out_of_range_is_dropped_without_a_word(serve):
    _, client = serve(TTI)
    client.write("V1 3.3")
    assert client.ask("*ESR?") == "128"
    client.write("V1 31")
    client.write("SYST:ERR?")
    assert client.silent(0.05)
    assert client.ask("V1?") == "V1 3.300"
    assert client.ask("*ESR?") == "48"  # 16 execution error, 32 command error
    assert [client.ask("EER?"), client.ask("EER?"), client.ask("*ESR?")] == ["100", "0", "0"]
    client.write("V2 3.3")  # it has one output
    assert [client.ask("*ESR?"), client.ask("EER?")] == ["32", "0"]


def test_the_low_range_is_chosen_with_the_output_off(serve):
    _, client = serve(TTI, ResistiveLoad(100))
    client.write("V1 3.3;I1 0.8;OP1 1;IRANGE1 1")
    assert [client.ask("IRANGE1?"), client.ask("EER?")] == ["2", "104"]
    client.write("OP1 0;IRANGE1 1")
    assert [client.ask("IRANGE1?"), client.ask("I1?"), client.ask("EER?")] == ["1", "I1 0.5000", "0"]
    client.write("I1 0.6")
    assert [client.ask("I1?"), client.ask("EER?")] == ["I1 0.5000", "100"]
    client.write("OP1 1")
    assert client.ask("I1O?") == "0.0330A"


def test_its_meter_is_slow() -> None:
    supply = TTiPL303P([ResistiveLoad(10)], serial="T", slow_meter=True)
    now = time.monotonic()
    supply.tick(now)
    supply.execute("V1 3.3;I1 1;OP1 1")
    supply.tick(now + 0.24)
    assert supply.execute("V1O?") == "0.000V"
    supply.tick(now + 0.26)
    assert supply.execute("V1O?") == "3.300V"


# Our driver


def test_a_current_limit_of_the_past_is_not_taken_for_a_present_one(
    channel: VisaChannel, psu: PsuServer, load: ResistiveLoad
) -> None:
    channel.configure(SETTING, max_volts=5)
    channel.on()
    load.ohms = 2
    assert until(lambda: channel.measure().mode == "cc") is True
    assert channel.measure().mode == "cc"  # and still is, whatever the register says by now
    load.ohms = 10
    assert until(lambda: psu.outputs[0].seen[2] == "cv") is True
    assert channel.measure().mode == "cv"
    psu.instrument.limits_seen |= 2  # something short, long ago
    assert channel.measure().mode == "cv"
    assert channel.off()


def test_a_trip_that_a_reading_has_cleared_stays_told_until_it_is_reset(channel: VisaChannel, psu: PsuServer) -> None:
    channel.configure(SETTING, max_volts=5)
    channel.on()
    channel.set_volts(4.5)
    assert until(lambda: psu.outputs[0].tripped == "ovp") is True
    assert channel.measure().mode == "off"  # reads LSR1 or not
    assert [channel.tripped() for _ in range(3)] == ["ovp"] * 3
    channel.configure(SETTING, max_volts=5)
    assert (channel.tripped(), psu.outputs[0].tripped) == (None, None)
    channel.on()
    assert channel.tripped() is None
    assert channel.off()


@pytest.mark.parametrize("psu", [False], indirect=True)
def test_a_trip_noted_once_more_while_it_is_being_cleared_is_forgotten(channel: VisaChannel, psu: PsuServer) -> None:
    supply = channel._supply
    channel.configure(SETTING, max_volts=5)
    channel.on()
    channel.set_volts(4.5)
    assert until(lambda: psu.outputs[0].tripped == "ovp") is True
    tell = supply.tell

    def noting(command, limits, value=None):
        if command is supply.dialect.commands.ovp_clear:
            psu.instrument.limits_seen |= 4
        tell(command, limits, value)

    supply.tell = noting  # type: ignore[method-assign]
    channel.configure(SETTING, max_volts=5)
    assert (channel.tripped(), psu.outputs[0].tripped) == (None, None)


@pytest.mark.parametrize("psu", [False], indirect=True)
def test_a_silently_dropped_setting_is_caught_and_named(channel: VisaChannel, psu: PsuServer) -> None:
    psu.instrument._range = 1  # somebody chose the low range
    with pytest.raises(BenchBlocked, match=r"current limit 0\.8 A and reads back .*100 \(a value out of range\)"):
        channel.configure(Setting(3.3, 0.8, 3.7), max_volts=5)
    assert psu.outputs[0].on is False
