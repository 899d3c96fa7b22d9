"""Where code points: addresses that a program branches to, loads from, or holds as constants.

A whole program points into itself. A part of one also points past its own end; that is how a file that was cut short
is known where no header says how long it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.int64]
_HANDLERS = slice(8, 15)  # words that the vectors load their handlers' addresses from (ldr pc, [pc, #0x14])


@dataclass(frozen=True)
class References:
    """How many references end inside the code (`*_in`) and past its end (`*_past`): ARM branches and loads (`arm`),
    Thumb calls (`thumb`), words that look like addresses (`words`), and the vectors' handlers (`handlers_past`)."""

    arm_past: int
    thumb_in: int
    thumb_past: int
    words_in: int
    words_past: int
    handlers_past: int

    @property
    def cut_short(self) -> bool:
        """Whether the code is but the first part of a program.

        Measured on five whole apps and two bootloaders: no ARM branch or load leads past the end, at most 1 of 20,000
        Thumb calls does, and of the words less than 1 %. Of the same cut after any block, all do that lose code; one
        that loses only constants from its end (the last 0.4 to 2 %) may not.
        """
        return (
            self.handlers_past > 0
            or self.arm_past > 1
            or self.thumb_past > max(3, self.thumb_in // 100)
            or self.words_past > max(20, self.words_in // 40)
        )


def references(plain: bytes, base: int, top: int) -> References:
    """The references in decrypted code that begins at address `base`, of a program that might go on up to `top`."""
    end = base + len(plain)
    words = np.frombuffer(plain[: len(plain) // 4 * 4], dtype="<u4").astype(np.int64)
    arm = np.concatenate((_branches(words, base), _loads(words, base)))
    calls = _thumb_calls(np.frombuffer(plain[: len(plain) // 2 * 2], dtype="<u2").astype(np.int64), base)
    # Small numbers are not addresses: words count only where the program does not lie at 0.
    held = words if base else words[:0]
    return References(
        _past(arm, end, top), _inside(calls, base, end), _past(calls, end, top),
        _inside(held, base, end), _past(held, end, top), _past(words[_HANDLERS], end, top),
    )  # fmt: skip


def _inside(targets: Words, base: int, end: int) -> int:
    return int(((targets >= base) & (targets < end)).sum())


def _past(targets: Words, end: int, top: int) -> int:
    return int(((targets >= end) & (targets < top)).sum())


def _branches(words: Words, base: int) -> Words:
    """Targets of unconditional B and BL."""
    at = np.flatnonzero((words >> 24 == 0xEA) | (words >> 24 == 0xEB))
    distance = ((words[at] & 0xFFFFFF) ^ 0x800000) - 0x800000
    return base + at * 4 + 8 + distance * 4


def _loads(words: Words, base: int) -> Words:
    """Places of constants: ldr rX, [pc, #n]."""
    at = np.flatnonzero(words >> 16 == 0xE59F)
    return base + at * 4 + 8 + (words[at] & 0xFFF)


def _thumb_calls(halves: Words, base: int) -> Words:
    """Targets of the two halves of a Thumb BL or BLX."""
    first, second = halves[:-1], halves[1:]
    at = np.flatnonzero((first >> 11 == 0x1E) & ((second >> 11 == 0x1F) | (second >> 11 == 0x1D)))
    distance = (((first[at] & 0x7FF) << 12 | (second[at] & 0x7FF) << 1) ^ 0x400000) - 0x400000
    return base + at * 2 + 4 + distance
