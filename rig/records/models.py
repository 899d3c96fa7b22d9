"""The database's tables. Every row is derived from a line of a journal and named by what the journal calls it (run,
unit, attempt, line), never by a counter, so that a database built anew has the same rows.

Importing this imports SQLAlchemy (0.3 s): do it where it is needed.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Double, Index, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

LAYOUT = "0003"  # of these tables: the last revision in rig/records/migrations


class Utc(TypeDecorator[datetime]):
    """A moment in UTC, also where the database knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Base(DeclarativeBase):
    """All of them."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, datetime: Utc, float: Double}  # noqa: RUF012


class Layout(Base):
    """Which layout of the tables this database has: one row, as alembic keeps it."""

    __tablename__ = "alembic_version"
    version_num: Mapped[str] = mapped_column(String(32), primary_key=True)


class Run(Base):
    """One run. `lines`, `bytes`, `head`: how much of its journal is in here, and the digest of all that, which is the
    chain's head where every line carries a link. `link`: the last link that a line carries itself, 64 zeros where
    none does. `duration_s` is the last sitting's, `worked_s` that of all of them."""

    __tablename__ = "runs"
    run: Mapped[str] = mapped_column(primary_key=True)
    lines: Mapped[int]
    bytes: Mapped[int]
    head: Mapped[str]
    link: Mapped[str]
    started: Mapped[datetime | None]
    ended: Mapped[datetime | None]
    exit_code: Mapped[int | None]
    duration_s: Mapped[float | None]
    worked_s: Mapped[float | None]
    resumed: Mapped[int]  # how often it was taken up again
    command: Mapped[str | None]
    station: Mapped[str | None]
    bench: Mapped[str | None]
    simulated: Mapped[bool | None]
    speed: Mapped[float | None]
    product: Mapped[str | None] = mapped_column(index=True)
    batch: Mapped[str | None] = mapped_column(index=True)
    operator: Mapped[str | None]
    image: Mapped[str | None]
    image_sha256: Mapped[str | None]
    limits_version: Mapped[str | None]
    tasks: Mapped[list[Any]]
    tools: Mapped[dict[str, Any]]
    profiles: Mapped[dict[str, Any]]
    job: Mapped[dict[str, Any]]


class Instrument(Base):
    """An instrument that took part in a run."""

    __tablename__ = "instruments"
    run: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    identity: Mapped[str]
    serial: Mapped[str | None]
    cal_due: Mapped[date | None]


class Attempt(Base):
    """One attempt at one unit, with all that a record must carry. `outcome` None: its journal has no end of it (yet).
    `half_written`: writing had begun and was not verified by then. `line`: where it began. `planned`: the image is
    the one that was planned for this very board, else the run's. `start_ns`, `end_ns`: the station's monotonic clock
    in nanoseconds; `cycle_s` between them, NULL where they are of two boots of it."""

    __tablename__ = "attempts"
    run: Mapped[str] = mapped_column(primary_key=True)
    unit: Mapped[str] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    line: Mapped[int]
    slot: Mapped[str]
    task: Mapped[str]
    role: Mapped[str]
    operator: Mapped[str | None]
    suite: Mapped[str | None]
    flasher: Mapped[str | None]
    batch: Mapped[str | None] = mapped_column(index=True)
    product: Mapped[str | None]
    station: Mapped[str | None]
    started: Mapped[datetime]
    ended: Mapped[datetime | None]
    duration_s: Mapped[float | None]
    outcome: Mapped[str | None] = mapped_column(index=True)
    code: Mapped[str | None]
    sentence: Mapped[str | None]
    mac: Mapped[str | None] = mapped_column(index=True)
    identity: Mapped[str | None] = mapped_column(index=True)
    image: Mapped[str | None]
    image_sha256: Mapped[str | None]
    planned: Mapped[bool]
    overrides: Mapped[str | None]
    backup_sha256: Mapped[str | None]
    backup_bytes: Mapped[int | None] = mapped_column(BigInteger)
    backup_verified_by: Mapped[str | None]
    boot_id: Mapped[str]
    start_ns: Mapped[int] = mapped_column(BigInteger)
    end_ns: Mapped[int | None] = mapped_column(BigInteger)
    cycle_s: Mapped[float | None]
    half_written: Mapped[bool]
    write_verified: Mapped[bool | None]
    supply_off_confirmed: Mapped[bool | None]
    reworked: Mapped[bool]  # since the unit's attempt before it in this run
    limits_version: Mapped[str | None]
    tools: Mapped[dict[str, Any]]
    profiles: Mapped[dict[str, Any]]
    instruments: Mapped[list[Any]]  # those of the run: name, identity, serial, cal_due


class _OfAttempt:
    """What belongs to an attempt and stands on one line of the journal."""

    run: Mapped[str] = mapped_column(primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    unit: Mapped[str]
    slot: Mapped[str]
    attempt: Mapped[int]


class Phase(_OfAttempt, Base):
    """A step that ended; `outcome` None: skipped."""

    __tablename__ = "phases"
    phase: Mapped[str]
    outcome: Mapped[str | None]
    duration_s: Mapped[float]
    code: Mapped[str | None]
    sentence: Mapped[str | None]
    start_ns: Mapped[int | None] = mapped_column(BigInteger)
    end_ns: Mapped[int | None] = mapped_column(BigInteger)


class Measurement(_OfAttempt, Base):
    """One value with the limits it was judged by: in `number`, or, what is none, in `text`."""

    __tablename__ = "measurements"
    phase: Mapped[str]
    name: Mapped[str] = mapped_column(index=True)
    number: Mapped[float | None]
    text: Mapped[str | None]
    unit_of: Mapped[str]
    minimum: Mapped[float | None]
    maximum: Mapped[float | None]
    marginal_minimum: Mapped[float | None]
    marginal_maximum: Mapped[float | None]
    limits_version: Mapped[str | None]
    outcome: Mapped[str]


class BackupRow(_OfAttempt, Base):
    __tablename__ = "backups"
    identity: Mapped[str]
    path: Mapped[str]
    sha256: Mapped[str] = mapped_column(index=True)
    size: Mapped[int]
    verified_by: Mapped[str]


class Artifact(_OfAttempt, Base):
    __tablename__ = "artifacts"
    name: Mapped[str]
    path: Mapped[str]
    sha256: Mapped[str] = mapped_column(index=True)


class Entry(Base):
    """All other lines: notes, refusals, reworks, prompts and answers, slots out and back, stops, labels, plans."""

    __tablename__ = "entries"
    run: Mapped[str] = mapped_column(primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(index=True)
    utc: Mapped[datetime]
    unit: Mapped[str | None]
    slot: Mapped[str | None]
    attempt: Mapped[int | None]
    text: Mapped[str]
    details: Mapped[dict[str, Any]]


class Claim(Base):
    """Whose a unit is: the run that works on it, or did last. One row a unit of a product and task, so that no two
    stations can have it. `outcome` None: it is at work, or about to be. Not of the journals alone: a station claims a
    unit before its journal has it."""

    __tablename__ = "claims"
    product: Mapped[str] = mapped_column(primary_key=True)
    task: Mapped[str] = mapped_column(primary_key=True)
    unit: Mapped[str] = mapped_column(primary_key=True)
    batch: Mapped[str | None]
    run: Mapped[str] = mapped_column(index=True)
    station: Mapped[str | None]
    since: Mapped[datetime]
    ended: Mapped[datetime | None]
    outcome: Mapped[str | None]


class StationRow(Base):
    """When a station was last heard, by the database's clock, and what it was at."""

    __tablename__ = "stations"
    station: Mapped[str] = mapped_column(primary_key=True)
    heard: Mapped[datetime]
    run: Mapped[str | None]


Index("ix_attempts_unit", Attempt.__table__.c.unit, Attempt.__table__.c.product, Attempt.__table__.c.task)

for _table in (Phase, Measurement, BackupRow, Artifact, Entry):
    Index(f"ix_{_table.__tablename__}_unit", _table.__table__.c.run, _table.__table__.c.unit)
