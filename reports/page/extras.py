"""Sections that not every page has: strangest units, gage study, flash timing, limits replayed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from reports import gage, outliers, replay, timing
from reports.metrics import percent
from reports.once import once
from reports.page.context import Context, parts
from reports.plots import stacked_svg
from reports.tables import Name, Records
from reports.text import number, seconds, shown

PARTS = timing.PARTS
_MOST_BARS = 16
STRANGE = 2.0  # a normal score: one unit of forty-four is that far off by chance


@once
def flash_tables(records: Records) -> list[tuple[str, pd.DataFrame]]:
    """`timing.breakdown` by each thing: the first always, others where there is a choice."""
    told: list[tuple[str, pd.DataFrame]] = []
    for by in timing.BY:
        if told and records.attempts[by].nunique() < 2:
            continue
        table = timing.breakdown(records, by, table=parts(records))
        if len(table) and not (told and len(table) < 2):
            told.append((by, table))
    return told


def strangest(context: Context, units_found: Iterable[outliers.Strange]) -> list[dict[str, Any]]:
    """The ten strangest units (of `outliers.strangest`) and what is strange about each; fewer where fewer are."""
    found = [each for each in units_found if each.distance >= STRANGE]
    orders = [each.order for each in found]
    units = context.attempts["unit"].iloc[orders]
    return [
        {"unit": context.sets.link(shown(unit), f"Strange unit {unit}, attempt {each.order}", [each.order]),
         "order": each.order, "distance": number(each.distance),
         "outcome": str(context.attempts["outcome"].iloc[each.order]),
         "why": [_why(*reason) for reason in each.why]}
        for each, unit in zip(found, units, strict=True)
    ]  # fmt: skip


def _why(name: Name, value: float, z: float) -> str:
    told = f"{shown(name.name)} {number(value)} {shown(name.unit_of)}".strip()
    return f"{told} ({abs(z):.1f} robust sigma {'above' if z > 0 else 'below'} the rest)"


def studies(context: Context) -> tuple[list[dict[str, Any]], dict[Name, str]]:
    """Gage R&R of each measurement of the newest study; and why the capability index of some is not to be trusted."""
    found = gage.studied(context.records)
    if not found:
        return [], {}
    told = [
        {"name": shown(each.name.name), "step": shown(each.name.step), "run": shown(each.run),
         "sentences": [shown(said) for said in gage.sentences(each.gage, each.name.unit_of)],
         "grade": each.gage.verdict, **_gage(each.gage, each.name.unit_of)}
        for each in found
    ]  # fmt: skip
    why = ((name, gage.unsafe(context.records, name)) for name in context.records.numbers.names())
    return told, {name: shown(text) for name, text in why if text}


def study_refusals(studies: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Why there is no Gage R&R: (the sentence, the measurements that it is about)."""
    refused = ((" ".join(each["sentences"]), each["step"], each["name"]) for each in studies if not each["rows"])
    return by_sentence(refused)


def by_sentence(told: Iterable[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """(sentence, step, name) as (sentence, names): a name of several steps with its step."""
    found: dict[str, list[tuple[str, str]]] = {}
    for sentence, step, name in told:
        found.setdefault(sentence, []).append((step, name))
    return [(sentence, ", ".join(_distinct(names))) for sentence, names in found.items()]


def _distinct(names: list[tuple[str, str]]) -> list[str]:
    plain = [name for _, name in names]
    return [name if plain.count(name) == 1 else f"{step} {name}" for step, name in names]


def _gage(found: gage.Gage, unit: str) -> dict[str, Any]:
    if found.refused is not None:
        return {"rows": [], "bias": []}
    parts = (("Repeatability (EV)", found.ev), ("Between slots (AV)", found.av), ("Interaction", found.interaction),
             ("Gage R&R", found.grr), ("Between units (PV)", found.pv), ("Total", found.tv))  # fmt: skip
    rows = [
        (name, f"{number(sigma)} {shown(unit)}".strip(), f"{100 * sigma / found.tv:.1f} %" if found.tv else "–",
         f"{600 * sigma / found.tolerance:.1f} %" if found.tolerance else "–")
        for name, sigma in parts
    ]  # fmt: skip
    bias = [
        (shown(each.appraiser), f"{each.value:+.3g}", f"{each.low:+.3g} to {each.high:+.3g}", each.stands_out)
        for each in found.bias
    ]  # fmt: skip
    return {"rows": rows, "bias": bias, "ndc": "–" if found.ndc is None else str(found.ndc)}


def flash_times(context: Context) -> list[dict[str, Any]]:
    """Where the time of a unit goes, as one bar a group; the first table always, others where there is a choice."""
    told: list[dict[str, Any]] = []
    for by, table in flash_tables(context.records):
        rows = []
        for row in table.head(_MOST_BARS).to_dict("records"):
            parts = {part: float(row[part]) for part in PARTS if math.isfinite(float(row[part]))}
            rows.append((shown(row[by]), int(row["n"]), parts, float(row["total"])))
        told.append({
            "by": by, "svg": stacked_svg([(name, n, parts) for name, n, parts, _ in rows]),
            "left_out": len(table) - len(rows),
            "rows": [
                (name, number(n), [seconds(parts.get(part, math.nan)) for part in PARTS], seconds(total))
                for name, n, parts, total in rows
            ],
        })  # fmt: skip
    return told


def slowing(context: Context) -> list[str]:
    """How the parts of a unit's time changed over the batch; only what did."""
    return [f"{shown(each)}." for each in timing.regression(context.records, table=context.parts) if each.significant]


def what_ifs(context: Context) -> list[dict[str, Any]]:
    """Yields as they would be with other limits. Raises UsageProblem for one that makes no sense."""
    asked = [replay.parse_what_if(text, context.records) for text in context.what_ifs]
    return [
        _replayed(context, replay.replay(context.records, each.name, minimum=each.minimum, maximum=each.maximum))
        for each in asked
    ]


def _replayed(context: Context, found: replay.Replayed) -> dict[str, Any]:
    orders = np.unique(np.concatenate([found.fails, found.blocked, found.unknown]))
    return {
        "limit": shown(found.what),
        "first_pass": f"{percent(found.first_pass.value)} → {found.first_pass_after}",
        "final": f"{percent(found.final.value)} → {found.final_after}", "n": found.final.n,
        "changed": context.sets.link(len(orders), f"What if: {found.what}", orders),
        "note": shown(" ".join(found.sentences[1:])),
    }  # fmt: skip
