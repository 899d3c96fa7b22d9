"""Say what a file is, from its content: never from its name, and never raising, whatever the bytes are.

Order and tests: a container's magic first, then code (bootloader or app, by its vectors under a known key), then
what is left. The name is not looked at; `rig.image.planning.guard` uses it in its sentences only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from rig.errors import UsageProblem
from rig.image.firmware import FirmwareProfile, load_profiles
from rig.image.identity import Identity
from rig.image.kinds.container import anything_else, container
from rig.image.kinds.layout import code_file

MAX_SIZE = 16 << 20  # bytes; the largest flash seen on these modules is 4 MiB


def read_image(path: Path) -> bytes:
    """The content of a firmware file. UsageProblem with one sentence if it is missing, not a file, unreadable,
    empty, or over 16 MiB."""
    try:
        if path.is_dir():
            raise UsageProblem(f"{path} is a folder; name the firmware file itself.")
        if path.is_fifo() or path.is_socket():  # opening one waits for somebody at its other end
            raise UsageProblem(f"{path} is a pipe; name a file.")
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except FileNotFoundError as problem:
        raise UsageProblem(f"{path}: there is no such file.") from problem
    except OSError as problem:
        raise UsageProblem(f"{path}: cannot be read ({problem.strerror or problem}).") from problem
    if not data:
        raise UsageProblem(f"{path} is empty: was its download cut off?")
    if len(data) > MAX_SIZE:
        raise UsageProblem(f"{path} is larger than 16 MiB, so it is no firmware for these modules.")
    return data


def identify(data: bytes, name: str = "", profiles: Sequence[FirmwareProfile] | None = None) -> Identity:
    """What `data` is. `profiles` (the rig's own by default) name the firmware; `name` is not looked at.

    Never raises on any bytes: what cannot be told is Kind.UNKNOWN. Of more than 16 MiB only the first are looked at.
    """
    del name
    profiles = _own_profiles() if profiles is None else profiles
    return _identified(data[:MAX_SIZE] if len(data) > MAX_SIZE else data, profiles, outer=True)


def _identified(data: bytes, profiles: Sequence[FirmwareProfile], *, outer: bool) -> Identity:
    found = container(data, lambda content: _identified(content, profiles, outer=False)) if outer else container(data)
    return found or code_file(data, profiles) or anything_else(data)


@lru_cache(maxsize=1)
def _own_profiles() -> tuple[FirmwareProfile, ...]:
    return load_profiles()
