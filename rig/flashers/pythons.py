"""Another Python than the rig's own, for a release that wants one."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from rig.errors import UsageProblem

_ASK_S = 20.0
_VERSION = re.compile(r"3\.\d+")


def find_python(wanted: str) -> Path:
    """The Python called `3.12`, looked for on PATH as python3.12, or the one whose full path is given.

    One that is found and does not start (a pyenv shim of a version that is not switched on) is passed over. Raises
    UsageProblem in one sentence.
    """
    if "/" in wanted:
        path = Path(wanted).expanduser()
        if _starts(path, None):
            return path
        raise UsageProblem(f"python = {wanted!r}: there is no Python that starts")
    if _VERSION.fullmatch(wanted) is None:
        raise UsageProblem(f"python = {wanted!r}: say a version such as 3.12, or a Python's full path")
    folders = [Path(folder) for folder in os.get_exec_path() if folder]
    for folder in folders:
        if _starts(folder / f"python{wanted}", wanted):
            return folder / f"python{wanted}"
    raise UsageProblem(f"Python {wanted} is not here: no python{wanted} on PATH starts; install it, or name its path")


def _starts(path: Path, wanted: str | None) -> bool:
    """Whether it is a Python 3, of the version `wanted` if one is."""
    if not os.access(path, os.X_OK) or path.is_dir():
        return False
    asks = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [path, "-I", "-c", asks], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_ASK_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = done.stdout.strip()
    return done.returncode == 0 and (found == wanted if wanted is not None else found.startswith("3."))
