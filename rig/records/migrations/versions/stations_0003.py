"""Several stations: whose a unit is, when a station was last heard; attempts are looked up by unit over all runs. The
layout is alembic's revision from here on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "claims",
        *(sa.Column(name, sa.String, primary_key=True) for name in ("product", "task", "unit")),
        sa.Column("batch", sa.String),
        sa.Column("run", sa.String, nullable=False),
        sa.Column("station", sa.String),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("ended", MOMENT),
        sa.Column("outcome", sa.String),
    )
    op.create_index("ix_claims_run", "claims", ["run"])
    op.create_table(
        "stations",
        sa.Column("station", sa.String, primary_key=True),
        sa.Column("heard", MOMENT, nullable=False),
        sa.Column("run", sa.String),
    )
    op.create_index("ix_attempts_unit", "attempts", ["unit", "product", "task"])
    op.drop_table("layout")


def downgrade() -> None:
    layout = op.create_table("layout", sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
    op.bulk_insert(layout, [{"version": 2}])
    op.drop_index("ix_attempts_unit", "attempts")
    op.drop_table("stations")
    op.drop_table("claims")
