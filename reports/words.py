"""The sentences of a report: what these runs were and what became of them."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reports import metrics
from reports.tables import RUNNING, Records, each_row
from reports.text import number, shown

_MOST_ALIKE = 8  # warnings of one kind


def title(records: Records) -> str:
    """Product and batch of these runs."""
    products, batches = distinct(records.runs["product"]), distinct(records.runs["batch"])
    name = ", ".join(products) or "Unknown product"
    return f"{name}, batch {', '.join(batches)}" if batches else name


def verdict(found: metrics.Yields, studied: int = 0, not_begun: int = 0) -> str:
    """The whole result in a sentence or two. `studied`: attempts of gage studies, which judge no board; `not_begun`:
    units that were asked for, and no more."""
    rate = found.final
    study = f"{count(studied, 'measurement')} of a gage study"
    if not rate.n and studied and not found.boards:
        return f"A gage study: {count(studied, 'measurement')}. It judges the bench and no board."
    after = [f"{not_begun} more {_was(not_begun)} never begun."] if not_begun else []
    after += [f"{study} {_is(studied)} apart."] if studied else []
    if not rate.n:
        return " ".join([_nothing_judged(found), *after])
    if rate.good < rate.n:
        parts = [f"{rate.good} of {count(rate.n, 'board')} {_is(rate.good)} good."]
    elif not_begun:  # nobody is to read of all boards
        parts = [f"{count(rate.n, 'board')} {_is(rate.n)} good."]
    else:
        parts = [f"All {rate.n} boards are good." if rate.n > 1 else "The board is good."]
    if found.failed:
        parts.append(f"{found.failed} failed.")
    if found.unverified:
        parts.append(f"{found.unverified} may be half written: run {_it(found.unverified)} again before any other.")
    if found.not_counted:
        parts.append(f"{found.not_counted} more {_was(found.not_counted)} not judged (blocked or aborted).")
    if found.running:
        parts.append(f"{found.running} more {_is(found.running)} still running.")
    return " ".join([*parts, *after])


def _nothing_judged(found: metrics.Yields) -> str:
    idle, running = found.not_counted, found.running
    if idle and running:
        blocked = f"{idle} {_was(idle)} blocked or aborted"
        return f"No board is judged yet: {blocked}, {running} {_is(running)} still running."
    if running:
        return f"No board is judged yet: {running} {_is(running)} still running."
    return f"No board was judged: {f'{idle} {_was(idle)} blocked or aborted' if idle else 'no unit was started'}."


def tone(found: metrics.Yields, not_begun: int = 0) -> str:
    """Which colour the verdict has: pass, fail, or idle where nothing can be said of some."""
    if found.failed or found.unverified:
        return "fail"
    return "pass" if found.final.n and not found.not_counted and not not_begun else "idle"


def simulated(records: Records) -> str | None:
    """What must be said of a simulated bench; None on a real one."""
    runs = records.runs
    which = runs[runs["simulated"]]
    if which.empty:
        return None
    speeds = sorted({float(speed) for speed in which["speed"]})
    told = " and ".join(f"{number(speed)} times real time" for speed in speeds)
    who = "Simulated bench" if len(which) == len(runs) else f"{len(which)} of {len(runs)} runs: simulated bench"
    return f"{who} at {told}. No real board was touched; times and rates are the simulation's."


def warnings(records: Records) -> list[str]:
    """What a reader must know before trusting a number."""
    told = [shown(remark) for remark in records.remarks]
    runs = records.runs
    live = runs[runs["live"]]
    told += _each(live, "Run {0.run} is still going on: these are its figures so far.", "runs are still going on")
    cut = runs[~runs["live"] & runs["ended"].isna()]
    told += _each(cut, "Run {0.run} has no end on record: the rig was killed or lost power.",
                  "runs have no end on record: the rig was killed or lost power")  # fmt: skip
    told += [f"Run {shown(run)} ended before {count(left, 'unit')} began: --resume {shown(run)} goes on with it."
             for run, left in metrics.not_begun_by_run(records).items()]  # fmt: skip
    for name, of in (
        ("product", "products"),
        ("limits_version", "versions of the limits"),
        ("image_sha256", "images"),
    ):
        if len(distinct(runs[name])) > 1:
            told.append(f"These runs have different {of}: rates and times mix them.")
    if len({tuple(tasks or ()) for tasks in runs["tasks"]}) > 1:
        told.append("These runs did different things to their boards: rates and times mix them.")
    if runs["simulated"].nunique() > 1 or runs["speed"].nunique() > 1:
        told.append("These runs differ in how real or how fast their bench is: their times do not compare.")
    bad = records.golden[~records.golden["good"] & (records.golden["outcome"] != RUNNING)]
    told += _each(bad, "Golden unit {0.unit} was {0.outcome} on slot {0.slot}: doubt that slot.",
                  "golden units did not pass: doubt their slots")  # fmt: skip
    columns = ["unit", "slot", "supply_off_confirmed"]
    off = [table[columns][(table["supply_off_confirmed"] == False).fillna(False).astype(bool)]  # noqa: E712
           for table in (records.attempts, records.golden)]  # fmt: skip
    told += _each(pd.concat(off), "Unit {0.unit}: the supply was not confirmed off on slot {0.slot}. Check it.",
                  "units whose supply was not confirmed off: check their slots")  # fmt: skip
    return told


def _each(rows: pd.DataFrame, sentence: str, many: str) -> list[str]:
    """A sentence for each row, and one for all that are too many to be read."""
    told = [shown(sentence.format(row)) for row in each_row(rows.head(_MOST_ALIKE))]
    left = len(rows) - len(told)
    return [*told, f"{left} more {many}."] if left else told


def distinct(column: pd.Series[Any]) -> list[str]:
    """The different values of a column that are there, as text, in their order."""
    return [shown(each) for each in dict.fromkeys(column) if each is not None and str(each) and not _is_nan(each)]


def _is_nan(each: object) -> bool:
    return isinstance(each, float) and math.isnan(each)


def count(n: int, what: str) -> str:
    """ "1 board", "2 boards"."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _was(n: int) -> str:
    return "was" if n == 1 else "were"


def _is(n: int) -> str:
    return "is" if n == 1 else "are"


def _it(n: int) -> str:
    return "it" if n == 1 else "them"
