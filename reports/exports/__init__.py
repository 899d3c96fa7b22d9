"""Records for other programs: CSV, Parquet, JUnit XML, OpenHTF JSON.

Each kind is a folder of its own, written whole or not at all; an export made again takes the place of the one before.
No password leaves through one: every text is scrubbed as on a page.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rig.errors import UsageProblem

if TYPE_CHECKING:
    from reports.tables import Records

KINDS = ("csv", "parquet", "junit", "openhtf")


def export(records: Records, kind: str, folder: Path) -> list[Path]:
    """Write `records` as `kind` (one of KINDS) into the folder `folder/kind` and return its files, in order.

    Raises UsageProblem for an unknown kind, a folder that cannot be written (a full disk: what was there before
    stays), one that holds something else than an export, and for more units than a kind is made for.
    """
    target = folder / kind
    match kind:
        case "csv":
            from reports.exports.csv_tables import write_csv

            return write_csv(records, target)
        case "parquet":
            from reports.exports.parquet import write_parquet

            return write_parquet(records, target)
        case "junit":
            from reports.exports.junit import write_junit

            return write_junit(records, target)
        case "openhtf":
            from reports.exports.openhtf import write_openhtf

            return write_openhtf(records, target)
    raise UsageProblem(f"There is no export {kind!r}: choose from {', '.join(KINDS)}.")
