"""What a log says of a board that was watched: resets, their causes, and whether it came up at last."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rig.image.firmware import load_profiles
from rig.power.alive import seen_in
from rig.uart.bootlog import LogLine

BOOT = ["rig-boot 1", "J 0x10000", "rig-demo BK7231N, version 1.0.0", "reset cause 6 undefined instruction"]
UP = ["alive 1", "boot complete"]


@pytest.mark.parametrize(
    ("lines", "booting", "resets", "up"),
    [
        (["alive 3", "[ARM ANOMALY][2]", *BOOT, *UP], False, 1, True),  # it was up, derailed, and came back
        (["alive 3", "[ARM ANOMALY][2]", *BOOT], False, 1, False),
        (["alive 3", "[ARM ANOMALY][2]"], False, 0, False),
        (["alive 3", *BOOT, *UP, "[ARM ANOMALY][2]"], False, 1, False),
        (["alive 3", "alive 4"], False, 0, False),  # nothing has begun anew
        ([*BOOT, *UP], True, 0, True),
        ([*BOOT, "[ARM ANOMALY][2]", *BOOT, *UP], True, 1, True),
    ],
)
def test_a_crash_ends_what_ran_before_it_and_no_more(lines: list[str], booting: bool, resets: int, up: bool) -> None:
    told = [LogLine(1000 + at, text, 1000 + at) for at, text in enumerate(lines)]
    log: Any = SimpleNamespace(lines_since=lambda since: told)
    found = seen_in(log, 0, load_profiles(), booting=booting)
    assert (found.resets, found.up) == (resets, up)
