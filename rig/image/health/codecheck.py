"""The bootloader and the app of a flash: what they are, in words, and each damage by its name."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rig.image.beken import BLOCK, FRAMED, TUYA_KEY, KeyName, key_from_efuse, logical_to_flash
from rig.image.bootloader import known_bootloader
from rig.image.health.findings import Damage, State
from rig.image.health.partition import Partition
from rig.image.health.placed import Placed
from rig.image.rbl import FRAMED_SIZE

MOST_RUNS = 24  # runs of damaged blocks that are listed one by one; the rest is one more damage
_EFUSE_SIZE = 32
APP_CLOSED = 0x129F70  # where the header ends that closes an N's app, and Tuya's T apps
_KEYS: dict[KeyName, str] = {
    "tuya": "with Tuya's key", "zero": "without encryption", "unknown": "with a key this rig does not know",
}  # fmt: skip


@dataclass(frozen=True)
class CodeCheck:
    """`what`: in words what is there."""

    part: Partition
    state: State
    what: str
    damages: tuple[Damage, ...]


def check_bootloader(part: Partition, placed: Placed, chip: str, key: KeyName | None) -> CodeCheck:
    """The bootloader's region, judged for a board with this chip and key."""
    region = part.region
    if part.filler is not None:
        name, word = ("bootloader-erased", "erased") if part.filler else ("bootloader-zero", "all zeros")
        state = State.ERASED if part.filler else State.ZERO
        return CodeCheck(
            part, state, f"no bootloader: {word}",
            (Damage(name, region.start, region.size, f"the bootloader's place at 0x0 is {word}"),),
        )  # fmt: skip
    if not part.is_code:
        text = f"what stands at 0x0 is no bootloader this rig can read{_efuse(placed.flash, 0)}"
        return CodeCheck(part, State.FOREIGN, "no code", (Damage("bootloader-unknown", 0, region.size, text),))
    part = _known_short(part, placed)
    damages = _blocks(part, "bootloader", _efuse(placed.flash, 0)) + _header(part, placed, "bootloader")
    foreign = _foreign(part, "bootloader", chip, key)
    tagless = chip != "BK7231T" and not placed.tagged
    if part.wrong_place:
        text = "an app stands at 0x0, where the bootloader belongs; it runs at 0x11000 only"
        foreign.append(_of(part, "app-at-0", text))
    elif tagless:
        text = "the bootloader lacks the tag at 0x110 without which an N's ROM does not start it"
        damages.append(Damage("no-tag", 0x110, 8, text))
    unclosed = part.header is None and placed.held[1] <= region.end
    if (part.cut or unclosed or _header_cut(part, placed)) and not part.wrong_place:
        damages.append(_cut(part, placed, "bootloader"))
    state = State.FOREIGN if foreign else State.DAMAGED if damages else State.GOOD
    return CodeCheck(part, state, _bootloader_name(part, placed), (*foreign, *damages))


def check_app(part: Partition, placed: Placed, chip: str, key: KeyName | None, boot: CodeCheck | None) -> CodeCheck:
    """The app's region, the same. `boot`: the bootloader in front of it, None where that is the board's."""
    region = part.region
    if part.filler is not None:
        word = "erased" if part.filler else "all zeros"
        name, state = ("app-erased", State.ERASED) if part.filler else ("app-missing", State.ZERO)
        text = f"the app's place at 0x{region.start:X} is {word}"
        return CodeCheck(part, state, f"no app: {word}", (Damage(name, region.start, region.size, text),))
    if boot is not None and boot.part.wrong_place:
        return CodeCheck(part, State.FOREIGN, "the rest of the app that stands at 0x0", ())
    if not part.is_code:
        text = f"what stands at 0x{region.start:X} is no app this rig can read{_efuse(placed.flash, region.start)}"
        return CodeCheck(part, State.FOREIGN, "no code", (Damage("app-missing", region.start, region.size, text),))
    damages = _blocks(part, "app", _efuse(placed.flash, region.start)) + _header(part, placed, "app")
    foreign = _foreign(part, "app", chip, key)
    if key is None and boot is not None and boot.part.is_code and boot.part.key != part.key:
        text = f"bootloader and app are stored differently: the app {_KEYS[part.key]}"
        foreign.append(_of(part, "key-mismatch", text))
    headed = placed.found.closed or (boot is not None and boot.part.header is not None)
    bare = part.header is None and placed.found.closed is not False
    unclosed = bare and (headed or placed.found.firmware is not None) and placed.held[1] < APP_CLOSED
    if bare and headed and not (unclosed and placed.held[1] >= part.end + FRAMED):  # no filler shows the end either
        part = replace(part, open_end=True)
    if part.cut or unclosed or _header_cut(part, placed):
        damages.append(_cut(part, placed, "app"))
    state = State.FOREIGN if foreign else State.DAMAGED if damages else State.GOOD
    return CodeCheck(part, state, f"{_named(placed)}, {_size(part)}", (*foreign, *damages))


def _of(part: Partition, name: str, sentence: str) -> Damage:
    return Damage(name, part.region.start, part.end - part.region.start, sentence)


def _foreign(part: Partition, what: str, chip: str, key: KeyName | None) -> list[Damage]:
    found = []
    if part.chip not in (None, chip) and not part.wrong_place:
        found.append(_of(part, f"{what}-wrong-chip", f"the {what} is for {part.chip}, not for {chip}"))
    if key is not None and part.key != key:
        text = f"the {what} is stored {_KEYS[part.key]}, and this board's chip takes code stored {_KEYS[key]}"
        found.append(_of(part, "key-mismatch", text))
    return found


def _blocks(part: Partition, what: str, hint: str) -> list[Damage]:
    found = []
    for offset, length in part.bad[:MOST_RUNS]:
        count = length // 34
        blocks = "a code block" if count == 1 else f"{count:,} code blocks"
        fail = "fails its" if count == 1 else "fail their"
        why = hint if offset == part.region.start else ""
        place = f"0x{offset:X}" if count == 1 else f"0x{offset:X}-0x{offset + length:X}"
        text = f"{blocks} of the {what} at {place} {fail} CRC-16{why}"
        found.append(Damage("block-crc", offset, length, text))
    rest = part.bad[MOST_RUNS:]
    if rest:
        first, last = rest[0][0], rest[-1][0] + rest[-1][1]
        text = f"{len(rest):,} more places in the {what} from 0x{first:X} to 0x{last:X} fail their CRC-16"
        found.append(Damage("block-crc", first, last - first, text))
    return found


def _known_short(part: Partition, placed: Placed) -> Partition:
    """With what is missing of a bootloader whose whole size is known and which no header closes."""
    known = known_bootloader(placed.flash)
    if part.header is not None or part.cut or known is None or known.size is None:
        return part
    missing = known.size - (part.end - part.region.start) // FRAMED * BLOCK
    return replace(part, cut=True, missing=logical_to_flash(missing)) if missing > 0 else part


def _header_cut(part: Partition, placed: Placed) -> bool:
    return part.header is not None and part.header + FRAMED_SIZE > placed.held[1]


def _header(part: Partition, placed: Placed, what: str) -> list[Damage]:
    """Both leave a board with bootloader 1.0.1 as it is: it looks at neither."""
    if part.header is not None and part.header_damage and not _header_cut(part, placed):
        text = f"the header that closes the {what} at 0x{part.header:X} is damaged: {part.header_damage}"
        return [Damage("rbl-header", part.header, FRAMED_SIZE, text)]
    if part.hash_differs:
        return [_of(part, "rbl-hash", f"the {what} is not what its header was made for: its hash differs")]
    return []


def _cut(part: Partition, placed: Placed, what: str) -> Damage:
    end = min(placed.held[1], part.region.end)
    if part.cut:
        about = f", some {part.missing:,} bytes early" if part.missing else ""
        at = part.end
        text = f"the {what} is cut off: it stops at 0x{at:X}{about}, and goes on past that"
    else:
        at = end
        text = f"no whole header closes the {what}: the file was cut off at 0x{at:X}, behind the code"
    return Damage("truncated", at, max(part.region.end - at, 0), text)


def _efuse(flash: bytes, at: int) -> str:
    """A hint where an efuse dump was written over code: it was, to boards that then stayed dark."""
    held = flash[at : at + _EFUSE_SIZE]
    tuya = len(held) == _EFUSE_SIZE and key_from_efuse(held) == TUYA_KEY
    return "; an efuse dump with Tuya's key begins there" if tuya else ""


def _bootloader_name(part: Partition, placed: Placed) -> str:
    if part.wrong_place:
        return f"an app, {_size(part)}"
    known = known_bootloader(placed.flash)
    if known is not None:
        return f"{known.name}, {_size(part)}"
    return f"{placed.found.bootloader or 'a bootloader of unknown make'}, {_size(part)}"


def _named(placed: Placed) -> str:
    return " ".join(part for part in (placed.found.firmware, placed.found.version) if part) or "an app"


def _size(part: Partition) -> str:
    return f"{part.end - part.region.start:,} bytes of code"
