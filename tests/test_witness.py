"""The witness: what it says of a rail that is known, how far its clock may be off, and what it refuses."""

from __future__ import annotations

import json
import math
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from waiting import until

from rig.bench import witness_dialect
from rig.bench.achieved import achieved
from rig.bench.bench import open_bench, read_bench
from rig.bench.config import WitnessTable
from rig.bench.slot import use_slot
from rig.bench.witness import Witness, WitnessProblem, check_witness, open_witness
from rig.errors import UsageProblem
from rig.sim.scope import Scope

MS = 1_000_000
STEP_V = 4.0 / 256
WINDOW_S = 5.0  # ten times what is looked at: a stop that comes late has not lost it


@dataclass
class Wave:
    """A rail at 3.3 V, but for the dips in it: (from, to, volts), time.monotonic."""

    dips: list[tuple[float, float, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)  # nobody looks while it is said what is to come

    def trace(self, begin: float, end: float, points: int) -> list[float | None]:
        step = (end - begin) / max(1, points - 1)
        with self.lock:
            return [self.at(begin + step * index) for index in range(points)]

    def at(self, moment: float) -> float:
        return next((volts for start, end, volts in self.dips if start <= moment < end), 3.3)

    def dips_in(self, seconds: float, width: float, volts: float) -> tuple[int, int]:
        """A dip that is to come; monotonic ns of now and of its edge."""
        with self.lock:
            now = time.monotonic_ns()
            start = now / 1e9 + seconds
            self.dips.append((start, start + width, volts))
        return now, round(start * 1e9)


class SlowScope(Scope):
    """One that takes its time with a stop: `before` it does it, `after` until it answers."""

    before = after = 0.0

    def line(self, text: str) -> bytes:
        stops = text == ":STOP" and self._roll is not None and self._record is None
        if stops:
            threading.Event().wait(self.before)
        answer = super().line(text)
        if stops:
            threading.Event().wait(self.after)
        return answer


@pytest.fixture(scope="module")
def wave() -> Wave:
    return Wave()


@pytest.fixture(scope="module")
def scope(wave: Wave) -> Iterator[SlowScope]:
    made = SlowScope(wave.trace, serial="X7")
    made.start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def _as_it_was(scope: SlowScope, wave: Wave) -> None:
    scope.before = scope.after = 0.0
    wave.dips.clear()


@pytest.fixture
def witness(scope: SlowScope) -> Iterator[Witness]:
    with Witness(WitnessTable(resource=scope.resource, serial="x7"), 3.6) as opened:
        yield opened


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.0), (0.05, 0.0), (0.0, 0.05)])
def test_a_dip_is_as_deep_as_wide_and_as_late_as_it_was(
    witness: Witness, wave: Wave, scope: SlowScope, before: float, after: float
) -> None:
    """Also when the stop takes effect late, or is answered late: then it says that its clock may be that far off."""
    scope.before, scope.after = before, after
    witness.start(WINDOW_S)
    fired, edge = wave.dips_in(0.02, 0.02, 2.2)
    samples = witness.record(fired, fired + 80 * MS)
    took = (time.monotonic_ns() - fired - 80 * MS) / 1e9
    found = achieved(samples, 3.3, fired)
    assert found.v_min == pytest.approx(2.2, abs=STEP_V)
    for level in ("3.0", "2.7", "2.4"):
        assert found.widths[level] == pytest.approx(0.02, abs=3 * samples.dt_s)
    assert found.widths["2.0"] == 0
    assert found.area_vs == pytest.approx(1.1 * 0.02, rel=0.03)
    assert samples.dt_s == pytest.approx(WINDOW_S / 50000)
    assert (before + after) / 2 < samples.offset_s < took / 2 + samples.dt_s
    assert found.offset_s == samples.offset_s
    assert found.delay_s is not None
    assert abs(found.delay_s - (edge - fired) / 1e9) <= samples.offset_s + samples.dt_s
    assert found.instrument == "DSOX1102G X7"


def test_pymeasure_reads_the_same_off_the_instrument(witness: Witness, wave: Wave, scope: SlowScope) -> None:
    keysight = pytest.importorskip("pymeasure.instruments.keysight")
    witness.start(WINDOW_S)
    begin, _ = wave.dips_in(0.01, 0.02, 1.5)
    samples = witness.record(begin, begin + 50 * MS)
    judge = keysight.KeysightDSOX1102G(scope.resource, read_termination="\n", write_termination="\n")
    try:
        assert judge.timebase == {"MODE": "ROLL", "REF": "CENT", "MAIN:RANG": WINDOW_S, "POS": 0.0}
        channel = judge.ch1.current_configuration
        wanted = {"RANG": 4.0, "OFFS": 1.8, "COUP": "DC", "BWL": False, "INV": False, "PROB": 10.0, "DISP": True}
        assert {name: channel[name] for name in wanted} == wanted
        volts, preamble = judge.download_data("channel1", points=50000)
    finally:
        judge.adapter.close()
    assert preamble["xincrement"] == pytest.approx(samples.dt_s)
    assert preamble["yincrement"] == pytest.approx(samples.step_v)
    judged = [math.nan if value > 1e3 else value for value in volts]
    at = next(index for index, value in enumerate(judged) if value < 2.5)
    ours = next(index for index, value in enumerate(samples.volts) if value < 2.5)
    assert judged[at - ours : at - ours + len(samples.volts)] == pytest.approx(samples.volts, abs=1e-3, nan_ok=True)


def test_a_record_can_be_stopped_in_time_and_fetched_later(witness: Witness, wave: Wave, scope: SlowScope) -> None:
    for _ in range(2):  # it starts anew each time
        witness.start(WINDOW_S)
        begin, _ = wave.dips_in(0.01, 0.02, 1.0)
        witness.stop_at(begin + 60 * MS)
        assert until(lambda: scope._record is not None)  # it stands, though nobody fetches it
        assert scope._record is not None
        stood = scope._record
        threading.Event().wait(0.1)
        samples = witness.record(begin, begin + 50 * MS)
        assert min(samples.volts) == pytest.approx(1.0, abs=STEP_V)
        assert len(samples.volts) >= 0.05 / samples.dt_s
        assert scope._record is stood


def test_what_was_not_seen_is_said(witness: Witness) -> None:
    now = time.monotonic_ns()
    with pytest.raises(WitnessProblem, match="was not started"):
        witness.record(now, now + MS)
    with pytest.raises(WitnessProblem, match="keeps 500 s at most, 600 s were asked"):
        witness.start(600)
    witness.start(0.5)
    with pytest.raises(WitnessProblem, match=r"record begins .* s too late: it needs"):
        witness.record(now, time.monotonic_ns())  # from before it rolled
    witness.start(0.5)
    begin = time.monotonic_ns()
    witness.stop_at(begin)
    with pytest.raises(WitnessProblem, match=r"stopped \d+\.\d+ s before the end"):
        witness.record(begin, begin + 60_000 * MS)
    witness.start(0.5)
    begin = time.monotonic_ns()
    threading.Event().wait(0.7)
    with pytest.raises(WitnessProblem, match=r"record begins \d+\.\d+ s too late"):
        witness.record(begin, begin + 10 * MS)


def test_holes_in_what_was_to_be_seen_are_no_record(
    witness: Witness, wave: Wave, scope: SlowScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness.start(WINDOW_S)
    with wave.lock:
        begin = time.monotonic_ns()
        gone = (begin + 20 * MS) / 1e9
        monkeypatch.setattr(wave, "at", lambda moment: None if gone < moment < gone + 0.001 else 3.3)
    witness.stop_at(begin + 60 * MS)
    assert until(lambda: witness._stopped)
    assert scope._record is not None
    stopped = round(scope._record.end * 1e9)
    witness._stopped = stopped, stopped  # as if nothing had held the stop up: it is sure of so short a hole
    with pytest.raises(WitnessProblem, match=r"\d+ of \d+ samples missing"):
        witness.record(begin, begin + 40 * MS)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"serial": "X8"}, "has serial number X7, not X8"),
        ({"channel": 3}, "has no channel 3, only 2"),
        ({"dialect": "keysight-dsox100"}, "did you mean 'keysight-dsox1000'"),
    ],
)
def test_another_instrument_than_the_bench_file_says(scope: Scope, wrong: dict[str, object], says: str) -> None:
    table = WitnessTable.model_validate({"resource": scope.resource} | wrong)
    for _ in range(2):  # nothing of it is held on to
        with pytest.raises(UsageProblem, match=says):
            Witness(table, 3.6)


def test_one_run_at_a_time(witness: Witness, scope: Scope) -> None:
    with pytest.raises(UsageProblem, match="in use by another run"):
        Witness(WitnessTable(resource=scope.resource), 3.6)


def test_nobody_there(wave: Wave) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(WitnessProblem, match=r"^the witness at TCPIP::.* \(connection refused\)$"):
        Witness(WitnessTable(resource=f"TCPIP::127.0.0.1::{port}::SOCKET"), 3.6)
    dying = Scope(wave.trace)
    dying.start()
    with Witness(WitnessTable(resource=dying.resource), 3.6) as witness:
        witness.start(0.5)
        dying.stop()
        now = time.monotonic_ns()
        witness._link.close()  # its line broke, and there is nobody to call again
        with pytest.raises(WitnessProblem, match="the witness at TCPIP"):
            witness.record(now, now + MS)


def test_a_dialect_of_ones_own(scope: Scope, tmp_path: Path) -> None:
    shipped = (witness_dialect.SHIPPED / "keysight-dsox1000.toml").read_text()
    mine = tmp_path / "mine.toml"
    mine.write_text(shipped.replace('name = "keysight-dsox1000"', 'name = "mine"').replace("BWLimit 0", "FOO 0"))
    with Witness(WitnessTable(resource=scope.resource, dialect="mine"), 3.6, [tmp_path]) as witness:
        with pytest.raises(WitnessProblem, match=r"did not take what was sent to be set up: -113"):
            witness.start(0.5)
        assert witness.instrument.dialect == "mine"
    with Witness(WitnessTable(resource=scope.resource), 3.6, [tmp_path]) as witness:
        assert witness.instrument.dialect == "mine"  # one's own is asked first
    for old, new, says in [
        ("{window:.6g}", "{windw:.6g}", r"\{windw\} is not one of channel"),
        ('"dt", ', '"dx", ', "needs dt"),
        ("levels = 256", "levls = 256", "unknown key 'record.levls'; did you mean 'levels'"),
        ("{points}", "{points:q}", "Unknown format code"),
    ]:
        mine.write_text(shipped.replace(old, new))
        with pytest.raises(UsageProblem, match=says):
            witness_dialect.load("mine", [tmp_path])
    mine.unlink()
    with pytest.raises(UsageProblem, match="no witness dialect knows"):
        witness_dialect.recognise("TEK,DPO2000,1,2", [])


BENCH = """
[bench]
name = "b"
[supply.psu1]
resource = "TCPIP::192.168.1.50::5555::SOCKET"
[slot.A]
supply = "psu1"
channel = 1
flash_port = "/dev/ttyUSB0"
product = "ds-121"
witness = "scope1"
[slot.B]
supply = "psu1"
channel = 2
flash_port = "/dev/ttyUSB1"
product = "ds-121"
[witness.scope1]
resource = "TCPIP::192.168.1.51::5025::SOCKET"
dialect = "keysight-dsox1000"
channel = 2
serial = "CN1"
"""


def test_the_bench_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(BENCH)
    bench = read_bench(path)
    found = bench.slots["A"].witness
    assert found is not None
    assert (found.resource, found.channel, found.serial, found.probe) == (
        "TCPIP::192.168.1.51::5025::SOCKET", 2, "CN1", 10.0,
    )  # fmt: skip
    assert bench.slots["B"].witness is None
    assert open_witness(bench.slots["B"]) is None
    both = BENCH.replace('flash_port = "/dev/ttyUSB1"', 'flash_port = "/dev/ttyUSB1"\nwitness = "scope1"')
    for text, says in [
        (BENCH.replace('witness = "scope1"', 'witness = "scop1"'), "names witness 'scop1'; did you mean 'scope1'"),
        (BENCH.replace("serial =", "serail ="), "unknown key 'witness.scope1.serail'; did you mean 'serial'"),
        (BENCH.replace("channel = 2\nserial", "channel = 0\nserial"), "'witness.scope1.channel' is 0"),
        (both, "slots A and B both name scope1 as their witness"),
    ]:
        assert text != BENCH
        path.write_text(text)
        with pytest.raises(UsageProblem, match=says):
            read_bench(path)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("sim:1+witnes", "no option 'witnes' of a simulated bench; did you mean 'witness'"),
        ("sim+seed", r"it is \+seed=VALUE"),
        ("sim:1@5+witness=yes", r"it is \+witness, without a value"),
    ],
)
def test_options_of_a_simulated_bench(spec: str, says: str) -> None:
    with pytest.raises(UsageProblem, match=says), open_bench(spec):
        pass


def test_the_rail_of_a_simulated_board_is_witnessed() -> None:
    """Through bench.toml alone, at a speed at which a second of the board is gone in 50 ms."""
    pytest.importorskip("unicorn", reason="a simulated board needs unicorn (extra: sim)")
    with open_bench("sim:2@20+witness+seed=3+supply=rigol-dp832") as bench:
        assert bench.slot("A").supply.dialect == "rigol-dp800"
        slot = bench.slot("B")
        assert slot.speed == 20
        said = check_witness(slot)
        assert said is not None
        assert re.fullmatch(r"witness DSOX1102G SIM\d+-1-B: the rail is at 0\.00 V, .* us, its clock within .*", said)
        control = Path(bench.path.parent / "control")
        with use_slot(slot) as opened:
            witness = open_witness(slot)
            assert witness is not None
            with witness:
                witness.start(15.0)
                begin = time.monotonic_ns()
                opened.power.on()
                assert until(lambda: (reading := opened.power.reading()) is not None and reading.volts > 3.2)
                fired = time.monotonic_ns()
                with socket.socket(socket.AF_UNIX) as hand:
                    hand.connect(str(control))
                    hand.sendall(
                        json.dumps({"op": "sag", "slot": "B", "volts": 2.3, "seconds": 1.0}).encode() + b"\n"
                    )
                    assert b'"ok"' in hand.recv(100)
                sagged = time.monotonic_ns()
                samples = witness.record(begin, sagged + 120 * MS)
                assert witness.name.startswith("DSOX1102G SIM")
        found = achieved(samples, 3.3, fired)
        assert found.v_min == pytest.approx(2.3, abs=2 * STEP_V)
        assert found.widths["2.4"] == pytest.approx(1.0 / 20, abs=0.002)
        assert found.widths["2.0"] == 0
        assert found.delay_s is not None
        assert found.delay_s < (sagged - fired) / 1e9 + 0.05 + found.offset_s
        assert min(samples.volts) < 0.3  # the board came on in the record: that is no dip
