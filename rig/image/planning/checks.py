"""What a file is judged by before it is placed, and what its pieces are judged by once they are."""

from __future__ import annotations

from rig.image import flashmap
from rig.image.flashmap import Range
from rig.image.identity import Identity, KeyName, Kind
from rig.image.planning.board import STORED, app_fault, bootloader_fault, bootloader_key
from rig.image.planning.case import Case
from rig.image.planning.plan import Piece

WITH_BOOTLOADER = (Kind.QIO, Kind.FULL_DUMP, Kind.BOOTLOADER)
CODE = (*WITH_BOOTLOADER, Kind.APP)
_WRITABLE = (*CODE, Kind.UF2, Kind.OBK_CONFIG, Kind.CALIBRATION)

_NOT_AN_IMAGE = {
    Kind.EFUSE: "{what}, not firmware: it holds a cipher key and no code",
    Kind.UG: "{what}, not a flash image: the bootloader unpacks it, a UART write does not",
    Kind.RBL: "{what}, not a flash image: the bootloader unpacks it, a UART write does not",
    Kind.ROM: "{what}, not firmware",
    Kind.TEXT: "{what}, not firmware",
}


def judge_file(case: Case) -> None:
    """The rules that look at the file and the board's chip and key, whatever the place."""
    found = case.found
    if found.kind not in _WRITABLE:
        reason = _NOT_AN_IMAGE.get(found.kind, "{what}").replace("{what}", found.what)
        case.refuse("not-an-image", reason)
    if found.kind in CODE:
        judge_code(case, found)


def judge_code(case: Case, found: Identity) -> None:
    """Chip, key and damage of code: the file itself, or what a container holds."""
    chip = case.board.chip
    named = [code.chip for code in (found.boot, found.app) if code and code.chip]
    others = [name for name in named if name != chip]
    if found.chip and found.chip != chip and chip not in named:
        case.refuse("wrong-chip", f"{found.what}: the wrong chip for this {chip} board")
    if others:
        case.refuse("wrong-chip", f"{found.what}, and {_listed(found.problems) or f'partly for {others[0]}'}: "
                    f"the wrong chip for this {chip} board")  # fmt: skip
    if found.key:
        _judge_key(case, found, found.key)
    if found.problems:
        case.refuse("damaged", f"{found.what}, and damaged: {_listed(found.problems)}")
    if not found.chip:
        case.refuse("unknown-chip", f"{found.what}: nothing in it says that it is for {chip}")


def _judge_key(case: Case, found: Identity, key: KeyName) -> None:
    """The code's key against the chip's, or against what the board's own bootloader proves of it."""
    holds = case.board.key
    if holds == key and key != "unknown":
        return
    if holds not in (None, "unknown") or (holds == "unknown" and key != "unknown"):
        decrypts = {"tuya": "decrypts with Tuya's key", "zero": "takes unencrypted code"}
        chip = decrypts.get(str(holds), "decrypts with a key this rig does not know")
        case.refuse("wrong-key", f"{found.what}: this board's chip {chip}, so it could not run it")
        return
    if holds is None:
        case.leans_on.append((flashmap.BOOTLOADER, flashmap.APP))
        if bootloader_key(case.board.held) == key:
            case.notes.append(
                f"the efuse key is not known; the board's own bootloader is {STORED[key]}, as this image is"
            )
            return
    case.refuse(
        "unknown-key",
        f"{found.what}, {STORED[key]}: neither this board's efuse nor its bootloader tells whether it can run that",
        "read the efuse with the native flasher (rig flash info), or use the board's own backup",
    )


def check_inside(case: Case) -> None:
    """Every byte of every piece is inside the flash."""
    size = case.board.flash_size
    for piece in (*case.pieces, *case.own):
        if piece.flash_offset < 0 or piece.length <= 0 or piece.end > size:
            what = case.found.what
            where = f"0x{piece.length:X} bytes at {hexed(piece.flash_offset)} are not in a flash of {size:,}"
            reason = f"{what}: {where}"
            if len(case.data) > size:
                reason = f"{what}, {len(case.data):,} bytes for a flash of {size:,}"
            case.refuse("too-large", reason)


def check_identity(case: Case) -> None:
    """Only what is the board's own covers its calibration and storage, only a bootloader the bootloader's place."""
    found, chip, unsaved = case.found, case.board.chip, case.board.unsaved
    calibration, storage = flashmap.region("calibration", chip), flashmap.region("storage", chip)
    lost = ", and this board has no backup that could bring it back" if unsaved else ""
    for piece in case.pieces:
        if _meets(piece, (calibration.start, calibration.end)):
            more = f" and more, up to 0x{len(case.data):X}" if found.kind is Kind.QIO else ""
            verb = "replace" if found.kind is Kind.CALIBRATION else "erase"
            would = f"it would {verb} the radio calibration at 0x{calibration.start:X}{lost}"
            case.refuse(
                "erases-calibration", f"{found.what}{more}: {would}", _without_calibration(case), final=unsaved
            )
        if _meets(piece, (storage.start, storage.end)):
            would = f"it would erase Tuya's keys from 0x{storage.start:X}{lost}"
            case.refuse("erases-storage", f"{found.what}: {would}", _without_calibration(case), final=unsaved)
        if case.data and _meets(piece, (flashmap.BOOTLOADER, flashmap.APP)) and not _is_bootloader(case, piece):
            where = hexed(piece.flash_offset)
            case.refuse("over-bootloader", f"{found.what}: at {where} it would replace the bootloader and the board "
                        "would stay silent")  # fmt: skip


def check_board(case: Case) -> None:
    """An app needs the board's own bootloader, a bootloader alone its own app: judged where its flash is known."""
    found, held, chip = case.found, case.board.held, case.board.chip
    key = None if "wrong-key" in case.let.used else found.key
    if found.kind is Kind.BOOTLOADER:
        fault = app_fault(held, chip, key) if held is not None else "without an app behind it a board does not start"
        case.leans_on.append((flashmap.APP, flashmap.APP_END))
        if fault:
            case.refuse("no-app", f"{found.what}: {fault}")
        return
    starts = found.kind in (Kind.APP, Kind.UF2, Kind.QIO, Kind.FULL_DUMP)
    if not starts or any(_is_bootloader(case, piece) for piece in case.pieces):
        return
    case.leans_on.append((flashmap.BOOTLOADER, flashmap.APP))
    if held is None:
        case.notes.append("the board's own bootloader, which is to start this, was not looked at")
    elif fault := bootloader_fault(held, chip, key):
        case.refuse("no-bootloader", f"{found.what}, without a bootloader: {fault}, so it would not be started")
    else:
        case.notes.append("the board's own bootloader is known, whole and of the same key")


def hexed(value: int) -> str:
    return f"0x{value:X}" if value >= 0 else f"-0x{-value:X}"


def _without_calibration(case: Case) -> str | None:
    """What to use instead of a file that runs over the calibration: None for the usual."""
    found = case.found
    if not case.data:
        return "leave these sectors out"
    if found.kind is not Kind.QIO:
        return None
    instead = f"{case.instead} (it ends before the calibration)"
    at = flashmap.OBK_CONFIG[case.board.chip]
    if case.data[at : at + 3] == flashmap.OBK_CONFIG_TAG:
        instead += f", and its configuration at 0x{at:X} through provisioning (rig convert --provision)"
    return instead


def _is_bootloader(case: Case, piece: Piece) -> bool:
    return case.found.kind in WITH_BOOTLOADER and piece.flash_offset == 0 and piece.source_offset == 0


def _meets(piece: Piece, span: Range) -> bool:
    return piece.flash_offset < span[1] and span[0] < piece.end


def _listed(problems: tuple[str, ...]) -> str:
    more = len(problems) - 2
    return " and ".join(problems[:2]) + (f" (and {more} more)" if more > 0 else "")
