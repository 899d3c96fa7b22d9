"""`rig flash`: every write is a plan for the board in the slot, whatever that board holds by now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from rig.image import flashmap
from rig.line.writes import NAME
from rig.records.backups import BackupStore
from rig.sim import firmware
from tests.sim_process import SimProcess, rig_inside

pytest.importorskip("unicorn")

CAL, CAL_END = flashmap.identity_ranges()[0]
STORE, _ = flashmap.identity_ranges()[1]
LOST = b"\xff" * 0x1000


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    with SimProcess(tmp_path_factory.mktemp("bench"), "--speed", "50") as process:
        yield process


def test_the_plan_follows_what_the_board_holds_now(bench: SimProcess, tmp_path: Path) -> None:
    at = ("--bench", bench.bench_file)
    before = bench.dump(tmp_path)
    donor = firmware.factory_dump(77)
    (tmp_path / "dump.bin").write_bytes(donor)
    (tmp_path / "app.bin").write_bytes(donor[0x11000:0x12A000])

    bench.poke(0, LOST)
    count = bench.status()["erased_sectors"]
    done = rig_inside("flash", "write", "app.bin", *at, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "the board's bootloader is erased" in done.stderr
    assert bench.status()["erased_sectors"] == count, "a refused image erased something"
    (backup,) = (tmp_path / "runs" / "backups").iterdir()
    kept = BackupStore(backup.parent).first(backup.name)
    assert kept is not None
    assert kept.content() == LOST + before[0x1000:]

    bench.poke(CAL, LOST)
    done = rig_inside("flash", "write", "dump.bin", *at, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "comes back from its first backup" in done.stderr
    assert any("comes back from its first backup" in note for note in json.loads(done.stdout)["notes"])
    after = bench.dump(tmp_path)
    assert after[:CAL] == donor[:CAL]
    assert after[CAL:CAL_END] == before[CAL:CAL_END]
    assert after[CAL_END:STORE] == donor[CAL_END:STORE]
    assert after[STORE:] == before[STORE:]

    done = rig_inside("flash", "verify", "dump.bin", *at, "--override", "damaged", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "The override damaged was not needed." in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "runs" / NAME).read_text().splitlines()]
    assert [line.get("image") for line in lines] == ["dump.bin", None]
    assert lines[1]["ended"] == lines[0]["id"]
    assert [CAL, 0x1000] in lines[0]["ranges"]
    assert (tmp_path / "runs" / NAME).stat().st_mode & 0o777 == 0o600


def test_what_a_backup_would_not_bring_back_is_kept_before_it_is_erased(bench: SimProcess, tmp_path: Path) -> None:
    """The first backup was made while the calibration was lost; the board has one again by now."""
    own = bench.dump(tmp_path)
    bench.poke(CAL, LOST)
    store = BackupStore(tmp_path / "runs" / "backups")
    efuse = bytes.fromhex(bench.hand("dump", path=str(tmp_path / "x"))["efuse"])
    identity = f"uid-{efuse[16:24].hex()}"
    first = store.keep(identity, bench.dump(tmp_path))
    bench.poke(CAL, own[CAL:CAL_END])
    words = ("erase", "--start", hex(CAL), "--length", "0x1000", "--override", "erases-calibration")
    done = rig_inside("flash", *words, "--bench", bench.bench_file, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert bench.dump(tmp_path)[CAL:CAL_END] == LOST
    assert store.first(identity) == first
    (kept,) = [path for path in first.path.parent.glob("*.zst") if path != first.path]
    assert zstandard.ZstdDecompressor().decompress(kept.read_bytes(), max_output_size=len(own)) == own
    bench.poke(CAL, own[CAL:CAL_END])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("erase", "--start", "0x1D0000", "--length", "0x1000"), "would erase the radio calibration"),
        (("erase", "--start", "0x1FF000", "--length", "0x1000"), "would erase Tuya's keys"),
        (("erase", "--start", "0x0", "--length", "0x1000", "--override", "x"), "no rule 'x'"),
        (("write", "app.bin", "--start", "0"), "would replace the bootloader"),
        (("write", "app.bin", "--start", "0", "--override", "wrong-place"), "would replace the bootloader"),
        (("write", "app.bin", "--start", "0x1D0000", "--override", "wrong-place"), "not in a flash of"),
        (("write", "app.bin", "--override", "too-large"), "never overridden"),
        (("write", "app.bin", "--mac", "nonsense"), "is no MAC"),
        (("write", "text.bin", "--start", "0x1D1000"), "not firmware"),
    ],
)
def test_what_is_refused_before_the_board_has_power(
    words: tuple[str, ...], says: str, bench: SimProcess, tmp_path: Path
) -> None:
    (tmp_path / "app.bin").write_bytes(firmware.demo_image()[0x11000:])
    (tmp_path / "text.bin").write_bytes(b"words and words\n" * 999)
    done = rig_inside("flash", *words, "--bench", bench.bench_file, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_only_allowed_images_are_written(bench: SimProcess, tmp_path: Path) -> None:
    (tmp_path / "demo.bin").write_bytes(firmware.demo_image())
    table = bench.bench_file.read_text().replace("[bench]", '[bench]\nallowed_images = "list"')
    (tmp_path / "b.toml").write_text(table)
    (tmp_path / "list").write_text(f"{'0' * 64}  demo.bin\n")
    done = rig_inside("flash", "write", "demo.bin", "--bench", "b.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "not on this bench's list of allowed images" in " ".join(done.stderr.split())
    (tmp_path / "list").write_text("demo.bin\n")
    done = rig_inside("flash", "write", "demo.bin", "--bench", "b.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "line 1" in " ".join(done.stderr.split())
    assert not (tmp_path / "runs").exists()
