"""Comparing what the executing model prints with a kept log: lines without what differs by nature, and short diffs.

What is taken out stands as ~ in both. Nothing else may differ: neither a line, nor its place, nor a letter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from difflib import unified_diff
from pathlib import Path

import pytest

LOG_DIR = os.environ.get("RIG_LOG_DIR")
kept_logs = pytest.mark.skipif(not LOG_DIR, reason="RIG_LOG_DIR names no folder of kept logs")

# pattern (what is taken out is in the second of three groups), why it differs
RULES = (
    (r"^((?:IRQ|FIR):\S+ \S+ \S+ )([0-9a-f]{8})()", "link registers: random at each start, on boards too"),
    (r"(idle )(\d+)(/s)", "rounds of the idle loop, which the model skips"),
    (r"^(\[01-01 18:12:)(\d\d)( TUYA )", "the firmware's clock: seconds since the start"),
    (r"(tcp_port:)(\d+)()", "a random port"),
    (r"((?:pre_device|app)_init:)(\d+)( ---)", "milliseconds since the start: instruction time is a guess"),
)
_RULES = tuple(re.compile(pattern, re.MULTILINE) for pattern, _ in RULES)
TAKEN_OUT = "~"


def take_out(text: str) -> str:
    """`text`, one line or more, with ~ for what RULES take out."""
    for rule in _RULES:
        text = rule.sub(rf"\1{TAKEN_OUT}\3", text)
    return text


def normal(text: str) -> list[str]:
    """The whole lines of `text`, their ends without blanks, with ~ for what RULES take out."""
    return [take_out(line.rstrip()) for line in text.split("\n")[:-1]]


def recorded(name: str) -> str:
    """What came out of UART2 by a kept log with columns: guest ms, instructions, port, text."""
    text = (Path(LOG_DIR or "") / "emulated" / name).read_bytes().decode("latin-1").replace("\r", "")
    return "".join(line.split(" U2 ", 1)[1] + "\n" for line in text.split("\n") if " U2 " in line)


def difference(printed: Sequence[str], expected: Sequence[str]) -> str:
    """Nothing, or the first differing lines with one around them: "-" is the log's, "+" was printed."""
    return "\n".join([*unified_diff(expected, printed, "log", "printed", lineterm="", n=1)][:20])


def is_woven(text: str, threads: Sequence[str]) -> bool:
    """Whether `text` is what `threads` print when they take turns at any letter, each in its own order and whole.

    A ~ in a thread stands for a run of hexadecimal digits.
    """
    states = {(0,) * len(threads)}
    for char in text:
        states = {after for state in states for after in _steps(state, char, threads)}
    return any(all(_ended(at, thread) for at, thread in zip(state, threads, strict=True)) for state in states)


def _steps(state: tuple[int, ...], char: str, threads: Sequence[str]) -> list[tuple[int, ...]]:
    """Where the threads may stand once one of them has printed `char`."""
    after = []
    for number, (at, thread) in enumerate(zip(state, threads, strict=True)):
        for place in (at, at + 1) if thread[at : at + 1] == TAKEN_OUT else (at,):
            wanted = thread[place : place + 1]
            if wanted == TAKEN_OUT and char in "0123456789abcdef":
                after.append((*state[:number], place, *state[number + 1 :]))
            elif wanted == char:
                after.append((*state[:number], place + 1, *state[number + 1 :]))
    return after


def _ended(at: int, thread: str) -> bool:
    return thread[at:] in ("", TAKEN_OUT)
