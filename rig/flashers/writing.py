"""Putting spans of whole sectors into flash, and right where the chip's CRC says that they are not."""

from __future__ import annotations

from collections.abc import Callable

from rig.chip.frames import SECTOR
from rig.flashers.base import Progress
from rig.flashers.compare import TooMany, differing
from rig.flashers.content import BLANK, Span, erases
from rig.flashers.session import Session

_TRIES = 4  # choice: how often one sector is written before it counts as dead
_MOST_WRONG = 32  # choice: sectors of a span put right one by one; more, and all of it is written again, more slowly
_MANY = 3  # choice: as many wrong sectors in a span are the line's doing
_ROUNDS = 8  # more than the ladder of speeds has steps


class Writer:
    """Writes for one operation. `note` is called with each repeat, `progress` with bytes of whole sectors."""

    def __init__(self, session: Session, note: Callable[[str], None], progress: Progress, total: int) -> None:
        self._session = session
        self._note = note
        self._progress = progress
        self._total = total
        self._done = 0
        self.away: int | None = None  # a mixed sector that is erased and not yet written back

    def write(self, spans: list[Span]) -> int | None:
        """All spans; then one CRC a span. None when all of it stands, else the first sector that does not."""
        for span in spans:
            self._put(span)
        for span in spans:
            dead = self._make_right(span)
            if dead is not None:
                return dead
        return None

    def _put(self, span: Span) -> None:
        """Erase in the largest blocks that fit and program what is not blank. A mixed sector is erased by itself and
        written back at once, so that what others have there is away from flash for as short as can be."""
        at = span.start
        for stop in [*sorted(span.mixed), span.end]:
            for address, size in erases(at, stop):
                self._session.erase(address, size)
                for sector in range(address, address + size, SECTOR):
                    self._program(span, sector)
            if stop in span.mixed:
                self.away = stop
                self._session.erase(stop, SECTOR)
                self._program(span, stop)
                self.away = None
                at = stop + SECTOR

    def _program(self, span: Span, sector: int) -> None:
        data = span.sector(sector)
        if data != BLANK:
            self._session.write_sector(sector, data)
        self._done += SECTOR
        self._progress("write", min(self._done, self._total), self._total)

    def _make_right(self, span: Span) -> int | None:
        """The span's CRC; what differs is written and asked for again. The first sector that was given up, if any."""
        for _ in range(_ROUNDS):
            try:
                wrong = differing(self._session.agrees, span.start, span.data, _MOST_WRONG, self._doubt)
            except TooMany as many:
                wrong = many.found
            if not wrong:
                return None
            if not self._rewritten(span, wrong[0]):  # first one: a flash that takes nothing is found out at once
                return wrong[0]
            if len(wrong) >= _MANY:
                slower = self._session.slower(f"{len(wrong)} sectors or more came out wrong")
                if len(wrong) > _MOST_WRONG and not slower:
                    return wrong[1]
            if len(wrong) > _MOST_WRONG:
                self._note(f"all of 0x{span.start:x}+0x{len(span.data):x} written again")
                self._put(span)
                continue
            for sector in wrong[1:]:
                if not self._rewritten(span, sector):
                    return sector
        return span.start

    def _doubt(self, start: int) -> None:
        self._note(f"the CRC from 0x{start:x} differed, and its parts agreed: asked for again")

    def _rewritten(self, span: Span, sector: int) -> bool:
        """A sector erased and written until its CRC agrees; False: it does not."""
        data = span.sector(sector)
        for _ in range(_TRIES):
            self._note(f"sector 0x{sector:x} written again: its CRC differs")
            self.away = sector if sector in span.mixed else None
            self._session.erase(sector, SECTOR)
            if data != BLANK:
                self._session.write_sector(sector, data)
            self.away = None
            if self._session.agrees(sector, data):
                return True
            self._session.trouble()
        return False
