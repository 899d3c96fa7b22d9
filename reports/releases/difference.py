"""What changed between two runs of a study: the same release at the same task, then and now.

Two runs are no pairs: other boards, another day. An outcome that changed is told with its counts, a time with both
medians and without a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from reports.releases.grid import Grid, Row, Square, cells
from reports.releases.safe import shown
from rig.releases.record import Record
from rig.releases.trial import Task, Trial

_NOTABLE = 0.05  # of a median, to be told


@dataclass(frozen=True)
class Changed:
    """A square that is not what it was. `better`: it was red and is green now; False the other way round."""

    release: str
    title: str
    was: str
    now: str
    better: bool | None


@dataclass(frozen=True)
class Slower:
    """Medians of a timed task, seconds; how many trials each."""

    release: str
    title: str
    was_s: float
    now_s: float
    was_n: int
    now_n: int

    @property
    def ratio(self) -> float:
        return self.now_s / self.was_s


@dataclass(frozen=True)
class Difference:
    """`same`: squares that are what they were. `remarks`: what makes the two runs differ but for the releases."""

    run: str
    utc: str
    changed: list[Changed]
    times: list[Slower]
    same: int
    remarks: list[str]

    @property
    def worse(self) -> list[Changed]:
        return [each for each in self.changed if each.better is False]


def difference(
    record: Record, trials: Sequence[Trial], now: Grid, earlier: Record, before: Sequence[Trial], was: Grid
) -> Difference:
    """From the run `earlier` to the run `record`."""
    old = {_key(row, square): square for row in was.rows for square in row.squares if square.state != "grey"}
    new_s, old_s = _seconds(trials), _seconds(before)
    changed, times, same = [], [], 0
    for row in now.rows:
        for square in row.squares:
            before_it = old.get(_key(row, square))
            if before_it is None or square.state == "grey":
                continue
            if before_it.outcome == square.outcome:
                same += 1
            else:
                better = _better(before_it, square)
                changed.append(Changed(square.release, row.title, before_it.text, square.text, better))
            times += _times(row, square, new_s, old_s)
    return Difference(earlier.id, earlier.utc, changed, times, same, _remarks(record, earlier))


def _key(row: Row, square: Square) -> tuple[object, ...]:
    return square.release, row.task


def _better(was: Square, now: Square) -> bool | None:
    return None if was.state == now.state else now.state == "green"


def _seconds(trials: Sequence[Trial]) -> dict[tuple[str, Task], list[float]]:
    """Of timed trials that went well, by release and task."""
    return {
        (shown(release), task): [trial.seconds for trial in found if trial.outcome == "correct"]
        for (release, task), found in cells(trials).items()
        if task.timed
    }


def _times(
    row: Row, square: Square, after: dict[tuple[str, Task], list[float]], before: dict[tuple[str, Task], list[float]]
) -> list[Slower]:
    key = (square.release, row.task)
    new, old = after.get(key, []), before.get(key, [])
    if not new or not old or median(old) <= 0:
        return []
    found = Slower(square.release, row.title, median(old), median(new), len(old), len(new))
    return [found] if abs(found.ratio - 1) >= _NOTABLE else []


def _remarks(record: Record, earlier: Record) -> list[str]:
    found = []
    if record.bench.get("simulated") != earlier.bench.get("simulated"):
        found.append("one of the two runs is simulated and the other is not: their times do not compare")
    if record.rig.get("machine") != earlier.rig.get("machine"):
        found.append("the two runs were made on different machines: their times do not compare")
    if record.images != earlier.images:
        found.append("other images were written")
    was = {each.title: each for each in earlier.installed}
    for each in record.installed:
        other = was.get(each.title)
        if other is not None and other.problem is None and each.problem is None and other.sha256 != each.sha256:
            found.append(f"{shown(each.title)} is not the same files as then")
    gone = [each.title for each in earlier.installed if each.title not in {one.title for one in record.installed}]
    if gone:
        found.append("only then: " + ", ".join(map(shown, gone)))
    new = [each.title for each in record.installed if each.title not in was]
    if new:
        found.append("only now: " + ", ".join(map(shown, new)))
    return found
