"""A unit's volts and amps as they were sampled: power.csv, columns mono_ns, volts, amps, mode.

The file is not synced while it is written: its last line may be torn, and a torn number still reads as a number,
so a line without its newline is dropped whatever it holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rig.errors import UsageProblem
from rig.records.events import Event, Outcome, PhaseEnded, PhaseStarted

HEADER = ["mono_ns", "volts", "amps", "mode"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PowerTrace:
    """Samples in time. `volts`, `amps` are NaN where the supply did not say; `skipped` lines made no sense."""

    mono_ns: npt.NDArray[np.int64]
    volts: Floats
    amps: Floats
    modes: list[str]
    skipped: int

    def __len__(self) -> int:
        return len(self.mono_ns)


@dataclass(frozen=True)
class Span:
    """A step's stretch of time, monotonic nanoseconds of the same clock as the samples."""

    name: str
    start_ns: int
    end_ns: int
    outcome: Outcome | None = None


def read_power(path: Path) -> PowerTrace:
    """Raises UsageProblem when the file cannot be read or is no power trace."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageProblem(f"The power trace {path} cannot be read: {error.strerror}.") from error
    lines = raw.decode(errors="replace").split("\n")[:-1]  # what follows the last newline is torn
    if lines and [cell.strip() for cell in lines[0].split(",")] != HEADER:
        raise UsageProblem(f"{path} is not a power trace: its first line is not {','.join(HEADER)}.")
    rows = [_row(line) for line in lines[1:]]
    good = sorted((row for row in rows if row is not None), key=lambda row: row[0])
    return PowerTrace(
        mono_ns=np.array([row[0] for row in good], dtype=np.int64),
        volts=np.array([row[1] for row in good], dtype=np.float64),
        amps=np.array([row[2] for row in good], dtype=np.float64),
        modes=[row[3] for row in good],
        skipped=sum(row is None for row in rows),
    )


def spans_of(events: Sequence[Event], unit: str, attempt: int) -> list[Span]:
    """The steps of one attempt, as the journal has them. A step that never ended has no span."""
    begun: dict[str, int] = {}
    spans: list[Span] = []
    for event in events:
        if not isinstance(event, PhaseStarted | PhaseEnded) or (event.unit, event.attempt) != (unit, attempt):
            continue
        if isinstance(event, PhaseStarted):
            begun[event.phase] = event.mono_ns
        elif event.phase in begun:
            spans.append(Span(event.phase, begun.pop(event.phase), event.mono_ns, event.outcome))
    return spans


def thin(values: Floats, most: int) -> npt.NDArray[np.int64]:
    """Which samples to draw so that no peak or dip is lost: the lowest and highest of each of `most`/2 groups."""
    count = len(values)
    if count <= most:
        return np.arange(count)
    keep: set[int] = {0, count - 1}
    for group in np.array_split(np.arange(count), most // 2):
        piece = values[group]
        if np.isnan(piece).all():
            keep.add(int(group[0]))
            continue
        keep |= {int(group[np.nanargmin(piece)]), int(group[np.nanargmax(piece)])}
        keep |= {int(each) for each in group[np.isnan(piece)][:1]}  # a gap stays a gap
    return np.array(sorted(keep))


def _row(line: str) -> tuple[int, float, float, str] | None:
    cells = line.split(",")
    if len(cells) != len(HEADER):
        return None
    try:
        when = int(cells[0])
        return (when, _number(cells[1]), _number(cells[2]), cells[3].strip()) if abs(when) < 2**63 else None
    except ValueError:
        return None


def _number(cell: str) -> float:
    value = float(cell) if cell.strip() else math.nan
    return value if math.isfinite(value) else math.nan
