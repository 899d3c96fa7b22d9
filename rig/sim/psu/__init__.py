"""Simulated bench supplies on a raw socket, each as its maker's firmware speaks: `PERSONALITIES`."""

from rig.sim.psu.output import Rail, ResistiveLoad
from rig.sim.psu.server import PERSONALITIES, PsuServer

__all__ = ["PERSONALITIES", "PsuServer", "Rail", "ResistiveLoad"]
