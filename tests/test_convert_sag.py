"""A sag while a board is written: what the first look does not show, the conversion finds by looking again."""

from __future__ import annotations

from pathlib import Path

import pytest

from rig.records import events
from rig.records.events import Outcome
from tests.sim_process import SimProcess, rig
from tests.test_convert import of_kind, run_of

pytest.importorskip("unicorn")


def test_a_sector_that_verifies_now_and_fails_after_a_power_cycle_is_caught(tmp_path: Path) -> None:
    with SimProcess(tmp_path, "--speed", "20", "--witness") as bench:
        bench.hand("sag", volts=2.55, seconds=0.15, at="erase", skip=1)  # the second block's erase
        assert "witness of slot A: TCPIP::127.0.0.1::" in bench.log()
        done = rig("convert", "--no-report", "--bench", bench.bench_file, cwd=tmp_path)
        assert bench.status()["weak_bits"] > 10
    _, found = run_of(tmp_path)
    outcomes = {event.phase: event.outcome for event in of_kind(found, events.PhaseEnded)}
    assert outcomes["flash"] is Outcome.PASS  # its verify agreed
    assert outcomes["settled"] is Outcome.FAIL
    assert outcomes["boot"] is None
    (ended,) = of_kind(found, events.UnitEnded)
    assert (ended.outcome, ended.code) == (Outcome.FAIL, "verify-failed"), done.stderr
    assert "after a power-cycle" in ended.sentence
    assert done.returncode == 1
