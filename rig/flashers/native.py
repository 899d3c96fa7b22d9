"""The rig's own flasher: a careful client of the ROM that stays linked from one operation to the next.

It erases 64 KiB at once where a whole block is wanted and 4 KiB at the edges, never beyond the range; it skips blank
sectors, keeps what stands beside an unaligned edge, and asks the chip's CRC once a range when all of it is written,
halving only what differs and writing that again. `update` writes only what differs. Repeats are bounded, and each is
in `retries`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import serial

from rig.chip.client import GARBLED, NoReply, Refused, RomClient, TooManyRetries
from rig.chip.frames import SECTOR, Long
from rig.chip.ids import FLASH_PARTS, SCTRL_CHIP_ID, chip_name
from rig.errors import Aborted, BenchBlocked, Coded, UnitFailed, UsageProblem
from rig.flashers.base import ChipIdentity, FlashResult, Link, Progress, no_progress
from rig.flashers.compare import first_difference
from rig.flashers.content import BLOCK, Content
from rig.flashers.differential import changed_sectors
from rig.flashers.protection import unprotect
from rig.flashers.reading import Reader
from rig.flashers.session import Session
from rig.flashers.speed import SpeedMemory
from rig.flashers.surroundings import Surroundings
from rig.flashers.writing import Writer

__all__ = ["BLOCK", "NativeFlasher"]

_TLV_MAC = 0x1D0000  # calibration sector of an N; MAC entry as read by ltchiptool `soc/bk72xx`
_MAC_ENTRY = bytes.fromhex("0211111106000000")
_CHECKED_TRIES = 3  # choice
_READS = (Long.READ_4K, Long.SPI_OP, Long.READ_SR)  # refused: no fault of what was to be written


class NativeFlasher:
    """Speaks to the mask ROM itself. One object serves one slot at a time; `close()` releases the port.

    `speeds` remembers what speed works in this slot; without it every link begins with the slot's own.
    """

    name = "native"

    def __init__(self, speeds: SpeedMemory | None = None) -> None:
        self._speeds = speeds
        self._session: Session | None = None
        self._around = Surroundings()
        self.retries: list[str] = []  # everything that was repeated since this object was made
        self._away: int | None = None  # a sector with others' bytes whose writing was cut off
        self._told = 0  # how many of them belong to earlier operations

    def connect(self, link: Link) -> None:
        """The board waits in its ROM, at the speed that works; nothing is asked of it. A link that is held stays."""
        with _Judged(self, link):
            self._connect(link)

    # -- the interface ---------------------------------------------------------------------------------

    def identify(self, link: Link, progress: Progress = no_progress) -> ChipIdentity:
        """Backups are found again by it, and the wire has no check: each part is read twice alike, or by CRC."""
        with _Judged(self, link):
            session = self._connect(link)
            chip_id = session.alike(lambda rom: rom.read_register(SCTRL_CHIP_ID), "the chip id")
            flash_id = session.alike(lambda rom: rom.flash_id(), "the flash id")
            part = FLASH_PARTS.get(flash_id)
            size = part.size if part else (1 << flash_id[2] if 16 <= flash_id[2] <= 24 else None)
            efuse = session.alike(lambda rom: rom.efuse(), "the efuse")
            mac = _mac_of(_checked(session, _TLV_MAC), efuse)
        return ChipIdentity(chip_name(chip_id), chip_id, flash_id, size, mac, efuse)

    def read(self, link: Link, offset: int, length: int, progress: Progress = no_progress) -> FlashResult:
        """All of the range, each 64 KiB block agreeing with the chip's CRC. Raises UnitFailed("backup-mismatch")."""
        started = time.monotonic()
        with _Judged(self, link):
            session = self._connect(link)
            data = Reader(session, self._note).read(offset, length, progress)
        self._around.know(offset, data)
        return self._result(started, f"read {length} bytes, each block's CRC agrees", length, data=data)

    def write(self, link: Link, pieces: Sequence[tuple[int, bytes]], progress: Progress = no_progress) -> FlashResult:
        """All sectors of `pieces`, whatever they hold now; where pieces overlap the later one counts.

        Bytes beside a piece in its first and last sector are read first and written back: should power go away within
        the 0.1 s between, they are in the backup only, and the next write takes the blank for theirs.
        Raises UsageProblem for a piece that is not inside the flash.
        """
        started = time.monotonic()
        with _Judged(self, link):
            session = self._connect(link)
            content = self._content(session, pieces)
            dead = self._put(session, content, content.sectors, content.size, progress)
        said = f"wrote {content.size} bytes, which agree with the chip's CRC"
        return self._written(started, dead, said, content.size)

    def update(
        self, link: Link, pieces: Sequence[tuple[int, bytes]], progress: Progress = no_progress
    ) -> FlashResult:
        """As `write`, but sectors that hold already what they should are not touched: how that is told, and the
        odds, in `rig.flashers.differential`. `size` of the result counts the bytes that were written.

        Not for a board whose last write was cut off: cells that lost their power half-way may agree today."""
        started = time.monotonic()
        with _Judged(self, link):
            session = self._connect(link)
            content = self._content(session, pieces)
            changed = changed_sectors(session.agrees, content.runs(), progress)
            dead = self._put(session, content, changed, len(changed) * SECTOR, progress) if changed else None
        said = f"all {len(content.sectors)} sectors hold it already"
        if changed:
            said = f"{len(changed)} of {len(content.sectors)} sectors differed and were written; the rest agrees"
        return self._written(started, dead, said, len(changed) * SECTOR)

    def verify(
        self, link: Link, pieces: Sequence[tuple[int, bytes]], progress: Progress = no_progress
    ) -> FlashResult:
        """One CRC a piece; the sector is named where it differs. One that differs once is in `retries`."""
        started = time.monotonic()
        with _Judged(self, link):
            session = self._connect(link)
            total, done = sum(len(data) for _, data in pieces), 0
            for offset, data in pieces:
                wrong = first_difference(session.agrees, offset, data, self._doubt)
                if wrong is not None:
                    return self._result(started, f"the flash differs at 0x{wrong:x}", done + wrong - offset, ok=False)
                self._around.know(offset, data)
                done += len(data)
                progress("verify", done, total)
        return self._result(started, f"{total} bytes agree with the chip's CRC", total, verified=True)

    def erase(self, link: Link, offset: int, length: int, progress: Progress = no_progress) -> FlashResult:
        started = time.monotonic()
        if offset % SECTOR or length % SECTOR:
            raise ValueError(f"an erase covers whole sectors of 0x{SECTOR:x} bytes")
        with _Judged(self, link):
            session = self._connect(link)
            content = self._content(session, [(offset, b"\xff" * length)])
            dead = self._put(session, content, content.sectors, length, progress)
        if dead is not None:
            said = f"0x{offset:x}+0x{length:x} is not blank after its erase, at 0x{dead:x}"
            return self._result(started, said, length, ok=False)
        return self._result(started, f"erased {length} bytes", length, verified=True)

    def crc(self, link: Link, offset: int, length: int) -> int:
        """The chip's CRC-32 of a range."""
        with _Judged(self, link):
            return self._connect(link).crc(offset, length)

    def know(self, offset: int, data: bytes) -> None:
        """The board that is linked holds `data` at `offset`: from a backup that it was just matched with, say.

        What `read` read and `write` wrote is known already. Where something goes wrong on the line, the chip's CRC of
        what is known tells whether anything beside the range was hit.
        """
        self._around.know(offset, data)

    @property
    def baud(self) -> int | None:
        """The speed of the link, None without one."""
        return self._session.baud if self._session is not None else None

    def close(self) -> None:
        session, self._session = self._session, None
        self._around = Surroundings()  # who knows what is in the slot next
        if session is not None:
            session.ended_well()
            session.close()

    # -- inside ----------------------------------------------------------------------------------------

    @property
    def _rom(self) -> RomClient | None:
        return self._session.rom if self._session is not None else None

    def _connect(self, link: Link) -> Session:
        """The board, linked; a link that is held is used on."""
        if self._session is None or self._session.link is not link:
            self.close()
            self._session = Session(link, self._note, self._speeds)
            self._note_retries()
        self._session.begin()
        return self._session

    def _content(self, session: Session, pieces: Sequence[tuple[int, bytes]]) -> Content:
        for offset, data in pieces:
            if offset < 0 or offset + len(data) > session.part.size:
                raise UsageProblem(
                    f"0x{offset:x}+0x{len(data):x} is not inside the flash of 0x{session.part.size:x} bytes"
                )
        return Content(pieces)

    def _put(
        self, session: Session, content: Content, sectors: Sequence[int], total: int, progress: Progress
    ) -> int | None:
        """Write `sectors` of `content`; the first one that came out wrong for good, if any."""
        reader = Reader(session, self._note)
        unprotect(session)
        spans = content.spans(sectors, lambda sector: self._around.standing(sector, reader.read(sector, SECTOR)))
        self._around.forget(sectors)
        writer = Writer(session, self._note, progress, total)
        try:
            dead = writer.write(spans)
        finally:
            self._away = writer.away
        if dead is None:
            for span in spans:
                self._around.know(span.start, span.data)
        self._around.check(session, sectors)
        session.rom.strays.clear()
        return dead

    def _written(self, started: float, dead: int | None, said: str, size: int) -> FlashResult:
        if dead is not None:
            return self._result(started, f"the flash differs at 0x{dead:x}, written again and again", size, ok=False)
        return self._result(started, said, size, verified=True)

    def _note(self, line: str) -> None:
        self._note_retries()
        self.retries.append(line)

    def _doubt(self, start: int) -> None:
        self._note(f"the CRC from 0x{start:x} differed, and its parts agreed: asked for again")

    def _note_retries(self) -> None:
        if self._session is not None:
            self.retries += self._session.fresh_retries()

    def _result(
        self,
        started: float,
        said: str,
        size: int,
        *,
        ok: bool = True,
        verified: bool = False,
        data: bytes | None = None,
    ) -> FlashResult:
        self._note_retries()
        retries = tuple(self.retries[self._told :])
        return FlashResult(ok, said, time.monotonic() - started, size, retries, data=data, verified=verified)


class _Judged:
    """Turns what the ROM client raises into a coded error; what went wrong underneath comes first."""

    def __init__(self, flasher: NativeFlasher, link: Link) -> None:
        self._flasher = flasher
        self._link = link

    def __enter__(self) -> None:
        self._flasher._told = len(self._flasher.retries)
        self._flasher._away = None
        self._link.check()

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        self._flasher._note_retries()
        if problem is None or isinstance(problem, Coded | UsageProblem):
            self._check(self._torn())
            if isinstance(problem, Coded):
                problem.args = (f"{problem}{self._torn()}",)
            rom = self._flasher._rom
            if problem is None and rom is not None and rom.strays:
                stray = rom.strays[0]
                raise UnitFailed(
                    "verify-failed",
                    f"the chip acknowledged {stray.command} at 0x{stray.start:x}, which nobody asked for: a command "
                    "was damaged on its way",
                )
            return
        self._flasher.close()
        if isinstance(problem, Aborted | KeyboardInterrupt):
            return
        torn = self._torn()
        self._check(torn)
        if isinstance(problem, NoReply):
            raise BenchBlocked("link-lost", f"the board stopped answering: {problem}{torn}") from None
        if isinstance(problem, TooManyRetries):
            raise BenchBlocked("link-lost", f"bytes are lost or damaged on the way: {problem}{torn}") from None
        if isinstance(problem, Refused) and problem.status in GARBLED:
            raise BenchBlocked("link-lost", f"bytes are lost on the way to the board: {problem}{torn}") from None
        if isinstance(problem, Refused):
            reading = problem.request.code in _READS
            raise UnitFailed("unreadable" if reading else "flasher-failed", f"{problem}{torn}") from None
        if isinstance(problem, serial.SerialException | OSError):
            raise BenchBlocked("port-lost", f"the flash port went away: {problem}{torn}") from None

    def _check(self, torn: str) -> None:
        try:
            self._link.check()
        except Coded as problem:
            problem.args = (f"{problem}{torn}",)
            raise

    def _torn(self) -> str:
        """What a write that was cut off took with it."""
        if self._flasher._away is None:
            return ""
        return (
            f"; the sector at 0x{self._flasher._away:x} may be erased, and the bytes beside what was to be written "
            "there stand in the board's backup only: restore it before anything else is written"
        )


def _checked(session: Session, sector: int) -> bytes:
    """A sector that agrees with its CRC; as it was read last where none does: that is for the backup to say."""
    for _ in range(_CHECKED_TRIES):
        data = session.read_sector(sector)
        if session.agrees(sector, data):
            break
    return data


def _mac_of(tlv_sector: bytes, efuse: bytes) -> str | None:
    """The board's MAC: from its calibration sector, else from efuse bytes 24-29."""
    raw = b""
    if tlv_sector[:4] == b"TLV\x00" and tlv_sector[0x1C:0x24] == _MAC_ENTRY:
        raw = tlv_sector[0x24:0x2A]
    elif any(efuse[24:30]):
        raw = efuse[24:30]
    return raw.hex(":") if raw and any(raw) else None
