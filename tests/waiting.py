"""Waiting for a condition with a deadline, for all tests. The deadline only ends a test that has failed anyway."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

POLL_S = (0.002, 0.02)  # between two looks: at first, and when it takes long
PATIENCE_S = 60.0  # seconds: a machine with much else to do starts a process in ten


def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Wait until `condition` is true; its last value, which is false when `patience_s` seconds did not do."""
    deadline = time.monotonic() + patience_s
    pause, most = POLL_S
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 1.2, most)
    return value


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> float:
    """Seconds it took until `condition`; fails after `seconds`."""
    began = time.monotonic()
    assert until(condition, seconds), f"{what}: not within {seconds:g} s"
    return time.monotonic() - began
