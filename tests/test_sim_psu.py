"""The simulated Keysight and Rigol: what a client sees, and what the outputs and their protections do."""

from __future__ import annotations

import time

import pytest
from sim_psu_client import serving
from waiting import until

from rig.sim.psu import PERSONALITIES, ResistiveLoad
from rig.sim.psu.status import ScpiError

KEYSIGHT, RIGOL = "keysight-e36312a", "rigol-dp832"


@pytest.fixture
def serve():
    with serving() as start:
        yield start


def test_the_rail_is_told_and_missing_rails_are_open(serve):
    load = ResistiveLoad(10)
    _, client = serve(KEYSIGHT, load)
    assert load.applied == [(False, 0.0, 5.0)]
    client.write("VOLT 3.3,(@1);:CURR 0.5,(@1);:OUTP ON,(@1);:VOLT 5,(@2);:OUTP ON,(@2)")
    assert client.ask("MEAS:VOLT? (@1:3)") == "+3.30000000E+00,+5.00000000E+00,+0.00000000E+00"
    assert client.ask("MEAS:CURR? (@1,2)") == "+3.30000000E-01,+0.00000000E+00"
    assert load.applied[1:] == [(False, 3.3, 5.0), (False, 3.3, 0.5), (True, 3.3, 0.5)]


def test_cc_and_cv_on_the_keysight(serve):
    load = ResistiveLoad(10)
    _, client = serve(KEYSIGHT, load)
    ask = "STAT:QUES:INST:ISUM1:COND?"
    assert client.ask(ask) == "0"
    client.write("VOLT 3,(@1);:CURR 0.5,(@1);:OUTP ON,(@1)")
    assert client.ask(ask) == "2"
    load.ohms = 1
    assert client.ask(ask) == "1"
    assert client.ask("MEAS:VOLT? (@1);CURR? (@1)") == "+5.00000000E-01;+5.00000000E-01"


def test_cc_and_cv_on_the_rigol(serve):
    load = ResistiveLoad(10)
    _, client = serve(RIGOL, load)
    assert client.ask(":OUTP:CVCC? CH1") == "UR"
    client.write(":APPL CH1,3.3,0.5;:OUTP CH1,ON")
    assert client.ask(":OUTP:MODE? CH1;CVCC?") == "CV;CV"
    assert client.ask(":MEAS:ALL? CH1") == "3.3000,0.3300,1.089"
    load.ohms = 2
    assert client.ask(":OUTP:CVCC? CH1") == "CC"
    assert client.ask(":STAT:QUES:INST:ISUM1:COND?") == "1"
    assert client.ask(":MEAS? CH1;:MEAS:CURR? CH1;POWE? CH1") == "1.0000;0.5000;0.500"


def test_ovp_trips_latches_and_the_keysight_restores_on_clear(serve):
    load = ResistiveLoad()
    server, client = serve(KEYSIGHT, load)
    client.write("VOLT:PROT 3.6,(@1);:VOLT 3.3,(@1);:OUTP ON,(@1)")
    assert client.ask("OUTP? (@1);:VOLT:PROT:TRIP? (@1)") == "1;0"
    client.write("VOLT 3.7,(@1)")
    assert client.ask("VOLT:PROT:TRIP? (@1);:OUTP? (@1);:MEAS:VOLT? (@1)") == "1;0;+0.00000000E+00"
    assert server.outputs[0].tripped == "ovp"
    client.write("VOLT 3.3,(@1);:OUTP ON,(@1)")
    assert client.error() == -221
    assert client.ask("OUTP? (@1)") == "0"
    client.write("VOLT:PROT:CLE (@1)")
    assert client.ask("OUTP? (@1);:VOLT:PROT:TRIP? (@1)") == "1;0"
    client.write("VOLT 3.7,(@1);:OUTP OFF,(@1);:OUTP:PROT:CLE (@1)")
    assert client.ask("OUTP? (@1);:VOLT:PROT:TRIP? (@1)") == "0;0"


def test_ovp_that_is_switched_off_does_not_trip(serve):
    _, client = serve(KEYSIGHT)
    client.write("VOLT:PROT:STAT OFF,(@1);:VOLT:PROT 1,(@1);:VOLT 3,(@1);:OUTP ON,(@1)")
    assert client.ask("VOLT:PROT:TRIP? (@1);:OUTP? (@1)") == "0;1"
    client.write("CURR:PROT:STAT ON,(@1)")  # now something is watched, but not this
    assert client.ask("VOLT:PROT:TRIP? (@1);:OUTP? (@1)") == "0;1"
    client.write("VOLT:PROT:STAT ON,(@1)")
    assert client.ask("VOLT:PROT:TRIP? (@1);:OUTP? (@1)") == "1;0"


def test_ovp_watches_without_a_command_being_sent(serve):
    class Rising(ResistiveLoad):
        lift = 0.0

        def sense(self):
            volts, amps, mode = super().sense()
            return volts + self.lift, amps, mode

    load = Rising(10)
    server, client = serve(RIGOL, load)
    client.write(":APPL CH1,3.3,1;:OUTP:OVP:VAL CH1,3.6;:OUTP:OVP CH1,ON;:OUTP CH1,ON")
    assert client.ask(":OUTP:OVP:QUES? CH1;:OUTP? CH1") == "NO;ON"
    load.lift = 1.0
    assert until(lambda: server.outputs[0].tripped) == "ovp"
    assert load.applied[-1][0] is False
    load.lift = 0.0
    assert client.ask(":OUTP:OVP:QUES? CH1;ALAR? CH1;:OUTP? CH1") == "YES;YES;OFF"


def test_a_failure_of_the_clock_is_logged_once_and_the_protections_go_on(serve, caplog):
    load = ResistiveLoad(10)
    server, client = serve(RIGOL, load)
    whole, left = server.instrument.tick, [3]

    def tick(now):
        if left[0] > 0:
            left[0] -= 1
            raise ScpiError(-221)
        return whole(now)

    server.instrument.tick = tick
    client.write(":APPL CH1,3.3,1;:OUTP:OCP:VAL CH1,0.4;:OUTP:OCP CH1,ON;:OUTP CH1,ON")
    assert client.ask(":OUTP? CH1") == "ON"
    load.ohms = 5
    assert until(lambda: server.outputs[0].tripped) == "ocp"
    assert [record.message for record in caplog.records] == ["the simulated supply's clock failed, and goes on"]


def test_the_rigols_two_ways_to_clear(serve):
    server, client = serve(RIGOL)
    trip = ":OUTP:OVP:VAL CH1,1;:OUTP:OVP CH1,ON;:SOUR1:VOLT 0.5;:OUTP CH1,ON;:SOUR1:VOLT 2;VOLT 0.5"
    client.write(trip)
    client.write(":OUTP:OVP:CLE CH1")  # only the long form exists
    assert client.error() == -113
    assert client.ask(":OUTP:OVP:QUES? CH1") == "YES"
    client.write(":OUTP:OVP:CLEAR CH1")
    assert client.ask(":OUTP:OVP:QUES? CH1;:OUTP? CH1") == "NO;OFF"
    client.write(trip)
    client.write(":SOUR1:VOLT:PROT:CLE")
    assert client.ask(":OUTP:OVP:QUES? CH1;:OUTP? CH1") == "NO;ON"
    assert server.outputs[0].tripped is None


def test_keysight_ocp_trips_after_its_delay_in_cc_and_not_before():
    load = ResistiveLoad(1)
    supply = PERSONALITIES[KEYSIGHT]([load], serial="T")
    supply.execute("CURR:PROT:DEL 100,(@1);:CURR 0.5,(@1);:VOLT 3,(@1);:OUTP ON,(@1)")
    assert supply.execute("STAT:QUES:INST:ISUM1:COND?;:CURR:PROT:STAT? (@1)") == "1;0"
    supply.tick(time.monotonic() + 1000)
    assert supply.outputs[0].tripped is None, "the protection is off"
    supply.execute("CURR:PROT:STAT ON,(@1)")
    start = time.monotonic()
    supply.tick(start + 90)  # not 99: the guard has looked since before `start`
    assert supply.execute("CURR:PROT:TRIP? (@1)") == "0"
    load.ohms = 10
    supply.tick(start + 99.5)  # out of CC for a moment: the delay starts again
    load.ohms = 1
    supply.tick(start + 100.5)
    supply.tick(start + 200)
    assert supply.outputs[0].tripped is None
    supply.tick(start + 200.6)
    assert supply.execute("CURR:PROT:TRIP? (@1);:VOLT:PROT:TRIP? (@1);:OUTP? (@1)") == "1;0;0"
    load.ohms = 10
    assert supply.execute("CURR:PROT:CLE (@1);TRIP? (@1);:OUTP? (@1)") == "0;1"


def test_rigol_ocp_has_a_level_of_its_own(serve):
    load = ResistiveLoad(10)
    server, client = serve(RIGOL, load)
    client.write(":APPL CH1,3,1;:OUTP:OCP:VAL CH1,0.4;:OUTP:OCP CH1,ON;:OUTP CH1,ON")
    assert client.ask(":OUTP:OCP:QUES? CH1;VAL? CH1;:OUTP:OCP? CH1") == "NO;0.400;ON"
    load.ohms = 7
    assert until(lambda: server.outputs[0].tripped) == "ocp"
    assert client.ask(":OUTP:OCP:QUES? CH1;:OUTP:OVP:QUES? CH1;:OUTP? CH1") == "YES;NO;OFF"


@pytest.mark.parametrize(
    ("personality", "on", "state"),
    [(KEYSIGHT, "VOLT 3,(@2);:OUTP ON,(@2)", "OUTP? (@2)"), (RIGOL, ":APPL CH2,3,1;:OUTP CH2,ON", ":OUTP? CH2")],
)
def test_an_output_survives_its_client(serve, personality, on, state):
    server, client = serve(personality)
    client.write(on)
    assert client.ask("*OPC?") == "1"
    client.close()
    assert until(lambda: server.clients == 0) is True
    assert server.outputs[1].on
    assert server.outputs[1].rail.sense()[0] == 3.0
    assert server.connect().ask(state) in ("1", "ON")


def test_rst_switches_off_and_forgets_protections_but_not_errors(serve):
    server, client = serve(KEYSIGHT)
    client.write("VOLT 3,(@1);:CURR 1,(@1);:VOLT:PROT 3.6,(@1);:CURR:PROT:STAT ON,(@1);:OUTP ON,(@1);NONSENSE")
    assert server.outputs[0].on or until(lambda: server.outputs[0].on)
    client.write("*RST")
    reply = client.ask("OUTP? (@1);:VOLT? (@1);:CURR? (@1);:VOLT:PROT? (@1);:CURR:PROT:STAT? (@1)")
    assert reply == "0;+0.00000000E+00;+5.00000000E+00;+6.60000000E+00;0"
    assert client.error() == -113


def test_ranges_and_their_words(serve):
    _, client = serve(KEYSIGHT)
    assert client.ask("VOLT? MAX,(@1:3)") == "+6.18000000E+00,+2.57500000E+01,+2.57500000E+01"
    assert client.ask("CURR? MAX,(@1,2);CURR? MIN,(@1)") == "+5.15000000E+00,+1.03000000E+00;+2.00000000E-03"
    client.write("VOLT 6.19,(@1);:VOLT 10,(@1,2)")
    assert (client.error(), client.error()) == (-222, -222)
    assert client.ask("VOLT? (@1,2)") == "+0.00000000E+00,+0.00000000E+00", "all or none"
    client.write("VOLT MAX,(@1,2);:VOLT 3300mV,(@3)")
    assert client.ask("VOLT? (@1:3)") == "+6.18000000E+00,+2.57500000E+01,+3.30000000E+00"
    _, rigol = serve(RIGOL)
    assert (
        rigol.ask(":SOUR1:VOLT? MAX;:SOUR3:VOLT? MAX;CURR? MAX;:OUTP:OVP:VAL? CH3,MAX") == "32.000;5.300;3.200;5.500"
    )
    rigol.write(":SOUR3:VOLT 5.4")
    assert rigol.error() == -222
    rigol.write(":OUTP:OVP:VAL CH1,0")
    assert rigol.error() == -222


def test_set_points_lie_on_the_instruments_grid(serve):
    server, client = serve(RIGOL)
    client.write(":SOUR1:VOLT 3.30049;CURR 0.50051")
    assert client.ask(":APPL? CH1") == "CH1:30V/3A,3.300,0.501"
    assert (server.outputs[0].volts, server.outputs[0].amps) == (3.3, 0.501)


def test_the_rigols_ways_to_name_a_channel(serve):
    server, client = serve(RIGOL)
    client.write(":INST CH2;:VOLT 2;:INST:NSEL 3;:VOLT 3;:SOUR1:VOLT 1;:APPL CH1,1.5")
    assert client.ask("*OPC?") == "1"
    assert [output.volts for output in server.outputs] == [1.5, 2.0, 3.0]
    assert client.ask(":INST?;:INST:NSEL?;:APPL? CH3,VOLT;:SOUR:VOLT?") == "CH1;1;3.000;1.500"
    client.write(":OUTP ON;:OUTP CH3,1")
    assert client.ask(":OUTP? CH1;:OUTP? CH2;:OUTP? CH3") == "ON;OFF;ON"
    client.write(":SOUR4:VOLT 1;:OUTP CH4,ON")
    assert client.error() == -114
    client.write(":MEAS:POW? CH1")
    assert client.silent(0.05)
    assert client.ask(":SYST:ERR?") == '-113,"Undefined header; keyword cannot be found"'


def test_the_keysights_selection_is_used_where_there_is_no_list(serve):
    server, client = serve(KEYSIGHT)
    client.write("INST:SEL P25V;:VOLT 2;:INST:NSEL 3;:VOLT 3;:APPL CH1,1.5,0.5")
    assert client.ask("*OPC?") == "1"
    assert [output.volts for output in server.outputs] == [1.5, 2.0, 3.0]
    assert client.ask("INST?;:VOLT?;:APPL? CH1") == 'CH3;+3.00000000E+00;"1.500000,0.500000"'
    client.write("OUTP:PROT:WDOG ON")
    assert client.error() == -113


def test_a_slow_meter_repeats_its_reading(serve):
    supply = PERSONALITIES[RIGOL]([ResistiveLoad(10)], serial="T", slow_meter=True)
    now = time.monotonic()
    supply.tick(now)
    supply.execute(":APPL CH1,3,1;:OUTP CH1,ON")
    assert supply.tick(now + 0.39) == pytest.approx(now + 0.4)
    assert supply.execute(":MEAS:VOLT? CH1;:OUTP? CH1") == "0.0000;ON"
    supply.tick(now + 0.41)
    assert supply.execute(":MEAS:ALL? CH1") == "3.0000,0.3000,0.900"
    _, client = serve(RIGOL, ResistiveLoad(10), slow_meter=True, time_scale=0.1)
    client.write(":APPL CH1,3,1;:OUTP CH1,ON")
    assert until(lambda: client.ask(":MEAS:VOLT? CH1") == "3.0000") is True


def test_a_rail_that_is_gone_is_an_error_and_the_others_work(serve, caplog):
    class Gone(ResistiveLoad):
        def sense(self):
            raise ConnectionResetError

    _, client = serve(KEYSIGHT, Gone(), ResistiveLoad(10))
    client.write("VOLT 1,(@1,2);:OUTP ON,(@1,2)")
    client.write("MEAS:VOLT? (@1)")
    assert client.error() == -310
    assert client.ask("MEAS:VOLT? (@2)") == "+1.00000000E+00"
    assert [record.message for record in caplog.records] == ["output 1: its rail cannot be read"], "said once"
    client.write("*RST")
    assert client.ask("OUTP? (@1,2)") == "0,0"
