"""What things are called in a report of supply studies: activities, phases, axes, outcomes, with their meanings."""

from __future__ import annotations

from reports.releases.safe import shown
from reports.text import number
from rig.power.outcome import OUTCOMES
from rig.power.trial import Cell

ACTIVITY = {
    "link": "linking", "flash": "writing flash", "boot": "booting", "convert": "conversion", "running": "running",
}  # fmt: skip
DONE = {"link": "links", "flash": "writes", "boot": "boots", "convert": "conversions", "running": "trials"}
PHASE = {
    "rom": "ROM", "link": "link", "erase": "erase", "program": "program", "crc": "CRC", "read": "read",
    "boot": "boot", "rf-calibration": "RF calibration", "access-point": "access point", "running": "running",
}  # fmt: skip
TITLES: dict[str, str] = {
    "unaffected": "unaffected", "late": "late", "detected": "detected error", "recovered": "reset, recovered",
    "boot-loop": "boot loop", "hung": "hung", "silent-corruption": "silent corruption", "lost-data": "lost data",
    "full-image": "full image needed", "dead": "dead", "blocked": "bench",
}  # fmt: skip
MEANINGS: dict[str, str] = {
    "unaffected": "done as ever",
    "late": "done, without a word of trouble, and slower than usual",
    "detected": "an error was told; the board is as good as before",
    "recovered": "the board reset and came back by itself",
    "boot-loop": "it reset again and again until its power was cycled",
    "hung": "silent until its power was cycled",
    "silent-corruption": "flash is not what it is taken for, and nothing said so",
    "lost-data": "the firmware runs; its calibration or its configuration is gone",
    "full-image": "only a full image from 0x0 brought it back",
    "dead": "nothing brought it back",
    "blocked": "the bench was to blame; counted nowhere",
}
KINDS: list[str] = [each for each in OUTCOMES if each != "blocked"]

_UNITS = {"volts": "V", "start": "V", "end": "V", "amps": "A", "nth": ""}
_AXES = {
    "volts": "volts", "amps": "current limit", "seconds": "duration", "start": "volts at the start",
    "end": "volts at the end", "delay_s": "delay from the phase's event", "nth": "how many-th",
    "fall_s": "fall", "hold_s": "hold", "rise_s": "rise",
}  # fmt: skip


def axis(name: str) -> str:
    return _AXES.get(name, shown(name))


def unit(name: str) -> str:
    """Of an axis; times are in seconds."""
    return _UNITS.get(name, "s")


def is_time(name: str) -> bool:
    return unit(name) == "s"


def amount(name: str, value: float) -> str:
    """A value of an axis for people: 2.35 V, 300 mA, 20 ms."""
    of = unit(name)
    if of == "s" and abs(value) < 1:
        return f"{number(value * 1000)} ms"
    if of == "A" and abs(value) < 0.0995:
        return f"{number(value * 1000)} mA"
    return f"{number(value)} {of}".rstrip()


def about(name: str, value: float) -> str:
    """An estimate, with three digits: nobody knows it better."""
    return amount(name, float(f"{value:.3g}"))


def milliamps(value: float) -> str:
    """A current limit as people say it: 300 mA."""
    return f"{number(value * 1000)} mA" if value < 1 else f"{number(value)} A"


def place(cell: Cell) -> str:
    """What the board was at: `RF calibration` where a phase was waited for, else the activity."""
    return at(cell.activity, cell.phase)


def at(activity: str, phase: str | None) -> str:
    return PHASE.get(phase, shown(phase)) if phase is not None else ACTIVITY.get(activity, shown(activity))
