"""The witness: a simulated oscilloscope on a board's rail, read by pymeasure's class for the real one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from waiting import PATIENCE_S, until

from rig.sim.bench import SimBench
from rig.sim.link import RailLink
from rig.sim.processes import BoardProcess
from rig.sim.scope import Scope
from rig.sim.spec import SimOptions

pymeasure = pytest.importorskip("pymeasure.instruments.keysight")
pytestmark = pytest.mark.filterwarnings("ignore:It is not known:FutureWarning")
BEGAN = [0.0]


def rail(begin: float, end: float, points: int) -> list[float | None]:
    """3.3 V from 10 s before the test, with 2 V for 20 ms half a second before it."""
    step = (end - begin) / max(1, points - 1)
    times = [begin + step * index - BEGAN[0] for index in range(points)]
    return [None if at < -10 else 2.0 if -0.52 <= at < -0.5 else 3.3 for at in times]


@pytest.fixture(scope="module")
def scope() -> Iterator[Scope]:
    made = Scope(rail, serial="X1")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def found(scope: Scope) -> Iterator[pymeasure.KeysightDSOX1102G]:
    made = pymeasure.KeysightDSOX1102G(scope.resource, read_termination="\n", write_termination="\n")
    made.adapter.connection.timeout = PATIENCE_S * 1000
    yield made
    made.adapter.close()


@pytest.fixture
def judge(found: pymeasure.KeysightDSOX1102G) -> pymeasure.KeysightDSOX1102G:
    found.factory_reset()
    BEGAN[0] = time.monotonic()
    return found


def test_pymeasure_sets_it_up_and_reads_it_back(judge: pymeasure.KeysightDSOX1102G) -> None:
    assert judge.id.startswith("KEYSIGHT TECHNOLOGIES,DSOX1102G,X1,")
    judge.timebase_setup(mode="main", offset=0.002, scale=0.005)
    assert judge.timebase == {"MODE": "MAIN", "REF": "CENT", "MAIN:RANG": 0.05, "POS": 0.002}
    assert judge.timebase_range == 0.05
    judge.ch1.setup(scale=0.5, offset=1.65, coupling="dc", bwlimit=True, probe_attenuation=1)
    found = judge.ch1.current_configuration
    assert (found["RANG"], found["OFFS"], found["COUP"], found["BWL"], found["PROB"]) == (4.0, 1.65, "DC", True, 1.0)
    assert judge.ch1.scale == 0.5
    judge.acquisition_type = "hresolution"
    assert judge.acquisition_type == "hresolution"
    assert judge.ask(":SYSTem:ERRor?").strip() == '+0,"No error"'


def test_a_dip_is_in_the_record_that_stop_ends(judge: pymeasure.KeysightDSOX1102G) -> None:
    judge.timebase_range = 10.0
    judge.ch1.setup(vertical_range=4, offset=1.65)
    judge.stop()
    volts, preamble = judge.download_data("channel1", points=20000)
    step = 4 / 256
    assert len(volts) == preamble["points"] == 20000
    assert (preamble["yincrement"], preamble["yorigin"], preamble["yreference"]) == (step, 1.65, 128)
    assert volts.max() == pytest.approx(3.3, abs=step / 2)
    assert volts.min() == pytest.approx(2.0, abs=step / 2)
    dip = (volts < 2.5).sum() * preamble["xincrement"]
    assert dip == pytest.approx(0.02, abs=2 * preamble["xincrement"])
    again, _ = judge.download_data("channel1", points=20000)
    assert (again == volts).all()  # stopped is stopped
    judge.run()
    judge.ch1.setup(vertical_range=2, offset=0)
    volts, _ = judge.download_data("channel1", points=100)
    assert volts.max() == pytest.approx(1.0, abs=step)  # what is off the screen is cut
    assert judge.download_data("channel2", points=100)[0].max() == 0


def test_single_takes_the_time_around_it_and_is_waited_for(judge: pymeasure.KeysightDSOX1102G) -> None:
    judge.timebase_range = 100
    judge.single()
    assert judge.ask(":OPERegister:CONDition?").strip() == "8"
    judge.timebase_range = 0.2
    began = time.monotonic()
    judge.single()
    volts, preamble = judge.download_data("channel1", points=100)
    assert time.monotonic() - began >= 0.1
    assert preamble["xorigin"] == pytest.approx(-0.1)
    assert judge.ask(":OPERegister:CONDition?").strip() == "0"
    assert volts[-1] == pytest.approx(3.3, abs=0.16)


def test_before_the_trace_there_is_nothing(judge: pymeasure.KeysightDSOX1102G) -> None:
    judge.timebase_range = 50
    judge.stop()
    volts, _ = judge.download_data("channel1", points=100)
    assert volts[0] == 9.9e37
    judge.write(":WAVeform:FORMat BYTE")
    judge.write(":WAVeform:DATA?")
    block = judge.read_bytes(10 + 100 + 1)
    assert block[:10] == b"#800000100"
    assert block[10] == 0
    assert block[-2] == 149  # 3.3 V at 40 V over 256 levels, 128 is 0 V


def test_rolling_it_samples_all_the_while(judge: pymeasure.KeysightDSOX1102G, scope: Scope) -> None:
    """A record then begins no earlier than the rolling, ends with the stop, and goes on at the next run."""
    judge.timebase_range = 20.0
    begun = time.monotonic()
    judge.timebase_setup(mode="roll")
    assert judge.timebase["MODE"] == "ROLL"  # its answer says that it does: writes alone may be under way for 40 ms
    began = time.monotonic()
    assert until(lambda: time.monotonic() - began > 0.3)
    judge.stop()
    assert judge.ask("*OPC?").strip() == "1"
    length = time.monotonic() - begun
    volts, preamble = judge.download_data("channel1", points=5000)
    slack = 2 * preamble["xincrement"]
    seen = (volts < 10).sum() * preamble["xincrement"]
    assert 0.3 - slack < seen <= length + slack
    assert volts[0] == 9.9e37
    assert volts[-1] == pytest.approx(3.3, abs=0.16)
    judge.stop()  # it stands: nothing more
    again, _ = judge.download_data("channel1", points=5000)
    assert (again == volts).all()
    begun = time.monotonic()
    judge.run()
    assert judge.ask("*OPC?").strip() == "1"
    judge.stop()
    assert judge.ask("*OPC?").strip() == "1"
    length = time.monotonic() - begun
    volts, _ = judge.download_data("channel1", points=5000)
    assert (volts < 10).sum() * preamble["xincrement"] <= length + slack  # what was before is gone
    judge.timebase_range = 0.4
    assert judge.ask(":SYSTem:ERRor?").startswith("-221")  # faster than 50 ms a division it does not roll
    assert judge.timebase_range == 20.0
    judge.timebase_setup(mode="main")
    judge.run()
    judge.timebase_range = 0.4
    judge.stop()
    assert (judge.download_data("channel1", points=1000)[0] < 10).all()  # without rolling there is a past
    assert not any(thread.name == "scope-roll" for thread in threading.enumerate())


def has_dipped(board: BoardProcess, began: float) -> bool:
    """Whether its rail has been down since, and is up again."""
    trace = board.trace(began - 0.05, time.monotonic(), 2000)
    known = [volts for volts in trace if volts is not None]
    return min(known) < 2.5 and known[-1] > 3.2


def test_a_bench_with_a_witness_shows_the_boards_rail() -> None:
    pytest.importorskip("unicorn", reason="a simulated board needs unicorn (extra: sim)")
    with SimBench(SimOptions(boards=1, seed=1, witness=True)) as bench:
        RailLink(bench.boards["A"].link).apply(True, 3.3, 0.5)
        assert until(lambda: bench.boards["A"].ask(op="status")["volts"] > 3.2, 15)
        assert bench.hand({"op": "sag", "slot": "A", "volts": 2.4, "seconds": 0.03}) == {"ok": True}
        began = time.monotonic()
        assert until(lambda: has_dipped(bench.boards["A"], began), 15)
        scope = pymeasure.KeysightDSOX1102G(bench.scopes["A"].resource, read_termination="\n", write_termination="\n")
        scope.timebase_range = 15.0
        scope.ch1.setup(vertical_range=4, offset=1.65)
        scope.stop()
        volts, preamble = scope.download_data("channel1", points=20000)
        scope.adapter.close()
    known = volts[volts < 10]
    assert known[0] == pytest.approx(0.0, abs=0.02)  # before the output went on
    assert known[-1] == pytest.approx(3.3, abs=0.05)
    dip = ((known > 2.3) & (known < 2.5)).sum() * preamble["xincrement"]
    assert dip == pytest.approx(0.03, abs=0.003)


def test_what_it_does_not_know_is_in_its_error_queue(scope: Scope) -> None:
    host, port = scope.resource.split("::")[1:3]
    with socket.create_connection((host, int(port)), PATIENCE_S) as line, line.makefile("rb") as answers:
        line.sendall(b":FLY:HIGH 3\n:TIM:RANG soon;:TIM:RANG 1e9;:WAV:POIN 7\n:tim:rang 0.01;rang?;*idn?\n")
        assert answers.readline().startswith(b"+1.000000E-02;KEYSIGHT")
        for number in (b"-113", b"-224", b"-222", b"-222", b"+0"):
            line.sendall(b":SYST:ERR?\n")
            assert answers.readline().startswith(number)


def test_one_that_could_not_start_can_be_stopped(scope: Scope) -> None:
    second = Scope(rail, port=int(scope.resource.split("::")[2]))
    second._server.allow_reuse_address = False
    with pytest.raises(OSError, match="in use"):
        second.start()
    stopping = threading.Thread(target=second.stop, daemon=True)
    stopping.start()
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()
