"""Code as it is stored: a bootloader or an app found at some place of a file, decrypted and checked.

All of it is judged by content: the first eight words must be ARM instructions under a known key, every block of
the payload must agree with its CRC-16, and where an RBL header closes the partition its size and hash must too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rig.image import flashmap
from rig.image.beken import BLOCK, FRAMED, TUYA_KEY, ZERO_KEY, Key, KeyName, crypt, unframe
from rig.image.kinds.references import references
from rig.image.rbl import FRAMED_SIZE, Rbl, find_in_flash, fnv1a, torn_header

Flags = npt.NDArray[np.bool_]
Blocks = npt.NDArray[np.intp]  # numbers of blocks
_NONE: Blocks = np.array([], dtype=np.intp)

KEYS: dict[KeyName, Key] = {"tuya": TUYA_KEY, "zero": ZERO_KEY}
VECTOR_WORDS = 8
_VECTOR_WORDS_NEEDED = 6  # own bootloaders may keep a word of data among their vectors
_TAG = slice(flashmap.CHIP_TAG // FRAMED * BLOCK, flashmap.CHIP_TAG // FRAMED * BLOCK + 8)  # file 0x110 -> code 0x100
_SAMPLE = 16  # blocks that must be good where no known key tells that they are code
TAGS = {b"BK7231\0\0": "BK7231N", b"BK7238\0\0": "BK7238"}
# SDK code at 0x100 of every T image seen (8), where N images have their tag.
_T_CODE = bytes.fromhex("001081e0")
_T_NAMES = re.compile(rb"BK7231S_\d|OpenBK7231T_\d|oem_bk7231[st]_")


@dataclass(frozen=True)
class Code:
    """A code partition of a file. Offsets count in the file; `end` is one past the last payload byte there.

    `plain` is the decrypted payload (as it is stored, where the key is "unknown"), `logical` its first address, `rbl`
    the header behind it with its offset. `runs_out`: no header closes it and its good blocks stop only where the file
    does. `problems`: why it would not run. `bad_blocks`: offsets of payload blocks whose CRC-16 is wrong.
    """

    start: int
    end: int
    key: KeyName
    plain: bytes
    tag: str | None  # the chip its tag names, where it has one
    chip: str | None
    rbl: tuple[int, Rbl] | None
    runs_out: bool
    problems: tuple[str, ...]
    bad_blocks: tuple[int, ...] = ()
    logical: int = flashmap.APP_LOGICAL


def vectors_key(data: bytes, start: int, logical: int) -> KeyName | None:
    """The key under which `data` at `start` begins with ARM vectors, if it was stored for address `logical`."""
    stored = data[start : start + VECTOR_WORDS * 4]
    if len(stored) < VECTOR_WORDS * 4:
        return None
    for name, key in KEYS.items():
        plain = crypt(stored, logical, key)
        always = sum(plain[at + 3] >> 4 == 0xE for at in range(0, len(plain), 4))
        if plain[3] == 0xEA and always >= _VECTOR_WORDS_NEEDED:  # EA: an unconditional branch at the reset vector
            return name
    return None


def framed(data: bytes, start: int) -> bool:
    """Whether `data` at `start` is code by its CRC-16s alone: so is code under a key that nobody here knows."""
    stored, valid = unframe(data[start : start + _SAMPLE * FRAMED])
    return len(valid) == _SAMPLE and bool(valid.all()) and len(set(stored)) > _SAMPLE


def read_code(data: bytes, start: int, limit: int, logical: int, key: KeyName) -> Code:
    """Read the partition at `start` (ending at `limit`, or with the file), stored for address `logical`."""
    limit = min(limit, len(data))
    found = find_in_flash(data, start, limit)
    if found is None and limit == len(data):
        limit = torn_header(data, max(start, limit - FRAMED_SIZE)) or limit
    stored, valid = unframe(data[start:limit])
    if found is not None:
        blocks = -(-found[1].raw_size // BLOCK)
        bad, problems = _check_against(found[1], stored, valid, start, (found[0] - start) // FRAMED)
    else:
        blocks = _first(~valid, len(valid))
        bad, problems = _check_loose(data, valid, blocks, start)
    blocks = min(blocks, len(valid))
    end = start + blocks * FRAMED
    payload = stored[: blocks * BLOCK]
    plain = crypt(payload, logical, KEYS[key]) if key in KEYS else payload
    # A bootloader's tag is stored as it is, an app's is encrypted like the rest.
    tag = TAGS.get(plain[_TAG]) or TAGS.get(stored[_TAG])
    return Code(
        start=start,
        end=end,
        key=key,
        plain=plain,
        tag=tag,
        chip=tag or _chip_by_code(plain, key),
        rbl=found,
        runs_out=found is None and blocks > 0 and limit - end < FRAMED and limit == len(data),
        problems=problems,
        bad_blocks=tuple(start + int(block) * FRAMED for block in bad),
        logical=logical,
    )


def _check_against(header: Rbl, stored: bytes, valid: Flags, start: int, room: int) -> tuple[Blocks, tuple[str, ...]]:
    """The payload against the header that closes its partition: every block, then the hash over all of them."""
    blocks = -(-header.raw_size // BLOCK)
    if blocks > room:
        return _NONE, (f"its {header.name} header names {header.raw_size:,} bytes, more than fit before it",)
    bad = np.flatnonzero(~valid[:blocks])
    if len(bad):
        return bad, (_bad_blocks(bad, start),)
    if fnv1a(stored[: header.raw_size]) != header.hash:
        return _NONE, (f"its {header.name} does not agree with the hash in its header",)
    return _NONE, ()


def _check_loose(data: bytes, valid: Flags, blocks: int, start: int) -> tuple[Blocks, tuple[str, ...]]:
    """Without a header: a block that is neither good nor blank, or good ones behind a gap, are damage."""
    if blocks == len(valid):
        return _NONE, ()
    stop = start + blocks * FRAMED
    later = np.flatnonzero(valid[blocks:])
    if blocks == 0 or len(later) or data[stop : stop + FRAMED] != b"\xff" * FRAMED:
        last = blocks + int(later[-1]) if len(later) else blocks
        bad = blocks + np.flatnonzero(~valid[blocks : last + 1])
        return bad, (_bad_blocks(bad, start),)
    return _NONE, ()


def _bad_blocks(bad: Blocks, start: int) -> str:
    first = start + int(bad[0]) * FRAMED
    if len(bad) == 1:
        return f"the code block at 0x{first:X} fails its CRC-16"
    return f"{len(bad)} code blocks fail their CRC-16, the first at 0x{first:X}"


def _chip_by_code(plain: bytes, key: KeyName) -> str | None:
    if key == "tuya" and (plain[_TAG][:4] == _T_CODE or _T_NAMES.search(plain)):
        return "BK7231T"
    return None


def looks_cut_short(code: Code) -> bool:
    """Whether code that no header closes points past its own end, as only a part of a program does."""
    if code.rbl is not None or code.key not in KEYS:
        return False
    room = flashmap.APP - flashmap.BOOTLOADER if code.logical == 0 else flashmap.APP_END - flashmap.APP
    return references(code.plain, code.logical, code.logical + room // FRAMED * BLOCK).cut_short


def _first(flags: Flags, default: int) -> int:
    hits = np.flatnonzero(flags)
    return int(hits[0]) if len(hits) else default
