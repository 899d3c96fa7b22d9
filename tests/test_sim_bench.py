"""The simulated bench as processes: it is reached as a real one is, and nothing of it stays."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import serial
from waiting import until

from rig.bench.bench import open_bench, read_bench
from rig.bench.slot import check_ports, slot_lock, use_slot
from rig.chip.client import RomClient
from rig.errors import BenchBlocked, UsageProblem
from rig.flashers.native import NativeFlasher
from rig.sim import firmware, hands
from rig.sim.bench import SimBench, slot_name
from rig.sim.drawer import Drawer
from rig.sim.hands import hand
from rig.sim.link import RailLink
from rig.sim.spec import SimOptions, check_options
from rig.uart.bootlog import BootLog

pytest.importorskip("unicorn", reason="a simulated board needs unicorn (extra: sim)")

ROOT = Path(__file__).parent.parent
SPEED = 50.0


@pytest.fixture(scope="module")
def bench() -> Iterator[SimBench]:
    with SimBench(SimOptions(boards=2, speed=SPEED, seed=3)) as bench:
        yield bench


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def rig_sim(*words: str | Path, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rig.sim", *map(str, words)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )


def test_its_bench_file_is_an_ordinary_one(bench: SimBench) -> None:
    read = read_bench(bench.bench_file)
    assert (read.simulated, read.speed, list(read.slots)) == (True, SPEED, ["A", "B"])
    assert read.image is not None
    assert read.image.read_bytes() == firmware.demo_image()
    a, b = read.slots.values()
    assert (a.table.supply, a.table.channel, b.table.channel) == ("psu1", 1, 2)
    assert len({port for slot in (a, b) for port in (slot.table.flash_port, slot.table.log_port)}) == 4
    check_ports(a)
    with (
        closing(serial.Serial(a.table.flash_port, exclusive=True)),
        pytest.raises(BenchBlocked, match="slot A: the port"),
    ):
        check_ports(a)


def test_a_unit_s_way(bench: SimBench, tmp_path: Path) -> None:
    slot = read_bench(bench.bench_file).slot("A")
    with use_slot(slot, samples=tmp_path / "power.csv") as opened, BootLog.open(slot.table.log_port or "") as log:
        assert opened.instrument.serial == slot.supply.serial
        assert bench.boards["A"].ask(op="status")["on"] is False
        with pytest.raises(UsageProblem, match="slot A is in use by another run"), slot_lock(slot):
            pass
        flasher = NativeFlasher()
        found = flasher.identify(opened.link)
        assert found.mac is not None
        assert found.mac.startswith("02:52:49:")
        assert found.efuse is not None
        assert found.efuse[24:30].hex(":") == found.mac
        flasher.close()
        log.mark("power-on")
        opened.link.boot()
        assert log.wait_for("alive 2", 60)
        assert next(line.text for line in log.lines if line.text) == "rig-boot 1"
        volts, amps = opened.power.average(0.1)
        assert volts == pytest.approx(3.3, abs=0.05)
        assert 0.03 < amps < 0.3
        assert opened.power.sag is None
    assert bench.boards["A"].ask(op="status")["on"] is False
    assert "cv" in (tmp_path / "power.csv").read_text()
    with slot_lock(slot):
        pass


def test_a_current_limit_of_its_own(bench: SimBench) -> None:
    slot = read_bench(bench.bench_file).slot("B")
    with use_slot(slot, current_limit=0.1) as opened, BootLog.open(slot.table.log_port or "") as log:
        before = bench.boards["B"].ask(op="status")["resets"]
        log.mark("power-on")
        opened.link.boot()
        assert until(lambda: bench.boards["B"].ask(op="status")["resets"] > before + 2)
        assert until(lambda: [line.text for line in log.lines].count("rig-boot 1") >= 2)
        texts = [line.text for line in log.lines]
        assert "boot complete" not in texts
        with closing(serial.Serial(opened.tap.path, 115200, timeout=0.005)) as port:
            RomClient(port).link(60)  # in the loop, too, it can be caught


def test_the_operator_s_hands(bench: SimBench) -> None:
    control = bench.folder / "control"
    board = bench.boards["B"]
    first = bench.hand({"op": "dump", "slot": "B", "path": str(bench.folder / "one")})["efuse"]
    assert hand(control, "B", "change") == {"ok": True}
    second = hand(control, "B", "dump", path=str(bench.folder / "two"))["efuse"]
    assert first != second
    assert (bench.folder / "one").read_bytes() != (bench.folder / "two").read_bytes()
    RailLink(board.link).apply(True, 3.3, 0.5)
    refused = subprocess.run(
        read_bench(bench.bench_file).slot("B").table.change or [],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (refused.returncode, refused.stderr) == (
        1, "the output is on: a board is changed only with its supply off\n"
    )  # fmt: skip
    assert hand(control, "B", "dump", path=str(bench.folder / "two"))["efuse"] == second
    RailLink(board.link).apply(False, 0.0, 0.0)
    assert "no slot Z; there are A, B" in hand(control, "Z", "change")["error"]
    for op in ("supply", "quit", "sense", "fly"):
        assert f"no operation '{op}'" in hand(control, "B", op)["error"]
    assert hand(control, "B", "poke")["error"]
    assert hand(control, "B", "status")["on"] is False


def test_a_units_board_comes_back_when_it_is_asked_for_again(bench: SimBench) -> None:
    control = bench.folder / "control"

    def change(slot: str, unit: str, **more: str) -> str:
        assert hand(control, slot, "change", unit=unit, run="r1", **more) == {"ok": True}
        return efuse(slot)

    def efuse(slot: str) -> str:
        return str(hand(control, slot, "dump", path=str(bench.folder / slot))["efuse"])

    first = efuse("A")
    second = change("A", "2", before="1")  # who was in it from the start is said as it goes out
    hand(control, "A", "poke", offset=0, data="bWluZQ==")
    third = change("A", "3")
    assert change("A", "2") == second
    assert (bench.folder / "A").read_bytes()[:4] == b"mine", "it was converted, and is as it was left"
    assert change("B", "2") == second, "out of the other slot"
    assert efuse("A") not in (first, second, third), "it cannot be in both"
    assert change("B", "1") == first
    assert change("A", "3") == third
    assert change("B", "2", origin="A") == third, "whose it is there is for whoever asks to say"
    other = hand(control, "A", "change", unit="1", run="r2")  # another run's first unit is another board
    assert (other, efuse("A") == first) == ({"ok": True}, False)
    RailLink(bench.boards["B"].link).apply(True, 3.3, 0.5)
    assert "slot B, where that board is, is on" in hand(control, "A", "change", unit="2", run="r1")["error"]
    RailLink(bench.boards["B"].link).apply(False, 0.0, 0.0)


def test_what_a_station_says_reaches_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIG_UNIT", "SN1")
    monkeypatch.setenv("RIG_FROM", "")
    monkeypatch.setenv("RIG_UNIT_BEFORE", "SN0")
    monkeypatch.setenv("RIG_RUN", "r")
    assert hands._units() == {"unit": "SN1", "before": "SN0", "run": "r"}


def test_of_more_boards_than_it_holds_the_drawer_forgets_the_oldest(tmp_path: Path) -> None:
    drawer = Drawer(tmp_path / "drawer", most=2)
    for name in "abca":
        drawer.put(name, name.encode() * 9, name)
    assert drawer.take("b") is None
    assert drawer.take("a") == (b"a" * 9, "a")
    assert drawer.take("a") is None
    assert len(list((tmp_path / "drawer").iterdir())) == 1


def test_the_hands_without_a_bench(tmp_path: Path) -> None:
    for words, code, says in (
        ([str(tmp_path / "control"), "change", "A"], 1, "the simulated bench is gone"),
        ([], 2, "usage: "),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "rig.sim.hands", *words], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert (done.returncode, done.stderr.count("\n")) == (code, 1)
        assert says in done.stderr


def test_boards_out_of_one_box_differ_and_a_seed_makes_them_the_same() -> None:
    boxes = []
    for seed in (7, 7, 8):
        with SimBench(SimOptions(boards=2, speed=SPEED, seed=seed)) as bench:
            boxes.append([board.ask(op="dump", path=os.devnull)["efuse"] for board in bench.boards.values()])
    assert boxes[0] == boxes[1]
    assert len({efuse for box in boxes for efuse in box}) == 4


def test_slots_that_change_side_by_side_get_boards_of_their_own() -> None:
    bench = SimBench(SimOptions(boards=4, seed=3))
    try:
        with ThreadPoolExecutor(4) as pool:
            efuses = [efuse for _, efuse in pool.map(bench.next_board, "ABCD" * 3)]
    finally:
        bench.stop()
    assert len(set(efuses)) == 12


def test_nothing_of_it_stays() -> None:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with SimBench(SimOptions(boards=4, speed=SPEED, supply="rigol-dp832")) as bench:
        pids = [board.process.pid for board in bench.boards.values()]
        links = [Path(path) for ports in bench.ports.values() for path in ports.values()]
        assert len(bench.supplies) == 2
        assert all(alive(pid) for pid in pids)
        assert all(link.is_symlink() and link.exists() for link in links)
        bench.boards["C"].process.kill()
        bench.boards["C"].process.wait()
        with pytest.raises((RuntimeError, OSError)):
            bench.boards["C"].ask(op="status")
        assert bench.boards["D"].ask(op="status")["phase"] == "off"
    assert not any(alive(pid) for pid in pids)
    assert not any(link.is_symlink() for link in links)
    assert not bench.folder.exists()
    assert until(lambda: threading.active_count() <= threads)  # fewer: one of an earlier test has ended meanwhile
    assert until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


OWNER = """
import json, sys
from rig.bench.bench import open_bench
from rig.bench.slot import use_slot
with open_bench("sim:2@50") as bench, use_slot(bench.slot("A")) as opened:
    opened.link.boot()
    print(json.dumps([str(bench.path), opened.slot.table.flash_port]), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["kill -9", "end"])
def test_a_bench_goes_with_its_owner(how: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    try:
        ready, _, _ = select.select([owner.stdout], [], [], 60)
        assert ready
        bench_file, port = json.loads(owner.stdout.readline())
        sims = [pid for pid in children(owner.pid) if b"rig.sim" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        boards = children(sims[0])  # and the supply that feeds them
        assert (len(sims), len(boards)) == (1, 3)
        assert os.path.islink(port)
        if how == "kill -9":
            owner.kill()
        else:
            owner.stdin.close()
        owner.wait(60)
        assert until(lambda: not any(alive(pid) for pid in (*sims, *boards)))
        assert not os.path.lexists(port)
        assert not Path(bench_file).parent.exists()
        assert owner.returncode == (-signal.SIGKILL if how == "kill -9" else 0)
    finally:
        owner.kill()
        owner.wait()
        owner.stdin.close()
        owner.stdout.close()


def test_by_hand_it_says_where_it_is_until_ctrl_c(tmp_path: Path) -> None:
    process = rig_sim("--boards", "1", "--speed", "50", "--bench-file", "b.toml", cwd=tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    said = process.stdout.readline()
    assert "Simulated bench, 1 board(s) at 50 times real time: b.toml" in said
    assert read_bench(tmp_path / "b.toml").simulated
    process.send_signal(signal.SIGINT)
    with process:
        assert "Ctrl-C ends it." in process.stdout.read()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert not (tmp_path / "b.toml").exists()


def test_a_real_bench_s_file_is_spared(tmp_path: Path) -> None:
    real = tmp_path / "bench.toml"
    real.write_text('[bench]\nname = "mine"\n')
    process = rig_sim("--bench-file", "bench.toml", cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == "rig sim: bench.toml is there and is no simulated bench's: name another --bench-file\n"
    assert real.read_text() == '[bench]\nname = "mine"\n'


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"boards": 0}, "--boards takes 1 to 64, not 0"),
        ({"speed": 0}, "--speed takes 0.01 to 1000, not 0"),
        ({"speed": float("nan")}, "--speed takes 0.01 to 1000, not nan"),
        ({"reset_every": -1}, "--reset-every takes 0 (never) or 0.1 to 86400 seconds, not -1"),
        ({"seed": -1}, "--seed takes 0 to 1048575, not -1"),
        ({"seed": 1 << 20}, "--seed takes"),
        ({"supply": "acme"}, "no simulated supply 'acme'; there are"),
    ],
)
def test_what_cannot_be_simulated(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        check_options(SimOptions(**options))  # type: ignore[arg-type]
    assert sentence in str(caught.value)


def test_flash_content_that_does_not_fit(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(0x200001))
    for path, says in ((tmp_path / "none", "cannot read the flash content"), (big, "flash holds 2097152")):
        with pytest.raises(UsageProblem, match=says), SimBench(SimOptions(flash=path)):
            pass


def test_a_bench_that_does_not_start_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageProblem, match="the simulated bench of 65 board"), open_bench("sim:65"):
        pass
    assert capfd.readouterr().err == "rig sim: --boards takes 1 to 64, not 65\n"


def test_slots_have_letters() -> None:
    names = [slot_name(index) for index in range(64)]
    assert (names[0], names[25], names[26], names[52]) == ("A", "Z", "A2", "A3")
    assert len(set(names)) == 64
