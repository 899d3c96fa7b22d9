"""The code cipher and CRC-16 blocks: known answers, properties, and real images where there are some."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.image import beken

words = st.integers(0, 0xFFFFFFFF)
keys = st.tuples(words, words, words, words)
payloads = st.binary(max_size=300)
addresses = st.integers(0, 0x1FFFFF)

fixed = settings(derandomize=True, deadline=None, max_examples=60)

FIRMWARE = os.environ.get("RIG_FIRMWARE_DIR")
NO_FIRMWARE = "RIG_FIRMWARE_DIR names no folder of real images"


def real(name: str) -> bytes:
    path = Path(FIRMWARE or "/nonexistent") / name
    if not path.is_file():
        pytest.skip(f"{NO_FIRMWARE} with {name}")
    return path.read_bytes()


# Produced by bk7231tools 2.1.2 (BekenCodeCipher.encrypt of 32 zero bytes, first 16 shown). The keys cover an odd
# word of mode bits, all mixers on, one mixer off, and each choice of swaps, shifts and rotation.
KNOWN = [
    ((0x12345678, 0x9ABCDEF0, 0x0FEDCBA9, 0x87654320), 0x0, "1f27707f0e27617ebf07705fae07615e"),
    ((0x12345678, 0x9ABCDEF0, 0x0FEDCBA9, 0x87654320), 0x123460, "aac368dabbc379db0ae368fa1be379fb"),
    ((0x12345678, 0x9ABCDEF0, 0x0FEDCBA9, 0x87654320), 0xABCD0020, "7ce248066de25907dcc24826cdc25927"),
    ((0x89E3A1C5, 0x00FF77AA, 0x13579BDF, 0x5A00BA70), 0x0, "6b6bbccceb6bb4c4636aacdce36aa4d4"),
    ((0x89E3A1C5, 0x00FF77AA, 0x13579BDF, 0x5A00BA70), 0x123460, "20c34865a0c3406d28c25875a8c2507d"),
    ((0x89E3A1C5, 0x00FF77AA, 0x13579BDF, 0x5A00BA70), 0xABCD0020, "9b55693b1b5561339354792b13547123"),
    ((0xDEADBEEF, 0x0BADF00D, 0xCAFEBABE, 0x12345675), 0x0, "572cfecad72cfeca5f2dfecadf2dfeca"),
    ((0xDEADBEEF, 0x0BADF00D, 0xCAFEBABE, 0x12345675), 0xABCD0020, "0728feca8728feca0f29feca8f29feca"),
    (beken.TUYA_KEY, 0x10000, "2107b57e210fb57e2117b57e211fb57e"),
]


@pytest.mark.parametrize(("key", "addr", "expected"), KNOWN)
def test_keystream_known_answers(key: beken.Key, addr: int, expected: str) -> None:
    assert beken.crypt(bytes(16), addr, key).hex() == expected


def test_crc16_known_answers() -> None:
    assert beken.crc16(b"123456789") == 0xAEE7  # the catalogue's check value of CRC-16/CMS
    assert beken.crc16(b"\xff" * 32) == 0x000C
    assert beken.crc16(bytes(32)) == 0x8029


@fixed
@given(payloads, addresses, keys)
def test_crypt_is_its_own_inverse(data: bytes, addr: int, key: beken.Key) -> None:
    assert beken.crypt(beken.crypt(data, addr, key), addr, key) == data


@fixed
@given(st.binary(min_size=40, max_size=40), st.integers(0, 39), st.integers(0, 0x1FFFFF), keys)
def test_crypt_may_be_done_in_parts(data: bytes, cut: int, addr: int, key: beken.Key) -> None:
    parts = beken.crypt(data[:cut], addr, key) + beken.crypt(data[cut:], addr + cut, key)
    assert parts == beken.crypt(data, addr, key)


@fixed
@given(payloads, addresses, st.sampled_from([0x00000000, 0x00FFFFF0, 0xFF000000]))
def test_switched_off_key_changes_nothing(data: bytes, addr: int, mode: int) -> None:
    assert beken.crypt(data, addr, beken.ZERO_KEY) == data
    assert beken.crypt(data, addr, (0x11111111, 0x22222222, 0x33333333, mode)) == data


@fixed
@given(payloads)
def test_frame_then_unframe(data: bytes) -> None:
    raw = beken.frame(data)
    out, valid = beken.unframe(raw)
    assert len(raw) % beken.FRAMED == 0
    assert out[: len(data)] == data
    assert set(out[len(data) :]) <= {0xFF}
    assert valid.all()


@fixed
@given(st.binary(min_size=32, max_size=200), st.data())
def test_one_damaged_bit_spoils_its_block_only(data: bytes, draw: st.DataObject) -> None:
    raw = bytearray(beken.frame(data))
    bit = draw.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    _, valid = beken.unframe(raw)
    assert list(np.flatnonzero(~valid)) == [bit // 8 // beken.FRAMED]


@fixed
@given(st.binary(min_size=32, max_size=32))
def test_block_crc_is_big_endian_behind_it(block: bytes) -> None:
    assert beken.frame(block) == block + beken.crc16(block).to_bytes(2, "big")


@fixed
@given(st.integers(0, 0x1E1DFF))
def test_addresses_convert_both_ways(addr: int) -> None:
    assert beken.flash_to_logical(beken.logical_to_flash(addr)) == addr


def test_addresses_of_the_app() -> None:
    assert beken.logical_to_flash(0x10000) == 0x11000
    assert {beken.flash_to_logical(0x11000 + at) for at in (32, 33, 34)} == {0x10020}


def test_key_from_efuse() -> None:
    assert beken.key_from_efuse(bytes.fromhex("93b00f51dceacba37ea1935903ebadc7") + bytes(16)) == beken.TUYA_KEY
    with pytest.raises(ValueError, match="16 bytes, here are 15"):
        beken.key_from_efuse(bytes(15))


def test_whole_flash_is_fast() -> None:
    raw = np.random.default_rng(1).bytes(0x200000)
    beken.unframe(raw)  # first touch of memory is not what is timed
    best = min(_seconds(raw) for _ in range(3))
    assert best < 0.15


def _seconds(raw: bytes) -> float:
    start = time.process_time()
    beken.unframe(raw)
    return time.process_time() - start


@pytest.mark.parametrize("name", ["OpenBK7231N_QIO_1.18.300.bin", "tywb_4ch_rf_switch_CB3S_1.2.1.bin"])
def test_real_images_decrypt(name: str) -> None:
    code, valid = beken.unframe(real(name))
    plain = beken.crypt(code, 0, beken.TUYA_KEY)
    assert plain[:8].hex() == "480b00ea14f09fe5"
    assert plain[0x10000:0x10008].hex() == "0e0000ea14f09fe5"
    assert plain[0x10100:0x10108] == b"BK7231\0\0"
    assert code[0x100:0x108] == b"BK7231\0\0"  # the ROM's tag is stored plain
    assert valid[: 0xE000 // 32].all()
    assert valid[0x10000 // 32 : 0x60000 // 32].all()


def test_real_image_frames_back_to_itself() -> None:
    raw = real("OpenBK7231N_QIO_1.18.300.bin")
    code, valid = beken.unframe(raw)
    again = beken.frame(code)
    for block in np.flatnonzero(valid)[::97]:
        span = slice(block * beken.FRAMED, (block + 1) * beken.FRAMED)
        assert again[span] == raw[span]


def test_t_image_has_no_rom_tag() -> None:
    code, _ = beken.unframe(real("OpenBK7231T_QIO_1.18.300.bin"))
    assert beken.crypt(code[:4], 0, beken.TUYA_KEY).hex() == "620e00ea"
    assert code[0x100:0x108] != b"BK7231\0\0"
