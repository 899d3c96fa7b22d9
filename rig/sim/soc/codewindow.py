"""Flash as the CPU executes it: CRCs taken out, decrypted.

A block whose CRC-16 is wrong reads as FF, an undefined instruction. That is a guess: the controller is known to count
such blocks, not what it puts on the bus. The other guesses were tried on real images and shown wrong: zeros let
an erased bootloader slide into the app, and "decrypt anyway" runs straight over a damaged block.
"""

from __future__ import annotations

import ctypes

import numpy as np

from rig.image import beken
from rig.sim.flash import NorFlash

BLOCKS = 61_680  # of 34 bytes in 2 MiB
MAPPED = 0x1E2000  # the window, up to a whole 4 KiB page


class CodeWindow:
    """The decoded flash, in memory the CPU reads from directly. Decoded when asked to, block by block touched."""

    def __init__(self, flash: NorFlash, key: beken.Key) -> None:
        self._flash = flash
        self._stream = beken.keystream(0, BLOCKS * beken.BLOCK // 4, key).astype("<u4").view(np.uint8)
        self._stream = self._stream.reshape(BLOCKS, beken.BLOCK)
        self.memory = (ctypes.c_uint8 * MAPPED)()
        self._view = np.frombuffer(memoryview(self.memory), dtype=np.uint8)
        self._view[:] = 0xFF
        self._blocks = self._view[: BLOCKS * beken.BLOCK].reshape(BLOCKS, beken.BLOCK)
        self._valid = np.zeros(BLOCKS, dtype=np.bool_)
        self._dirty = (0, BLOCKS)
        flash.on_change.append(self._changed)

    def block_is_valid(self, address: int) -> bool:
        """Whether the block at code address `address` passes its CRC."""
        block = address // beken.BLOCK
        return block >= BLOCKS or bool(self._valid[block])

    def refresh(self) -> tuple[int, int] | None:
        """Decode what changed. The range of code addresses that did, None if nothing."""
        first, last = self._dirty
        if first >= last:
            return None
        self._dirty = (BLOCKS, 0)
        raw = self._flash.read(first * beken.FRAMED, (last - first) * beken.FRAMED)
        data, valid = beken.unframe(raw)
        code = np.frombuffer(data, dtype=np.uint8).reshape(-1, beken.BLOCK) ^ self._stream[first:last]
        code[~valid] = 0xFF
        self._blocks[first:last] = code
        self._valid[first:last] = valid
        return first * beken.BLOCK, last * beken.BLOCK

    def _changed(self, start: int, end: int) -> None:
        first, last = start // beken.FRAMED, min(-(-end // beken.FRAMED), BLOCKS)
        self._dirty = (min(self._dirty[0], first), max(self._dirty[1], last))
