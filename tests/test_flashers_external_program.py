"""A program of the user's own as a flasher, hashes of what ran, and the rig's own word on what a tool wrote."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.errors import UnitFailed, UsageProblem
from rig.flashers import load_flasher
from rig.flashers.environment import Environment, _installed, files_hash, installed_hash
from rig.flashers.external import ExternalFlasher
from rig.flashers.judge import judge_write, sampled
from rig.flashers.native import NativeFlasher
from rig.flashers.profile import Profile
from rig.sim.flash import NorFlash
from tests.chip_on_wire import ChipOnWire, DirectLink
from tests.test_flashers_external import FakeLink

DOCUMENT = Path(__file__).parent.parent / "docs" / "adding-a-flasher.md"

# As hid_download_py does it: a bar redrawn with carriage returns, and exit code 0 whatever happens.
UPLOADER = """
import sys
words = sys.argv[1:]
print("words", len(words), words[-1].endswith("; touch x.bin"))
print("UartDownloader....\\nprogramm....")
sys.stderr.write("Getting Bus...  : |      |\\r")
if MODE == "nobus":
    sys.stderr.write("Cannot get bus. : |      |\\n")
    sys.exit(0)
sys.stderr.write("Gotten Bus...   : |      |\\rErasing         : |      |\\rWriting         : |####  |\\r")
if MODE == "crc":
    sys.stderr.write("CRC not equal   : |######|\\n")
    sys.exit(0)
if MODE == "quiet":
    sys.exit(0)
sys.stderr.write("Write Successful: |######|\\n")
"""


def documented() -> str:
    """The example in the docs."""
    section = DOCUMENT.read_text(encoding="utf-8").partition("## A program of your own")[2]
    return re.findall(r"```toml\n(.*?)```", section, re.DOTALL)[0]


@pytest.fixture
def link() -> Iterator[FakeLink]:
    link = FakeLink()
    yield link
    link.close()


@pytest.fixture
def uploader(tmp_path: Path):
    """A function: the docs' profile, pointed at a stand-in of that program that behaves as `mode` says."""
    folder = tmp_path / "flashers"
    folder.mkdir()

    def make(mode: str = "good") -> ExternalFlasher:
        home = tmp_path / "opt"
        (home / "bkutils").mkdir(parents=True, exist_ok=True)
        (home / "bkutils" / "boot.py").write_text("# belongs to it\n")
        (home / "uartprogram").write_text(UPLOADER.replace("MODE", repr(mode)))
        text = documented().replace("/opt/hid_download_py/venv/bin/python3", sys.executable)
        (folder / "hid-download.toml").write_text(text.replace("/opt/hid_download_py", str(home)))
        made = load_flasher("hid-download", folders=[folder], work=tmp_path)
        assert isinstance(made, ExternalFlasher)
        return made

    return make


def test_the_documented_profile_is_read(uploader, link: FakeLink, tmp_path: Path) -> None:
    flasher = uploader()
    result = flasher.write(link, [(0x11000, b"x" * 0x2000)])
    assert result.ok
    assert flasher.name == "hid-download"
    kept = (tmp_path / "flasher-01-write.txt").read_text()
    assert f"# installed: sha256 {flasher.sha256}" in kept
    assert "-s 11000 -u -w" in kept
    with pytest.raises(UsageProblem, match="has no read: use the native flasher"):
        flasher.read(link, 0, 0x1000)


@pytest.mark.parametrize(
    ("mode", "code", "sentence"),
    [
        ("nobus", "no-link", "never answered hid-download"),
        ("crc", "flasher-failed", "hid-download, write: it said: CRC not equal"),
        ("quiet", "flasher-failed", "ended without saying that it is done"),
    ],
)
def test_a_failure_that_ends_with_exit_code_0(uploader, link: FakeLink, mode: str, code: str, sentence: str) -> None:
    with pytest.raises(UnitFailed, match=sentence) as failure:
        uploader(mode).write(link, [(0x11000, b"x")])
    assert failure.value.code == code


def test_no_shell_reads_the_command(uploader, link: FakeLink, tmp_path: Path) -> None:
    flasher = uploader()
    words = [*flasher.profile.write.command[:-1], "{file}; touch x.bin"]
    command = flasher.profile.write.model_copy(update={"command": words})
    flasher.profile = flasher.profile.model_copy(update={"write": command})
    assert "words 9 True" in flasher.write(link, [(0x11000, b"x")]).output
    assert not list(tmp_path.rglob("x.bin"))


def test_the_hash_of_a_program_is_of_all_that_belongs_to_it(uploader, tmp_path: Path) -> None:
    first = uploader().sha256
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert uploader().sha256 == first
    assert uploader("crc").sha256 != first
    assert uploader().sha256 == first
    cache = tmp_path / "opt" / "bkutils" / "__pycache__"
    cache.mkdir()
    (cache / "boot.pyc").write_bytes(b"made when it runs")
    assert uploader().sha256 == first
    (tmp_path / "opt" / "bkutils" / "more.py").write_text("")
    assert uploader().sha256 != first


def test_a_program_that_is_not_there_or_is_named_like_a_release(uploader, tmp_path: Path) -> None:
    uploader()
    with pytest.raises(UsageProblem, match="a program of your own, name it without a release"):
        load_flasher("hid-download==1.0", folders=[tmp_path / "flashers"])
    (tmp_path / "opt" / "uartprogram").unlink()
    with pytest.raises(UsageProblem, match=r"there is no program .*/opt/uartprogram: correct the flasher's profile"):
        load_flasher("hid-download", folders=[tmp_path / "flashers"])
    with pytest.raises(UsageProblem, match="cannot be read: nothing there"):
        files_hash([tmp_path / "nowhere"] if (tmp_path / "nowhere").mkdir() is None else [])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('executable = "/opt/hid_download_py/uartprogram"', 'executable = "uartprogram"', "needs its full path"),
        ('files = ["/opt', 'files = ["opt', "files need their full paths"),
        ('title = "hid_download_py"', 'title = "hid"\npins = ["x==1"]', "pins and record are for a package"),
        ('title = "hid_download_py"', 'title = "hid"\npackage = "hid"', "files are for a program of your own"),
    ],
)
def test_a_mistake_in_such_a_profile(old: str, new: str, sentence: str) -> None:
    text = documented()
    assert old in text
    with pytest.raises(ValueError, match=sentence):
        Profile(**tomllib.loads(text.replace(old, new)))


# -- environments --------------------------------------------------------------------------------------------


def an_environment(folder: Path, *, digest: str = "abc", script: str = "one") -> Path:
    """An installation's lists of files, as pip leaves them."""
    packages = folder / "lib" / "python3.11" / "site-packages"
    for name, lines in {
        "tool-1.0": [
            f"../../../bin/tool,sha256={script},1",
            f"tool.py,sha256={digest},9",
            "tool-1.0.dist-info/RECORD,,",
        ],
        "pip-23.0": ["pip.py,sha256=whatever,1"],
    }.items():
        record = packages / f"{name}.dist-info" / "RECORD"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text("\n".join(lines) + "\n")
    (folder / "bin").mkdir(exist_ok=True)
    python = folder / "bin" / "python"
    python.touch()
    python.chmod(0o755)
    return packages


def test_the_hash_of_an_installation(tmp_path: Path) -> None:
    packages = an_environment(tmp_path / "a")
    first = installed_hash(tmp_path / "a")
    an_environment(tmp_path / "b", script="names another folder")
    assert installed_hash(tmp_path / "b") == first
    (packages / "pip-23.0.dist-info" / "RECORD").write_text("pip.py,sha256=another,1\n")
    assert installed_hash(tmp_path / "a") == first
    an_environment(tmp_path / "a", digest="changed")
    assert installed_hash(tmp_path / "a") != first


def test_an_installation_that_was_changed_since_does_not_count(tmp_path: Path) -> None:
    an_environment(tmp_path)
    stamp = {"folder": str(tmp_path), "versions": {"tool": "1.0"}, "sha256": installed_hash(tmp_path)}
    (tmp_path / "rig-installed.json").write_text(json.dumps(stamp))
    assert _installed(tmp_path) == Environment(tmp_path, {"tool": "1.0"}, stamp["sha256"])
    an_environment(tmp_path, digest="pip install by hand")
    assert _installed(tmp_path) is None
    del stamp["sha256"]  # made by an earlier rig, which kept none
    (tmp_path / "rig-installed.json").write_text(json.dumps(stamp))
    assert _installed(tmp_path).sha256 == installed_hash(tmp_path)


# -- the rig's own word --------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 0x120  # 18 sectors
PIECES = [(0x11000, CONTENT), (0x1D1000, b"CFG" * 100)]


@contextmanager
def written() -> Iterator[tuple[NativeFlasher, DirectLink, ChipOnWire]]:
    """A chip that holds PIECES."""
    content = bytearray(b"\xff" * 0x200000)
    for offset, data in PIECES:
        content[offset : offset + len(data)] = data
    with ChipOnWire(NorFlash(bytes(content))) as chip:
        rom = NativeFlasher()
        try:
            yield rom, DirectLink(chip), chip
        finally:
            rom.close()


def test_what_was_written_is_compared_and_sampled() -> None:
    with written() as (rom, link, chip):
        found = judge_write(rom, link, PIECES)
        assert found.ok
        assert found.said.endswith("; 7 sectors read back agree")
        chip.flash.data[0x15000] ^= 1
        found = judge_write(rom, link, PIECES)
        assert not found.ok
        assert "0x15000" in found.said


def test_a_crc_that_lies_is_found_by_reading_back() -> None:
    """Whatever the reason: the CRC agrees and the content does not."""
    with written() as (rom, link, _):

        class Lying:
            verify = staticmethod(rom.verify)

            def read(self, link, offset, length):  # type: ignore[no-untyped-def]
                found = rom.read(link, offset, length)
                data = bytearray(found.data or b"")
                data[5] ^= 0x10
                return type(found)(True, found.said, found.seconds, found.size, (), data=bytes(data))

        found = judge_write(Lying(), link, PIECES)  # type: ignore[arg-type]
        assert (found.ok, found.said) == (False, "the chip's CRC agrees, but at 0x11005 other bytes are read")


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 0x1F), st.integers(0, 0xFFF), st.integers(1, 0x5000)),
        min_size=1,
        max_size=3,
        unique_by=lambda part: part[0],
    ),
    st.integers(0, 5),
)
def test_samples_are_whole_sectors_of_what_was_planned(parts: list[tuple[int, int, int]], samples: int) -> None:
    pieces = [(0x10000 * block + head, bytes([block + 1]) * length) for block, head, length in parts]
    chosen = sampled(pieces, samples)
    assert chosen == sampled(pieces, samples)
    assert chosen == sorted(chosen)
    for offset, data in pieces:
        assert offset in dict(chosen)
        assert any(at + len(read) == offset + len(data) for at, read in chosen)
    for at, read in chosen:
        assert 0 < len(read) <= 0x1000
        assert at // 0x1000 == (at + len(read) - 1) // 0x1000
        assert any(data[at - offset : at - offset + len(read)] == read for offset, data in pieces if offset <= at)
