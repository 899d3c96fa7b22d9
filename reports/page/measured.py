"""Measurements: each number against its limits, its capability, its course in time, its slots.

Every measurement is read once and let go: of a million units, one is all that fits beside the tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports import charts
from reports.capability import Capability, Index, capability
from reports.control_plots import Panel, control_svg
from reports.distributions import groups_svg, histogram_svg
from reports.page.context import Context
from reports.page.extras import by_sentence
from reports.page.groups import rule_counts
from reports.settled import FAR
from reports.tables import OUTCOMES, Name
from reports.text import limits, number, rough, shown

MOST_CARDS = 40  # measurements drawn; the table has all
MOST_GROUPS = 16
_FEWEST_DRAWN = 3
_FEWEST_DRIFT = 30
_BY = ("station", "image", "batch", "flasher", "operator", "hour")
Floats = npt.NDArray[np.float64]


def measured(context: Context, unsafe: Mapping[Name, str]) -> list[dict[str, Any]]:
    """One entry a measurement, in the plan's order. `unsafe`: why the capability of some cannot be trusted."""
    names = context.records.numbers.names()
    return [
        each
        for place, name in enumerate(names)
        if (each := _one(context, name, unsafe.get(name), place < MOST_CARDS)) is not None
    ]


def not_drawn(rows: list[dict[str, Any]]) -> list[str]:
    """Names of the measurements that no picture would say anything about: too few values, or always the same."""
    return [row["name"] for row in rows if not row["drawn"]]


def refusals(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Why there is no index: (the sentence, the measurements that it is about)."""
    return by_sentence((row["refused"], row["step"], row["name"]) for row in rows if row["refused"])


def _one(context: Context, name: Name, unsafe: str | None, drawn: bool) -> dict[str, Any] | None:
    table = context.records.numbers.of(name)
    orders = np.asarray(table["order"], dtype=np.int64)
    counted = context.counted[orders]
    if not counted.any():
        return None
    values = np.asarray(table["value"], dtype=np.float64)
    which, outcome = table["limits"].to_numpy(), table["outcome"].cat.codes.to_numpy()
    if not counted.all():
        orders, values, which, outcome = orders[counted], values[counted], which[counted], outcome[counted]
    sizes = np.bincount(which)
    sets = np.flatnonzero(sizes)
    kept_to = context.records.numbers.limits().iloc[int(np.argmax(sizes))]
    lower, upper = _limit(kept_to["minimum"]), _limit(kept_to["maximum"])
    warn = _limit(kept_to["marginal_minimum"]), _limit(kept_to["marginal_maximum"])
    unit, label = shown(name.unit_of), shown(f"{name.step} {name.name}")
    told: dict[str, Any] = {
        "step": shown(name.step), "name": shown(name.name), "unit_of": unit,
        "limits": limits(lower, upper) or "none", "other_limits": len(sets) - 1,
        **_spread(values), **_judged(context, label, orders, outcome, values),
        **_capability(context, values, orders, which, kept_to, lower, upper, unsafe),
        "svg": "", "chart": "", "groups": "",
    }  # fmt: skip
    known = np.isfinite(values)
    if known.sum() >= _FEWEST_DRAWN:
        told["drift"] = drift(values[known])
        told |= _rules(context, label, unit, values[known], orders[known], drawn)
    told.setdefault("rules", [])
    told["drawn"] = drawn and known.sum() >= _FEWEST_DRAWN and float(np.ptp(values[known])) > 0
    if told["drawn"]:
        told["svg"] = histogram_svg(values, unit=unit, lower=lower, upper=upper, warn=warn, name=label)
        slots = by_group(context, "slot", values[known], orders[known])
        if len(slots) > 1:
            told["groups"] = groups_svg(slots[:MOST_GROUPS], unit=unit, lower=lower, upper=upper, name=label)
        told["by"] = _tables(context, values[known], orders[known])
    return told


def _spread(values: Floats) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    if not len(known):
        return {"n": 0, "lowest": "–", "median": "–", "highest": "–"}
    return {
        "n": len(known), "lowest": number(float(known.min())), "median": number(float(np.median(known))),
        "highest": number(float(known.max())),
    }  # fmt: skip


def _judged(context: Context, label: str, orders: Any, outcome: Any, values: Floats) -> dict[str, Any]:
    """How many were outside, inside the warning band, or could not be measured; each leads to its units."""
    known = np.isfinite(values)
    failed, marginal = (outcome == OUTCOMES.index(each) for each in ("fail", "marginal"))
    masks = {"outside": failed & known, "marginal": marginal, "missing": ~known}
    return {
        name: context.sets.link(int(mask.sum()), f"{label}: {name}", orders[mask]) for name, mask in masks.items()
    }


def _capability(
    context: Context, values: Floats, orders: Any, which: Any, kept_to: pd.Series[Any], lower: float | None,
    upper: float | None, unsafe: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Of the values that were held to these limits; of others no index says anything."""
    mine = which == int(kept_to.name)  # type: ignore[call-overload]
    slots = context.keys("slot")[0][orders]
    if not mine.all():
        values, slots = values[mine], slots[mine]
    found: Capability = capability(values, lower, upper, groups=slots)
    indices = {each: index_text(getattr(found, each)) for each in ("cp", "cpk", "pp", "ppk")}
    warned = [*([unsafe] if unsafe and not found.refused else []), *found.warnings]
    return {
        "refused": shown(found.refused or ""), "cap_n": found.n, "cap_warnings": [shown(each) for each in warned],
        "unsafe": bool(unsafe), "low_cpk": _is_low(found.cpk), "sigma_within": number(found.sigma_within),
        "sigma_overall": number(found.sigma_overall), "mean": number(found.mean), **indices,
    }  # fmt: skip


def index_text(index: Index | None) -> tuple[str, str] | None:
    """An index and its interval in two texts."""
    if index is None or not math.isfinite(index.value):
        return None
    return f"{index.value:.2f}", f"{index.low:.2f} to {index.high:.2f}"


def _is_low(index: Index | None) -> bool:
    return index is not None and index.value < 1.33


def _rules(context: Context, label: str, unit: str, values: Floats, orders: Any, drawn: bool) -> dict[str, Any]:
    """The I-MR chart and the raw rule hits of its individuals, with what chance alone gives for so many points."""
    values, several = levelled(values, context.keys("slot")[0][orders])
    individuals, ranges = charts.individuals(values)
    at = np.unique(individuals.hits.indices)
    found: dict[str, Any] = {
        "rules": rule_counts(individuals), "points": individuals.n,
        "by_chance": rough(individuals.expected_by_chance),
        "hits": context.sets.link(len(individuals.hits), f"{label}: Western Electric hits", orders[at]),
    }  # fmt: skip
    if drawn:
        name = "individuals, slots levelled" if several else "individuals"
        panels = [Panel(name, individuals), Panel("moving range", ranges)]
        found["chart"] = control_svg(panels, unit=unit, told=f"I-MR chart of {label}")
    return found


def levelled(values: Floats, slots: Any) -> tuple[Floats, bool]:
    """The values with the mean of each slot moved to that of all, and whether there was one to move: a slot that
    reads higher than its neighbour is a difference between slots and no pattern in time. Not where slots have less
    than two values each in the mean: nothing would be left."""
    n = np.bincount(slots + 1)
    several = int(np.count_nonzero(n))
    if several < 2 or len(values) < 2 * several:
        return values, False
    centre = float(values.mean())
    means = np.bincount(slots + 1, values - centre) / np.maximum(n, 1)
    moved: Floats = values - means[slots + 1]
    return moved, True


def drift(values: Floats) -> str:
    """What a straight line through the values in their order rises by, from the first to the last, with its 95 %
    interval; it takes the values as independent of each other."""
    n = len(values)
    if n < _FEWEST_DRIFT:
        return "–"
    across = np.arange(n, dtype=np.float64) - (n - 1) / 2
    squares = n * (n * n - 1) / 12  # of 0, 1, 2 ... about their mean
    slope = float(across @ values) / squares
    left = max(float(values.var()) * n - slope**2 * squares, 0.0)
    error = math.sqrt(left / (n - 2) / squares)
    rise, reach = slope * (n - 1), 1.96 * error * (n - 1)
    return f"{rise:+.3g} ({rise - reach:+.3g} to {rise + reach:+.3g})"


def by_group(context: Context, column: str, values: Floats, orders: Any) -> list[tuple[str, int, float, float]]:
    """n, mean and standard deviation by what stands in a column of the attempts: (group, n, mean, deviation), by
    name."""
    codes, names = context.keys(column)
    keys = codes[orders].astype(np.intp)  # as bincount wants it, once
    if (keys < 0).any():
        keys, values = keys[keys >= 0], values[keys >= 0]
    n = np.bincount(keys, minlength=len(names))
    off = values - (float(values.mean()) if len(values) else 0.0)  # so that the squares do not cancel
    means = np.bincount(keys, off, minlength=len(names)) / np.maximum(n, 1)
    squares = np.bincount(keys, off * off, minlength=len(names)) - n * means**2
    spread = np.sqrt(np.maximum(squares, 0.0) / np.maximum(n - 1, 1))
    means = means + (float(values.mean()) if len(values) else 0.0)
    rows = zip(names, n.tolist(), means.tolist(), spread.tolist(), strict=True)
    return [(_named(name), count, mean, deviation) for name, count, mean, deviation in rows if count]


def _named(name: Any) -> str:
    return name.strftime("%m-%d %H h") if isinstance(name, pd.Timestamp) else shown(name)


def _tables(context: Context, values: Floats, orders: Any) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """The same measurement by other things that differ, as short tables; nothing where there is one group."""
    told = []
    for column in _BY:
        if not 2 <= len(context.keys(column)[1]) <= MOST_GROUPS:
            continue
        rows = by_group(context, column, values, orders)
        if len(rows) > 1:
            cells = [(name, str(n), number(mean), number(deviation)) for name, n, mean, deviation in rows]
            told.append((column, cells))
    return told


def _limit(value: Any) -> float | None:
    return None if value is None or not abs(value) <= FAR else float(value)
