"""How `rig records` says what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rig.cli.terminal import err, say

if TYPE_CHECKING:
    from rig.records.purge import Doomed
    from rig.records.verify import Checked


def remark(remarks: list[str]) -> None:
    """What the reader should know, on stderr."""
    for each in remarks:
        err.print(f"rig: {each}", markup=False, highlight=False, soft_wrap=True)


def tell_checked(found: Checked, head: str | None) -> None:
    """What `rig records verify` found of one run, or of the stores."""
    for problem in found.problems:
        say(f"{found.name}: NOT AS RECORDED: {problem}")
    for remark in found.remarks:
        say(f"{found.name}: {remark}")
    purged = f", {found.purged} purged" if found.purged else ""
    files = f"{found.artifacts} artifact(s), {found.backups} backup(s){purged}"
    if found.name == "stores":
        say(f"stores: {found.verdict}: {files}")
        return
    meant = {
        "self-consistent": "self-consistent (the journal agrees with itself; --head compares it with a printed head)",
        "same": "the same: the head is the one that was given",
        "continued": "the same up to the head that was given, and continued since",
        "unchained": "of an older rig: its journal has no chain, its files are as recorded",
        "other": "NOT THE SAME as the head that was given",
        "damaged": "not as recorded" + (", though the head that was given is in it" if head else ""),
    }[found.verdict]
    database = "" if found.in_database is None else ", database compared"
    head_told = "" if found.verdict == "unchained" else f"; head {found.head}"
    say(f"{found.name}: {meant}: {found.lines} lines, {files}{database}{head_told}")


def purged_line(doomed: Doomed, size: int, done: bool) -> str:
    """What a purge took, or would take."""
    if not doomed.runs:
        return "No run is that old."
    counts = f"{len(doomed.artifacts)} kept file(s), {len(doomed.others)} other(s), {len(doomed.backups)} backup(s)"
    of = f"{counts} of {len(doomed.runs)} run(s), {size / 1e6:.1f} MB"
    return f"Purged: {of}." if done else f"Would purge {of}. Nothing was touched; --yes does it."


def attempt_line(row: dict[str, Any]) -> str:
    """An attempt in a line."""
    code = f" {row['code']}" if row["code"] else ""
    role = " golden" if row["role"] == "golden" else ""
    outcome = (row["outcome"] or "no end") + (", half written" if row["half_written"] else "")
    return (
        f"{row['started']:%Y-%m-%d %H:%M} {row['run']} {row['unit']} slot {row['slot']} attempt {row['attempt']} "
        f"{row['task']}{role}: {outcome}{code}"
    )


def tell_attempt(row: dict[str, Any], found: dict[str, list[dict[str, Any]]]) -> None:
    """An attempt with its steps, numbers and files."""
    say(attempt_line(row))
    told = {"sentence": "", "operator": "operator", "station": "station", "product": "product", "batch": "batch",
            "mac": "MAC", "identity": "identity", "image": "image", "image_sha256": "image sha256",
            "backup_sha256": "backup sha256", "limits_version": "limits"}  # fmt: skip
    for column, label in told.items():
        if row[column]:
            say(f"    {label} {row[column]}" if label else f"    {row[column]}")
    for each in row["instruments"]:
        say(f"    instrument {each['name']}: {each['identity'] or '?'}, calibrated until {each['cal_due'] or '?'}")
    for table in ("phases", "measurements", "artifacts"):
        for each in found[table]:
            if (each["run"], each["unit"], each["attempt"]) == (row["run"], row["unit"], row["attempt"]):
                say("    " + _detail(table, each))


def _detail(table: str, row: dict[str, Any]) -> str:
    if table == "phases":
        code = f" {row['code']}" if row["code"] else ""
        return f"step {row['phase']}: {row['outcome'] or 'skipped'}{code}, {row['duration_s']:.2f} s"
    if table == "artifacts":
        return f"{row['name']}: {row['path']} {row['sha256']}"
    value = row["text"] if row["number"] is None else f"{row['number']:.6g}"
    edges = [f"{edge:g}" if edge is not None else "" for edge in (row["minimum"], row["maximum"])]
    limits = f" (limits {edges[0]}..{edges[1]})" if any(edges) else ""
    shown = f"{value} {row['unit_of']}".rstrip() if value is not None else "not measured"
    return f"{row['name']} {shown}{limits}: {row['outcome']}"


def entry_line(entry: dict[str, Any]) -> str:
    """What was put on record of a unit besides its attempts."""
    who = entry["details"].get("who")
    said = f"{entry['unit']}: {entry['text']}" + (f", by {who}" if who else "")
    return f"{entry['utc']:%Y-%m-%d %H:%M} {entry['run']} {entry['kind']}: {said}"
