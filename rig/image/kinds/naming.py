"""What a code partition says of itself: firmware, version, product, and what it was built with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rig.image.beken import BLOCK, FRAMED
from rig.image.code import Code
from rig.image.firmware import FirmwareProfile
from rig.image.identity import Confidence, Evidence, Statement, ascii_text

# Source: LibreTiny's banner (libretiny.h); logs of it that users posted. No image of it was at hand.
_LIBRETINY = re.compile(rb"LibreTiny v(\d{1,4}\.\d{1,4}\.\d{1,4}[\w.+-]{0,24}) on ([\w-]{1,48}), compiled at")
_LIBRETINY_CHIP = re.compile(r"bk(72\d\d[a-z]?)")
_SHOWN = 80


@dataclass(frozen=True)
class Named:
    """`firmware`: a profile's title, or "LibreTiny". `closed`: whether that firmware's images end in an RBL header;
    None where that is not known."""

    firmware: str | None = None
    version: str | None = None
    chip: str | None = None
    closed: bool | None = None
    statements: tuple[Statement, ...] = ()
    evidence: tuple[Evidence, ...] = ()


def named(code: Code, profiles: Sequence[FirmwareProfile]) -> Named:
    """What `code` calls itself: by the first profile whose pattern is in it, and by LibreTiny's banner."""
    banner = _LIBRETINY.search(code.plain)
    built = _built_with(code, banner) if banner else ()
    for profile in profiles:
        for pattern in profile.image_patterns:
            if found := pattern.search(code.plain):
                return _by_profile(code, profile, found, built)
    if not banner:
        return Named()
    version, board = banner[1].decode("ascii"), banner[2].decode("ascii")
    in_board = _LIBRETINY_CHIP.search(board)
    evidence = built[0].evidence
    told = (
        Statement("firmware", "LibreTiny", Confidence.LIKELY, evidence),
        Statement("version", version, Confidence.LIKELY, evidence),
    )
    chip = f"BK{in_board[1].upper()}" if in_board else None
    return Named("LibreTiny", version, chip, False, (*told, *built), evidence)


def _by_profile(code: Code, profile: FirmwareProfile, found: re.Match[bytes], built: tuple[Statement, ...]) -> Named:
    told = {name: ascii_text(value)[:_SHOWN] for name, value in found.groupdict().items() if value}
    evidence = (_evidence(code, found),)
    statements = [Statement("firmware", profile.title, Confidence.CERTAIN, evidence)]
    for about in ("version", "product", "sdk"):
        if told.get(about):
            statements.append(Statement(about, told[about], Confidence.CERTAIN, evidence))
    closed = False if built else profile.image.closed
    return Named(
        profile.title, told.get("version") or None, told.get("chip") or None, closed,
        (*statements, *built), evidence,
    )  # fmt: skip


def _built_with(code: Code, banner: re.Match[bytes]) -> tuple[Statement, ...]:
    evidence = (_evidence(code, banner),)
    return (
        Statement("sdk", f"LibreTiny {banner[1].decode('ascii')}", Confidence.LIKELY, evidence),
        Statement("board", banner[2].decode("ascii"), Confidence.LIKELY, evidence),
    )


def _evidence(code: Code, found: re.Match[bytes]) -> Evidence:
    """Where in the file the text begins; its bytes there are encrypted, so they are told as they read."""
    at = code.start + found.start() // BLOCK * FRAMED + found.start() % BLOCK
    text = "".join(chr(byte) if 32 <= byte < 127 else " " for byte in found.group()[:_SHOWN]).strip()
    return Evidence(at, b"", f"reads {text!r}")
