"""How the database's tables came to be, for alembic: each revision up and down. `rig.records.migrate` runs them."""
