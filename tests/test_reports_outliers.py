"""The strangest units: planted ones are found with what is strange about them, and normal ones are not far."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.numbers import MemoryNumbers
from reports.outliers import TRACES, normal_score, robust_sigmas, strangest
from reports.tables import Name, Records, records_of

fixed = settings(derandomize=True, deadline=None, max_examples=40)


def name(text: str) -> Name:
    return Name("boot", "boot", text, "A")


def batch(columns: Mapping[str, np.ndarray], **attempts: Any) -> Records:
    """One attempt a row of the columns, measurements by name; NaN: was not measured at all."""
    told = {}
    for key, values in columns.items():
        rows = np.flatnonzero(~np.isnan(values))
        told[name(key)] = {"order": rows, "value": values[rows]}
    n = len(next(iter(columns.values())))
    return records_of({"outcome": ["pass"] * n} | attempts, numbers=MemoryNumbers.of_names(told))


def normal(n: int, names: str, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: rng.normal(10 * at, 1 + at, n) for at, key in enumerate(names)}


# -- what is found ---------------------------------------------------------------------------------------------


def test_planted_units_come_first_with_what_is_strange_about_them() -> None:
    columns = normal(500, "abcdef")
    columns["c"][123] += 3 * 12.0
    columns["e"][321] -= 5 * 8.0
    columns["a"][321] += 6.0
    found = strangest(batch(columns))
    assert len(found) == 10
    assert [each.order for each in found[:2]] == [123, 321]
    assert found[0].distance > found[1].distance > found[2].distance
    (which, value, sigmas), *rest = found[0].why
    assert (which, value) == (name("c"), columns["c"][123])
    assert sigmas == pytest.approx(12, rel=0.2)
    assert all(abs(z) > 3 for _, _, z in rest)
    assert [which.name for which, _, _ in found[1].why[:2]] == ["e", "a"]
    assert str(found[0]).startswith("c (boot) ")


def test_two_numbers_that_always_go_together_and_once_do_not() -> None:
    """Neither is far off by itself; together they are."""
    rng = np.random.default_rng(2)
    common = rng.normal(size=400)
    columns = {"a": common + 0.1 * rng.normal(size=400), "b": common + 0.1 * rng.normal(size=400),
               "c": rng.normal(size=400)}  # fmt: skip
    columns["a"][77], columns["b"][77], columns["c"][77] = 1.9, -1.9, 0.0
    found = strangest(batch(columns), k=1)
    assert found[0].order == 77
    assert {which.name for which, _, _ in found[0].why[:2]} == {"a", "b"}
    assert max(abs(z) for _, _, z in found[0].why) < 3


def test_each_slot_is_its_own_measure_where_it_has_enough_units() -> None:
    """Slot B reads a volt more: its units are not strange, and one of slot A that reads like B is."""
    slots = np.array(list("AB") * 100)
    volts = 3.3 + 1.0 * (slots == "B") + np.random.default_rng(3).normal(0, 0.01, 200)
    volts[40] += 1.0
    found = strangest(batch({"volts": volts}, slot=slots), k=3)
    assert found[0].order == 40
    assert found[0].distance > 2 * found[1].distance
    few = np.array(["A"] * 195 + ["B"] * 5)
    volts = np.where(few == "B", 4.3, 3.3) + np.random.default_rng(3).normal(0, 0.01, 200)
    assert {each.order for each in strangest(batch({"volts": volts}, slot=few), k=5)} == set(range(195, 200))


def test_products_are_not_mixed_even_in_few_units() -> None:
    product = np.array(["small"] * 100 + ["big"] * 25)
    slot = np.tile(list("ABCDE"), 25)
    amps = np.where(product == "big", 0.5, 0.07) * (1 + np.random.default_rng(4).normal(0, 0.01, 125))
    amps[110] = 0.6
    found = strangest(batch({"amps": amps}, slot=slot, product=product), k=2)
    assert found[0].order == 110
    assert found[1].distance < 6


def test_a_unit_is_named_once_and_only_where_it_was_judged() -> None:
    columns = normal(200, "ab")
    for row, off in ((10, 40.0), (11, 30.0), (20, 50.0), (30, 20.0)):
        columns["a"][row] += off
    board, outcome = np.arange(200), ["pass"] * 200
    board[11] = board[10]
    outcome[20] = "blocked"
    found = strangest(batch(columns, board=board, outcome=outcome), k=2)
    assert [each.order for each in found] == [10, 30]


def test_many_strange_attempts_of_one_unit_do_not_hide_the_others() -> None:
    columns = normal(2000, "a")
    columns["a"][:1500] += np.linspace(90, 200, 1500) * (np.arange(1500) % 2 * 2 - 1)
    board = np.where(np.arange(2000) < 1500, 0, np.arange(2000))
    assert len(strangest(batch(columns, board=board), k=10)) == 10


def test_units_with_fewer_numbers_are_neither_stranger_nor_less_so() -> None:
    """Half of the units ended early; the strangest twentieth has about as many of them."""
    n = 4000
    columns = normal(n, "abcdefgh")
    early = np.arange(n) % 2 == 0
    for key in "efgh":
        columns[key][early] = np.nan
    found = strangest(batch(columns), k=200)
    assert 70 < sum(early[each.order] for each in found) < 130
    assert max(each.distance for each in found) < 5.5, "of 4000 normal ones none is farther"


def test_scattered_gaps_are_measured_too() -> None:
    columns = normal(3000, "abcdefghijkl")
    rng = np.random.default_rng(5)
    for values in columns.values():
        values[rng.random(3000) < 0.3] = np.nan
    columns["d"][1234] = 30 + 9 * 4.0
    found = strangest(batch(columns), k=3)
    assert found[0].order == 1234
    assert found[1].distance < 6


def test_what_is_constant_tells_nothing_and_what_hardly_ever_moves_does() -> None:
    columns = {"same": np.full(100, 5.0), "resets": np.zeros(100), "a": np.random.default_rng(6).normal(size=100)}
    columns["resets"][42] = 3.0
    found = strangest(batch(columns), k=1)
    assert found[0].order == 42
    assert found[0].why[0][:2] == (name("resets"), 3.0)
    assert strangest(batch({"same": np.full(100, 5.0)})) == []


def test_no_numbers_no_units_no_strange_ones() -> None:
    assert strangest(records_of({"outcome": ["pass"] * 3})) == []
    assert strangest(records_of({"outcome": []})) == []
    assert strangest(batch(normal(50, "a")), k=0) == []
    assert len(strangest(batch(normal(4, "a")), k=10)) == 4
    assert "too slow" in TRACES


# -- the numbers behind it -------------------------------------------------------------------------------------


@fixed
@given(st.integers(0, 1000), st.integers(20, 400))
def test_robust_sigmas_agree_with_scipys_median_deviation(seed: int, n: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, n) * 7 + 100
    codes = np.zeros(n, dtype=np.int32)
    expected = (values - np.median(values)) / (1.4826 * stats.median_abs_deviation(values))
    assert robust_sigmas(values, [codes]) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_stratum_without_spread_is_measured_with_the_next() -> None:
    values = np.concatenate([np.full(30, 1.0), np.linspace(0, 2, 31)])
    codes = np.repeat(np.array([0, 1], dtype=np.int32), [30, 31])
    found = robust_sigmas(values, [codes])
    alone = robust_sigmas(values[30:], [codes[30:] * 0])
    assert found[30:] == pytest.approx(alone)
    assert found[:30] == pytest.approx(robust_sigmas(values, [])[:30])


@pytest.mark.parametrize("freedom", [1, 5, 20])
def test_normal_score_is_that_of_the_same_probability(freedom: int) -> None:
    square = stats.chi2.isf([0.1, 1e-3, 1e-5], freedom)
    assert normal_score(square, freedom) == pytest.approx(stats.norm.isf([0.1, 1e-3, 1e-5]), rel=0.06)


def test_looking_at_a_part_of_very_many_values_changes_little() -> None:
    rng = np.random.default_rng(7)
    values, codes = rng.normal(5, 2, 300_000), rng.integers(0, 40, 300_000).astype(np.int32)
    codes[:50] = 40
    values[:50] += 100  # a small stratum is looked at whole
    found = robust_sigmas(values, [codes])
    assert np.abs(found[50:] - (values[50:] - 5) / 2).max() < 0.35
    rare = values[:50]
    expected = (rare - np.median(rare)) / (1.4826 * stats.median_abs_deviation(rare))
    assert found[:50] == pytest.approx(expected, rel=1e-4, abs=1e-5)


class Drawn:
    """Numbers that are drawn when they are asked for, as from a file: `n` attempts, twenty names."""

    def __init__(self, n: int) -> None:
        self.n = n

    def names(self) -> list[Name]:
        return [name(f"m{at}") for at in range(20)]

    def of(self, which: Name) -> pd.DataFrame:
        values = np.random.default_rng(int(which.name[1:])).normal(size=self.n)
        return pd.DataFrame({"order": np.arange(self.n, dtype=np.int32), "value": values})


def test_a_million_units_of_twenty_numbers_in_three_seconds_and_300_mb() -> None:
    """At an eighth of it, in CPU time; time and memory grow with the units."""
    n = 125_000
    records = records_of({"slot": np.tile(list("ABCDE"), n // 5)})
    records = replace(records, numbers=cast(Any, Drawn(n)))
    began = time.process_time()
    strangest(records)
    seconds = time.process_time() - began
    tracemalloc.start()
    strangest(records)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 1.2
    assert peak < 300e6 / 8
