"""Judge a boot log: did the board boot, into what, how often did it reset, and did it get as far as it should.

Give it the lines from one power-on to now. What the texts mean is in the firmware profiles (`rig.image.firmware`);
here is only how to weigh them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from rig.image.firmware import FirmwareProfile

from .bootlog import LogLine
from .markers import find, find_all

ANOMALY = "[ARM ANOMALY]"  # the N bootloader's handler of an undefined instruction
_LOOP_RESETS = 2  # resets after which even a boot that got through is a loop: one may be a bouncing contact
_LAST_LINES = 3


class BootKind(StrEnum):
    """What became of a power-on."""

    BOOTED = "booted"  # the application speaks; `complete` tells whether it got to its own boot-complete marker
    BOOT_LOOP = "boot-loop"  # the application spoke, and the board reset again and again
    CRASHED = "crashed"  # the application spoke, crashed, and did not come back
    BOOTLOADER_ONLY = "bootloader-only"  # the application never spoke: silence or [ARM ANOMALY] after the jump
    SILENT = "silent"  # nothing readable at all


@dataclass(frozen=True)
class Verdict:
    """`reset_cause` is that of the last boot, by the profile's name for it; `resets` counts boots after the first.

    `firmware` and `version` compare with those of `rig.image.identify`; each is None where the log does not say.
    `rf_lost`: the radio's calibration is missing. `evidence`: the lines that decided it, in order of time.
    """

    kind: BootKind
    sentence: str
    firmware: str | None = None
    version: str | None = None
    reset_cause: str | None = None
    resets: int = 0
    complete: bool = False
    completed: LogLine | None = None  # the line with the boot-complete marker of the firmware that came up
    safe_mode: bool = False
    rf_lost: bool = False
    evidence: tuple[LogLine, ...] = ()

    @property
    def code(self) -> str | None:
        """The failure code (`rig.codes`) for a board that was to boot; None for a complete boot."""
        if self.kind is BootKind.BOOTED:
            return None if self.complete else "not-complete"
        return {
            BootKind.SILENT: "log-silent",
            BootKind.BOOTLOADER_ONLY: "bootloader-only",
            BootKind.BOOT_LOOP: "boot-loop",
            BootKind.CRASHED: "not-complete",
        }[self.kind]


def judge(lines: Sequence[LogLine], profiles: Sequence[FirmwareProfile]) -> Verdict:
    """The verdict on the lines of one power-on. Never raises, whatever the lines hold."""
    lines = [line for line in lines if _readable(line.text)]
    if not lines:
        return Verdict(BootKind.SILENT, "Nothing readable came out of the log port.")
    boots = _boots(lines, profiles)
    resets, last = len(boots) - 1, boots[-1]
    spoke = find(lines, _texts(profiles, "app")) or find(lines, _texts(profiles, "signs"))
    if spoke is None:
        return _bootloader_only(lines, resets, profiles)
    profile = _firmware(last, profiles) or _firmware(lines, profiles)
    known = (profile,) if profile else tuple(profiles)
    complete = find(last, _texts(known, "complete"))
    crash = find(last, _texts(known, "crash"))
    safe_mode = find(last, _texts(known, "safe_mode"))
    rf_lost = find(lines, _texts(known, "rf_lost"))
    version, version_line = _version(lines, known)
    cause, cause_line = _reset_cause(last, known)
    kind = _kind(resets, complete is not None, crash is not None)
    title = profile.title if profile else None
    found = (lines[0], spoke, version_line, cause_line, safe_mode, rf_lost, complete, crash, lines[-1])
    return Verdict(
        kind=kind,
        sentence=_sentence(kind, title, version, cause, resets, complete, safe_mode, rf_lost),
        firmware=title,
        version=version,
        reset_cause=cause,
        resets=resets,
        complete=complete is not None,
        completed=complete,
        safe_mode=safe_mode is not None,
        rf_lost=rf_lost is not None,
        evidence=_in_order(found),
    )


def _kind(resets: int, complete: bool, crashed: bool) -> BootKind:
    if resets >= _LOOP_RESETS or (resets and not complete):
        return BootKind.BOOT_LOOP
    return BootKind.CRASHED if crashed else BootKind.BOOTED


def _bootloader_only(lines: Sequence[LogLine], resets: int, profiles: Sequence[FirmwareProfile]) -> Verdict:
    banner, jump = find(lines, _texts(profiles, "bootloader")), find(lines, _texts(profiles, "jump"))
    anomaly = find(lines, (ANOMALY,))
    evidence = _in_order((banner, jump, anomaly, *lines[-_LAST_LINES:]))
    if banner is None and jump is None and anomaly is None:
        sentence = f"{len(lines)} lines came out of the log port and none is of a known bootloader or firmware."
        return Verdict(BootKind.SILENT, sentence, evidence=evidence)
    after = "then silence"
    if anomaly:
        after = "then [ARM ANOMALY]: what it jumped to is not code"
    elif resets:
        after = "then a reset before the application said anything"
    times = f", {resets + 1} times" if resets else ""
    sentence = f"The bootloader spoke and the application never did: {after}{times}."
    return Verdict(BootKind.BOOTLOADER_ONLY, sentence, resets=resets, evidence=evidence)


def _boots(lines: list[LogLine], profiles: Sequence[FirmwareProfile]) -> list[list[LogLine]]:
    """The lines cut at each start: at bootloader banners, or where there are none at whatever starts repeatedly."""
    for texts in (_texts(profiles, "bootloader"), _texts(profiles, "jump"), _reset_texts(profiles)):
        starts = find_all(lines, texts)
        if starts:
            # What comes before the first banner belongs to the first boot: a torn banner, noise at power-on.
            cuts = [0, *starts[1:], len(lines)]
            return [lines[begin:end] for begin, end in pairwise(cuts)]
    return [lines]


def _reset_texts(profiles: Sequence[FirmwareProfile]) -> tuple[str, ...]:
    """The plain beginning of each profile's reset-cause line."""
    patterns = {profile.log.reset.pattern for profile in profiles if profile.log.reset}
    return tuple(text for pattern in patterns if (text := re.split(r"[\\([.*+?{|^$]", pattern, maxsplit=1)[0]))


def _texts(profiles: Sequence[FirmwareProfile], field: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for profile in profiles for text in getattr(profile.log, field)))


def _firmware(lines: Sequence[LogLine], profiles: Sequence[FirmwareProfile]) -> FirmwareProfile | None:
    """The profile whose signs come first."""
    hits = [(line.mono_ns, at) for at, profile in enumerate(profiles) if (line := find(lines, profile.log.signs))]
    return profiles[min(hits)[1]] if hits else None


def _version(lines: Sequence[LogLine], known: Sequence[FirmwareProfile]) -> tuple[str | None, LogLine | None]:
    """The last version that was named, and where."""
    for pattern in (re.compile(text) for profile in known for text in profile.log.versions):
        for line in reversed(lines):
            found = pattern.search(line.text)
            if found:
                return found["version"], line
    return None, None


def _reset_cause(lines: Sequence[LogLine], known: Sequence[FirmwareProfile]) -> tuple[str | None, LogLine | None]:
    for reset in (profile.log.reset for profile in known if profile.log.reset):
        for line in lines:
            found = re.search(reset.pattern, line.text)
            if found:
                cause = found["cause"].lower()
                return reset.causes.get(cause, f"unknown ({cause})"), line
    return None, None


def _sentence(
    kind: BootKind,
    title: str | None,
    version: str | None,
    cause: str | None,
    resets: int,
    complete: LogLine | None,
    safe_mode: LogLine | None,
    rf_lost: LogLine | None,
) -> str:
    name = " ".join(part for part in (title or "The application", version) if part)
    how = {
        BootKind.BOOTED: "booted" if complete else "started but did not reach its boot-complete marker",
        BootKind.CRASHED: "crashed and did not come back" if not complete else "booted, then crashed",
        BootKind.BOOT_LOOP: f"starts again and again ({resets + 1} boots)",
    }[kind]
    more = [f"last reset cause {cause}"] if cause else []
    if kind is BootKind.BOOTED and resets:
        more.append("after one reset")
    more += ["in safe mode"] if safe_mode else []
    more += ["radio calibration lost"] if rf_lost else []
    return f"{name} {how}" + (f" ({', '.join(more)})." if more else ".")


def _in_order(lines: Sequence[LogLine | None]) -> tuple[LogLine, ...]:
    return tuple(sorted(dict.fromkeys(line for line in lines if line), key=lambda line: line.mono_ns))


def _readable(text: str) -> bool:
    """Whether a line holds at least two characters that are no escape of a byte: noise at power-on does not."""
    return len(re.sub(r"\\x[0-9a-f]{2}", "", text).strip()) >= 2
