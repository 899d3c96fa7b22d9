"""`rig convert` from the outside: what a user types, what is on record afterwards, and what the board then is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rig.records import events
from rig.records.backups import Backup
from rig.records.journal import read_journal
from rig.records.run import RunFolder, latest
from rig.records.store import sha256_of
from rig.sim import firmware
from tests.obk_config import AT as CONFIG_AT
from tests.obk_config import config
from tests.sim_process import SimProcess, rig, rig_inside

pytest.importorskip("unicorn")
FIRMWARE = os.environ.get("RIG_FIRMWARE_DIR")
needs_firmware = pytest.mark.skipif(not FIRMWARE, reason="RIG_FIRMWARE_DIR names no folder of real images")
OPENBEKEN = "OpenBK7231N_QIO_1.18.300.bin"


@pytest.fixture(scope="module")
def idle_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    """A bench on which nothing may ever be switched on."""
    with SimProcess(tmp_path_factory.mktemp("idle"), "--speed", "20") as bench:
        yield bench


def run_of(folder: Path) -> tuple[RunFolder, list[events.Event]]:
    run = latest(folder / "runs")
    found, torn = read_journal(run.journal)
    assert torn is None
    return run, found


def of_kind(found: list[events.Event], kind: type) -> list:  # type: ignore[type-arg]
    return [event for event in found if isinstance(event, kind)]


def one_sentence(text: str) -> str:
    """The one line a refused user sees."""
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    assert lines[0].startswith("rig: ")
    assert "Traceback" not in text
    return lines[0]


# -- good runs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """A batch that was converted once, for the tests that look at what it left."""

    done: subprocess.CompletedProcess[str]
    run: RunFolder
    events: list[events.Event]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    folder = tmp_path_factory.mktemp("batch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_ADDOPTS", "-k discharged")  # what pytest is told by the environment reaches no unit
        done = rig("convert", "--bench", "sim:1", "--units", "2", "--json", cwd=folder, reports=True)
    return Batch(done, *run_of(folder))


def test_a_batch_is_converted_and_the_simulators_speed_is_said(batch: Batch) -> None:
    assert batch.done.returncode == 0, batch.done.stderr
    assert "20 times real time" in batch.done.stderr.splitlines()[0]
    result = json.loads(batch.done.stdout)
    assert result["exit_code"] == 0
    assert result["report"].endswith("index.html")


def test_every_unit_is_on_record_with_its_evidence(batch: Batch) -> None:
    ended = of_kind(batch.events, events.UnitEnded)
    assert sorted(event.unit for event in ended) == ["1", "2"]
    assert all(event.outcome is events.Outcome.PASS for event in ended)
    assert all(event.supply_off_confirmed for event in ended)
    assert len({event.identity for event in ended}) == 2  # another board each time
    for unit in ("1", "2"):
        folder = batch.run.unit_dir(unit, 1)
        assert "boot complete" in (folder / "boot.log").read_text()
        assert (folder / "boot.log").stat().st_mode & 0o777 == 0o600
        page = (folder / "unit.html").read_text()
        assert "boot complete" in page
        assert "<svg" in page  # volts and amps
        kept = {one.path: one.sha256 for one in of_kind(batch.events, events.ArtifactKept) if one.unit == unit}
        assert {Path(path).name for path in kept} >= {"boot.log", "wire.jsonl", "power.csv", "unit.html"}
        assert all(sha256_of(batch.run.path / path) == sha256 for path, sha256 in kept.items())


def test_factory_firmware_never_ran_before_its_backup(batch: Batch) -> None:
    kept = of_kind(batch.events, events.BackupKept)
    assert len(kept) == 2
    for event in kept:
        backup = Backup(event.identity, batch.run.path / event.path, event.sha256, event.size)
        content = backup.content()
        assert len(content) == 0x200000
        assert firmware.boots(content) == 0


def test_writing_begins_only_after_the_backup_is_on_record(batch: Batch) -> None:
    for unit in ("1", "2"):
        kinds = [event.kind for event in batch.events if getattr(event, "unit", None) == unit]
        assert kinds.index("backup-kept") < kinds.index("write-begun") < kinds.index("write-ended")


@needs_firmware
def test_openbeken_proves_itself_by_its_own_log(tmp_path: Path) -> None:
    """A board with a real factory dump becomes OpenBeken. Its backup is the dump it came with; a configuration that
    was on it stays where nothing is provisioned. Two boards that are: test_convert_provision.py."""
    factory = tmp_path / "factory.bin"
    dump = (Path(FIRMWARE or "") / "tywb_4ch_rf_switch_CB3S_1.2.1.bin").read_bytes()
    kept_config = config(ssid="KEPT_AP", password="kept-secret", long_name="kept", short_name="kept")
    factory.write_bytes(dump[:CONFIG_AT] + kept_config + dump[CONFIG_AT + len(kept_config) :])
    with SimProcess(tmp_path, "--speed", "20", "--flash", str(factory)) as bench:
        image = Path(FIRMWARE or "") / OPENBEKEN
        done = rig("convert", "--bench", bench.bench_file, "--image", image, cwd=tmp_path, reports=True)
        assert done.returncode == 0, done.stderr
    run, found = run_of(tmp_path)
    log = (run.unit_dir("1", 1) / "boot.log").read_text()
    for text in (
        "OpenBK7231N, version 1.18.300",
        "Using SSID [KEPT_AP]",
        "Main_Init_After_Delay done",
        "Boot complete",
    ):
        assert text in log
    (measured,) = [event for event in of_kind(found, events.Measured) if event.name == "boot_time"]
    completed = re.search(r"\[ *([0-9.]+)\].*Boot complete time reached", log)
    assert completed is not None  # held until its own marker, not another firmware's
    assert measured.value == pytest.approx(float(completed[1]), abs=0.002)
    (kept,) = of_kind(found, events.BackupKept)
    assert kept.sha256 == hashlib.sha256(factory.read_bytes()).hexdigest()


# -- refused before the board is powered ---------------------------------------------------------------------


def _refused_files() -> list[str]:
    if not FIRMWARE:
        return []
    rows = (Path(FIRMWARE) / "MANIFEST.tsv").read_text().splitlines()[1:]
    names: list[str] = []
    for row in rows:
        files, _, mark = row.split("\t")
        if not mark.startswith(("yes", "only through a UF2-aware path")):  # which the rig has: test_image_plan.py
            names += files.split(", ")
    return names


@needs_firmware
@pytest.mark.parametrize("name", _refused_files())
def test_a_file_that_must_not_go_onto_the_board(name: str, idle_bench: SimProcess, tmp_path: Path) -> None:
    file = Path(FIRMWARE or "") / name
    done = rig_inside("convert", "--bench", idle_bench.bench_file, "--image", file, cwd=tmp_path)
    assert done.returncode == 2
    sentence = one_sentence(done.stderr)
    assert re.search(r"OpenBK7231N_QIO|dump|QIO", sentence), sentence  # what to use instead
    assert not (tmp_path / "runs").exists()
    assert idle_bench.status()["resets"] == 0  # the board never had power


# -- bad input -----------------------------------------------------------------------------------------------


def edited(bench: SimProcess, folder: Path, old: str, new: str) -> Path:
    """A copy of the bench's file with a mistake in it."""
    text = bench.bench_file.read_text()
    assert re.search(old, text, re.MULTILINE)
    path = folder / "edited.toml"
    path.write_text(re.sub(old, new, text, count=1, flags=re.MULTILINE))
    return path


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        (r"^\[bench\]", "[bench", 2, "TOML"),
        (r"^channel", "chanel", 2, "did you mean 'channel'"),
        (r'dialect = "keysight-e36300"', 'dialect = "keysight-e3630"', 2, "keysight-e36300"),
        (r'serial = "SIM.*"', 'serial = "MY12345678"', 2, "MY12345678"),
        (r'product = "ds-121"', 'product = "ds-212"', 2, "ds-121"),
        (r'^flash_port = ".*"', 'flash_port = "/dev/ttyUSB77"', 3, "/dev/ttyUSB77"),
        (r'^log_port = ".*"', 'log_port = "/dev/ttyUSB78"', 3, "/dev/ttyUSB78"),
        (
            r'^resource = ".*"\ndialect = (.*)\nserial = .*',
            'resource = "TCPIP::127.0.0.1::9::SOCKET"\ndialect = \\1',
            3,
            "127.0.0.1",
        ),
        (r"^baud = .*", "baud = 12", 2, "baud"),
        (r"^change = .*", "change = []", 2, "change"),
        (r'^ovp = ".*"', 'ovp = "none"', 2, "over-voltage"),
        (r"^serial", "cal_due = 2020-01-31\nserial", 3, "2020-01-31"),
    ],
)
def test_a_mistake_in_the_bench_file(
    old: str, new: str, code: int, says: str, idle_bench: SimProcess, tmp_path: Path
) -> None:
    done = rig_inside("convert", "--bench", edited(idle_bench, tmp_path, old, new), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    one_sentence(done.stderr)
    assert not (tmp_path / "runs").exists()
    assert idle_bench.status()["resets"] == 0


def test_missing_bench_missing_image_and_unreadable_image(idle_bench: SimProcess, tmp_path: Path) -> None:
    assert "no bench file" in one_sentence(rig_inside("convert", "--bench", "none.toml", cwd=tmp_path).stderr)
    done = rig_inside("convert", "--bench", idle_bench.bench_file, "--image", "none.bin", cwd=tmp_path)
    assert done.returncode == 2
    assert "none.bin" in one_sentence(done.stderr)
    done = rig_inside("convert", "--bench", idle_bench.bench_file, "--image", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    one_sentence(done.stderr)


def test_a_real_bench_without_an_image_says_which_and_where(idle_bench: SimProcess, tmp_path: Path) -> None:
    done = rig_inside("convert", "--bench", edited(idle_bench, tmp_path, r"^image = .*\n", ""), cwd=tmp_path)
    assert done.returncode == 2
    sentence = one_sentence(done.stderr)
    assert "OpenBK7231N_QIO_" in sentence
    assert "https://" in sentence
    assert "rig convert" in sentence


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--current-limit", "99"), "99"),
        (("--current-limit", "-1"), "-1"),
        (("--current-limit", "nan"), "nan"),
        (("--serial", ""), "empty"),
        (("--serial", "X", "--serial", "X"), "twice"),
        (("--units", "2", "--accept-no-backup", "old"), "one unit"),
        (("--units", "1", "--serial", "X"), "one of the two"),
        (("--flasher", "ltchiptol==4.15.0"), "ltchiptool"),
        (("--slot", "B"), "'B'"),
        (("--override", "wrong-chip"), "never overridden"),
        (("--override", "damagd"), "did you mean 'damaged'"),
    ],
)
def test_a_mistake_on_the_command_line(
    words: tuple[str, ...], says: str, idle_bench: SimProcess, tmp_path: Path
) -> None:
    done = rig_inside("convert", "--bench", idle_bench.bench_file, *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
    assert idle_bench.status()["resets"] == 0


def test_only_what_is_on_the_benchs_list_of_images_is_written(idle_bench: SimProcess, tmp_path: Path) -> None:
    listed = tmp_path / "allowed.txt"
    listed.write_text(f"{'0' * 64}  another.bin\n")
    path = edited(idle_bench, tmp_path, r"^\[bench\]", f'[bench]\nallowed_images = "{listed}"')
    for words in (("convert",), ("recover", "--image", donor(tmp_path))):
        done = rig_inside(*words, "--bench", path, cwd=tmp_path)
        assert done.returncode == 2
        assert "list of allowed images" in one_sentence(done.stderr)
    assert idle_bench.status()["resets"] == 0


def donor(folder: Path) -> Path:
    path = folder / "donor.bin"
    path.write_bytes(firmware.factory_dump(7))
    return path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--mac", "01:00:00:00:00:01"), "no MAC of a device"),
        (("--mac", "02:00:00:00:00:01", "--units", "2"), "one unit"),
        (("--provision", "p.toml"), "--then"),
        (("--then", "none.bin"), "none.bin"),
        (("--image", "app.bin"), "rig convert"),
    ],
)
def test_a_recovery_that_cannot_be_meant(
    words: tuple[str, ...], says: str, idle_bench: SimProcess, tmp_path: Path
) -> None:
    image = donor(tmp_path)
    (tmp_path / "app.bin").write_bytes(firmware.demo_image()[0x11000:])
    done = rig_inside("recover", "--image", image, "--bench", idle_bench.bench_file, *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in one_sentence(done.stderr)
    assert not (tmp_path / "runs").exists()
    assert idle_bench.status()["resets"] == 0


def test_more_units_than_slots_needs_somebody_to_change_boards(idle_bench: SimProcess, tmp_path: Path) -> None:
    path = edited(idle_bench, tmp_path, r"^change = .*\n", "")
    done = rig_inside("convert", "--bench", path, "--units", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert "change" in one_sentence(done.stderr)
