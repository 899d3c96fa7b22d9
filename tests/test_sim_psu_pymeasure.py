"""An independent driver as the judge: pymeasure's, unmodified, over pyvisa-py."""

from __future__ import annotations

import pytest
from sim_psu_client import judged_by_pymeasure
from waiting import until

from rig.sim.psu import PsuServer, ResistiveLoad

pytest.importorskip("pymeasure", reason="pymeasure is not installed")
pytest.importorskip("pyvisa_py", reason="pyvisa-py is not installed")
from pymeasure.instruments.aimtti import PL303P
from pymeasure.instruments.siglenttechnologies import SPD1305X
from pymeasure.instruments.siglenttechnologies.siglent_spdbase import SystemStatusCode


@pytest.fixture
def bench():
    """(server, pymeasure's driver, the load on output 1)."""
    load = ResistiveLoad(10)
    with judged_by_pymeasure(
        "keysight-e36312a", "keysight", "KeysightE36312A", load, ResistiveLoad(100), serial="MY12345678"
    ) as (server, supply):
        yield server, supply, load


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


# The SPD1305X and the PL303-P


@pytest.mark.filterwarnings("ignore:It is not known whether")
def test_the_spd1305x_sets_switches_and_measures():
    load = ResistiveLoad(10)
    with PsuServer("siglent-spd1305x", [load], serial="SPD13D1") as server:
        supply = SPD1305X(server.resource, visa_library="@py", timeout=2000)
        try:
            assert supply.id == "Siglent Technologies,SPD1305X,SPD13D1,1.0.1.16R4"
            assert supply.fw_version == "1.0.1.16R4"
            assert supply.selected_channel == 1
            supply.ch_1.voltage_setpoint = 3.3
            supply.ch_1.current_limit = 0.5
            assert (supply.ch_1.voltage_setpoint, supply.ch_1.current_limit) == (3.3, 0.5)
            supply.ch_1.enable_output()
            assert supply.system_status_code == SystemStatusCode.OUTPUT_ENABLED
            assert (supply.ch_1.voltage, supply.ch_1.current) == (3.3, 0.33)
            assert supply.ch_1.power == pytest.approx(1.089)
            load.ohms = 2
            assert supply.system_status_code & SystemStatusCode.CONSTANT_CURRENT
            load.ohms = 10
            supply.ch_1.configure_timer(1, 2.5, 0.5, 10)
            supply.ch_1.enable_timer()
            supply.enable_4W_mode()
            assert supply.system_status_code == (
                SystemStatusCode.OUTPUT_ENABLED | SystemStatusCode.TIMER_ENABLED | SystemStatusCode.FOUR_WIRE
            )
            assert supply.ch_1.voltage == 2.5
            supply.ch_1.enable_timer(False)
            supply.enable_local_interface()
            assert supply.error == [0, '"No error"']
            supply.ch_1.voltage_setpoint = 30
            supply.ch_1.current_limit = 5
            assert (supply.ch_1.voltage_setpoint, supply.ch_1.current_limit) == (30, 5)
            supply.shutdown()
            assert until(lambda: not server.outputs[0].on) is True
            assert server.outputs[0].volts == 0
        finally:
            supply.adapter.close()


@pytest.mark.filterwarnings("ignore:It is not known whether")
def test_the_pl303p_sets_switches_and_measures():
    load = ResistiveLoad(10)
    with PsuServer("tti-pl303p", [load], serial="435297") as server:
        supply = PL303P(
            server.resource, visa_library="@py", timeout=2000, read_termination="\r\n", write_termination="\n"
        )
        try:
            assert supply.id == "THURLBY THANDAR, PL303-P, 435297, 3.02-4.01"
            supply.ch_1.voltage_setpoint = 3.3
            supply.ch_1.current_limit = 0.5
            assert (supply.ch_1.voltage_setpoint, supply.ch_1.current_limit) == (3.3, 0.5)
            assert supply.ch_1.output_enabled is False
            supply.ch_1.output_enabled = True
            assert supply.ch_1.output_enabled is True
            assert (supply.ch_1.voltage, supply.ch_1.current) == (3.3, 0.33)
            load.ohms = 2
            assert (supply.ch_1.voltage, supply.ch_1.current) == (1.0, 0.5)
            supply.all_outputs_enabled = False
            assert supply.ch_1.output_enabled is False
            assert server.outputs[0].on is False
            assert supply.ch_1.current_range == "HIGH"
            supply.ch_1.current_range = "LOW"
            assert supply.ch_1.current_range == "LOW"
            supply.ch_1.current_range = "HIGH"
            supply.ch_1.voltage_setpoint = 30
            supply.ch_1.current_limit = 3
            assert (supply.ch_1.voltage_setpoint, supply.ch_1.current_limit) == (30, 3)
            supply.local()
            assert supply.ask("*ESR?").strip() == "128"  # it has met nothing unknown
        finally:
            supply.adapter.close()
