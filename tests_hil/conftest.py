"""`pytest tests_hil` runs the plan of its `--task`; a plan that is named runs in any case."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_PLANS = {"verify": "test_verify.py", "burn-in": "test_burn_in.py", "home": "test_home.py"}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The plans are about one unit each and share its record: only one of them can run."""
    if collection_path.parent != _HERE or not collection_path.name.startswith("test_"):
        return None
    return True if collection_path.name != _PLANS.get(config.getoption("task"), "test_conversion.py") else None
