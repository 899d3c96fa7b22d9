"""The simulated E3631A: its quirks, and pymeasure's unmodified driver as the judge."""

from __future__ import annotations

import time

import pytest
from sim_psu_client import judged_by_pymeasure

from rig.sim.psu import ResistiveLoad
from rig.sim.psu.keysight_e3631a import KeysightE3631A


def make(*rails: ResistiveLoad, slow_meter: bool = False) -> KeysightE3631A:
    return KeysightE3631A(rails, serial="T", slow_meter=slow_meter)


def test_one_switch_for_all_outputs_and_no_channel_list() -> None:
    supply = make(ResistiveLoad(10), ResistiveLoad(10), ResistiveLoad(10))
    supply.execute("APPL P6V,3.3,0.5;:APPL P25V,12,1;:APPL N25V,-6,1;:OUTP ON")
    assert [output.on for output in supply.outputs] == [True, True, True]
    assert supply.execute("MEAS:VOLT? P6V;:MEAS:VOLT? P25V;:MEAS:VOLT? N25V") == (
        "+3.30000000E+00;+1.00000000E+01;-6.00000000E+00"
    )
    supply.execute("INST:NSEL 2;:OUTP OFF")
    assert [output.on for output in supply.outputs] == [False, False, False]
    supply.execute("OUTP ON, (@1)")
    assert supply.execute("SYST:ERR?;:OUTP?") == '-108,"Parameter not allowed";0'


def test_no_protection_and_a_refused_query_shows_420_one_command_late() -> None:
    supply = make()
    assert supply.execute("VOLT:PROT?") is None
    assert supply.execute("SYST:ERR?") == '-113,"Undefined header"'
    assert supply.execute("SYST:ERR?") == '-420,"Query UNTERMINATED"'
    assert supply.execute("SYST:ERR?") == '+0,"No error"'
    supply.execute("CURR:PROT:STAT ON")  # a refused command does not
    assert [supply.execute("SYST:ERR?")[:4] for _ in range(2)] == ["-113", '+0,"']


def test_set_points_lie_on_the_converters_grid() -> None:
    supply = make()
    supply.execute("VOLT 3.30123;:CURR 0.10026;:INST P25V;:VOLT 3.3004;:CURR 0.50006")
    assert (supply.outputs[0].volts, supply.outputs[0].amps) == (3.301, 0.1005)
    assert (supply.outputs[1].volts, supply.outputs[1].amps) == (3.3, 0.5001)
    supply.execute("INST:NSEL 1;:VOLT 6.2")
    assert supply.execute("SYST:ERR?;:VOLT?") == '-222,"Data out of range";+3.30100000E+00'


def test_the_line_decides_about_remote() -> None:
    supply = make()
    supply.execute("SYST:REM")
    assert supply.execute("SYST:ERR?") == '+514,"Command allowed only with RS-232"'
    supply.over_rs232 = True
    supply.execute("VOLT 2")
    assert supply.execute("SYST:ERR?;*IDN?") == '+550,"Command not allowed in local";' + supply.idn
    assert supply.outputs[0].volts == 0
    supply.execute("SYST:REM;:VOLT 2")
    assert supply.outputs[0].volts == 2
    supply.execute("SYST:LOC;:VOLT 3")
    assert supply.execute("SYST:ERR?") == '+550,"Command not allowed in local"'
    assert supply.outputs[0].volts == 2


def test_a_trigger_brings_what_was_waiting_after_its_delay() -> None:
    supply = make(ResistiveLoad(10))
    supply.execute("VOLT 3.3;:OUTP ON;:VOLT:TRIG 2.7;:TRIG:SOUR BUS;:INIT")
    assert supply.execute("VOLT?;:VOLT:TRIG?") == "+3.30000000E+00;+2.70000000E+00"
    supply.execute("*TRG")
    assert supply.execute("VOLT?") == "+2.70000000E+00"
    supply.execute("VOLT:TRIG 3.0;:TRIG:DEL 100;:INIT;*TRG;*TRG")
    assert supply.execute("SYST:ERR?") == '-211,"Trigger ignored"'
    assert supply.outputs[0].live[0] == 2.7
    supply.tick(time.monotonic() + 101)
    assert supply.outputs[0].live[0] == 3.0


def test_the_meter_is_slow_when_asked() -> None:
    supply = make(ResistiveLoad(10), slow_meter=True)
    now = time.monotonic()
    supply.tick(now)
    supply.execute("VOLT 3.3;:OUTP ON")
    supply.tick(now + 0.09)
    assert supply.execute("MEAS:VOLT?") == "+0.00000000E+00"
    supply.tick(now + 0.11)
    assert supply.execute("MEAS:VOLT?") == "+3.30000000E+00"


def test_pymeasure_sets_switches_and_measures() -> None:
    with judged_by_pymeasure("keysight-e3631a", "keysight", "KeysightE3631A") as (server, supply):
        assert supply.id == "HEWLETT-PACKARD,E3631A,0,2.1-5.0-1.0"
        supply.ch_1.voltage_setpoint = 3.3
        supply.ch_1.current_limit = 0.5
        supply.ch_2.voltage_setpoint = 12.0
        supply.ch_3.voltage_setpoint = -6.0
        assert [supply.channels[n].voltage_setpoint for n in (1, 2, 3)] == [3.3, 12.0, -6.0]
        assert supply.ch_1.current_limit == 0.5
        assert supply.check_errors() == []
        supply.output_enabled = True
        assert [supply.channels[n].output_enabled for n in (1, 2, 3)] == [True, True, True]
        assert all(output.on for output in server.outputs)
        assert (supply.ch_1.voltage, supply.ch_1.current) == (pytest.approx(3.3), pytest.approx(0.33))
        assert supply.ch_2.current == pytest.approx(0.12)
        supply.tracking_enabled = True
        assert (supply.tracking_enabled, supply.ch_3.voltage_setpoint) == (True, -12.0)
        supply.output_enabled = False
        assert supply.ch_1.voltage == 0
        supply.ch_1.output_enabled = True  # it sends a channel list, which this instrument does not take
        assert [code for code, _ in supply.check_errors()] == [-108]
        assert not any(output.on for output in server.outputs)
