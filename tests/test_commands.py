"""`rig flash`, `rig log`, `rig bench`, `rig report`, `rig sim`: from the outside, on one simulated bench."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

import rig as rig_package
import rig.cli as rig_cli
from rig.bench.bench import read_bench
from rig.bench.product import load_product
from rig.cli import terminal
from rig.errors import UnitFailed
from rig.flashers.base import ChipIdentity
from rig.flashers.fit import require_chip
from rig.records.backups import BackupStore
from rig.sim import firmware
from tests.sim_process import SimProcess, rig, rig_inside

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
    done = rig_inside("flash", *words, "--bench", bench.bench_file, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_flash_of_another_size_than_the_products_is_not_written(bench: SimProcess, tmp_path: Path) -> None:
    """Its backup would not be all of it."""
    built_in = Path(rig_package.__file__).parent / "products" / "ds-121.toml"
    (tmp_path / "own" / "products").mkdir(parents=True)
    large = built_in.read_text().replace('"ds-121"', '"large"').replace("0x200000", "0x400000")
    (tmp_path / "own" / "products" / "large.toml").write_text(large)
    table = bench.bench_file.read_text().replace('"ds-121"', '"large"')
    (tmp_path / "b.toml").write_text(table.replace("[bench]", '[bench]\nprofiles = "own"'))
    before = bench.status()["erased_sectors"]
    done = rig("flash", "erase", "--start", "0x12000", "--length", "0x1000", "--bench", "b.toml", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "holds 2097152 bytes, not 4194304" in done.stderr
    assert bench.status()["erased_sectors"] == before
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("who", "code"),
    [
        ({}, None),
        ({"flash_id": bytes(3)}, "unreadable"),
        ({"flash_id": None}, "unreadable"),
        ({"chip_id": 0x7231A}, "wrong-chip"),
        ({"flash_size": 0x100000}, "wrong-chip"),
        ({"flash_size": None}, "wrong-chip"),
    ],
)
def test_the_chip_and_flash_a_product_needs(who: dict[str, Any], code: str | None) -> None:
    good = {"chip": "BK7231N", "chip_id": 0x7231C, "flash_id": b"\xeb\x60\x15", "flash_size": 0x200000}
    board = ChipIdentity(**(good | who))
    if code is None:
        require_chip(board, load_product("ds-121"))
        return
    with pytest.raises(UnitFailed) as caught:
        require_chip(board, load_product("ds-121"))
    assert caught.value.code == code


@pytest.mark.parametrize("words", [("flash", "info"), ("flash", "read", "x.bin"), ("log",)])
def test_an_empty_slot_is_the_benchs_fault(words: tuple[str, ...], bench: SimProcess, tmp_path: Path) -> None:
    bench.hand("pull")
    try:
        done = rig(*words, "--bench", bench.bench_file, cwd=tmp_path)
    finally:
        bench.hand("insert")
    assert done.returncode == 3, done.stderr
    assert "no board in it" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("flash", "read", "/proc/nope/x", "--bench", "BENCH"),
        ("flash", "read", "b.toml/x", "--bench", "BENCH"),
        ("flash", "erase", "--start", "0", "--length", "0x1000", "--out", "/proc/xx", "--bench", "BENCH"),
        ("flash", "write", "IMAGE", "--out", "/proc/xx", "--bench", "BENCH"),
        ("log", "--save", "/proc/x.log", "--bench", "BENCH"),
        ("log", "--save", ".", "--bench", "BENCH"),
        ("bench", "init", "/proc/x/b.toml"),
        ("sim", "--bench-file", "/proc/s.toml"),
    ],
)
def test_where_nothing_can_be_written(words: tuple[str, ...], bench: SimProcess, tmp_path: Path) -> None:
    """Told in a sentence, and before the board got any power."""
    (tmp_path / "b.toml").write_text("")
    places = {"BENCH": bench.bench_file, "IMAGE": read_bench(bench.bench_file).image or ""}
    resets = bench.status()["resets"]
    done = rig(*[places.get(word, word) for word in words], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert bench.status()["resets"] == resets
    assert os.listdir(tmp_path) == ["b.toml"]


@pytest.mark.parametrize("name", ["/somewhere/full", None])
def test_a_problem_with_a_file_is_one_sentence(
    name: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that names no file is a bug, and keeps its traceback."""

    def app(**how: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", name)

    monkeypatch.setattr(rig_cli, "app", app)
    monkeypatch.setattr(rig_cli.signal, "signal", lambda *which: None)
    with pytest.raises(SystemExit if name else OSError) as left:
        rig_cli.main()
    if name:
        assert left.value.code == 2
        assert capsys.readouterr().err == "rig: /somewhere/full: No space left on device\n"


def test_what_is_shown_is_what_is_there() -> None:
    """No smileys in a MAC, no words taken for markup."""
    text = "mac 02:ab:49:00:00:01 [red] :smile:"
    for console in (terminal.out, terminal.err):
        with console.capture() as shown:
            console.print(text)
            console.print(Table(text), width=len(text) + 10)
        assert shown.get().count(text) == 2


@pytest.mark.parametrize("seconds", ["-1", "0", "nan", "inf"])
def test_log_for_no_time(seconds: str, bench: SimProcess, tmp_path: Path) -> None:
    done = rig("log", "--seconds", seconds, "--bench", bench.bench_file, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "--seconds" in done.stderr


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
    assert rig_inside("bench", "init", "mine.toml", cwd=tmp_path).returncode == 0
    assert read_bench(tmp_path / "mine.toml").slot("A").product.mains
    assert rig_inside("bench", "init", "mine.toml", cwd=tmp_path).returncode == 2  # never replaced


def test_bench_list(tmp_path: Path) -> None:
    done = rig_inside("bench", "list", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert "ports" in json.loads(done.stdout)


def test_bench_list_of_instruments_says_what_it_cannot_find_in_a_sentence(tmp_path: Path) -> None:
    done = rig("bench", "list", "--visa", cwd=tmp_path)
    assert done.returncode == 0
    assert "Warning" not in done.stderr
    assert "TCPIP::ADDRESS::PORT::SOCKET" in done.stderr
    assert "PRLGX" not in done.stdout


def test_report_of_nothing_is_one_sentence(tmp_path: Path) -> None:
    done = rig("report", tmp_path, cwd=tmp_path, reports=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "is not a run's folder" in done.stderr


def test_a_report_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    done = rig("report", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "Reports need the extra 'report' (pandas is missing): pip install -e '.[report]'." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words", [("--boards", "0"), ("--speed", "0"), ("--supply", "acme"), ("--flash", "none.bin")]
)
def test_sim_mistakes(words: tuple[str, str], tmp_path: Path) -> None:
    done = rig("sim", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
