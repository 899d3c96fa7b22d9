"""What a damaged or wrong flash does on the executing chip, what the rig's verdict on it is, and what a reset keeps.

A case is labelled "guess" where its end hangs on one, foremost on what the CPU reads from a block whose CRC-16 fails.
That is not known: here it reads FF, an undefined instruction (docs/simulation.md says what is known).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest

pytest.importorskip("unicorn", reason="the executing model needs unicorn (extra: sim)")

from rig.image import beken
from rig.image.code import read_code
from rig.image.contents.calibration import read_calibration
from rig.image.contents.openbeken import crc8_unsigned
from rig.image.firmware import load_profiles
from rig.image.health.diagnosis import Diagnosis, Forecast, diagnose
from rig.image.health.startpath import start_path
from rig.line.boot import causes_of
from rig.sim import firmware
from rig.sim.flash import SIZE
from rig.sim.soc import memory
from rig.uart.bootlog import LogLine
from rig.uart.verdict import BootKind
from tests import obk_config
from tests.image_files import real_images
from tests.log_lines import difference, kept_logs, normal, recorded
from tests.real_boots import (
    APP,
    APP_END,
    CALIBRATION,
    EFUSE,
    OBK,
    OBK_T,
    TUYA,
    boot,
    image,
    openbeken_on_tuya,
    verdict,
)
from tests.soc_programs import Bench

pytestmark = [real_images, kept_logs]

AP_STARTED = "sending broadcast_deauth:5"
BANNER, JUMP, ANOMALY = "V:BK7231N_1.0.1", "J 0x10000", "[ARM ANOMALY][2]"
AFTER_ANOMALY = "ST:0001AD12"
EFUSE_DUMP = "ltchiptool_bk72xx_2024-11-07_11-42-46_efuse.bin"
HALF = 0x80000


def erased(name: str, start: int, end: int) -> bytearray:
    data = image(name)
    data[start:end] = b"\xff" * (end - start)
    return data


def with_bootloader(bootloader: bytes) -> bytearray:
    data = image(OBK)
    data[:APP] = bootloader[:APP]
    return data


def zero_key_bootloader() -> bytes:
    """OpenBeken's, as for a chip whose cipher is off."""
    payload, _ = beken.unframe(bytes(image(OBK)[:APP]))
    plain = bytearray(beken.crypt(payload, 0, beken.TUYA_KEY))
    plain[0x100:0x108] = b"BK7231\0\0"
    return beken.frame(bytes(plain))


def efuse_dump_at(start: int) -> bytearray:
    """The 32 bytes of an efuse dump written as if they were firmware: their sector is gone."""
    data = erased(OBK, start, start + 0x1000)
    dump = bytes(image(EFUSE_DUMP)[:32])
    data[start : start + len(dump)] = dump
    return data


def half_written() -> bytearray:
    """A conversion that stopped half way: new app, one erased sector, old app."""
    data = image(TUYA)
    data[APP:HALF] = image(OBK)[APP:HALF]
    data[HALF : HALF + 0x1000] = b"\xff" * 0x1000
    return data


def app_for_another_key() -> bytearray:
    """OpenBeken's, as for a chip whose cipher is off, behind a bootloader as it should be."""
    data = image(OBK)
    code = read_code(bytes(data), APP, APP_END, 0x10000, "tuya")
    stored = beken.frame(code.plain)
    data[APP:APP_END] = stored.ljust(APP_END - APP, b"\xff")
    return data


def t_app() -> bytearray:
    data = image(OBK)
    data[APP:] = image(OBK_T)[APP:]
    return data


SILENT, ONLY, LOOP, BOOTED = BootKind.SILENT, BootKind.BOOTLOADER_ONLY, BootKind.BOOT_LOOP, BootKind.BOOTED
SHORT, TO_AP = 90, 7700  # guest ms


@dataclass(frozen=True)
class Case:
    """`log`: the kept log that it must print. `guess`: why its end is one, "" where it is none."""

    flash: Callable[[], bytes | bytearray]
    kind: BootKind
    log: str | None = None
    ms: float = SHORT
    efuse: bytes = EFUSE
    starts: bool = True  # the ROM starts the flash
    guess: str = ""


NO_TAG = "that the ROM wants its tag"
BAD_BLOCK = "what a block with a wrong CRC reads as"
CASES = {
    "bootloader erased": Case(
        lambda: erased(OBK, 0, APP), SILENT, "damage_obkN_bootloader_erased.log", starts=False, guess=NO_TAG
    ),
    "all erased": Case(lambda: b"\xff" * SIZE, SILENT, starts=False, guess=NO_TAG),
    "app at 0x0": Case(lambda: image(OBK)[APP:], SILENT, "damage_obkN_UA_at_0.log", starts=False, guess=NO_TAG),
    "T on N": Case(lambda: image(OBK_T), SILENT, "damage_obkT_QIO_on_N_chip.log", starts=False, guess=NO_TAG),
    "another chip's image": Case(lambda: image("esp8266_deepsleep.bin"), SILENT, starts=False, guess=NO_TAG),
    "efuse dump at 0x0": Case(lambda: efuse_dump_at(0), SILENT, starts=False, guess=NO_TAG),
    "app erased": Case(lambda: erased(OBK, APP, APP_END), ONLY, "damage_obkN_app_erased.log", guess=BAD_BLOCK),
    "efuse dump at 0x11000": Case(
        lambda: efuse_dump_at(APP), ONLY, "damage_obkN_efuse_dump_at_11000.log", guess=BAD_BLOCK
    ),
    "bad block executed": Case(
        lambda: erased(OBK, APP + 0x40, APP + 0x60), ONLY, "damage_obkN_app_block_bad_40.log", guess=BAD_BLOCK
    ),
    "app second half ff": Case(
        lambda: erased(OBK, HALF, APP_END), ONLY, "damage_obkN_app_second_half_ff.log", guess=BAD_BLOCK
    ),
    "bad block never executed": Case(
        lambda: erased(OBK, APP + 0x8000, APP + 0x8020), BOOTED, "damage_obkN_app_block_bad_8000.log", TO_AP
    ),
    "wiped calibration": Case(
        lambda: openbeken_on_tuya()[:CALIBRATION] + b"\xff" * 0x1000 + image(TUYA)[CALIBRATION + 0x1000 :],
        BOOTED,
        "damage_obkN_TLV_erased.log",
        TO_AP,
    ),
    "wiped calibration, Tuya": Case(lambda: erased(TUYA, CALIBRATION, CALIBRATION + 0x1000), BOOTED, None, 1300),
    "half-written app": Case(half_written, ONLY),
    "app without its last blocks": Case(
        lambda: erased(TUYA, 0x10BD10 - 4 * 34, APP_END), BootKind.CRASHED, None, 1300, guess=BAD_BLOCK
    ),
    "T app under an N bootloader": Case(t_app, LOOP, guess="that an access past the RAM's end aborts"),
    "foreign bootloader": Case(lambda: with_bootloader(firmware.demo_image()), BOOTED, None, TO_AP),
    "bootloader of a T": Case(lambda: with_bootloader(bytes(image(OBK_T))), SILENT, starts=False, guess=NO_TAG),
    "bootloader for another key": Case(lambda: with_bootloader(zero_key_bootloader()), SILENT),
    "wrong efuse key": Case(lambda: image(OBK), SILENT, efuse=bytes(32)),
    "app for another key": Case(app_for_another_key, ONLY),
    "cut-off file": Case(lambda: bytes(image(OBK)[:0x60000]), ONLY, guess=BAD_BLOCK),
}


@cache
def play(case: Case) -> Bench:
    return boot(case.flash(), case.ms, efuse=case.efuse)


@pytest.mark.parametrize(
    "name", [pytest.param(name, id=f"{name}{', guess' if case.guess else ''}") for name, case in CASES.items()]
)
def test_damage(name: str) -> None:
    case = CASES[name]
    bench = play(case)
    lines = normal(bench.text())
    if case.log:
        expected = normal(recorded(case.log))
        if case.kind is BOOTED:
            expected = expected[: expected.index(AP_STARTED) + 1]
        assert difference(lines[: len(expected)], expected) == ""
    found = verdict(bench)
    assert found.kind is case.kind, found.sentence
    assert found.code == {SILENT: "log-silent", ONLY: "bootloader-only", LOOP: "boot-loop"}.get(case.kind, found.code)
    assert Bench(bytes(case.flash())).soc.start() is case.starts
    if case.kind is SILENT:
        assert bench.sent == []
    if case.kind is BOOTED:
        assert found.complete, found.sentence
        assert found.rf_lost
        assert bench.resets == []


# --- the diagnosis of the file agrees with what the chip did -------------------------------------------------------

FORECASTS = {
    Forecast.SILENT: SILENT, Forecast.BOOTLOADER_ONLY: ONLY, Forecast.BOOT_LOOP: LOOP, Forecast.BOOTS: BOOTED,
    Forecast.CRASHES: BootKind.CRASHED,
}  # fmt: skip
# What these end in hangs on whether the damaged block is ever needed, which no look at the file tells.
NOT_FORETOLD = {"bad block never executed", "half-written app", "app without its last blocks"}
DAMAGE = {
    "bootloader erased": "bootloader-erased",
    "all erased": "bootloader-erased",
    "app at 0x0": "app-at-0",
    "T on N": "bootloader-wrong-chip",
    "another chip's image": "bootloader-unknown",
    "efuse dump at 0x0": "block-crc",
    "app erased": "app-erased",
    "efuse dump at 0x11000": "block-crc",
    "bad block executed": "block-crc",
    "app second half ff": "truncated",
    "bad block never executed": "block-crc",
    "wiped calibration": "calibration-wiped",
    "wiped calibration, Tuya": "calibration-wiped",
    "half-written app": "block-crc",
    "app without its last blocks": None,  # nothing shows it: see the forecast
    "T app under an N bootloader": "app-wrong-chip",
    "foreign bootloader": None,
    "bootloader of a T": "bootloader-wrong-chip",
    "bootloader for another key": "key-mismatch",
    "wrong efuse key": "key-mismatch",
    "app for another key": "key-mismatch",
    "cut-off file": "truncated",
}


def diagnosis(case: Case) -> Diagnosis:
    """Of the flash as a board holds it."""
    return diagnose(bytes(case.flash()).ljust(SIZE, b"\xff"), key="tuya" if case.efuse == EFUSE else "zero")


@pytest.mark.parametrize("name", CASES)
def test_the_diagnosis_foretells_what_the_chip_does(name: str) -> None:
    case = CASES[name]
    found, kind = diagnosis(case), verdict(play(case)).kind
    assert kind in [FORECASTS[item] for item in found.possible]
    assert (found.forecast is Forecast.UNKNOWN) is (name in NOT_FORETOLD)
    if name not in NOT_FORETOLD:
        assert FORECASTS[found.forecast] is kind
        assert found.bootable is (kind is BOOTED)
    assert bool(found.guesses) is (bool(case.guess) or name in NOT_FORETOLD)
    assert ("a guess" in found.on_a_board) is bool(found.guesses)
    names = {item.name for item in found.damages}
    assert DAMAGE[name] is None or DAMAGE[name] in names
    if kind is BOOTED:
        assert verdict(play(case)).rf_lost is ("calibration-wiped" in names)


def test_a_file_that_was_cut_off_is_foretold_as_well() -> None:
    found = diagnose(bytes(CASES["cut-off file"].flash()))
    assert [item.name for item in found.damages] == ["truncated"]
    assert FORECASTS[found.forecast] is verdict(play(CASES["cut-off file"])).kind


def test_what_every_start_runs_is_run_at_every_start() -> None:
    """A damaged block on the path that the diagnosis follows stops the chip, each one: it may say so for certain."""
    data = bytes(image(OBK))
    for start, end, logical, kind in ((0, APP, 0, SILENT), (APP, APP_END, 0x10000, ONLY)):
        code = read_code(data, start, end, logical, "tuya")
        blocks = start_path(code.plain, logical).blocks
        assert len(blocks) >= 3
        for block in blocks:
            hurt = bytearray(data)
            hurt[start + block * 34 + 20] ^= 0x10
            assert diagnose(bytes(hurt)).forecast is {SILENT: Forecast.SILENT, ONLY: Forecast.BOOTLOADER_ONLY}[kind]
            assert verdict(boot(hurt, 40)).kind is kind, (hex(start), block)


def test_a_calibration_that_firmware_made_up_is_known_as_one() -> None:
    """After its first start without one a board has a calibration again, and a MAC: neither is its own."""
    for name in ("wiped calibration", "wiped calibration, Tuya"):
        flash = bytes(play(CASES[name]).flash.data)
        made = read_calibration(flash[CALIBRATION : CALIBRATION + 0x1000])
        assert made is not None
        assert (made.made_up, made.measured, made.problems) == (True, False, ())
        assert "calibration-made-up" in [item.name for item in diagnose(flash).damages]


def test_a_configuration_that_the_diagnosis_calls_refused_is_refused(settled: bytes) -> None:
    config = obk_config.config(ssid="RIG_TEST_AP")
    assert crc8_unsigned(config[4:]) != config[3]
    unsigned = config[:3] + bytes((crc8_unsigned(config[4:]),)) + config[4:]
    for sector, accepted in ((config, True), (unsigned, False)):
        data = bytearray(settled)
        data[obk_config.AT : obk_config.AT + obk_config.SIZE] = sector
        found, lines = diagnose(bytes(data)), normal(boot(data, 120).text())
        line = next(line for line in lines if "CFG_InitAndLoad" in line)
        assert ("Correct config has been loaded" in line) is accepted
        assert ("Default config will be loaded" in line) is not accepted
        assert ("config-crc" in [item.name for item in found.damages]) is not accepted
        assert ("starts with its defaults" in found.on_a_board) is not accepted
        assert found.bootable


# --- how it fails --------------------------------------------------------------------------------------------------


def test_a_loop_through_the_watchdog_shows_in_the_bootloaders_banner() -> None:
    for name in ("app erased", "efuse dump at 0x11000", "bad block executed"):
        lines = normal(play(CASES[name]).text())
        assert lines.count(BANNER) >= 3
        assert lines.count(AFTER_ANOMALY) >= 2
        assert all(lines[at + 1] == ANOMALY for at, line in enumerate(lines[:-1]) if line == JUMP)


def test_bootloader_only_covers_a_loop_in_silence() -> None:
    """It faults too early for the bootloader's handler to print, or runs into address 0 without a reset."""
    for name, resets in (("app second half ff", True), ("half-written app", False)):
        bench = play(CASES[name])
        found = verdict(bench)
        assert bool(bench.resets) is resets
        assert ANOMALY not in bench.text()
        assert found.kind is ONLY
        assert found.resets >= 2
        assert resets or bench.soc.last_fault is None  # every block it ran was good
        assert "before the application said anything" in found.sentence
        lines = [LogLine(at, text) for at, text in enumerate(normal(bench.text()))]
        first, *later = causes_of(lines, load_profiles())
        assert first == "power-on"
        assert set(later) == {"watchdog" if resets else "restart"}  # though its word is 0 each time


def test_a_t_app_on_an_n_ends_at_the_end_of_the_ram(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its heap ends at 0x440000, as a T's RAM does; an N's ends at 0x430000. With the T's 64 KB more it would come as
    far as its first SWI, which the N's bootloader sends to where a T app has no handler: for ever."""
    heap = "prvHeapInit-start addr:0x41f390, size:134256"
    assert 0x41F390 + 134256 == 0x440000 == memory.RAM_BASE + memory.RAM_SIZE + 0x10000
    bench = play(CASES["T app under an N bootloader"])
    lines = normal(bench.text())
    at = lines.index(JUMP)
    assert lines[at + 1 : at + 3] == [heap, ANOMALY]
    assert {cause for cause, _ in bench.resets} == {"watchdog"}
    monkeypatch.setattr(memory, "RAM_SIZE", memory.RAM_SIZE + 0x10000)
    bench = boot(t_app(), 40)
    assert [line for line in normal(bench.text()) if line][-1] == heap
    assert bench.resets == []
    assert bench.soc.running
    assert not verdict(bench).complete


# --- what resets keep ---------------------------------------------------------------------------------------------


def started(text: str) -> list[str]:
    """Each boot's retention word and the cause the app read from it."""
    return [line for line in normal(text) if line.startswith(("ST:", "bk_misc_init_start_type"))]


@pytest.fixture(scope="module")
def settled() -> bytes:
    """OpenBeken's flash after its first second: formatted, configured."""
    return bytes(boot(openbeken_on_tuya(), 1000).flash.data)


def test_a_power_cycle_forgets_and_a_pin_reset_leaves_the_ram(settled: bytes) -> None:
    """Whether CEN leaves RAM on a board is not known. Where it does, OpenBeken takes it for a jump to address 0."""
    bench = Bench(settled, efuse=EFUSE).run(60)
    bench.soc.power_on()
    bench.run(60)
    power_on = ["ST:00000000", "bk_misc_init_start_type 0 0"]
    assert started(bench.text()) == power_on * 2
    bench.soc.reset("cen")
    bench.run_through_resets(120)
    assert started(bench.text())[4:] == [
        "ST:00000000",
        "bk_misc_init_start_type a 0",
        "ST:0001AD05",
        "bk_misc_init_start_type 5 1ad05",
    ]
    assert verdict(bench).reset_cause == "crash-xat0"


def test_a_reboot_by_the_firmware_is_told_as_one(settled: bytes) -> None:
    data = bytearray(settled)
    data[obk_config.AT : obk_config.AT + obk_config.SIZE] = obk_config.config(startup="restart")
    bench = boot(data, 4000)
    assert [cause for cause, _ in bench.resets] == ["watchdog"]
    assert started(bench.text())[2:] == ["ST:00010001", "bk_misc_init_start_type 1 10001"]
    assert verdict(bench).reset_cause == "reboot"


RUNS_LATE = 0x66740  # code of OpenBeken N 1.18.300 that first runs in Main_Init_After_Delay: no watchdog yet


def test_a_bad_block_that_is_executed_late_ends_in_the_apps_own_handler(settled: bytes) -> None:
    data = bytearray(settled)
    data[beken.logical_to_flash(RUNS_LATE)] ^= 1
    bench = boot(data, 900)
    lines = normal(bench.text())
    at = lines.index("undefined instruction")
    assert lines[at - 1] == "Info:MAIN:Main_Init_After_Delay"
    assert lines[at + 1] == "Current regs:"
    assert lines[-1] == "shutdown..."
    assert bench.soc.is_dead
    assert verdict(bench).kind is BootKind.CRASHED
