"""A unit's page in the report: all its attempts with their full evidence, under each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.page.context import Context
from reports.page.units import SUPPLY, about, backup_told, evidence, grouped, link_to
from reports.power_plot import draw_power
from reports.tables import RUNNING, each_row
from reports.text import limits_told, moment, seconds, shown, shown_log, value
from reports.trace import Span, read_power
from rig.codes import CODES
from rig.errors import RigError
from rig.records.events import Outcome
from rig.records.run import safe_name

LOG_LINES = 400  # of a longer boot log, so many from the beginning and as many from the end
_LOG_BYTES = 4 << 20
POWER = "power.csv"
FOLDER = "unit-pages"  # not units/, which is the evidence's in a run's own folder


def page_names(context: Context, orders: Sequence[int]) -> dict[int, str]:
    """A page, relative to the report, for the board of each of these attempts, by the board's code."""
    attempts = context.attempts.iloc[list(orders)].drop_duplicates("board")
    taken: set[str] = set()
    names = {}
    for board, unit in zip(attempts["board"].tolist(), attempts["unit"], strict=True):
        stem = safe_name(str(unit))
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        names[board] = f"{FOLDER}/{name}.html"
    return names


def boards(context: Context, codes: Sequence[int]) -> dict[int, dict[str, Any]]:
    """What the page of each of these boards says, by the board's code."""
    attempts = context.attempts[context.attempts["board"].isin(list(codes))]
    orders = attempts["order"].tolist()
    details = dict(zip(orders, each_row(context.records.details(orders)), strict=True))
    folders = [Path(each.folder) for each in details.values() if each.folder]
    drawn = any((folder / POWER).is_file() for folder in folders)
    phases = context.records.phases if drawn else context.records.steps
    steps = grouped(phases[phases["order"].isin(orders)], "order")
    numbers = grouped(context.records.numbers.all_of(orders), "order")
    units = set(attempts["unit"])
    files, notes = (
        grouped(table[table["unit"].isin(units)], "run", "unit")
        for table in (context.records.artifacts_of(units), context.records.notes)
    )
    told: dict[int, dict[str, Any]] = {}
    for row in each_row(attempts):
        page = told.setdefault(row.board, {"unit": shown(row.unit), "board": "", "attempts": [], "notes": []})
        more = details[row.order]
        page["board"] = shown(more.board_name or "")
        page["attempts"].append(_attempt(
            context, row, more, steps[row.order,], numbers[row.order,], files[row.run, row.unit],
        ))  # fmt: skip
        noted = [(moment(each.utc), str(each.level), shown(each.text)) for each in notes[row.run, row.unit]]
        page["notes"] += [each for each in noted if each not in page["notes"]]
    return told


def _attempt(
    context: Context, row: Any, more: Any, phases: list[Any], numbers: list[Any], files: list[Any]
) -> dict[str, Any]:  # fmt: skip
    folder = Path(more.folder) if more.folder else None
    code = CODES.get(row.code or "")
    in_units = context.out_dir / FOLDER
    return {
        "number": row.attempt, "run": shown(row.run or ""), "slot": shown(row.slot or ""),
        "outcome": str(row.outcome),
        "code": shown(row.code or ""), "sentence": shown(more.sentence or ""), "action": code.action if code else "",
        "cause": code.cause if code else "",
        "facts": _facts(row, more), "evidence": evidence(more.folder, in_units),
        "steps": [_step(each) for each in phases], "measured": [_measurement(each) for each in numbers],
        "power": _power(folder, phases), "log": _log(folder),
        "files": _files(files, row.attempt, folder, in_units),
    }  # fmt: skip


def _facts(row: Any, more: Any) -> list[tuple[str, str]]:
    image = f"{shown(row.image)} {shown((row.image_sha256 or '')[:16])}".strip() if row.image else ""
    facts = [
        ("Began", moment(row.started)), ("Took", f"{seconds(row.cycle_s)} s" if row.cycle_s == row.cycle_s else ""),
        ("Station", shown(row.station or "")), ("Task", shown(row.task or "")), ("Image", image),
        ("Baud", str(row.baud) if row.baud else ""), ("MAC", shown(more.mac or "")),
        ("Backup", f"sha256 {shown(more.backup_sha256)}, {backup_told(row, more)}" if more.backup_sha256 else ""),
        ("Supply at the end", "" if row.outcome == RUNNING else SUPPLY[row.supply_off_confirmed]),
    ]  # fmt: skip
    known = {label.lower() for label, _ in facts}
    facts += [(name.capitalize(), told) for name, told in about(row, more) if name.lower() not in known]
    return [(label, told) for label, told in facts if told and label != "–"]


def _step(row: Any) -> tuple[str, str, str, str]:
    return (
        shown(row.phase), str(row.outcome or "skipped"), seconds(row.duration_s) if row.outcome else "–",
        shown(row.code or ""),
    )  # fmt: skip


def _measurement(row: Any) -> tuple[str, ...]:
    edges = (row.minimum, row.maximum, row.marginal_minimum, row.marginal_maximum)
    told = limits_told(*(None if each is None else float(each) for each in edges))
    measured = value(row.value)
    return (shown(row.phase), shown(row.name), measured, shown(row.unit_of or ""), told, str(row.outcome or ""))


def _power(folder: Path | None, phases: list[Any]) -> str:
    """Volts and amps with the steps shaded; a sentence where they cannot be read, nothing where none were kept."""
    trace = folder and folder / POWER
    if trace is None or not trace.is_file():
        return ""
    spans = [
        Span(shown(each.phase), int(each.start_ns), int(each.end_ns), Outcome(each.outcome) if each.outcome else None)
        for each in phases
        if 0 <= each.start_ns < each.end_ns
    ]
    try:
        return draw_power(read_power(trace), spans)
    except RigError as problem:
        return f'<p class="none">{shown(problem).replace("<", "‹")}</p>'


def _log(folder: Path | None) -> dict[str, Any] | None:
    """The boot log as it may be shown; None where there is none."""
    if folder is None:
        return None
    try:
        raw = (folder / "boot.log").read_bytes()[:_LOG_BYTES]
    except OSError:
        return None
    lines = shown_log(raw.decode(errors="replace")).replace("\x1b", "\N{REPLACEMENT CHARACTER}").splitlines()
    count = len(lines)
    if count > 2 * LOG_LINES:
        left_out = f"... {count - 2 * LOG_LINES} lines left out here; they are in boot.log ..."
        lines = [*lines[:LOG_LINES], left_out, *lines[-LOG_LINES:]]
    return {"count": count, "text": "\n".join(lines)}


def _files(kept: list[Any], attempt: int, folder: Path | None, in_units: Path) -> list[tuple[str, str, str]]:
    """Kept files of an attempt: name, link ("" where it is gone), sha256."""
    found = []
    for each in kept:
        if each.attempt == attempt:
            path = folder / Path(str(each.path)).name if folder else None
            link = link_to(path, in_units) if path is not None and path.is_file() else ""
            found.append((shown(each.name), link, shown(each.sha256)))
    return found
