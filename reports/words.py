"""The sentences of a report: what these runs were and what became of them."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reports import metrics
from reports.load import Records, each_row
from reports.text import number, shown


def title(records: Records) -> str:
    """Product and batch of these runs."""
    products, batches = distinct(records.runs["product"]), distinct(records.runs["batch"])
    name = ", ".join(products) or "Unknown product"
    return f"{name}, batch {', '.join(batches)}" if batches else name


def verdict(found: metrics.Yields) -> str:
    """The whole result in a sentence or two."""
    rate = found.final
    if not rate.n:
        parts = ["No board was judged: there are no counted units."]
    elif rate.good == rate.n:
        parts = [f"All {rate.n} boards are good." if rate.n > 1 else "The board is good."]
    else:
        parts = [f"{rate.good} of {count(rate.n, 'board')} are good."]
    if found.failed:
        parts.append(f"{found.failed} failed.")
    if found.unverified:
        parts.append(f"{found.unverified} may be half written: run {_it(found.unverified)} again before any other.")
    if found.not_counted:
        parts.append(f"{found.not_counted} more {_was(found.not_counted)} not judged (blocked or aborted).")
    if found.running:
        parts.append(f"{found.running} more {'is' if found.running == 1 else 'are'} still running.")
    return " ".join(parts)


def tone(found: metrics.Yields) -> str:
    """Which colour the verdict has: pass, fail, or idle where nothing can be said."""
    if found.failed or found.unverified:
        return "fail"
    return "pass" if found.final.n and not found.not_counted else "idle"


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
    for run in each_row(records.runs):
        if run.live:
            told.append(f"Run {shown(run.run)} is still going on: these are its figures so far.")
        elif run.ended is None:
            told.append(f"Run {shown(run.run)} has no end on record: the rig was killed or lost power.")
    for name, of in (
        ("product", "products"),
        ("limits_version", "versions of the limits"),
        ("image_sha256", "images"),
    ):
        if len(distinct(records.runs[name])) > 1:
            told.append(f"These runs have different {of}: rates and times mix them.")
    if len({tuple(tasks) for tasks in records.runs["tasks"]}) > 1:
        told.append("These runs did different things to their boards: rates and times mix them.")
    if records.runs["simulated"].nunique() > 1 or records.runs["speed"].nunique() > 1:
        told.append("These runs differ in how real or how fast their bench is: their times do not compare.")
    for row in each_row(records.golden[~records.golden["good"] & (records.golden["outcome"] != "running")]):
        told.append(f"Golden unit {shown(row.unit)} was {row.outcome} on slot {shown(row.slot)}: doubt that slot.")
    everything = pd.concat([records.attempts, records.golden])
    for row in each_row(everything[[off is False for off in everything["supply_off_confirmed"]]]):
        told.append(f"Unit {shown(row.unit)}: the supply was not confirmed off on slot {shown(row.slot)}. Check it.")
    return told


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


def _it(n: int) -> str:
    return "it" if n == 1 else "them"
