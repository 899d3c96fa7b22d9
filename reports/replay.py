"""What if a limit were another one: recorded values judged anew, and the yield that follows.

An attempt ends at its first failure. So one that a tighter limit fails is failed whatever came after it; one that
failed elsewhere stays so; and one that only the limit as it was had stopped would get past it, to steps that never
ran: what they would have said nobody knows. Such attempts are counted as failed for the lower and as good for the
upper bound of the yield. Nobody is tested again because of another limit, and retests that were made stay.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.metrics import Rate, percent, yields
from reports.tables import OUTCOME, OUTCOMES, RUNNING, Name, Records
from rig.codes import CODES
from rig.errors import UsageProblem
from rig.toml import nearest

Bools = NDArray[np.bool_]
Orders = NDArray[np.int32]

# measurement -> failure code below and above its limits, where that code blames the bench: such an attempt is blocked
# and says nothing of the board. Source: rig/line/contact.py, rig/line/steps.py; any other one fails the board
_BENCH = {"rom_current": ("no-current", ""), "rail_volts": ("weak-supply", "supply-refused"),
          "off_volts": ("", "rail-stuck"), "contact": ("", "contact")}  # fmt: skip
_CODE = {outcome: code for code, outcome in enumerate(OUTCOMES)}
_PREFIX = {"": 1.0, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6}
_HOW = "write it as 'steady_current.max=0.095', 'steady_current.min=20mA,max=95mA' or 'boot/boot_time.max=none'"


@dataclass(frozen=True)
class WhatIf:
    """Limits to try. None: as they were; -inf or inf: no such limit."""

    name: Name
    minimum: float | None = None
    maximum: float | None = None

    def __str__(self) -> str:
        unit = f" {self.name.unit_of}" if self.name.unit_of else ""
        said = []
        if self.minimum is not None:
            said.append(f"at least {self.minimum:g}{unit}" if math.isfinite(self.minimum) else "not limited below")
        if self.maximum is not None:
            said.append(f"at most {self.maximum:g}{unit}" if math.isfinite(self.maximum) else "not limited above")
        return f"{self.name.name} ({self.name.step}) {' and '.join(said)}"


@dataclass(frozen=True)
class Bounds:
    """A rate that is not known better than this; `low` and `high` are equal where it is known."""

    low: Rate
    high: Rate

    @property
    def known(self) -> bool:
        return self.low == self.high

    def __str__(self) -> str:
        low, high = percent(self.low.value), percent(self.high.value)
        return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Replayed:
    """Yield as it was and as it would be. The attempts that change, by order: `fails`, that would fail where they did
    not; `blocked`, that the bench would be blamed for; `unknown`, that the limit stopped and would stop no more."""

    what: WhatIf
    n: int  # attempts with a value
    first_pass: Rate
    final: Rate
    first_pass_after: Bounds
    final_after: Bounds
    fails: Orders
    blocked: Orders
    unknown: Orders

    @property
    def sentences(self) -> list[str]:
        """What a reader is told, the yields first."""
        said = [
            f"With {self.what}: first-pass yield {percent(self.first_pass.value)} → {self.first_pass_after}, "
            f"final yield {percent(self.final.value)} → {self.final_after} (of {self.final.n} units)."
        ]
        if len(self.fails):
            said.append(f"{_times(len(self.fails), 'attempt')} would fail that did not.")
        if len(self.blocked):
            count = _times(len(self.blocked), "attempt")
            said.append(f"{count} would be blocked, and not counted: this limit blames the bench.")
        if len(self.unknown):
            said.append(
                f"{_times(len(self.unknown), 'attempt')} would get past the limit that ended them; what came after "
                "it never ran, so the lower bound counts them as failed and the upper as good."
            )
        if len(said) == 1:
            said.append("No attempt would end otherwise.")
        return said

    def __str__(self) -> str:
        return " ".join(self.sentences)


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


# -- what is asked -----------------------------------------------------------------------------------------


def parse_what_if(text: str, records: Records) -> WhatIf:
    """`[STEP/]NAME.max=VALUE[UNIT][,min=VALUE[UNIT]]` as limits to try; VALUE `none` takes the limit away.
    UsageProblem says in one sentence what is wrong with it."""
    found = re.fullmatch(r"\s*(?:(?P<step>[^/=]+)/)?(?P<name>[^./=\s]+)\.(?P<limits>[^/]+)", text)
    if found is None:
        raise UsageProblem(f"{text!r} is no limit to try: {_HOW}")
    given: dict[str, str] = {}
    for part in found["limits"].split(","):
        key, equals, value = (each.strip() for each in part.partition("="))
        key = key.removeprefix(f"{found['name']}.")
        if not equals or not value:
            raise UsageProblem(f"{text!r} has no value for {key or 'a limit'!r}: {_HOW}")
        if key not in ("min", "max"):
            raise UsageProblem(f"{text!r} has {key!r} where there is only min and max: {_HOW}")
        if key in given:
            raise UsageProblem(f"{text!r} has two values for {key!r}")
        given[key] = value
    name = _named(text, found["step"], found["name"], given.values(), records)
    limits = {key: _number(text, key, value, name) for key, value in given.items()}
    low, high = limits.get("min"), limits.get("max")
    if low is not None and high is not None and low >= high:
        raise UsageProblem(f"{text!r}: the least value {low:g} is not below the greatest, {high:g}")
    return WhatIf(name, low, high)


def _named(text: str, step: str | None, name: str, values: Iterable[str], records: Records) -> Name:
    names = records.numbers.names()
    mine = [each for each in names if each.name == name and (step is None or each.step == step.strip())]
    if not mine:
        known = {each.name for each in names} if step is None else {f"{each.step}/{each.name}" for each in names}
        wanted = name if step is None else f"{step.strip()}/{name}"
        raise UsageProblem(f"{text!r}: nothing measured {wanted!r}; {nearest(wanted, known)}")
    fitting = [each for each in mine if all(_value(value, each) is not None for value in values)]
    steps = sorted({f"{each.step}/{each.name}" for each in mine})
    if len(steps) > 1:
        raise UsageProblem(f"{text!r}: {name} is measured in more than one step: say {' or '.join(steps)}")
    if len(mine) > 1 and len(fitting) != 1:
        units = ", ".join(each.unit_of or "no unit" for each in mine)
        raise UsageProblem(f"{text!r}: {name} was measured in different units ({units}): say which, as in 95mA")
    return fitting[0] if fitting else mine[0]


def _number(text: str, key: str, value: str, name: Name) -> float:
    if value == "none":
        return -math.inf if key == "min" else math.inf
    found = _value(value, name)
    if found is None:
        unit = f"a number in {name.unit_of}" if name.unit_of else "a number"
        raise UsageProblem(f"{text!r}: {value!r} is not {unit}, nor 'none': {_HOW}")
    return found


def _value(value: str, name: Name) -> float | None:
    found = re.fullmatch(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\D*)", value)
    if found is None:
        return math.inf if value == "none" else None
    number, unit = float(found[1]), found[2].strip()
    if not unit:
        return number
    prefix = unit.removesuffix(name.unit_of) if name.unit_of and unit.endswith(name.unit_of) else None
    return number * _PREFIX[prefix] if prefix in _PREFIX else None


# -- what follows ------------------------------------------------------------------------------------------


def replay(records: Records, name: Name, *, minimum: float | None = None, maximum: float | None = None) -> Replayed:
    """The yield with other limits of one measurement; a limit that is not given stays what it was for each value."""
    what = WhatIf(name, minimum, maximum)
    n = len(records.attempts)
    taken = records.numbers.of(name)
    judged = _Judged(records, taken, what)
    fails = judged.where(judged.out & ~judged.was_out & ~judged.blames_bench, n)
    blocked = judged.where(judged.out & ~judged.was_out & judged.blames_bench, n) & ~fails
    stopped, still = judged.where(judged.was_out, n), judged.where(judged.out, n)
    attempts = records.attempts
    mine = ~attempts["study"].to_numpy() & (attempts["outcome"] != RUNNING).to_numpy()
    good, counted = attempts["good"].to_numpy(), attempts["counted"].to_numpy()
    bad = counted & ~good
    fails, blocked = fails & mine & ~bad & ~stopped, blocked & mine & ~bad & ~stopped
    unknown = stopped & ~still & mine & ~good
    unknown &= ~_failed_elsewhere(records, name, np.flatnonzero(unknown), n)
    before = yields(records)
    low = yields(_with(records, fails | unknown, blocked, np.zeros(n, dtype=bool)))
    high = yields(_with(records, fails, blocked, unknown)) if unknown.any() else low
    return Replayed(
        what, len(taken), before.first_pass, before.final, Bounds(low.first_pass, high.first_pass),
        Bounds(low.final, high.final), *(np.flatnonzero(each).astype(np.int32) for each in (fails, blocked, unknown)),
    )  # fmt: skip


class _Judged:
    """Each value against the limits that it had and against those to try."""

    def __init__(self, records: Records, taken: pd.DataFrame, what: WhatIf) -> None:
        self._order = taken["order"].to_numpy()
        value = taken["value"].to_numpy()
        sets = records.numbers.limits()
        which = taken["limits"].to_numpy()
        low = sets["minimum"].to_numpy()[which] if what.minimum is None else what.minimum
        high = sets["maximum"].to_numpy()[which] if what.maximum is None else what.maximum
        below, above = value < low, value > high
        self.was_out = (taken["outcome"] == "fail").to_numpy()
        missing = np.isnan(value) & self.was_out  # what could not be measured stays as bad as it was
        self.out: Bools = below | above | missing
        codes = _BENCH.get(what.name.name, ("", ""))
        low_bench, high_bench = (code in CODES and CODES[code].blames == "bench" for code in codes)
        self.blames_bench: Bools = (below & low_bench) | (above & high_bench)

    def where(self, rows: Bools, n: int) -> Bools:
        """Attempts with one of these rows."""
        found = np.zeros(n, dtype=np.bool_)
        found[self._order[rows]] = True
        return found


def _failed_elsewhere(records: Records, name: Name, orders: NDArray[Any], n: int) -> Bools:
    """Of these attempts those that failed in another step, or by another measurement of the same one."""
    failed, asked = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    if not len(orders):
        return failed
    asked[orders] = True
    phases = records.steps
    mine = asked[phases["order"].to_numpy()] & (phases["step"] != name.step).to_numpy()
    ended = phases["outcome"].cat.codes.to_numpy()
    bad = np.isin(ended, [_CODE["fail"], _CODE["unverified"], _CODE["blocked"]])
    failed[phases["order"].to_numpy()[mine & bad]] = True
    for other in records.numbers.names():
        if other.step == name.step and other != name:
            taken = records.numbers.of(other)
            failed[taken["order"].to_numpy()[(taken["outcome"] == "fail").to_numpy()]] = True
    return failed & asked


def _with(records: Records, fails: Bools, blocked: Bools, passes: Bools) -> Records:
    """The same records with other ends of these attempts."""
    attempts = records.attempts.copy(deep=False)
    codes = attempts["outcome"].cat.codes.to_numpy().copy()
    counted, good = attempts["counted"].to_numpy().copy(), attempts["good"].to_numpy().copy()
    stages = attempts["stages"].to_numpy().copy()
    for which, outcome, counts, is_good in (
        (fails, "fail", True, False), (blocked, "blocked", False, False), (passes, "pass", True, True),
    ):  # fmt: skip
        codes[which], counted[which], good[which] = _CODE[outcome], counts, is_good
    if passes.any():  # stages that never began are not missed: for the upper bound they would have been good
        trial = attempts["trial"].to_numpy()
        there = np.bincount(trial, minlength=int(trial.max()) + 1)
        upper = np.isin(trial, trial[passes])
        stages[upper] = np.minimum(stages[upper], there[trial[upper]])
    attempts["outcome"] = pd.Categorical.from_codes(codes, dtype=OUTCOME)
    attempts["counted"], attempts["good"], attempts["stages"] = counted, good, stages
    return replace(records, attempts=attempts)
