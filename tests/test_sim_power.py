"""The simulated 3.3 V rail: its closed forms against integration in small steps, and the stories they tell."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rig.sim.power import Rail, SetPoint, load_constants

CONSTANTS = load_constants()
FARADS, OHMS = CONSTANTS["rail"]["farads"], CONSTANTS["rail"]["discharge_ohms"]
FALLING, RISING = CONSTANTS["rail"]["reset_falling_volts"], CONSTANTS["rail"]["reset_rising_volts"]


def a_rail(volts: float = 3.3, amps: float = 0.5, *, on: bool = True, speed: float = 1.0) -> Rail:
    rail = Rail(CONSTANTS, speed=speed)
    rail.set_point = SetPoint(on, volts, amps)
    return rail


def run(rail: Rail, until: float, load: Callable[[float], float] = lambda now: 0.03) -> list[float]:
    """Advance; times of all resets and releases. `load` is what the chip draws when it comes alive."""
    crossings = []
    while rail.advance(until):
        crossings.append(rail._now)
        rail.load = load(rail._now) if rail.alive else 0.0
    return crossings


class Euler:
    """The same rail, the stupid way: small steps, no closed form, no events."""

    STEP = 2e-6

    def __init__(self, volts: float, alive: bool) -> None:
        self.volts, self.alive, self.charge = volts, alive, 0.0

    def run(self, point: SetPoint, load: float, seconds: float) -> None:
        target, limit = (point.volts, point.amps) if point.on else (0.0, 0.0)
        for _ in range(round(seconds / self.STEP)):
            draw = load if self.alive else 0.0
            if target <= 0 or self.volts > target:
                self.volts -= (draw + self.volts / OHMS) / FARADS * self.STEP
                self.volts = max(self.volts, 0.0, target)
            else:
                out = limit
                risen = self.volts + (limit - draw) / FARADS * self.STEP
                if risen >= target:
                    out, risen = draw, target
                self.volts = max(0.0, risen)
                self.charge += out * self.STEP
            if self.alive and self.volts <= FALLING:
                self.alive = False
            elif not self.alive and self.volts >= RISING:
                self.alive = True


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


@settings(derandomize=True, deadline=None, max_examples=60, phases=[Phase.explicit, Phase.generate])
@given(steps)
def test_the_closed_forms_agree_with_small_steps(plan: list[tuple[bool, float, float, float, float]]) -> None:
    rail, euler, now, crossings = a_rail(on=False), Euler(0.0, False), 0.0, 0
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
        tolerance = 0.003 * (1 + crossings)
        if min(abs(rail.volts - FALLING), abs(rail.volts - RISING)) < tolerance:
            return
        assert rail.volts == pytest.approx(euler.volts, abs=tolerance)
        assert rail.alive == euler.alive
        assert rail._charge == pytest.approx(euler.charge, rel=0.02, abs=2e-5)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(steps, st.lists(st.floats(0.0, 0.05), max_size=8))
def test_looking_more_often_changes_nothing(
    plan: list[tuple[bool, float, float, float, float]], looks: list[float]
) -> None:
    one, two, now = a_rail(on=False), a_rail(on=False), 0.0
    for on, volts, amps, load, seconds in plan:
        for rail in (one, two):
            rail.set_point = SetPoint(on, volts, amps)
            rail.load = load
        for look in sorted(looks):
            run(two, now + min(look, seconds), lambda _, load=load: load)  # type: ignore[misc]
        now += seconds
        run(one, now, lambda _, load=load: load)  # type: ignore[misc]
        run(two, now, lambda _, load=load: load)  # type: ignore[misc]
        assert two.volts == pytest.approx(one.volts, abs=1e-6)
        assert two.alive == one.alive
        assert two._charge == pytest.approx(one._charge, rel=1e-6, abs=1e-9)


def test_a_board_comes_out_of_reset_when_its_capacitor_is_charged() -> None:
    rail = a_rail(3.3, 0.5)
    expected = RISING * FARADS / 0.5
    assert rail.next_event() == pytest.approx(expected)
    assert run(rail, 1.0) == [pytest.approx(expected)]
    assert rail.volts == 3.3
    assert rail.next_event() == math.inf
    volts, amps, mode = rail.sense()
    assert (volts, amps, mode) == (pytest.approx(3.3), pytest.approx(0.03), "cv")


def test_a_supply_below_the_release_level_never_wakes_the_board() -> None:
    rail = a_rail(RISING - 0.05)
    assert run(rail, 5.0) == []
    assert not rail.alive
    rail.set_point = SetPoint(True, RISING, 0.5)
    assert len(run(rail, 6.0)) == 1


def test_a_board_that_is_awake_stays_so_down_to_the_lower_level() -> None:
    rail = a_rail(3.3)
    run(rail, 0.1)
    rail.set_point = SetPoint(True, FALLING + 0.05, 0.5)
    assert run(rail, 1.0) == []
    assert rail.volts == pytest.approx(FALLING + 0.05)
    assert rail.alive
    rail.set_point = SetPoint(True, FALLING - 0.05, 0.5)
    assert len(run(rail, 2.0)) == 1
    assert not rail.alive


def test_off_it_falls_below_300_mv_in_a_fifth_of_a_second() -> None:
    rail = a_rail(3.3)
    run(rail, 1.0)
    rail.set_point = SetPoint(False, 3.3, 0.5)
    rail.load = 0.06
    assert len(run(rail, 1.2)) == 1
    assert rail.volts < 0.3
    assert rail.sense() == (rail.volts, 0.0, "off")
    run(rail, 2.0)
    assert rail.volts < 0.01


def test_a_chip_that_draws_nothing_comes_to_its_reset_too() -> None:
    rail = a_rail(3.3)
    run(rail, 1.0, lambda now: 0.0)
    rail.set_point = SetPoint(False, 3.3, 0.5)
    assert run(rail, 2.0) == [pytest.approx(1.0 + OHMS * FARADS * math.log(3.3 / FALLING))]


def test_a_current_limit_below_the_load_makes_a_reset_loop() -> None:
    rail = a_rail(3.3, 0.1)
    phases: list[tuple[float, bool]] = []
    rail.load, now = 0.0, 0.0
    boot_at = math.inf
    while now < 2.0:
        now = min(now + 0.001, 2.0)
        while rail.advance(now):
            phases.append((rail._now, rail.alive))
            rail.load = 0.03 if rail.alive else 0.0
            boot_at = rail._now + 0.25 if rail.alive else math.inf
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
    assert rail.volts == pytest.approx(2.5)
    assert rail.sense()[2] == "cc"


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
    rail.fixed_volts = 3.3
    assert len(run(rail, 1.0)) == 1
    assert rail.sense() == (pytest.approx(3.3), 0.0, "off")
    rail.set_point = SetPoint(True, 3.3, 0.5)
    run(rail, 2.0)
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


def test_every_constant_has_a_source() -> None:
    from rig.sim import power

    lines = power._CONSTANTS.read_text().splitlines()
    values = [line for line in lines if "=" in line.split("#")[0]]
    assert len(values) > 10
    assert [line for line in values if "#" not in line] == ["off = 0.0"]
