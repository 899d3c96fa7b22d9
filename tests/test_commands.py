"""`rig flash`, `rig log`, `rig bench`, `rig report`, `rig sim`: from the outside, on one simulated bench."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.bench.bench import read_bench
from rig.records.backups import BackupStore
from rig.sim import firmware
from tests.sim_process import SimProcess, rig

pytest.importorskip("unicorn")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    with SimProcess(tmp_path_factory.mktemp("bench"), "--speed", "20") as process:
        yield process


@pytest.fixture(autouse=True)
def _off_afterwards(bench: SimProcess) -> Iterator[None]:
    yield
    assert not bench.status()["on"]


def test_flash_info(bench: SimProcess, tmp_path: Path) -> None:
    done = rig("flash", "info", "--bench", bench.bench_file, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["chip"], told["flash_id"], told["flash_size"]) == ("BK7231N", "eb6015", 0x200000)
    assert told["mac"].startswith("02:52:49:")


def test_flash_read_is_private_and_never_replaces(bench: SimProcess, tmp_path: Path) -> None:
    words = ("flash", "read", "part.bin", "--start", "0x1D0000", "--length", "0x1234", "--bench", bench.bench_file)
    done = rig(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "part.bin"
    assert file.read_bytes() == bench.dump(tmp_path)[0x1D0000:0x1D1234]
    assert file.stat().st_mode & 0o777 == 0o600
    assert rig(*words, cwd=tmp_path).returncode == 2


def test_flash_write_takes_a_backup_first_then_verify_and_erase(bench: SimProcess, tmp_path: Path) -> None:
    before = bench.dump(tmp_path)
    image = read_bench(bench.bench_file).image
    assert image is not None
    done = rig("flash", "write", image, "--bench", bench.bench_file, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    store = BackupStore(tmp_path / "runs" / "backups")
    (identity,) = [path.name for path in store.folder.iterdir()]
    backup = store.first(identity)
    assert backup is not None
    assert backup.content() == before
    assert bench.dump(tmp_path)[: firmware.QIO_SIZE] == image.read_bytes()

    assert rig("flash", "verify", image, "--bench", bench.bench_file, cwd=tmp_path).returncode == 0
    erase = ("flash", "erase", "--start", "0x11000", "--length", "0x2000", "--bench", bench.bench_file)
    done = rig(*erase, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = bench.dump(tmp_path)
    assert after[0x11000:0x13000] == b"\xff" * 0x2000
    assert after[0x13000 : firmware.QIO_SIZE] == image.read_bytes()[0x13000:]
    assert store.first(identity) == backup  # the first stays
    assert rig("flash", "verify", image, "--bench", bench.bench_file, cwd=tmp_path).returncode == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("erase", "--start", "0x12001", "--length", "0x1000"), "whole sectors"),
        (("erase", "--start", "0x1FF000", "--length", "0x2000"), "not inside the flash"),
        (("read", "x.bin", "--start", "zero"), "not a number"),
        (("info", "--slot", "AA"), "'A'"),
        (("info", "--flasher", "ltchiptol==4.15.0"), "ltchiptool"),
    ],
)
def test_flash_mistakes(words: tuple[str, ...], says: str, bench: SimProcess, tmp_path: Path) -> None:
    done = rig("flash", *words, "--bench", bench.bench_file, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_log_shows_the_boot_with_its_verdict(bench: SimProcess, tmp_path: Path) -> None:
    done = rig("log", "--bench", bench.bench_file, "--save", "kept.log", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    assert "rig-boot 1" in done.stdout
    assert "Verdict:" in done.stdout
    assert (tmp_path / "kept.log").stat().st_mode & 0o777 == 0o600


def test_bench_check_walks_the_dialect_with_outputs_off(bench: SimProcess, tmp_path: Path) -> None:
    resets = bench.status()["resets"]
    done = rig("bench", "check", "--bench", bench.bench_file, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (slot,) = json.loads(done.stdout)
    assert slot["dialect"] == "keysight-e36300"
    assert len(slot["rows"]) > 10
    assert not any(row["problem"] for row in slot["rows"])
    assert bench.status()["resets"] == resets
    assert "mains" in rig("bench", "check", "--bench", bench.bench_file, cwd=tmp_path).stdout


def test_bench_init_writes_a_file_that_is_read(tmp_path: Path) -> None:
    assert rig("bench", "init", "mine.toml", cwd=tmp_path).returncode == 0
    assert read_bench(tmp_path / "mine.toml").slot("A").product.mains
    assert rig("bench", "init", "mine.toml", cwd=tmp_path).returncode == 2  # never replaced


def test_bench_list(tmp_path: Path) -> None:
    done = rig("bench", "list", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert "ports" in json.loads(done.stdout)


def test_report_of_nothing_is_one_sentence(tmp_path: Path) -> None:
    done = rig("report", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words", [("--boards", "0"), ("--speed", "0"), ("--supply", "acme"), ("--flash", "none.bin")]
)
def test_sim_mistakes(words: tuple[str, str], tmp_path: Path) -> None:
    done = rig("sim", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
