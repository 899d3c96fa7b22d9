"""What the wire tap costs: an unmodified ltchiptool at a simulated port, directly and through the tap, in pairs.

    python -m benchmarks.tap_cost [--repeats 3] [--sectors 64]

Each pair writes the same sectors at 921600 baud in real time; the chip is a process of its own, as a board is. The
time is the tool's own ("Finished in"), from before it links to its last reply. Then one write through the tap at
2000000: nothing may be lost, repeated or wrong there. A machine busy with other things makes times and losses of its
own (a terminal holds 4095 bytes, 20 ms at that speed): the least times are compared too, and the processor time that
the tap took. Exit code 1 if the median of the pairs rises by 3 % or more, or anything was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rig.flashers import environment_of
from rig.flashers.environment import Environment
from rig.flashers.process import Run, run_tool
from rig.sim.flash import NorFlash
from rig.uart.accounting import Accounting, account, table
from rig.uart.guard import Guard
from rig.uart.lines import environment
from rig.uart.tap import Tap
from tests.chip_on_wire import ChipOnWire

RELEASE = "ltchiptool==4.15.0"
AT, SECTOR = 0x11000, 0x1000
MOST = 0.03
_FINISHED = re.compile(r"Finished in ([\d.]+) s")


def _chip(pipe: Connection) -> None:
    """A ROM that always listens, in real time, in a process of its own."""
    with ChipOnWire(NorFlash(), speed=1.0) as chip:
        pipe.send(chip.path)
        for word, *more in iter(pipe.recv, None):
            if word == "restart":
                chip.switch(True)
                chip.flash.data[:] = bytes(len(chip.flash.data))  # to be erased: of blank sectors tools skip that
                pipe.send(None)
            else:
                start, length = more
                pipe.send((chip.flash.read(start, length), chip.wire.lost))


class Chip:
    """The other end of `_chip`."""

    def __init__(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=_chip, args=(theirs,), daemon=True)

    def __enter__(self) -> Chip:
        self._process.start()
        self.path: str = self._pipe.recv()
        return self

    def __exit__(self, *exc: object) -> None:
        self._pipe.send(None)
        self._process.join(5)

    def ask(self, *words: Any) -> Any:
        self._pipe.send(words)
        return self._pipe.recv()


def write(tool: Environment, port: str, data: bytes, baud: int, variables: dict[str, str]) -> tuple[float, str]:
    """(seconds by the tool's own clock, what it printed)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.bin"
        file.write_bytes(data)
        words = (
            "-v",
            "flash",
            "write",
            "-d",
            port,
            "-t",
            "3",
            "-b",
            str(baud),
            "-f",
            "bk7231n",
            "-s",
            hex(AT),
            str(file),
        )
        run = Run((str(tool.executable("ltchiptool")), *words))
        run_tool(
            run, folder=Path(folder), path=tool.bin, variables=variables, silence=20, limit=300, check=lambda: None
        )
    found = _FINISHED.search(run.output)
    if found is None:
        raise SystemExit(f"{RELEASE} failed:\n{run.output}")
    return float(found[1]), run.output


@contextlib.contextmanager
def tapped(chip: Chip, size: int) -> Iterator[Tap]:
    guard = Guard()
    guard.allow_writes([(AT, size)])
    with Tap(chip.path, guard) as tap:
        yield tap
        tap.check()
        if guard.refusals:
            raise SystemExit(f"the guard stopped {guard.refusals[-1]}")


def through(tool: Environment, chip: Chip, data: bytes, baud: int) -> tuple[float, str, Accounting]:
    chip.ask("restart")
    with tapped(chip, len(data)) as tap:
        seconds, said = write(tool, tap.path, data, baud, environment(tap.lines))
        return seconds, said, account(tap.commands)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What the wire tap costs.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sectors", type=int, default=64)
    options = parser.parse_args(words)
    tool, data = environment_of(RELEASE), random.Random(7).randbytes(options.sectors * SECTOR)
    rises: list[float] = []
    directs: list[float] = []
    taps: list[float] = []
    worked = 0.0
    with Chip() as chip:
        sys.stdout.write(
            f"{RELEASE}, {options.sectors} sectors, real time\n| direct s | tapped s | rise |\n|---|---|---|\n"
        )
        for _ in range(options.repeats):
            chip.ask("restart")
            direct, _ = write(tool, chip.path, data, 921600, {})
            began = time.process_time()
            with_tap, _, _ = through(tool, chip, data, 921600)
            worked += time.process_time() - began
            directs, taps = [*directs, direct], [*taps, with_tap]
            rises.append(with_tap / direct - 1)
            sys.stdout.write(f"| {direct:.3f} | {with_tap:.3f} | {rises[-1]:+.2%} |\n")
            sys.stdout.flush()
        rise = statistics.median(rises)
        before = chip.ask("look", AT, 1)[1]
        seconds, said, sums = through(tool, chip, data, 2_000_000)
        read, lost = chip.ask("look", AT, len(data))
    total = sums.total
    wrong = {
        "content": int(read != data),
        "bytes": lost - before,
        "retries": total.retries + said.count("retrying"),
        "answers": total.unanswered,
    }
    told = ", ".join(f"{count} {name}" for name, count in wrong.items() if count)
    least = min(taps) / min(directs) - 1
    sys.stdout.write(
        f"median rise {rise:+.2%} (n = {len(rises)}, under {MOST:.0%} wanted), least of each {least:+.2%}; "
        f"the tap's process worked {worked / len(taps):.3f} s a write\n\n"
    )
    sys.stdout.write(f"2000000 baud through the tap: {seconds:.3f} s, lost or repeated: {told or 'nothing'}\n")
    sys.stdout.write("\n".join(table(sums)) + "\n")
    return 0 if not told and rise < MOST else 1


if __name__ == "__main__":
    sys.exit(main())
