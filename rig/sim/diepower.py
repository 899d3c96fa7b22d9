"""The flash die on a simulated rail: how much work its volts let it do."""

from __future__ import annotations

from rig.sim.constants import FlashTable
from rig.sim.power import Rail


class RailOfDie:
    """Implements :class:`rig.sim.die.DieSupply` from the rail's trace. Wall seconds."""

    def __init__(self, rail: Rail, table: FlashTable) -> None:
        self._rail = rail
        self._table = table

    def worked(self, start: float, end: float) -> float:
        rail = self._rail
        begin, until = rail.model(start), rail.model(end)
        if rail.trace.lowest(begin, until) >= self._table.works_volts:
            return end - start
        return rail.trace.effort(begin, until, self._table.inhibit_volts, self._table.works_volts) / rail.speed

    def reads_well(self, start: float, end: float) -> bool:
        rail = self._rail
        lowest = rail.volts if start == end else rail.trace.lowest(rail.model(start), rail.model(end))
        return lowest >= self._table.read_volts
