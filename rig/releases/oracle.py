"""What must be so after an operation, and what it is called when it is not: the rig's own word on a trial.

The flash is judged by what the rig's client read back through the ROM, a read's file by that, what the tool says only
for whether it tells the truth. An exit code proves nothing, but it is a claim: scripts believe it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rig.chip.ids import PROTECT_MASK
from rig.flashers.base import ChipIdentity
from rig.releases.files import Made
from rig.releases.operations import SECTOR, Operation
from rig.releases.trial import Outcome
from rig.scrub import scrub

MOST_DIFFERING = 16
_BLANK = 0xFF
_SHOWN = 200  # characters of what a tool said
_PASSING = 0x0003  # WIP and WEL of a status register: what the flash is about, no setting
_ABSENT = re.compile(r"no such (?:command|option)|invalid choice|unrecognized arguments", re.IGNORECASE)
# Python's errors that nobody raises on purpose to tell a user something
_BUG = re.compile(
    r"^(?:E: |\S+: )?(?P<value>(?:TypeError|AttributeError|NameError|KeyError|IndexError|UnboundLocalError"
    r"|AssertionError|ImportError|ModuleNotFoundError|SyntaxError|RecursionError|MemoryError|ZeroDivisionError"
    r"|(?:struct\.)?error)\b.*)"
)


@dataclass(frozen=True)
class Said:
    """What a tool printed and how it ended. `claims`: its output says that it is done; `error`: what it says went
    wrong; `exit_good`: its exit code says so. `hung`: why it was ended by us. `stopped`: what the guard stopped."""

    claims: bool
    error: str | None
    exit_good: bool
    exit_code: int | None
    lines: Sequence[str] = ()
    hung: str | None = None
    stopped: str | None = None


@dataclass(frozen=True)
class Seen:
    """The board and the file afterwards. `before` and `now`: all of the flash; `left`: the file that a read wrote;
    `bauds`: the speeds at which the data passed."""

    before: bytes = field(repr=False)
    now: bytes = field(repr=False)
    sr_before: int | None = None
    sr_after: int | None = None
    left: bytes | None = field(default=None, repr=False)
    bauds: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Verdict:
    outcome: Outcome
    why: str
    differing: list[tuple[int, int]] = field(default_factory=list)


def judge(
    operation: Operation, who: ChipIdentity, made: Made | None, baud: int, tool: str, said: Said, seen: Seen
) -> Verdict:
    """The outcome of one trial. `tool`: whose patterns of `shows` count."""
    wants = operation.expects
    pieces = made.pieces if made is not None and operation.does == "write" else ()
    untouched = _differing(seen.before, seen.now, (), operation)
    wrong = _differing(seen.before, seen.now, pieces if wants in ("done", "done-or-refused") else (), operation)
    if wants == "failed":
        wrong = _outside(untouched, pieces)
    problem = _problem(operation, who, baud, tool, said, seen, wrong)
    told = _told(said)
    if said.hung is not None:
        return Verdict("hangs", f"{said.hung}; {_changed(untouched)}", untouched)
    if said.stopped is not None:
        return Verdict("wrong", f"the guard stopped {said.stopped}; {_changed(untouched)}", untouched)
    if said.exit_code is not None and said.exit_code < 0:
        return Verdict("crashes", f"it died of signal {-said.exit_code}; {_changed(untouched)}", untouched)
    bug = _bug(said.lines)
    if bug is not None and not (said.claims and problem is None):
        return Verdict("crashes", f"it broke off with {bug}; {_changed(untouched)}", untouched)
    if said.exit_code == 2 and any(_ABSENT.search(line) for line in said.lines):
        return Verdict("absent", f"this release has no such command or option: {told}")
    if wants in ("refused", "failed"):
        return _of_unwanted(operation, said, told, untouched, wrong)
    if problem is None and said.claims:
        return Verdict("correct", f"done and said so; {_flash(wrong) if not pieces else 'flash is as it has to be'}")
    if problem is None:
        return Verdict("wrong", f"all is as it has to be, but it says {told}")
    if said.claims:
        return Verdict("lies", f"says that it is done, but {problem}", wrong)
    if said.exit_good:
        return Verdict("lies", f"ends with exit code {said.exit_code}, but {problem}; it printed {told}", wrong)
    if wants == "done-or-refused" and not untouched and not seen.left:
        return Verdict("refuses", f"declined and touched nothing: {told}")
    return Verdict("wrong", f"says {told}; {problem if operation.does != 'write' else _changed(untouched)}", wrong)


def _of_unwanted(
    operation: Operation, said: Said, told: str, untouched: list[tuple[int, int]], wrong: list[tuple[int, int]]
) -> Verdict:
    """What must not succeed."""
    refused = operation.expects == "refused"
    if said.claims:
        outcome: Outcome = "wrong" if refused else "lies"
        why = "took what it has to refuse" if refused else "says that it is done, which cannot be"
        return Verdict(outcome, f"{why}; {_changed(untouched)}", untouched)
    if said.exit_good:
        return Verdict("lies", f"ends with exit code {said.exit_code} though it failed; it printed {told}", wrong)
    if wrong:
        return Verdict("wrong", f"says {told}, but {_flash(wrong)}", wrong)
    if refused:
        return Verdict("refuses", f"declined and touched nothing: {told}")
    return Verdict("correct", f"failed, as it had to, and said so: {told}")


def _problem(
    operation: Operation,
    who: ChipIdentity,
    baud: int,
    tool: str,
    said: Said,
    seen: Seen,
    wrong: Sequence[tuple[int, int]],
) -> str | None:
    """Why what was asked for is not done; None: it is."""
    if wrong:
        return _flash(wrong)
    register = _register(seen.sr_before, seen.sr_after)
    if register is not None:
        return register
    if operation.does == "read":
        found = _read(seen, operation)
    elif operation.does == "efuse":
        found = None if seen.left == who.efuse else "the file is not the board's efuse"
    elif operation.does == "identify":
        found = _shown(operation.shows.get(tool, []), who, said.lines)
    else:
        found = None
    if found is None and operation.baud is not None and seen.bauds and seen.bauds != {baud}:
        return f"it was to go at {baud} baud and went at {', '.join(map(str, sorted(seen.bauds)))}"
    return found


def _read(seen: Seen, operation: Operation) -> str | None:
    left = seen.left or b""
    wanted = seen.before[operation.offset : operation.offset + operation.length]
    if left == wanted:
        return None
    if len(left) != len(wanted):
        return f"the file has {len(left)} of {len(wanted)} bytes"
    at = next(at for at, (one, other) in enumerate(zip(left, wanted, strict=True)) if one != other)
    return f"the file differs from the flash at 0x{operation.offset + at:x}"


def _shown(patterns: Sequence[str], who: ChipIdentity, lines: Sequence[str]) -> str | None:
    for pattern in patterns:
        filled = _filled(pattern, facts(who))
        if not any(re.search(filled, line) for line in lines):
            return f"it does not show {_in_words(filled)!r}"
    return None


def _in_words(pattern: str) -> str:
    """What a pattern stands for, for people: a table's bars and paddings left out."""
    return re.sub(r"(?:\\\||\s|\+)+", " ", pattern).replace("\\", "").strip()


def facts(who: ChipIdentity) -> dict[str, str]:
    """What the board is, as tools print it; `shows` asks for it as {mac} and so on."""
    flash_id = (who.flash_id or b"").hex(" ")
    return {
        "chip_id": f"0x{who.chip_id or 0:x}",
        "flash_id": flash_id,
        "flash_id_upper": flash_id.upper(),
        "mac": (who.mac or "").upper(),
    }


def _filled(pattern: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        pattern = pattern.replace(f"{{{name}}}", re.escape(value).replace("\\ ", " ").replace("\\:", ":"))
    return pattern


def _register(before: int | None, after: int | None) -> str | None:
    """Only protection bits may have gone."""
    if before is None or after is None:
        return None
    if (before ^ after) & ~PROTECT_MASK & ~_PASSING or after & PROTECT_MASK & ~before:
        return f"the status register became 0x{after:04x}, it was 0x{before:04x}"
    return None


# -- flash ----------------------------------------------------------------------------------------------------


def _differing(
    before: bytes, now: bytes, pieces: Sequence[tuple[int, bytes]], operation: Operation
) -> list[tuple[int, int]]:
    """(offset, length) of where `now` is not `before` with `pieces` in it, in whole sectors, at most 16."""
    wanted = bytearray(before)
    free = bytearray(len(before))  # 1: may be blank
    for offset, data in pieces:
        end = offset + len(data)
        wanted[offset:end] = data
        if operation.tail == "free" and end % SECTOR:
            stop = -(-end // SECTOR) * SECTOR
            free[end:stop] = b"\1" * (stop - end)
    found: list[tuple[int, int]] = []
    if wanted == now:
        return found
    spared = {at // SECTOR for start, length in operation.stray for at in range(start, start + length, SECTOR)}
    for at in range(0, len(now), SECTOR):
        part, right = now[at : at + SECTOR], wanted[at : at + SECTOR]
        if part == right or at // SECTOR in spared:
            continue
        if any(free[at : at + SECTOR]) and all(
            one == other or (may and one == _BLANK)
            for one, other, may in zip(part, right, free[at : at + SECTOR], strict=True)
        ):
            continue
        if found and sum(found[-1]) == at:
            found[-1] = (found[-1][0], found[-1][1] + len(part))
        else:
            found.append((at, len(part)))
    return found[:MOST_DIFFERING]


def _outside(ranges: Sequence[tuple[int, int]], pieces: Sequence[tuple[int, bytes]]) -> list[tuple[int, int]]:
    """Of `ranges` what is in no sector of `pieces`."""
    inside = {at for offset, data in pieces for at in range(offset // SECTOR * SECTOR, offset + len(data), SECTOR)}
    return [
        (at, SECTOR) for start, length in ranges for at in range(start, start + length, SECTOR) if at not in inside
    ][:MOST_DIFFERING]


def _flash(differing: Sequence[tuple[int, int]]) -> str:
    if not differing:
        return "flash is untouched"
    return f"flash is not as it has to be at {_ranges(differing)}"


def _changed(differing: Sequence[tuple[int, int]]) -> str:
    return f"flash was changed at {_ranges(differing)}" if differing else "flash is untouched"


def _ranges(found: Sequence[tuple[int, int]]) -> str:
    listed = ", ".join(f"0x{at:x}+0x{length:x}" for at, length in found[:3])
    return listed + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _told(said: Said) -> str:
    if said.error:
        return repr(scrub(said.error[:_SHOWN]))
    return repr(scrub(said.lines[-1][:_SHOWN])) if said.lines else "nothing"


def _bug(lines: Sequence[str]) -> str | None:
    for line in reversed(lines):
        found = _BUG.search(line)
        if found is not None:
            return scrub(found["value"][:_SHOWN])
    return None
