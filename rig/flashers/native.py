"""The rig's own flasher: a careful client of the ROM that stays linked from one operation to the next.

It erases 64 KiB at once where a whole block is wanted and 4 KiB at the edges, never beyond the range; it skips
blank sectors, keeps what stands beside an unaligned edge, and compares by the chip's CRC a block at a time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

import serial

from rig.chip.client import GARBLED, LINK_BAUD, NoReply, Refused, RomClient, crc32
from rig.chip.frames import SECTOR, Long
from rig.chip.ids import FLASH_PARTS, PROTECT_MASK, SCTRL_CHIP_ID, chip_name
from rig.errors import Aborted, BenchBlocked, Coded, UnitFailed
from rig.flashers.base import ChipIdentity, FlashResult, Link, Progress, no_progress

BLOCK = 0x10000
_POWER_TIMEOUT_S = 5.0  # from the first link check to power: a supply of 118 ms a command takes under two
_WINDOW_S = 1.0  # the ROM listens for 0.25 s after power-on: a board silent for longer runs its firmware by now
_LINK_SLICE_S = 0.05
_READ_TIMEOUT_S = 0.005
_TLV_MAC = 0x1D0000  # calibration sector of an N; MAC entry as read by ltchiptool `soc/bk72xx`
_MAC_ENTRY = bytes.fromhex("0211111106000000")
_BLANK = b"\xff" * SECTOR
_READS = (Long.READ_4K, Long.SPI_OP, Long.READ_SR)  # refused: no fault of what was to be written


class NativeFlasher:
    """Speaks to the mask ROM itself. One object serves one slot at a time; `close()` releases the port."""

    name = "native"

    def __init__(self) -> None:
        self._port: serial.Serial | None = None
        self._rom: RomClient | None = None
        self._linked_to: Link | None = None
        self.retries: list[str] = []  # every repeated command since this object was made
        self._told = 0  # how many of them belong to earlier operations

    # -- the interface ---------------------------------------------------------------------------------

    def identify(self, link: Link, progress: Progress = no_progress) -> ChipIdentity:
        with _Judged(self, link):
            rom = self._connect(link)
            chip_id = rom.read_register(SCTRL_CHIP_ID)
            flash_id = rom.flash_id()
            part = FLASH_PARTS.get(flash_id)
            size = part.size if part else (1 << flash_id[2] if 16 <= flash_id[2] <= 24 else None)
            efuse = rom.efuse()
            mac = _mac_of(rom.read_sector(_TLV_MAC), efuse)
        return ChipIdentity(chip_name(chip_id), chip_id, flash_id, size, mac, efuse)

    def read(self, link: Link, offset: int, length: int, progress: Progress = no_progress) -> FlashResult:
        started = time.monotonic()
        with _Judged(self, link):
            rom = self._connect(link)
            data = b"".join(self._read_blocks(rom, offset, length, progress))
        return self._result(started, f"read {length} bytes, each block's CRC agrees", length, data=data)

    def write(self, link: Link, pieces: Sequence[tuple[int, bytes]], progress: Progress = no_progress) -> FlashResult:
        started = time.monotonic()
        with _Judged(self, link):
            rom = self._connect(link)
            self._unprotect(rom)
            total, done = sum(len(data) for _, data in pieces), 0
            for offset, data in pieces:
                first, whole = self._whole_sectors(rom, offset, data)
                self._erase_range(rom, first, len(whole))
                for address, sector in _sectors(first, whole):
                    if sector != _BLANK:
                        rom.write_sector(address, sector)
                    progress("write", done + min(max(address + SECTOR - offset, 0), len(data)), total)
                done += len(data)
        return self._result(started, f"wrote {total} bytes", total)

    def verify(
        self, link: Link, pieces: Sequence[tuple[int, bytes]], progress: Progress = no_progress
    ) -> FlashResult:
        started = time.monotonic()
        with _Judged(self, link):
            rom = self._connect(link)
            total, done = sum(len(data) for _, data in pieces), 0
            for offset, data in pieces:
                for at in range(0, len(data), BLOCK):
                    block = data[at : at + BLOCK]
                    if rom.crc(offset + at, len(block)) != crc32(block):
                        bad = self._first_difference(rom, offset + at, block)
                        return self._result(started, f"the flash differs at 0x{bad:x}", done, ok=False)
                    done += len(block)
                    progress("verify", done, total)
        return self._result(started, f"{total} bytes agree with the chip's CRC", total)

    def erase(self, link: Link, offset: int, length: int, progress: Progress = no_progress) -> FlashResult:
        started = time.monotonic()
        if offset % SECTOR or length % SECTOR:
            raise ValueError(f"an erase covers whole sectors of 0x{SECTOR:x} bytes")
        with _Judged(self, link):
            rom = self._connect(link)
            self._unprotect(rom)
            self._erase_range(rom, offset, length)
            blank = rom.crc(offset, length) == crc32(b"\xff" * length)
        said = f"erased {length} bytes" if blank else f"0x{offset:x}+0x{length:x} is not blank after its erase"
        return self._result(started, said, length, ok=blank)

    def crc(self, link: Link, offset: int, length: int) -> int:
        """The chip's CRC-32 of a range."""
        with _Judged(self, link):
            return self._connect(link).crc(offset, length)

    def close(self) -> None:
        if self._port is not None:
            self._port.close()
        self._port = self._rom = self._linked_to = None

    # -- link ------------------------------------------------------------------------------------------

    def _connect(self, link: Link) -> RomClient:
        """The ROM, linked: with link checks running, then power, so that nothing in flash runs first."""
        if self._rom is not None and self._linked_to is link:
            return self._rom
        self.close()
        link.prepare()
        self._port = serial.Serial(link.path, LINK_BAUD, timeout=_READ_TIMEOUT_S)
        rom = RomClient(self._port, on_silence=link.check)
        try:
            self._link(rom, link)
        except NoReply as problem:
            raise UnitFailed("no-link", f"the board has power but never answered: {problem}") from None
        self._rom, self._linked_to = rom, link
        self._speed_up(rom, link)
        return rom

    def _link(self, rom: RomClient, link: Link) -> None:
        """Link checks until one is answered. Whatever else comes, the board goes off: nothing backed it up yet."""
        try:
            asked = time.monotonic()
            while True:
                with contextlib.suppress(NoReply):
                    rom.link(_LINK_SLICE_S)
                    return
                link.check()
                now, powered = time.monotonic(), link.power_on_ns / 1e9
                if powered and now > powered + _WINDOW_S:
                    raise NoReply(f"no answer to link checks for {now - powered:.1f} s after power-on")
                if not powered and now > asked + _POWER_TIMEOUT_S:
                    raise BenchBlocked("supply-lost", f"the output stayed off for {now - asked:.1f} s of link checks")
        except BaseException:
            link.off()
            raise

    def _speed_up(self, rom: RomClient, link: Link) -> None:
        """The slot's speed; a board that does not follow is linked again at the ROM's own and left there."""
        if link.baud == LINK_BAUD:
            return
        try:
            rom.set_baud(link.baud)
            rom.read_register(SCTRL_CHIP_ID)
        except NoReply:
            self.retries.append(f"{link.baud} baud failed, staying at {LINK_BAUD}")
            link.prepare()
            assert self._port is not None
            self._port.baudrate = LINK_BAUD
            self._port.reset_input_buffer()
            self._link(rom, link)

    # -- flash -----------------------------------------------------------------------------------------

    def _read_blocks(self, rom: RomClient, offset: int, length: int, progress: Progress) -> Iterator[bytes]:
        """Blocks of up to 64 KiB, each read again once if its CRC disagrees."""
        end = offset + length
        at = offset
        while at < end:
            stop = min((at // BLOCK + 1) * BLOCK, end)
            for attempt in (1, 2):
                data = self._read_range(rom, at, stop)
                if rom.crc(at, stop - at) == crc32(data):
                    break
                self.retries.append(f"read of 0x{at:x}: CRC differs (attempt {attempt})")
            else:
                raise UnitFailed(
                    "backup-mismatch", f"what was read from 0x{at:x} twice disagrees with the chip's own CRC"
                )
            yield data
            at = stop
            progress("read", at - offset, length)

    def _read_range(self, rom: RomClient, start: int, stop: int) -> bytes:
        first = start // SECTOR * SECTOR
        data = b"".join(rom.read_sector(at) for at in range(first, stop, SECTOR))
        return data[start - first : stop - first]

    def _whole_sectors(self, rom: RomClient, offset: int, data: bytes) -> tuple[int, bytes]:
        """`data` widened to whole sectors by what stands beside it in flash, read with its CRC: it is lost else."""
        first = offset // SECTOR * SECTOR
        end = offset + len(data)
        last = -(-end // SECTOR) * SECTOR
        head = b"".join(self._read_blocks(rom, first, offset - first, no_progress))
        tail = b"".join(self._read_blocks(rom, end, last - end, no_progress))
        return first, head + data + tail

    def _erase_range(self, rom: RomClient, start: int, length: int) -> None:
        at, end = start, start + length
        while at < end:
            size = BLOCK if at % BLOCK == 0 and end - at >= BLOCK else SECTOR
            rom.erase(at, size)
            at += size

    def _unprotect(self, rom: RomClient) -> None:
        """Clear the protection bits, only if they are set: a needless status write is a risk."""
        part = FLASH_PARTS.get(rom.flash_id())
        if part is None:
            raise UnitFailed("unreadable", f"the flash id {rom.flash_id().hex()} is not one of a known part")
        mask = PROTECT_MASK & (0xFFFF if part.sr_bytes == 2 else 0xFF)
        before = rom.status_register(part.sr_bytes)
        if not before & mask:
            return
        rom.write_status_register(before & ~mask, part.sr_bytes)
        after = rom.status_register(part.sr_bytes)
        if after & mask:
            raise UnitFailed(
                "flash-protected", f"the status register stays at 0x{after:04x} (flash {rom.flash_id().hex()})"
            )

    def _first_difference(self, rom: RomClient, offset: int, block: bytes) -> int:
        """The first sector of `block` that differs."""
        for at in range(0, len(block), SECTOR):
            piece = block[at : at + SECTOR]
            if rom.crc(offset + at, len(piece)) != crc32(piece):
                return offset + at
        return offset

    def _note_retries(self) -> None:
        if self._rom is not None:
            self.retries += [f"{retry.command} repeated: {retry.reason}" for retry in self._rom.retries]
            self._rom.retries.clear()

    def _result(
        self, started: float, said: str, size: int, *, ok: bool = True, data: bytes | None = None
    ) -> FlashResult:
        self._note_retries()
        retries = tuple(self.retries[self._told :])
        return FlashResult(ok, said, time.monotonic() - started, size, retries, data=data)


class _Judged:
    """Turns what the ROM client raises into a coded error; what went wrong underneath comes first."""

    def __init__(self, flasher: NativeFlasher, link: Link) -> None:
        self._flasher = flasher
        self._link = link

    def __enter__(self) -> None:
        self._flasher._told = len(self._flasher.retries)
        self._link.check()

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        self._flasher._note_retries()
        if problem is None or isinstance(problem, Coded):
            self._link.check()
            return
        self._flasher.close()
        if isinstance(problem, Aborted | KeyboardInterrupt):
            return
        self._link.check()
        if isinstance(problem, NoReply):
            raise BenchBlocked("link-lost", f"the board stopped answering: {problem}") from None
        if isinstance(problem, Refused) and problem.status in GARBLED:
            raise BenchBlocked("link-lost", f"bytes are lost on the way to the board: {problem}") from None
        if isinstance(problem, Refused):
            reading = problem.request.code in _READS
            raise UnitFailed("unreadable" if reading else "flasher-failed", str(problem)) from None
        if isinstance(problem, serial.SerialException | OSError):
            raise BenchBlocked("port-lost", f"the flash port went away: {problem}") from None


def _sectors(first: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    for at in range(0, len(data), SECTOR):
        yield first + at, data[at : at + SECTOR]


def _mac_of(tlv_sector: bytes, efuse: bytes) -> str | None:
    """The board's MAC: from its calibration sector, else from efuse bytes 24-29."""
    raw = b""
    if tlv_sector[:4] == b"TLV\x00" and tlv_sector[0x1C:0x24] == _MAC_ENTRY:
        raw = tlv_sector[0x24:0x2A]
    elif any(efuse[24:30]):
        raw = efuse[24:30]
    return raw.hex(":") if raw and any(raw) else None
