"""The table of attempts: all of them, or of very many the ones most worth seeing; the lists behind the links."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from reports.page.context import SOME_ROWS, Context
from reports.tables import RUNNING, each_row
from reports.text import limits, moment, seconds, shown, size, value

_WORTH = {"unverified": 5, "fail": 4, "running": 3, "blocked": 2, "marginal": 1, "aborted": 1}
SUPPLY = {True: "off", False: "NOT CONFIRMED", None: "not asked"}


def chosen(context: Context, worth: Sequence[int] = ()) -> list[int]:
    """Orders of the attempts that the table shows, in time. Of more than fit: `worth` first (findings, strange
    units), then by outcome, the latest first."""
    if context.whole:
        return list(range(len(context.attempts)))
    kept = list(dict.fromkeys(worth))[: SOME_ROWS // 2]
    outcome = context.attempts["outcome"].array
    worth_of = np.array([*(_WORTH.get(str(each), 0) for each in outcome.categories), 0], dtype=np.int8)
    off = context.attempts["supply_off_confirmed"].eq(False).to_numpy(dtype=bool, na_value=False)
    score = np.where(off, np.int8(6), worth_of[outcome.codes])
    ranked = (len(score) - 1 - np.argsort(-score[::-1], kind="stable"))[: 2 * SOME_ROWS]
    return sorted(list(dict.fromkeys([*kept, *ranked.tolist()]))[:SOME_ROWS])


def rows(context: Context, orders: Sequence[int], pages: Mapping[int, str]) -> list[dict[str, Any]]:
    """The table's rows. `pages`: the page of a board, by its code."""
    attempts = context.attempts.iloc[list(orders)]
    details = context.records.details(orders)
    everything = context.records.numbers.all_of(orders)
    numbers = grouped(everything[everything["outcome"] != "pass"], "order")
    boards, sizes = np.unique(np.asarray(context.attempts["board"]), return_counts=True)
    retried = set(boards[sizes > 1].tolist())
    told = []
    for row, more in zip(each_row(attempts), each_row(details), strict=True):
        told.append({
            "anchor": f"a{row.order}", "order": row.order, "unit": shown(row.unit), "slot": shown(row.slot or ""),
            "attempt": row.attempt, "run": shown(row.run or ""), "retried": row.board in retried,
            "outcome": str(row.outcome), "good": row.good, "code": shown(row.code or ""),
            "sentence": shown(more.sentence or ""), "time": seconds(row.cycle_s), "started": clock(row.started),
            "evidence": evidence(more.folder, context.out_dir), "page": pages.get(row.board, ""),
            "supply": "" if row.outcome == RUNNING else SUPPLY[row.supply_off_confirmed],
            "backup": shown(more.backup_sha256 or ""), "backup_told": backup_told(row, more),
            "details": list(about(row, more)) + list(unusual(numbers[row.order,])),
        })  # fmt: skip
    return told


def grouped(table: pd.DataFrame, *keys: str) -> defaultdict[tuple[Any, ...], list[Any]]:
    """Rows as `each_row` gives them, by what they have in some columns; nothing for what is not there."""
    found: defaultdict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for row in each_row(table):
        found[tuple(getattr(row, key) for key in keys)].append(row)
    return found


def about(row: Any, more: Any) -> Iterable[tuple[str, str]]:
    """What an attempt's record says besides its outcome: (name, text), only what is there and not plain."""
    if row.study:
        yield "gage study", "not counted"
    if row.task != "convert" or (row.stages or 1) > 1:
        yield "task", shown(row.task)
        if row.image:
            yield "image", shown(row.image)
    for name, text in (("firmware", row.firmware), ("overridden", row.overrides), ("MAC", more.mac)):
        if text:
            yield name, shown(text)
    if more.identity and more.identity != more.mac:
        yield "identity", shown(more.identity)
    if row.write_verified is not None:
        yield "written", "and verified" if row.write_verified else "NOT VERIFIED"
    if row.flasher and row.flasher != "native":
        yield "flasher", shown(row.flasher)
    if row.operator:
        yield "operator", shown(row.operator)
    if row.reworked:
        yield "rework", "before this attempt"


def unusual(measurements: Iterable[Any]) -> Iterable[tuple[str, str]]:
    """Measurements that are no plain pass, with what they had to keep to."""
    for each in measurements:
        low, high = (float("nan") if edge is None else float(edge) for edge in (each.minimum, each.maximum))
        kept_to = limits(low, high, shown(each.unit_of or ""))
        told = f"{value(each.value)} {shown(each.unit_of or '')}".strip()
        yield shown(each.name), f"{told} ({each.outcome}{f'; limits {kept_to}' if kept_to else ''})"


def backup_told(row: Any, more: Any) -> str:
    """How large the backup is and what it agreed with; "" without one."""
    if not more.backup_sha256:
        return ""
    how_large = f"{size(int(more.backup_bytes))}, " if more.backup_bytes is not None else ""
    return f"{how_large}checked by {shown(row.backup_verified_by or 'nobody')}"


def clock(started: Any) -> str:
    """The time of day of a moment, UTC."""
    return moment(started)[11:19] if started is not None else ""


def evidence(folder: str | None, out_dir: Path) -> str:
    """The attempt's own page as a link from the report; "" where there is none."""
    if not folder:
        return ""
    page = Path(folder) / "unit.html"
    return link_to(page, out_dir) if page.is_file() else ""


def link_to(path: Path, out_dir: Path) -> str:
    """A file as a relative link from a page in `out_dir`."""
    return quote(Path(os.path.relpath(path.resolve(), out_dir.resolve())).as_posix())


def lists(context: Context, in_table: Iterable[int]) -> list[dict[str, Any]]:
    """The sets behind links, for a browser without scripts: each unit with the place it is shown at."""
    anchors = set(in_table)
    orders = context.sets.orders()
    units = context.attempts["unit"].iloc[orders]
    names = {order: shown(unit) for order, unit in zip(orders, units, strict=True)}
    return [
        {"id": each.id, "title": each.title, "total": each.total, "orders": " ".join(map(str, each.orders)),
         "units": [(names[order], f"#a{order}" if order in anchors else "") for order in each.orders]}
        for each in context.sets.all()
    ]  # fmt: skip


def golden(context: Context) -> list[dict[str, Any]]:
    """Attempts at golden units, which are in no other table."""
    return [
        {"unit": shown(row.unit), "slot": shown(row.slot or ""), "started": moment(row.started),
         "outcome": str(row.outcome), "code": shown(row.code or ""), "sentence": shown(row.sentence or ""),
         "evidence": evidence(row.folder, context.out_dir)}
        for row in each_row(context.records.golden.tail(SOME_ROWS))
    ]  # fmt: skip


def notes(table: pd.DataFrame) -> dict[str, Any]:
    """Notes and waivers, warnings first; the first ones of very many."""
    first = pd.concat([table[table["level"] == "warning"], table[table["level"] != "warning"]]).head(SOME_ROWS)
    told = [
        {"time": clock(note.utc), "unit": shown(note.unit or ""), "level": str(note.level), "text": shown(note.text),
         "details": shown(", ".join(f"{key}: {each}" for key, each in (note.details or {}).items()))}
        for note in each_row(first)
    ]  # fmt: skip
    return {"rows": told, "left_out": len(table) - len(told)}
