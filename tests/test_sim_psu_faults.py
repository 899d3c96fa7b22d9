"""What can go wrong with a simulated supply, seen by a raw client: each fault, its options, and that it ends."""

from __future__ import annotations

import socket
import time

import pytest
from sim_psu_client import serving
from waiting import until

from rig.errors import UsageProblem
from rig.sim.psu import ResistiveLoad
from rig.sim.psu.faults import FAULTS

KEYSIGHT, RIGOL, TTI = "keysight-e36312a", "rigol-dp832", "tti-pl303p"
GONE = (EOFError, ConnectionError)


@pytest.fixture
def serve():
    with serving() as start:
        yield start


def test_hung_answers_nothing_and_recovers_by_itself(serve):
    server, client = serve(KEYSIGHT)
    assert client.ask("*OPC?") == "1"
    server.fault("hung", seconds=60)
    client.write("VOLT 3,(@1);:OUTP ON,(@1);*IDN?")
    second = server.connect()  # it is still let in
    second.write("*IDN?")
    assert until(lambda: len(server.received) == 3) is True
    assert client.silent(0.05)
    assert second.silent(0)
    server.fault("hung", seconds=0.05)
    assert until(lambda: client.write("*OPC?") or not client.silent(0.02)) is True
    assert client.line() == "1"
    assert server.faults == {}
    assert (server.outputs[0].on, server.outputs[0].volts) == (False, 0.0)  # what was sent meanwhile is lost


def test_hung_that_keeps_carries_it_out_when_it_wakes(serve):
    server, client = serve(KEYSIGHT)
    assert client.ask("*OPC?") == "1"
    server.fault("hung", keeps=True)
    client.write("VOLT 3,(@1);:OUTP ON,(@1);*OPC?")
    assert client.silent(0.1)
    assert server.outputs[0].on is False
    server.clear_faults("hung")
    assert client.line() == "1"
    assert server.outputs[0].on is True


def test_half_open_connections_are_dead_but_counted(serve):
    server, client = serve(TTI)  # which takes one
    assert client.ask("OP1?") == "0"
    server.fault("half-open")
    client.write("OP1 1")
    client.write("OP1?")
    assert client.silent(0.1)
    assert server.outputs[0].on is False
    client.close()
    refused = server.connect()
    with pytest.raises(GONE):
        refused.ask("*IDN?")
    assert server.clients == 1
    server.clear_faults()
    assert until(lambda: server.clients == 0) is True
    assert server.connect().ask("OP1?") == "0"


def test_half_open_is_let_go_after_its_time(serve):
    server, client = serve(KEYSIGHT)
    assert client.ask("*OPC?") == "1"
    server.fault("half-open", seconds=60)
    other = server.connect()
    assert other.ask("*OPC?") == "1"  # there is room for more
    assert server.clients == 2
    server.fault("half-open", seconds=0.05)  # now the other one, too
    assert until(lambda: server.clients == 0) is True
    assert (client.socket.recv(10), other.socket.recv(10)) == (b"", b"")
    assert server.faults == {}


@pytest.mark.parametrize("silent", [False, True])
def test_one_client_only(serve, silent):
    server, first = serve(KEYSIGHT)
    assert first.ask("*OPC?") == "1"
    server.fault("one-client", silent=silent)
    second = server.connect()
    if silent:
        second.write("*OPC?")
        assert second.silent(0.1)
        first.close()
        assert second.line() == "1"  # it was waiting in the queue
    else:
        with pytest.raises(GONE):
            second.ask("*OPC?")
    server.clear_faults()
    assert server.connect().ask("*OPC?") == "1"


def test_drop_hangs_up_before_or_after_carrying_out(serve):
    server, client = serve(KEYSIGHT)
    server.fault("drop", after=1)
    assert client.ask("OUTP ON,(@1);*OPC?") == "1"
    with pytest.raises(GONE):
        client.ask("OUTP OFF,(@1);*OPC?")
    assert server.outputs[0].on is True
    again = server.connect()
    assert again.ask("*OPC?") == "1"  # it was for once
    server.fault("drop", times=2, carried_out=True)
    with pytest.raises(GONE):
        again.ask("OUTP OFF,(@1);*OPC?")
    assert server.outputs[0].on is False
    with pytest.raises(GONE):
        server.connect().ask("*OPC?")
    assert server.connect().ask("*OPC?") == "1"


def test_late_answers_keep_their_order_and_hold_nobody_else_up(serve):
    server, client = serve(KEYSIGHT)
    server.fault("late", seconds=0.1, after=1)
    started = time.monotonic()
    client.send(b"VOLT? (@1)\nCURR? (@1)\n*OPC?\n")
    assert [client.line() for _ in range(3)] == ["+0.00000000E+00", "+5.00000000E+00", "1"]
    assert time.monotonic() - started >= 0.1
    server.fault("late", seconds=60)
    client.write("CURR? (@1)")
    assert until(lambda: len(server.received) == 4) is True
    assert server.connect().ask("*OPC?") == "1"
    assert client.silent(0)


class Sent:
    """Notes what the server hands to the socket of its only client, and when: a segment each."""

    def __init__(self, server):
        (connection,) = server._clients.values()
        self._socket, connection.socket = connection.socket, self
        self.pieces = []

    def sendall(self, data):
        self.pieces.append((time.monotonic(), data))
        self._socket.sendall(data)

    def __getattr__(self, name):
        return getattr(self._socket, name)


@pytest.mark.parametrize("at", [None, 3])
def test_split_answers_come_in_two_segments(serve, at):
    server, client = serve(RIGOL)
    assert until(lambda: server.clients == 1) is True
    sent = Sent(server)
    server.fault("split", gap=0.03, at=at, times=2)
    assert client.ask("*IDN?") == "RIGOL TECHNOLOGIES,DP832,SIM1,00.01.16"
    assert [client.ask("*OPC?"), client.ask("*OPC?")] == ["1", "1"]
    first, rest, *others = [piece for _, piece in sent.pieces]
    assert first + rest == b"RIGOL TECHNOLOGIES,DP832,SIM1,00.01.16\n"
    assert len(first) == (at or 19)
    assert others == [b"1", b"\n", b"1\n"]  # it was for twice
    assert sent.pieces[1][0] - sent.pieces[0][0] >= 0.03


def test_the_error_queue_is_full_and_may_stay_so(serve):
    server, client = serve(KEYSIGHT)
    server.fault("error-queue-full")
    codes = [client.error() for _ in range(21)]
    assert codes == [-222] * 19 + [-350, 0]
    server.fault("error-queue-full", code=-113, stuck=True)
    assert {client.error() for _ in range(50)} == {-113, -350}
    server.clear_faults()
    client.write("*CLS")
    assert client.error() == 0


def test_the_meter_is_slowed_and_restored(serve):
    load = ResistiveLoad(10)
    server, client = serve(KEYSIGHT, load)
    client.write("VOLT 1,(@1);:OUTP ON,(@1)")
    assert client.ask("MEAS:VOLT? (@1)") == "+1.00000000E+00"
    server.fault("slow-meter", seconds=60)
    assert until(lambda: client.ask("MEAS:VOLT? (@1)") == "+1.00000000E+00") is True
    client.write("VOLT 2,(@1)")
    assert client.ask("MEAS:VOLT? (@1)") == "+1.00000000E+00"
    server.fault("slow-meter", seconds=0.1)
    assert until(lambda: client.ask("MEAS:VOLT? (@1)") == "+2.00000000E+00") is True
    client.write("VOLT 4,(@1)")
    assert until(lambda: client.ask("MEAS:VOLT? (@1)") == "+4.00000000E+00") is True  # and again
    server.clear_faults("slow-meter")
    client.write("VOLT 3,(@1)")
    assert client.ask("MEAS:VOLT? (@1)") == "+3.00000000E+00"


@pytest.mark.parametrize(("name", "end"), [("trailing-nul", b"1\x00\n"), ("trailing-comma", b"1,\n")])
def test_answers_may_trail(serve, name, end):
    server, client = serve(KEYSIGHT)
    server.fault(name)
    client.write("*OPC?")
    assert client.socket.recv(100) == end


def test_coalesced_commands_are_lost_or_cost_the_connection(serve):
    server, client = serve(KEYSIGHT)
    assert client.ask("*OPC?") == "1"
    server.fault("coalesced")
    client.send(b"VOLT 1,(@1)\nVOLT 2,(@1)\n")
    assert until(lambda: server.received[-1][1] == "VOLT 1,(@1)") is True
    assert client.ask("VOLT? (@1)") == "+1.00000000E+00"
    server.fault("coalesced", close=True)
    client.send(b"VOLT 3,(@1)\n*OPC?\n")
    with pytest.raises(GONE):
        client.line()
    assert server.outputs[0].volts == 3.0


def test_hurried_commands_are_lost(serve):
    server, client = serve("siglent-spd3303x", max_clients=2)
    server.fault("hurried", seconds=3600)
    client.write("CH1:VOLT 1")
    client.write("CH1:VOLT 2")
    assert until(lambda: len(server.received) == 2) is True
    assert server.connect().ask("CH1:CURR?")  # a line that was received is not yet one that was judged
    server.fault("hurried", seconds=0.02)
    assert client.silent(0.03)
    assert client.ask("CH1:VOLT?") == "1.000"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("hang", {}, "did you mean 'hung'"),
        ("hung", {"second": 1}, "has no option 'second'; its options: seconds, keeps"),
        ("hung", {"seconds": -1}, "cannot have seconds = -1"),
        ("hung", {"seconds": float("nan")}, "cannot have seconds"),
        ("hung", {"keeps": "yes"}, "cannot have keeps = 'yes'"),
        ("one-client", {"clients": 0}, "cannot have clients = 0"),
        ("drop", {"times": 1.5}, "cannot have times = 1.5"),
        ("error-queue-full", {"code": -99}, "cannot have code"),
        ("trailing-nul", {"x": 1}, "its options: none"),
    ],
)
def test_wrong_faults_are_one_sentence(serve, name, options, said):
    server, _ = serve(KEYSIGHT)
    with pytest.raises(UsageProblem, match=said):
        server.fault(name, **options)
    assert server.faults == {}


def test_every_fault_can_be_switched_on_and_off_while_it_runs(serve):
    server, client = serve(KEYSIGHT)
    assert client.ask("*OPC?") == "1"
    for name in FAULTS:
        server.fault(name)
        assert name in server.faults
    server.clear_faults("late")
    assert "late" not in server.faults
    server.clear_faults()
    assert server.faults == {}
    assert until(lambda: server.clients == 0) is True  # half-open: let go
    assert client.socket.recv(10) == b""
    fresh = server.connect()
    fresh.write("*CLS")
    assert fresh.ask("*OPC?") == "1"
    with pytest.raises(UsageProblem, match="no supply fault 'all'"):
        server.clear_faults("all")


def test_stop_is_not_held_up_by_faults(serve):
    server, client = serve(KEYSIGHT)
    server.fault("late", seconds=60)
    server.fault("hung", keeps=True)
    client.write("*OPC?")
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 30  # not the minute
    with pytest.raises(GONE):
        client.line()
    assert socket.create_server((server.host, server.port)).close() is None
