"""The contract of a supply channel, our driver against every simulated supply in the dialect that is for it.

A personality that registers itself in `rig.sim.psu.PERSONALITIES` is in here. What one instrument does in its own
way (quirks) and what public drivers say of it is in the `test_sim_psu_*` files.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
from waiting import PATIENCE_S, until

from rig.errors import BenchBlocked, UsageProblem
from rig.sim.psu import PERSONALITIES, PsuServer, ResistiveLoad
from rig.supply import dialect
from rig.supply.channel import Setting
from rig.supply.driver import VisaChannel
from rig.supply.instrument import Supply
from rig.supply.probe import probe

TELLS_NO_COMMAND_ERROR = {"aimtti-pl-p"}  # but in *ESR?; what it asks, EER?, tells of values out of range only
CV, CC = 10.0, 2.0  # ohms: 3.3 V and 0.5 A end in 0.33 A, or in 1 V


@pytest.fixture(params=list(PERSONALITIES))
def psu(request: pytest.FixtureRequest) -> Iterator[PsuServer]:
    loads = [ResistiveLoad(CV) for _ in PERSONALITIES[request.param].specs]
    with PsuServer(request.param, loads, serial="SIM1", time_scale=0.1) as psu:
        yield psu


@pytest.fixture
def supply(psu: PsuServer) -> Iterator[Supply]:
    """Without its dialect's pause between messages, which would cost this suite seconds: see the driver's tests."""
    supply = Supply.open(psu.resource)
    supply.link.transport = supply.dialect.transport.model_copy(update={"gap_s": 0.0, "timeout_s": PATIENCE_S})
    yield supply
    supply.close()


@pytest.fixture
def channel(supply: Supply) -> VisaChannel:
    return VisaChannel(supply, 1, max_volts=5)


def setting(channel: VisaChannel, *, ocp_trips: bool = False) -> Setting:
    return Setting(3.3, 0.5, 3.7 if "ovp" in channel.limits.capabilities else None, ocp_trips)


def load(psu: PsuServer) -> ResistiveLoad:
    rail = psu.outputs[0].rail
    assert isinstance(rail, ResistiveLoad)
    return rail


def usable(psu: PsuServer, supply: Supply) -> list[int]:
    """The channels that both the dialect and this instrument have."""
    return supply.dialect.model_of(supply.instrument.model).numbers[: len(psu.outputs)]


def near(channel: VisaChannel, volts: float) -> object:
    return pytest.approx(volts, abs=max(channel.limits.volts_step, 0.005))


def test_one_dialect_and_the_right_one_knows_it(psu: PsuServer, supply: Supply) -> None:
    idn = supply.instrument.idn
    assert supply.dialect.name == psu.instrument.dialect
    assert [name for name in dialect.available() if dialect.load(name).recognise(idn)] == [supply.dialect.name]
    assert supply.instrument.serial == ("SIM1" if "{serial}" in psu.instrument.idn else "0")


def test_the_whole_dialect_fits_and_walking_it_changes_nothing(psu: PsuServer, supply: Supply) -> None:
    before = [(output.volts, output.amps, output.ovp, output.ovp_on, output.ocp_on) for output in psu.outputs]
    for number in usable(psu, supply):
        found = probe(supply, number)
        assert found.good, [(row.sent, row.problem) for row in found.rows if row.problem]
        assert found.together == (supply.dialect.outputs == "together") == ("together" in found.verdict)
    after = [(output.volts, output.amps, output.ovp, output.ovp_on, output.ocp_on) for output in psu.outputs]
    assert after == before
    assert not any(output.on for output in psu.outputs)


def test_set_switch_measure(psu: PsuServer, supply: Supply, channel: VisaChannel) -> None:
    output, others = psu.outputs[0], psu.outputs[1:]
    done = channel.configure(setting(channel), max_volts=5)
    assert (output.volts, output.amps) == (near(channel, done.volts), pytest.approx(done.amps))
    assert done.volts == near(channel, 3.3)
    if done.ovp is not None:
        assert (output.ovp, output.ovp_on) == (3.7, True)
    assert (channel.measure().mode, channel.tripped()) == ("off", None)
    channel.on()
    assert output.on
    assert [other.on for other in others] == [supply.dialect.outputs == "together"] * len(others)
    reading = channel.measure()
    assert (reading.volts, reading.mode) == (near(channel, 3.3), "cv")
    assert reading.amps == pytest.approx(0.33, abs=0.01)
    channel.set_volts(2.7)
    assert (output.volts, channel.measure().volts) == (near(channel, 2.7), near(channel, 2.7))
    load(psu).ohms = CC
    reading = channel.measure()
    assert (reading.mode, reading.amps, reading.volts) == ("cc", pytest.approx(0.5, abs=0.01), near(channel, 1.0))
    assert channel.tripped() is None  # limited, not tripped: over-current protection is off, or out of the way
    channel.set_current_limit(0.4)
    assert channel.measure().volts == pytest.approx(0.8, abs=0.02)
    assert channel.off()
    assert not any(one.on for one in psu.outputs)
    assert channel.measure().mode == "off"
    assert supply.errors() == []
    load(psu).ohms = CV
    channel.on()  # after our own off() it is still configured
    assert channel.off()


def test_over_voltage_trips_and_is_cleared(psu: PsuServer, channel: VisaChannel) -> None:
    if "ovp" not in channel.limits.capabilities:
        with pytest.raises(UsageProblem, match='ovp = "none"'):
            channel.configure(Setting(3.3, 0.5, 3.7), max_volts=5)
        return
    channel.configure(setting(channel), max_volts=5)
    channel.on()
    with contextlib.suppress(BenchBlocked):  # a trip may be quicker than the reading back
        channel.set_volts(4.5)
    assert until(lambda: psu.outputs[0].tripped == "ovp")
    tells = "trips" in channel.limits.capabilities
    assert (channel.tripped(), channel.measure().mode) == ("ovp" if tells else None, "off")
    with pytest.raises(BenchBlocked, match="configure it"):
        channel.on()
    channel.configure(setting(channel), max_volts=5)
    assert (channel.tripped(), psu.outputs[0].tripped, psu.outputs[0].on) == (None, None, False)
    channel.on()
    assert channel.measure().mode == "cv"
    assert channel.off()


def test_over_current_trips_only_when_asked_and_is_cleared(psu: PsuServer, channel: VisaChannel) -> None:
    if "ocp" not in channel.limits.capabilities:
        with pytest.raises(UsageProblem, match="no over-current protection"):
            channel.configure(setting(channel, ocp_trips=True), max_volts=5)
        return
    load(psu).ohms = CC
    channel.configure(setting(channel, ocp_trips=True), max_volts=5)
    with contextlib.suppress(BenchBlocked):  # a trip may be quicker than the reading back
        channel.on()
    assert until(lambda: psu.outputs[0].tripped == "ocp")
    tells = "trips" in channel.limits.capabilities
    assert (channel.tripped(), channel.measure().mode) == ("ocp" if tells else None, "off")
    channel.configure(setting(channel), max_volts=5)
    assert (channel.tripped(), psu.outputs[0].on) == (None, False)
    channel.on()
    assert (channel.measure().mode, channel.tripped()) == ("cc", None)
    assert channel.off()


def test_what_is_out_of_range_both_refuse(psu: PsuServer, supply: Supply, channel: VisaChannel) -> None:
    done, limits = channel.configure(setting(channel), max_volts=5), supply.limits(1)
    sent = len(psu.received)
    for wrong in (Setting(5.1, 0.5, done.ovp and 6.0), Setting(3.3, limits.amps_max * 2, done.ovp)):
        with pytest.raises(UsageProblem):
            channel.configure(wrong, max_volts=50)
    with pytest.raises(UsageProblem):
        channel.set_volts(5.1)
    assert len(psu.received) == sent
    with pytest.raises(UsageProblem, match="gives at most"):
        VisaChannel(supply, 1, max_volts=100).configure(Setting(90, 0.5, done.ovp and 95.0), max_volts=100)
    supply.tell(supply.dialect.commands.volts, limits, 90.0)  # nothing of ours sends this
    assert channel.measure().mode == "off"
    assert psu.outputs[0].volts == near(channel, 3.3)
    assert bool(supply.errors()) == ("error-queue" in channel.limits.capabilities)
    channel.on()
    assert channel.off()


def test_what_it_does_not_know_is_an_error_or_silence_and_the_line_recovers(psu: PsuServer, supply: Supply) -> None:
    channel = VisaChannel(supply, 1, max_volts=5)
    channel.configure(setting(channel), max_volts=5)
    supply.link.transport = supply.link.transport.model_copy(update={"timeout_s": 0.05})
    with pytest.raises(BenchBlocked, match=r"no answer to 'FROBNICATE\?' \(timeout\)"):
        supply.link.query("FROBNICATE?")
    supply.link.transport = supply.link.transport.model_copy(update={"timeout_s": PATIENCE_S})
    assert until(lambda: psu.clients == 0)  # it has read the line, and one that takes one client has room
    told = supply.errors()
    assert bool(told) == (supply.dialect.name not in TELLS_NO_COMMAND_ERROR), told
    assert supply.errors() == []
    assert channel.measure().mode == "off"
    with pytest.raises(BenchBlocked, match="configure it"):  # it was another session
        channel.on()


def test_two_channels_at_once_do_not_mix(psu: PsuServer, supply: Supply) -> None:
    """Instruments that select a channel and then act have one selection for all: it is made anew, under one lock."""
    numbers = usable(psu, supply)[-2:]
    channels = [VisaChannel(supply, number, max_volts=5) for number in numbers]
    for channel in channels:
        channel.configure(Setting(3.0, 0.5, 4.5 if "ovp" in channel.limits.capabilities else None), max_volts=5)
    wrong: list[str] = []

    def work(channel: VisaChannel, volts: float) -> None:
        try:
            for step in range(12):
                channel.set_volts(volts + step * 0.05)  # raises if it reads back otherwise
                channel.measure()
        except BenchBlocked as bad:
            wrong.append(str(bad))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(channels, (1.0, 2.0), strict=False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    for channel, volts in zip(channels, (1.55, 2.55), strict=False):
        assert psu.outputs[channel.number - 1].volts == near(channel, volts)
