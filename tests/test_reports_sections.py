"""Figures that the page's sections reckon themselves, beside those of other programs and of counting by hand."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_journals import STEPS, SyntheticRun

from reports.charts import individuals
from reports.control_plots import MOST, Panel, control_svg
from reports.defects import defects
from reports.distributions import histogram_svg
from reports.load import load
from reports.numbers import MemoryNumbers
from reports.page.context import Context
from reports.page.measured import Off, by_group, drift
from reports.page.yields import by_group as rates_by_group
from reports.tables import Name, records_of
from rig.records.events import Measured, Outcome

CURRENT = Name("boot", "boot", "current", "A")


def test_drift_is_the_least_squares_line() -> None:
    values = np.random.default_rng(5).normal(3.3, 0.02, 400) + np.linspace(0, 0.05, 400)
    judge = stats.linregress(np.arange(400), values)
    found = [float(each) for each in re.findall(r"[-+][\d.e-]+", drift(values))]
    reach = 1.96 * judge.stderr
    assert found == pytest.approx(
        [399 * each for each in (judge.slope, judge.slope - reach, judge.slope + reach)], rel=5e-3
    )
    assert drift(values[:29]) == "–"
    assert drift(np.full(50, 7.0)).startswith("+0 (")


def test_means_and_deviations_by_group_are_those_of_pandas() -> None:
    draw = np.random.default_rng(2)
    slots, values = draw.choice(list("ABCD"), 500), 1e6 + draw.normal(0, 1e-3, 500)
    records = records_of({"slot": slots})
    orders = np.flatnonzero(slots != "D")
    found = by_group(Context(records, Path()), "slot", Off.of(values[orders]), orders)
    judge = pd.Series(values[orders]).groupby(slots[orders]).agg(["size", "mean", "std"])
    assert [name for name, *_ in found] == list(judge.index)
    assert np.array([told for _, *told in found]) == pytest.approx(judge.to_numpy(), rel=1e-6)


def test_defects_counted_by_hand(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        run.attempt("1", "pass")  # five steps
        run.attempt("2", "fail", code="no-link", stop_at="backup")  # three steps, one of them bad
        who = run.attempt("3", "fail", code="current-high", current=0.3)  # five steps that pass, one number outside
        for name in ("a", "b"):  # of the same step: no further defect
            run.write(Measured, **who, phase="boot", name=name, value=9.0, maximum=1.0, outcome=Outcome.FAIL)
        run.attempt("4", "blocked", code="no-current", stop_at="write")  # the bench: not counted
        run.end()
    found = defects(load([tmp_path / "run"]))
    assert len(STEPS) == 5
    assert (found.good, found.n) == (2, 13)


def test_a_retest_in_another_slot_counts_where_it_was() -> None:
    records = records_of({
        "board": [0, 1, 0, 2], "trial": [0, 1, 2, 3], "slot": list("AABB"), "attempt": [1, 1, 2, 1],
        "outcome": ["fail", "pass", "pass", "blocked"],
    })  # fmt: skip
    found = rates_by_group(Context(records, Path()), "slot")
    told = {slot: (str(each.first_pass)[:16], each.final.good, each.final.n) for slot, each in found.items()}
    assert told == {"A": ("50.0 % (1 of 2, ", 1, 1), "B": ("no counted units", 1, 1)}
    assert (found["A"].not_counted, found["B"].not_counted) == (0, 1)


def test_a_chart_of_a_million_points_stays_small_and_keeps_its_outliers() -> None:
    values = np.random.default_rng(3).normal(0, 1, 1_000_000)
    values[500_000] = 9.0
    chart, ranges = individuals(values)
    svg = control_svg([Panel("individuals", chart), Panel("moving range", ranges)], unit="A")
    ET.fromstring(svg)
    assert len(svg) < 40_000
    strokes = re.findall(r"V([\d.]+)", svg)
    assert len(strokes) > MOST
    top = ET.fromstring(histogram_svg(values, unit="A", lower=-5, upper=5, name="it"))
    drawn = sum(int(title.text.rsplit(": ", 1)[1]) for title in top.iter("title"))  # type: ignore[union-attr]
    assert drawn == len(values)


def test_a_histogram_tells_what_it_cannot_draw() -> None:
    values = np.concatenate([np.random.default_rng(3).normal(3.3, 0.01, 200), [99.0, np.nan, np.inf]])
    svg = histogram_svg(values, unit="V", lower=3.0, upper=300.0, name="<rail>")
    ET.fromstring(svg)
    assert "1 above" in svg
    assert "max 300 →" in svg
    assert "&lt;rail&gt; against the limits, n = 201" in svg
    assert "No number" in histogram_svg(np.array([np.nan]))


def test_a_number_without_a_link_where_there_is_nobody() -> None:
    numbers = MemoryNumbers.of_names({CURRENT: {"order": np.arange(3), "value": [1.0, 2.0, 3.0]}})
    context = Context(records_of({"unit": ["a", "b", "c"]}, numbers=numbers), Path())
    assert context.where(np.zeros(3, dtype=bool), 0, "nobody").href == ""
    first = context.where(np.array([True, False, True]), 2, "two of them")
    assert first.href == context.where(np.array([True, False, True]), 2, "two of them").href == "#set-1"
    assert [each.orders for each in context.sets.all()] == [[0, 2]]
