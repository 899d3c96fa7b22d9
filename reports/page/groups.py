"""Yield by slot, station, image, batch, flasher, operator, hour and day, and the p chart of it in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reports import charts
from reports.control_plots import Panel, control_svg
from reports.metrics import percent
from reports.page.context import Context
from reports.page.yields import by_group, short
from reports.text import rough, shown

BY = ("slot", "station", "image", "image_sha256", "batch", "flasher", "operator", "limits_version", "baud")
WORDS = {"image_sha256": "image (sha256)", "limits_version": "limits", "baud": "flash baud"}
MOST_GROUPS = 24
_FEWEST = 8  # subgroups that a chart needs to say anything
_BLOCK = 20  # boards of a subgroup where the clock gives too few


def groups(context: Context) -> list[dict[str, Any]]:
    """A table for each thing that the attempts differ in; groups by their size where there are too many."""
    told = []
    for column in BY:
        found = by_group(context, column)
        found.pop("0" if column == "baud" else "", None)
        if len(found) < 2:
            continue
        if column == "image_sha256" and len(found) <= context.attempts["image"].nunique():
            continue  # the images' names say it
        largest = sorted(found, key=lambda name: -len(found[name].orders))[:MOST_GROUPS]
        rows = [
            {"name": context.sets.link(shown(name), f"{WORDS.get(column, column)} {name}".capitalize(), each.orders),
             "first_pass": short(each.first_pass), "interval": _interval(each.first_pass), "final": short(each.final),
             "not_counted": each.not_counted}
            for name, each in sorted(found.items()) if name in largest
        ]  # fmt: skip
        told.append({"by": WORDS.get(column, column), "rows": rows, "left_out": len(found) - len(rows)})
    return told


def _interval(rate: Any) -> str:
    return " to ".join(percent(edge) for edge in rate.interval) if rate.interval else "–"


def stability(context: Context) -> dict[str, Any] | None:
    """The p chart of first-pass yield in time; None for too few boards."""
    first = context.first
    subgroups = _subgroups(context, first)
    if subgroups is None:
        return None
    what, keys = subgroups
    good = np.asarray(first["good"], dtype=bool)
    n = np.bincount(keys)
    passed = np.bincount(keys[good], minlength=len(n))
    chart = charts.proportions(passed, n)
    orders = np.asarray(first["order"], dtype=np.int64)
    behind = orders[np.isin(keys, chart.hits.indices)]
    return {
        "svg": control_svg([Panel("first-pass yield", chart)], width=940.0, told="p chart of first-pass yield"),
        "what": what, "n": len(n), "by_chance": rough(chart.expected_by_chance),
        "hits": context.sets.link(len(chart.hits), "Subgroups of the p chart with a rule hit", behind),
        "rules": rule_counts(chart), "note": chart.note or "",
    }  # fmt: skip


def _subgroups(context: Context, first: pd.DataFrame) -> tuple[str, Any] | None:
    """What a point of the chart is, and for each board its subgroup: days, else hours, else so many in a row."""
    orders = np.asarray(first["order"], dtype=np.int64)
    if len(orders) < _FEWEST * 5:
        return None
    hours = context.attempts["hour"].iloc[orders]
    for what, times in (("a day (UTC)", hours.dt.floor("D")), ("an hour (UTC)", hours)):
        keys, names = pd.factorize(times, sort=True)
        if len(names) >= _FEWEST and (keys >= 0).all() and len(orders) / len(names) >= 5:
            return what, keys
    size = min(_BLOCK, len(orders) // _FEWEST)
    return f"{size} boards in a row", np.minimum(np.arange(len(orders)) // size, len(orders) // size - 1)


def rule_counts(chart: charts.Chart) -> list[int]:
    """Raw hits of rules 1 to 4."""
    return list(chart.hits.counts().values())
