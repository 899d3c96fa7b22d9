"""What is damaged in a file, by name and place, and what a board would do with it.

Whether a board agrees is asked in test_boot_truth.py, of the executing chip.
"""

from __future__ import annotations

import random
import struct
import time
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rig.image import beken
from rig.image.flashmap import FLASH_SIZE, REGIONS
from rig.image.health.diagnosis import DAMAGES, Damage, Diagnosis, Forecast, State, diagnose
from rig.image.health.startpath import start_path
from rig.image.identify import identify
from rig.image.identity import Identity, Kind
from rig.image.kinds.uf2 import Uf2, Uf2Piece
from tests import obk_config
from tests.image_files import FIRMWARE_DIR, code_at, demo, dump, patched, real_images, zero_key_demo

APP, APP_END, CALIBRATION, CONFIG, STORAGE = 0x11000, 0x12A000, 0x1D0000, 0x1D1000, 0x1EE000
BOOT_HEADER, APP_HEADER = 0x10F9A, 0x129F0A
FRAMED = beken.FRAMED
OBK, OBK_T = "OpenBK7231N_QIO_1.18.300.bin", "OpenBK7231T_QIO_1.18.300.bin"
PRE_CONFIGURED = "OpenBK7231N_QIO_1.18.300_obkStartupCommand_setPinRolePWM3700.bin"
TUYA, VIRGIN, TUYA_T = (
    "tywb_4ch_rf_switch_CB3S_1.2.1.bin", "smartled_8044_1gang_CBU_virgin.bin", "ds101jl_4gang_switch_WB3S_1.1.5.bin",
)  # fmt: skip


@cache
def real(name: str) -> bytes:
    return (Path(FIRMWARE_DIR or "") / name).read_bytes()


def names(found: Diagnosis) -> list[str]:
    return [item.name for item in found.damages]


def erased(data: bytes, start: int, end: int) -> bytes:
    return patched(data, start, b"\xff" * (min(end, len(data)) - start))


def states(found: Diagnosis) -> dict[str, State]:
    return {item.region.name: item.state for item in found.regions}


# --- whole files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [demo(), dump(), demo()[APP:]], ids=["QIO", "dump", "app alone"])
def test_whole_images_of_ours_boot_and_have_no_damage(data: bytes) -> None:
    found = diagnose(data)
    assert found.damages == ()
    assert (found.forecast, found.bootable, found.guesses) == (Forecast.BOOTS, True, ())
    assert found.possible == (Forecast.BOOTS,)
    assert found.state("app").state is State.GOOD


@real_images
@pytest.mark.parametrize("name", [OBK, TUYA, VIRGIN])
def test_whole_real_images_boot_and_have_no_damage(name: str) -> None:
    """Each has thousands of erased blocks that fail their CRC-16: filler, no damage."""
    _, valid = beken.unframe(real(name)[:APP_END])
    assert (~valid).sum() > 3500
    found = diagnose(real(name))
    assert found.damages == ()
    assert (found.forecast, found.bootable, found.guesses) == (Forecast.BOOTS, True, ())


@real_images
@pytest.mark.parametrize("name", [OBK_T, TUYA_T])
def test_a_t_image_is_sound_on_a_t_and_silent_on_an_n(name: str) -> None:
    on_t, on_n = diagnose(real(name), chip="BK7231T"), diagnose(real(name))
    assert on_t.damages == ()
    assert on_t.bootable
    assert names(on_n) == ["bootloader-wrong-chip", "no-tag", "app-wrong-chip"]
    assert on_n.forecast is Forecast.SILENT
    assert {item.region for item in on_n.regions} == set(REGIONS["BK7231T"])
    assert states(on_n)["bootloader"] is State.FOREIGN


@real_images
def test_what_a_dump_holds() -> None:
    found = diagnose(real(TUYA))
    assert states(found) == {
        "bootloader": State.GOOD, "app": State.GOOD, "ota": State.ERASED, "calibration": State.GOOD,
        "net": State.ERASED, "vars": State.DATA, "easyflash": State.ERASED, "storage": State.GOOD,
    }  # fmt: skip
    assert found.calibration is not None
    assert found.calibration.mac == "c8:47:8c:01:59:f7"
    assert found.storage is not None
    assert found.storage.offset == STORAGE
    assert "user_param_key" in found.storage.keys
    assert "Tuya's BK7231N 1.0.1" in found.state("bootloader").what
    assert found.state("calibration").used == sum(byte != 0xFF for byte in real(TUYA)[CALIBRATION:CONFIG])


@real_images
def test_an_image_over_the_calibration_says_what_it_wipes() -> None:
    found = diagnose(real(PRE_CONFIGURED))
    assert names(found) == ["calibration-wiped"]
    assert found.bootable
    assert "makes one up" in found.on_a_board
    assert found.config is not None
    assert states(found)["net"] is State.GOOD
    assert states(found)["storage"] is State.ABSENT


def test_regions_cover_the_whole_flash() -> None:
    for data in (demo(), dump(), b"", b"\xff" * FLASH_SIZE):
        regions = [item.region for item in diagnose(data).regions]
        assert regions[0].start == 0
        assert regions[-1].end == FLASH_SIZE
        assert all(first.end == second.start for first, second in pairwise(regions))


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 32, b"hello, world\n" * 99, b"\x7fELF" + bytes(9999), b"PK\x03\x04" * 99]
)
def test_what_is_no_flash(data: bytes) -> None:
    found = diagnose(data)
    assert (found.forecast, found.bootable, found.damages) == (Forecast.NOT_A_FLASH, None, ())
    assert found.identity.what in found.on_a_board
    assert set(states(found).values()) == {State.ABSENT}


def test_parts_of_a_flash_are_judged_where_they_belong() -> None:
    sector = dump()[CALIBRATION:CONFIG]
    found = diagnose(sector)
    assert found.identity.kind is Kind.CALIBRATION
    assert found.calibration is not None
    assert (found.calibration.mac, states(found)["calibration"]) == ("02:52:49:00:00:07", State.GOOD)
    config = diagnose(obk_config.config(ssid="x"))
    assert config.config is not None
    assert states(config)["net"] is State.GOOD
    assert found.forecast is config.forecast is Forecast.NOT_A_FLASH


def test_a_uf2_is_judged_where_its_blocks_say() -> None:
    far = Uf2Piece(0xFFFFFF00, b"x", 0)
    for pieces, forecast in (((Uf2Piece(APP, demo()[APP:], 0), far), Forecast.BOOTS), ((far,), Forecast.NOT_A_FLASH)):
        uf2 = Uf2(0x7B3EF230, "BK7231N", (), pieces, {}, ())
        found = diagnose(b"UF2", Identity(Kind.UF2, "a UF2", "BK7231N", uf2=uf2))
        assert found.forecast is forecast
        assert found.damages == ()
        assert states(found)["bootloader"] is State.ABSENT


def test_a_bootloader_alone_leaves_the_rest_to_the_board() -> None:
    found = diagnose(demo()[:APP])
    assert found.damages == ()
    assert (found.forecast, found.possible) == (Forecast.UNKNOWN, (Forecast.BOOTS, Forecast.BOOTLOADER_ONLY))


# --- one bit, any block -------------------------------------------------------------------------------------------


def code_blocks(data: bytes, start: int = 0) -> list[int]:
    """Flash offsets of the blocks that carry code or close it, in a file for flash offset `start`."""
    found = []
    for first, end in ((0, APP), (APP, APP_END)):
        if first >= start:
            _, valid = beken.unframe(data[first - start : end - start])
            found += [first + int(block) * FRAMED for block in np.flatnonzero(valid)]
    return found


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return patched(data, at + bit // 8, bytes((data[at + bit // 8] ^ 1 << bit % 8,)))


def assert_flip_is_named(data: bytes, block: int, bit: int, start: int = 0) -> None:
    found = diagnose(flipped(data, block - start, bit))
    part, header = ("bootloader", BOOT_HEADER) if block < APP else ("app", APP_HEADER)
    closes = header <= block < header + 3 * FRAMED
    expected = ("rbl-header", header) if closes else ("block-crc", block)
    hurt = [(item.name, item.offset) for item in found.damages if item.name != "no-tag"]
    assert hurt == [expected], (hex(block), bit)
    tag = block == 0x110 and bit < 64
    assert ("no-tag" in names(found)) is tag
    assert states(found)[part] is State.DAMAGED
    if closes:
        assert found.bootable  # the bootloader does not look at it
    else:
        assert found.damages[-1].length == FRAMED or tag
        assert Forecast.BOOTS not in (found.forecast,)
        assert found.guesses


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.sampled_from(code_blocks(demo())), st.integers(0, FRAMED * 8 - 1))
@example(0x0, 24)
@example(0x110, 0)
@example(0x110, 63)
@example(0x110, 64)
@example(APP, 31)
@example(BOOT_HEADER, 0)
@example(APP_HEADER, 0)
@example(APP_HEADER + FRAMED, 99)
@example(APP_HEADER + 2 * FRAMED, FRAMED * 8 - 1)
def test_one_flipped_bit_in_any_block_of_code_is_named(block: int, bit: int) -> None:
    assert_flip_is_named(demo(), block, bit)


def test_one_flipped_bit_in_an_app_alone_is_named() -> None:
    draw = random.Random("app")
    for block in code_blocks(demo()[APP:], APP)[::6]:
        assert_flip_is_named(demo()[APP:], block, draw.randrange(FRAMED * 8), APP)
    assert_flip_is_named(demo()[APP:], APP, 24, APP)  # no branch any more at the reset vector


def test_code_whose_beginning_is_lost_is_still_known_by_the_rest() -> None:
    for data, place in ((demo()[APP:], APP), (demo()[:APP], 0), (zero_key_demo()[APP:], APP)):
        found = diagnose(erased(data, 0, FRAMED), key="zero" if data[0] == 0x0E else "tuya")
        assert [(item.name, item.offset) for item in found.damages] == [("block-crc", place)]


@real_images
def test_damaged_blocks_point_nowhere() -> None:
    """What they decrypt to, here branches past the end, is no reason to call the code cut off as well."""
    data = bytearray(erased(real(OBK), APP_HEADER, APP_HEADER + 3 * FRAMED))
    for block in range(0x80002 // FRAMED * FRAMED, 0x81000, FRAMED):
        branches = struct.pack("<8I", *[0xEB020000] * 8)  # 0x80008 further on; the code ends at 0xDA3A0
        stored = beken.crypt(branches, block // FRAMED * beken.BLOCK, beken.TUYA_KEY)
        data[block : block + FRAMED] = beken.frame(stored)[:-2] + b"\0\0"
    assert set(names(diagnose(bytes(data)))) == {"block-crc"}


@real_images
@pytest.mark.parametrize("name", [OBK, TUYA])
def test_one_flipped_bit_in_a_real_image_is_named(name: str) -> None:
    draw = random.Random(name)
    blocks = code_blocks(real(name))
    for block in {blocks[0], 0x110, APP, APP_HEADER, *draw.sample(blocks, 5)}:
        assert_flip_is_named(real(name), block, draw.randrange(64 if block == 0x110 else 0, FRAMED * 8))


@pytest.mark.soak
@real_images
@pytest.mark.parametrize("name", [OBK, TUYA, VIRGIN])
def test_every_thousandth_bit_of_real_code_is_named(name: str) -> None:
    draw = random.Random(name)
    for block in code_blocks(real(name))[::20]:
        assert_flip_is_named(real(name), block, draw.randrange(64, FRAMED * 8))


@real_images
def test_filler_is_no_code() -> None:
    """A byte that is not erased, behind the code and before the header, is in nobody's way."""
    found = diagnose(patched(real(OBK), 0x100000, b"\0"))
    assert found.damages == ()
    assert found.bootable


def test_a_hole_in_the_code_is_damage_though_it_is_as_blank_as_filler() -> None:
    block = code_blocks(demo())[60]
    assert block > APP
    assert names(diagnose(erased(demo(), block, block + FRAMED))) == ["block-crc"]


def test_code_that_was_changed_with_its_crc_made_right_differs_from_its_hash() -> None:
    block = code_blocks(demo())[60]
    changed = bytearray(demo()[block : block + beken.BLOCK])
    changed[5] ^= 1
    found = diagnose(patched(demo(), block, beken.frame(bytes(changed))))
    assert names(found) == ["rbl-hash"]
    assert found.forecast is Forecast.UNKNOWN
    assert Forecast.BOOTS in found.possible


def test_many_damaged_places_make_a_short_list() -> None:
    data = bytearray(dump())
    for block in code_blocks(dump())[::2]:
        data[block] ^= 1
    found = diagnose(bytes(data))
    assert 20 < len(found.damages) < 100
    assert any("more places" in item.sentence for item in found.damages)


# --- cut short ----------------------------------------------------------------------------------------------------


def assert_cut_is_named(data: bytes, end: int, start: int = 0) -> None:
    found = diagnose(data[:end])
    assert "truncated" in names(found), hex(start + end)
    cut = next(item for item in found.damages if item.name == "truncated")
    assert start <= cut.offset <= start + end
    assert found.guesses or found.bootable or found.forecast is Forecast.UNKNOWN


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.integers(1, (len(demo()) - 1) // FRAMED))
@example(1)
@example(2)
@example(BOOT_HEADER // FRAMED)
@example(BOOT_HEADER // FRAMED + 2)
@example(APP // FRAMED + 1)
@example(APP_HEADER // FRAMED)
@example((len(demo()) - 1) // FRAMED)
def test_a_file_cut_at_any_block_is_named(blocks: int) -> None:
    if blocks * FRAMED == APP:  # exactly a bootloader, whole
        assert diagnose(demo()[:APP]).identity.kind is Kind.BOOTLOADER
    else:
        assert_cut_is_named(demo(), blocks * FRAMED)


@real_images
@pytest.mark.parametrize(("name", "start"), [(OBK, 0), (OBK, APP), (TUYA, 0)])
def test_a_real_file_cut_at_any_block_is_named(name: str, start: int) -> None:
    draw = random.Random(f"{name} {start}")
    data = real(name)[start:APP_END]
    ends = {FRAMED, *(draw.randrange(1, APP_HEADER // FRAMED) * FRAMED for _ in range(6))}
    for end in ends:
        if end < len(data):
            assert_cut_is_named(data, end, start)


def test_an_app_cut_before_what_it_jumps_to_first_is_named() -> None:
    for blocks in (1, 2):
        assert_cut_is_named(demo()[APP:], blocks * FRAMED, APP)
        assert diagnose(demo()[APP : APP + blocks * FRAMED]).forecast is Forecast.BOOTLOADER_ONLY


def test_a_dump_cut_behind_its_calibration_is_named() -> None:
    found = diagnose(dump()[:0x1E8000])
    assert names(found) == ["truncated"]
    assert found.damages[0].offset == 0x1E8000
    assert states(found)["storage"] is State.ABSENT


# --- damage in flash ----------------------------------------------------------------------------------------------


BLANK_MAC = bytes.fromhex("c8478c000000")
CONFIGURED = patched(dump(), CONFIG, obk_config.config(ssid="x"))
IN_FLASH = {
    "bootloader erased": (erased(dump(), 0, APP), ["bootloader-erased"], "bootloader", State.ERASED),
    "bootloader zero": (bytes(APP) + dump()[APP:], ["bootloader-zero"], "bootloader", State.ZERO),
    "noise for a bootloader": (
        patched(dump(), 0, b"\x5a" * APP), ["bootloader-unknown"], "bootloader", State.FOREIGN
    ),
    "tag gone": (patched(dump(), 0x110, bytes(8)), ["block-crc", "no-tag"], "bootloader", State.DAMAGED),
    "app at 0x0": (patched(dump(), 0, demo()[APP:]), ["app-at-0"], "bootloader", State.FOREIGN),
    "app erased": (erased(dump(), APP, APP_END), ["app-erased"], "app", State.ERASED),
    "app zero": (patched(dump(), APP, bytes(APP_END - APP)), ["app-missing"], "app", State.ZERO),
    "noise for an app": (patched(dump(), APP, b"\x5a" * (APP_END - APP)), ["app-missing"], "app", State.FOREIGN),
    "calibration erased": (
        erased(dump(), CALIBRATION, CONFIG), ["calibration-wiped"], "calibration", State.ERASED
    ),
    "calibration zero": (
        patched(dump(), CALIBRATION, bytes(0x1000)), ["calibration-wiped"], "calibration", State.ZERO
    ),
    "calibration's length wrong": (
        patched(dump(), CALIBRATION + 0x6F, b"\x08"), ["calibration-damaged"], "calibration", State.DAMAGED
    ),
    "calibration's tag gone": (
        patched(dump(), CALIBRATION, b"SPAM"), ["calibration-damaged"], "calibration", State.DAMAGED
    ),
    "calibration made up": (
        patched(dump(), CALIBRATION + 0x24, BLANK_MAC), ["calibration-made-up"], "calibration", State.DAMAGED
    ),
    "configuration": (CONFIGURED, [], "net", State.GOOD),
    "configuration's CRC wrong": (patched(CONFIGURED, CONFIG + 3, b"\x01"), ["config-crc"], "net", State.DAMAGED),
    "no configuration": (patched(dump(), CONFIG, b"another firmware's"), [], "net", State.DATA),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_FLASH)
def test_damage_in_a_flash(name: str) -> None:
    data, expected, region, state = IN_FLASH[name]
    found = diagnose(data)
    assert names(found) == expected
    assert states(found)[region] is state
    if region == "bootloader":
        assert found.forecast is Forecast.SILENT
    elif region == "app":
        assert found.forecast is Forecast.BOOTLOADER_ONLY
    else:
        assert found.bootable
        assert ("calibration" in found.on_a_board) is name.startswith("calibration")
        assert ("weak radio" in found.on_a_board) is name.startswith("calibration")


@real_images
def test_a_tuya_storage_that_cannot_be_decrypted_is_named() -> None:
    found = diagnose(patched(real(TUYA), 0x1F0020, bytes(32)))
    assert names(found) == ["storage-unreadable"]
    assert states(found)["storage"] is State.DAMAGED
    assert found.bootable


def test_an_efuse_dump_over_code_is_recognised() -> None:
    key = struct.pack("<4I", *beken.TUYA_KEY) + bytes(16)
    for at in (0, APP):
        found = diagnose(patched(erased(dump(), at, at + 0x1000), at, key))
        hurt = next(item for item in found.damages if item.offset == at)
        assert "an efuse dump with Tuya's key begins there" in hurt.sentence


def test_the_key_of_the_chip_decides() -> None:
    zero = zero_key_demo()
    assert names(diagnose(demo(), key="zero")) == ["key-mismatch", "key-mismatch"]
    assert diagnose(demo(), key="zero").forecast is Forecast.SILENT
    assert diagnose(zero, key="zero").bootable
    assert names(diagnose(zero)) == ["key-mismatch", "key-mismatch"]
    assert diagnose(zero, key=None).damages == ()
    mixed = demo()[:APP] + zero[APP:]
    assert names(diagnose(mixed)) == ["key-mismatch"]
    assert diagnose(mixed).forecast is Forecast.BOOTLOADER_ONLY
    assert names(diagnose(mixed, key=None)) == ["key-mismatch"]


@real_images
@pytest.mark.parametrize("name", [OBK, PRE_CONFIGURED, TUYA, VIRGIN, OBK_T])
def test_what_identify_calls_damaged_has_a_damage_by_name(name: str) -> None:
    for data in (real(name), real(name)[:0x60000], erased(real(name), 0x40000, 0x41000)):
        found = diagnose(data, chip="BK7231T" if name == OBK_T else "BK7231N")
        code = {"calibration-wiped", "config-crc", "storage-unreadable"}
        assert bool(found.identity.problems) is bool(set(names(found)) - code)


# --- which code every start runs ----------------------------------------------------------------------------------


def test_the_start_path_follows_what_always_happens() -> None:
    words = [
        0xEA000006,  # 00 b 0x20
        *[0xE59FF014] * 7,
        0xE10F0000,  # 20 mrs r0, cpsr
        0xE12FF000,  # 24 msr cpsr, r0
        0xE3500000,  # 28 cmp r0, #0
        0x03A01001,  # 2C moveq r1, #1: goes on either way
        0xEB00000A,  # 30 bl 0x60
        *[0] * 11,
        0x0A000000,  # 60 beq: from here on nothing is certain
    ]
    plain = struct.pack(f"<{len(words)}I", *words)
    assert start_path(plain, 0x10000).blocks == {0, 1, 3}
    assert not start_path(plain, 0x10000).leaves
    assert start_path(plain, 0x10000, frozenset({1})).blocks == {0, 1}
    assert start_path(plain[:0x60], 0x10000).leaves
    assert start_path(struct.pack("<I", 0xEAFFFFF0), 0).leaves is False  # backwards out of it: into nobody knows what
    assert start_path(struct.pack("<I", 0xEAFFFFFE), 0).blocks == {0}  # an endless loop ends
    assert start_path(b"", 0).blocks == set()


@pytest.mark.parametrize("word", [0xE12FFF10, 0xE8BD8000, 0xE59FF018, 0xE1A0F00E, 0xEF000000, 0xE28FF004, 0xFA000000])
def test_the_start_path_ends_where_a_register_decides(word: int) -> None:
    """BX, a load of several, a load, a move and a sum into R15, SWI, BLX."""
    plain = struct.pack("<9I", *[0xE1A00000] * 7, word, 0xE1A00000)
    assert start_path(plain, 0).blocks == {0}


# --- always -------------------------------------------------------------------------------------------------------


def assert_sane(found: Diagnosis) -> None:
    assert found.on_a_board
    assert found.possible
    assert found.forecast in found.possible or found.forecast is Forecast.UNKNOWN
    assert len(found.damages) < 200
    for item in found.damages:
        assert item.name in DAMAGES
        assert 0 <= item.offset <= FLASH_SIZE
        assert 0 <= item.offset + item.length <= FLASH_SIZE
    for item in found.regions:
        assert 0 <= item.used <= item.region.size


@settings(derandomize=True, max_examples=30, deadline=None)
@given(
    st.sampled_from(["demo", "app", "dump"]),
    st.lists(st.tuples(st.integers(0, FLASH_SIZE), st.binary(min_size=1, max_size=80)), max_size=8),
    st.lists(
        st.tuples(st.integers(0, FLASH_SIZE), st.integers(0, 0x20000), st.sampled_from([0, 0x5A, 0xFF])), max_size=3
    ),
    st.integers(0, FLASH_SIZE),
)
def test_mutated_files_are_diagnosed_without_an_error(
    base: str, changes: list[tuple[int, bytes]], fills: list[tuple[int, int, int]], size: int
) -> None:
    data = bytearray({"demo": demo(), "app": demo()[APP:], "dump": dump()}[base])
    for at, length, value in fills:
        data[at : at + length] = bytes((value,)) * len(data[at : at + length])
    for at, new in changes:
        data[at : at + len(new)] = new[: len(data[at : at + len(new)])]
    assert_sane(diagnose(bytes(data)))
    assert_sane(diagnose(bytes(data[:size])))


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.binary(max_size=4000))
@example(b"RBL\0" * 900)
@example(b"TLV\0" * 900)
@example(b"CFG\0" * 900)
def test_any_bytes_are_diagnosed_without_an_error(data: bytes) -> None:
    assert_sane(diagnose(data))


@pytest.mark.parametrize("unit", [b"RBL\0", b"\xff", b"\0", b"TLV\0\xff", beken.frame(b"RBL\0app" * 5)])
def test_files_made_to_be_slow_are_not(unit: bytes) -> None:
    data = (unit * ((16 << 20) // len(unit) + 1))[: 16 << 20]
    found = identify(data)
    start = time.process_time()
    assert_sane(diagnose(data, found))
    assert time.process_time() - start < 2


@real_images
def test_a_dump_takes_no_time() -> None:
    found = identify(real(TUYA))
    diagnose(real(TUYA), found)
    start = time.process_time()
    diagnose(real(TUYA), found)
    assert time.process_time() - start < 0.4


def test_damages_have_the_names_that_are_documented() -> None:
    with pytest.raises(ValueError, match="no name of a damage"):
        Damage("made-up", 0, 1, "")
    assert code_at(demo(), APP, 0x10000)


# --- code whose end nothing shows ----------------------------------------------------------------------------------


@real_images
@pytest.mark.parametrize("blocks", [0, 4, 150])
@pytest.mark.parametrize("name", [OBK, TUYA])
def test_an_app_without_its_header_is_not_said_to_boot(name: str, blocks: int) -> None:
    """Tuya's without its last four blocks crashes on the executing chip, and nothing in the file tells so."""
    data = real(name)
    code = identify(data).app
    assert code is not None
    end = code.end - blocks * FRAMED
    cut = diagnose(data[:end])
    assert names(cut) == ["truncated"]
    assert (cut.forecast, cut.bootable) == (Forecast.UNKNOWN, None)
    erased = diagnose(patched(data, end, b"\xff" * (min(len(data), APP_END) - end)).ljust(0x200000, b"\xff"))
    assert (erased.forecast, erased.bootable) == (Forecast.UNKNOWN, None)
    assert "no header tells" in erased.on_a_board
    assert diagnose(data[:APP_HEADER]).bootable  # erased filler behind the code shows that it is whole


@real_images
def test_a_known_bootloader_without_its_end_is_named_in_a_whole_dump() -> None:
    data = real(TUYA)
    for end, damages in ((0xF8C2, []), (0xF8A0, ["truncated"])):
        found = diagnose(patched(data, end, b"\xff" * (APP - end)))
        assert names(found) == damages
        assert bool(found.identity.problems) is bool(damages)
        assert found.bootable is (None if damages else True)


@real_images
def test_the_map_of_a_dump_is_that_of_its_calibration() -> None:
    """An N's dump under a T's bootloader: the board lost its bootloader, not its calibration."""
    data = patched(real(TUYA), 0, real("OpenBK7231T_QIO_1.18.300.bin")[:APP])
    found = diagnose(data)
    assert names(found) == ["bootloader-wrong-chip", "no-tag"]
    assert found.state("calibration").region.start == CALIBRATION


@real_images
def test_a_dump_that_ends_before_its_calibration_is_named() -> None:
    found = diagnose(real(TUYA)[: CALIBRATION - 1])
    assert (found.identity.kind, names(found)) == (Kind.QIO, ["truncated"])


def test_firmware_whose_images_have_no_header_is_not_called_cut_off() -> None:
    """ESPHome, built with LibreTiny, which logs its banner only at a level that is off by default."""
    code = code_at(demo(), APP, 0x10000) + b"ESPHome version 2025.1.0 compiled on\0".ljust(2 * beken.BLOCK, b"\0")
    found = diagnose(beken.frame(beken.crypt(code, 0x10000, beken.TUYA_KEY)))
    assert found.identity.firmware == "ESPHome"
    assert names(found) == []
    assert found.bootable


def test_a_damaged_block_that_begins_an_app_is_not_a_missing_app() -> None:
    (problem,) = identify(patched(demo(), APP + 3, b"?")).problems
    assert problem == "its app at 0x11000 begins with a code block that is damaged"


def test_a_flash_read_twice_and_one_with_its_app_at_0_say_so() -> None:
    assert identify(dump() * 2).problems[-1].startswith("it is the same 2,097,152 bytes twice")
    (problem,) = identify(demo()[APP:].ljust(0x200000, b"\xff")).problems
    assert problem == "it is all of a flash with its app at 0x0, where the bootloader belongs"
