"""Verdicts on boot logs: real ones, emulated ones with known damage, and ones made up to be awkward."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.codes import CODES
from rig.image.firmware import load_profiles
from rig.uart.bootlog import LogLine
from rig.uart.markers import find, watch
from rig.uart.verdict import BootKind, Verdict, judge

LOG_DIR = os.environ.get("RIG_LOG_DIR")
real_logs = pytest.mark.skipif(not LOG_DIR, reason="RIG_LOG_DIR names no folder of kept logs")
PROFILES = load_profiles()

BOOTLOADER = ["", "V:BK7231N_1.0.1", "REG:cpsr     spsr     r13      r14", "ST:00000000", "J 0x10000"]
OPENBEKEN = [
    "bk_misc_init_start_type 0 0",
    "prvHeapInit-start addr:0x414ac8, size:111928",
    "OpenBK7231N, version 1.18.300",
    "Info:MAIN:Main_Init_Before_Delay",
    "Info:MAIN:Main_Init_After_Delay done",
    "Info:MAIN:Time 1, idle 282566/s, free 77832",
]
COMPLETE = "Info:MAIN:Boot complete time reached (5 seconds)"
DEMO = [
    "rig-boot 1",
    "ST:00000000",
    "J 0x10000",
    "rig-demo BK7231N, version 1.0.0",
    "reset cause 0 power-on",
    "radio ready",
]


def verdict(*texts: str) -> Verdict:
    return judge([LogLine(at * 1_000_000, text) for at, text in enumerate(texts)], PROFILES)


def read_log(path: Path) -> list[LogLine]:
    """A log's lines. Emulated logs have columns: milliseconds, instructions, port (U0 is a comment, U2 the log)."""
    lines = []
    for at, text in enumerate(path.read_text().splitlines()):
        columns = re.match(r" *([\d.]+) ms +[\d.]+ M (U\d) ?(.*)$", text)
        if columns and columns[2] == "U2":
            lines.append(LogLine(int(float(columns[1]) * 1e6), columns[3]))
        elif not columns and not text.startswith("# "):
            lines.append(LogLine(at * 1_000_000, text))
    return lines


# --- made-up logs -------------------------------------------------------------------------------------------------


def test_a_good_boot() -> None:
    found = verdict(*BOOTLOADER, *OPENBEKEN, COMPLETE)
    assert (found.kind, found.firmware, found.version) == (BootKind.BOOTED, "OpenBeken", "1.18.300")
    assert (found.reset_cause, found.resets, found.complete, found.safe_mode, found.rf_lost) == (
        "power-on", 0, True, False, False,
    )  # fmt: skip
    assert found.code is None
    assert found.sentence == "OpenBeken 1.18.300 booted (last reset cause power-on)."
    assert COMPLETE in [line.text for line in found.evidence]


def test_demo_and_factory_firmware() -> None:
    assert verdict(*DEMO, "alive 5", "boot complete").sentence == "rig-demo 1.0.0 booted (last reset cause power-on)."
    factory = verdict(
        *[text.replace("demo BK7231N, version 1.0.0", "factory BK7231N, version 0.9.3") for text in DEMO]
    )
    assert (factory.firmware, factory.version, factory.complete, factory.code) == (
        "rig-factory", "0.9.3", False, "not-complete",
    )  # fmt: skip


def test_not_complete() -> None:
    found = verdict(*BOOTLOADER, *OPENBEKEN)
    assert (found.kind, found.complete, found.code) == (BootKind.BOOTED, False, "not-complete")


@pytest.mark.parametrize("noise", [[], ["", "  "], ["\\x00\\xff\\x00"], ["\\x00\\x00a"]])
def test_silence_and_noise(noise: list[str]) -> None:
    found = verdict(*noise)
    assert (found.kind, found.code, found.evidence) == (BootKind.SILENT, "log-silent", ())


def test_text_of_no_known_firmware() -> None:
    found = verdict("ets Jan  8 2013,rst cause:2, boot mode:(3,6)", "load 0x40100000, len 1024")
    assert found.kind is BootKind.SILENT
    assert "2 lines" in found.sentence


def test_bootloader_only() -> None:
    assert verdict(*BOOTLOADER).kind is BootKind.BOOTLOADER_ONLY
    anomaly = verdict(*[*BOOTLOADER, "[ARM ANOMALY][2]"] * 3)
    assert (anomaly.kind, anomaly.resets, anomaly.code) == (BootKind.BOOTLOADER_ONLY, 2, "bootloader-only")
    assert "[ARM ANOMALY]" in anomaly.sentence
    assert verdict("noise", "J 0x10000").kind is BootKind.BOOTLOADER_ONLY


@pytest.mark.parametrize(
    ("boots", "kind", "resets"),
    [
        ([OPENBEKEN, OPENBEKEN], BootKind.BOOT_LOOP, 1),
        ([OPENBEKEN, OPENBEKEN, OPENBEKEN], BootKind.BOOT_LOOP, 2),
        ([[], [*OPENBEKEN, COMPLETE]], BootKind.BOOTED, 1),
        ([[*OPENBEKEN, COMPLETE], OPENBEKEN], BootKind.BOOT_LOOP, 1),
        ([[*OPENBEKEN, COMPLETE]] * 3, BootKind.BOOT_LOOP, 2),
        ([OPENBEKEN, []], BootKind.BOOT_LOOP, 1),
        ([OPENBEKEN, ["[ARM ANOMALY][2]"]], BootKind.BOOT_LOOP, 1),
    ],
)
def test_resets(boots: list[list[str]], kind: BootKind, resets: int) -> None:
    found = verdict(*(text for boot in boots for text in (*BOOTLOADER, *boot)))
    assert (found.kind, found.resets) == (kind, resets)


def test_loop_seen_without_a_bootloader() -> None:
    assert verdict(*OPENBEKEN, *OPENBEKEN).resets == 1


def test_the_last_boots_cause_counts() -> None:
    second = ["bk_misc_init_start_type 2 0", *OPENBEKEN[1:]]
    assert verdict(*BOOTLOADER, *OPENBEKEN, *BOOTLOADER, *second, COMPLETE).reset_cause == "watchdog"
    assert verdict(*BOOTLOADER, "bk_misc_init_start_type A 0", *OPENBEKEN[1:]).reset_cause == "crash-xat0-again"
    assert verdict(*BOOTLOADER, "bk_misc_init_start_type f 0", *OPENBEKEN[1:]).reset_cause == "unknown (f)"


def test_crash() -> None:
    early = verdict(*BOOTLOADER, *OPENBEKEN, "data abort", "Current regs:", "shutdown...")
    assert (early.kind, early.complete) == (BootKind.CRASHED, False)
    late = verdict(*BOOTLOADER, *OPENBEKEN, COMPLETE, "data abort", "shutdown...")
    assert (late.kind, late.complete) == (BootKind.CRASHED, True)
    assert late.code is not None


def test_safe_mode_and_lost_calibration() -> None:
    found = verdict(
        *BOOTLOADER,
        *OPENBEKEN,
        "Info:MAIN:###### safe mode activated - boot failures 5",
        "No TLV header found in flash",
    )
    assert found.safe_mode
    assert found.rf_lost
    assert "in safe mode, radio calibration lost" in found.sentence


def test_an_ordinary_mac_is_not_the_lost_one() -> None:
    assert not verdict(*BOOTLOADER, *OPENBEKEN, "mac c8:47:8c: 0:59: 0", "mac c8:47:8c: 1: 0: 0").rf_lost
    assert verdict(*BOOTLOADER, *OPENBEKEN, "mac c8:47:8c: 0: 0: 1").rf_lost


@pytest.mark.parametrize("cut", range(3, len("Boot complete time reached") - 2))
def test_a_marker_woven_with_another_threads_print(cut: int) -> None:
    marker = "Boot complete time reached"
    same_line = f"Info:MAIN:{marker[:cut]}cal dpll!{marker[cut:]} (5 seconds)"
    assert verdict(*BOOTLOADER, *OPENBEKEN, same_line).complete
    next_line = [f"Info:MAIN:{marker[:cut]}#Startup delayed 10ms#", f"{marker[cut:]} (5 seconds)"]
    assert verdict(*BOOTLOADER, *OPENBEKEN, *next_line).complete


def test_half_a_marker_is_none() -> None:
    assert not verdict(*BOOTLOADER, *OPENBEKEN, "Info:MAIN:Boot complete ti").complete
    assert find([LogLine(0, "device_init failed, all else is ok")], ["device_init ok"]) is None


def test_watch_sees_a_marker_over_two_lines() -> None:
    fits = watch(["Boot complete time reached"])
    lines = ["Info:MAIN:Boot compl#Startup delayed 0ms#", "ete time reached (5 seconds)", "x"]
    assert [fits(LogLine(at, text)) for at, text in enumerate(lines)] == [False, True, False]


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.lists(
        st.one_of(st.text(max_size=40), st.sampled_from([*BOOTLOADER, *OPENBEKEN, COMPLETE, "[ARM ANOMALY][2]"])),
        max_size=20,
    )
)
def test_any_lines_get_a_verdict(texts: list[str]) -> None:
    found = verdict(*texts)
    assert found.sentence.endswith(".")
    assert found.code is None or CODES[found.code].blames == "board"
    assert found.resets >= 0
    stamps = [line.mono_ns for line in found.evidence]
    assert stamps == sorted(stamps)


# --- real and emulated logs ---------------------------------------------------------------------------------------

# file: kind, firmware, version, cause, resets, complete, safe mode, calibration lost
BOOTED, ONLY, SILENT, CRASHED = BootKind.BOOTED, BootKind.BOOTLOADER_ONLY, BootKind.SILENT, BootKind.CRASHED
NOTHING = (None, None, None, 0, False, False, False)
EXPECTED = {
    "bk7231M_wrong_key_app_verify_failed.txt": (ONLY, *NOTHING),
    "ds121_ltchiptool_write_log_4085447.txt": (SILENT, *NOTHING),
    "openbeken_BK7231N_mqtt_connected_steady.txt": (BOOTED, "OpenBeken", None, None, 0, False, False, False),
    "openbeken_BK7231N_normal_boot_weblog.txt": (BOOTED, "OpenBeken", None, None, 0, False, False, False),
    "openbeken_BK7231N_safe_mode_boot_uart2.txt": (BOOTED, "OpenBeken", None, "power-on", 0, False, True, False),
    "openbeken_BK7231N_wifi_join_fail_no_rf_cal_mac_zero_uart2.txt": (
        BOOTED, "OpenBeken", None, None, 0, True, False, True,
    ),
    "openbeken_tuyamcu_boot_handshake_stuck.txt": (BOOTED, "OpenBeken", None, None, 0, False, False, False),
    "tuya_CB3S_72-087_1gang_switch_1.3.5_uart2.txt": (BOOTED, "Tuya", "1.3.5", "power-on", 0, True, False, False),
    "emulated/obkN_1.18.300_first_boot.log": (BOOTED, "OpenBeken", "1.18.300", "power-on", 0, True, False, True),
    "emulated/obkN_with_stored_config.log": (CRASHED, "OpenBeken", "1.18.300", "power-on", 0, True, False, False),
    "emulated/obkT_1.18.300_on_T_chip.log": (BOOTED, "OpenBeken", "1.18.300", None, 0, True, False, True),
    "emulated/tuyaN_tywb_4ch_factory_boot.log": (BOOTED, "Tuya", "1.2.1", "power-on", 0, True, False, False),
    "emulated/damage_obkN_TLV_erased.log": (BOOTED, "OpenBeken", "1.18.300", "power-on", 0, True, False, True),
    "emulated/damage_obkN_app_block_bad_8000.log": (
        BOOTED, "OpenBeken", "1.18.300", "power-on", 0, True, False, True,
    ),
    "emulated/damage_obkN_UA_at_0.log": (SILENT, *NOTHING),
    "emulated/damage_obkN_bootloader_erased.log": (SILENT, *NOTHING),
    "emulated/damage_obkT_QIO_on_N_chip.log": (SILENT, *NOTHING),
    "emulated/damage_obkN_app_block_bad_40.log": (ONLY, None, None, None, 2, False, False, False),
    "emulated/damage_obkN_app_erased.log": (ONLY, None, None, None, 2, False, False, False),
    "emulated/damage_obkN_app_second_half_ff.log": (ONLY, None, None, None, 2, False, False, False),
    "emulated/damage_obkN_efuse_dump_at_11000.log": (ONLY, None, None, None, 2, False, False, False),
}  # fmt: skip


@real_logs
@pytest.mark.parametrize("name", EXPECTED)
def test_kept_logs(name: str) -> None:
    found = judge(read_log(Path(str(LOG_DIR)) / name), PROFILES)
    assert EXPECTED[name] == (
        found.kind, found.firmware, found.version, found.reset_cause,
        found.resets, found.complete, found.safe_mode, found.rf_lost,
    )  # fmt: skip


@real_logs
def test_no_kept_log_is_left_out() -> None:
    folder = Path(str(LOG_DIR))
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".txt", ".log")}
    assert there == set(EXPECTED)
