"""The line as the page shows it: a tile a slot, made of what is live and of what the journal holds.

What is live says where a unit is; what became of it is the journal's. Where the station is gone, the journal alone
is shown, so that nothing seems to run that does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rig.codes import CODES
from rig.panel.book import Attempt, Numbers, Step
from rig.panel.live import LivePrompt, LiveSlot
from rig.panel.logs import last_lines, secrets_of
from rig.panel.plot import Power, power_of
from rig.panel.runs import RunView
from rig.records.events import Outcome

LOG_LINES = 4
HISTORY = 12  # attempts on the line's own page

WORDS = {
    "pass": "PASS", "marginal": "PASS", "fail": "FAIL", "blocked": "BLOCKED", "aborted": "ABORTED",
    "unverified": "UNVERIFIED",
}  # fmt: skip
MEANT = {
    "pass": "The board is good.",
    "marginal": "The board is good; a number is inside its warning band.",
    "fail": "The board is bad.",
    "blocked": "The bench is to blame, not the board.",
    "aborted": "A person stopped it.",
    "unverified": "It was cut off while it was written: this unit comes first when the run is resumed.",
}
STATES = {
    "idle": "Idle", "waiting-scan": "Waiting for a scan", "loading": "Put the board in", "running": "Running",
    "latched": "Done", "out": "Out of use",
}  # fmt: skip


@dataclass
class Tile:
    """One slot. `outcome` is set while it is latched."""

    name: str
    state: str
    unit: str | None = None
    attempt: int | None = None
    task: str | None = None
    golden: bool = False
    step: str | None = None
    what: str | None = None
    done: int | None = None
    total: int | None = None
    outcome: Outcome | None = None
    code: str | None = None
    sentence: str | None = None
    supply_off: bool | None = None
    since_s: int | None = None
    writing: bool = False
    number: int | None = None  # of the attempt in the journal: its page
    steps: list[Step] = field(default_factory=list)
    power: Power | None = None
    log: list[str] = field(default_factory=list)

    @property
    def word(self) -> str:
        return WORDS[self.outcome] if self.outcome else STATES[self.state]

    @property
    def action(self) -> str:
        return CODES[self.code].action if self.code in CODES else ""

    @property
    def meant(self) -> str:
        return MEANT[self.outcome] if self.outcome else ""

    @property
    def percent(self) -> int | None:
        if not self.total or self.done is None:
            return None
        return min(100 * self.done // self.total, 100)


@dataclass
class Line:
    """All that the page shows of one run. `at_work`: its station is there and takes commands."""

    run: RunView
    at_work: bool
    state: str
    why: str | None
    tiles: list[Tile]
    prompts: list[LivePrompt]
    counters: dict[str, int]
    remaining: int | None  # None: open, or nobody knows
    open: bool  # units come as they are scanned, as many as come
    total: int | None
    numbers: Numbers
    history: list[Attempt]
    operator: str | None
    mains: bool
    said: str  # the newest result, for those who do not see the tiles

    @property
    def gone(self) -> bool:
        """The run has no end and no station: it can be resumed."""
        return not self.at_work and self.run.book.ended is None

    @property
    def shape(self) -> str:
        """Another one, and the page is built anew."""
        return "|".join([self.run.id, *(tile.name for tile in self.tiles)])


def line_of(run: RunView) -> Line:
    """The line of a run as of its last refresh."""
    live, book = run.live, run.book
    at_work = run.alive and live is not None and live.state != "ended"
    tiles = list(_tiles(run, at_work))
    tally = book.tally()
    given = {name: count for name, count in live.counters.items() if count is not None} if live else {}
    counted = {name: given.get(name, 0) if at_work else tally[name] for name in (*WORDS, "running")}
    units = book.started.job.get("units") if book.started else None
    total = live.units_total if live else len(units) if isinstance(units, list) and units else None
    remaining = given.get("remaining") if live else None
    if remaining is None and total is not None:
        remaining = max(total - sum(counted.values()), 0)
    return Line(
        run=run,
        at_work=at_work,
        state=live.state if at_work and live else "ended" if book.ended else "gone",
        why=live.why if live and at_work else None,
        tiles=tiles,
        prompts=live.prompts if live and at_work else [],
        counters=counted,
        remaining=remaining,
        open=bool(at_work and live and live.scanned and live.units_total is None),
        total=total,
        numbers=book.numbers(),
        history=book.attempts[: -HISTORY - 1 : -1],
        operator=(live.operator if live else None) or (book.started.operator if book.started else None),
        mains=bool(live and live.mains),
        said=_newest(run),
    )


def _newest(run: RunView) -> str:
    ended = [each for each in run.book.attempts if each.outcome is not None and each.ended is not None]
    if not ended:
        return ""
    last = max(ended, key=lambda each: each.end_ns or 0)
    outcome = str(last.outcome)
    return f"Slot {last.slot}, unit {last.unit}: {WORDS[outcome]}. {last.sentence or MEANT[outcome]}"


def _tiles(run: RunView, at_work: bool) -> Iterator[Tile]:
    live = run.live
    slots: dict[str, LiveSlot] = dict(live.slots) if live else {}
    for attempt in run.book.attempts:
        slots.setdefault(attempt.slot, LiveSlot(state="latched"))
    for name, slot in sorted(slots.items()):
        yield _running(run, name, slot) if at_work else _as_left(run, name, slot)


def _running(run: RunView, name: str, slot: LiveSlot) -> Tile:
    ended = slot.state == "running" and slot.outcome in WORDS  # its process puts things away, the result stands
    tile = Tile(name, "latched" if ended else slot.state, slot.unit, slot.attempt, slot.task, slot.role == "golden")
    shows_last = tile.state in ("latched", "out")
    mine = run.book.find(slot.unit, slot.attempt) if slot.unit and slot.attempt else None
    if mine is None and shows_last:
        mine = run.book.latest(name)
    if slot.since_utc is not None and tile.state in ("running", "loading"):
        tile.since_s = max(int((datetime.now(UTC) - _aware(slot.since_utc)).total_seconds()), 0)
    if tile.state == "running":
        tile.step, tile.what, tile.done, tile.total = slot.phase, slot.what, slot.done, slot.total
    if shows_last:
        tile.outcome = Outcome(slot.outcome) if slot.outcome in WORDS else None
        tile.code, tile.sentence = slot.code, slot.sentence
    _add_record(tile, run, mine)
    return tile


def _as_left(run: RunView, name: str, slot: LiveSlot) -> Tile:
    mine = run.book.latest(name)
    tile = Tile(name, "latched" if mine else "idle", slot.unit if mine is None else None)
    if slot.state == "out":
        tile.state = "out"
        tile.sentence = slot.sentence
    _add_record(tile, run, mine)
    return tile


def _add_record(tile: Tile, run: RunView, mine: Attempt | None) -> None:
    """What the journal and the side files know of the attempt in this tile."""
    if mine is None:
        return
    tile.unit, tile.attempt, tile.task = tile.unit or mine.unit, tile.attempt or mine.attempt, tile.task or mine.task
    tile.number, tile.writing, tile.golden = mine.number, mine.writing, tile.golden or mine.role == "golden"
    tile.steps, tile.supply_off = mine.steps, mine.supply_off
    if tile.state in ("latched", "out") and mine.unit == tile.unit and mine.attempt == tile.attempt:
        code, sentence = run.book.trouble_of(mine)
        tile.outcome = tile.outcome or run.book.outcome_of(mine)
        tile.code, tile.sentence = tile.code or code, tile.sentence or sentence
    folder = run.folder_of(mine)
    tile.log = last_lines(folder, secrets_of(run.book.started), LOG_LINES)
    tile.power = power_of(folder / "power.csv")


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
