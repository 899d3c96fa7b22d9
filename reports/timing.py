"""Where the time of a unit goes: link, read, erase, write, verify, boot, and the rest, which is the rig's.

From what the steps measured (`rig.line.timing`), in seconds of the clock, of attempts that went well and did the same
thing. `read` is the backup, or a verification's reading, with the CRCs that tell a block without reading it; `verify`
is the CRC of what was written, right after and after the power-cycle; `boot` is the step of that name. What is left
(power, discharge, images, currents, the process itself) is `rig`, so the parts of an attempt add up to it.

Attempts of before there was such a split have it from their wire traces, where there are few enough of them to read;
else all of their writing, erase and check too, is `write`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from reports.tables import Records
from rig.uart.accounting import account
from rig.uart.trace import Command

Floats = NDArray[np.float64]

# as rig.line.timing has them, which brings the whole bench with it: a test holds the two together
LINK, READ, ERASE, PROGRAM, CHECK = "link_time", "read_time", "erase_time", "program_time", "check_time"
PARTS = ("link", "read", "erase", "write", "verify", "boot", "rig")
BY = ("slot", "baud", "flasher", "run", "station")
MOST_TRACES = 200  # that are read where the records do not say
CONFIDENCE = 0.95
FEWEST = 12  # attempts for a trend
_EXACT = 33  # points up to which Kendall's distribution is counted out
_MANY = 60_000  # attempts, of which a trend over time is seen as well as of more
_BINS = 200  # choice: Theil-Sen compares all pairs
_PHASE_PARTS = {"backup": "read", "read": "read"}  # all but link checks that passes in these steps
_KIND_PARTS = {LINK: "link", READ: "read", ERASE: "erase", PROGRAM: "write", CHECK: "verify"}


def parts(records: Records, task: str | None = None) -> pd.DataFrame:
    """One row an attempt that went well: `order`, PARTS and `total`, in s. NaN: it had no such part. `task` None: the
    task that most of them had. Of records that hold nothing but a gage study, its attempts."""
    attempts = records.attempts
    good = (attempts["good"] & attempts["cycle_s"].notna()).to_numpy()
    usual = good & attempts["counted"].to_numpy()
    which = usual if usual.any() else good & attempts["study"].to_numpy()
    tasks = attempts["task"].array
    if task is None and which.any():
        counts = np.bincount(tasks.codes[which][tasks.codes[which] >= 0], minlength=1)
        task = str(tasks.categories[int(counts.argmax())]) if counts.any() else None
    orders = np.flatnonzero(which & np.asarray(tasks == task))
    found = _measured(records, orders)
    _fill_from_traces(records, orders, found)
    whole = np.full(len(orders), np.nan) if "whole" not in found else found.pop("whole")
    unsplit = np.isnan(found["write"]) & ~np.isnan(whole)
    found["write"][unsplit] = whole[unsplit]
    total = attempts["cycle_s"].to_numpy(dtype="float64")[orders]
    table = pd.DataFrame({"order": orders.astype(np.int32)} | {name: found[name] for name in PARTS[:-1]})
    # clocks of two processes: what they took together is never more than all of it by much
    table["rig"] = np.maximum(0.0, total - np.nansum(table[list(PARTS[:-1])].to_numpy(), axis=1))
    return table.assign(total=total)


def breakdown(
    records: Records, by: str = "slot", task: str | None = None, *, table: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Seconds of a unit, the medians of each part: `by`, n, PARTS, total; a row for each slot (baud, flasher, run,
    station), in order of name. `table`: what `parts` said, for whoever asks more than once. ValueError for another
    `by`."""
    if by not in BY:
        raise ValueError(f"times go by {', '.join(BY)}, not by {by}")
    table = parts(records, task) if table is None else table
    keys = records.attempts[by].iloc[table["order"].to_numpy()].reset_index(drop=True)
    if by == "baud":
        keys = keys[keys > 0]  # 0: unknown
        table = table.loc[keys.index]
    grouped = table[[*PARTS, "total"]].groupby(keys, observed=True, sort=True)
    medians = grouped.median()
    medians.insert(0, "n", grouped.size())
    return medians.rename_axis(by).reset_index()


# -- over time -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trend:
    """How a part of a unit's time changed: Theil-Sen's slope in seconds an hour with its 95 % interval, over `hours`
    from the first attempt to the last, of `n` attempts. Slots are compared with themselves (their medians are taken
    off), so a slot that came later moves nothing. `p` is Kendall's, corrected over the parts (Holm)."""

    part: str
    n: int
    hours: float
    median: float
    slope: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        return self.p < 1 - CONFIDENCE

    @property
    def change(self) -> float:
        """Seconds from the first attempt to the last."""
        return self.slope * self.hours

    def __str__(self) -> str:
        per, hours = ("a day", 24.0) if self.hours >= 48 else ("an hour", 1.0)
        slope, low, high = (each * hours for each in (self.slope, self.low, self.high))
        rests = f"n = {self.n}, p = {self.p:.2g} after correction over the parts"
        if not self.significant:
            return f"{self.part}: no trend ({slope:+.3g} s {per}, 95 % interval {low:+.3g} to {high:+.3g}; {rests})"
        grew = "longer" if self.slope > 0 else "shorter"
        return (
            f"{self.part} takes {abs(self.change):.3g} s {grew} at the end than at the beginning, of a median of "
            f"{self.median:.3g} s ({slope:+.3g} s {per}, 95 % interval {low:+.3g} to {high:+.3g}; {rests})"
        )


def regression(records: Records, task: str | None = None, *, table: pd.DataFrame | None = None) -> list[Trend]:
    """How each part, and the total, changed over time; those that vary, in the order of PARTS. Empty for less than 12
    attempts. Above 200 attempts the medians of 200 stretches of equal many attempts stand for them, above 60,000
    those of so many drawn with a fixed seed. `table`: as for `breakdown`."""
    table = parts(records, task) if table is None else table
    if len(table) < FEWEST:
        return []
    if len(table) > _MANY:
        some = np.random.default_rng(len(table)).random(len(table)) < _MANY / len(table)
        table = table[some].reset_index(drop=True)
    about = records.attempts[["started", "station", "slot"]].iloc[table["order"].to_numpy()].reset_index(drop=True)
    known = about["started"].notna().to_numpy()
    hours = (about["started"] - about["started"].min()).dt.total_seconds().to_numpy(dtype="float64") / 3600
    group = about["station"].cat.codes.to_numpy().astype(np.int64) * (len(about["slot"].cat.categories) + 1)
    group += about["slot"].cat.codes.to_numpy()
    found = []
    for part in (*PARTS, "total"):
        values = table[part]
        mine = known & values.notna().to_numpy()
        if mine.sum() < FEWEST or np.ptp(hours[mine]) <= 0:
            continue
        level = values[mine].groupby(group[mine]).transform("median").to_numpy()
        x, y = _binned(hours[mine], values[mine].to_numpy() - level)
        if np.ptp(y) == 0 or np.ptp(x) == 0:
            continue
        found.append(Trend(
            part, int(mine.sum()), float(np.ptp(hours[mine])), float(values[mine].median()), *theil_sen(x, y),
            kendall_p(x, y),
        ))  # fmt: skip
    return _corrected(found)


def theil_sen(x: Floats, y: Floats) -> tuple[float, float, float]:
    """The median slope of all pairs, and its 95 % interval by Sen (1968). The `x` are not all the same."""
    first, second = np.triu_indices(len(x), 1)
    across, up = x[second] - x[first], y[second] - y[first]
    slopes = np.sort(up[across != 0] / across[across != 0])
    n = len(x)
    spread = n * (n - 1) * (2 * n + 5) - sum(_tied(each)[0] for each in (x, y))
    reach = float(special.ndtri((1 + CONFIDENCE) / 2)) * math.sqrt(spread / 18)
    low = max(round((len(slopes) - reach) / 2) - 1, 0)
    high = min(round((len(slopes) + reach) / 2), len(slopes) - 1)
    return float(np.median(slopes)), float(slopes[low]), float(slopes[high])


def kendall_p(x: Floats, y: Floats) -> float:
    """Of Kendall's tau-b, two-sided: exact for few pairs of numbers, else by the normal distribution with its
    variance for ties (Kendall 1970)."""
    n = len(x)
    if n <= _EXACT:
        from scipy import stats  # slow to import

        return float(stats.kendalltau(x, y).pvalue)
    first, second = np.triu_indices(n, 1)
    s = float((np.sign(x[second] - x[first]) * np.sign(y[second] - y[first])).sum())
    (x_spread, x_pairs, x_triples), (y_spread, y_pairs, y_triples) = _tied(x), _tied(y)
    m = n * (n - 1)
    variance = (m * (2 * n + 5) - x_spread - y_spread) / 18
    variance += x_pairs * y_pairs / (2 * m) + x_triples * y_triples / (9 * m * (n - 2))
    return float(2 * special.ndtr(-abs(s) / math.sqrt(variance)))


def _tied(values: Floats) -> tuple[float, float, float]:
    """What equal values take from the variance: the sums over groups of k equal ones of k(k-1)(2k+5), k(k-1) and
    k(k-1)(k-2)."""
    k = np.unique(values, return_counts=True)[1].astype(np.float64)
    pairs = k * (k - 1)
    return float((pairs * (2 * k + 5)).sum()), float(pairs.sum()), float((pairs * (k - 2)).sum())


def _binned(x: Floats, y: Floats) -> tuple[Floats, ...]:
    """In order of time; medians of stretches where there are too many."""
    place = np.argsort(x, kind="stable")
    x, y = x[place], y[place]
    if len(x) <= _BINS:
        return x, y
    edges = np.linspace(0, len(x), _BINS + 1).astype(int)
    return tuple(np.array([np.median(part) for part in np.split(each, edges[1:-1])]) for each in (x, y))


def _corrected(found: list[Trend]) -> list[Trend]:
    """Holm's step-down: no more than 5 % of all looks find a trend where there is none."""
    worst, corrected = 0.0, {}
    for rank, each in enumerate(sorted(found, key=lambda one: one.p)):
        worst = max(worst, min(1.0, each.p * (len(found) - rank)))
        corrected[each.part] = worst
    return [replace(each, p=corrected[each.part]) for each in found]


# -- from what was measured, and from traces -----------------------------------------------------------------


def _measured(records: Records, orders: NDArray[np.int64]) -> dict[str, Floats]:
    """PARTS but the rig's, by what the steps say; `whole`: the write as one, erase and check with it."""
    found = {name: np.full(len(orders), np.nan) for name in (*PARTS[:-1], "whole", "judged")}
    again = np.full(len(orders), np.nan)  # the link of the step that verifies again is in that step's time
    row = np.full(len(records.attempts), -1, dtype=np.int64)
    row[orders] = np.arange(len(orders))

    def add(what: Floats, at: NDArray[np.int64], seconds: Floats) -> None:
        kept = (at >= 0) & ~np.isnan(seconds)
        sums = np.bincount(at[kept], weights=seconds[kept], minlength=len(what))
        seen = np.bincount(at[kept], minlength=len(what)) > 0
        what[seen] = np.nan_to_num(what[seen]) + sums[seen]

    split = {LINK: "link", READ: "read", ERASE: "erase", PROGRAM: "write", CHECK: "verify", "backup_time": "read"}
    split |= {"settled_time": "verify", "write_time": "whole", "verify_time": "judged"}
    for name in records.numbers.names():
        if name.unit_of != "s" or name.name not in split:
            continue
        values = records.numbers.of(name)
        at, seconds = row[values["order"].to_numpy()], values["value"].to_numpy(dtype="float64")
        add(found[split[name.name]], at, seconds)
        if (name.phase, name.name) == ("settled", LINK):
            add(again, at, seconds)
    found["verify"] -= np.nan_to_num(again)
    judged = found.pop("judged")
    unsplit = np.isnan(found["write"]) & ~np.isnan(judged)  # else the check is in what passed on the wire
    found["verify"][unsplit] = np.nan_to_num(found["verify"][unsplit]) + judged[unsplit]
    phases = records.steps
    names = phases["phase"].array
    booted = np.array([name == "boot" or name.startswith("boot-") for name in names.categories] + [False])
    verified = np.array([name == "verify" for name in names.categories] + [False])
    for what, those in (("boot", booted[names.codes]), ("verify", verified[names.codes])):
        add(
            found[what], row[phases["order"].to_numpy()[those]], phases["duration_s"].to_numpy(dtype="float64")[those]
        )
    return found


def _fill_from_traces(records: Records, orders: NDArray[np.int64], found: dict[str, Floats]) -> None:
    """The split of attempts whose write is only known as one, from their wire traces."""
    lacking = np.flatnonzero(np.isnan(found["write"]) & ~np.isnan(found["whole"]))
    if not 0 < len(lacking) <= MOST_TRACES:
        return
    folders = records.details(orders[lacking])["folder"]
    phases = records.phases[records.phases["order"].isin(orders[lacking])]
    by_order = dict(list(phases.groupby("order", sort=False)))
    for at, folder in zip(lacking, folders, strict=True):
        if not isinstance(folder, str):
            continue
        seen = of_trace(Path(folder) / "wire.jsonl", by_order.get(int(orders[at])))
        for part, seconds in (seen or {}).items():
            found[part][at] = seconds
        if seen is not None:
            found["whole"][at] = np.nan


def of_trace(path: Path, phases: pd.DataFrame | None) -> dict[str, float] | None:
    """Seconds by part of one attempt, from its wire trace and the times of its steps (rows of `phases`); None where
    there is no trace that can be read. In a step that reads, what is not a link check is reading."""
    try:
        commands = [Command(**({"address": None} | json.loads(line))) for line in path.read_text().splitlines()]
    except (OSError, ValueError, TypeError):  # purged, torn, or another version's
        return None
    from rig.line.timing import seconds_of

    edges: list[tuple[int, int, str]] = []
    if phases is not None:
        rows = zip(phases["start_ns"], phases["end_ns"], phases["phase"].astype(str), strict=True)
        edges = sorted((int(start), int(end), phase) for start, end, phase in rows if start >= 0)
    found: dict[str, float] = {}
    for start, end, phase in edges or [(0, 1 << 63, "")]:
        sums = account([each for each in commands if start <= each.starts_ns < end])
        for kind, seconds in seconds_of(sums).items():
            part = _KIND_PARTS[kind] if kind == LINK else _PHASE_PARTS.get(phase, _KIND_PARTS[kind])
            found[part] = found.get(part, 0.0) + seconds
    return found or None
