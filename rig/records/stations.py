"""All stations that share a database, as it knows them: when each was last heard, its batch, counts and yield."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rig.records.events import Outcome

if TYPE_CHECKING:
    from sqlalchemy import Connection

SILENT_S = 30.0  # a station at work that was not heard for so long is cut off, or dead


@dataclass(frozen=True)
class Standing:
    """One station. `run`: its newest by the database; `counts`: that run's units by the outcome of their last
    attempt, `running` among them; `first`: units that were good at their first attempt, of those that were judged;
    `heard_s`: how long ago, by the database's clock."""

    station: str
    run: str | None
    batch: str | None
    bench: str | None
    product: str | None
    simulated: bool
    started: datetime | None
    ended: datetime | None
    heard_s: float | None
    counts: dict[str, int] = field(default_factory=dict)
    first: tuple[int, int] = (0, 0)

    @property
    def state(self) -> str:
        if self.run is None or self.started is None:
            return "nothing yet"
        if self.ended is not None:
            return "over"
        if self.heard_s is None or self.heard_s > SILENT_S:
            return "not heard"
        return "at work"


def heard(connection: Connection, station: str, run: str | None) -> None:
    """A station is there, and at work on this run (None: on none)."""
    import sqlalchemy as sa

    from rig.records.models import Base

    table = Base.metadata.tables["stations"]
    now = _now(connection)
    told = {"heard": now, "run": run}
    if not connection.execute(sa.update(table).where(table.c.station == station), told).rowcount:
        connection.execute(sa.insert(table), told | {"station": station})


def standings(connection: Connection) -> list[Standing]:
    """Every station that is on record, by name."""
    import sqlalchemy as sa

    from rig.records.models import Run, StationRow

    now = _now(connection)
    runs = Run.__table__
    latest = (
        sa.select(runs.c.station, sa.func.max(runs.c.started).label("started")).group_by(runs.c.station).subquery()
    )
    newest = sa.select(runs).join(
        latest, sa.and_(runs.c.station == latest.c.station, runs.c.started == latest.c.started)
    )
    by_station: dict[str, Any] = {row.station: row for row in connection.execute(newest) if row.station is not None}
    beats = {row.station: row.heard for row in connection.execute(sa.select(StationRow.__table__))}
    found = []
    for name in sorted({*by_station, *beats}):
        row, beat = by_station.get(name), beats.get(name)
        age = None if beat is None else max(0.0, (now - beat).total_seconds())
        if row is None:
            found.append(Standing(name, None, None, None, None, False, None, None, age))
            continue
        counts, first = _counted(connection, row.run, len(row.tasks))
        found.append(
            Standing(
                name,
                row.run,
                row.batch,
                row.bench,
                row.product,
                bool(row.simulated),
                row.started,
                row.ended,
                age,
                counts,
                first,
            )
        )
    return found


def _counted(connection: Connection, run: str, stages: int) -> tuple[dict[str, int], tuple[int, int]]:
    import sqlalchemy as sa

    from rig.records.models import Attempt

    table = Attempt.__table__
    query = sa.select(table.c.unit, table.c.outcome, table.c.task).where(table.c.run == run, table.c.role == "unit")
    units: dict[str, list[str | None]] = {}
    for unit, outcome, _ in connection.execute(query.order_by(table.c.line)):
        units.setdefault(unit, []).append(outcome)
    counts = {each.value: 0 for each in Outcome} | {"running": 0}
    for outcomes in units.values():
        counts[outcomes[-1] or "running"] += 1
    return counts, _first_pass(list(units.values()), stages)


def _first_pass(units: Sequence[list[str | None]], stages: int) -> tuple[int, int]:
    """Units whose first way through all stages was good, of those that were judged."""
    judged = [[Outcome(each) for each in outcomes if each and Outcome(each).counted] for outcomes in units]
    judged = [outcomes for outcomes in judged if outcomes]
    return sum(1 for outcomes in judged if all(each.good for each in outcomes[: max(1, stages)])), len(judged)


def _now(connection: Connection) -> datetime:
    import sqlalchemy as sa

    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    moment: datetime = connection.execute(sa.select(sa.func.now())).scalar_one()
    return moment
