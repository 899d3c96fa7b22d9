"""What the chip is doing, for whoever turns that into amps."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from rig.sim.soc.clock import NEVER, US


class Load(StrEnum):
    """What draws the current. One at a time: the one that matters most to the supply.

    IDLE: the CPU has nothing to do until the next interrupt (its clock still runs: the firmware does not sleep).
    CPU: it executes from flash and RAM, radio analog parts off or quiet.
    ERASE, PROGRAM: the flash die erases a sector or programs; the CPU waits for it.
    RF_CAL: it executes while the firmware works the RF controller at 0x01050000 (written within the last 5 ms):
    that is the receive/transmit calibration at start and the short re-calibration once a second.
    RF_TX: a beacon or probe is in the air. Bursts of 2 ms each 102.4 ms, from when the MAC core is told to be ACTIVE
    (state control register 0xC0000038, next state 3) until a reset or DOZE. The burst timing is a guess and stands
    in for a MAC.
    HALTED: nothing executes: the ROM has not started the flash, or the firmware is dead for good. What such a chip
    draws (a ROM that polls, a core that faults in a circle) is for the board to know.
    """

    IDLE = "idle"
    CPU = "cpu"
    ERASE = "erase"
    PROGRAM = "program"
    RF_CAL = "rf_cal"
    RF_TX = "rf_tx"
    HALTED = "halted"


WAKE_IGNORED = 100 * US  # a timer tick wakes the core for ~10 us of every 2 ms; reporting that would be noise
BURST_NS = 2_000 * US  # guess: beacon and its answers
BEACON_NS = 102_400 * US  # 100 time units of 1024 us: "beacon_int_set:100 TU" in the firmware's own log


class LoadMeter:
    """Turns states into changes, and lays transmit bursts over them. Times are guest ns."""

    def __init__(self, report: Callable[[Load, int], None]) -> None:
        self._report = report
        self._shown = Load.HALTED
        self._base = Load.HALTED
        self._busy_since = NEVER
        self._burst_start = NEVER
        self._burst_end = NEVER
        self.due = NEVER

    def set(self, load: Load, now: int) -> None:
        """The chip does `load` as of `now`."""
        if load is Load.CPU and self._base is Load.IDLE:
            if self._busy_since == NEVER:
                self._busy_since = now
            if now - self._busy_since < WAKE_IGNORED:
                return
        self._busy_since = NEVER
        if load is not self._base:
            self._base = load
            self._show(now)

    def transmitting(self, on: bool, now: int) -> None:
        """The radio is up (or down): bursts come (or end)."""
        if on and self._burst_start == NEVER:
            self._burst_start = now
            self._burst_end = NEVER
            self.due = now
        elif not on and self._burst_start != NEVER:
            self._burst_start = self._burst_end = self.due = NEVER
            self._show(now)

    def service(self, now: int) -> None:
        """Start or end the bursts that are due."""
        while self.due <= now:
            if self._burst_end == NEVER:
                self._burst_end = self.due = self._burst_start + BURST_NS
                self._show(self._burst_start)
            else:
                at, self._burst_end = self._burst_end, NEVER
                self._burst_start += BEACON_NS
                self.due = self._burst_start
                self._show(at)

    def _show(self, now: int) -> None:
        load = Load.RF_TX if self._burst_end != NEVER else self._base
        if load is not self._shown:
            self._shown = load
            self._report(load, now)
