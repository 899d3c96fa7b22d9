"""How long one flash die takes, as the mask ROM and as running firmware see it.

They differ: the ROM's are what is left in a public write log once the wire's time is taken off, the firmware's are
round figures typical of such dies. Nobody has measured both on one board.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from rig.sim.flash import SECTOR, SIZE


@dataclass(frozen=True)
class ChipTimes:
    """What flash and ROM take in download mode, seconds."""

    erase_4k: float = 0.025  # what is left in a public write log of a CB3S
    erase_32k: float = 0.075  # guess: in proportion
    erase_64k: float = 0.150  # guess: as above
    page: float = 0.0006  # data sheet of the ZB25VQ16
    crc_bytes_per_s: float = 438_000.0  # the same write log: 438.6 kB/s
    status_write: float = 0.005  # guess

    def scaled(self, speed: float) -> ChipTimes:
        times = {f.name: getattr(self, f.name) / speed for f in fields(self) if f.name != "crc_bytes_per_s"}
        return ChipTimes(crc_bytes_per_s=self.crc_bytes_per_s * speed, **times)


# What firmware waits for, seconds, by the bytes that are erased. Guess: typical of the TH25Q16HB's class.
FIRMWARE_ERASE_S = {SECTOR: 0.045, 0x8000: 0.150, 0x10000: 0.250, SIZE: 8.0}
FIRMWARE_PROGRAM_S = 0.0002  # 32 bytes: guess between a byte's and a page's data sheet figures
FIRMWARE_READ_S = 4e-6  # 32 bytes: guess, two lines at 26 MHz or better
FIRMWARE_STATUS_WRITE_S = 0.001  # guess
