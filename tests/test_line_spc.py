"""Control charts of a batch at work: the rules, the line that notes or stops, and the batch file's table."""

from __future__ import annotations

import math
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.charts import individuals
from rig.bench.product import load_product
from rig.errors import Exit, UsageProblem
from rig.line.batch import read_batch
from rig.line.job import job_from_dict, job_to_dict
from rig.line.prompts import Prompts
from rig.line.rules import Known
from rig.line.rules import Spc as SpcRule
from rig.line.spc import D2, MEASURED, Spc, western_electric
from rig.records import events
from tests.station_bench import StationBench, fake_units

fixed = settings(derandomize=True, deadline=None, max_examples=60)
WATCH = SpcRule(measurements=["steady_current"])
KNOWN = SpcRule(measurements=["steady_current"], known={"steady_current": Known(centre=0.07, sigma=0.002)})


# -- the rules -------------------------------------------------------------------------------------------------


@fixed
@given(st.integers(0, 10_000), st.floats(-2, 2), st.integers(8, 40))
def test_the_same_points_fire_as_on_the_reports_chart(seed: int, shift: float, baseline: int) -> None:
    """Point by point and rule by rule, after the baseline; the values of the baseline are part of the patterns."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(size=baseline), rng.normal(shift, 1, size=60)])
    spc, found = Spc(SpcRule(measurements=["x"], baseline=baseline)), set()
    for at, value in enumerate(values):
        spc.taken("A", "x", float(value))
        found |= {(rule, at) for rule in spc.firing("A", "x")}
    chart, _ = individuals(values, baseline=slice(0, baseline))
    assert found == {(hit.rule, hit.index) for hit in chart.hits if hit.index >= baseline}


@pytest.mark.parametrize(
    ("z", "rules"),
    [([], ()), ([3.1], (1,)), ([3.0], ()), ([-2.5, 0, -2.5], (2,)), ([2.5, -2.5], ()), ([0.5] * 7, ()),
     ([1.5, 1.5, 0, 1.5, 1.5], (3,)), ([1.5, 1.5, 1.5, 1.5, 0.9], ()), ([-0.1] * 8, (4,)), ([0.1] * 7 + [0.0], ()),
     ([2.5, 2.5, 2.5, 2.5, 3.5], (1, 2, 3))],
)  # fmt: skip
def test_which_rules_the_last_value_completes(z: list[float], rules: tuple[int, ...]) -> None:
    assert western_electric(z) == rules


def test_a_rule_is_told_once_while_it_goes_on_firing_and_names_slot_side_and_centre() -> None:
    spc = Spc(KNOWN)
    said = [spc.taken("C", "steady_current", 0.0705 + 0.0001 * n) for n in range(10)]
    assert [at for at, each in enumerate(said) if each] == [7]
    assert said[7] == (
        "steady_current in slot C is 0.0712: 8 in a row are above the centre (Western Electric rule 4); "
        "centre 0.07, sigma 0.002, given"
    )
    assert spc.taken("C", "steady_current", 0.0699) is None
    assert spc.firing("C", "steady_current") == frozenset()


def test_slots_and_measurements_have_charts_of_their_own() -> None:
    spc = Spc(SpcRule(measurements=["a", "b"], baseline=8))
    for n in range(8):
        for slot, name, level in (("A", "a", 1.0), ("B", "a", 2.0), ("A", "b", 5.0)):
            assert spc.taken(slot, name, level + 0.01 * (-1) ** n) is None
    assert "rule 1" in (spc.taken("A", "a", 2.0) or "")
    assert spc.taken("B", "a", 2.0) is None
    assert "above" in (spc.taken("A", "b", 5.5) or "")
    assert spc.taken("A", "c", 99.0) is None, "nobody watches it"


def test_centre_and_sigma_are_those_of_the_first_good_values() -> None:
    values = [1.0, 1.2, 0.9, 1.1, 1.3, 0.8, 1.0, 1.1]
    spc = Spc(SpcRule(measurements=["x"], baseline=8, rules=[1]))
    spc.taken("A", "x", 50.0, good=False)
    spc.taken("A", "x", math.nan)
    for value in values:
        spc.taken("A", "x", value)
    centre, sigma = np.mean(values), np.abs(np.diff(values)).mean() / D2
    assert spc.taken("A", "x", centre + 2.99 * sigma) is None
    said = spc.taken("A", "x", centre + 3.01 * sigma, good=False)
    assert said is not None
    assert said.endswith(f"centre {centre:.4g}, sigma {sigma:.2g}, of the slot's first 8 good ones")


def test_a_baseline_of_equal_values_goes_on_until_one_differs() -> None:
    spc = Spc(SpcRule(measurements=["x"], baseline=8))
    assert [spc.taken("A", "x", 3.0) for _ in range(30)] == [None] * 30
    assert spc.taken("A", "x", 4.0) is None, "it is the baseline's first spread"
    assert "rule 1" in (spc.taken("A", "x", 9.0) or "")


def test_only_the_rules_that_were_asked_for_and_patterns_begin_anew_when_the_line_goes_on() -> None:
    spc = Spc(KNOWN.model_copy(update={"rules": [4]}))
    assert spc.taken("A", "steady_current", 0.09) is None
    assert sum(spc.taken("A", "steady_current", 0.071) is not None for _ in range(7)) == 1
    spc.reset()
    assert [spc.taken("A", "steady_current", 0.071) for _ in range(7)] == [None] * 7
    assert spc.taken("A", "steady_current", 0.071) is not None


# -- the line --------------------------------------------------------------------------------------------------


def test_a_rule_that_fires_is_noted_or_stops_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_units(monkeypatch)
    amps = {"1": ["draws 0.0701"], "2": ["draws 0.0812"], "3": ["draws 0.0698"]}
    at_once = Prompts.open

    def later(*words: Any, **more: Any) -> Any:
        """The line's question comes a moment after its stop is on record; who releases it by then is not refused."""
        threading.Event().wait(0.2)
        return at_once(*words, **more)

    monkeypatch.setattr(Prompts, "open", later)
    for stop in (False, True):
        (folder := tmp_path / str(stop)).mkdir()
        bench = StationBench(folder)
        bench.behave(**amps)
        job = bench.job("1", "2", "3", rules={"spc": KNOWN.model_copy(update={"stop": stop}).model_dump()})
        assert job_from_dict(job_to_dict(job)) == job
        with bench.start(job) as run:
            if stop:
                why = bench.wait(events.LineStopped, rule="spc").why
                bench.tell("release-line")
            assert run.end() is Exit.GOOD
        notes = [note for note in bench.of(events.Noted) if note.details.get("rule") == "spc"]
        if stop:
            assert not notes
        else:
            assert not bench.of(events.LineStopped)
            (note,) = notes
            assert (note.unit, note.slot, note.level) == ("2", "A", "warning")
            why = note.text
        assert why.startswith("steady_current in slot A is 0.0812: it is more than 3 sigma above the centre")


def test_a_resumed_run_goes_on_with_the_charts_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven above the centre, then the station dies; the eighth, after it, completes the run of eight."""
    fake_units(monkeypatch)
    bench = StationBench(tmp_path)
    units = [str(number) for number in range(1, 9)]
    bench.behave(**{unit: ["draws 0.0705"] for unit in units} | {"8": ["held", "draws 0.0705"]})
    job = bench.job(*units, rules={"spc": KNOWN.model_dump()})
    with bench.start(job) as run:
        bench.wait(events.UnitStarted, unit="8")
        run.station.stop()
        run.end()
    with bench.start(job, resume=True) as run:
        assert run.end() is Exit.GOOD
    (note,) = [note for note in bench.of(events.Noted) if note.details.get("rule") == "spc"]
    assert (note.unit, "8 in a row" in note.text) == ("8", True)


# -- the batch file --------------------------------------------------------------------------------------------

FILE = '[batch]\nproduct = "ds-121"\nplan = "verify"\n'


def test_the_table_of_a_batch_file(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_text(FILE)
    assert read_batch(path).rules.spc == SpcRule(), "off by default"
    path.write_text(
        f'{FILE}[spc]\nmeasurements = ["steady_current"]\nrules = [1, 4]\nstop = true\n'
        "[spc.known.steady_current]\ncentre = 0.07\nsigma = 0.002\n"
    )
    assert read_batch(path).rules.spc == KNOWN.model_copy(update={"rules": [1, 4], "stop": True})


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('measurements = ["steady_curent"]', "nothing measures 'steady_curent'; did you mean 'steady_current'?"),
        ("rules = [5]", "spc.rules"),
        ("baseline = 3", "spc.baseline"),
        ("stopp = true", "unknown key 'spc.stopp'"),
        (
            "[spc.known.boot_time]\ncentre = 1\nsigma = 2",
            "'spc.known.boot_time' is for no measurement that is watched",
        ),
        ('measurements = ["boot_time"]\n[spc.known.boot_time]\ncentre = 1\nsigma = 0', "sigma"),
    ],
)
def test_a_mistake_in_it_is_one_sentence(table: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_text(f"{FILE}[spc]\n{table}\n")
    slots = list(StationBench(tmp_path).bench.slots.values())
    with pytest.raises(UsageProblem) as problem:
        read_batch(path).check(slots)
    assert says in str(problem.value)
    assert "\n" not in str(problem.value)


def test_what_can_be_watched_is_what_the_rig_measures() -> None:
    """Each name stands in a source that measures it, or is composed there from one that does."""
    root = Path(__file__).resolve().parents[1]
    sources = "".join(
        path.read_text()
        for path in [*root.glob("rig/line/*.py"), *root.glob("tests_hil/*.py"), root / "rig/bench/product.py"]
    )
    sources = sources.replace((root / "rig/line/spc.py").read_text(), "")
    for name in MEASURED:
        stem = re.sub("_(worst|mean)$", "", name)
        assert f'"{stem}"' in sources or f'"{stem}{{' in sources, name
    assert set(load_product("ds-121").limits) <= {*MEASURED}
