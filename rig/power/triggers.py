"""Triggers: firing a waveform when the board is at a phase of what it does, seen on the wire or in its log.

On the wire a phase begins when the board has all of a command (`rig.uart.arrivals`): the n-th erase, program, crc,
read, or link check since the trap was set. In the log it begins with the first line of a boot, or with a text that
the firmware's profile names. `rom` is a time after power-on: nothing is seen of the ROM until it is asked.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, cast, get_args

from rig.errors import BenchBlocked, RigError, UsageProblem
from rig.image.firmware import FirmwareProfile, LogPhase
from rig.uart.bootlog import BootLog, LogLine
from rig.uart.markers import find

WirePhase = Literal["link", "erase", "program", "crc", "read"]
COMMANDS: dict[WirePhase, frozenset[str]] = {
    "link": frozenset({"link-check"}),
    "erase": frozenset({"erase", "erase-4k"}),
    "program": frozenset({"write-4k", "write-256"}),
    "crc": frozenset({"check-crc"}),
    "read": frozenset({"read-4k", "read-256"}),
}
LOG_PHASES: tuple[LogPhase, ...] = get_args(LogPhase)
_LOOK_S = 0.0005  # how often a switching on is looked for
_LINES_S = 0.25  # how long the log is waited for before looking whether to go on
_ESCAPE = re.compile(r"\\x[0-9a-f]{2}")


@dataclass(frozen=True)
class Trigger:
    """When to fire: `delay_s` seconds after the `nth` beginning of `phase`; of `rom`, after the next power-on."""

    phase: str
    nth: int = 1
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        if self.phase != "rom" and self.phase not in COMMANDS and self.phase not in LOG_PHASES:
            raise UsageProblem(f"no phase {self.phase!r}; there are rom, {', '.join((*COMMANDS, *LOG_PHASES))}")
        if self.nth < 1 or (self.nth > 1 and self.phase == "rom"):
            raise UsageProblem(f"the phase {self.phase} has no number {self.nth}")
        if not 0 <= self.delay_s <= 3600:
            raise UsageProblem(f"a trigger's delay is 0 to 3600 s, not {self.delay_s:g}")

    @property
    def words(self) -> str:
        """What it waits for: the 3rd erase, the boot's first line, power-on."""
        if self.phase == "rom":
            return "power-on"
        names = {"boot": "boot's first line", "running": "running firmware", "rf-calibration": "RF calibration"}
        name = names.get(self.phase, self.phase.replace("-", " "))
        return f"the {name}" if self.nth == 1 else f"the {_ordinal(self.nth)} {name}"


class Commands(Protocol):
    """What a trap needs of a tap."""

    on_command: Callable[[str, int | None, int], None] | None


class Powered(Protocol):
    """What a trap needs of a board's power: monotonic ns of switching on, 0 while it is off."""

    @property
    def on_ns(self) -> int: ...


class Trap:
    """Set it, do what the board is to be doing, leave it: `fire` is called once, when the trigger comes.

    `fired_ns` is what `fire` said (time.monotonic_ns of the firing), `seen_ns` when the phase began; None: it did not
    come to that, and `missed` says why. Log phases are looked for from the next power-on, or from `since_ns` (for a
    board that is running already). Leaving it raises what `fire` raised, if nothing else is on its way.
    """

    def __init__(
        self,
        trigger: Trigger,
        tap: Commands | None,
        log: BootLog | None,
        power: Powered | None,
        fire: Callable[[], int],
        profiles: Sequence[FirmwareProfile] = (),
        *,
        since_ns: int | None = None,
    ) -> None:
        self.trigger = trigger
        self.fired_ns: int | None = None
        self.seen_ns: int | None = None
        self.error: RigError | None = None
        self._tap, self._log, self._power, self._fire = tap, log, power, fire
        self._since_ns = since_ns
        self._count = 0  # of commands of the phase
        self._was_on = power.on_ns if power is not None else 0
        self._wake = threading.Event()  # the phase was seen on the wire, or nobody waits any more
        self._left = threading.Event()
        self._done = threading.Event()  # fired, or failed to
        self._texts = _texts(trigger, profiles)
        self._look = self._way()
        self._thread = threading.Thread(target=self._run, name="trap", daemon=True)

    @property
    def missed(self) -> str | None:
        """Why it did not fire, one sentence; None: it did."""
        if self.fired_ns is not None:
            return None
        if self.error is not None:
            return f"It could not be fired: {self.error}"
        what = self.trigger.words
        if self.seen_ns is not None:
            return f"It was over before {self.trigger.delay_s:g} s after {what} had passed."
        if self.trigger.phase in COMMANDS:
            seen = f", only {self._count} of them" if self._count else ""
            return f"{what[0].upper()}{what[1:]} never passed on the wire{seen}."
        where = "was not seen" if self.trigger.phase == "rom" else "did not appear in the log"
        return f"{what[0].upper()}{what[1:]} {where}."

    def wait(self, timeout_s: float) -> bool:
        """Until it has fired (or failed to), at most so long; whether it fired."""
        self._done.wait(timeout_s)
        return self.fired_ns is not None

    def __enter__(self) -> Self:
        if self.trigger.phase in COMMANDS:
            assert self._tap is not None
            self._tap.on_command = self._command
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tap is not None and self.trigger.phase in COMMANDS:
            self._tap.on_command = None
        self._left.set()
        self._wake.set()
        self._thread.join()
        if self.error is not None and problem is None:
            raise self.error

    # -- in its thread ---------------------------------------------------------------------------------

    def _way(self) -> Callable[[], int | None]:
        """How the phase is waited for. UsageProblem for what this bench cannot see."""
        phase = self.trigger.phase
        if phase in COMMANDS:
            if self._tap is None:
                raise UsageProblem(f"the phase {phase} is seen on the wire: it needs a flash port")
            return self._on_wire
        if self._power is None:
            raise UsageProblem(f"the phase {phase} counts from power-on: it needs a supply")
        if phase == "rom":
            return self._switched_on
        if self._log is None:
            raise UsageProblem(f"the phase {phase} is seen in the boot log: give the slot a log_port")
        return self._in_log

    def _run(self) -> None:
        try:
            seen = self.seen_ns = self._look()
            if seen is None:
                return
            due = seen + round(self.trigger.delay_s * 1e9)
            while not self._left.is_set() and (left := due - time.monotonic_ns()) > 0:
                self._left.wait(left / 1e9)
            if not self._left.is_set():
                self.fired_ns = self._fire()
        except RigError as problem:
            self.error = problem
        except Exception as problem:  # noqa: BLE001 - nobody else sees what ends this thread
            self.error = BenchBlocked("crashed", f"firing failed: {type(problem).__name__}: {problem}")
        finally:
            self._done.set()

    def _command(self, name: str, address: int | None, mono_ns: int) -> None:
        """In the tap's thread."""
        if name not in COMMANDS[cast(WirePhase, self.trigger.phase)] or self.seen_ns is not None:
            return
        if name == "link-check" and not (self._power is None or 0 < self._power.on_ns <= mono_ns):
            return  # for nobody: the board has no power yet
        self._count += 1
        if self._count == self.trigger.nth:
            self.seen_ns = mono_ns
            self._wake.set()

    def _on_wire(self) -> int | None:
        self._wake.wait()
        return self.seen_ns

    def _switched_on(self) -> int | None:
        assert self._power is not None
        while (on := self._power.on_ns) in (0, self._was_on):
            if self._left.wait(_LOOK_S):
                return None
        return on

    def _in_log(self) -> int | None:
        assert self._log is not None
        since = self._since_ns if self._since_ns is not None else self._switched_on()
        while since is not None and not self._left.is_set():
            line = self._log.wait_for(_nth(self.trigger, self._texts), _LINES_S, since_ns=since)
            if line is not None:
                return line.mono_ns
        return None


def _texts(trigger: Trigger, profiles: Sequence[FirmwareProfile]) -> tuple[str, ...]:
    """The texts of a log phase. UsageProblem where no profile has any."""
    if trigger.phase not in LOG_PHASES:
        return ()
    phase = trigger.phase
    texts = tuple(dict.fromkeys(text for profile in profiles for text in profile.log.phase(phase)))
    if not texts and not (phase == "boot" and trigger.nth == 1):
        names = ", ".join(profile.title for profile in profiles) or "none was given"
        raise UsageProblem(
            f"no firmware profile says how {phase} shows in the log ({names}): add it to [log.phases] of the profile"
        )
    return texts


def _nth(trigger: Trigger, texts: Sequence[str]) -> Callable[[LogLine], bool]:
    """A test for one look through the log: true at the line with which the phase begins for the n-th time."""
    if trigger.phase == "boot" and trigger.nth == 1:
        return _readable
    before: list[LogLine] = []
    counted: list[LogLine] = []

    def is_it(line: LogLine) -> bool:
        found = find([*before, line], texts)  # a text may be woven over two lines
        if counted and found is counted[-1]:
            found = find([line], texts)
        before[:] = [line]
        if found is not None:
            counted.append(found)
        return found is not None and len(counted) == trigger.nth

    return is_it


def _readable(line: LogLine) -> bool:
    """Two characters at least that are no byte's escape: noise at power-on is no line."""
    return len(_ESCAPE.sub("", line.text).strip()) >= 2


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
