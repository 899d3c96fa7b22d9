"""Proof of boot: power-cycle a board, read its log until its firmware says that it is up, or say what it does.

The board keeps its power until the firmware's own boot-complete marker: cut off before it a few times, OpenBeken
walks into safe mode.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rig.bench.link import SlotLink
from rig.bench.power import BoardPower, Sag
from rig.bench.product import Product
from rig.errors import BenchBlocked, Coded, UnitFailed
from rig.flashers.fit import rom_current
from rig.image.firmware import FirmwareProfile
from rig.uart.bootlog import BootLog, LogLine
from rig.uart.markers import watch
from rig.uart.verdict import BootKind, Verdict, judge

_LOOK_S = 0.25  # how often the lines so far are judged
_LOOP_RESETS = 3  # so many resets in one power-on are a loop: no need to wait for more
_SILENCE_S = 8.0  # nothing at all for so long: it will not speak any more
_LEAST_SILENCE_S = 3.0  # of a fast simulated bench: it is not always as fast as it was asked to be
_LEAST_UNSEEN_S = 3.0
_SAG_HUNT_S = 1.5  # how long a looping board is watched closely for a sagging rail
_RETENTION = re.compile(r"(?:^|\W)ST:(?:0x)?(?P<word>[0-9A-Fa-f]{8})\s*$")  # the bootloader's, before any app spoke
_STACK = re.compile(r"(?:^|\W)SVC:[0-9A-Fa-f]{8}\s+(?P<stack>[0-9A-Fa-f]{8} [0-9A-Fa-f]{8})\s*$")
_LOST_POWER = "power-on"

_CODES = {
    BootKind.SILENT: "log-silent",
    BootKind.BOOTLOADER_ONLY: "bootloader-only",
    BootKind.BOOT_LOOP: "boot-loop",
    BootKind.CRASHED: "not-complete",
}


@dataclass(frozen=True)
class Boot:
    """One power-on: the verdict on its log, seconds from power to the boot-complete marker (None: never)."""

    verdict: Verdict
    power_on_ns: int
    seconds: float | None
    causes: tuple[str, ...] = ()  # of each boot's reset, in order, as `causes_of` tells them


def watch_boot(
    link: SlotLink, log: BootLog, profiles: Sequence[FirmwareProfile], timeout_s: float, *, speed: float = 1.0
) -> Boot:
    """Power-cycle and read until boot-complete, a loop, or silence; at most `timeout_s` seconds.

    `speed` is the bench's: a board that runs that many times faster is silent for good that much sooner.
    """
    silence = max(_LEAST_SILENCE_S, _SILENCE_S / speed)
    moment = link.boot()
    log.mark("power-on", moment)
    deadline = time.monotonic() + timeout_s
    markers = [text for profile in profiles for text in profile.log.complete]
    lines: list[LogLine] = []
    while True:
        link.check()
        # wakes at a new line with any firmware's marker; whose firmware came up is the verdict's to say
        since = lines[-1].mono_ns + 1 if lines else moment
        log.wait_for(watch(markers), _LOOK_S, since_ns=since)
        lines = log.lines_since(moment)
        verdict = judge(lines, profiles)
        if verdict.completed is not None:
            return Boot(verdict, moment, (verdict.completed.mono_ns - moment) / 1e9, causes_of(lines, profiles))
        quiet = time.monotonic() - (lines[-1].mono_ns if lines else moment) / 1e9
        if verdict.resets >= _LOOP_RESETS or quiet > silence or time.monotonic() > deadline:
            return Boot(verdict, moment, None, causes_of(lines, profiles))


def boot_unseen(link: SlotLink, profiles: Sequence[FirmwareProfile], *, speed: float = 1.0) -> None:
    """Power-cycle a board that has no log port, and wait for as long as the slowest of `profiles` takes to come up.

    Raises what `link.check()` does, as soon as it does.
    """
    link.boot()
    expected = max((profile.log.expected_s for profile in profiles), default=0.0) / speed
    deadline = time.monotonic() + max(_LEAST_UNSEEN_S, expected)
    never = threading.Event()
    while (left := deadline - time.monotonic()) > 0:
        link.check()
        never.wait(min(_LOOK_S, left))
    link.check()


def causes_of(lines: Sequence[LogLine], profiles: Sequence[FirmwareProfile]) -> tuple[str, ...]:
    """What each boot's reset was, in order: by the firmware's own word, else by the bootloader's retention word (0:
    power-on; a watchdog sets bit 16, software the low half). A boot that was cut short before either is not there.

    A jump to address 0 runs the bootloader again without a reset and leaves the word 0. The registers that it dumps
    before tell: a chip that came out of its ROM has the ROM's stack, whoever jumped left another ("restart").
    Source: the SDK (retention word, reset causes); real logs, which all have one stack; jumps by the simulated chip.
    """
    found: list[str] = []
    stacks: set[str] = set()
    banners = [text for profile in profiles for text in profile.log.bootloader]
    open_ = False  # the last one found is the bootloader's word for a boot whose firmware has not spoken
    for line in lines:
        if hit := _STACK.search(line.text):
            stacks.add(hit["stack"].lower())
        elif hit := _RETENTION.search(line.text):
            word = int(hit["word"], 16)
            power_on = word == 0 and len(stacks) <= 1
            found.append(_LOST_POWER if power_on else "watchdog" if word >> 16 & 1 else "restart")
            open_ = True
        elif any(text in line.text for text in banners):
            open_ = False
        elif cause := _said(line, profiles):
            found[-1 if open_ else len(found) :] = [cause]
            open_ = False
    return tuple(found)


def _said(line: LogLine, profiles: Sequence[FirmwareProfile]) -> str | None:
    for reset in (profile.log.reset for profile in profiles if profile.log.reset):
        if hit := re.search(reset.pattern, line.text):
            return reset.causes.get(hit["cause"].lower(), "unknown")
    return None


def require_boot(boot: Boot, power: BoardPower, expected: str | None, version: str | None) -> None:
    """Raise what the boot says of the board: BenchBlocked("weak-supply") when the rail sagged, else UnitFailed."""
    verdict = boot.verdict
    if boot.seconds is None or verdict.kind is not BootKind.BOOTED:  # a loop or a crash, marker or not
        if sag := _hunt_sag(power, boot):
            raise sag
        code = _CODES.get(verdict.kind, "not-complete")
        raise UnitFailed(code, verdict.sentence)
    if verdict.safe_mode:
        raise UnitFailed("safe-mode", verdict.sentence)
    if expected and verdict.firmware and verdict.firmware != expected:
        raise UnitFailed("wrong-firmware", f"{verdict.firmware} came up, {expected} was written")
    if version and verdict.version and verdict.version != version:
        raise UnitFailed("wrong-firmware", f"version {verdict.version} came up, {version} was written")
    if verdict.rf_lost:
        raise UnitFailed("calibration-lost", verdict.sentence)


def require_listed(firmware: str | None, listed: Sequence[FirmwareProfile]) -> None:
    """UnitFailed("wrong-firmware") when what came up is none of `listed`: for an image that does not say what it is.

    The old firmware, booting as ever, is no proof of the new one.
    """
    titles = [profile.title for profile in listed]
    if firmware and titles and firmware not in titles:
        raise UnitFailed("wrong-firmware", f"{firmware} came up, the product is to run {' or '.join(titles)}")


def _hunt_sag(power: BoardPower, boot: Boot) -> BenchBlocked | None:
    """A board that resets again and again is watched closely: is its rail the reason?"""
    if boot.verdict.resets:
        power.watch_closely(True)
        end = time.monotonic() + _SAG_HUNT_S
        while power.sag is None and time.monotonic() < end:
            power.average(_LOOK_S, until=lambda: power.sag is not None)
        power.watch_closely(False)
    found = weak_supply(power)
    lost = boot.verdict.kind is not BootKind.BOOTLOADER_ONLY and set(boot.causes) == {_LOST_POWER}
    if found is None and lost and len(boot.causes) > 1 and boot.verdict.resets > 1:  # once may be a bouncing contact
        # the rail fell through the chip's reset level, faster than a supply's meter shows or where it does not see it
        return BenchBlocked(
            "weak-supply",
            f"the board lost its power {boot.verdict.resets} times while the output stayed on (each reset's cause is "
            f"power-on): contact resistance in the slot, or {power.supplied.volts:g} V with a limit of "
            f"{_limit(power):g} A that cannot feed it",
        )
    return found


def _limit(power: BoardPower) -> float:
    return power.setting.amps if power.setting else power.supplied.current_limit


def weak_supply(power: BoardPower, sag: Sag | None = None) -> BenchBlocked | None:
    """What to raise for this `sag`, or if the rail sagged since it was switched on; None if it stood."""
    sag = sag or power.sag
    if sag is None:
        return None
    how = "while the supply limited its current" if sag.limited else "below what was set"
    return BenchBlocked(
        "weak-supply",
        f"the rail was at {sag.volts:.2f} V {how} ({power.supplied.volts:g} V, {_limit(power):g} A set): "
        "the supply cannot feed this board",
    )


def refined(problem: Coded, power: BoardPower, product: Product) -> Coded:
    """The same failure, seen with the supply's eyes: a board that went silent may have lost its power."""
    rom_minimum, rom_maximum = rom_current(product)
    if problem.code not in ("no-link", "link-lost", "verify-failed", "erase-failed", "backup-mismatch"):
        return problem
    reading = power.reading()
    if problem.code in ("no-link", "link-lost") and reading is not None:
        if reading.mode == "off":
            return BenchBlocked(
                "supply-lost", "the output went off by itself: a protection tripped, or somebody switched it off"
            )
        if reading.mode == "cc" and _limit(power) < rom_maximum:
            return BenchBlocked(
                "weak-supply",
                f"the supply limits the board to {_limit(power):g} A, a healthy one may draw {rom_maximum:g} A",
            )
        if reading.mode == "cc":
            return UnitFailed("short", f"the board pulls the supply into its current limit ({reading.amps:.3f} A)")
        if reading.amps < rom_minimum:
            return BenchBlocked(
                "no-current", f"the slot draws {reading.amps * 1000:.1f} mA: no board in it, or no contact"
            )
    return weak_supply(power) or problem
