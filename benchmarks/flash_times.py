"""How long flashers take to write an image, beside the floor that wire and chip set.

    python -m benchmarks.flash_times IMAGE [--flasher native --flasher ltchiptool==4.15.0] [--baud 115200 ...]

Each flasher writes the image onto a simulated board at real time, through the wire tap, which times every flasher
the same way: from its first answered link check to the last reply. Written means verified: native's time holds
its CRC pass, ltchiptool's its CRC of every sector. The board is a stand-in; its constants are printed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from rig.bench.bench import Slot, open_bench
from rig.bench.slot import OpenSlot, use_slot
from rig.flashers import load_flasher
from rig.flashers.native import BLOCK, NativeFlasher
from rig.image.guard import plan_write
from rig.image.identify import read_image

SECTOR = 0x1000
ERASE_4K, ERASE_64K, PAGE, CRC_RATE, WINDOW = 0.025, 0.150, 0.0006, 438_000.0, 0.250


@dataclass(frozen=True)
class Row:
    flasher: str
    baud: int
    wire_s: float
    process_s: float
    floor_s: float
    commands: int


def floor(pieces: list[tuple[int, bytes]], baud: int) -> float:
    """Seconds that no client of this ROM can beat: erases in the largest blocks, non-blank sectors, one CRC pass."""
    total = 0.0
    for offset, data in pieces:
        end = -(-(offset + len(data)) // SECTOR) * SECTOR
        at = offset
        while at < end:
            whole = at % BLOCK == 0 and end - at >= BLOCK
            total += (ERASE_64K if whole else ERASE_4K) + (13 + 16) * 10 / baud
            at += BLOCK if whole else SECTOR
        sectors = [data[i : i + SECTOR].ljust(SECTOR, b"\xff") for i in range(0, len(data), SECTOR)]
        written = sum(sector != b"\xff" * SECTOR for sector in sectors)
        total += written * ((SECTOR + 12 + 15) * 10 / baud + PAGE)
        total += len(data) / CRC_RATE + (13 + 11) * 10 / baud
    return total


def measure(slot: Slot, name: str, baud: int, pieces: list[tuple[int, bytes]]) -> Row:
    """One flasher, one speed, one write from a factory board."""
    slot = replace(slot, table=slot.table.model_copy(update={"baud": baud}))
    flasher = load_flasher(name)
    with use_slot(slot, holder="benchmark") as used:
        used.guard.allow_writes([(offset, len(data)) for offset, data in pieces])
        began = time.monotonic()
        flasher.write(used.link, pieces)
        if isinstance(flasher, NativeFlasher):
            assert flasher.verify(used.link, pieces).ok
        took = time.monotonic() - began
        wire = _wire_seconds(used)
        commands = len(used.tap.commands)
        flasher.close()
        judge = NativeFlasher()
        assert judge.verify(used.link, pieces).ok, f"{name} at {baud}: the flash differs"
        judge.close()
    return Row(name, baud, wire, took, floor(pieces, baud), commands)


def _wire_seconds(used: OpenSlot) -> float:
    commands = [command for command in used.tap.commands if command.reply_ns]
    return (commands[-1].reply_end_ns - commands[0].reply_ns) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description="Flash times beside the floor.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--flasher", action="append")
    parser.add_argument("--baud", action="append", type=int)
    parser.add_argument("--speed", type=float, default=1.0, help="of the simulated board; figures are for 1")
    options = parser.parse_args()
    data = read_image(options.image)
    plan = plan_write(data, options.image.name)
    pieces = [(p.flash_offset, data[p.source_offset : p.source_offset + p.length]) for p in plan.pieces]
    rows = []
    with open_bench(f"sim:1@{options.speed:g}") as bench:
        slot = bench.slot("A")
        for baud in options.baud or [115200, 921600]:
            for name in options.flasher or ["native", "ltchiptool==4.15.0"]:
                assert slot.table.change is not None
                subprocess.run(slot.table.change, check=True)  # a factory board, off
                rows.append(measure(slot, name, baud, pieces))
                sys.stderr.write(f"{rows[-1]}\n")
    sys.stdout.write(table(rows, options.image.name, len(data), options.speed))


def table(rows: list[Row], image: str, size: int, speed: float) -> str:
    lines = [
        f"{image}, {size} bytes, onto a factory board; simulated board at {speed:g} times real time.",
        f"Constants: {ERASE_4K * 1e3:g} ms per 4 KiB erase, {ERASE_64K * 1e3:g} ms per 64 KiB, {PAGE * 1e3:g} ms per "
        f"page, {CRC_RATE / 1e3:g} kB/s CRC, {WINDOW * 1e3:g} ms ROM window (before the wire's first answer).",
        "",
        "| baud | flasher | on the wire s | floor s | ratio to floor | whole operation s | commands |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.baud} | {row.flasher} | {row.wire_s:.1f} | {row.floor_s:.1f} | {row.wire_s / row.floor_s:.3f} "
        f"| {row.process_s:.1f} | {row.commands} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
