"""An independent driver as the judge: pymeasure's KeysightE36312A, unmodified, over pyvisa-py."""

from __future__ import annotations

import pytest

from rig.sim.psu import PsuServer, ResistiveLoad

pytest.importorskip("pymeasure", reason="pymeasure is not installed")
pytest.importorskip("pyvisa_py", reason="pyvisa-py is not installed")
from pymeasure.instruments.keysight import KeysightE36312A


@pytest.fixture
def bench():
    """(server, pymeasure's driver, the load on output 1)."""
    load = ResistiveLoad(10)
    with PsuServer("keysight-e36312a", [load, ResistiveLoad(100)], serial="MY12345678") as server:
        supply = KeysightE36312A(server.resource, visa_library="@py", read_termination="\n", timeout=2000)
        try:
            yield server, supply, load
        finally:
            supply.adapter.close()


def test_it_identifies(bench):
    _, supply, _ = bench
    assert supply.id.startswith("Keysight Technologies,E36312A,MY12345678,")
    assert supply.complete == "1"
    assert supply.options == "0"


def test_it_sets_switches_and_measures(bench):
    server, supply, load = bench
    supply.ch_1.voltage_setpoint = 3.3
    supply.ch_1.current_limit = 0.5
    supply.ch_2.voltage_setpoint = 12.0
    supply.ch_3.voltage_setpoint = 25.0
    assert not supply.ch_1.output_enabled
    supply.ch_1.output_enabled = True
    supply.ch_2.output_enabled = True
    assert [supply.channels[n].voltage_setpoint for n in (1, 2, 3)] == [3.3, 12.0, 25.0]
    assert supply.ch_1.current_limit == 0.5
    assert supply.ch_1.output_enabled is True
    assert supply.ch_3.output_enabled is False
    assert supply.ch_1.voltage == pytest.approx(3.3)
    assert supply.ch_1.current == pytest.approx(0.33)
    assert supply.ch_2.current == pytest.approx(0.12)
    assert supply.ch_3.voltage == 0
    load.ohms = 2.0  # 3.3 V would need 1.65 A: the limit holds the rail at 1 V
    assert supply.ch_1.voltage == pytest.approx(1.0)
    assert supply.ch_1.current == pytest.approx(0.5)
    supply.ch_1.output_enabled = False
    assert supply.ch_1.voltage == 0
    assert (server.outputs[0].on, server.outputs[1].on) == (False, True)
    assert supply.check_errors() == []


def test_it_reads_the_errors_and_resets(bench):
    _, supply, _ = bench
    supply.ch_2.voltage_setpoint = 5
    supply.write("VOLT 99, (@1)")
    supply.write("VOLTAG 1")
    errors = supply.check_errors()
    assert [code for code, _ in errors] == [-222, -113]
    supply.reset()
    assert supply.ch_2.voltage_setpoint == 0
    supply.clear()
    assert supply.status == "0"


def test_its_full_range_is_the_instruments(bench):
    _, supply, _ = bench
    for channel, volts, amps in ((1, 6, 5), (2, 25, 1), (3, 25, 1)):
        supply.channels[channel].voltage_setpoint = volts
        supply.channels[channel].current_limit = amps
        assert supply.channels[channel].voltage_setpoint == volts
        assert supply.channels[channel].current_limit == amps
    assert supply.check_errors() == []
