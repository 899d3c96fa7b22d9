"""Plans for one very board: its key, its bootloader, its identity; the rules and their overrides; UF2; properties."""

from __future__ import annotations

import re
import runpy
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import FIRMWARE_DIR, code_at, demo, dump, patched, real_images, zero_key_demo
from uf2_files import BK7231T, uf2

from rig.errors import ImageRefused, UsageProblem
from rig.image import beken, flashmap
from rig.image.contents.calibration import read_calibration
from rig.image.contents.openbeken import ObkConfig, write_config
from rig.image.contents.tuya import read_storage
from rig.image.identify import identify
from rig.image.identity import Kind
from rig.image.planning import guard
from rig.image.planning.guard import Board, Plan, board_key, plan_erase, plan_write
from rig.image.planning.rules import OVERRIDABLE, RULES, Overrides, as_markdown
from rig.sim import firmware

ROOT = Path(__file__).parent.parent
CAL, CAL_END = flashmap.identity_ranges()[0]
STORE, STORE_END = flashmap.identity_ranges()[1]
FF = b"\xff"


@cache
def own(serial: int = 1) -> bytes:
    """What another board than `dump()`'s holds."""
    return firmware.factory_dump(serial)


@cache
def real(name: str) -> bytes:
    return (Path(str(FIRMWARE_DIR)) / name).read_bytes()


def unnamed() -> bytes:
    """A bootloader that is whole and does not say who made it."""
    return boot(code_at(demo(), 0, 0).replace(b"rig-boot 1", b"nameless 1"))


def untagged() -> bytes:
    """One that is whole and lacks the chip's tag."""
    code = code_at(demo(), 0, 0)
    return boot(patched(code, 0x100, bytes(8)))


def boot(code: bytes) -> bytes:
    return beken.frame(beken.crypt(code, 0, beken.TUYA_KEY)).ljust(0x11000, FF)


def app() -> bytes:
    return demo()[0x11000:]


def refused(data: bytes, rule: str, **how) -> str:
    with pytest.raises(ImageRefused) as caught:
        plan_write(data, "some.bin", **how)
    assert caught.value.rule == rule, str(caught.value)
    return str(caught.value)


def written(plan: Plan, data: bytes, board: bytes) -> bytes:
    """The flash of a board that held `board` once `plan` is written to it."""
    flash = bytearray(board)
    for at, content in plan.contents(data):
        flash[at : at + len(content)] = content
    assert len(flash) == len(board)
    return bytes(flash)


# --- the board's key ----------------------------------------------------------------------------------------------


def test_a_boards_key_is_in_its_efuse() -> None:
    efuse = firmware.efuse(1)
    assert board_key(efuse) == "tuya"
    assert board_key(efuse[:16]) == "tuya"
    assert board_key(bytes(16) + efuse[16:]) == "zero"
    assert board_key(bytes(16)) == "zero"
    assert board_key(bytes(12) + b"\x01\x02\x03\xff" + efuse[16:]) == "zero"  # a top byte of FF switches it off
    assert board_key(b"\x11" * 16 + efuse[16:]) == "unknown"
    assert board_key(None) is None
    assert board_key(efuse[:15]) is None
    assert board_key(bytes(32)) is None  # all zeros: not read, every chip has a UID or a MAC


def test_the_images_key_against_the_boards() -> None:
    assert "decrypts with Tuya's key" in refused(zero_key_demo(), "wrong-key", board=Board(held=own()))
    assert "a key this rig does not know" in refused(demo(), "wrong-key", board=Board(key="unknown"))
    told = refused(demo(), "unknown-key", board=Board(key=None))
    assert "neither this board's efuse nor its bootloader" in told
    assert "read the efuse" in told


def test_without_efuse_the_boards_own_bootloader_proves_the_key() -> None:
    plan = plan_write(demo(), "x.bin", board=Board(key=None, held=own()))
    assert any("the efuse key is not known" in note for note in plan.notes)
    refused(zero_key_demo(), "unknown-key", board=Board(key=None, held=own()))
    erased = patched(own(), 0, FF * 0x11000)
    refused(demo(), "unknown-key", board=Board(key=None, held=erased))
    half = patched(own(), 34 * 20, b"?")  # a bootloader with a bad block proves nothing
    refused(demo(), "unknown-key", board=Board(key=None, held=half))


# --- an app needs a bootloader, a bootloader an app ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda held: patched(held, 0, FF * 0x11000), "erased"),
        (lambda held: patched(held, 0, bytes(0x11000)), "all zeros"),
        (lambda held: patched(held, 0, app()[:0x11000]), "bootloader"),
        (lambda held: patched(held, 34 * 20, b"?"), "damaged"),
        (lambda held: patched(held, 0, zero_key_demo()[:0x11000]), "not encrypted"),
        (lambda held: patched(held, 0x110, bytes(8)), "damaged"),
        (lambda held: patched(held, 0, unnamed()), "unknown make"),
        (lambda held: patched(held, 0, untagged()), "unknown chip"),
        (lambda held: b"x" * 0x1000, "no code"),
    ],
)
@pytest.mark.parametrize("start", [None, 0x11000])
def test_an_app_needs_the_boards_own_bootloader(
    break_it: Callable[[bytes], bytes], says: str, start: int | None
) -> None:
    data = app() if start is None else demo()
    told = refused(data, "no-bootloader", start=start, board=Board(held=break_it(own())))
    assert says in told
    assert "OpenBK7231N_QIO" in told
    good = plan_write(data, "x.bin", start=start, board=Board(held=own()))
    assert good.ranges == [(0x11000, len(app()))]
    assert good.leans_on == ((0, 0x11000),)
    let = plan_write(data, "x.bin", start=start, board=Board(held=break_it(own())), overrides=["no-bootloader"])
    assert let.ranges == good.ranges
    assert says in let.overrides[0]


def test_a_qio_brings_its_own() -> None:
    plan = plan_write(demo(), "x.bin", board=Board(held=FF * 0x200000))
    assert plan.ranges == [(0, len(demo()))]
    assert plan.leans_on == ()


def test_a_bootloader_alone_goes_under_an_app_that_it_starts() -> None:
    alone = demo()[:0x11000]
    erased = patched(own(), 0, FF * 0x11000)
    assert plan_write(alone, "boot.bin", board=Board(held=erased)).ranges == [(0, 0x11000)]
    assert "no app" in refused(alone, "no-app", board=Board(held=patched(erased, 0x11000, FF * 0x119000)))
    assert "damaged" in refused(alone, "no-app", board=Board(held=patched(erased, 0x11000 + 34 * 60, b"?")))
    refused(alone, "no-app")
    refused(zero_key_demo()[:0x11000], "wrong-key", board=Board(held=erased))


# --- places and overrides -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "start", "rule"),
    [
        (app, 0, "over-bootloader"),
        (app, 0x20000, "wrong-place"),
        (app, -0x1000, "wrong-place"),
        (demo, 0x1000, "wrong-place"),
        (dump, 0x11000, "wrong-place"),
        (lambda: demo() + FF * (0x1D2000 - len(demo())), None, "erases-calibration"),
        (lambda: demo()[: 0x11000 + 34 * 40], None, "damaged"),
        (lambda: b"nothing but text\n" * 300, None, "not-an-image"),
        (lambda: demo() + FF * 0x200000, None, "too-large"),
        (zero_key_demo, None, "wrong-key"),
    ],
)
def test_every_refusal_names_its_rule(data: Callable[[], bytes], start: int | None, rule: str) -> None:
    refused(data(), rule, start=start)


def test_an_override_is_used_and_kept_with_its_sentence() -> None:
    plan = plan_write(app(), "app.bin", start=0x20000, overrides=("wrong-place",))
    assert plan.ranges == [(0x20000, len(app()))]
    (said,) = plan.overrides
    assert said.startswith("wrong-place: app.bin is ")
    assert "not to 0x20000" in said
    both = plan_write(app()[: 34 * 40], "a", start=0x20000, overrides=("wrong-place", "damaged"))
    assert [said.split(":")[0] for said in both.overrides] == ["damaged", "wrong-place"]


def test_an_override_that_was_not_needed_is_said() -> None:
    plan = plan_write(demo(), "demo.bin", overrides=["damaged", "damaged"])
    assert plan.overrides == ()
    assert plan.notes == ("the override damaged was not needed",)


@pytest.mark.parametrize(
    ("name", "says"),
    [("wrong-plaec", "did you mean 'wrong-place'"), ("too-large", "never overridden"), ("", "there is")],
)
def test_an_override_that_is_none(name: str, says: str) -> None:
    for attempt in (
        lambda: plan_write(demo(), "x", overrides=[name]),
        lambda: plan_erase(0, 0x1000, overrides=[name]),
    ):
        with pytest.raises(UsageProblem, match=says) as caught:
            attempt()
        assert not isinstance(caught.value, ImageRefused)


@pytest.mark.parametrize(
    ("start", "rule"),
    [
        (0, "over-bootloader"),
        (0x1000, "over-bootloader"),
        (0x1D0000, "too-large"),
        (-1, "too-large"),
        (0xC0000, "erases-calibration"),
    ],
)
def test_an_override_stops_at_the_next_rule(start: int, rule: str) -> None:
    every = [name for name in OVERRIDABLE if name != "erases-calibration"]
    refused(app(), rule, start=start, overrides=every)


def test_what_was_called_never_stays_never() -> None:
    for rule in RULES.values():
        with pytest.raises(ImageRefused) if not rule.overridable else nullcontext():
            Overrides((rule.name,)).broken(rule.name, "x", "wrong", "use another")
    for data, start in (
        (app(), 0),
        (demo(), 0x1000),
        (firmware.efuse(1), None),
        (demo(), 0x1FF000),
        (demo(), -0x1000),
    ):
        with pytest.raises(ImageRefused):
            plan_write(data, "x", start=start, overrides=OVERRIDABLE)


def test_calibration_is_erased_by_name_and_only_with_a_backup() -> None:
    over = demo() + FF * (0x1D1000 - len(demo()))
    told = refused(over, "erases-calibration")
    assert "it ends before the calibration" in told
    name = ["erases-calibration"]
    assert plan_write(over, "x", overrides=name).ranges == [(0, 0x1D1000)]
    backed = Board(held=own(), backup=own())
    assert "erases-calibration: x is" in plan_write(over, "x", board=backed, overrides=name).overrides[0]
    told = refused(over, "erases-calibration", board=Board(held=own()), overrides=name)
    assert "no backup that could bring it back" in told
    refused(over, "erases-calibration", board=Board(no_backup=True), overrides=name)


def test_an_erase_is_judged_by_the_same_rules() -> None:
    assert plan_erase(0, 0x1D0000).said == ()
    assert plan_erase(0x1D1000, 0x1C000).said == ()
    for offset, length, rule in (
        (0x1CF000, 0x2000, "erases-calibration"),
        (0x1FF000, 0x1000, "erases-storage"),
        (0x1FF000, 0x2000, "too-large"),
        (-0x1000, 0x1000, "too-large"),
        (0, 0, "too-large"),
    ):
        with pytest.raises(ImageRefused, match="to be erased") as caught:
            plan_erase(offset, length)
        assert caught.value.rule == rule
    for offset, name in ((0x1D0000, "erases-calibration"), (0x1FF000, "erases-storage")):
        assert name in plan_erase(offset, 0x1000, Board(held=own(), backup=own()), [name]).said[0]
        for board in (Board(held=own()), Board(no_backup=True)):
            with pytest.raises(ImageRefused, match="no backup"):
                plan_erase(offset, 0x1000, board, [name])
    let = plan_erase(0x1D0000, 0x1000, overrides=["erases-calibration", "erases-storage"])
    assert let.said[0].startswith("erases-calibration: 0x1D0000+0x1000, to be erased,")
    assert let.unused == ("the override erases-storage was not needed",)


# --- UF2 ----------------------------------------------------------------------------------------------------------


def test_a_uf2_is_written_by_its_blocks() -> None:
    whole = app()
    tail = len(whole) // 256 * 256 - 0x1000
    apart = [(0x11000, whole[:tail]), (0x11000 + tail, whole[tail:])]
    plan = plan_write(uf2(apart), "x.uf2", board=Board(held=own()))
    assert plan.contents(uf2(apart)) == [(0x11000, whole)]
    assert plan.identity.kind is Kind.UF2
    assert plan.identity.firmware == identify(whole).firmware is not None
    assert plan.leans_on == ((0, 0x11000),)


@pytest.mark.parametrize(
    ("make", "rule", "says"),
    [
        (lambda: uf2([(0x11000, app())], BK7231T), "wrong-chip", "BK7231T"),
        (lambda: uf2([(0x11000, app())], 0x12345678), "uf2-blocks", "family"),
        (lambda: uf2([(0x0, demo())]), "uf2-blocks", "outside"),
        (lambda: uf2([(0x11000, app()), (0x1D0000, b"x" * 256)]), "uf2-blocks", "outside"),
        (lambda: uf2([(0x11000, app()), (0x12000, app()[0x1000:0x2000])]), "uf2-blocks", "two of its blocks"),
        (lambda: uf2([(0x11000, app())])[512:], "uf2-blocks", "order"),
        (lambda: uf2([(0x11000, app())])[: 512 * 900], "uf2-blocks", "cut short"),
        (lambda: uf2([(0x12000, app())]), "uf2-blocks", "not an app from its start"),
        (lambda: uf2([(0x12A000, b"no package" * 100)]), "uf2-blocks", "not a package"),
        (lambda: uf2([(0x11000, patched(app(), 34 * 60, b"?"))]), "damaged", "CRC-16"),
        (lambda: uf2([(0x11000, zero_key_demo()[0x11000:])]), "wrong-key", "Tuya's key"),
    ],
)
def test_a_uf2_that_is_refused(make: Callable[[], bytes], rule: str, says: str) -> None:
    assert says in refused(make(), rule)
    if not RULES[rule].overridable:
        refused(make(), rule, overrides=OVERRIDABLE)


def test_a_uf2_is_never_written_raw_and_needs_a_bootloader() -> None:
    file = uf2([(0x11000, app())])
    for start in (0, 0x11000, 0x12A000):
        refused(file, "uf2-blocks", start=start, overrides=OVERRIDABLE)
    refused(file, "no-bootloader", board=Board(held=FF * 0x200000))


# --- a configuration with the image, or alone ---------------------------------------------------------------------


def config() -> bytes:
    return write_config(ObkConfig())


@real_images
def test_a_configuration_goes_with_the_image() -> None:
    qio = real("OpenBK7231N_QIO_1.18.300.bin")
    plan = plan_write(qio, "x.bin", config=config())
    assert plan.ranges == [(0, len(qio)), (0x1D1000, 0x1000)]
    assert plan.contents(qio)[1][1] == config().ljust(0x1000, FF)
    over = plan_write(real("tywb_4ch_rf_switch_CB3S_1.2.1.bin"), "x", own_backup=True)
    assert over.ranges == [(0, 0x200000)]
    wrong = bytearray(config())
    wrong[3] ^= 1
    refused(qio, "bad-config", config=bytes(wrong), overrides=OVERRIDABLE)
    refused(qio, "bad-config", config=config() + bytes(0x1000))
    refused(qio, "bad-config", config=b"")


@real_images
def test_a_configuration_takes_its_sector_from_a_dump() -> None:
    obk = patched(real("tywb_4ch_rf_switch_CB3S_1.2.1.bin"), 0, real("OpenBK7231N_QIO_1.18.300.bin"))
    for how in ({"keep_identity": True}, {"keep_identity": False}, {"own_backup": True}):
        plan = plan_write(obk, "x.bin", config=config(), **how)
        after = written(plan, obk, FF * 0x200000)
        assert after[0x1D1000:0x1D2000] == config().ljust(0x1000, FF)
        assert sum(length for _, length in plan.ranges) == len(set().union(*map(_bytes, plan.ranges)))


def _bytes(span: tuple[int, int]) -> range:
    return range(span[0], span[0] + span[1])


def test_a_configuration_is_for_openbeken_only() -> None:
    refused(demo(), "not-openbeken", config=config(), overrides=OVERRIDABLE)
    refused(dump(), "not-openbeken", config=config())


@real_images
def test_a_configuration_alone() -> None:
    held = patched(own(), 0, real("OpenBK7231N_QIO_1.18.300.bin"))
    alone = config().ljust(0x1000, FF)
    plan = plan_write(alone, "cfg.bin", board=Board(held=held))
    assert plan.contents(alone) == [(0x1D1000, alone)]
    refused(alone, "not-openbeken", board=Board(held=own()))
    refused(alone, "wrong-place", start=0, board=Board(held=held))


def test_a_calibration_alone_goes_back_to_its_own_board() -> None:
    sector = own()[CAL:CAL_END]
    lost = patched(own(), CAL, FF * 0x1000)
    plan = plan_write(sector, "cal.bin", board=Board(held=lost, backup=own()))
    assert plan.contents(sector) == [(CAL, sector)]
    refused(dump()[CAL:CAL_END], "erases-calibration", board=Board(held=lost, backup=own()))
    refused(patched(sector, 0x24, bytes(6)), "damaged", board=Board(held=lost, backup=own()))


# --- identity -----------------------------------------------------------------------------------------------------


def cal(data: bytes):
    found = read_calibration(data[CAL:CAL_END])
    assert found is not None
    return found


LOST_CAL = FF * 0x1000


def test_a_sound_board_stays_itself() -> None:
    plan = plan_write(dump(), "dump.bin", board=Board(held=own(), backup=own()))
    after = written(plan, dump(), own())
    assert after[CAL:CAL_END] == own()[CAL:CAL_END]
    assert after[STORE:] == own()[STORE:]
    assert after[:CAL] == dump()[:CAL]
    assert plan.mac is None
    assert any("calibration stays the board's own, MAC 02:52:49:00:00:01" in note for note in plan.notes)
    assert plan.leans_on == flashmap.identity_ranges()


def test_a_lost_calibration_comes_back_from_the_backup() -> None:
    held = patched(own(), CAL, LOST_CAL)
    plan = plan_write(dump(), "dump.bin", board=Board(held=held, backup=own(), efuse_mac="02:00:00:00:00:77"))
    assert written(plan, dump(), held)[CAL:CAL_END] == own()[CAL:CAL_END]
    assert plan.mac is None
    assert any("comes back from its first backup, MAC 02:52:49:00:00:01" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("efuse_mac", "mac", "expected", "origin"),
    [
        ("02:00:00:00:00:77", None, "02:00:00:00:00:77", "from its efuse"),
        ("02:00:00:00:00:77", "C8-47-8C-01-02-03", "c8:47:8c:01:02:03", "given by the user"),
        (None, "c8478c010203", "c8:47:8c:01:02:03", "given by the user"),
        (None, None, None, "made up"),
        ("00:00:00:00:00:00", None, None, "made up"),
        ("ff:ff:ff:ff:ff:ff", None, None, "made up"),
    ],
)
def test_lost_everywhere_it_is_the_donors_with_a_mac_of_this_board(
    efuse_mac: str | None, mac: str | None, expected: str | None, origin: str
) -> None:
    held = patched(own(), CAL, LOST_CAL)
    board = Board(held=held, backup=held, efuse_mac=efuse_mac, mac=mac)
    plan = plan_write(dump(), "dump.bin", board=board)
    found = cal(written(plan, dump(), held))
    assert found.mac == plan.mac != cal(dump()).mac
    assert not found.problems
    if expected is None:
        assert int(str(plan.mac)[:2], 16) & 3 == 2, "not locally administered, or of a group"
        assert plan_write(dump(), "dump.bin", board=board).mac == plan.mac, "two plans for one board disagree"
        assert plan_write(dump(), "dump.bin", board=replace(board, spare_mac="02:00:00:00:00:01")).mac != plan.mac
    else:
        assert plan.mac == expected
    assert any(origin in note and str(plan.mac) in note for note in plan.notes)
    ours, theirs = written(plan, dump(), held)[CAL:CAL_END], dump()[CAL:CAL_END]
    assert {at for at in range(0x1000) if ours[at] != theirs[at]} <= set(range(0x24, 0x2A)), (
        "more than its MAC changed"
    )


def test_a_board_that_lost_its_mac_only_keeps_its_calibration() -> None:
    held = patched(own(), CAL + 0x24, bytes(6))
    plan = plan_write(dump(), "dump.bin", board=Board(held=held, backup=held, mac="c8:47:8c:01:02:03"))
    after = written(plan, dump(), held)
    assert after[CAL:CAL_END] == patched(held[CAL:CAL_END], 0x24, bytes.fromhex("c8478c010203"))
    assert any("the board's MAC is lost" in note for note in plan.notes)


def test_a_mac_that_was_given_and_not_needed_is_said() -> None:
    plan = plan_write(dump(), "dump.bin", board=Board(held=own(), backup=own(), mac="c8:47:8c:01:02:03"))
    assert plan.mac is None
    assert any("c8:47:8c:01:02:03 was not used" in note for note in plan.notes)
    with pytest.raises(UsageProblem, match="is no MAC"):
        plan_write(dump(), "dump.bin", board=Board(mac="nonsense"))


def test_no_calibration_anywhere_is_said_and_nothing_is_put_there() -> None:
    bare = patched(dump(), CAL, LOST_CAL)
    held = patched(own(), CAL, bytes(0x1000))
    plan = plan_write(bare, "dump.bin", board=Board(held=held, backup=held))
    assert written(plan, bare, held)[CAL:CAL_END] == bytes(0x1000)
    assert any("neither its backup nor the dump has one" in note for note in plan.notes)


def test_storage_in_no_known_format_is_the_boards_own() -> None:
    assert read_storage(own()[STORE:]) is None
    plan = plan_write(dump(), "dump.bin", board=Board(held=own(), backup=own()))
    assert written(plan, dump(), own())[STORE:] == own()[STORE:]
    held = patched(own(), STORE, FF * (STORE_END - STORE))
    plan = plan_write(dump(), "dump.bin", board=Board(held=held, backup=own()))
    assert written(plan, dump(), held)[STORE:] == own()[STORE:]


TYWB, SMART = "tywb_4ch_rf_switch_CB3S_1.2.1.bin", "smartled_8044_1gang_CBU_virgin.bin"
WIPED = FF * (STORE_END - STORE)


@real_images
@pytest.mark.parametrize("calibration", ["sound", "lost"])
@pytest.mark.parametrize(
    ("held", "backup", "expected"),
    [
        ("own", "own", "own"),
        ("wiped", "own", "own"),
        ("zeros", "own", "own"),
        ("damaged", "own", "own"),
        ("own", "damaged", "own"),
        ("wiped", "wiped", "blank"),
        ("zeros", "damaged", "blank"),
        ("damaged", "damaged", "blank"),
        ("damaged", None, "blank"),
    ],
)
def test_tuyas_storage_is_the_boards_own_or_blank(
    held: str, backup: str | None, expected: str, calibration: str
) -> None:
    """Two real boards, one dump: each combination of what is lost."""
    mine, donor = real(TYWB), real(SMART)
    store = mine[STORE:]
    states = {
        "own": store,
        "wiped": WIPED,
        "zeros": bytes(len(WIPED)),
        "damaged": patched(store, 0x3000, bytes(64)),
    }
    sector = mine[CAL:CAL_END] if calibration == "sound" else LOST_CAL
    before = patched(patched(mine, STORE, states[held]), CAL, sector)
    first = None if backup is None else patched(patched(mine, STORE, states[backup]), CAL, sector)
    plan = plan_write(donor, "dump.bin", board=Board(held=before, backup=first, efuse_mac="c8:47:8c:00:11:22"))
    after = written(plan, donor, before)
    assert after[STORE:] == (store if expected == "own" else WIPED)
    assert cal(after).mac == (cal(mine).mac if calibration == "sound" else "c8:47:8c:00:11:22")
    assert any("storage" in note and ("blank" in note) == (expected == "blank") for note in plan.notes)
    assert after[:CAL] == donor[:CAL]


def test_a_board_nobody_looked_at_is_left_as_it_is() -> None:
    plan = plan_write(dump(), "dump.bin")
    assert plan.ranges == [(0, 0x1D0000), (0x1D1000, 0x1C000)]
    assert any("was not looked at" in note for note in plan.notes)


def test_a_boards_own_backup_goes_back_whole_whatever_it_is() -> None:
    for break_it, says in (
        (lambda data: data, ""),
        (lambda data: patched(data, 0, FF * 0x11000), "damaged"),
        (lambda data: patched(data, CAL, LOST_CAL), "no radio calibration"),
        (lambda data: FF * 0x200000, "did not start"),
    ):
        data = break_it(own())
        plan = plan_write(data, "own.bin", own_backup=True, board=Board(held=dump(), backup=data))
        assert plan.contents(data) == [(0, data)]
        assert says in " ".join(plan.notes)
    for data in (own()[:0x1FF000], own() + b"x", bytes(0x200000), b""):
        with pytest.raises(ImageRefused):
            plan_write(data, "own.bin", own_backup=True)
    with pytest.raises(UsageProblem, match="goes to 0x0"):
        plan_write(own(), "own.bin", own_backup=True, start=0x11000, overrides=["wrong-place"])


# --- properties ---------------------------------------------------------------------------------------------------


@cache
def files() -> dict[str, bytes]:
    return {
        "qio": demo(),
        "app": app(),
        "dump": dump(),
        "boot": demo()[:0x11000],
        "zero": zero_key_demo(),
        "over": demo() + FF * (0x1D1000 - len(demo())),
        "short dump": dump()[:0x1D0800],
        "short app": app()[: 34 * 99],
        "uf2": uf2([(0x11000, app())]),
        "calibration": own()[CAL:CAL_END],
        "config": config().ljust(0x1000, FF),
        "text": b"words\n" * 1000,
    }


@cache
def states() -> dict[str, bytes | None]:
    return {
        "nothing": None,
        "own": own(),
        "no calibration": patched(own(), CAL, LOST_CAL),
        "no mac": patched(own(), CAL + 0x24, bytes(6)),
        "no storage": patched(own(), STORE, WIPED),
        "erased": FF * 0x200000,
        "short": own()[:0x1D0010],
    }


boards = st.builds(
    Board,
    flash_size=st.sampled_from([0x200000, 0x200000, 0x100000, 0x400000, 0x1000]),
    key=st.sampled_from(["tuya", "tuya", "zero", "unknown", None]),
    efuse_mac=st.sampled_from([None, "02:00:00:00:00:77", "bad"]),
    mac=st.sampled_from([None, None, "c8:47:8c:01:02:03"]),
    no_backup=st.booleans(),
)
starts = st.one_of(
    st.none(), st.sampled_from([0, 0x11000, 0x12A000, 0x1D0000, 0x1D1000]), st.integers(-(2**33), 2**33)
)


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and boards are few here: what they are is found out once."""
    from rig.image.planning import board, kept, places

    known = cache(lambda data: identify(data))
    for module in (board, guard, places):
        monkeypatch.setattr(module, "identify", lambda data, name="", profiles=None: known(data))
    monkeypatch.setattr(kept, "read_storage", cache(read_storage))
    for name in ("vectors_key", "read_code"):
        monkeypatch.setattr(board, name, cache(getattr(board, name)))


@settings(
    max_examples=250, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(sorted(files())),
    board=boards,
    held=st.sampled_from(sorted(states())),
    backup=st.sampled_from(sorted(states())),
    start=starts,
    keep=st.booleans(),
    backed=st.sampled_from([False, False, False, True]),
    overrides=st.lists(st.sampled_from(OVERRIDABLE), max_size=len(OVERRIDABLE), unique=True),
    with_config=st.booleans(),
)
def test_no_plan_touches_what_it_must_not(
    remembered: None,
    name: str,
    board: Board,
    held: str,
    backup: str,
    start: int | None,
    keep: bool,
    backed: bool,
    overrides: list[str],
    with_config: bool,
) -> None:
    data = files()[name]
    board = replace(board, held=states()[held], backup=states()[backup])
    try:
        plan = plan_write(
            data, name, board=board, start=start, keep_identity=keep, own_backup=backed, overrides=overrides,
            config=config() if with_config else None,
        )  # fmt: skip
    except (ImageRefused, UsageProblem):
        return
    at = 0
    for piece, (offset, content) in zip(plan.pieces, plan.contents(data), strict=True):
        assert at <= offset == piece.flash_offset, "pieces overlap, or are out of order"
        assert len(content) == piece.length > 0
        at = offset + piece.length
        assert at <= board.flash_size
        if offset < 0x11000:
            assert identify(data).boot is not None or backed or "damaged" in overrides
            assert piece.source_offset == 0
        kept = board.held is not None and piece.content is not None and piece.source_offset is None
        for first, last, rule in ((CAL, CAL_END, "erases-calibration"), (STORE, STORE_END, "erases-storage")):
            if offset < last and first < at and not backed and (keep or name != "dump"):
                restored = name == "calibration" and board.backup is not None and data in board.backup
                by_name = any(said.startswith(rule) for said in plan.overrides)
                assert kept or restored or by_name, "it covers what is the board's own"
                assert not (by_name and board.unsaved), "nothing could bring it back"
    assert all(said.split(":")[0] in overrides for said in plan.overrides)
    if board.held and len(board.held) == board.flash_size:
        left = plan.untouched(board.held)
        sectors = {at // 0x1000 for offset, part in left for at in range(offset, offset + len(part), 0x1000)}
        covered = {at // 0x1000 for offset, size in plan.ranges for at in range(offset, offset + size)}
        assert not sectors & covered
        assert sectors | covered == set(range(board.flash_size // 0x1000))


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    which=st.sampled_from(["qio", "app", "uf2", "calibration", "config"]),
    patches=st.lists(st.tuples(st.integers(0, 0x1FFFFF), st.binary(min_size=1, max_size=40)), max_size=4),
    cut=st.one_of(st.none(), st.integers(0, 0x1000)),
    start=starts,
    overrides=st.lists(st.sampled_from(OVERRIDABLE), max_size=3, unique=True),
)
def test_any_bytes_end_in_a_plan_or_one_sentence(
    which: str, patches: list[tuple[int, bytes]], cut: int | None, start: int | None, overrides: list[str]
) -> None:
    data = files()[which]
    for at, new in patches:
        data = patched(data, at % len(data), new)[: len(data)]
    data = data[:cut] if cut is not None else data
    try:
        plan = plan_write(data, "x", board=Board(held=own(), backup=own()), start=start, overrides=overrides)
    except (ImageRefused, UsageProblem):
        return
    assert all(offset >= 0 and offset + length <= 0x200000 for offset, length in plan.ranges)


# --- the rules' page ----------------------------------------------------------------------------------------------


def test_the_page_is_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "image-rules.md").read_text(encoding="utf-8")
    assert page == as_markdown()
    for rule in RULES.values():
        assert f"| `{rule.name}` | {rule.says} | {rule.why} |" in page
        assert re.fullmatch(r"[a-z0-9-]+", rule.name)
        assert rule.says.endswith(".")
        assert rule.why.endswith(".")
        assert "|" not in rule.says + rule.why
    assert {"not-an-image", "too-large", "not-allowed"}.isdisjoint(OVERRIDABLE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        runpy.run_module("rig.image.planning.rules", run_name="__main__")
    assert capsys.readouterr().out == page


def test_every_rule_that_is_used_is_in_the_table_and_every_one_is_used() -> None:
    names = set()
    for path in (ROOT / "rig" / "image").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        names |= set(re.findall(r"(?:refuse|broken)\(\s*\"([a-z0-9-]+)\"", text))
        names |= set(re.findall(r"rule=\"([a-z0-9-]+)\"", text))
    assert names == set(RULES)
