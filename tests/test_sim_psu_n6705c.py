"""The simulated N6705C: its quirks. No public driver judges it."""

from __future__ import annotations

import time

import pytest
from waiting import until

from rig.sim.psu import PsuServer, ResistiveLoad
from rig.sim.psu.keysight_n6705c import KeysightN6705C
from rig.supply.driver import VisaChannel
from rig.supply.instrument import Supply


def make(*rails: ResistiveLoad) -> KeysightN6705C:
    return KeysightN6705C(rails, serial="T")


def test_a_malformed_unit_voids_its_whole_line() -> None:
    supply = make()
    for line in ("VOLT 1,(@1);FOO;:CURR 1,(@1)", "VOLT 1,(@1);:*WAI", "VOLT 1,(@1);:MEAS:VOLT 1", 'VOLT 1,(@1);"'):
        assert supply.execute(line) is None
        assert supply.execute("SYST:ERR?")[0] == "-", line
        assert supply.execute("VOLT? (@1)") == "+0.00000000E+00", line
        assert supply.execute("SYST:ERR?") == '+0,"No error"', line
    assert supply.execute("VOLT 1,(@1);*WAI;*OPC?") == "1"
    assert supply.execute("VOLT? (@1)") == "+1.00000000E+00"


def test_an_error_text_may_contain_a_semicolon() -> None:
    supply = make()
    supply.execute("FOO")
    assert supply.execute("SYST:ERR?") == '-113,"Undefined header;keyword cannot be found"'


def test_a_query_behind_a_setting_answers_what_was_before() -> None:
    supply = make()
    supply.execute("VOLT 3.3,(@1)")
    assert supply.execute("VOLT 2.5,(@1);:VOLT? (@1);:CURR 1,(@1);:CURR? (@1)") == "+3.30000000E+00;+3.00000000E-02"
    assert supply.execute("VOLT? (@1);:CURR? (@1)") == "+2.50000000E+00;+1.00000000E+00"


def test_a_missing_option_is_silence_and_302() -> None:
    supply = make()
    assert supply.execute("LIST:VOLT? (@3)") is None
    assert supply.execute("SYST:ERR?") == '+302,"Option not installed"'
    supply.execute("LIST:DWEL 0.1,(@1,3)")
    assert supply.execute("SYST:ERR?") == '+302,"Option not installed"'
    assert supply.execute("LIST:DWEL 0.1,(@1,2);:LIST:DWEL? (@1)") == "+1.00000000E-01"


def test_its_modules_and_registers() -> None:
    load = ResistiveLoad(10)
    supply = make(load)
    assert supply.execute("SYST:CHAN?;:SYST:CHAN:MOD? (@1:3)") == "3;N6762A,N6762A,N6731B"
    supply.execute("VOLT 3.3,(@1);:CURR 0.5,(@1);:OUTP ON,(@1)")
    assert supply.execute("STAT:OPER:COND? (@1,2);:MEAS:POW? (@1)") == "1,4;+1.08900000E+00"
    load.ohms = 2
    assert supply.execute("STAT:OPER:COND? (@1)") == "2"
    supply.execute("CURR:PROT:DEL 0.1,(@1);:CURR:PROT:STAT ON,(@1)")
    supply.tick(time.monotonic() + 0.2)
    assert supply.execute("STAT:OPER:COND? (@1);:STAT:QUES:COND? (@1);:OUTP? (@1)") == "4;2;0"
    load.ohms = 10
    assert supply.execute("OUTP:PROT:CLE (@1);:STAT:QUES:COND? (@1);:OUTP? (@1)") == "0;1", "it restores the output"
    supply.execute("VOLT:PROT 4,(@1);:VOLT 4.5,(@1)")
    assert supply.execute("STAT:QUES:COND? (@1);:OUTP? (@1)") == "1;0"


@pytest.mark.parametrize(
    ("asked", "taken"),
    [("0", 0), ("0.0000014", 1e-6), ("0.262143", 0.262143), ("1.2345678", 1.235), ("262.144", 262.144)],
)
def test_a_lists_dwell_is_on_the_microsecond_grid_below_a_quarter_of_a_second(asked: str, taken: float) -> None:
    supply = make()
    supply.execute(f"LIST:DWEL {asked},(@1)")
    assert float(supply.execute("LIST:DWEL? (@1)") or "nan") == pytest.approx(taken, abs=1e-9)


def test_what_a_list_cannot_be() -> None:
    supply = make()
    for line, code in (("LIST:DWEL 262.145,(@1)", -222), ("LIST:VOLT " + "1," * 513 + "(@1)", -223)):
        supply.execute(line)
        assert int((supply.execute("SYST:ERR?") or "0,").split(",")[0]) == code
    supply.execute("LIST:VOLT " + "1," * 512 + "(@1)")
    assert supply.execute("SYST:ERR?") == '+0,"No error"'


def test_a_list_of_three_hundred_microseconds_waits_for_its_trigger_and_dips() -> None:
    load = ResistiveLoad(33)
    with PsuServer("keysight-n6705c", [load], serial="T") as server:
        supply = Supply.open(server.resource)
        channel = VisaChannel(supply, 1, max_volts=3.6)
        assert "sequence" in channel.limits.capabilities
        assert "sequence" not in VisaChannel(supply, 3, max_volts=3.6).limits.capabilities
        server.instrument.execute("CURR 1,(@1);:VOLT 3.3,(@1);:OUTP ON,(@1)")
        server.instrument.execute(
            "VOLT:MODE LIST,(@1);:LIST:VOLT 3.3,2.5,3.3,(@1);:LIST:DWEL 0.001,0.0003,0.001,(@1);"
            ":TRIG:TRAN:SOUR BUS,(@1);:INIT:TRAN (@1)"
        )
        assert server.instrument.execute("STAT:OPER:COND? (@1)") == "17"  # CV, and waiting for the trigger
        assert channel.measure().mode == "cv"  # the rig looks at its own bits only
        load.applied.clear()
        server.instrument.execute("*TRG")
        assert until(lambda: server.outputs[0].playback is None)
        assert [volts for _, volts, _ in load.applied] == [2.5, 3.3]
        assert server.instrument.execute("STAT:OPER:COND? (@1)") == "1"
        supply.close()
