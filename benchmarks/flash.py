"""How long flashers take to write OpenBeken, to read a backup and to write again what is there, beside the floor that
wire and chip set; and how long a whole conversion takes.

    python -m benchmarks.flash IMAGE [--flasher NAME ...] [--baud BAUD|default ...]
                                     [--operation write|read|again|convert ...] [--repeat N] [--speed X]

Each flasher works on a simulated board at real time, through the wire tap. Every figure is a median of `--repeat`
runs. "Whole" is what a person waits for: from switching the board off to the tool's end, linking and the tool's start
included; "wire" is from the first answered link check to the last reply. The board is a stand-in; its constants are
printed with the table, nothing here was measured on silicon.

What runs at 115200 baud takes hours one after the other and leaves the machine idle: those run side by side, each on
a board of its own, the others alone.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.conversion import Conversion, convert_batch
from rig.bench.bench import Slot, open_bench
from rig.bench.slot import OpenSlot, use_slot
from rig.flashers import load_flasher
from rig.flashers.base import Flasher
from rig.flashers.content import BLANK, BLOCK, erases
from rig.flashers.external import ExternalFlasher
from rig.flashers.native import NativeFlasher
from rig.flashers.profile import Operation, Profile

SECTOR = 0x1000
APP = 0x11000  # where the app of an N begins; a QIO file holds the bootloader before it
FLASH = 0x200000
LINK_BAUD = 115200
NATIVE_BAUD = 921600  # what a bench file says when it says nothing
SIDE_BY_SIDE = 115200  # what is so slow leaves a machine idle
AT_ONCE = 6
ERASE_4K, ERASE_64K, PAGE, CRC_RATE, WINDOW = 0.025, 0.150, 0.0006, 438_000.0, 0.250
FLASHERS = ("native", "ltchiptool==4.15.0", "bk7231tools==2.1.2")
BAUDS = ("115200", "921600", "2000000", "default")
OPERATIONS = ("write", "read", "again", "convert")
TITLES = {"write": "write onto a factory board", "read": "read 2 MiB", "again": "write what is there already"}


@dataclass(frozen=True)
class Row:
    operation: str
    flasher: str
    baud: str
    wire_s: float
    whole_s: float
    floor_s: float
    commands: int


def write_floor(offset: int, data: bytes, baud: int) -> float:
    """Seconds that no client of this ROM can beat: erases in the largest blocks that fit, the sectors that are not
    blank, one CRC pass. Frames: bytes of request and reply at 10 bits each."""
    end = -(-(offset + len(data)) // SECTOR) * SECTOR
    total = sum(ERASE_64K if size == BLOCK else ERASE_4K for _, size in erases(offset, end))
    total += len(list(erases(offset, end))) * (13 + 16) * 10 / baud
    sectors = [data[i : i + SECTOR].ljust(SECTOR, b"\xff") for i in range(0, len(data), SECTOR)]
    total += sum(sector != BLANK for sector in sectors) * ((SECTOR + 12 + 15) * 10 / baud + PAGE)
    return total + crc_floor(len(data), baud)


def read_floor(length: int, baud: int) -> float:
    """All sectors, and one CRC pass that says they came right."""
    return length / SECTOR * (12 + SECTOR + 15) * 10 / baud + crc_floor(length, baud)


def crc_floor(length: int, baud: int) -> float:
    return length / CRC_RATE + (13 + 11) * 10 / baud


def floor(operation: str, offset: int, data: bytes, baud: int) -> float:
    if operation == "write":
        return write_floor(offset, data, baud)
    return read_floor(FLASH, baud) if operation == "read" else crc_floor(len(data), baud)


def speed_of(baud: str, name: str) -> int:
    """Baud of a row; at `default` native tries a slot's own, tools stay at the link's."""
    if baud != "default":
        return int(baud)
    return NATIVE_BAUD if name == "native" else LINK_BAUD


def flasher_for(name: str, baud: str) -> Flasher:
    """The flasher; at `default` a tool's commands without any speed."""
    flasher = load_flasher(name)
    if baud == "default" and isinstance(flasher, ExternalFlasher):
        flasher.profile = _without_speed(flasher.profile)
    return flasher


def _without_speed(profile: Profile) -> Profile:
    def slow(operation: Operation | None) -> Operation | None:
        if operation is None:
            return None
        words = list(operation.command)
        at = words.index("{baud}")
        del words[at - 1 : at + 1]  # -b and its value
        return operation.model_copy(update={"command": words})

    return profile.model_copy(update={"read": slow(profile.read), "write": slow(profile.write)})


def change_board(slot: Slot) -> None:
    """A factory board, off."""
    assert slot.table.change is not None
    subprocess.run(slot.table.change, check=True)


def perform(
    used: OpenSlot, flasher: Flasher, operation: str, pieces: list[tuple[int, bytes]]
) -> tuple[float, float, int]:
    """(wire, whole, commands) of one run from a board that is off."""
    link = used.link
    link.off()
    first = len(used.tap.commands)
    began = time.monotonic()
    if operation == "read":
        result = flasher.read(link, 0, FLASH)
    elif operation == "again" and isinstance(flasher, NativeFlasher):
        result = flasher.update(link, pieces)
    else:
        result = flasher.write(link, pieces)
    whole = time.monotonic() - began
    flasher.close()
    if not result.ok:
        raise SystemExit(f"{flasher.name}, {operation}: {result.said}")
    commands = [command for command in used.tap.commands[first:] if command.reply_ns]
    return (commands[-1].reply_end_ns - commands[0].reply_ns) / 1e9, whole, len(commands)


def measure(slot: Slot, name: str, baud: str, operation: str, app: bytes, repeat: int) -> Row:
    """The median of some runs of one operation."""
    pieces = [(APP, app)]
    speed = speed_of(baud, name)
    slot = replace(slot, table=slot.table.model_copy(update={"baud": speed}))
    runs = []
    for turn in range(repeat):
        if operation == "write" or turn == 0:
            change_board(slot)
        flasher = flasher_for(name, baud)
        with use_slot(slot, holder="benchmark") as used:
            used.guard.allow_writes([(offset, len(data)) for offset, data in pieces])
            if operation == "again" and turn == 0:
                _put(used, pieces)
            runs.append(perform(used, flasher, operation, pieces))
            if operation != "read":
                judge = NativeFlasher()
                assert judge.verify(used.link, pieces).ok, f"{name} at {baud}: the flash differs"
                judge.close()
        sys.stderr.write(f"{operation} {name} {baud} {turn + 1}/{repeat}: {runs[-1][1]:.2f} s\n")
    wire, whole, commands = (statistics.median(column) for column in zip(*runs, strict=True))
    return Row(operation, name, baud, wire, whole, floor(operation, APP, app, speed), round(commands))


def _put(used: OpenSlot, pieces: list[tuple[int, bytes]]) -> None:
    helper = NativeFlasher()
    assert helper.write(used.link, pieces).ok
    helper.close()


def table(rows: Sequence[Row], image: str, size: int, repeat: int, speed: float) -> str:
    lines = [
        f"The app of {image}, {size} bytes at 0x{APP:x}; medians of {repeat}; board simulated at {speed:g} times "
        "real time.",
        f"Constants: {ERASE_4K * 1e3:g} ms per 4 KiB erase, {ERASE_64K * 1e3:g} ms per 64 KiB, {PAGE * 1e3:g} ms per "
        f"page, {CRC_RATE / 1e3:g} kB/s CRC, {WINDOW * 1e3:g} ms ROM window.",
    ]
    for operation in dict.fromkeys(row.operation for row in rows):
        lines += [
            "",
            f"**{TITLES[operation][0].upper()}{TITLES[operation][1:]}**",
            "",
            "| baud | flasher | wire s | floor s | wire / floor | whole s | whole / floor | commands |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row.baud} | {row.flasher} | {row.wire_s:.2f} | {row.floor_s:.2f} | {row.wire_s / row.floor_s:.3f} "
            f"| {row.whole_s:.2f} | {row.whole_s / row.floor_s:.3f} | {row.commands} |"
            for row in rows
            if row.operation == operation
        ]
    return "\n".join(lines) + "\n"


def conversions(converted: dict[int, list[list[Conversion]]], rows: Sequence[Row]) -> str:
    """The table of whole conversions, beside reading and writing by ltchiptool as it comes."""
    default = {row.operation: row.whole_s for row in rows if row.flasher == FLASHERS[1] and row.baud == "default"}
    lines = [
        "",
        "**Convert a board**, power-on to the firmware's `Time 2`, backup included; beside it the re-read after a "
        "power-cycle and the hold to boot complete",
        "",
        "| baud | unit of its batch | to `Time 2` s | re-read s | hold s | all s "
        "| ltchiptool as it comes: read, write s | quicker |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for baud, batches in converted.items():
        for index, unit in enumerate(zip(*batches, strict=True)):
            firmware, settled, held, whole = (
                statistics.median(getattr(one, name) for one in unit)
                for name in ("firmware", "settled", "held", "whole")
            )
            route = sum(default.values()) if len(default) == 2 else None
            lines.append(
                f"| {baud} | {index + 1} | {firmware:.2f} | {settled:.2f} | {held:.2f} | {whole:.2f} | "
                + (f"{route:.1f} | {route / firmware:.1f} times |" if route else "| |")
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Flash times beside the floor.")
    parser.add_argument("image", type=Path, help="an OpenBeken QIO file")
    parser.add_argument("--flasher", action="append", metavar="NAME", help=f"default: {', '.join(FLASHERS)}")
    parser.add_argument("--baud", action="append", metavar="BAUD", help=f"default: {', '.join(BAUDS)}")
    parser.add_argument("--operation", action="append", choices=OPERATIONS, help="default: all; tools do no `again`")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--speed", type=float, default=1.0, help="of the simulated board; figures are for 1")
    options = parser.parse_args()
    app = options.image.read_bytes()[APP:]
    asked = [
        (operation, baud, name)
        for operation in options.operation or OPERATIONS
        for baud in options.baud or BAUDS
        for name in options.flasher or FLASHERS
        if operation in ("write", "read")
        or (operation == "again" and name == "native")  # tools write all of it again
    ]
    slow = [each for each in asked if speed_of(each[1], each[2]) <= SIDE_BY_SIDE]
    with open_bench(f"sim:{max(1, len(slow))}@{options.speed:g}") as bench:
        slots = list(bench.slots.values())

        def one(asked: tuple[tuple[str, str, str], Slot]) -> Row:
            (operation, baud, name), slot = asked
            return measure(slot, name, baud, operation, app, options.repeat)

        rows = [one((each, slots[0])) for each in asked if each not in slow]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            rows += pool.map(one, zip(slow, slots, strict=False))
    rows.sort(key=lambda row: asked.index((row.operation, row.baud, row.flasher)))
    sys.stdout.write(table(rows, options.image.name, len(app), options.repeat, options.speed))
    sys.stdout.flush()
    if "convert" in (options.operation or OPERATIONS):
        converted = {}
        for baud in (921600, 2000000):
            converted[baud] = [convert_batch(options.image, baud) for _ in range(options.repeat)]
            sys.stderr.write(f"converted at {baud}\n")
        sys.stdout.write(conversions(converted, rows))


if __name__ == "__main__":
    main()
