"""Copies of an installed release with something changed in them, and a study that asks for them as releases.

A copy is a program of the user's own: its profile is the shipped one of its tool, pointed at the copy.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from rig.errors import UsageProblem
from rig.flashers import environment_of
from rig.flashers.environment import Environment
from rig.flashers.profile import SHIPPED

BASE = "bk7231tools==2.1.2"
TOOL = "bk7231tools"

Change = tuple[str, str, str]  # (file below the tool's package, what stands there once, what stands there instead)

_LOW, _HIGH = "serial/cmd_ll_flash.py", "serial/cmd_hl_flash.py"
_GIVES_UP = """                    f"Writing 4k failure @ {hex(start)} ({e}), retrying (attempt {attempt})"
                )
                attempt += 1
                if attempt > self.write_retries:
                    raise
"""
_BLOCK = """            block = io.read(4096)
"""
_ERASES = """            self.flash_erase_block(
                addr,
                EraseSize.SECTOR_4K,
                dry_run=dry_run,
            )
            if not block_empty:
"""

SKIPPED_ERASE: Change = (_HIGH, _ERASES, f"""            if not block_empty:
    {_ERASES.partition("            if not")[0].replace(chr(10), chr(10) + "    ").rstrip()}
            if not block_empty:
""")  # fmt: skip
WRONG_LAST_SECTOR: Change = (_HIGH, _BLOCK, f"""{_BLOCK}            if 0 < end - addr <= 4096:
                block = block[:-1] + bytes((block[-1] ^ 1,))
""")  # fmt: skip
LOST_RETRY: Change = (_LOW, _GIVES_UP, _GIVES_UP.replace("attempt > self.write_retries", "True"))
LIE: Change = (_LOW, _GIVES_UP, _GIVES_UP.replace("                    raise", "                    return"))
LIE_AT_ONCE: Change = (_LOW, _GIVES_UP, LIE[2].replace("attempt > self.write_retries", "True"))


def slower(seconds: float) -> Change:
    """So much more for each sector that is written."""
    slow = f"            import time\n            time.sleep({seconds!r})\n"
    return (_HIGH, _BLOCK, f"{_BLOCK}{slow}")


def base_environment() -> Environment:
    """Where the unpatched release is; skips the test where it cannot be installed."""
    try:
        return environment_of(BASE)
    except UsageProblem as problem:
        pytest.skip(str(problem))


def plant(folder: Path, releases: Mapping[str, Sequence[Change]]) -> Path:
    """A folder of profiles (`[bench] profiles`) in `folder`, with one for a copy for each of `releases` (name, its
    changes)."""
    base = base_environment()
    profiles = folder / "profiles"
    (profiles / "flashers").mkdir(parents=True)
    for name, changes in releases.items():
        executable = _copied(base.folder, folder / "copies" / name)
        package = next(executable.parent.parent.glob(f"lib/python*/site-packages/{TOOL}"))
        for file, old, new in changes:
            text = (package / file).read_text(encoding="utf-8")
            assert text.count(old) == 1, f"{file} of {BASE} is not what the change was made for"
            (package / file).write_text(text.replace(old, new), encoding="utf-8")
        (profiles / "flashers" / f"{name}.toml").write_text(program_profile(name, executable, [package]))
    return profiles


def program_profile(title: str, executable: Path, files: Sequence[Path] = ()) -> str:
    """The shipped profile of the tool, for a program."""
    text = (SHIPPED / f"{TOOL}.toml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^(?:package|record|title) = .*\n", "", text)
    head = f'title = "{title}"\nfiles = [{", ".join(repr(str(path)) for path in files)}]\n'
    return head + re.sub(r"(?m)^executable = .*$", f"executable = {str(executable)!r}", text)


def _copied(base: Path, to: Path) -> Path:
    """An environment's copy, without what came with Python; its start script starts the copy's Python."""
    skipped = shutil.ignore_patterns(
        "__pycache__", "pip", "pip-*", "setuptools", "setuptools-*", "_distutils_hack", "distutils-precedence.pth"
    )
    shutil.copytree(base, to, symlinks=True, ignore=skipped)
    script = to / "bin" / TOOL
    _, rest = script.read_text(encoding="utf-8").split("\n", 1)
    script.write_text(f"#!{to / 'bin' / 'python'}\n{rest}", encoding="utf-8")
    return script


def know(bench_file: Path, profiles: Path) -> None:
    """The bench finds its users' profiles in that folder."""
    text = bench_file.read_text(encoding="utf-8")
    assert text.count("[bench]\n") == 1
    bench_file.write_text(text.replace("[bench]\n", f'[bench]\nprofiles = "{profiles}"\n'), encoding="utf-8")


def study_text(releases: Sequence[str], operations: Sequence[str], **more: object) -> str:
    """A study of copies by their names; `BASE` is the unpatched release as it is installed."""
    rows = "".join(f"\n[[releases]]\nspec = {name!r}\n" for name in releases)
    head = "".join(f"{key} = {str(value).lower() if isinstance(value, bool) else value}\n"
                   for key, value in more.items())  # fmt: skip
    return f'conditions = ["normal"]\noperations = {list(operations)!r}\n{head}{rows}'
