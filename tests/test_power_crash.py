"""rig power killed with -9, in a dip and anywhere else: output off, and after --resume the board right."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from sim_process import SimProcess, rig, start_rig
from waiting import until, wait_until

from rig.power.trial import read_trials

pytest.importorskip("unicorn")
SPEED = 50
BOOTS = 0x1EE000  # where the factory firmware counts its boots
OFF_S = 2.0  # a lease is lost with its socket; the rest is a machine with much else to do
STUDY = """
name = "killed"
title = "Killed"
words = "Dips as the firmware begins to run, and writes."
speed = {speed}
later = 1
reference_every = 4

[[parts]]
name = "dip"
words = "A dip, long enough to be hit."
activity = "boot"
phases = ["running"]
wave = {{ kind = "dip", seconds = {seconds} }}
grid = {{ axes = {{ volts = [2.5, 2.6] }}, repeats = {repeats} }}

[[parts]]
name = "write"
words = "Spare sectors at too few volts: the flash of a board that is killed holds what it should not."
activity = "flash"
grid = {{ axes = {{ volts = [2.55] }}, repeats = {repeats} }}
"""


def workers(pid: int) -> list[int]:
    """The processes of the slots: children that multiprocessing has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


def kill(process: subprocess.Popen[str], whom: str) -> None:
    both = {"rig": [process.pid], "worker": workers(process.pid), "both": [process.pid, *workers(process.pid)]}
    for pid in both[whom]:
        with contextlib.suppress(ProcessLookupError):  # a worker ends by itself once its parent is gone
            os.kill(pid, signal.SIGKILL)


def flash(bench: SimProcess, folder: Path) -> bytes:
    held = bench.dump(folder)
    return held[:BOOTS] + held[BOOTS + 0x1000 :]


def begun(bench: SimProcess, folder: Path, study: Path) -> tuple[subprocess.Popen[str], Path]:
    runs = folder / "runs"
    old = set(runs.iterdir()) if runs.exists() else set()
    process = start_rig("power", "--study", study, "--bench", bench.bench_file, "--out", runs, cwd=folder)

    def run() -> list[Path]:
        return [each for each in runs.iterdir() if each not in old and (each / "study.json").exists()]

    wait_until(lambda: process.poll() is not None or (runs.exists() and run()), 60, "the study")
    assert process.poll() is None, process.communicate()[0]
    return process, run()[0]


def in_a_dip(bench: SimProcess) -> bool:
    """The rail stands where a dip holds it (and not on its way)."""
    status = bench.status()
    return bool(status["on"]) and status["phase"] == "running" and 2.45 < status["volts"] < 2.65


def resumed(bench: SimProcess, folder: Path, run: Path, came: bytes) -> None:
    """To the end of the study: each trial once, the board as it came, off."""
    before = read_trials(run)
    done = rig("power", "--resume", run, "--bench", bench.bench_file, cwd=folder)
    assert done.returncode in (0, 1), done.stderr
    trials = read_trials(run)
    assert trials[: len(before)] == before
    assert sorted({each.n for each in trials}) == [each.n for each in trials]
    assert sum(not each.reference for each in trials if each.counted) == 3 * REPEATS
    assert not bench.status()["on"]
    assert flash(bench, folder) == came


REPEATS = 1


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "killed.toml"
    path.write_text(STUDY.format(speed=SPEED, seconds=40, repeats=REPEATS))
    return path


def killed_in_a_dip(bench: SimProcess, folder: Path, study: Path, whom: str) -> Path:
    """The run's folder; the output went off in time."""
    process, run = begun(bench, folder, study)
    assert until(lambda: process.poll() is not None or in_a_dip(bench))
    assert process.poll() is None, process.communicate()[0]
    assert bench.off_after(lambda: kill(process, whom)) < OFF_S
    process.wait(30)
    return run


def test_killed_in_the_middle_of_a_dip_its_output_goes_off(tmp_path: Path, study: Path) -> None:
    study.write_text(STUDY.format(speed=SPEED, seconds=1500, repeats=REPEATS))  # no dip ends before it is seen
    with SimProcess(tmp_path, "--speed", str(SPEED)) as bench:
        killed_in_a_dip(bench, tmp_path, study, "both")


@pytest.mark.soak
@pytest.mark.parametrize("whom", ["both", "rig"])
def test_killed_in_the_middle_of_a_dip_the_board_is_put_right(whom: str, tmp_path: Path, study: Path) -> None:
    with SimProcess(tmp_path, "--speed", str(SPEED)) as bench:
        came = flash(bench, tmp_path)
        run = killed_in_a_dip(bench, tmp_path, study, whom)
        resumed(bench, tmp_path, run, came)


@pytest.mark.soak
def test_killed_anywhere(tmp_path: Path, study: Path) -> None:
    draw = random.Random(9)
    with SimProcess(tmp_path, "--speed", str(SPEED)) as bench:
        came = flash(bench, tmp_path)
        process, run = begun(bench, tmp_path, study)
        kills = 0
        for _ in range(int(os.environ.get("RIG_CRASHES", "12"))):
            time.sleep(draw.uniform(1.0, 9.0))  # the moment is what is drawn
            if process.poll() is not None:
                break
            kill(process, draw.choice(["rig", "both"]))
            process.wait(30)
            kills += 1
            assert until(lambda: not bench.status()["on"], OFF_S)
            process = start_rig("power", "--resume", run, "--bench", bench.bench_file, cwd=tmp_path)
        process.kill()
        process.wait(30)
        assert kills > 3
        resumed(bench, tmp_path, run, came)
