"""The activities that a study puts a board to, once each, under a supply that is as good or as bad as it was set.

Here is only what happened: whether it was done, what was told, what the log showed. What became of the board is
looked at afterwards, at the product's supply (`rig.power.subject`), and judged by `rig.power.outcome`.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import serial

from rig.bench.slot import OpenSlot
from rig.chip.client import LINK_BAUD, NoReply, Refused, RomClient, TooManyRetries
from rig.chip.frames import SECTOR
from rig.chip.ids import SCTRL_CHIP_ID
from rig.errors import BenchBlocked, Coded, UnitFailed
from rig.flashers.native import NativeFlasher
from rig.flashers.speed import LADDER
from rig.image.firmware import FirmwareProfile
from rig.power.alive import ANY, LOOK_S, Watched, answers_link, seen_in, silence_s, watch
from rig.power.inject import Injection
from rig.power.outcome import LOOP_RESETS
from rig.power.spare import WINDOW
from rig.power.trial import Cell
from rig.uart.bootlog import BootLog
from rig.uart.verdict import BootKind

_BOARDS = ("link-lost", "no-link", "weak-supply", "no-current", "contact")  # what a bad supply does to a board
_LINK_WINDOW_S = 1.0  # after power-on: the ROM listens for a fraction of it
_LINK_SLICE_S = 0.05
_POWER_S = 5.0  # until a supply switches on
_READ_TIMEOUT_S = 0.005
_BEATS, _LEAST_BEAT_S = 3.0, 0.3  # pauses of a running firmware that it may be silent for, and seconds at least
_ALIVE_S, _LEAST_ALIVE_S = 3.0, 1.0  # it is watched for, of its time and of ours, after its supply changed: a choice
_NEVER = threading.Event()


@dataclass(frozen=True)
class Done:
    """What an activity came to. `answers`: without a power-cycle, the supply being good again; None: not to be seen.
    `blocked`: why the bench is to blame."""

    finished: bool
    error: str = ""
    seconds: float | None = None
    resets: int = 0
    causes: tuple[str, ...] = ()
    answers: bool | None = None
    blocked: str = ""


@dataclass(frozen=True)
class Ground:
    """What activities work on. `timeout_s`: the longest a boot may take. `beat`: the longest pause between two lines
    of the study's firmware when it is up, None where it hardly speaks. `window`, `content`: the spare sectors that
    are written, and what with; `pieces`: the study's image as it is written to this board."""

    used: OpenSlot
    log: BootLog
    profiles: Sequence[FirmwareProfile]
    speed: float
    timeout_s: float
    beat: float | None = None
    window: int = 0
    content: bytes = field(default=b"", repr=False)
    pieces: Sequence[tuple[int, bytes]] = field(default=(), repr=False)


def fresh_content(seed: int) -> bytes:
    """What a trial writes: never what stood there."""
    return random.Random(seed).randbytes(WINDOW * SECTOR)


def perform(cell: Cell, ground: Ground, injection: Injection) -> Done:
    """The cell's activity under the cell's supply; the board is off afterwards. What the bench spoils is
    `blocked`."""
    try:
        with held(ground.used, cell):
            moment = ground.log.mark("trial")
            with injection:
                done = _done(cell, ground, injection)
            return _still_there(cell, ground, done, moment)
    except Coded as problem:
        return Done(False, blocked=str(problem))


def _done(cell: Cell, ground: Ground, injection: Injection) -> Done:
    match cell.activity:
        case "link":
            return _in_rom(ground, injection, _link)
        case "flash":
            return _in_rom(ground, injection, _flash)
        case "convert":
            wrote = _in_rom(ground, injection, _write)
            return _both(wrote, _boot(ground, injection)) if wrote.finished else wrote
        case "boot":
            return _boot(ground, injection)
        case "running":
            return _running(cell, ground, injection)


@contextlib.contextmanager
def held(used: OpenSlot, cell: Cell) -> Iterator[None]:
    """The supply at the cell's volts and limit, set while the board is off; the product's again afterwards, and off.

    What runs at the product's supply first, the cell sets itself (`_to`). Raises BenchBlocked.
    """
    power = used.power
    usual = power.setting
    assert usual is not None
    wanted = replace(usual, volts=cell.volts, amps=cell.amps)
    most = power.supplied.maximum_volts
    used.link.off()
    power.off_and_discharged()
    if cell.activity != "running" or cell.waveform is not None:
        power.channel.configure(wanted, max_volts=most)
    try:
        yield
    finally:
        used.link.off()
        power.off_and_discharged()
        power.channel.configure(usual, max_volts=most)


def _to(used: OpenSlot, volts: float, amps: float) -> None:
    """A live output to other volts and another limit, upwards limit first: the rail is not starved on the way."""
    channel = used.power.channel
    channel.set_current_limit(amps)
    channel.set_volts(volts)


# -- in the ROM ------------------------------------------------------------------------------------------


def _in_rom(ground: Ground, injection: Injection, work: Callable[[Ground, Injection, NativeFlasher], None]) -> Done:
    flasher = NativeFlasher()
    moment, begun = time.monotonic_ns(), time.monotonic()
    error, seconds = "", None
    try:
        work(ground, injection, flasher)
        seconds = time.monotonic() - begun
        injection.over()
        if flasher.baud is not None and not injection.pending:  # this CRC is ours: no phase for a wave to wait for
            flasher.crc(ground.used.link, 0, SECTOR)  # it is still there when all is over
    except Coded as problem:
        if not _of_the_board(problem):
            raise
        error = str(problem)
    finally:
        flasher.close()
    found = seen_in(ground.log, moment, ground.profiles, booting=False)
    finished = not error
    return Done(finished, error or _told(flasher.retries), seconds, found.resets, found.causes)


def _flash(ground: Ground, injection: Injection, flasher: NativeFlasher) -> None:
    """Spare sectors written and read again. Raises Coded, and UnitFailed for what it finds wrong itself."""
    link = ground.used.link
    wrote = flasher.write(link, [(ground.window, ground.content)])
    if not wrote.ok:
        raise UnitFailed("verify-failed", wrote.said)
    read = flasher.read(link, ground.window, len(ground.content))
    if read.data != ground.content:
        raise UnitFailed("verify-failed", "what was read is not what was written")


def _write(ground: Ground, injection: Injection, flasher: NativeFlasher) -> None:
    wrote = flasher.write(ground.used.link, ground.pieces)
    if not wrote.ok:
        raise UnitFailed("verify-failed", wrote.said)


def _link(ground: Ground, injection: Injection, flasher: NativeFlasher) -> None:
    """Link from power-on, the slot's speed, who it is; then once more when the supply is good again.

    Not the rig's flasher: that switches a board off that does not link, and here it is to be seen what the board
    does.
    """
    link = ground.used.link
    link.prepare()
    port = serial.Serial(link.path, LINK_BAUD, timeout=_READ_TIMEOUT_S)
    rom = RomClient(port, on_silence=link.check)
    try:
        _linked(ground, rom, injection)
        rom.set_baud(link.baud)
        who = _identity(rom)
        injection.over()
        again = who if injection.pending else _identity(rom)
    except (NoReply, Refused, TooManyRetries) as problem:
        raise BenchBlocked("link-lost", str(problem)) from None
    finally:
        port.close()
    product = ground.used.slot.product
    if who != again or who[0] != product.chip_id:
        raise UnitFailed("unreadable", f"the chip said that it is 0x{who[0]:x}, then 0x{again[0]:x}")
    flasher.retries += [f"{retry.command} repeated: {retry.reason}" for retry in rom.retries]


def _identity(rom: RomClient) -> tuple[int, int]:
    return rom.read_register(SCTRL_CHIP_ID), int.from_bytes(rom.flash_id(), "big")


def _linked(ground: Ground, rom: RomClient, injection: Injection) -> None:
    link = ground.used.link
    asked = time.monotonic()
    while True:
        with contextlib.suppress(NoReply):
            rom.link(_LINK_SLICE_S)
            return
        link.check()
        now, powered = time.monotonic(), link.power_on_ns / 1e9
        if not powered and now > asked + _POWER_S:
            raise BenchBlocked("supply-lost", f"the output stayed off for {now - asked:.1f} s of link checks")
        patience = injection.patience_s if injection.pending else 0.0
        if powered and now > powered + _LINK_WINDOW_S + patience:
            raise NoReply(f"no answer to link checks for {now - powered:.1f} s after power-on")


# -- its firmware ----------------------------------------------------------------------------------------


def _boot(ground: Ground, injection: Injection) -> Done:
    """From power-on until the firmware is up, and stays so once the supply is good again."""
    moment = ground.used.link.boot()
    ground.log.mark("power-on", moment)
    deadline = time.monotonic() + ground.timeout_s
    found = _watched(ground, moment, injection, booting=True)
    if injection.fired:
        injection.over()
        found = _settled(ground, moment, max(LOOK_S, deadline - time.monotonic()), booting=True)
    return Done(found.up, "", found.seconds, found.resets, found.causes)


def _running(cell: Cell, ground: Ground, injection: Injection) -> Done:
    """Up at first, then its supply becomes the cell's, or the waveform fires, and it is to live on."""
    moment = ground.used.link.boot()
    ground.log.mark("power-on", moment)
    came = _watched(ground, moment, injection, booting=True)
    if not injection.fired and (not came.up or came.resets):
        return Done(came.up, "", None, came.resets, came.causes)
    completed = came.verdict.completed
    since = completed.mono_ns + 1 if completed is not None else ground.log.mark("up")
    if cell.waveform is None:
        _to(ground.used, cell.volts, cell.amps)
    injection.over()
    begun = time.monotonic()  # how long a waveform lasts says nothing of the board
    found = _settled(ground, since, ground.timeout_s, booting=False)
    resets, causes = came.resets + found.resets, (*came.causes, *found.causes)
    return Done(found.up, "", time.monotonic() - begun, resets, causes)


def _watched(ground: Ground, moment: int, injection: Injection, *, booting: bool) -> Watched:
    return watch(
        ground.used.link, ground.log, moment, ground.profiles, ground.timeout_s,
        speed=ground.speed, booting=booting, pending=lambda: injection.pending, patience_s=injection.patience_s,
    )  # fmt: skip


def _settled(ground: Ground, moment: int, timeout_s: float, *, booting: bool) -> Watched:
    """After a change of the supply: up and still speaking, or up again; what the log shows since `moment`."""
    link, log, beat = ground.used.link, ground.log, ground.beat
    lately = max(_LEAST_BEAT_S, _BEATS * (beat or 0.0))
    end = time.monotonic() + max(_LEAST_ALIVE_S, _ALIVE_S / ground.speed, lately)
    while (left := end - time.monotonic()) > 0:
        link.check()
        _NEVER.wait(min(LOOK_S, left))
    found = seen_in(log, moment, ground.profiles, booting=booting)
    now = time.monotonic_ns()
    speaks = beat is None or bool(log.lines_since(now - int(lately * 1e9)))
    if not speaks and log.wait_for(ANY, silence_s(ground.speed), since_ns=now) is None:
        return replace(found, up=False)  # what it had said of itself before is no sign of life
    found = seen_in(log, moment, ground.profiles, booting=booting)
    as_before = not booting and not found.resets and found.verdict.kind is not BootKind.CRASHED
    if as_before or found.up:
        return replace(found, up=True)
    return watch(link, log, moment, ground.profiles, timeout_s, speed=ground.speed, booting=booting)


def _both(wrote: Done, booted: Done) -> Done:
    """A conversion: written, then up."""
    seconds = None
    if wrote.seconds is not None and booted.seconds is not None:
        seconds = wrote.seconds + booted.seconds
    return replace(
        booted,
        error=wrote.error or booted.error,
        seconds=seconds,
        resets=wrote.resets + booted.resets,
        causes=(*wrote.causes, *booted.causes),
    )


# -- afterwards ------------------------------------------------------------------------------------------


def _still_there(cell: Cell, ground: Ground, done: Done, moment: int) -> Done:
    """Of what did not come to its end: does the board answer, its supply being good again and its power left on?

    Not asked of a board that loops where the supply is held low: that loop is what was to be found.
    """
    used = ground.used
    usual = used.power.setting
    assert usual is not None
    if done.finished:
        return replace(done, answers=True)
    looped = cell.waveform is None and done.resets >= LOOP_RESETS
    if looped or not used.power.on_ns:
        return done
    in_rom = cell.activity in ("link", "flash", "convert")
    if cell.waveform is not None and not in_rom:
        return replace(done, answers=False)  # it was watched until it was silent, or looped, at a supply that is good
    _to(used, usual.volts, usual.amps)
    if in_rom and answers_link(used.link, [used.link.baud, *LADDER]):
        return replace(done, answers=True)
    since = moment if in_rom else time.monotonic_ns()
    found = watch(used.link, ground.log, since, ground.profiles, ground.timeout_s, speed=ground.speed, booting=False)
    if in_rom:
        return replace(done, answers=found.up, resets=found.resets, causes=found.causes)
    more = done.resets + found.resets
    return replace(done, answers=found.up, resets=more, causes=(*done.causes, *found.causes))


def _of_the_board(problem: Coded) -> bool:
    """Whether a bad supply explains it: of the bench's faults these alone."""
    return isinstance(problem, UnitFailed) or problem.code in _BOARDS


def _told(retries: Sequence[str]) -> str:
    more = f" and {len(retries) - 1} more" if len(retries) > 1 else ""
    return f"{retries[0]}{more}" if retries else ""
