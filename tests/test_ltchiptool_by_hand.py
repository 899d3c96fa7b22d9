"""Outside programs used by hand on a simulated bench, as on a real one: ltchiptool typed against the board's port,
with nothing of the rig between, and pymeasure at its supply."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rig.bench.bench import read_bench
from rig.errors import UsageProblem
from rig.flashers.environment import provide
from rig.sim import firmware
from rig.sim.hands import hand

pytest.importorskip("unicorn", reason="simulated boards need the extra `sim`")

RELEASES = ("4.15.0", "4.11.2")
DUMP = "tywb_4ch_rf_switch_CB3S_1.2.1.bin"
IMAGE = "OpenBK7231N_QIO_1.18.300.bin"
WRITTEN_BY_FIRMWARE = 0x1D0000  # from here on our own factory firmware keeps its books, at every boot


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """(what the board holds at first, what is written to it, from where on it may change by itself): real files
    where there are any, else our own."""
    real = os.environ.get("RIG_FIRMWARE_DIR")
    if real and all((Path(real) / name).is_file() for name in (DUMP, IMAGE)):
        return Path(real) / DUMP, Path(real) / IMAGE, 0x200000
    folder = tmp_path_factory.mktemp("firmware")
    (folder / "dump.bin").write_bytes(firmware.factory_dump(1))
    (folder / "image.bin").write_bytes(firmware.demo_image())
    return folder / "dump.bin", folder / "image.bin", WRITTEN_BY_FIRMWARE


@pytest.fixture(scope="module", params=RELEASES)
def tool(request):
    """The command, as pip installs it."""
    try:
        return str(provide("ltchiptool", request.param).executable("ltchiptool"))
    except UsageProblem as problem:
        if "cannot be reached" in str(problem):
            pytest.skip(str(problem))
        raise


@contextlib.contextmanager
def simulated(folder: Path, speed: float, flash: Path):
    """`rig sim` as a person starts it: a fixed 3.3 V, and CEN bridged after a second of silence."""
    bench_file = folder / "bench.toml"
    root = Path(__file__).parent.parent
    with (folder / "sim.txt").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "rig.sim", "--boards", "1", "--powered", "--reset-every", "1",
             "--speed", f"{speed:g}", "--flash", str(flash), "--bench-file", str(bench_file)],
            stdout=said, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": str(root)},
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 90
            while "Ctrl-C" not in (folder / "sim.txt").read_text():
                assert process.poll() is None, (folder / "sim.txt").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield read_bench(bench_file)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
    assert not bench_file.exists()


@pytest.fixture
def bench(tmp_path, contents):
    with simulated(tmp_path, 20, contents[0]) as bench:
        yield bench


def typed(*command: str, seconds: float = 60) -> str:
    """A command's output; it has to end well by its own account and by its exit code."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=seconds, check=False, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.search(r"^#*E: ", done.stdout, re.MULTILINE), done.stdout[-2000:]
    assert re.search(r"^#*I: \|-- Finished in ", done.stdout, re.MULTILINE), done.stdout[-2000:]
    return done.stdout


def said_of_a_board(output: str) -> None:
    assert re.search(r"\| Chip ID +\| 0x7231c +\|", output)
    assert re.search(r"\| Flash ID +\| EB 60 15 +\|", output)
    assert re.search(r"\| Flash Size \(detected\) +\| 2 MiB +\|", output)


def test_info_read_write(tool, bench, contents, tmp_path):
    """One after the other, the board left at whatever speed the last one chose: a second later CEN is bridged."""
    dump, image = (path.read_bytes() for path in contents[:2])
    kept = contents[2]

    def flash() -> bytes:
        assert hand(control, "A", "dump", path=str(tmp_path / "flash.bin"))["ok"]
        return (tmp_path / "flash.bin").read_bytes()

    port = bench.slot("A").table.flash_port
    control = Path(port).parent / "control"
    said_of_a_board(typed(tool, "flash", "info", "-d", port, "bk7231n"))

    file = tmp_path / "read.bin"
    typed(tool, "flash", "read", "-d", port, "-b", "921600", "bk7231n", str(file))
    before = file.read_bytes()
    assert before == flash()
    assert before[:kept] == dump[:kept].ljust(kept, b"\xff")

    typed(tool, "flash", "write", "-d", port, "-b", "921600", "-f", "bk7231n", "-s", "0x0", str(contents[1]))
    after = flash()
    end = -(-len(image) // 0x1000) * 0x1000  # it pads the last sector with FF
    assert after[: len(image)] == image
    assert after[len(image) : end] == b"\xff" * (end - len(image))
    assert after[end:kept] == before[end:kept]


@pytest.mark.soak
def test_info_at_the_real_pace(tool, tmp_path, contents):
    """Wire, flash and chip as slow as they are; twice, so that the second finds the board as the first left it."""
    with simulated(tmp_path, 1, contents[0]) as bench:
        port = bench.slot("A").table.flash_port
        for _ in range(2):
            said_of_a_board(typed(tool, "flash", "info", "-d", port, "bk7231n"))


def test_a_board_that_runs_its_firmware_is_caught_by_the_next_bridge(tool, bench):
    """A bridge of CEN comes before the tool gives up: after 1.5 s it would pull RTS, which a pseudo-terminal has
    not."""
    port = bench.slot("A").table.flash_port
    control = Path(port).parent / "control"
    deadline = time.monotonic() + 60
    while hand(control, "A", "status")["phase"] != "running":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    output = typed(tool, "-v", "flash", "info", "-d", port, "bk7231n")
    assert "Linking: stage 2" not in output
    said_of_a_board(output)


def test_pymeasure_switches_and_measures_that_benchs_supply(bench):
    pytest.importorskip("pymeasure", reason="pymeasure is not installed")
    from pymeasure.instruments.keysight import KeysightE36312A

    slot = bench.slot("A")
    supply = KeysightE36312A(slot.supply.resource, visa_library="@py", read_termination="\n", timeout=30_000)
    try:
        output = supply.channels[slot.table.channel]
        assert not output.output_enabled
        assert output.current == 0  # the board runs from its fixed supply
        output.voltage_setpoint = 3.3
        output.current_limit = 0.5
        output.output_enabled = True
        assert output.output_enabled is True
        deadline = time.monotonic() + 60
        while not 0.02 < output.current < 0.5:
            assert time.monotonic() < deadline
        assert output.voltage == pytest.approx(3.3, abs=0.05)
        output.output_enabled = False
        assert output.output_enabled is False
        assert output.current == 0
        assert supply.check_errors() == []
    finally:
        supply.adapter.close()
