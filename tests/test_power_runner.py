"""rig power: a study at a simulated board: on record, killed and gone on with, stopped, and the board as it came."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from rig.bench.bench import Bench, read_bench
from rig.errors import Aborted, UsageProblem
from rig.power.begin import find_image, look, new_record, require_same
from rig.power.record import Record, read_record
from rig.power.result import results
from rig.power.runner import Run
from rig.power.sources import load_sources
from rig.power.study import SeriesTable, Study, load_study
from rig.power.trial import Trial, read_trials
from rig.records.run import RunFolder
from rig.records.trials import TRIALS
from rig.sim.bench import SimBench
from rig.sim.firmware import demo_image
from rig.sim.hands import hand
from rig.sim.spec import SimOptions
from rig.supply import client

pytest.importorskip("unicorn", reason="boards execute firmware with the extra 'sim'")

BOOTS = 0x1EE000  # where the factory firmware counts its boots
SMALL = """
name = "small"
title = "Small"
words = "Small."
speed = 50
reference_every = 3
later = 1

[[parts]]
name = "link"
words = "Links at a limit."
activity = "link"
grid = { axes = { amps = [0.01, 0.4] }, repeats = 1 }
"""


@dataclass
class Heard:
    """Who watches. `act`: what to do after each trial."""

    said: list[str] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)
    act: Callable[[Trial], None] = lambda trial: None

    def planned(self, done: int, left: int) -> None:
        self.progress.append((done, left))

    def ended(self, trial: Trial) -> None:
        self.trials.append(trial)
        self.act(trial)

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


@dataclass
class Table:
    """A simulated bench, and what runs on it."""

    sim: SimBench
    bench: Bench
    runs: Path

    def flash(self) -> bytes:
        path = self.runs / "dump.bin"
        hand(self.sim.folder / "control", "A", "dump", path=str(path))
        flash = path.read_bytes()
        return flash[:BOOTS] + flash[BOOTS + 0x1000 :]

    def begun(self, study: Study, heard: Heard) -> Run:
        folder = RunFolder.create(self.runs)
        assert self.bench.image is not None
        new_record(study, self.bench, "x", self.bench.image, folder.id).write(folder.path)
        return self.again(folder.path, heard)

    def again(self, folder: Path, heard: Heard) -> Run:
        assert self.bench.image is not None
        return Run(folder, read_record(folder), self.bench.image, heard)

    def is_off(self) -> bool:
        slot = self.bench.slot("A")
        with client.lease(slot.supply.resource, slot.table.channel, max_volts=3.6, serial=slot.supply.serial) as one:
            return one.measure().volts < 0.3


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    with SimBench(SimOptions(boards=1, speed=50, seed=9)) as sim:
        assert sim.bench_file is not None
        yield Table(sim, read_bench(sim.bench_file), tmp_path_factory.mktemp("runs"))


@pytest.fixture
def small(tmp_path: Path) -> Study:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return load_study(str(path))


def counts(record: Record, trials: list[Trial]) -> Counter[tuple[float, bool]]:
    """How often a link came about, by the current limit."""
    return Counter((trial.cell.x["amps"], trial.good) for trial in trials if not trial.reference)


def not_to_its_end(run: Any, bench: Any) -> None:
    run.go(bench)
    pytest.fail(f"nobody stopped it: {run.problems}")


def test_a_study_is_stopped_killed_gone_on_with_and_leaves_the_board_as_it_came(table: Table, small: Study) -> None:
    came = table.flash()

    def stop(trial: Trial) -> None:
        raise KeyboardInterrupt

    with table.begun(small, Heard(act=stop)) as run:
        folder = run.folder
        with pytest.raises(UsageProblem, match="under way in another process"):
            table.again(folder, Heard())
        with pytest.raises(Aborted, match="go on with: rig power --resume"):
            not_to_its_end(run, table.bench)
    begun = read_trials(folder)
    assert [trial.reference for trial in begun] == [True]
    assert table.flash() == came
    assert table.is_off()
    told = json.loads((folder / "boards" / "A.json").read_text())
    assert told["right"] is True
    stopped = shutil.copytree(folder, folder.with_name("stopped"))

    # as if it was killed in the middle of a trial: one on record, one torn, and the board not put right
    with (folder / TRIALS).open("ab") as file:
        file.write((folder / TRIALS).read_bytes()[:40])
    (folder / "boards" / "A.json").write_text(json.dumps(told | {"right": False}))
    hand(table.sim.folder / "control", "A", "poke", offset=0x20000, data="AAAA" * 1024)
    assert table.flash() != came
    heard = Heard()
    with table.again(folder, heard) as run:
        run.go(table.bench)
    record, trials = read_record(folder), read_trials(folder)
    assert trials == [*begun, *heard.trials]
    assert [trial.n for trial in trials] == [1, 2, 3, 4]
    assert [trial.reference for trial in trials] == [True, False, False, True]
    assert counts(record, trials) == {(0.01, False): 1, (0.4, True): 1}
    assert heard.progress[-1][1] == 0
    assert run.problems == []
    assert results(record, trials)[0].left == 0
    assert table.flash() == came
    assert table.is_off()
    assert json.loads((folder / "boards" / "A.json").read_text())["right"] is True
    with table.again(folder, Heard()) as run:  # nothing is left: no board is touched
        run.go(table.bench)
    assert len(read_trials(folder)) == len(trials)

    # a study is gone on with at its own board only: its trials', or one killed before its first trial
    with table.again(stopped, Heard()) as again:
        assert again._board("A") == begun[0].board
    (stopped / TRIALS).write_bytes(b"")
    (stopped / "boards" / "A.json").write_text(json.dumps(told | {"right": False}))
    hand(table.sim.folder / "control", "A", "change")
    came = table.flash()
    with table.again(stopped, Heard()) as again:
        again.go(table.bench)
    assert len(again.refused) == 1
    assert "is another board" in again.refused[0]
    assert read_trials(stopped) == []
    assert json.loads((stopped / "boards" / "A.json").read_text())["identity"] == begun[0].board
    assert table.flash() == came
    assert table.is_off()


def test_a_board_that_does_not_answer_is_no_board_for_a_study(table: Table, small: Study) -> None:
    hand(table.sim.folder / "control", "A", "fault", name="dead")
    try:
        with table.begun(small, Heard()) as run:
            run.go(table.bench)
    finally:
        hand(table.sim.folder / "control", "A", "heal", name="dead")
    assert (len(run.failed) + len(run.problems), run.refused) == (1, [])
    assert read_trials(run.folder) == []
    assert table.is_off()


def test_a_study_goes_on_with_the_bench_and_the_product_that_it_began_with(table: Table, small: Study) -> None:
    image = table.bench.image
    assert image is not None
    record = new_record(small, table.bench, "x", image, "run")
    require_same(record, table.bench)
    with pytest.raises(UsageProblem, match="began on a real bench and this one is not"):
        require_same(replace(record, bench=record.bench | {"simulated": False}), table.bench)
    for change in ({"product": "ds-122"}, {"volts": 3.2}, {"amps": 0.4}, {"maximum_volts": 3.5}):
        other = replace(record, places=[replace(record.places[0], **change)])  # type: ignore[arg-type]
        with pytest.raises(UsageProblem, match="the product of slot A, or how it is supplied, is not as when"):
            require_same(other, table.bench)


def test_minutes_end_a_study_before_its_next_trial(table: Table, small: Study) -> None:
    heard = Heard()
    with table.begun(small.only(max_minutes=1e-9), heard) as run:
        run.go(table.bench)
    assert heard.trials == []
    assert not (run.folder / "boards" / "A.json").exists()  # the board was not touched


def test_a_wave_that_the_supply_cannot_play_is_refused_before_anything_is_done(table: Table) -> None:
    study = load_study("boot-brownout")
    parts = [part.model_copy(update={"grid": None}) for part in study.parts if part.grid is None]
    part = parts[0].model_copy(update={"wave": parts[0].wave.model_copy(update={"seconds": 0.00001})})  # type: ignore[union-attr]
    short = study.model_copy(update={"parts": [part]})
    with pytest.raises(UsageProblem, match=r"cannot be asked of .*--widen"):
        look(short, table.bench)
    places, _ = look(short.only(widen=True), table.bench)
    assert "widened" in places[0].sentences[0]
    places, sources = look(load_study("minimum-supply"), table.bench)
    assert places[0].supply["model"] == "E36312A"
    assert places[0].witness is None
    assert [source.name for source in sources] == ["ams1117-5v", "cp2102-pin", "ft232rl-pin", "ch340-v3"]


def test_the_image_is_the_studys_then_openbekens_then_the_benchs(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RIG_FIRMWARE_DIR", raising=False)
    assert find_image(load_study(), table.bench) == table.bench.image
    usual = tmp_path / "OpenBK7231N_QIO_1.18.300.bin"
    usual.write_bytes(b"x")
    monkeypatch.setenv("RIG_FIRMWARE_DIR", str(tmp_path))
    assert find_image(load_study(), table.bench) == usual
    own = tmp_path / "own.bin"
    assert find_image(load_study().only(image=own), table.bench) == own


@pytest.mark.soak
@pytest.mark.parametrize("name", list(load_sources()))
def test_weak_sources_that_the_supply_plays_do_what_the_sources_themselves_do(name: str, tmp_path: Path) -> None:
    """Judged by the line: a conversion on a simulated bench whose boards hang on the source, by its own physics."""
    image = tmp_path / "image.bin"
    image.write_bytes(demo_image())
    usual = Path(os.environ.get("RIG_FIRMWARE_DIR", "")) / "OpenBK7231N_QIO_1.18.300.bin"
    image = usual if usual.is_file() else image
    bench = f"sim:1@50+seed=3+source={name}"
    words = ["convert", "--bench", bench, "--image", image, "--units", 1, "--no-report", "--out", tmp_path]
    command = [sys.executable, "-m", "rig.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 3), done.stderr
    with SimBench(SimOptions(boards=1, speed=50, seed=3)) as sim:
        assert sim.bench_file is not None
        there = read_bench(sim.bench_file)
        part = load_study().part("weak-sources")
        series = part.model_copy(update={"sources": [name], "series": SeriesTable(repeats=2)})
        study = load_study().model_copy(update={"parts": [series]})
        folder = RunFolder.create(tmp_path)
        new_record(study, there, "x", image, folder.id).write(folder.path)
        with Run(folder.path, read_record(folder.path), image, Heard()) as run:
            run.go(there)
    found = results(read_record(folder.path), read_trials(folder.path))[0].found[0]
    assert found.n == 2
    assert found.bad in (0, 2)
    assert (found.bad == 0) == (done.returncode == 0), done.stdout
