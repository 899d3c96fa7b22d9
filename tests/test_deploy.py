"""What docs/deploy puts on a station: systemd and udev understand it, and what it starts is there."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rig.errors import Exit
from rig.line.attempt import ANSWER_S, GRACE_S
from rig.records import events
from rig.records.run import RunFolder
from tests.station_bench import StationBench, fake_units

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "docs" / "deploy"
RULES = DEPLOY / "99-rig.rules"
UNITS = sorted(path.name for path in DEPLOY.iterdir() if path.suffix in (".service", ".timer"))
INSTALLED = "/opt/rig/"  # where the units expect the checkout


def settings(unit: str) -> dict[str, list[str]]:
    """A unit's settings by name, as they stand."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / unit).read_text().splitlines():
        name, is_setting, value = line.partition("=")
        if is_setting and not line.startswith(("#", ";")):
            found.setdefault(name, []).append(value)
    return found


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(min|h|s)?", text).groups()  # type: ignore[union-attr]
    return int(number) * {"min": 60, "h": 3600, "s": 1, None: 1}[unit]


# -- systemd -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_every_unit(tmp_path: Path) -> None:
    for unit in UNITS:
        text = (DEPLOY / unit).read_text()
        for program in ("python", "rig"):  # it looks whether they are there
            text = text.replace(f"{INSTALLED}.venv/bin/{program} ", "/bin/true ")
        (tmp_path / unit).write_text(text)
    names = [str(tmp_path / unit.replace("@.", "@w48.")) for unit in UNITS]
    done = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "rig" in line]
    assert (ours, done.returncode) == ([], 0)


def test_a_station_that_is_killed_takes_nothing_with_it_that_switches_off() -> None:
    """systemd signals the station alone: supply service and guardian outlive it, and do their work."""
    station = settings("rig-station@.service")
    assert station["KillMode"] == ["process"]
    assert station["Type"] == ["notify"]
    assert station["NotifyAccess"] == ["main"]
    assert station["LimitCORE"] == ["0"]
    assert seconds(station["TimeoutStopSec"][0]) > GRACE_S + ANSWER_S + 60  # units end, then the report is made
    never = {int(code) for code in station["RestartPreventExitStatus"][0].split()}
    assert never == {Exit.FAILED, Exit.USAGE, Exit.BLOCKED}  # nobody has looked yet
    assert [int(code) for code in station["SuccessExitStatus"][0].split()] == [Exit.ABORTED]
    assert "network-online.target" in station["After"][0].split()


def test_services_and_people_meet_in_one_runtime_folder() -> None:
    (kind, folder, mode, user, *_) = (DEPLOY / "rig.conf").read_text().splitlines()[-1].split()
    assert (kind, mode) == ("d", "0700")
    for unit in ("rig-station@.service", "rig-panel.service"):
        told = settings(unit)
        assert f"RIG_RUNTIME_DIR={folder}" in told["Environment"][0].split()
        assert folder in told["ReadWritePaths"][0].split()
        assert told["User"] == [user]


@pytest.mark.parametrize("unit", [name for name in UNITS if name.endswith(".service")])
def test_what_a_unit_starts_is_there_and_takes_what_it_is_given(unit: str) -> None:
    program, *words = settings(unit)["ExecStart"][0].split()
    assert program.startswith(INSTALLED + ".venv/bin/")
    if program.endswith("/python"):
        script = ROOT / words[0].removeprefix(INSTALLED)
        command = [str(script)]
    else:
        command = ["-m", "rig.cli", *(word for word in words[: 2 if words[0] == "records" else 1])]
    told = subprocess.run(
        [sys.executable, *command, "--help"], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for option in (word for word in words if word.startswith("--")):
        assert option in told
    for documentation in settings(unit)["Documentation"]:
        assert (ROOT / documentation.removeprefix(f"file:{INSTALLED}")).is_file()


# -- udev --------------------------------------------------------------------------------------------------

_KEY = re.compile(
    r"(ACTION|SUBSYSTEMS?|DRIVER|KERNEL|GROUP|MODE|SYMLINK|LABEL|GOTO|TEST|TAG|ENV\{[\w.]+\}|ATTRS?\{[\w/]+\}|IMPORT\{builtin\})"
    r'(==|!=|=|\+=)"[^"]*"'
)


def test_every_rule_is_keys_with_values() -> None:
    rules = [line for line in RULES.read_text().splitlines() if line and not line.startswith("# ")]
    assert any("latency_timer" in rule for rule in rules)
    for rule in rules:
        for part in rule.removeprefix("#").split(", "):
            assert _KEY.fullmatch(part), f"{part} in {rule}"
    labels = set(re.findall(r'LABEL="(\w+)"', RULES.read_text()))
    assert set(re.findall(r'GOTO="(\w+)"', RULES.read_text())) == labels


def test_udev_understands_every_rule(tmp_path: Path) -> None:
    if shutil.which("udevadm") is None:
        pytest.skip("udev is not installed")
    done = subprocess.run(["udevadm", "verify", str(RULES)], capture_output=True, text=True, check=False)
    if "unrecognized" in done.stderr.lower() or "unknown command" in done.stderr.lower():
        pytest.skip("this udevadm has no `verify`: it came with systemd 254")
    assert done.returncode == 0, done.stdout + done.stderr


# -- what starts a station -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def starter() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rig_station", DEPLOY / "rig_station.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_service_goes_on_with_what_was_left_and_begins_where_nothing_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starter: ModuleType
) -> None:
    fake_units(monkeypatch)
    bench, runs = StationBench(tmp_path), tmp_path / "runs"
    batch = tmp_path / "w48.toml"
    batch.write_text('[batch]\nproduct = "ds-121"\n')

    def words() -> list[str]:
        found: list[str] = starter.words(bench.path, batch, runs)
        return found

    anew = ["rig", "run", "--batch", str(batch)]
    assert words()[:4] == anew  # a run folder without a word in it is none
    bench.behave(**{"1": ["held"]})
    job = bench.job("1", "2", batch="w48")
    with bench.start(job) as run:
        bench.wait(events.UnitStarted)
        run.station.stop()  # as the service is stopped, or the machine goes down
        assert run.end() is Exit.ABORTED
    left = bench.run.id
    going_on = ["rig", "run", "--resume", left, "--bench", str(bench.path), "--out", str(runs), "--attended"]
    assert words() == going_on
    bench.run = RunFolder.create(runs)
    assert bench.start(bench.job("9", batch="another")).end() is Exit.GOOD
    assert words() == going_on  # a younger run of another batch is no matter
    bench.run = RunFolder(runs / left)
    bench.behave()
    assert bench.start(job, resume=True).end() is Exit.GOOD
    assert words()[:4] == anew


def test_a_service_whose_files_are_wrong_ends_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, DEPLOY / "rig_station.py", "--bench", tmp_path / "bench.toml"]
    command += ["--batch", tmp_path / "w48.toml", "--out", tmp_path / "runs"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == Exit.USAGE
    assert done.stderr.startswith("rig: ")
    assert "w48.toml" in done.stderr
    assert done.stderr.count("\n") == 1
