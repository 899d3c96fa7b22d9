"""Measurements: each number against its limits, its capability, its course in time, its slots.

Every measurement is read once and let go: of a million units, one is all that fits beside the tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
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
from reports.settled import FAR, median
from reports.tables import OUTCOMES, Name
from reports.text import limits, number, rough, shown

MOST_CARDS = 40  # measurements drawn; the table has all
MOST_GROUPS = 16
_FEWEST_DRAWN = 3
_FEWEST_DRIFT = 30
_LINKED = ("outside", "marginal", "missing", "hits")  # of a row, what leads to units
_BY = ("station", "image", "batch", "flasher", "operator", "hour")
Floats = npt.NDArray[np.float64]


def measured(context: Context, unsafe: Mapping[Name, str]) -> list[dict[str, Any]]:
    """One entry a measurement, in the plan's order. `unsafe`: why the capability of some cannot be trusted. Links are
    left to `linked`: this may run in another process."""
    names = enumerate(context.records.numbers.names())
    rows = (_one(context, name, unsafe.get(name), at < MOST_CARDS) for at, name in names)
    return [row for row in rows if row is not None]


def linked(context: Context, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same entries, with links to the units behind their numbers."""
    return [row | {name: context.sets.link(*row[name]) for name in _LINKED if name in row} for row in rows]


def not_drawn(rows: list[dict[str, Any]]) -> list[str]:
    """Names of the measurements that no picture would say anything about: too few values, or always the same."""
    return [row["name"] for row in rows if not row["drawn"]]


def refusals(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Why there is no index: (the sentence, the measurements that it is about)."""
    return by_sentence((row["refused"], row["step"], row["name"]) for row in rows if row["refused"])


def _one(context: Context, name: Name, unsafe: str | None, drawn: bool) -> dict[str, Any] | None:
    table = context.records.numbers.of(name)
    orders = table["order"].to_numpy()
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
        **_judged(label, orders, outcome, values),
        "svg": "", "chart": "", "groups": "", "rules": [],
    }  # fmt: skip
    known = np.isfinite(values)
    if not known.all():
        values, orders, which = values[known], orders[known], which[known]
    middle = median(values)
    slots, place = context.slots(orders)
    told |= _spread(values, middle)
    told |= _capability(values, slots, place, which, kept_to, lower, upper, unsafe)
    drawable = len(values) >= _FEWEST_DRAWN
    if drawable:
        told["drift"] = drift(values)
        told |= _rules(label, unit, values, orders, slots, drawn)
    told["drawn"] = drawn and drawable and float(values.max() - values.min()) > 0
    if told["drawn"]:
        told["svg"] = histogram_svg(values, unit=unit, lower=lower, upper=upper, warn=warn, name=label, median=middle)
        off = Off.of(values)
        slots_of = by_group(context, "slot", off, orders)
        if len(slots_of) > 1:
            told["groups"] = groups_svg(slots_of[:MOST_GROUPS], unit=unit, lower=lower, upper=upper, name=label)
        told["by"] = _tables(context, off, orders)
    return told


def _spread(known: Floats, middle: float) -> dict[str, Any]:
    if not len(known):
        return {"n": 0, "lowest": "–", "median": "–", "highest": "–"}
    return {
        "n": len(known), "lowest": number(float(known.min())), "median": number(middle),
        "highest": number(float(known.max())),
    }  # fmt: skip


def _judged(label: str, orders: Any, outcome: Any, values: Floats) -> dict[str, Any]:
    """How many were outside, inside the warning band, or could not be measured; each as `Sets.link` takes it."""
    known = np.isfinite(values)
    failed, marginal = (outcome == OUTCOMES.index(each) for each in ("fail", "marginal"))
    masks = {"outside": failed & known, "marginal": marginal, "missing": ~known}
    return {name: (int(mask.sum()), f"{label}: {name}", orders[mask]) for name, mask in masks.items()}


def _capability(
    values: Floats, slots: Any, place: Any, which: Any, kept_to: pd.Series[Any], lower: float | None,
    upper: float | None, unsafe: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Of the values that were held to these limits; of others no index says anything."""
    mine = which == int(kept_to.name)  # type: ignore[call-overload]
    if not mine.all():
        values, slots, place = values[mine], slots[mine], None
    found: Capability = capability(values, lower, upper, groups=slots, place=place)
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


def _rules(label: str, unit: str, values: Floats, orders: Any, slots: Any, drawn: bool) -> dict[str, Any]:
    """The I-MR chart and the raw rule hits of its individuals, with what chance alone gives for so many points."""
    values, several = levelled(values, slots)
    individuals, ranges = charts.individuals(values)
    at = individuals.hits.places
    found: dict[str, Any] = {
        "rules": rule_counts(individuals), "points": individuals.n,
        "by_chance": rough(individuals.expected_by_chance),
        "hits": (len(individuals.hits), f"{label}: Western Electric hits", orders[at]),
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
    lowest = int(slots.min(initial=0))  # -1: in no slot
    at = (slots - lowest if lowest else slots).astype(np.intp)
    n = np.bincount(at)
    several = int(np.count_nonzero(n))
    if several < 2 or len(values) < 2 * several:
        return values, False
    centre = float(values.mean())
    means = np.bincount(at, values - centre) / np.maximum(n, 1)
    moved: Floats = values - means.take(at)
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


@dataclass(frozen=True)
class Off:
    """Values as what they are off their mean, so that their squares do not cancel, and the squares."""

    centre: float
    off: Floats
    squares: Floats

    @classmethod
    def of(cls, values: Floats) -> Off:
        centre = float(values.mean()) if len(values) else 0.0
        off = values - centre
        return cls(centre, off, off * off)


def by_group(context: Context, column: str, values: Off, orders: Any) -> list[tuple[str, int, float, float]]:
    """n, mean and standard deviation by what stands in a column of the attempts: (group, n, mean, deviation), by
    name."""
    codes, names = context.keys(column)
    keys = codes.take(orders).astype(np.intp)  # as bincount wants it, once
    off, squares = values.off, values.squares
    if (keys < 0).any():
        there = keys >= 0
        keys, off, squares = keys[there], off[there], squares[there]
    n = np.bincount(keys, minlength=len(names))
    means = np.bincount(keys, off, minlength=len(names)) / np.maximum(n, 1)
    left = np.bincount(keys, squares, minlength=len(names)) - n * means**2
    spread = np.sqrt(np.maximum(left, 0.0) / np.maximum(n - 1, 1))
    means = means + values.centre
    rows = zip(names, n.tolist(), means.tolist(), spread.tolist(), strict=True)
    return [(_named(name), count, mean, deviation) for name, count, mean, deviation in rows if count]


def _named(name: Any) -> str:
    return name.strftime("%m-%d %H h") if isinstance(name, pd.Timestamp) else shown(name)


def _tables(context: Context, values: Off, orders: Any) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
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
