"""rig releases: trials at a simulated board, a study that goes on, and a board that ends as it came."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rig.bench.bench import Bench, read_bench
from rig.errors import UsageProblem
from rig.flashers.environment import program
from rig.flashers.profile import Profile
from rig.records.run import RunFolder
from rig.records.trials import TRIALS
from rig.releases.design import schedule
from rig.releases.files import Images, images_of
from rig.releases.operations import NORMAL, Catalogue, load_catalogue
from rig.releases.record import Installed, read_record
from rig.releases.runner import Run, new_record
from rig.releases.study import Release, Study
from rig.releases.tools import Tool, install
from rig.releases.trial import Spec, Task, Trial, of, read_trials
from rig.sim.bench import SimBench
from rig.sim.firmware import demo_image
from rig.sim.hands import hand
from rig.sim.spec import SimOptions

PROGRAMS = {
    "liar": "print('OK!')",
    "flood": "import sys\nwhile True: sys.stdout.write('x' * 65536)",
    "sleeper": "import time\ntime.sleep(60)",
    "bug": "print('linked'); {}['size']",
}
OPERATIONS = ["write-odd"]


@dataclass
class Heard:
    """Who watches."""

    said: list[str] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    begun: tuple[int, int] = (0, 0)

    def planned(self, total: int, done: int) -> None:
        self.begun = (total, done)

    def ended(self, trial: Trial) -> None:
        self.trials.append(trial)

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


@dataclass
class Table:
    """A simulated bench, and what runs on it."""

    sim: SimBench
    bench: Bench
    runs: Path
    images: Images
    catalogue: Catalogue

    def flash(self) -> bytes:
        path = self.runs / "dump.bin"
        hand(self.sim.folder / "control", "A", "dump", path=str(path))
        return path.read_bytes()

    def begun(self, study: Study, tools: dict[str, Tool], installed: list[Installed], heard: Heard) -> Run:
        plan = schedule(
            study.titles, self.catalogue.tasks(study), pairs=1, repeats=study.repeats, slots=["A"], seed=study.seed
        )
        folder = RunFolder.create(self.runs)
        new_record(study, self.catalogue, installed, plan, self.images, {"spec": "x"}, folder).write(folder.path)
        return self.again(folder.path, tools, heard)

    def again(self, folder: Path, tools: dict[str, Tool], heard: Heard) -> Run:
        return Run(folder, read_record(folder), tools, self.images, self.catalogue, heard)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    catalogue = load_catalogue()
    quick = [each.model_copy(update={"silence": 30.0, "limit": 60.0}) for each in catalogue.operation]
    with SimBench(SimOptions(boards=1, speed=50, seed=8)) as sim:
        assert sim.bench_file is not None
        yield Table(
            sim,
            read_bench(sim.bench_file),
            tmp_path_factory.mktemp("runs"),
            images_of(demo_image(), "demo.bin", None),
            catalogue.model_copy(update={"operation": quick}),
        )


def program_of(folder: Path, name: str) -> Tool:
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{PROGRAMS[name]}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    command = {"command": ["{tool}", "{port}", "{file}"], "success": ["^OK!$"]}
    profile = Profile.model_validate(
        {
            "title": name, "executable": str(path), "source": "this test", "families": {"BK7231N": "n"},
            "output": {"error": "^(?P<value>ERROR.*)", "linked": "linked"}, "write": command,
            "patience": {"silence": 1.0 if name == "sleeper" else 30.0},  # others may be slow to start
        }
    )  # fmt: skip
    return Tool(name, name, profile, program(path))


def native() -> tuple[Tool, Installed]:
    tool, told = install(Release(spec="native"))
    assert tool is not None
    return tool, told


def test_every_tool_is_a_row_and_a_killed_study_goes_on(table: Table, tmp_path: Path) -> None:
    good, told = native()
    tools = {name: program_of(tmp_path, name) for name in PROGRAMS} | {"native": good}
    gone = Installed("gone", "gone==1.0", problem="the package index has no gone: correct the name")
    installed = [*(Installed(name, name) for name in PROGRAMS), told, gone]
    study = Study(
        releases=[*(Release(spec=name) for name in PROGRAMS), Release(spec="native"), Release(spec="gone")],
        operations=OPERATIONS, conditions=["normal"],
    )  # fmt: skip
    came, heard = table.flash(), Heard()
    with table.begun(study, tools, installed, heard) as run:
        run.not_installed()
        run.go(table.bench, run.left)
        folder = run.folder
        assert not run.left
    found = {(trial.release, trial.operation): trial for trial in read_trials(folder)}
    assert {name: found[name, "write-odd"].outcome for name in study.titles} == {
        "liar": "lies", "flood": "hangs", "sleeper": "hangs", "bug": "crashes", "native": "correct",
        "gone": "not-installed",
    }  # fmt: skip
    assert {trial.outcome for (name, _), trial in found.items() if name == "native"} == {"correct"}
    assert "0x20000+0x4000" in found["liar", "write-odd"].why
    assert "KeyError" in found["bug", "write-odd"].why
    assert found["gone", "write-odd"].why == gone.problem
    assert found["sleeper", "write-odd"].exit_code == -9
    assert all(len(line) <= 300 for line in found["flood", "write-odd"].tail)
    wrote = found["native", "write-odd"]
    assert (wrote.commands["write-4k"], wrote.trace) == (4, f"traces/{wrote.n}.jsonl")
    assert (folder / wrote.trace).is_file()
    assert 0 < wrote.wire_s < wrote.seconds
    assert table.flash() == came
    held = json.loads((folder / "boards" / "A.json").read_text())
    assert held["right"] is True

    # as if it was killed: few trials on record, one torn, and the board not put right
    lines = (folder / TRIALS).read_bytes().split(b"\n")
    kept = [line for line in lines if b"not-installed" in line or b"hangs" in line]
    (folder / TRIALS).write_bytes(b"\n".join([*kept, lines[-2][:40]]))
    (folder / "boards" / "A.json").write_text(json.dumps(held | {"right": False}))
    hand(table.sim.folder / "control", "A", "poke", offset=0x20000, data="AAAA" * 1024)
    assert table.flash() != came
    heard = Heard()
    with table.again(folder, tools, heard) as run:
        assert heard.begun == (len(run.record.schedule), len(kept))
        run.go(table.bench, run.record.schedule)
    assert len(heard.trials) == len(run.record.schedule) - len(kept)
    again = {(trial.release, trial.operation): trial.outcome for trial in read_trials(folder)}
    assert again == {key: trial.outcome for key, trial in found.items()}
    assert table.flash() == came
    assert json.loads((folder / "boards" / "A.json").read_text())["right"] is True


def test_what_is_worse_than_the_baseline_is_tried_again_beside_it(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool, told = native()
    other = Tool("other", "other")
    study = Study(
        releases=[Release(spec="native"), Release(spec="other"), Release(spec="gone")], operations=["write-odd"],
        conditions=["normal"],
    )  # fmt: skip
    made: list[Spec] = []

    def go(self: Run, bench: Bench, specs: Iterable[Spec]) -> None:
        for spec in specs:
            made.append(spec)
            self.trials[spec.n] = of(spec, board="", outcome="correct", why="")

    monkeypatch.setattr(Run, "go", go)
    task = Task("write-odd")
    with table.begun(study, {"native": tool, "other": other}, [told], Heard()) as run:
        run.go(table.bench, run.left)
        planned = len(made)
        asked = [[("other", task), ("gone", task)], [("other", task)], [], [("other", task)]]
        run.confirm(table.bench, lambda trials: asked.pop(0))
    assert [spec.n for spec in made] == list(range(1, planned + 5))
    for at in (planned, planned + 2):
        block = made[at : at + 2]
        assert {spec.release for spec in block} == {"native", "other"}
        assert len({(spec.block, spec.repeat, spec.slot) for spec in block}) == 1
    assert [spec.repeat for spec in made[planned:]] == [2, 2, 3, 3]
    assert len({spec.block for spec in made}) == 3
    assert len(asked) == 1


def test_a_release_that_cannot_be_installed_says_why() -> None:
    tool, told = install(Release(spec="ltchiptol==4.15.0"))
    assert tool is None
    assert told.problem is not None
    assert "did you mean 'ltchiptool'?" in told.problem


def test_conditions_name_what_exists() -> None:
    assert load_catalogue().under(NORMAL).id == NORMAL
    with pytest.raises(UsageProblem, match="no condition 'nomal'; did you mean 'normal'"):
        load_catalogue().under("nomal")
