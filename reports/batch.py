"""The batch report: one HTML page that needs nothing but itself, tables as CSV, the figures as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports import metrics, plots, view
from reports.load import Records, each_row, load
from reports.metrics import Rate
from reports.text import moment, shown
from reports.words import warnings
from rig.errors import UsageProblem
from rig.files import write_durably
from rig.records import chain

TEMPLATES = Path(__file__).parent / "templates"
UNIT_COLUMNS = [
    "run", "board", "unit", "slot", "attempt", "task", "operator", "flasher", "outcome", "counted", "code",
    "sentence", "image", "image_sha256", "overrides", "started",
    "ended", "cycle_s", "duration_s", "mac", "identity", "firmware", "backup_sha256", "backup_bytes",
    "backup_verified_by", "write_verified", "supply_off_confirmed", "reworked",
]  # fmt: skip
GOLDEN_COLUMNS = ["run", "unit", "slot", "attempt", "task", "started", "outcome", "code", "sentence"]
_PRIVATE_ENDS = ("order", "position", "start_ns", "end_ns")  # columns that mean something inside this program only


def write_report(run_dirs: Iterable[Path], out_dir: Path) -> Path:
    """Write index.html, units.csv, phases.csv, measurements.csv and summary.json; returns index.html's path.

    Each file is on disk whole or not at all; index.html comes last. Raises UsageProblem for a folder without a
    journal, a broken journal, and an `out_dir` that cannot be written.
    """
    records = load(run_dirs)
    index = out_dir / "index.html"
    files = {
        "units.csv": _csv(records.attempts[UNIT_COLUMNS]),
        "phases.csv": _csv(records.phases.drop(columns=list(_PRIVATE_ENDS))),
        "measurements.csv": _csv(records.measurements.drop(columns=["order"])),
        "summary.json": json.dumps(summary(records), indent=2, ensure_ascii=False) + "\n",
        "index.html": html(records, out_dir),
    }
    try:
        for name, text in files.items():
            write_durably(out_dir / name, text)
    except OSError as error:
        raise UsageProblem(f"The report cannot be written to {out_dir}: {error.strerror}.") from error
    return index


def html(records: Records, out_dir: Path) -> str:
    """The page; its links to units' pages are relative to `out_dir`."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = view.page(records, out_dir)
    steps = [
        (shown(row.phase), row.n, row.fastest, row.p50, row.p95, row.slowest)
        for row in each_row(metrics.step_times(records))
    ]
    page |= {
        "bar_svg": Markup(plots.bar_svg(page["bar"])),
        "steps_svg": Markup(plots.steps_svg(steps)),
        "generated": moment(datetime.now(UTC)),
    }
    return environment.get_template("batch.html").render(page)


def summary(records: Records) -> dict[str, Any]:
    """The figures of the page for other programs; null is "nothing to say", as for a rate of no units."""
    found = metrics.yields(records)
    rates = {name: _rate(each) for name, each in vars(found).items() if isinstance(each, Rate)}
    counts = {name: each for name, each in asdict(found).items() if name not in rates}
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
        "counts": counts,
        "rates": rates,
        "rolled_throughput_yield": metrics.rolled_yield(records),
        "cycle_s": metrics.cycle_times(records),
        "good_boards_per_hour": metrics.units_per_hour(records),
        "failures": metrics.pareto(records).to_dict("records"),
        "blocked": metrics.blocks(records).to_dict("records"),
        "steps_s": metrics.step_times(records).to_dict("records"),
        "step_yields": {phase: _rate(rate) for phase, rate in metrics.step_yields(records).items()},
        "measured": metrics.measured(records).to_dict("records"),
        "golden": records.golden[GOLDEN_COLUMNS].to_dict("records"),
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
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "item"):  # a numpy number
        return _plain(value.item())
    return shown(value)


def _csv(table: pd.DataFrame) -> str:
    return table.map(_cell).to_csv(index=False, lineterminator="\n")


def _cell(value: Any) -> Any:
    """A cell that a spreadsheet takes as it is meant: times in ISO, and no text that it would run as a formula."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        text = shown(value)
        return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
    return value
