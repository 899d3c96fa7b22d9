"""Two releases of ltchiptool from PyPI, unmodified, behind the tap of a simulated bench."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from rig.bench.bench import open_bench
from rig.bench.slot import use_slot
from rig.errors import BenchBlocked, UnitFailed, UsageProblem
from rig.flashers import load_flasher
from rig.flashers.native import NativeFlasher
from rig.sim.hands import hand

pytest.importorskip("unicorn", reason="simulated boards need the extra `sim`")

RELEASES = (
    "ltchiptool==4.15.0",
    pytest.param("ltchiptool==4.11.2", marks=pytest.mark.soak),  # in the suite by hand, without the tap
)


@pytest.fixture(scope="module")
def bench():
    """One simulated board, 20 times real time, with a supply service that is ours alone."""
    runtime = tempfile.mkdtemp(prefix="rig-rt-")  # not tmp_path: a socket's path must be short
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIG_RUNTIME_DIR", runtime)
        with open_bench("sim:1@20") as bench:
            yield bench
    shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture(scope="module")
def control(bench):
    """The operator's hands at that bench."""
    return Path(bench.slot("A").table.flash_port).parent / "control"


def released(spec, work):
    """The flasher, or a skip where PyPI cannot be reached and it never was installed."""
    try:
        return load_flasher(spec, work=work)
    except UsageProblem as problem:
        if "cannot be reached" in str(problem):
            pytest.skip(str(problem))
        raise


@pytest.fixture(scope="module", params=RELEASES)
def release(request, tmp_path_factory):
    return released(request.param, tmp_path_factory.mktemp("work"))


def users_of(path: str) -> list[str]:
    """Command lines of processes that name `path`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if path.encode() in words:
            found.append(b" ".join(words).decode(errors="replace"))
    return found


def test_it_identifies_reads_and_writes(bench, release):
    native = NativeFlasher()
    image = bench.image.read_bytes()
    told: list[tuple[str, int, int]] = []
    with use_slot(bench.slot("A")) as slot:
        mine = native.identify(slot.link)
        before = native.read(slot.link, 0, 0x200000).data
        native.close()

        identity = release.identify(slot.link)
        assert (identity.chip, identity.chip_id) == ("BK7231N", 0x7231C)
        assert (identity.flash_id, identity.flash_size) == (mine.flash_id, 0x200000)
        assert identity.mac == mine.mac
        assert mine.efuse[:4].hex() not in identity.text.replace(" ", "")

        read = release.read(slot.link, 0, 0x200000, lambda *what: told.append(what))
        assert read.data == before
        assert told[-1] == ("read", 0x200000, 0x200000)
        assert len({done for _, done, _ in told}) > 500  # a step a sector
        assert [command.name for command in slot.tap.commands].count("read-4k") > 1000

        slot.guard.allow_writes([(0, len(image))])
        written = release.write(slot.link, [(0, image)], lambda *what: told.append(what))
        assert (written.ok, written.size, written.retries) == (True, len(image), ())
        assert told[-1] == ("write", len(image), len(image))
        assert native.verify(slot.link, [(0, image)]).ok
        end = -(-len(image) // 0x1000) * 0x1000
        assert native.verify(slot.link, [(end, before[end:])]).ok
        native.close()
    assert release.versions["ltchiptool"] == release.name.partition("==")[2]
    assert "bk7231tools" in release.versions


def test_a_write_before_the_backup_is_stopped_and_the_tool_ended(bench, release):
    with use_slot(bench.slot("A")) as slot:
        with pytest.raises(
            BenchBlocked, match="the guard stopped write-sr: comes before this board's backup"
        ) as stop:
            release.write(slot.link, [(0x11000, b"\x5a" * 0x1000)])
        assert stop.value.code == "guard-stopped"
        assert users_of(slot.link.path) == []
        writes = [command for command in slot.tap.commands if command.name in ("write-sr", "erase", "write-4k")]
        assert writes[0].name == "write-sr"
        assert all(command.refused for command in writes), "a tool that is ended late may have asked for more"


def test_a_board_that_is_not_there(bench, control, release):
    assert hand(control, "A", "pull") == {"ok": True}
    try:
        with use_slot(bench.slot("A")) as slot:
            with pytest.raises(UnitFailed, match="never answered") as failure:
                release.identify(slot.link)
            assert failure.value.code == "no-link"
    finally:
        hand(control, "A", "insert")


def test_a_board_that_goes_away_half_way(bench, control, tmp_path):
    """One release only: it takes its time to give up."""
    release = released(RELEASES[0], tmp_path)

    def pull(what: str, done: int, total: int) -> None:
        if done >= total // 2:
            hand(control, "A", "pull")

    try:
        with use_slot(bench.slot("A")) as slot:
            slot.guard.allow_writes([(0x1E0000, 0x8000)])
            with pytest.raises(UnitFailed, match=r"write: it said: ValueError: ") as failure:
                release.write(slot.link, [(0x1E0000, bytes(0x8000))], pull)
            assert failure.value.code == "flasher-failed"
            assert users_of(slot.link.path) == []
        assert "retrying (attempt" in release.last_output
        assert "E: ValueError: " in (tmp_path / "flasher-01-write.txt").read_text()
    finally:
        hand(control, "A", "insert")


def test_what_it_lacks_is_said_at_once(bench, release):
    with pytest.raises(UsageProblem, match=r"has no erase: use the native flasher"):
        release.erase(None, 0, 0x1000)
    with pytest.raises(UsageProblem, match=r"has no verify: use the native flasher"):
        release.verify(None, [(0, b"")])
    with pytest.raises(UsageProblem, match="multiples of 0x1000 only, not from 0x10f9a"):
        release.write(None, [(0x10F9A, b"x")])
