"""A waveform on a simulated bench, through its bench file: what the board's rail does, in the board's time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from waiting import until

from rig.bench.bench import Bench, open_bench
from rig.bench.slot import lease_slot
from rig.sim.bench import SimBench
from rig.sim.spec import SimOptions
from rig.supply.channel import Setting
from rig.supply.client import LeasedChannel
from rig.supply.means import fit
from rig.supply.waveform import Waveform, dip, interruption

pytest.importorskip("unicorn", reason="a simulated board needs the extra `sim`")
SPEED = 5.0  # a board remembers 20 s of its own time: 4 s here
WITHIN = 0.01  # seconds of the board: the resolution of the look below, and how fast its rail comes up


@pytest.fixture(scope="module")
def simulated() -> Iterator[SimBench]:
    with SimBench(SimOptions(boards=1, speed=SPEED)) as bench:
        yield bench


@pytest.fixture
def bench(simulated: SimBench) -> Iterator[Bench]:
    with open_bench(str(simulated.bench_file)) as bench:
        yield bench


def seen(simulated: SimBench, channel: LeasedChannel, waveform: Waveform) -> list[float]:
    """The board's rail each five milliseconds of its time, from before to after."""
    channel.arm(fit(waveform, channel.limits, widen=False, speed=SPEED))
    begun = time.monotonic()
    assert until(lambda: time.monotonic() > begun + 0.03)  # it has been on for longer than is looked at
    fired = channel.fire() / 1e9
    assert until(lambda: not channel.playing())
    over = time.monotonic()
    begin, end = fired - 0.02, over + 0.02
    assert until(lambda: time.monotonic() > end)
    points = int((end - begin) * SPEED / 0.005)
    return [volts for volts in simulated.boards["A"].trace(begin, end, points) if volts is not None]


def test_a_dip_is_as_wide_in_the_boards_time_as_it_was_asked_for(simulated: SimBench, bench: Bench) -> None:
    with lease_slot(bench.slot("A"), "a test") as channel:
        channel.configure(Setting(3.3, 0.5, 3.6), max_volts=3.6)
        channel.on()
        for seconds in (0.05, 0.2):
            rail = seen(simulated, channel, dip(2.4, seconds))
            low = [volts for volts in rail if volts < 3.2]
            assert len(low) * 0.005 == pytest.approx(seconds, abs=WITHIN)
            assert min(rail) == pytest.approx(2.4, abs=0.15), "the load has to pull it down"
            assert rail[-1] == pytest.approx(3.3, abs=0.1)
            assert rail[0] == pytest.approx(3.3, abs=0.1)


def test_an_interruption_resets_the_board_and_it_comes_back(simulated: SimBench, bench: Bench) -> None:
    with lease_slot(bench.slot("A"), "a test") as channel:
        channel.configure(Setting(3.3, 0.5, 3.6), max_volts=3.6)
        channel.on()
        assert until(lambda: simulated.boards["A"].ask(op="status")["phase"] == "running")  # that reset is behind it
        before = simulated.boards["A"].ask(op="status")["resets"]
        rail = seen(simulated, channel, interruption(0.5))
        assert min(rail) < 0.3
        assert rail[-1] == pytest.approx(3.3, abs=0.1)
        assert until(lambda: simulated.boards["A"].ask(op="status")["resets"] == before + 1)
