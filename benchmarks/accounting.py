"""Does the tap's accounting of an outside flasher tell the truth? One write by ltchiptool, through the tap, onto a
simulated board in real time.

    python -m benchmarks.accounting [--sectors 24] [--log FILE]

At 115200 baud, where a real board's log is known: what the tap accounts for, host and wire and chip and waits of
all commands, must add up within 2 % to the time by the tool's own clock, from when it begins to link to its last
reply; and a sector must take what it took on the real board, 0.398 s, within 10 %. Then at 2000000 baud: nothing may
be lost, repeated or wrong. Exit code 1 where one of these does not hold. Run it on a machine with nothing else to do:
a busy one makes host time and losses of its own.

The real board: a SmartLive DS-121 (CB3S), ltchiptool 4.11.2 at 115200, elektroda.com topic 4085447, post 1; `--log`
is a file of its lines, from which the seconds a sector are taken anew.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.flash import APP, SECTOR, change_board
from rig.bench.bench import Slot, open_bench
from rig.bench.slot import use_slot
from rig.flashers import environment_of
from rig.flashers.native import NativeFlasher
from rig.flashers.process import Run, run_tool
from rig.uart.accounting import Accounting, Share, account, shares, table
from rig.uart.lines import environment
from rig.uart.trace import Command

RELEASE = "ltchiptool==4.15.0"
REAL_S = 0.398  # a sector, from the lines of the real board's log
SUM_WITHIN, SECTOR_WITHIN = 0.02, 0.10
_TIMED = re.compile(r"^#*[A-Z] \[ *([\d.]+)\] \( ?\+?[\d.]+s\) (.*)")
_SECTOR = re.compile(r"Erasing and writing at 0x")
_LINKING, _DONE = "Linking: stage 0", "OK!"


@dataclass(frozen=True)
class Write:
    """One write: what the tool printed, what passed on the wire, whether the flash holds it afterwards."""

    lines: list[str]
    sums: Accounting
    whole_s: float  # by our clock, from before its process starts to after it ended
    commands: list[Command]
    right: bool

    @property
    def own_s(self) -> float:
        """Seconds by the tool's own clock, from when it begins to link to its last reply."""
        moments = {hit[2]: float(hit[1]) for line in self.lines if (hit := _TIMED.match(line))}
        if _LINKING not in moments or _DONE not in moments:
            raise SystemExit(f"{RELEASE} failed:\n" + "\n".join(self.lines))
        return moments[_DONE] - moments[_LINKING]


def write(slot: Slot, baud: int, sectors: int) -> Write:
    """`sectors` of random content onto a factory board, by the tool with its clock in front of each line (-t)."""
    change_board(slot)
    data = random.Random(baud).randbytes(sectors * SECTOR)
    tool = environment_of(RELEASE)
    with use_slot(slot, holder="benchmark") as used, tempfile.TemporaryDirectory() as folder:
        used.guard.allow_writes([(APP, len(data))])
        file = Path(folder) / "image.bin"
        file.write_bytes(data)
        words = ["-v", "-t", "flash", "write", "-d", used.link.path, "-t", "3", "-b", str(baud), "-f", "bk7231n"]
        run = Run((str(tool.executable("ltchiptool")), *words, "-s", hex(APP), str(file)))
        used.link.prepare()
        began = time.monotonic_ns()
        run_tool(
            run, folder=Path(folder), path=tool.bin, variables=environment(used.link.lines), silence=30, limit=600,
            check=used.link.check,
        )  # fmt: skip
        ended = time.monotonic_ns()
        commands = list(used.tap.commands)
        judge = NativeFlasher()
        right = judge.read(used.link, APP, len(data)).data == data
        judge.close()
    return Write(run.lines, account(commands, began, ended), (ended - began) / 1e9, commands, right)


def per_sector(commands: Sequence[Command]) -> list[list[Share]]:
    """The shares of all that was done to each sector, from its erase up to the next one's. The first sector is left
    out, where tools look whether erasing works, and the last, behind which they say goodbye."""
    found: list[list[Share]] = []
    for share in shares(commands):
        if share.command.name == "erase":
            found.append([])
        if found:
            found[-1].append(share)
    return found[1:-1]


def logged(lines: Sequence[str]) -> float:
    """Seconds a sector by the times in a log of ltchiptool; the first one is left out."""
    times = [float(hit[1]) for line in lines if (hit := _TIMED.match(line)) and _SECTOR.match(hit[2])][1:]
    if len(times) < 3:
        raise SystemExit("the log has too few lines of written sectors")
    return (times[-1] - times[0]) / (len(times) - 1)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Does the tap's accounting tell the truth?")
    parser.add_argument("--sectors", type=int, default=24)
    parser.add_argument("--log", type=Path, help="a real board's log of ltchiptool at 115200")
    options = parser.parse_args(words)
    real = logged(options.log.read_text(errors="replace").splitlines()) if options.log else REAL_S
    with open_bench("sim:1@1") as bench:
        (slot,) = bench.slots.values()
        slow = write(slot, 115200, options.sectors)
        fast = write(slot, 2_000_000, options.sectors)
    said = [f"{RELEASE} through the tap, {options.sectors} sectors, simulated board in real time", ""]
    said += ["115200 baud", *table(slow.sums), "", "2000000 baud", *table(fast.sums), ""]
    sys.stdout.write("\n".join(said) + "\n")
    checks = [*_sums_up(slow), _sector(slow, real), *_nothing_lost(fast)]
    for holds, text in checks:
        sys.stdout.write(f"{'holds' if holds else 'DOES NOT HOLD'}: {text}\n")
    return 0 if all(holds for holds, _ in checks) else 1


def _sums_up(found: Write) -> list[tuple[bool, str]]:
    accounted = found.sums.total.seconds
    apart = accounted / found.own_s - 1
    whole = found.sums.wall_s / found.whole_s - 1
    return [
        (
            abs(apart) <= SUM_WITHIN,
            f"accounted {accounted:.3f} s; from link to last reply by the tool's own clock {found.own_s:.3f} s: "
            f"{apart:+.2%}",
        ),
        (
            abs(whole) <= SUM_WITHIN,
            f"with its start and end {found.sums.wall_s:.3f} s; its process took {found.whole_s:.3f} s: {whole:+.2%}",
        ),
    ]


def _sector(found: Write, real: float) -> tuple[bool, str]:
    each = per_sector(found.commands)
    host, wire, chip, lost = (
        statistics.median(sum(getattr(share, name) for share in sector) for sector in each)
        for name in ("host_s", "wire_s", "chip_s", "lost_s")
    )
    took = statistics.median(
        sum(share.host_s + share.wire_s + share.chip_s + share.lost_s for share in sector) for sector in each
    )
    apart = took / real - 1
    text = (
        f"a sector takes {took:.4f} s (median of {len(each)}; host {host:.4f}, wire {wire:.4f}, chip {chip:.4f}, "
        f"lost {lost:.4f}; by the tool's own lines {logged(found.lines):.4f}), on the real board {real:.4f} s: "
        f"{apart:+.1%}"
    )
    return abs(apart) <= SECTOR_WITHIN, text


def _nothing_lost(found: Write) -> list[tuple[bool, str]]:
    total = found.sums.total
    retries = total.retries + sum("retrying" in line for line in found.lines)
    waiting = found.sums.row("link-check").unanswered
    return [
        (found.right, "at 2000000 baud the flash holds what was written, read back byte by byte"),
        (not retries, f"at 2000000 baud {retries} commands were repeated"),
        (total.unanswered <= waiting, f"at 2000000 baud {total.unanswered - waiting} commands had no answer"),
    ]


if __name__ == "__main__":
    sys.exit(main())
