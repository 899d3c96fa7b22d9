"""What a simulated supply plays by itself: lists, timers, triggered steps."""

from __future__ import annotations

import itertools
import time

import pytest
from sim_psu_client import serving
from waiting import until

from rig.sim.psu import PERSONALITIES, ResistiveLoad

KEYSIGHT, RIGOL = "keysight-e36312a", "rigol-dp832"


@pytest.fixture
def serve():
    with serving() as start:
        yield start


class Recorder(ResistiveLoad):
    """Notes when each set-point came, by the clock of whoever said so where that is known."""

    now: float | None = None

    def __init__(self) -> None:
        super().__init__(10)
        self.times: list[tuple[float, float]] = []

    def apply(self, on, volts, amps):
        super().apply(on, volts, amps)
        self.times.append((time.monotonic() if self.now is None else self.now, volts))


def test_a_keysight_list_waits_for_its_trigger_and_returns(serve):
    load = Recorder()
    server, client = serve(KEYSIGHT, load)
    client.write("VOLT 3.3,(@1);:OUTP ON,(@1);:LIST:VOLT 3.2,2.5,3.1,(@1);DWEL 0.05,0.02,0.05,(@1);COUN 2,(@1)")
    client.write("VOLT:MODE LIST,(@1);:TRIG:SOUR BUS,(@1);:INIT (@1)")
    assert client.ask("STAT:QUES:INST:ISUM1:COND?") == "258"  # CV, and 256 while the list waits
    assert server.outputs[0].live == (3.3, 5.0)
    whole = server.instrument.tick

    def tick(now):
        load.now = now
        return whole(now)

    server.instrument.tick = tick
    load.times.clear()
    client.write("*TRG")
    assert client.ask("STAT:QUES:INST:ISUM1:COND?") == "2"
    assert until(lambda: len(load.times) == 7) is True
    assert [volts for _, volts in load.times] == [3.2, 2.5, 3.1, 3.2, 2.5, 3.1, 3.3]
    dips = [load.times[step + 1][0] - load.times[step][0] for step in (1, 4)]
    assert min(dips) >= 0.02
    assert client.error() == 0


def test_a_keysight_list_can_hold_its_last_step(serve):
    server, client = serve(KEYSIGHT)
    client.write(
        "VOLT 3.3,(@1);:LIST:VOLT 3,2.5,(@1);DWEL 0.01,(@1);TERM:LAST ON,(@1);:VOLT:MODE LIST,(@1);:INIT (@1)"
    )
    assert until(lambda: client.ask("VOLT? (@1)") == "+2.50000000E+00") is True
    assert server.outputs[0].playback is None


class Planned(Recorder):
    """A rail that follows a plan on a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.plans: list[list[tuple[float, bool, float, float]]] = []

    def plan(self, points):
        self.plans.append(list(points))


def test_a_rail_with_a_clock_of_its_own_is_told_ahead_and_nothing_meanwhile(serve):
    rail = Planned()
    server, client = serve(KEYSIGHT, rail, time_scale=0.1)
    client.write("VOLT 3.3,(@1);:CURR 0.5,(@1);:OUTP ON,(@1);:LIST:VOLT 2.5,3.1,(@1);DWEL 0.2,0.5,(@1)")
    client.write("CURR:MODE FIX,(@1);:VOLT:MODE LIST,(@1);:INIT (@1)")
    assert until(lambda: rail.plans) == [
        [
            (0.0, True, 2.5, 0.5),
            (pytest.approx(0.02), True, 3.1, 0.5),
            (pytest.approx(0.07), True, 3.3, 0.5),
        ]
    ]
    known = len(rail.times)
    assert until(lambda: server.outputs[0].playback is None)
    assert len(rail.times) == known, "the plan says how it ends"
    client.write("INIT (@1)")
    assert until(lambda: len(rail.plans) == 2)
    client.write("VOLT 3,(@1)")
    assert until(lambda: len(rail.times) == known + 1), "the plan's end is not what is set by then"
    assert rail.applied[-1] == (True, 3.0, 0.5)
    for stop in ("ABOR (@1)", "OUTP OFF,(@1)"):
        client.write("LIST:DWEL 100,(@1);:INIT (@1)")
        assert until(lambda: server.outputs[0].playback) is not None
        known = len(rail.times)
        client.write(stop)
        assert until(lambda known=known: len(rail.times) == known + 1)
    assert rail.applied[-2:] == [(True, 3.0, 0.5), (False, 2.5, 0.5)]
    assert client.ask("SYST:ERR?") == '+0,"No error"'


def test_a_list_that_ends_switched_off_or_never_is_no_plan():
    rail = Planned()
    supply = PERSONALITIES[RIGOL]([rail], serial="T", time_scale=0.1)
    supply.execute(":APPL CH1,3.3,1;:OUTP CH1,ON;:TIME:PARA 0,2.5,1,1;CYCLE I;:TIME ON")
    assert (rail.plans, rail.applied[-1]) == ([], (True, 2.5, 1.0))
    supply.execute(":TIME OFF;:TIME:CYCLE N,1;ENDS OFF;:TIME ON")
    assert rail.plans == [[(0.0, True, 2.5, 1.0), (pytest.approx(0.1), True, 3.3, 1.0)]]
    due = supply.tick(time.monotonic())
    while supply.outputs[0].playback:
        due = supply.tick(due)
    assert rail.applied[-1][0] is False, "at its end it is switched off, as ever"


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
def test_the_rigols_timer(end, state, left):
    load = ResistiveLoad(10)
    supply = PERSONALITIES[RIGOL]([load], serial="T", time_scale=0.2)
    supply.execute(":APPL CH1,3.3,1;:OUTP CH1,ON;:TIME:PARA 0,3,0.5,1;PARA 1,2.5,0.5,2;GROUP 2;CYCLE N,2;ENDS " + end)
    supply.execute(":TIME:PARA 2,2.5,0.5,0.5")  # below the second that it needs
    assert supply.execute(":SYST:ERR?").startswith("-222,")
    load.applied.clear()
    began = time.monotonic()
    supply.execute(":TIME ON")
    assert supply.execute(":TIME?") == "ON"
    dues = [due := supply.tick(began)]
    while (due := supply.tick(due)) is not None:
        dues.append(due)
    assert supply.execute(":TIME?") == "OFF"
    assert [volts for _, volts, _ in load.applied][:4] == [3.0, 2.5, 3.0, 2.5]
    assert dues[0] >= began + 0.2
    assert [later - due for due, later in itertools.pairwise(dues)] == pytest.approx([0.4, 0.2, 0.4])
    assert supply.execute(":OUTP? CH1") == state
    assert supply.outputs[0].live[0] == left
