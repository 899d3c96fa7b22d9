"""The bench's list of allowed images: what is on it, what is not, and bad lines."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from rig.bench.config import allowed_images, load_bench
from rig.errors import Exit, ImageRefused, UsageProblem
from rig.image.planning.trust import load_allowed, require_allowed

IMAGE = b"an image"
SUM = hashlib.sha256(IMAGE).hexdigest()
BENCH = """
[bench]
name = "b"
allowed_images = "lists/images.sha256"
[supply.psu1]
resource = "TCPIP::192.168.1.50::5555::SOCKET"
[slot.A]
supply = "psu1"
channel = 1
flash_port = "/dev/ttyUSB0"
product = "ds-121"
"""


def test_what_sha256sum_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "a b.bin").write_bytes(IMAGE)
    lines = subprocess.run(
        ["sha256sum", "a b.bin", "--binary", "a b.bin"], cwd=tmp_path, capture_output=True, check=True
    ).stdout
    path = tmp_path / "list"
    path.write_bytes(b"# production\n\n" + lines.upper().replace(b"A B.BIN", b"a b.bin"))
    allowed = load_allowed(path)
    assert allowed.images == {SUM: "a b.bin"}
    require_allowed(SUM, allowed, "anything.bin")
    require_allowed(SUM.upper(), allowed, "anything.bin")


def test_without_a_list_everything_is_allowed() -> None:
    require_allowed(SUM, None, "x.bin")


def test_what_is_not_on_the_list(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text(f"{'0' * 64}  images/x.bin\n")
    with pytest.raises(ImageRefused) as caught:
        require_allowed(SUM, load_allowed(path), "y.bin")
    assert (caught.value.rule, caught.value.exit_code) == ("not-allowed", Exit.USAGE)
    assert str(caught.value).startswith("y.bin is not on this bench's list of allowed images")
    with pytest.raises(ImageRefused, match=r"other content under that name \(sha256 000000000000"):
        require_allowed(SUM, load_allowed(path), "x.bin")
    path.write_text("")
    with pytest.raises(ImageRefused):
        require_allowed(SUM, load_allowed(path), "x.bin")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"{SUM}  a.bin\nnonsense\n".encode(), "line 2"),
        (f"{SUM[:-1]}  a.bin\n".encode(), "line 1"),
        (f"{SUM}\n".encode(), "line 1"),
        (f"\n# x\n{SUM}0  a.bin\n".encode(), "line 3"),
        (f"SHA256 (a.bin) = {SUM}\n".encode(), "line 1"),
        (b"\xff\xfe\n", "cannot read"),
        (b"\n" * (1 << 20) + b"\n", "over 1 MiB"),
    ],
)
def test_a_bad_line_is_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(UsageProblem, match=says) as caught:
        load_allowed(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_bench_names_its_list(tmp_path: Path) -> None:
    file = tmp_path / "bench.toml"
    file.write_text(BENCH)
    with pytest.raises(UsageProblem, match=r"no list of allowed images at .*lists/images\.sha256"):
        allowed_images(load_bench(file))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "images.sha256").write_text(f"{SUM}  a.bin\n")
    found = allowed_images(load_bench(file))
    assert found is not None
    assert found.images == {SUM: "a.bin"}
    file.write_text(BENCH.replace('allowed_images = "lists/images.sha256"\n', ""))
    assert allowed_images(load_bench(file)) is None
