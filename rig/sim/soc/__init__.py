"""The executing model of a BK7231N: runs what is in its flash and prints what that prints.

Facts about the chip are Beken's SDK sources, the data sheet, the bytes of real images and logs of real boards; each
module says which. What no source tells is marked as a guess. The only package that imports Unicorn (GPL-2).
"""

from __future__ import annotations

from rig.sim.soc.clock import NEVER
from rig.sim.soc.load import Load
from rig.sim.soc.soc import Soc, rom_finds_tag

__all__ = ["NEVER", "Load", "Soc", "rom_finds_tag"]
