"""A block of registers, and the bus that finds the block an address belongs to."""

from __future__ import annotations

from array import array


class Registers:
    """Plain storage: a read returns the last value written, zero after reset.

    Most of the chip is this and no more; a peripheral overrides `read` and `write` for the words that do something.
    Offsets are bytes from the block's base and multiples of 4; values are 32-bit.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.words = array("I", bytes(size))

    def read(self, offset: int) -> int:
        return self.words[offset >> 2]

    def write(self, offset: int, value: int) -> None:
        self.words[offset >> 2] = value

    def reset(self) -> None:
        """What a chip reset does to it."""
        self.words = array("I", bytes(self.size))


class Bus:
    """One mapped range, split among blocks that start at multiples of 128 bytes. The rest of it is storage."""

    STEP_BITS = 7

    def __init__(self, base: int, size: int, blocks: list[tuple[int, Registers]]) -> None:
        self.base = base
        self.size = size
        self._rest = Registers(size)
        self._blocks: list[Registers] = [self._rest]
        self.steps: list[tuple[Registers, int]] = [(self._rest, 0)] * (size >> self.STEP_BITS)
        for address, block in blocks:
            start = address - base
            for step in range(start >> self.STEP_BITS, (start + block.size) >> self.STEP_BITS):
                self.steps[step] = (block, start)
            self._blocks.append(block)

    @classmethod
    def of(cls, address: int, block: Registers) -> Bus:
        """A range that is one block."""
        return cls(address, block.size, [(address, block)])

    def read(self, offset: int, size: int) -> int:
        """The guest loads `size` bytes at `offset` from the base."""
        block, start = self.steps[offset >> self.STEP_BITS]
        value = block.read((offset & ~3) - start)
        if size == 4:
            return value
        return (value >> (8 * (offset & 3))) & ((1 << (8 * size)) - 1)

    def write(self, offset: int, size: int, value: int) -> None:
        """The guest stores. A byte or halfword is merged into what the word held."""
        block, start = self.steps[offset >> self.STEP_BITS]
        at = (offset & ~3) - start
        if size < 4:
            shift = 8 * (offset & 3)
            mask = ((1 << (8 * size)) - 1) << shift
            value = block.words[at >> 2] & ~mask & 0xFFFFFFFF | value << shift & mask
        block.write(at, value & 0xFFFFFFFF)

    def reset(self) -> None:
        for block in self._blocks:
            block.reset()
