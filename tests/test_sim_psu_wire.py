"""The line of the simulated supplies over a raw socket: segments, clients, latency, noise."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from sim_psu_client import serving
from waiting import until

from rig.errors import UsageProblem
from rig.sim.psu import PsuServer, ResistiveLoad
from rig.sim.psu.connection import LONGEST_LINE

KEYSIGHT, RIGOL = "keysight-e36312a", "rigol-dp832"


@pytest.fixture
def serve():
    with serving() as start:
        yield start


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
    assert until(lambda: server.clients == 1) is True
    (connection,) = server._clients.values()
    take, kept = connection.lines, []

    def lines():
        found = take()
        kept.append(len(connection.buffer))
        return found

    connection.lines = lines
    client.send(b"VOLT " + b"1" * 300_000)
    client.send(b"1" * 100 + b"\n")
    assert client.error() == -363
    assert max(kept) <= LONGEST_LINE, "it piles up"
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
    assert until(lambda: spent(quick) < 0.05)  # soon, in one of many tries


def test_unknown_models_and_too_many_rails_are_named():
    with pytest.raises(UsageProblem, match="rigol-dp832"):
        PsuServer("rigol", [], serial="X")
    with pytest.raises(UsageProblem, match="3 outputs, not 4"):
        PsuServer(RIGOL, [ResistiveLoad()] * 4, serial="X")
