"""Builds the simulated bench's own firmware: `python -m rig.sim.firmware.build`.

Compiles src/ (no libraries, our own code) into one bootloader and two apps, encrypts and frames them as the chip
wants its code, and writes them to images/, where they are committed: nobody needs a compiler to use the rig. After
a change in src/ run it and commit both. It needs `arm-none-eabi-gcc` (Debian: gcc-arm-none-eabi; no C library).
Another compiler version makes other, equally good bytes; images/compiler.txt says which one made the committed ones.

The images were only ever run on the executing model, not on silicon.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rig.errors import RigError, UsageProblem
from rig.image import beken
from rig.sim.firmware import DEMO_NAME, DEMO_VERSION, FACTORY_NAME, FACTORY_VERSION, IMAGES

PREFIX = "arm-none-eabi-"
SOURCE = Path(__file__).parent / "src"
COMPILER = "compiler.txt"

ROM_TAG = b"BK7231\0\0"  # at TAG_AT behind the start of bootloader and app
TAG_AT = 0x100

_FLAGS = [
    *("-mcpu=arm968e-s", "-marm", "-Os", "-std=c11", "-Wall", "-Wextra", "-Werror"),
    *("-ffreestanding", "-nostdlib", "-fno-builtin", "-fno-common", "-fno-ident", "-ffunction-sections"),
    *("-Wl,--gc-sections", "-Wl,--build-id=none"),
]


@dataclass(frozen=True)
class Build:
    """One image: its file, sources, logical start address, and what it calls itself."""

    file: str
    sources: tuple[str, ...]
    origin: int
    defines: tuple[str, ...] = ()

    @property
    def bootloader(self) -> bool:
        return self.origin == 0


_APP = ("app.S", "app.c", "console.c", "flash.c")

BUILDS = (
    Build("boot.bin", ("boot.S", "boot.c", "console.c"), 0),
    Build("demo.bin", _APP, 0x10000, (f'NAME="{DEMO_NAME}"', f'VERSION="{DEMO_VERSION}"')),
    Build("factory.bin", _APP, 0x10000, (f'NAME="{FACTORY_NAME}"', f'VERSION="{FACTORY_VERSION}"', "FACTORY")),
)


def compiler_version() -> str:
    """First line of the compiler's `--version`. Raises UsageProblem where there is no compiler."""
    if not shutil.which(PREFIX + "gcc"):
        raise UsageProblem(f"{PREFIX}gcc is not installed (Debian: apt install gcc-arm-none-eabi)")
    return _run([PREFIX + "gcc", "--version"]).splitlines()[0]


def build(into: Path) -> None:
    """Write all images, ready for flash, and the compiler's version into the folder `into`."""
    version = compiler_version()
    into.mkdir(parents=True, exist_ok=True)
    for one in BUILDS:
        (into / one.file).write_bytes(store(_compile(one), one))
    (into / COMPILER).write_text(version + "\n")


def store(code: bytes, one: Build) -> bytes:
    """`code` as it lies in flash: encrypted with the Tuya key and framed. A bootloader's tag stays plain."""
    code += b"\xff" * (-len(code) % beken.BLOCK)
    if code[TAG_AT : TAG_AT + len(ROM_TAG)] != ROM_TAG:
        raise RigError(f"{one.file} has no tag at {TAG_AT:#x}: the linker script is wrong")
    stored = bytearray(beken.crypt(code, one.origin, beken.TUYA_KEY))
    if one.bootloader:
        stored[TAG_AT : TAG_AT + len(ROM_TAG)] = ROM_TAG
    return beken.frame(bytes(stored))


def _compile(one: Build) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        elf, out = Path(folder) / "image.elf", Path(folder) / "image.bin"
        command = [PREFIX + "gcc", *_FLAGS, *(f"-D{define}" for define in one.defines)]
        command += [f"-Wl,--defsym=ORIGIN_ADDRESS={one.origin:#x}", "-T", "image.ld", *one.sources, "-o", str(elf)]
        _run(command)
        _run([PREFIX + "objcopy", "-O", "binary", "-j", ".code", str(elf), str(out)])
        return out.read_bytes()


def _run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RigError(f"{command[0]} ended with {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


def main() -> int:
    try:
        build(IMAGES)
    except RigError as problem:
        sys.stderr.write(f"{problem}\n")
        return int(problem.exit_code)
    for one in BUILDS:
        sys.stdout.write(f"{IMAGES / one.file}: {(IMAGES / one.file).stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
