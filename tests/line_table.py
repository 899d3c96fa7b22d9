"""A simulated bench with a box of boards beside it, ready for a batch; and what a batch left behind."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.bench.bench import read_bench
from rig.records import events
from rig.records.journal import read_journal
from rig.records.run import RunFolder, latest
from tests.line_faults import Box, Kind, plan
from tests.sim_process import RIG, SimProcess, environment

BATCH = """
[batch]
name = "acceptance"
product = "ds-121"
plan = "convert"
image = "{image}"
already_passed = "retest"

[serials]
source = "pattern"
pattern = "SN{{:03d}}"
count = {units}

[quarantine]
blocked_in_a_row = 1000
"""


@dataclass(frozen=True)
class Line:
    """What a batch left behind."""

    exit_code: int
    said: str
    run: RunFolder
    found: Sequence[events.Event]
    box: Box
    image: bytes

    def ended(self) -> dict[str, events.UnitEnded]:
        """The last end of each unit."""
        return {event.unit: event for event in self.found if isinstance(event, events.UnitEnded)}

    def holds_the_image(self, unit: str) -> bool:
        return holds(self.box.flash_of(unit).read_bytes(), self.image, self.found, unit)


def holds(flash: bytes, image: bytes, found: Sequence[events.Event], unit: str) -> bool:
    """Whether the board's flash has what was planned for it last. Pieces that were made for this very board
    (calibration, configuration) are not compared."""
    plans = [event for event in found if isinstance(event, events.Planned) and event.unit == unit]
    return bool(plans) and all(
        flash[piece.flash_offset : piece.flash_offset + piece.length]
        == image[piece.source_offset : piece.source_offset + piece.length]
        for piece in plans[-1].pieces
        if piece.source_offset is not None
    )


@contextlib.contextmanager
def laid_table(
    folder: Path, kinds: Sequence[Kind], *, units: int, slots: int, seed: int, speed: float
) -> Iterator[Table]:
    """A bench of `slots`, a DP832 each (its dialect knows of a slow meter), with a box of boards beside it and each
    of `kinds` planted among them."""
    options = ["--boards", str(slots), "--boards-per-supply", "1", "--speed", f"{speed:g}", "--seed", str(seed)]
    options += ["--supply", "rigol-dp832"]
    names = [f"SN{number:03d}" for number in range(1, units + 1)]
    with SimProcess(folder, *options) as bench:
        box = Box.filled(folder / "box", bench.control, plan(names, kinds, seed, slots))
        bench.bench_file.write_text(box.as_change(bench.bench_file.read_text()))
        opened = read_bench(bench.bench_file)
        assert opened.image is not None
        (folder / "line.toml").write_text(BATCH.format(image=opened.image, units=units))
        for slot, unit in zip(opened.slots, names, strict=False):
            box.put_in(slot, unit)
        yield Table(folder, bench, box, list(opened.slots), opened.image)


@dataclass(frozen=True)
class Table:
    """Bench and box, ready for a batch."""

    folder: Path
    bench: SimProcess
    box: Box
    slots: list[str]
    image: Path

    def convert(self, *words: str) -> subprocess.Popen[str]:
        """`rig convert`, under way; it says what it says to a file."""
        with (self.folder / "said.txt").open("a") as said:
            return subprocess.Popen(
                [*RIG, "convert", *words],
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def begin(self) -> subprocess.Popen[str]:
        bench = str(self.bench.bench_file)
        return self.convert("--no-report", "--bench", bench, "--batch", "line.toml", "--backup", "full")

    def order(self, **command: Any) -> dict[str, Any]:
        """What a person orders from the station, by its control socket."""
        (live,) = self.folder.glob("runs/*/live.json")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(json.loads(live.read_text())["control"])
            connection.sendall(json.dumps(command).encode() + b"\n")
            answer: dict[str, Any] = json.loads(connection.makefile("rb").readline())
        return answer

    def journal(self) -> list[events.Event]:
        """What is on record so far."""
        journals = list(self.folder.glob("runs/*/journal.jsonl"))
        return read_journal(journals[0])[0] if journals else []

    def holds_the_image(self, unit: str, found: Sequence[events.Event]) -> bool:
        """Of a board as it was looked at last."""
        return holds(self.box.flash_of(unit).read_bytes(), self.image.read_bytes(), found, unit)

    def over(self, exit_code: int) -> Line:
        """The batch is over: what it left, the boards still in their slots included."""
        for slot in self.slots:
            self.box.keep(slot)
            assert not self.bench.status(slot)["on"], f"slot {slot} is on"
        run = latest(self.folder / "runs")
        found, torn = read_journal(run.journal)
        assert torn is None
        said = (self.folder / "said.txt").read_text()
        return Line(exit_code, said, run, found, self.box, self.image.read_bytes())
