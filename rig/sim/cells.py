"""Flash cells that cannot be relied on: weak bits, and what an erase or program leaves that was cut short.

The law (a guess in its numbers; in its kind what makers say of power lost during an erase or program: content
between old and new, and marginal cells that read right now and wrong later). An operation that got `done` of the
work it takes, 0 to 1:

- `reads_done` or more: it reads as finished, and some of the bits it moved are weak, the more the less it got;
- less: in proportion, its first pages are finished (and weak), the page at the frontier has each bit moved or not,
  the rest is untouched.

A weak bit left so reads right until the next power-on, but for a small chance at each read; at each power-on it is
drawn anew whether it reads wrong until the next. Erasing heals it, and so does programming it to 0.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from dataclasses import dataclass

PAGE = 0x100


@dataclass(frozen=True)
class CutShort:
    """The numbers of the law above. Probabilities; defaults as in constants.toml, table [flash]."""

    reads_done: float = 0.6
    frontier_bit: float = 0.5
    weak_share: float = 0.003
    wrong_at_power_on: float = 0.35
    wrong_at_read: float = 1e-5


@dataclass
class WeakBit:
    """A bit that reads wrong: with `at_read` at each read, with `at_power_on` from one power-on to the next."""

    mask: int
    at_read: float
    at_power_on: float = 0.0
    stuck: bool = False  # neither erase nor program heals it
    wrong: bool = False


class WeakCells:
    """The weak bits of a die. Addresses are its bytes; all chance comes from `rng`."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._bits: dict[int, list[WeakBit]] = {}
        self._order: list[int] = []

    def __len__(self) -> int:
        return sum(map(len, self._bits.values()))

    def add(self, address: int, mask: int, at_read: float, at_power_on: float = 0.0, *, stuck: bool = False) -> None:
        """The bits of `mask` at `address` become weak; ones that were are replaced, but for stuck ones."""
        self._drop(address, mask)
        mask &= ~sum(bit.mask for bit in self._bits.get(address, []))
        for bit in range(8):
            if mask >> bit & 1:
                if address not in self._bits:
                    insort(self._order, address)
                self._bits.setdefault(address, []).append(WeakBit(1 << bit, at_read, at_power_on, stuck))

    def heal(self, start: int, end: int) -> None:
        """All cells of `start` to `end` (exclusive) were erased."""
        for address in self._within(start, end):
            self._drop(address, 0xFF)

    def heal_programmed(self, start: int, data: bytes) -> None:
        """`data` was programmed at `start`: its 0 bits are driven anew."""
        for address in self._within(start, start + len(data)):
            self._drop(address, ~data[address - start] & 0xFF)

    def power_on(self) -> list[int]:
        """Draw for the time until the next power-on. Addresses whose bits may read otherwise now."""
        changed = []
        for address in self._order:
            for bit in self._bits[address]:
                bit.wrong = bit.at_power_on > 0 and self._rng.random() < bit.at_power_on
            changed.append(address)
        return changed

    def spoil(self, start: int, content: bytes) -> bytes:
        """`content` of the die at `start` as one read returns it."""
        addresses = self._within(start, start + len(content))
        if not addresses:
            return content
        read = bytearray(content)
        for address in addresses:
            for bit in self._bits[address]:
                if bit.wrong or self._rng.random() < bit.at_read:
                    read[address - start] ^= bit.mask
        return bytes(read)

    def _within(self, start: int, end: int) -> list[int]:
        if not self._order:
            return []
        return self._order[bisect_left(self._order, start) : bisect_left(self._order, end)]

    def _drop(self, address: int, mask: int) -> None:
        """Heal the bits of `mask`, but for stuck ones."""
        kept = [bit for bit in self._bits.get(address, []) if bit.stuck or not bit.mask & mask]
        if kept:
            self._bits[address] = kept
        elif self._bits.pop(address, None) is not None:
            self._order.remove(address)


def cut_short(old: bytes, new: bytes, done: float, law: CutShort, rng: random.Random) -> tuple[bytes, list[int]]:
    """What stands where `old` was becoming `new` when `done` of the work was: the content, and one bit mask of
    weak cells for each of its bytes (only cells that moved can be weak)."""
    if done <= 0.0:
        return old, [0] * len(old)
    finished = len(old)
    content = bytearray(new)
    if done < law.reads_done:
        finished = int(-(-len(old) // PAGE) * done / law.reads_done) * PAGE
        frontier = min(finished + PAGE, len(old))
        for at in range(finished, frontier):
            moved = sum(1 << bit for bit in range(8) if rng.random() < law.frontier_bit)
            content[at] = old[at] & ~moved | new[at] & moved
        content[frontier:] = old[frontier:]
    short = min(1.0, (1.0 - done) / (1.0 - law.reads_done)) if law.reads_done < 1.0 else 1.0
    weak = [0] * len(old)
    for _ in range(_binomial(rng, finished * 8, law.weak_share * short)):
        at, bit = rng.randrange(finished), 1 << rng.randrange(8)
        weak[at] |= (old[at] ^ new[at]) & bit
    return bytes(content), weak


def _binomial(rng: random.Random, n: int, p: float) -> int:
    """Successes in n trials; normal approximation where it is good, for n in the ten thousands."""
    mean = n * p
    if mean > 50:
        return max(0, min(n, round(rng.gauss(mean, (mean * (1 - p)) ** 0.5))))
    return sum(rng.random() < p for _ in range(n)) if n < 4096 else _poisson(rng, mean)


def _poisson(rng: random.Random, mean: float) -> int:
    count, at = 0, rng.expovariate(1.0)
    while at < mean:
        count += 1
        at += rng.expovariate(1.0)
    return count
