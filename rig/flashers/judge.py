"""Did a tool write what it was told? The rig's own client decides, whatever the tool said.

All of every range by the chip's CRC; and since a chip whose CRC is right and whose flash is not would pass that, some
sectors are read back byte by byte: the first and the last of each range, and others that the content itself chooses,
so that the same image is always sampled alike.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

from rig.chip.frames import SECTOR
from rig.flashers.base import Flasher, FlashResult, Link, Progress, no_progress

SAMPLES = 4  # sectors read back besides the first and last of each range: 0.04 s each at 921600 baud


def judge_write(
    rom: Flasher,
    link: Link,
    pieces: Sequence[tuple[int, bytes]],
    progress: Progress = no_progress,
    *,
    samples: int = SAMPLES,
) -> FlashResult:
    """Compare `pieces` (offset, content) with the flash: by CRC, then by reading samples back. `ok` is the verdict.

    `rom` is the rig's own client; what it raises passes. `data` of the result is None.
    """
    began = time.monotonic()
    found = rom.verify(link, pieces, progress)
    if not found.ok:
        return found
    size = sum(len(data) for _, data in pieces)
    chosen = sampled(pieces, samples)
    retries = list(found.retries)
    for offset, expected in chosen:
        read = rom.read(link, offset, len(expected))
        retries += read.retries
        if read.data != expected:
            wrong = next(at for at, byte in enumerate(expected) if (read.data or b"")[at : at + 1] != bytes((byte,)))
            said = f"the chip's CRC agrees, but at 0x{offset + wrong:x} other bytes are read"
            return FlashResult(False, said, time.monotonic() - began, size, tuple(retries))
    said = f"{found.said}; {len(chosen)} sectors read back agree"
    return FlashResult(True, said, time.monotonic() - began, size, tuple(retries))


def sampled(pieces: Sequence[tuple[int, bytes]], samples: int = SAMPLES) -> list[tuple[int, bytes]]:
    """The (offset, content) that are read back, in order of offset; of a sector only what its piece covers."""
    chosen: dict[int, bytes] = {}
    middle: list[tuple[int, bytes]] = []
    for offset, data in pieces:
        end = offset + len(data)
        sectors = [
            (max(at, offset), data[max(at, offset) - offset : at + SECTOR - offset])
            for at in range(offset // SECTOR * SECTOR, end, SECTOR)
        ]
        chosen |= dict(sectors[:1] + sectors[-1:])
        middle += sectors[1:-1]
    seed = hashlib.sha256(b"".join(data for _, data in pieces)).digest()
    middle.sort(key=lambda sector: hashlib.sha256(seed + sector[0].to_bytes(4, "little")).digest())
    return sorted((chosen | dict(middle[:samples])).items())
