"""A page over batches: a row each, with its yields, their course in time, and a link to the batch's own page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports import findings, metrics, plots
from reports.batch import write_report
from reports.load import load
from reports.metrics import NONE_COUNTED, Rate, percent
from reports.page.whole import render
from reports.tables import Records, each_row
from reports.text import moment, number, shown
from reports.words import simulated
from rig.errors import UsageProblem
from rig.files import why_unreadable, write_durably
from rig.records.run import safe_name

MOST_PAGES = 60  # the newest batches that get a page of their own; older ones have their row only
PAGES = 12  # the newest ones that have theirs however large they are
MOST_ATTEMPTS = 300_000  # of all batches with a page, but for those: half a minute
_POINTS = 12  # of a row's course in time
FOLDER = "batches"


@dataclass(frozen=True)
class Batch:
    """Runs that belong together: those of one product and batch name, or one that has no batch."""

    name: str
    product: str
    runs: list[str]
    started: datetime | None

    @property
    def folder(self) -> str:
        return f"{FOLDER}/{safe_name(f'{self.product}-{self.name}' if self.product else self.name)}"


def batches_of(records: Records) -> list[Batch]:
    """The batches in these records, the newest first."""
    found: dict[tuple[str, str], Batch] = {}
    for run in each_row(records.runs):
        key = (str(run.product or ""), str(run.batch or run.run))
        known = found.get(key)
        if known is None:
            found[key] = Batch(key[1], key[0], [run.run], run.started)
        else:
            known.runs.append(run.run)
    return sorted(found.values(), key=lambda each: each.started.timestamp() if each.started else 0.0, reverse=True)


def write_index(
    source: Iterable[Path | str] | Records, out_dir: Path, *, what_ifs: Sequence[str] = (),
    exports: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Write index.html over all batches, index.json with its figures, and the newest batches' pages below batches/;
    returns the path of index.html. Raises as `batch.write_report` does."""
    records = source if isinstance(source, Records) else load(source)
    batches = batches_of(records)
    paged = _paged(records, batches)
    rows = [_with_page(records, batch, out_dir, what_ifs, exports) for batch in batches[:paged]]
    rows += _without_page(records, batches[paged:])
    left = metrics.not_begun_by_run(records)
    for row, batch in zip(rows, batches, strict=True):
        row["not_begun"] = sum(left.get(run, 0) for run in batch.runs)
    drawn = [row for row in reversed(rows) if row["found"].first_pass.interval]
    rates = [(row["name"], row["found"].first_pass) for row in drawn]
    points = [(name, rate.value, *rate.interval, rate.n) for name, rate in rates]
    page = {
        "rows": rows, "simulated": simulated(records), "generated": moment(datetime.now(UTC)), "remarks":
        [shown(each) for each in records.remarks], "bar_svg": plots.rates_svg(points, "First-pass yield by batch"),
        "boards": sum(row["found"].boards for row in rows),
    }  # fmt: skip
    figures = [
        {"batch": row["name"], "product": row["product"], "page": row["page"] or None, "runs": row["runs"],
         "started": row["started"], "first_pass": _figures(row["found"].first_pass),
         "final": _figures(row["found"].final), "not_begun": row["not_begun"]}
        for row in rows
    ]  # fmt: skip
    try:
        write_durably(out_dir / "index.json", json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
        write_durably(out_dir / "index.html", render("index.html", page))
    except OSError as error:
        raise UsageProblem(f"The report cannot be written to {out_dir}: {why_unreadable(error)}.") from error
    return out_dir / "index.html"


def _paged(records: Records, batches: Sequence[Batch]) -> int:
    """How many of the batches, the newest first, get a page."""
    runs = records.attempts["run"].array
    size = dict(zip(runs.categories, np.bincount(runs.codes[runs.codes >= 0], minlength=len(runs.categories)),
                    strict=True))  # fmt: skip
    sums = np.cumsum([sum(int(size.get(run, 0)) for run in batch.runs) for batch in batches])
    return min(MOST_PAGES, max(PAGES, int(np.searchsorted(sums, MOST_ATTEMPTS, side="right"))), len(batches))


def _with_page(
    records: Records, batch: Batch, out_dir: Path, what_ifs: Sequence[str], exports: Sequence[str]
) -> dict[str, Any]:
    part = records
    if len(batch.runs) < len(records.runs):
        part = records.part(records.attempts["run"].isin(batch.runs))
        part = replace(part, runs=records.runs[records.runs["run"].isin(batch.runs)], remarks=[])
    write_report(part, out_dir / batch.folder, what_ifs=what_ifs, exports=exports, index="../../index.html")
    stands_out = [shown(each.sentence) for each in findings.findings(part)]
    told = _row(batch, metrics.yields(part), f"{batch.folder}/index.html")
    return told | {"svg": plots.spark_svg(_course(part)), "findings": stands_out}


def _without_page(records: Records, batches: Sequence[Batch]) -> list[dict[str, Any]]:
    if not batches:
        return []
    whose = {run: at for at, batch in enumerate(batches) for run in batch.runs}
    column = records.attempts["run"].array
    keys = np.array([whose.get(run, -1) for run in column.categories] + [-1])[column.codes]
    named = records.attempts.assign(batch=pd.Categorical.from_codes(keys, pd.Index(range(len(batches)))))
    found = metrics.yields_by(replace(records, attempts=named), "batch")
    nothing = metrics.yields(records.part(np.zeros(len(keys), dtype=bool)))
    return [_row(batch, found.get(at, nothing), "") | {"svg": "", "findings": []} for at, batch in enumerate(batches)]


def _row(batch: Batch, found: metrics.Yields, page: str) -> dict[str, Any]:
    interval = found.first_pass.interval
    return {
        "name": shown(batch.name), "product": shown(batch.product or "–"), "runs": len(batch.runs), "page": page,
        "started": moment(batch.started), "found": found, "n": number(found.first_pass.n),
        "first_pass": percent(found.first_pass.value) if interval else NONE_COUNTED,
        "interval": " to ".join(percent(each) for each in interval) if interval else "–",
        "final": percent(found.final.value) if interval else "–",
        "not_counted": found.blocked_attempts + found.aborted_attempts,
    }  # fmt: skip


def _course(records: Records) -> list[float]:
    """First-pass yield of stretches of equally many boards, in time; nothing for too few."""
    trials = metrics.trials(records)
    good = trials[trials["counted"]].drop_duplicates("board")["good"].to_numpy(dtype=float)
    count = min(_POINTS, len(good) // 5)
    return [float(each.mean()) for each in np.array_split(good, count)] if count >= 2 else []


def _figures(rate: Rate) -> dict[str, Any]:
    return {"good": rate.good, "n": rate.n, "rate": rate.value, "wilson_95": rate.interval}
