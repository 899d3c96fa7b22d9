"""The executing model of the chip runs real firmware and prints what the logs of that firmware say, line for line."""

from __future__ import annotations

from itertools import pairwise

import pytest

pytest.importorskip("unicorn", reason="the executing model needs unicorn (extra: sim)")

from rig.image import beken
from rig.sim.flash import NorFlash
from rig.sim.soc import Load
from rig.sim.tuyamcu import BAUD, Command, Dp, Frame, TuyaMcu
from rig.uart.verdict import BootKind
from tests import obk_config
from tests.image_files import real_images
from tests.log_lines import difference, is_woven, kept_logs, normal, recorded, take_out
from tests.real_boots import (
    OBK,
    TUYA,
    boot,
    change_code,
    image,
    openbeken_on_tuya,
    verdict,
)
from tests.soc_programs import MS, Bench

pytestmark = [real_images, kept_logs]

AP_STARTED = "sending broadcast_deauth:5"
SCAN_FAILED = "wpa_driver_scan_timeout sts_status=1,rl_status=2"
NO_TLV = "No TLV header found in flash"


def printed(bench: Bench) -> list[str]:
    return normal(bench.text())


def through(lines: list[str], last: str, nth: int = 1) -> list[str]:
    """The lines up to the `nth` that is `last`; all of them where there is none."""
    at = [at for at, line in enumerate(lines) if line == last]
    return lines[: at[nth - 1] + 1] if len(at) >= nth else lines


def cut(text: str, before: str, after: str) -> tuple[str, str, str]:
    """What comes up to the end of `before`, what is in between, and what comes from `after` on."""
    begin, end = text.index(before) + len(before), text.index(after)
    return text[:begin], text[begin:end], text[end:]


@pytest.fixture(scope="module")
def first_boot() -> Bench:
    """OpenBeken's first 7.2 seconds on a virgin flash."""
    return boot(image(OBK), 7200)


def test_openbeken_prints_its_log_up_to_the_access_point(first_boot: Bench) -> None:
    expected = through(normal(recorded("obkN_1.18.300_first_boot.log")), AP_STARTED)
    assert len(expected) > 130
    assert difference(through(printed(first_boot), AP_STARTED), expected) == ""


def test_openbeken_with_a_stored_configuration_prints_its_log_and_crashes_where_it_would_join() -> None:
    """No radio answers: at 16.7 s its second scan fails, and it runs into a null pointer. The watchdog ends that."""
    data = openbeken_on_tuya()
    name = "8C0159F7"  # its MAC is in the calibration sector
    stored = obk_config.config(
        ssid="RIG_TEST_AP",
        password="rigtest1234",
        mqtt_client=f"obk{name}",
        mqtt_group="bekens_n",
        short_name=f"obk{name}",
        long_name=f"OpenBK7231N_{name}",
    )
    data[obk_config.AT : obk_config.AT + 0x1000] = stored.ljust(0x1000, b"\xff")
    bench = boot(data, 27_500)
    expected = through(normal(recorded("obkN_with_stored_config.log")), SCAN_FAILED, 2)
    lines = printed(bench)
    assert "Warn:CFG:CFG_InitAndLoad: Correct config has been loaded with 1 changes count." in lines
    assert len(expected) > 180
    assert difference(through(lines, SCAN_FAILED, 2), expected) == ""
    assert "data abort" in lines[len(expected) :]
    assert [cause for cause, _ in bench.resets] == ["watchdog"]
    assert 26_000 < bench.resets[0][1] / MS < 27_000  # OpenBeken lets it bite 10 s after the last second it lived
    found = verdict(bench)
    assert (found.kind, found.reset_cause, found.resets) == (BootKind.BOOT_LOOP, "watchdog", 1)


def test_tuya_firmware_prints_its_log() -> None:
    """In between two of its lines three of its threads print at once, and who comes when hangs on some 40 us in the
    phase of a tick: there the log must be a weave of what exactly these threads print here."""
    bench = boot(image(TUYA), 3600, by_task=True)
    log, text = recorded("tuyaN_tywb_4ch_factory_boot.log"), bench.text()
    before, after = "totalstackDepth:8192,priority:4\n", "gapm_cmp_evt:wait GAPM_GEN_RAND_NB\n"
    (begin, woven, end), (our_begin, _, our_end) = (cut(each, before, after) for each in (log, text))
    assert begin.count("\n") >= 15
    assert difference(normal(our_begin), normal(begin)) == ""
    assert end.count("\n") > 90
    assert difference(normal(our_end), normal(end)) == ""
    threads = [take_out(thread) for thread in bench.texts_by_task(before, after)]
    assert len(threads) == 3
    assert is_woven(woven, threads)
    assert not is_woven(woven.replace("init_type=1", "init_type=7"), threads)


def test_a_changed_letter_in_the_firmware_changes_the_log() -> None:
    data = image(OBK)
    payload, _ = beken.unframe(bytes(data))
    at = beken.crypt(payload, 0, beken.TUYA_KEY).index(b"Entering initLog")
    change_code(data, at, ord("E") ^ ord("A"))
    expected = normal(recorded("obkN_1.18.300_first_boot.log"))
    lines = printed(boot(data, 60))
    assert lines == ["Antering initLog()..." if "Entering" in line else line for line in expected[: len(lines)]]
    assert "Antering initLog()..." in lines


def test_another_random_seed_changes_the_banner_only() -> None:
    one, two = (boot(image(OBK), 60, seed=seed) for seed in (1, 2))
    assert one.text() != two.text()
    assert printed(one) == printed(two)


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
    assert NO_TLV in printed(first_boot)
    second = boot(NorFlash(bytes(first_boot.flash.data), sr=first_boot.flash.sr), 1200)
    lines = printed(second)
    assert NO_TLV not in lines
    loaded = "Warn:CFG:CFG_InitAndLoad: Correct config has been loaded with 1 changes count."
    assert loaded in lines
    assert loaded not in printed(first_boot)
    assert "Info:MAIN:Main_Init_Before_Delay done" in lines
    assert lines[:20] == printed(first_boot)[:20]


def test_the_fifth_short_boot_in_a_row_is_in_safe_mode() -> None:
    bench = Bench(bytes(image(OBK))).run(1000)  # the first one formats
    said: list[str] = []
    for _ in range(4):
        before = len(bench.text())
        bench.soc.power_on()
        said.append(bench.run(90).text()[before:])
    assert ["safe mode activated" in boot for boot in said] == [False] * 3 + [True]
    assert "###### safe mode activated - boot failures 5" in said[-1]
    assert verdict(bench).safe_mode


def test_openbekens_tuyamcu_driver_talks_to_the_simulated_mcu() -> None:
    startup = "backlog startDriver TuyaMCU; linkTuyaMCUOutputToChannel 2 bool 1; delay_s 4; setChannel 1 1"
    data = openbeken_on_tuya()
    data[obk_config.AT : obk_config.AT + 0x1000] = obk_config.config(startup=startup).ljust(0x1000, b"\xff")
    mcu = TuyaMcu()
    bench = boot(data, 6500, mcu=mcu)
    assert abs(bench.soc.uart_baud(1) - BAUD) < 0.01 * BAUD
    heartbeat = Frame(Command.HEARTBEAT).encode()
    assert heartbeat == bytes.fromhex("55AA00000000FF")
    sent = [(byte, ns) for port, byte, ns in bench.sent if port == 1]
    assert bytes(byte for byte, _ in sent).startswith(heartbeat)
    times = [ns for _, ns in sent[: len(heartbeat)]]
    assert all(abs(later - sooner - 1_041_667) < 1_000 for sooner, later in pairwise(times))
    asked = [frame.command for frame in mcu.heard]
    assert asked[:4] == [Command.HEARTBEAT, Command.PRODUCT, Command.MODE, Command.STATUS]
    assert mcu.dps[2] == Dp.switch(2, on=True)
    log = bench.lines()
    first = "Info:TuyaMCU:Received: 55 AA 03 00 00 01 00 03"
    assert first in log
    assert 'Info:TuyaMCU:ParseQueryProductInformation: received {"p":"rigsim4gang00001","v":"1.0.0","m":0}' in log
    states = [log[at + 1] for at, line in enumerate(log) if line == "Info:TuyaMCU:ParseState: id 2 type 1-bool len 1"]
    assert states == ["Info:TuyaMCU:ParseState: byte 0", "Info:TuyaMCU:ParseState: byte 1"]


def test_openbekens_tuyamcu_driver_hears_nothing_where_no_mcu_is() -> None:
    data = openbeken_on_tuya()
    stored = obk_config.config(startup="startDriver TuyaMCU")
    data[obk_config.AT : obk_config.AT + 0x1000] = stored.ljust(0x1000, b"\xff")
    bench = boot(data, 2700)
    assert bytes(byte for port, byte, _ in bench.sent if port == 1) == Frame(Command.HEARTBEAT).encode()
    assert "TuyaMCU:Received" not in bench.text()
