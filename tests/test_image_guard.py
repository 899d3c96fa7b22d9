"""Which bytes may go where: every wrong file is refused with one sentence, every right one becomes a plan."""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import FIRMWARE_DIR, demo, dump, patched, real_images, zero_key_demo

from rig.errors import Exit, ImageRefused, UsageProblem
from rig.image import flashmap
from rig.image.identity import Kind
from rig.image.planning.guard import Board, Piece, Plan, plan_write
from rig.image.planning.rules import RULES
from rig.sim import firmware

MANIFEST = Path(FIRMWARE_DIR or "") / "MANIFEST.tsv"
ROWS = list(csv.reader(MANIFEST.open(), delimiter="\t"))[1:] if FIRMWARE_DIR and MANIFEST.is_file() else []
FILES = [(name.strip(), mark) for names, _, mark in ROWS for name in names.split(",")]


@cache
def real(name: str) -> bytes:
    return (Path(str(FIRMWARE_DIR)) / name).read_bytes()


def refused(data: bytes, name: str = "some.bin", **how) -> str:
    with pytest.raises(ImageRefused) as caught:
        plan_write(data, name, **how)
    sentence = str(caught.value)
    assert sentence.startswith(name)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert not re.search(r"\.\s", sentence), "more than one sentence"
    assert caught.value.exit_code is Exit.USAGE
    assert caught.value.rule in RULES
    assert sentence == f"{name} is {caught.value.reason}; {caught.value.instead}."
    return sentence


def covered(plan: Plan) -> list[tuple[int, int]]:
    return [(piece.flash_offset, piece.flash_offset + piece.length) for piece in plan.pieces]


# --- what passes --------------------------------------------------------------------------------------------------


def test_our_image_goes_to_zero_whole() -> None:
    plan = plan_write(demo(), "demo.bin")
    assert plan.pieces == (Piece(0, len(demo()), 0),)
    assert plan.identity.kind is Kind.QIO
    assert plan.size == len(demo())


def test_our_images_app_part_goes_to_its_place() -> None:
    assert plan_write(demo(), "demo.bin", start=0x11000).pieces == (Piece(0x11000, len(demo()) - 0x11000, 0x11000),)


@pytest.mark.parametrize("start", [None, 0x11000])
def test_app_goes_to_its_place_only(start: int | None) -> None:
    app = demo()[0x11000:]
    assert plan_write(app, "app.bin", start=start).pieces == (Piece(0x11000, len(app), 0),)


def test_a_dump_leaves_out_what_is_the_boards_own() -> None:
    plan = plan_write(dump(), "dump.bin")
    assert covered(plan) == [(0, 0x1D0000), (0x1D1000, 0x1ED000)]
    assert all(piece.flash_offset == piece.source_offset for piece in plan.pieces)
    assert "stay the board's own" in plan.note


def test_a_boards_own_backup_is_whole() -> None:
    plan = plan_write(dump(), "dump.bin", keep_identity=False)
    assert covered(plan) == [(0, 0x200000)]
    assert "no radio calibration" not in plan.note


def test_a_backup_without_calibration_says_so() -> None:
    bare = patched(dump(), 0x1D0000, b"\xff" * 0x1000)
    assert "no radio calibration" in plan_write(bare, "dump.bin", keep_identity=False).note


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        ([], ((0, 10),)),
        ([(0, 3)], ((3, 10),)),
        ([(7, 10)], ((0, 7),)),
        ([(4, 5), (2, 3)], ((0, 2), (3, 4), (5, 10))),
        ([(2, 6), (4, 8)], ((0, 2), (8, 10))),
        ([(2, 9), (4, 5)], ((0, 2), (9, 10))),
        ([(-5, 20)], ()),
        ([(10, 12), (-3, 0)], ((0, 10),)),
    ],
)
def test_a_range_less_others(kept: list[tuple[int, int]], left: tuple[tuple[int, int], ...]) -> None:
    assert flashmap.without((0, 10), kept) == left


def test_regions_cover_the_flash_without_gaps() -> None:
    for chip, regions in flashmap.REGIONS.items():
        assert [item.start for item in regions] == [0, *(item.end for item in regions[:-1])]
        assert regions[-1].end == flashmap.FLASH_SIZE
        assert flashmap.region("calibration", chip).start == flashmap.CALIBRATION[chip]
    assert flashmap.identity_ranges() == ((0x1D0000, 0x1D1000), (0x1ED000, 0x200000))


def test_a_plans_contents_are_the_files_bytes_at_their_places() -> None:
    plan = plan_write(dump(), "dump.bin")
    assert plan.ranges == [(0, 0x1D0000), (0x1D1000, 0x1C000)]
    assert plan.contents(dump()) == [(0, dump()[:0x1D0000]), (0x1D1000, dump()[0x1D1000:0x1ED000])]
    assert plan.untouched(dump()) == [(0x1D0000, dump()[0x1D0000:0x1D1000]), (0x1ED000, dump()[0x1ED000:])]
    moved = plan_write(demo(), "demo.bin", start=0x11000)
    assert moved.contents(demo()) == [(0x11000, demo()[0x11000:])]
    app = demo()[0x11000:]
    assert plan_write(app, "app.bin").contents(app) == [(0x11000, app)]


# --- what does not ------------------------------------------------------------------------------------------------


def test_an_app_never_goes_to_zero() -> None:
    assert "0x0 it would replace the bootloader" in refused(demo()[0x11000:], start=0)


@pytest.mark.parametrize("start", [1, 0x1000, 0x10000, 0x132000, -1])
@pytest.mark.parametrize("which", ["qio", "app", "dump"])
def test_a_start_that_contradicts_the_file(which: str, start: int) -> None:
    data = {"qio": demo, "app": lambda: demo()[0x11000:], "dump": dump}[which]()
    assert "not " in refused(data, start=start)


def test_a_dump_does_not_go_to_the_apps_place() -> None:
    assert "it goes to 0x0" in refused(dump(), start=0x11000)


def test_the_wrong_key() -> None:
    assert "this board's chip decrypts with Tuya's key" in refused(zero_key_demo())
    assert "takes unencrypted code" in refused(demo(), board=Board(key="zero"))
    assert plan_write(zero_key_demo(), "x.bin", board=Board(key="zero")).size


def test_a_flash_too_small() -> None:
    assert "for a flash of 1,048,576" in refused(demo(), board=Board(flash_size=0x100000))


def test_over_the_calibration() -> None:
    over = demo() + b"\xff" * (0x1D0001 - len(demo()))
    assert "erase the radio calibration at 0x1D0000" in refused(over)
    assert plan_write(over[:-1], "x.bin").size == 0x1D0000


def test_an_app_larger_than_its_place() -> None:
    app = demo()[0x11000:]
    assert "more than the" in refused(app + b"\xff" * 0x1000)


@pytest.mark.parametrize(
    "data",
    [
        lambda: b"",
        lambda: b"\xff" * 0x200000,
        lambda: bytes(0x200000),
        lambda: firmware.efuse(1),
        lambda: demo()[: 0x11000 + 34 * 40],
        lambda: demo()[:0x11000],
        lambda: patched(dump(), 0, b"\xff" * 0x11000),
        lambda: patched(dump(), 0, bytes(0x11000)),
        lambda: patched(dump(), 0x11000, b"\xff" * 0x119000),
        lambda: patched(dump(), 0x11000 + 34 * 30 + 5, b"?"),
    ],
)
def test_damaged_and_empty_files_are_refused_whoever_they_belong_to(data) -> None:
    assert "QIO" in refused(data())
    refused(data(), keep_identity=False)


def test_another_chip_has_no_rules_here() -> None:
    with pytest.raises(UsageProblem, match="BK7231N boards"):
        plan_write(demo(), "demo.bin", board=Board(chip="BK7231T"))


def test_the_name_is_used_in_the_sentence_only() -> None:
    assert plan_write(demo(), "efuse.uf2").pieces == plan_write(demo(), "demo.bin").pieces
    assert "efuse" in refused(firmware.efuse(1), name="OpenBK7231N_QIO_1.18.300.bin")
    assert "use OpenBK7231N_QIO_2.3.4.bin" in refused(b"RBL\0" + b"\x81" * 5000, name="OpenBK7231N_2.3.4.rbl")
    assert "use OpenBK7231N_QIO_<version>.bin" in refused(b"RBL\0" + b"\x81" * 5000, name="x.rbl")


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.binary(max_size=300), st.one_of(st.none(), st.integers(0, 0x200000)))
def test_no_small_file_ever_passes(data: bytes, start: int | None) -> None:
    with pytest.raises(ImageRefused):
        plan_write(data, "x", start=start)


# --- real files ---------------------------------------------------------------------------------------------------


@real_images
@pytest.mark.parametrize(("name", "mark"), FILES)
def test_every_real_file_is_judged_as_its_manifest_says(name: str, mark: str) -> None:
    if mark.startswith("yes"):
        assert plan_write(real(name), name).pieces[0].flash_offset == 0
    elif mark == "only through a UF2-aware path":
        plan = plan_write(real(name), name)
        assert plan.ranges == [(0x12A000, 506_368)]
        assert plan.contents(real(name))[0][1][:4] == b"RBL\0", "the container itself would be written"
        assert "its blocks say where they go" in refused(real(name), name, start=0)
    else:
        sentence = refused(real(name), name)
        assert re.search(r"OpenBK7231N_QIO_(\d+\.\d+\.\d+|<version>)\.bin", sentence)
        # The name decides nothing: called like a good image, or like nothing, it is refused just so.
        refused(real(name), "OpenBK7231N_QIO_1.18.300.bin")


@real_images
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("OpenBK7231T_QIO_1.18.300.bin", r"BK7231T.*wrong chip.*use OpenBK7231N_QIO_1\.18\.300\.bin"),
        ("ds101jl_4gang_switch_WB3S_1.1.5.bin", r"Tuya 1\.1\.5 for BK7231T, full dump: the wrong chip"),
        ("OpenBeken-v1.18.219_bk7231n.ug.bin", r"\(UG\).*use OpenBK7231N_QIO_1\.18\.219\.bin"),
        ("OpenBK7231N_1.18.219_from_ug.rbl", r"\(RBL\).*use OpenBK7231N_QIO_1\.18\.219\.bin"),
        (
            "OpenBK7231N_QIO_1.18.300_obkStartupCommand_setPinRolePWM3700.bin",
            r"would erase the radio calibration.*use OpenBK7231N_QIO_1\.18\.300\.bin",
        ),
        ("ltchiptool_bk72xx_2024-11-07_11-42-46_efuse.bin", "dump of a chip's efuse"),
        ("esp8266_deepsleep.bin", "Espressif"),
        ("esp_idf_blink_esp32s2.bin", "Espressif"),
        ("one_kb.bin", "1,024 bytes, too small"),
    ],
)
def test_what_real_files_are_refused_with(name: str, says: str) -> None:
    assert re.search(says, refused(real(name), name))


@real_images
@pytest.mark.parametrize(
    ("start", "end"),
    # 0xE7DDA is where the code ends: an app alone cut there would have lost nothing that runs.
    [
        (0, 905_216),
        (0, 0x60000),
        (0, 0x20000),
        (0, 0xE7DDA),
        (0x11000, 905_216),
        (0x11000, 0x60000),
        (0x11000, 0x20000),
    ],
)
def test_real_image_cut_short(start: int, end: int) -> None:
    assert "cut short" in refused(real("OpenBK7231N_QIO_1.18.300.bin")[start:end])


@real_images
def test_real_dump_whose_app_ends_blank_on_a_block_border() -> None:
    data = real("tywb_4ch_rf_switch_CB3S_1.2.1.bin")
    border = 0x11000 + 0x11000 * 3  # 17 sectors are a whole number of blocks
    assert "cut short" in refused(patched(data, border, b"\xff" * (flashmap.APP_END - border)))


@real_images
def test_real_dump_with_the_app_of_the_other_chip() -> None:
    other = real("ds101jl_4gang_switch_WB3S_1.1.5.bin")[0x11000 : flashmap.APP_END]
    mixed = patched(real("tywb_4ch_rf_switch_CB3S_1.2.1.bin"), 0x11000, other)
    assert "its bootloader is for BK7231N but its app for BK7231T" in refused(mixed)
