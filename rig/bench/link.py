"""A slot's board as a flasher reaches it: the tap's pseudo-terminal, and power at the first link check."""

from __future__ import annotations

import threading

from rig.bench.power import BoardPower
from rig.errors import BenchBlocked
from rig.uart.tap import Tap


class SlotLink:
    """Implements :class:`rig.flashers.base.Link` over a tap and a supply channel."""

    def __init__(self, tap: Tap, power: BoardPower, baud: int) -> None:
        self._tap = tap
        self._power = power
        self.baud = baud
        self.off_volts: float | None = None  # rail before the last switch-on
        self._cycling = threading.Lock()  # one power-cycle at a time; switching off for good waits for none
        tap.on_pulse = self.reset

    @property
    def path(self) -> str:
        return self._tap.path

    @property
    def lines(self) -> str:
        """Where a flasher's RTS and DTR are heard."""
        return self._tap.lines

    @property
    def power_on_ns(self) -> int:
        """Monotonic nanoseconds of when the board got its power; 0 while it has none."""
        return self._power.on_ns

    def prepare(self) -> None:
        with self._cycling:
            course = self._tap.hold()
            self.off_volts = self._power.off_and_discharged()
            self._tap.arm(course)

    def reset(self) -> bool:
        """A flasher pulled its reset lines: power-cycle, on again at its next link check. False, and nothing done,
        while the board has no power: what it asks for will be a fresh start anyway."""
        with self._cycling:
            if not self._power.on_ns:
                return False
            course = self._tap.hold()
            if not self._power.on_ns:
                return False  # somebody switched it off just now, and for good
            self.off_volts = self._power.off_and_discharged()
            return self._tap.arm(course)

    def boot(self) -> int:
        """Power-cycle into the firmware: no link check is sent. Monotonic nanoseconds of switching on."""
        with self._cycling:
            self._tap.hold()
            self.off_volts = self._power.off_and_discharged()
            self._tap.disarm()
            return self._power.on()

    def off(self) -> bool:
        """Board off, TX low; True when the output was read back off.

        The output goes first and in any case: a port that hangs must not keep it on.
        """
        try:
            self._tap.keep_off()
        finally:
            try:
                is_off = self._power.off()
            finally:
                self._tap.hold()
        return is_off

    def sample(self) -> None:
        self._power.sample()

    def check(self) -> None:
        self._tap.check()
        self._power.check()
        if self._tap.guard.refusals:
            refusal = self._tap.guard.refusals[-1]
            raise BenchBlocked("guard-stopped", f"the guard stopped {refusal}")
