"""The executing model of the chip runs real firmware and prints what the logs of that firmware say."""

from __future__ import annotations

import os
import re
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

import pytest

from rig.image import beken
from rig.sim.flash import SIZE, NorFlash

pytest.importorskip("unicorn", reason="the executing model needs unicorn (extra: sim)")

from rig.sim.soc import Load
from tests.soc_programs import MS, Bench

FIRMWARE_DIR = os.environ.get("RIG_FIRMWARE_DIR")
LOG_DIR = os.environ.get("RIG_LOG_DIR")
pytestmark = [
    pytest.mark.skipif(not FIRMWARE_DIR, reason="RIG_FIRMWARE_DIR names no folder of real images"),
    pytest.mark.skipif(not LOG_DIR, reason="RIG_LOG_DIR names no folder of real logs"),
]

OBK = "OpenBK7231N_QIO_1.18.300.bin"
TUYA = "tywb_4ch_rf_switch_CB3S_1.2.1.bin"
APP = 0x11000
AP_STARTED = "sending broadcast_deauth:5"
EFUSE = bytes.fromhex("93b00f51dceacba37ea1935903ebadc7") + bytes(16)


def image(name: str) -> bytearray:
    data = (Path(FIRMWARE_DIR or "") / name).read_bytes()
    return bytearray(data.ljust(SIZE, b"\xff"))


def recorded(name: str) -> list[str]:
    """The UART2 text of a log with columns guest ms, instructions, port, text."""
    text = (Path(LOG_DIR or "") / "emulated" / name).read_bytes().decode("latin-1").replace("\r", "")
    return [normal(line.split(" U2 ", 1)[1]) for line in text.split("\n") if " U2 " in line]


def normal(line: str) -> str:
    """What differs from run to run taken out: random registers, idle counts, firmware clocks and uptimes."""
    line = re.sub(r"^((?:IRQ|FIR):\S+ \S+ \S+) [0-9a-f]{8}", r"\1 RANDOM", line.rstrip())
    line = re.sub(r"idle \d+/s", "idle N/s", line)
    line = re.sub(r"^\[\d\d-\d\d \d\d:\d\d:\d\d ", "[DATE ", line)
    return re.sub(r"(tcp_port:|app_init:|pre_device_init:)\d+", r"\1N", line)


def printed(bench: Bench) -> list[str]:
    return [normal(line) for line in bench.text().split("\n")][:-1]


def boot(data: bytes | NorFlash, ms: float) -> Bench:
    return Bench(data, efuse=EFUSE).run_through_resets(ms)


@pytest.fixture(scope="module")
def first_boot() -> Bench:
    """OpenBeken's first 7.2 seconds on a virgin flash."""
    return boot(bytes(image(OBK)), 7200)


def test_openbeken_prints_its_log_up_to_the_access_point(first_boot: Bench) -> None:
    expected = recorded("obkN_1.18.300_first_boot.log")
    upto = expected.index(AP_STARTED) + 1
    assert printed(first_boot)[:upto] == expected[:upto]


def test_the_chip_is_busy_calibrates_sends_and_idles_when_it_should(first_boot: Bench) -> None:
    changes = [*first_boot.loads, (Load.HALTED, first_boot.soc.now_ns)]
    spent = dict.fromkeys(Load, 0)
    for (load, start), (_, end) in pairwise(changes):
        spent[load] += end - start
    assert 90 * MS < spent[Load.RF_CAL] < 250 * MS
    assert 200 * MS < spent[Load.ERASE] < 1000 * MS
    assert spent[Load.PROGRAM] > 20 * MS
    assert spent[Load.IDLE] > 4000 * MS
    sending = [ns for load, ns in first_boot.loads if load is Load.RF_TX]
    assert sending
    assert sending[0] > 6000 * MS  # not before the access point
    assert [ns for _, ns in first_boot.loads] == sorted(ns for _, ns in first_boot.loads)


def test_a_second_boot_finds_what_the_first_one_wrote(first_boot: Bench) -> None:
    missing = "No TLV header found in flash"
    assert missing in printed(first_boot)
    second = boot(NorFlash(bytes(first_boot.flash.data), sr=first_boot.flash.sr), 1200)
    lines = printed(second)
    assert missing not in lines
    loaded = "Warn:CFG:CFG_InitAndLoad: Correct config has been loaded with 1 changes count."
    assert loaded in lines
    assert loaded not in printed(first_boot)
    assert "Info:MAIN:Main_Init_Before_Delay done" in lines
    assert lines[:20] == printed(first_boot)[:20]


def test_another_random_seed_changes_the_banner_only() -> None:
    data = bytes(image(OBK))
    one, two = (Bench(data, efuse=EFUSE, seed=seed).run_through_resets(60) for seed in (1, 2))
    assert one.text() != two.text()
    assert printed(one) == printed(two)


def test_a_changed_letter_in_the_firmware_changes_the_log() -> None:
    data = image(OBK)
    payload, _ = beken.unframe(data)
    at = beken.crypt(payload, 0, beken.TUYA_KEY).index(b"Entering initLog")
    change_code(data, at, ord("E") ^ ord("A"))
    lines = printed(boot(bytes(data), 60))
    assert "Antering initLog()..." in lines
    assert "Entering initLog()..." not in lines


def change_code(data: bytearray, address: int, bits: int) -> None:
    """Flip `bits` of one code byte and put its block's CRC right."""
    start = address // 32 * 34
    data[start + address % 32] ^= bits
    data[start + 32 : start + 34] = beken.crc16(bytes(data[start : start + 32])).to_bytes(2, "big")


def test_tuya_firmware_prints_its_log() -> None:
    """Two of its threads print at the same time in the first quarter second: there the lines mix by chance."""
    bench = boot(bytes(image(TUYA)), 3600)
    lines, expected = printed(bench), recorded("tuyaN_tywb_4ch_factory_boot.log")
    alone = "gapm_cmp_evt:wait GAPM_GEN_RAND_NB"
    assert lines[:13] == expected[:13]
    assert lines[lines.index(alone) :] == expected[expected.index(alone) :]
    matching = SequenceMatcher(None, expected, lines, autojunk=False).get_matching_blocks()
    assert sum(block.size for block in matching) > 0.85 * len(expected)


LOOP = "[ARM ANOMALY][2]"
BANNER = "V:BK7231N_1.0.1"


@pytest.mark.parametrize(
    ("start", "end", "log"),
    [
        pytest.param(APP, 0x130000, "damage_obkN_app_erased.log", id="app erased"),
        pytest.param(APP + 0x40, APP + 0x60, "damage_obkN_app_block_bad_40.log", id="a block of the start-up code"),
        pytest.param(0x80000, 0x130000, "damage_obkN_app_second_half_ff.log", id="second half of the app erased"),
    ],
)
def test_damage_that_is_executed_resets_for_ever(start: int, end: int, log: str) -> None:
    data = image(OBK)
    data[start:end] = b"\xff" * (end - start)
    bench = boot(bytes(data), 60)
    lines, expected = printed(bench), recorded(log)
    assert [cause for cause, _ in bench.resets] == ["watchdog"] * 2
    assert lines.count(BANNER) == 3
    assert "ST:0001AD12" in lines
    assert lines[:20] == expected[:20]


def test_damage_that_is_not_executed_does_not_show() -> None:
    data = image(OBK)
    data[APP + 0x8000 : APP + 0x8020] = bytes(32)
    assert "app_init finished" in printed(boot(bytes(data), 1500))


@pytest.mark.parametrize(
    "case", ["bootloader erased", "app at 0", "all erased", "a BK7231T image", "another chip's image"]
)
def test_what_the_rom_does_not_start(case: str) -> None:
    data = image(OBK)
    if case == "bootloader erased":
        data[:APP] = b"\xff" * APP
    elif case == "app at 0":
        data = data[APP:] + b"\xff" * APP
    elif case == "all erased":
        data = bytearray(b"\xff" * SIZE)
    else:
        data = image("OpenBK7231T_QIO_1.18.300.bin" if "T" in case else "esp8266_deepsleep.bin")
    bench = Bench(bytes(data), efuse=EFUSE)
    assert bench.soc.start() is False
    bench.soc.run(100 * MS)
    assert bench.sent == []


def test_firmware_for_another_key_is_silent() -> None:
    bench = Bench(bytes(image(OBK)), efuse=bytes(32)).run(1000)
    assert bench.sent == []
    assert bench.soc.is_dead
