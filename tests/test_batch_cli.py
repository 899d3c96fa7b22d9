"""Batches from the command line: what the station is told for which words, and what is refused before any of it.

The station itself is another one's: here a stand-in takes what it is given and writes the first line of a journal.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rig.cli import batch as batch_command
from rig.errors import Exit, UsageProblem
from rig.line.job import Job, job_to_dict
from rig.line.suite import check_suite
from rig.records import events
from rig.records.journal import Journal
from rig.records.run import RunFolder, latest, list_runs
from rig.sim import firmware
from tests.sim_process import rig_inside


class StandIn:
    """Takes the station's place."""

    seen: ClassVar[list[StandIn]] = []

    def __init__(self, bench: Any, slots: list[Any], job: Job, run: RunFolder, **more: Any) -> None:
        self.slots, self.job, self.run_folder, self.more = [slot.name for slot in slots], job, run, more
        self.resumed = bool(more.get("resume"))
        StandIn.seen.append(self)

    def run(self) -> Exit:
        told = job_to_dict(self.job)
        started = events.RunStarted(
            run=self.run_folder.id, command="", station="", bench="", simulated=False, product="", job=told
        )
        with Journal(self.run_folder.journal) as journal:
            for event in [started] if not self.resumed else []:
                journal.append(event)
                self.more["on_event"](event)
        return Exit.GOOD

    def stop(self) -> None:
        pass

    def do(self, command: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a bench of two slots on which nothing is looked at, and an image."""
    StandIn.seen = []
    monkeypatch.setattr(batch_command, "Station", StandIn)
    monkeypatch.setattr(batch_command, "prepare", lambda bench, slots, job, **more: None)
    slots = "".join(
        f'[slot.{name}]\nsupply = "p"\nchannel = {number}\nflash_port = "/dev/f{name}"\nlog_port = "/dev/l{name}"\n'
        'product = "ds-121"\n'
        for number, name in enumerate("AB", start=1)
    )
    text = f'[bench]\nname = "t"\nimage = "demo.bin"\n[supply.p]\nresource = "TCPIP::127.0.0.1::9::SOCKET"\n{slots}'
    (tmp_path / "bench.toml").write_text(text)
    (tmp_path / "demo.bin").write_bytes(firmware.demo_image())
    yield tmp_path
    StandIn.seen = []


def file(folder: Path, text: str = "", **keys: str) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in ({"product": "ds-121"} | keys).items()]
    (folder / "w48.toml").write_text("\n".join(["[batch]", *lines, text]))
    return "w48.toml"


def run(folder: Path, *words: str) -> tuple[StandIn, subprocess.CompletedProcess[str]]:
    done = rig_inside(*words, "--no-report", cwd=folder)
    assert done.returncode == 0, done.stderr
    return StandIn.seen[-1], done


def refused(folder: Path, *words: str) -> str:
    done = rig_inside(*words, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not StandIn.seen
    assert not list_runs(folder / "runs")
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


PATTERN = '[serials]\nsource = "pattern"\npattern = "SN{:03d}"\ncount = 2\n'


def test_a_batch_file_is_all_that_is_said(table: Path) -> None:
    station, _ = run(table, "convert", "--batch", file(table, PATTERN, image="demo.bin"), "--operator", "Ada")
    job = station.job
    assert (job.units, job.batch, job.operator, job.scanned) == (("SN001", "SN002"), "w48", "Ada", False)
    assert job.rules.already_passed == "refuse"
    assert job.stages[0].image == table / "demo.bin"
    assert job.stages[0].image_sha256
    assert (job.bench, job.slots, station.slots) == (str(table / "bench.toml"), ("A", "B"), ["A", "B"])


def test_units_come_by_scan(table: Path) -> None:
    job = run(table, "convert", "--scan")[0].job
    assert (job.scanned, job.units) == (True, ())
    job = run(table, "convert", "--scan", "--serial", "X1")[0].job
    assert (job.scanned, job.units, job.slots) == (True, ("X1",), ("A", "B"))
    job = run(table, "convert", "--batch", file(table, '[serials]\nsource = "scan"\n'))[0].job
    assert (job.scanned, job.units) == (True, ())


@pytest.mark.parametrize(
    ("words", "task", "reboots", "suite"),
    [
        (("verify",), "verify", 0, None),
        (("burn-in",), "burn-in", 10, None),
        (("burn-in", "--reboots", "50"), "burn-in", 50, None),
        (("my-tests",), "suite", 0, "my-tests"),
        (("my-tests/test_lux.py",), "suite", 0, "my-tests/test_lux.py"),
    ],
)
def test_plans_that_write_nothing(
    words: tuple[str, ...], task: str, reboots: int, suite: str | None, table: Path
) -> None:
    (table / "my-tests").mkdir()
    (table / "my-tests" / "test_lux.py").write_text("")  # that it holds a test is looked at in `prepare`
    job = run(table, "run", *words)[0].job
    assert ([stage.task for stage in job.stages], job.reboots) == ([task], reboots)
    assert job.suite == (None if suite is None else table / suite)


def test_a_batch_of_another_plan_runs_by_rig_run(table: Path) -> None:
    (table / "my-tests").mkdir()
    job = run(table, "run", "--batch", file(table, PATTERN, plan="verify"))[0].job
    assert job.stages[0].task == "verify"
    job = run(table, "run", "--batch", file(table, PATTERN, plan="my-tests"))[0].job
    assert (job.stages[0].task, job.suite) == ("suite", table / "my-tests")
    job = run(table, "run", "--batch", file(table, PATTERN))[0].job
    assert job.stages[0].task == "convert"
    job = run(table, "run", "verify", "--batch", file(table, PATTERN))[0].job
    assert job.stages[0].task == "verify"


def test_a_recovery_from_a_batch_file(table: Path) -> None:
    batch = file(table, PATTERN, plan="recover", image="demo.bin", then="demo.bin")
    for command in ("recover", "run"):
        job = run(table, command, "--batch", batch)[0].job
        assert [stage.task for stage in job.stages] == ["recover", "convert"]
        assert job.stages[1].image == table / "demo.bin"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("convert", "--batch", "none.toml"), "no batch file at"),
        (("convert", "--batch", "w48.toml", "--serial", "X"), "has 'serials': leave out --serial"),
        (("convert", "--batch", "w48.toml", "--units", "1"), "has 'serials': leave out --units"),
        (("convert", "--batch", "w48.toml", "--scan"), "has 'serials': leave out --scan"),
        (("convert", "--batch", "w48.toml", "--image", "demo.bin"), "has 'batch.image': leave out --image"),
        (("convert", "--batch", "w48.toml", "--flasher", "ltchiptool"), "has 'batch.flasher': leave out --flasher"),
        (("run", "verify", "--batch", "w48.toml"), "'batch.plan' is 'convert': rig run --batch w48.toml does that"),
        (("recover", "--batch", "w48.toml"), "'batch.plan' is 'convert'"),
        (("convert", "--scan", "--units", "2"), "give one of the two"),
        (("convert", "--serial", "A\tB"), "no serial number"),
        (("convert", "--operator", " "), "--operator is empty"),
        (("convert", "--json", "--json-events"), "give one of the two"),
        (("run",), "run what?"),
        (("run", "verfy"), "did you mean 'verify'?"),
        (("run", "convert"), "rig convert"),
        (("run", "verify", "--reboots", "3"), "--reboots is for burn-in"),
        (("run", "verify", "--provision", "p.toml"), "--provision is for a conversion"),
        (("recover",), "--image FILE, or `image` in the batch file"),
        (("restore",), "rig restore --from RUN/UNIT"),
        (("convert", "--resume", "none"), "There is no run runs/none."),
        (("convert", "--resume", "none", "--image", "x.bin"), "leave out --image"),
        (("convert", "--resume", "none", "--batch", "w48.toml"), "leave out --batch"),
        (("convert", "--resume", "none", "--no-boot-proof"), "leave out --no-boot-proof"),
    ],
)
def test_words_that_do_not_go_together(words: tuple[str, ...], says: str, table: Path) -> None:
    file(table, PATTERN, plan="convert", image="demo.bin", flasher="native")
    assert says in refused(table, *words)


def test_more_units_than_slots_need_somebody_but_a_scan_is_somebody(table: Path) -> None:
    assert "nobody is at a terminal" in refused(table, "convert", "--units", "3")
    golden = file(table, '[golden]\nserial = "G"\n')
    assert "golden unit G must be put in" in refused(table, "convert", "--batch", golden, "--units", "1")
    run(table, "convert", "--scan", "--serial", "1", "--serial", "2", "--serial", "3")
    station, _ = run(table, "convert", "--units", "3", "--attended")
    assert station.more["attended"] is True


def test_an_operator_that_is_required_is_missed_before_there_is_a_run(table: Path) -> None:
    assert "name one with --operator" in refused(table, "convert", "--batch", file(table, operator="required"))
    assert not (table / "runs").exists()


def test_a_run_that_does_not_begin_leaves_no_folder(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "run", lambda self: (_ for _ in ()).throw(UsageProblem("slot A is in use")))
    done = rig_inside("convert", cwd=table)
    assert done.returncode == 2
    assert not list((table / "runs").iterdir())


def test_a_resumed_run_has_its_boards_put_in_again(table: Path) -> None:
    run(table, "convert", "--units", "2")
    assert StandIn.seen[-1].more["attended"] is False
    name = latest(table / "runs").id
    done = rig_inside("convert", "--resume", name, cwd=table)
    assert done.returncode == 2
    assert "put in again" in done.stderr
    assert run(table, "convert", "--resume", name, "--attended")[0].resumed


def test_a_run_says_how_to_go_on_until_no_unit_is_left(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = StandIn.run
    monkeypatch.setattr(StandIn, "run", lambda self: (began(self), Exit.BLOCKED)[1])
    done = rig_inside("convert", "--units", "2", "--no-report", cwd=table)
    left = latest(table / "runs")
    assert done.returncode == 3
    assert f"rig convert --resume {left.id}" in done.stderr
    for unit in ("1", "2"):
        done = rig_inside("convert", "--resume", left.id, "--attended", "--no-report", cwd=table)
        assert f"rig convert --resume {left.id}" in done.stderr
        who = {"unit": unit, "slot": "A", "attempt": 1}
        with Journal(left.journal) as journal:
            journal.append(events.UnitStarted(**who))  # type: ignore[arg-type]
            journal.append(events.UnitEnded(**who, outcome=events.Outcome.PASS, duration_s=1.0))  # type: ignore[arg-type]
            journal.append(events.RunEnded(run=left.id, exit_code=0, duration_s=1.0))
    done = rig_inside("convert", "--resume", left.id, "--attended", cwd=table)
    assert done.returncode == 2
    assert f"run {left.id} is over" in done.stderr


def test_the_products_own_serials_hold_without_a_batch(table: Path) -> None:
    ours = (Path(batch_command.__file__).parents[1] / "products" / "ds-121.toml").read_text()
    (table / "own" / "products").mkdir(parents=True)
    product = ours.replace("[supply]", "[serials]\nregex = 'SN\\d{3}'\n\n[supply]", 1)
    (table / "own" / "products" / "ds-121.toml").write_text(product)
    bench = (table / "bench.toml").read_text().replace("[bench]", '[bench]\nprofiles = "own"')
    (table / "bench.toml").write_text(bench)
    assert "XX1 is no serial number" in refused(table, "convert", "--serial", "XX1")
    assert run(table, "convert", "--serial", "SN001")[0].job.serials.regex == r"SN\d{3}"


def test_a_label_needs_a_printer_that_is_there(table: Path) -> None:
    (table / "l.zpl").write_text("{unit}")
    label = '[label]\ntemplate = "l.zpl"\ncommand = ["no-such-printer", "{file}"]\n'
    assert "no-such-printer: no such program" in refused(table, "convert", "--batch", file(table, PATTERN + label))


def test_a_suite_needs_a_test(tmp_path: Path) -> None:
    file = tmp_path / "test_lux.py"
    for text, says in (("def measure(): ...", "has no test"), ("import no_lux", "No module named 'no_lux'")):
        file.write_text(text)
        with pytest.raises(UsageProblem, match=says):
            check_suite(file)


def test_a_park_image_is_judged_before_anything_is_switched_on(table: Path) -> None:
    (table / "park.bin").write_bytes(b"no firmware")
    assert "park.bin" in refused(table, "convert", "--batch", file(table, PATTERN, park_image="park.bin"))


def test_a_gage_study_has_all_slots_and_somebody_to_move_the_boards(table: Path) -> None:
    batch = file(table, PATTERN.replace("2", "3") + "[study]\ntrials = 2\nseed = 7\n", plan="verify")
    assert "moves each board from slot to slot" in refused(table, "run", "--batch", batch)
    text = (table / "bench.toml").read_text() + '[slot.C]\nsupply = "p"\nchannel = 3\nflash_port = "/dev/fC"\n'
    (table / "bench.toml").write_text(text + 'log_port = "/dev/lC"\nproduct = "ds-121"\n')
    file(table, PATTERN + "[study]\ntrials = 2\nseed = 7\n", plan="verify")
    station, done = run(table, "run", "--batch", batch, "--attended")
    assert (station.slots, station.job.slots) == (["A", "B", "C"], ("A", "B", "C"))  # not cut to its two units
    assert station.job.study is not None
    assert station.job.study.seed == 7
    assert "as a gage study: 12 measurements" in done.stderr
    again, _ = run(table, "run", "--resume", latest(table / "runs").id, "--attended")
    assert again.job.study == station.job.study


def test_a_golden_unit_is_verified_against_an_image(table: Path) -> None:
    bench = (table / "bench.toml").read_text().replace('image = "demo.bin"\n', "")
    (table / "bench.toml").write_text(bench)
    batch = file(table, PATTERN + "[golden]\nserial = 'SN999'\n", plan="burn-in")
    assert "verified against an image" in refused(table, "run", "--batch", batch)


def test_a_listed_unit_that_passed_before_is_refused_unless_it_may_be_retested(table: Path) -> None:
    folder = RunFolder.create(table / "runs")
    folder.new_unit_dir("SN002", 1)
    who = {"unit": "SN002", "slot": "A", "attempt": 1}
    with Journal(folder.journal) as journal:
        for event in (
            events.RunStarted(run=folder.id, command="", station="", bench="", simulated=False, product="ds-121"),
            events.UnitStarted(**who),  # type: ignore[arg-type]
            events.UnitEnded(**who, outcome=events.Outcome.PASS, duration_s=1.0),  # type: ignore[arg-type]
        ):
            journal.append(event)
    done = rig_inside("convert", "--batch", file(table, PATTERN), cwd=table)
    assert done.returncode == 2
    assert f"SN002 passed in run {folder.id}" in done.stderr
    assert "--resume" in done.stderr
    assert not StandIn.seen
    run(table, "run", "verify", "--batch", file(table, PATTERN))  # another task: it has not passed that
    run(table, "convert", "--batch", file(table, PATTERN, already_passed="retest"))
    run(table, "convert", "--serial", "SN002")  # no batch, no rule


# -- going on ------------------------------------------------------------------------------------------------


SECRET = "hush-hush-42"


def provisioned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A provisioning that needs OpenBeken's image; here any image will do."""
    from rig.cli import ordered

    monkeypatch.setenv("RIG_TEST_WIFI", SECRET)
    monkeypatch.setattr(ordered, "check_provision", lambda provision, target, units: provision.secrets())
    (folder / "home.toml").write_text(
        '[provision]\n[provision.wifi]\nssid = "home"\npassword = { env = "RIG_TEST_WIFI" }\n'
    )
    return "home.toml"


def test_a_run_goes_on_by_its_journal_alone(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = provisioned(table, monkeypatch)
    batch = file(table, PATTERN + "[streak]\nfailures_in_a_row = 3\n", provision=home)
    first, _ = run(table, "convert", "--batch", batch, "--operator", "Ada")
    assert first.job.secrets == (SECRET,)
    run_folder = latest(table / "runs")
    assert SECRET not in run_folder.journal.read_text()
    (table / "w48.toml").unlink()  # it is not needed any more
    again, done = run(table, "run", "--resume", run_folder.id, "--attended")
    assert f"Going on with run {run_folder.id}" in done.stderr
    assert again.resumed
    assert (again.run_folder.id, again.slots) == (run_folder.id, ["A", "B"])
    assert again.job.secrets == (SECRET,)  # read anew
    assert job_to_dict(again.job) | {"command": ""} == job_to_dict(first.job) | {"command": ""}
    by_path, _ = run(table, "convert", "--resume", str(run_folder.path), "--operator", "Bob", "--attended")
    assert by_path.job.operator == "Bob"
    assert len(list_runs(table / "runs")) == 1


def test_a_run_does_not_go_on_with_another_image(table: Path) -> None:
    run(table, "convert", "--batch", file(table, PATTERN))
    StandIn.seen = []
    image = bytearray(firmware.demo_image())
    image[-1] ^= 1
    (table / "demo.bin").write_bytes(bytes(image))
    done = rig_inside("convert", "--resume", latest(table / "runs").id, cwd=table)
    assert done.returncode == 2
    assert "was changed since the run began" in done.stderr
    assert not StandIn.seen


def test_a_run_that_says_nothing_of_its_job_cannot_go_on(table: Path) -> None:
    folder = RunFolder.create(table / "runs")
    with Journal(folder.journal) as journal:
        journal.append(
            events.RunStarted(run=folder.id, command="", station="", bench="", simulated=False, product="")
        )
    done = rig_inside("convert", "--resume", folder.id, cwd=table)
    assert done.returncode == 2
    assert "does not say what it was to do" in done.stderr


# -- what is said --------------------------------------------------------------------------------------------


def test_events_are_lines_of_json_and_nothing_else_is_on_stdout(table: Path) -> None:
    _, done = run(table, "convert", "--batch", file(table, PATTERN), "--json-events")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["run-started"]
    assert "Journal: " in done.stderr


def test_every_command_on_boards_has_the_same_options(table: Path) -> None:
    helps = {name: rig_inside(name, "--help", cwd=table).stdout for name in ("convert", "recover", "restore", "run")}
    for name, text in helps.items():
        for flag in ("--bench", "--operator", "--resume", "--json-events", "--sound", "--no-boot-proof"):
            assert flag in text, (name, flag)
        assert ("--batch" in text) == (name != "restore")
        assert ("--scan" in text) == (name != "restore")
