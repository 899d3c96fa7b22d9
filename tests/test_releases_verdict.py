"""rig releases: the verdict finds what was planted and nothing in a release against itself. Trials here are drawn."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from rig.errors import UsageProblem
from rig.releases.design import schedule, stopping, transfer_s
from rig.releases.slowdown import bootstrap, where_from
from rig.releases.study import Release, Study
from rig.releases.trial import Outcome, Spec, Task, Trial, of
from rig.releases.verdict import Verdict, cells, to_confirm, verdict

READ, WRITE = Task("time-read", timed=True), Task("time-write", timed=True)
RIGHT = [
    Task("identify"), Task("read-part"), Task("write-small"), Task("write-small", "blank"), Task("lost-reply-write"),
    Task("verify-fails"), Task("uf2-unaligned"),
]  # fmt: skip
TASKS = [*RIGHT, READ, WRITE]
BASE, NEW = "tool 1", "tool 2"

Change = Callable[[Trial], Trial]


def study(*, releases: int = 2, pairs: int = 12, repeats: int = 2, sequential: bool = True, seed: int = 2) -> Study:
    """Seed 1 draws one of the false alarms that are within the stated rate."""
    named = [Release(spec=f"tool=={number}", name=f"tool {number}") for number in range(1, releases + 1)]
    return Study(releases=named, pairs=pairs, repeats=repeats, sequential=sequential, seed=seed)


def made(
    asked: Study, changes: dict[str, Change] | None = None, *, jitter: float = 0.02, outliers: float = 0.03,
    accidents: float = 0.0, tasks: Sequence[Task] = TASKS,
) -> list[Trial]:  # fmt: skip
    """A study's trials as a noisy bench gives them: a slow board, drift over the study, hiccups, and accidents that
    are nobody's fault. It ends early where the design says so."""
    rng = np.random.default_rng(asked.seed)
    plan = schedule(asked.titles, tasks, pairs=asked.pairs, repeats=asked.repeats, slots=["A", "B"], seed=asked.seed)
    enough = stopping(asked, tasks)
    board = {"A": 1.0, "B": 1.3}
    found: list[Trial] = []
    skipped: set[int] = set()
    for place, spec in enumerate(plan):
        if spec.timed and (place == 0 or plan[place - 1].block != spec.block) and enough(spec.task, found):
            skipped.add(spec.block)
        if spec.block in skipped:
            continue
        hiccup = 1.5 if rng.random() < outliers else 1.0
        pace = board[spec.slot] * (1 + 0.2 * place / len(plan)) * np.exp(rng.normal(0, jitter)) * hiccup
        seconds = 1.5 * float(pace)
        outcome: Outcome = "correct" if rng.random() >= accidents else "wrong"
        one = of(
            spec, board=spec.slot, outcome=outcome, why="" if outcome == "correct" else "an accident", link_s=0.6,
            host_s=0.6 * seconds - 0.7, wire_s=0.7, chip_s=0.4 * seconds, commands={"write-4k": 16, "erase": 16},
            bytes_out=70000,
        )  # fmt: skip
        change = (changes or {}).get(spec.release)
        found.append(change(one) if change is not None else one)
    return found


def goes(outcome: Outcome, task: Task, why: str = "flash is not as it has to be at 0x23000+0x1000") -> Change:
    return lambda trial: replace(trial, outcome=outcome, why=why) if trial.task == task else trial


def slower(by: float) -> Change:
    """More host time, `by` of the whole transfer."""

    def change(trial: Trial) -> Trial:
        return replace(trial, host_s=trial.host_s + by * transfer_s(trial)) if trial.timed else trial

    return change


def spec_of(found: Verdict) -> list[tuple[str, Task, tuple[str, ...]]]:
    return [(each.release, each.task, each.kinds) for each in found.regressions]


# -- nothing is found where nothing is ------------------------------------------------------------------------------


def test_20_studies_of_eight_times_the_same_release_raise_one_alarm_at_most() -> None:
    found = [verdict(made(asked), asked) for asked in (study(releases=8, pairs=10, seed=seed) for seed in range(20))]
    assert all(len(each.comparisons) == 7 * len(TASKS) for each in found)
    alarms = [each.regressions for each in found if each.regressions]
    assert len(alarms) <= 1  # 5 % of 20


@pytest.mark.parametrize(
    ("jitter", "outliers", "accidents"), [(0.01, 0.0, 0.0), (0.03, 0.05, 0.01)], ids=["quiet", "rough"]
)
def test_200_studies_of_a_release_with_itself_raise_ten_alarms_at_most(
    jitter: float, outliers: float, accidents: float
) -> None:
    alarms = 0
    for seed in range(100):
        asked = study(pairs=10, seed=1000 + seed)
        trials = made(asked, jitter=jitter, outliers=outliers, accidents=accidents)
        alarms += bool(verdict(trials, asked).regressions)
    assert alarms <= 5  # 5 % of 100, twice


@pytest.mark.soak
@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize("accidents", [0.0, 0.02, 0.2])
def test_1000_studies_of_a_release_with_itself_keep_the_rate(accidents: float, sequential: bool) -> None:
    alarms = 0
    for seed in range(1000):
        asked = study(releases=3, seed=seed, sequential=sequential, repeats=2 + seed % 3)
        alarms += bool(verdict(made(asked, accidents=accidents), asked).regressions)
    assert alarms <= 50  # 5 %


# -- what was planted is found --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "task", "said"),
    [
        ("wrong", Task("lost-reply-write"), "lost-reply-write: is wrong 2 of 2 times, tool 1 never: no answer"),
        ("wrong", Task("write-small"), "write-small: is wrong 2 of 2 times"),
        ("lies", Task("write-small", "blank"), "write-small (blank): lies 2 of 2 times, tool 1 never"),
        ("hangs", Task("identify"), "identify: hangs 2 of 2 times"),
        ("crashes", WRITE, "time-write: crashes 6 of 6 times"),
    ],
)
def test_what_goes_wrong_each_time_is_a_difference_in_fact(outcome: Outcome, task: Task, said: str) -> None:
    asked = study()
    found = verdict(made(asked, {NEW: goes(outcome, task, "no answer")}), asked)
    assert [(release, where) for release, where, _ in spec_of(found)] == [(NEW, task)]
    assert "in fact" in found.regressions[0].kinds
    assert f"{NEW}, {said}" in str(found.regressions[0])
    assert not found.ok("regression")
    assert "worse than tool 1 at" in found.lines[NEW]


def test_a_lie_is_worse_than_an_honest_failure_and_not_the_other_way() -> None:
    asked, task = study(), Task("verify-fails")
    both = {BASE: goes("wrong", task), NEW: goes("lies", task)}
    assert spec_of(verdict(made(asked, both), asked)) == [(NEW, task, ("in fact",))]
    turned = {BASE: goes("lies", task), NEW: goes("wrong", task)}
    assert not verdict(made(asked, turned), asked).regressions


def test_once_is_suspected_and_has_to_be_confirmed() -> None:
    asked, task = study(repeats=1), Task("write-small")
    trials = made(asked, {NEW: goes("lies", task)})
    found = verdict(trials, asked)
    assert not found.regressions
    assert found.ok("regression")
    assert not found.ok("lies")
    assert str(found.suspected[0]).startswith(
        f"{NEW}, write-small: lies 1 of 1 times, tool 1 never, which needs 2 to count: flash is not"
    )
    assert to_confirm(trials, asked) == [(NEW, task)]
    assert "perhaps worse, to be confirmed, at write-small" in found.lines[NEW]


def test_where_trials_go_astray_more_repetitions_have_to_agree() -> None:
    asked, task = study(repeats=2), Task("write-small")
    clean = made(asked, {NEW: goes("wrong", task)})
    shaky = [
        replace(each, outcome="wrong", why="an accident")
        if each.repeat == 1 and not each.timed and each.task != task and each.release == BASE else each
        for each in clean
    ]  # fmt: skip
    assert verdict(clean, asked).regressions
    found = verdict(shaky, asked)
    assert not found.regressions
    assert [(each.task, each.confirmed_by) for each in found.suspected] == [(task, 2)]
    assert found.suspected[0].confirmed_at > 2


def test_what_fails_now_and_then_is_found_by_its_share() -> None:
    asked, task = study(repeats=30), Task("read-part")

    def flaky(trial: Trial) -> Trial:
        return replace(trial, outcome="wrong", why="lost") if trial.task == task and trial.repeat % 2 else trial

    found = verdict(made(asked, {NEW: flaky}, tasks=[task]), asked)
    assert spec_of(found) == [(NEW, task, ("less reliable",))]
    assert "read-part: is right less often: in 15 of 30 pairs only tool 1 was right, in 0 only it (p = " in str(
        found.regressions[0]
    )
    assert found.regressions[0].success_p == pytest.approx(2**-15, abs=3e-4)


@pytest.mark.parametrize(("releases", "pairs", "jitter", "studies"), [(2, 12, 0.02, 20), (8, 16, 0.01, 5)])
def test_five_percent_slower_is_found_and_explained(releases: int, pairs: int, jitter: float, studies: int) -> None:
    """By the pairs of the default study, and by 12 where two releases are compared; 1 % of trials hiccup."""
    found = 0
    for seed in range(studies):
        asked = study(releases=releases, pairs=pairs, seed=seed)
        seen = verdict(made(asked, {NEW: slower(0.05)}, jitter=jitter, outliers=0.01, tasks=[READ]), asked)
        assert all(each.release == NEW for each in seen.regressions)
        for each in seen.regressions:
            found += 1
            assert each.kinds == ("slower",)
            assert each.ratio is not None
            assert 1.02 < each.ratio < 1.09
            assert "host gaps +0." in each.explanation
            assert "s in 32 commands" in each.explanation
    assert found >= 0.8 * studies


def test_less_than_two_percent_is_not_called_slower_however_sure() -> None:
    asked = study(pairs=40, sequential=False)
    found = verdict(made(asked, {NEW: slower(0.015)}, jitter=0.003, outliers=0, tasks=[READ]), asked)
    assert found.comparisons[0].time_q is not None
    assert found.comparisons[0].time_q < 0.001
    assert not found.regressions


def test_much_faster_is_said_and_no_alarm() -> None:
    asked = study()
    found = verdict(made(asked, {NEW: slower(-0.3)}), asked)
    assert not found.regressions
    assert all(one.faster for one in found.comparisons if one.timed_pairs)
    assert "time-read 30." in found.lines[NEW] or "time-read 2" in found.lines[NEW]
    assert "% faster (" in found.lines[NEW]
    blocks = {trial.block for trial in made(asked, {NEW: slower(-0.3)}) if trial.task == READ}
    assert len(blocks) < asked.pairs  # it ended early


def test_times_of_wrong_trials_are_not_compared() -> None:
    asked = study()
    found = verdict(made(asked, {NEW: lambda each: goes("wrong", READ)(slower(0.5)(each))}), asked)
    assert [one.ratio for one in found.comparisons if one.task == READ] == [None]


# -- cells, words, and the rest -------------------------------------------------------------------------------------


def trial(release: str, outcome: Outcome, *, block: int = 1, why: str = "because") -> Trial:
    spec = Spec(block, release, "read-part", "normal", 921600, block, block, "A")
    return of(spec, board="A", outcome=outcome, why=why)


def test_cells_count_what_counts() -> None:
    trials = [
        trial(BASE, "correct"), trial(BASE, "refuses", block=2), trial(BASE, "blocked", block=3),
        trial(NEW, "correct"), trial(NEW, "wrong", block=2), trial(NEW, "lies", block=3, why="it lied"),
        trial("old", "absent", why="no such command"), trial("gone", "not-installed", why="no such version"),
    ]  # fmt: skip
    found = {cell.release: cell for cell in cells(trials)}
    assert {name: (cell.state, cell.n, cell.good, cell.worst) for name, cell in found.items()} == {
        BASE: ("green", 2, 2, "correct"), NEW: ("red", 3, 1, "lies"), "old": ("grey", 0, 0, "absent"),
        "gone": ("grey", 0, 0, "not-installed"),
    }  # fmt: skip
    assert found[NEW].reason == "because"
    assert found["old"].reason == "no such command"
    assert (found[BASE].low, found[BASE].high) == (pytest.approx(0.1581, abs=1e-4), 1.0)
    asked = Study(releases=[Release(spec="x", name=name) for name in (BASE, NEW, "old", "gone")])
    lines = verdict(trials, asked).lines
    assert lines[BASE] == "1 of 1 right; the baseline"
    assert lines[NEW] == "0 of 1 right, 1 lies, nothing worse than tool 1 by 2% or in fact"
    assert lines["old"] == "0 of 0 right, 1 it does not have, not compared"
    assert lines["gone"] == "not installed: no such version"


def test_where_the_time_goes_is_told_by_the_wire() -> None:
    base = replace(trial(BASE, "correct"), host_s=0.1, wire_s=0.7, chip_s=0.4, commands={"erase": 16, "write-4k": 16},
                   bytes_out=65536, link_s=0.5)  # fmt: skip
    new = replace(base, release=NEW, host_s=0.15, lost_s=0.5, retries=2, commands={"erase": 18, "write-4k": 16},
                  bytes_out=69632, link_s=2.0)  # fmt: skip
    assert where_from([(base, new)]) == (
        "+0.550 s a transfer: waiting for lost replies +0.500 s, 2 more retries, 2 more erase, 4.0 KiB more on the "
        "wire; until the link, not counted: +1.50 s"
    )


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        low, high = bootstrap([float(each) for each in rng.normal(0.05, 0.03, 12)])
        held += low <= np.exp(0.05) <= high
    assert 0.90 <= held / 200 <= 0.99


def test_the_verdict_goes_into_json_and_knows_what_it_can_fail_on() -> None:
    asked = study()
    found = verdict(made(asked, {NEW: goes("wrong", Task("identify"))}), asked)
    row = json.loads(json.dumps(found.as_dict()))
    assert row["regressions"][0]["operation"] == "identify"
    assert row["comparisons"][0]["release"] == NEW
    assert row["alpha"] == pytest.approx(0.05)
    assert "5% of studies at most" in row["rate"]
    assert (found.ok(None), found.ok("regression"), found.ok("wrong"), found.ok("lies")) == (True, False, False, True)
    with pytest.raises(UsageProblem, match="not on 'speed'"):
        found.ok("speed")


def test_nothing_on_record_is_no_verdict_no_pass_and_no_crash() -> None:
    alone = study(releases=1)
    assert not verdict(made(alone), alone).ok("regression")  # nothing was compared
    found = verdict([], study())
    assert (found.cells, found.comparisons, found.regressions) == ([], [], [])
    assert [found.ok(word) for word in (None, "regression", "wrong", "lies")] == [True, False, False, False]


@pytest.mark.parametrize("gone", [BASE, NEW])
def test_a_release_that_was_never_installed_is_no_pass(gone: str) -> None:
    """A pull request that does not build must not look like one without a regression."""
    asked = study()
    trials = made(asked, {gone: lambda trial: replace(trial, outcome="not-installed", why="no such folder")})
    found = verdict(trials, asked)
    assert not found.regressions
    assert found.unjudged("lies") == [gone]
    assert [found.ok(word) for word in (None, "regression", "wrong", "lies")] == [True, False, False, False]
    assert found.as_dict()["unjudged"] == [gone]
