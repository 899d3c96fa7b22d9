"""How a BK7231 stores code in flash: a word-wise XOR cipher, then a CRC-16 behind every 32 bytes.

Code (bootloader at logical 0x0, app at logical 0x10000) goes through both; data areas (calibration, configuration,
storage) through neither. *Logical* addresses are what the CPU sees, *flash* addresses count the CRC bytes too.
Source: the bk7231tools package, MIT (algorithm as in its crypto.code and analysis.crc16); checked on real images.
"""

from __future__ import annotations

import struct
from typing import Literal

import numpy as np
import numpy.typing as npt

Key = tuple[int, int, int, int]
KeyName = Literal["tuya", "zero", "unknown"]  # unknown: code whose CRC-16s are right but which no known key decrypts

TUYA_KEY: Key = (0x510FB093, 0xA3CBEADC, 0x5993A17E, 0xC7ADEB03)  # every Tuya and OpenBeken image for N and T
ZERO_KEY: Key = (0, 0, 0, 0)  # not encrypted: BK7231M, U, 7238, 7252, some BL2028N

BLOCK = 32  # code bytes in a block
FRAMED = 34  # what a block takes in flash

_POLY = 0x8005
_INIT = 0xFFFF

Words = npt.NDArray[np.uint32]


def _shift_table() -> tuple[int, ...]:
    """CRC register change for each leading byte (one byte shifted out)."""
    table = []
    for value in range(256):
        crc = value << 8
        for _ in range(8):
            crc = (crc << 1) ^ (_POLY if crc & 0x8000 else 0)
        table.append(crc & 0xFFFF)
    return tuple(table)


_TABLE = _shift_table()


def _advance(crc: int, data: bytes) -> int:
    for byte in data:
        crc = (crc << 8 & 0xFF00) ^ _TABLE[crc >> 8 ^ byte]
    return crc


def crc16(block: bytes) -> int:
    """CRC-16 of a code block: polynomial 8005, start FFFF, not reflected, no final XOR ("CMS")."""
    return _advance(_INIT, block)


def _at_place() -> list[npt.NDArray[np.uint16]]:
    """What each value of a byte adds to a block's CRC, by the byte's place: from the last one on, one more zero byte
    behind it each time."""
    shift = np.array(_TABLE, dtype=np.uint16)
    rows = [shift]
    for _ in range(BLOCK - 1):
        rows.append((rows[-1] << 8) ^ shift[rows[-1] >> 8])
    return rows[::-1]


# A CRC is linear: that of a block is that of 32 zero bytes XOR what each byte adds at its place.
_OF_ZEROS = np.uint16(_advance(_INIT, bytes(BLOCK)))
_AT_PLACE = _at_place()


def _crc_of_blocks(blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """CRC-16 of each row of 32 bytes."""
    crc = np.full(len(blocks), _OF_ZEROS, dtype=np.uint16)
    columns = np.ascontiguousarray(blocks.T)
    for place in range(BLOCK):
        crc ^= _AT_PLACE[place][columns[place]]
    return crc


def frame(data: bytes) -> bytes:
    """`data`, padded with FF to 32, with each block's CRC-16 (big-endian) behind it: the bytes in flash."""
    padded = data + b"\xff" * (-len(data) % BLOCK)
    blocks = np.frombuffer(padded, dtype=np.uint8).reshape(-1, BLOCK)
    out = np.empty((len(blocks), FRAMED), dtype=np.uint8)
    out[:, :BLOCK] = blocks
    out[:, BLOCK:] = _crc_of_blocks(blocks).astype(">u2").view(np.uint8).reshape(-1, 2)
    return out.tobytes()


def unframe(raw: bytes | bytearray | memoryview) -> tuple[bytes, npt.NDArray[np.bool_]]:
    """The code bytes of `raw` without their CRCs, and for each 32-byte block whether its CRC was right.

    `raw` starts on a block. An incomplete block at its end (2 MiB leave 32 bytes) is dropped. Erased blocks are
    never valid, and every image has some: judge only the blocks that matter.
    """
    count = len(raw) // FRAMED
    blocks = np.frombuffer(raw, dtype=np.uint8, count=count * FRAMED).reshape(count, FRAMED)
    stored = blocks[:, BLOCK].astype(np.uint16) << np.uint16(8) | blocks[:, BLOCK + 1]
    return blocks[:, :BLOCK].tobytes(), _crc_of_blocks(blocks[:, :BLOCK]) == stored


def logical_to_flash(addr: int) -> int:
    """Flash address of the code byte the CPU sees at `addr`: 0x10000 -> 0x11000."""
    return addr // BLOCK * FRAMED + addr % BLOCK


def flash_to_logical(addr: int) -> int:
    """Logical address of the byte at flash `addr`; a CRC byte counts as the end of its block."""
    return addr // FRAMED * BLOCK + min(addr % FRAMED, BLOCK)


def key_from_efuse(efuse: bytes) -> Key:
    """The cipher key a chip uses: efuse bytes 0-15 as four little-endian words. ValueError if there are fewer."""
    if len(efuse) < 16:
        raise ValueError(f"the efuse key takes 16 bytes, here are {len(efuse)}")
    a, b, c, d = struct.unpack_from("<4I", efuse)
    return (a, b, c, d)


def keystream(start: int, words: int, key: Key) -> Words:
    """The XOR words for logical addresses `start`, `start` + 4, … (`start` a multiple of 4).

    Three mixers of the address, each keyed and each switched off by a bit of the last key word, are added and
    XORed; the third key word is XORed on top. A last word with top byte 00 or FF switches everything off.
    """
    mode = key[3]
    off = 0xF if mode >> 24 in (0x00, 0xFF) else mode & 0xF
    addr = np.uint32(start) + np.arange(words, dtype=np.uint32) * np.uint32(4)
    out = np.zeros(words, dtype=np.uint32)
    if not off & 1:
        out = _mix15(addr, key[1] >> 16, mode >> 5 & 3) << np.uint32(16)
    if not off & 2:
        seed = key[1] & 0xFF | (key[1] >> 8 & 0xFF) << 9 | (mode >> 4 & 1) << 8
        out = out + _mix17(addr >> np.uint32(mode >> 8 & 3), seed)  # an addition, with its carry, not an XOR
    if not off & 4:
        out = out ^ _mix32(_rotate_right(addr, 8 * (mode >> 11 & 3)), key[0])
    if not off & 8:
        out = out ^ np.uint32(key[2])
    return out


def crypt(data: bytes, addr: int, key: Key) -> bytes:
    """`data` at logical address `addr`, encrypted or decrypted: the same operation. A zero key changes nothing."""
    if not data:
        return b""
    lead = addr % 4
    words = (lead + len(data) + 3) // 4
    stream = keystream(addr - lead, words, key).astype("<u4").view(np.uint8)[lead : lead + len(data)]
    return (np.frombuffer(data, dtype=np.uint8) ^ stream).tobytes()


def _rotate_right(words: Words, bits: int) -> Words:
    if not bits:
        return words
    return words >> np.uint32(bits) | words << np.uint32(32 - bits)


def _swap_bytes(half: Words) -> Words:
    return half >> np.uint32(8) | (half & np.uint32(0xFF)) << np.uint32(8)


def _mix15(addr: Words, seed: int, swaps: int) -> Words:
    high, low = addr >> np.uint32(16), addr & np.uint32(0xFFFF)
    if swaps & 2:
        high = _swap_bytes(high)
    if swaps & 1:
        low = _swap_bytes(low)
    x = high ^ low ^ np.uint32(seed)
    rotated = (x >> np.uint32(7) | x << np.uint32(9)) & np.uint32(0xFFFF)
    return rotated ^ (x >> np.uint32(5) & np.uint32(0xF)) * np.uint32(0x1111) & np.uint32(0x6371)


def _mix17(addr: Words, seed: int) -> Words:
    x = (addr & np.uint32(0x1FFFF)) ^ np.uint32(seed)
    rotated: Words = (x & np.uint32(0x3FF)) << np.uint32(7) | x >> np.uint32(10)
    taps = _bit(x, 13) | _bit(x, 9) << np.uint32(1) | _bit(x, 5) << np.uint32(2) | _bit(x, 1) << np.uint32(3)
    spread: Words = _bit(x, 4) << np.uint32(16) | taps * np.uint32(0x1111)
    return rotated ^ spread & np.uint32(0x13659)


def _bit(x: Words, index: int) -> Words:
    return x >> np.uint32(index) & np.uint32(1)


def _mix32(addr: Words, seed: int) -> Words:
    x = addr ^ np.uint32(seed)
    taps = (x >> np.uint32(2) & np.uint32(0xF)) * np.uint32(0x11111111)
    return _rotate_right(x, 15) ^ taps & np.uint32(0xE519A4F1)
