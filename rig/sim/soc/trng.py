"""Random numbers at 0x00802480. Source: the TRNG driver of Beken's SDK."""

from __future__ import annotations

from random import Random

from rig.sim.soc.registers import Registers

BASE = 0x00802480

_DATA = 0x04


class Trng(Registers):
    """A new number at each read, repeatable by the seed."""

    def __init__(self, random: Random) -> None:
        super().__init__(0x80)
        self._random = random

    def read(self, offset: int) -> int:
        return self._random.getrandbits(32) if offset == _DATA else self.words[offset >> 2]
