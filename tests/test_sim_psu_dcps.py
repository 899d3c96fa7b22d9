"""Another independent driver as the judge: dcps, unmodified, over pyvisa-py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rig.sim.psu import PsuServer, ResistiveLoad

dcps = pytest.importorskip("dcps", reason="dcps is not installed")
pytest.importorskip("pyvisa_py", reason="pyvisa-py is not installed")


@pytest.fixture
def rigol() -> Iterator[tuple[PsuServer, Any, ResistiveLoad]]:
    load = ResistiveLoad(10)
    with PsuServer("rigol-dp832", [load, ResistiveLoad(100)], serial="DP8A1") as server:
        supply = dcps.RigolDP800(server.resource, wait=0)
        supply.open()
        supply._inst.read_termination = "\n"  # it is made for VXI-11; a raw socket needs its line end told
        supply._inst.write_termination = "\n"
        supply._inst.timeout = 2000
        yield server, supply, load
        supply.close()


def test_the_dp832_sets_switches_and_measures(rigol) -> None:
    server, supply, load = rigol
    assert supply.idn().split(",")[:3] == ["RIGOL TECHNOLOGIES", "DP832", "DP8A1"]
    supply.setRemoteLock()
    supply.beeperOff()
    supply.setVoltage(3.3, channel=1)
    supply.setCurrent(0.5)
    supply.setVoltage(12.0, channel=2)
    assert (supply.queryVoltage(1), supply.queryCurrent(), supply.queryVoltage(2)) == (3.3, 0.5, 12.0)
    assert supply.isOutputOn(1) is False
    supply.outputOn(1)
    assert (supply.isOutputOn(1), supply.isOutputOn(2)) == (True, False)
    assert (supply.measureVoltage(1), supply.measureCurrent(1)) == (3.3, 0.33)
    load.ohms = 2
    assert (supply.measureVoltage(1), supply.measureCurrent(1)) == (1.0, 0.5)
    supply.outputOff(1)
    assert supply.isOutputOn(1) is False
    assert server.outputs[0].on is False
    supply.beeperOn()
    supply.setLocal()
    assert supply.readError().startswith("0,")


def test_the_dp832_protects(rigol) -> None:
    server, supply, _ = rigol
    supply.setVoltage(3.3, channel=1)
    supply.setVoltageProtection(3.6, channel=1)
    supply.voltageProtectionOn(1)
    assert (supply.queryVoltageProtection(1), supply.isVoltageProtectionOn(1)) == (3.6, True)
    supply.outputOn(1)
    assert supply.isVoltageProtectionTripped(1) is False
    supply.setVoltage(4.0, channel=1)
    assert supply.isVoltageProtectionTripped(1) is True
    assert supply.isOutputOn(1) is False
    supply.setVoltage(3.3, channel=1)
    supply.voltageProtectionClear(1)
    assert supply.isVoltageProtectionTripped(1) is False
    assert supply.isOutputOn(1) is True  # its way of clearing restores the output
    supply.outputOff(1)
    supply.setCurrentProtection(0.2, channel=1)
    supply.currentProtectionOn(1)
    assert (supply.queryCurrentProtection(1), supply.isCurrentProtectionOn(1)) == (0.2, True)
    supply.outputOn(1)
    assert supply.isCurrentProtectionTripped(1) is True
    supply.currentProtectionOff(1)
    supply.currentProtectionClear(1)
    assert supply.isCurrentProtectionTripped(1) is False
    assert supply.readError().startswith("0,")
    assert server.outputs[0].tripped is None


def test_the_pl303p_sets_switches_and_measures() -> None:
    load = ResistiveLoad(10)
    with PsuServer("tti-pl303p", [load], serial="435297") as server:
        supply = dcps.AimTTiPLP(server.resource, wait=0)
        supply.open()
        try:
            assert supply.idn().startswith("THURLBY THANDAR, PL303-P, 435297,")
            supply.setVoltage(3.3, channel=1)
            supply.setCurrent(0.5)
            assert (supply.queryVoltage(), supply.queryCurrent()) == (3.3, 0.5)
            assert supply.isOutputOn(1) is False
            supply.outputOn(1)
            assert supply.isOutputOn() is True
            assert (supply.measureVoltage(), supply.measureCurrent()) == (3.3, 0.33)
            supply.outputOffAll()
            assert supply.isOutputOn() is False
            assert server.outputs[0].on is False
            supply.setLocal()
            assert supply._instQuery("*ESR?").strip() == "128"  # it has met nothing unknown
        finally:
            supply.close()
