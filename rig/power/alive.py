"""Is the board there? By its link and by its log, with its power left as it is."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import serial

from rig.bench.link import SlotLink
from rig.chip.client import LINK_BAUD, NoReply, RomClient
from rig.image.firmware import FirmwareProfile
from rig.line.boot import causes_of
from rig.power.outcome import LOOP_RESETS
from rig.uart.bootlog import BootLog, LogLine
from rig.uart.markers import find_all
from rig.uart.verdict import BootKind, Verdict, judge

LOOK_S = 0.05
_LINK_S = 0.3  # of link checks at one speed
_READ_TIMEOUT_S = 0.005
_SILENCE_S = 12.0  # nothing at all for so long, and no watchdog will wake it: an app that hangs lives up to 10 s
_LEAST_SILENCE_S = 3.0  # of a fast simulated bench
ANY = ""  # to `BootLog.wait_for`: any line
_NEVER = threading.Event()


@dataclass(frozen=True)
class Watched:
    """What a log showed: the verdict on all of it, resets in it, their causes, and whether its last boot came up.
    `seconds`: from the beginning to the boot-complete marker of the last boot."""

    verdict: Verdict
    resets: int = 0
    causes: tuple[str, ...] = ()
    up: bool = False
    seconds: float | None = None


def starts_of_boots(lines: Sequence[LogLine], profiles: Sequence[FirmwareProfile]) -> list[int]:
    """Indices of the lines that only a boot prints, bootloader or application."""
    firsts = [text for each in profiles for text in (*each.log.bootloader, *each.log.jump, *each.log.app)]
    return find_all(lines, firsts)


def seen_in(
    log: BootLog, since_ns: int, profiles: Sequence[FirmwareProfile], *, booting: bool, from_ns: int | None = None
) -> Watched:
    """What the lines since `since_ns` say. `booting`: the first boot in them is no reset, but what was asked for.
    `from_ns`: from when `seconds` count, else `since_ns`."""
    lines = log.lines_since(since_ns)
    starts = starts_of_boots(lines, profiles)
    # a crash before the first of them ended what ran already, and is no word on what came after it
    verdict = judge(lines[starts[0] :] if starts and not booting else lines, profiles)
    begun = verdict.resets + bool(starts)
    resets = max(0, begun - 1) if booting else begun
    causes = causes_of(lines, profiles)
    up = verdict.completed is not None and verdict.kind is not BootKind.CRASHED
    seconds = None
    if verdict.completed is not None:
        seconds = (verdict.completed.mono_ns - (since_ns if from_ns is None else from_ns)) / 1e9
    return Watched(verdict, resets, causes[-resets:] if resets else (), up, seconds)


def watch(
    link: SlotLink,
    log: BootLog,
    since_ns: int,
    profiles: Sequence[FirmwareProfile],
    timeout_s: float,
    *,
    speed: float,
    booting: bool,
    pending: Callable[[], bool] = lambda: False,
    patience_s: float = 0.0,
) -> Watched:
    """Read on until the firmware is up and nothing is `pending`, or it loops, falls silent, or time is up.

    What is still pending `patience_s` after it was up, or went silent, will not come. Raises what `link.check()`
    does.
    """
    silence = silence_s(speed)
    began = time.monotonic_ns()
    deadline = began / 1e9 + timeout_s
    before = seen_in(log, since_ns, profiles, booting=booting).resets  # of these the supply may have been the reason
    ended: float | None = None  # when nothing but what is pending was left to wait for
    while True:
        link.check()
        found = seen_in(log, since_ns, profiles, booting=booting)
        lines, now = log.lines_since(since_ns), time.monotonic()
        quiet = now - max(began, lines[-1].mono_ns if lines else 0) / 1e9
        if found.up or found.resets - before >= LOOP_RESETS or quiet > silence:
            ended = ended or now
            if not pending() or now > ended + patience_s:
                return found
        else:
            ended = None
        if now > deadline:
            return found
        last = lines[-1].mono_ns + 1 if lines else since_ns
        log.wait_for(ANY, LOOK_S, since_ns=last)


def silence_s(speed: float) -> float:
    """Of our seconds: nothing for so long is silence for good."""
    return max(_LEAST_SILENCE_S, _SILENCE_S / speed)


def heartbeat(log: BootLog, since_ns: int, seconds: float) -> float | None:
    """The longest pause between two lines of a firmware that is up, over `seconds`; None where it hardly speaks."""
    end = since_ns / 1e9 + seconds
    while (left := end - time.monotonic()) > 0:
        _NEVER.wait(min(LOOK_S, left))
    times = [line.mono_ns for line in log.lines_since(since_ns)]
    if len(times) < 3:
        return None
    return max(after - before for before, after in pairwise(times)) / 1e9


def answers_link(link: SlotLink, bauds: Sequence[int]) -> bool:
    """Whether a ROM answers link checks now, at the first of `bauds`, its own speed, or one of the lower ones; its
    power is left alone."""
    for baud in dict.fromkeys((bauds[0], LINK_BAUD, *(each for each in bauds if each < bauds[0]))):
        with contextlib.suppress(NoReply), serial.Serial(link.path, baud, timeout=_READ_TIMEOUT_S) as port:
            RomClient(port, on_silence=link.check).link(_LINK_S)
            return True
    return False
