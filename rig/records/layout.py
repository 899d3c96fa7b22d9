"""Which layout a database's tables have, and what becomes of one that has another: a fresh one gets this rig's, a
file of an older one is brought up to it, a server's is left alone, since other stations may still need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig.errors import Exit, RigError, UsageProblem

if TYPE_CHECKING:
    from sqlalchemy import Connection

OLDEST = "0002"  # before it nothing can be brought up; its databases say so in a table of their own


class DatabaseProblem(RigError):
    """The database cannot be read or written. No run depends on it."""


class NoDatabase(DatabaseProblem):
    """There is none at the place that was named."""

    exit_code = Exit.USAGE


def layout_of(connection: Connection) -> str | None:
    """The revision of a database's tables; None: it has none."""
    import sqlalchemy as sa

    there = set(sa.inspect(connection).get_table_names())
    if "alembic_version" in there:
        found = connection.exec_driver_sql("select version_num from alembic_version").scalar()
        if found is not None:
            return str(found)
    if "layout" in there:
        return f"{connection.exec_driver_sql('select version from layout').scalar():04d}"
    return None


def check_layout(connection: Connection, shown: str, write: bool) -> None:
    """See that the tables are this rig's, and make or bring them up where that may be done. `shown`: what the
    database is called. Raises DatabaseProblem with what to do."""
    from rig.records.models import LAYOUT, Base

    found = layout_of(connection)
    if found == LAYOUT:
        return
    if found is None and write:
        alone(connection, "layout")
        if layout_of(connection) is None:  # else another station was quicker
            Base.metadata.create_all(connection)
            connection.execute(Base.metadata.tables["alembic_version"].insert(), {"version_num": LAYOUT})
        return
    if found is None:
        raise DatabaseProblem(f"The database {shown} is empty; `rig records rebuild` fills it.")
    if not found.isdigit() or found > LAYOUT:
        raise DatabaseProblem(
            f"The database {shown} is of a newer rig (layout {found}, this one has {LAYOUT}): update this rig, or "
            f"let the newer one take it back with `rig records migrate --to {LAYOUT}`."
        )
    if found < OLDEST:
        raise DatabaseProblem(
            f"The database {shown} is of another rig (layout {found}, this one has {LAYOUT}); delete it, then "
            "`rig records rebuild`."
        )
    if write and connection.dialect.name == "sqlite":
        from rig.records.migrate import migrate

        try:
            migrate(connection)
        except UsageProblem as problem:  # alembic is not installed
            raise DatabaseProblem(
                f"The database {shown} is of an older rig (layout {found}, this one has {LAYOUT}). {problem} Or "
                "delete it, then `rig records rebuild`."
            ) from problem
        return
    raise DatabaseProblem(
        f"The database {shown} is of an older rig (layout {found}, this one has {LAYOUT}): `rig records migrate` "
        "brings it up, once every station that uses it has this rig."
    )


def alone(connection: Connection, what: str) -> None:
    """Until this transaction ends nobody else is at `what`. An SQLite file has one writer anyhow."""
    if connection.dialect.name == "postgresql":
        import sqlalchemy as sa

        key = sa.func.hashtextextended(f"rig {what}", 0)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
