"""`rig records backup` and `restore`: a copy of the records on another disk, and its way back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rig.cli.records_view import remark, tell_checked
from rig.cli.terminal import say, say_json
from rig.errors import Exit

if TYPE_CHECKING:
    from rig.records.verify import Checked

BACKUP = (
    "Copy journals, kept files and boards' backups to another disk, read all of it back and verify it; also while a "
    "batch runs. Exit 1 names what is not as it was recorded. Example: rig records backup --to /mnt/copies --keep 30"
)
RESTORE = (
    "Put a copy back where no records are yet, make the database anew and verify everything. "
    "Example: rig records restore --from /mnt/copies --out runs"
)
_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def backup(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder of copies; each is a new folder in it.")],
    keep: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="So many copies stay; older ones are removed.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where runs are kept.")] = Path("runs"),
    as_json: _Json = False,
) -> None:
    from rig.records import copy
    from rig.records.manifest import TREE

    made = copy.backup(out, to, keep=keep)
    checked = _verified(made.path / TREE)
    problems = made.problems + [f"{each.name}: {problem}" for each in checked for problem in each.problems]
    remark(made.remarks)
    if as_json:
        say_json(asdict(made) | {"path": str(made.path), "good": not problems, "problems": problems})
    else:
        for problem in problems:
            say(f"NOT AS RECORDED: {problem}")
        if made.gone:
            say(f"Removed: {', '.join(made.gone)}")
        counts = f"{made.runs} run(s), {made.files} files, {_mega(made.size)}, of it new {_mega(made.new)}"
        say(f"Copy {made.path}: {counts}")
        say(f"Read back and {'verified' if not problems else 'NOT good'}; sum {made.sum}")
    if problems:
        raise typer.Exit(Exit.FAILED)


def restore(
    source: Annotated[Path, typer.Option("--from", metavar="DIR", help="A copy; or a folder of copies: its newest.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to: not there yet, or empty.")] = Path(
        "runs"
    ),
    wanted: Annotated[
        str | None, typer.Option("--sum", metavar="HEX", help="The copy's sum, as `rig records backup` printed it.")
    ] = None,
    only: Annotated[bool, typer.Option("--check", help="Check the copy; put nothing back.")] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="Put a damaged copy back as it is.")] = False,
    as_json: _Json = False,
) -> None:
    from rig.records import copy, database
    from rig.records.manifest import TREE, check
    from rig.records.run import list_runs

    found = copy.find_copy(source)
    problems, remarks = check(found, wanted=wanted), []
    put_back = not only and (damaged or not problems)
    if put_back:
        copy.restore(found, out)
        remarks = database.rebuild(database.default_url(out), list_runs(out))
    checked = _verified(out, database.default_url(out)) if put_back else _verified(found / TREE)
    problems += [f"{each.name}: {problem}" for each in checked for problem in each.problems]
    remark(remarks)
    if as_json:
        say_json({"copy": str(found), "put_back": put_back, "good": not problems, "problems": problems,
                  "checked": [asdict(each) for each in checked], "remarks": remarks})  # fmt: skip
    else:
        for problem in problems:
            say(f"NOT AS COPIED: {problem}")
        for each in checked if put_back else []:
            tell_checked(each, None)
        state = (
            f"is back in {out}" if put_back else "was checked" if only else "was NOT put back, nothing was changed"
        )
        say(f"Copy {found} {state}{'' if problems else '; everything is as it was recorded'}")
    if problems:
        raise typer.Exit(Exit.FAILED)


def _verified(runs: Path, url: str | None = None) -> list[Checked]:
    from rig.records import verify
    from rig.records.run import list_runs

    return [*(verify.verify_run(run, url=url) for run in list_runs(runs)), verify.verify_stores(runs)]


def _mega(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
