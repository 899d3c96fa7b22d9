"""A study's matrix: what every release did at every task, with numbered reasons for what is not right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from reports.releases.safe import shown
from reports.releases.wire import told
from rig.releases.explain import bad_of, explained
from rig.releases.record import Record
from rig.releases.trial import GOOD, Task, Trial

NOT_MADE = "not made"
WORST = ("lies", "wrong", "crashes", "hangs", "not-installed", "absent", "correct", "refuses", "blocked")
BAD = ("lies", "wrong", "crashes", "hangs")  # the release's own fault
SYMBOLS = {
    "correct": "✓", "refuses": "✓ refuses", "wrong": "✗ wrong", "lies": "‼ lies", "hangs": "✗ hangs",
    "crashes": "✗ crashes", "absent": "– absent", "not-installed": "∅ not installed", "blocked": "? bench",
    NOT_MADE: "? not made",
}  # fmt: skip
MEANINGS = {
    "correct": "done, said so, and flash or file is as it has to be; or it failed where it has to, and said so",
    "refuses": "declined in words and touched nothing, where it may",
    "wrong": "failed where it has to work, or did what it must not",
    "lies": "says that it is done, and it is not",
    "hangs": "silent or busy beyond patience, ended by the rig",
    "crashes": "a traceback of a mistake of its own, or a signal",
    "absent": "this release has no such command or option",
    "not-installed": "could not be installed; no board was touched",
    "blocked": "the bench was to blame; counted nowhere",
    NOT_MADE: "no trial is on record",
}


@dataclass(frozen=True)
class Square:
    """One release at one task. `notes`: numbers of its reasons, in the grid's list. `outcome`: the worst one."""

    release: str
    task: Task
    counts: Counter[str]
    bad: list[Trial] = field(repr=False)
    notes: list[int]
    known: bool

    @property
    def outcome(self) -> str:
        return next((each for each in WORST if self.counts[each]), NOT_MADE)

    @property
    def state(self) -> str:
        """`green`, `red`, or `grey`: nothing can be said of the release."""
        if self.outcome in BAD:
            return "red"
        return "green" if self.outcome in GOOD else "grey"

    @property
    def text(self) -> str:
        """Symbol and word; how many of how many where they differ."""
        outcome = self.outcome
        total = sum(count for each, count in self.counts.items() if each != "blocked")
        some = f" {self.counts[outcome]}/{total}" if 0 < self.counts[outcome] < total and outcome in BAD else ""
        return SYMBOLS[outcome] + some


@dataclass(frozen=True)
class Row:
    """A task over all releases. `title`: the operation, and the condition where it is not the usual one."""

    task: Task
    title: str
    what: str
    group: str
    squares: list[Square]

    @property
    def green(self) -> bool:
        return all(square.state == "green" for square in self.squares)

    @property
    def made(self) -> bool:
        """Whether any release was tried at it."""
        return any(square.outcome != NOT_MADE for square in self.squares)


@dataclass(frozen=True)
class Note:
    """A reason that cells refer to. `known`: from the list of reasons, else what the trial and its wire show."""

    number: int
    text: str
    known: bool
    where: list[tuple[str, str]]


@dataclass(frozen=True)
class Grid:
    releases: list[str]
    rows: list[Row]
    notes: list[Note]

    @property
    def squares(self) -> Iterator[Square]:
        return (square for row in self.rows for square in row.squares)

    @property
    def unexplained(self) -> list[Square]:
        """Not green, and no known reason."""
        return [each for each in self.squares if each.outcome in (*BAD, "absent", "not-installed") and not each.known]


def grid(record: Record, trials: Sequence[Trial]) -> Grid:
    """The whole matrix: tasks and releases that the study asks for, whether or not a trial was made."""
    tasks = list(dict.fromkeys([spec.task for spec in record.schedule] + [trial.task for trial in trials]))
    releases = list(dict.fromkeys([*record.study.titles, *(trial.release for trial in trials)]))
    several = len({task.baud for task in tasks if task.operation not in _own_speed(tasks)}) > 1
    notes = _Notes()
    by_cell = cells(trials)
    rows = []
    for task in tasks:
        title = title_of(record, task, several)
        squares = [_square(release, task, by_cell.get((release, task), []), title, notes) for release in releases]
        described = record.operation(task.operation)
        under = record.condition(task.condition)
        what = described.what if task.condition == "normal" else f"{described.what}; {under.title}: {under.what}"
        rows.append(Row(task, title, shown(what), described.group, squares))
    return Grid([shown(each) for each in releases], rows, notes.all)


def cells(trials: Sequence[Trial]) -> dict[tuple[str, Task], list[Trial]]:
    """By release and task."""
    found: dict[tuple[str, Task], list[Trial]] = {}
    for trial in trials:
        found.setdefault((trial.release, trial.task), []).append(trial)
    return found


def title_of(record: Record, task: Task, several_speeds: bool = False) -> str:
    title = record.operation(task.operation).title
    if task.condition != "normal":
        title += f", {record.condition(task.condition).title}"
    if several_speeds:
        title += f", {task.baud} baud"
    return shown(title)


def _own_speed(tasks: Sequence[Task]) -> set[str]:
    """Operations that are asked at one speed only."""
    speeds: dict[str, set[int]] = {}
    for task in tasks:
        speeds.setdefault(task.operation, set()).add(task.baud)
    return {operation for operation, found in speeds.items() if len(found) == 1}


def _square(release: str, task: Task, mine: Sequence[Trial], title: str, notes: _Notes) -> Square:
    place = _Place(release, task)
    bad = bad_of(place, mine)
    reasons = explained(place, mine)
    numbers = [notes.number(shown(each), True, shown(release), title) for each in reasons]
    if bad and not reasons:
        numbers = [notes.number(_seen(bad[0]), False, shown(release), title)]
    counts = Counter(str(trial.outcome) for trial in mine)
    return Square(shown(release), task, counts, bad, numbers, bool(reasons))


def _seen(trial: Trial) -> str:
    """What one trial shows, where no reason is known."""
    if trial.outcome == "absent":
        return shown(trial.why)
    return f"{shown(trial.why)}. On the wire: {told(trial)}"


@dataclass(frozen=True)
class _Place:
    release: str
    task: Task


class _Notes:
    """Reasons in the order they come up, each once."""

    def __init__(self) -> None:
        self._found: dict[str, Note] = {}

    def number(self, text: str, known: bool, release: str, title: str) -> int:
        note = self._found.setdefault(text, Note(len(self._found) + 1, text, known, []))
        note.where.append((release, title))
        return note.number

    @property
    def all(self) -> list[Note]:
        return list(self._found.values())
