"""The list of images a production bench may write: their sha256, as `sha256sum` prints them. Optional."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rig.errors import ImageRefused, UsageProblem
from rig.files import why_unreadable

_LINE = re.compile(r"\\?([0-9a-fA-F]{64})[ \t]+\*?(\S.*)")
_LARGEST = 1 << 20  # bytes: some ten thousand lines


@dataclass(frozen=True)
class Allowed:
    """A list as read from `path`: file name by sha256."""

    path: Path
    images: dict[str, str]


def load_allowed(path: Path) -> Allowed:
    """The list in `path`: a sha256, blanks and a file name a line; blank lines and those with # are skipped.

    UsageProblem with one sentence, and the line's number, for anything else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise UsageProblem(f"no list of allowed images at {path}") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageProblem(f"cannot read the list of allowed images {path}: {why_unreadable(problem)}") from None
    if len(content) > _LARGEST:
        raise UsageProblem(f"{path} is over 1 MiB: that is no list of allowed images")
    images: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.rstrip())
        if found is None:
            raise UsageProblem(f"{path}, line {number}: not a sha256 and a file name, as sha256sum writes them")
        images[found.group(1).lower()] = found.group(2)
    return Allowed(path, images)


def require_allowed(sha256: str, allowed: Allowed | None, name: str) -> None:
    """ImageRefused (rule not-allowed) unless the image called `name` is on the list, or there is none."""
    if allowed is None or sha256.lower() in allowed.images:
        return
    reason = f"not on this bench's list of allowed images, {allowed.path}"
    known = next((digest for digest, listed in allowed.images.items() if Path(listed).name == name), None)
    instead = "use one that is, or have its line (sha256sum) put there"
    if known:
        reason += f", which has other content under that name (sha256 {known[:12]}..., not {sha256[:12]}...)"
    raise ImageRefused(f"{name} is {reason}; {instead}.", rule="not-allowed", reason=reason, instead=instead)
