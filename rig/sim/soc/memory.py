"""The chip's memories, as buffers that both the CPU and Python see.

Sizes: BK7231N data sheet (256 KB of RAM = 192 KB SRAM + 64 KB next to the core); nothing answers outside them.
"""

from __future__ import annotations

import ctypes

RAM_BASE, RAM_SIZE = 0x003F0000, 0x40000  # 64 KB data and instruction TCM, then SRAM from 0x400000

# Memories that behave as plain storage.
_OTHERS = (
    (0x00910000, 0x10000),  # BLE exchange memory
    (0x01000000, 0x10000),  # modem registers and tables
    (0xC0001000, 0x7000),  # MAC, between its core's first page and the PL page
    (0xC0009000, 0x7000),
    # Not the radio: where a pointer of FFFFFFFF leads, the kind an app gets from erased initial values. With it the
    # bootloader's fault handler survives them and resets the chip; without it such a board hangs in silence. Guess.
    (0xFFFFF000, 0x1000),
)


class Memory:
    """One buffer at `base`."""

    def __init__(self, base: int, size: int, buffer: ctypes.Array[ctypes.c_uint8] | None = None) -> None:
        self.base = base
        self.size = size
        self.buffer = buffer if buffer is not None else (ctypes.c_uint8 * size)()
        self._words = memoryview(self.buffer).cast("B").cast("I")

    def word(self, address: int) -> int:
        """The aligned word at `address`, which lies inside."""
        return self._words[(address - self.base) >> 2]

    def holds(self, address: int) -> bool:
        return self.base <= address <= self.base + self.size - 4

    def clear(self) -> None:
        ctypes.memset(self.buffer, 0, self.size)


def ram() -> Memory:
    """TCM and SRAM: lost with the power, kept through resets."""
    return Memory(RAM_BASE, RAM_SIZE)


def other_memories() -> list[Memory]:
    """Cleared by every reset, as the peripherals are."""
    return [Memory(base, size) for base, size in _OTHERS]
