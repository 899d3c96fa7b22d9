"""Gage R&R: published examples, statsmodels as the judge of sums and intervals, and what an unfinished study says."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.anova import anova_lm

from reports.gage import Gage, crossed, gage_of, sentences, studied, study_of, unsafe
from reports.numbers import MemoryNumbers
from reports.tables import Name, Records, records_of

# AIAG, Measurement Systems Analysis, 4th ed. (2010), the study of 10 parts, 3 appraisers, 3 trials that its ANOVA
# chapter works through; Minitab has it as GAGEAIAG. A row a part: three trials of A, of B, of C.
AIAG = """
 0.29  0.41  0.64   0.08  0.25  0.07   0.04 -0.11 -0.15
-0.56 -0.68 -0.58  -0.47 -1.22 -0.68  -1.38 -1.13 -0.96
 1.34  1.17  1.27   1.19  0.94  1.34   0.88  1.09  0.67
 0.47  0.50  0.64   0.01  1.03  0.20   0.14  0.20  0.11
-0.80 -0.92 -0.84  -0.56 -1.20 -1.28  -1.46 -1.07 -1.45
 0.02 -0.11 -0.21  -0.20  0.22  0.06  -0.29 -0.67 -0.49
 0.59  0.75  0.66   0.47  0.55  0.83   0.02  0.01  0.21
-0.31 -0.20 -0.17  -0.63  0.08 -0.34  -0.46 -0.56 -0.49
 2.26  1.99  2.01   1.80  2.12  2.19   1.77  1.45  1.87
-1.36 -1.25 -1.31  -1.68 -1.62 -1.50  -1.49 -1.77 -2.16
"""
# Thermal impedance of a power module for an induction motor starter, Houf and Berman (1988), as worked through in
# D. C. Montgomery, Introduction to Statistical Quality Control, the chapter on gauge capability by ANOVA: the
# interaction of parts and operators is there.
IMPEDANCE = """
37 38 37 41 41 40 41 42 41
42 41 43 42 42 42 43 42 43
30 31 31 31 31 31 29 30 28
42 43 42 43 43 43 42 42 42
28 30 29 29 30 29 31 29 29
42 42 43 45 45 45 44 46 45
25 26 27 28 28 30 29 27 27
40 40 40 43 42 42 43 43 41
25 25 25 27 29 28 26 26 26
35 34 34 35 35 34 35 34 35
"""


def read(text: str) -> pd.DataFrame:
    rows = [
        (f"P{part:02}", "ABC"[place // 3], float(value))
        for part, line in enumerate(text.strip().splitlines(), start=1)
        for place, value in enumerate(line.split())
    ]
    return pd.DataFrame(rows, columns=["part", "appraiser", "value"])


# -- published -----------------------------------------------------------------------------------------------


def test_the_manuals_own_study() -> None:
    found = crossed(read(AIAG), tolerance=8.0)
    part, slot, both, rest = found.anova
    assert [each.df for each in found.anova] == [9, 2, 18, 60]
    assert [round(each.ss, 4) for each in found.anova] == [88.3619, 3.1673, 0.3590, 2.7589]
    assert both.p == pytest.approx(0.974, abs=5e-4)  # so it joins the repeatability
    assert found.pooled
    assert (round(part.f or 0, 2), round(slot.f or 0, 2)) == (245.61, 39.62)
    assert rest.ms == pytest.approx(0.045982, abs=5e-7)
    assert (found.ev, found.av) == pytest.approx((0.199933, 0.226838), abs=5e-7)
    assert (found.grr, found.pv, found.tv) == pytest.approx((0.302373, 1.042327, 1.085300), abs=2e-6)
    assert found.study_percent == pytest.approx(27.86, abs=0.005)
    assert 100 * found.grr**2 / found.tv**2 == pytest.approx(7.76, abs=0.005)
    assert found.tolerance_percent == pytest.approx(22.68, abs=0.005)
    assert (found.ndc, found.verdict, found.remark) == (4, "conditional", None)


def test_a_study_whose_interaction_counts() -> None:
    found = crossed(read(IMPEDANCE))
    assert [round(each.ss, 2) for each in found.anova] == [3935.96, 39.27, 48.51, 30.67]
    assert [round(each.f, 2) for each in found.anova if each.f is not None] == [162.27, 7.28, 5.27]
    assert not found.pooled
    variances = [found.pv**2, found.av**2, found.interaction**2, found.ev**2]
    assert [round(each, 2) for each in variances] == [48.29, 0.56, 0.73, 0.51]
    assert found.tolerance_percent is None


# -- judged by statsmodels -----------------------------------------------------------------------------------


def synthetic(parts: int, slots: int, trials: int, seed: int, interaction: float = 0.0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    part, slot = draw.normal(0, 1.0, parts), draw.normal(0, 0.3, slots)
    both = draw.normal(0, interaction, (parts, slots))
    rows = [
        (f"U{p}", "ABCDEFGH"[s], 5 + part[p] + slot[s] + both[p, s] + draw.normal(0, 0.2))
        for _ in range(trials)
        for p, s in itertools.product(range(parts), range(slots))
    ]
    return pd.DataFrame(rows, columns=["part", "appraiser", "value"])


@settings(max_examples=12, derandomize=True, deadline=None)
@given(st.integers(2, 6), st.integers(2, 4), st.integers(2, 4), st.integers(0, 99), st.sampled_from([0.0, 0.5]))
def test_sums_of_squares_are_statsmodels_own(p: int, a: int, r: int, seed: int, interaction: float) -> None:
    table = synthetic(p, a, r, seed, interaction)
    found = crossed(table)
    judge = anova_lm(smf.ols("value ~ C(part) * C(appraiser)", table).fit())
    names = ["C(part)", "C(appraiser)", "C(part):C(appraiser)", "Residual"]
    assert [each.ss for each in found.anova] == pytest.approx(list(judge.loc[names, "sum_sq"]), rel=1e-9)
    assert [each.df for each in found.anova] == list(judge.loc[names, "df"])
    assert found.anova[2].p == pytest.approx(judge.loc[names[2], "PR(>F)"], rel=1e-9)
    assert found.pooled == (judge.loc[names[2], "PR(>F)"] > 0.25)
    if found.pooled:
        simple = anova_lm(smf.ols("value ~ C(part) + C(appraiser)", table).fit())
        assert found.ev**2 == pytest.approx(simple.loc["Residual", "mean_sq"], rel=1e-9)
        assert found.anova[1].p == pytest.approx(simple.loc["C(appraiser)", "PR(>F)"], rel=1e-6)


def test_a_slots_bias_has_statsmodels_interval() -> None:
    """Sum-coded effects of the additive model; Bonferroni over the slots."""
    table = synthetic(6, 3, 3, seed=4)
    found = crossed(table)
    assert found.pooled
    fit = smf.ols("value ~ C(part, Sum) + C(appraiser, Sum)", table).fit()
    low, high = fit.conf_int(alpha=0.05 / 3).loc["C(appraiser, Sum)[S.A]"]
    mine = found.bias[0]
    assert (mine.appraiser, mine.value) == ("A", pytest.approx(fit.params["C(appraiser, Sum)[S.A]"]))
    assert (mine.low, mine.high) == pytest.approx((low, high))
    assert sum(each.value for each in found.bias) == pytest.approx(0, abs=1e-12)


def test_a_slot_that_is_off_is_named_and_only_that() -> None:
    hits = 0
    for seed in range(25):
        draw = np.random.default_rng(seed)
        table = synthetic(5, 4, 3, seed)
        table["value"] = draw.normal(0, 1, 5)[table["part"].str[1:].astype(int)] + draw.normal(0, 0.2, len(table))
        hits += any(each.stands_out for each in crossed(table).bias)
        table.loc[table["appraiser"] == "C", "value"] += 0.5
        assert "C" in [each.appraiser for each in crossed(table).bias if each.stands_out]
    assert hits <= 5  # 5 % of 25 are one or two: six or more come up once in 500 tries


# -- studies that are not whole ------------------------------------------------------------------------------


def test_a_part_of_a_study_that_is_balanced_is_used_and_said() -> None:
    table = read(AIAG)
    assert crossed(table.sample(frac=1, random_state=1)).study_percent == pytest.approx(27.86, abs=0.005)
    gone = table.drop(table.index[(table["part"] == "P03") & (table["appraiser"] == "B")])
    found = crossed(gone)
    assert (found.parts, found.appraisers, found.trials, found.n) == (9, 3, 3, 81)
    assert found.study_percent == crossed(table[table["part"] != "P03"]).study_percent
    assert found.remark == (
        "the study is not balanced: 81 of 87 measurements are used, 9 units in 3 slots, 3 times each without unit P03"
    )
    assert found.remark in " ".join(sentences(found))


def test_a_slot_that_hardly_took_part_is_left_out() -> None:
    table = read(AIAG)
    few = table[(table["appraiser"] != "C") | (table["part"] < "P03")]
    found = crossed(few)
    assert (found.parts, found.appraisers, found.trials) == (10, 2, 3)
    assert "without slot C" in (found.remark or "")
    last = table.drop(table.index[-1])  # cut short: rather a part less than a trial less
    assert (crossed(last).parts, crossed(last).trials) == (9, 3)
    extra = pd.concat([table, table.iloc[[0]]])  # one measured once more, as a resumed run may
    assert crossed(extra).study_percent == pytest.approx(27.86, abs=0.005)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (read(AIAG).iloc[:0], "0 units in 0 slots"),
        (read(AIAG)[lambda t: t["part"] == "P01"], "1 unit in 3 slots"),
        (read(AIAG)[lambda t: t["appraiser"] == "A"], "10 units in 1 slot"),
        (read(AIAG).iloc[::3], "not far enough"),
        (read(AIAG).assign(value=3.3), "all values are the same"),
        (read(AIAG).assign(value=np.nan), "0 units in 0 slots"),
    ],
)
def test_what_is_no_study_is_said_in_one_sentence(table: pd.DataFrame, says: str) -> None:
    found = crossed(table, tolerance=1.0)
    assert says in (found.refused or "")
    assert (found.n, found.tolerance_percent, found.verdict) == (0, None, "refused")
    assert len(sentences(found)) == 1


def test_a_bench_that_adds_nothing_and_one_that_adds_all() -> None:
    table = read(AIAG)
    exact = crossed(table.assign(value=table["part"].str[1:].astype(float)))
    assert (exact.study_percent, exact.ndc, exact.verdict) == (0, None, "good")
    noise = crossed(table.assign(value=np.tile([0.0, 0.1, 0.2], 30)))
    assert (round(noise.study_percent), noise.ndc, noise.verdict) == (100, 0, "unusable")


# -- in the records ------------------------------------------------------------------------------------------

CURRENT = Name("verify: steady", "steady", "steady_current", "A")
CONVERTED = Name("steady", "steady", "steady_current", "A")
BOOT = Name("verify: boot", "boot", "boot_time", "s")


def study_records(noise: float = 0.001, **more: Any) -> Records:
    """Two converted units, then a study of three units in two slots, three times; after it a blocked attempt."""
    cells = [(unit, slot) for _ in range(3) for unit in ("U1", "U2", "U3") for slot in ("A", "B")]
    units, slots = ["X1", "X2", *(unit for unit, _ in cells), "U1"], ["A", "B", *(slot for _, slot in cells), "A"]
    n = len(units)
    draw = np.random.default_rng(3)
    level = np.array([0.08 + 0.01 * int(unit[1]) for unit in units])
    value = level + draw.normal(0, noise, n)
    value[-1] = 9.0
    study = [False, False, *[True] * (n - 2)]
    attempts = {
        "unit": units, "slot": slots, "study": study, "outcome": ["pass"] * (n - 1) + ["blocked"],
        "run": ["old", "old", *["study"] * (n - 2)], "task": ["convert"] * 2 + ["verify"] * (n - 2),
    } | more  # fmt: skip
    both = {"minimum": 0.05, "maximum": 0.13}
    numbers = MemoryNumbers.of_names({
        CONVERTED: {"order": [0, 1], "value": value[:2]} | both,
        CURRENT: {"order": np.arange(2, n), "value": value[2:]} | both,
        BOOT: {"order": np.arange(2, n), "value": np.full(n - 2, 0.4), "maximum": 5.0},
    })  # fmt: skip
    return records_of(attempts, numbers=numbers)


def test_the_newest_study_is_found_by_what_it_measured() -> None:
    records = study_records()
    for name in (CURRENT, CONVERTED):  # a study verifies what was converted: the same number by another step
        table = study_of(records, name)
        assert isinstance(table, pd.DataFrame)
        assert len(table) == 18
        assert table["value"].max() < 1  # the blocked attempt measured nothing
        found = gage_of(records, name)
        assert (found.parts, found.appraisers, found.trials) == (3, 2, 3)
        assert found.tolerance == pytest.approx(0.08)
        assert unsafe(records, name) is None
    assert "no gage study here measured" in str(study_of(records, Name("steady", "steady", "other", "A")))
    assert [(each.name, each.run) for each in studied(records)] == [(CURRENT, "study"), (BOOT, "study")]
    assert "all values are the same" in (studied(records)[1].gage.refused or "")


def test_a_cpk_is_unsafe_where_the_bench_makes_the_spread() -> None:
    records = study_records(noise=0.02)
    said = unsafe(records, CONVERTED) or ""
    assert said.startswith("unsafe: ")
    assert "3 units in 2 slots, 3 times each" in said
    assert gage_of(records, CURRENT).study_percent > 30
    assert unsafe(study_records(noise=0.02, study=False), CONVERTED) is None  # no study: nothing is known
    assert "no batch here was run as a gage study" in str(study_of(study_records(study=False), CURRENT))
    assert studied(study_records(study=False)) == []


def test_only_the_newest_of_two_studies_counts() -> None:
    twice = study_records(run=["old"] * 11 + ["new"] * 10)
    table = study_of(twice, CURRENT)
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 9
    assert isinstance(gage_of(twice, CURRENT), Gage)
