"""A suite of the user's own: a folder or file of tests, which pytest runs with the rig's fixtures on each unit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from rig.errors import UsageProblem

ROOT: Final = Path(__file__).resolve().parents[2]  # the checkout is the rig
OURS: Final = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT))  # whose configuration pytest reads
_TIMEOUT_S = 120.0  # choice: its modules are imported, whatever they do there
_ERROR = re.compile(r"^E +(\w*(?:Error|Exception|Exit)\b.*)", re.MULTILINE)


def suite_words(suite: Path) -> list[str]:
    """Of pytest's command line."""
    return ["-p", "fixtures.plugins", *OURS, str(suite)]


def environment() -> Mapping[str, str]:
    """Ours, without what would change which of a unit's steps run."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")}
    return kept | {"PYTHONUNBUFFERED": "1"}


def check_suite(suite: Path) -> None:
    """UsageProblem where pytest would find no test in it, or cannot import it. No test is run."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *suite_words(suite)]
    try:
        done = subprocess.run(
            command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UsageProblem(f"{suite}: pytest was not done with looking through it after {_TIMEOUT_S:g} s") from None
    if done.returncode == pytest.ExitCode.OK:
        return
    said = _ERROR.findall(done.stdout + done.stderr)
    if not said and done.returncode in (pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.USAGE_ERROR):
        raise UsageProblem(f"{suite} has no test: pytest looks for functions test_... in files test_....py")
    said = said or (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
    raise UsageProblem(f"{suite} cannot be run by pytest: {said[-1]}")
