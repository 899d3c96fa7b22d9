"""Where the time went on a flash line: each command's share of host, wire and chip, and their sums by kind.

The time between two moments is cut without rest: what passes between one command's reply and the next command is the
host's; while a command runs, its bytes at their baud are the wire's (10 bits a byte) and the remainder is the chip's,
an adaptor's latency with it. A command that nobody answered costs the wire its bytes, and the wait until the next one
counts as lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

BITS_PER_BYTE = 10  # 8N1
SILENT = ("reboot",)  # the ROM does not answer these: no wait is lost on them
_LINK = "link-check"
_MOVES = ("read-4k", "read-256", "write-4k", "write-256", "erase", "erase-4k")
# who asks for one of these begins something new: what follows is no repetition of what came before
_BEGINS = ("spi-op", "read-sr", "write-sr", "read-reg", "write-reg", "set-baud", "reset-pulse")


class Timed(Protocol):
    """What is asked of a command: see `rig.uart.trace.Command`."""

    name: str
    address: int | None
    begun_ns: int
    sent_ns: int
    waited_ns: int
    reply_end_ns: int
    size: int
    reply_size: int
    refused: str | None
    baud: int
    reply_baud: int | None
    answered: bool
    status: int | None
    head: str | None
    sent: int
    damage: str | None

    @property
    def starts_ns(self) -> int: ...


@dataclass(frozen=True)
class Share:
    """One command's seconds: `host_s` before it, then `wire_s`, `chip_s`, and `lost_s` waiting for no answer.

    `again`: the same as an earlier one, because that went wrong.
    """

    command: Timed
    host_s: float
    wire_s: float
    chip_s: float
    lost_s: float
    lost: bool
    again: bool


@dataclass
class Row:
    """The sum of one kind of command. Seconds and bytes; `count` counts every frame, also those of a row."""

    name: str
    count: int = 0
    retries: int = 0
    unanswered: int = 0
    stopped: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    host_s: float = 0.0
    wire_s: float = 0.0
    chip_s: float = 0.0
    lost_s: float = 0.0

    @property
    def seconds(self) -> float:
        return self.host_s + self.wire_s + self.chip_s + self.lost_s

    def add(self, other: Row) -> None:
        for name in self.__dataclass_fields__:
            if name != "name":
                setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class Accounting:
    """The sums. `before_s` and `after_s`: from the given beginning to the first command, and after the last reply."""

    rows: tuple[Row, ...]
    before_s: float = 0.0
    after_s: float = 0.0

    @property
    def total(self) -> Row:
        """All rows as one."""
        total = Row("all")
        for row in self.rows:
            total.add(row)
        return total

    @property
    def wall_s(self) -> float:
        return self.before_s + self.total.seconds + self.after_s

    def row(self, name: str) -> Row:
        """The row of a kind; an empty one if none passed."""
        return next((row for row in self.rows if row.name == name), Row(name))


def account(commands: Sequence[Timed], began_ns: int | None = None, ended_ns: int | None = None) -> Accounting:
    """The sums over `commands`, in the order they passed, from `began_ns` to `ended_ns` where those are given."""
    rows: dict[str, Row] = {}
    for share in shares(commands):
        command = share.command
        rows.setdefault(command.name, Row(command.name)).add(
            Row(
                command.name,
                count=command.sent,
                retries=share.again,
                unanswered=share.lost,
                stopped=command.refused is not None,
                bytes_out=0 if command.refused else command.size * command.sent,
                bytes_in=command.reply_size,
                host_s=share.host_s,
                wire_s=share.wire_s,
                chip_s=share.chip_s,
                lost_s=share.lost_s,
            )
        )
    ordered = tuple(sorted(rows.values(), key=lambda row: -row.seconds))
    if not commands:
        return Accounting(ordered)
    first, last = commands[0].starts_ns, _last_moment(commands)
    return Accounting(
        ordered,
        0.0 if began_ns is None else max(0, first - began_ns) / 1e9,
        0.0 if ended_ns is None else max(0, ended_ns - last) / 1e9,
    )


def shares(commands: Sequence[Timed]) -> Iterator[Share]:
    """Each command's share; all of them together are the time from the first command to the last reply."""
    if not commands:
        return
    retries = _Retries()
    at = commands[0].starts_ns
    for index, command in enumerate(commands):
        begun = max(at, command.starts_ns)
        following = commands[index + 1].starts_ns if index + 1 < len(commands) else 0
        end, lost = _end(command, begun, following)
        asked = max(begun, min(command.begun_ns, end))  # the last one of a row of link checks
        waited = min(command.waited_ns, asked - begun)
        host = asked - at - waited
        wire = min(_wire_ns(command), end - asked)
        chip = end - asked - wire
        if lost:
            waited, chip = waited + chip, 0
        elif not command.size:  # a pulse of the reset lines: the rig's power-cycle
            host, chip = host + chip, 0
        at = end
        yield Share(command, host / 1e9, wire / 1e9, chip / 1e9, waited / 1e9, lost, retries.seen(command))


def _end(command: Timed, begun: int, following: int) -> tuple[int, bool]:
    """(when it was over, whether its answer never came whole)."""
    if command.refused is not None or not command.size:  # stopped on the way, or no frame (a reset pulse)
        return max(begun, command.sent_ns, command.begun_ns, command.reply_end_ns), False
    if command.answered or command.name in SILENT:
        return max(begun, command.reply_end_ns, command.sent_ns, command.begun_ns), False
    return max(begun, command.sent_ns, command.begun_ns, command.reply_end_ns, following), True


def _wire_ns(command: Timed) -> int:
    """Its bytes at their baud: of a row of link checks the last one's."""
    if command.refused is not None:
        return 0
    out = command.size / command.baud
    back = command.reply_size / (command.reply_baud or command.baud)
    return round((out + back) * BITS_PER_BYTE * 1e9)


def _last_moment(commands: Sequence[Timed]) -> int:
    return max(max(each.begun_ns, each.sent_ns, each.reply_end_ns) for each in commands)


class _Retries:
    """Tells repetitions. The same command right after one that was not answered, or answered with an error, is one;
    so is a read, program or erase of what was read, programmed or erased since the tool last asked about chip or
    status register."""

    def __init__(self) -> None:
        self._moved: set[tuple[object, ...]] = set()
        self._failed: tuple[object, ...] | None = None

    def seen(self, command: Timed) -> bool:
        what = (command.name, command.address, command.size, command.head)
        again = what == self._failed or what in self._moved
        if command.name == _LINK:  # asked until it is answered, and between other commands: neither is a retry
            return False
        if command.refused is None:
            failed = not command.answered or bool(command.status)
            self._failed = what if failed and command.name not in SILENT else None
        if command.name in _BEGINS:
            self._moved.clear()
        elif command.name in _MOVES and command.refused is None:
            self._moved.add(what)
        return again


def table(sums: Accounting) -> list[str]:
    """The sums as lines of text, the costliest kind first."""
    total = sums.total
    head = (
        f"{'command':<14}{'n':>6}{'again':>7}{'no ans.':>9}{'bytes out':>11}{'bytes in':>11}"
        f"{'host s':>10}{'wire s':>10}{'chip s':>10}{'lost s':>10}{'sum s':>10}"
    )
    lines = [head, *(_row(row) for row in sums.rows), _row(total)]
    if sums.before_s or sums.after_s:
        lines.append(f"before the first command {sums.before_s:.3f} s, after the last reply {sums.after_s:.3f} s")
    stopped = f"; {total.stopped} stopped by the guard" if total.stopped else ""
    return [*lines, f"in all {sums.wall_s:.3f} s{stopped}"]


def _row(row: Row) -> str:
    return (
        f"{row.name:<14}{row.count:>6}{row.retries:>7}{row.unanswered:>9}{row.bytes_out:>11}{row.bytes_in:>11}"
        f"{row.host_s:>10.3f}{row.wire_s:>10.3f}{row.chip_s:>10.3f}{row.lost_s:>10.3f}{row.seconds:>10.3f}"
    )
