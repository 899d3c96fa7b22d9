"""Yield and times, as the production metrics they are known by. docs/ say what each one means; in short:

- first-pass yield: boards good on their first counted attempt / boards with a counted attempt
- final yield: boards good on their last counted attempt / the same
- retest rate: boards with more than one counted attempt / the same
- blocked and aborted attempts say nothing of the board: never counted, always shown
- rolled throughput yield: product of the steps' first-pass yields
- units per hour: boards good in the end, an hour between a run's first start and last end

`marginal` is a pass; `unverified` is counted and no pass. An interval for display is Wilson's, 95 %; a claim
("at least") is the one-sided 95 % bound of Clopper and Pearson. Durations never span two boots of the station.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from reports.load import RUNNING, Records

CONFIDENCE = 0.95
NONE_COUNTED = "no counted units"


@dataclass(frozen=True)
class Rate:
    """`good` of `n`. Everything is None where n is 0: there is nothing to say then."""

    good: int
    n: int

    @property
    def value(self) -> float | None:
        return self.good / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval, for display."""
        if not self.n:
            return None
        low, high = proportion_confint(self.good, self.n, alpha=1 - CONFIDENCE, method="wilson")
        return float(low), float(high)

    @property
    def at_least(self) -> float | None:
        """What may be claimed: with 95 % confidence the true rate is no lower (Clopper-Pearson, one-sided)."""
        if not self.n:
            return None
        low, _ = proportion_confint(self.good, self.n, alpha=2 * (1 - CONFIDENCE), method="beta")
        return float(low)

    @property
    def at_most(self) -> float | None:
        """With 95 % confidence the true rate is no higher; 0 in n gives 1 - 0.05^(1/n)."""
        if not self.n:
            return None
        _, high = proportion_confint(self.good, self.n, alpha=2 * (1 - CONFIDENCE), method="beta")
        return float(high)

    def __str__(self) -> str:
        if self.value is None or self.interval is None:
            return NONE_COUNTED
        low, high = (percent(edge) for edge in self.interval)
        return f"{percent(self.value)} ({self.good} of {self.n}, 95 % interval {low} to {high})"


def percent(share: float | None) -> str:
    """A share for people, never rounded into 100 % or 0 % that it is not."""
    if share is None:
        return "–"
    text = f"{100 * share:.1f}"
    if text == "100.0":
        return "100 %" if share >= 1 else "> 99.9 %"
    if text == "0.0":
        return "0 %" if share <= 0 else "< 0.1 %"
    return f"{text} %"


@dataclass(frozen=True)
class Yields:
    """What became of the boards. Every board with an attempt is in exactly one of the last six."""

    first_pass: Rate
    final: Rate
    retested: Rate
    no_fault_found: Rate  # good on a retest with no rework before it / boards
    boards: int  # with any attempt, counted or not
    passed_first: int
    passed_retest: int
    failed: int
    unverified: int
    not_counted: int  # only blocked or aborted attempts
    running: int
    marginal: int  # of the passed ones, those inside the warning band in the end
    blocked_attempts: int
    aborted_attempts: int


def trials(records: Records) -> pd.DataFrame:
    """One row a trial: what a run did to a unit, once, in one attempt or (recovered, then converted) in several.

    Bad if one of its attempts was; not counted if one was not, or one is missing; good if all were.
    """
    columns = ["board", "trial", "counted", "good", "outcome", "reworked", "cycle_s"]
    rows: list[dict[str, Any]] = []
    for (board, trial), attempts in records.attempts.groupby(["board", "trial"], sort=False):
        bad = attempts[attempts["counted"] & ~attempts["good"]]
        good = bool(attempts["good"].all()) and len(attempts) >= int(attempts["stages"].iloc[0])
        marginal = bool((attempts["outcome"] == "marginal").any())
        outcome = str(bad["outcome"].iloc[-1]) if len(bad) else "marginal" if marginal else "pass"
        rows.append({
            "board": board, "trial": trial, "counted": good or len(bad) > 0, "good": good, "outcome": outcome,
            "reworked": bool(attempts["reworked"].any()), "cycle_s": attempts["cycle_s"].sum(skipna=False),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=columns).astype({"counted": bool, "good": bool, "cycle_s": "float64"})


def boards(records: Records) -> pd.DataFrame:
    """One row a board, in order of its first attempt: what its counted trials came to."""
    columns = ["board", "attempts", "counted", "first_good", "final_good", "final", "retested", "nff", "running"]
    rows: list[dict[str, Any]] = []
    by_board = dict(list(trials(records).groupby("board", sort=False)))
    for board, attempts in records.attempts.groupby("board", sort=False):
        counted = by_board[board][by_board[board]["counted"]]
        good = [bool(each) for each in counted["good"]]
        found_good = [later for later in range(1, len(good)) if good[later] and not any(good[:later])]
        reworked = counted["reworked"].iloc[1 : found_good[0] + 1].any() if found_good else False
        rows.append({
            "board": board, "attempts": len(attempts), "counted": len(counted),
            "first_good": bool(good) and good[0], "final_good": bool(good) and good[-1],
            "final": str(counted["outcome"].iloc[-1]) if good else None,
            "retested": len(good) > 1, "nff": bool(found_good) and not reworked,
            "running": str(attempts["outcome"].iloc[-1]) == RUNNING,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def yields(records: Records) -> Yields:
    """The yield of these records as a whole."""
    table = boards(records)
    counted = table[table["counted"] > 0]
    n = len(counted)
    unverified = int((counted["final"] == "unverified").sum())
    final = int(counted["final_good"].sum())
    passed_first = int((counted["first_good"].astype(bool) & counted["final_good"].astype(bool)).sum())
    idle = table[table["counted"] == 0]
    running = int(idle["running"].sum())
    outcomes = records.attempts["outcome"]
    return Yields(
        first_pass=Rate(int(counted["first_good"].sum()), n),
        final=Rate(final, n),
        retested=Rate(int(counted["retested"].sum()), n),
        no_fault_found=Rate(int(counted["nff"].sum()), n),
        boards=len(table),
        passed_first=passed_first,
        passed_retest=final - passed_first,
        failed=n - final - unverified,
        unverified=unverified,
        not_counted=len(idle) - running,
        running=running,
        marginal=int((counted["final"] == "marginal").sum()),
        blocked_attempts=int((outcomes == "blocked").sum()),
        aborted_attempts=int((outcomes == "aborted").sum()),
    )


def pareto(records: Records) -> pd.DataFrame:
    """First failure of each board by failure code: code, count, share, cumulative; commonest first."""
    bad = records.attempts[records.attempts["counted"] & ~records.attempts["good"]]
    codes = bad.groupby("board", sort=False)["code"].first(skipna=False).map(_code)
    return _by_code([str(code) for code in codes])


def blocks(records: Records) -> pd.DataFrame:
    """Blocked attempts (the bench's fault) by code: code, count, share, cumulative. Attempts, not boards."""
    blocked = records.attempts[records.attempts["outcome"] == "blocked"]
    return _by_code([_code(code) for code in blocked["code"]])


def step_times(records: Records) -> pd.DataFrame:
    """Seconds a step takes where it went well: phase, n, fastest, p50, p95, slowest; in the plan's order."""
    columns = ["phase", "n", "fastest", "p50", "p95", "slowest"]
    good = records.phases[records.phases["outcome"].isin(["pass", "marginal"])]
    rows = [{"phase": phase} | spread(times["duration_s"]) for phase, times in _in_order(good)]
    return pd.DataFrame(rows, columns=columns)


def step_yields(records: Records) -> dict[str, Rate]:
    """First-pass yield of each step: of the boards whose first counted attempt came to it, those it was good on."""
    tried = trials(records)
    first = tried[tried["counted"]].groupby("board", sort=False)["trial"].first()
    orders = records.attempts[records.attempts["trial"].isin(first)]["order"]
    mine = records.phases[records.phases["order"].isin(orders)]
    mine = mine[mine["outcome"].isin(["pass", "marginal", "fail", "unverified"])]
    rates: dict[str, Rate] = {}
    for phase, rows in _in_order(mine):
        good = rows["outcome"].isin(["pass", "marginal"]).groupby(rows["board"]).all()
        rates[phase] = Rate(int(good.sum()), len(good))
    return rates


def rolled_yield(records: Records) -> float | None:
    """Rolled throughput yield; None without a counted step."""
    rates = [rate.value for rate in step_yields(records).values() if rate.value is not None]
    if not rates:
        return None
    product = 1.0
    for rate in rates:
        product *= rate
    return product


def cycle_times(records: Records) -> dict[str, float]:
    """Seconds from a unit's start to its end, its attempts of one trial together, over counted trials: n, fastest,
    p50, p95, slowest."""
    tried = trials(records)
    return spread(tried[tried["counted"]]["cycle_s"])


def units_per_hour(records: Records) -> float | None:
    """Boards good in the end, for each hour the station worked; None where no time is known.

    The station's time is from a run's first start to its last end, within each boot of the station by itself.
    """
    ended = records.attempts.dropna(subset=["end_ns", "cycle_s"])
    seconds = 0.0
    for _, rows in ended.groupby(["run", "boot_id"], sort=False):
        seconds += (int(rows["end_ns"].max()) - int(rows["start_ns"].min())) / 1e9
    good = yields(records).final.good
    return good * 3600 / seconds if seconds > 0 else None


def measured(records: Records) -> pd.DataFrame:
    """Each number against its limits, over counted attempts: one row a name, unit and set of limits."""
    columns = ["phase", "name", "unit_of", "minimum", "maximum", "n", "lowest", "median", "highest",
               "marginal", "outside", "missing"]  # fmt: skip
    counted = set(records.attempts[records.attempts["counted"]]["order"])
    table = records.measurements[records.measurements["order"].isin(counted)]
    rows: list[dict[str, Any]] = []
    keys = ["phase", "name", "unit_of", "minimum", "maximum"]
    for key, group in table.groupby(["step", *keys[1:]], sort=False, dropna=False):
        numbers = [float(v) for v in group["value"] if isinstance(v, int | float) and not isinstance(v, bool)]
        absent = sum(1 for value in group["value"] if value is None)
        if not numbers and absent < len(group):
            continue  # texts and yes/no: they are with their unit
        found = pd.Series(numbers, dtype="float64")
        rows.append(dict(zip(keys, key, strict=True)) | {
            "n": len(numbers), "lowest": found.min(), "median": found.median(), "highest": found.max(),
            "marginal": int((group["outcome"] == "marginal").sum()),
            "outside": int((group["outcome"] == "fail").sum()), "missing": absent,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def spread(seconds: pd.Series[float]) -> dict[str, float]:
    """n, fastest, p50, p95, slowest of some durations (linear between neighbours); NaN where n is 0."""
    known = seconds.dropna()
    return {
        "n": len(known), "fastest": float(known.min()), "p50": float(known.quantile(0.5)),
        "p95": float(known.quantile(0.95)), "slowest": float(known.max()),
    }  # fmt: skip


def _in_order(phases: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    groups = [(str(step), rows) for step, rows in phases.groupby("step", sort=False)]
    return sorted(groups, key=lambda group: int(group[1]["position"].min()))


def _code(code: object) -> str:
    return code if isinstance(code, str) and code else "(no code)"


def _by_code(codes: list[str]) -> pd.DataFrame:
    ordered = sorted(Counter(codes).items(), key=lambda item: (-item[1], item[0]))
    table = pd.DataFrame(ordered, columns=["code", "count"])
    total = max(len(codes), 1)
    return table.assign(share=table["count"] / total, cumulative=table["count"].cumsum() / total)
