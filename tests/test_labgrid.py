"""A bench lent by a real labgrid: coordinator, exporter and ser2net on loopback, a simulated bench behind them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.bench.bench import read_bench
from rig.records import events
from rig.records.events import Outcome
from rig.records.journal import read_journal
from rig.records.run import latest
from tests.labgrid_lab import Lab, labgrid_or_skip
from tests.sim_process import FAST_BACKED_UP, ROOT, SimProcess, environment, rig_inside, start_rig
from tests.waiting import wait_until

pytest.importorskip("unicorn")
PLACE = "bench0"
APP = 0x11000  # of a QIO: what both bootloaders leave alone


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    labgrid_or_skip()
    with SimProcess(tmp_path_factory.mktemp("lent"), "--speed", "20") as found:
        yield found


@pytest.fixture(scope="module")
def lab(bench: SimProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("labgrid")
    with Lab(folder / "lab") as found:
        lend(found, bench)
        yield found


def lend(lab: Lab, bench: SimProcess) -> None:
    """Coordinator, exporter, place: from nothing, or from what the coordinator before remembers."""
    lab.start()
    file = lab.folder / "exporter.yaml"
    done = rig_inside("bench", "export-labgrid", "--bench", bench.bench_file, "--out", file, cwd=lab.folder)
    assert done.returncode == 0, done.stderr
    lab.export(file)
    lab.place(PLACE, "simulated-A")


def spec_of(lab: Lab) -> str:
    return f"labgrid:{PLACE}@{lab.address}"


def journal(folder: Path) -> list[events.Event]:
    return read_journal(latest(folder / "runs").journal)[0]


def has_begun(folder: Path, kind: type[events.Event]) -> bool:
    found = list((folder / "runs").glob("*/journal.jsonl"))
    return bool(found) and any(isinstance(event, kind) for event in journal(folder))


def ended(folder: Path) -> events.UnitEnded:
    return next(event for event in journal(folder) if isinstance(event, events.UnitEnded))


def is_right(bench: SimProcess, folder: Path) -> bool:
    """Whether the board's app is the image's, by the simulated chip itself."""
    image = read_bench(bench.bench_file).image
    assert image is not None
    wanted = image.read_bytes()[APP:]
    return bench.dump(folder)[APP : APP + len(wanted)] == wanted


def test_a_place_of_a_killed_rig_is_given_back_and_somebody_elses_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    script = (
        "import sys; from rig.bench.bench import open_bench\n"
        f"with open_bench({spec_of(lab)!r}) as bench:\n    print(bench.path, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    path = Path(process.stdout.readline().strip())
    assert path.stat().st_mode & 0o777 == 0o600
    before = lab.log().count("place released")
    process.kill()
    process.wait()
    wait_until(lambda: lab.log().count("place released") == before + 1, 30, "the place given back")
    process.stdin.close()
    process.stdout.close()
    lab.client("acquire", place=PLACE, user="ann")
    try:
        done = rig_inside("convert", "--bench", spec_of(lab), cwd=tmp_path)
        assert done.returncode == 2
        assert f"place {PLACE} is acquired by " in done.stderr
        assert "/ann" in done.stderr
        assert not (tmp_path / "runs").exists()
    finally:
        assert lab.holder_of(PLACE).endswith("/ann")  # what refused us took nothing away from them
        lab.client("release", place=PLACE, user="ann")


def test_units_are_converted_through_a_place_whose_coordinator_is_killed_while_one_is_written(
    lab: Lab, bench: SimProcess, tmp_path: Path
) -> None:
    """The coordinator comes back while the second one is at work, and knows the place as nobody's before its exporter
    is back: it is held again, and given back."""
    lab.remember(PLACE)
    before = lab.log().count("place acquired by")
    # from about the first erase on every answer is late: it is still written, however late that is seen
    bench.hand("fault", name="late", options={"ms": 300, "after": FAST_BACKED_UP})
    process = start_rig("convert", "--no-report", "--units", "2", "--bench", spec_of(lab), cwd=tmp_path)
    wait_until(lambda: has_begun(tmp_path, events.WriteBegun), 60, "the write")
    assert lab.log().count("place acquired by") == before + 1
    lab.kill()
    killed_ns = time.monotonic_ns()
    bench.hand("heal")
    lend(lab, bench)
    said, _ = process.communicate(timeout=120)
    written = next(event for event in journal(tmp_path) if isinstance(event, events.WriteEnded))
    assert written.mono_ns > killed_ns, "the coordinator was killed too late to prove anything"
    assert process.returncode == 0, said
    assert [one.outcome for one in journal(tmp_path) if isinstance(one, events.UnitEnded)] == [Outcome.PASS] * 2
    assert is_right(bench, tmp_path)
    assert not bench.status()["on"]
    notes = [event.text for event in journal(tmp_path) if isinstance(event, events.Noted)]
    assert any("coordinator" in text and "went away" in text for text in notes), notes
    assert lab.holder_of(PLACE) == ""


@pytest.mark.soak
def test_a_unit_is_converted_through_a_place_that_is_given_back(lab: Lab, bench: SimProcess, tmp_path: Path) -> None:
    before = lab.log().count("place released")
    process = start_rig("convert", "--no-report", "--bench", spec_of(lab), cwd=tmp_path)
    wait_until(lambda: has_begun(tmp_path, events.UnitStarted), 60, "the unit")
    assert lab.log().count("place acquired by") == before + 1
    second = rig_inside("convert", "--bench", spec_of(lab), cwd=tmp_path)
    assert second.returncode == 2
    assert "is in use by another run" in second.stderr
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert ended(tmp_path).outcome is Outcome.PASS
    assert is_right(bench, tmp_path)
    assert not bench.status()["on"]
    assert lab.log().count("place released") == before + 1
    started = next(event for event in journal(tmp_path) if isinstance(event, events.RunStarted))
    assert (started.bench, started.simulated) == ("simulated", True)


@pytest.mark.soak
def test_the_coordinator_is_killed_at_any_moment(bench: SimProcess, tmp_path: Path) -> None:
    """Flash right, or the unit unverified; supply off, whatever the moment. A batch goes on once it is back."""
    dice = random.Random(10)
    for turn in range(12):
        folder = tmp_path / str(turn)
        folder.mkdir()
        with Lab(folder / "lab") as lab:
            lend(lab, bench)
            if turn % 2:
                lab.remember(PLACE)
            process = start_rig("convert", "--no-report", "--units", "2", "--bench", spec_of(lab), cwd=folder)
            wait_until(lambda folder=folder: has_begun(folder, events.UnitStarted), 60, "the unit")
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(dice.uniform(0.0, 3.5))
            lab.kill()
            if not turn % 2:
                lab.forget()
            if turn % 3 == 0:  # nothing comes back; the rig itself is killed too
                os.kill(process.pid, signal.SIGKILL)
                process.communicate()
            elif turn % 3 == 1:
                lend(lab, bench)
            process.communicate(timeout=180)
            bench.went_off()
            units = [event for event in journal(folder) if isinstance(event, events.UnitEnded)]
            if turn % 3:
                assert process.returncode == 0
                assert [unit.outcome for unit in units] == [Outcome.PASS, Outcome.PASS]
                assert is_right(bench, folder)
            else:
                assert all(unit.outcome is Outcome.PASS for unit in units) or process.returncode != 0
        bench.hand("change")


@pytest.mark.soak
def test_the_holder_is_killed_and_the_user_had_the_place_before(bench: SimProcess, tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        lend(lab, bench)
        process = start_rig("convert", "--no-report", "--bench", spec_of(lab), cwd=tmp_path)
        wait_until(lambda: has_begun(tmp_path, events.WriteBegun), 60, "the write")
        found = subprocess.run(
            ["pgrep", "-f", f"holder.py {lab.address}"], capture_output=True, text=True, check=True
        )
        os.kill(int(found.stdout), signal.SIGKILL)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        notes = [event.text for event in journal(tmp_path) if isinstance(event, events.Noted)]
        assert any("another one takes over" in text for text in notes), notes
        assert lab.holder_of(PLACE) == ""
        lab.client("acquire", place=PLACE)
        bench.hand("change")
        process = start_rig("convert", "--no-report", "--bench", spec_of(lab), cwd=tmp_path)
        process.communicate(timeout=120)
        assert process.returncode == 0
        assert lab.holder_of(PLACE) != ""
        lab.client("release", place=PLACE)
        bench.hand("change")
        words = [sys.executable, "-m", "pytest", "tests_hil/test_conversion.py", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*words, "--bench", spec_of(lab)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env=environment(),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert lab.holder_of(PLACE) == ""
        bench.hand("change")


@pytest.mark.soak
def test_somebody_else_takes_the_place_while_the_coordinator_is_away(bench: SimProcess, tmp_path: Path) -> None:
    """What is at work ends, and nothing more is begun."""
    with Lab(tmp_path / "lab") as lab:
        lend(lab, bench)
        process = start_rig("convert", "--no-report", "--units", "6", "--bench", spec_of(lab), cwd=tmp_path)
        wait_until(lambda: has_begun(tmp_path, events.WriteBegun), 60, "the write")
        lab.kill()
        lab.start()
        lab.place(PLACE, "simulated-A")
        lab.client("acquire", "--allow-unmatched", place=PLACE, user="ann")  # before its exporter is back
        lab.export(lab.folder / "exporter.yaml")
        said, _ = process.communicate(timeout=180)
        assert process.returncode == 3, said
        units = [event for event in journal(tmp_path) if isinstance(event, events.UnitEnded)]
        assert 1 <= len(units) < 6
        assert all(unit.outcome is Outcome.PASS for unit in units)
        assert not bench.status()["on"]
        assert any(
            isinstance(event, events.Noted) and "/ann while the coordinator was away" in event.text
            for event in journal(tmp_path)
        )
        assert lab.holder_of(PLACE).endswith("/ann")
