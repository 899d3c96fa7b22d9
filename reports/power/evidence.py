"""What each class of outcome looks like: the log and the wire of its first trial, as they may be shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reports.power import names
from reports.power.gathered import Gathered, Run
from reports.releases import wire
from reports.releases.safe import shown
from reports.text import shown_log
from rig.power.trial import AFTERWARDS, Trial

_HEAD, _TAIL = 8, 32  # lines of a log
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST = 200  # characters of a line
_MOST_BYTES = 4_000_000  # of a log that is read


@dataclass(frozen=True)
class Example:
    """`log`, `trace`: lines as they are shown, [] where none is kept; the files are named beside them."""

    kind: str
    run: Run
    trial: Trial
    log: list[str]
    trace: list[str]

    @property
    def title(self) -> str:
        cell = self.trial.cell
        said = names.place(cell)
        if cell.x:
            said += ", " + ", ".join(names.amount(name, value) for name, value in cell.x.items())
        return said


def examples(told: Gathered) -> list[Example]:
    """Of each class that came up its first trial with a log or a trace, else its first; the worst class first."""
    return [each for kind in reversed(names.KINDS) if (each := _of(told, kind)) is not None]


def _of(told: Gathered, kind: str) -> Example | None:
    every = [(run, trial) for run in told.runs for trial in run.trials if trial.outcome == kind and not trial.missed]
    mine = [(run, trial) for run, trial in every if not trial.reference] or every
    made: Iterator[Example] = (Example(kind, run, trial, *_kept(run, trial)) for run, trial in mine[:20])
    first: Example | None = None
    for each in made:
        if each.log or each.trace:
            return each
        first = first or each
    return first


def _kept(run: Run, trial: Trial) -> tuple[list[str], list[str]]:
    return log_lines(run.folder, trial.log), wire.lines_of(run.folder, trial.trace)


def log_lines(run: Path, name: str | None) -> list[str]:
    """How a log began and how it ended, as it may be shown; [] where none is kept, or it cannot be read."""
    text, afterwards = activity_of(text_of(run, name))
    lines = [shown(_COLOUR.sub("", line))[:_LONGEST] for line in shown_log(text).split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    dropped = len(lines) - _HEAD - _TAIL
    found = [*lines[:_HEAD], f"… {dropped} lines …", *lines[-_TAIL:]] if dropped > 1 else lines
    later = afterwards.count("\n")
    return [*found, f"… afterwards, at its own supply: {later} more …"] if later else found


def activity_of(text: str) -> tuple[str, str]:
    """(what a kept log has of the trial itself, what it has of the looks afterwards): how a board that was put right
    boots says nothing of what had become of it. Logs of an earlier rig do not tell these apart."""
    lines = text.splitlines(keepends=True)
    at = next((n for n, line in enumerate(lines) if line.rstrip().endswith(AFTERWARDS)), len(lines))
    return "".join(lines[:at]), "".join(lines[at + 1 :])


def text_of(run: Path, name: str | None) -> str:
    """A kept log as it is, secrets and all; "" where there is none. Only files in the run's folder are read."""
    if name is None:
        return ""
    path = (run / name).resolve()
    if not path.is_relative_to(run.resolve()):
        return ""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
