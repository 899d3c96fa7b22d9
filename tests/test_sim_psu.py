"""The simulated supplies over a raw socket: what a client sees, and what the outputs do."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from sim_psu_client import serving, until

from rig.errors import UsageProblem
from rig.sim.psu import PERSONALITIES, PsuServer, ResistiveLoad

KEYSIGHT, RIGOL = "keysight-e36312a", "rigol-dp832"


@pytest.fixture
def serve():
    with serving() as start:
        yield start


# The wire


def test_identity_and_resource(serve):
    server, client = serve(KEYSIGHT)
    assert server.resource == f"TCPIP::127.0.0.1::{server.port}::SOCKET"
    assert client.ask("*IDN?").split(",")[:3] == ["Keysight Technologies", "E36312A", "SIM1"]
    _, rigol = serve(RIGOL)
    assert rigol.ask("*IDN?") == "RIGOL TECHNOLOGIES,DP832,SIM1,00.01.16"


def test_two_lines_in_one_segment_and_one_line_in_two(serve):
    server, client = serve(KEYSIGHT)
    client.send(b"VOLT 3.3,(@1)\nVOLT? (@1)\n*OPC?\n")
    assert [client.line(), client.line()] == ["+3.30000000E+00", "1"]
    client.send(b"VOLT 2.")
    assert client.silent(0.05)
    assert server.outputs[0].volts == 3.3
    client.send(b"5,(@1);:VOL")
    client.send(b"T? (@1)\n")
    assert client.line() == "+2.50000000E+00"
    assert [message for _, message in server.received][-1] == "VOLT 2.5,(@1);:VOLT? (@1)"


def test_crlf_and_empty_lines(serve):
    server, client = serve(RIGOL)
    client.send(b":APPL CH1,3.3,0.5\r\n\r\n\n:APPL? CH1\r\n")
    assert client.line() == "CH1:30V/3A,3.300,0.500"
    assert client.error() == 0
    assert [message for _, message in server.received] == [":APPL CH1,3.3,0.5", "", "", ":APPL? CH1", "SYST:ERR?"]


def test_a_query_without_newline_is_not_answered_and_dies_with_its_client(serve):
    server, client = serve(KEYSIGHT)
    assert client.ask("*OPC?") == "1"
    client.send(b"*IDN?")
    assert client.silent(0.1)
    client.close()
    assert until(lambda: server.clients == 0) is True
    other = server.connect()
    assert other.ask("*OPC?") == "1"
    assert server.received[-1][1] == "*OPC?"


def test_queries_of_one_line_are_answered_in_one_line(serve):
    _, client = serve(KEYSIGHT)
    assert (
        client.ask("*OPC?;:VOLT? (@1);CURR? (@1,2);*ESR?") == "1;+0.00000000E+00;+5.00000000E+00,+1.00000000E+00;128"
    )


def test_an_endless_line_is_an_overrun_and_the_next_is_fine(serve):
    server, client = serve(KEYSIGHT)
    client.send(b"VOLT " + b"1" * 300_000)
    assert not until(lambda: any(len(c.buffer) > 100_000 for c in server._clients.values()), 0.3), "it piles up"
    client.send(b"1" * 100 + b"\n")
    assert client.error() == -363
    assert client.error() == 0
    assert client.ask("*OPC?") == "1"


@pytest.mark.parametrize("personality", [KEYSIGHT, RIGOL])
def test_noise_queues_errors_and_hurts_nothing(serve, personality):
    _, client = serve(personality)
    client.send(bytes(range(256)) * 40 + b"\n")
    client.send(b'\xff\xfe\x00\n\x00\n;;;\n(@\n"\n')
    assert client.ask("*OPC?") == "1"
    assert client.error() == -101


def test_many_clients_do_not_mix_their_answers(serve):
    server, _ = serve(KEYSIGHT)
    wrong = []

    def work(channel: int) -> None:
        client = server.connect()
        for step in range(100):
            volts = round(channel + step / 1000, 3)
            if float(client.ask(f"VOLT {volts},(@{channel});:VOLT? (@{channel})")) != volts:
                wrong.append((channel, step))

    threads = [threading.Thread(target=work, args=(channel,)) for channel in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert server.clients == 4


def test_one_client_only_refuses_the_second_and_takes_the_next(serve):
    server, first = serve(RIGOL, max_clients=1)
    assert first.ask("*OPC?") == "1"
    refused = server.connect()
    with pytest.raises((EOFError, ConnectionError)):
        refused.ask("*IDN?")
    first.close()
    third = server.connect()
    assert third.ask("*OPC?") == "1"


def test_a_client_that_is_reset_is_noticed(serve):
    server, client = serve(RIGOL)
    assert until(lambda: server.clients == 1) is True
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    assert until(lambda: server.clients == 0) is True


def test_stop_closes_everything_and_the_same_port_can_start_again(serve):
    server, client = serve(KEYSIGHT)
    client.write("VOLT 2,(@1)")
    assert client.ask("*OPC?") == "1"
    port = server.port
    server.stop()
    with pytest.raises((EOFError, ConnectionError)):
        client.ask("*OPC?")
    server.start()
    assert server.port == port
    assert server.connect().ask("VOLT? (@1)") == "+2.00000000E+00"


def test_latency_holds_each_command_back(serve):
    _, quick = serve(RIGOL)
    _, slow = serve(RIGOL, latency=0.05)

    def spent(client):
        start = time.monotonic()
        client.ask(":SOUR1:VOLT 1;:SOUR1:VOLT?")
        return time.monotonic() - start

    assert spent(slow) >= 0.1
    assert min(spent(quick) for _ in range(5)) < 0.05


def test_unknown_models_and_too_many_rails_are_named():
    with pytest.raises(UsageProblem, match="rigol-dp832"):
        PsuServer("rigol", [], serial="X")
    with pytest.raises(UsageProblem, match="3 outputs, not 4"):
        PsuServer(RIGOL, [ResistiveLoad()] * 4, serial="X")


# What a supply does


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
    supply.tick(start + 99)
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


# What a supply plays by itself


class Recorder(ResistiveLoad):
    """Notes when each set-point came."""

    def __init__(self) -> None:
        super().__init__(10)
        self.times: list[tuple[float, float]] = []

    def apply(self, on, volts, amps):
        super().apply(on, volts, amps)
        self.times.append((time.monotonic(), volts))


def test_a_keysight_list_waits_for_its_trigger_and_returns(serve):
    load = Recorder()
    server, client = serve(KEYSIGHT, load)
    client.write("VOLT 3.3,(@1);:OUTP ON,(@1);:LIST:VOLT 3.2,2.5,3.1,(@1);DWEL 0.05,0.02,0.05,(@1);COUN 2,(@1)")
    client.write("VOLT:MODE LIST,(@1);:TRIG:SOUR BUS,(@1);:INIT (@1)")
    assert client.ask("STAT:QUES:INST:ISUM1:COND?") == "258"  # CV, and 256 while the list waits
    assert server.outputs[0].live == (3.3, 5.0)
    load.times.clear()
    client.write("*TRG")
    assert client.ask("STAT:QUES:INST:ISUM1:COND?") == "2"
    assert until(lambda: len(load.times) == 7) is True
    assert [volts for _, volts in load.times] == [3.2, 2.5, 3.1, 3.2, 2.5, 3.1, 3.3]
    dips = [load.times[step + 1][0] - load.times[step][0] for step in (1, 4)]
    assert all(0.02 <= dip < 1.0 for dip in dips), dips
    assert client.error() == 0


def test_a_keysight_list_can_hold_its_last_step(serve):
    server, client = serve(KEYSIGHT)
    client.write(
        "VOLT 3.3,(@1);:LIST:VOLT 3,2.5,(@1);DWEL 0.01,(@1);TERM:LAST ON,(@1);:VOLT:MODE LIST,(@1);:INIT (@1)"
    )
    assert until(lambda: client.ask("VOLT? (@1)") == "+2.50000000E+00") is True
    assert server.outputs[0].playback is None


def test_lists_that_cannot_be_played_are_refused(serve):
    _, client = serve(KEYSIGHT)
    for commands, code in [
        ("VOLT:MODE LIST,(@1);:TRIG:SOUR BUS,(@1);:INIT (@1)", -221),
        ("LIST:VOLT 1,2,3,(@1);DWEL 1,1,(@1);:VOLT:MODE LIST,(@1);:INIT (@1)", -226),
        ("LIST:DWEL 0.009,(@1)", -222),
        ("LIST:VOLT 1,7,(@1)", -222),
        ("LIST:VOLT " + "1," * 101 + "(@1)", -223),
        ("LIST:STEP ONCE,(@1)", -224),
        ("*TRG", -211),
    ]:
        client.write(commands)
        assert client.error() == code, commands
        client.write("*RST;*CLS")


def test_a_keysight_step_on_trigger_and_an_abort(serve):
    server, client = serve(KEYSIGHT)
    client.write("VOLT 3.3,(@1);:VOLT:TRIG 2.5,(@1);:VOLT:MODE STEP,(@1);:TRIG:SOUR BUS,(@1);:INIT (@1)")
    assert client.ask("VOLT? (@1)") == "+3.30000000E+00"
    assert client.ask("*TRG;:VOLT? (@1)") == "+2.50000000E+00"
    client.write("VOLT:MODE LIST,(@1);:LIST:VOLT 1,(@1);DWEL 100,(@1);:TRIG:SOUR IMM,(@1);:INIT (@1)")
    assert client.ask("*OPC?") == "1"
    assert server.outputs[0].live[0] == 1.0
    client.write("ABOR (@1)")
    assert client.ask("*OPC?") == "1"
    assert server.outputs[0].live[0] == 2.5


@pytest.mark.parametrize(("end", "state", "left"), [("LAST", "ON", 2.5), ("OFF", "OFF", 3.3)])
def test_the_rigols_timer(serve, end, state, left):
    load = Recorder()
    server, client = serve(RIGOL, load, time_scale=0.2)
    client.write(":APPL CH1,3.3,1;:OUTP CH1,ON;:TIME:PARA 0,3,0.5,1;PARA 1,2.5,0.5,1;GROUP 2;CYCLE N,2;ENDS " + end)
    client.write(":TIME:PARA 2,2.5,0.5,0.5")  # below the second that it needs
    assert client.error() == -222
    load.times.clear()
    client.write(":TIME ON")
    assert client.ask(":TIME?") == "ON"
    assert until(lambda: client.ask(":TIME?") == "OFF") is True
    assert [volts for _, volts in load.times][:4] == [3.0, 2.5, 3.0, 2.5]
    assert load.times[1][0] - load.times[0][0] >= 0.2
    assert client.ask(":OUTP? CH1") == state
    assert server.outputs[0].live[0] == left
