"""Say what a file is, from its content: never from its name, and never raising, whatever the bytes are.

Order and tests: a container's magic first, then code (bootloader or app, by its vectors under a known key), then
what is left. The name is not looked at; `rig.image.guard` uses it in its sentences only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from rig.errors import UsageProblem

from . import flashmap
from .bootloader import KNOWN, bootloader_crc
from .code import Code, looks_cut_short, read_code, vectors_key
from .container import anything_else, ascii_text, container, seen
from .firmware import FirmwareProfile, load_profiles
from .identity import Identity, KeyName, Kind

MAX_SIZE = 16 << 20  # bytes; the largest flash seen on these modules is 4 MiB
_BOOTLOADER_NAME = re.compile(rb"BK7231[A-Za-z]_\d+(?:\.\d+)+")


def read_image(path: Path) -> bytes:
    """The content of a firmware file. UsageProblem with one sentence if it is missing, not a file, unreadable,
    empty, or over 16 MiB."""
    try:
        if path.is_dir():
            raise UsageProblem(f"{path} is a folder; name the firmware file itself.")
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except FileNotFoundError as problem:
        raise UsageProblem(f"{path}: there is no such file.") from problem
    except OSError as problem:
        raise UsageProblem(f"{path}: cannot be read ({problem.strerror or problem}).") from problem
    if not data:
        raise UsageProblem(f"{path} is empty: was its download cut off?")
    if len(data) > MAX_SIZE:
        raise UsageProblem(f"{path} is larger than 16 MiB, so it is no firmware for these modules.")
    return data


def identify(data: bytes, name: str = "", profiles: Sequence[FirmwareProfile] | None = None) -> Identity:
    """What `data` is. `profiles` (the rig's own by default) name the firmware; `name` is not looked at.

    Never raises on any bytes: what cannot be told is Kind.UNKNOWN.
    """
    del name
    profiles = _own_profiles() if profiles is None else profiles
    return container(data) or _code_file(data, profiles) or anything_else(data)


@lru_cache(maxsize=1)
def _own_profiles() -> tuple[FirmwareProfile, ...]:
    return load_profiles()


def _code_file(data: bytes, profiles: Sequence[FirmwareProfile]) -> Identity | None:
    boot_key = vectors_key(data, flashmap.BOOTLOADER, 0)
    app_key = vectors_key(data, flashmap.APP, flashmap.APP_LOGICAL)
    if boot_key == "zero" and app_key is None:
        # Unencrypted code looks the same at any address: alone, it is a bootloader only if it names itself one.
        code = read_code(data, 0, len(data), 0, boot_key)
        if not code.plain:
            return None  # no good CRC-16 either: an ARM program as a linker leaves it
        if not _BOOTLOADER_NAME.search(code.plain):
            return _app_alone(data, boot_key, profiles)
    if boot_key is not None or app_key is not None or _calibrated(data):
        return _from_zero(data, boot_key, app_key, profiles)
    alone = vectors_key(data, 0, flashmap.APP_LOGICAL)
    return _app_alone(data, alone, profiles) if alone is not None else None


def _app_alone(data: bytes, key: KeyName, profiles: Sequence[FirmwareProfile]) -> Identity:
    slot = flashmap.APP_END - flashmap.APP
    code = read_code(data, 0, slot, flashmap.APP_LOGICAL, key)
    firmware, version, chip = _firmware(code, profiles)
    chip = code.chip or chip
    problems = list(code.problems)
    if looks_cut_short(code):
        problems.append(f"it was cut short: it stops at 0x{code.end:X} and points past that")
    if len(data) > slot:
        problems.append(f"it is {len(data):,} bytes, more than the {slot:,} of the app's place")
    return Identity(
        Kind.APP, _phrase(firmware, version, chip, key, "app alone (UA)"), chip, key, firmware, version,
        evidence=(seen(data, 0, 8, f"an app's vectors, {key} key"), *_code_evidence(code)),
        problems=tuple(problems), size=len(data),
    )  # fmt: skip


def _from_zero(
    data: bytes, boot_key: KeyName | None, app_key: KeyName | None, profiles: Sequence[FirmwareProfile]
) -> Identity:
    """A file laid out as the flash is: a full dump, a QIO image, or a bootloader alone."""
    size = len(data)
    boot = read_code(data, 0, flashmap.APP, 0, boot_key) if boot_key else None
    app = read_code(data, flashmap.APP, flashmap.APP_END, flashmap.APP_LOGICAL, app_key) if app_key else None
    dump_of = _calibrated(data)
    state = _bootloader_state(data, boot)
    firmware, version, named = _firmware(app, profiles) if app else (None, None, None)
    boot_chip, app_chip = boot.chip if boot else None, (app.chip or named) if app else None
    chip = boot_chip or app_chip or dump_of
    kind = Kind.QIO
    if size == flashmap.FLASH_SIZE or dump_of:
        kind = Kind.FULL_DUMP
    elif app is None and size <= flashmap.APP:
        kind = Kind.BOOTLOADER
    problems = list(boot.problems) if boot else [f"its {state}"]
    problems += _app_problems(data, kind, boot, app)
    if boot_chip and app_chip and boot_chip != app_chip:
        problems.append(f"its bootloader is for {boot_chip} but its app for {app_chip}")
    if boot_key and app_key and boot_key != app_key:
        problems.append("its bootloader and its app are encrypted with different keys")
    if boot and not boot.tag and chip != "BK7231T":
        problems.append("its bootloader lacks the tag at 0x110 without which a BK7231N's ROM does not start it")
    if kind is Kind.FULL_DUMP and size != flashmap.FLASH_SIZE:
        problems.append(f"it is {size:,} bytes of a dump, not {flashmap.FLASH_SIZE:,}")
    form = {Kind.FULL_DUMP: "full dump", Kind.QIO: "bootloader and app (QIO)", Kind.BOOTLOADER: "bootloader alone"}
    key = boot_key or app_key
    return Identity(
        kind, _phrase(firmware, version, chip, key, form[kind]), chip, key, firmware, version,
        bootloader=state,
        rf_area=size > flashmap.CALIBRATION["BK7231N"],
        calibrated=dump_of is not None,
        evidence=_layout_evidence(data, boot, app, dump_of),
        problems=tuple(problems), size=size,
    )  # fmt: skip


def _calibrated(data: bytes) -> str | None:
    """The chip whose dumps have their calibration where this file has it; None where there is none."""
    tag = flashmap.CALIBRATION_TAG
    return next((chip for chip, at in flashmap.CALIBRATION.items() if data[at : at + len(tag)] == tag), None)


def _app_problems(data: bytes, kind: Kind, boot: Code | None, app: Code | None) -> list[str]:
    if kind is Kind.BOOTLOADER:
        return []
    if app is None:
        blank = not data[flashmap.APP : flashmap.APP + 0x1000].strip(b"\xff")
        return ["its app at 0x11000 is " + ("erased" if blank else "missing: what is there is not code")]
    problems = list(app.problems)
    # Vendors' packers close bootloader and app with a header each; one without the other is a part of a file.
    if app.runs_out and boot and boot.rbl:
        problems.append(f"it was cut short: its app runs on to the last byte, 0x{len(data):X}, without its end")
    elif looks_cut_short(app):
        problems.append(f"its app was cut short: it stops at 0x{app.end:X} and points past that")
    return problems


def _bootloader_state(data: bytes, boot: Code | None) -> str:
    crc = bootloader_crc(data)
    if boot is None:
        known = KNOWN.get(crc) if crc is not None else None
        return f"bootloader is {known.name}" if known else "bootloader is not one this rig can read"
    found = _BOOTLOADER_NAME.search(boot.plain)
    name = found.group().decode() if found else "of unknown make"
    return f"bootloader {name} (CRC-32 {crc:08X})" if crc is not None else f"bootloader {name}"


def _firmware(code: Code, profiles: Sequence[FirmwareProfile]) -> tuple[str | None, str | None, str | None]:
    """(title, version, chip) by the first profile whose pattern is in the code."""
    for profile in profiles:
        for pattern in profile.image_patterns:
            found = pattern.search(code.plain)
            if found:
                groups = found.groupdict()
                version, chip = groups.get("version"), groups.get("chip")
                return profile.title, ascii_text(version or b"") or None, ascii_text(chip or b"") or None
    return None, None, None


def _phrase(firmware: str | None, version: str | None, chip: str | None, key: KeyName | None, form: str) -> str:
    name = " ".join(part for part in (firmware or "firmware", version) if part)
    bare = ", not encrypted" if key == "zero" else ""
    return f"{name} for {chip or 'an unknown chip'}{bare}, {form}"


def _code_evidence(code: Code) -> tuple[str, ...]:
    found = [f"0x{code.start:X}: {(code.end - code.start) // 34} code blocks, to 0x{code.end:X}"]
    if code.tag:
        found.append(f"0x{code.start + flashmap.CHIP_TAG:X}: the tag of a {code.tag}")
    elif code.chip:
        found.append(f"0x{code.start:X}: no tag, and names or code of a {code.chip}")
    if code.rbl:
        at, header = code.rbl
        found.append(f"0x{at:X}: RBL header {header.name!r}, payload {header.raw_size:,} bytes")
    return tuple(found)


def _layout_evidence(data: bytes, boot: Code | None, app: Code | None, dump_of: str | None) -> tuple[str, ...]:
    found: list[str] = []
    for code, what in ((boot, "a bootloader's vectors"), (app, "an app's vectors")):
        if code:
            found += [seen(data, code.start, 8, f"{what}, {code.key} key"), *_code_evidence(code)]
    if dump_of:
        at = flashmap.CALIBRATION[dump_of]
        found.append(seen(data, at, 4, f"calibration, where a {dump_of} has it"))
    at = flashmap.OBK_CONFIG["BK7231N"]
    if data[at : at + 3] == flashmap.OBK_CONFIG_TAG:
        found.append(seen(data, at, 3, "an OpenBeken configuration"))
    return tuple(found)
