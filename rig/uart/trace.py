"""What passed on a board's flash line: one `Command` each, as JSON for programs and as a page for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rig.files import write_durably
from rig.uart.accounting import Share, account, shares, table

JSON_SUFFIXES = (".jsonl", ".json")


@dataclass
class Command:
    """One command as it passed: monotonic ns of its first and last byte and of its reply's, sizes in bytes.

    `size` is one frame's, `sent` how many in a row stand for this one (link checks come by the hundred: the last is
    kept, `first_ns` is when the first came, `waited_ns` how long all before the last waited in vain). `answered`: a
    whole reply of its own came; `status` is that reply's. `baud` is the board's port's when it was sent, `reply_baud`
    when its reply came. `head` are the first bytes of what was asked, hexadecimal. `damage` is what was done to it on
    request.
    """

    name: str
    address: int | None
    begun_ns: int
    sent_ns: int = 0
    reply_ns: int = 0
    reply_end_ns: int = 0
    size: int = 0
    reply_size: int = 0
    refused: str | None = None
    baud: int = 115200
    reply_baud: int | None = None
    answered: bool = False
    status: int | None = None
    head: str | None = None
    sent: int = 1
    first_ns: int | None = None
    waited_ns: int = 0
    damage: str | None = None

    @property
    def starts_ns(self) -> int:
        """When it was first asked."""
        return self.begun_ns if self.first_ns is None else self.first_ns


@dataclass(frozen=True)
class Section:
    """From the command with this index on: what the rig was about. For the page and its sums."""

    index: int
    title: str


def save_json(path: Path, commands: Iterable[Command]) -> None:
    """One JSON object a line; what is not known is left out. Raises OSError."""
    lines = [json.dumps({k: v for k, v in vars(command).items() if v is not None}) + "\n" for command in commands]
    write_durably(path, "".join(lines), private=True)


def save_trace(path: Path, commands: Sequence[Command], sections: Sequence[Section] = ()) -> None:
    """As JSON lines where the file's name says so (.jsonl, .json), else as a page. Raises OSError."""
    if path.suffix in JSON_SUFFIXES:
        save_json(path, commands)
    else:
        write_durably(path, page(commands, sections), private=True)


def page(commands: Sequence[Command], sections: Sequence[Section] = ()) -> str:
    """Every command with its times, and after each section the sum of where the time went."""
    if not commands:
        return "Nothing passed on the wire.\n"
    begun = commands[0].starts_ns
    marks = [mark for mark in sections if mark.index < len(commands)]
    if not marks or marks[0].index > 0:
        marks.insert(0, Section(0, "wire"))
    lines: list[str] = []
    ends = [mark.index for mark in marks[1:]] + [len(commands)]
    for mark, end in zip(marks, ends, strict=True):
        part = commands[mark.index : end]
        if part:
            lines += [f"== {mark.title} ==", "", _HEAD]
            lines += [_line(share, begun) for share in shares(part)]
            lines += ["", *table(account(part)), ""]
    return "\n".join(lines)


_HEAD = f"{'at s':>11} {'host ms':>9} {'wire ms':>9} {'chip ms':>9}  command"


def _line(share: Share, begun_ns: int) -> str:
    command = share.command
    words = [command.name]
    if command.address is not None:
        words.append(f"0x{command.address:06x}")
    if command.size:
        words.append(f"{command.size} > {command.reply_size} bytes at {command.baud}")
    if command.sent > 1:
        words.append(f"({command.sent} in a row)")
    notes = []
    if command.refused:
        notes.append(f"STOPPED: {command.refused}")
    elif share.lost:
        notes.append(f"no answer for {share.lost_s * 1e3:.1f} ms")
    if command.status:
        notes.append(f"status {command.status}")
    if share.again:
        notes.append("again")
    if command.damage:
        notes.append(f"damaged: {command.damage}")
    text = " ".join(words) + (f"  [{'; '.join(notes)}]" if notes else "")
    at = (command.starts_ns - begun_ns) / 1e9
    return f"{at:11.6f} {share.host_s * 1e3:9.2f} {share.wire_s * 1e3:9.2f} {share.chip_s * 1e3:9.2f}  {text}"
