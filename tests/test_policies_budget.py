"""The current that the slots of one supply may draw together, with threads that wait for it."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.errors import UsageProblem
from rig.line.budget import Budget
from tests.waiting import wait_until

TIMEOUT_S = 60.0


class Asker:
    """A unit that waits for its current in a thread of its own."""

    def __init__(self, budget: Budget, amps: float, supply: str = "psu") -> None:
        self.stop, self.done = threading.Event(), threading.Event()
        self.got: bool | None = None
        self._ask = budget, supply, amps
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        budget, supply, amps = self._ask
        self.got = budget.take(supply, amps, self.stop)
        self.done.set()

    def end(self) -> None:
        self.stop.set()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()


def test_a_unit_waits_until_there_is_room_and_goes_when_there_is() -> None:
    budget = Budget({"psu": 1.0})
    assert budget.take("psu", 0.5, threading.Event())
    assert budget.take("psu", 0.5, threading.Event())
    late = Asker(budget, 0.5)
    assert not late.done.wait(0.3)
    budget.give("psu", 0.5)
    assert late.done.wait(TIMEOUT_S)
    assert late.got is True
    assert budget.taken("psu") == 1.0
    late.end()


def test_a_stop_ends_the_wait_and_takes_nothing() -> None:
    budget = Budget({"psu": 0.5})
    assert budget.take("psu", 0.5, threading.Event())
    late = Asker(budget, 0.1)
    late.end()
    assert late.got is False
    assert budget.taken("psu") == 0.5


def test_a_large_unit_is_not_overtaken_by_a_later_small_one_and_a_stopped_one_lets_the_next_go() -> None:
    budget = Budget({"psu": 1.0})
    assert budget.take("psu", 0.6, threading.Event())
    large = Asker(budget, 1.0)
    wait_until(lambda: budget._waiting["psu"], TIMEOUT_S, "the large one's place in the line")
    assert not large.done.wait(0.25)
    small = Asker(budget, 0.2)
    assert not small.done.wait(0.4), "there is room for it, but it came later"
    large.end()
    assert small.done.wait(TIMEOUT_S)
    assert small.got is True
    small.end()


def test_what_a_supply_can_never_give_is_refused_at_once() -> None:
    with pytest.raises(UsageProblem, match=r"gives 0\.3 A in all, less than the 0\.5 A"):
        Budget({"psu": 0.3}).take("psu", 0.5, threading.Event())


def test_a_supply_without_a_limit_gives_to_all() -> None:
    budget = Budget({"psu": None})
    assert all(budget.take(name, 9.0, threading.Event()) for name in ("psu", "psu", "another"))
    budget.give("psu", 9.0)
    assert budget.taken("psu") == 0.0
    stopped = threading.Event()
    stopped.set()
    assert not budget.take("psu", 9.0, stopped)


@pytest.mark.parametrize("amps", [-0.1, float("nan")])
def test_less_than_nothing_cannot_be_taken(amps: float) -> None:
    with pytest.raises(ValueError, match="cannot be taken"):
        Budget({"psu": 1.0}).take("psu", amps, threading.Event())


def test_more_than_was_taken_cannot_be_given_back() -> None:
    budget = Budget({"psu": 1.0})
    with pytest.raises(ValueError, match="given back"):
        budget.give("psu", 0.1)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.lists(st.sampled_from([0.1, 0.2, 0.35, 0.5, 0.7, 1.0]), min_size=1, max_size=6))
def test_together_they_never_have_more_than_the_supply_gives(asked: list[float]) -> None:
    budget = Budget({"psu": 1.0})
    lock, now, peak, served = threading.Lock(), [0.0], [0.0], []

    def unit(amps: float) -> None:
        assert budget.take("psu", amps, threading.Event())
        with lock:
            now[0] += amps
            peak[0] = max(peak[0], now[0])
        with lock:
            now[0] -= amps
            served.append(amps)
        budget.give("psu", amps)

    threads = [threading.Thread(target=unit, args=(amps,), daemon=True) for amps in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert sorted(served) == sorted(asked)
    assert peak[0] <= 1.0 + 1e-9
    assert budget.taken("psu") < 1e-9
