"""Reports of supply studies: out of studies whose boards are a formula, as HTML, Markdown and JSON."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from power_runs import Board, keep, made, place, record, trial_of
from scipy.stats import binom, binomtest

from reports.power import sentence, write
from reports.power.achieved import measured
from reports.power.compare import difference
from reports.power.evidence import examples, log_lines
from reports.power.gathered import gather
from reports.power.names import amount
from reports.power.pictures import Bands
from reports.power.stopped import stopped
from reports.power.thresholds import of_series, thresholds
from reports.releases.markdown import MOST
from rig.cli import app
from rig.errors import UsageProblem
from rig.power.outcome import Outcome
from rig.power.plan import Plan
from rig.power.record import read_record
from rig.power.study import Study, load_study
from rig.power.trial import AFTERWARDS, Cell, Trial, read_trials

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = "<script>alert(1)</script> ![x](http://evil.example/p.png) @octocat | a | ``` \x1b[31mred\x07 \u202egnp"
TWO = {"A": Board(), "B": Board("uid-bb02", amps=0.375)}


@cache
def pages(*runs: Path, out: Path | None = None) -> tuple[str, str, dict[str, Any]]:
    """Made once for a run: page, Markdown, JSON."""
    page = write(list(runs), out)
    folder = page.parent
    told: dict[str, Any] = json.loads((folder / "power.json").read_text(encoding="utf-8"))
    return page.read_text(encoding="utf-8"), (folder / "power.md").read_text(encoding="utf-8"), told


@pytest.fixture(scope="module")
def minimum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The least supply of two boards, one of which needs more."""
    return made(tmp_path_factory.mktemp("minimum") / "run", "minimum-supply", TWO)


@pytest.fixture(scope="module")
def boots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dips while the firmware starts, with a witness on the rail; the radio's start stands least."""
    board = Board(dips={"boot": 2.0, "rf-calibration": 2.5, "access-point": 2.2})
    return made(tmp_path_factory.mktemp("boots") / "run", "boot-brownout", {"A": board}, witness=True)


# -- how much is enough ---------------------------------------------------------------------------------------------


def test_the_recommendation_is_what_the_trials_say(minimum: Path) -> None:
    """Counted here again, from the lines of the file."""
    page, markdown, told = pages(minimum)
    rows = [json.loads(line) for line in (minimum / "trials.jsonl").read_text().splitlines()]
    mine = [row for row in rows if not row["reference"] and row["board"] == "uid-bb02"]
    row_of = [each for each in mine if each["cell"]["study"].endswith("/amps-in-a-row")]
    level = row_of[-1]["cell"]["x"]["amps"]
    good = 0
    for each in reversed(row_of):
        if each["cell"]["x"]["amps"] != level or each["outcome"] != "unaffected":
            break
        good += 1
    assert told["sentence"].startswith(f"3.3 V, at least {level:g} A limit ({good} of {good} conversions in a row, ")
    assert "the worst of 2 boards" in told["sentence"]
    found = re.search(r"; (\d+) mA fails conversion in (\d+) of (\d+) \(boot loop", told["sentence"])
    assert found is not None
    less, bad, n = int(found[1]) / 1000, int(found[2]), int(found[3])
    there = [
        row["outcome"] for row in rows
        if not row["reference"] and row["cell"]["x"].get("amps") == less and row["cell"]["source"] is None
    ]  # fmt: skip
    assert (bad, n) == (there.count("boot-loop"), len(there))
    assert less < level
    logs = [minimum / row["log"] for row in rows if row["log"] and row["cell"]["x"].get("amps") == less]
    kept = sum(each.is_file() for each in logs)  # each of them ends in the radio's calibration
    assert ("at RF calibration in" in told["sentence"]) == (kept > 0)
    assert told["sentence"] in page
    assert markdown.startswith("### 3.3 V, at least ")
    assert sentence(minimum) == told["sentence"]


def test_the_row_has_the_bound_that_its_study_worked_for(minimum: Path) -> None:
    _, _, told = pages(minimum)
    rows = [row for row in told["in_a_row"] if row["axis"] == "amps"]
    assert {row["board"] for row in rows} == {"uid-aa01", "uid-bb02"}
    for row in rows:
        assert row["confirmed"]
        assert row["good"] == row["needed"]
        tries = len(row["refused"]) + 1
        error = 0.05 / (tries * (tries + 1))  # each further level has less of it
        assert row["at_most"] == pytest.approx(1 - error ** (1 / row["good"]))
        assert row["at_most"] <= 0.1


def test_a_row_that_was_cut_short_recommends_by_the_fit_alone(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "minimum-supply", most=30)  # the search is over, the row is not
    _, _, told = pages(run)
    assert told["sentence"].startswith("3.3 V, at least ")
    assert "(by the fit, not tried often)" in told["sentence"]
    (enough,) = told["enough"]
    (threshold,) = [each for each in told["thresholds"] if each["axis"] == "amps"]
    assert enough["how"] == "fitted"
    assert enough["amps"] == pytest.approx(threshold["fit"]["v01"]["high"], abs=0.011)
    assert any("is not finished: about" in each for each in told["remarks"])


def test_what_a_row_has_refused_is_not_recommended_by_the_fit(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "minimum-supply", most=30)
    fitted = pages(run)[2]["enough"][0]["amps"]
    studied, trials = read_record(run), read_trials(run)
    plan = Plan.of(studied, "A", trials)
    for up_to, found in ((fitted, [fitted + 0.01]), (9.0, [])):  # a few levels refused, then all there are
        while (asked := plan.next()) is not None and asked.cell.study.endswith(("/amps", "/amps-in-a-row")):
            level = asked.cell.x.get("amps", 0.0)
            if level > up_to:
                break
            outcome: Outcome = "unaffected" if asked.reference else "hung"
            more = replace(trials[0], n=len(trials) + 1, cell=asked.cell, reference=asked.reference, outcome=outcome)
            trials.append(more)
            plan.tell(more)
        other = tmp_path / str(len(trials))
        other.mkdir()
        studied.write(other)
        keep(other, trials)
        enough = pages(other)[2]["enough"]
        assert [each["amps"] for each in enough if each["axis"] == "amps"] == pytest.approx(found)


def test_nothing_is_recommended_where_nothing_is_enough(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "minimum-supply", {"A": Board(amps=2.0)})
    page, _, told = pages(run)
    assert told["recommendation"] == ""
    assert told["product"] == ""
    assert next(each["fit"]["outside"] for each in told["thresholds"]) == "above"
    assert not re.search(r"\d conversions in a row", page)


def test_weak_sources_have_their_verdicts(minimum: Path) -> None:
    page, _, told = pages(minimum)
    by_source = {row["source"]: row for row in told["rates"]}
    assert by_source["cp2102-pin"]["bad"] == by_source["cp2102-pin"]["n"] == 6
    assert by_source["ams1117-5v"]["bad"] == 0
    assert by_source["ams1117-5v"]["high"] == pytest.approx(1 - 0.05 ** (1 / 6))
    assert "not enough for conversion: fails each time" in page
    assert "nothing failed; at most 39 % do" in page
    assert "3.3 V, 100 mA" in page
    assert "Played by the bench supply's volts and current limit" in page


def test_a_product_can_cite_it_as_it_is(minimum: Path) -> None:
    import tomllib

    from rig.bench.product import CitedStudy

    _, _, told = pages(minimum)
    study = CitedStudy.model_validate(tomllib.loads(told["product"])["supply"]["study"])
    assert (study.run, study.simulated) == ("20261123-090000-ab12", True)
    assert told["sentence"].startswith(study.sentence[:100])
    assert study.amps_min == max(each["amps"] for each in told["enough"] if each["axis"] == "amps")


# -- thresholds -----------------------------------------------------------------------------------------------------


def test_thresholds_are_told_by_phase_and_the_weakest_comes_first(boots: Path) -> None:
    page, markdown, told = pages(boots)
    found = {each["phase"]: each for each in told["thresholds"] if each["axis"] == "volts"}
    truth = {"boot": 2.0, "rf-calibration": 2.5, "access-point": 2.2}
    for phase, true in truth.items():
        v50 = found[phase]["fit"]["v50"]
        assert v50["value"] == pytest.approx(true, abs=0.1)
        assert v50["low"] < v50["value"] < v50["high"] < found[phase]["fit"]["v01"]["high"]
    assert told["sentence"].startswith("RF calibration: half are not as ever at 2.")
    assert re.search(r"\| depth: RF calibration \| uid-aa01 \| volts \| 2\.\d+ V \(2\.\d+ to 2\.\d+ V\)", markdown)
    assert page.count('class="interval"') == len(told["thresholds"])
    clean = found["boot"]["none_bad_from"]
    levels = [each for each in found["boot"]["levels"] if each["value"] >= clean["value"]]
    assert (sum(each["n"] for each in levels), sum(each["bad"] for each in levels)) == (clean["n"], 0)
    assert clean["bound"] == pytest.approx(1 - 0.05 ** (1 / clean["n"]))


def test_a_threshold_off_the_levels_is_said_to_be(tmp_path: Path) -> None:
    _, markdown, told = pages(made(tmp_path / "run", "boot-brownout", {"A": Board(dip=0.1)}))
    boot = next(each for each in told["thresholds"] if each["phase"] == "boot")
    assert boot["fit"]["outside"] == "below"
    assert "| depth: boot | uid-aa01 | volts | below 0.5 V |" in markdown


def test_spoiled_missed_and_reference_trials_are_in_no_threshold(boots: Path, tmp_path: Path) -> None:
    trials = read_trials(boots)
    first = next(each for each in trials if each.cell.phase == "boot" and not each.reference)
    at = replace(first.cell, x={"volts": 3.2})
    missed = replace(first, cell=at, outcome="hung", commanded={**(first.commanded or {}), "missed": "no boot seen"})
    more = [
        replace(first, cell=at, n=9001, outcome="blocked"), replace(missed, n=9002),
        replace(first, cell=at, n=9003, outcome="hung", reference=True),
    ]  # fmt: skip
    run = tmp_path / "run"
    run.mkdir()
    read_record(boots).write(run)
    before = next(iter(thresholds(gather([boots]))))
    keep(run, trials)
    (run / "trials.jsonl").open("a").write("".join(f"{each.to_json()}\n" for each in more))
    after = next(iter(thresholds(gather([run]))))
    assert (after.levels, after.fit.v50) == (before.levels, before.fit.v50)
    remarks = pages(run)[2]["remarks"]
    assert any("spoiled 1 trial" in each for each in remarks)
    assert any("In 1 trial the phase that a wave waits for never came" in each for each in remarks)
    bare = replace(missed, n=9004, achieved=None, outcome="detected", log=None)
    keep(run, [*trials, bare])
    assert measured(gather([run])) == measured(gather([boots])), "nothing was played, so nothing was left unseen"
    assert [each.kind for each in examples(gather([run]))] == [each.kind for each in examples(gather([boots]))]


def test_what_the_bench_spoiled_stands_beside_its_level(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "minimum-supply")
    trials = read_trials(run)
    mine = [each for each in trials if each.cell.study.endswith("/amps-in-a-row") and not each.reference]
    last = mine[-1].cell.x["amps"]
    spoiled = replace(mine[-1], outcome="blocked", why="the supply refused")
    row = sum(each.cell.x["amps"] == last for each in mine)
    link = replace(trials[0], outcome="blocked", why="the port was lost")
    at = trials.index(mine[-1])
    keep(run, [replace(each, n=n) for n, each in enumerate([link, *trials[:at], spoiled, spoiled, *trials[at:]], 1)])
    page, markdown, told = pages(run)
    level = amount("amps", last)
    assert f"{row} of {row} conversions in a row, 2 more spoiled by the bench" in told["sentence"]
    assert [each["spoiled"] for each in told["in_a_row"] if each["axis"] == "amps"] == [2]
    assert [(each["part"], each["level"], each["n"], each["counted"], each["bad"]) for each in told["spoiled"]] == [
        ("reference", "", 1, 2, 0), ("amps-in-a-row", level, 2, row, 0),
    ]  # fmt: skip
    (remark,) = [each for each in told["remarks"] if "spoiled 3 trials" in each]
    assert f"amps-in-a-row, conversion at {level}: 2 beside {row} that count" in remark
    assert f"| amps-in-a-row | conversion | {level} | uid-aa01 | 2 | 0 of {row} | the supply refused |" in markdown
    assert page.count("the supply refused") == 1
    assert '<h2 id="spoiled">' in page
    assert '<h2 id="spoiled">' not in pages(made(tmp_path / "none", "minimum-supply"))[0]


# -- shmoo ----------------------------------------------------------------------------------------------------------


def test_the_shmoo_has_a_count_in_each_cell_and_a_boundary(boots: Path) -> None:
    page, _, told = pages(boots)
    (grid,) = told["shmoos"]
    trials = [each for each in read_trials(boots) if each.cell.study.endswith("/shmoo") and not each.reference]
    assert (grid["up"], grid["across"]) == ("volts", "seconds")
    assert sum(cell["n"] for cell in grid["cells"]) == len(trials)
    for cell in grid["cells"]:
        here = [each for each in trials if (each.cell.x["seconds"], each.cell.x["volts"]) == (cell["x"], cell["y"])]
        assert (cell["n"], cell["bad"]) == (len(here), sum(not each.good for each in here))
    svg = page[page.index("Shmoo of volts over duration") :]
    counts = re.findall(r">(\d+)/(\d+)</text>", svg[: svg.index("</svg>")])
    assert len(counts) == len(grid["cells"])
    assert sum(int(bad) for bad, _ in counts) == sum(cell["bad"] for cell in grid["cells"])
    assert 'class="s edge"' in svg
    edge = [each["fit"]["v50"]["value"] for each in grid["boundary"]]
    assert edge == sorted(edge)  # a longer dip must be shallower to be stood


def test_bands_of_durations_are_by_factors() -> None:
    bands = Bands([0.01, 0.1, 1.0], 0.0, 300.0, log=True)
    assert [bands.band(value) for value in bands.values] == [
        pytest.approx((0, 100)), pytest.approx((100, 200)), pytest.approx((200, 300))
    ]  # fmt: skip
    assert bands.at(0.1) == pytest.approx(150)
    assert Bands([2.0], 100.0, 0.0, log=False).band(2.0) == pytest.approx((0, 100))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("volts", 2.35, "2.35 V"), ("amps", 0.3, "0.3 A"), ("amps", 0.05, "50 mA"), ("seconds", 0.02, "20 ms"),
     ("seconds", 1.5, "1.5 s"), ("nth", 3, "3")],
)  # fmt: skip
def test_amounts_are_told_as_people_do(name: str, value: float, said: str) -> None:
    assert amount(name, value) == said


# -- outcomes, and what they look like ------------------------------------------------------------------------------


def test_outcomes_are_counted_by_part_and_phase(boots: Path) -> None:
    page, _, told = pages(boots)
    trials = [each for each in read_trials(boots) if not each.reference]
    assert sum(row["n"] for row in told["outcomes"] if row["part"] != "reference") == len(trials)
    row = next(each for each in told["outcomes"] if each["place"] == "access point")
    mine = [each.outcome for each in trials if each.cell.phase == "access-point"]
    assert row["counts"] == {kind: mine.count(kind) for kind in dict.fromkeys(mine)}
    (references,) = [each for each in told["outcomes"] if each["part"] == "reference"]
    assert references["n"] > 0
    assert 'href="#example-hung"' in page


def test_each_class_is_shown_by_its_log_and_its_wire_without_passwords(boots: Path) -> None:
    page, markdown, told = pages(boots)
    for kind in {each.outcome for each in read_trials(boots)}:
        assert f'id="example-{kind}"' in page
    hung = page[page.index('id="example-hung"') :]
    hung = hung[: hung.index("</details>")]
    assert "it was hung" in hung
    assert "erase 0x1c0000 to 0x1c4000, 5 in a row, all answered" in hung
    assert "no answer for" in hung
    assert re.search(r"… \d+ lines …", hung)
    for text in (page, markdown, json.dumps(told)):
        assert "correct-horse-battery" not in text
    assert "psk=" in hung


def test_only_logs_of_the_run_are_read(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("not for you")
    run = tmp_path / "run"
    run.mkdir()
    assert log_lines(run, "../secret.txt") == []
    assert log_lines(run, "gone.txt") == []
    (run / "log.txt").write_bytes(b"\x1b[31mred\x1b[0m\r\nsecond \xff\n")
    assert log_lines(run, "log.txt") == ["red", "second \N{REPLACEMENT CHARACTER}"]


def test_a_log_says_how_far_a_boot_came(minimum: Path, tmp_path: Path) -> None:
    run, trial = gather([minimum]).runs[0], next(each for each in read_trials(minimum) if not each.good)
    told = []
    mended = f"V:BK7231N\n[FUNC]calibration_main\n[     4.000] {AFTERWARDS}\nBoot complete time reached\n"
    for lines in ("", "V:BK7231N_1.0.5", "V:BK7231N\n[FUNC]calibration_main", "noise", mended):
        (tmp_path / "log.txt").write_text(lines)
        told.append(stopped(replace(run, folder=tmp_path), replace(trial, log="log.txt")))
    assert told == [None, "boot", "rf-calibration", None, "rf-calibration"]
    assert log_lines(tmp_path, "log.txt") == [*mended.split("\n")[:2], "… afterwards, at its own supply: 1 more …"]
    assert stopped(replace(run, folder=tmp_path), replace(trial, log="../log.txt")) is None


def test_all_classes_have_a_name_and_a_meaning(tmp_path: Path) -> None:
    from rig.power.outcome import COUNTED

    living = [kind for kind in COUNTED if kind != "dead"]
    kinds = iter([*living * 3, "dead"])  # a dead board is asked no more
    run = made(tmp_path / "run", series(30), says=lambda cell, rng: next(kinds))
    page, markdown, told = pages(run)
    for kind in COUNTED:
        assert f'id="example-{kind}"' in page
        assert told["rates"][0]["outcomes"][kind] == (1 if kind == "dead" else 3)
    assert "silent corruption" in markdown
    assert told["sentence"].startswith("22 of 28 trials were not as ever: 3 detected error")
    assert any("is out of the study: it is dead" in each for each in told["remarks"])


def series(repeats: int) -> Study:
    return Study.model_validate(
        {"name": "s", "title": "S", "words": "s", "reference_every": 100_000,
         "parts": [{"name": "p", "words": "w", "activity": "boot", "series": {"repeats": repeats}}]}
    )  # fmt: skip


def test_where_nothing_happened_the_report_says_how_rare_it_may_be(tmp_path: Path) -> None:
    run = made(tmp_path / "run", series(100), says=lambda cell, rng: "unaffected")
    assert pages(run)[2]["sentence"] == "Nothing happened in 100 trials: it does in 3 % of such at most."


def test_a_staircase_names_its_first_bad_level(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "reset-staircase", {"A": Board(dip=1.4, scale=0.01)})
    page, _, told = pages(run)
    (stairs,) = told["staircases"]
    bad = [each["volts"] for each in stairs["levels"] if each["outcomes"] != ["unaffected"]]
    assert stairs["first_bad"] == max(bad)
    assert told["sentence"].startswith(f"The first level that is not as ever is {max(bad):.4g} V (")
    assert f"down to {stairs['last_good']:.4g} V nothing happens" in page


# -- commanded and achieved -----------------------------------------------------------------------------------------


def test_without_a_witness_nothing_is_called_achieved(tmp_path: Path) -> None:
    page, _, told = pages(made(tmp_path / "run", "boot-brownout", most=12))
    assert told["achieved"]
    assert all(row["depth"] is row["width"] is row["delay"] is None for row in told["achieved"])
    assert page.count(">not measured</td>") == 3 * len(told["achieved"])
    assert any(each.startswith("No witness was on the rail") for each in told["remarks"])


def test_a_simulation_faster_than_its_study_asks_for_is_doubted(tmp_path: Path) -> None:
    """Its firmware may lag behind its rail."""
    bench = {"spec": "sim:1@50", "name": "simulated", "simulated": True}
    for name, speed in (("fast", 50.0), ("right", 15.0)):
        run = made(tmp_path / name, "minimum-supply", most=12, bench=bench | {"speed": speed})
        told = [each for each in pages(run)[2]["remarks"] if "falls behind its rail" in each]
        asked = ["The bench is at 50 times real speed, the study asks for 15: "] if name == "fast" else []
        assert [each.partition("where")[0] for each in told] == asked


def test_with_a_witness_both_are_told_apart(boots: Path) -> None:
    page, _, told = pages(boots)
    row = next(each for each in told["achieved"] if each["commanded"].startswith("dip, 100 ms, "))
    assert re.fullmatch(r"dip, 100 ms, \d+ depths from [\d.]+ V to [\d.]+ V", row["commanded"])
    assert 0.02 <= row["depth"]["least"] <= row["depth"]["middle"] <= row["depth"]["most"] <= 0.03
    assert row["width"]["middle"] == pytest.approx(0.102, abs=0.004)
    assert row["limits"] == "width -1 to +2 ms, depth ±10 mV"
    starve = next(each for each in told["achieved"] if each["commanded"].startswith("starve"))
    assert starve["depth"] is None
    assert "A witness saw" in " ".join(told["remarks"])
    assert "DSOX1102G" in page


# -- beside each other ----------------------------------------------------------------------------------------------


def test_boards_that_differ_are_told_apart_and_equals_are_not(minimum: Path) -> None:
    _, _, told = pages(minimum)
    by_title = {each["title"]: each["differences"] for each in told["comparisons"]}
    (amps,), (volts,) = by_title["amps: conversion"], by_title["volts: conversion"]
    assert amps["told_apart"]
    assert amps["value"] == pytest.approx(0.07, abs=0.025)
    assert not volts["told_apart"]


def test_several_runs_compare_firmware_and_supplies(minimum: Path, tmp_path: Path) -> None:
    newer = {"name": "new.bin", "sha256": "cd" * 32, "firmware": "OpenBeken", "version": "1.19"}
    other = made(tmp_path / "new", "minimum-supply", {"A": Board(amps=0.42)}, id="20261124-1", image=newer)
    page, _, told = pages(minimum, other, out=tmp_path / "both")
    assert (tmp_path / "both" / "index.html").is_file()
    first = told["comparisons"][0]
    assert first["by"] == "firmware"
    assert [each["name"] for each in first["members"]] == [
        "OpenBeken 1.18.300 · uid-aa01", "OpenBeken 1.18.300 · uid-bb02", "OpenBeken 1.19 · uid-aa01"
    ]  # fmt: skip
    assert first["mixed"] == ["boards"]
    assert "These differ in boards as well, which may be the reason." in page
    assert told["sentence"].startswith("3.3 V, at least 0.4")  # the worst of all
    with pytest.raises(UsageProblem, match="is named twice"):
        write([minimum, minimum])


def test_equal_boards_are_called_different_as_seldom_as_claimed() -> None:
    """60 pairs of equal boards at 95 %: by the binomial distribution."""
    rng = random.Random(5)
    study = load_study("minimum-supply")
    told = gather_of(study)
    levels = [0.28, 0.29, 0.30, 0.31, 0.32, 0.33]

    def one(name: str) -> Any:
        board = Board(name, amps=0.305, scale=0.8)
        cells = [Cell(f"{study.name}/amps", "convert", volts=3.3, amps=each, x={"amps": each}) for each in levels * 5]
        trials = [trial_of(n, cell, "A", name, board(cell, rng), False, False, rng) for n, cell in enumerate(cells)]
        return next(iter(of_series(series_of(told, trials))))

    found = [difference(("a", one("a")), ("b", one("b")), confidence=0.95).told_apart for _ in range(60)]
    assert sum(found) <= binom.ppf(0.999, 60, 0.05)
    assert binomtest(sum(found), 60, 0.05, alternative="greater").pvalue > 0.001


def gather_of(study: Study) -> Any:
    from reports.power.gathered import Run

    return Run(Path(), record(study, [place()]), [])


def series_of(run: Any, trials: list[Trial]) -> Any:
    from reports.power.gathered import Key, Series

    part = run.record.study.part("amps")
    return Series(run, part, Key("amps", "convert", None, None), trials)


# -- what a reader must know ----------------------------------------------------------------------------------------


def test_a_simulated_study_says_so_and_a_real_one_does_not(minimum: Path, tmp_path: Path) -> None:
    assert "Simulated bench: no real board was measured." in pages(minimum)[0]
    real = made(tmp_path / "run", "reset-staircase", bench={"name": "bench-1", "simulated": False})
    page, _, told = pages(real)
    assert "Simulated bench" not in page
    assert not told["simulated"]


def test_a_board_that_is_out_is_named(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "minimum-supply", most=5)
    trials = read_trials(run)
    keep(run, [replace(trials[0], outcome="hung", why="it was silent")])
    assert any("Slot A is out of the study: its reference trial" in each for each in pages(run)[2]["remarks"])


def test_a_study_without_trials_is_a_page_all_the_same(tmp_path: Path) -> None:
    page, markdown, told = pages(made(tmp_path / "run", "boot-brownout", most=0))
    assert told["sentence"] == "No trial is on record: nothing is known."
    assert markdown.startswith("### No trial is on record")
    assert "No trial is on record." in page


def test_what_comes_from_a_board_is_text_and_nothing_else(boots: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    read_record(boots).write(run)
    trials = [replace(each, why=HOSTILE, board=HOSTILE) for each in read_trials(boots)]
    keep(run, trials)
    for each in run.glob("logs/*"):
        each.write_text(HOSTILE * 1000)
    page, markdown, _ = pages(run)
    assert "<script" not in page
    blocks = re.compile(r"(?ms)^(`{3,})text$.*?^\1$")  # in them nothing is markup
    assert blocks.search(markdown) is not None
    outside = blocks.sub("", markdown)
    for words in ("<script", "![x](", "http://", "@octocat", " | a | "):
        assert words not in outside
    assert len(markdown) <= MOST
    assert "\x1b" not in page + markdown


def test_the_markdown_of_a_thousand_boards_can_be_posted(tmp_path: Path) -> None:
    study = load_study("minimum-supply").only(max_trials=4)
    run = made(tmp_path / "run", study, {f"S{n}": Board(f"uid-{n:04}") for n in range(60)})
    assert len(pages(run)[1]) <= MOST


# -- the command ----------------------------------------------------------------------------------------------------


def report(*words: object) -> None:
    app(["report", *map(str, words)], standalone_mode=False)


def test_rig_report_finds_a_study(minimum: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(minimum)
    said = capsys.readouterr().out
    assert "conversions in a row" in said.replace("\n", " ")
    assert str(minimum / "report" / "index.html") in said.replace("\n", "")
    report(minimum, "--json", "--out", tmp_path / "o")
    told = json.loads(capsys.readouterr().out)
    assert told["thresholds"]
    assert (tmp_path / "o" / "power.md").is_file()


@pytest.mark.parametrize(
    ("more", "said"),
    [(["--export", "csv"], "are for runs of a line"), (["sqlite:///x.db"], "is a study and sqlite:///x.db is none")],
)
def test_rig_report_of_a_study_and_something_else_is_refused(minimum: Path, more: list[str], said: str) -> None:
    with pytest.raises(UsageProblem, match=said):
        report(minimum, *more)


def test_a_study_of_flashers_has_its_own_report(minimum: Path, tmp_path: Path) -> None:
    from test_releases_report import WRITE
    from test_releases_report import made as other_made
    from test_releases_report import record as other_record
    from test_releases_report import trial as other_trial

    told = other_record(["one", "two"], [WRITE])
    other = other_made(tmp_path / "releases", told, [other_trial(spec) for spec in told.schedule])
    report(other)
    assert (other / "report" / "verdict.md").is_file()
    with pytest.raises(UsageProblem, match="is a study of supplies and"):
        report(minimum, other)
    with pytest.raises(UsageProblem, match="is no run of rig power"):
        write(other)


# -- in a browser ---------------------------------------------------------------------------------------------------


def test_the_page_opens_offline(minimum: Path, boots: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            tab = browser.new_context(offline=True, viewport={"width": 1200, "height": 900}).new_page()
            said: list[str] = []
            asked: list[str] = []
            tab.on("console", lambda message: said.append(message.text))
            tab.on("pageerror", lambda problem: said.append(str(problem)))
            tab.on("request", lambda request: asked.append(request.url))
            for run in (minimum, boots):
                tab.goto(write(run).as_uri())
                wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert wide <= 0
            assert said == []
            assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
            tab.click('a[href="#example-hung"]')
            assert tab.locator("#example-hung").is_visible()
            assert tab.locator("svg.plot").count() == 5
        finally:
            browser.close()
