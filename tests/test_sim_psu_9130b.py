"""The simulated 9130B: its quirks, and pymeasure's unmodified driver as the judge."""

from __future__ import annotations

import pytest
from sim_psu_client import judged_by_pymeasure

from rig.sim.psu import ResistiveLoad
from rig.sim.psu.bk_9130b import Bk9130B


def make(*rails: ResistiveLoad) -> Bk9130B:
    return Bk9130B(rails, serial="T")


def on(supply: Bk9130B) -> list[bool]:
    return [output.on for output in supply.outputs]


def test_one_switch_for_all_and_one_for_each() -> None:
    supply = make()
    supply.execute("INST CH2;:CHAN:OUTP 1")
    assert (on(supply), supply.execute("CHAN:OUTP?;:INST FIR;:CHAN:OUTP?;:OUTP?")) == ([False, True, False], "1;0;1")
    supply.execute("OUTP 1")
    assert on(supply) == [True, True, True]
    supply.execute("INST THI;:CHAN:OUTP 0")
    assert on(supply) == [True, True, False]
    supply.execute("OUTP 0")
    assert on(supply) == [False, False, False]


def test_old_firmware_has_no_switch_for_each() -> None:
    supply = make()
    supply.old_firmware = True
    assert supply.execute("CHAN:OUTP?") is None
    assert supply.execute("SYST:ERR?") == "-113,'Undefined header'"
    supply.execute("OUTP 1")
    assert on(supply) == [True, True, True]


def test_errors_are_in_single_quotes_and_replies_come_by_threes() -> None:
    supply = make(ResistiveLoad(10), ResistiveLoad(10))
    assert supply.execute("SYST:ERR?") == "0,'No Error'"
    supply.execute("APP:VOLT 3.3,5,0;:APP:CURR 1,1,1;:OUTP 1")
    assert supply.execute("MEAS:VOLT? ALL;:MEAS:CURR? ALL;:MEAS:VOLT? CH2;:INST?") == (
        "3.300, 5.000, 0.000;0.330, 0.500, 0.000;5.000;CH1"
    )
    supply.execute("APP:VOLT 1,1,6")
    assert supply.execute("SYST:ERR?") == "-222,'Data out of range'"
    assert [output.volts for output in supply.outputs] == [3.3, 5.0, 0.0], "all or none"


def test_clearing_over_voltage_switches_the_output_on_again() -> None:
    supply = make(ResistiveLoad(10))
    supply.execute("VOLT 3V;:CURR 1;:VOLT:PROT 3.5;:CHAN:OUTP 1;:VOLT 4")
    assert supply.execute("VOLT:PROT:TRIP?;:CHAN:OUTP?") == "0;1", "its switch is off"
    supply.execute("VOLT:PROT:STAT 1")
    assert supply.execute("VOLT:PROT:TRIP?;:CHAN:OUTP?") == "1;0"
    assert supply.execute("VOLT 3;:VOLT:PROT:CLE;:VOLT:PROT:TRIPED?;:CHAN:OUTP?") == "0;1"


def test_a_serial_line_wants_remote_first() -> None:
    supply = make()
    supply.remote_first = True
    supply.execute("VOLT 3")
    assert supply.execute("VOLT?;:SYST:ERR?") == "0.000;-221,'Settings conflict'"
    assert supply.execute("SYST:REM;:VOLT 3;:VOLT?;:SYST:LOC;:VOLT 2;:VOLT?") == "3.000;3.000"


@pytest.mark.filterwarnings("ignore:It is not known whether:FutureWarning")
def test_pymeasure_sets_switches_and_measures() -> None:
    with judged_by_pymeasure("bk-9130b", "bkprecision", "BKPrecision9130B") as (server, supply):
        assert supply.ask("*IDN?").strip() == "BK PRECISION, 9130B, T, V1.69"
        for channel, volts in ((1, 3.3), (2, 12.0), (3, 5.0)):
            supply.channel = channel
            assert supply.channel == f"CH{channel}"  # as pymeasure leaves it
            supply.voltage = volts
            supply.current = 1.5
        assert supply.ask("SYST:ERR?").strip() == "0,'No Error'"
        assert [(output.volts, output.amps) for output in server.outputs] == [(3.3, 1.5), (12.0, 1.5), (5.0, 1.5)]
        supply.channel = 1
        assert (supply.source_enabled, supply.voltage) == (False, 0)
        supply.source_enabled = True
        assert (supply.source_enabled, supply.voltage, supply.current) == (True, 3.3, 0.33)
        assert [output.on for output in server.outputs] == [True, False, False]
        supply.source_enabled = False
        assert supply.voltage == 0
