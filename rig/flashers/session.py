"""A linked board: the ROM's client on the link's port, at the fastest speed that holds.

Link checks run before the board gets its power, so that nothing in flash runs first. Then the slot's speed is tried,
and lower ones after it. When errors pile up in the middle of an operation the link steps down by itself: the ROM
keeps its state over a SetBaud, so the command is repeated and the operation goes on. It never power-cycles then: a
board that does not even answer link checks any more has lost its link, and that is told.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

import serial

from rig.chip.client import GARBLED, LINK_BAUD, NoReply, Refused, RomClient, crc32
from rig.chip.ids import FLASH_PARTS, SCTRL_CHIP_ID, FlashPart
from rig.errors import BenchBlocked, UnitFailed
from rig.flashers.base import Link
from rig.flashers.speed import SpeedMemory, Unsteady, below

T = TypeVar("T")

MOST_RETRIES = 100  # choice: repeated commands of one operation; a line that needs more is not fit for flashing
_POWER_TIMEOUT_S = 5.0  # from the first link check to power: a supply of 118 ms a command takes under two
_WINDOW_S = 1.0  # the ROM listens for 0.25 s after power-on: a board silent for longer runs its firmware by now
_LINK_SLICE_S = 0.05
_STILL_THERE_S = 0.1
_READ_TIMEOUT_S = 0.005
_ALIKE_TRIES = 4  # choice


class Session:
    """From link to `close`. Commands go through `do`, which repeats them at a lower speed where that helps.

    `note` is called with each repeat, one line for a person.
    """

    def __init__(self, link: Link, note: Callable[[str], None], memory: SpeedMemory | None = None) -> None:
        self.link = link
        self._note = note
        self._memory = memory
        self._unsteady = Unsteady()
        self._seen = 0  # retries of the client that were counted
        self._told = 0  # and that were told
        self.clean = True  # nothing was repeated since the board was linked
        self._part: FlashPart | None = None
        link.prepare()
        self.port = serial.Serial(link.path, LINK_BAUD, timeout=_READ_TIMEOUT_S)
        self.rom = RomClient(self.port, on_silence=link.check)
        self.rom.most_retries = MOST_RETRIES
        try:
            self._open()
        except BaseException:
            self.port.close()
            raise

    @property
    def baud(self) -> int:
        return int(self.port.baudrate)

    def close(self) -> None:
        """Let go of the port."""
        self.port.close()

    def ended_well(self) -> None:
        """The board is let go of and nothing went wrong: its speed is worth remembering."""
        if self._memory is not None and self.clean and not self.rom.retries:
            self._memory.ended_well(self.link.baud, self.baud)

    # -- linking ---------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._link()
            asked = self.link.baud
            baud = self._memory.first(asked) if self._memory is not None else asked
            while baud != LINK_BAUD and not self._reach(baud):
                lower = below(baud) or LINK_BAUD
                self.clean = False
                self._note(f"{baud} baud failed, going on at {lower}")
                self._relink()
                baud = lower
                if self._memory is not None:
                    self._memory.lowered(asked, baud)
        except NoReply as problem:
            raise UnitFailed("no-link", f"the board has power but never answered: {problem}") from None

    def _link(self) -> None:
        """Link checks until one is answered. Whatever else comes, the board goes off: nothing backed it up yet."""
        link = self.link
        try:
            asked = time.monotonic()
            while True:
                with contextlib.suppress(NoReply):
                    self.rom.link(_LINK_SLICE_S)
                    return
                link.check()
                now, powered = time.monotonic(), link.power_on_ns / 1e9
                if powered and now > powered + _WINDOW_S:
                    link.sample()
                    raise NoReply(f"no answer to link checks for {now - powered:.1f} s after power-on")
                if not powered and now > asked + _POWER_TIMEOUT_S:
                    raise BenchBlocked("supply-lost", f"the output stayed off for {now - asked:.1f} s of link checks")
        except BaseException:
            link.off()
            raise

    def _reach(self, baud: int) -> bool:
        """Both sides at `baud`, and a register that comes back right."""
        try:
            self.rom.set_baud(baud)
            self.rom.read_register(SCTRL_CHIP_ID)
        except (NoReply, Refused):
            return False
        return True

    def _relink(self) -> None:
        """At the ROM's own speed: it may never have left it, else a power-cycle brings it back there."""
        self.port.baudrate = LINK_BAUD
        self.port.reset_input_buffer()
        try:
            self.rom.link(_STILL_THERE_S)
        except NoReply:
            self.link.prepare()
            self.port.reset_input_buffer()
            self._link()

    # -- working ---------------------------------------------------------------------------------------

    def do(self, command: Callable[[RomClient], T]) -> T:
        """What `command` gives. Repeated, at a lower speed, when it fails for the line and the chip still answers:
        every command of the ROM can be. Raises what the client raises."""
        while True:
            try:
                result = command(self.rom)
            except (NoReply, Refused) as problem:
                if isinstance(problem, Refused) and problem.status not in GARBLED:
                    raise
                if not self.slower(str(problem)):
                    raise
                continue
            self.trouble(0)
            return result

    def alike(self, command: Callable[[RomClient], T], what: str) -> T:
        """What `command` gives twice in a row: for what comes without a check. Raises UnitFailed("unreadable")."""
        last: T | None = None
        for _ in range(_ALIKE_TRIES):
            value = self.do(command)
            if value == last:
                return value
            last = value
        raise UnitFailed("unreadable", f"{what} reads differently each time")

    def trouble(self, count: int = 1) -> None:
        """`count` things came out wrong that no reply told of; too many of late, and the link steps down."""
        fresh = len(self.rom.retries) - self._seen
        self._seen = len(self.rom.retries)
        if fresh + count:
            self.clean = False
        if self._unsteady.count(fresh + count):
            self.slower("too many repeats")

    def begin(self) -> None:
        """A new operation."""
        self.rom.begin()
        self._seen = self._told = 0

    def fresh_retries(self) -> list[str]:
        """One line for each command the client repeated since this was asked last."""
        fresh = self.rom.retries[self._told :]
        self._told = len(self.rom.retries)
        return [f"{retry.command} repeated: {retry.reason}" for retry in fresh]

    def slower(self, reason: str) -> bool:
        """Step down, one line for a person in `note`. False: there is nothing lower, or the chip does not answer."""
        self.clean = False
        self._unsteady.forget()
        self._seen = len(self.rom.retries)  # what was repeated up to here is this speed's
        was = self.baud
        baud = below(was)
        while baud is not None:
            try:
                self.rom.link(_STILL_THERE_S)
            except NoReply:
                return False
            if self._reach(baud):
                self._note(f"{was} baud: {reason}; going on at {baud}")
                if self._memory is not None:
                    self._memory.lowered(self.link.baud, baud)
                return True
            self.port.baudrate = was  # the chip may not have heard of it
            baud = below(baud)
        return False

    # -- the chip --------------------------------------------------------------------------------------

    @property
    def part(self) -> FlashPart:
        """The flash part. Raises UnitFailed("unreadable") for one that is not known."""
        if self._part is None:
            for _ in range(2):  # an id has no check: one that came out wrong is asked for once more
                found = self.do(lambda rom: rom.flash_id())
                self._part = FLASH_PARTS.get(found)
                if self._part is not None:
                    break
            else:
                raise UnitFailed("unreadable", f"the flash id {found.hex()} is not one of a known part")
        return self._part

    # thin, so that what works on flash reads as sentences

    def crc(self, start: int, length: int) -> int:
        return self.do(lambda rom: rom.crc(start, length))

    def agrees(self, start: int, data: bytes) -> bool:
        """The chip's CRC from `start` on is that of `data`."""
        expected = crc32(data)
        return self.do(lambda rom: rom.crc(start, len(data), expected)) == expected

    def read_sector(self, address: int) -> bytes:
        return self.do(lambda rom: rom.read_sector(address))

    def write_sector(self, address: int, data: bytes) -> None:
        self.do(lambda rom: rom.write_sector(address, data))

    def erase(self, address: int, size: int) -> None:
        self.do(lambda rom: rom.erase(address, size))
