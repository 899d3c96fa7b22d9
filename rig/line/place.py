"""A unit at its place of work: the board in its slot, with all that works on it and the record of what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rig.bench.bench import Bench, Slot
from rig.bench.link import SlotLink
from rig.bench.power import BoardPower
from rig.bench.slot import OpenSlot
from rig.flashers.base import Progress
from rig.flashers.native import NativeFlasher
from rig.image.firmware import FirmwareProfile
from rig.line.record import UnitRecord
from rig.uart.bootlog import BootLog

_LEAST_SAMPLE_S = 0.3  # on a fast simulated bench: the supply still answers at its own pace


@dataclass(frozen=True)
class Place:
    """What the steps of every plan work with. `boot_log` None: the slot has no log port, and that is accepted.
    `profiles`: what this product's board may print, the expected firmware first."""

    bench: Bench
    slot: Slot
    board: OpenSlot
    rom: NativeFlasher
    boot_log: BootLog | None
    profiles: Sequence[FirmwareProfile]
    record: UnitRecord
    progress: Progress

    @property
    def link(self) -> SlotLink:
        return self.board.link

    @property
    def power(self) -> BoardPower:
        return self.board.power

    @property
    def listed(self) -> Sequence[FirmwareProfile]:
        """The firmware that the product is to run."""
        return self.profiles[: len(self.slot.product.firmware)]

    def average(self, seconds: float) -> tuple[float, float]:
        """(volts, amps), the means over `seconds` of the board's time."""
        return self.power.average(max(_LEAST_SAMPLE_S, seconds / self.bench.speed))
