"""A database's tables from one layout to another, up and down, with what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rig.errors import UsageProblem
from rig.records.layout import OLDEST, alone, layout_of

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

_FOLDER = Path(__file__).parent / "migrations"


def migrate(connection: Connection, to: str | None = None) -> tuple[str | None, str]:
    """Bring the tables to the layout `to` (None: this rig's) in the transaction that is open; from where to where.

    What a layout has no place for is gone on the way down: claims, and when stations were heard. Raises UsageProblem
    for a layout that there is not, and where alembic is missing.
    """
    try:
        from alembic import command
        from alembic.script import ScriptDirectory
    except ModuleNotFoundError as missing:
        if missing.name != "alembic":
            raise
        raise UsageProblem("Layouts are changed by alembic: pip install -e '.[stations]'.") from None
    from rig.records.models import LAYOUT

    config = _config(connection)
    wanted = to or LAYOUT
    known = sorted(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())
    if wanted not in known:
        raise UsageProblem(f"There is no layout {wanted!r}: {', '.join(known)} are known, {LAYOUT} is this rig's.")
    alone(connection, "layout")
    found = layout_of(connection)
    if found is not None and found not in known:
        raise UsageProblem(f"The database has layout {found}, of which this rig ({LAYOUT}) knows no way to another.")
    if found == OLDEST:
        command.stamp(config, OLDEST)  # a rig that old kept no alembic
    if found is None or found <= wanted:
        command.upgrade(config, wanted)
    else:
        command.downgrade(config, wanted)
    return found, wanted


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
