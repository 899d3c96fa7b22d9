"""The simulated HMP4040: its quirks, and pymeasure's unmodified driver as the judge."""

from __future__ import annotations

import time

import pytest
from sim_psu_client import judged_by_pymeasure
from waiting import until

from rig.sim.psu import PsuServer, ResistiveLoad
from rig.sim.psu.rs_hmp4040 import RsHmp4040

SLOW = 1000.0  # its fuses take so much longer: between two lines no busy machine blows one


def make(*rails: ResistiveLoad, time_scale: float = 1.0) -> RsHmp4040:
    return RsHmp4040(rails, serial="T", time_scale=time_scale)


class Rising(ResistiveLoad):
    """Something else feeds into it, too."""

    lift = 0.0

    def sense(self) -> tuple[float, float, str]:
        volts, amps, mode = super().sense()
        return volts + self.lift, amps, mode


def on(supply: RsHmp4040) -> list[bool]:
    return [output.on for output in supply.outputs]


def test_an_output_is_armed_and_mastered() -> None:
    supply = make()
    supply.execute("INST OUT1;:OUTP:SEL ON")
    assert (on(supply), supply.execute("OUTP:SEL?;:OUTP:GEN?;:OUTP?")) == ([False] * 4, "1;0;0")
    supply.execute("INST OUT3;:OUTP:SEL ON;:OUTP:GEN ON")
    assert on(supply) == [True, False, True, False]
    supply.execute("OUTP:SEL OFF")
    assert (on(supply), supply.execute("OUTP:GEN?")) == ([True, False, False, False], "1")
    supply.execute("OUTP:GEN OFF;:INST OUT2;:OUTP 1")
    assert on(supply) == [True, True, False, False], "OUTP 1 switches the master on, and what is armed with it"
    supply.execute("OUTP 0")
    assert (on(supply), supply.execute("OUTP:GEN?")) == ([True, False, False, False], "1")


def test_the_selection_answers_in_a_word_of_its_own() -> None:
    supply = make()
    assert supply.execute("INST OUT2;:INST?;:INST:NSEL?;:INST OUTP4;:INST?;:INST:NSEL 1;:INST?") == (
        "OUTP2;2;OUTP4;OUTP1"
    )
    supply.execute("INST OUT5")
    assert supply.execute("SYST:ERR?") == '-224,"Illegal parameter value"'


def test_every_command_error_is_100() -> None:
    supply = make()
    for wrong in ("MEAS:POW?", "VOLT 1,2", "FUSE:TRIP:CLE"):
        assert supply.execute(wrong) is None
        assert supply.execute("SYST:ERR?") == '-100,"Command error"', wrong
    supply.execute("VOLT 33")
    assert supply.execute("SYST:ERR?;:SYST:ERR?") == '-222,"Data out of range";0,"No error"'


def test_the_fuse_blows_with_what_is_linked_and_is_renewed_by_switching_on() -> None:
    load = ResistiveLoad(2)
    supply = make(load, ResistiveLoad(10), time_scale=SLOW)
    supply.execute("INST OUT2;:VOLT 1;:CURR 1;:OUTP 1")
    supply.execute("INST OUT1;:VOLT 3.3;:CURR 0.5;:FUSE ON;:FUSE:DEL 50;:FUSE:LINK 2;:OUTP 1")
    assert supply.execute("FUSE:TRIP?;:FUSE:DEL?;:STAT:QUES:INST:ISUM1:COND?") == "0;50;1"
    supply.tick(time.monotonic() + 0.06 * SLOW)
    assert supply.execute("FUSE:TRIP?;:OUTP?;:OUTP:SEL?;:STAT:QUES:INST:ISUM1:COND?") == "1;0;0;0"
    assert on(supply) == [False] * 4
    supply.execute("FUSE OFF;:VOLT:PROT:CLE")
    assert supply.execute("FUSE:TRIP?") == "1"
    load.ohms = 10
    assert supply.execute("OUTP 1;:FUSE:TRIP?;:OUTP?") == "0;1"


def test_two_fuses_that_blow_in_one_look_both_stay_blown() -> None:
    loads = [ResistiveLoad(2), ResistiveLoad(2), ResistiveLoad(10)]
    supply = make(*loads, time_scale=SLOW)
    for number in (1, 2, 3):
        supply.execute(f"INST OUT{number};:VOLT 3.3;:CURR 0.5;:FUSE ON;:FUSE:DEL 250;:OUTP 1")
    for load in loads:
        load.applied.clear()
    supply.tick(time.monotonic() + SLOW)
    assert on(supply) == [False, False, True, False]
    assert [output.tripped for output in supply.outputs] == ["ocp", "ocp", None, None]
    assert supply.armed == [False, False, True, False]
    assert [load.applied for load in loads] == [[(False, 3.3, 0.5)], [(False, 3.3, 0.5)], []]


def test_over_voltage_of_two_outputs_in_one_look_trips_both() -> None:
    loads = [Rising(10), Rising(10)]
    supply = make(*loads)
    for number in (1, 2):
        supply.execute(f"INST OUT{number};:VOLT 3;:CURR 1;:VOLT:PROT 3.5;:FUSE:LINK 3;:OUTP 1")
    supply.execute("INST OUT3;:OUTP 1")
    for load in loads:
        load.lift = 1.0
    supply.tick(time.monotonic() + 1)
    assert [output.tripped for output in supply.outputs] == ["ovp", "ovp", None, None]
    assert on(supply) == supply.armed == [False, False, True, False], "only fuses are linked"


def test_over_voltage_stays_until_it_is_cleared() -> None:
    supply = make(ResistiveLoad(10))
    supply.execute("CURR 1;:VOLT 3;:VOLT:PROT 3.5;:VOLT:PROT:MODE PROT;:OUTP 1;:VOLT 4")
    assert supply.execute("VOLT:PROT:TRIP?;:OUTP?;:VOLT:PROT:MODE?") == "1;0;PROT"
    supply.execute("VOLT 3;:OUTP 1")
    assert supply.execute("SYST:ERR?;:OUTP?") == '-221,"Settings conflict";0'
    assert supply.execute("VOLT:PROT:CLE;:VOLT:PROT:TRIP?;:OUTP?;:OUTP 1;:OUTP?") == "0;0;1"


def test_current_steps_are_finer_below_one_ampere() -> None:
    supply = make()
    assert supply.execute("CURR 0.50031;:CURR?;:CURR 1.5003;:CURR?;:VOLT 3300mV;:VOLT?") == "0.5004;1.5000;3.300"


def test_the_arb_plays_in_steps_of_ten_milliseconds_and_only_what_was_transferred() -> None:
    with PsuServer("rs-hmp4040", [ResistiveLoad(10)], serial="T") as server:
        load, supply = server.outputs[0].rail, server.instrument
        assert isinstance(load, ResistiveLoad)
        supply.execute("VOLT 3.3;:CURR 1;:OUTP 1;:ARB:STAR 1")
        assert supply.execute("SYST:ERR?") == '-221,"Settings conflict"'
        supply.execute("ARB:DATA 3.0,1,0.009")
        assert supply.execute("SYST:ERR?") == '-222,"Data out of range"'
        supply.execute("ARB:DATA 3.0,1,0.02,2.5,1,0.01;:ARB:REP 2;:ARB:TRAN 1")
        supply.execute("ARB:DATA 1,1,1")  # not transferred: channel 1 keeps what it has
        load.applied.clear()
        supply.execute("ARB:STAR 1")
        assert until(lambda: len(load.applied) >= 5)  # its end is told after it has ended
        assert supply.outputs[0].playback is None
        assert [volts for _, volts, _ in load.applied] == [3.0, 2.5, 3.0, 2.5, 3.3]
        supply.execute("ARB:REP 0;:ARB:STAR 1")
        assert supply.outputs[0].playback is not None
        supply.execute("ARB:STOP 1;:ARB:CLE 1;:ARB:STAR 1")
        assert (supply.outputs[0].playback, supply.execute("SYST:ERR?")) == (None, '-221,"Settings conflict"')


def test_it_comes_up_late_when_its_times_are_typical() -> None:
    server = PsuServer("rs-hmp4040", [ResistiveLoad(10)], serial="T", latency="typical", time_scale=2)
    supply, rail = server.instrument, server.outputs[0].rail
    now = time.monotonic()
    supply.execute("VOLT 3.3;:CURR 1;:OUTP 1")
    assert server.outputs[0].on
    supply.tick(now + 0.09)
    assert rail.sense()[2] == "off"
    supply.tick(time.monotonic() + 0.11)
    assert rail.sense()[2] == "cv"


def test_pymeasure_sets_switches_measures_and_plays() -> None:
    with judged_by_pymeasure("rs-hmp4040", "rohdeschwarz.hmp", "HMP4040", serial="101545") as (server, supply):
        assert supply.id == "ROHDE&SCHWARZ,HMP4040,101545,HW50010003/SW2.62"
        supply.control_method = "MIX"
        supply.beep()
        assert supply.version == 1999.0
        supply.selected_channel = 1
        assert supply.selected_channel == 1
        supply.voltage_and_current = (3.3, 0.5)
        assert supply.voltage_and_current == [3.3, 0.5]
        supply.voltage_step = 0.1
        supply.step_voltage_up()
        assert (supply.voltage, supply.max_voltage, supply.min_voltage) == (3.4, 32.05, 0)
        supply.current = 0.4
        supply.current_step = 0.1
        supply.step_current_up()
        assert supply.current == 0.5
        supply.set_channel_state(2, True)
        supply.selected_channel_active = True
        assert (supply.selected_channel_active, supply.output_enabled) == (True, False)
        assert supply.measured_voltage == 0
        supply.output_enabled = True
        assert supply.output_enabled is True
        assert [output.on for output in server.outputs] == [True, True, False, False]
        assert (supply.measured_voltage, supply.measured_current) == (pytest.approx(3.4), pytest.approx(0.34))
        supply.sequence = [3.0, 0.5, 0.06, 2.5, 0.5, 10.0]
        supply.repetitions = 1
        assert supply.repetitions == 1
        supply.transfer_sequence(1)
        supply.start_sequence(1)
        assert until(lambda: server.outputs[0].live[0] == 2.5)
        supply.stop_sequence(1)
        assert supply.measured_voltage == pytest.approx(3.4)  # at once, not after ten seconds
        assert [volts for _, volts, _ in server.outputs[0].rail.applied[-3:]] == [3.0, 2.5, 3.4]
        supply.clear_sequence(1)
        supply.output_enabled = False
        assert supply.output_enabled is False
        assert not any(output.on for output in server.outputs)
        assert supply.check_errors() == []
