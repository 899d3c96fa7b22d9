"""Where a step's time went on the flash line, as measurements: seconds by what was done, and at which speed.

From the tap's accounting (`rig.uart.accounting`): each second of the line belongs to one command, with host time
before it and the waits in vain after it. What belongs to no command (a tool that starts, the supply) is not in here.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence

from rig.errors import Coded
from rig.line.place import Place
from rig.line.record import UnitRecord
from rig.uart.accounting import Accounting, Timed, account
from rig.uart.tap import Tap

LINK, READ, ERASE, PROGRAM, CHECK = "link_time", "read_time", "erase_time", "program_time", "check_time"
BAUD = "link_baud"
KINDS = {
    "link-check": LINK,
    "reset-pulse": LINK,
    "stay-rom": LINK,
    "set-baud": LINK,
    "read-4k": READ,
    "read-256": READ,
    "erase": ERASE,
    "erase-4k": ERASE,
    "erase-all": ERASE,
    "write-4k": PROGRAM,
    "write-256": PROGRAM,
    "check-crc": CHECK,
}
"""What a command's time counts as; any other command is the rig's own doing."""


def seconds_of(sums: Accounting) -> dict[str, float]:
    """Seconds by LINK, READ, ERASE, PROGRAM and CHECK, those that came to pass."""
    found: dict[str, float] = {}
    for row in sums.rows:
        kind = KINDS.get(row.name)
        if kind is not None:
            found[kind] = found.get(kind, 0.0) + row.seconds
    return found


def baud_of(commands: Sequence[Timed]) -> int | None:
    """The speed at which most bytes passed, in baud; None: none did."""
    passed: Counter[int] = Counter()
    for command in commands:
        if command.refused is None:
            passed[command.baud] += command.size * command.sent
            passed[command.reply_baud or command.baud] += command.reply_size
    return passed.most_common(1)[0][0] if passed.total() else None


@contextlib.contextmanager
def timed(tap: Tap, record: UnitRecord, *kinds: str, baud: bool = False) -> Iterator[None]:
    """Measures, at the end of what is done inside, the seconds of these kinds (all of KINDS' without any), in s, and
    with `baud` the speed, in Bd. Of a step that fails only the speed: half a step's time compares with no other."""
    mark = len(tap.commands)
    try:
        yield
    except Coded:
        if baud:
            _measure_baud(tap.commands[mark:], record)
        raise
    passed = tap.commands[mark:]
    for kind, seconds in seconds_of(account(passed)).items():
        if kind in kinds or not kinds:
            record.measure(kind, seconds, "s")
    if baud:
        _measure_baud(passed, record)


def timed_at(place: Place, *kinds: str, baud: bool = False) -> contextlib.AbstractContextManager[None]:
    """`timed`, for steps of a unit at its place."""
    return timed(place.board.tap, place.record, *kinds, baud=baud)


def _measure_baud(commands: Sequence[Timed], record: UnitRecord) -> None:
    if (speed := baud_of(commands)) is not None:
        record.measure(BAUD, speed, "Bd")
