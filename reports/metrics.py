"""Yield and times, as the production metrics they are known by. docs/ say what each one means; in short:

- first-pass yield: boards good on their first counted attempt / boards with a counted attempt
- final yield: boards good on their last counted attempt / the same
- retest rate: boards with more than one counted attempt / the same
- blocked and aborted attempts say nothing of the board: never counted, always shown
- rolled throughput yield: product of the steps' first-pass yields
- units per hour: boards good in the end, an hour between a run's first start and last end

Attempts of a gage study are in none of these; golden units neither.

`marginal` is a pass; `unverified` is counted and no pass. An interval for display is Wilson's, 95 %; a claim
("at least") is the one-sided 95 % bound of Clopper and Pearson. Durations never span two boots of the station.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from reports.once import once
from reports.raw import TAKEN_UP
from reports.settled import median
from reports.tables import OUTCOME, RUNNING, Records
from rig.records.events import NOT_BEGUN

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
        z = float(special.ndtri((1 + CONFIDENCE) / 2))
        share, part = self.good / self.n, z * z / self.n
        middle = (share + part / 2) / (1 + part)
        reach = z * math.sqrt(share * (1 - share) / self.n + part / (4 * self.n)) / (1 + part)
        low, high = max(0.0, middle - reach), min(1.0, middle + reach)
        return low if self.good else 0.0, high if self.good < self.n else 1.0  # not what rounding leaves of it

    @property
    def at_least(self) -> float | None:
        """What may be claimed: with 95 % confidence the true rate is no lower (Clopper-Pearson, one-sided)."""
        if not self.n:
            return None
        return float(special.betaincinv(self.good, self.n - self.good + 1, 1 - CONFIDENCE)) if self.good else 0.0

    @property
    def at_most(self) -> float | None:
        """With 95 % confidence the true rate is no higher; 0 in n gives 1 - 0.05^(1/n)."""
        if not self.n:
            return None
        bad = self.n - self.good
        return float(special.betaincinv(self.good + 1, bad, CONFIDENCE)) if bad else 1.0

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


@once
def trials(records: Records) -> pd.DataFrame:
    """One row a trial: what a run did to a unit, once, in one attempt or (recovered, then converted) in several.

    Bad if one of its attempts was; not counted if one was not, or one is missing; good if all were. Columns: board,
    trial, counted, good, outcome (of a bad one its last bad attempt's), reworked, cycle_s (NaN where one is not
    known), order (of its first attempt); by order.
    """
    table = _judged(records)
    trial, place = np.unique(table["trial"].to_numpy(), return_index=True)
    which = np.searchsorted(trial, table["trial"].to_numpy())
    bad = (table["counted"] & ~table["good"]).to_numpy()
    n = len(trial)
    last_bad = np.full(n, -1, dtype=np.int64)
    last_bad[which[bad]] = np.flatnonzero(bad)  # the last one stays: rows are in order of time
    enough = np.bincount(which, minlength=n) >= table["stages"].to_numpy()[place]
    good = _all(which, table["good"].to_numpy(), n) & enough
    outcomes = table["outcome"].cat.codes.to_numpy()
    marginal = ~_all(which, outcomes != _CODE["marginal"], n)
    outcome = np.where(last_bad >= 0, outcomes[last_bad] if len(outcomes) else -1, np.where(marginal, 1, 0))
    found = pd.DataFrame({
        "board": table["board"].to_numpy()[place], "trial": trial, "counted": good | (last_bad >= 0), "good": good,
        "outcome": pd.Categorical.from_codes(outcome, dtype=OUTCOME),
        "reworked": ~_all(which, ~table["reworked"].to_numpy(), n),
        "cycle_s": np.bincount(which, table["cycle_s"].to_numpy(), minlength=n),
        "order": table["order"].to_numpy()[place],
    })  # fmt: skip
    return found.sort_values("order", kind="stable", ignore_index=True)


@once
def boards(records: Records) -> pd.DataFrame:
    """One row a board, in order of its first attempt: what its counted trials came to. Columns: board, attempts,
    counted (trials), first_good, final_good, final (category, NaN where none is counted), retested, nff, running,
    order (of its first attempt), run (of its first attempt)."""
    table = _judged(records)
    tried = trials(records)
    codes, board = pd.factorize(table["board"])
    n = len(board)
    first = np.full(n, -1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(table))[::-1]
    last = np.full(n, -1, dtype=np.int64)
    last[codes] = np.arange(len(table))
    counted = tried[tried["counted"]]
    mine = pd.Index(board).get_indexer(counted["board"])
    trials_of = np.bincount(mine, minlength=n)
    good = counted["good"].to_numpy()
    opening, closing = np.full(n, -1, dtype=np.int64), np.full(n, -1, dtype=np.int64)
    opening[mine[::-1]] = np.arange(len(mine))[::-1]
    closing[mine] = np.arange(len(mine))
    some = trials_of > 0
    outcomes = np.append(counted["outcome"].cat.codes.to_numpy(), -1)
    return pd.DataFrame({
        "board": board, "attempts": np.bincount(codes, minlength=n), "counted": trials_of,
        "first_good": some & np.append(good, False)[opening], "final_good": some & np.append(good, False)[closing],
        "final": pd.Categorical.from_codes(outcomes[closing], dtype=OUTCOME),
        "retested": trials_of > 1, "nff": _no_fault_found(mine, good, counted["reworked"].to_numpy(), n),
        "running": table["outcome"].cat.codes.to_numpy()[last] == _CODE[RUNNING],
        "order": table["order"].to_numpy()[first], "run": table["run"].array[first],
    })  # fmt: skip


def _no_fault_found(board: NDArray[Any], good: NDArray[Any], reworked: NDArray[Any], n: int) -> NDArray[np.bool_]:
    """Whether a board failed, then passed, with no rework in between: among its first good trial and those before it,
    the very first one's rework apart."""
    if not len(board):
        return np.zeros(n, dtype=bool)
    nth = pd.Series(board).groupby(board, sort=False).cumcount().to_numpy()
    first_good = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(first_good, board[good], nth[good])
    hit = (nth > 0) & (nth <= first_good[board]) & reworked
    found = (first_good > 0) & (first_good < np.iinfo(np.int64).max)
    found[board[hit]] = False
    return found


@once
def yields(records: Records) -> Yields:
    """The yield of these records as a whole."""
    found = boards(records)
    sums = {name: int(each.sum()) for name, each in _sums(found, np.ones(len(found), dtype=bool)).items()}
    outcomes = _judged(records)["outcome"].cat.codes.to_numpy()
    sums |= {f"{name}_attempts": int((outcomes == _CODE[name]).sum()) for name in ("blocked", "aborted")}
    return _told(sums)


def yields_by(records: Records, column: str) -> dict[Any, Yields]:
    """Yields by a column of `attempts` (run, slot, station, image, ...): a board belongs where its first attempt was,
    an attempt where it was. For `run` a board that comes back in a later run is a board of that run as well."""
    table = _judged(records)
    if column == "run":  # boards within each run: as if there were no other
        run = table["run"].cat.codes.to_numpy().astype(np.int64)
        within = pd.factorize(run * (int(table["board"].max()) + 1 if len(table) else 1) + table["board"])[0]
        attempts = records.attempts.copy(deep=False)
        attempts["board"] = np.int32(-1)
        attempts.loc[table.index, "board"] = within.astype(np.int32)
        records = replace(records, attempts=attempts)
    found = boards(records)
    of = pd.Categorical(table[column])
    n = len(of.categories)
    first = np.asarray(pd.Series(of.codes, index=table["order"].to_numpy()).loc[found["order"]])
    told = {name: np.bincount(first[each], minlength=n + 1)[:n] for name, each in _sums(found, first >= 0).items()}
    outcomes = table["outcome"].cat.codes.to_numpy()
    for name in ("blocked", "aborted"):
        told[f"{name}_attempts"] = np.bincount(of.codes[(outcomes == _CODE[name]) & (of.codes >= 0)], minlength=n)
    there = np.unique(of.codes[of.codes >= 0])
    return {of.categories[at]: _told({name: int(each[at]) for name, each in told.items()}) for at in there}


def _sums(found: pd.DataFrame, among: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Which boards count in which figure."""
    some = found["counted"].to_numpy() > 0
    final = found["final"].cat.codes.to_numpy()
    first, last = found["first_good"].to_numpy(), found["final_good"].to_numpy()
    which = {
        "boards": np.ones(len(found), dtype=bool), "n": some, "first_good": some & first, "final_good": some & last,
        "retested": some & found["retested"].to_numpy(), "nff": some & found["nff"].to_numpy(),
        "passed_first": some & first & last, "unverified": some & (final == _CODE["unverified"]),
        "marginal": some & (final == _CODE["marginal"]), "running": ~some & found["running"].to_numpy(),
    }  # fmt: skip
    return {name: each & among for name, each in which.items()}


def _told(sums: dict[str, int]) -> Yields:
    n, final = sums["n"], sums["final_good"]
    return Yields(
        first_pass=Rate(sums["first_good"], n),
        final=Rate(final, n),
        retested=Rate(sums["retested"], n),
        no_fault_found=Rate(sums["nff"], n),
        boards=sums["boards"],
        passed_first=sums["passed_first"],
        passed_retest=final - sums["passed_first"],
        failed=n - final - sums["unverified"],
        unverified=sums["unverified"],
        not_counted=sums["boards"] - n - sums["running"],
        running=sums["running"],
        marginal=sums["marginal"],
        blocked_attempts=sums["blocked_attempts"],
        aborted_attempts=sums["aborted_attempts"],
    )


@once
def first_failures(records: Records) -> pd.DataFrame:
    """The rows of `attempts` that were the first counted failure of their board, by order."""
    bad = records.attempts[records.attempts["counted"] & ~records.attempts["good"]]
    return bad[~bad["board"].duplicated()]


@once
def pareto(records: Records) -> pd.DataFrame:
    """First failure of each board by failure code: code, count, share, cumulative; commonest first."""
    return _by_code(first_failures(records)["code"])


@once
def blocks(records: Records) -> pd.DataFrame:
    """Blocked attempts (the bench's fault) by code: code, count, share, cumulative. Attempts, not boards."""
    table = _judged(records)
    return _by_code(table["code"][table["outcome"] == "blocked"])


@once
def step_times(records: Records) -> pd.DataFrame:
    """Seconds a step takes where it went well: phase, n, fastest, p50, p95, slowest; in the plan's order."""
    columns = ["phase", "n", "fastest", "p50", "p95", "slowest"]
    went_well = _well(records.steps["outcome"]) & ~_study(records)[records.steps["order"].to_numpy()]
    times = records.steps["duration_s"].to_numpy()
    rows = [{"phase": step} | _spread(times[of]) for step, of in _by_step(records.steps, went_well)]
    return pd.DataFrame(rows, columns=columns)


@once
def step_yields(records: Records) -> dict[str, Rate]:
    """First-pass yield of each step: of the boards whose first counted attempt came to it, those it was good on."""
    tried = trials(records)
    counted = tried[tried["counted"]]
    first = counted["trial"][~counted["board"].duplicated()]
    attempts = records.attempts
    mine = (attempts["trial"].isin(first) & ~attempts["study"]).to_numpy()
    phases = records.steps
    order = phases["order"].to_numpy()
    judged = phases["outcome"].cat.codes.isin([_CODE[each] for each in ("pass", "marginal", "fail", "unverified")])
    well = _well(phases["outcome"])
    board = attempts["board"].to_numpy()
    rates: dict[str, Rate] = {}
    for step, rows in _by_step(phases, mine[order] & judged.to_numpy()):
        of = board[order[rows]]
        came = np.zeros(int(of.max(initial=-1)) + 1, dtype=bool)
        bad = came.copy()
        came[of] = True
        bad[of[~well[rows]]] = True
        rates[step] = Rate(int((came & ~bad).sum()), int(came.sum()))
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


@once
def cycle_times(records: Records) -> dict[str, float]:
    """Seconds from a unit's start to its end, its attempts of one trial together, over counted trials: n, fastest,
    p50, p95, slowest."""
    tried = trials(records)
    return spread(tried["cycle_s"][tried["counted"]])


@once
def not_begun_by_run(records: Records) -> dict[str, int]:
    """How many units that it was asked for a run ended without beginning; no run that was taken up since."""
    left: dict[str, int] = {}
    for run, text, details in records.notes[["run", "text", "details"]].itertuples(index=False):
        if NOT_BEGUN in (details or {}):
            left[run] = int(details[NOT_BEGUN])
        elif text.startswith(TAKEN_UP):
            left.pop(run, None)
    return left


def not_begun(records: Records) -> int:
    """How many units in all."""
    return sum(not_begun_by_run(records).values())


@once
def studied(records: Records) -> int:
    """How many attempts were measurements of gage studies: they are in no yield."""
    return int(records.attempts["study"].sum())


def units_per_hour(records: Records) -> float | None:
    """Boards good in the end, for each hour the station worked; None where no time is known.

    The station's time is from a run's first start to its last end, within each boot of the station by itself.
    """
    table = _judged(records)
    ended = table[(table["end_ns"] >= 0) & table["cycle_s"].notna()]
    worked = ended.groupby(["run", "boot_id"], sort=False, observed=True).agg(
        low=("start_ns", "min"), high=("end_ns", "max")
    )
    seconds = float((worked["high"] - worked["low"]).sum()) / 1e9
    good = yields(records).final.good
    return good * 3600 / seconds if seconds > 0 else None


@once
def measured(records: Records) -> pd.DataFrame:
    """Each number against its limits, over counted attempts: one row a name, unit and set of limits."""
    columns = ["phase", "name", "unit_of", "minimum", "maximum", "n", "lowest", "median", "highest",
               "marginal", "outside", "missing"]  # fmt: skip
    counted = records.attempts["counted"].to_numpy()
    limits = records.numbers.limits()[["minimum", "maximum"]]
    rows: list[dict[str, Any]] = []
    for name in records.numbers.names():
        table = records.numbers.of(name)
        kept = counted[table["order"].to_numpy()]
        which, values = table["limits"].to_numpy()[kept], table["value"].to_numpy()[kept]
        outcome = table["outcome"].cat.codes.to_numpy()[kept]
        of = limits.iloc[pd.unique(which)].drop_duplicates()
        told = {"phase": name.step, "name": name.name, "unit_of": name.unit_of}
        if len(of) > 1:
            group = pd.MultiIndex.from_frame(of).get_indexer(pd.MultiIndex.from_frame(limits))[which]
        for at, (low, high) in enumerate(of.to_numpy()):
            mine = group == at if len(of) > 1 else slice(None)
            rows.append(told | _against(values[mine], outcome[mine]) | {"minimum": low, "maximum": high})
    return pd.DataFrame(rows, columns=columns)


def _against(values: NDArray[np.float64], outcome: NDArray[Any]) -> dict[str, Any]:
    missing = np.isnan(values)
    numbers = values[~missing] if missing.any() else values
    return {
        "n": len(numbers), "lowest": numbers.min() if len(numbers) else np.nan, "median": median(numbers),
        "highest": numbers.max() if len(numbers) else np.nan,
        "marginal": int((outcome == _CODE["marginal"]).sum()), "outside": int((outcome == _CODE["fail"]).sum()),
        "missing": len(values) - len(numbers),
    }  # fmt: skip


def spread(seconds: pd.Series[float]) -> dict[str, float]:
    """n, fastest, p50, p95, slowest of some durations (linear between neighbours); NaN where n is 0."""
    return _spread(np.asarray(seconds, dtype=np.float64))


def _spread(seconds: NDArray[np.float64]) -> dict[str, float]:
    known = seconds[~np.isnan(seconds)]
    found = np.quantile(known, [0.0, 0.5, 0.95, 1.0]) if len(known) else [np.nan] * 4
    return {"n": len(known)} | {
        name: float(each) for name, each in zip(("fastest", "p50", "p95", "slowest"), found, strict=True)
    }


_CODE = {name: code for code, name in enumerate(OUTCOME.categories)}


def _judged(records: Records) -> pd.DataFrame:
    """Attempts that figures are about: those of a gage study are about the bench."""
    study = records.attempts["study"].to_numpy()
    return records.attempts[~study] if study.any() else records.attempts


def _study(records: Records) -> NDArray[np.bool_]:
    return records.attempts["study"].to_numpy()


def _well(outcome: pd.Series[Any]) -> NDArray[np.bool_]:
    codes = outcome.cat.codes.to_numpy()
    return np.asarray((codes == _CODE["pass"]) | (codes == _CODE["marginal"]), dtype=bool)


def _all(which: NDArray[Any], true: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """For each of n groups whether `true` is, in all of its rows."""
    return np.asarray(np.bincount(which[~true], minlength=n) == 0, dtype=bool)


def _by_step(phases: pd.DataFrame, rows: NDArray[np.bool_]) -> list[tuple[str, NDArray[Any]]]:
    """The rows (of those that are True) of each step, in the plan's order."""
    codes = phases["step"].cat.codes.to_numpy()
    position = phases["position"].to_numpy()
    mine = np.flatnonzero(rows)
    place = mine[np.argsort(codes[mine], kind="stable")]
    edges = np.searchsorted(codes[place], np.arange(len(phases["step"].cat.categories) + 1))
    found = [
        (str(step), place[low:high])
        for step, low, high in zip(phases["step"].cat.categories, edges[:-1], edges[1:], strict=True)
        if high > low
    ]
    return sorted(found, key=lambda group: (int(position[group[1]].min()), int(group[1][0])))


def _by_code(codes: pd.Series[Any]) -> pd.DataFrame:
    counts = codes.astype(object).where(codes.notna() & (codes != ""), "(no code)").value_counts()
    ordered = sorted(((str(code), int(n)) for code, n in counts.items()), key=lambda item: (-item[1], item[0]))
    table = pd.DataFrame(ordered, columns=["code", "count"])
    total = max(len(codes), 1)
    return table.assign(share=table["count"] / total, cumulative=table["count"].cumsum() / total)
