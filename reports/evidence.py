"""The rows that findings are made of: which attempts tell something, by which labels they are compared, what of.

An attempt tells something of a label once: the first attempt of each board in a run and task, none of a gage study,
none that was aborted or still runs. A retest of the same bad board would only say the same thing again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.tables import Name, Records
from reports.text import shown

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

MOST_ROWS = 40_000  # of more boards every k-th (by a hash of its number) is looked at: far above what an effect
# that anybody would act on needs, and a page is made in seconds
MOST_LEVELS = 200  # labels of one kind that are tested one by one: beyond it each could hardly be told from chance
CYCLE = Name("", "", "unit time", "s")  # from a unit's start to its end, of the good ones


@dataclass(frozen=True)
class Factor:
    """A way to divide the rows: for each row its label's number (-1: none) and its stratum. `within`: the other
    divisions that no effect of is taken for one of this."""

    name: str
    labels: list[str]
    codes: Ints
    strata: Ints
    within: tuple[str, ...]
    also: str = ""  # another division that is the same: an effect may be of either


@dataclass(frozen=True)
class Measure:
    """One thing that is compared: `rows` (of the evidence) and a value for each. `topic`: failed, blocked, lost
    (either), time, electric, count."""

    title: str
    topic: str
    rows: Ints
    values: Floats
    unit_of: str = ""
    minimum: float = np.nan
    maximum: float = np.nan
    code: str = ""

    @property
    def is_share(self) -> bool:
        return self.topic in ("failed", "blocked", "lost")

    def touches(self, topics: set[str]) -> bool:
        """Whether what explains `topics` may explain this."""
        ended = {"failed", "blocked"}
        return (
            self.topic in topics
            or (self.topic == "lost" and bool(ended & topics))
            or (self.topic in ended and "lost" in topics)
        )

    @property
    def limited(self) -> bool:
        return not (np.isnan(self.minimum) and np.isnan(self.maximum))


@dataclass(frozen=True)
class Evidence:
    """`orders`: the attempt of each row; `ends`: its code, a number of `codes` (-1: none). `cells`: slot within run
    (or image, of many runs), for what changes over time. `thinned`: boards for each one looked at. `unit_s`: what a
    good unit takes, its median (0: not known)."""

    orders: Ints
    ends: Ints
    codes: list[str]
    factors: dict[str, Factor]
    cells: Ints
    measures: list[Measure]
    thinned: int
    unit_s: float


_WITHIN = {
    "slot": ("run", "image", "task", "flasher"),
    "image": ("slot", "task", "flasher"),
    "station": ("image", "task", "flasher"),
    "flasher": ("slot", "image", "task"),
    "baud": ("station", "image", "task", "flasher"),
    "operator": ("slot", "image", "task", "flasher"),
    "run": ("slot", "image", "task", "flasher"),
}  # a division that is the same as one before it is not tested again
_FEW_RUNS = 8
_FEW_OF = 8  # rows for each one that is asked for, from which on they are looked up


def evidence(records: Records) -> Evidence:
    """What these records have to say."""
    attempts = records.attempts
    orders, thinned = _telling(attempts)
    table = attempts.iloc[orders]
    codes = _divisions(records, table)
    factors: dict[str, Factor] = {}
    for name, within in _WITHIN.items():
        own, labels = codes[name]
        if not 1 < len(labels) <= MOST_LEVELS:
            continue
        same = next((each for each in factors.values() if _same(each.codes, own)), None)
        if same is not None:
            if not same.also:
                told = same.__dict__ | {"also": name}
                factors[same.name] = Factor(**told)
            continue
        factors[name] = Factor(name, labels, own, _crossed([codes[each][0] for each in within]), within)
    lasting = "run" if len(codes["run"][1]) <= _FEW_RUNS else "image"
    cells = _crossed([codes[name][0] for name in ("slot", lasting, "task")])
    ends, names = _labels(table["code"])
    measures = [*_outcomes(table), *_numbers(records, table, orders)]
    usual = [float(np.median(each.values)) for each in measures if each.title == CYCLE.name]
    return Evidence(orders, ends, names, factors, cells, measures, thinned, usual[0] if usual else 0.0)


def _telling(attempts: pd.DataFrame) -> tuple[Ints, int]:
    told = attempts["outcome"].isin(["pass", "marginal", "fail", "unverified", "blocked"]).to_numpy()
    told = told & ~attempts["study"].to_numpy()
    orders = np.flatnonzero(told)
    boards = attempts["board"].to_numpy()[orders].astype(np.int64)
    key = boards
    for name in ("run", "task"):
        codes = attempts[name].cat.codes.to_numpy()[orders].astype(np.int64)
        key = key * (int(codes.max(initial=0)) + 2) + codes + 1
    first = ~pd.Series(key).duplicated().to_numpy()
    orders, boards = orders[first], boards[first]
    thinned = max(1, -(-len(orders) // MOST_ROWS))
    if thinned > 1:
        mixed = (boards * 2654435761 & 0xFFFFFFFF) >> 7  # Knuth's multiplicative hash: no pattern of the slots' turns
        orders = orders[mixed % thinned == 0]
    return orders, thinned


def _divisions(records: Records, table: pd.DataFrame) -> dict[str, tuple[Ints, list[str]]]:
    """For each kind of label: numbers of the rows' labels, and their names."""
    found = {name: _labels(table[name]) for name in ("run", "station", "flasher", "operator", "task")}
    speeds, baud = np.unique(table["baud"].to_numpy(), return_inverse=True)
    told = speeds > 0  # 0: not known
    found["baud"] = (baud - int((~told).any()), [str(each) for each in speeds[told]])
    slot, slots = _labels(table["slot"])
    station, stations = found["station"]
    if len(stations) > 1:
        both, place = np.unique(slot + len(slots) * station, return_inverse=True)
        slots = [f"{stations[each // len(slots)]}/{slots[each % len(slots)]}" for each in both.tolist()]
        slot = place
    found["slot"] = (slot, slots)
    found["image"] = _images(records, table)
    return found


def _labels(column: pd.Series[Any]) -> tuple[Ints, list[str]]:
    used, codes = np.unique(column.cat.codes.to_numpy(), return_inverse=True)
    absent = int((used < 0).any())
    return codes - absent, [shown(column.cat.categories[each]) for each in used[absent:]]


def _images(records: Records, table: pd.DataFrame) -> tuple[Ints, list[str]]:
    """By content. An attempt that ended before its image was planned had that of its run."""
    titles: dict[str, str] = {}
    planned = table["image_sha256"].cat
    hashes = [str(each) for each in planned.categories]
    codes = planned.codes.to_numpy().astype(np.int64)
    runs = table["run"].cat
    of_run = np.full(len(runs.categories) + 1, -1, dtype=np.int64)
    wanted = {str(run): at for at, run in enumerate(runs.categories)}
    for run, sha, image in zip(*(records.runs[name] for name in ("run", "image_sha256", "image")), strict=True):
        if isinstance(sha, str) and str(run) in wanted:
            if sha not in hashes:
                hashes.append(sha)
            of_run[wanted[str(run)]] = hashes.index(sha)
            titles.setdefault(sha, str(image or ""))
    codes = np.where(codes >= 0, codes, of_run[runs.codes.to_numpy()])
    images = table["image"].cat
    for at in np.unique(codes[codes >= 0]).tolist():
        row = int((codes == at).argmax())
        image = int(images.codes.iloc[row])
        if not titles.get(hashes[at]):
            titles[hashes[at]] = str(images.categories[image]) if image >= 0 else ""
    used, codes_used = np.unique(codes, return_inverse=True)
    told = [hashes[at] for at in used.tolist() if at >= 0]
    names = [titles[sha] for sha in told]
    labels = [
        shown(title if title and names.count(title) == 1 else f"{title} {sha[:8]}".strip())
        for title, sha in zip(names, told, strict=True)
    ]
    return codes_used - int((used < 0).any()), labels


def _same(one: Ints, other: Ints) -> bool:
    """Whether two divisions divide the rows in the same way."""
    pairs = {*zip(one.tolist(), other.tolist(), strict=True)} if len(one) < 5000 else _pairs(one, other)
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def _pairs(one: Ints, other: Ints) -> set[tuple[int, int]]:
    most = int(other.max()) + 2
    return {(int(each) // most - 1, int(each) % most - 1) for each in np.unique((one + 1) * most + other + 1)}


def _crossed(columns: list[Ints]) -> Ints:
    """The numbers of the combinations of some labels."""
    key = np.zeros(len(columns[0]), dtype=np.int64)
    for codes in columns:
        if codes.any():
            key = pd.factorize(key * (int(codes.max(initial=0)) + 2) + codes + 1)[0].astype(np.int64)
    return key


def _outcomes(table: pd.DataFrame) -> list[Measure]:
    outcome = table["outcome"]
    blocked = (outcome == "blocked").to_numpy()
    judged = table["counted"].to_numpy()
    failed = judged & ~table["good"].to_numpy()
    everything = np.arange(len(table))
    found = []
    if failed.any() and blocked.any():  # one bad contact ends in both ways
        found.append(Measure("failed or blocked", "lost", everything, (failed | blocked).astype(float)))
    for topic, rows, hit in (("failed", np.flatnonzero(judged), failed), ("blocked", everything, blocked)):
        found.append(Measure(topic, topic, rows, hit[rows].astype(float)))
        codes = table["code"].cat.codes.to_numpy()
        for code, count in zip(*np.unique(codes[hit], return_counts=True), strict=True):
            if code >= 0 and count < hit.sum():  # else it is the same as all of them
                mine = (hit & (codes == code))[rows].astype(float)
                name = str(table["code"].cat.categories[code])
                found.append(Measure(shown(name), topic, rows, mine, code=name))
    return found


def _numbers(records: Records, table: pd.DataFrame, orders: Ints) -> list[Measure]:
    cycle = np.where(table["good"].to_numpy(), table["cycle_s"].to_numpy(), np.nan)
    found = [_measure(CYCLE, np.arange(len(table)), cycle, (np.nan, np.nan))]
    sets = records.numbers.limits().to_numpy(dtype=float)
    place = np.full(len(records.attempts), -1, dtype=np.int64)
    place[orders] = np.arange(len(orders))
    for name in records.numbers.names():
        if name.unit_of in ("B", "Bd") and "strays" not in name.name:
            continue  # sizes and speeds follow from image, backup and settings
        rows = records.numbers.of(name)
        at, keep = _rows_at(rows["order"].to_numpy(), orders, place)
        values, limits = rows["value"].to_numpy()[keep], rows["limits"].to_numpy()[keep]
        usual = sets[np.bincount(limits).argmax()][:2] if len(limits) else (np.nan, np.nan)
        found.append(_measure(name, at, values, (float(usual[0]), float(usual[1]))))
    return [each for each in found if len(each.rows)]


def _rows_at(order: NDArray[np.int32], orders: Ints, place: Ints) -> tuple[Ints, NDArray[Any]]:
    """Which of `order` (ascending) are among `orders`: their places in `orders`, and which rows they are."""
    if len(orders) * _FEW_OF < len(order):
        low, high = np.searchsorted(order, orders), np.searchsorted(order, orders, side="right")
        if (high - low <= 1).all():
            there = np.flatnonzero(high > low)
            return there, low[there]
    at = place[order]
    keep = np.flatnonzero(at >= 0)
    return at[keep], keep


def _measure(name: Name, rows: Ints, values: Floats, limits: tuple[float, float]) -> Measure:
    known = np.isfinite(values)
    topic = "time" if name.unit_of == "s" else "electric" if name.unit_of in ("V", "A", "W", "Ohm", "Ω") else "count"
    title = name.name if name.step == name.phase else f"{name.step}: {name.name}"
    return Measure(shown(title), topic, rows[known], values[known], name.unit_of, *limits)
