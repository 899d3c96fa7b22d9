"""What a file is: told from its content, on our own images, on real ones, and on anything at all."""

from __future__ import annotations

import csv
import gzip
import io
import os
import random
import re
import struct
import time
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import FIRMWARE_DIR, code_at, demo, dump, patched, real_images, zero_key_demo

from rig.errors import UsageProblem
from rig.image import beken, bootloader, flashmap, rbl
from rig.image.identify import identify, read_image
from rig.image.identity import Confidence, Identity, Kind, Statement
from rig.image.kinds.references import references
from rig.sim import firmware


def test_our_own_image_and_dump() -> None:
    image, flash = identify(demo()), identify(dump())
    assert (image.kind, image.chip, image.key) == (Kind.QIO, "BK7231N", "tuya")
    assert (image.firmware, image.version, image.problems, image.rf_area) == ("rig-demo", "1.0.0", (), False)
    assert (flash.kind, flash.chip, flash.firmware, flash.version) == (
        Kind.FULL_DUMP, "BK7231N", "rig-factory", "0.9.3",
    )  # fmt: skip
    assert flash.calibrated
    assert flash.rf_area
    assert flash.problems == ()
    assert any(line.startswith("0x1D0000: 54 4c 56 00") for line in flash.evidence)


def test_app_alone() -> None:
    app = identify(demo()[flashmap.APP :])
    assert (app.kind, app.chip, app.version, app.problems) == (Kind.APP, "BK7231N", "1.0.0", ())


def test_bootloader_alone() -> None:
    assert identify(demo()[: flashmap.APP]).kind is Kind.BOOTLOADER


def test_zero_key_is_told() -> None:
    found = identify(zero_key_demo())
    assert (found.kind, found.key) == (Kind.QIO, "zero")
    assert "not encrypted" in found.what


def test_zero_key_app_alone() -> None:
    found = identify(zero_key_demo()[flashmap.APP :])
    assert (found.kind, found.key, found.version) == (Kind.APP, "zero", "1.0.0")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", Kind.TOO_SMALL),
        (b"x", Kind.TEXT),
        (b"\x01\x80", Kind.TOO_SMALL),
        (struct.pack("<4I", *beken.TUYA_KEY) + bytes(16), Kind.EFUSE),
        (bytes(range(16)), Kind.EFUSE),
        (b"\xff" * 0x200000, Kind.BLANK),
        (bytes(0x200000), Kind.BLANK),
        (b"\x7fELF" + bytes(range(256)) * 40, Kind.ELF),
        (b"PK\x03\x04" + bytes(range(256)) * 40, Kind.ARCHIVE),
        (b"\x1f\x8b\x08" + bytes(range(256)) * 40, Kind.ARCHIVE),
        (b"\xe9\x06\x02\x1f" + bytes(range(256)) * 40, Kind.ESP),
        (b"\xff" * 0x1000 + b"\xe9\x04\x02\x20" + bytes(range(256)) * 40, Kind.ESP_MERGED),
        (b":100000000C945C000C946E000C946E000C946E00CA\r\n" * 200, Kind.TEXT),
        (bytes.fromhex("480b00ea14f09fe5") + bytes(range(256)) * 64, Kind.RAW_ARM),
        (bytes.fromhex("480b00ea14f09fe5") + bytes(0x4000 - 8), Kind.ROM),
        (bytes.fromhex("0e0000ea") * 8 + bytes(range(256)) * 64, Kind.RAW_ARM),
        (bytes.fromhex("0e0000ea") * 0x8000, Kind.RAW_ARM),
        (bytes.fromhex("55aa55aa") + b"1.2.3".ljust(24, b"\0") + bytes.fromhex("aa55aa55") + b"\x93" * 99, Kind.UG),
        (bytes.fromhex("5546320a57515d9e 00200000") + bytes(16) + struct.pack("<I", 0x7B3EF230), Kind.UF2),
        (b"RBL\0" + b"\x81" * 5000, Kind.RBL),
        (bytes((at * 7919 >> 3) & 0xFF for at in range(0x2000)), Kind.UNKNOWN),
    ],
)
def test_other_files(data: bytes, kind: Kind) -> None:
    assert identify(data).kind is kind


def test_uf2_names_its_family_and_ug_its_version() -> None:
    head = bytes.fromhex("5546320a57515d9e 00200000") + bytes(16)
    assert identify(head + struct.pack("<I", 0x675A40B0)).chip == "BK7231T"
    ug = bytes.fromhex("55aa55aa") + b"1.2.3".ljust(24, b"\0") + bytes.fromhex("aa55aa55")
    assert identify(ug).version == "1.2.3"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (lambda: patched(dump(), 0, b"\xff" * 0x11000), "bootloader is erased"),
        (lambda: patched(dump(), 0, bytes(0x11000)), "bootloader is all zeros"),
        (lambda: patched(dump(), 0x11000, b"\xff" * 0x20000), "app at 0x11000 is erased"),
        (lambda: patched(dump(), 0x11000, firmware.efuse(7) + b"\xff" * 0xFE0), "not code"),
        (lambda: patched(dump(), 0x11000 + 5, b"?"), "block at 0x11000 fails"),
        (lambda: patched(dump(), 0x11000 + 34 * 30 + 5, b"?"), "block at 0x113FC fails"),
        (lambda: patched(dump(), 0x40, b"??"), "block at 0x22 fails"),
        (lambda: patched(dump(), 0x110, b"NOTHING\0"), "block at 0x110 fails"),
        (lambda: patched(dump(), 0, demo()[0x11000:0x22000]), "not one this rig can read"),
        (lambda: dump()[:0x1F0000], "2,031,616 bytes of a dump"),
        (lambda: demo()[: 0x11000 + 34 * 40], "cut short"),
        (lambda: demo()[: 0x11000 + 34 * 63], "cut short"),
    ],
)
def test_damage_is_found(data, problem: str) -> None:
    assert any(problem in found for found in identify(data()).problems), identify(data())


def test_a_gap_in_code_that_no_header_closes() -> None:
    code = code_at(demo(), flashmap.APP, flashmap.APP_LOGICAL)
    app = beken.frame(beken.crypt(code, flashmap.APP_LOGICAL, beken.TUYA_KEY))
    assert identify(app).problems == ()
    holed = patched(app, 34 * 30, b"\xff" * 34 * 3)
    assert identify(holed).problems == ("3 code blocks fail their CRC-16, the first at 0x3FC",)


def test_a_t_app_is_known_by_its_code_where_an_n_has_its_tag() -> None:
    code = bytearray(code_at(demo(), flashmap.APP, flashmap.APP_LOGICAL))
    code[0x100:0x108] = bytes.fromhex("001081e001d0a0e1")
    app = beken.frame(beken.crypt(bytes(code), flashmap.APP_LOGICAL, beken.TUYA_KEY))
    assert identify(app).chip == "BK7231T"


def test_an_rbl_header_whose_own_checksum_is_wrong_is_none() -> None:
    header, _ = beken.unframe(demo()[-102:])
    assert rbl.parse(header) is not None
    assert rbl.parse(patched(header, 0x20, b"?")) is None
    assert rbl.parse(header[:95]) is None


def test_an_exchanged_block_with_a_good_crc_is_found_by_the_hash() -> None:
    block = beken.frame(bytes(32))
    found = identify(patched(dump(), 0x11000 + 34 * 20, block))
    assert any("hash" in problem for problem in found.problems)


def test_a_bootloader_without_the_tag_the_rom_looks_for() -> None:
    stored, _ = beken.unframe(dump()[0x110 : 0x110 + 34])
    found = identify(patched(dump(), 0x110, beken.frame(b"\x5a" * 8 + stored[8:])))
    assert any("lacks the tag at 0x110" in problem for problem in found.problems)


def test_the_name_does_not_matter() -> None:
    assert identify(demo(), "efuse.bin") == identify(demo(), "OpenBK7231N_QIO_9.9.9.bin") == identify(demo())


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=400))
def test_never_raises_on_small_files(data: bytes) -> None:
    found = identify(data)
    assert found.size == len(data)
    assert found.what


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    st.sampled_from(["demo", "dump", "app", "zero"]),
    st.lists(st.tuples(st.integers(0, 0x12A000), st.binary(min_size=1, max_size=64)), max_size=4),
    st.integers(0, 0x200000),
)
def test_never_raises_on_damaged_images(which: str, patches: list[tuple[int, bytes]], length: int) -> None:
    data = {"demo": demo, "dump": dump, "app": lambda: demo()[flashmap.APP :], "zero": zero_key_demo}[which]()
    for at, new in patches:
        data = patched(data, min(at, len(data)), new)
    assert identify(data[:length]).what


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    st.sampled_from(
        [b"RBL\0", b"UF2\nWQ]\x9e", b"\x55\xaa\x55\xaa", b"\x7fELF", b"\xe9\x02", b"\x48\x0b\x00\xea\x14\xf0\x9f\xe5"]
    ),
    st.binary(max_size=300),
    st.integers(0, 3),
)
def test_never_raises_on_containers(magic: bytes, rest: bytes, filler: int) -> None:
    assert identify(magic + rest + bytes(filler * 0x8000)).what


# --- chips and keys ------------------------------------------------------------------------------------------------
# Of these chips no image is at hand: the images are ours, with the names and tags that theirs have.

OTHER_KEY = (0x12345678, 0x9ABCDEF0, 0x0F1E2D3C, 0xC7ADEB03)


def ours(app_name: bytes, tag: bytes, *, boot_name: bytes = b"", key: beken.Key = beken.ZERO_KEY) -> bytes:
    """Our own QIO image with another name in the app, another tag, another key, and no headers."""
    parts = []
    for start, end, logical, name in (
        (0, flashmap.APP, 0, boot_name),
        (flashmap.APP, flashmap.APP + 0x4000, flashmap.APP_LOGICAL, app_name),
    ):
        code = code_at(demo(), start, logical).replace(b"rig-demo BK7231N", b"rig-demo-------X")
        code = code[:0x100] + tag + code[0x108:] + b"\0" + name + b"\0"
        # A bootloader's tag is stored as it is.
        stored = beken.crypt(code + b"\xff" * (-len(code) % 32), logical, key)
        if start == 0:
            stored = stored[:0x100] + tag + stored[0x108:]
        framed = beken.frame(stored)
        parts.append(framed + b"\xff" * (end - start - len(framed)))
    return b"".join(parts)


N_TAG, TAG_7238 = b"BK7231\0\0", b"BK7238\0\0"
NO_TAG = bytes.fromhex("00f020e3") * 2


@pytest.mark.parametrize(
    ("boot", "app", "tag", "chip"),
    [
        (b"BK7231M_1.0.11", b"OpenBK7231M_1.18.300", N_TAG, "BK7231M"),
        (b"", b"OpenBK7231M_1.18.300", N_TAG, "BK7231M"),
        (b"BK7231N_1.0.1", b"", N_TAG, "BK7231N"),
        (b"BK7238_1.0.14", b"OpenBK7238_1.18.300", TAG_7238, "BK7238"),
        (b"", b"OpenBK7252N_1.18.300", TAG_7238, "BK7252N"),
        (b"BK7231U_1.0.6", b"OpenBK7231U_1.18.300", NO_TAG, "BK7231U"),
        (b"", b"OpenBK7252_1.18.300", NO_TAG, "BK7252"),
        (b"BK7231Q_1.0.0", b"", NO_TAG, "BK7231Q"),
        (b"", b"", NO_TAG, None),
    ],
)
def test_chips_without_encryption_by_tag_and_name(boot: bytes, app: bytes, tag: bytes, chip: str | None) -> None:
    found = identify(ours(app, tag, boot_name=boot))
    assert (found.kind, found.key, found.chip) == (Kind.QIO, "zero", chip)
    assert found.version == ("1.18.300" if app else None)
    told = [statement for statement in found.statements if statement.about == "chip"]
    assert [statement.value for statement in told] == ([chip] if chip else [])
    assert all(statement.evidence for statement in told)


BANNER = b"LibreTiny v1.9.1 on %s, compiled at Dec  7 2025 21:11:24"


@pytest.mark.parametrize(
    ("text", "firmware", "version"),
    [
        (BANNER % b"cb3s", "LibreTiny", "1.9.1"),
        (BANNER % b"cb3s" + b"\0ESPHome version 2025.10.3 compiled on %s", "ESPHome", "2025.10.3"),
    ],
)
def test_libretiny_and_esphome_by_their_banners(text: bytes, firmware: str, version: str) -> None:
    """Synthetic: the texts are theirs, the code is ours."""
    found = identify(ours(text, N_TAG, key=beken.TUYA_KEY)[flashmap.APP :])
    assert (found.kind, found.chip, found.firmware, found.version) == (Kind.APP, "BK7231N", firmware, version)
    assert statement(found, "board").value == "cb3s"
    assert statement(found, "sdk").value == "LibreTiny 1.9.1"
    assert found.problems == ()
    generic = identify(ours(BANNER % b"generic-bk7231t-qfn32-tuya", NO_TAG, key=beken.TUYA_KEY)[flashmap.APP :])
    assert generic.chip == "BK7231T"


def test_an_app_slot_that_is_called_rbl_is_an_app() -> None:
    """LibreTiny's *_app.0x011000.rbl: code first, its header last, and so no over-the-air package."""
    found = identify(demo()[flashmap.APP :], "image_bk7231n_app.0x011000.rbl")
    assert (found.kind, found.problems) == (Kind.APP, ())
    assert found.app is not None
    assert found.app.rbl is not None


def test_a_tag_alone_is_less_sure_without_encryption() -> None:
    """N and M share their tag: which of them it is, is in the board's efuse."""
    sure = {key: statement(identify(ours(b"", N_TAG, key=key)), "chip").confidence for key in KEYS}
    assert sure == {beken.ZERO_KEY: Confidence.LIKELY, beken.TUYA_KEY: Confidence.CERTAIN}


KEYS = (beken.ZERO_KEY, beken.TUYA_KEY)


def statement(found: Identity, about: str) -> Statement:
    return next(item for item in found.statements if item.about == about)


def test_a_dump_whose_calibration_lies_where_a_t_has_it_is_no_t_without_encryption() -> None:
    flash = ours(b"", NO_TAG).ljust(0x200000, b"\xff")
    found = identify(patched(flash, 0x1E0000, b"TLV\0"))
    assert (found.kind, found.chip, found.calibrated) == (Kind.FULL_DUMP, None, True)
    tuya = identify(patched(ours(b"", NO_TAG, key=beken.TUYA_KEY).ljust(0x200000, b"\xff"), 0x1E0000, b"TLV\0"))
    assert (tuya.chip, statement(tuya, "chip").confidence) == ("BK7231T", Confidence.LIKELY)


def test_a_key_that_nobody_knows_is_told_by_good_blocks() -> None:
    image = ours(b"OpenBK7231N_1.18.300", N_TAG, key=OTHER_KEY)
    found = identify(image)
    # The bootloader's tag is stored plain under any key: so the chip can be told, the firmware not.
    assert (found.kind, found.key, found.chip, found.firmware) == (Kind.QIO, "unknown", "BK7231N", None)
    assert statement(found, "key").confidence is Confidence.LIKELY
    assert "under a key this rig does not know" in found.what
    assert found.boot is not None
    assert found.app is not None
    assert (found.boot.key, found.app.key) == ("unknown", "unknown")
    alone = identify(image[flashmap.APP :])
    assert (alone.kind, alone.key, alone.chip) == (Kind.APP, "unknown", None)
    assert statement(alone, "kind").confidence is Confidence.GUESS
    # Without good CRC-16s it is nothing.
    assert identify(image[flashmap.APP + 1 :]).kind is Kind.UNKNOWN


def test_an_app_under_another_key_than_its_bootloader() -> None:
    mixed = ours(b"", N_TAG, key=beken.TUYA_KEY)[: flashmap.APP] + ours(b"", N_TAG, key=OTHER_KEY)[flashmap.APP :]
    found = identify(mixed)
    assert (found.key, found.app.key if found.app else None) == ("tuya", "unknown")
    assert "its bootloader and its app are encrypted with different keys" in found.problems


def test_bad_blocks_are_listed_and_erased_filler_is_not() -> None:
    one = identify(patched(dump(), 0x11000 + 34 * 30 + 5, b"?"))
    assert one.app is not None
    assert one.app.bad_blocks == (0x11000 + 34 * 30,)
    two = identify(patched(patched(dump(), 0x22, b"?"), 0x44 + 33, b"?"))
    assert two.boot is not None
    assert two.boot.bad_blocks == (0x22, 0x44)
    whole = identify(dump())
    assert whole.boot is not None
    assert whole.app is not None
    assert (whole.boot.bad_blocks, whole.app.bad_blocks) == ((), ())
    assert not identify(demo()[: flashmap.APP]).problems


@pytest.mark.parametrize("length", [0, 1, 2, 7, 8, 300, 65_535, 65_536, 70_001])
def test_the_hash_is_fnv1a(length: int) -> None:
    data = bytes((at * 7919 >> 3) & 0xFF for at in range(length))
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    assert rbl.fnv1a(data) == value


# --- statements -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [demo, dump, zero_key_demo, lambda: demo()[flashmap.APP :], lambda: bytes(99)])
def test_every_statement_rests_on_bytes_of_the_file(data) -> None:
    content = data()
    found = identify(content)
    assert statement(found, "kind").value == found.kind
    assert len(found.evidence) == len(set(found.evidence)) > 0
    for item in found.statements:
        assert item.value
        assert item.evidence, item
        for evidence in item.evidence:
            if evidence.offset is not None:
                assert content[evidence.offset : evidence.offset + len(evidence.data)] == evidence.data


def test_a_dump_read_past_the_end_of_its_flash() -> None:
    found = identify(dump() + dump())
    assert found.kind is Kind.FULL_DUMP
    assert "twice" in statement(found, "size").value


# --- files that are not flash ---------------------------------------------------------------------------------------


def test_efuses() -> None:
    tuya = struct.pack("<4I", *beken.TUYA_KEY)
    assert [identify(data).key for data in (tuya, tuya + bytes(16), bytes(16), bytes(32))] == [
        "tuya", "tuya", "zero", "zero",
    ]  # fmt: skip
    other = identify(bytes(range(1, 33)))
    assert (other.kind, other.key, statement(other, "kind").confidence) == (
        Kind.EFUSE, "unknown", Confidence.GUESS,
    )  # fmt: skip
    assert identify(b"a line of text, 32 bytes long.\r\n").kind is Kind.TEXT
    assert identify(b"\xff" * 32).kind is Kind.BLANK


@pytest.mark.parametrize(
    ("machine", "name"), [(40, "ARM"), (62, "x86-64"), (94, "Xtensa"), (243, "RISC-V"), (4711, "an ELF program,")]
)
def test_an_elf_program_names_its_machine(machine: int, name: str) -> None:
    head = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + struct.pack("<HH", 2, machine)
    assert name in identify(head + bytes(100)).what


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (":020000040800F2\r\n:10000000AABB\r\n", "Intel HEX"),
        ("S00F000068656C6C6F202020202000003C\n", "S-record"),
        ("<!DOCTYPE html><html>404</html>", "web page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS"),
        ("# notes\n", "a text file"),
    ],
)
def test_texts(text: str, says: str) -> None:
    found = identify(text.encode() * 3)
    assert found.kind is Kind.TEXT
    assert says in found.what


def esp_image(number: int) -> bytes:
    """An Espressif image by ESP-IDF's format, as ours: one segment with a description."""
    head = struct.pack("<BBBBI", 0xE9, 1, 2, 0x20, 0x40081214) + bytes(4) + struct.pack("<H", number) + bytes(10)
    text = struct.pack("<IIQ", 0xABCD5432, 0, 0) + b"1.2.3".ljust(32, b"\0") + b"lamp".ljust(32, b"\0")
    return (head + struct.pack("<II", 0x3F400020, 0x1000) + text).ljust(0x1100, b"\x81")


@pytest.mark.parametrize(("number", "chip"), [(0, "ESP32"), (2, "ESP32-S2"), (5, "ESP32-C3"), (9, "ESP32-S3")])
def test_espressif_chips_by_their_number(number: int, chip: str) -> None:
    found = identify(esp_image(number))
    assert (found.kind, found.chip, found.firmware, found.version) == (Kind.ESP, chip, "lamp", "1.2.3")
    assert identify(esp_image(777)).chip is None


def test_an_esp8266_image_has_its_segments_at_once() -> None:
    head = struct.pack("<BBBBIII", 0xE9, 1, 2, 0x40, 0x4010F29C, 0x4010F000, 0x568)
    found = identify(head.ljust(0x1100, b"\x81"))
    assert (found.kind, found.chip) == (Kind.ESP, "ESP8266")


@pytest.mark.parametrize(("at", "number"), [(0x1000, 0), (0x0, 9)])
def test_a_merged_espressif_image(at: int, number: int) -> None:
    merged = patched(b"\xff" * 0x20000, at, esp_image(number))
    merged = patched(patched(merged, 0x8000, b"\xaa\x50\x01\x02"), 0x10000, esp_image(number))
    found = identify(merged)
    assert (found.kind, found.firmware) == (Kind.ESP_MERGED, "lamp")
    assert found.chip == {0: "ESP32", 9: "ESP32-S3"}[number]


def test_areas_of_a_flash() -> None:
    assert identify(dump()[0x1D0000:0x1D1000]).kind is Kind.CALIBRATION
    to_the_end = identify(patched(bytes(0x20000), 0, b"TLV\0"))
    assert (to_the_end.kind, statement(to_the_end, "chip").value) == (Kind.CALIBRATION, "BK7231T")
    config = (b"CFG\x5a" + struct.pack("<I", 5)).ljust(0xE00, b"\0")
    assert (identify(config).kind, identify(config).problems) == (Kind.OBK_CONFIG, ())
    assert identify(config.ljust(0x1000, b"\xff")).kind is Kind.OBK_CONFIG
    assert "cut short" in identify(config[:0x800]).problems[0]
    storage = bytes(range(32)) + bytes.fromhex("46dced0e672f3b70ae1276a3f8712e03") * 4 + b"\x99" * 8000
    assert identify(storage).kind is Kind.STORAGE
    assert identify(storage[64 + 48 :]).kind is Kind.UNKNOWN


def test_archives_tell_what_they_hold() -> None:
    boot = demo()[: flashmap.APP]
    found = identify(gzip.compress(boot))
    assert found.kind is Kind.ARCHIVE
    assert "unpack it first" in found.what
    assert [inner.kind for _, inner in found.inside] == [Kind.BOOTLOADER]
    assert identify(gzip.compress(bytes(64 << 20))).inside[0][1].size == 4 << 20
    cut = identify(gzip.compress(boot)[:-400])
    assert cut.problems
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("read me.txt", "hello")
        archive.writestr("dump.bin", dump())
        archive.writestr("more.zip", box.getvalue() or b"PK\x05\x06" + bytes(18))
    found = identify(box.getvalue())
    assert [(name, inner.kind) for name, inner in found.inside] == [
        ("read me.txt", Kind.TEXT), ("dump.bin", Kind.FULL_DUMP), ("more.zip", Kind.ARCHIVE),
    ]  # fmt: skip
    assert not found.problems
    broken = patched(box.getvalue(), box.getvalue().index(b"dump.bin") + 60, b"\xff\xff\xff\xff")
    assert "dump.bin" in identify(broken).problems[0]


def ota(payload: bytes) -> bytes:
    head = struct.pack(
        "<4sII16s24s24sIIII", b"RBL\0", 0x0102, 0, b"app", b"1.00", b"0", zlib.crc32(payload), 0, 9, len(payload)
    )
    return head + struct.pack("<I", zlib.crc32(head)) + payload


def ug(content: bytes, *, version: bytes = b"1.2.3") -> bytes:
    head = bytes.fromhex("55aa55aa") + version.ljust(12, b"\0")
    head += struct.pack(">II", len(content), sum(content))
    return head + struct.pack(">I", sum(head)) + bytes.fromhex("aa55aa55") + content


def test_over_the_air_packages_check_their_sums() -> None:
    payload = bytes(range(256)) * 20
    package, wrapped = ota(payload), ug(ota(payload))
    assert (identify(package).kind, identify(package).problems) == (Kind.RBL, ())
    assert "AES-256" in statement(identify(package), "header").value
    assert (identify(wrapped).kind, identify(wrapped).problems, identify(wrapped).version) == (Kind.UG, (), "1.2.3")
    assert [inner.kind for _, inner in identify(wrapped).inside] == [Kind.RBL]
    for damaged, says in (
        (patched(package, 0x20, b"?"), "header does not agree"),
        (patched(package, 500, b"?"), "payload does not agree"),
        (package[:-1], "cut short"),
        (package[:95], "cut short"),
        (patched(wrapped, 5, b"?"), "UG header does not agree"),
        (patched(wrapped, 900, b"?"), "sum in its UG header"),
        (wrapped[:-1], "cut short"),
    ):
        assert says in identify(damaged).problems[0], says


# --- cut short ----------------------------------------------------------------------------------------------------


def named_cut(data: bytes) -> bool:
    """Whether it is said of a file that it is a part of one, or a bootloader alone, which a cut at 0x11000 leaves."""
    found = identify(data)
    sized = [item.value for item in found.statements if item.about == "size"]
    said = (*found.problems, *sized)
    return any("cut short" in text or "bytes of a dump" in text for text in said) or found.size == flashmap.APP


def test_our_app_without_its_end_is_cut_short() -> None:
    app = demo()[flashmap.APP :]
    # It has 63 blocks. Cut in the last of them it lacks a few constants, in the blanks behind them nothing.
    assert all(named_cut(app[: 34 * blocks]) for blocks in range(1, 55))


@pytest.mark.parametrize("start", [0, flashmap.APP])
def test_openbeken_without_its_closing_header_is_cut_short(start: int) -> None:
    image = ours(b"OpenBK7231N_1.18.300", N_TAG, key=beken.TUYA_KEY)[start:]
    assert "the header that closes" in identify(image).problems[0]
    assert identify(ours(b"", N_TAG, key=beken.TUYA_KEY)).problems == ()


@pytest.mark.parametrize(
    ("word", "cut"),
    [
        (struct.pack("<HH", 0xF000, 0xF880), True),  # bl +0x100, Thumb
        (struct.pack("<HH", 0xF7FF, 0xFFFE), False),  # bl to itself
        (struct.pack("<I", 0xEB000040), True),  # bl +0x108, ARM
        (struct.pack("<I", 0xEBFFFFFE), False),
        (struct.pack("<I", 0xE59F0100), True),  # ldr r0, [pc, #0x100]
        (struct.pack("<I", 0xE51F0008), False),
    ],
)
def test_code_that_points_past_its_end(word: bytes, cut: bool) -> None:
    assert references(bytes(64) + word * 8, 0x10000, 0x20000).cut_short is cut


def test_our_image_cut_after_any_block_of_its_app() -> None:
    blocks = range(flashmap.APP // 34 + 1, len(demo()) // 34, 997)
    assert all(named_cut(demo()[: 34 * count]) for count in (*blocks, len(demo()) // 34 - 1, len(demo()) // 34 - 2))


# --- real images ------------------------------------------------------------------------------------------------

REAL = {
    "OpenBK7231N_QIO_1.18.300.bin": (Kind.QIO, "BK7231N", "OpenBeken", "1.18.300", False),
    "OpenBK7231N_QIO_1.18.300_obkStartupCommand_setPinRolePWM3700.bin": (
        Kind.QIO, "BK7231N", "OpenBeken", "1.18.300", True,
    ),
    "OpenBK7231T_QIO_1.18.300.bin": (Kind.QIO, "BK7231T", "OpenBeken", "1.18.300", False),
    "OpenBeken-v1.18.219_bk7231n.ug.bin": (Kind.UG, None, None, "1.18.219", False),
    "OpenBK7231N_1.18.219_from_ug.rbl": (Kind.RBL, None, None, None, False),
    "OpenBK7231N_1.18.219_synthetic.uf2": (Kind.UF2, "BK7231N", None, None, False),
    "tywb_4ch_rf_switch_CB3S_1.2.1.bin": (Kind.FULL_DUMP, "BK7231N", "Tuya", "1.2.1", True),
    "smartled_8044_1gang_CBU_virgin.bin": (Kind.FULL_DUMP, "BK7231N", "Tuya", "1.0.2", True),
    "ds101jl_4gang_switch_WB3S_1.1.5.bin": (Kind.FULL_DUMP, "BK7231T", "Tuya", "1.1.5", True),
    "ltchiptool_bk72xx_2024-11-07_11-42-46_efuse.bin": (Kind.EFUSE, None, None, None, False),
    "esp8266_deepsleep.bin": (Kind.ESP, "ESP8266", None, None, False),
    "esp_idf_blink_esp32s2.bin": (Kind.ESP, "ESP32-S2", "blink", "qa-test-v5.0-20220830-4-g4532e6", False),
    "one_kb.bin": (Kind.TOO_SMALL, None, None, None, False),
}  # fmt: skip


@real_images
@pytest.mark.parametrize("name", REAL)
def test_real_files(name: str) -> None:
    found = identify(read_image(Path(str(FIRMWARE_DIR)) / name))
    assert (found.kind, found.chip, found.firmware, found.version, found.rf_area) == REAL[name]
    assert found.problems == ()


MANIFEST = Path(FIRMWARE_DIR or "") / "MANIFEST.tsv"
WORDS = {
    "OpenBeken for N": {"kind": Kind.QIO, "chip": "BK7231N", "firmware": "OpenBeken", "key": "tuya"},
    "OpenBeken for T": {"kind": Kind.QIO, "chip": "BK7231T", "firmware": "OpenBeken", "key": "tuya"},
    "UG file": {"kind": Kind.UG},
    "OTA file (RBL)": {"kind": Kind.RBL},
    "UF2 container, family BK7231N": {"kind": Kind.UF2, "chip": "BK7231N"},
    "QIO + 0xFF up to and over the RF area": {"kind": Kind.QIO, "rf_area": True, "calibrated": False},
    "full 2 MiB factory dump of a BK7231T": {"kind": Kind.FULL_DUMP, "chip": "BK7231T", "calibrated": True},
    "full 2 MiB factory dump, ": {"kind": Kind.FULL_DUMP, "chip": "BK7231N", "firmware": "Tuya", "calibrated": True},
    "32-byte efuse dump": {"kind": Kind.EFUSE, "key": "tuya"},
    "Espressif images": {"kind": Kind.ESP},
    "1 KiB of nothing": {"kind": Kind.TOO_SMALL},
}


@real_images
def test_identify_agrees_with_the_manifest_on_every_file() -> None:
    rows = list(csv.reader(MANIFEST.open(), delimiter="\t"))[1:]
    named = {name.strip(): what for names, what, _ in rows for name in names.split(",")}
    assert set(named) == {path.name for path in MANIFEST.parent.iterdir()} - {"MANIFEST.tsv"}
    for name, what in named.items():
        expected = next(facts for words, facts in WORDS.items() if what.startswith(words))
        found = identify(read_image(MANIFEST.parent / name))
        assert {fact: getattr(found, fact) for fact in expected} == expected, name
        assert found.problems == (), name
        size = re.search(r"([\d,]+) B\b", what)
        assert size is None or found.size == int(size[1].replace(",", ""))
        if "OpenBeken config at 0x1D1000" in what:
            assert "configuration" in {item.about for item in found.statements}


@real_images
@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("OpenBK7231N_QIO_1.18.300.bin", 0),
        ("OpenBK7231N_QIO_1.18.300.bin", flashmap.APP),
        ("OpenBK7231T_QIO_1.18.300.bin", 0),
        ("tywb_4ch_rf_switch_CB3S_1.2.1.bin", 0),
        ("ds101jl_4gang_switch_WB3S_1.1.5.bin", 0),
    ],
)
def test_real_files_cut_after_a_block(name: str, start: int) -> None:
    data = read_image(Path(str(FIRMWARE_DIR)) / name)[start:]
    picked = random.Random(name)
    blocks = {*range(1, 30), *(picked.randrange(1, len(data) // 34) for _ in range(12))}
    assert not [count for count in sorted(blocks) if not named_cut(data[: 34 * count])]


@pytest.mark.soak
@real_images
@pytest.mark.parametrize("name", [name for name, row in REAL.items() if row[0] in (Kind.QIO, Kind.FULL_DUMP)])
def test_real_files_cut_after_many_blocks_of_their_code(name: str) -> None:
    data = read_image(Path(str(FIRMWARE_DIR)) / name)
    assert not [count for count in range(1, min(len(data), 0x129F70) // 34, 23) if not named_cut(data[: 34 * count])]


@real_images
def test_a_real_dump_takes_little_time() -> None:
    data = read_image(Path(str(FIRMWARE_DIR)) / "tywb_4ch_rf_switch_CB3S_1.2.1.bin")
    before = time.process_time()
    identify(data)
    assert time.process_time() - before < 0.4


@real_images
def test_real_storage_alone_is_told() -> None:
    data = read_image(Path(str(FIRMWARE_DIR)) / "ds101jl_4gang_switch_WB3S_1.1.5.bin")
    assert identify(data[0x1EE000:]).kind is Kind.STORAGE
    assert identify(data[0x1E0000:]).kind is Kind.CALIBRATION


@real_images
def test_tuyas_bootloader_is_named_by_its_crc() -> None:
    data = read_image(Path(str(FIRMWARE_DIR)) / "tywb_4ch_rf_switch_CB3S_1.2.1.bin")
    assert bootloader.KNOWN[bootloader.bootloader_crc(data) or 0].bootable
    assert identify(data).bootloader == "bootloader BK7231N_1.0.1 (CRC-32 E14191BA)"


def test_the_two_diagnoses_among_bootloader_crcs() -> None:
    assert bootloader.bootloader_crc(b"\xff" * 257) == 0xB397B8F6
    assert bootloader.bootloader_crc(bytes(300)) == 0xB7BFA0CE
    assert bootloader.bootloader_crc(bytes(256)) is None
    assert zlib.crc32(b"\xff" * 256) in bootloader.KNOWN_T
    assert zlib.crc32(bytes(256)) in bootloader.KNOWN_T
    assert bootloader.known_bootloader(b"\xff" * 300) is bootloader.ERASED
    assert bootloader.known_bootloader(bytes(range(256)) * 2) is None
    assert "erased" in bootloader.KNOWN[0xB397B8F6].name
    assert "cannot read its flash" in bootloader.KNOWN[0xB7BFA0CE].name


# --- made to be slow ----------------------------------------------------------------------------------------------

MIB16 = 16 << 20


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"RBL\0" * (MIB16 // 4),
        lambda: demo()[:0x11400] + b"RBL\0" * ((MIB16 - 0x11400) // 4),
        lambda: bytes.fromhex("480b00ea14f09fe5") + bytes(MIB16 - 8),
        lambda: b"line of text\n" * (MIB16 // 13),
        lambda: b"UF2\nWQ]\x9e" * (MIB16 // 8),
        lambda: (
            (bytes.fromhex("5546320a57515d9e00a00000") + b"\4\1\2\3" * 124 + bytes.fromhex("306fb10a"))
            * (MIB16 // 512)
        ),
        lambda: gzip.compress(bytes(64 << 20)),
        lambda: gzip.compress(gzip.compress(bytes(64 << 20))),
        lambda: b"PK\3\4" + b"PK\1\2" * (MIB16 // 4 - 10) + b"PK\5\6" + bytes(18),
        lambda: b"TLV\0" * (MIB16 // 4),
        lambda: bytes.fromhex("55aa55aa") + bytes(24) + bytes.fromhex("aa55aa55") + b"\x93" * (MIB16 - 32),
        lambda: b"\xe9\x04\x02\x20" * (MIB16 // 4),
    ],
)
def test_no_file_takes_long(make) -> None:
    data = make()
    assert len(data) <= MIB16
    before = time.process_time()
    assert identify(data).what
    assert time.process_time() - before < 1.0


def test_what_is_over_16_mib_is_not_looked_at() -> None:
    assert identify(bytes(MIB16 + 5)).size == MIB16


# --- reading ------------------------------------------------------------------------------------------------------


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    assert read_image(path) == b"abc"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(bytes((16 << 20) + 1)), "larger than 16 MiB"),
        (lambda path: path.symlink_to("/proc/self/mem"), "cannot be read"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, make, says: str) -> None:
    path = tmp_path / "image.bin"
    make(path)
    with pytest.raises(UsageProblem, match=says) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_exactly_16_mib_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image.bin"
    path.write_bytes(bytes(16 << 20))
    assert len(read_image(path)) == 16 << 20


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageProblem, match="is a pipe"):
        read_image(tmp_path / "pipe")
