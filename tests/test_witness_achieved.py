"""What a rail achieved, from samples: depth, widths, area, delay, against what was drawn."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.bench.achieved import LEVELS, QUIET_V, Achieved, Samples, achieved

NS = 1_000_000_000
T0 = 5 * NS


def drawn(points: list[tuple[float, float]], dt: float, end: float) -> Samples:
    """A rail through these (seconds, volts), sampled."""
    volts, at = [], 0
    for index in range(int(end / dt) + 1):
        now = index * dt
        while at + 1 < len(points) and points[at + 1][0] <= now:
            at += 1
        (t0, v0), (t1, v1) = points[at], points[min(at + 1, len(points) - 1)]
        volts.append(v0 + (v1 - v0) * (now - t0) / (t1 - t0) if t1 > t0 else v0)
    return Samples(T0, dt, volts, "drawn")


def dip(
    start: float, fall: float, hold: float, rise: float, low: float, high: float = 3.3
) -> list[tuple[float, float]]:
    return [
        (0.0, high),
        (start, high),
        (start + fall, low),
        (start + fall + hold, low),
        (start + fall + hold + rise, high),
    ]


def test_a_square_dip() -> None:
    found = achieved(drawn(dip(0.01, 0, 0.02, 0, 2.0), 1e-4, 0.1), 3.3, T0)
    assert found.v_min == 2.0
    assert found.widths == {
        "3.0": pytest.approx(0.02, abs=2e-4), "2.7": pytest.approx(0.02, abs=2e-4),
        "2.4": pytest.approx(0.02, abs=2e-4), "2.0": 0.0,
    }  # fmt: skip
    assert found.area_vs == pytest.approx(1.3 * 0.02, rel=0.02)
    assert found.delay_s == pytest.approx(0.01, abs=1e-4)
    assert (found.instrument, found.sample_s) == ("drawn", 1e-4)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.floats(0.002, 0.02), st.floats(0, 0.01), st.floats(0.001, 0.05), st.floats(0, 0.01), st.floats(0, 3.1),
    st.floats(3.05, 3.6), st.integers(0, 20),
)  # fmt: skip
def test_any_dip_is_what_was_drawn(
    start: float, fall: float, hold: float, rise: float, low: float, high: float, early_ms: int
) -> None:
    dt = 5e-5
    if low > high - 0.15:
        low = high - 0.15
    samples = drawn(dip(start, fall, hold, rise, low, high), dt, start + fall + hold + rise + 0.01)
    found = achieved(samples, high, T0 - early_ms * 1_000_000)
    edge = high - QUIET_V
    assert found.v_min == pytest.approx(low)
    for level in LEVELS:
        volts = float(level)
        if volts >= edge:
            assert level not in found.widths  # a standing rail would be below it
            continue
        below = 0.0 if low >= volts else hold + (fall + rise) * (volts - low) / (high - low)
        assert found.widths[level] == pytest.approx(below, abs=2.1 * dt)
    slopes = (edge - low) / (high - low) * (fall + rise)
    area = hold * (high - low) + slopes * (high - (low + edge) / 2)
    assert found.area_vs == pytest.approx(area, abs=2.1 * dt * (high - low))
    leaves = start + fall * QUIET_V / (high - low)
    assert found.delay_s == pytest.approx(leaves + early_ms / 1000, abs=1.1 * dt)


def test_a_rail_that_stands_was_never_down() -> None:
    noisy = Samples(T0, 1e-3, [3.3, 3.25, 3.31, 3.22] * 50)
    assert achieved(noisy, 3.3, T0) == Achieved(3.22, dict.fromkeys(LEVELS, 0.0), 0.0, None, "", 1e-3)


def test_only_from_the_firing_on() -> None:
    """A board that came on in the record was below every level before."""
    rail = drawn([(0, 0.0), (0.05, 0.0), (0.05, 3.3), (0.1, 3.3), (0.1, 2.2), (0.11, 2.2), (0.11, 3.3)], 1e-4, 0.2)
    found = achieved(rail, 3.3, T0 + 70_000_000)
    assert found.v_min == pytest.approx(2.2)
    assert found.widths["2.4"] == pytest.approx(0.01, abs=2e-4)
    assert found.delay_s == pytest.approx(0.03, abs=2e-4)


def test_two_dips_add_up_and_the_first_is_the_delay() -> None:
    rail = drawn([*dip(0.01, 0, 0.005, 0, 2.5), *[(0.03, 3.3), (0.03, 1.0), (0.04, 1.0), (0.04, 3.3)]], 1e-4, 0.06)
    found = achieved(rail, 3.3, T0)
    assert found.widths["2.7"] == pytest.approx(0.015, abs=3e-4)
    assert found.widths["2.4"] == pytest.approx(0.01, abs=2e-4)
    assert found.delay_s == pytest.approx(0.01, abs=2e-4)


def test_a_dip_that_was_there_at_the_firing_has_no_delay() -> None:
    assert achieved(Samples(T0, 1e-3, [2.0] * 10 + [3.3] * 10), 3.3, T0).delay_s == 0.0


def test_holes_count_for_nothing() -> None:
    volts = [math.nan] * 5 + [3.3, 2.0, 2.0, math.nan, math.nan, 2.0, 3.3]
    found = achieved(Samples(T0, 1e-3, volts), 3.3, T0)
    assert found.v_min == 2.0
    assert found.widths["2.4"] == pytest.approx(0.001 + 2 * 0.001 * 0.4 / 1.3)
    with pytest.raises(ValueError, match="no sample"):
        achieved(Samples(T0, 1e-3, [math.nan] * 5), 3.3, T0)
    with pytest.raises(ValueError, match="no sample"):
        achieved(Samples(T0, 1e-3, [3.3] * 5), 3.3, T0 + NS)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 3))
def test_a_cut_has_what_lies_between_and_what_the_clocks_may_be_apart(first: int, length: int, slack: int) -> None:
    samples = Samples(T0, 1e-3, [float(index) for index in range(40)], offset_s=slack * 1e-3 + 1e-9)
    cut = samples.cut(T0 + first * 1_000_000, T0 + (first + length) * 1_000_000)
    wanted = range(max(0, first - slack), min(39, first + length + slack) + 1)
    assert list(cut.volts) == [float(index) for index in wanted]
    if cut.volts:
        assert cut.t0_ns == T0 + round(cut.volts[0]) * 1_000_000
        assert cut.end_ns == T0 + round(cut.volts[-1]) * 1_000_000
