"""A report's figures for other programs: what the page says, as plain data for JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from reports import findings, metrics
from reports.defects import defects
from reports.metrics import Rate
from reports.tables import Records, each_row
from reports.text import shown
from reports.words import warnings
from rig.records import chain

GOLDEN_COLUMNS = ["run", "unit", "slot", "attempt", "task", "started", "outcome", "code", "sentence"]


def summary(records: Records) -> dict[str, Any]:
    """The figures of the page; null is "nothing to say", as for a rate of no units."""
    found = metrics.yields(records)
    rates = {name: _rate(each) for name, each in vars(found).items() if isinstance(each, Rate)}
    counts = {name: each for name, each in asdict(found).items() if name not in rates}
    search = findings.search(records)
    steps = defects(records)
    told: dict[str, Any] = {
        "generated": datetime.now(UTC).isoformat(),
        "runs": [
            {"run": run.run, "product": run.product, "batch": run.batch, "station": run.station, "bench": run.bench,
             "simulated": run.simulated, "speed": run.speed, "started": run.started, "ended": run.ended,
             "exit_code": run.exit_code, "resumed": run.resumed, "operator": run.operator,
             "chain_head": None if run.head == chain.START else run.head,
             "image_sha256": run.image_sha256, "limits_version": run.limits_version}
            for run in each_row(records.runs)
        ],
        "counts": counts | {"not_begun": metrics.not_begun(records)},
        "rates": rates,
        "rolled_throughput_yield": metrics.rolled_yield(records),
        "defects_per_million_steps": _rate(steps) | {"dpmo": None if steps.value is None else 1e6 * steps.value},
        "findings": [
            {"sentence": each.sentence, "what": each.what, "who": each.who, "measure": each.measure, "q": each.q,
             "n": each.n, "effect": each.effect, "action": each.action}
            for each in search.found
        ],
        "comparisons": search.tests,
        "cycle_s": metrics.cycle_times(records),
        "good_boards_per_hour": metrics.units_per_hour(records),
        "failures": metrics.pareto(records).to_dict("records"),
        "blocked": metrics.blocks(records).to_dict("records"),
        "steps_s": metrics.step_times(records).to_dict("records"),
        "step_yields": {phase: _rate(rate) for phase, rate in metrics.step_yields(records).items()},
        "measured": metrics.measured(records).to_dict("records"),
        "golden": records.golden[GOLDEN_COLUMNS].astype(object).to_dict("records"),
        "warnings": warnings(records),
    }  # fmt: skip
    plain = _plain(told)
    assert isinstance(plain, dict)
    return plain


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        "good": rate.good, "n": rate.n, "rate": rate.value, "wilson_95": rate.interval,
        "at_least_95": rate.at_least, "at_most_95": rate.at_most,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """Only what JSON knows; text scrubbed, NaN as null."""
    if isinstance(value, dict):
        return {shown(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "item"):  # a numpy number
        return _plain(value.item())
    return shown(value)
