"""Units' processes that are forked: what they are given, how they end, and what happens when others do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rig.line.prefork import QUIET, Forked, Prefork
from rig.line.suite import OURS, environment

STEP = """
import os, sys, time

def test_it():
    {body}
"""


@pytest.fixture(scope="module")
def prefork() -> Iterator[Prefork]:
    with Prefork(environment()) as prefork:
        yield prefork


def until(holds: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def start(prefork: Prefork, folder: Path, body: str, fds: list[int]) -> tuple[Forked, Path]:
    step, log = folder / "test_step.py", folder / "pytest.log"
    step.write_text(STEP.format(body=body))
    with log.open("wb") as output:
        words = ["-q", "-p", "no:cacheprovider", *OURS, str(step), *QUIET]
        return prefork.start(words, name="rig slot Q", output=output.fileno(), fds=fds), log


@pytest.mark.parametrize(("body", "code"), [("pass", 0), ("assert 1 == 2", 1), ("os._exit(7)", 7)])
def test_it_ends_as_its_steps_do(prefork: Prefork, tmp_path: Path, body: str, code: int) -> None:
    process, log = start(prefork, tmp_path, body, [])
    assert process.wait(60) == code
    assert process.poll() == code
    assert ("1 passed" in log.read_text()) == (code == 0)
    assert "already imported" not in log.read_text()


LISTING = """
    links = []
    for fd in os.listdir("/proc/self/fd"):
        if os.path.lexists("/proc/self/fd/" + fd):
            links.append(fd + "=" + os.readlink("/proc/self/fd/" + fd))
    os.write({fd}, " ".join(links).encode())
"""


def test_it_has_the_descriptors_it_was_given_and_no_others(prefork: Prefork, tmp_path: Path) -> None:
    kept_r, kept_w = os.pipe()
    other = os.open(tmp_path, os.O_RDONLY)
    try:
        process, _ = start(prefork, tmp_path, LISTING.format(fd=kept_w).strip(), [kept_w])
        assert process.wait(60) == 0
        links = dict(each.split("=") for each in os.read(kept_r, 65536).decode().split(" ") if "=" in each)
    finally:
        for fd in (kept_r, kept_w, other):
            os.close(fd)
    assert links[str(kept_w)].startswith("pipe:")
    assert str(tmp_path) not in links.values()
    assert not [link for link in links.values() if link.startswith(("socket:", "anon_inode:"))]


def test_it_is_stopped_like_any_other_and_has_a_name(prefork: Prefork, tmp_path: Path) -> None:
    ready_r, ready_w = os.pipe()
    try:
        body = f"os.write({ready_w}, str(os.getpid()).encode()); time.sleep(60)"
        process, _ = start(prefork, tmp_path, body, [ready_w])
        pid = int(os.read(ready_r, 32))
    finally:
        os.close(ready_r)
        os.close(ready_w)
    assert Path(f"/proc/{pid}/comm").read_text() == "rig slot Q\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    assert process.poll() is None
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    process.send_signal(signal.SIGTERM)  # nobody is hit by it


def test_a_signal_of_a_child_is_told_as_subprocess_does(prefork: Prefork, tmp_path: Path) -> None:
    process, _ = start(prefork, tmp_path, "os.kill(os.getpid(), 15)", [])
    assert process.wait(60) in (-signal.SIGTERM, 1, 2)


def test_without_the_process_that_forks_nothing_is_started_and_those_at_work_go_on(tmp_path: Path) -> None:
    with Prefork(environment()) as prefork:
        go_r, go_w = os.pipe()
        process, _ = start(prefork, tmp_path, f"os.read({go_r}, 1)", [go_r])
        prefork._process.kill()
        prefork._process.wait()
        with pytest.raises(OSError):
            start(prefork, tmp_path, "pass", [])
        os.write(go_w, b"x")
        assert process.wait(60) == 255  # how it ended nobody can tell
        for fd in (go_r, go_w):
            os.close(fd)


STATION = """
import sys
from rig.line.prefork import Prefork
from rig.line.suite import environment
prefork = Prefork(environment())
print(prefork._process.pid, flush=True)
sys.stdin.read()
"""


def gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # also while it is being read
        return True


def test_it_goes_with_its_station() -> None:
    station = subprocess.Popen(
        [sys.executable, "-c", STATION], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**environment(), "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert station.stdin is not None
    assert station.stdout is not None
    with station.stdin, station.stdout:
        pid = int(station.stdout.readline())
        station.kill()
        station.wait()
    assert until(lambda: gone(pid))
