"""One waveform at one board: armed before, fired when the board is at its phase, witnessed, and over.

What was commanded and what was achieved are two things. Achieved is what a witness measured at the rail; without one
it is not known, and None says so. Seconds are the board's throughout: on a simulated bench that runs faster, the host
waits that much less.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol, Self, cast

from rig.bench.achieved import QUIET_V, achieved
from rig.bench.slot import OpenSlot
from rig.bench.witness import Witness, WitnessProblem
from rig.errors import BenchBlocked, UsageProblem
from rig.image.firmware import FirmwareProfile
from rig.power.trial import Cell
from rig.power.triggers import Trap, Trigger
from rig.supply.client import LeasedChannel
from rig.supply.means import Commanded, fit
from rig.supply.waveform import Waveform
from rig.uart.bootlog import BootLog

_LOOK_S = 0.01
_TRAP_S = 1.0  # a trap sees a line or a command within far less
_GRACE_S = 5.0  # a supply says that its list is over so much later at most
_BEFORE_S, _AFTER_S = 0.02, 0.1  # of our time, what a witness shows around the waveform: a choice
_SPAN_S = 1.0  # more than lies between a witness's stop and when it took effect
_TIMES = ("area_vs", "delay_s", "sample_s", "offset_s")  # of what was achieved, beside the widths
_BEHIND = (
    "the witness has the waveform before its firing, or not at all: a simulated board that is to run faster than its "
    "machine can falls behind, and its rail with it; at a lower speed it is measured"
)
_NEVER = threading.Event()


class Injection(Protocol):
    """What an activity knows of what is done to its supply. A context manager around the activity.

    Left in the middle of a waveform it waits for its end.
    """

    commanded: dict[str, Any] | None
    achieved: dict[str, Any] | None
    missed: str | None

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: Any) -> None: ...

    def over(self) -> None:
        """Wait until what has fired is over; at once where nothing has."""

    @property
    def fired(self) -> bool:
        """Something was done to the supply."""

    @property
    def pending(self) -> bool:
        """It is still to fire."""

    @property
    def patience_s(self) -> float:
        """How long to wait for its firing once all that it can wait for has happened."""


class Nothing:
    """Nothing is done: the supply is held as it was set."""

    def __init__(self) -> None:
        self.commanded: dict[str, Any] | None = None
        self.achieved: dict[str, Any] | None = None
        self.missed: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: Any) -> None:
        return None

    def over(self) -> None:
        return None

    @property
    def fired(self) -> bool:
        return False

    @property
    def pending(self) -> bool:
        return False

    @property
    def patience_s(self) -> float:
        return 0.0


class Armed:
    """A cell's waveform. `commanded` and `achieved` are there once the context is left; `missed` says why it never
    fired. Raises UsageProblem, before anything is armed, for what the supply cannot do."""

    def __init__(
        self,
        used: OpenSlot,
        cell: Cell,
        log: BootLog,
        profiles: Sequence[FirmwareProfile],
        *,
        speed: float = 1.0,
        witness: Witness | None = None,
        widen: bool = False,
    ) -> None:
        if cell.waveform is None or cell.phase is None:
            raise UsageProblem("a waveform and the phase at which it fires belong together")
        self._witness, self._speed, self._nominal = witness, speed, cell.volts
        self._channel = cast(LeasedChannel, used.power.channel)  # `use_slot` leases it
        self.what: Commanded = fit(Waveform.of(cell.waveform), self._channel.limits, widen, speed=speed)
        trigger = Trigger(cell.phase, cell.nth, cell.delay_s / speed)
        self._trap = Trap(trigger, used.tap, log, used.power, self._fire, profiles)
        self._stack = contextlib.ExitStack()
        self.commanded: dict[str, Any] | None = None
        self.achieved: dict[str, Any] | None = None
        self.missed: str | None = None
        self.unseen = ""  # why the witness did not see it

    @property
    def _host_s(self) -> float:
        """How long it lasts, by our clock."""
        return self.what.waveform.seconds / self._speed

    @property
    def fired(self) -> bool:
        return self._trap.fired_ns is not None

    @property
    def pending(self) -> bool:
        return self._trap.fired_ns is None and self._trap.error is None

    @property
    def patience_s(self) -> float:
        return _TRAP_S + self._trap.trigger.delay_s

    def __enter__(self) -> Self:
        self._channel.arm(self.what)
        self._stack.callback(self._disarm)
        self._roll()
        self._trap.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        wait = kind is None or issubclass(kind, Exception)
        try:
            with self._stack:
                try:
                    self._trap.__exit__(kind, None, None)
                finally:
                    if wait:
                        self.over()
        finally:
            self._tell()

    def over(self) -> None:
        """Raises BenchBlocked("supply-refused") for a supply that does not end it, or did not play it as it
        stated."""
        if not self.fired:
            return
        deadline = time.monotonic() + self._host_s + _GRACE_S
        while self._channel.playing():
            if time.monotonic() > deadline:
                raise BenchBlocked("supply-refused", f"the supply does not end its {self.what.waveform.words}")
            _NEVER.wait(_LOOK_S)

    def _fire(self) -> int:
        """In the trap's thread: the trigger, and when the witness is to stop."""
        fired = self._channel.fire()
        if self._witness is not None and not self.unseen:
            self._witness.stop_at(fired + int((self._host_s + _AFTER_S) * 1e9))
        return fired

    def _roll(self) -> None:
        if self._witness is None:
            return
        try:
            self._witness.start(self._host_s + _BEFORE_S + _AFTER_S + _SPAN_S)
        except WitnessProblem as problem:
            self.unseen = str(problem)

    def _disarm(self) -> None:
        """Set-points as before, however far it came. What cannot be reached any more is `BoardPower`'s to tell."""
        with contextlib.suppress(BenchBlocked):
            self._channel.disarm()

    def _tell(self) -> None:
        trap = self._trap
        self.missed = trap.missed if trap.fired_ns is None else None
        delay = None
        if trap.fired_ns is not None and trap.seen_ns is not None:
            delay = round((trap.fired_ns - trap.seen_ns) / 1e9 * self._speed, 6)
        if trap.fired_ns is not None:
            self._look(trap.fired_ns)
        self.commanded = {
            **self.what.plain(),
            "fired_ns": trap.fired_ns,
            "seen_ns": trap.seen_ns,
            "delay_s": delay,
            "missed": self.missed,
            "not_measured": self.unseen or None,
        }

    def _look(self, fired_ns: int) -> None:
        if self._witness is None or self.unseen:
            return
        begin, end = fired_ns - int(_BEFORE_S * 1e9), fired_ns + int((self._host_s + _AFTER_S / 2) * 1e9)
        try:
            found = asdict(achieved(self._witness.record(begin, end), self._nominal, fired_ns))
        except (WitnessProblem, ValueError) as problem:
            self.unseen = str(problem)
            return
        least = self.what.waveform.volts_least
        lowered = least is not None and least < self._nominal - QUIET_V
        if self._speed > 1 and lowered and not found["delay_s"]:
            self.unseen = _BEHIND  # not so on a real bench: there a rail that stands is what the supply did
            return
        found["widths"] = {level: round(width * self._speed, 9) for level, width in found["widths"].items()}
        found |= {name: value * self._speed for name in _TIMES if (value := found[name]) is not None}
        self.achieved = found
