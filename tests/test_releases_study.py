"""rig releases: study files, the list of operations, trials and their record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rig.errors import UsageProblem
from rig.image.identify import identify
from rig.image.kinds.uf2 import read_uf2
from rig.records.trials import TRIALS, Ledger
from rig.releases.files import APP, NAMES, Images, images_of, make, retagged
from rig.releases.operations import NORMAL, SECTOR, load_catalogue
from rig.releases.record import Installed, Record, read_record
from rig.releases.study import Release, Study, load_study
from rig.releases.trial import Spec, Trial, of, read_trials
from rig.sim.firmware import demo_image
from tests.sim_process import rig_inside

SPEC = Spec(1, "native", "read-part", NORMAL, 921600, 1, 1, "A")
TRIAL = of(SPEC, board="uid-1", outcome="wrong", why="x", differing=[(0x20000, 0x1000)], commands={"erase": 4})


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def images() -> Images:
    return images_of(demo_image(), "demo.bin", None)


# -- study files ----------------------------------------------------------------------------------------------------


def test_the_default_study_asks_what_it_promises() -> None:
    study = load_study()
    assert study.base == "ltchiptool 4.15.0"
    assert [release.spec for release in study.releases] == [
        "ltchiptool==4.9.2",
        "ltchiptool==4.11.2,bk7231tools==2.0.2",
        "ltchiptool==4.11.2,bk7231tools==2.1.0",
        "ltchiptool==4.12.2",
        "ltchiptool==4.14.4",
        "ltchiptool==4.15.0",
        "bk7231tools==2.1.2",
        "native",
    ]
    catalogue = load_catalogue()
    tasks = catalogue.tasks(study)
    assert {task.operation for task in tasks} == {operation.id for operation in catalogue.operation}
    assert {task.condition for task in tasks} == {condition.id for condition in catalogue.condition}
    assert [task.operation for task in tasks if task.timed] == ["time-read", "time-write"]
    assert [task.baud for task in tasks if task.operation == "set-baud"] == [460800]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("releses = []", "unknown key 'releses'; did you mean 'releases'?"),
        ("name = 'x'", "'releases' is missing"),
        ("releases = [{ spec = 'native' }]\npair = 3", "unknown key 'pair'; did you mean 'pairs'?"),
        ("releases = [{ spec = 'native' }]\nbaseline = 'nativ'", "there is no release called 'nativ'"),
        ("releases = [{ spec = 'native' }, { spec = 'native' }]", "two releases are called 'native'"),
        ("releases = [{ spec = 'native' }]\nbauds = []", "bauds"),
        ("releases = [{ spec = 'native' }]\noperations = ['identify', 'identify']", "names one of them twice"),
        ("releases = [{ spec = 'native', verson = '3' }]", "unknown key 'releases.0.verson'"),
        ("releases = [{ spec = 'native' }]\nrepeats = 0", "1 or more"),
    ],
)
def test_a_mistake_in_a_study_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageProblem) as problem:
        load_study(write(tmp_path / "study.toml", text))
    assert said in str(problem.value)
    assert "\n" not in str(problem.value)


def test_an_operation_that_does_not_exist_names_the_nearest() -> None:
    study = Study(releases=[Release(spec="native")], operations=["write-ap"])
    with pytest.raises(UsageProblem, match="no operation 'write-ap'; did you mean 'write-app'"):
        load_catalogue().tasks(study)


def test_paths_of_a_study_start_from_its_folder(tmp_path: Path) -> None:
    specs = "{ spec = './tool' }, { spec = 'x.whl' }, { spec = 'git+https://host/tool@main' }"
    study = load_study(write(tmp_path / "study.toml", f"image = 'a.bin'\nreleases = [{specs}]"))
    assert study.image == tmp_path / "a.bin"
    assert [release.spec for release in study.releases] == [
        str(tmp_path / "tool"),
        str(tmp_path / "x.whl"),
        "git+https://host/tool@main",
    ]
    assert study.titles == ["tool", "x.whl", "git+https://host/tool@main"]


def test_conditions_are_for_the_operations_they_name() -> None:
    catalogue = load_catalogue()
    study = Study(releases=[Release(spec="native")], operations=["write-small", "efuse"], conditions="all")
    tasks = catalogue.tasks(study)
    named = {condition.id for condition in catalogue.condition if "write-small" in condition.operations}
    assert {task.condition for task in tasks if task.operation == "write-small"} == named | {NORMAL}
    assert {task.condition for task in tasks if task.operation == "efuse"} == {NORMAL}


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_file_becomes_pieces_of_its_own_content(images: Images, name: str) -> None:
    made = make(name, 0x20000, images)
    assert made.pieces
    for _, data in made.pieces:
        assert data in made.content or name.startswith("uf2")
    assert make(name, 0x20000, images) == made


def test_a_uf2_file_says_what_its_pieces_are(images: Images) -> None:
    for name, head in (("uf2", 0), ("uf2-unaligned", 0x800)):
        made = make(name, 0, images)
        found = read_uf2(made.content)
        assert not found.problems
        assert found.chip == "BK7231N"
        assert [(piece.flash_offset, piece.content) for piece in found.pieces] == list(made.pieces)
        assert made.pieces[0][0] == APP + head


def test_the_file_with_blanks_has_some_and_begins_and_ends_with_one(images: Images) -> None:
    data = make("blanks", 0, images).content
    blank = [data[at : at + SECTOR] == b"\xff" * SECTOR for at in range(0, len(data), SECTOR)]
    assert blank[0]
    assert blank[-1]
    assert 0 < blank.count(True) < len(blank) / 2


def test_an_image_without_its_mark_is_another_chips() -> None:
    whole = demo_image()
    assert identify(whole).chip == "BK7231N"
    assert identify(retagged(whole)).chip == "BK7231T"
    with pytest.raises(UsageProblem, match="a bootloader and an app"):
        images_of(whole[:APP], "boot.bin", None)


# -- the record -----------------------------------------------------------------------------------------------------


def test_a_trial_comes_back_as_it_went(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(TRIAL)
    ledger.close()
    assert read_trials(tmp_path) == [TRIAL]
    assert TRIAL.counted
    assert not TRIAL.good


def test_a_torn_line_is_dropped_and_what_follows_is_whole(tmp_path: Path) -> None:
    line = TRIAL.to_json().encode() + b"\n"
    other = replace(TRIAL, n=7).to_json().encode()
    for cut in (1, len(other) // 2, len(other)):
        (tmp_path / TRIALS).write_bytes(line + other[:cut])
        assert read_trials(tmp_path) == [TRIAL]
        ledger = Ledger(tmp_path)
        ledger.append(replace(TRIAL, n=2))
        ledger.close()
        assert [trial.n for trial in read_trials(tmp_path)] == [1, 2]


def test_of_a_trial_made_twice_the_last_one_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(replace(TRIAL, outcome="blocked"))
    ledger.append(TRIAL)
    ledger.close()
    assert read_trials(tmp_path) == [TRIAL]


def test_a_study_has_one_writer(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(UsageProblem, match="is under way in another process"):
        Ledger(tmp_path)
    ledger.close()


def test_what_is_no_trial_is_told(tmp_path: Path) -> None:
    (tmp_path / TRIALS).write_text('{"n": 1, "outcome": "fine"}\n')
    with pytest.raises(UsageProblem, match="'fine' is no outcome"):
        read_trials(tmp_path)
    (tmp_path / TRIALS).write_text('{"n": 1, "outcome": "wrong"}\n')
    with pytest.raises(UsageProblem, match="missing"):
        read_trials(tmp_path)


def test_a_record_comes_back_as_it_went(tmp_path: Path) -> None:
    study = Study(name="x", releases=[Release(spec="native"), Release(spec="ltchiptool==4.15.0", name="now")])
    record = Record(
        "id", "2026-11-23T00:00:00+00:00", study, [Installed("now", "ltchiptool==4.15.0", {"ltchiptool": "4.15.0"})],
        [load_catalogue().of("identify").described], [load_catalogue().under(NORMAL).described], [SPEC],
        {"spec": "sim:2"}, {"image": {"name": "a", "sha256": "b"}}, {"version": "1"},
    )  # fmt: skip
    record.write(tmp_path)
    assert read_record(tmp_path) == record
    with pytest.raises(UsageProblem, match="is no run of rig releases"):
        read_record(tmp_path / "other")
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(UsageProblem, match="is not what rig releases writes"):
        read_record(tmp_path)


def test_a_trial_of_a_later_rig_is_read(tmp_path: Path) -> None:
    (tmp_path / TRIALS).write_text(TRIAL.to_json()[:-1] + ', "later": 1}\n')
    assert read_trials(tmp_path) == [TRIAL]
    assert Trial.from_dict({"later": 1, **TRIAL.__dict__}) == TRIAL


def test_one_release_has_nothing_to_be_worse_than(tmp_path: Path) -> None:
    done = rig_inside("releases", "--flasher", "native", "--fail-on", "regression", cwd=tmp_path)
    assert done.returncode == 2
    assert "the study has native only" in done.stderr
    assert not (tmp_path / "runs").exists()
