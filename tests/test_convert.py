"""`rig convert` from the outside: what a user types, what is on record afterwards, and what the board then is."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.records import events
from rig.records.backups import Backup
from rig.records.journal import read_journal
from rig.records.run import RunFolder, latest
from tests.sim_process import SimProcess, rig

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


def test_a_batch_is_converted_recorded_and_reported(tmp_path: Path) -> None:
    done = rig("convert", "--bench", "sim:2", "--units", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first = done.stderr.splitlines()[0]
    assert "20 times real time" in first
    page = Path(done.stdout.strip().splitlines()[-1].removeprefix("Report: "))
    assert (tmp_path / page).is_file()

    run, found = run_of(tmp_path)
    ended = of_kind(found, events.UnitEnded)
    assert sorted(event.unit for event in ended) == ["1", "2", "3"]
    assert all(event.outcome is events.Outcome.PASS for event in ended)
    assert all(event.supply_off_confirmed for event in ended)
    assert len({event.identity for event in ended}) == 3  # another board each time
    for unit in ("1", "2", "3"):
        assert (run.unit_dir(unit, 1) / "unit.html").is_file()
        log = run.unit_dir(unit, 1) / "boot.log"
        assert "boot complete" in log.read_text()
        assert log.stat().st_mode & 0o777 == 0o600


def test_factory_firmware_never_ran_before_its_backup(tmp_path: Path) -> None:
    from rig.sim import firmware

    rig("convert", "--bench", "sim:1", cwd=tmp_path)
    run, found = run_of(tmp_path)
    (kept,) = of_kind(found, events.BackupKept)
    content = Backup(kept.identity, run.path / kept.path, kept.sha256, kept.size).content()
    assert firmware.boots(content) == 0
    assert len(content) == 0x200000


@needs_firmware
def test_openbeken_proves_itself_by_its_own_log(tmp_path: Path) -> None:
    """Boards with a real factory dump become OpenBeken; each backup is the dump they came with."""
    factory = Path(FIRMWARE or "") / "tywb_4ch_rf_switch_CB3S_1.2.1.bin"
    with SimProcess(tmp_path, "--speed", "20", "--boards", "2", "--flash", str(factory)) as bench:
        image = Path(FIRMWARE or "") / OPENBEKEN
        done = rig("convert", "--bench", bench.bench_file, "--image", image, "--units", "4", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    run, found = run_of(tmp_path)
    for unit in ("1", "2", "3", "4"):
        log = (run.unit_dir(unit, 1) / "boot.log").read_text()
        for text in ("OpenBK7231N, version 1.18.300", "Main_Init_After_Delay done", "Boot complete"):
            assert text in log
    kept = of_kind(found, events.BackupKept)
    assert [event.sha256 for event in kept] == [hashlib.sha256(factory.read_bytes()).hexdigest()] * 4


def test_json_is_one_document(tmp_path: Path) -> None:
    done = rig("convert", "--bench", "sim:1", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["exit_code"] == 0


# -- refused before the board is powered ---------------------------------------------------------------------


def _refused_files() -> list[str]:
    if not FIRMWARE:
        return []
    rows = (Path(FIRMWARE) / "MANIFEST.tsv").read_text().splitlines()[1:]
    names: list[str] = []
    for row in rows:
        files, _, mark = row.split("\t")
        if not mark.startswith("yes"):
            names += files.split(", ")
    return names


@needs_firmware
@pytest.mark.parametrize("name", _refused_files())
def test_a_file_that_must_not_go_onto_the_board(name: str, idle_bench: SimProcess, tmp_path: Path) -> None:
    file = Path(FIRMWARE or "") / name
    done = rig("convert", "--bench", idle_bench.bench_file, "--image", file, cwd=tmp_path)
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
        (r'^resource = ".*"', 'resource = "TCPIP::127.0.0.1::9::SOCKET"', 3, "127.0.0.1"),
        (r"^baud = .*", "baud = 12", 2, "baud"),
    ],
)
def test_a_mistake_in_the_bench_file(
    old: str, new: str, code: int, says: str, idle_bench: SimProcess, tmp_path: Path
) -> None:
    done = rig("convert", "--bench", edited(idle_bench, tmp_path, old, new), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    if code == 2 and "serial" not in old:
        one_sentence(done.stderr)
        assert not (tmp_path / "runs").exists()
    assert idle_bench.status()["resets"] == 0


def test_missing_bench_missing_image_and_unreadable_image(idle_bench: SimProcess, tmp_path: Path) -> None:
    assert "no bench file" in one_sentence(rig("convert", "--bench", "none.toml", cwd=tmp_path).stderr)
    done = rig("convert", "--bench", idle_bench.bench_file, "--image", "none.bin", cwd=tmp_path)
    assert done.returncode == 2
    assert "none.bin" in one_sentence(done.stderr)
    done = rig("convert", "--bench", idle_bench.bench_file, "--image", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    one_sentence(done.stderr)


def test_a_real_bench_without_an_image_says_which_and_where(idle_bench: SimProcess, tmp_path: Path) -> None:
    done = rig("convert", "--bench", edited(idle_bench, tmp_path, r"^image = .*\n", ""), cwd=tmp_path)
    assert done.returncode == 2
    sentence = one_sentence(done.stderr)
    assert "OpenBK7231N_QIO_" in sentence
    assert "https://" in sentence
    assert "rig convert" in sentence


def test_more_units_than_slots_needs_somebody_to_change_boards(idle_bench: SimProcess, tmp_path: Path) -> None:
    path = edited(idle_bench, tmp_path, r"^change = .*\n", "")
    done = rig("convert", "--bench", path, "--units", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert "change" in one_sentence(done.stderr)
