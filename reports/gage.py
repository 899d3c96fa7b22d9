"""How much of what was measured is the bench: Gage R&R of a batch that was run as a study (`[study]`).

The crossed analysis of variance of the AIAG's manual (Measurement Systems Analysis, 4th ed., 2010): parts are the
units, appraisers the slots, trials how often each unit was measured in each slot. The interaction of parts and
appraisers joins the repeatability where its p is above 0.25, the manual's choice. Percentages are of the study
variation (standard deviations, so they do not add up to 100) and of the tolerance (six standard deviations).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from reports.tables import Name, Records

POOLED_ABOVE = 0.25
GOOD, USABLE = 10.0, 30.0  # percent of the study variation: below the one good, above the other not usable
FEWEST_CATEGORIES = 5
CONFIDENCE = 0.95
_MEASURED = ("pass", "marginal", "fail", "unverified")
_SAME = 1e-12  # of the values' size: sums of squares below it are rounding


@dataclass(frozen=True)
class Source:
    """A line of the analysis of variance. `f` and `p` None: nothing to test it against."""

    name: str
    df: int
    ss: float
    f: float | None = None
    p: float | None = None

    @property
    def ms(self) -> float:
        return self.ss / self.df


@dataclass(frozen=True)
class Bias:
    """How far a slot is from the mean of all slots, in the measurement's unit. The interval holds 95 % for all slots
    together (Bonferroni), so a slot whose interval is away from 0 may be named."""

    appraiser: str
    value: float
    low: float
    high: float

    @property
    def stands_out(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Gage:
    """`refused`: the sentence why nothing can be said; then all numbers are 0 or None. `remark`: what was left out.

    Standard deviations: `ev` repeatability, `av` between slots, `interaction`, `grr` all three, `pv` between units,
    `tv` all. `study_percent`, `tolerance_percent`: of grr. `ndc` None: the bench adds nothing that could be seen.
    """

    parts: int = 0
    appraisers: int = 0
    trials: int = 0
    anova: tuple[Source, ...] = ()
    pooled: bool = False
    ev: float = 0.0
    av: float = 0.0
    interaction: float = 0.0
    grr: float = 0.0
    pv: float = 0.0
    tv: float = 0.0
    tolerance: float | None = None
    bias: tuple[Bias, ...] = ()
    remark: str | None = None
    refused: str | None = None

    @property
    def n(self) -> int:
        return self.parts * self.appraisers * self.trials

    @property
    def study_percent(self) -> float:
        return 100 * self.grr / self.tv if self.tv else 0.0

    @property
    def tolerance_percent(self) -> float | None:
        return 100 * 6 * self.grr / self.tolerance if self.tolerance and self.refused is None else None

    @property
    def ndc(self) -> int | None:
        """Categories that can be told apart: floor(1.41 PV / GRR)."""
        return math.floor(1.41 * self.pv / self.grr) if self.grr else None

    @property
    def verdict(self) -> str:
        if self.refused is not None:
            return "refused"
        return "good" if self.study_percent < GOOD else "conditional" if self.study_percent <= USABLE else "unusable"


def crossed(table: pd.DataFrame, *, tolerance: float | None = None) -> Gage:
    """The study of `table` (part, appraiser, value; a row a measurement, in order of time; NaN is none). `tolerance`:
    the distance of the limits, in the values' unit; None: there is none.

    An incomplete study is cut down to the largest balanced one in it, and `remark` says what was left out.
    """
    cube, slots, remark = balanced(table)
    if cube is None:
        return Gage(refused=remark)
    p, a, r = cube.shape
    mean = cube.mean()
    by_part, by_slot, cell = cube.mean(axis=(1, 2)), cube.mean(axis=(0, 2)), cube.mean(axis=2)
    ss_part = a * r * float(((by_part - mean) ** 2).sum())
    ss_slot = p * r * float(((by_slot - mean) ** 2).sum())
    ss_both = r * float(((cell - by_part[:, None] - by_slot[None, :] + mean) ** 2).sum())
    ss_rest = float(((cube - cell[:, :, None]) ** 2).sum())
    if ss_part + ss_slot + ss_both + ss_rest <= _SAME * float((cube**2).sum()):
        return Gage(refused="all values are the same: the study cannot tell the bench from the boards")
    parted, slotted = Source("part", p - 1, ss_part), Source("slot", a - 1, ss_slot)
    both, rest = Source("part x slot", (p - 1) * (a - 1), ss_both), Source("repeatability", p * a * (r - 1), ss_rest)
    both = _tested(both, rest)
    pooled = both.p is None or both.p > POOLED_ABOVE
    against = Source("repeatability", both.df + rest.df, ss_both + ss_rest) if pooled else both
    error = against if pooled else rest
    sources = (_tested(parted, against), _tested(slotted, against), both, rest)
    ev = error.ms
    av = max(0.0, (slotted.ms - against.ms) / (p * r))
    interaction = 0.0 if pooled else max(0.0, (both.ms - rest.ms) / r)
    pv = max(0.0, (parted.ms - against.ms) / (a * r))
    grr = ev + av + interaction
    return Gage(
        parts=p, appraisers=a, trials=r, anova=sources, pooled=pooled, ev=math.sqrt(ev), av=math.sqrt(av),
        interaction=math.sqrt(interaction), grr=math.sqrt(grr), pv=math.sqrt(pv), tv=math.sqrt(grr + pv),
        tolerance=tolerance, bias=_biases(slots, by_slot - mean, against, p * r), remark=remark,
    )  # fmt: skip


def _tested(source: Source, against: Source) -> Source:
    """F and its p; without any spread to test against, a spread of its own is certain and none is none."""
    if against.ss <= 0:
        return Source(source.name, source.df, source.ss, None, 0.0 if source.ss > 0 else None)
    f = source.ms / against.ms
    return Source(source.name, source.df, source.ss, f, float(special.fdtrc(source.df, against.df, f)))


def _biases(slots: list[str], off: NDArray[np.float64], against: Source, per_slot: int) -> tuple[Bias, ...]:
    """Each slot's mean less the mean of all; its variance is that of a contrast of a fixed slot over these parts."""
    k = len(slots)
    spread = math.sqrt(against.ms / per_slot * (k - 1) / k)
    wide = spread * float(special.stdtrit(against.df, 1 - (1 - CONFIDENCE) / 2 / k))
    return tuple(
        Bias(slot, float(each), float(each) - wide, float(each) + wide) for slot, each in zip(slots, off, strict=True)
    )


def balanced(table: pd.DataFrame) -> tuple[NDArray[np.float64] | None, list[str], str | None]:
    """The values as (part, appraiser, trial), the appraisers' names, and a remark on what was left out; with None for
    the values the remark is why there is no study."""
    known = table[table["value"].notna()]
    counts = known.groupby(["part", "appraiser"], observed=True, sort=False).size().unstack(fill_value=0)
    if counts.shape[0] < 2 or counts.shape[1] < 2:
        had = f"{_many(counts.shape[0], 'unit')} in {_many(counts.shape[1] if len(counts) else 0, 'slot')}"
        return None, [], f"a gage study compares boards and slots, and this one has {had}"
    chosen = _largest(counts.sort_index().sort_index(axis=1))
    if chosen is None:
        text = "no two units were measured twice or more in each of two slots: the study is not far enough"
        return None, [], text
    kept, r = chosen
    ranked = known.assign(trial=known.groupby(["part", "appraiser"], observed=True).cumcount())
    inside = ranked["part"].isin(kept.index) & ranked["appraiser"].isin(kept.columns) & (ranked["trial"] < r)
    used = ranked[inside]
    cube = np.empty((len(kept.index), len(kept.columns), r))
    part = kept.index.get_indexer(pd.Index(used["part"]))
    slot = kept.columns.get_indexer(pd.Index(used["appraiser"]))
    cube[part, slot, used["trial"].to_numpy()] = used["value"].to_numpy(dtype="float64")
    return cube, [str(each) for each in kept.columns], _cut(counts, kept, r, len(known))


def _largest(counts: pd.DataFrame) -> tuple[pd.DataFrame, int] | None:
    """The part of a study that is balanced and has most measurements: fewer trials, parts or slots, whichever costs
    least. Slots with most gaps go first; where two choices are equal the one with more parts stays."""
    best: tuple[tuple[int, int], pd.DataFrame, int] | None = None
    gaps = (counts < counts.to_numpy().max()).sum().sort_values(kind="stable")
    for width in range(2, len(gaps) + 1):
        names = [each for each in counts.columns if each in set(gaps.index[:width])]
        for r in range(2, int(counts.to_numpy().max()) + 1):
            rows = counts.loc[(counts[names] >= r).all(axis=1), names]
            size = (len(rows) * width * r, len(rows))
            if len(rows) >= 2 and (best is None or size > best[0]):
                best = size, rows, r
    return None if best is None else (best[1], best[2])


def _cut(counts: pd.DataFrame, kept: pd.DataFrame, r: int, had: int) -> str | None:
    used = kept.shape[0] * kept.shape[1] * r
    if used == had:
        return None
    out = [f"unit {each}" for each in counts.index if each not in kept.index]
    out += [f"slot {each}" for each in counts.columns if each not in kept.columns]
    named = f" without {_listed(out)}" if out else ""
    return (
        f"the study is not balanced: {used} of {had} measurements are used, {_many(kept.shape[0], 'unit')} in "
        f"{_many(kept.shape[1], 'slot')}, {r} times each{named}"
    )


# -- in the records ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Studied:
    """What the newest study says of one measurement."""

    name: Name
    run: str
    gage: Gage = field(repr=False)


def study_of(records: Records, name: Name) -> pd.DataFrame | str:
    """The measurements of the newest run that was a study and measured this, whatever its step is called there: part
    (the unit), appraiser (the slot), value, order, limits; or a sentence why there are none."""
    attempts = records.attempts
    mine = attempts["study"].to_numpy(dtype=bool)
    if not mine.any():
        return "no batch here was run as a gage study ([study] in its batch file)"
    frames = [records.numbers.of(each) for each in records.numbers.names() if _same(each, name)]
    mine = mine & attempts["outcome"].isin(_MEASURED).to_numpy()
    found = [frame[mine[frame["order"].to_numpy()]] for frame in frames]
    table = pd.concat(found, ignore_index=True).sort_values("order", kind="stable") if found else pd.DataFrame()
    if table.empty:
        return f"no gage study here measured {name.name}"
    run = attempts["run"].array.codes[table["order"].to_numpy()]
    table = table[run == run[-1]]
    about = attempts.iloc[table["order"].to_numpy()]
    return pd.DataFrame({
        "part": about["unit"].to_numpy(dtype=object), "appraiser": about["slot"].to_numpy(dtype=object),
        "value": table["value"].to_numpy(), "order": table["order"].to_numpy(), "limits": table["limits"].to_numpy(),
    })  # fmt: skip


def gage_of(records: Records, name: Name) -> Gage:
    """Gage R&R of one measurement by the newest study; refused with a sentence where there is none."""
    table = study_of(records, name)
    if isinstance(table, str):
        return Gage(refused=table)
    return crossed(table, tolerance=_tolerance(records, table))


def studied(records: Records) -> list[Studied]:
    """Each measurement of the newest study, in the plan's order (refused: one that never varied); none without."""
    attempts = records.attempts
    mine = attempts["study"].to_numpy(dtype=bool)
    if not mine.any():
        return []
    run = attempts["run"].iloc[np.flatnonzero(mine)[-1]]
    latest = mine & (attempts["run"] == run).to_numpy()
    return [
        Studied(name, str(run), gage_of(records, name))
        for name in records.numbers.names()
        if latest[records.numbers.of(name)["order"].to_numpy()].any()
    ]


def unsafe(records: Records, name: Name) -> str | None:
    """Why a capability index of this measurement is not to be trusted, a sentence; None: no study says so."""
    found = gage_of(records, name)
    if found.refused is not None or found.study_percent <= USABLE:
        return None
    return (
        f"unsafe: {found.study_percent:.0f} % of the spread of {name.name} is the bench's own (gage study of "
        f"{_many(found.parts, 'unit')} in {_many(found.appraisers, 'slot')}, {found.trials} times each; above "
        f"{USABLE:g} % an index says more of the bench than of the boards)"
    )


def sentences(found: Gage, unit_of: str = "") -> list[str]:
    """What a person reads of a study, each with what it rests on."""
    if found.refused is not None:
        return [f"No Gage R&R: {found.refused}."]
    words = {
        "good": "good", "conditional": "usable with care", "unusable": "not usable until the bench is better",
    }  # fmt: skip
    said = [
        f"Gage R&R is {found.study_percent:.1f} % of the study variation ({found.parts} units, {found.appraisers} "
        f"slots, {found.trials} trials): {words[found.verdict]}."
    ]
    if found.tolerance_percent is not None:
        said.append(f"It takes {found.tolerance_percent:.1f} % of the tolerance.")
    if found.ndc is not None:
        few = "" if found.ndc >= FEWEST_CATEGORIES else f", fewer than the {FEWEST_CATEGORIES} that are asked for"
        said.append(f"{_many(found.ndc, 'distinct category', 'distinct categories')}{few}.")
    off = [each for each in found.bias if each.stands_out]
    said += [
        f"Slot {each.appraiser} measures {each.value:+.3g} {unit_of}".rstrip()
        + f" against the mean of all slots (95 % interval {each.low:+.3g} to {each.high:+.3g})."
        for each in sorted(off, key=lambda one: -abs(one.value))
    ]
    return said + ([f"Note: {found.remark}."] if found.remark is not None else [])


def _same(one: Name, other: Name) -> bool:
    """The same thing measured, by whichever plan: a study verifies what was converted."""
    return (one.phase, one.name, one.unit_of) == (other.phase, other.name, other.unit_of)


def _tolerance(records: Records, table: pd.DataFrame) -> float | None:
    """The distance of the newest limits; None where there are not two."""
    limits: Any = records.numbers.limits()
    at = int(table["limits"].iloc[-1])
    if at < 0 or at >= len(limits):
        return None
    width = float(limits["maximum"].iloc[at] - limits["minimum"].iloc[at])
    return width if width > 0 else None


def _many(count: int, word: str, words: str | None = None) -> str:
    return f"{count} {word if count == 1 else words or word + 's'}"


def _listed(names: list[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
