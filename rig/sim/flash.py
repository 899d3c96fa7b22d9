"""A 2 MiB serial NOR flash die: programming only clears bits, erasing sets them, the status register protects.

Behaviour every part of this class shares (standard JEDEC SPI NOR); the part modelled is the TH25Q16HB of a
CB3S (id EB 60 15). Addresses are physical bytes. Times are not kept here: who drives the die adds them, and says how
much of an operation was done. Cells can be weak: `data` is what the die was made to hold, `read` what it gives back.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from rig.sim.cells import CutShort, WeakCells, cut_short

SIZE = 0x200000
SECTOR = 0x1000
PAGE = 0x100

_BP_MASK = 0x007C  # BP0-BP4, status register 1 bits 6:2
_CMP = 0x4000  # complement protect, status register 2 bit 6


@dataclass(frozen=True)
class Change:
    """An erase or program: what stood at `start`, and what does."""

    start: int
    old: bytes
    new: bytes


class NorFlash:
    """The die: `data` is its content (a bytearray of `SIZE` bytes), `sr` its 16-bit status register.

    `on_change(start, end)` is called after every erase or program that was carried out, so that whoever caches
    decoded content (the executing model) can drop it. `law` says what an operation leaves that was cut short; all
    that is random comes from `seed`.
    """

    def __init__(
        self,
        data: bytes | None = None,
        *,
        jedec_id: bytes = b"\xeb\x60\x15",
        sr: int = 0,
        law: CutShort | None = None,
        seed: int = 0,
    ) -> None:
        self.data = bytearray(b"\xff" * SIZE)
        if data is not None:
            if len(data) > SIZE:
                raise ValueError(f"flash holds {SIZE} bytes, not {len(data)}")
            self.data[: len(data)] = data
        self.jedec_id = jedec_id
        self.sr = sr
        self.sr_locked = False  # SRP set and WP low: status-register writes are ignored
        self.on_change: list[Callable[[int, int], None]] = []
        self.erases: dict[int, int] = {}  # sector number -> times erased (wear)
        self.watcher: Callable[[Change], object] | None = None  # is told of what was carried out in full
        self._law = law or CutShort()
        self._random = random.Random(f"flash {seed}")
        self._weak = WeakCells(self._random)

    def protected(self, addr: int) -> bool:
        """Whether the status register forbids changing `addr`.

        Only the two states seen in the field are told apart: no BP bit set = nothing protected, any BP bit
        set = everything is (CMP inverts that). Partial ranges differ by maker and are a guess left out.
        """
        some = bool(self.sr & _BP_MASK)
        return some != bool(self.sr & _CMP)

    def write_status(self, value: int) -> None:
        """The chip writes its status register; nothing happens while that is locked."""
        if not self.sr_locked:
            self.sr = value

    def read(self, addr: int, length: int) -> bytes:
        """`length` bytes from `addr`, wrapping at the end of the die. Weak bits are drawn at each read."""
        addr %= SIZE
        if addr + length <= SIZE:
            return self._weak.spoil(addr, bytes(self.data[addr : addr + length]))
        return self._weak.spoil(addr, bytes(self.data[addr:])) + self.read(0, length - (SIZE - addr))

    def program(self, addr: int, data: bytes, *, done: float = 1.0) -> bool:
        """AND `data` into the die (1 -> 0 only). False, and nothing done, while protected.

        `done` below 1: so much of the operation was carried out (see rig.sim.cells).
        """
        addr %= SIZE
        if self.protected(addr):
            return False
        end = min(addr + len(data), SIZE)
        old = bytes(self.data[addr:end])
        new = int.from_bytes(old, "little") & int.from_bytes(data[: end - addr], "little")
        self._move(addr, old, new.to_bytes(end - addr, "little"), done)
        if done >= 1.0:
            self._weak.heal_programmed(addr, data[: end - addr])
        self._changed(addr, end)
        return True

    def erase(self, addr: int, size: int, *, done: float = 1.0) -> bool:
        """Set the `size`-aligned block holding `addr` to FF. False, and nothing done, while protected.

        `done` as in `program`.
        """
        start = (addr % SIZE) // size * size
        if self.protected(start):
            return False
        if done >= 1.0:
            self._weak.heal(start, start + size)
        self._move(start, bytes(self.data[start : start + size]), b"\xff" * size, done)
        for sector in range(start // SECTOR, (start + size) // SECTOR):
            self.erases[sector] = self.erases.get(sector, 0) + 1
        self._changed(start, start + size)
        return True

    def _move(self, start: int, old: bytes, new: bytes, done: float) -> None:
        if done >= 1.0:
            self.data[start : start + len(new)] = new
            if self.watcher is not None:
                self.watcher(Change(start, old, new))
            return
        content, weak = cut_short(old, new, done, self._law, self._random)
        self.data[start : start + len(content)] = content
        for at, mask in enumerate(weak):
            if mask:
                self._weak.add(start + at, mask, self._law.wrong_at_read, self._law.wrong_at_power_on)

    def fall_short(self, change: Change, done: float) -> None:
        """An operation taken to be carried out in full was not: take back what has not been changed since."""
        end = change.start + len(change.old)
        since = bytes(self.data[change.start : end])
        self._move(change.start, change.old, change.new, done)
        for at, (now, new) in enumerate(zip(since, change.new, strict=True)):
            if now != new:
                self.data[change.start + at] = now
        self._changed(change.start, end)

    def weaken(
        self, address: int, mask: int, probability: float, *, at_power_on: float = 0.0, stuck: bool = False
    ) -> None:
        """The bits of `mask` in the byte at `address` read wrong with `probability`, drawn at each read (1: always).

        `at_power_on`: besides, with this probability they read wrong from one power-on to the next. Erasing heals
        them, and programming those that are programmed to 0, unless they are `stuck`. Raises ValueError.
        """
        if not 0 <= address < SIZE:
            raise ValueError(f"address {address:#x} is outside the flash of {SIZE:#x} bytes")
        if not 1 <= mask <= 0xFF:
            raise ValueError(f"a mask of bits in a byte is 1 to 255, not {mask}")
        if not (0.0 <= probability <= 1.0 and 0.0 <= at_power_on <= 1.0):
            raise ValueError(f"a probability is 0 to 1, not {probability:g} or {at_power_on:g}")
        self._weak.add(address, mask, probability, at_power_on, stuck=stuck)
        self._changed(address, address + 1)

    @property
    def weak_bits(self) -> int:
        """How many cells are weak."""
        return len(self._weak)

    def power_on(self) -> None:
        """Power came: weak bits are drawn for the time until it comes again."""
        for address in self._weak.power_on():
            self._changed(address, address + 1)

    def overwrite(self, start: int, data: bytes) -> None:
        """Damage from outside (a power failure, a test): `data` stands at `start`, whatever protects it."""
        self.data[start : start + len(data)] = data
        self._changed(start, start + len(data))

    def _changed(self, start: int, end: int) -> None:
        for listener in self.on_change:
            listener(start, end)
