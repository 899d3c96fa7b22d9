"""The account of a file with code in it: each statement, how sure it is, and the bytes it rests on."""

from __future__ import annotations

import struct

from rig.image import flashmap
from rig.image.beken import FRAMED, KeyName
from rig.image.bootloader import CRC_LENGTH, Bootloader
from rig.image.chips import FAMILIES, Chip
from rig.image.code import Code
from rig.image.identity import Confidence, Evidence, Kind, Statement, seen
from rig.image.kinds.naming import Named

# Lengths that published images have. Source: OpenBeken's releases, measured; a packer's file without its last blanks.
_LENGTHS = {
    0x129F70: "the length of OpenBeken's QIO for BK7231N", 0x12A000: "the end of the app's place on BK7231N",
    0x100000: "the length of OpenBeken's QIO for BK7231T",
    0x132000: "the length of OpenBeken's QIO for BK7231U, 7238 and 7252",
}  # fmt: skip
_FLASHES = {0x100000: "1", 0x200000: "2", 0x400000: "4", 0x800000: "8"}  # MiB

Statements = tuple[Statement, ...]


def account_of_app(data: bytes, code: Code, chip: Chip | None, names: Named, sure: Confidence) -> Statements:
    """What is said of an app alone. `sure`: of its being one, and no bootloader."""
    vectors = (_vectors(data, code, "an app's"),)
    if code.key == "zero" and code.tag is None and not names.evidence:
        sure = Confidence.GUESS  # unencrypted code looks the same at any address
    found = [Statement("kind", Kind.APP.value, sure, (*vectors, *_code(data, code)))]
    found += _chip(chip)
    found.append(_key(code.key, vectors))
    end = _header(data, code)
    if not end:
        value = "none closes it, so that only its own code tells whether it is whole"
        end = (Statement("header", value, Confidence.GUESS, (Evidence(code.end, b"", "its last code block"),)),)
    return (*found, *names.statements, *end)


def account_of_layout(
    data: bytes, kind: Kind, boot: Code | None, app: Code | None, chip: Chip | None, names: Named, state: str,
    known: Bootloader | None, dump_of: str | None,
) -> Statements:  # fmt: skip
    """What is said of a file laid out as the flash is. `state`: of its bootloader, in words; `dump_of`: the chip that
    has its calibration where this file has one."""
    evidence: list[Evidence] = []
    for code, what in ((boot, "a bootloader's"), (app, "an app's")):
        if code:
            evidence += [_vectors(data, code, what), *_code(data, code)]
    calibration = _calibration(data, dump_of)
    found = [Statement("kind", kind.value, _how_sure(data, kind, boot, app, dump_of), (*evidence, *calibration))]
    if chip is not None and not chip.evidence:
        chip = Chip(chip.name, chip.sure, calibration)
    found += _chip(chip)
    first = boot or app
    if first:
        found.append(_key(first.key, tuple(_vectors(data, code, "code:") for code in (boot, app) if code)))
    found += names.statements
    found.append(_bootloader(data, state, known))
    for code in (boot, app):
        found += _header(data, code) if code else ()
    found += _size(data, kind, names, chip)
    if dump_of:
        found.append(Statement("calibration", f"where a {dump_of} has it", Confidence.CERTAIN, calibration))
    return (*found, *_configuration(data))


def _how_sure(data: bytes, kind: Kind, boot: Code | None, app: Code | None, dump_of: str | None) -> Confidence:
    whole = boot is not None and app is not None and boot.rbl is not None and app.rbl is not None
    if kind is Kind.FULL_DUMP:
        return Confidence.CERTAIN if dump_of and len(data) == flashmap.FLASH_SIZE else Confidence.LIKELY
    if kind is Kind.QIO and _more_than_image(data) and not _configuration(data):
        return Confidence.GUESS  # see the statement on its size
    return Confidence.CERTAIN if whole else Confidence.LIKELY


def _vectors(data: bytes, code: Code, what: str) -> Evidence:
    if code.key == "unknown":
        return seen(data, code.start, FRAMED, "code by its CRC-16s, which no known key decrypts")
    first = struct.unpack_from("<I", code.plain)[0] if len(code.plain) >= 4 else None
    plain = (
        f" (decrypted: {first.to_bytes(4, 'little').hex(' ')})" if first is not None and code.key != "zero" else ""
    )
    return seen(data, code.start, 8, f"{what} vectors, {code.key} key{plain}")


def _code(data: bytes, code: Code) -> tuple[Evidence, ...]:
    found = [Evidence(code.start, b"", f"{(code.end - code.start) // FRAMED} code blocks, to 0x{code.end:X}")]
    if code.tag:
        found.append(seen(data, code.start + flashmap.CHIP_TAG, 8, f"the tag of a {code.tag}"))
    return (*found, *(item for statement in _header(data, code) for item in statement.evidence))


def _header(data: bytes, code: Code) -> Statements:
    if code.rbl is None:
        return ()
    at, header = code.rbl
    evidence = (seen(data, at, 4, f"RBL header {header.name!r}, payload {header.raw_size:,} bytes"),)
    version = f" {header.version}" if header.version else ""
    value = f"{header.name}{version}, {header.raw_size:,} bytes"
    return (Statement("header", value, Confidence.CERTAIN, evidence),)


def _chip(chip: Chip | None) -> Statements:
    if chip is None:
        return ()
    found = [Statement("chip", chip.name, chip.sure, chip.evidence)]
    members = FAMILIES.get(chip.family)
    if members:
        value = f"{chip.family} ({', '.join(members)}: one tag, told apart by key and name)"
        found.append(Statement("family", value, chip.sure, chip.evidence))
    return tuple(found)


def _key(key: KeyName, evidence: tuple[Evidence, ...]) -> Statement:
    # Of an unknown key the CRC-16s say only that it is code, and random vectors under a known one are out of reach.
    return Statement("key", key, Confidence.LIKELY if key == "unknown" else Confidence.CERTAIN, evidence)


def _bootloader(data: bytes, state: str, known: Bootloader | None) -> Statement:
    by = f"CRC-32 {known.crc:08X} of what begins so: {known.name}" if known else f"of {CRC_LENGTH} bytes, in no table"
    sure = Confidence.CERTAIN if known else Confidence.LIKELY
    return Statement(
        "bootloader", state.removeprefix("bootloader ").removeprefix("is "), sure, (seen(data, 0, 8, by),)
    )


def _calibration(data: bytes, dump_of: str | None) -> tuple[Evidence, ...]:
    if dump_of is None:
        return ()
    at = flashmap.CALIBRATION[dump_of]
    return (seen(data, at, len(flashmap.CALIBRATION_TAG), f"calibration, where a {dump_of} has it"),)


def _configuration(data: bytes) -> Statements:
    found = []
    for chip, at in flashmap.OBK_CONFIG.items():
        if data[at : at + len(flashmap.OBK_CONFIG_TAG)] == flashmap.OBK_CONFIG_TAG:
            evidence = (seen(data, at, 3, "an OpenBeken configuration"),)
            found.append(
                Statement("configuration", f"OpenBeken's, where a {chip} has it", Confidence.LIKELY, evidence)
            )
    return tuple(found)


def _more_than_image(data: bytes) -> bool:
    return len(data) > flashmap.APP_END and bool(data[flashmap.APP_END :].strip(b"\xff"))


def _size(data: bytes, kind: Kind, names: Named, chip: Chip | None) -> Statements:
    """What a file's length says, where it says anything."""
    size = len(data)
    evidence = (Evidence(None, b"", f"{size:,} bytes"),)
    half = size // 2
    if kind is Kind.FULL_DUMP and size > flashmap.FLASH_SIZE and data[:half] == data[half:]:
        value = f"the same {half:,} bytes twice: read past the end of a smaller flash"
        return (Statement("size", value, Confidence.CERTAIN, evidence),)
    if kind is Kind.FULL_DUMP:
        whole = f"a flash of {_FLASHES[size]} MiB" if size in _FLASHES else "no flash's size: a part of a dump"
        return (Statement("size", whole, Confidence.LIKELY, evidence),)
    if kind is not Kind.QIO:
        return ()
    if size in _LENGTHS:
        return (Statement("size", _LENGTHS[size], Confidence.LIKELY, evidence),)
    calibration = flashmap.CALIBRATION.get(chip.name if chip else "", 0)
    if flashmap.APP_END < size < calibration + flashmap.SECTOR and names.firmware == "Tuya":
        value = "a dump that was cut short before its calibration: Tuya publishes no QIO images"
        return (Statement("size", value, Confidence.LIKELY, evidence),)
    if _more_than_image(data) and (config := _configuration(data)):
        value = "bootloader and app, and behind them, across a blank calibration, an OpenBeken configuration"
        return (Statement("size", value, Confidence.LIKELY, (*evidence, *config[0].evidence)),)
    if _more_than_image(data):
        value = "more than bootloader and app: perhaps a dump that was cut short"
        return (Statement("size", value, Confidence.GUESS, evidence),)
    return ()
