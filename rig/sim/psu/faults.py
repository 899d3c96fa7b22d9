"""What can go wrong with a supply and its line, switchable while it runs: data that the server looks at.

A fault stays until it is cleared, has been served `times` times, or `seconds` are over. Each names its options and
their values (0 stands for None), and who shows it; the numbers are guesses, chosen to be met in a test.
"""

from __future__ import annotations

import difflib
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from types import MappingProxyType
from typing import Any

from rig.errors import UsageProblem
from rig.sim.psu.status import TEXTS

Options = Mapping[str, Any]

FAULTS: Mapping[str, Options] = MappingProxyType(
    {
        # Its processor hangs: connections are taken, nothing is answered or carried out, for so many seconds (None:
        # until cleared). `keeps`: what was sent meanwhile is carried out when it wakes, instead of being lost.
        "hung": {"seconds": None, "keeps": False},
        # The connections there are now die without a word: never read, answered or let go, and still counted. After
        # so many seconds (None: never) the supply's own keepalive frees them. Source: field, after killed clients.
        "half-open": {"seconds": None},
        # No more than `clients` connections. `silent`: the next ones wait in the listener's queue without an answer,
        # instead of being hung up on. Source: field (B&K 914x, Aim-TTi PLH250-P: one).
        "one-client": {"clients": 1, "silent": False},
        # Hangs up on `times` lines (None: on every one) after letting `after` lines pass. `carried_out`: does what
        # the line says first, so that the client cannot know.
        "drop": {"times": 1, "after": 0, "carried_out": False},
        # `times` answers (None: every one) come so many seconds late, after `after` answers in time.
        "late": {"seconds": 3.0, "times": 1, "after": 0},
        # Answers come in two segments, `gap` seconds apart, cut after `at` bytes (None: in the middle).
        "split": {"gap": 0.05, "times": None, "at": None},
        # The error queue is full of `code`. `stuck`: it never empties, however often it is read.
        "error-queue-full": {"code": -222, "stuck": False},
        # The meter is renewed only every so many seconds (None: as the model's, else 0.4 s).
        "slow-meter": {"seconds": None},
        # Answers end in a NUL before the line end. Source: field (DP2000 blocks).
        "trailing-nul": {},
        # Answers end in a comma before the line end. Source: field (Siglent timers).
        "trailing-comma": {},
        # Of lines that come in one segment only the first is carried out; `close`: and the connection is closed.
        # Source: field (B&K 9141, which may need its power cycled after that).
        "coalesced": {"close": False},
        # A line sooner than so many seconds after the one before is lost. Source: reports on Siglent SPD, recalled.
        "hurried": {"seconds": 0.01},
    }
)

_COUNTS = {"times", "after", "at", "clients", "code"}
_FLAGS = {"keeps", "silent", "carried_out", "stuck", "close"}


@dataclass
class _Active:
    options: dict[str, Any]
    since: float
    passed: int = 0  # how many `after` let pass
    served: int = 0


class Faults:
    """The faults that are on. Thread-safe; times are monotonic seconds."""

    def __init__(self) -> None:
        self._active: dict[str, _Active] = {}
        self._lock = threading.Lock()

    def set(self, name: str, options: Options) -> Options:
        """Switch a fault on, in place of the same one; all its options. Raises UsageProblem for an unknown name,
        option or value."""
        whole = _whole(name, options)
        with self._lock:
            self._active[name] = _Active(whole, monotonic())
        return whole

    def clear(self, *names: str) -> None:
        """Switch these off, or all of them. Raises UsageProblem for an unknown name."""
        for name in names:
            _known(name)
        with self._lock:
            for name in names or list(self._active):
                self._active.pop(name, None)

    @property
    def active(self) -> dict[str, dict[str, Any]]:
        """The faults that are on, with their options."""
        with self._lock:
            return {name: dict(fault.options) for name, fault in self._active.items()}

    def get(self, name: str) -> Options | None:
        """The options of a fault that is on; it is not counted."""
        if not self._active:  # asked with every line of a client, and nearly always so
            return None
        with self._lock:
            active = self._active.get(name)
            return active.options if active else None

    def take(self, name: str) -> Options | None:
        """The options of a fault if it strikes now: this one is counted, and the last of its `times` ends it."""
        if not self._active:
            return None
        with self._lock:
            active = self._active.get(name)
            if active is None:
                return None
            if active.passed < active.options.get("after", 0):
                active.passed += 1
                return None
            active.served += 1
            times = active.options.get("times")
            if times is not None and active.served >= times:
                del self._active[name]
            return active.options

    def until(self, name: str) -> float | None:
        """When a fault with `seconds` is over (infinity: when it is cleared); None if it is not on."""
        if not self._active:
            return None
        with self._lock:
            active = self._active.get(name)
            if active is None:
                return None
            seconds = active.options["seconds"]
            return math.inf if seconds is None else active.since + float(seconds)


def _known(name: str) -> Options:
    if name not in FAULTS:
        near = difflib.get_close_matches(name, FAULTS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageProblem(f"There is no supply fault {name!r}; {hint}There are: {', '.join(FAULTS)}.")
    return FAULTS[name]


def _whole(name: str, options: Options) -> dict[str, Any]:
    """`options` in their right types, completed by the defaults."""
    whole = dict(_known(name))
    for option, value in options.items():
        if option not in whole:
            has = ", ".join(whole) or "none"
            raise UsageProblem(f"The supply fault {name!r} has no option {option!r}; its options: {has}.")
        try:
            whole[option] = _read(option, value, whole[option])
        except ValueError:
            raise UsageProblem(f"The supply fault {name!r} cannot have {option} = {value!r}.") from None
    return whole


def _read(option: str, value: Any, default: Any) -> float | int | bool | None:
    """The value as it is used; 0 stands for None where that is possible. Raises ValueError."""
    if option in _FLAGS:
        if value not in (False, True):  # 0 and 1 too
            raise ValueError
        return bool(value)
    if option != "after" and value in (None, 0) and (default is None or option == "times"):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    if option not in _COUNTS:
        if not 0 < value <= 3600:
            raise ValueError
        return float(value)
    count = int(value)
    good = (count < 0 and count in TEXTS) if option == "code" else count >= (0 if option == "after" else 1)
    if count != value or not good:
        raise ValueError
    return count
