"""What a file is: told from its content, on our own images, on real ones, and on anything at all."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import FIRMWARE_DIR, code_at, demo, dump, patched, real_images, zero_key_demo

from rig.errors import UsageProblem
from rig.image import beken, bootloader, flashmap, rbl
from rig.image.identify import identify, read_image
from rig.image.identity import Kind
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
        (b"\xff" * 0x1000 + b"\xe9\x04\x02\x20" + bytes(range(256)) * 40, Kind.ESP),
        (b":100000000C945C000C946E000C946E000C946E00CA\r\n" * 200, Kind.TEXT),
        (bytes.fromhex("480b00ea14f09fe5") + bytes(range(256)) * 64, Kind.RAW_ARM),
        (bytes.fromhex("480b00ea14f09fe5") + bytes(0x4000 - 8), Kind.ROM),
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
    "esp8266_deepsleep.bin": (Kind.ESP, None, None, None, False),
    "esp_idf_blink_esp32s2.bin": (Kind.ESP, None, None, None, False),
    "one_kb.bin": (Kind.TOO_SMALL, None, None, None, False),
}  # fmt: skip


@real_images
@pytest.mark.parametrize("name", REAL)
def test_real_files(name: str) -> None:
    found = identify(read_image(Path(str(FIRMWARE_DIR)) / name))
    assert (found.kind, found.chip, found.firmware, found.version, found.rf_area) == REAL[name]
    assert found.problems == ()


@real_images
def test_tuyas_bootloader_is_named_by_its_crc() -> None:
    data = read_image(Path(str(FIRMWARE_DIR)) / "tywb_4ch_rf_switch_CB3S_1.2.1.bin")
    assert bootloader.KNOWN[bootloader.bootloader_crc(data) or 0].bootable
    assert identify(data).bootloader == "bootloader BK7231N_1.0.1 (CRC-32 E14191BA)"


def test_the_two_diagnoses_among_bootloader_crcs() -> None:
    assert bootloader.bootloader_crc(b"\xff" * 257) == 0xB397B8F6
    assert bootloader.bootloader_crc(bytes(300)) == 0xB7BFA0CE
    assert bootloader.bootloader_crc(bytes(256)) is None
    assert "erased" in bootloader.KNOWN[0xB397B8F6].name
    assert "cannot read its flash" in bootloader.KNOWN[0xB7BFA0CE].name


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
