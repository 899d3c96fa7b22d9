"""How a command is told to stop: Ctrl-C, SIGTERM, or the end of its terminal (a window closed, ssh dropped)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopped_by_signals(stop: Callable[[int], object]) -> Iterator[None]:
    """Call `stop` with the number of each that comes, instead of what they do otherwise. One that whoever started us
    wants ignored (SIGHUP under nohup) stays so."""
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def stopped(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _let_go(terminals)
        stop(number)

    before = {number: signal.getsignal(number) for number in STOPS}
    heard = [number for number in STOPS if before[number] is not signal.SIG_IGN or number == signal.SIGINT]
    for number in heard:
        signal.signal(number, stopped)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def leave_to_parent() -> None:
    """In a process whose parent tells it when to end: they come to all of a terminal's or a service's processes, and
    one that died of them could not put its board right any more."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def _let_go(terminals: list[int]) -> None:
    """What is written to a terminal that has gone is an error; from now on it goes nowhere."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in terminals:
            os.dup2(nowhere, number)
        os.close(nowhere)
