"""A report of supply studies as JSON for programs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from reports.power import achieved, compare, names, outcomes, rates, recommend, shmoo, spoiled, thresholds, words
from reports.power.gathered import Gathered, Series
from reports.releases.safe import shown
from rig.power.study import study_hash

SCHEMA = 1


def as_json(told: Gathered) -> str:
    """One object; all text in it scrubbed, what is no number is null."""
    return json.dumps(_clean(report_data(told)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def report_data(told: Gathered) -> dict[str, Any]:
    """`recommendation`: sentences, empty without one; `enough`: its numbers."""
    return {
        "schema": SCHEMA,
        "title": words.title(told),
        "sentence": words.headline(told),
        "recommendation": recommend.recommendation(told),
        "enough": [_enough(each) for each in recommend.enough(told)],
        "product": recommend.product_table(told),
        "simulated": told.simulated,
        "remarks": words.remarks(told),
        "runs": [_run(run) for run in told.runs],
        "outcomes": [
            {"part": row.part, "place": row.place, "n": row.n, "bad": row.bad, "counts": dict(row.counts)}
            for row in outcomes.rows(told)
        ],
        "thresholds": [_threshold(each) for each in thresholds.thresholds(told)],
        "in_a_row": [
            _of(each.series) | {"board": each.board, "slot": each.slot, "axis": each.axis, "value": each.value,
             "good": each.good, "needed": each.needed, "confirmed": each.confirmed, "at_most": each.bound,
             "refused": each.refused, "spoiled": each.spoiled} for each in rates.in_a_row(told)
        ],
        "rates": [
            _of(each.series) | {"outcomes": dict(each.series.counts)} | asdict(each.rate)
            for each in rates.rates(told)
        ],
        "shmoos": [_shmoo(each) for each in shmoo.shmoos(told)],
        "staircases": [
            _of(each.series) | {"board": each.board, "slot": each.slot, "first_bad": each.first_bad,
             "last_good": each.last_good,
             "levels": [{"volts": stair.volts, "outcomes": [trial.outcome for trial in stair.trials]}
                        for stair in each.stairs]} for each in rates.staircases(told)
        ],
        "comparisons": [_comparison(each) for each in compare.comparisons(told)],
        "spoiled": [
            {"run": each.run.record.id, "part": each.part, "place": each.place, "level": each.level,
             "board": each.board, "n": each.n, "counted": each.counted, "bad": each.bad, "why": each.why}
            for each in spoiled.rows(told)
        ],
        "achieved": [asdict(each) for each in achieved.rows(told)],
        "wear": [{"board": board, "sector": sector, "erases": erases} for board, sector, erases in words.wear(told)],
    }  # fmt: skip


def _run(run: Any) -> dict[str, Any]:
    record = run.record
    return {
        "run": record.id, "begun": record.utc, "study": record.study.name, "asks": study_hash(record.study),
        "simulated": record.simulated, "trials": len(run.trials), "bench": record.bench, "image": record.image,
        "places": [asdict(each) for each in record.places], "sources": [asdict(each) for each in record.sources],
        "rig": record.rig, "confidence": record.study.confidence,
    }  # fmt: skip


def _of(series: Series) -> dict[str, Any]:
    return {"run": series.run.record.id, **asdict(series.key)}


def _enough(each: recommend.Enough) -> dict[str, Any]:
    less = None if each.less is None else dict(zip(("level", "bad", "n"), each.less, strict=True))
    return {
        "run": each.run.record.id, "axis": each.axis, "activity": each.activity, "volts": each.volts,
        "amps": each.amps, "how": each.how, "good": each.good, "spoiled": each.spoiled, "at_most": each.bound,
        "boards": each.boards, "less": less,
    }  # fmt: skip


def _threshold(each: thresholds.Threshold) -> dict[str, Any]:
    clean = None if each.clean is None else asdict(each.clean)
    return _of(each.series) | {
        "axis": each.axis, "unit": names.unit(each.axis), "board": each.board, "slot": each.slot,
        "firmware": each.series.run.firmware, "supply": each.series.run.supply(each.slot),
        "levels": [asdict(level) for level in each.levels], "fit": each.fit.as_dict(), "none_bad_from": clean,
    }  # fmt: skip


def _shmoo(each: shmoo.Shmoo) -> dict[str, Any]:
    return _of(each.series) | {
        "across": each.across, "up": each.up,
        "cells": [{"x": one.x, "y": one.y, "n": one.n, "bad": one.bad, "outcomes": dict(one.counts)}
                  for one in each.squares],
        "boundary": [{"x": at, "fit": fit.as_dict()} for at, fit in each.boundary.items()],
    }  # fmt: skip


def _comparison(each: compare.Comparison) -> dict[str, Any]:
    return {
        "by": each.by, "title": each.title, "axis": each.axis, "mixed": each.mixed,
        "members": [{"name": label, "board": one.board, "run": one.series.run.record.id,
                     "v50": one.fit.v50._asdict() if one.known else None} for label, one in each.members],
        "differences": [asdict(one) | {"told_apart": one.told_apart} for one in each.differences],
    }  # fmt: skip


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {shown(key): _clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(each) for each in value]
    if isinstance(value, str):
        return shown(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
