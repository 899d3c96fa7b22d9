"""The tables as the first rig with a database that was kept had them (its layout 2)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    layout = op.create_table("layout", sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
    op.bulk_insert(layout, [{"version": 2}])
    op.create_table(
        "runs",
        sa.Column("run", sa.String, primary_key=True),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("lines", "bytes")),
        *(sa.Column(name, sa.String, nullable=False) for name in ("head", "link")),
        *(sa.Column(name, MOMENT) for name in ("started", "ended")),
        sa.Column("exit_code", sa.Integer),
        *(sa.Column(name, sa.Double) for name in ("duration_s", "worked_s")),
        sa.Column("resumed", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String) for name in ("command", "station", "bench")),
        sa.Column("simulated", sa.Boolean),
        sa.Column("speed", sa.Double),
        *(sa.Column(name, sa.String) for name in ("product", "batch", "operator", "image", "image_sha256")),
        sa.Column("limits_version", sa.String),
        *(sa.Column(name, sa.JSON, nullable=False) for name in ("tasks", "tools", "profiles", "job")),
    )
    op.create_table(
        "instruments",
        sa.Column("run", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("identity", sa.String, nullable=False),
        sa.Column("serial", sa.String),
        sa.Column("cal_due", sa.Date),
    )
    op.create_table(
        "attempts",
        sa.Column("run", sa.String, primary_key=True),
        sa.Column("unit", sa.String, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("line", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("slot", "task", "role")),
        *(sa.Column(name, sa.String) for name in ("operator", "suite", "flasher", "batch", "product", "station")),
        sa.Column("started", MOMENT, nullable=False),
        sa.Column("ended", MOMENT),
        sa.Column("duration_s", sa.Double),
        *(sa.Column(name, sa.String) for name in ("outcome", "code", "sentence", "mac", "identity", "image")),
        sa.Column("image_sha256", sa.String),
        sa.Column("planned", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.String) for name in ("overrides", "backup_sha256")),
        sa.Column("backup_bytes", sa.BigInteger),
        sa.Column("backup_verified_by", sa.String),
        sa.Column("boot_id", sa.String, nullable=False),
        sa.Column("start_ns", sa.BigInteger, nullable=False),
        sa.Column("end_ns", sa.BigInteger),
        sa.Column("cycle_s", sa.Double),
        sa.Column("half_written", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.Boolean) for name in ("write_verified", "supply_off_confirmed")),
        sa.Column("reworked", sa.Boolean, nullable=False),
        sa.Column("limits_version", sa.String),
        *(sa.Column(name, sa.JSON, nullable=False) for name in ("tools", "profiles", "instruments")),
    )
    op.create_table(
        "phases",
        *_of_attempt(),
        sa.Column("phase", sa.String, nullable=False),
        sa.Column("outcome", sa.String),
        sa.Column("duration_s", sa.Double, nullable=False),
        *(sa.Column(name, sa.String) for name in ("code", "sentence")),
        *(sa.Column(name, sa.BigInteger) for name in ("start_ns", "end_ns")),
    )
    op.create_table(
        "measurements",
        *_of_attempt(),
        *(sa.Column(name, sa.String, nullable=False) for name in ("phase", "name")),
        sa.Column("number", sa.Double),
        sa.Column("text", sa.String),
        sa.Column("unit_of", sa.String, nullable=False),
        *(sa.Column(name, sa.Double) for name in ("minimum", "maximum", "marginal_minimum", "marginal_maximum")),
        sa.Column("limits_version", sa.String),
        sa.Column("outcome", sa.String, nullable=False),
    )
    op.create_table(
        "backups",
        *_of_attempt(),
        *(sa.Column(name, sa.String, nullable=False) for name in ("identity", "path", "sha256")),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("verified_by", sa.String, nullable=False),
    )
    op.create_table(
        "artifacts",
        *_of_attempt(),
        *(sa.Column(name, sa.String, nullable=False) for name in ("name", "path", "sha256")),
    )
    op.create_table(
        "entries",
        sa.Column("run", sa.String, primary_key=True),
        sa.Column("line", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("utc", MOMENT, nullable=False),
        *(sa.Column(name, sa.String) for name in ("unit", "slot")),
        sa.Column("attempt", sa.Integer),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
    )
    for table, columns in INDEXED.items():
        for column in columns:
            op.create_index(f"ix_{table}_{column}", table, [column])
    for table in BY_UNIT:
        op.create_index(f"ix_{table}_unit", table, ["run", "unit"])


def downgrade() -> None:
    for table in (*BY_UNIT, "attempts", "instruments", "runs", "layout"):
        op.drop_table(table)


BY_UNIT = ("phases", "measurements", "backups", "artifacts", "entries")
INDEXED = {
    "runs": ("product", "batch"),
    "attempts": ("batch", "outcome", "mac", "identity"),
    "measurements": ("name",),
    "backups": ("sha256",),
    "artifacts": ("sha256",),
    "entries": ("kind",),
}


def _of_attempt() -> list[sa.Column[Any]]:
    return [
        sa.Column("run", sa.String, primary_key=True),
        sa.Column("line", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("unit", "slot")),
        sa.Column("attempt", sa.Integer, nullable=False),
    ]
