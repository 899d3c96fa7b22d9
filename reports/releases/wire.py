"""A trial's wire trace as it may be shown: an excerpt in lines, and what the wire tells in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path

from reports.releases.safe import shown
from reports.text import seconds
from rig.releases.trial import Trial
from rig.uart.accounting import Share, shares
from rig.uart.trace import Command

HEAD, TAIL = 14, 22  # lines of an excerpt: how it began, and how it ended
_ALIKE = 3  # commands of a kind in a row that are one line
_LONGEST = 160  # characters of a line
_SETTLED = ("read-4k", "read-256", "write-4k", "write-256", "erase", "erase-4k", "read-reg", "write-reg")


@dataclass(frozen=True)
class Excerpt:
    """`lines` of the trace of a trial; `dropped`: how many in the middle are not shown."""

    trial: Trial
    lines: list[str]
    dropped: int


def excerpt(run: Path, trial: Trial, head: int = HEAD, tail: int = TAIL) -> Excerpt | None:
    """None where no trace of it was kept, or it cannot be read."""
    commands = load(run, trial)
    if not commands:
        return None
    lines, dropped = _cut(list(_lines(commands)), head, tail)
    return Excerpt(trial, lines, dropped)


def lines_of(run: Path, name: str | None, head: int = HEAD, tail: int = TAIL) -> list[str]:
    """A trace file below a run's folder as lines, of a long one the first and last; [] where there is none."""
    commands = _load(run, name)
    return _cut(list(_lines(commands)), head, tail)[0] if commands else []


def _cut(lines: list[str], head: int, tail: int) -> tuple[list[str], int]:
    """(how they began and ended, how many in the middle are left out)."""
    dropped = len(lines) - head - tail
    if dropped > 1:
        lines = [*lines[:head], f"{'':>10}  … {dropped} lines …", *lines[-tail:]]
    return lines, max(dropped, 0)


def load(run: Path, trial: Trial) -> list[Command]:
    """What passed; [] where it was not kept. Only files in the run's folder are read, lines that make no sense are
    passed over."""
    return _load(run, trial.trace)


def _load(run: Path, name: str | None) -> list[Command]:
    if name is None:
        return []
    path = (run / name).resolve()
    if not path.is_relative_to(run.resolve()):
        return []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = (_command(line) for line in text.splitlines())
    return [command for command in found if command is not None]


def _command(line: str) -> Command | None:
    known = {each.name for each in fields(Command)}
    try:
        row = json.loads(line)
        made = Command(**{"address": None} | {name: value for name, value in row.items() if name in known})
    except (ValueError, TypeError, AttributeError):
        return None
    numbers = (made.begun_ns, made.sent_ns, made.reply_ns, made.reply_end_ns, made.size, made.reply_size, made.baud)
    sound = all(isinstance(each, int) for each in numbers) and made.baud > 0 and isinstance(made.name, str)
    return made if sound and isinstance(made.address, int | None) else None


def told(trial: Trial) -> str:
    """What passed between tool and board, from the trial's own accounting."""
    if not trial.commands:
        return "nothing passed on the wire"
    kinds = [f"{count} {name}" for name, count in sorted(trial.commands.items(), key=lambda each: -each[1])[:6]]
    more = len(trial.commands) - len(kinds)
    parts = [", ".join(kinds) + (f" and {more} more kinds" if more > 0 else "")]
    if trial.retries:
        parts.append(f"{trial.retries} of them repeated")
    if trial.lost_s >= 0.05:
        parts.append(f"{seconds(trial.lost_s)} s waited for answers that never came")
    return shown("; ".join(parts))


def _lines(commands: Sequence[Command]) -> Iterator[str]:
    begun = commands[0].starts_ns
    for (_, plain), group in groupby(shares(commands), key=_kind):
        row = list(group)
        if plain and len(row) > _ALIKE:
            yield _row(row, begun)
        else:
            yield from (_line(each, begun) for each in row)


def _kind(share: Share) -> tuple[str, bool]:
    command = share.command
    strange = share.lost or share.again or bool(command.status) or bool(command.refused) or bool(command.damage)
    return command.name, command.name in _SETTLED and not strange


def _line(share: Share, begun_ns: int) -> str:
    command = share.command
    words = [_at(share, begun_ns), command.name]
    if command.address is not None:
        words.append(f"0x{command.address:06x}")
    if command.size:
        words.append(f"{command.size} > {command.reply_size} bytes at {command.baud}")
    if command.sent > 1:
        words.append(f"({command.sent} in a row)")
    return _fit("  ".join(words[:2]) + " " + " ".join(words[2:]) + _notes(share))


def _notes(share: Share) -> str:
    command = share.command
    notes = []
    if command.refused:
        notes.append(f"STOPPED: {command.refused}")
    elif share.lost:
        notes.append(f"no answer for {share.lost_s * 1e3:.0f} ms")
    if command.status:
        notes.append(f"status {command.status}")
    if share.again:
        notes.append("again")
    if command.damage:
        notes.append(f"damaged by the study: {command.damage}")
    return f"  [{'; '.join(notes)}]" if notes else ""


def _row(row: Sequence[Share], begun_ns: int) -> str:
    addresses = [each.command.address for each in row if each.command.address is not None]
    where = f" 0x{min(addresses):06x} to 0x{max(addresses):06x}" if addresses else ""
    return _fit(f"{_at(row[0], begun_ns)}  {row[0].command.name}{where}, {len(row)} in a row, all answered")


def _at(share: Share, begun_ns: int) -> str:
    return f"{(share.command.begun_ns - begun_ns) / 1e9:10.4f}"


def _fit(text: str) -> str:
    line = shown(text).replace("\n", " ")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
