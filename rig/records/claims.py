"""Whose a unit is, where several stations share a database: decided there, by one row a unit, before it is begun.

A unit is of a product and of what is done to it (the task of its last stage); at work it is at one station, whatever
is done there. A claim without an outcome is a unit at
work, or about to be; with one it is what became of it. Claims are taken before a journal says anything, and follow
the journals from then on (`settle`), those too that were begun while the database was away. Running numbers (1, 2, 3)
name no board and are never claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rig.records.events import Outcome
from rig.records.layout import alone
from rig.records.rows import Row, Rows

if TYPE_CHECKING:
    from sqlalchemy import Connection

_SAMPLED = "burn-in"  # what a unit may get after its last stage
_LOST_S = 3600.0  # an attempt whose end never came is not thought to have gone on for longer
_AT_ONCE = 500  # units in one statement


@dataclass(frozen=True)
class Claimant:
    """A run, and for what it wants units. `refuse`: none that passed before."""

    run: str
    station: str
    product: str
    task: str
    batch: str | None = None
    refuse: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether a unit is the claimant's. Else `rule`, as in the event `unit-refused`, and a sentence that names the
    run that has it or had it."""

    unit: str
    ours: bool
    rule: str = ""
    sentence: str = ""
    begun: bool = True  # False: it was taken beforehand, and its board may not have been touched yet


@dataclass(frozen=True)
class Conflict:
    """One serial number that two stations worked on though only one should have."""

    unit: str
    run: str
    other: str
    sentence: str


def take(
    connection: Connection,
    who: Claimant,
    units: Sequence[str],
    *,
    most: int | None = None,
    dead: Callable[[str], bool] = lambda run: False,
) -> dict[str, Verdict]:
    """Claim these units, in this order, until `most` are ours; a verdict on each that was looked at.

    A unit that another run has is refused, one that it passed too if `who` says so. `dead`: whether a run (of this
    station) is known to be nobody's any more. What a run that has ended left is free.
    """
    import sqlalchemy as sa

    table, runs = _table("claims"), _table("runs")
    _alone(connection, who.product)
    now = _now(connection)
    found: dict[str, Verdict] = {}
    got = 0
    for some in _by(units, _AT_ONCE):
        every = _of(connection, who.product, some)
        mine = {row.unit: row for row in every if row.task == who.task}
        held: dict[str, Any] = {row.unit: row for row in every if row.run != who.run and row.outcome is None}
        holders = {row.run for row in held.values()}
        over = set(
            connection.scalars(sa.select(runs.c.run).where(runs.c.run.in_(holders), runs.c.ended.is_not(None)))
        )
        passed = _passed(connection, who, some) if who.refuse else {}
        begun = _begun(connection, held)
        for unit in some:
            if most is not None and got >= most:
                return found
            row, holder = mine.get(unit), held.get(unit)
            if holder is not None and holder.run not in over and not dead(holder.run):
                what = "in work" if unit in begun else "taken"
                sentence = f"{unit} is {what} {_where(holder)}"
                found[unit] = Verdict(unit, False, "in-work", sentence, unit in begun)
                continue
            if unit in passed:
                found[unit] = Verdict(unit, False, "already-passed", passed[unit])
                continue
            here = (table.c.product == who.product) & (table.c.task == who.task) & (table.c.unit == unit)
            told = {"run": who.run, "station": who.station, "batch": who.batch, "outcome": None, "ended": None}
            if row is None:
                key = {"product": who.product, "task": who.task, "unit": unit}
                connection.execute(table.insert(), key | told | {"since": now})
            elif row.run != who.run or row.outcome is not None:
                connection.execute(table.update().where(here), told | {"since": now})
            found[unit] = Verdict(unit, True)
            got += 1
    return found


def give_back(connection: Connection, run: str, units: Iterable[str]) -> int:
    """Units that a run claimed and did not begin; how many were let go."""
    table, count = _table("claims"), 0
    for some in _by(list(units), _AT_ONCE):
        gone = table.delete().where(table.c.run == run, table.c.unit.in_(some), table.c.outcome.is_(None))
        count += connection.execute(gone).rowcount
    return count


def release(connection: Connection, unit: str) -> list[Row]:
    """By a person's word: a unit that is at work by the records, and is not. The claims that were let go."""
    import sqlalchemy as sa

    table = _table("claims")
    where = (table.c.unit == unit) & table.c.outcome.is_(None)
    rows = [dict(row) for row in connection.execute(sa.select(table).where(where)).mappings()]
    connection.execute(table.delete().where(where))
    return rows


def settle(connection: Connection, rows: Rows, since: int = 0) -> None:
    """What a run's journal says of its units, from line `since` on, put into the claims. A unit that another run has
    stays that one's, unless this run began it later."""
    import sqlalchemy as sa

    run = rows.run
    if run["product"] is None or not is_named(run["job"]):
        return
    changed = {unit for (unit, attempt), line in rows.touched.items() if line > since}
    attempts = _attempts_of(rows, changed)
    if not attempts:
        return
    table, runs = _table("claims"), _table("runs")
    last_task = run["tasks"][-1] if run["tasks"] else None
    by_task: dict[str, list[str]] = {}
    for unit, mine in attempts.items():
        by_task.setdefault(last_task or mine[-1]["task"], []).append(unit)
    for task, units in sorted(by_task.items()):
        _alone(connection, run["product"])
        for some in _by(units, _AT_ONCE):
            known = {row.unit: row for row in _of(connection, run["product"], some) if row.task == task}
            new: list[Row] = []
            for unit in some:
                told = _become(run, attempts[unit], task)
                row = known.get(unit)
                here = (table.c.product == run["product"]) & (table.c.task == task) & (table.c.unit == unit)
                if row is None:
                    new.append({"product": run["product"], "task": task, "unit": unit} | told)
                elif row.run == run["run"]:
                    if (row.outcome, row.ended) != (told["outcome"], told["ended"]):
                        connection.execute(
                            table.update().where(here), {name: told[name] for name in ("outcome", "ended")}
                        )
                elif row.since < told["since"]:
                    is_over = sa.select(runs.c.run).where(runs.c.run == row.run, runs.c.ended.is_not(None))
                    if row.outcome is not None or connection.execute(is_over).first() is not None:
                        connection.execute(table.update().where(here), told)
            if new:
                connection.execute(table.insert(), new)


def conflicts(connection: Connection, run: str | None = None, units: Collection[str] | None = None) -> list[Conflict]:
    """Units (of a run) that two stations worked on at the same time, or that one worked on though another had passed
    it and its rules refuse that. From attempts alone, so the same however late a journal came in."""
    import sqlalchemy as sa

    if units is not None and not units:
        return []
    one, other = _table("attempts").alias("one"), _table("attempts").alias("other")
    same = sa.and_(
        one.c.unit == other.c.unit, one.c.product == other.c.product, one.c.station != other.c.station,
        one.c.run != other.c.run, one.c.role == "unit", other.c.role == "unit",
    )  # fmt: skip
    told = ("run", "unit", "task", "station", "started", "ended", "outcome")
    columns = [table.c[name].label(f"{name}_{which}") for which, table in ((1, one), (2, other)) for name in told]
    query = sa.select(*columns).where(same)
    query = query.where(one.c.run == run) if run is not None else query.where(one.c.run < other.c.run)
    pairs: dict[tuple[str, str, str], list[tuple[Any, Any]]] = {}
    for some in [None] if units is None else _by(sorted(units), _AT_ONCE):
        for row in connection.execute(query if some is None else query.where(one.c.unit.in_(some))).mappings():
            both = [{name: row[f"{name}_{which}"] for name in told} for which in (1, 2)]
            earlier, later = sorted(both, key=lambda each: (each["started"], each["run"]))
            pairs.setdefault((earlier["unit"], row["run_1"], row["run_2"]), []).append((earlier, later))
    jobs = _jobs(connection, {name for _, *both in pairs for name in both})
    reworked = _reworked(connection, {unit for unit, _, _ in pairs})
    found = []
    for (unit, mine, others), attempts in sorted(pairs.items()):
        if not all(is_named(jobs.get(each, {})) for each in (mine, others)):
            continue
        for earlier, later in attempts:
            why = _why(earlier, later, jobs, reworked.get(unit, []))
            if why:
                sentence = (
                    f"unit {unit} was worked on by two stations{why}: {_told(earlier)}, and {_told(later)}; one "
                    "board was put in at both, or two boards have one number. Both are on record"
                )
                found.append(Conflict(unit, mine, others, sentence))
                break
    return found


def is_named(job: Mapping[str, Any]) -> bool:
    """Whether a job's units are serial numbers. Running numbers name no board: two runs may have the same."""
    units = list(job.get("units") or ())
    return bool(job.get("scanned")) or not units or units != [str(number) for number in range(1, len(units) + 1)]


# -- inside --------------------------------------------------------------------------------------------


def _table(name: str) -> Any:
    from rig.records.models import Base

    return Base.metadata.tables[name]


def _alone(connection: Connection, product: str) -> None:
    alone(connection, f"claims {product}")


def _now(connection: Connection) -> datetime:
    """By the database's clock, which all stations share."""
    import sqlalchemy as sa

    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    moment: datetime = connection.execute(sa.select(sa.func.now())).scalar_one()
    return moment


def _by(units: Sequence[str], count: int) -> Iterable[Sequence[str]]:
    return (units[start : start + count] for start in range(0, len(units), count))


def _of(connection: Connection, product: str, units: Sequence[str]) -> list[Any]:
    """Claims of these units, for whatever task: a board is in one place."""
    import sqlalchemy as sa

    table = _table("claims")
    wanted = sa.select(table).where(table.c.product == product, table.c.unit.in_(units))
    return list(connection.execute(wanted))


def _begun(connection: Connection, held: Mapping[str, Any]) -> set[str]:
    """Of these claimed units, those that their run has begun, as far as its journal is in here."""
    import sqlalchemy as sa

    if not held:
        return set()
    table = _table("attempts")
    runs = {row.run for row in held.values()}
    query = sa.select(table.c.run, table.c.unit).where(table.c.run.in_(runs), table.c.unit.in_(list(held)))
    return {unit for run, unit in connection.execute(query) if held[unit].run == run}


def _passed(connection: Connection, who: Claimant, units: Sequence[str]) -> dict[str, str]:
    """Of these units, those whose last attempt that counts was good, in another run, with no rework since."""
    import sqlalchemy as sa

    table = _table("attempts")
    query = sa.select(table).where(
        table.c.unit.in_(units), table.c.product == who.product, table.c.task == who.task, table.c.role == "unit",
        table.c.outcome.is_not(None),
    )  # fmt: skip
    last: dict[str, Any] = {}
    for row in sorted(connection.execute(query), key=lambda row: (row.started, row.attempt)):
        if Outcome(row.outcome).counted:
            last[row.unit] = row
    reworked = _reworked(connection, set(last))
    return {
        unit: f"{unit} passed in run {row.run} at station {row.station} on {row.started:%Y-%m-%d %H:%M} UTC "
        f"(attempt {row.attempt}, {row.outcome})"
        for unit, row in last.items()
        if row.run != who.run
        and Outcome(row.outcome).good
        and not any(when > row.started for when in reworked.get(unit, []))
    }


def _reworked(connection: Connection, units: Collection[str]) -> dict[str, list[datetime]]:
    import sqlalchemy as sa

    table = _table("entries")
    found: dict[str, list[datetime]] = {}
    for some in _by(sorted(units), _AT_ONCE):
        query = sa.select(table.c.unit, table.c.utc).where(table.c.kind == "reworked", table.c.unit.in_(some))
        for unit, utc in connection.execute(query):
            found.setdefault(unit, []).append(utc)
    return found


def _jobs(connection: Connection, names: Collection[str]) -> dict[str, dict[str, Any]]:
    import sqlalchemy as sa

    runs = _table("runs")
    found: dict[str, dict[str, Any]] = {}
    for some in _by(sorted(names), _AT_ONCE):
        query = sa.select(runs.c.run, runs.c.job).where(runs.c.run.in_(some))
        found |= {run: job or {} for run, job in connection.execute(query)}
    return found


def _attempts_of(rows: Rows, units: Collection[str]) -> dict[str, list[Row]]:
    """Attempts at these units, in order; golden ones are none."""
    found: dict[str, list[Row]] = {}
    for (unit, _), row in rows.attempts.items():
        if unit in units and row["role"] == "unit":
            found.setdefault(unit, []).append(row)
    return found


def _become(run: Row, attempts: list[Row], task: str) -> Row:
    """A claim, by the attempts of a run at its unit. Good is a unit only after all that it gets."""
    last = attempts[-1]
    outcome = last["outcome"]
    if outcome is not None and Outcome(outcome).good and last["task"] not in (task, _SAMPLED):
        outcome = None
    return {
        "run": run["run"], "station": run["station"], "batch": run["batch"], "since": attempts[0]["started"],
        "outcome": outcome, "ended": None if outcome is None else last["ended"],
    }  # fmt: skip


def _where(row: Any) -> str:
    return f"at station {row.station}, in run {row.run}, since {row.since:%Y-%m-%d %H:%M:%S} UTC"


def _why(earlier: Row, later: Row, jobs: Mapping[str, Mapping[str, Any]], reworked: Sequence[datetime]) -> str | None:
    end = earlier["ended"] or earlier["started"] + timedelta(seconds=_LOST_S)
    if later["started"] < end:
        return " at the same time"
    rules = jobs.get(later["run"], {}).get("rules", {})
    passed = earlier["outcome"] is not None and Outcome(earlier["outcome"]).good
    refused = rules.get("already_passed") == "refuse" and earlier["task"] == later["task"]
    if passed and refused and not any(earlier["started"] < when < later["started"] for when in reworked):
        return ", though it had passed"
    return None


def _told(attempt: Row) -> str:
    return (
        f"run {attempt['run']} at station {attempt['station']} ({attempt['started']:%Y-%m-%d %H:%M:%S} UTC, "
        f"{attempt['outcome'] or 'no end yet'})"
    )
