"""What goes wrong around a run: a weak supply, a damaged board, processes that are stopped or die, frames that must
not pass. The right outcome, code and exit, and the supply off afterwards. Faults of contacts, lines and supplies, a
batch at a time: test_faults.py.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.bench.bench import read_bench
from rig.bench.slot import use_slot
from rig.chip.client import RomClient
from rig.chip.frames import Request, Short
from rig.chip.ids import SCTRL_EFUSE_CTRL
from rig.errors import BenchBlocked
from rig.flashers.native import NativeFlasher
from rig.records import events
from rig.records.events import Outcome
from tests.sim_process import FAST_BACKED_UP, RIG, ROOT, SimProcess, rig, rig_inside, start_rig
from tests.test_convert import of_kind, run_of
from tests.waiting import wait_until

pytest.importorskip("unicorn")
OFF_WITHIN_S = 2.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    with SimProcess(tmp_path_factory.mktemp("bench"), "--speed", "20") as process:
        yield process


@pytest.fixture(scope="module")
def running_slowly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    with SimProcess(tmp_path_factory.mktemp("slow"), "--speed", "6") as process:
        yield process


@pytest.fixture
def bench(running: SimProcess) -> SimProcess:
    """With another board in it for each test."""
    running.hand("change")
    return running


@pytest.fixture
def slow_bench(running_slowly: SimProcess) -> SimProcess:
    """Slow enough to catch a unit in the middle of something. A unit stays in its backup, however late that is seen:
    from there on every answer is late."""
    running_slowly.hand("change")
    late(running_slowly, 100_000)
    return running_slowly


def late(bench: SimProcess, after: int) -> None:
    bench.hand("heal")
    bench.hand("fault", name="late", options={"ms": 300, "after": after})


def the_end(folder: Path) -> events.UnitEnded:
    _, found = run_of(folder)
    (ended,) = of_kind(found, events.UnitEnded)
    return ended


def wait_for_journal(process: subprocess.Popen[str], folder: Path, text: str, seconds: float = 60) -> None:
    """Until the run under way has `text` on record."""

    def there() -> bool:
        assert process.poll() is None, process.communicate()[0]
        return any(text in path.read_text() for path in folder.glob("runs/*/journal.jsonl"))

    wait_until(there, seconds, f"{text!r} in the journal")


# -- the supply and the board --------------------------------------------------------------------------------


def test_a_weak_supply_blocks_and_the_log_shows_the_loop(bench: SimProcess, tmp_path: Path) -> None:
    done = rig("convert", "--no-report", "--bench", bench.bench_file, "--current-limit", "0.1", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    ended = the_end(tmp_path)
    assert (ended.outcome, ended.code) == (Outcome.BLOCKED, "weak-supply")
    assert ended.supply_off_confirmed
    run, _ = run_of(tmp_path)
    assert (run.unit_dir("1", 1) / "boot.log").read_text().count("rig-boot") >= 3
    assert not bench.status()["on"]


def test_an_erased_bootloader_is_named_and_mended(bench: SimProcess, tmp_path: Path) -> None:
    bench.poke(0, b"\xff" * 0x11000)
    log = rig("log", "--bench", bench.bench_file, "--seconds", "10", cwd=tmp_path)
    assert log.returncode == 1
    assert "Verdict: silent" in log.stdout
    done = rig("convert", "--no-report", "--bench", bench.bench_file, cwd=tmp_path)
    assert done.returncode == 0, done.stderr  # the ROM links whatever is in flash
    assert the_end(tmp_path).outcome.good


# -- processes that are stopped or die -----------------------------------------------------------------------


def unit_pid(parent: int) -> int:
    """The process of the unit under way."""
    found = subprocess.run(
        ["pgrep", "-f", "-P", str(parent), "test_conversion"], capture_output=True, text=True, check=True
    )
    return int(found.stdout.split()[0])


def still_running(text: str) -> bool:
    """Whether a unit's process with `text` on its command line is there."""
    return (
        subprocess.run(["pgrep", "-f", f"test_conversion.*{text}"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.parametrize(
    ("who", "number"),
    [
        ("station", signal.SIGINT),  # SIGTERM: test_one_user_a_slot
        ("station", signal.SIGKILL),
        ("unit", signal.SIGTERM),
        ("unit", signal.SIGKILL),
        pytest.param("unit", signal.SIGINT, marks=pytest.mark.soak),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_the_supply_is_off_within_two_seconds(
    who: str, number: signal.Signals, slow_bench: SimProcess, tmp_path: Path
) -> None:
    process = start_rig("convert", "--no-report", "--bench", slow_bench.bench_file, cwd=tmp_path)
    wait_for_journal(process, tmp_path, '"phase":"backup"')
    victim = process.pid if who == "station" else unit_pid(process.pid)
    assert slow_bench.status()["on"]
    assert slow_bench.off_after(lambda: os.kill(victim, number)) < OFF_WITHIN_S
    process.communicate(timeout=60)
    if number is signal.SIGKILL and who == "station":
        assert process.returncode == -signal.SIGKILL
        wait_until(lambda: not still_running(str(slow_bench.bench_file)), 60, "the orphaned unit ending")
        return
    assert process.returncode == (3 if number is signal.SIGKILL else 130)
    ended = the_end(tmp_path)
    assert ended.outcome is (Outcome.BLOCKED if number is signal.SIGKILL else Outcome.ABORTED)
    if number is signal.SIGKILL:
        assert ended.code == "crashed"


def test_it_is_off_as_soon_where_no_thread_of_the_unit_runs(slow_bench: SimProcess, tmp_path: Path) -> None:
    process = start_rig("convert", "--no-report", "--bench", slow_bench.bench_file, cwd=tmp_path)
    wait_for_journal(process, tmp_path, '"phase":"backup"')
    os.kill(unit_pid(process.pid), signal.SIGSTOP)
    assert slow_bench.status()["on"]
    assert slow_bench.off_after(process.terminate) < OFF_WITHIN_S
    process.communicate(timeout=60)
    assert process.returncode == 130
    ended = the_end(tmp_path)
    assert (ended.outcome, ended.code, ended.supply_off_confirmed) == (Outcome.ABORTED, "crashed", True)


def test_a_unit_killed_while_it_is_written_is_unverified(slow_bench: SimProcess, tmp_path: Path) -> None:
    late(slow_bench, FAST_BACKED_UP)
    process = start_rig("convert", "--no-report", "--bench", slow_bench.bench_file, cwd=tmp_path)
    wait_for_journal(process, tmp_path, '"write-begun"')
    os.kill(unit_pid(process.pid), signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == 1
    ended = the_end(tmp_path)
    assert (ended.outcome, ended.code) == (Outcome.UNVERIFIED, "half-written")
    assert ended.supply_off_confirmed


# -- the guard -----------------------------------------------------------------------------------------------


def test_an_erase_before_the_backup_is_stopped_on_the_wire(bench: SimProcess, tmp_path: Path) -> None:
    before = bench.dump(tmp_path)
    slot = read_bench(bench.bench_file).slot("A")
    flasher = NativeFlasher()
    with use_slot(slot) as used:
        with pytest.raises(BenchBlocked, match="before this board's backup") as stopped:
            flasher.erase(used.link, 0x12000, 0x1000)
        flasher.close()
    assert stopped.value.code == "guard-stopped"
    assert bench.dump(tmp_path) == before
    assert not bench.status()["on"]


def test_an_efuse_write_is_stopped_on_the_wire(bench: SimProcess, tmp_path: Path) -> None:
    before = bench.hand("dump", path=str(tmp_path / "x"))["efuse"]
    slot = read_bench(bench.bench_file).slot("A")

    class Rogue(NativeFlasher):
        def burn(self, rom: RomClient) -> None:
            value = 1 | 2 | 5 << 8 | 0xFF << 16  # start, direction write, byte 5, all ones
            payload = SCTRL_EFUSE_CTRL.to_bytes(4, "little") + value.to_bytes(4, "little")
            rom._ask(Request(Short.WRITE_REG, payload), lambda reply: True, timeout_s=0.2)

    flasher = Rogue()
    with use_slot(slot) as used:
        used.guard.allow_writes([(0, 0x200000)])  # not even with a backup
        flasher.identify(used.link)
        assert flasher._rom is not None
        flasher.burn(flasher._rom)
        with pytest.raises(BenchBlocked, match="efuse write never passes"):
            used.link.check()
        flasher.close()
    assert bench.hand("dump", path=str(tmp_path / "x"))["efuse"] == before


# -- another run of the same suite ---------------------------------------------------------------------------


def pytest_on(bench: SimProcess, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`pytest tests_hil` as a person types it."""
    suite = [str(ROOT / "tests_hil"), "--bench", str(bench.bench_file)]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    return subprocess.run(
        [*command, *suite, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def test_pytest_runs_the_suite_on_a_bench_started_by_hand(bench: SimProcess, tmp_path: Path) -> None:
    done = pytest_on(bench, tmp_path, "--slot", "A")
    assert done.returncode == 0, done.stdout
    assert the_end(tmp_path).outcome.good


def test_an_attempt_that_does_not_reach_its_last_step_is_no_pass(bench: SimProcess, tmp_path: Path) -> None:
    done = pytest_on(bench, tmp_path, "-k", "discharged")
    assert done.returncode == 0, done.stdout  # what ran was fine
    ended = the_end(tmp_path)
    assert (ended.outcome, ended.code) == (Outcome.BLOCKED, "crashed")


def test_a_closed_terminal_ends_the_batch_in_order(slow_bench: SimProcess, tmp_path: Path) -> None:
    """The window closed, or ssh dropped: the kernel tells every process of the terminal, which is gone from then."""
    terminal, ours = os.openpty()
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY); os.execv(sys.argv[1], sys.argv[1:])"
    command = [*RIG, "convert", "--bench", str(slow_bench.bench_file), "--units", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", take, *command], cwd=tmp_path, stdin=ours, stdout=ours, stderr=ours, text=True,
        start_new_session=True,
    )  # fmt: skip
    os.close(ours)
    try:
        wait_for_journal(process, tmp_path, '"phase":"backup"')
        os.close(terminal)
        process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert the_end(tmp_path).outcome is Outcome.ABORTED
    run, found = run_of(tmp_path)
    assert of_kind(found, events.RunEnded)[0].exit_code == 130
    assert (run.report / "index.html").is_file()
    assert not slow_bench.status()["on"]


def test_a_prompt_for_the_next_board_can_be_stopped(bench: SimProcess, tmp_path: Path) -> None:
    """A person at a terminal, no change command: SIGTERM while the rig waits for Enter."""
    bench.hand("fault", name="short")  # the first unit ends soon
    path = tmp_path / "by-hand.toml"
    path.write_text(re.sub(r"^change = .*\n", "", bench.bench_file.read_text(), flags=re.MULTILINE))
    master, slave = os.openpty()
    command = [*RIG, "convert", "--no-report", "--bench", str(path), "--units", "2"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait_for_journal(process, tmp_path, '"unit-ended"')
        process.terminate()
        output, _ = process.communicate(timeout=60)
    finally:
        os.close(master)
        os.close(slave)
    assert process.returncode == 130, output
    assert the_end(tmp_path).unit == "1"  # unit 2 was never begun


def test_one_user_a_slot(slow_bench: SimProcess, tmp_path: Path) -> None:
    process = start_rig("convert", "--no-report", "--bench", slow_bench.bench_file, cwd=tmp_path)
    wait_for_journal(process, tmp_path, '"phase":"backup"')
    second = rig_inside("flash", "info", "--bench", slow_bench.bench_file, cwd=tmp_path)
    assert second.returncode == 2
    assert "in use" in second.stderr
    assert slow_bench.off_after(process.terminate) < OFF_WITHIN_S
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert the_end(tmp_path).outcome is Outcome.ABORTED
