"""The guard on the wire: an allow-list over download commands, decided on a frame's header, binding every flasher.

Always allowed: link, baud, reboot, CRC, reads, ReadReg, status-register reads, the raw SPI operation that reads
the JEDEC id, and starting an efuse *read*. Erase, program and status-register writes pass only once a backup of
this board is durable, and only inside the ranges that were planned. Efuse writes, any other register write, any
other raw SPI operation and erase-all never pass: no backup undoes them. Once one command was stopped, nothing that
changes the flash passes until it is allowed anew: some tools take no notice of a refused erase and program on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rig.chip.frames import ERASE_SIZES, PREFIX, SECTOR, Header, Long, Reply, Short
from rig.chip.ids import SCTRL_EFUSE_CTRL
from rig.errors import BenchBlocked

_EFUSE_WRITE = 0x2
_SR_ONE_TIME = 0x3900  # LB1-LB3 and SRP1 lock for good. Source: SPI NOR data sheets of this class (GD25Q16)

# Status register opcodes of this class of flash. With any other the ROM would put that one on the flash's bus: 06 and
# then 60 or C7 is a chip erase.
_SR_OPCODES = (b"\x05", b"\x35", b"\x15")
_AFTER = "comes after a command that was stopped"
_REFUSED, _UNKNOWN = 6, 7  # status of a reply: address refused, unknown command. Source: public ROM status list

# The ROM drops what comes while it is busy, and takes up again wherever the rest of a frame has 01 E0 FC: what the
# guard saw as an address would be a command. So no address may hold these three bytes. Below this bound FC is never
# an address's third or fourth byte and 01 never its fourth: the prefix fits neither into one nor across the two of
# a CRC, nor from a write's address into its data. A bound of 16 MiB would let 00FCE001 pass. Tools wrap addresses
# by the flash's size, twice at most; only one that probes a BK7231T reads further up (0x1011000).
_FLASH_END = 0xFC0000

# whole frame sizes of the commands that have one; another size is not that command
_SHORT_SIZES: dict[int, int] = {
    Short.LINK_CHECK: 5,
    Short.WRITE_REG: 13,
    Short.READ_REG: 9,
    Short.REBOOT: 6,
    Short.SET_BAUD: 10,
    Short.CHECK_CRC: 13,
    Short.BOOT_VERSION: 5,
}
_LONG_SIZES: dict[int, Sequence[int]] = {
    Long.WRITE_4K: (12 + SECTOR,),
    Long.WRITE_256: range(13, 12 + 0x100 + 1),
    Long.READ_256: (13,),
    Long.READ_4K: (12,),
    Long.ERASE_4K: (12,),
    Long.READ_SR: (9,),
    Long.WRITE_SR: (10, 11),
    Long.SPI_OP: (12,),
    Long.ERASE: (13,),
}


@dataclass(frozen=True)
class Refusal:
    """A command that was not let through: which, where, and the rule it broke."""

    command: str
    address: int | None
    rule: str

    def __str__(self) -> str:
        where = "" if self.address is None else f" at 0x{self.address:x}"
        return f"{self.command}{where}: {self.rule}"


class Guard:
    """Decides on frames. Closed for writing until `allow_writes` is called with a durable backup in hand."""

    def __init__(self, flash_size: int = 0x200000) -> None:
        self._flash_size = flash_size
        self._ranges: tuple[tuple[int, int], ...] = ()
        self._stopped = False  # since writes were allowed
        self.sealed = False
        self.refusals: list[Refusal] = []

    def allow_writes(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Open (offset, length) ranges for erase and program, widened to whole sectors.

        Call it only after the backup's event is durable in the journal. BenchBlocked("guard-stopped") once sealed.
        """
        if self.sealed:
            raise BenchBlocked("guard-stopped", "the guard is sealed: what is done to this board writes nothing")
        self._stopped = False
        self._ranges = _merged(
            (start // SECTOR * SECTOR, min(-(-(start + length) // SECTOR) * SECTOR, self._flash_size))
            for start, length in ranges
        )

    def seal(self) -> None:
        """Closed for good: for plans that only look."""
        self.forbid_writes()
        self.sealed = True

    def forbid_writes(self) -> None:
        self._ranges = ()

    @property
    def writes_allowed(self) -> bool:
        return bool(self._ranges) and not self._stopped

    def decide(self, header: Header) -> Refusal | None:
        """None to let the frame pass; else why not. Kept in `refusals`, unless it is only what one before led to."""
        rule = self.rule(header)
        if rule is None:
            return None
        refusal = Refusal(header.name, header.address, rule)
        if rule != _AFTER:
            self.refusals.append(refusal)
        self._stopped = True
        return refusal

    def rule(self, header: Header) -> str | None:
        """The rule that this frame would break, None if it may pass. Nothing is noted."""
        if any(address >= _FLASH_END for address in _flash_addresses(header)):
            return "an address that no flash has"
        return self._long(header) if header.long else self._short(header)

    def _short(self, header: Header) -> str | None:
        size = _SHORT_SIZES.get(header.code)
        if size is None:
            return "not on the list of commands that may pass"
        if header.size != size:
            return f"has {header.size} bytes, this command has {size}"
        if PREFIX in header.head:
            return "holds the beginning of another command"
        if header.code == Short.REBOOT and header.head != b"\xa5":
            return "not the reboot command"
        if header.code == Short.WRITE_REG:
            address, value = struct.unpack("<II", header.head)
            if address != SCTRL_EFUSE_CTRL:
                return f"a register write to 0x{address:08x} never passes"
            if value & _EFUSE_WRITE:
                return "an efuse write never passes: it cannot be undone"
        return None

    def _long(self, header: Header) -> str | None:
        sizes = _LONG_SIZES.get(header.code)
        if sizes is None:
            return "not on the list of commands that may pass"
        if header.size not in sizes:
            return f"has a length this command does not have ({header.size} bytes)"
        if header.code == Long.SPI_OP:
            return None if header.head == b"\x9f\x00\x00\x00" else "a raw SPI operation other than the JEDEC id"
        if header.code == Long.READ_SR:
            return None if header.head in _SR_OPCODES else "a flash opcode that reads no status register"
        if header.code in (Long.READ_4K, Long.READ_256):
            return None
        return self._write(header)

    def _write(self, header: Header) -> str | None:
        if not self._ranges:
            return "comes before this board's backup is safe"
        if header.code == Long.WRITE_SR:
            value = int.from_bytes(header.head[1:], "little")
            if header.head[0] != 0x01:
                return "a status-register write with an opcode other than 01"
            if value & _SR_ONE_TIME:
                return "sets one-time lock bits of the flash"
            return _AFTER if self._stopped else None
        address = (header.address or 0) % self._flash_size
        if header.code == Long.ERASE:
            size = ERASE_SIZES.get(header.head[0])
            if size is None:
                return f"an erase size no flash has ({header.head[0]:02x})"
            address = address // size * size
        else:
            size = header.size - 12 if header.code in (Long.WRITE_4K, Long.WRITE_256) else SECTOR
        if any(start <= address and address + size <= end for start, end in self._ranges):
            return _AFTER if self._stopped else None
        return "outside the ranges planned for this board"


def answer(header: Header) -> bytes:
    """What a tool hears for a frame that was stopped: the chip's own refusal, so that it need not wait for an answer.

    Long commands carry a status: 6 (refused), 7 where no such command exists, before as much of a normal reply as
    tools parse. Short ones have none: their body is the number alone, as the ROM answers an unknown one.
    """
    known = {int(code) for code in (Long if header.long else Short)}
    status = _REFUSED if header.code in known else _UNKNOWN
    if not header.long:
        return Reply(header.code, bytes((status,))).encode()
    return Reply(header.code, _echo(header), True, status).encode()


def _echo(header: Header) -> bytes:
    """Behind the status, what a reply to this command begins with."""
    head = header.head
    if header.code in (Long.WRITE_256, Long.READ_256, Long.READ_4K):
        return head[:4] + b"\x00"  # a count of bytes: none
    if header.code in (Long.WRITE_4K, Long.ERASE_4K):
        return head[:4]
    if header.code == Long.ERASE:
        return head[:5]
    if header.code == Long.READ_SR:
        return head[:1] + b"\x00"
    if header.code == Long.SPI_OP:
        return bytes(min(len(head), 4))
    return head[:3] if header.code == Long.WRITE_SR else b""


def _flash_addresses(header: Header) -> tuple[int, ...]:
    """The flash addresses that a frame names; its size has not been looked at yet."""
    if header.long:
        return () if header.address is None else (header.address,)
    if header.code == Short.CHECK_CRC and len(header.head) >= 8:
        return struct.unpack_from("<II", header.head)
    return ()


def _merged(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """(start, end) spans in order, those that touch made one: an erase may cross from one piece into the next."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple(merged)
