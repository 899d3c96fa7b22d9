"""The board of a slot under study: backed up, put into any state, looked at afterwards, and put right at the end.

All of it goes through the rig's own client and the guard; nothing is written before the backup is durable. What the
flash holds is known after each look, so that only what differs is written for the next trial. `boards/<slot>.json`
says, from before the first byte is written, which backup the board has to end with and whether it did.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rig.bench.slot import OpenSlot
from rig.chip.client import NoReply, Refused, crc32
from rig.chip.frames import SECTOR
from rig.chip.ids import PROTECT_MASK
from rig.errors import BenchBlocked, UnitFailed
from rig.files import write_durably
from rig.flashers.base import ChipIdentity, Link
from rig.flashers.fit import require_chip
from rig.flashers.native import BLOCK, NativeFlasher
from rig.flashers.session import Session
from rig.line.identity import identity_of
from rig.line.writes import cut_off, record_end, record_erase
from rig.records.backups import Backup, BackupStore

FOLDER = "boards"


@dataclass(frozen=True)
class State:
    """What a board is to be before a trial. `sr`: the protection bits of its status register; `volts` and `amps`
    replace the product's volts and current limit."""

    flash: bytes
    sr: int | None = None
    volts: float | None = None
    amps: float | None = None


class _Rom(NativeFlasher):
    """The rig's client, which can set protection bits too: for studies only."""

    def register(self, link: Link) -> int:
        """The flash's status register."""
        with _told():
            session = self._linked(link)
            return session.do(lambda rom: rom.status_register(session.part.sr_bytes))

    def set_register(self, link: Link, value: int) -> None:
        """Raises UnitFailed("flash-protected") if it does not become `value`."""
        with _told():
            session = self._linked(link)
            size = session.part.sr_bytes
            value &= 0xFFFF if size == 2 else 0xFF
            if session.do(lambda rom: rom.status_register(size)) == value:
                return
            session.do(lambda rom: rom.write_status_register(value, size))
            found = session.do(lambda rom: rom.status_register(size))
        if found != value:
            raise UnitFailed("flash-protected", f"the status register was to be 0x{value:04x} and is 0x{found:04x}")

    def _linked(self, link: Link) -> Session:
        link.check()
        return self._connect(link)


class Board:
    """The board of a slot that was taken into use. `begin` first, `put_right` last; both raise Coded errors."""

    def __init__(self, used: OpenSlot, runs: Path, run: Path) -> None:
        self._used = used
        self._runs = runs
        self._record = run / FOLDER / f"{used.slot.name}.json"
        self._rom = _Rom()
        self._now: bytes | None = None  # what flash holds, where that is known
        self._sr = 0  # its status register as it came
        self._written: str | None = None  # the line of flash-writes.jsonl that is open
        self.who = ChipIdentity()
        self.identity = ""
        self.own = b""  # what it came with, and ends with

    @property
    def now(self) -> bytes:
        """What flash held when it was looked at last."""
        assert self._now is not None
        return self._now

    # -- beginning and end -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Identify the board, put it right if a killed study left it otherwise, back it up, open it for writing.

        Raises UnitFailed for one that is not the product's, cannot be told from others, or was left half written;
        BenchBlocked("wrong-board") for one in the place of a board that the study has still to put right.
        """
        link, size = self._used.link, self._used.slot.product.flash_size
        self.who = self._rom.identify(link)
        require_chip(self.who, self._used.slot.product)
        identity = identity_of(self.who)
        if identity is None:
            raise UnitFailed("unreadable", "this board tells neither UID nor MAC, so no backup could be found again")
        self.identity = identity
        store = BackupStore(self._runs / "backups")
        left = self._left_behind()
        if left is not None:
            self._sr = int(left["sr"])
            self.own = Backup(identity, Path(left["backup"]), left["sha256"], left["size"]).content()
            self._written = left.get("written")
            backup = None
        else:
            self._sr = self._rom.register(link)
            first = store.first(identity)
            known = first.content() if first else b""
            held = self._read(known, size)
            if first is not None and held != known:
                self._require_whole()
            backup = store.keep(identity, held)
            self.own = self._now = held  # not before its backup is durable: it is what `put_right` writes
        if backup is not None:
            self._written = record_erase(self._runs, identity, 0, size, ())
            self._tell({
                "identity": identity, "backup": str(backup.path), "sha256": backup.sha256, "size": backup.size,
                "sr": self._sr, "written": self._written, "right": False,
            })  # fmt: skip
        self._used.guard.allow_writes([(0, size)])
        if left is not None:
            self.look(self.own, self.own)
            self.put(State(self.own, self._sr))

    def put_right(self) -> None:
        """As it came: every byte of the flash, by the chip's CRC, and the status register."""
        self.open_guard()
        if not self.own:
            return
        self.look(self.own, self._now or self.own)
        self.put(State(self.own, self._sr))
        if self._rom.crc(self._used.link, 0, len(self.own)) != crc32(self.own):
            raise UnitFailed("verify-failed", "the flash is not as in its backup after it was put right")
        self._rom.close()
        if self._written is not None:
            record_end(self._runs, self._written)
            self._written = None
        told = self._on_record()
        if told is not None:
            self._tell(told | {"right": True, "written": None})

    def _require_whole(self) -> None:
        """Half of something is no board's own: it would be put back at the end, and called right."""
        if said := cut_off(self._runs, self.identity):
            raise UnitFailed(
                "half-written",
                f"{said}. If a study was killed, go on with that one (--resume), which puts the board right; else "
                "give it its backup again (rig restore) or write it anew",
            )

    def _left_behind(self) -> dict[str, Any] | None:
        """What a killed study of this run wrote of this very board, if it was not put right."""
        told = self._on_record()
        if told is None or told.get("right"):
            return None
        if told.get("identity") != self.identity:
            raise BenchBlocked(
                "wrong-board",
                f"board {told.get('identity')} was in slot {self._used.slot.name} and has still to be put right: put "
                f"it in again (this one is {self.identity})",
            )
        return told

    def _on_record(self) -> dict[str, Any] | None:
        try:
            row = json.loads(self._record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return row if isinstance(row, dict) else None

    def _tell(self, row: dict[str, Any]) -> None:
        write_durably(self._record, json.dumps(row) + "\n", private=True)

    # -- states ----------------------------------------------------------------------------------------

    def put(self, state: State) -> None:
        """Write what differs from what is known, then the status register. The supply is for `supplied`."""
        link = self._used.link
        if self._now is None:
            self.look(state.flash, state.flash)
        now = self.now
        pieces = [(at, state.flash[at : at + length]) for at, length in _runs(_sectors(now, state.flash))]
        if pieces:
            result = self._rom.write(link, pieces)
            if not result.ok:
                self._now = None
                raise UnitFailed("verify-failed", f"the board could not be put into its state: {result.said}")
        self._now = state.flash
        if state.sr is not None:
            self._rom.set_register(link, self._sr & ~PROTECT_MASK | state.sr & PROTECT_MASK)

    @contextlib.contextmanager
    def supplied(self, state: State) -> Iterator[None]:
        """The supply as `state` wants it, while the board is off; as the product wants it afterwards."""
        if state.volts is None and state.amps is None:
            yield
            return
        power = self._used.power
        usual = power.setting
        assert usual is not None
        wanted = replace(usual, volts=state.volts or usual.volts, amps=state.amps or usual.amps)
        most = power.supplied.maximum_volts
        power.off_and_discharged()
        power.channel.configure(wanted, max_volts=most)
        try:
            yield
        finally:
            power.off_and_discharged()
            power.channel.configure(usual, max_volts=most)

    def look(self, wanted: bytes, before: bytes, sectors: Iterable[int] | None = None) -> bytes:
        """What the flash holds, all of it: by the chip's CRC where it is `wanted` or as `before`, else read.

        `sectors`: only these can have changed, so that only they are asked for.
        """
        now = bytearray(before)
        blocks = range(0, len(before), BLOCK)
        if sectors is not None:
            blocks = sorted({at // BLOCK * BLOCK for at in sectors})  # type: ignore[assignment]
        for at in blocks:
            now[at : at + BLOCK] = self._block(at, wanted[at : at + BLOCK], before[at : at + BLOCK])
        self._now = bytes(now)
        return self._now

    def register(self) -> int:
        """The status register."""
        return self._rom.register(self._used.link)

    def release(self) -> None:
        """Let go of the link: somebody else works with the board now."""
        self._rom.close()

    def forget(self) -> None:
        """What the flash holds is not known any more."""
        self._now = None

    def open_guard(self) -> None:
        """As before: a tool that was stopped is not held against the next one. The backup is there."""
        self._used.guard.refusals.clear()
        if self.own:
            self._used.guard.allow_writes([(0, len(self.own))])

    def _block(self, at: int, wanted: bytes, before: bytes) -> bytes:
        agreed = self._agreed(at, wanted, before)
        if agreed is not None:
            return agreed
        parts = []
        for low in range(0, len(wanted), SECTOR):
            one, other = wanted[low : low + SECTOR], before[low : low + SECTOR]
            part = self._agreed(at + low, one, other)
            if part is None:
                part = self._rom.read(self._used.link, at + low, len(one)).data
                assert part is not None
            parts.append(part)
        return b"".join(parts)

    def _agreed(self, at: int, wanted: bytes, before: bytes) -> bytes | None:
        found = self._rom.crc(self._used.link, at, len(wanted))
        return next((each for each in (wanted, before) if crc32(each) == found), None)

    def _read(self, known: bytes, size: int) -> bytes:
        """All of the flash; what agrees with `known` by the chip's CRC is not read."""
        blocks = []
        for at in range(0, size, BLOCK):
            block: bytes | None = known[at : at + BLOCK] if len(known) == size else None
            if block is None or self._rom.crc(self._used.link, at, BLOCK) != crc32(block):
                block = self._rom.read(self._used.link, at, BLOCK).data
            assert block is not None
            blocks.append(block)
        return b"".join(blocks)


def _sectors(now: bytes, wanted: bytes) -> list[int]:
    if now == wanted:
        return []
    return [at for at in range(0, len(wanted), SECTOR) if now[at : at + SECTOR] != wanted[at : at + SECTOR]]


def _runs(sectors: Sequence[int]) -> list[tuple[int, int]]:
    """(start, length) of sectors that follow one another."""
    found: list[tuple[int, int]] = []
    for at in sectors:
        if found and sum(found[-1]) == at:
            found[-1] = (found[-1][0], found[-1][1] + SECTOR)
        else:
            found.append((at, SECTOR))
    return found


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the client raises, as an error of the bench."""
    try:
        yield
    except (NoReply, Refused) as problem:
        raise BenchBlocked("link-lost", f"the board stopped answering: {problem}") from None
