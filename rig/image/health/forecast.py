"""What a board would do with the code that a flash holds, and what of that nobody has proven on silicon.

Sources: what the N's mask ROM and bootloader 1.0.1 do, read from their code and from logs of real boards; how damage
ends was watched on the executing model, where that is a guess it is said (docs/simulation.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rig.image.beken import KeyName
from rig.image.health.findings import Forecast
from rig.image.health.partition import Partition

ROM_WANTS_TAG = "that the ROM starts nothing without its tag at 0x110 (every known N bootloader has it)"
BAD_BLOCK_FAULTS = "what the CPU reads from a block whose CRC-16 is wrong: taken to be FF, an undefined instruction"
NO_RAM_THERE = "that an access past the end of an N's memory aborts"
MUCH = 0x10000  # bytes missing at an app's end, with which it lost what its start-up copies to RAM

_AFTER_START = (Forecast.BOOTS, Forecast.CRASHES, Forecast.BOOT_LOOP, Forecast.BOOTLOADER_ONLY)


@dataclass(frozen=True)
class Outcome:
    """`sentences` say it; `possible` is every outcome that may be; `guesses` what it leans on."""

    forecast: Forecast
    sentences: tuple[str, ...]
    possible: tuple[Forecast, ...] = ()
    guesses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chip:
    """What the code is judged for: the board's chip, its cipher key (None: not known), the app's name in words."""

    name: str
    key: KeyName | None
    firmware: str


def outcome(boot: Partition | None, app: Partition | None, tagged: bool, chip: Chip) -> Outcome:
    """What happens at power-on. `boot`, `app`: None where the file leaves that to the board. `tagged`: the flash has
    the ROM's tag at 0x110."""
    first = _bootloader(boot, tagged, chip) if boot is not None else None
    if first is not None and first.forecast is not Forecast.UNKNOWN:
        return _finished(first)
    if app is None:
        second = Outcome(
            Forecast.UNKNOWN,
            ("The bootloader starts and jumps to 0x10000; what follows is up to the app that the board has.",),
            (Forecast.BOOTS, Forecast.BOOTLOADER_ONLY),
        )
    else:
        second = _app(app, chip)
    if boot is None:
        second = replace(second, sentences=("Behind the bootloader that the board has:", *second.sentences))
    return _finished(second if first is None else _either(first, second))


def _finished(found: Outcome) -> Outcome:
    return found if found.possible else replace(found, possible=(found.forecast,))


def _either(first: Outcome, second: Outcome) -> Outcome:
    """A bootloader that may or may not get through, and what the app does if it does."""
    possible = dict.fromkeys((*first.possible, *(second.possible or (second.forecast,))))
    then = ("If it gets through:", *second.sentences)
    guesses = dict.fromkeys((*first.guesses, *second.guesses))
    return Outcome(Forecast.UNKNOWN, (*first.sentences, *then), tuple(possible), tuple(guesses))


def _bootloader(boot: Partition, tagged: bool, chip: Chip) -> Outcome | None:
    """What a bootloader ends in before it jumps; UNKNOWN where it may jump, None where it does."""
    needs_tag = chip.name != "BK7231T"  # a T runs the flash from address 0 without looking
    if boot.filler is not None:
        return _silent(
            "The ROM finds no bootloader and goes on waiting for a flasher on UART1",
            ROM_WANTS_TAG if needs_tag else BAD_BLOCK_FAULTS,
        )
    if needs_tag and not tagged:
        return _silent(
            "The ROM does not find its tag at 0x110, starts nothing and goes on waiting for a flasher on UART1",
            ROM_WANTS_TAG,
        )
    if not boot.is_code:
        return _silent("The chip runs into what is no code", BAD_BLOCK_FAULTS)
    if _other_key(boot, chip):
        return _silent("The ROM starts a bootloader that this chip's key decrypts to noise")
    if boot.chip not in (None, chip.name):
        return Outcome(
            Forecast.UNKNOWN, (f"It is {boot.chip}'s bootloader: what it does on a {chip.name} is not known.",),
            (Forecast.SILENT, Forecast.BOOTLOADER_ONLY, Forecast.BOOTS),
        )  # fmt: skip
    if boot.vital:
        return _silent("A damaged block of the bootloader runs at every start, before it can print", BAD_BLOCK_FAULTS)
    if boot.bad or boot.cut or boot.hash_differs:
        return Outcome(
            Forecast.UNKNOWN,
            ("The bootloader is damaged: if it runs into that, there is silence, or its banner again and again.",),
            (Forecast.SILENT, Forecast.BOOTLOADER_ONLY),
            () if boot.hash_differs else (BAD_BLOCK_FAULTS,),
        )
    return None


def _silent(why: str, *guesses: str) -> Outcome:
    return Outcome(Forecast.SILENT, (f"Nothing at all on the log port. {why}.",), guesses=guesses)


def _app(app: Partition, chip: Chip) -> Outcome:
    if not app.is_code:
        held = {0xFF: "erased flash", 0x00: "zeros"}.get(-1 if app.filler is None else app.filler, "what is no code")
        return _only(f"it jumps into {held}", BAD_BLOCK_FAULTS)
    if _other_key(app, chip):
        return _only("this chip's key decrypts the app to noise")
    if app.chip not in (None, chip.name):
        return _wrong_chip(app, chip)
    if app.vital:
        return _only("a damaged block of the app runs at every start", BAD_BLOCK_FAULTS)
    if app.cut and app.missing >= MUCH:
        size = f"the last {app.missing >> 10} KiB of the app, or about that, are missing"
        return _only(f"{size}, and with them what it needs to start", BAD_BLOCK_FAULTS)
    if app.bad or app.cut or app.open_end:
        what = "the app is damaged" if app.bad else "the app's end is missing"
        if not app.bad and not app.cut:
            what = "no header tells whether the app's end is there, or a part of it is missing"
        return Outcome(
            Forecast.UNKNOWN,
            (
                f"The bootloader jumps, and {what}: it boots if it never needs that part; else nothing useful comes "
                'after "J 0x10000", or it crashes, at once or whenever it gets there.',
            ),
            _AFTER_START,
            (BAD_BLOCK_FAULTS,),
        )
    if app.hash_differs:
        return Outcome(
            Forecast.UNKNOWN,
            ("The bootloader looks at no hash and jumps; what the changed code does cannot be told.",),
            _AFTER_START,
        )
    return Outcome(Forecast.BOOTS, (f"The bootloader jumps to 0x10000 and {chip.firmware} starts.",))


def _wrong_chip(app: Partition, chip: Chip) -> Outcome:
    if (app.chip, chip.name) == ("BK7231T", "BK7231N"):
        return Outcome(
            Forecast.BOOT_LOOP,
            ("The app is a T's: it speaks once, reaches past the end of an N's memory, and starts again for ever.",),
            guesses=(NO_RAM_THERE,),
        )
    return Outcome(
        Forecast.UNKNOWN, (f"The app is {app.chip}'s: what it does on a {chip.name} is not known.",), _AFTER_START
    )


def _only(why: str, *guesses: str) -> Outcome:
    return Outcome(
        Forecast.BOOTLOADER_ONLY,
        (f'The bootloader speaks, and nothing useful comes after "J 0x10000": {why}. Silence, or '
         "[ARM ANOMALY] and the banner again and again.",),
        guesses=guesses,
    )  # fmt: skip


def _other_key(part: Partition, chip: Chip) -> bool:
    return chip.key is not None and part.key != chip.key
