"""What of the radio the firmware can see: bits that clear themselves, and traffic that tells what it is doing.

No radio is modelled. The modem, the BLE exchange memory and most of the MAC are plain memory; found by running
real images: with just the words below they come up to their access point or scan.
"""

from __future__ import annotations

from rig.sim.soc.clock import MS, Clock
from rig.sim.soc.registers import Registers

BLE_BASE, BLE_SIZE = 0x00900000, 0x1000
RF_BASE, RF_SIZE = 0x01050000, 0x1000
MAC_BASE, MAC_SIZE = 0xC0000000, 0x1000
MAC_PL_BASE, MAC_PL_SIZE = 0xC0008000, 0x1000

_SELF_CLEARING = {0x000, 0x0F8, 0x100, 0x800}  # XVR and BLE cores: bit 31 starts something and drops when done
_START = 1 << 31

_MAC_CONTROL_2 = 0x050  # bit 0 = soft reset, self-clearing
_MAC_STATE = 0x038  # bits 3:0 current state, 7:4 next state; 0 idle, 2 doze, 3 active
_DOZE, _ACTIVE = 2, 3

_WORKED_NS = 5 * MS  # guess: writes of one calibration are no further apart


class Ble(Registers):
    """XVR and BLE cores."""

    def __init__(self) -> None:
        super().__init__(BLE_SIZE)
        self._asked: set[int] = set()

    def read(self, offset: int) -> int:
        if offset in self._asked:
            self._asked.discard(offset)
            self.words[offset >> 2] &= ~_START
        return self.words[offset >> 2]

    def write(self, offset: int, value: int) -> None:
        self.words[offset >> 2] = value
        if offset in _SELF_CLEARING and value & _START:
            self._asked.add(offset)


class RfController(Registers):
    """RC_BEKEN: storage that remembers when it was last written."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(RF_SIZE)
        self._clock = clock
        self._quiet_at = 0

    @property
    def worked(self) -> bool:
        """Whether the firmware wrote it within the last 5 ms: calibration, in full or its once-a-second part."""
        return self._clock.now < self._quiet_at

    def write(self, offset: int, value: int) -> None:
        self.words[offset >> 2] = value
        self._quiet_at = self._clock.now + _WORKED_NS

    def reset(self) -> None:
        super().reset()
        self._quiet_at = 0


class Mac(Registers):
    """MAC core: whether the firmware wants it on the air."""

    def __init__(self) -> None:
        super().__init__(MAC_SIZE)
        self._active = False

    @property
    def active(self) -> bool:
        """Told to be active since the reset, and not to doze since then. (To change channel the firmware asks for
        idle and goes back to active on an interrupt that never comes here: idle counts as still on the air.)"""
        return self._active

    def write(self, offset: int, value: int) -> None:
        self.words[offset >> 2] = value
        if offset == _MAC_STATE:
            state = value >> 4 & 0xF
            self._active = state == _ACTIVE or (self._active and state != _DOZE)

    def reset(self) -> None:
        super().reset()
        self._active = False


class MacPlatform(Registers):
    """MAC PL: the soft reset is always done."""

    def __init__(self) -> None:
        super().__init__(MAC_PL_SIZE)

    def read(self, offset: int) -> int:
        return 0 if offset == _MAC_CONTROL_2 else self.words[offset >> 2]
