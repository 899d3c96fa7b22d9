"""rig power, the command: what it lists, refuses, makes and says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sim_process import rig_inside

from rig.power.study import ready
from rig.power.trial import read_trials

SMALL = """
name = "small"
title = "Small"
words = "Small."
speed = 50
reference_every = 2
later = 1

[[parts]]
name = "link"
words = "Links at a limit."
activity = "link"
grid = { axes = { amps = [0.4] }, repeats = 1 }
"""


# its third and last trial is never given out: however late the signal comes, it is not over
HELD = """
from rig.power.runner import Run
give = Run._give
Run._give = lambda run, slot: give(run, slot) if len(run.trials) < 2 else None
from rig.cli import main
main()
"""
COMMAND = [sys.executable, "-c", HELD, "power"]


def rig(*words: object) -> subprocess.CompletedProcess[str]:
    """In this process: an interpreter takes longer to start than most of what is asked here."""
    return rig_inside("power", *map(str, words), cwd=Path.cwd())


@pytest.fixture(autouse=True)
def _with_our_small_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIG_FIRMWARE_DIR", raising=False)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_it_lists_the_studies() -> None:
    told: list[dict[str, Any]] = json.loads(rig("--list", "--json").stdout)
    assert [each["name"] for each in told] == list(ready())
    said = rig("--list").stdout
    assert "minimum-supply (what is made if none is named): The least supply a conversion needs" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--study", "boot-brownot"], "did you mean 'boot-brownout'?"),
        (["--bench", "nowhere.toml"], "no bench file at nowhere.toml"),
        (["--bench", "sim", "--slot", "C"], "no slot 'C'"),
        (["--resume", "nowhere"], "is no run of rig power"),
        (["--image", "nowhere.bin"], "nowhere.bin"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path: Path, words: list[str], said: str) -> None:
    done = rig(*words, "--out", tmp_path / "runs")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/*/study.json"))


def test_a_resumed_study_asks_what_it_asked(tmp_path: Path) -> None:
    done = rig("--resume", tmp_path, "--seed", 2)
    assert done.returncode == 2
    assert "--resume goes on with what the study began with" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_a_study_is_made_stopped_and_gone_on_with(small: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Told to all of its processes at once, as a terminal does, `timeout` and systemd."""
    pytest.importorskip("unicorn", reason="boards execute firmware with the extra 'sim'")
    runs = tmp_path / "runs"
    command = [*COMMAND, "--study", str(small), "--out", str(runs), "--bench", "sim@55"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while not (found := [path for path in runs.glob("*/trials.jsonl") if path.stat().st_size]):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            _wait(process, 0.05)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    folder = found[0].parent
    assert process.returncode == 130
    assert f"go on with: rig power --resume {folder}" in err
    assert "out of use" not in err
    doubt = "The bench is at 55 times real speed, the study asks for 50: "
    assert doubt in err
    assert [json.loads(path.read_text())["right"] for path in folder.glob("boards/*.json")] == [True]
    assert "About 3 trials are to be made." in err
    begun = read_trials(folder)
    assert 1 <= len(begun) < 3
    if number is not signal.SIGHUP:
        return  # what is left on the disk is the same
    done = rig("--resume", folder, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert read_trials(folder)[: len(begun)] == begun
    board = told["boards"][0]
    assert (board["trials"], board["references"], board["left"], board["out"]) == (3, 2, 0, None)
    assert board["parts"][0]["n"] == 1
    assert told["simulated"] is True
    assert told["report"] is None or Path(told["report"]).is_file()
    assert told["sentences"][0].startswith("link: ")
    assert told["sentences"][1].startswith(doubt)


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return
