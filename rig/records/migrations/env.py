"""What alembic runs: on the connection and in the transaction that it is given."""

from __future__ import annotations

from alembic import context

from rig.records.models import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
context.run_migrations()
