"""The chain through a journal's lines: each line carries the sha256 of the link before it and of itself.

    {"kind":"run-started",...,"chain":"5f2c..."}

A link is sha256(the previous line's link as 64 hex digits, 64 zeros before the first + the line's JSON without the
key `chain`). Lines of an older rig at the beginning carry none; the first link goes on from those they would have, so
that nothing can be put in before it. The last link, the head, stands for the whole journal: who has it on paper can
tell whether any line was changed since. The chain alone proves less: who can write the file can write all of it anew,
links and all.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from rig.errors import UsageProblem

START = "0" * 64
SINCE = 3  # the journal schema whose lines carry it
_LINK = re.compile(rb',"chain":"([0-9a-f]{64})"\}$')


def link(before: str, body: bytes) -> str:
    """The link of a line. `body`: its JSON without chain and newline."""
    return hashlib.sha256(before.encode("ascii") + body).hexdigest()


def forged(before: str, body: bytes) -> tuple[bytes, str]:
    """A line as it goes into the journal, newline included, and its link. `body`: a JSON object that is not empty."""
    own = link(before, body)
    return body[:-1] + b',"chain":"' + own.encode("ascii") + b'"}\n', own


def split(line: bytes) -> tuple[bytes, str | None]:
    """A line (without newline) as its body and its link; None: it carries none."""
    found = _LINK.search(line)
    if found is None:
        return line, None
    return line[: found.start()] + b"}", found[1].decode("ascii")


def last_link(lines: list[bytes]) -> str:
    """What the next line goes on from: the link of the last line that has one, else the one it would have."""
    for line in reversed(lines):
        if (own := split(line)[1]) is not None:
            return own
    return _unwritten(lines)


def _unwritten(lines: list[bytes]) -> str:
    """The link that the last of these lines would carry, all of an older rig and without one."""
    own = START
    for line in lines:
        own = link(own, line)
    return own


def head(path: Path) -> str:
    """The head of a journal's chain; 64 zeros where no line carries a link. UsageProblem if it cannot be read."""
    links = (split(line)[1] for line in reversed(whole_lines(path)))
    return next((own for own in links if own is not None), START)


def whole_lines(path: Path) -> list[bytes]:
    """A journal's lines as they stand, without the newline; what a crash left after the last newline is left out."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise UsageProblem(f"The journal {path} cannot be read: {error.strerror}.") from error


@dataclass(frozen=True)
class Break:
    """Where a chain does not hold. `line` counts from 1."""

    line: int
    sentence: str


@dataclass(frozen=True)
class Chain:
    """What a journal's chain says of it. `links` by line, None where there is none; `unchained`: lines at the
    beginning that an older rig wrote, of which the chain says nothing."""

    links: list[str | None]
    breaks: list[Break]
    unchained: int

    @property
    def head(self) -> str:
        return next((own for own in reversed(self.links) if own is not None), START)


def check(lines: list[bytes]) -> Chain:
    """Follow the chain through these lines; each break is told once, then the chain is taken up again behind it."""
    parts = [split(line) for line in lines]
    links = [own for _, own in parts]
    unchained = next((at for at, own in enumerate(links) if own is not None), len(lines))
    breaks = [
        Break(at + 1, f"line {at + 1} has lost its link of the chain: it was edited or put in")
        for at, line in enumerate(lines)
        if links[at] is None and (at > unchained or _schema(line) >= SINCE)
    ]
    before = _unwritten(lines[:unchained])
    for at in range(unchained, len(lines)):
        body, own = parts[at]
        if own is None:
            continue
        if link(before, body) != own:
            breaks.append(Break(at + 1, _why(parts, at, unchained)))
        before = own
    return Chain(links, sorted(breaks, key=lambda each: each.line), unchained)


def _why(parts: list[tuple[bytes, str | None]], at: int, first: int) -> str:
    """What most likely happened to the line at `at`, whose link does not follow from the line before it."""
    body, own = parts[at]
    number = at + 1
    if at > 0 and link(START, body) == own:
        return f"line {number} was written as the first line: lines were put in before it, or it was moved"
    for other, (_, before) in enumerate(parts):
        if before is None or link(before, body) != own:
            continue
        if other < at:
            between = f"line {other + 2}" if other + 2 == at else f"lines {other + 2} to {at}"
            return f"line {number} was written right after line {other + 1}: {between} was put in, moved or edited"
        return f"line {number} was written after line {other + 1}: the lines were put in another order"
    if at == first:
        return f"line {number} is not as it was written, or lines before it were removed"
    return f"line {number} was edited, or a line between {number - 1} and {number} was removed or replaced"


def _schema(line: bytes) -> int:
    try:
        version = json.loads(line).get("schema_version", 1)
    except (ValueError, AttributeError):
        return 0
    return version if isinstance(version, int) else 0
