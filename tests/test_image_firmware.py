"""Firmware profiles: what the rig brings loads, and a user's mistake ends in one sentence that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rig.errors import UsageProblem
from rig.image.firmware import load_profile, load_profiles
from rig.image.identify import identify
from rig.sim import firmware
from rig.uart.bootlog import LogLine
from rig.uart.verdict import BootKind, judge

GOOD = """
name = "mine"
title = "Mine"
chip = "BK7231N"
[log]
signs = ["mine!"]
app = ["mine!"]
complete = ["up"]
"""


def test_what_the_rig_brings() -> None:
    profiles = {profile.name: profile for profile in load_profiles()}
    assert set(profiles) == {"openbeken-bk7231n", "tuya-bk7231n", "esphome-bk7231n", "rig-demo", "rig-factory"}
    openbeken = profiles["openbeken-bk7231n"]
    assert openbeken.file == "OpenBK7231N_QIO_{version}.bin"
    assert openbeken.log.reset is not None
    assert openbeken.log.reset.causes["2"] == "watchdog"
    assert {profile.log.hold for profile in profiles.values()} == {"complete"}


def test_demo_profile_names_what_the_demo_firmware_is_called() -> None:
    profiles = {profile.name: profile for profile in load_profiles()}
    found = profiles["rig-demo"].image_patterns[0].search(firmware.DEMO_BANNER.encode())
    assert found is not None
    assert found["version"] == firmware.DEMO_VERSION.encode()


def test_a_users_profile_adds_and_replaces(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    (tmp_path / "demo.toml").write_text(
        GOOD.replace('"mine"', '"rig-demo"') + "[image]\npatterns = ['rig-demo BK7231N, version (?P<version>1)']\n"
    )
    profiles = load_profiles(tmp_path)
    assert [profile.title for profile in profiles if profile.name in ("mine", "rig-demo")] == ["Mine", "Mine"]
    found = identify(firmware.demo_image(), profiles=profiles)
    assert (found.firmware, found.version) == ("Mine", "1")


def test_esphomes_patterns_read_what_its_boards_print() -> None:
    """The lines are from UART logs that users posted (BK7231T, 2023 and 2025)."""
    esphome = {profile.name: profile for profile in load_profiles()}["esphome-bk7231n"]
    lines = [
        "I [      0.000] LibreTiny v1.9.1 on generic-bk7231t-qfn32-tuya, compiled at Dec  7 2025 21:11:24",
        "[I][app:073]: Running through setup()",
        "[I][app:112]: setup() finished successfully!",
        "[I][app:102]: ESPHome version 2023.9.0-dev compiled on Aug 29 2023, 18:03:19",
    ]
    found = judge([LogLine(at, text) for at, text in enumerate(lines)], load_profiles())
    assert (found.kind, found.firmware, found.version, found.complete) == (
        BootKind.BOOTED, "ESPHome", "2023.9.0-dev", True,
    )  # fmt: skip
    read = esphome.image_patterns[0].search(b"\0ESPHome version 2025.10.3 compiled on %s\0")
    assert read is not None
    assert read["version"] == b"2025.10.3"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda text: text.replace("complete", "compleet"),
            r"log\.compleet is not a known key; the nearest is complete",
        ),
        (lambda text: text.replace("title", "titel"), "titel is not a known key; the nearest is title"),
        (lambda text: text.replace('chip = "BK7231N"', ""), "chip: Field required"),
        (lambda text: text.replace('["mine!"]', '[" "]', 1), r"log\.signs\.0: a blank text"),
        (lambda text: text + 'versions = ["("]', r"log\.versions\.0: not a regular expression"),
        (lambda text: text + "expected_s = -1", r"log\.expected_s"),
        (
            lambda text: text + "[log.reset]\npattern = 'x'\ncauses = {}\nmore = 1",
            r"log\.reset\.more is not a known key",
        ),
        (lambda text: text + "=", "is not TOML"),
    ],
)
def test_a_wrong_profile_is_one_sentence(tmp_path: Path, change, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(change(GOOD))
    with pytest.raises(UsageProblem, match=says) as caught:
        load_profile(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="cannot be read"):
        load_profile(tmp_path / "none.toml")
    with pytest.raises(UsageProblem, match="no such folder"):
        load_profiles(tmp_path / "none")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageProblem, match="is not TOML"):
        load_profiles(tmp_path)
