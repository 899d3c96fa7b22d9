"""Yield, what failed first, what the bench blocked, steps: the tables in counts of boards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reports import metrics, plots
from reports.defects import defects
from reports.metrics import NONE_COUNTED, Rate, percent
from reports.once import once
from reports.page.context import Context, coded
from reports.page.sets import Linked
from reports.tables import Records, each_row
from reports.text import moment, number, seconds, shown
from rig.codes import CODES

MOST_CODES = 25
_NO_STEP = "no counted step"


def yield_rows(context: Context) -> list[dict[str, Any]]:
    """The rates of boards, each with its n, interval and claim, then the products of steps."""
    found, boards = context.found, context.boards
    counted = boards[boards["counted"] > 0]
    rates = [
        ("First-pass yield", found.first_pass, "first_good", "Good on their first counted attempt"),
        ("Final yield", found.final, "final_good", "Good in the end"),
        ("Retested", found.retested, "retested", "Retested"),
        ("Good on a retest without rework", found.no_fault_found, "nff", "Good on a retest without rework"),
    ]
    rows: list[dict[str, Any]] = []
    for name, rate, column, title in rates:
        behind = counted["board"][counted[column].astype(bool)]
        rows.append({
            "name": name, "count": context.of_boards(behind, rate.good, title),
            "n": context.of_boards(counted["board"], rate.n, "Counted"), **_rate_cells(rate, "yield" in name),
        })  # fmt: skip
    rolled = metrics.rolled_yield(context.records)
    told = percent(rolled) if rolled is not None else _NO_STEP
    empty = {"count": Linked(""), "n": Linked(""), "interval": "", "claim": ""}
    rows.append(empty | {"name": "Rolled throughput yield (all steps)", "rate": told})
    return [*rows, _defect_row(defects(context.records))]


def _rate_cells(rate: Rate, is_yield: bool) -> dict[str, str]:
    if rate.interval is None:
        return {"rate": NONE_COUNTED, "interval": "–", "claim": "–"}
    low, high = (percent(edge) for edge in rate.interval)
    claim = f"at least {percent(rate.at_least)}" if is_yield else f"at most {percent(rate.at_most)}"
    return {"rate": percent(rate.value), "interval": f"{low} to {high}", "claim": claim}


def _defect_row(rate: Rate) -> dict[str, Any]:
    row: dict[str, Any] = {"name": "Defects per million steps (DPMO)", "count": Linked(""), "n": Linked("")}
    if rate.interval is None or rate.value is None or rate.at_most is None:
        return row | {"rate": _NO_STEP, "interval": "–", "claim": "–"}
    low, high = (number(round(1e6 * edge)) for edge in rate.interval)
    return row | {
        "count": Linked(str(rate.good)), "n": Linked(f"{number(rate.n)} steps"),
        "rate": number(round(1e6 * rate.value)),
        "interval": f"{low} to {high}", "claim": f"at most {number(round(1e6 * rate.at_most))}",
    }  # fmt: skip


def failures(context: Context) -> dict[str, Any]:
    """First failures by code with their cause, what to do and the boards; the commonest."""
    codes = coded(context.bad["code"])
    rows = [
        _code_row(row) | {"behind": context.sets.link(
            row.count, f"First failure {row.code}", np.asarray(codes.index[codes == row.code], dtype=np.int64))}
        for row in list(each_row(metrics.pareto(context.records)))[:MOST_CODES]
    ]  # fmt: skip
    drawn = [(row["code"], row["behind_n"], row["sum"]) for row in rows]
    return {"rows": rows, "svg": plots.pareto_svg(drawn, "boards")}


def blocks(context: Context) -> list[dict[str, Any]]:
    """Blocked attempts by code: the bench's fault, apart from the boards'."""
    blocked = context.attempts[np.asarray(context.attempts["outcome"] == "blocked", dtype=bool)]
    codes = coded(blocked["code"])
    return [
        _code_row(row) | {"behind": context.sets.link(
            row.count, f"Blocked by {row.code}", np.asarray(codes.index[codes == row.code], dtype=np.int64))}
        for row in list(each_row(metrics.blocks(context.records)))[:MOST_CODES]
    ]  # fmt: skip


def _code_row(row: Any) -> dict[str, Any]:
    code = CODES.get(row.code)
    return {
        "code": shown(row.code), "behind_n": int(row.count), "sum": float(row.cumulative),
        "share": percent(row.share), "cumulative": percent(row.cumulative),
        "cause": code.cause if code else "This code is not in this rig's list.",
        "action": code.action if code else "",
    }  # fmt: skip


def steps(context: Context) -> dict[str, Any]:
    """Each step's first-pass yield (their product is the rolled yield) and its times, in the plan's order."""
    rates = metrics.step_yields(context.records)
    times = {str(row.phase): row for row in each_row(metrics.step_times(context.records))}
    rows = []
    for phase in [*times, *(phase for phase in rates if phase not in times)]:
        row, rate = times.get(phase), rates.get(phase, Rate(0, 0))
        rows.append({
            "phase": shown(phase), "n": row.n if row else 0, "yield": short(rate),
            "interval": "–" if rate.interval is None else " to ".join(percent(edge) for edge in rate.interval),
            **{name: seconds(getattr(row, name, None)) for name in ("fastest", "p50", "p95", "slowest")},
        })  # fmt: skip
    drawn = [(shown(row.phase), row.n, row.fastest, row.p50, row.p95, row.slowest) for row in times.values()]
    return {"rows": rows, "svg": plots.steps_svg(drawn)}


@once
def of_runs(records: Records) -> dict[Any, metrics.Yields]:
    """Yields by run."""
    return metrics.yields_by(records, "run")


def runs(context: Context, most: int = 60) -> dict[str, Any]:
    """A row a run, where there are several; the last ones of very many."""
    table = context.records.runs
    if len(table) < 2:
        return {"rows": [], "left_out": 0}
    by_run = of_runs(context.records)
    column = context.attempts["run"].array
    codes, names = column.codes, list(column.categories)
    rows = []
    for run in each_row(table.tail(most)):
        got = by_run.get(run.run)
        simulated = f" (simulated, {number(run.speed)}×)" if run.simulated else ""
        at = names.index(run.run) if run.run in names else -2
        rows.append({
            "run": context.where(codes == at, shown(run.run), f"Run {run.run}"),
            "started": moment(run.started),
            "product": shown(run.product or "–"), "bench": shown(run.bench or "–") + simulated,
            "first_pass": short(got.first_pass) if got else NONE_COUNTED,
            "final": short(got.final) if got else NONE_COUNTED,
            "not_counted": str(got.blocked_attempts + got.aborted_attempts) if got else "0",
        })  # fmt: skip
    return {"rows": rows, "left_out": len(table) - len(rows)}


class Group:
    """What became of the attempts of one group: first-pass and final rates of the boards whose first (last) counted
    attempt was in it, attempts that do not count, and their orders."""

    def __init__(self, first_pass: Rate, final: Rate, not_counted: int, orders: Any) -> None:
        self.first_pass, self.final, self.not_counted, self.orders = first_pass, final, not_counted, orders


def by_group(context: Context, column: str) -> dict[str, Group]:
    """Rates by what stands in a column of the attempts. First-pass: boards whose first counted trial was there, and
    was good; final: the same of their last."""
    keys, names = pd.factorize(context.attempts[column], use_na_sentinel=True)
    n = len(names)

    def tally(trials: pd.DataFrame) -> tuple[Any, Any]:
        at = keys[np.asarray(trials["order"], dtype=np.int64)]
        good = np.asarray(trials["good"], dtype=bool) & (at >= 0)
        return np.bincount(at[good], minlength=n), np.bincount(at[at >= 0], minlength=n)

    first_good, first_n = tally(context.first)
    last_good, last_n = tally(context.judged.drop_duplicates("board", keep="last"))
    idle = np.asarray(context.attempts["outcome"].isin(("blocked", "aborted")), dtype=bool) & (keys >= 0)
    idle_n = np.bincount(keys[idle], minlength=n)
    short_keys = keys.astype(np.int16) if n < 1 << 15 else keys  # sorted much faster
    ordered = np.argsort(short_keys, kind="stable")
    begins = np.searchsorted(keys[ordered], np.arange(n))
    ends = np.searchsorted(keys[ordered], np.arange(n), side="right")
    return {
        str(name): Group(
            Rate(int(first_good[i]), int(first_n[i])), Rate(int(last_good[i]), int(last_n[i])), int(idle_n[i]),
            ordered[begins[i] : ends[i]],
        )
        for i, name in enumerate(names)
    }  # fmt: skip


def short(rate: Rate) -> str:
    """A rate with what it is of."""
    return f"{percent(rate.value)} ({rate.good} of {rate.n})" if rate.n else NONE_COUNTED
