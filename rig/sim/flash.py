"""A 2 MiB serial NOR flash die: programming only clears bits, erasing sets them, the status register protects.

Behaviour every part of this class shares (standard JEDEC SPI NOR); the part modelled is the TH25Q16HB of a
CB3S (id EB 60 15). Addresses are physical bytes. Times are not kept here: who drives the die adds them.
"""

from __future__ import annotations

from collections.abc import Callable

SIZE = 0x200000
SECTOR = 0x1000
PAGE = 0x100

_BP_MASK = 0x007C  # BP0-BP4, status register 1 bits 6:2
_CMP = 0x4000  # complement protect, status register 2 bit 6


class NorFlash:
    """The die: `data` is its content (a bytearray of `SIZE` bytes), `sr` its 16-bit status register.

    `on_change(start, end)` is called after every erase or program that was carried out, so that whoever caches
    decoded content (the executing model) can drop it.
    """

    def __init__(self, data: bytes | None = None, *, jedec_id: bytes = b"\xeb\x60\x15", sr: int = 0) -> None:
        self.data = bytearray(b"\xff" * SIZE)
        if data is not None:
            if len(data) > SIZE:
                raise ValueError(f"flash holds {SIZE} bytes, not {len(data)}")
            self.data[: len(data)] = data
        self.jedec_id = jedec_id
        self.sr = sr
        self.on_change: list[Callable[[int, int], None]] = []
        self.erases: dict[int, int] = {}  # sector number -> times erased (wear)

    def protected(self, addr: int) -> bool:
        """Whether the status register forbids changing `addr`.

        Only the two states seen in the field are told apart: no BP bit set = nothing protected, any BP bit
        set = everything is (CMP inverts that). Partial ranges differ by maker and are a guess left out.
        """
        some = bool(self.sr & _BP_MASK)
        return some != bool(self.sr & _CMP)

    def read(self, addr: int, length: int) -> bytes:
        """`length` bytes from `addr`, wrapping at the end of the die."""
        addr %= SIZE
        if addr + length <= SIZE:
            return bytes(self.data[addr : addr + length])
        return bytes(self.data[addr:]) + self.read(0, length - (SIZE - addr))

    def program(self, addr: int, data: bytes) -> bool:
        """AND `data` into the die (1 -> 0 only). False, and nothing done, while protected."""
        addr %= SIZE
        if self.protected(addr):
            return False
        end = min(addr + len(data), SIZE)
        old = int.from_bytes(self.data[addr:end], "little")
        new = old & int.from_bytes(data[: end - addr], "little")
        self.data[addr:end] = new.to_bytes(end - addr, "little")
        self._changed(addr, end)
        return True

    def erase(self, addr: int, size: int) -> bool:
        """Set the `size`-aligned block holding `addr` to FF. False, and nothing done, while protected."""
        start = (addr % SIZE) // size * size
        if self.protected(start):
            return False
        self.data[start : start + size] = b"\xff" * size
        for sector in range(start // SECTOR, (start + size) // SECTOR):
            self.erases[sector] = self.erases.get(sector, 0) + 1
        self._changed(start, start + size)
        return True

    def overwrite(self, start: int, data: bytes) -> None:
        """Damage from outside (a power failure, a test): `data` stands at `start`, whatever protects it."""
        self.data[start : start + len(data)] = data
        self._changed(start, start + len(data))

    def _changed(self, start: int, end: int) -> None:
        for listener in self.on_change:
            listener(start, end)
