"""rig power: study files, what they ask of a board trial by trial, what is on record, and what it comes to."""

from __future__ import annotations

import json
import math
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rig.cli.power import _outcomes
from rig.errors import BenchBlocked, UsageProblem
from rig.power.cells import cell_of
from rig.power.jobs import grid_order, staircase_levels
from rig.power.outcome import GOOD, Outcome
from rig.power.plan import Asked, Plan
from rig.power.record import Place, Played, Record, is_power_run, part_name, read_record
from rig.power.result import results
from rig.power.sources import PEAK_AMPS, load_sources
from rig.power.study import DEFAULT, GridTable, Part, Range, Study, load_study, ready
from rig.power.trial import Cell, Trial, read_trials
from rig.power.words import sentences
from rig.records.trials import Ledger
from rig.sim.constants import load_constants
from rig.supply.waveform import Waveform

PLACE = Place("A", "ds-121", 3.3, 0.5, 3.6)
HEAD = "name = 'x'\ntitle = 'x'\nwords = 'x'\n"
PART = "[[parts]]\nname = 'p'\nwords = 'w'\nactivity = 'boot'\n"
OTHER = PART.replace("'p'", "'q'")
SEARCH = "search = { axis = 'amps', low = 0.02, high = 0.5, step = 0.01 }\n"


def played() -> list[Played]:
    return [Played(name, each.title, *each.played(3.6), each.source) for name, each in load_sources().items()]


def record_of(study: Study, *slots: str) -> Record:
    places = [replace(PLACE, slot=slot) for slot in slots or ("A",)]
    return Record("run", "2026-11-23T00:00:00+00:00", study, places, played(), {"simulated": True})


def study_of(text: str, tmp_path: Path) -> Study:
    path = tmp_path / "study.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    return load_study(str(path))


def trial_of(n: int, asked: Asked, outcome: Outcome, slot: str = "A", missed: str | None = None) -> Trial:
    commanded = None if missed is None else {"missed": missed}
    return Trial(n, asked.cell, slot, "board-1", asked.reference, outcome, "so", commanded=commanded)


def made(record: Record, judge: Callable[[Cell], Outcome], most: int = 10_000, slot: str = "A") -> list[Trial]:
    """All trials of a study at a board that `judge` makes."""
    plan, found = Plan.of(record, slot), []
    while (asked := plan.next()) is not None and len(found) < most:
        found.append(trial_of(len(found) + 1, asked, "unaffected" if asked.reference else judge(asked.cell), slot))
        plan.tell(found[-1])
    return found


def is_weak(cell: Cell) -> Outcome:
    """A board that wants 0.25 A at 2.6 V."""
    return "boot-loop" if cell.amps < 0.25 or cell.volts < 2.6 else "unaffected"


# -- study files ----------------------------------------------------------------------------------------------------


def test_the_ready_studies_are_all_there_and_ask_what_they_say() -> None:
    assert list(ready()) == [
        "boot-brownout", "endurance", "flash-brownout", "minimum-supply", "reset-staircase", "weak-adapter",
    ]  # fmt: skip
    for name in ready():
        study = load_study(name)
        assert study.name == name
        plan = Plan(study, PLACE, played())
        asked = plan.next()
        assert asked is not None
        assert asked.reference
    assert load_study().name == DEFAULT == "minimum-supply"
    assert [part.method for part in load_study().parts] == ["search", "confirm", "search", "confirm", "series"]
    phases = {phase for part in load_study("flash-brownout").parts for phase in part.phases}
    assert phases == {"erase", "program", "crc"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("part = []", "unknown key 'part'; did you mean 'parts'?"),
        (PART + SEARCH + "phase = ['boot']", "unknown key 'parts.0.phase'; did you mean 'phases'?"),
        (PART, "it takes one of search, grid, series, staircase, confirm; it has none"),
        (PART + SEARCH + "series = { repeats = 3 }", "it has search and series"),
        (PART + "search = { axis = 'amps', low = 0.02, high = 0.5, stp = 0.01 }", "did you mean 'step'?"),
        (PART + SEARCH.replace("amps", "ampere"), "no axis 'ampere' here; did you mean 'amps'?"),
        (PART + "search = { axis = 'amps', low = 0.5, high = 0.02, step = 0.01 }", "'high' must be more than 'low'"),
        (PART + "search = { axis = 'amps', low = 0.1, high = 0.12, step = 0.01 }", "3 to 1000 steps"),
        (PART + "search = { axis = 'seconds', low = 0.1, high = 1, step = 0.1 }", "no axis 'seconds' here"),
        (PART + "search = { axis = 'amps', low = 0, high = 1, step = 2, log = true }", "'low' is more than 0"),
        (PART + SEARCH + "wave = { kind = 'dip', volts = 2, seconds = 1 }", "'phases' and 'wave' belong together"),
        (PART + SEARCH + "phases = ['boot']", "'phases' and 'wave' belong together"),
        (PART + SEARCH + "phases = ['boot']\nwave = { kind = 'dip', volts = 2 }", "its dip has no 'seconds'"),
        (PART + SEARCH + "phases = ['boot']\nwave = { kind = 'dip', amps = 2 }", "a dip has no 'amps'"),
        (PART + SEARCH + "phases = ['but']\nwave = { kind = 'dip', volts = 2 }", "'parts.0.phases.0' is 'but'"),
        (PART + SEARCH + "sources = 'all'", "'sources' give amps: no axis can"),
        (PART + "series = { repeats = 3 }\nsources = ['cp2012-pin']", "did you mean 'cp2102-pin'?"),
        (PART + "series = { repeats = 3 }\nsources = 'all'\nvolts = 3", "'sources' give volts and amps"),
        (PART + "series = { repeats = 3 }\nbad = ['hanged']", "'parts.0.bad.0' is 'hanged'"),
        (PART + "series = { repeats = 3 }\nbad = []", "names no outcome"),
        (PART + "grid = { axes = {} }", "parts.0.grid.axes"),
        (PART + "grid = { axes = { volts = { low = 1, high = 2 } } }", "either 'step' or 'points'"),
        (PART + "grid = { axes = { volts = [0, 3] } }", "volts of a supply are more than 0"),
        (PART + SEARCH.replace("0.02", "0"), "amps of a supply are more than 0"),
        (PART + "confirm = { after = 'q' }", "which is no search before it"),
        (PART + SEARCH + OTHER + "volts = 3\nconfirm = { after = 'p' }", "part 'q' has 'volts' of 'p'"),
        (PART + SEARCH + PART + SEARCH, "two parts are called 'p'"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_study_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageProblem) as problem:
        study_of(text, tmp_path)
    assert said in str(problem.value)
    assert "\n" not in str(problem.value)


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(UsageProblem, match="no study called 'boot-brown-out'; did you mean 'boot-brownout'"):
        load_study("boot-brown-out")
    with pytest.raises(UsageProblem, match=r"no study at nowhere/x\.toml"):
        load_study("nowhere/x.toml")


def test_ranges_are_even_or_by_factors(tmp_path: Path) -> None:
    text = PART + "phases = ['boot']\nwave = { kind = 'dip' }\n"
    axes = "volts = { low = 1, high = 2, step = 0.25 }, seconds = { low = 0.01, high = 1, points = 5, log = true }"
    study = study_of(text + f"grid = {{ axes = {{ {axes} }}, repeats = 2 }}", tmp_path)
    assert study.parts[0].grid is not None
    found = {name: axis.values for name, axis in study.parts[0].grid.axes.items()}
    assert found == {"volts": [1, 1.25, 1.5, 1.75, 2], "seconds": [0.01, 0.03162, 0.1, 0.3162, 1]}


# -- sources --------------------------------------------------------------------------------------------------------


def test_sources_are_those_of_the_physics_file() -> None:
    """Two places, for nothing but the simulator knows the simulator's; the numbers are the same."""
    sim = {name: part for name, part in load_constants({}).source.items() if name != "bench"}
    assert set(sim) == set(load_sources())
    for name, part in sim.items():
        ours = load_sources()[name]
        assert (ours.volts, ours.amps, ours.ohms) == (part.volts, part.amps, part.ohms)
        assert (ours.input_volts, ours.input_ohms or None) == (part.input_volts, part.input_ohms)
        assert ours.dropout_volts == part.dropout_volts


def test_a_source_is_played_as_it_stands_at_the_peak_and_never_above_the_maximum() -> None:
    weak, strong = load_sources()["ft232rl-pin"], load_sources()["ams1117-5v"]
    assert weak.played(3.6) == (3.25, 0.05)  # 50 mA through 1 ohm
    volts, amps = strong.played(3.6)
    assert amps == 0.8
    assert volts == pytest.approx(4.6 - 2 * PEAK_AMPS - 1.1 - 0.05 * PEAK_AMPS, abs=1e-3)
    assert strong.played(2.5)[0] == 2.5
    assert list(load_sources()) == ["ams1117-5v", "cp2102-pin", "ft232rl-pin", "ch340-v3"]


# -- cells ----------------------------------------------------------------------------------------------------------


def part_of(text: str, tmp_path: Path) -> tuple[Study, Part]:
    study = study_of(PART + text, tmp_path)
    return study, study.parts[0]


def test_an_axis_is_the_waves_own_before_it_is_the_supplys(tmp_path: Path) -> None:
    wave = "phases = ['erase']\nwave = { kind = 'dip', seconds = 0.05 }\nnth = 2\n"
    search = "search = { axis = 'volts', low = 1, high = 3, step = 0.1 }"
    study, part = part_of(wave + search, tmp_path)
    cell = cell_of(study, part, PLACE, None, "erase", {"volts": 2.5})
    assert (cell.volts, cell.amps, cell.phase, cell.nth, cell.x) == (3.3, 0.5, "erase", 2, {"volts": 2.5})
    assert cell.waveform is not None
    assert Waveform.of(cell.waveform).words == "dip to 2.50 V for 50 ms"
    assert part_name(cell) == "p"
    study, part = part_of(search, tmp_path)
    cell = cell_of(study, part, PLACE, None, None, {"volts": 2.5})
    assert (cell.volts, cell.waveform) == (2.5, None)
    study, part = part_of("series = { repeats = 1 }\nsources = ['ft232rl-pin']", tmp_path)
    source = next(each for each in played() if each.name == "ft232rl-pin")
    cell = cell_of(study, part, PLACE, source, None, {})
    assert (cell.volts, cell.amps, cell.source) == (3.25, 0.05, "ft232rl-pin")


def test_phases_have_axes_too_and_a_cell_survives_json(tmp_path: Path) -> None:
    axes = "{ volts = [1.0], delay_s = [0.2], nth = [3] }"
    wave = "phases = ['program']\nwave = { kind = 'dip', seconds = 0.1 }\n"
    study, part = part_of(wave + f"series = {{ repeats = 1, axes = {axes} }}", tmp_path)
    cell = cell_of(study, part, PLACE, None, "program", {"volts": 1.0, "delay_s": 0.2, "nth": 3.0})
    assert (cell.delay_s, cell.nth) == (0.2, 3)
    trial = Trial(1, cell, "A", "b", False, "unaffected", "")
    assert Trial.from_dict(json.loads(trial.to_json())) == trial


def test_no_cell_is_above_the_products_maximum(tmp_path: Path) -> None:
    study, part = part_of("volts = 5\nseries = { repeats = 1 }", tmp_path)
    with pytest.raises(UsageProblem, match=r"asks for 5 V, and ds-121 takes 3\.6 V at most"):
        cell_of(study, part, PLACE, None, None, {})


def test_a_staircase_goes_down_level_by_level_to_none() -> None:
    assert staircase_levels(0.05)[:2] == [0.95, 0.9]
    assert (len(staircase_levels(0.05)), staircase_levels(0.05)[-1]) == (20, 0.0)
    assert staircase_levels(0.3) == [0.7, 0.4, 0.1, 0.0]
    trials = made(record_of(load_study("reset-staircase")), lambda cell: "unaffected")
    levels = [trial.cell.x["volts"] for trial in trials if not trial.reference]
    assert levels == pytest.approx([3.3 * (1 - 0.05 * at) for at in range(1, 21)])
    first = trials[1].cell.waveform
    assert first is not None
    assert [(step["seconds"], step["volts"]) for step in first["steps"]] == [(5, 3.135), (10, 3.3)]


# -- plans ----------------------------------------------------------------------------------------------------------


def test_minimum_supply_finds_a_board_and_its_sentences_say_so() -> None:
    record = record_of(load_study())
    trials = made(record, is_weak)
    board = results(record, trials)[0]
    assert board.left == 0
    assert board.out is None
    found = {(each.part.name, each.source.name if each.source else ""): each for each in board.found}
    amps, volts = found["amps", ""].fit, found["volts", ""].fit
    assert amps is not None
    assert volts is not None
    assert amps.v50.low - 0.01 <= 0.245 <= amps.v50.high + 0.01
    assert volts.v50.low - 0.025 <= 2.5875 <= volts.v50.high + 0.025
    row = found["amps-in-a-row", ""].climbed
    assert row is not None
    assert row.level is not None
    assert 0.25 <= row.level <= 0.28
    assert row.most <= 0.1
    sources = {name: each.bad for (part, name), each in found.items() if part == "weak-sources"}
    assert sources == {"ams1117-5v": 0, "cp2102-pin": 3, "ft232rl-pin": 3, "ch340-v3": 3}
    told = "\n".join(sentences(record, [board]))
    assert f"conversions in a row are good at {row.level:.4g} A" in told
    assert "weak-sources, 3.3 V pin of a CP2102 adaptor: at 3.2 V, 0.1 A: 3 of 3 conversions bad" in told
    assert "missing" not in told
    assert len(trials) < 160


def test_references_come_first_between_and_last() -> None:
    study = load_study().only(reference_every=7)
    trials = made(record_of(study), is_weak)
    at = [number for number, trial in enumerate(trials) if trial.reference]
    assert at[0] == 0
    assert at[-1] == len(trials) - 1
    assert set(map(int.__sub__, at[1:-1], at)) == {8}
    reference = trials[0].cell
    assert (reference.volts, reference.amps, reference.waveform, reference.x) == (3.3, 0.5, None, {})


def test_phases_and_sources_of_a_series_take_turns() -> None:
    for name, n in (("endurance", 3), ("weak-adapter", 4)):
        trials = made(record_of(load_study(name)), lambda cell: "unaffected", most=4 * n + 1)
        at = [(each.cell.phase, each.cell.source) for each in trials if not each.reference][: 3 * n]
        assert at == at[:n] * 3
        assert len(set(at)) == n


@pytest.mark.parametrize("name", ["reset-staircase", "endurance"])
def test_how_many_trials_are_left_is_told_exactly_where_it_can_be(name: str) -> None:
    record = record_of(load_study(name))
    plan = Plan.of(record, "A")
    trials = made(record, lambda cell: "unaffected")
    assert plan.expected == plan.left == len(trials)
    for done, trial in enumerate(trials[:120], 1):
        plan.tell(trial)
        assert plan.expected == plan.left == len(trials) - done


def test_each_activity_begins_with_a_reference_of_its_own() -> None:
    trials = made(record_of(load_study("weak-adapter").only(reference_every=1000)), lambda cell: "unaffected")
    begun: Counter[str] = Counter()
    for trial in trials:
        assert trial.reference or begun[trial.cell.activity]
        begun[trial.cell.activity] += trial.reference
    assert set(begun) == {"link", "flash", "boot"}


def test_a_board_whose_reference_fails_is_out() -> None:
    record = record_of(load_study())
    plan = Plan.of(record, "A")
    asked = plan.next()
    assert asked is not None
    plan.tell(trial_of(1, asked, "late"))
    assert plan.out is None
    plan = Plan.of(record, "A")
    plan.tell(trial_of(1, asked, "recovered"))
    assert plan.next() is None
    assert plan.out is not None
    assert "reference trial, with nothing done to the supply, is recovered" in plan.out


def test_a_dead_board_is_out() -> None:
    record = record_of(load_study())
    trials = made(record, lambda cell: "dead")
    assert [trial.outcome for trial in trials] == ["unaffected", "dead"]
    assert "it is dead" in str(results(record, trials)[0].out)


def test_what_the_bench_spoiled_is_asked_again_and_never_counts() -> None:
    record = record_of(load_study())
    plan = Plan.of(record, "A", made(record, is_weak, most=5))
    asked = plan.next()
    assert asked is not None
    plan.tell(trial_of(6, asked, "blocked"))
    assert plan.next() == asked
    assert plan.told == 5


def test_what_the_bench_spoiled_is_told_at_its_level() -> None:
    record = record_of(load_study())
    trials = made(record, is_weak)
    last = next(each for each in reversed(trials) if part_name(each.cell) == "amps-in-a-row" and not each.reference)
    before = results(record, trials)[0]
    at = trials.index(last)
    more = [*trials[:at], *[replace(last, outcome="blocked")] * 2, *trials[at:]]
    board = results(record, [replace(each, n=n) for n, each in enumerate(more, 1)])[0]
    assert [each.n for each in board.found] == [each.n for each in before.found]
    assert [len(each.spoiled) for each in board.found if each.spoiled] == [2]
    said = "(besides, spoiled by the bench and made again: 2 at {:.4g} A)".format(last.cell.x["amps"])
    assert [each for each in sentences(record, [board]) if said in each] == [
        f"{each} {said}" for each in sentences(record, [before]) if each.startswith("amps-in-a-row")
    ]
    (row,) = [each.as_dict(0.95) for each in board.found if each.spoiled]
    assert row["spoiled"] == [last.cell.x] * 2


def test_a_wave_that_never_fires_is_no_good_trial_and_is_given_up() -> None:
    record = record_of(load_study("flash-brownout"))
    plan = Plan.of(record, "A")
    trials: list[Trial] = []
    while (asked := plan.next()) is not None and asked.cell.phase != "program":
        trials.append(trial_of(len(trials) + 1, asked, "unaffected", missed=None if asked.reference else "no erase"))
        plan.tell(trials[-1])
    assert len(trials) == 4  # a reference, and three misses
    assert _outcomes([*trials, replace(trials[0], outcome="blocked", reference=False)]) == {"blocked": 1}
    found = results(record, trials)[0].found[0]
    assert (found.n, found.bad, found.fit) == (0, 0, None)
    assert found.why == "its wave did not fire 3 times in a row: no erase"


def test_with_a_search_that_is_given_up_goes_its_row(tmp_path: Path) -> None:
    dips = PART + "phases = ['boot']\nwave = { kind = 'dip', seconds = 0.1 }\n"
    dips += "search = { axis = 'volts', low = 0.5, high = 3.2, step = 0.1 }\n"
    record = record_of(study_of(dips + OTHER + "confirm = { after = 'p' }\n", tmp_path))
    plan = Plan.of(record, "A")
    trials: list[Trial] = []
    while (asked := plan.next()) is not None:
        trials.append(trial_of(len(trials) + 1, asked, "unaffected", missed=None if asked.reference else "no boot"))
        plan.tell(trials[-1])
    (board,) = results(record, trials)
    assert board.left == 0, "and nobody is told to go on with it"
    assert [found.why for found in board.found] == ["its wave did not fire 3 times in a row: no boot"] * 2


def test_most_trials_are_of_each_board_and_what_is_missing_is_said() -> None:
    record = record_of(load_study().only(max_trials=12), "A", "B")
    trials = made(record, is_weak) + [replace(trial, n=trial.n + 12) for trial in made(record, is_weak, slot="B")]
    assert Counter(trial.slot for trial in trials) == {"A": 12, "B": 12}
    boards = results(record, trials)
    assert [board.left > 50 for board in boards] == [True, True]
    assert "Slot B: About" in "\n".join(sentences(record, boards))


@pytest.mark.parametrize("name", sorted(ready()))
def test_a_study_goes_on_as_if_it_had_not_been_killed(name: str) -> None:
    """Wherever it was: the rest is as it would have been, and no trial is made twice."""
    study = load_study(name).only(max_trials=150)
    record = record_of(study)
    draw = random.Random(name)

    def judge(cell: Cell) -> Outcome:
        drawn = random.Random(f"{cell.x}{cell.phase}").random()
        return "recovered" if cell.x.get("volts", 3) < 1.9 + 0.2 * drawn or cell.amps < 0.2 else "unaffected"

    whole = made(record, judge)
    for _ in range(4):
        kept = [Trial.from_dict(json.loads(trial.to_json())) for trial in whole[: draw.randrange(len(whole))]]
        plan = Plan.of(record, "A", kept)
        while (asked := plan.next()) is not None:
            outcome: Outcome = "unaffected" if asked.reference else judge(asked.cell)
            kept.append(trial_of(len(kept) + 1, asked, outcome))
            plan.tell(kept[-1])
        assert kept == whole


def test_trials_of_another_study_are_not_gone_on_with() -> None:
    trials = made(record_of(load_study()), is_weak, most=4)
    with pytest.raises(UsageProblem, match="trial 1 on record is none that this study makes"):
        Plan.of(record_of(load_study("endurance")), "A", trials)


def test_a_grid_has_each_cell_as_often_as_asked() -> None:
    record = record_of(load_study("boot-brownout"))
    cells = Counter(
        (trial.cell.x["volts"], trial.cell.x["seconds"])
        for trial in made(record, lambda cell: "unaffected")
        if part_name(trial.cell) == "shmoo" and not trial.reference
    )
    assert set(cells.values()) == {3}
    assert len(cells) == 6 * 5


def test_each_repeat_of_a_grid_is_a_whole_pass_in_an_order_of_its_own() -> None:
    axes = {"volts": Range(listed=[2.4, 2.6, 2.8, 3.0]), "seconds": Range(listed=[0.001, 0.01, 0.1])}
    order = [tuple(x.items()) for x in grid_order(GridTable(axes=axes, repeats=5), "a")]
    passes = [order[at : at + 12] for at in range(0, len(order), 12)]
    assert [set(each) for each in passes] == [set(order)] * 5
    assert len(set(order)) == 12
    assert len({tuple(each) for each in passes}) == 5
    assert order == [tuple(x.items()) for x in grid_order(GridTable(axes=axes, repeats=5), "a")]
    assert order != [tuple(x.items()) for x in grid_order(GridTable(axes=axes, repeats=5), "b")]


def test_endurance_says_how_rare_a_failure_may_still_be() -> None:
    record = record_of(load_study("endurance"))
    trials = made(record, lambda cell: "unaffected")
    found = results(record, trials)[0].found
    drawn = {tuple(trial.cell.x.items()) for one in found for trial in one.trials}
    assert len(drawn) > 500
    assert [one.n for one in found] == [1000, 1000, 1000]
    most = found[0].as_dict(0.95)["at_most"]
    assert most == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert f"at most {most:.1%} are" in sentences(record, results(record, trials))[0]


def test_nothing_is_confirmed_where_nothing_is_good() -> None:
    record = record_of(load_study())
    trials = made(record, lambda cell: "hung" if cell.source is None else "unaffected")
    board = results(record, trials)[0]
    row = next(each for each in board.found if each.part.name == "amps-in-a-row")
    assert row.climbed is not None
    assert row.climbed.level is None
    assert row.why == "no level is good often enough"


# -- on record ------------------------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = replace(record_of(load_study().only(seed=7), "A", "B"), image={"name": "x.bin", "sha256": "00"})
    record.write(tmp_path)
    assert read_record(tmp_path) == record
    assert is_power_run(tmp_path)
    assert not is_power_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no study.json in it"),
        ("{", "is not what rig power writes"),
        ('{"id": "x"}', "it is another command's"),
        ('{"kind": "power", "id": "x"}', "is not what rig power writes"),
    ],
)
def test_what_is_no_run_is_refused_in_a_sentence(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "study.json").write_text(text)
    with pytest.raises(UsageProblem, match=said):
        read_record(tmp_path)


def test_the_ledger_cuts_off_what_a_crash_tore_and_has_one_writer(tmp_path: Path) -> None:
    trials = made(record_of(load_study()), is_weak, most=3)
    ledger = Ledger(tmp_path)
    for trial in trials:
        ledger.append(trial)
    with pytest.raises(UsageProblem, match="under way in another process"):
        Ledger(tmp_path)
    ledger.close()
    with (tmp_path / "trials.jsonl").open("ab") as file:
        file.write(trials[0].to_json().encode()[:30])
    assert read_trials(tmp_path) == trials
    ledger = Ledger(tmp_path)
    ledger.append(replace(trials[0], n=4))
    ledger.close()
    assert [trial.n for trial in read_trials(tmp_path)] == [1, 2, 3, 4]


def test_a_trial_that_does_not_fit_on_the_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up takes a part of a line, and says no word."""
    first, second = made(record_of(load_study()), is_weak, most=2)
    ledger, write = Ledger(tmp_path), os.write
    ledger.append(first)
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:30]))
    with pytest.raises(BenchBlocked, match="cannot be recorded: No space left"):
        ledger.append(second)
    monkeypatch.undo()
    assert read_trials(tmp_path) == [first]
    ledger.append(second)
    ledger.close()
    assert read_trials(tmp_path) == [first, second]


def test_only_good_outcomes_are_not_bad_by_default() -> None:
    assert set(GOOD).isdisjoint(load_study().parts[0].bad)
    assert math.isclose(len(GOOD) + len(load_study().parts[0].bad), 10)
