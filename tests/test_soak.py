"""Proofs that take over a minute: `pytest -m soak`. Each has a short cousin in the suite."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from rig.bench.bench import Slot, read_bench
from rig.bench.slot import slot_lock
from rig.errors import UsageProblem
from rig.records.events import Outcome, UnitEnded
from tests.sim_process import SimProcess, rig, start_rig
from tests.test_convert import FIRMWARE, OPENBEKEN, of_kind, run_of
from tests.waiting import wait_until

pytest.importorskip("unicorn")
pytestmark = pytest.mark.soak


def test_a_conversion_in_real_time(tmp_path: Path) -> None:
    """Two boards side by side, at the pace of a table; cousin: test_convert."""
    words = ["convert", "--bench", "sim:2@1", "--units", "2"]
    if FIRMWARE:
        words += ["--image", str(Path(FIRMWARE) / OPENBEKEN)]
    done = rig(*words, cwd=tmp_path, timeout=400)
    assert done.returncode == 0, done.stderr
    _, found = run_of(tmp_path)
    assert [event.outcome for event in of_kind(found, UnitEnded)] == [Outcome.PASS] * 2


def test_forty_runs_are_stopped_at_random_moments(tmp_path: Path) -> None:
    """Whatever the moment and the signal, the output is off within 2 s; cousin: test_convert_faults."""
    moments = random.Random(20261122)
    with SimProcess(tmp_path, "--speed", "10") as bench:
        slot = read_bench(bench.bench_file).slot("A")
        for turn in range(40):
            bench.hand("change")
            folder = tmp_path / str(turn)
            folder.mkdir()
            process = start_rig("convert", "--no-report", "--bench", bench.bench_file, cwd=folder)
            end = time.monotonic() + moments.uniform(0.5, 8.0)
            while time.monotonic() < end and process.poll() is None:
                time.sleep(0.01)
            number = moments.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
            if process.poll() is None:
                os.kill(process.pid, number)
            killed = time.monotonic_ns()
            assert (bench.went_off() - killed) / 1e9 < 2.0, f"turn {turn}, {number.name}"
            process.communicate(timeout=60)
            wait_until(lambda: is_free(slot), 30, "the slot being free again")


def is_free(slot: Slot) -> bool:
    """A killed station's unit lets go of its slot by itself."""
    try:
        with slot_lock(slot):
            return True
    except UsageProblem:
        return False
