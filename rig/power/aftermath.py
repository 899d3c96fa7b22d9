"""What became of a board: looked at after an activity at its own supply, and put right where it is not as it was.

All of the flash by the chip's CRC; a boot until the firmware says that it is up; the flash again, some power-cycles
later. A board that does not boot gets its firmware again, and at last a full image from 0x0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rig.chip.frames import SECTOR
from rig.errors import UnitFailed
from rig.image import flashmap
from rig.power.holding import Holding
from rig.power.owned import Owned, calibration_kept, config_kept, owned
from rig.power.perform import Done
from rig.power.trial import Activity

_NEAR = 16  # bytes: differences closer than this are one


@dataclass(frozen=True)
class Good:
    """A board as it is to be between trials: `flash` with the study's firmware, which has booted, and what in it is
    its own. `image`: (address, length) of bootloader and app, which nothing but a conversion writes."""

    flash: bytes = field(repr=False)
    own: Owned
    image: tuple[tuple[int, int], ...]
    chip: str


@dataclass(frozen=True)
class Meant:
    """What an activity found in flash, and what was to be there after it; `written`: (address, length) of that."""

    activity: Activity
    before: bytes = field(repr=False)
    wanted: bytes = field(repr=False)
    written: tuple[tuple[int, int], ...] = ()


@dataclass
class After:
    """What was seen; fields as those of `rig.power.outcome.Seen`."""

    cycled: bool | None = None
    boots: bool | None = None
    content: bool | None = None
    elsewhere: bool | None = None
    later: bool | None = None
    cycles: int = 0
    where: list[tuple[int, int]] = field(default_factory=list)
    calibration: bool | None = None
    config: bool | None = None
    full_image: bool | None = None


class Aftermath:
    """`boots` power-cycles the board and says whether its firmware comes up; `cycles`: how often power is cycled
    before flash is looked at again, a boot is one of them."""

    def __init__(self, holding: Holding, good: Good, boots: Callable[[], bool], cycles: int) -> None:
        self._holding, self._good, self._boots, self._cycles = holding, good, boots, cycles

    def after(self, meant: Meant, done: Done) -> After:
        """Look, boot, look again, put right. Raises Coded for what the bench spoils."""
        found = After()
        now = self._holding.look(meant.wanted, meant.before)
        found.cycled = now is not None
        if now is None:
            return found
        half = meant.activity == "convert" and not done.finished  # its configuration may not have been written yet
        self._compare(found, meant, now, half=half)
        if half and not found.content:
            return found  # it was told: that half a firmware does not boot says nothing more
        found.boots = self._boots()
        found.cycles = 1
        self._holding.forget()
        for _ in range(self._cycles - 1):
            now = self._holding.look(meant.wanted, now)
            found.cycles += 1
            if now is None:
                found.cycled = False
                return found
            self._compare(found, meant, now, half=half, later=True)
        self._mend(found)
        return found

    def _compare(self, found: After, meant: Meant, now: bytes, *, half: bool, later: bool = False) -> None:
        """What the firmware writes itself is judged by its meaning."""
        content = differing(meant.wanted, now, meant.written)
        elsewhere = [] if meant.activity == "convert" else differing(meant.wanted, now, self._good.image)
        places = sorted([*content, *elsewhere])
        if not later:
            found.content, found.elsewhere = not content, not elsewhere
        elif found.content and found.elsewhere and found.later is not False:
            found.later = not places
        mine = owned(now, self._good.chip)
        for name, kept, at in kept_or_lost(self._good, mine):
            kept = None if half and name == "config" else kept
            if getattr(found, name) is not False:
                setattr(found, name, kept)
            if kept is False:
                places.append((at, SECTOR))
        found.where = found.where or places
        self._holding.weak.update(at // SECTOR * SECTOR for at, _ in places)

    def _mend(self, found: After) -> None:
        """The study's firmware, whole and booting: what it takes decides whether only a full image brings it back."""
        if found.boots and found.elsewhere and False not in (found.later, found.calibration, found.config):
            return
        try:
            self._put_right(found)
        except UnitFailed:  # the flash does not take it any more
            found.full_image = None if found.boots else False
        self._holding.forget()

    def _put_right(self, found: After) -> None:
        bootloader = flashmap.region("bootloader", self._good.chip)
        if not any(at < bootloader.end for at, _ in found.where):
            self._holding.put(self._good.flash)
            if found.boots or self._boots():
                return
        elif found.boots:
            self._holding.put(self._good.flash)
            return
        self._holding.rewrite(self._good.flash)
        found.full_image = self._boots()


def kept_or_lost(good: Good, mine: Owned) -> list[tuple[str, bool | None, int]]:
    """(what, whether it is kept, address of its sector) of what is a board's own; None: there was none to lose."""
    return [
        ("calibration", calibration_kept(good.own, mine), flashmap.CALIBRATION[good.chip]),
        ("config", config_kept(good.own, mine), flashmap.OBK_CONFIG[good.chip]),
    ]


def differing(wanted: bytes, now: bytes, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(address, length) of runs of bytes within `spans` that differ, in order."""
    found: list[tuple[int, int]] = []
    for start, length in spans:
        for sector in range(start, start + length, SECTOR):
            end = min(sector + SECTOR, start + length)
            if wanted[sector:end] == now[sector:end]:
                continue
            for at in (at for at in range(sector, end) if wanted[at] != now[at]):
                if found and at - sum(found[-1]) < _NEAR:
                    found[-1] = (found[-1][0], at + 1 - found[-1][0])
                else:
                    found.append((at, 1))
    return found
