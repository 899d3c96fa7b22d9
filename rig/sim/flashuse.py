"""What running firmware does to the flash, judged once it is over.

The executing chip changes the content when it starts an operation, and waits. Here the operations of one stretch of
flash work are remembered, and where the supply sagged in it, or went away, what they did is taken back in part (see
rig.sim.cells). All operations of a stretch share one fate: a firmware's erase or page is one. A stretch that a
transmit burst hides is not judged, nor is power lost in it.
"""

from __future__ import annotations

from rig.sim.die import DieSupply
from rig.sim.flash import Change, NorFlash
from rig.sim.flashtimes import FIRMWARE_ERASE_S, FIRMWARE_PROGRAM_S


class FlashUse:
    """The stretches of flash work of one chip. Times are wall seconds, `speed` times faster than the board's."""

    def __init__(self, flash: NorFlash, supply: DieSupply, speed: float) -> None:
        self._flash = flash
        self._supply = supply
        self._speed = speed
        self._changes: list[Change] = []
        self._began: float | None = None

    def watch(self, on: bool) -> None:
        """Firmware runs, or no longer."""
        self._began = None
        self._changes.clear()
        self._flash.watcher = self._changes.append if on else None

    def load_changed(self, flash_works: bool, now: float) -> None:
        """What draws current has changed at `now`, up to which the rail has been followed."""
        if flash_works:
            self._began = now if self._began is None else self._began
        elif self._began is not None:
            self._judge(now, now - self._began)
        else:
            self._changes.clear()  # a burst of the radio hid all of it: whether it sagged then is not judged

    def power_lost(self, now: float) -> None:
        """What was under way stays where it is."""
        if self._began is not None:
            typical = sum(map(_typical, self._changes)) / self._speed
            self._judge(now, max(typical, now - self._began))
        self.watch(False)

    def _judge(self, now: float, length: float) -> None:
        assert self._began is not None
        done = self._supply.worked(self._began, now) / length if length > 0 else 1.0
        if done < 1.0 - 1e-6:
            for change in self._changes:
                self._flash.fall_short(change, max(0.0, done))
        self._changes.clear()
        self._began = None


def _typical(change: Change) -> float:
    """Seconds of the board's time that an operation takes."""
    return FIRMWARE_ERASE_S.get(len(change.new), FIRMWARE_PROGRAM_S)
