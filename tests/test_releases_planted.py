"""Regressions planted in copies of a release are found, and none is found in a copy that is the same; a study that
is killed in its middle leaves the supply off and goes on where it was."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rig.bench.bench import read_bench
from rig.errors import Exit
from rig.records.trials import TRIALS
from rig.releases.compare import Comparison
from rig.releases.study import load_study
from rig.releases.trial import Trial, read_trials
from rig.releases.verdict import Verdict, verdict
from tests.patched_tools import (
    BASE,
    LIE,
    LIE_AT_ONCE,
    LOST_RETRY,
    SKIPPED_ERASE,
    WRONG_LAST_SECTOR,
    Change,
    know,
    plant,
    slower,
    study_text,
)
from tests.sick_tools import fall_ill
from tests.sim_process import RIG, SimProcess, environment
from tests.waiting import wait_until

OFF_WITHIN_S = 2.0  # by the supply's own account
OVER_S = 300.0


Words = list[str | Path]


@dataclass
class Place:
    """A simulated bench that knows patched copies, and the studies made there."""

    folder: Path
    sim: SimProcess
    profiles: Path
    slots: Sequence[str]
    came: dict[str, bytes] = field(default_factory=dict)

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        log = (self.folder / "study.log").open("a")
        with log:
            return subprocess.Popen(
                [*RIG, "releases", *map(str, words)], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, text=True, env=environment(),
            )  # fmt: skip

    def study(
        self, name: str, releases: Sequence[str], operations: Sequence[str], **more: object
    ) -> list[str | Path]:
        """The words that ask for it."""
        file = self.folder / f"{name}.toml"
        file.write_text(study_text(releases, operations, **more))
        return ["--study", file, "--bench", self.sim.bench_file, "--out", self.folder / name]

    def done(self, name: str, releases: Sequence[str], operations: Sequence[str], **more: object) -> Verdict:
        """A study made to its end, judged; resumed where a machine that was too busy spoiled trials."""
        process = self.start(*self.study(name, releases, operations, **more))
        for _ in range(4):
            wait_until(lambda: process.poll() is not None, OVER_S * 4, "the end of the study")  # noqa: B023
            if process.returncode != Exit.BLOCKED:
                break
            process = self.start("--resume", self.run_of(name))
        assert process.returncode == Exit.GOOD, self.log()
        return self.judged(name)

    def judged(self, name: str) -> Verdict:
        return verdict(self.trials(name), load_study(self.folder / f"{name}.toml"))

    def run_of(self, name: str) -> Path:
        (found,) = (self.folder / name).glob("*/study.json")
        return found.parent

    def lines(self, name: str) -> list[str]:
        """Of its trials, whole ones."""
        found = list((self.folder / name).glob(f"*/{TRIALS}"))
        return found[0].read_text().split("\n")[:-1] if found else []

    def trials(self, name: str) -> list[Trial]:
        return read_trials(self.run_of(name))

    def log(self) -> str:
        return (self.folder / "study.log").read_text()

    def flash(self) -> dict[str, bytes]:
        return {slot: self.sim.dump(self.folder, slot) for slot in self.slots}

    def right(self, name: str) -> bool:
        told = [json.loads(path.read_text()) for path in (self.run_of(name) / "boards").glob("*.json")]
        return bool(told) and all(each["right"] for each in told)


def opened(folder: Path, releases: dict[str, Sequence[Change]], boards: int, speed: float) -> Iterator[Place]:
    profiles = plant(folder, releases)
    with SimProcess(folder, "--boards", str(boards), "--speed", f"{speed:g}") as sim:
        know(sim.bench_file, profiles)
        place = Place(folder, sim, profiles, list(read_bench(sim.bench_file).slots))
        place.came = place.flash()
        yield place


def outcomes(trials: Sequence[Trial]) -> dict[tuple[str, str], Counter[str]]:
    found: dict[tuple[str, str], Counter[str]] = {}
    for trial in trials:
        found.setdefault((trial.release, trial.operation), Counter())[trial.outcome] += 1
    return found


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
        except OSError:
            continue
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found |= set(below)
        waiting += below
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def tools_and_workers(pid: int) -> set[int]:
    """What a study started, but for the supply's service, which ends with its last lease."""
    return {each for each in descendants(pid) if "multiprocessing" in command(each) or "copies" in command(each)}


def kill(place: Place, process: subprocess.Popen[str]) -> None:
    """kill -9, and all that has to hold right after: supply off in time, nobody left."""
    left = tools_and_workers(process.pid)
    on = [slot for slot in place.slots if place.sim.status(slot)["on"]]
    os.kill(process.pid, signal.SIGKILL)
    killed = time.monotonic_ns()
    process.wait(60)
    for slot in place.slots:
        off = (place.sim.went_off(slot) - killed) / 1e9
        assert slot not in on or off < OFF_WITHIN_S, f"slot {slot} was on for {off:.2f} s"
    wait_until(lambda: not any(command(pid) for pid in left), 30, "the study's processes ending")


PLANTED: dict[str, Sequence[Change]] = {
    "same": [],
    "wrong-last-sector": [WRONG_LAST_SECTOR],
    "lost-retry": [LOST_RETRY],
    "lie": [LIE_AT_ONCE],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two boards; a study of planted releases was made there, killed after three trials and resumed."""
    yield from opened(tmp_path_factory.mktemp("planted"), PLANTED, boards=2, speed=50)


@pytest.fixture(scope="module")
def killed(place: Place) -> tuple[list[str], list[str]]:
    """The lines of the trials on record when it was killed, and at the end."""
    words = place.study("planted", [BASE, *PLANTED], ["verify"], repeats=2, timing=False)
    process = place.start(*words)
    try:
        wait_until(lambda: len(place.lines("planted")) >= 3 or process.poll() is not None, OVER_S, "three trials")
        assert process.poll() is None, place.log()
        kill(place, process)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    before = place.lines("planted")
    again = place.start("--resume", place.run_of("planted"), "--fail-on", "regression")
    wait_until(lambda: again.poll() is not None, OVER_S, "the end of the study")
    assert again.returncode == Exit.FAILED, place.log()
    return before, place.lines("planted")


def test_a_killed_study_goes_on_and_repeats_nothing(place: Place, killed: tuple[list[str], list[str]]) -> None:
    before, after = killed
    assert 3 <= len(before) < len(after), place.log()
    assert after[: len(before)] == before
    numbers = [json.loads(line)["n"] for line in after if json.loads(line)["outcome"] != "blocked"]
    assert len(set(numbers)) == len(numbers)
    assert set(range(1, 2 * (len(PLANTED) + 1) + 1)) <= set(numbers)  # and perhaps some to confirm
    assert place.flash() == place.came  # byte by byte
    assert place.right("planted")
    assert not any(place.sim.status(slot)["on"] for slot in place.slots)


def test_what_was_planted_is_found_and_nothing_else(place: Place, killed: tuple[list[str], list[str]]) -> None:
    found = outcomes(place.trials("planted"))
    assert {release: set(counts) for (release, _), counts in found.items()} == {
        BASE: {"correct"},
        "same": {"correct"},
        "wrong-last-sector": {"lies"},
        "lost-retry": {"wrong"},
        "lie": {"lies"},
    }
    assert min(sum(counts.values()) for counts in found.values()) == 2
    said = place.judged("planted")
    assert {one.release for one in said.regressions} == set(PLANTED) - {"same"}
    reasons = {one.release: one.reason or "" for one in said.regressions}
    assert "0x23000+0x1000" in reasons["wrong-last-sector"]
    assert "0x21000+0x1000" in reasons["lie"]


# -- soak -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Place]:
    releases: dict[str, Sequence[Change]] = {
        "same": [], "wrong-last-sector": [WRONG_LAST_SECTOR], "lost-retry": [LOST_RETRY], "lie": [LIE],
        "skipped-erase": [SKIPPED_ERASE],
    }  # fmt: skip
    yield from opened(tmp_path, releases, boards=2, speed=50)


@pytest.mark.soak
def test_each_planted_regression_is_found_where_it_shows(table: Place) -> None:
    """Cousin: test_what_was_planted_is_found_and_nothing_else."""
    names = ["same", "wrong-last-sector", "lost-retry", "lie", "skipped-erase"]
    operations = ["identify", "write-small", "write-blanks", "lost-reply-write", "verify-fails"]
    said = table.done("study", [BASE, *names], operations, repeats=3, timing=False)
    found: dict[str, set[str]] = {}
    for one in said.regressions:
        found.setdefault(one.release, set()).add(one.operation)
    assert found == {
        "wrong-last-sector": {"write-small", "write-blanks", "lost-reply-write"},
        "lost-retry": {"lost-reply-write"},
        "lie": {"verify-fails"},
        "skipped-erase": {"write-blanks"},
    }
    assert table.flash() == table.came


SECTOR_S = 0.097  # of a 64 KiB write at 921600 baud and real speed, measured on a quiet machine: 1.55 s in all


@pytest.fixture
def timed(tmp_path: Path) -> Iterator[Place]:
    """A bench at real speed with one copy that is 5 % slower."""
    yield from opened(tmp_path, {"same": [], "slower": [slower(0.05 * SECTOR_S)]}, boards=2, speed=1)


@pytest.mark.soak
def test_five_percent_slower_is_found_and_explained(timed: Place) -> None:
    said = timed.done("study", [BASE, "same", "slower"], ["time-write"], pairs=16)
    assert len(said.regressions) == 1, [(one.release, one.times, one.time_q) for one in said.comparisons]
    one: Comparison = said.regressions[0]
    assert (one.release, one.operation, one.kinds) == ("slower", "time-write", ("slower",))
    assert one.ratio is not None
    assert 1.02 < one.ratio < 1.09
    assert "host gaps +" in one.explanation


@pytest.mark.soak
def test_of_twenty_studies_of_a_release_against_itself_few_raise_an_alarm(tmp_path: Path) -> None:
    """5 % of them may: more than 4 of 20 would be seen with a chance of 0.3 % then. Times are taken at 20 times real
    speed, where the host's noise weighs more than on a board. Cousin: `same` in the suite's study."""
    operations = ["identify", "verify", "time-write"]
    alarms: list[str] = []
    for place in opened(tmp_path, {"same": []}, boards=2, speed=20):
        for turn in range(20):
            said = place.done(f"a{turn}", [BASE, "same"], operations, repeats=2, pairs=8, seed=turn)
            assert said.comparisons
            alarms += [f"{turn}: {one.sentence}" for one in said.regressions]
            times = [f"  {one.release}, {one.operation}: {one.times}\n" for one in said.comparisons if one.times]
            sys.stderr.write(f"study {turn}: {len(said.regressions)} alarms\n{''.join(times)}")  # seen with -s
    assert len({line.partition(":")[0] for line in alarms}) <= 4, alarms


@pytest.mark.soak
def test_a_study_is_killed_again_and_again(table: Place) -> None:
    """At moments a seed picks. Cousin: test_a_killed_study_goes_on_and_repeats_nothing."""
    moments = random.Random(8)
    words = table.study(
        "study", [BASE, "same"], ["identify", "write-small", "write-blanks", "lost-reply-write"], repeats=4,
        timing=False,
    )  # fmt: skip
    kills = 0
    known: list[str] = []
    for _ in range(10):
        process = table.start(*words)
        more = len(known) + moments.randint(1, 4)
        wait_until(lambda: process.poll() is not None or len(table.lines("study")) >= more, OVER_S, "trials")  # noqa: B023
        end = time.monotonic() + moments.uniform(0, 2)
        wait_until(lambda: process.poll() is not None or time.monotonic() > end, 5, "the moment")  # noqa: B023
        if process.poll() is None:
            kill(table, process)
            kills += 1
        lines = table.lines("study")
        assert lines[: len(known)] == known
        known = lines
        words = ["--resume", table.run_of("study")]
        if process.returncode == 0:
            break
    process = table.start(*words)
    wait_until(lambda: process.poll() is not None, OVER_S, "the end of the study")
    numbers = [trial.n for trial in table.trials("study") if trial.outcome != "blocked"]
    assert len(set(numbers)) == len(numbers)
    assert set(range(1, 4 * 4 * 2 + 1)) <= set(numbers)
    assert kills >= 5
    assert table.flash() == table.came
    assert table.right("study")


@pytest.mark.soak
def test_boards_of_a_study_killed_behind_its_last_trial_are_put_right(table: Place) -> None:
    """Nothing is left to be tried, and yet a board is not as it came."""
    table.done("study", [BASE], ["write-small"], timing=False)
    (told,) = (table.run_of("study") / "boards").glob("*.json")
    told.write_text(json.dumps(json.loads(told.read_text()) | {"right": False}))
    table.sim.poke(0x20000, bytes(0x1000), told.stem)
    assert table.flash() != table.came
    process = table.start("--resume", table.run_of("study"))
    wait_until(lambda: process.poll() is not None, OVER_S, "the end of the study")
    assert table.flash() == table.came
    assert table.right("study")


@pytest.mark.soak
def test_sick_tools_are_rows_of_a_study(table: Place) -> None:
    """Cousins: test_releases_runner.py, test_sick_tools.py."""
    sick = fall_ill(table.profiles, "hang", "busy", "traceback", "segfault", "flood", "endless-line", "says-done")
    said = table.done("study", [BASE, *sick, "bk7231tools==99.99"], ["write-small"], timing=False)
    assert {cell.release: cell.worst for cell in said.cells} == {
        BASE: "correct", "hang": "hangs", "busy": "hangs", "traceback": "crashes", "segfault": "crashes",
        "flood": "hangs", "endless-line": "lies", "says-done": "lies", "bk7231tools==99.99": "not-installed",
    }  # fmt: skip
    assert table.flash() == table.came
