"""Which code a chip runs at every start, told without running it: from the reset vector up to the first fork.

What lies on that path is executed for certain, so a damage there stops every boot. Of all other code nobody can tell
without running it. Covers 32-bit ARM, in which bootloaders and apps begin.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from rig.image.beken import BLOCK

_LONGEST = 4096  # instructions
_ALWAYS = 0xE


@dataclass(frozen=True)
class StartPath:
    """`blocks`: indices of the 32-byte blocks that every start executes. `leaves`: it leads past the code's end."""

    blocks: frozenset[int]
    leaves: bool


def start_path(plain: bytes, logical: int, unreadable: frozenset[int] = frozenset()) -> StartPath:
    """The path through `plain`, decrypted code for address `logical`.

    `unreadable`: blocks whose content is not known; one that is reached is in the answer, and ends it.
    """
    reached: set[int] = set()
    at = 0
    for _ in range(_LONGEST):
        if not 0 <= at <= len(plain) - 4:
            return StartPath(frozenset(reached), leaves=at >= 0)
        reached.add(at // BLOCK)
        if at // BLOCK in unreadable:
            break
        following = _next(int(struct.unpack_from("<I", plain, at)[0]), at + logical)
        if following is None:
            break
        at = following - logical
    return StartPath(frozenset(reached), leaves=False)


def _next(word: int, address: int) -> int | None:
    """Where the instruction `word` at `address` goes on for certain; None where that depends, or cannot be told."""
    condition, branch = word >> 28, word >> 25 & 7 == 5
    if branch and condition == _ALWAYS:  # B or BL
        offset = word & 0xFFFFFF
        return address + 8 + ((offset ^ 0x800000) - 0x800000) * 4
    if branch or condition == 0xF or _writes_pc(word):
        return None
    return address + 4


def _writes_pc(word: int) -> bool:
    """Whether an instruction may set the program counter: an SWI, BX, a load of several or of R15, a sum into R15."""
    kind = word >> 25 & 7
    if kind == 7:
        return bool(word >> 24 & 1)  # SWI; coprocessor accesses are not jumps
    if kind == 4:
        return bool(word >> 20 & 1 and word >> 15 & 1)
    if word & 0x0FFFFFD0 == 0x012FFF10:  # BX, BLX
        return True
    return word >> 12 & 0xF == 0xF and not _is_compare_or_psr(word)


def _is_compare_or_psr(word: int) -> bool:
    """TST, TEQ, CMP, CMN without a destination, and MSR, have ones where others name R15."""
    return word >> 26 & 3 == 0 and word >> 23 & 3 == 2
