"""What is peculiar to Siglent's SPD3303X and SPD1305X, as a raw client and as our driver meet it."""

from __future__ import annotations

import contextlib
import time

import pytest
from sim_psu_client import serving
from waiting import until

from rig.errors import BenchBlocked
from rig.sim.psu import PERSONALITIES, PsuServer, ResistiveLoad
from rig.sim.psu.siglent import SHAPES
from rig.supply.channel import Setting
from rig.supply.driver import VisaChannel
from rig.supply.instrument import Supply

SPD3, SPD1 = "siglent-spd3303x", "siglent-spd1305x"


@pytest.fixture
def serve():
    with serving() as start:
        yield start


def status(client) -> int:
    return int(client.ask("SYST:STAT?"), 16)


def test_identities(serve):
    assert serve(SPD3)[1].ask("*IDN?") == "Siglent Technologies,SPD3303X-E,SIM1,1.01.01.02.05,V3.0"
    assert serve(SPD1)[1].ask("*IDN?") == "Siglent Technologies,SPD1305X,SIM1,1.0.1.16R4"


def test_one_client_only(serve):
    server, client = serve(SPD3)
    assert client.ask("CH1:VOLT?") == "0.000"
    with pytest.raises((EOFError, ConnectionError)):
        server.connect().ask("CH1:VOLT?")


def test_states_stand_only_in_the_status_word(serve):
    load = ResistiveLoad(10)
    _, client = serve(SPD3, load)
    assert client.ask("SYST:STAT?") == "0x4"  # independent, all off
    client.write("OUTP? CH1")
    assert client.silent(0.05)
    assert client.ask("SYST:ERR?").startswith("-113,")
    client.write("CH1:VOLT 3.3")
    client.write("OUTP CH1,ON")
    client.write("OUTP CH2,ON")
    client.write("OUTP:WAVE CH2,ON")
    assert status(client) == 4 + 16 + 32 + 512
    load.ohms = 0.5
    client.write("CH1:CURR 1")
    assert status(client) & 3 == 1
    client.write("OUTP CH3,ON")
    client.write("OUTP CH1,OFF")
    assert status(client) == 4 + 32 + 512  # nothing about channel 3


def test_silence_first_and_the_error_later(serve):
    server, client = serve(SPD3)
    client.write("MEAS:POW? CH1")  # POWE exists
    client.write("CH3:VOLT?")
    client.write("MEAS:VOLT? CH3")
    assert client.silent(0.05)
    assert [client.ask("SYST:ERR?") for _ in range(4)] == [
        "-113,Undefined header,MEAS:POW?", "-113,Undefined header,CH3:VOLT?", "-113,Undefined header,MEAS:VOLT?",
        "0,No error",
    ]  # fmt: skip
    assert client.ask("MEAS:POWE? CH1") == "0.000"
    client.write("CH1:VOLT 3")
    client.write("*RST")
    client.write("*CLS")
    assert client.ask("CH1:VOLT?") == "3.000"  # neither exists
    assert server.outputs[0].volts == 3


def test_every_shape_of_an_error_is_understood_by_our_dialect(serve):
    server, client = serve(SPD3)
    client.close()
    assert until(lambda: server.clients == 0) is True
    supply = Supply.open(server.resource)
    limits = supply.limits(1)
    supply.link.transport = supply.link.transport.model_copy(update={"gap_s": 0.0})
    for shape in SHAPES:
        server.instrument.shape = shape
        supply.tell(supply.dialect.commands.volts, limits, 99.0)
        told = supply.errors()
        assert len(told) == 1
        assert told[0].startswith("-222")
    supply.close()


def test_the_third_output_is_only_switched(serve):
    third = ResistiveLoad(10)
    server, client = serve(SPD3, ResistiveLoad(), ResistiveLoad(), third)
    client.write("CH3:VOLT 5")
    client.write("OUTP CH3,ON")
    assert until(lambda: server.outputs[2].on) is True
    assert third.sense()[0] == 3.3
    assert client.ask("SYST:ERR?").startswith("-113")


def test_setpoints_are_on_a_grid(serve):
    _, coarse = serve(SPD3)
    coarse.write("CH1:VOLT 3.338")
    assert coarse.ask("CH1:VOLT?") == "3.340"
    _, fine = serve(SPD1)
    fine.write("CH1:VOLT 3.3384")
    assert fine.ask("CH1:VOLT?") == "3.338"


def test_the_timer_takes_whole_seconds_and_complains_for_nothing(serve):
    load = ResistiveLoad(10)
    supply = PERSONALITIES[SPD3]([load], serial="T")
    for group, volts, seconds in ((1, 3.0, 1), (2, 2.5, 1.9), (3, 1.0, 0.9)):
        supply.execute(f"TIME:SET CH1,{group},{volts},0.5,{seconds}")
    assert supply.execute("TIME:SET? CH1,2") == "2.50,0.50,1,"
    assert supply.execute("TIME:SET? CH1,3") == "1.00,0.50,0,"
    assert [int(supply.execute("SYST:ERR?").split(",")[0]) for _ in range(4)] == [-103, -103, -103, 0]
    supply.execute("CH1:VOLT 5")
    supply.execute("OUTP CH1,ON")
    load.applied.clear()
    began = time.monotonic()
    supply.execute("TIME CH1,ON")
    assert int(supply.execute("SYST:STAT?"), 16) & 64
    first = supply.tick(began)
    second = supply.tick(first)
    assert second - first == pytest.approx(1)
    supply.tick(second)
    assert [volts for _, volts, _ in load.applied] == [3.0, 2.5, 5.0]  # group 3 took no time
    assert not int(supply.execute("SYST:STAT?"), 16) & 64
    _, quiet = serve(SPD1)
    quiet.write("TIME:SET CH1,1,1,1,1")
    assert quiet.error() == 0


def test_the_single_ones_protections_are_always_on_and_tell_nothing(serve):
    load = ResistiveLoad(10)
    server, client = serve(SPD1, load)
    client.write("OVP 3.6")
    client.write("OCP 1")
    assert [client.ask("OVP?"), client.ask("OCP?")] == ["3.600", "1.000"]
    client.write("CH1:VOLT 3.3")
    client.write("OUTP CH1,ON")
    assert status(client) == 16
    client.write("CH1:VOLT 3.7")
    assert status(client) == 0
    assert server.outputs[0].tripped == "ovp"
    client.write("CH1:VOLT 3.3")
    client.write("OUTP CH1,ON")
    assert status(client) == 0
    client.write("OUTP:RESE:PROT")
    assert status(client) == 0  # it stays off
    client.write("OUTP CH1,ON")
    assert status(client) == 16
    load.ohms = 2
    assert until(lambda: server.outputs[0].tripped) == "ocp"
    client.write("MODE:SET 4W")
    assert status(client) == 32


def test_our_driver_moves_ocp_out_of_the_way_and_says_what_may_have_tripped() -> None:
    load = ResistiveLoad(33)
    with PsuServer(SPD1, [load], serial="S1") as psu:
        supply = Supply.open(psu.resource)
        supply.link.transport = supply.link.transport.model_copy(update={"gap_s": 0.0})
        channel = VisaChannel(supply, 1, max_volts=5)
        psu.instrument.outputs[0].ocp = 0.01  # somebody's, and it cannot be switched off
        channel.configure(Setting(3.3, 0.5, 3.7), max_volts=5)
        assert psu.outputs[0].ocp == 5.1
        channel.on()
        psu.instrument.outputs[0].ocp = 0.3
        assert channel.off()
        with pytest.raises(Exception, match="had its OCP changed by somebody"):
            channel.on()
        load.ohms = 0.1
        channel.configure(Setting(3.3, 0.5, 3.7, ocp_trips=True), max_volts=5)
        with pytest.raises(Exception, match="a protection may have tripped, of which this family does not tell"):
            channel.on()
        supply.close()


@pytest.mark.parametrize("fault", ["hurried", "coalesced"])
def test_our_pause_between_messages_is_what_a_hurried_siglent_wants(fault: str) -> None:
    def configured() -> bool:
        with PsuServer(SPD3, [ResistiveLoad(33)], serial="S1") as psu:
            psu.fault(fault)
            supply = Supply.open(psu.resource)
            try:
                channel = VisaChannel(supply, 1, max_volts=5)
                started = time.monotonic()
                channel.configure(Setting(3.3, 0.5, None), max_volts=5)
                assert time.monotonic() - started > 0.1  # it does take its time
                output = psu.outputs[0]
                return (output.volts, output.amps, supply.link.generation) == (3.3, 0.5, 1)
            finally:
                supply.close()

    for _ in range(4):  # a busy machine may bring together what was sent apart
        with contextlib.suppress(BenchBlocked):
            if configured():
                return
    pytest.fail("a pause of this length is not enough")
