"""Files that hold BK7231 code: a full dump, a QIO image, a bootloader alone, an app alone; whole, damaged or cut.

What is code is told by content: vectors under a known key, or blocks that agree with their CRC-16s under a key nobody
here knows. What the file is follows from where the code lies and how long the file is.
"""

from __future__ import annotations

from collections.abc import Sequence

from rig.image import flashmap
from rig.image.beken import BLOCK, FRAMED, KeyName, unframe
from rig.image.bootloader import KNOWN, Bootloader, bootloader_crc, known_bootloader
from rig.image.chips import NAME, Chip, agreed, chip_of_bootloader, chip_of_code
from rig.image.code import TAGS, VECTOR_WORDS, Code, framed, looks_cut_short, read_code, vectors_key
from rig.image.firmware import FirmwareProfile
from rig.image.identity import Confidence, Identity, Kind
from rig.image.kinds.account import account_of_app, account_of_layout
from rig.image.kinds.naming import Named, named
from rig.image.rbl import FRAMED_SIZE, MAGIC, find_in_flash

T_APP_END = 0x132000  # of the app on BK7231T, U, 7238, 7252 and some unencrypted N
_FEW = 8  # good code blocks behind a damaged one
_LEAST = 0x4000  # bytes; less code than this, without a name, points past its end only now and then
_FORMS = {
    Kind.FULL_DUMP: "full dump", Kind.QIO: "bootloader and app (QIO)", Kind.BOOTLOADER: "bootloader alone",
    Kind.APP: "app alone (UA)",
}  # fmt: skip


def code_file(data: bytes, profiles: Sequence[FirmwareProfile]) -> Identity | None:
    """What a file with code in it is; None for one without."""
    boot_key = _key(data, flashmap.BOOTLOADER, 0)
    app_key = _key(data, flashmap.APP, flashmap.APP_LOGICAL)
    if boot_key == "zero" and app_key is None:
        # Unencrypted code looks the same at any address: alone, it is a bootloader only if it names itself one.
        code = read_code(data, 0, len(data), 0, boot_key)
        if not code.plain:
            return None  # no good CRC-16 either: an ARM program as a linker leaves it
        if not NAME.search(code.plain) and (known_bootloader(data) is None):
            return _app_alone(data, boot_key, profiles)
    alone = _key(data, 0, flashmap.APP_LOGICAL)
    if boot_key is None and alone is None and framed(data, 0):
        boot_key = "unknown"
    if (
        app_key is None
        and vectors_key(data, flashmap.APP, 0) is None
        and framed(data, flashmap.APP)
        and alone is None
    ):
        app_key = "unknown"
    if boot_key == "unknown" and not _begins_with_bootloader(data):
        return _app_alone(data, boot_key, profiles, Confidence.GUESS)
    if boot_key is not None or app_key is not None or calibrated(data):
        return _from_zero(data, boot_key, app_key, profiles)
    return _app_alone(data, alone, profiles) if alone is not None else None


def _key(data: bytes, start: int, logical: int) -> KeyName | None:
    """The key of code at `start`. Unencrypted vectors are any ARM program's: it takes a good block there too."""
    key = vectors_key(data, start, logical)
    if key == "zero" and not unframe(data[start : start + flashmap.SECTOR])[1].any():
        return None
    return key


def calibrated(data: bytes) -> str | None:
    """The chip whose dumps have their calibration where this file has it; None where there is none."""
    tag = flashmap.CALIBRATION_TAG
    return next((chip for chip, at in flashmap.CALIBRATION.items() if data[at : at + len(tag)] == tag), None)


def _begins_with_bootloader(data: bytes) -> bool:
    """Whether code at 0x0 that no key decrypts is a bootloader: only those have their tag as it is, and a header."""
    tag = data[flashmap.CHIP_TAG : flashmap.CHIP_TAG + 8]
    closed = find_in_flash(data, 0, flashmap.APP)
    return tag in TAGS or calibrated(data) is not None or (closed is not None and closed[1].name == "bootloader")


def _app_end(data: bytes, start: int) -> int:
    """Where the app's place ends, if the app begins at `start` of the file: a header further on moves it."""
    place, far = start + flashmap.APP_END - flashmap.APP, start + T_APP_END - flashmap.APP
    at = far - FRAMED_SIZE
    if data[at : at + len(MAGIC)] == MAGIC and find_in_flash(data, start, place) is None:
        return far
    return place


def _app_alone(
    data: bytes, key: KeyName, profiles: Sequence[FirmwareProfile], sure: Confidence = Confidence.CERTAIN
) -> Identity:
    end = _app_end(data, 0)
    code = read_code(data, 0, end, flashmap.APP_LOGICAL, key)
    names = named(code, profiles)
    chip = chip_of_code(data, code, names.chip, names.evidence)
    problems = list(code.problems)
    if not problems and code.rbl is None and not names.firmware and len(data) < _LEAST:
        problems.append(f"it was cut short, or is no whole firmware: {len(data):,} bytes without a name or an end")
    elif not problems and looks_cut_short(code):
        problems.append(f"it was cut short: it stops at 0x{code.end:X} and points past that")
    elif not problems and names.closed and code.rbl is None:
        problems.append(f"it was cut short: the header that closes {names.firmware} is missing")
    if len(data) == flashmap.FLASH_SIZE:
        problems.append("it is all of a flash with its app at 0x0, where the bootloader belongs")
    elif len(data) > end:
        problems.append(f"it is {len(data):,} bytes, more than the {end:,} of the app's place")
    return Identity(
        Kind.APP, _phrase(names, chip, key, Kind.APP), chip.name if chip else None, key,
        names.firmware, names.version,
        statements=account_of_app(data, code, chip, names, sure),
        problems=tuple(problems), size=len(data), closed=names.closed, app=code,
    )  # fmt: skip


def _from_zero(
    data: bytes, boot_key: KeyName | None, app_key: KeyName | None, profiles: Sequence[FirmwareProfile]
) -> Identity:
    """A file laid out as the flash is: a full dump, a QIO image, or a bootloader alone."""
    size = len(data)
    boot = read_code(data, 0, flashmap.APP, 0, boot_key) if boot_key else None
    app_end = _app_end(data, flashmap.APP)
    app = read_code(data, flashmap.APP, app_end, flashmap.APP_LOGICAL, app_key) if app_key else None
    dump_of, known = calibrated(data), known_bootloader(data)
    names = named(app, profiles) if app else Named()
    boot_chip = chip_of_bootloader(data, boot, known) if boot else None
    app_chip = chip_of_code(data, app, names.chip, names.evidence) if app else None
    chip = agreed(boot_chip, app_chip) or _chip_of_dump(dump_of, boot_key or app_key)
    kind = Kind.QIO
    if size == flashmap.FLASH_SIZE or dump_of:
        kind = Kind.FULL_DUMP
    elif app is None and size <= flashmap.APP:
        kind = Kind.BOOTLOADER
    state = _bootloader_state(data, boot, known)
    problems = [*boot.problems, *_bootloader_cut(boot, known, kind)] if boot else [f"its {state}"]
    problems += _app_problems(data, kind, boot, app, names)
    if boot_chip and app_chip and boot_chip.family != app_chip.family:
        problems.append(f"its bootloader is for {boot_chip.name} but its app for {app_chip.name}")
    if boot_key and app_key and boot_key != app_key:
        problems.append("its bootloader and its app are encrypted with different keys")
    if boot and not boot.tag and not (chip and chip.name not in ("BK7231N", "BK7231M")):
        problems.append("its bootloader lacks the tag at 0x110 without which a BK7231N's ROM does not start it")
    if kind is Kind.FULL_DUMP and size == 2 * flashmap.FLASH_SIZE and data[: size // 2] == data[size // 2 :]:
        problems.append(f"it is the same {flashmap.FLASH_SIZE:,} bytes twice: its first half is the dump")
    elif kind is Kind.FULL_DUMP and size != flashmap.FLASH_SIZE:
        problems.append(f"it is {size:,} bytes of a dump, not {flashmap.FLASH_SIZE:,}")
    key = boot_key or app_key
    return Identity(
        kind, _phrase(names, chip, key, kind), chip.name if chip else None, key, names.firmware, names.version,
        bootloader=state,
        rf_area=size > flashmap.CALIBRATION["BK7231N"],
        calibrated=dump_of is not None,
        statements=account_of_layout(data, kind, boot, app, chip, names, state, known, dump_of),
        problems=tuple(problems), size=size, closed=names.closed, boot=boot, app=app,
    )  # fmt: skip


def _chip_of_dump(dump_of: str | None, key: KeyName | None) -> Chip | None:
    """By the calibration's place alone. Without encryption, what has it at 0x1E0000 is no T."""
    if dump_of is None or (dump_of == "BK7231T" and key == "zero"):
        return None
    return Chip(dump_of, Confidence.LIKELY, ())


def _bootloader_state(data: bytes, boot: Code | None, known: Bootloader | None) -> str:
    crc = bootloader_crc(data)
    if boot is None:
        if known is not None and crc in KNOWN:
            return f"bootloader is {known.name}"
        what = ": what is at 0x0 is an app" if vectors_key(data, 0, flashmap.APP_LOGICAL) else ""
        return f"bootloader is not one this rig can read{what}"
    found = NAME.search(boot.plain)
    name = found.group().decode() if found else "of unknown make"
    return f"bootloader {name} (CRC-32 {crc:08X})" if crc is not None else f"bootloader {name}"


def _bootloader_cut(boot: Code, known: Bootloader | None, kind: Kind) -> list[str]:
    length = (boot.end - boot.start) // FRAMED * BLOCK
    short = known is not None and known.size is not None and length < known.size and not boot.problems
    if boot.rbl is not None:
        return []
    if kind is not Kind.BOOTLOADER:
        return [f"its bootloader's end is missing: it stops at 0x{boot.end:X}"] if short else []
    if short or looks_cut_short(boot):
        return [f"it was cut short: its bootloader stops at 0x{boot.end:X} and goes on past that"]
    if known is not None and known.size is not None:
        return ["it was cut short: its code is all there, but not the header that closes it"]
    return []


def _app_problems(data: bytes, kind: Kind, boot: Code | None, app: Code | None, names: Named) -> list[str]:
    if kind is Kind.BOOTLOADER:
        return []
    size = len(data)
    if app is None:
        return [_no_app(data)]
    problems = list(app.problems)
    # Vendors' packers close bootloader and app with a header each; one without the other is a part of a file.
    if app.runs_out and boot and boot.rbl:
        problems.append(f"it was cut short: its app runs on to the last byte, 0x{size:X}, without its end")
    elif not problems and looks_cut_short(app):
        problems.append(f"its app was cut short: it stops at 0x{app.end:X} and points past that")
    elif (
        not problems
        and kind is Kind.QIO
        and app.rbl is None
        and size < flashmap.APP_END - FRAMED_SIZE
        and (names.closed or (names.closed is None and boot and boot.rbl))
    ):
        problems.append(f"it was cut short: the header that closes its app is missing, and it ends at 0x{size:X}")
    return problems


def _no_app(data: bytes) -> str:
    if len(data) < flashmap.APP + VECTOR_WORDS * 4:
        return "it was cut short: it ends where its app should begin, at 0x11000"
    if not data[flashmap.APP : flashmap.APP + flashmap.SECTOR].strip(b"\xff"):
        return "its app at 0x11000 is erased"
    if vectors_key(data, flashmap.APP, 0) is not None:
        return "its app at 0x11000 is missing: what is there is a bootloader, not code for that place"
    if unframe(data[flashmap.APP : flashmap.APP + flashmap.SECTOR])[1].sum() >= _FEW:
        return "its app at 0x11000 begins with a code block that is damaged"
    return "its app at 0x11000 is missing: what is there is not code"


def _phrase(names: Named, chip: Chip | None, key: KeyName | None, kind: Kind) -> str:
    name = " ".join(part for part in (names.firmware or "firmware", names.version) if part)
    form = _FORMS[kind]
    how = {"zero": ", not encrypted", "unknown": ", under a key this rig does not know"}.get(key or "", "")
    return f"{name} for {chip.name if chip else 'an unknown chip'}{how}, {form}"
