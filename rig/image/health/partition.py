"""A code partition in a flash, judged: how far its code goes, which blocks are damaged, what closes it.

Where `rig.image.code` reads a partition that is as it should be, this also reads one that is not: with its vectors,
its header or whole sectors lost. An erased block (34 times FF) behind the code is filler and no damage; images have
thousands. Inside the code it is a hole.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from rig.image import flashmap
from rig.image.beken import BLOCK, FRAMED, Key, KeyName, crypt, logical_to_flash, unframe
from rig.image.code import KEYS, Code, read_code, vectors_key
from rig.image.flashmap import Region
from rig.image.health.startpath import start_path
from rig.image.kinds.references import references
from rig.image.rbl import FRAMED_SIZE, MAGIC, find_in_flash

Flags = npt.NDArray[np.bool_]
_HEADER_BLOCKS = FRAMED_SIZE // FRAMED
_RAW_SIZE = slice(84 - 2 * BLOCK, 88 - 2 * BLOCK)  # of the payload, in the third block of a header
_CODE_TOPS = np.zeros(256, dtype=bool)  # top bytes that words of ARM code, and addresses, often have
_CODE_TOPS[[0x00, 0x0A, 0x1A, 0xE0, 0xE1, 0xE2, 0xE3, 0xE5, 0xE8, 0xEA, 0xEB]] = True
_CODE_LIKE = 0.2
_SAMPLE = 512  # blocks


@dataclass(frozen=True)
class Partition:
    """What is known of one. Offsets in bytes of the flash; `end` is one past the last byte of code.

    `bad`: runs of damaged blocks in the code, as (offset, length). `vital`: one of them, or code that is missing
    behind `end`, runs at every start.
    `header`: where it is; `header_damage`: what is wrong with it, None where nothing is or none is there.
    `hash_differs`: every block is good, and the whole is not what the header was made for. `cut`: code is missing
    behind `end`; `open_end`: nothing tells whether some is; `missing`: about how many bytes, as far as the rest still
    points there. `wrong_place`: it is an app that stands where a bootloader belongs. `filler`: the one byte that is
    all there is, where it holds no code.
    """

    region: Region
    end: int = 0
    key: KeyName = "unknown"
    chip: str | None = None
    tag: str | None = None
    bad: tuple[tuple[int, int], ...] = ()
    vital: bool = False
    header: int | None = None
    header_damage: str | None = None
    hash_differs: bool = False
    cut: bool = False
    open_end: bool = False
    missing: int = 0
    wrong_place: bool = False
    filler: int | None = None
    plain: bytes = field(default=b"", repr=False)

    @property
    def is_code(self) -> bool:
        return self.end > self.region.start

    @property
    def damaged_bytes(self) -> int:
        return sum(length for _, length in self.bad)


def read_partition(flash: bytes, region: Region, code: Code | None) -> Partition:
    """The partition of `flash` (from address 0, whatever there is of it). `code`: what is known of it already, with
    offsets in `flash`. Never raises."""
    stored = flash[region.start : region.end]
    if not stored.strip(b"\xff") or not stored.strip(b"\0"):
        return Partition(region, filler=stored[0] if stored else None)
    if code is not None and code.rbl is not None and not code.problems and not code.bad_blocks:
        return _as_read(region, code)
    return _looked_at(flash, region, stored, code)


def _as_read(region: Region, code: Code) -> Partition:
    at = code.rbl[0] if code.rbl else None
    return Partition(region, code.end, code.key, code.chip, code.tag, header=at, plain=code.plain)


def _looked_at(flash: bytes, region: Region, stored: bytes, code: Code | None) -> Partition:
    payload, valid = unframe(stored)
    blank = _blanks(stored, len(valid))
    if not valid.any():
        return Partition(region)
    header, size, damage = _header(flash, region, code)
    if header is None:
        header, size, damage = _damaged_header(stored, payload, valid, blank)
    blocks = _blocks(valid, blank, header, size)
    if not valid[:blocks].any():
        return Partition(region)
    key, tag, chip, logical = _reading(flash, region, payload, valid, code)
    plain = crypt(payload[: blocks * BLOCK], logical, KEYS[key]) if key in KEYS else payload[: blocks * BLOCK]
    bad = np.flatnonzero(~valid[:blocks])
    read = Partition(
        region=region, end=region.start + blocks * FRAMED, key=key, chip=chip, tag=tag,
        bad=tuple((region.start + at * FRAMED, count * FRAMED) for at, count in _runs(bad)),
        header=None if header is None else region.start + header, header_damage=damage,
        hash_differs=_hash_differs(code, blocks, header), wrong_place=logical != _logical(region), plain=plain,
    )  # fmt: skip
    return read if key not in KEYS else _with_start(read, bad, logical)


def _with_start(read: Partition, bad: npt.NDArray[np.intp], logical: int) -> Partition:
    """With what every start executes, and, without a header, whether the code's end is there."""
    path = start_path(read.plain, logical, frozenset(bad.tolist()))
    lost = bool(path.blocks & set(bad.tolist()))
    if read.header is not None:
        return replace(read, vital=lost)
    found = _ends_where_it_should(read, bad, logical)
    return replace(found, vital=lost or path.leaves, cut=found.cut or path.leaves)


def _ends_where_it_should(whole: Partition, bad: npt.NDArray[np.intp], logical: int) -> Partition:
    """Without a header: whether the code points past its own end, so that some is missing there, and how far."""
    known = np.frombuffer(whole.plain, dtype=np.uint8).reshape(-1, BLOCK).copy()
    known[bad] = 0  # what a damaged block would decrypt to points anywhere
    plain = known.tobytes()
    room = flashmap.APP - flashmap.BOOTLOADER if logical == 0 else flashmap.APP_END - flashmap.APP
    top = logical + room // FRAMED * BLOCK
    if not references(plain, logical, top).cut_short:
        return whole
    words = np.frombuffer(plain, dtype="<u4")
    past = np.sort(words[(words >= logical + len(plain)) & (words < top)])
    furthest = int(past[len(past) * 9 // 10]) if len(past) else logical + len(plain)
    return replace(whole, cut=True, missing=logical_to_flash(furthest - logical - len(plain)))


def _blanks(stored: bytes, count: int) -> Flags:
    blocks = np.frombuffer(stored, dtype=np.uint8, count=count * FRAMED).reshape(count, FRAMED)
    return np.asarray((blocks == 0xFF).all(axis=1))


def _header(flash: bytes, region: Region, code: Code | None) -> tuple[int | None, int | None, None]:
    """(offset in the partition, payload size, nothing wrong) of its header, if that is good."""
    found = code.rbl if code is not None else find_in_flash(flash, region.start, region.end)
    return (found[0] - region.start, found[1].raw_size, None) if found else (None, None, None)


def _damaged_header(
    stored: bytes, payload: bytes, valid: Flags, blank: Flags
) -> tuple[int | None, int | None, str | None]:
    """(offset, payload size where it can still be read, what is wrong) of a header whose checksums do not agree.

    It is known by its first bytes, or, with those lost, as the last three blocks that are not erased, apart from
    the rest, with two of them good.
    """
    at = stored.rfind(MAGIC)
    while at >= 0:
        held = stored[at : at + FRAMED_SIZE]
        if held[12:15].isalpha() and held[12:15].islower():  # the partition's name
            head, good = unframe(held)
            lost = [at + int(block) * FRAMED for block in np.flatnonzero(~good)]
            size = _size_in(head[2 * BLOCK :]) if len(good) == _HEADER_BLOCKS and good[2] else None
            return at, size, _header_fault(lost, len(good))
        at = stored.rfind(MAGIC, 0, at)
    used = np.flatnonzero(~blank)
    first = int(used[-1]) - _HEADER_BLOCKS + 1
    apart = first > 0 and blank[first - 1] and not blank[first : first + _HEADER_BLOCKS].any()
    if apart and valid[first : first + _HEADER_BLOCKS].sum() == _HEADER_BLOCKS - 1:
        lost = [int(first + at) * FRAMED for at in np.flatnonzero(~valid[first : first + _HEADER_BLOCKS])]
        size = _size_in(payload[(first + 2) * BLOCK :]) if valid[first + 2] else None
        return first * FRAMED, size, _header_fault(lost, _HEADER_BLOCKS)
    return None, None, None


def _size_in(block: bytes) -> int:
    return int.from_bytes(block[_RAW_SIZE], "little")


def _header_fault(lost: list[int], blocks: int) -> str:
    if blocks < _HEADER_BLOCKS:
        return "it is cut off"
    return "its CRC-16 is wrong" if lost else "its checksum is wrong"


def _blocks(valid: Flags, blank: Flags, header: int | None, size: int | None) -> int:
    """How many blocks are code: what the header says, else all up to the last one before it that is not erased."""
    room = len(valid) if header is None else header // FRAMED
    if size is not None and 0 < -(-size // BLOCK) <= room:
        return -(-size // BLOCK)
    used = np.flatnonzero(~blank[:room])
    return int(used[-1]) + 1 if len(used) else 0


def _reading(
    flash: bytes, region: Region, payload: bytes, valid: Flags, code: Code | None
) -> tuple[KeyName, str | None, str | None, int]:
    """(key, tag, chip, address it was stored for): of the readings tried, the first that gives code."""
    if code is not None:
        return code.key, code.tag, code.chip, code.logical
    places = tuple(dict.fromkeys((_logical(region), flashmap.APP_LOGICAL)))
    found = next(((key, place) for place in places if (key := vectors_key(flash, region.start, place))), None)
    found = found or _by_content(payload, valid, places)
    if found is None:
        return "unknown", None, None, places[0]
    read = read_code(flash, region.start, region.end, found[1], found[0])
    return found[0], read.tag, read.chip, found[1]


def code_place(payload: bytes, valid: Flags) -> int | None:
    """The address that code without readable vectors was stored for: 0 for a bootloader, 0x10000 for an app."""
    found = _by_content(payload, valid, (0, flashmap.APP_LOGICAL))
    return found[1] if found else None


def _logical(region: Region) -> int:
    return 0 if region.start == flashmap.BOOTLOADER else flashmap.APP_LOGICAL


def _by_content(payload: bytes, valid: Flags, places: tuple[int, ...]) -> tuple[KeyName, int] | None:
    """(key, address) with which the first good blocks look most like ARM code; None where with none they do.

    Measured on five images: 0.26 to 0.86 of the words with the right ones, under 0.05 with a wrong key, and less with
    a wrong address than with the right one.
    """
    tried = [(_likeness(payload, valid, place, key), name, place) for name, key in KEYS.items() for place in places]
    score, key, place = max(tried)
    return (key, place) if score > _CODE_LIKE else None


def _likeness(payload: bytes, valid: Flags, logical: int, key: Key) -> float:
    """The part of the words that have a top byte which words of ARM code have."""
    upto = int(np.flatnonzero(valid)[:_SAMPLE][-1]) + 1
    plain = crypt(payload[: upto * BLOCK], logical, key)
    words = np.frombuffer(plain, dtype="<u4").reshape(-1, BLOCK // 4)[valid[:upto]]
    return float(_CODE_TOPS[(words >> np.uint32(24)).ravel()].mean())


def _hash_differs(code: Code | None, blocks: int, header: int | None) -> bool:
    """Whether `rig.image.code` found all blocks good and yet a fault: then it is the hash, if the size fits."""
    if code is None or code.rbl is None or code.bad_blocks or not code.problems or header is None:
        return False
    return -(-code.rbl[1].raw_size // BLOCK) <= header // FRAMED


def _runs(numbers: npt.NDArray[np.intp]) -> list[tuple[int, int]]:
    """Numbers in order as runs: (first, how many)."""
    if not len(numbers):
        return []
    parts = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return [(int(part[0]), len(part)) for part in parts]
