"""Contact: is this board well connected? Asked as soon as it waits in its ROM, before anything else is asked of it.

The current is inside the product's band for a ROM, the rail stands where it was set, and both lines are quiet: in its
ROM a BK7231N speaks on UART1 only, and only when it is asked; UART2, the log, is the firmware's, which does not run.

What is a guess. How many bytes a good contact may leave on a line when the power comes is not known: fewer than four
are let pass. That a board with a TuyaMCU passes is reasoned, not seen: no real one was at hand. Its MCU drives RX1,
which the adaptor does not listen to, so its frames are not heard here; should the ROM answer to what it makes of
them, that is a whole reply, which is noted and does not block. Of a touch chip's level on RX1 nothing is seen here
either: it shows as a board that does not link.
"""

from __future__ import annotations

from rig.chip.frames import ReplyParser
from rig.errors import BenchBlocked, Coded
from rig.line.place import Place
from rig.line.record import UnitRecord
from rig.uart.recorder import stray_bytes

ROM_SAMPLE_S = 0.4  # how long the current is averaged, and both lines are listened to
STRAY = 4  # bytes, guess: fewer are what switching on leaves on a line
_SHOWN = 16
_NOISE_LOOKS_LIKE = ("backup-mismatch", "unreadable", "link-lost", "verify-failed", "erase-failed")


def check_contact(place: Place) -> None:
    """Link the board and ask nothing of it; then current, volts and silence, each on record.

    Raises what linking raises; BenchBlocked("no-current"), UnitFailed("short") and their like for what the supply
    reads; BenchBlocked("contact") for bytes that nobody sent.
    """
    record, log = place.record, place.boot_log
    before = len(log.raw) if log is not None else 0
    place.rom.connect(place.link)
    volts, amps = place.average(ROM_SAMPLE_S)
    unasked = place.board.tap.unasked
    record.measure("rom_current", amps, "A", low="no-current", high="short")
    record.measure("rail_volts", volts, "V", low="weak-supply", high="supply-refused")
    place.link.check()
    replies = ReplyParser().feed(unasked)
    strange = stray_bytes(unasked)
    if replies:
        record.note(
            f"the ROM answered {len(replies)} times more than it was asked: queued link checks, or somebody else "
            "speaks on RX1"
        )
    _require_quiet(place, "flash", "flash_line_strays", unasked, strange)
    if log is not None:
        log.check()
        said = log.raw[before:]
        _require_quiet(place, "log", "log_line_strays", said, len(said))


def on_a_noisy_line(problem: Coded, strays: int) -> Coded:
    """`problem` of a board in its ROM, or that the line is to blame: with so many `strays`, bytes on the flash line
    that nobody asked for, what was read or written is no word on the board."""
    if strays < STRAY or problem.code not in _NOISE_LOOKS_LIKE:
        return problem
    said = f"{strays} bytes came on the flash line that nobody had asked for, so this may not be the board"
    return BenchBlocked("contact", f"{said}: {problem}")


def tell_strays(record: UnitRecord, strays: int) -> None:
    """Put on record how many bytes came on the flash line that nobody asked for, of a board whose flash agrees with
    its plan all the same: what was damaged was asked for again. It says nothing of the board, but of its jig."""
    record.measure("written_strays", strays, "B")
    if strays >= STRAY:
        record.note(
            f"{strays} bytes came on the flash line that nobody had asked for; the flash agrees with the plan by the "
            "chip's CRC. Look at the needles and the adaptor of this slot",
            warning=True,
        )


def _require_quiet(place: Place, line: str, name: str, heard: bytes, strange: int) -> None:
    """A product may set limits of its own for the measurement `name`."""
    place.record.measure(name, strange, "B", high="contact")
    limits = place.slot.product.limits.get(name)
    if strange < STRAY or (limits is not None and limits.bounded):
        return
    raise BenchBlocked(
        "contact",
        f"{strange} bytes came on the {line} line while the board waited in its ROM and nobody had asked "
        f"({bytes(heard[:_SHOWN]).hex(' ')} ...): a needle without contact, noise, or another board's line",
    )
