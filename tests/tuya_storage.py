"""Tuya storages of our own making, for tests without real dumps: the format as bk7231tools reads it."""

from __future__ import annotations

import json
import struct
from typing import Any

from bk7231tools.analysis.kvstorage import KEY_MASTER, MAGIC_DATA_1, MAGIC_KEY, make_data_aes
from Crypto.Cipher import AES

SIZE, BLOCK, PAGE = 0x8000, 0x1000, 128
INNER_KEY = bytes(range(16))


def quoteless(parameters: dict[str, Any]) -> bytes:
    """Tuya's JSON without quotes."""
    return ("{" + ",".join(f"{name}:{value}" for name, value in parameters.items()) + "}").encode()


def storage(entries: dict[str, Any], empty_blocks: int = 0, elsewhere: dict[str, int] | None = None) -> bytes:
    """A storage with each entry in a block of its own; `empty_blocks` at its end were never used. `elsewhere`: the
    block that an entry's index says its value is in."""
    key = struct.pack("<II", MAGIC_KEY, sum(INNER_KEY)) + INNER_KEY
    blocks = [AES.new(KEY_MASTER, AES.MODE_ECB).encrypt(key.ljust(BLOCK, b"\xff"))]
    for number, (name, value) in enumerate(entries.items(), 1):
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        blocks.append(_data_block(number, name, raw, (elsewhere or {}).get(name, number)))
    while len(blocks) < SIZE // BLOCK - empty_blocks:
        blocks.append(_data_block(len(blocks), None, b"", 0))
    return b"".join(blocks).ljust(SIZE, b"\xff")


def _data_block(number: int, name: str | None, value: bytes, place: int) -> bytes:
    pages = [value[at : at + PAGE].ljust(PAGE, b"\0") for at in range(0, len(value), PAGE)]
    index = b""
    if name is not None:
        head = struct.pack("<IIHBHIB", sum(value), len(value), number, 1, 1, 1, len(name) + 1)
        index = (head + name.encode() + b"\0" + struct.pack("<HBB", place, 2, 1 + len(pages))).ljust(PAGE, b"\xff")
    bits = bytes((0b10 if name is not None else 0, 0, 0, 0))
    first = struct.pack("<HIB", number, number, len(bits)) + bits
    content = first.ljust(PAGE - 8, b"\xff") + (index + b"".join(pages)).ljust(BLOCK - PAGE, b"\xff")
    return make_data_aes(INNER_KEY).encrypt(struct.pack("<II", MAGIC_DATA_1, sum(content)) + content)
