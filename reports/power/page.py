"""A report of supply studies as one HTML page that needs nothing but itself."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.power import achieved, compare, evidence, names, outcomes, rates, recommend, spoiled, words
from reports.power.gathered import Gathered
from reports.power.pictures import comparison_svg, response_svg, shmoo_svg
from reports.power.shmoo import Shmoo, shmoos
from reports.power.thresholds import Threshold, thresholds
from reports.releases.safe import shown
from reports.releases.words import count
from reports.text import moment, number

_TEMPLATES = Path(__file__).parent.parent / "templates"
_MOST_PICTURES = 24  # of searches; the table has all
_MOST_WEAR = 12
_SHORT = 14  # characters of a board's name


def page(told: Gathered) -> str:
    """The page's text; whatever came out of a board is escaped in it."""
    return _environment().get_template("power.html").render(page_data(told))


def page_data(told: Gathered) -> dict[str, Any]:
    """All that the page says."""
    found = thresholds(told)
    worn = words.wear(told)
    return {
        "title": words.title(told), "headline": words.headline(told), "known": bool(recommend.recommendation(told)),
        "remarks": words.remarks(told), "tiles": words.tiles(told), "product": recommend.product_table(told),
        "lead": [shown(run.record.study.words.strip()) for run in told.runs[:1]],
        "thresholds": [_threshold(each) for each in found], "boards": words.named_boards(found),
        "pictures": [_picture(each, words.named_boards(found)) for each in found[:_MOST_PICTURES]],
        "more_pictures": max(0, len(found) - _MOST_PICTURES),
        "rows": [_in_a_row(each) for each in rates.in_a_row(told)],
        "sources": [_source(each) for each in words.source_rates(told)],
        "rates": [_rate(each) for each in rates.rates(told) if each.series.key.source is None],
        "shmoos": [_shmoo(each) for each in shmoos(told)],
        "stairs": [_stairs(each) for each in rates.staircases(told)],
        "kinds": [(each, names.TITLES[each]) for each in outcomes.seen(told)],
        "outcomes": [_outcomes(each) for each in outcomes.rows(told)],
        "meanings": [(names.TITLES[each], names.MEANINGS[each]) for each in outcomes.seen(told)],
        "spoiled": [
            (each.part, each.place, each.level or "–", _short(each.board), each.n, f"{each.bad} of {each.counted}",
             each.why) for each in spoiled.rows(told)
        ],
        "comparisons": [_comparison(each) for each in compare.comparisons(told)],
        "achieved": [_achieved(each) for each in achieved.rows(told)],
        "examples": [_example(each, len(told.runs) > 1) for each in evidence.examples(told)],
        "wear": [(_short(board), sector, number(erases)) for board, sector, erases in worn[:_MOST_WEAR]],
        "wear_left": max(0, len(worn) - _MOST_WEAR), "facts": words.facts(told),
        "generated": moment(datetime.now(UTC)),
    }  # fmt: skip


def _threshold(each: Threshold) -> dict[str, Any]:
    fit, axis = each.fit, each.axis
    outside = fit.outside
    end = fit.levels.low if outside == "below" else fit.levels.high
    clean = each.clean
    way = "up" if each.downwards else "down"
    return {
        "part": shown(each.series.key.part), "place": outcomes.place_of(each.series), "board": _short(each.board),
        "axis": names.axis(axis), "n": fit.n, "bad": fit.bad,
        "outside": f"{outside} {names.amount(axis, end)}" if outside else "",
        "v50": names.about(axis, fit.v50.value), "v50_interval": words.interval(axis, fit.v50),
        "slope": f"{_per_step(each)}", "rare": names.about(axis, each.rare.value),
        "rare_interval": words.interval(axis, each.rare), "reached": fit.extrapolated(each.rare),
        "clean": "" if clean is None else f"{names.amount(axis, clean.value)} {way}: 0 of {clean.n}",
        "clean_bound": "" if clean is None else f"at most {words.percent(clean.bound)}",
    }  # fmt: skip


def _per_step(each: Threshold) -> str:
    """Slope as people can check it: how P(bad) changes in a step of the grid."""
    levels = each.fit.levels
    step = f"× {number(levels.step)}" if levels.log else names.amount(each.axis, levels.step)
    return f"{words.percent(each.fit.slope)} per {step}"


def _picture(each: Threshold, named: bool) -> dict[str, Any]:
    board = f", board {_short(each.board)}" if named else ""
    return {
        "title": f"{shown(each.series.key.part)}: {outcomes.place_of(each.series)}{board}",
        "said": words.statement(each), "svg": Markup(response_svg(each)),
    }  # fmt: skip


def _in_a_row(each: rates.InARow) -> dict[str, Any]:
    refused = ", ".join(names.amount(each.axis, value) for value in each.refused)
    return {
        "part": shown(each.series.key.part), "what": names.ACTIVITY.get(each.series.key.activity, ""),
        "board": _short(each.board), "value": names.amount(each.axis, each.value),
        "good": f"{each.good} of {each.needed}", "bound": words.percent(each.bound) if each.good else "–",
        "confirmed": each.confirmed, "refused": refused or "–", "spoiled": each.spoiled,
    }  # fmt: skip


def _source(each: rates.Rated) -> dict[str, Any]:
    record = each.series.run.record
    played = next((one for one in record.sources if one.name == each.series.key.source), None)
    return {
        "title": outcomes.source_title(each.series), "source": shown(played.source) if played else "",
        "played": f"{number(played.volts)} V, {names.milliamps(played.amps)}" if played else "",
        "what": names.ACTIVITY.get(each.series.key.activity, ""), "rate": words.rate(each.rate),
        "kinds": _kinds(each), "verdict": words.source_verdict(each), "bad": each.rate.bad,
    }  # fmt: skip


def _rate(each: rates.Rated) -> dict[str, Any]:
    return {
        "part": shown(each.series.key.part), "place": outcomes.place_of(each.series), "rate": words.rate(each.rate),
        "kinds": _kinds(each), "bad": each.rate.bad,
    }  # fmt: skip


def _kinds(each: rates.Rated) -> str:
    return ", ".join(f"{n} {names.TITLES.get(kind, kind)}" for kind, n in each.series.counts.most_common())


def _shmoo(each: Shmoo) -> dict[str, Any]:
    others = [name for name in each.series.part.axes if name not in (each.up, each.across)]
    over = f", over all values of {', '.join(map(names.axis, others))}" if others else ""
    return {
        "title": f"{shown(each.series.key.part)}: {outcomes.place_of(each.series)}",
        "said": f"{shown(each.series.part.words.strip())} {count(each.n, 'trial')}{over}; bad of all in each cell.",
        "svg": Markup(shmoo_svg(each)), "fitted": len(each.boundary),
    }  # fmt: skip


def _stairs(each: rates.Staircase) -> dict[str, Any]:
    return {
        "title": f"{shown(each.series.key.part)}, board {_short(each.board)}", "said": words.staircase(each),
        "rows": [
            (f"{number(stair.volts)} V",
             ", ".join(names.TITLES.get(trial.outcome, trial.outcome) for trial in stair.trials),
             any(each.series.is_bad(trial) for trial in stair.trials), shown(stair.trials[-1].why))
            for stair in each.stairs
        ],
    }  # fmt: skip


def _outcomes(row: outcomes.Row) -> dict[str, Any]:
    return {"part": row.part, "place": row.place, "n": row.n, "bad": row.bad, "counts": row.counts}


def _comparison(each: compare.Comparison) -> dict[str, Any]:
    unit = names.unit(each.axis)
    return {
        "title": f"{compare.WORDS[each.by]}, {each.title}", "svg": Markup(comparison_svg(each)),
        "mixed": ", ".join(each.mixed),
        "rows": [
            (one.first, one.second, f"{one.value:+.3g} {unit}", f"{one.low:+.3g} to {one.high:+.3g} {unit}",
             one.told_apart) for one in each.differences
        ],
        "lost": [label for label, one in each.members if not one.known],
    }  # fmt: skip


def _achieved(each: achieved.Row) -> dict[str, Any]:
    return {
        "commanded": each.commanded, "supply": each.supply, "how": " · ".join(filter(None, (each.how, each.limits))),
        "widened": each.widened, "n": each.n, "missed": each.missed, "seen": each.seen,
        "cells": [spread(each.depth, 1000, "mV"), spread(each.width, 1000, "ms"), spread(each.delay, 1000, "ms")],
        "instrument": each.instrument,
    }  # fmt: skip


def spread(each: achieved.Spread | None, factor: float, unit: str) -> str:
    """Median and range of what a witness saw."""
    if each is None:
        return achieved.NOT_MEASURED
    middle, least, most = (number(float(f"{value * factor:.3g}")) for value in (each.middle, each.least, each.most))
    return f"{middle} {unit}" if least == most else f"{middle} {unit} ({least} to {most})"


def _example(each: evidence.Example, several_runs: bool) -> dict[str, Any]:
    kind = each.kind
    trial = each.trial
    where = f"{shown(each.run.record.id)}, trial {trial.n}" if several_runs else f"trial {trial.n}"
    return {
        "kind": kind, "title": names.TITLES.get(kind, kind), "what": each.title, "where": where,
        "why": shown(trial.why), "log": "\n".join(each.log), "trace": "\n".join(each.trace),
        "log_file": shown(trial.log or ""), "trace_file": shown(trial.trace or ""),
        "commanded": shown((trial.commanded or {}).get("sentence") or ""),
    }  # fmt: skip


def _short(board: str) -> str:
    name = shown(board)
    return name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
