"""What every test has: supply services and slot locks of its own session, not the user's."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell starts background jobs with SIGINT ignored; tests that send it must not inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _runtime_folder() -> Iterator[None]:
    """A short path: Unix sockets live in it."""
    folder = tempfile.mkdtemp(prefix="rig-test-")
    before = os.environ.get("RIG_RUNTIME_DIR")
    os.environ["RIG_RUNTIME_DIR"] = folder
    yield
    if before is None:
        del os.environ["RIG_RUNTIME_DIR"]
    else:
        os.environ["RIG_RUNTIME_DIR"] = before
    shutil.rmtree(folder, ignore_errors=True)
