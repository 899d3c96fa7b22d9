"""Where each kind of file goes: its pieces, or the sentence on why it does not go where it was asked to."""

from __future__ import annotations

from dataclasses import replace

from rig.errors import UsageProblem
from rig.image import flashmap
from rig.image.contents.calibration import read_calibration
from rig.image.contents.openbeken import read_config
from rig.image.flashmap import SECTOR
from rig.image.identify import identify
from rig.image.identity import Kind
from rig.image.kinds.uf2 import Uf2, read_uf2
from rig.image.planning.board import app_firmware
from rig.image.planning.case import Case
from rig.image.planning.checks import CODE, hexed, judge_code
from rig.image.planning.kept import keep_identity as kept_identity
from rig.image.planning.plan import Piece


def place(case: Case, start: int | None, keep_identity: bool) -> None:
    """The pieces of a file that passed its own rules. `start`: where the user wants it, None: where it belongs."""
    kind = case.found.kind
    if kind is Kind.UF2:
        _uf2(case, start)
    elif kind is Kind.QIO:
        _qio(case, start)
    elif kind is Kind.FULL_DUMP:
        _dump(case, start, keep_identity)
    elif kind is Kind.APP:
        _app(case, start)
    elif kind is Kind.BOOTLOADER:
        if _at_home(case, start, 0, "it goes to 0x0"):
            case.pieces.append(Piece(0, len(case.data), 0))
            case.note = f"{case.label} at 0x0; the board's app stays"
    elif kind is Kind.CALIBRATION:
        _calibration(case, start)
    else:
        _config_alone(case, start)


def place_own_backup(case: Case, start: int | None) -> None:
    """A board's own backup goes back whole: what is broken in it was so before, and is said."""
    found, size = case.found, len(case.data)
    if start is not None and start != 0:
        raise UsageProblem(f"{case.label} is the board's own backup: it goes to 0x0, not to {hexed(start)}.")
    if size and not any(case.data):
        case.refuse("not-an-image", f"{found.what}: that is no backup of a flash")
    if size < case.board.flash_size:
        whole = case.board.flash_size
        case.refuse("damaged", f"{size:,} bytes of a backup, not all {whole:,}", "use the whole backup")
    case.own.append(Piece(0, size, 0))
    case.note = f"{case.label} whole at 0x0, as the board's own backup"
    if found.chip not in (None, case.board.chip):
        case.notes.append(f"the backup holds code for {found.chip}: the board did not start with it either")
    elif found.kind is not Kind.FULL_DUMP:
        case.notes.append(f"the backup is {found.what}: the board did not start with it either")
    case.notes += [f"the backup is damaged: {problem}" for problem in found.problems]
    _note_calibration(case)


def configure(case: Case, config: bytes) -> None:
    """An OpenBeken configuration in its own sector, over whatever the image has there."""
    found, chip = case.found, case.board.chip
    if found.kind not in CODE or found.firmware != "OpenBeken" or found.chip != chip:
        case.refuse("not-openbeken", f"{found.what}, and an OpenBeken configuration for it makes no sense")
    _put_config(case, config, "given a configuration that OpenBeken")


def _put_config(case: Case, config: bytes, whose: str) -> None:
    at = flashmap.OBK_CONFIG[case.board.chip]
    content = config[:SECTOR].ljust(SECTOR, b"\xff")
    read = read_config(content)
    fault = None
    if len(config) > SECTOR:
        fault = f"it has {len(config):,} bytes, more than a sector"
    elif read is None:
        fault = "it does not begin with CFG"
    elif not read.crc_ok:
        fault = (*read.problems, "its CRC-8 is wrong")[0]
    if fault:
        case.refuse("bad-config", f"{whose} would reject ({fault})", "make it with `rig image provision`")
    for pieces in (case.pieces, case.own):
        pieces[:] = [part for piece in pieces for part in _cut(piece, at, at + SECTOR)]
    case.pieces.append(Piece(at, SECTOR, None, content, "OpenBeken's configuration"))


def _cut(piece: Piece, start: int, end: int) -> list[Piece]:
    """What is left of a piece without the bytes from `start` to `end` of flash."""
    parts = []
    for first, last in flashmap.without((piece.flash_offset, piece.end), [(start, end)]):
        skip = first - piece.flash_offset
        content = None if piece.content is None else piece.content[skip : skip + last - first]
        source = None if piece.source_offset is None else piece.source_offset + skip
        parts.append(replace(piece, flash_offset=first, length=last - first, source_offset=source, content=content))
    return parts


def _at_home(case: Case, start: int | None, home: int, belongs: str) -> bool:
    """Whether it goes where it belongs. Elsewhere, if that is overridden, it becomes one piece as it is."""
    if start in (None, home):
        return True
    assert start is not None
    case.refuse("wrong-place", f"{case.found.what}: {belongs}, not to {hexed(start)}", "leave the start out")
    case.pieces.append(Piece(start, len(case.data), 0))
    case.note = f"{case.label} at 0x{start:X}, where it does not belong"
    return False


def _qio(case: Case, start: int | None) -> None:
    size = len(case.data)
    if start == flashmap.APP and size > flashmap.APP:
        case.pieces.append(Piece(flashmap.APP, size - flashmap.APP, flashmap.APP))
        case.note = f"the app part of {case.label} at 0x11000; the board's bootloader stays"
    elif _at_home(case, start, 0, "it goes to 0x0, or its app part to 0x11000"):
        case.pieces.append(Piece(0, size, 0))
        case.note = f"{case.label} whole at 0x0"


def bring_back(case: Case) -> None:
    """What a broken board lost of its own, beside a file that has nothing in that place."""
    ranges = flashmap.identity_ranges(case.board.chip)
    if any(piece.flash_offset < end and at < piece.end for piece in case.pieces for at, end in ranges):
        return
    own = kept_identity(b"", case.board)
    case.own += own.pieces
    case.notes += own.notes
    case.mac = own.mac
    case.leans_on += ranges
    if own.pieces:
        case.note += f"; besides: {', '.join(piece.what for piece in own.pieces)}"


def _app(case: Case, start: int | None) -> None:
    if start == 0:
        would = "at 0x0 it would replace the bootloader and the board would stay silent"
        case.refuse("over-bootloader", f"{case.found.what}: {would}", "it goes to 0x11000")
    if _at_home(case, start, flashmap.APP, "it runs from 0x11000 only"):
        case.pieces.append(Piece(flashmap.APP, len(case.data), 0))
        case.note = f"{case.label} at 0x11000; the board's bootloader stays"


def _dump(case: Case, start: int | None, keep_identity: bool) -> None:
    if not _at_home(case, start, 0, "it goes to 0x0"):
        return
    size = len(case.data)
    if not keep_identity:
        case.own.append(Piece(0, size, 0))
        case.note = f"{case.label} whole at 0x0, as a board's own backup"
        if not case.found.calibrated:
            case.note += ", which holds no radio calibration"
        return
    kept = flashmap.identity_ranges(case.board.chip)
    case.pieces += [Piece(at, end - at, at) for at, end in flashmap.without((0, size), kept)]
    case.leans_on += kept
    spared = ", ".join(f"0x{at:X}-0x{end:X}" for at, end in kept)
    case.note = f"{case.label} at 0x0 without {spared}: calibration, MAC and Tuya's keys stay the board's own"
    own = kept_identity(case.data, case.board)
    case.own += own.pieces
    case.notes += own.notes
    case.mac = own.mac
    if own.pieces:
        written = ", ".join(piece.what for piece in own.pieces)
        case.note = f"{case.label} at 0x0 without {spared}; there: {written}"


def _calibration(case: Case, start: int | None) -> None:
    area = flashmap.region("calibration", case.board.chip)
    if len(case.data) != area.size:
        size = f"{len(case.data):,} bytes and not just the calibration sector"
        case.refuse("not-an-image", f"{case.found.what}, {size}")
    found = read_calibration(case.data)
    if found is None or not found.sound:
        why = (*found.problems, "firmware made it up")[0] if found else "no calibration header begins it"
        case.refuse("damaged", f"{case.found.what}, and damaged: {why}")
    if not _at_home(case, start, area.start, f"it goes to 0x{area.start:X}"):
        return
    piece = Piece(area.start, area.size, 0)
    own = case.board.backup is not None and case.board.backup[area.start : area.end] == case.data
    (case.own if own else case.pieces).append(piece)
    whose = "the board's own, from its backup" if own else "another board's"
    case.note = f"{case.label} at 0x{area.start:X}: a calibration, {whose}"


def _config_alone(case: Case, start: int | None) -> None:
    at = flashmap.OBK_CONFIG[case.board.chip]
    if not _at_home(case, start, at, f"it goes to 0x{at:X}"):
        return
    case.leans_on.append((flashmap.APP, flashmap.APP_END))
    if case.board.held is None:
        case.notes.append("whether the board runs OpenBeken was not looked at")
    elif (runs := app_firmware(case.board.held, case.profiles)) != ("OpenBeken", case.board.chip):
        case.refuse("not-openbeken", f"{case.found.what}, and the board runs {runs[0] or 'another firmware'}")
    _put_config(case, case.data, "a configuration that OpenBeken")
    case.note = f"{case.label} at 0x{at:X}; all else stays"


def _note_calibration(case: Case) -> None:
    area = flashmap.region("calibration", case.board.chip)
    found = read_calibration(case.data[area.start : area.end])
    if found is None:
        case.notes.append("the backup holds no radio calibration")
    elif found.problems:
        case.notes.append(f"the calibration in the backup is damaged: {found.problems[0]}")


def _uf2(case: Case, start: int | None) -> None:
    """By its own block list: an app at 0x11000, or an over-the-air package in the download region, judged joined."""
    uf2, chip, what = case.found.uf2 or read_uf2(case.data), case.board.chip, case.found.what
    if start is not None:
        case.refuse("uf2-blocks", f"{what}: its blocks say where they go", "leave the start out")
    if uf2.chip is not None and uf2.chip != chip:
        case.refuse("wrong-chip", f"{what}: the wrong chip for this {chip} board")
    if uf2.chip is None:
        case.refuse("uf2-blocks", f"{what}: its family is none this rig knows")
    if uf2.problems:
        case.refuse("uf2-blocks", f"{what}, and damaged: {' and '.join(uf2.problems[:2])}")
    if fault := _blocks_fault(uf2, chip):
        case.refuse("uf2-blocks", f"{what}: {fault}")
    _judge_joined(case, uf2)
    case.pieces += [
        Piece(piece.flash_offset, len(piece.content), piece.source_offset, piece.content, "joined UF2 blocks")
        for piece in uf2.pieces
    ]
    case.note = f"the blocks of {case.label}, each at its own place; the board's bootloader stays"


def _blocks_fault(uf2: Uf2, chip: str) -> str | None:
    end = flashmap.region("ota", chip).end
    last = flashmap.APP
    if not uf2.pieces:
        return "it holds no blocks"
    for piece in uf2.pieces:  # in flash order
        at = piece.flash_offset
        if at < flashmap.APP or at + len(piece.content) > end or not piece.content:
            return f"its block at 0x{at:X} is outside 0x{flashmap.APP:X}-0x{end:X}, the app and its downloads"
        if at < last:
            return f"its blocks overlap at 0x{at:X}"
        last = at + len(piece.content)
    return None


def _judge_joined(case: Case, uf2: Uf2) -> None:
    """What the joined blocks are: an app from 0x11000, else a package where the bootloader looks for one."""
    ota = flashmap.region("ota", case.board.chip).start
    first = uf2.pieces[0].flash_offset
    inner = identify(_joined(uf2, first, ota if first < ota else flashmap.FLASH_SIZE), case.name, case.profiles)
    if first == flashmap.APP and inner.kind is Kind.APP:
        judge_code(case, inner)
        firmware, version = case.found.firmware or inner.firmware, case.found.version or inner.version
        case.found = replace(case.found, firmware=firmware, version=version, key=inner.key, app=inner.app)
    elif first == ota and inner.kind is Kind.RBL:
        if inner.problems:
            case.refuse("damaged", f"{case.found.what}, and what it holds is damaged: {inner.problems[0]}")
        case.notes.append("the board's bootloader unpacks this package over its app when it next starts")
    else:
        wanted = "an app" if first < ota else "a package"
        has = f"what it has at 0x{first:X} is not {wanted} from its start"
        case.refuse("uf2-blocks", f"{case.found.what}: {has}")


def _joined(uf2: Uf2, start: int, end: int) -> bytes:
    """The blocks' content between two flash offsets, FF where there is none: LibreTiny's header stands apart."""
    content = bytearray()
    for piece in uf2.pieces:
        if start <= piece.flash_offset < end:
            content += b"\xff" * (piece.flash_offset - start - len(content)) + piece.content
    return bytes(content[: end - start])
