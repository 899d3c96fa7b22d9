"""Waveforms and what a channel can do of them: pure, nothing is sent."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.errors import UsageProblem
from rig.supply.channel import Limits
from rig.supply.means import Commanded, Means, fit
from rig.supply.waveform import (
    Step,
    Waveform,
    dip,
    interruption,
    ramp,
    sag,
    soft_start,
    staircase,
    starve,
    time_words,
)

LIST = Means("list", 0.01, 0.001, 0.0, 0.002, 0.002, "test", most_s=60.0, most_steps=20)
TIMER = Means("list", 1.0, 1.0, 0.0, 0.05, 0.01, "test", most_steps=4)
TIMED = Means("timed-writes", 0.1, 0.001, 0.05, 0.06, 0.002, "test")


def limits(*means: Means) -> Limits:
    return Limits(6.0, 5.0, 0.001, 0.001, 0.1, (), means, "DP832 channel 1")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.02, "20 ms"),
        (5, "5 s"),
        (1.5, "1.5 s"),
        (0.0003, "300 us"),
        (0.99999, "1 s"),
        (3600, "3600 s"),
        (0.001, "1 ms"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert time_words(seconds) == said


def test_each_shape_says_what_it_is_and_what_it_does() -> None:
    assert dip(2.4, 0.02).words == "dip to 2.40 V for 20 ms"
    assert interruption(1).steps == (Step(1, 0.0),)
    assert [step.volts for step in ramp(3.3, 2.3, 1, 3).steps] == pytest.approx([3.3, 2.8, 2.3])
    slow = sag(2.3, 0.2, 1, 0.1, 2, nominal=3.3)
    assert [(step.seconds, step.volts) for step in slow.steps] == [
        (0.1, 2.8), (0.1, 2.3), (1, 2.3), (0.05, 2.8), (0.05, 3.3),
    ]  # fmt: skip
    assert slow.seconds == pytest.approx(1.3)
    assert starve(0.2, 3).steps == (Step(3, None, 0.2),)
    assert starve(0.2, 3).volts_least is None
    assert [step.volts for step in soft_start(3.3, 0.3, 3).steps] == pytest.approx([0, 1.1, 2.2, 3.3])


def test_the_reset_staircase_goes_down_in_twentieths_to_nothing() -> None:
    levels = staircase(3.0)
    assert [level.steps[0].volts for level in levels] == pytest.approx([3.0 * (1 - k / 20) for k in range(1, 21)])
    assert {(level.steps[0].seconds, level.steps[1]) for level in levels} == {(5, Step(10, 3.0))}
    assert levels[3].words == "reset staircase at 2.40 V (80% of 3.00 V) for 5 s"
    assert len(staircase(3.3, fraction=0.3)) == 4
    assert staircase(3.3, fraction=0.3)[-1].volts_least == 0.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: dip(-0.1, 1), lambda: dip(2, 0), lambda: dip(2, -1), lambda: dip(math.nan, 1),
        lambda: dip(2, math.inf),
        lambda: starve(0, 1), lambda: ramp(1, 2, 1, 1), lambda: sag(2, 1, 1, 1, 0), lambda: Waveform("none", (), ""),
        lambda: staircase(3.3, fraction=0),
    ],
)  # fmt: skip
def test_what_no_output_can_do_is_refused_in_words(make: object) -> None:
    with pytest.raises(UsageProblem):
        make()  # type: ignore[operator]


def test_what_fits_is_taken_as_it_is() -> None:
    done = fit(dip(2.4, 0.02), limits(LIST, TIMED), widen=False)
    assert (done.waveform.steps, done.means, done.widened) == ((Step(0.02, 2.4),), LIST, False)
    assert done.sentence == (
        "dip to 2.40 V for 20 ms; by the supply's own list, its one step within 20 ms to 22 ms as told."
    )
    assert fit(dip(2.4, 5), limits(LIST, TIMED), widen=False).sentence.endswith("its one step of 5 s as told.")


def test_too_short_a_dip_is_refused_in_words_or_widened() -> None:
    with pytest.raises(UsageProblem) as told:
        fit(dip(2.4, 0.01), limits(TIMER), widen=False)
    assert str(told.value) == (
        "a dip of 10 ms cannot be asked of DP832 channel 1, whose steps last 1 s or more (by the supply's own list): "
        "ask for at least 1 s, or --widen."
    )
    done = fit(dip(2.4, 0.01), limits(TIMER), widen=True)
    assert (done.waveform.steps, done.widened) == ((Step(1.0, 2.4),), True)
    assert "dip to 2.40 V for 10 ms, widened from 10 ms to 1 s in all; by" in done.sentence


def test_the_finer_means_is_taken_and_the_shortest_widening() -> None:
    assert fit(dip(2.4, 0.5), limits(TIMER, TIMED), widen=False).means == TIMED
    assert fit(dip(2.4, 1), limits(TIMER, TIMED), widen=False).means == TIMER
    wide = fit(dip(2.4, 0.03), limits(TIMER, TIMED), widen=True)
    assert (wide.means, wide.waveform.seconds) == (TIMED, 0.1)
    with pytest.raises(UsageProblem, match=r"whose steps last 100 ms or more .*at least 100 ms"):
        fit(dip(2.4, 0.03), limits(TIMER, TIMED), widen=False)


def test_a_grid_that_would_change_it_is_told() -> None:
    near = fit(dip(2.4, 20.4), limits(TIMER), widen=False)
    assert (near.waveform.seconds, near.widened) == (20, False)
    assert "dip to 2.40 V for 20.4 s, rounded to 20 s in all" in near.sentence
    with pytest.raises(UsageProblem, match=r"a multiple of 1 s .*ask for 2 s, or --widen"):
        fit(dip(2.4, 1.4), limits(TIMER), widen=False)
    assert fit(dip(2.4, 1.4), limits(TIMER), widen=True).waveform.seconds == 2


def test_volts_and_amps_go_to_the_channels_grid_and_not_above_what_it_gives() -> None:
    assert fit(dip(2.40049, 0.1), limits(LIST), widen=False).waveform.steps[0].volts == 2.4
    assert fit(starve(0.0001, 0.1), limits(LIST), widen=False).waveform.steps[0].amps == 0.001
    for waveform in (dip(6.1, 1), starve(5.1, 1)):
        with pytest.raises(UsageProblem, match="DP832 channel 1 gives at most"):
            fit(waveform, limits(LIST), widen=True)


def test_too_many_and_too_long_steps_are_told_but_for_a_means_that_can() -> None:
    with pytest.raises(UsageProblem, match="takes 4 steps at once by the supply's own list, not 5: ask for fewer"):
        fit(ramp(3.3, 2.3, 10, 5), limits(TIMER), widen=True)
    assert fit(ramp(3.3, 2.3, 10, 5), limits(TIMER, TIMED), widen=False).means == TIMED
    with pytest.raises(UsageProblem, match="a step of DP832 channel 1 lasts at most 60 s"):
        fit(dip(2.3, 61), limits(LIST), widen=True)
    with pytest.raises(UsageProblem, match="plays no waveforms"):
        fit(dip(2.3, 1), limits(), widen=True)


def test_writes_at_their_times_are_that_much_coarser_where_the_board_lives_faster() -> None:
    fast = fit(dip(2.4, 5), limits(TIMED), widen=False, speed=50)
    assert (fast.means.least_s, fast.means.late_s, fast.speed) == (5.0, 3.0, 50)
    assert "the speed of the simulated board" in fast.means.source
    with pytest.raises(UsageProblem, match="at least 5 s"):
        fit(dip(2.4, 1), limits(TIMED), widen=False, speed=50)
    assert fit(dip(2.4, 0.01), limits(LIST), widen=False, speed=50).means == LIST


def fitted(waveform: Waveform, means: tuple[Means, ...], widen: bool) -> Commanded | str:
    try:
        return fit(waveform, limits(*means), widen)
    except UsageProblem as problem:
        return str(problem)


shapes = st.lists(
    st.builds(Step, st.floats(1e-4, 100), st.none() | st.floats(0, 6), st.none() | st.floats(0.001, 5)),
    min_size=1, max_size=8,
).map(lambda steps: Waveform("shape", tuple(steps), "a shape"))  # fmt: skip


@settings(derandomize=True, max_examples=300)
@given(shapes, st.sampled_from([(LIST,), (TIMER,), (TIMED,), (LIST, TIMED), (TIMER, TIMED)]), st.booleans())
def test_whatever_fits_is_playable_and_whatever_does_not_is_words(
    waveform: Waveform, means: tuple[Means, ...], widen: bool
) -> None:
    done = fitted(waveform, means, widen)
    if isinstance(done, str):
        assert "\n" not in done
        assert len(done) > 20
        return
    assert done.means in means
    assert len(done.waveform.steps) == len(waveform.steps) <= done.means.most_steps
    for asked, sent in zip(waveform.steps, done.waveform.steps, strict=True):
        assert done.means.least_s - 1e-9 <= sent.seconds <= done.means.most_s + 1e-9
        assert sent.seconds / done.means.grid_s == pytest.approx(round(sent.seconds / done.means.grid_s), abs=1e-6)
        if not done.widened:
            assert abs(sent.seconds - asked.seconds) <= 0.1 * asked.seconds + 1e-6
        else:
            assert sent.seconds >= asked.seconds - 1e-6
        assert (sent.volts is None) == (asked.volts is None)
        if asked.volts is not None and sent.volts is not None:
            assert abs(sent.volts - asked.volts) <= 0.0005 + 1e-9
    assert Commanded.of(json.loads(json.dumps(done.plain()))) == done
