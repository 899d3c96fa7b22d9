"""A slot's board as a flasher reaches it: the tap's pseudo-terminal, and power at the first link check."""

from __future__ import annotations

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

    @property
    def path(self) -> str:
        return self._tap.path

    @property
    def power_on_ns(self) -> int:
        """Monotonic nanoseconds of when the board got its power; 0 while it has none."""
        return self._power.on_ns

    def prepare(self) -> None:
        self._tap.hold()
        self.off_volts = self._power.off_and_discharged()
        self._tap.arm()

    def boot(self) -> int:
        """Power-cycle into the firmware: no link check is sent. Monotonic nanoseconds of switching on."""
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

    def check(self) -> None:
        self._tap.check()
        self._power.check()
        if self._tap.guard.refusals:
            refusal = self._tap.guard.refusals[-1]
            raise BenchBlocked("guard-stopped", f"the guard stopped {refusal}")
