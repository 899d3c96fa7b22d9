"""The simulated 3.3 V rail: its closed forms against integration in small steps, and the stories they tell."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rig.sim.constants import Constants, load_constants, sources
from rig.sim.power import Rail, SetPoint

CONSTANTS = load_constants()
BENCH = CONSTANTS.part("bench")
RAIL = CONSTANTS.rail
FARADS = BENCH.farads + RAIL.board_farads
PATH = BENCH.ohms + RAIL.cable_ohms
FALLING, RISING = RAIL.reset_falling_volts, RAIL.reset_rising_volts


def a_rail(
    volts: float = 3.3,
    amps: float = 0.5,
    *,
    on: bool = True,
    speed: float = 1.0,
    constants: Constants = CONSTANTS,
    source: str = "bench",
) -> Rail:
    rail = Rail(constants, speed=speed, source=source)
    rail.set_point = SetPoint(on, volts, amps)
    return rail


def run(rail: Rail, until: float, load: Callable[[float], float] = lambda now: 0.03) -> list[float]:
    """Advance; times of all resets and releases. `load` is what the chip draws when it comes alive."""
    crossings = []
    while rail.advance(until):
        crossings.append(rail.now)
        rail.load = load(rail.now) if rail.alive else 0.0
    return crossings


class Euler:
    """The same circuit, the stupid way: small steps, no closed form, no events."""

    STEP = 2e-6

    def __init__(self) -> None:
        self.x = self.ref = self.charge = self.terminal_area = self.effort = 0.0
        self.alive, self.above, self.stopped = False, 0.0, False

    def board(self, load: float) -> tuple[float, float]:
        """(amps, volts at the board) where the capacitors stand."""
        x, knee = self.x, RAIL.knee_volts
        if self.alive and x - PATH * load > knee:
            return load, x - PATH * load
        siemens = load / knee if self.alive else 1 / RAIL.reset_ohms
        volts = x / (1 + PATH * siemens)
        return volts * siemens, volts

    def run(self, point: SetPoint, load: float, seconds: float) -> None:
        aim, limit = (point.volts, point.amps) if point.on else (0.0, 0.0)
        for _ in range(round(seconds / self.STEP)):
            amps, volts = self.board(load)
            self.ref = min(aim, self.ref + BENCH.slew * self.STEP) if point.on else 0.0
            wanted = (self.ref - self.x) * FARADS / self.STEP + amps  # to stand at the reference after this step
            out = min(max(wanted, 0.0), limit)
            self.x = max(0.0, self.x + (out - amps) / FARADS * self.STEP)
            self.charge += out * self.STEP
            if self.alive and volts <= FALLING:
                self.alive, self.above = False, 0.0
            elif not self.alive:
                self.above = self.above + self.STEP if volts >= RISING else 0.0
                self.alive = self.above >= RAIL.reset_release_seconds


steps = st.lists(
    st.tuples(
        st.booleans(),
        st.floats(0.5, 3.6),
        st.floats(0.02, 0.6),
        st.sampled_from([0.0, 0.03, 0.08, 0.304]),
        st.floats(0.0005, 0.02),
    ),
    min_size=1,
    max_size=5,
)
Plan = list[tuple[bool, float, float, float, float]]


@settings(derandomize=True, deadline=None, max_examples=50, phases=[Phase.explicit, Phase.generate])
@given(steps)
def test_the_closed_forms_agree_with_small_steps(plan: Plan) -> None:
    rail, euler, now, crossings = a_rail(on=False), Euler(), 0.0, 0
    for on, volts, amps, load, seconds in plan:
        point = SetPoint(on, volts, amps)
        rail.set_point = point
        rail.load = load
        now += seconds
        while rail.advance(now):
            rail.load = load
            crossings += 1
        euler.run(point, load, seconds)
        # Small steps overshoot a level by up to one step, each time. Where the rail stands just at a level, one
        # may be over it and the other not.
        tolerance = 0.004 * (1 + crossings)
        level = euler.board(load)[1]
        if min(abs(level - FALLING), abs(level - RISING)) < 0.04 + tolerance:
            return
        assert rail.alive == euler.alive
        assert rail.volts == pytest.approx(level, abs=tolerance)
        _, amps_mean = rail.trace.metered(0.0, rail.model(now))
        assert amps_mean * now == pytest.approx(euler.charge, rel=0.02, abs=3e-5)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(steps, st.lists(st.floats(0.0, 0.05), max_size=8))
def test_looking_more_often_changes_nothing(plan: Plan, looks: list[float]) -> None:
    one, two, now = a_rail(on=False), a_rail(on=False), 0.0
    for on, volts, amps, load, seconds in plan:
        for rail in (one, two):
            rail.set_point = SetPoint(on, volts, amps)
            rail.load = load
        for look in sorted(looks):
            two.next_event()
            run(two, now + min(look, seconds), lambda _, load=load: load)  # type: ignore[misc]
        now += seconds
        run(one, now, lambda _, load=load: load)  # type: ignore[misc]
        run(two, now, lambda _, load=load: load)  # type: ignore[misc]
        assert two.volts == pytest.approx(one.volts, abs=1e-5)
        assert two.alive == one.alive
        assert two.trace.metered(0, now) == pytest.approx(one.trace.metered(0, now), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_to_it_it_goes_on_and_stays_in_bounds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    forms = []
    following = Rail._next
    monkeypatch.setattr(Rail, "_next", lambda rail: forms.append(None) or following(rail))
    for source in sources():
        rail = a_rail(on=False, source=source, constants=load_constants({"rail": {"cable_ohms": rng.choice([0, 8])}}))
        rail.feed.fixed = rng.random() < 0.2
        now = 0.0
        for _ in range(30):
            what = rng.randrange(4)
            if what == 0:
                volts, amps = rng.choice([0, 1.8, 2.0, 2.5, 3.3, 5]), rng.choice([0, 0.03, 0.05, 0.1, 0.3, 3])
                rail.set_point = SetPoint(rng.random() < 0.8, volts, amps)
            elif what == 1:
                rail.load = rng.choice([0, 0.03, 0.06, 0.27, 1])
            elif what == 2:
                rail.contact = not rail.contact
            else:
                rail.sag(rng.choice([0, 1, 2, 2.4, 3]), rng.choice([0.0001, 0.01, 0.1]))
            now += rng.choice([1e-6, 1e-4, 1e-3, 0.02, 0.3])
            forms.clear()
            run(rail, now, lambda _: rng.choice([0.03, 0.06, 0.27]))
            assert len(forms) < 500
            assert 0 <= rail.volts <= rail._x + 1e-9 <= 5.1
            assert rail.next_event() >= rail.now
            assert not any(map(math.isnan, rail.sense()[:2]))


def test_a_board_comes_out_of_reset_a_while_after_its_capacitors_are_charged() -> None:
    rail = a_rail(3.3, 0.5)
    charged = RISING * (1 + PATH / RAIL.reset_ohms) / BENCH.slew  # 0.5 A is enough to follow the programming
    assert run(rail, 1.0) == [pytest.approx(charged + RAIL.reset_release_seconds)]
    assert rail.next_event() == math.inf
    assert rail.volts == pytest.approx(3.3 - PATH * 0.03)
    volts, amps, mode = rail.sense()
    assert (volts, amps, mode) == (pytest.approx(3.3, abs=1e-3), pytest.approx(0.03), "cv")


def test_a_low_limit_charges_by_its_current() -> None:
    rail = a_rail(3.3, 0.1)
    (woke,) = run(rail, 1.0)
    assert woke == pytest.approx(RISING * FARADS / 0.1 + RAIL.reset_release_seconds, rel=0.12)
    assert woke > RISING * FARADS / 0.1  # some goes into the chip in reset


def test_a_supply_below_the_release_level_never_wakes_the_board() -> None:
    rail = a_rail(RISING - 0.05)
    assert run(rail, 5.0) == []
    assert not rail.alive
    rail.set_point = SetPoint(True, RISING + 0.01, 0.5)
    assert len(run(rail, 6.0)) == 1


def test_a_board_that_is_awake_stays_so_down_to_the_lower_level() -> None:
    rail = a_rail(3.3)
    run(rail, 0.1)
    rail.set_point = SetPoint(True, FALLING + 0.05, 0.5)
    assert run(rail, 1.0) == []
    assert rail.volts == pytest.approx(FALLING + 0.05, abs=0.005)
    assert rail.alive
    rail.set_point = SetPoint(True, FALLING - 0.05, 0.5)
    assert len(run(rail, 2.0)) == 1
    assert not rail.alive


def test_a_plain_supply_comes_down_as_slowly_as_the_load_lets_it() -> None:
    for load, sink in ((0.03, 0.0), (0.3, 0.0), (0.03, 0.5)):
        constants = load_constants({"source": {"bench": {"sink_amps": sink}}})
        rail = a_rail(3.3, constants=constants)
        run(rail, 1.0)
        rail.load = load
        rail.set_point = SetPoint(True, 2.5, 0.5)
        seconds = FARADS * 0.8 / (load + sink)
        run(rail, 1.0 + seconds * 0.99)
        assert rail._x > 2.5
        run(rail, 1.0 + seconds * 1.01)
        assert rail._x == pytest.approx(2.5)


def test_programmed_up_it_is_no_faster_than_its_slew() -> None:
    rail = a_rail(2.5, 3.0)
    run(rail, 1.0)
    rail.set_point = SetPoint(True, 3.3, 3.0)
    run(rail, 1.0 + 0.4 / BENCH.slew)
    assert rail._x == pytest.approx(2.9)
    run(rail, 1.0 + 0.9 / BENCH.slew)
    assert rail._x == pytest.approx(3.3)


def test_off_it_falls_below_300_mv_in_a_fifth_of_a_second() -> None:
    rail = a_rail(3.3)
    run(rail, 1.0)
    rail.set_point = SetPoint(False, 3.3, 0.5)
    rail.load = 0.06
    assert len(run(rail, 1.2)) == 1
    assert rail.volts < 0.3
    assert rail.sense() == (pytest.approx(rail.volts, abs=0.01), 0.0, "off")
    run(rail, 2.0)
    assert rail.volts < 0.01


def test_a_current_limit_below_the_load_makes_a_reset_loop() -> None:
    rail = a_rail(3.3, 0.1)
    phases: list[tuple[float, bool]] = []
    rail.load, now = 0.0, 0.0
    boot_at = math.inf
    while now < 2.0:
        now = min(now + 0.001, 2.0)
        while rail.advance(now):
            phases.append((rail.now, rail.alive))
            rail.load = 0.03 if rail.alive else 0.0
            boot_at = rail.now + 0.25 if rail.alive else math.inf
        if now >= boot_at:
            rail.load = 0.27  # RF calibration
            boot_at = math.inf
    wakes = [at for at, alive in phases if alive]
    assert 5 <= len(wakes) <= 8
    assert {round(b - a, 2) for a, b in pairwise(wakes)} == {0.26}
    assert [alive for _, alive in phases[:4]] == [True, False, True, False]


def test_a_sag_is_seen_as_constant_current() -> None:
    rail = a_rail(3.3, 0.1)
    run(rail, 0.5)
    rail.load = 0.15
    sag = FARADS * (3.3 - 2.5) / 0.05
    assert run(rail, 0.5 + sag) == []
    assert rail.volts == pytest.approx(2.5 - PATH * 0.15)
    assert rail.sense()[2] == "cc"


def test_the_cable_drops_what_the_terminals_do_not_show() -> None:
    rail = a_rail(3.3, constants=load_constants({"rail": {"cable_ohms": 0.5}}))
    run(rail, 1.0)
    rail.load = 0.3
    run(rail, 2.0)
    assert rail.volts == pytest.approx(3.3 - 0.3 * (0.5 + BENCH.ohms))
    assert rail.sense()[0] == pytest.approx(3.3 - 0.3 * BENCH.ohms)


def test_the_meter_averages_over_its_time() -> None:
    rail = a_rail(3.3)
    run(rail, 10.0)
    rail.load = 0.28
    run(rail, 10.05)
    assert rail.sense()[1] == pytest.approx((0.28 + 0.03) / 2)
    run(rail, 10.15)
    assert rail.sense()[1] == pytest.approx(0.28)
    rail.load = 0.03
    for step in range(1, 21):
        rail.load = 0.05 if step % 2 else 0.01
        run(rail, 10.15 + step * 0.01)
    assert rail.sense()[1] == pytest.approx(0.03)


def test_speed_makes_electricity_faster() -> None:
    slow, fast = a_rail(3.3, 0.5), a_rail(3.3, 0.5, speed=20)
    (one,), (two,) = run(slow, 1.0), run(fast, 1.0)
    assert one == pytest.approx(20 * two)
    fast.load = 0.28
    run(fast, 1.006)
    assert fast.sense()[1] == pytest.approx(0.28)


def test_a_board_pulled_out_falls_and_the_supply_sees_nothing() -> None:
    rail = a_rail(3.3)
    run(rail, 1.0)
    rail.contact = False
    assert len(run(rail, 1.5)) == 1
    assert rail.sense() == (3.3, 0.0, "cv")
    assert rail.volts < 0.3
    rail.contact = True
    assert len(run(rail, 2.0)) == 1
    assert rail.alive


def test_a_fixed_supply_feeds_whatever_the_bench_supply_does() -> None:
    rail = a_rail(on=False)
    rail.feed.fixed = True
    assert len(run(rail, 1.0)) == 1
    assert rail.sense() == (pytest.approx(3.3), 0.0, "off")
    rail.set_point = SetPoint(True, 3.3, 0.5)
    assert run(rail, 2.0) == []
    assert rail.sense()[1] == pytest.approx(0.03)
    rail.set_point = SetPoint(False, 3.3, 0.5)
    assert run(rail, 3.0) == []
    assert rail.alive


@pytest.mark.parametrize("amps", [0.0, 0.03])
def test_a_limit_that_gives_nothing_does_not_hang(amps: float) -> None:
    rail = a_rail(3.3, 0.5)
    run(rail, 1.0)
    rail.set_point = SetPoint(True, 2.5, amps)
    run(rail, 3.0)
    assert rail.alive == (amps > 0)
    rail.set_point = SetPoint(True, 0.0, amps)
    run(rail, 5.0)
    assert rail.volts < 0.01


# -- ready parts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "rom", "firmware", "radio"),
    [
        ("bench", True, True, True),
        ("ams1117-5v", True, True, True),
        ("cp2102-pin", True, True, False),
        ("ft232rl-pin", True, False, False),
        ("ch340-v3", True, False, False),
    ],
)
def test_how_far_a_board_comes_on_a_ready_part(source: str, rom: bool, firmware: bool, radio: bool) -> None:
    loads, lives = CONSTANTS.amps, []
    for load in (loads.rom, loads.cpu, loads.rf_cal):
        rail = a_rail(source=source)
        run(rail, 1.0, lambda now: loads.rom)
        assert rail.alive
        rail.load = load
        lives.append(run(rail, 1.0 + 0.02) == [])
    assert lives == [rom, firmware, radio]


def test_a_regulator_behind_a_sagging_input_sags_with_its_load() -> None:
    part = CONSTANTS.part("ams1117-5v")
    rail = a_rail(source="ams1117-5v")
    run(rail, 1.0)
    assert rail.volts == pytest.approx(3.3 - 0.03 * (part.ohms + RAIL.cable_ohms))
    rail.load = 0.27
    run(rail, 1.1)
    assert part.input_volts is not None
    assert part.input_ohms is not None
    left = part.input_volts - part.dropout_volts - 0.27 * part.input_ohms
    assert rail.volts == pytest.approx(left - 0.27 * (part.ohms + RAIL.cable_ohms), abs=1e-4)
    assert rail.volts < 3.0  # the module's data sheet asks for more
    assert rail.sense() == (3.3, pytest.approx(0.27, abs=0.02), "cv")
    rail.load = 0.03
    run(rail, 1.2)
    assert rail._x == pytest.approx(3.3)


@pytest.mark.parametrize(("limit", "mode"), [(0.5, "cv"), (0.04, "cc")])
def test_a_supply_limits_only_by_its_own_limit(limit: float, mode: str) -> None:
    rail = a_rail(3.3, limit, source="cp2102-pin")
    run(rail, 1.0)
    rail.load = 0.15
    run(rail, 1.0001)
    assert rail.volts < 3.2  # the part, or the supply before it, gives no more
    assert rail.sense()[2] == mode


# -- the trace, and what a flash die makes of it -------------------------------------------------------------


def test_a_sag_by_hand_reaches_its_level_and_ends() -> None:
    rail = a_rail(3.3, 0.5)
    run(rail, 1.0)
    rail.sag(2.4, 0.05)
    assert run(rail, 1.04) == []
    assert rail.volts == pytest.approx(2.4, abs=0.005)
    run(rail, 1.1)
    assert rail.volts == pytest.approx(3.3, abs=0.005)
    recovery = FARADS * 0.9 / (0.5 - 0.03)
    assert rail.trace.lowest(1.05 + recovery * 1.1, 1.1) > 3.29
    assert rail.trace.lowest(1.0, 1.05) == pytest.approx(2.4, abs=0.005)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.floats(1.5, 3.2), st.floats(0.001, 0.03), st.sampled_from([0.02, 0.1, 0.5]))
def test_work_of_a_die_in_a_sag_agrees_with_small_steps(volts: float, seconds: float, load: float) -> None:
    inhibit, works, step = 2.2, 2.7, 1e-5
    rail = a_rail(3.3, 0.6, constants=load_constants({"rail": {"reset_falling_volts": 0.5}}))
    run(rail, 1.0)
    rail.load = load
    run(rail, 1.001)
    rail.sag(volts, seconds)
    run(rail, 1.05, lambda now: load)
    times = [1.0 + step * index for index in range(5000)]
    done = 0.0
    for level in rail.trace.sampled(times):
        if level <= inhibit:
            break
        done += min(1.0, (level - inhibit) / (works - inhibit)) * step
    assert rail.trace.effort(1.0, 1.05, inhibit, works) == pytest.approx(done, abs=1e-4)


def test_the_trace_keeps_its_time_and_no_more() -> None:
    rail = a_rail(3.3, constants=load_constants({"rail": {"trace_seconds": 2.0}}))
    run(rail, 1.0)
    for index in range(1, 1000):
        rail.load = 0.03 + 0.01 * (index % 2)
        run(rail, 1.0 + index * 0.01)
    assert 190 <= len(rail.trace.segments) <= 210
    assert math.isnan(rail.trace.sampled([5.0])[0])
    for _ in range(1000):
        run(rail, rail.now + 0.01)
    assert len(rail.trace.segments) <= 3  # one that goes on is one


# -- the constants -------------------------------------------------------------------------------------------


def test_every_constant_has_a_source() -> None:
    from rig.sim import constants

    lines = constants.FILE.read_text().splitlines()
    values = [line for line in lines if "=" in line.split("#")[0]]
    assert len(values) > 40
    words = r"\b(guess|recalled|choice|computed|data sheets?|guide|circuits)\b"
    assert [line for line in values if not re.search(words, line.partition("#")[2])] == []


@pytest.mark.parametrize("speed", [1.0, 50.0])
def test_what_the_supply_plays_happens_at_its_moments_however_late_the_rail_is_followed(speed: float) -> None:
    """Told ahead and followed once, far too late, it is what it is when each set-point comes at its time."""
    points = [(0.0, SetPoint(True, 2.4, 0.5)), (0.02, SetPoint(True, 3.0, 0.2)), (0.05, SetPoint(True, 3.3, 0.5))]
    ahead, by_hand = a_rail(speed=speed), a_rail(speed=speed)
    for rail in (ahead, by_hand):
        run(rail, 1.0 / speed)
        assert rail.volts == pytest.approx(3.3 - 0.03 * PATH, abs=1e-6)
    assert ahead.next_event() == math.inf
    ahead.plan([(seconds / speed, point) for seconds, point in points])
    assert ahead.next_event() <= 1.02 / speed
    run(ahead, 2.0 / speed)
    for seconds, point in points:
        run(by_hand, (1.0 + seconds) / speed)
        by_hand.set_point = point
    run(by_hand, 2.0 / speed)
    times = [0.95 + 0.001 * index for index in range(150)]
    assert ahead.trace.sampled(times) == pytest.approx(by_hand.trace.sampled(times), abs=1e-6)
    assert min(ahead.trace.sampled(times)) < 2.9
    ahead.plan([(1.0 / speed, SetPoint(False, 0.0, 0.5))])
    ahead.set_point = SetPoint(True, 3.3, 0.5)
    run(ahead, 5.0 / speed)
    assert ahead.volts == pytest.approx(3.3 - 0.03 * PATH, abs=1e-6), "a set-point takes the place of the plan"
