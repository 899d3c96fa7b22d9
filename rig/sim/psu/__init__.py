"""Simulated bench supplies: SCPI over a socket, as a Keysight E36312A or a Rigol DP832 speaks it."""

from rig.sim.psu.output import Rail, ResistiveLoad
from rig.sim.psu.server import PERSONALITIES, PsuServer

__all__ = ["PERSONALITIES", "PsuServer", "Rail", "ResistiveLoad"]
